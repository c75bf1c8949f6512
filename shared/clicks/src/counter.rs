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
    /// Evictions of dedup that the meta record holds already.
    evicted_known: u64,
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
            evicted_known: 0,
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

    /// What the next flush expects to be stored: the position up to which everything observed is known to be there.
    pub fn stored_at(&self) -> Expected {
        self.stored
    }

    /// Keys that dedup remembers.
    pub fn sightings(&self) -> usize {
        self.dedup.len()
    }

    /// Append time from which the look-back must start, so that dedup is as if it had never been dropped.
    pub fn look_back_from(&self) -> Timestamp {
        self.meta.append_time - self.rules.live_horizon_max()
    }

    /// Takes a record of the look-back (before the next offset) into dedup without counting it. `append_time` is the
    /// running maximum over the look-back; where that starts at the first record with a broker time at or after
    /// [`LiveCounter::look_back_from`], it equals the partition's own.
    pub fn remember(&mut self, record: &Observed<'_>, append_time: Timestamp) {
        // A generation that begins takes over the append time that the partition has reached; one that resumes knows it.
        self.meta.append_time = self.append.observe(append_time);
        if record.control {
            return;
        }
        if let Ok(click) = wire::decode(record.value) {
            let rules = self.rules.on(click.event_time.day());
            // The judgement was made when the record was counted; only the sighting matters now.
            let _ = judge(rules, &mut self.dedup, (click.ad_id, click.click_id), click.event_time, append_time);
        }
        // The look-back repeats evictions that a resumed generation has counted, so they are not added to those; but a
        // generation that begins, or has less memory than before, must own up to them.
        self.evicted_known = self.dedup.evicted();
        self.meta.dedup_evicted = self.meta.dedup_evicted.max(self.evicted_known);
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
        self.meta.dedup_evicted += self.dedup.evicted() - self.evicted_known;
        self.evicted_known = self.dedup.evicted();
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

    /// The next flush, which also expires what lies below `base_day` (windows) and `base_night` (late counts): both lie
    /// below the ledger's closed set. The sums are what the store holds there, from `meta`'s base on, read at the position
    /// [`LiveCounter::stored_at`]; nothing that is observed later can change them, as the watermark has passed.
    ///
    /// `None` when the partition's own watermark has not passed the base day, when nothing would change, or when nothing
    /// was observed since: the step must move the position, or another writer that stands at the same one (a zombie)
    /// would still match and bring the old base back over windows that are gone.
    pub fn expire(&mut self, base_day: Day, base_night: Day, expired: u64, late_expired: u64) -> Option<Flush> {
        let moves = base_day > self.meta.base_day || base_night > self.meta.base_night;
        if !moves || !self.has_news() || !self.has_passed(base_day, base_night) {
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

    /// No window before `base_day` and no late count of a night before `base_night` can change any more.
    pub fn has_passed(&self, base_day: Day, base_night: Day) -> bool {
        // Before the first record there is no progress, and no day that its time would belong to.
        self.append.last() > Timestamp::MIN
            && base_day <= self.watermark().day()
            && base_night <= self.rules.night_of(self.append.last())
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
mod tests;
