//! One shard: a hash table with linear probing whose slots stand in key order.
//!
//! The home slot of a key grows with the key, and a key that finds its home taken moves up without overtaking a larger
//! one. So a look-up ends at the first larger key, and a rebuild is one pass from left to right into a table of another
//! size. Slots whose sighting is out of reach are as good as empty: a key that comes takes the place of the next one that
//! expired, and a table that is large enough is never rebuilt.

use super::key::DedupKey;
use crate::prefetch::prefetch;

/// A key that comes moves at most so many others: a table that is so crowded anywhere grows. The longest run of taken
/// slots grows steeply with the fullness of the table: large ones, whose memory counts, stay about four fifths full and
/// grow little by little; small ones have room, and double.
const MOVES_MAX: usize = 256;
const GROWTH: f64 = 1.1;
const SMALL: usize = 16_384;
const MOVES_MAX_SMALL: usize = 32;
/// The smallest table.
const HOMES_MIN: usize = 8;
/// Slots behind the last home, for the keys that its run pushes up.
const TAIL_MAX: usize = 256;

/// Append time in 32 bits that are never zero; it comes round after 49.7 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stamp(u32);

impl Stamp {
    const PERIOD: u32 = u32::MAX;

    pub(super) const fn of(millis: i64) -> Self {
        Stamp(millis.rem_euclid(Self::PERIOD as i64) as u32 + 1)
    }

    /// Milliseconds from `self` to `now`, which is less than a period later.
    const fn age(self, now: Stamp) -> u32 {
        match now.0 >= self.0 {
            true => now.0 - self.0,
            false => Self::PERIOD - (self.0 - now.0),
        }
    }

    const fn is_none(self) -> bool {
        self.0 == 0
    }
}

/// How far back sightings are remembered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reach {
    now: Stamp,
    /// Oldest age that is remembered, in milliseconds; negative: nothing is.
    age_max: i64,
}

impl Reach {
    pub(super) const fn new(now: Stamp, age_max: i64) -> Self {
        Reach { now, age_max }
    }

    #[inline]
    fn age(self, stamp: Stamp) -> Option<u32> {
        let age = stamp.age(self.now);
        (i64::from(age) <= self.age_max).then_some(age)
    }
}

/// 20 bytes, where natural alignment would take 32. An empty slot has no stamp.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, packed(4))]
struct Slot {
    key: u128,
    stamp: Stamp,
}

impl Slot {
    #[inline]
    fn is_kept(self, reach: Reach) -> bool {
        !self.stamp.is_none() && reach.age(self.stamp).is_some()
    }
}

#[derive(Debug)]
pub(super) struct Shard {
    number: usize,
    /// `homes` slots and a tail.
    slots: Vec<Slot>,
    homes: usize,
}

impl Shard {
    pub(super) const fn new(number: usize) -> Self {
        Shard { number, slots: Vec::new(), homes: 0 }
    }

    pub(super) fn memory(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    /// Writes the sighting, and returns the age of the one before, if it lies in reach.
    #[inline]
    pub(super) fn sight(&mut self, key: DedupKey, now: Stamp, reach: Reach) -> Option<u32> {
        let at = self.seek(key);
        if let Some(slot) = self.slots.get_mut(at)
            && !slot.stamp.is_none()
            && slot.key == key.as_u128()
        {
            let before = slot.stamp;
            slot.stamp = now;
            return reach.age(before);
        }
        let slot = Slot { key: key.as_u128(), stamp: now };
        if !self.insert(at, slot, reach) {
            self.grow(slot, reach);
        }
        None
    }

    /// Begins to bring the first slots that a sighting reads into the cache.
    #[inline]
    pub(super) fn touch(&self, key: DedupKey) {
        let home = self.home(key);
        // A line of the cache holds three.
        for ahead in [0, 3] {
            if let Some(slot) = self.slots.get(home + ahead) {
                prefetch(slot);
            }
        }
    }

    /// Drops what is out of reach, before its stamp could look young again, and memory that is no longer needed.
    pub(super) fn sweep(&mut self, reach: Reach) {
        let kept = self.retain(reach);
        if kept * 4 < self.homes && self.homes > HOMES_MIN {
            self.rebuild((kept * 2).max(HOMES_MIN), reach);
        }
    }

    /// Drops what is out of reach, in place, and counts the rest. No slot moves up, so none is overwritten unread.
    fn retain(&mut self, reach: Reach) -> usize {
        let (mut next, mut kept) = (0, 0);
        for at in 0..self.slots.len() {
            let slot = self.slots[at];
            if !slot.is_kept(reach) {
                continue;
            }
            let place = next.max(home(DedupKey::from_u128(slot.key), self.homes));
            self.slots[next..place].fill(Slot::default());
            self.slots[place] = slot;
            (next, kept) = (place + 1, kept + 1);
        }
        self.slots[next..].fill(Slot::default());
        kept
    }

    #[inline]
    fn home(&self, key: DedupKey) -> usize {
        home(key, self.homes)
    }

    /// The slot of the key, or where it would be inserted.
    #[inline]
    fn seek(&self, key: DedupKey) -> usize {
        let home = self.home(key);
        let run = self.slots.get(home..).unwrap_or_default();
        let ahead = run.iter().position(|slot| slot.stamp.is_none() || slot.key >= key.as_u128());
        home + ahead.unwrap_or(run.len())
    }

    /// Moves the run from `at` on up by one slot, onto the first that is free. False when that is too far away.
    #[inline]
    fn insert(&mut self, at: usize, slot: Slot, reach: Reach) -> bool {
        let run = self.slots.get(at..).unwrap_or_default();
        let moves_max = if self.homes < SMALL { MOVES_MAX_SMALL } else { MOVES_MAX };
        let Some(length) = run.iter().take(moves_max).position(|slot| !slot.is_kept(reach)) else { return false };
        self.slots.copy_within(at..at + length, at + 1);
        self.slots[at] = slot;
        true
    }

    #[cold]
    fn grow(&mut self, slot: Slot, reach: Reach) {
        loop {
            self.rebuild(self.next_size(), reach);
            if self.insert(self.seek(DedupKey::from_u128(slot.key)), slot, reach) {
                return;
            }
        }
    }

    fn next_size(&self) -> usize {
        let factor = match self.homes {
            // At this size the shards part: later each grows at another moment than its neighbours.
            256..512 => 1.5 + self.number as f64 / 256.0,
            ..SMALL => 2.0,
            _ => GROWTH,
        };
        ((self.homes as f64 * factor) as usize).max(HOMES_MIN)
    }

    /// Moves what is in reach into a table with at least `homes` homes.
    fn rebuild(&mut self, mut homes: usize, reach: Reach) {
        while !self.rebuilt(homes, reach) {
            homes += homes / 8 + 1;
        }
    }

    /// False when the last run does not fit.
    fn rebuilt(&mut self, homes: usize, reach: Reach) -> bool {
        let length = homes + homes.min(TAIL_MAX);
        let mut slots = Vec::with_capacity(length);
        for slot in self.slots.iter().filter(|slot| slot.is_kept(reach)) {
            let place = home(DedupKey::from_u128(slot.key), homes);
            if slots.len() < place {
                slots.resize(place, Slot::default());
            }
            if slots.len() == length {
                return false;
            }
            slots.push(*slot);
        }
        slots.resize(length, Slot::default());
        self.slots = slots;
        self.homes = homes;
        true
    }
}

#[inline]
fn home(key: DedupKey, homes: usize) -> usize {
    ((u128::from(key.place()) * homes as u128) >> 64) as usize
}
