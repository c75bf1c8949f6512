//! The ads that a counter knows, by number: a count or a sighting then costs no allocation and no long key.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use crate::dedup::{AdKey, DedupKeys};
use crate::id::AdId;

/// Number of an ad within one counter, until the counter forgets the ads that it no longer counts.
pub(super) type AdNumber = u32;

#[derive(Debug)]
pub(super) struct Ads {
    keys: DedupKeys,
    hasher: foldhash::fast::RandomState,
    numbers: HashTable<AdNumber>,
    ads: Vec<(AdId, AdKey)>,
}

impl Ads {
    pub(super) fn new(keys: DedupKeys) -> Self {
        Ads { keys, hasher: Default::default(), numbers: HashTable::new(), ads: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.ads.len()
    }

    pub(super) fn id(&self, number: AdNumber) -> &AdId {
        &self.ads[number as usize].0
    }

    pub(super) fn key(&self, number: AdNumber) -> AdKey {
        self.ads[number as usize].1
    }

    /// The number of a name that was checked.
    #[inline]
    pub(super) fn number(&mut self, name: &str) -> AdNumber {
        let hash = self.hasher.hash_one(name);
        match self.numbers.find(hash, |number| self.ads[*number as usize].0.as_str() == name) {
            Some(number) => *number,
            None => self.add(AdId::parse(name).expect("the name was checked"), hash),
        }
    }

    pub(super) fn number_of(&mut self, ad: &AdId) -> AdNumber {
        let hash = self.hasher.hash_one(ad.as_str());
        match self.numbers.find(hash, |number| self.ads[*number as usize].0 == *ad) {
            Some(number) => *number,
            None => self.add(ad.clone(), hash),
        }
    }

    #[cold]
    fn add(&mut self, ad: AdId, hash: u64) -> AdNumber {
        let number = AdNumber::try_from(self.ads.len()).expect("four billion ads do not fit in memory");
        let key = self.keys.ad(ad.as_str());
        self.ads.push((ad, key));
        let (ads, hasher) = (&self.ads, &self.hasher);
        self.numbers.insert_unique(hash, number, |number| hasher.hash_one(ads[*number as usize].0.as_str()));
        number
    }

    /// An empty set that makes the same keys.
    pub(super) fn emptied(&self) -> Self {
        Ads::new(self.keys.clone())
    }
}
