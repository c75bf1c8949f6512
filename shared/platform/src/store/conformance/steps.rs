//! Flushes and queries of the suite: a partition at noon of 2026-03-10, its base day the day before.

use clicks::event::Class;
use clicks::id::{AdId, Region, TopicId};
use clicks::live::{CountKey, Expected, Flush, Generation, LateKey, Meta, Stage};
use clicks::position::{Offset, PartitionId};
use clicks::rules::{Rules, RulesBook};
use clicks::time::{Day, Interval, Timestamp};
use clicks::window::Minute;

use crate::store::{Ads, LiveQuery};

/// Hands out one flush after the other, as a worker that is always answered does.
#[derive(Debug, Clone)]
pub(super) struct Writer {
    pub(super) expected: Expected,
    generation: Generation,
    pub(super) stage: Stage,
    meta: Meta,
}

impl Writer {
    /// Begins generation `number` at an offset; it expects nothing to be live.
    pub(super) fn new(number: u128, base_offset: u64) -> Self {
        let base = Offset::new(base_offset);
        let mut meta = Meta::new(base, day("2026-03-09"), day("2026-03-08"), base.plus(1));
        meta.append_time = time("2026-03-10T12:00:00Z");
        meta.fingerprint = "00ff".to_owned();
        Writer { expected: Expected::Nothing, generation: generation(number), stage: Stage::Live, meta }
    }

    /// A flush of the next `records` records, all of them counted.
    pub(super) fn step(&mut self, records: u64, counts: Vec<(CountKey, u64)>) -> Flush {
        self.meta.next_offset = self.meta.next_offset.plus(records);
        self.meta.totals.seen += records;
        self.meta.totals.counted += records;
        let expected = self.expected;
        self.expected = Expected::at(self.generation, &self.meta);
        Flush {
            expected,
            generation: self.generation,
            stage: self.stage,
            meta: self.meta.clone(),
            counts,
            late: Vec::new(),
            drop_hours: Vec::new(),
            drop_nights: Vec::new(),
        }
    }
}

pub(super) fn new_partition() -> PartitionId {
    let topic = TopicId::from_u128(uuid::Uuid::new_v4().as_u128());
    PartitionId { region: Region::parse("eu").expect("a region"), topic, number: 3 }
}

pub(super) fn generation(number: u128) -> Generation {
    Generation::from_u128(number)
}

pub(super) fn rules() -> RulesBook {
    RulesBook::new(Rules::default()).expect("the default rules are good")
}

/// A count of the minute `hh:mm` of 2026-03-10.
pub(super) fn count(at: &str, name: &str) -> CountKey {
    let minute = Minute::of(time(&format!("2026-03-10T{at}:00Z")));
    CountKey { minute, class: Class::Valid, ad: ad(name) }
}

pub(super) fn late(night: &str, at: &str, name: &str) -> LateKey {
    let count = CountKey { minute: Minute::of(time(at)), class: Class::Valid, ad: ad(name) };
    LateKey { night: day(night), count }
}

/// Everything there is.
pub(super) fn all() -> LiveQuery {
    let range = Interval::new(Timestamp::MIN, Timestamp::MAX);
    LiveQuery { ads: Ads::All, range, late_from: Day::from_number(i32::MIN) }
}

pub(super) fn ad(name: &str) -> AdId {
    AdId::parse(name).expect("an ad id")
}

pub(super) fn day(text: &str) -> Day {
    text.parse().expect("a day")
}

pub(super) fn time(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).expect("a time")
}
