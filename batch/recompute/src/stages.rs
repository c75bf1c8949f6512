//! What a night is at, for whoever watches it, and how long each part took, for its report.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use clicks::time::Day;
use serde::Serialize;

/// Parts of a night, in their order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Copies in `tables/current` that an earlier run left stale.
    Repair,
    /// Footers of the archive: no hole, no overlap, far enough.
    Prove,
    Count,
    /// Rolling up and checking.
    Check,
    Write,
    /// The ledger entry.
    Publish,
    /// The copies in `tables/current`.
    Refresh,
}

impl Stage {
    pub const fn name(self) -> &'static str {
        match self {
            Stage::Repair => "repair",
            Stage::Prove => "prove",
            Stage::Count => "count",
            Stage::Check => "check",
            Stage::Write => "write",
            Stage::Publish => "publish",
            Stage::Refresh => "refresh",
        }
    }
}

/// Where the running night is. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Stages(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    night: Option<Day>,
    began: Vec<(Stage, Instant)>,
}

impl Stages {
    /// The night, once it is known, and its stage; `None` before the first.
    pub fn current(&self) -> Option<(Option<Day>, Stage)> {
        let inner = self.lock();
        inner.began.last().map(|(stage, _)| (inner.night, *stage))
    }

    /// The next stage begins, and the one before it has ended. The first of a night forgets the night before.
    pub(crate) fn begin(&self, stage: Stage) {
        let (now, mut inner) = (Instant::now(), self.lock());
        if stage == Stage::Repair {
            *inner = Inner::default();
        }
        if let Some((before, began)) = inner.began.last() {
            let seconds = now.duration_since(*began).as_secs_f64();
            metrics::histogram!("twofold_batch_stage_seconds", "stage" => before.name()).record(seconds);
        }
        inner.began.push((stage, now));
    }

    pub(crate) fn of_night(&self, night: Day) {
        self.lock().night = Some(night);
    }

    /// Seconds of each stage so far; the last one is taken to end now.
    pub fn seconds(&self) -> Vec<(Stage, f64)> {
        let (now, inner) = (Instant::now(), self.lock());
        let ends = inner.began.iter().skip(1).map(|(_, began)| *began).chain([now]);
        let spent = |((stage, began), end): (&(Stage, Instant), Instant)| (*stage, (end - *began).as_secs_f64());
        inner.began.iter().zip(ends).map(spent).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_follow_each_other_and_a_new_night_forgets_the_last() {
        let stages = Stages::default();
        assert_eq!(stages.current(), None);
        let day = "2026-03-01".parse().unwrap();
        stages.begin(Stage::Repair);
        stages.of_night(day);
        stages.begin(Stage::Count);
        assert_eq!(stages.clone().current(), Some((Some(day), Stage::Count)));
        let names = |stages: &Stages| stages.seconds().into_iter().map(|(stage, _)| stage).collect::<Vec<_>>();
        assert_eq!(names(&stages), [Stage::Repair, Stage::Count]);
        stages.begin(Stage::Repair);
        assert_eq!((names(&stages), stages.current()), (vec![Stage::Repair], Some((None, Stage::Repair))));
    }
}
