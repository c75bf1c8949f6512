//! Numbers for the ads of a count, and the part of a click's key that is the ad's.

use clicks::dedup::{AdKey, DedupKeys};

use crate::rows::{Names, Numbers};

/// Ads in the order in which they came.
#[derive(Debug)]
pub(crate) struct Ads {
    keys: DedupKeys,
    numbers: Numbers,
    of_ads: Vec<AdKey>,
}

impl Ads {
    pub(crate) fn new(keys: DedupKeys) -> Self {
        Ads { keys, numbers: Numbers::default(), of_ads: Vec::new() }
    }

    #[inline]
    pub(crate) fn number(&mut self, name: &str) -> (u32, AdKey) {
        let number = self.numbers.of(name);
        if number as usize == self.of_ads.len() {
            self.of_ads.push(self.keys.ad(name));
        }
        (number, self.of_ads[number as usize])
    }

    /// All names in their order, and for each number its place among them.
    pub(crate) fn sorted(self) -> (Names, Vec<u32>) {
        self.numbers.sorted()
    }
}
