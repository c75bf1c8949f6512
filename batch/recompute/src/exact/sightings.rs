//! The last sighting of each key, for the clicks of one bucket.

use clicks::time::Span;

use super::sighting::Sighting;

/// A hash table over the clicks of a bucket: each slot holds half of a key's hash and the number of its last click, so that
/// the table stays small and a click is only looked at where the key is most likely its own.
#[derive(Debug, Default)]
pub(crate) struct Sightings {
    /// 0 when empty, or the hash's upper half above the click's number plus one. Never more than half full.
    slots: Vec<u64>,
}

impl Sightings {
    /// Forgets everything, and makes room for `clicks`.
    pub(crate) fn clear_for(&mut self, clicks: usize) {
        let slots = (clicks * 2).next_power_of_two();
        self.slots.clear();
        self.slots.resize(slots, 0);
    }

    /// Sights click `number` of the bucket and tells how long ago its like was last sighted.
    #[inline]
    pub(crate) fn sight(
        &mut self,
        clicks: &[Sighting],
        number: usize,
        hash: u64,
        alike: impl Fn(&Sighting, &Sighting) -> bool,
    ) -> Option<Span> {
        let click = &clicks[number];
        let mask = self.slots.len() - 1;
        let mine = hash & !u64::from(u32::MAX) | (number as u64 + 1);
        let mut place = hash as usize & mask;
        loop {
            let slot = self.slots[place];
            if slot == 0 {
                self.slots[place] = mine;
                return None;
            }
            if slot >> 32 == mine >> 32 {
                let last = &clicks[(slot as u32) as usize - 1];
                if alike(last, click) {
                    self.slots[place] = mine;
                    return Some(click.since(last));
                }
            }
            place = (place + 1) & mask;
        }
    }
}
