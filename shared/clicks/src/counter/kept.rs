//! What two bugs need to remember, see [`crate::bugs`].

use std::cell::RefCell;
use std::collections::HashMap;

use super::LiveCounter;
use crate::bugs::{self, Bug};
use crate::dedup::SlidingDedup;
use crate::live::Generation;
use crate::time::{Span, Timestamp};
use crate::verdict::Verdict;
use crate::watermark::AppendTime;

thread_local! {
    static DEDUP: RefCell<HashMap<Generation, (SlidingDedup, AppendTime)>> = RefCell::default();
}

#[derive(Debug, Default)]
pub(super) struct Kept {
    dedup: bool,
    largest_event: Option<Timestamp>,
}

/// The process died, and what it remembered with it.
pub fn forget() {
    DEDUP.with_borrow_mut(HashMap::clear);
}

impl LiveCounter {
    pub(super) fn has_kept_dedup(&self) -> bool {
        self.kept.dedup
    }

    pub(super) fn take_what_was_kept(&mut self) {
        if let Some((dedup, append)) = DEDUP.with_borrow_mut(|kept| kept.remove(&self.generation)) {
            (self.dedup, self.append, self.kept.dedup) = (dedup, append, true);
        }
    }

    pub(super) fn by_event_time(&mut self, verdict: Verdict, event_time: Timestamp) -> Verdict {
        if !bugs::is_on(Bug::EventTimeLateness) {
            return verdict;
        }
        let largest = self.kept.largest_event.unwrap_or(event_time).max(event_time);
        self.kept.largest_event = Some(largest);
        let late = largest.since(event_time) > self.rules.on(event_time.day()).lateness;
        match verdict {
            Verdict::Counted | Verdict::Late if late => Verdict::Late,
            Verdict::Counted | Verdict::Late => Verdict::Counted,
            verdict => verdict,
        }
    }
}

impl Drop for LiveCounter {
    fn drop(&mut self) {
        if bugs::is_on(Bug::KeepsDedup) {
            let nothing = SlidingDedup::new(Span::millis(1), 0);
            let dedup = std::mem::replace(&mut self.dedup, nothing);
            // The thread may be ending.
            let _ = DEDUP.try_with(|kept| kept.borrow_mut().insert(self.generation, (dedup, self.append)));
        }
    }
}
