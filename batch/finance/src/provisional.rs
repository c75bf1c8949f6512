//! Numbers of days that are not closed yet, for whoever wants to compare all the same. They are no part of the books.

use std::collections::BTreeMap;

use clicks::id::AdId;
use clicks::time::{Day, Timestamp};

/// Live clicks of open days, by minute and ad.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Provisional(BTreeMap<Day, BTreeMap<(Timestamp, AdId), u64>>);

impl Provisional {
    /// A day has live numbers, be it none.
    pub fn open(&mut self, day: Day) {
        self.0.entry(day).or_default();
    }

    /// Adds clicks of the minute that begins at `start`.
    pub fn add(&mut self, start: Timestamp, ad: &AdId, clicks: u64) {
        *self.0.entry(start.day()).or_default().entry((start, ad.clone())).or_default() += clicks;
    }

    pub fn days(&self) -> impl Iterator<Item = Day> + '_ {
        self.0.keys().copied()
    }

    pub(crate) fn has(&self, day: Day) -> bool {
        self.0.contains_key(&day)
    }

    /// In the order of time.
    pub(crate) fn of(&self, day: Day) -> impl Iterator<Item = (Timestamp, &AdId, u64)> {
        self.0.get(&day).into_iter().flatten().map(|((start, ad), clicks)| (*start, ad, *clicks))
    }
}
