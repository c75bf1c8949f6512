//! Live counts of a partition in memory, for whoever answers many questions about them.
//!
//! Each minute is a column, sorted by ad: a question about one ad looks it up in each of its minutes, one about all ads goes
//! through the columns from end to end, and the total of a minute is kept beside it. A count takes 12 bytes.

use std::collections::BTreeMap;

use hashbrown::HashMap;

use super::sums::hash_of;
use crate::event::Class;
use crate::id::AdId;
use crate::live::{CountKey, LateKey};
use crate::time::{Day, Interval, Timestamp};
use crate::window::Minute;

/// What is stored of a partition, as far as it was written here.
#[derive(Debug, Default)]
pub struct Columns {
    /// In the order in which they came.
    ads: Vec<AdId>,
    numbers: HashMap<AdId, u32, foldhash::fast::RandomState>,
    /// Of each ad, see [`hash_of`].
    hashes: Vec<u64>,
    live: Minutes,
    late: BTreeMap<Day, Minutes>,
    /// Of all columns; it is asked for often, and they are many.
    bytes: usize,
}

type Minutes = BTreeMap<Minute, Column>;

/// Counts of one minute.
#[derive(Debug, Default)]
pub(super) struct Column {
    /// Sorted; see [`place`].
    places: Vec<u32>,
    /// Of each place.
    clicks: Vec<u64>,
    total: u64,
}

/// Classes of an ad lie side by side.
const CLASSES: u32 = Class::ALL.len() as u32;

fn place(ad: u32, class: Class) -> u32 {
    ad * CLASSES + class as u32
}

impl Columns {
    /// Writes counts as they are stored now; of a key that comes twice the last one holds.
    pub fn write(&mut self, counts: &[(CountKey, u64)], late: &[(LateKey, u64)]) {
        let mut placed: Vec<(Minute, u32, u64)> = Vec::with_capacity(counts.len());
        for (key, clicks) in counts {
            placed.push((key.minute, place(self.number(&key.ad), key.class), *clicks));
        }
        write(&mut self.live, &mut self.bytes, placed);
        let mut nights: BTreeMap<Day, Vec<(Minute, u32, u64)>> = BTreeMap::new();
        for (LateKey { night, count }, clicks) in late {
            let place = place(self.number(&count.ad), count.class);
            nights.entry(*night).or_default().push((count.minute, place, *clicks));
        }
        for (night, placed) in nights {
            write(self.late.entry(night).or_default(), &mut self.bytes, placed);
        }
    }

    /// Forgets minutes before `start`, late counts of nights before `night`, and ads that are left without a count.
    pub fn forget(&mut self, start: Timestamp, night: Day) {
        let (minutes, nights) = (self.live.len(), self.late.len());
        self.live = self.live.split_off(&Minute::of(start));
        self.late = self.late.split_off(&night);
        if (self.live.len(), self.late.len()) != (minutes, nights) {
            self.bytes = self.columns().map(Column::bytes).sum();
            self.renumber();
        }
    }

    /// About what it takes in memory.
    pub fn bytes(&self) -> usize {
        // An ad's text lies in memory once, and is pointed at twice.
        self.bytes + 128 * self.ads.len()
    }

    fn columns(&self) -> impl Iterator<Item = &Column> {
        self.live.values().chain(self.late.values().flat_map(BTreeMap::values))
    }

    fn number(&mut self, ad: &AdId) -> u32 {
        if let Some(number) = self.numbers.get(ad) {
            return *number;
        }
        let number = u32::try_from(self.ads.len()).expect("four billion ads do not fit into memory");
        self.ads.push(ad.clone());
        self.hashes.push(hash_of(ad));
        self.numbers.insert(ad.clone(), number);
        number
    }

    fn renumber(&mut self) {
        let mut used = vec![false; self.ads.len()];
        for column in self.columns() {
            column.places.iter().for_each(|place| used[(place / CLASSES) as usize] = true);
        }
        if used.iter().all(|used| *used) {
            return;
        }
        // The order stays, so columns stay sorted.
        let counted = used.iter().scan(0, |next, used| {
            let number = *next;
            *next += u32::from(*used);
            Some(number)
        });
        let numbers: Vec<u32> = counted.collect();
        for column in self.live.values_mut().chain(self.late.values_mut().flat_map(BTreeMap::values_mut)) {
            column.places.iter_mut().for_each(|place| {
                let ad = *place / CLASSES;
                *place = *place - ad * CLASSES + numbers[ad as usize] * CLASSES;
            });
        }
        let mut used = used.into_iter();
        self.ads.retain(|_| used.next() == Some(true));
        self.numbers = self.ads.iter().cloned().zip(0..).collect();
        self.hashes = self.ads.iter().map(hash_of).collect();
    }

    pub(super) fn ads(&self) -> &[AdId] {
        &self.ads
    }

    /// An ad and its hash.
    pub(super) fn ad(&self, number: u32) -> (&AdId, u64) {
        (&self.ads[number as usize], self.hashes[number as usize])
    }

    pub(super) fn number_of(&self, ad: &AdId) -> Option<u32> {
        self.numbers.get(ad).copied()
    }

    /// Minutes that begin in a range.
    pub(super) fn live(&self, range: Interval) -> impl Iterator<Item = (Timestamp, &Column)> {
        minutes(&self.live, range)
    }

    /// The same of late counts, by night.
    pub(super) fn late(&self, range: Interval) -> impl Iterator<Item = (Day, Timestamp, &Column)> {
        self.late.iter().flat_map(move |(night, of_night)| {
            minutes(of_night, range).map(move |(start, column)| (*night, start, column))
        })
    }
}

fn write(minutes: &mut Minutes, bytes: &mut usize, mut counts: Vec<(Minute, u32, u64)>) {
    // Those of one key stay in their order.
    counts.sort_by_key(|(minute, place, _)| (*minute, *place));
    for of_minute in counts.chunk_by(|a, b| a.0 == b.0) {
        let minute = of_minute[0].0;
        let before = minutes.get(&minute).map_or(0, Column::bytes);
        let column = minutes.entry(minute).or_default();
        column.write(of_minute);
        *bytes = *bytes + column.bytes() - before;
    }
}

fn minutes(all: &Minutes, range: Interval) -> impl Iterator<Item = (Timestamp, &Column)> {
    // The first minute that begins at a time or after it.
    let first = |time: Timestamp| {
        let (number, within) = (time.as_millis().div_euclid(60_000), time.as_millis().rem_euclid(60_000));
        Minute::from_number(number + i64::from(within > 0))
    };
    let within = (!range.is_empty()).then(|| all.range(first(range.start)..first(range.end)));
    within.into_iter().flatten().map(|(minute, column)| (minute.start(), column))
}

impl Column {
    /// Writes counts that are sorted by their place.
    fn write(&mut self, counts: &[(Minute, u32, u64)]) {
        let before = std::mem::take(self);
        let all = before.places.len() + counts.len();
        (self.places, self.clicks) = (Vec::with_capacity(all), Vec::with_capacity(all));
        let mut old = before.places.into_iter().zip(before.clicks).peekable();
        for (_, place, clicks) in counts {
            while let Some((place, clicks)) = old.next_if(|(old, _)| old < place) {
                self.push(place, clicks);
            }
            _ = old.next_if(|(old, _)| old == place);
            self.push(*place, *clicks);
        }
        old.for_each(|(place, clicks)| self.push(place, clicks));
    }

    /// Adds a count behind all others, or writes over the last one.
    fn push(&mut self, place: u32, clicks: u64) {
        if self.places.last() == Some(&place) {
            self.total = self.total.wrapping_sub(self.clicks.pop().unwrap_or(0));
        } else {
            self.places.push(place);
        }
        self.clicks.push(clicks);
        // Damaged counts may be larger than any sum of real ones; they are counted anew.
        self.total = self.total.wrapping_add(clicks);
    }

    fn bytes(&self) -> usize {
        64 + 12 * self.places.capacity()
    }

    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Clicks of an ad.
    pub(super) fn of(&self, ad: u32) -> u64 {
        let first = self.places.partition_point(|place| *place < ad * CLASSES);
        let classes = self.places[first..].iter().take_while(|place| **place / CLASSES == ad);
        classes.zip(&self.clicks[first..]).map(|(_, clicks)| clicks).sum()
    }

    /// Ads and their clicks.
    pub(super) fn each(&self) -> impl Iterator<Item = (u32, u64)> {
        self.places.iter().zip(&self.clicks).map(|(place, clicks)| (place / CLASSES, *clicks))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ad(name: u8) -> AdId {
        AdId::parse(&format!("ad-{name}")).unwrap()
    }

    fn night(number: i32) -> Day {
        Day::from_number(number)
    }

    fn key(minute: i64, name: u8) -> CountKey {
        CountKey { minute: Minute::from_number(minute), class: Class::Valid, ad: ad(name) }
    }

    proptest! {
        /// It holds what a map of all keys would hold, whatever is written over and forgotten.
        #[test]
        fn columns_hold_what_was_written_last(
            steps in prop::collection::vec(
                prop_oneof![
                    4 => prop::collection::vec((-5i64..30, 0u8..20, 0u64..100), 0..40).prop_map(Ok),
                    1 => (-5i64..30, 0..3i32).prop_map(Err),
                ],
                1..12,
            ),
            (from, to) in (-6 * 60_000i64..31 * 60_000, -6 * 60_000i64..31 * 60_000),
        ) {
            let (mut columns, mut counts, mut late) = (Columns::default(), BTreeMap::new(), BTreeMap::new());
            for step in steps {
                match step {
                    Ok(written) => {
                        let live: Vec<_> = written.iter().map(|(m, n, clicks)| (key(*m, *n), *clicks)).collect();
                        let of_night = |(m, n, clicks): &(i64, u8, u64)| {
                            (LateKey { night: night((m % 3) as i32), count: key(*m, n + 1) }, *clicks)
                        };
                        let later: Vec<_> = written.iter().map(of_night).collect();
                        columns.write(&live, &later);
                        counts.extend(live);
                        late.extend(later);
                    }
                    Err((minute, from)) => {
                        columns.forget(Minute::from_number(minute).start(), night(from));
                        counts.retain(|key: &CountKey, _| key.minute.number() >= minute);
                        late.retain(|key: &LateKey, _| key.night >= night(from));
                    }
                }
            }
            prop_assert_eq!(columns.bytes, columns.columns().map(Column::bytes).sum::<usize>());
            let range = Interval::new(Timestamp::from_millis(from), Timestamp::from_millis(to));
            let mut found = BTreeMap::new();
            for (start, column) in columns.live(range) {
                prop_assert!(range.contains(start));
                prop_assert_eq!(column.total(), column.each().map(|(_, clicks)| clicks).sum::<u64>());
                for (ad, clicks) in column.each() {
                    prop_assert_eq!(column.of(ad), clicks);
                    let key = CountKey { minute: Minute::of(start), class: Class::Valid, ad: columns.ads()[ad as usize].clone() };
                    prop_assert_eq!(columns.number_of(&key.ad), Some(ad));
                    found.insert(key, clicks);
                }
            }
            counts.retain(|key, _| range.contains(key.minute.start()));
            prop_assert_eq!(found, counts);
            let mut found = BTreeMap::new();
            for (night, start, column) in columns.late(range) {
                for (ad, clicks) in column.each() {
                    let ad = columns.ads()[ad as usize].clone();
                    let count = CountKey { minute: Minute::of(start), class: Class::Valid, ad };
                    found.insert(LateKey { night, count }, clicks);
                }
            }
            late.retain(|key, _| range.contains(key.count.minute.start()));
            prop_assert_eq!(found, late);
        }
    }

    #[test]
    fn ads_without_a_count_are_forgotten() {
        let mut columns = Columns::default();
        columns.write(&[(key(1, 1), 1), (key(1, 2), 2), (key(2, 2), 3)], &[]);
        let bytes = columns.bytes();
        columns.forget(Minute::from_number(2).start(), night(0));
        assert_eq!((columns.ads(), columns.number_of(&ad(2))), (&[ad(2)][..], Some(0)));
        assert!(columns.bytes() < bytes);
        columns.write(&[(key(2, 1), 4)], &[]);
        let (_, column) = columns.live(Interval::new(Timestamp::MIN, Timestamp::MAX)).next().unwrap();
        assert_eq!((column.of(0), column.of(1), column.of(2), column.total()), (3, 4, 0, 7));
    }
}
