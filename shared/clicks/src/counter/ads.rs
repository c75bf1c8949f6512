//! The ads that a counter knows, by number: a count or a sighting then costs no allocation and no long key.
//!
//! Looking an ad up costs one random access to memory, and [`Ads::touch`] lets those of several records overlap: names up
//! to 24 bytes, which most are, stand in the table itself.

use std::hash::BuildHasher;

use hashbrown::HashTable;

use crate::dedup::{AdKey, DedupKeys};
use crate::id::AdId;

/// Number of an ad within one counter, until the counter forgets the ads that it no longer counts.
pub(super) type AdNumber = u32;

/// A name as [`Ads`] looks for it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sought {
    short: Short,
    hash: u64,
}

#[derive(Debug)]
pub(super) struct Ads {
    keys: DedupKeys,
    hasher: foldhash::fast::RandomState,
    table: HashTable<Known>,
    ids: Vec<AdId>,
}

#[derive(Debug, Clone, Copy)]
struct Known {
    name: Short,
    number: AdNumber,
    key: AdKey,
}

/// A name in a few registers: its length, and its bytes in words that overlap where it does not fill them. Two names up to
/// 24 bytes with the same one are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Short {
    words: [u64; 3],
    length: u32,
}

impl Short {
    const BYTES_MAX: usize = 24;

    #[inline]
    fn of(name: &[u8]) -> Self {
        let words = match (name.first_chunk(), name.last_chunk()) {
            (Some(first), Some(last)) => {
                let middle = name.get(8..16).filter(|_| name.len() > 16).and_then(|middle| middle.first_chunk());
                [
                    u64::from_le_bytes(*first),
                    u64::from_le_bytes(*last),
                    middle.map_or(0, |word| u64::from_le_bytes(*word)),
                ]
            }
            _ => [few_bytes(name), 0, 0],
        };
        // Names have at most 64 bytes.
        Short { words, length: name.len() as u32 }
    }

    /// It is the whole name.
    #[inline]
    fn is_whole(&self) -> bool {
        self.length as usize <= Self::BYTES_MAX
    }
}

/// Less than eight bytes in a word.
#[inline]
fn few_bytes(name: &[u8]) -> u64 {
    match (name.first_chunk(), name.last_chunk()) {
        (Some(first), Some(last)) => u64::from(u32::from_le_bytes(*first)) << 32 | u64::from(u32::from_le_bytes(*last)),
        _ => name.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)),
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
    pub(super) fn seek(&self, name: &[u8]) -> Sought {
        let short = Short::of(name);
        let hash = if short.is_whole() { self.hasher.hash_one(short) } else { self.hasher.hash_one(name) };
        Sought { short, hash }
    }

    /// Brings what a look-up needs into the cache.
    #[inline]
    pub(super) fn touch(&self, sought: &Sought) {
        std::hint::black_box(self.table.find(sought.hash, |known| known.number == AdNumber::MAX).is_some());
    }

    /// The number and key of a name that was checked.
    #[inline]
    pub(super) fn find(&mut self, name: &[u8], sought: &Sought) -> (AdNumber, AdKey) {
        let is_it = |known: &Known| {
            known.name == sought.short
                && (sought.short.is_whole() || self.ids[known.number as usize].as_str().as_bytes() == name)
        };
        match self.table.find(sought.hash, is_it) {
            Some(known) => (known.number, known.key),
            None => {
                let name = std::str::from_utf8(name).ok().and_then(|name| AdId::parse(name).ok());
                self.add(name.expect("the name was checked"), sought)
            }
        }
    }

    pub(super) fn number_of(&mut self, ad: &AdId) -> AdNumber {
        let name = ad.as_str().as_bytes();
        self.find(name, &self.seek(name)).0
    }

    #[cold]
    fn add(&mut self, ad: AdId, sought: &Sought) -> (AdNumber, AdKey) {
        let number = AdNumber::try_from(self.ids.len()).expect("four billion ads do not fit in memory");
        let known = Known { name: sought.short, number, key: self.keys.ad(ad.as_str()) };
        self.ids.push(ad);
        let (ids, hasher) = (&self.ids, &self.hasher);
        let hash = |known: &Known| match known.name.is_whole() {
            true => hasher.hash_one(known.name),
            false => hasher.hash_one(ids[known.number as usize].as_str().as_bytes()),
        };
        self.table.insert_unique(sought.hash, known, hash);
        (number, known.key)
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
    fn names_that_are_alike_are_apart() {
        let mut ads = Ads::new(DedupKeys::new(1));
        let mut find = |name: &str| {
            let sought = ads.seek(name.as_bytes());
            ads.find(name.as_bytes(), &sought)
        };
        // Of each length one name, and each that differs from it in one place.
        let mut names = Vec::new();
        for length in 1..=64 {
            let name = "x".repeat(length);
            names.extend((0..length).map(|at| format!("{}y{}", &name[..at], &name[at + 1..])));
            names.push(name);
        }
        for (number, name) in names.iter().enumerate() {
            assert_eq!(find(name).0 as usize, number, "{name}");
        }
        for (number, name) in names.iter().enumerate() {
            assert_eq!(find(name), (number as u32, DedupKeys::new(1).ad(name)), "{name}");
        }
        for (number, name) in names.iter().enumerate() {
            assert_eq!(ads.id(number as u32).as_str(), name);
        }
    }
}
