//! The dedup key (ad id, click id) in 128 bits.
//!
//! `mix(click id XOR mask of the ad)`, where the mask is a keyed hash of the ad's name and `mix` is one to one. So two
//! clicks of one ad never share a key, and two of different ads do only if their ids differ by just the two masks: one
//! chance in 2^128, which nobody can aim at who does not know the seed.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::ClickId;

/// What dedup remembers of a click.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DedupKey(u128);

impl DedupKey {
    /// For keys that are well mixed already.
    pub const fn from_u128(value: u128) -> Self {
        DedupKey(value)
    }
    pub const fn as_u128(self) -> u128 {
        self.0
    }
    /// The top 8 bits.
    pub(super) const fn shard(self) -> usize {
        (self.0 >> 120) as usize
    }
    /// The 64 bits below those of the shard: their order is the order of the keys.
    pub(super) const fn place(self) -> u64 {
        (self.0 >> 56) as u64
    }
}

/// Makes the keys of one memory. All keys of a memory must come from the same seed; what is a duplicate does not depend
/// on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DedupKeys {
    seed: [u8; 16],
}

/// The part of a key that an ad gives; worth keeping, because it costs a SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AdKey(u128);

impl DedupKeys {
    /// `seed` should be known to nobody who sends clicks.
    pub const fn new(seed: u128) -> Self {
        DedupKeys { seed: seed.to_be_bytes() }
    }

    pub fn ad(&self, ad_id: &str) -> AdKey {
        let hash = Sha256::new().chain_update(self.seed).chain_update(ad_id).finalize();
        let mut mask = [0; 16];
        mask.copy_from_slice(&hash[..16]);
        AdKey(u128::from_be_bytes(mask))
    }
}

impl AdKey {
    #[inline]
    pub fn click(self, click_id: ClickId) -> DedupKey {
        let bits = click_id.as_u128() ^ self.0;
        let (mut high, mut low) = ((bits >> 64) as u64, bits as u64);
        // A Feistel network: one to one whatever `fold` is.
        high ^= fold(low ^ 0x9e37_79b9_7f4a_7c15);
        low ^= fold(high ^ 0xd1b5_4a32_d192_ed03);
        high ^= fold(low ^ 0x8cb9_2ba7_2f3d_8dd7);
        DedupKey(u128::from(high) << 64 | u128::from(low))
    }
}

/// Both halves of the product, folded: every bit of the input moves every bit of the result.
#[inline]
fn fold(bits: u64) -> u64 {
    let product = u128::from(bits) * 0xa076_1d64_78bd_642f;
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn keys_of_close_ids_are_distinct_and_spread() {
        let keys = DedupKeys::new(1);
        let mut seen = HashSet::new();
        let mut shards = [0u32; 256];
        for ad in ["a", "b", "ad-1"] {
            let ad = keys.ad(ad);
            for id in (0..10_000).chain((0..10_000).map(|n| n << 80)) {
                let key = ad.click(ClickId::from_u128(id));
                if id != 0 {
                    assert!(seen.insert(key));
                }
                shards[key.shard()] += 1;
            }
        }
        // 60,000 keys: 234 each, with a standard deviation of 15.
        assert!(shards.iter().all(|n| (150..330).contains(n)), "{shards:?}");
    }

    #[test]
    fn another_ad_or_another_seed_is_another_key() {
        let id = ClickId::from_u128(5);
        let key = |seed, ad| DedupKeys::new(seed).ad(ad).click(id);
        assert_eq!(key(1, "a"), key(1, "a"));
        assert_ne!(key(1, "a"), key(1, "b"));
        assert_ne!(key(1, "a"), key(2, "a"));
    }
}
