//! The live count of one partition: observe records in log order, hand out flushes.
//!
//! The state machine is pure. Its shell reads the log, passes each record to [`LiveCounter::observe`], and stores what
//! [`LiveCounter::flush`] hands out; on any doubt it drops the whole counter and resumes from what is stored.

mod ads;
mod counts;
#[cfg(feature = "bugs")]
mod kept;
mod reading;
mod scrub;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::ops::ControlFlow;

use hashbrown::HashMap;

use crate::bugs::{self, Bug};
use crate::dedup::{DedupKeys, SlidingDedup};
use crate::event::Class;
use crate::live::{CountKey, Expected, Flush, Generation, LateKey, Loaded, Meta, Stage};
use crate::position::Offset;
use crate::rules::RulesBook;
use crate::time::{Day, Interval, Span, Timestamp};
use crate::verdict::{Verdict, judge};
use crate::watermark::{AppendTime, watermark};
use crate::window::{Hour, Minute};
use crate::wire::{self, Rejection};

use ads::{AdNumber, Ads};
use counts::{Count, Counts};
#[cfg(feature = "bugs")]
pub use kept::forget;
use reading::{Reading, Sighted};
pub use scrub::Difference;

/// Records that go through the steps together.
const AHEAD: usize = 32;

/// Ads that are known beyond those that are counted, before they are forgotten.
const ADS_KEPT: usize = 65_536;

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

/// What became of some records; the rest is in the totals.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Observation {
    /// How many of the records were observed.
    pub observed: usize,
    /// Codes of those that were rejected.
    pub rejected: Vec<&'static str>,
}

/// A window of one ad, as it is counted in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Window {
    minute: Minute,
    class: Class,
    ad: AdNumber,
}

/// Counts, totals and dedup of one partition.
#[derive(Debug)]
pub struct LiveCounter {
    rules: RulesBook,
    generation: Generation,
    stage: Stage,
    stored: Expected,
    meta: Meta,
    append: AppendTime,
    ads: Ads,
    dedup: SlidingDedup,
    counts: Counts,
    late: HashMap<LateKey, u64, foldhash::fast::RandomState>,
    dirty: Vec<Window>,
    dirty_late: BTreeSet<LateKey>,
    /// Evictions of dedup that the meta record holds already.
    evicted_known: u64,
    last: Option<LastRecord>,
    /// Counts of earlier minutes were dropped.
    sealed: Minute,
    #[cfg(feature = "bugs")]
    kept: kept::Kept,
}

#[derive(Debug)]
struct LastRecord {
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    broker_time: Timestamp,
}

impl LiveCounter {
    /// A new generation that replaces what is stored (`replaces`), beginning at `meta.base_offset`. One that is counted
    /// beside the live one takes its place with the flush that ends the rebuild.
    pub fn begin(
        rules: RulesBook,
        replaces: Expected,
        (generation, stage): (Generation, Stage),
        meta: Meta,
        sightings_max: usize,
    ) -> Self {
        let horizon = rules.live_horizon_max();
        LiveCounter {
            append: AppendTime::resume(meta.append_time),
            // The generation is drawn at random and known to nobody who sends clicks.
            ads: Ads::new(DedupKeys::new(generation.as_u128())),
            dedup: SlidingDedup::new(horizon, sightings_max),
            rules,
            generation,
            stage,
            stored: replaces,
            meta,
            counts: Counts::default(),
            late: HashMap::default(),
            dirty: Vec::new(),
            dirty_late: BTreeSet::new(),
            evicted_known: 0,
            last: None,
            sealed: Minute::of(Timestamp::MIN),
            #[cfg(feature = "bugs")]
            kept: kept::Kept::default(),
        }
    }

    /// Continues from what is stored. Dedup is empty: read the look-back with [`LiveCounter::remember`] first.
    pub fn resume(rules: RulesBook, loaded: Loaded, sightings_max: usize) -> Self {
        let stored = Expected::at(loaded.generation, &loaded.meta);
        let mut counter = Self::begin(rules, stored, (loaded.generation, loaded.stage), loaded.meta, sightings_max);
        for (key, clicks) in loaded.counts {
            let window = Window { minute: key.minute, class: key.class, ad: counter.ads.number_of(&key.ad) };
            counter.counts.insert(window, Count::stored(clicks));
        }
        counter.late.extend(loaded.late);
        #[cfg(feature = "bugs")]
        counter.take_what_was_kept();
        counter
    }

    pub fn meta(&self) -> &Meta {
        &self.meta
    }

    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Where the generation stands by the last flush that was stored.
    pub fn stage(&self) -> Stage {
        self.stage
    }

    pub fn watermark(&self) -> Timestamp {
        watermark(&self.rules, self.append.last())
    }

    /// Late counts of earlier nights can no longer change.
    pub fn open_night(&self) -> Day {
        self.rules.night_of(self.append.last())
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

    /// Takes records of the look-back (before the next offset) into dedup without counting them. `append` is the append
    /// time over the look-back; where that starts at the first record with a broker time at or after
    /// [`LiveCounter::look_back_from`], it equals the partition's own.
    pub fn remember(&mut self, records: &[Observed<'_>], append: &mut AppendTime) {
        let ControlFlow::Continue(()) = self.step_through(records, |counter, record, reading| {
            counter.remember_reading(reading, append.observe(record.broker_time));
            ControlFlow::<Infallible>::Continue(())
        });
    }

    #[inline]
    fn remember_reading(&mut self, reading: Reading<Sighted>, append_time: Timestamp) {
        // A generation that begins takes over the append time that the partition has reached; one that resumes knows it.
        self.meta.append_time = self.append.observe(append_time);
        if bugs::is_on(Bug::NoLookBack) || self.has_kept_dedup() {
            return;
        }
        if let Reading::Click(click) = reading {
            let rules = self.rules.on(click.event_time.day());
            // The judgement was made when the record was counted; only the sighting matters now.
            let _ = judge(rules, &mut self.dedup, click.key, click.event_time, append_time);
        }
        self.own_up_to_evictions(append_time);
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
        let reading = self.read(record);
        let verdict = self.observe_reading(record, reading)?;
        self.remember_last(record);
        Ok(verdict)
    }

    /// Judges the next records and counts them, until there are `changes_max` changes to flush or no more records.
    ///
    /// # Errors
    /// [`Gap`] when a record is not the next one; what precedes it was observed.
    pub fn observe_all(&mut self, records: &[Observed<'_>], changes_max: usize) -> Result<Observation, Gap> {
        let mut done = Observation::default();
        let end = self.step_through(records, |counter, record, reading| {
            match counter.observe_reading(record, reading) {
                Ok(Verdict::Rejected(rejection)) => done.rejected.push(rejection.code()),
                Ok(_) => {}
                Err(gap) => return ControlFlow::Break(Err(gap)),
            }
            done.observed += 1;
            if counter.changes() < changes_max { ControlFlow::Continue(()) } else { ControlFlow::Break(Ok(())) }
        });
        end.break_value().unwrap_or(Ok(()))?;
        if let Some(last) = done.observed.checked_sub(1) {
            self.remember_last(&records[last]);
        }
        Ok(done)
    }

    /// Takes the records through the steps to the last one, several at a time: what a step brings into the cache arrives
    /// while other records go through theirs.
    #[inline]
    fn step_through<'a, B>(
        &mut self,
        records: &[Observed<'a>],
        mut last_step: impl FnMut(&mut Self, &Observed<'a>, Reading<Sighted>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let mut chunks = records.chunks(AHEAD);
        let (mut few, mut parsed, mut readings) = (&records[..0], Vec::with_capacity(AHEAD), Vec::with_capacity(AHEAD));
        for _ in 0..=chunks.len() {
            let next = chunks.next().unwrap_or_default();
            chunks.clone().next().unwrap_or_default().iter().for_each(reading::touch_value);
            parsed.extend(next.iter().map(|record| self.parse(record)));
            parsed.iter().for_each(|parsed| self.touch_ad(parsed));
            for (record, reading) in few.iter().zip(readings.drain(..)) {
                last_step(self, record, reading)?;
            }
            readings.extend(parsed.drain(..).map(|parsed| self.look_up(parsed)));
            few = next;
        }
        ControlFlow::Continue(())
    }

    #[inline]
    fn observe_reading(&mut self, record: &Observed<'_>, reading: Reading<Sighted>) -> Result<Verdict, Gap> {
        if record.offset != self.meta.next_offset && !bugs::is_on(Bug::JumpsOverGap) {
            return Err(Gap { expected: self.meta.next_offset, found: record.offset });
        }
        let append_time = self.append.observe(record.broker_time);
        let verdict = self.judge(reading, append_time);
        self.meta.totals.seen += 1;
        self.meta.next_offset = record.offset.next();
        self.meta.append_time = append_time;
        self.own_up_to_evictions(append_time);
        self.meta.dedup_evicted += self.dedup.evicted() - self.evicted_known;
        self.evicted_known = self.dedup.evicted();
        Ok(verdict)
    }

    /// What was forgotten at `now` can be missed by a retry until a horizon later.
    #[inline]
    fn own_up_to_evictions(&mut self, now: Timestamp) {
        if self.dedup.evicted() > self.evicted_known {
            let last = now.max(self.dedup.forgotten_before());
            self.own_up(Interval::new(now, last + self.rules.live_horizon_max()));
        }
    }

    /// What is stored is an earlier state than was stored before.
    pub fn note_rollback(&mut self) {
        self.meta.rollbacks += 1;
    }

    /// The records from the next offset up to `to` fell off the log; they were appended in `appended`, and their retries
    /// will be taken for first sightings. Goes on at `to`, with an empty dedup.
    pub fn lose(&mut self, to: Offset, appended: Interval) {
        self.meta.lose(to, appended);
        self.last = None;
        self.own_up(Interval::new(appended.start, appended.end + self.rules.live_horizon_max()));
    }

    /// Sightings are missing that retries with these append times would need.
    pub fn own_up(&mut self, retries: Interval) {
        self.meta.drifted(retries);
    }

    #[cfg(not(feature = "bugs"))]
    const fn has_kept_dedup(&self) -> bool {
        false
    }

    /// The flush needs the fingerprint of its last record.
    fn remember_last(&mut self, record: &Observed<'_>) {
        self.last = Some(LastRecord {
            key: record.key.map(<[u8]>::to_vec),
            value: record.value.map(<[u8]>::to_vec),
            broker_time: record.broker_time,
        });
    }

    /// The verdict on the record, and its entry in the books.
    #[inline]
    fn judge(&mut self, reading: Reading<Sighted>, append_time: Timestamp) -> Verdict {
        let click = match reading {
            Reading::Control => {
                self.meta.totals.control += 1;
                return Verdict::Control;
            }
            Reading::Rejected(rejection) => return self.reject(rejection),
            Reading::Click(click) => click,
        };
        let rules = self.rules.on(click.event_time.day());
        let verdict = match judge(rules, &mut self.dedup, click.key, click.event_time, append_time) {
            Ok(judgement) => judgement.within(rules.live_horizon),
            Err(rejection) => return self.reject(rejection),
        };
        #[cfg(feature = "bugs")]
        let verdict = self.by_event_time(verdict, click.event_time);
        match verdict {
            Verdict::Counted => {
                self.meta.totals.counted += 1;
                self.enter_counted(click.window);
            }
            Verdict::Late => {
                self.meta.totals.late += 1;
                let key = LateKey { night: self.rules.night_of(append_time), count: self.key_of(click.window) };
                self.enter_late(key);
            }
            _ => self.meta.totals.duplicate += 1,
        }
        verdict
    }

    fn reject(&mut self, rejection: Rejection) -> Verdict {
        self.meta.totals.rejected += 1;
        Verdict::Rejected(rejection)
    }

    #[inline]
    fn enter_counted(&mut self, window: Window) {
        if window.minute.start() < self.meta.base_day.start() {
            self.meta.totals.expired += 1;
            return;
        }
        if self.counts.add(window) {
            self.dirty.push(window);
        }
    }

    fn enter_late(&mut self, key: LateKey) {
        if key.night < self.meta.base_night {
            self.meta.totals.late_expired += 1;
            return;
        }
        *self.late.entry(key.clone()).or_default() += 1;
        self.dirty_late.insert(key);
    }

    fn key_of(&self, window: Window) -> CountKey {
        CountKey { minute: window.minute, class: window.class, ad: self.ads.id(window.ad).clone() }
    }

    fn clicks_of(&self, window: Window) -> u64 {
        self.counts.get(window).expect("what is to be flushed was counted").clicks()
    }

    /// Ads come and go, and a flood of made-up ones must not stay: those that are counted now get new numbers.
    fn forget_ads(&mut self) {
        if self.ads.len() < 2 * self.counts.len() + ADS_KEPT {
            return;
        }
        let mut ads = self.ads.emptied();
        let mut counts = Counts::default();
        for (window, count) in self.counts.iter() {
            let ad = ads.number_of(self.ads.id(window.ad));
            counts.insert(Window { ad, ..window }, count);
        }
        (self.ads, self.counts) = (ads, counts);
    }

    /// Counts that the next flush would write.
    pub fn changes(&self) -> usize {
        self.dirty.len() + self.dirty_late.len()
    }

    /// True when something was observed since the last flush, if only a control record.
    pub fn has_news(&self) -> bool {
        self.stored != Expected::at(self.generation, &self.meta)
    }

    /// Everything observed since the last stored flush, as one atomic step. Calling it again gives the same step until
    /// [`LiveCounter::stored`] is told that it was applied.
    pub fn flush(&mut self) -> Flush {
        if let Some(last) = self.last.take() {
            self.meta.fingerprint = wire::fingerprint(last.key.as_deref(), last.value.as_deref(), last.broker_time);
        }
        // Writers want the windows of an hour together.
        self.dirty.sort_unstable();
        Flush {
            expected: self.stored,
            generation: self.generation,
            stage: if self.meta.is_rebuilding() { self.stage } else { Stage::Live },
            meta: self.meta.clone(),
            counts: self.dirty.iter().map(|window| (self.key_of(*window), self.clicks_of(*window))).collect(),
            late: self.dirty_late.iter().map(|key| (key.clone(), self.late[key])).collect(),
            drop_hours: Vec::new(),
            drop_nights: Vec::new(),
        }
    }

    /// The flush was applied: what was dirty is stored, and counts that can no longer change are dropped from memory.
    pub fn stored(&mut self) {
        self.stored = Expected::at(self.generation, &self.meta);
        if !self.meta.is_rebuilding() {
            self.stage = Stage::Live;
        }
        for window in self.dirty.drain(..) {
            self.counts.clean(window);
        }
        self.dirty_late.clear();
        let early = if bugs::is_on(Bug::SealsEarly) { Span::minutes(1) } else { Span::ZERO };
        let sealed = Minute::of(self.watermark() + early);
        if sealed > self.sealed {
            self.sealed = sealed;
            self.counts.seal(sealed);
            self.forget_ads();
        }
        let night = self.open_night();
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
        self.append.last() > Timestamp::MIN && base_day <= self.watermark().day() && base_night <= self.open_night()
    }
}

/// Every hour of the days `[from, to)`.
pub fn hours_of(from: Day, to: Day) -> Vec<Hour> {
    Hour::touched_by(Interval::new(from.start(), to.start())).collect()
}

#[cfg(test)]
mod tests;
