//! The live count of one partition: observe records in log order, hand out flushes.
//!
//! The state machine is pure. Its shell reads the log, passes each record to [`LiveCounter::observe`], and stores what
//! [`LiveCounter::flush`] hands out; on any doubt it drops the whole counter and resumes from what is stored.

use std::collections::BTreeSet;

use hashbrown::HashMap;

use crate::dedup::SlidingDedup;
use crate::event::{Class, Click};
use crate::id::{AdId, ClickId};
use crate::live::{CountKey, Expected, Flush, Generation, LateKey, Loaded, Meta};
use crate::position::Offset;
use crate::rules::RulesBook;
use crate::time::{Day, Timestamp};
use crate::verdict::{Verdict, judge};
use crate::watermark::{AppendTime, watermark};
use crate::window::{Hour, Minute};
use crate::wire;

/// A record of the log as the counter needs it.
#[derive(Debug, Clone, Copy)]
pub struct Observed<'a> {
    pub offset: Offset,
    /// The broker's time as it stands in the log.
    pub broker_time: Timestamp,
    pub key: Option<&'a [u8]>,
    pub value: Option<&'a [u8]>,
    /// It carries the header of our own records.
    pub control: bool,
}

/// A record that does not follow the one before it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the log continues at offset {found} where {expected} was expected")]
pub struct Gap {
    pub expected: Offset,
    pub found: Offset,
}

type DedupKey = (AdId, ClickId);

/// Counts, totals and dedup of one partition.
#[derive(Debug)]
pub struct LiveCounter {
    rules: RulesBook,
    generation: Generation,
    stored: Expected,
    meta: Meta,
    append: AppendTime,
    dedup: SlidingDedup<DedupKey>,
    counts: HashMap<CountKey, u64, foldhash::fast::RandomState>,
    late: HashMap<LateKey, u64, foldhash::fast::RandomState>,
    dirty: BTreeSet<CountKey>,
    dirty_late: BTreeSet<LateKey>,
    last: Option<LastRecord>,
}

#[derive(Debug)]
struct LastRecord {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    broker_time: Timestamp,
}

impl LiveCounter {
    /// A new generation that replaces what is stored (`replaces`), beginning at `meta.base_offset`.
    pub fn begin(
        rules: RulesBook,
        replaces: Expected,
        generation: Generation,
        meta: Meta,
        sightings_max: usize,
    ) -> Self {
        Self::with(rules, replaces, generation, meta, sightings_max)
    }

    /// Continues from what is stored. Dedup is empty: read the look-back with [`LiveCounter::remember`] first.
    pub fn resume(rules: RulesBook, loaded: Loaded, sightings_max: usize) -> Self {
        let stored = Expected::At { generation: loaded.generation, next_offset: loaded.meta.next_offset };
        let mut counter = Self::with(rules, stored, loaded.generation, loaded.meta, sightings_max);
        counter.counts.extend(loaded.counts);
        counter.late.extend(loaded.late);
        counter
    }

    fn with(rules: RulesBook, stored: Expected, generation: Generation, meta: Meta, sightings_max: usize) -> Self {
        let horizon = rules.live_horizon_max();
        LiveCounter {
            append: AppendTime::resume(meta.append_time),
            dedup: SlidingDedup::new(horizon, sightings_max),
            rules,
            generation,
            stored,
            meta,
            counts: HashMap::default(),
            late: HashMap::default(),
            dirty: BTreeSet::new(),
            dirty_late: BTreeSet::new(),
            last: None,
        }
    }

    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    pub fn generation(&self) -> Generation {
        self.generation
    }

    pub fn watermark(&self) -> Timestamp {
        watermark(&self.rules, self.append.last())
    }

    /// Append time from which the look-back must start, so that dedup is as if it had never been dropped.
    pub fn look_back_from(&self) -> Timestamp {
        self.meta.append_time - self.rules.live_horizon_max()
    }

    /// Takes a record of the look-back (before the next offset) into dedup without counting it. `append_time` is the
    /// running maximum over the look-back; where that starts at the first record with a broker time at or after
    /// [`LiveCounter::look_back_from`], it equals the partition's own.
    pub fn remember(&mut self, record: &Observed<'_>, append_time: Timestamp) {
        self.append.observe(append_time);
        if record.control {
            return;
        }
        if let Ok(click) = wire::decode(record.value) {
            let rules = self.rules.on(click.event_time.day());
            // The judgement was made when the record was counted; only the sighting matters now.
            let _ = judge(rules, &mut self.dedup, (click.ad_id, click.click_id), click.event_time, append_time);
        }
    }

    /// Judges the next record and counts it.
    ///
    /// # Errors
    /// [`Gap`] when the record is not the next one; nothing has changed then.
    pub fn observe(&mut self, record: &Observed<'_>) -> Result<Verdict, Gap> {
        if record.offset != self.meta.next_offset {
            return Err(Gap { expected: self.meta.next_offset, found: record.offset });
        }
        let append_time = self.append.observe(record.broker_time);
        let (verdict, click) = self.judge(record, append_time);
        self.enter(&verdict, click, append_time);
        self.meta.next_offset = record.offset.next();
        self.meta.append_time = append_time;
        self.meta.dedup_evicted = self.meta.dedup_evicted.max(self.dedup.evicted());
        self.last = Some(LastRecord {
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            broker_time: record.broker_time,
        });
        Ok(verdict)
    }

    fn judge(&mut self, record: &Observed<'_>, append_time: Timestamp) -> (Verdict, Option<Click>) {
        if record.control {
            return (Verdict::Control, None);
        }
        let click = match wire::decode(record.value) {
            Ok(click) => click,
            Err(rejection) => return (Verdict::Rejected(rejection), None),
        };
        let rules = self.rules.on(click.event_time.day());
        let key = (click.ad_id.clone(), click.click_id);
        match judge(rules, &mut self.dedup, key, click.event_time, append_time) {
            Ok(judgement) => (judgement.within(rules.live_horizon), Some(click)),
            Err(rejection) => (Verdict::Rejected(rejection), Some(click)),
        }
    }

    fn enter(&mut self, verdict: &Verdict, click: Option<Click>, append_time: Timestamp) {
        let totals = &mut self.meta.totals;
        totals.seen += 1;
        match (verdict, click) {
            (Verdict::Control, _) => totals.control += 1,
            (Verdict::Rejected(_), _) => totals.rejected += 1,
            (Verdict::Duplicate, _) => totals.duplicate += 1,
            (Verdict::Late, click) => {
                totals.late += 1;
                if let Some(click) = click {
                    let night = self.rules.night_of(append_time);
                    self.enter_late(LateKey { night, count: key_of(click) });
                }
            }
            (Verdict::Counted, click) => {
                totals.counted += 1;
                if let Some(click) = click {
                    self.enter_counted(key_of(click));
                }
            }
        }
    }

    fn enter_counted(&mut self, key: CountKey) {
        if key.minute.start() < self.meta.base_day.start() {
            self.meta.totals.expired += 1;
            return;
        }
        *self.counts.entry(key.clone()).or_default() += 1;
        self.dirty.insert(key);
    }

    fn enter_late(&mut self, key: LateKey) {
        if key.night < self.meta.base_night {
            self.meta.totals.late_expired += 1;
            return;
        }
        *self.late.entry(key.clone()).or_default() += 1;
        self.dirty_late.insert(key);
    }

    /// Counts that the next flush would write.
    pub fn changes(&self) -> usize {
        self.dirty.len() + self.dirty_late.len()
    }

    /// True when something was observed since the last flush, if only a control record.
    pub fn has_news(&self) -> bool {
        self.stored != Expected::At { generation: self.generation, next_offset: self.meta.next_offset }
    }

    /// Everything observed since the last stored flush, as one atomic step. Calling it again gives the same step until
    /// [`LiveCounter::stored`] is told that it was applied.
    pub fn flush(&mut self) -> Flush {
        if let Some(last) = self.last.take() {
            self.meta.fingerprint = wire::fingerprint(last.key.as_deref(), last.value.as_deref(), last.broker_time);
        }
        Flush {
            expected: self.stored,
            generation: self.generation,
            meta: self.meta.clone(),
            counts: self.dirty.iter().map(|key| (key.clone(), self.counts[key])).collect(),
            late: self.dirty_late.iter().map(|key| (key.clone(), self.late[key])).collect(),
            drop_hours: Vec::new(),
            drop_nights: Vec::new(),
        }
    }

    /// The flush was applied: what was dirty is stored, and counts that can no longer change are dropped from memory.
    pub fn stored(&mut self) {
        self.stored = Expected::At { generation: self.generation, next_offset: self.meta.next_offset };
        self.dirty.clear();
        self.dirty_late.clear();
        let sealed = Minute::of(self.watermark());
        self.counts.retain(|key, _| key.minute >= sealed);
        let night = self.rules.night_of(self.append.last());
        self.late.retain(|key, _| key.night >= night);
    }

    /// A step that expires what lies below `base_day` (windows) and `base_night` (late counts): both lie below the
    /// ledger's closed set. The sums are what the store holds there. Everything observed must be stored before.
    ///
    /// `None` when the partition's own watermark has not passed the base day, or nothing would change.
    pub fn expire(&mut self, base_day: Day, base_night: Day, expired: u64, late_expired: u64) -> Option<Flush> {
        let sealed = self.watermark().day();
        let moves = base_day > self.meta.base_day || base_night > self.meta.base_night;
        if self.has_news() || !moves || base_day > sealed || base_night > self.rules.night_of(self.append.last()) {
            return None;
        }
        let drop_hours = hours_of(self.meta.base_day, base_day);
        let drop_nights = self.meta.base_night.until(base_night).collect();
        self.meta.base_day = base_day.max(self.meta.base_day);
        self.meta.base_night = base_night.max(self.meta.base_night);
        self.meta.totals.expired += expired;
        self.meta.totals.late_expired += late_expired;
        let mut step = self.flush();
        step.drop_hours = drop_hours;
        step.drop_nights = drop_nights;
        Some(step)
    }
}

/// Every hour of the days `[from, to)`.
pub fn hours_of(from: Day, to: Day) -> Vec<Hour> {
    Hour::touched_by(crate::time::Interval::new(from.start(), to.start())).collect()
}

fn key_of(click: Click) -> CountKey {
    CountKey { minute: Minute::of(click.event_time), class: Class::Valid, ad: click.ad_id }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Click;
    use crate::id::UserId;
    use crate::rules::Rules;
    use crate::time::Span;

    fn start() -> Timestamp {
        "2026-03-01".parse::<Day>().unwrap().start() + Span::hours(12)
    }

    fn value(id: u128, event: Timestamp) -> Vec<u8> {
        let click = Click {
            click_id: ClickId::from_u128(id),
            ad_id: AdId::parse("a").unwrap(),
            user_id: UserId::parse("u").unwrap(),
            event_time: event,
        };
        wire::encode(&click).into_bytes()
    }

    fn counter() -> LiveCounter {
        let day = start().day();
        let meta = Meta::new(Offset::ZERO, day, day.previous(), Offset::ZERO);
        LiveCounter::begin(
            RulesBook::new(Rules::default()).unwrap(),
            Expected::Nothing,
            Generation::from_u128(1),
            meta,
            usize::MAX,
        )
    }

    fn observe(counter: &mut LiveCounter, value: Option<&[u8]>, at: Timestamp) -> Verdict {
        let offset = counter.meta().next_offset;
        counter.observe(&Observed { offset, broker_time: at, key: None, value, control: false }).unwrap()
    }

    /// Scenario 1: 500 are stored, the worker is killed, one more click arrives.
    #[test]
    fn a_resumed_counter_writes_the_whole_count() {
        let mut first = counter();
        for id in 0..500 {
            observe(&mut first, Some(&value(id, start())), start());
        }
        let flush = first.flush();
        let loaded = Loaded { generation: flush.generation, meta: flush.meta, counts: flush.counts, late: flush.late };
        let mut second = LiveCounter::resume(RulesBook::new(Rules::default()).unwrap(), loaded, usize::MAX);
        observe(&mut second, Some(&value(500, start())), start());
        let flush = second.flush();
        assert_eq!(flush.counts.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [501]);
        assert_eq!(
            flush.expected,
            Expected::At { generation: Generation::from_u128(1), next_offset: Offset::new(500) }
        );
    }

    #[test]
    fn totals_balance_whatever_arrives() {
        let mut counter = counter();
        observe(&mut counter, None, start());
        observe(&mut counter, Some(b"no json"), start());
        observe(&mut counter, Some(&value(1, start())), start());
        observe(&mut counter, Some(&value(1, start())), start());
        observe(&mut counter, Some(&value(2, start() - Span::minutes(11))), start());
        observe(&mut counter, Some(&value(3, start() - Span::days(36))), start());
        let record = Observed {
            offset: counter.meta().next_offset,
            broker_time: start(),
            key: None,
            value: Some(b"x"),
            control: true,
        };
        counter.observe(&record).unwrap();
        let totals = counter.meta().totals;
        assert!(totals.balance());
        assert_eq!(
            (totals.seen, totals.control, totals.rejected, totals.duplicate, totals.late, totals.counted),
            (7, 1, 3, 1, 1, 1)
        );
    }

    #[test]
    fn a_gap_is_refused_and_changes_nothing() {
        let mut counter = counter();
        let record = Observed { offset: Offset::new(5), broker_time: start(), key: None, value: None, control: false };
        assert_eq!(counter.observe(&record), Err(Gap { expected: Offset::ZERO, found: Offset::new(5) }));
        assert!(counter.has_news(), "a generation that is not stored yet is news");
        assert_eq!(counter.meta().totals.seen, 0);
    }

    #[test]
    fn windows_before_the_base_day_are_expired_at_once() {
        let mut counter = counter();
        let midnight = start().day().start();
        observe(&mut counter, Some(&value(1, midnight - Span::minutes(2))), midnight + Span::minutes(1));
        let totals = counter.meta().totals;
        assert_eq!((totals.counted, totals.expired, counter.changes()), (1, 1, 0));
    }
}
