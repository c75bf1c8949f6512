//! What a writer does next, from the chain and from what is on the log: pure, so that it can be tried on any history.

use clicks::position::Offset;
use platform::log::Bounds;

use super::{Chain, Marks};

/// The next thing to do before records can be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// The next object begins here, and the log still holds its first record.
    GoOn(Offset),
    /// The last object reaches over the end of a gap: its records from here on are to be stored as an object of their own.
    Bridge(Offset),
    /// The records `[from, to)` are gone and to be recorded as a gap.
    Lost { from: Offset, to: Offset },
    /// The chain ends behind the end of the log, which was cut back.
    BeyondLog { stored: Offset, end: Offset },
}

/// What comes after `chain`; of a chain of which nothing is stored or recorded the first record is 0.
pub(crate) fn next(chain: &Chain, log: Bounds) -> Next {
    let at = chain.next_offset().unwrap_or_default();
    match chain.bridge() {
        Some(bridge) => Next::Bridge(bridge),
        None if at < log.first => Next::Lost { from: at, to: log.first },
        None if at > log.end => Next::BeyondLog { stored: at, end: log.end },
        None => Next::GoOn(at),
    }
}

impl Marks {
    /// After an object `[start, end)` was stored: another archiver has recorded a gap that has to do with it, so that only
    /// the chain tells where to go on.
    pub(crate) fn concern(&self, start: Offset, end: Offset) -> bool {
        self.gaps.values().any(|gap| gap.from < end && gap.to > start)
    }
}
