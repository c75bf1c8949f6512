//! One shard: a hash table with linear probing whose slots stand in key order.
//!
//! The home slot of a key grows with the key, and a key that finds its home taken moves up without overtaking a larger
//! one. So a look-up ends at the first larger key (4 slots on average at 7/8 full, where plain probing needs 30), and a
//! rebuild is one pass from left to right, in place or into a table of another size.

use super::key::DedupKey;
use crate::prefetch::prefetch;

/// A full table has used this part of its homes.
const FULL: (usize, usize) = (7, 8);
/// A table that is fuller than this after a sweep grows by `GROWTH`.
const ROOMY: (usize, usize) = (3, 4);
const GROWTH: f64 = 1.3;
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
    used: usize,
}

impl Shard {
    pub(super) const fn new(number: usize) -> Self {
        Shard { number, slots: Vec::new(), homes: 0, used: 0 }
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
        if !self.insert(at, slot) {
            self.make_room(slot, reach);
        }
        None
    }

    #[inline]
    pub(super) fn touch(&self, key: DedupKey) {
        if let Some(slot) = self.slots.get(self.home(key)) {
            prefetch(slot);
        }
    }

    /// Drops what is out of reach, and memory that is no longer needed.
    pub(super) fn sweep(&mut self, reach: Reach) {
        self.retain(reach);
        if self.used * 4 < self.homes && self.homes > HOMES_MIN {
            self.rebuild((self.used * 2).max(HOMES_MIN), reach);
        }
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

    /// Moves the run from `at` on up by one slot. False when the table is full, or the run reaches its end.
    #[inline]
    fn insert(&mut self, at: usize, slot: Slot) -> bool {
        if self.used * FULL.1 >= self.homes * FULL.0 {
            return false;
        }
        let run = self.slots.get(at..).unwrap_or_default();
        let Some(length) = run.iter().position(|slot| slot.stamp.is_none()) else { return false };
        self.slots.copy_within(at..at + length, at + 1);
        self.slots[at] = slot;
        self.used += 1;
        true
    }

    #[cold]
    fn make_room(&mut self, slot: Slot, reach: Reach) {
        let kept = self.slots.iter().filter(|slot| slot.is_kept(reach)).count();
        if kept * ROOMY.1 < self.homes * ROOMY.0 {
            self.retain(reach);
        } else {
            self.rebuild(self.next_size(), reach);
        }
        while !self.insert(self.seek(DedupKey::from_u128(slot.key)), slot) {
            self.rebuild(self.next_size(), reach);
        }
    }

    fn next_size(&self) -> usize {
        // At this size the shards part: later each grows at another moment than its neighbours.
        let factor = match self.homes {
            256..512 => GROWTH * (1.0 + self.number as f64 / 256.0),
            _ => GROWTH,
        };
        ((self.homes as f64 * factor) as usize + 1).max(HOMES_MIN)
    }

    /// Drops what is out of reach, in place. No slot moves up, so nothing is overwritten before it is read.
    fn retain(&mut self, reach: Reach) {
        let (mut next, mut used) = (0, 0);
        for at in 0..self.slots.len() {
            let slot = self.slots[at];
            if !slot.is_kept(reach) {
                continue;
            }
            let place = next.max(home(DedupKey::from_u128(slot.key), self.homes));
            self.slots[next..place].fill(Slot::default());
            self.slots[place] = slot;
            (next, used) = (place + 1, used + 1);
        }
        self.slots[next..].fill(Slot::default());
        self.used = used;
    }

    /// Moves what is in reach into a table with at least `homes` homes.
    fn rebuild(&mut self, mut homes: usize, reach: Reach) {
        while !self.rebuilt(homes, reach) {
            homes += homes / 8 + 1;
        }
    }

    /// False when the last run does not fit.
    fn rebuilt(&mut self, homes: usize, reach: Reach) -> bool {
        let mut slots = vec![Slot::default(); homes + homes.min(TAIL_MAX)];
        let (mut next, mut used) = (0, 0);
        for slot in self.slots.iter().filter(|slot| slot.is_kept(reach)) {
            let place = next.max(home(DedupKey::from_u128(slot.key), homes));
            let Some(room) = slots.get_mut(place) else { return false };
            *room = *slot;
            (next, used) = (place + 1, used + 1);
        }
        self.slots = slots;
        self.homes = homes;
        self.used = used;
        true
    }
}

#[inline]
fn home(key: DedupKey, homes: usize) -> usize {
    ((u128::from(key.place()) * homes as u128) >> 64) as usize
}
