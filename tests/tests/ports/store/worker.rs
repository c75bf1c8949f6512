//! A worker over a log of its own, whose every prefix has known counts.

use std::collections::BTreeMap;

use clicks::counter::{LiveCounter, Observed};
use clicks::event::{Class, Click};
use clicks::id::{AdId, ClickId, Region, TopicId, UserId};
use clicks::live::{CountKey, Expected, FlushOutcome, Generation, Meta, Stage};
use clicks::position::{Offset, PartitionId};
use clicks::rules::{Rules, RulesBook};
use clicks::time::{Day, Interval, Span, Timestamp};
use clicks::window::{Hour, Minute};
use clicks::wire;
use platform::store::{Ads, LiveQuery, LiveSlice, SpeedStore, StoreError};

pub(crate) fn new_partition() -> PartitionId {
    let topic = TopicId::from_u128(uuid::Uuid::new_v4().as_u128());
    PartitionId { region: Region::parse("eu").unwrap(), topic, number: 0 }
}

pub(crate) fn rules() -> RulesBook {
    RulesBook::new(Rules::default()).unwrap()
}

/// Everything.
pub(crate) fn query() -> LiveQuery {
    let range = Interval::new(Timestamp::MIN, Timestamp::MAX);
    LiveQuery { ads: Ads::All, range, late_from: base_day() }
}

pub(crate) fn start_hour() -> Hour {
    Hour::of(base_day().start() + Span::hours(12))
}

fn base_day() -> Day {
    "2026-03-10".parse().unwrap()
}

/// Record `offset` of the log: a click half a second after the one before it, on one of seven ads; each hundredth is late.
fn click(offset: u64) -> (Click, Timestamp) {
    let append_time = start_hour().start() + Span::millis(500 * offset as i64);
    let late = if offset % 100 == 99 { Span::hours(1) } else { Span::ZERO };
    let click = Click {
        click_id: ClickId::from_u128(u128::from(offset)),
        ad_id: AdId::parse(&format!("ad-{}", offset % 7)).unwrap(),
        user_id: UserId::parse("u").unwrap(),
        event_time: append_time - late,
    };
    (click, append_time)
}

#[derive(Debug)]
pub(crate) struct Worker {
    counter: LiveCounter,
}

impl Worker {
    /// Begins generation `number` where nothing is live.
    pub(crate) fn begin(number: u128) -> Self {
        let meta = Meta::new(Offset::ZERO, base_day(), base_day().previous(), Offset::ZERO);
        let generation = Generation::from_u128(number);
        Worker { counter: LiveCounter::begin(rules(), Expected::Nothing, (generation, Stage::Live), meta, usize::MAX) }
    }

    /// Goes on from what is stored. No click comes twice in this log, so dedup needs no look-back.
    pub(crate) async fn resume(store: &dyn SpeedStore, partition: &PartitionId) -> Result<Option<Self>, StoreError> {
        let loaded = store.load(partition, &rules()).await?;
        Ok(loaded.map(|loaded| Worker { counter: LiveCounter::resume(rules(), loaded, usize::MAX) }))
    }

    pub(crate) fn generation(&self) -> Generation {
        self.counter.generation()
    }

    pub(crate) fn next_offset(&self) -> Offset {
        self.counter.meta().next_offset
    }

    pub(crate) fn observe(&mut self, records: u64) {
        for _ in 0..records {
            let offset = self.next_offset();
            let (click, broker_time) = click(offset.value());
            let value = wire::encode(&click).into_bytes();
            let record = Observed { offset, broker_time, key: None, value: Some(&value), control: false };
            self.counter.observe(&record).unwrap();
        }
    }

    /// The flush that is due.
    pub(crate) fn step(&mut self) -> clicks::live::Flush {
        self.counter.flush()
    }

    pub(crate) async fn flush(
        &mut self,
        store: &dyn SpeedStore,
        partition: &PartitionId,
    ) -> Result<FlushOutcome, StoreError> {
        let step = self.counter.flush();
        let outcome = store.flush(partition, &step).await?;
        if outcome == FlushOutcome::Applied {
            self.counter.stored();
        }
        Ok(outcome)
    }
}

/// Counts, late counts and totals are exactly those of the log up to the next offset: a small program over that log says.
pub(crate) fn scrub(slice: &LiveSlice) {
    let totals = &slice.meta.totals;
    let end = slice.meta.next_offset.value();
    assert!(totals.balance() && totals.seen == end, "{totals:?} at {end}");
    let (mut counts, mut late) = (BTreeMap::new(), BTreeMap::new());
    for offset in 0..end {
        let (click, append_time) = click(offset);
        let key = CountKey { minute: Minute::of(click.event_time), class: Class::Valid, ad: click.ad_id };
        let counts = if append_time.since(click.event_time) > Span::minutes(10) { &mut late } else { &mut counts };
        *counts.entry(key).or_insert(0u64) += 1;
    }
    let found: BTreeMap<_, _> = slice.counts.iter().cloned().collect();
    assert_eq!(found.len(), slice.counts.len(), "a window is given twice");
    assert_eq!(found, counts, "live counts at {end}");
    let found: BTreeMap<_, _> = slice.late.iter().map(|(key, count)| (key.count.clone(), *count)).collect();
    assert_eq!(found, late, "late counts at {end}");
    assert_eq!(counts.values().sum::<u64>() + totals.expired, totals.counted);
    assert_eq!(late.values().sum::<u64>() + totals.late_expired, totals.late);
}
