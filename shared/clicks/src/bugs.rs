//! Bugs that a plausible implementation has, for tests to switch on: a simulation that never goes red proves nothing.
//!
//! Without the feature `bugs` no bug can be on, and what asks for one is compiled out.

/// What goes wrong while it is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bug {
    /// A worker that goes back to the stored position keeps its dedup memory (F1).
    KeepsDedup,
    /// Dedup reckons from the first sighting; later ones do not refresh it (F2).
    FirstSighting,
    /// A flush that fails leaves half of its counts behind (F5).
    HalfFlush,
    /// Nobody asks the broker whether it is still the same topic (F6).
    TopicNotAsked,
    /// The record before the position is not compared with the one that was counted (F6).
    NoFingerprint,
    /// A position that fell off the log goes to the first offset that is left, without a record of it (F7).
    JumpsOverGap,
    /// Lateness is reckoned from the largest event time (F9).
    EventTimeLateness,
    /// The scrub does not look (F18).
    NoScrub,
    /// Hours vanish after some time, and the totals do not know (F19).
    TimeToLive,
    /// A flush is written whatever is stored.
    IgnoresExpected,
    /// A flush of a writer that missed an expiry is written.
    OverlooksExpiry,
    /// Dedup is not rebuilt from the log.
    NoLookBack,
    /// Windows are forgotten a minute before they are sealed.
    SealsEarly,
    /// Days expire although the ledger has not closed them.
    ExpiresOpenDays,
}

#[cfg(feature = "bugs")]
mod switch {
    use super::Bug;
    use std::cell::Cell;

    thread_local! {
        static ON: Cell<Option<Bug>> = const { Cell::new(None) };
    }

    /// Switches one bug on, or all off, in this thread.
    pub fn switch(bug: Option<Bug>) {
        ON.set(bug);
    }

    pub fn is_on(bug: Bug) -> bool {
        ON.get() == Some(bug)
    }
}

#[cfg(feature = "bugs")]
pub use crate::counter::forget as crash;
#[cfg(feature = "bugs")]
pub use switch::{is_on, switch};

#[cfg(not(feature = "bugs"))]
#[inline(always)]
pub const fn is_on(_: Bug) -> bool {
    false
}
