//! How often what happened: a fault that never happens proves nothing.

use std::collections::BTreeMap;

#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Tally(BTreeMap<&'static str, u64>);

/// What has to happen somewhere in some thousand histories.
const MUST_HAPPEN: [&str; 15] = [
    "a crash in a call",
    "a duplicate at rest",
    "a flush beside the live generation",
    "a failed call",
    "a late click at rest",
    "a lost reply",
    "a mismatch",
    "a rejected click at rest",
    "a reader saw a rebuild",
    "another topic life",
    "days expired",
    "dedup evictions",
    "drift",
    "records lost to retention",
    "records that are missing at rest",
];

impl Tally {
    pub(crate) fn count(&mut self, what: &'static str) {
        debug_assert!(MUST_HAPPEN.contains(&what), "{what}");
        *self.0.entry(what).or_default() += 1;
    }

    pub(crate) fn add(&mut self, other: &Tally) {
        other.0.iter().for_each(|(what, times)| *self.0.entry(what).or_default() += times);
    }

    pub(crate) fn has(&self, what: &str) -> bool {
        self.0.contains_key(what)
    }

    pub(crate) fn missing(&self) -> Vec<&'static str> {
        MUST_HAPPEN.into_iter().filter(|what| !self.0.contains_key(what)).collect()
    }
}

impl std::fmt::Display for Tally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|(what, times)| writeln!(f, "{times:>9} times {what}"))
    }
}
