//! The ads that a counter knows, by number: a count or a sighting then costs no allocation and no long key.
//!
//! Looking an ad up costs one random access to memory, and [`Ads::touch`] lets those of several records overlap: names up
//! to 23 bytes, which most are, stand in the table itself.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use crate::dedup::{AdKey, DedupKeys};
use crate::id::AdId;

/// Number of an ad within one counter, until the counter forgets the ads that it no longer counts.
pub(super) type AdNumber = u32;

/// Hash of a name within one [`Ads`].
#[derive(Debug, Clone, Copy)]
pub(super) struct NameHash(u64);

#[derive(Debug)]
pub(super) struct Ads {
    keys: DedupKeys,
    hasher: foldhash::fast::RandomState,
    table: HashTable<Known>,
    ids: Vec<AdId>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    name: Start,
    number: AdNumber,
    key: AdKey,
}

/// The first 23 bytes of a name, padded with zeros, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Start([u8; 24]);

impl Start {
    const BYTES: usize = 23;

    #[inline]
    fn of(name: &[u8]) -> Self {
        let mut start = [0; 24];
        let length = name.len().min(Self::BYTES);
        start[..length].copy_from_slice(&name[..length]);
        // Names have at most 64 bytes.
        start[Self::BYTES] = name.len() as u8;
        Start(start)
    }

    /// It is the whole name.
    fn is_whole(&self) -> bool {
        usize::from(self.0[Self::BYTES]) <= Self::BYTES
    }
}

impl Ads {
    pub(super) fn new(keys: DedupKeys) -> Self {
        Ads { keys, hasher: Default::default(), table: HashTable::new(), ids: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(super) fn id(&self, number: AdNumber) -> &AdId {
        &self.ids[number as usize]
    }

    #[inline]
    pub(super) fn hash(&self, name: &[u8]) -> NameHash {
        NameHash(self.hasher.hash_one(name))
    }

    /// Brings what a look-up needs into the cache.
    #[inline]
    pub(super) fn touch(&self, hash: NameHash) {
        std::hint::black_box(self.table.find(hash.0, |known| known.number == AdNumber::MAX).is_some());
    }

    /// The number and key of a name that was checked.
    #[inline]
    pub(super) fn find(&mut self, name: &[u8], hash: NameHash) -> (AdNumber, AdKey) {
        let start = Start::of(name);
        let is_it = |known: &Known| {
            known.name == start && (start.is_whole() || self.ids[known.number as usize].as_str().as_bytes() == name)
        };
        match self.table.find(hash.0, is_it) {
            Some(known) => (known.number, known.key),
            None => {
                let name = std::str::from_utf8(name).ok().and_then(|name| AdId::parse(name).ok());
                self.add(name.expect("the name was checked"), hash)
            }
        }
    }

    pub(super) fn number_of(&mut self, ad: &AdId) -> AdNumber {
        self.find(ad.as_str().as_bytes(), self.hash(ad.as_str().as_bytes())).0
    }

    #[cold]
    fn add(&mut self, ad: AdId, hash: NameHash) -> (AdNumber, AdKey) {
        let number = AdNumber::try_from(self.ids.len()).expect("four billion ads do not fit in memory");
        let key = self.keys.ad(ad.as_str());
        let known = Known { name: Start::of(ad.as_str().as_bytes()), number, key };
        self.ids.push(ad);
        let (ids, hasher) = (&self.ids, &self.hasher);
        self.table
            .insert_unique(hash.0, known, |known| hasher.hash_one(ids[known.number as usize].as_str().as_bytes()));
        (number, key)
    }

    /// An empty set that makes the same keys.
    pub(super) fn emptied(&self) -> Self {
        Ads::new(self.keys.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_begin_alike_are_apart() {
        let mut ads = Ads::new(DedupKeys::new(1));
        let long = "x".repeat(23);
        let names = ["a", "aa", &long, &format!("{long}y"), &format!("{long}z"), &"x".repeat(64), "a0"];
        for (number, name) in names.into_iter().enumerate() {
            assert_eq!(ads.find(name.as_bytes(), ads.hash(name.as_bytes())).0 as usize, number, "{name}");
        }
        for (number, name) in names.into_iter().enumerate() {
            assert_eq!(
                ads.find(name.as_bytes(), ads.hash(name.as_bytes())),
                (number as u32, DedupKeys::new(1).ad(name))
            );
            assert_eq!(ads.id(number as u32).as_str(), name);
        }
    }
}
