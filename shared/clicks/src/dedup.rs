//! Sliding deduplication by append time.
//!
//! A key sighted within the last H of append time is a duplicate; *every* sighting refreshes it, counted or not. So the
//! state is a pure function of the last H of the log, and a restart rebuilds it by reading just that much. (Remembering
//! only counted sightings cannot be rebuilt from any bounded look-back.)
//!
//! ```text
//! key (128 bits) ── top 8 bits ──► one of 256 shards ── the next bits, scaled ──► home slot
//!                                  slots in key order: | key 16 B | time 4 B | … , 20 bytes each
//! ```
//!
//! - **No queue of expiries.** A slot holds the time of its last sighting, so a key that is too old is simply not found,
//!   and the next new key nearby takes its slot. What is left of such keys is dropped in turn, all shards once per horizon.
//! - **No long pause.** A shard grows alone, in one pass in key order. The shards' sizes differ on purpose, so that they do
//!   not grow together.
//! - **A bound.** Keys are counted by slices of append time. Beyond the bound the oldest slice is forgotten as a whole,
//!   and [`SlidingDedup::evicted`] says how many keys that were.

mod key;
mod shard;

use crate::bugs::{self, Bug};
use crate::time::{Span, Timestamp};

pub use key::{AdKey, DedupKey, DedupKeys};
use shard::{Reach, Shard, Stamp};

const SHARDS: usize = 256;
/// Slices of the horizon by which keys are counted.
const SLICES: usize = 1024;

/// Longest horizon: a sighting's time is kept in 32 bits of milliseconds (49 days), and a slot may outlive two horizons.
pub const HORIZON_LIMIT: Span = Span::days(20);

/// Last sightings of keys within a horizon.
///
/// ```
/// use clicks::dedup::{DedupKey, SlidingDedup};
/// use clicks::time::{Span, Timestamp};
/// let (at, k) = (Timestamp::from_millis, DedupKey::from_u128(7));
/// let mut dedup = SlidingDedup::new(Span::millis(10), usize::MAX);
/// assert_eq!(dedup.sight(k, at(0)), None);
/// assert_eq!(dedup.sight(k, at(9)), Some(Span::millis(9)));   // a duplicate, and it refreshes
/// assert_eq!(dedup.sight(k, at(18)), Some(Span::millis(9)));
/// assert_eq!(dedup.sight(k, at(28)), None);                   // exactly H later it is new again
/// ```
#[derive(Debug)]
pub struct SlidingDedup {
    horizon: i64,
    keys_max: usize,
    shards: Vec<Shard>,
    /// Keys whose last sighting lies in each slice, by the slice's number modulo the length; the last horizon of them.
    slices: Vec<u32>,
    slice_width: i64,
    /// Number of the slice that append time has reached, its place, and the time at which it ends.
    slice: i64,
    place: usize,
    slice_end: i64,
    /// Sum of the slices.
    keys: usize,
    /// Everything sighted before it is forgotten; milliseconds.
    floor: i64,
    /// Shards that were swept, since the beginning of time.
    swept: i64,
    evicted: u64,
}

impl SlidingDedup {
    /// Remembers `horizon` of append time (at most [`HORIZON_LIMIT`]), and at most about `keys_max` keys of it.
    pub fn new(horizon: Span, keys_max: usize) -> Self {
        debug_assert!(horizon <= HORIZON_LIMIT, "the rules allow no longer one");
        let horizon = horizon.as_millis();
        SlidingDedup {
            horizon,
            keys_max,
            shards: (0..SHARDS).map(Shard::new).collect(),
            slices: vec![0; SLICES + 1],
            slice_width: horizon.div_euclid(SLICES as i64) + 1,
            slice: i64::MIN,
            place: 0,
            slice_end: i64::MIN,
            keys: 0,
            floor: i64::MIN,
            swept: 0,
            evicted: 0,
        }
    }

    /// Records a sighting and tells how long ago the key was last sighted, if that is less than the horizon.
    /// `append_time` is a running maximum: it never moves back.
    #[inline]
    pub fn sight(&mut self, key: DedupKey, append_time: Timestamp) -> Option<Span> {
        let now = append_time.as_millis();
        self.advance(now);
        let reach = self.reach(now);
        let age = self.shards[key.shard()].sight(key, Stamp::of(now), reach);
        if let Some(age) = age.filter(|_| bugs::is_on(Bug::FirstSighting)) {
            self.shards[key.shard()].sight(key, Stamp::of(now - i64::from(age)), reach);
            return Some(Span::millis(i64::from(age)));
        }
        if let Some(age) = age {
            let then = self.place_of((now - i64::from(age)).div_euclid(self.slice_width));
            self.slices[then] -= 1;
            self.keys -= 1;
        }
        self.slices[self.place] += 1;
        self.keys += 1;
        if self.keys > self.keys_max {
            self.evict();
        }
        age.map(|age| Span::millis(i64::from(age)))
    }

    /// Begins to bring the slot of a key that is sighted soon into the cache, where memory would be waited for.
    #[inline]
    pub fn touch(&self, key: DedupKey) {
        self.shards[key.shard()].touch(key);
    }

    /// Keys that were forgotten for want of memory before their time: from the first one on, a duplicate may have been
    /// missed, and the drift is a term of its own.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Sightings before it are forgotten for want of memory. It may lie a little ahead, as a slice is forgotten as a whole:
    /// then those until it are forgotten, too.
    pub fn forgotten_before(&self) -> Timestamp {
        Timestamp::from_millis(self.floor)
    }

    /// Keys that are remembered; a few that are just too old are counted in.
    pub fn len(&self) -> usize {
        self.keys
    }

    pub fn is_empty(&self) -> bool {
        self.keys == 0
    }

    /// Bytes of the slots.
    pub fn memory(&self) -> usize {
        self.shards.iter().map(Shard::memory).sum()
    }

    fn reach(&self, now: i64) -> Reach {
        Reach::new(Stamp::of(now), (self.horizon - 1).min(now.saturating_sub(self.floor)))
    }

    fn place_of(&self, slice: i64) -> usize {
        slice.rem_euclid(self.slices.len() as i64) as usize
    }

    /// Append time has reached `now`: slices that the horizon left behind are no longer counted, and some shards swept.
    #[inline]
    fn advance(&mut self, now: i64) {
        if now >= self.slice_end {
            self.enter_slice(now);
        }
    }

    #[cold]
    fn enter_slice(&mut self, now: i64) {
        let slice = now.div_euclid(self.slice_width);
        let passed = slice.saturating_sub(self.slice);
        if passed >= self.slices.len() as i64 {
            self.clear();
        } else {
            for new in self.slice + 1..=slice {
                let place = self.place_of(new);
                self.keys -= std::mem::take(&mut self.slices[place]) as usize;
            }
        }
        self.slice = slice;
        self.place = self.place_of(slice);
        self.slice_end = (slice + 1) * self.slice_width;
        self.sweep(now, passed.min(SLICES as i64));
    }

    /// One shard every few slices, so that each is swept once per horizon.
    fn sweep(&mut self, now: i64, passed: i64) {
        let reach = self.reach(now);
        let before = self.swept;
        self.swept += passed * SHARDS as i64;
        for turn in before / SLICES as i64..self.swept / SLICES as i64 {
            self.shards[turn.rem_euclid(SHARDS as i64) as usize].sweep(reach);
        }
    }

    fn clear(&mut self) {
        self.slices.fill(0);
        self.keys = 0;
        self.shards = (0..SHARDS).map(Shard::new).collect();
    }

    /// Forgets the oldest slice that holds a key.
    fn evict(&mut self) {
        let oldest = self.slice - self.slices.len() as i64 + 1;
        for slice in oldest..=self.slice {
            let place = self.place_of(slice);
            let keys = std::mem::take(&mut self.slices[place]);
            if keys > 0 {
                self.keys -= keys as usize;
                self.evicted += u64::from(keys);
                self.floor = (slice + 1) * self.slice_width;
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests;
