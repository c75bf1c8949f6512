//! One partition in memory: what is live, and how to take the last flushes back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;

use clicks::keyspace::KeyspaceError;
use clicks::live::{CountKey, Expected, Flush, FlushOutcome, Generation, LateKey, Meta};
use clicks::position::{Offset, PartitionId};
use clicks::time::Day;
use clicks::window::Hour;

use crate::store::scope::Scope;
use crate::store::{LiveSlice, StoreError};

/// Flushes that can be taken back.
const HISTORY_MAX: usize = 64;

/// Numbers in a flush are below it, so that no sum of two of them overflows anywhere.
const NUMBER_LIMIT: u64 = 1 << 62;

#[derive(Debug, Clone, Default)]
pub(super) struct Partition {
    live: Option<Stored>,
    /// Generations that were replaced and not swept yet, with the number of keys that Redis holds of each.
    retired: BTreeMap<Generation, u64>,
    /// What each of the last flushes replaced, newest last.
    history: VecDeque<Undo>,
}

/// One generation.
#[derive(Debug, Clone)]
struct Stored {
    generation: Generation,
    /// `None` once it was lost.
    meta: Option<Meta>,
    hours: BTreeMap<Hour, HashMap<CountKey, u64>>,
    nights: BTreeMap<Day, HashMap<LateKey, u64>>,
}

/// Why a flush changed nothing.
#[derive(Debug)]
pub(super) enum Refusal {
    Malformed(String),
    Damaged(Damage),
}

/// The meta record of this generation is lost.
#[derive(Debug)]
pub(super) struct Damage(Generation);

impl Damage {
    pub(super) fn in_partition(self, partition: &PartitionId) -> StoreError {
        let source = Box::new(KeyspaceError::MissingField("version"));
        StoreError::Content { partition: partition.clone(), generation: Some(self.0), source }
    }
}

#[derive(Debug, Clone)]
enum Undo {
    /// The flush began a generation in the place of this one.
    Generation(Box<Option<Stored>>),
    /// The flush went on with the generation that was live.
    Step(Box<Step>),
    /// It was no flush: these generations were swept.
    Sweep(BTreeMap<Generation, u64>),
}

/// What a flush replaced; `None` where there was nothing.
#[derive(Debug, Clone)]
struct Step {
    meta: Option<Meta>,
    counts: Vec<(CountKey, Option<u64>)>,
    late: Vec<(LateKey, Option<u64>)>,
    hours: Vec<(Hour, HashMap<CountKey, u64>)>,
    nights: Vec<(Day, HashMap<LateKey, u64>)>,
}

impl Partition {
    /// Compare, validate, write.
    ///
    /// # Errors
    /// What is wrong with the flush, or with what is stored; nothing has changed then.
    pub(super) fn flush(&mut self, flush: &Flush, overlooks_expiries: bool) -> Result<FlushOutcome, Refusal> {
        if !self.is_as_expected(flush, overlooks_expiries) {
            let found = self.live.as_ref().map(Stored::position).transpose().map_err(Refusal::Damaged)?;
            return Ok(FlushOutcome::Mismatch { found });
        }
        validate(flush).map_err(Refusal::Malformed)?;
        let undo = match self.live.take() {
            Some(live) if live.generation == flush.generation && matches!(flush.expected, Expected::Damaged { .. }) => {
                self.live = Some(live);
                let what = format!("generation {} is damaged and is not gone on with", flush.generation);
                return Err(Refusal::Malformed(what));
            }
            Some(mut live) if live.generation == flush.generation => {
                let undo = Undo::Step(Box::new(live.apply(flush)));
                self.live = Some(live);
                undo
            }
            before if self.retired.contains_key(&flush.generation) => {
                self.live = before;
                return Err(Refusal::Malformed(format!("generation {} is not new", flush.generation)));
            }
            before => {
                self.retired.extend(before.as_ref().map(|stored| (stored.generation, stored.keys())));
                let mut begun = Stored::new(flush.generation, flush.meta.clone());
                begun.apply(flush);
                self.live = Some(begun);
                Undo::Generation(Box::new(before))
            }
        };
        self.remember(undo);
        Ok(FlushOutcome::Applied)
    }

    fn remember(&mut self, undo: Undo) {
        self.history.push_back(undo);
        if self.history.len() > HISTORY_MAX {
            self.history.pop_front();
        }
    }

    fn is_as_expected(&self, flush: &Flush, overlooks_expiries: bool) -> bool {
        match (&self.live, flush.expected) {
            (None, Expected::Nothing) => true,
            (Some(live), Expected::At { generation, next_offset }) => live.meta.as_ref().is_some_and(|meta| {
                (live.generation, meta.next_offset) == (generation, next_offset)
                    && (live.generation != flush.generation || overlooks_expiries || !misses_an_expiry(meta, &flush.meta))
            }),
            (Some(live), Expected::Damaged { generation }) => generation == Some(live.generation),
            _ => false,
        }
    }

    pub(super) fn rollback(&mut self, flushes: usize) -> usize {
        let mut taken_back = 0;
        while taken_back < flushes {
            match self.history.pop_back() {
                None => break,
                Some(Undo::Generation(before)) => {
                    if let Some(before) = &*before {
                        self.retired.remove(&before.generation);
                    }
                    self.live = *before;
                }
                Some(Undo::Sweep(swept)) => {
                    self.retired.extend(swept);
                    continue;
                }
                Some(Undo::Step(step)) => {
                    if let Some(live) = &mut self.live {
                        live.take_back(*step);
                    }
                }
            }
            taken_back += 1;
        }
        taken_back
    }

    pub(super) fn delete_count(&mut self, key: &CountKey) -> bool {
        let Some(live) = &mut self.live else { return false };
        live.hours.get_mut(&key.minute.hour()).is_some_and(|hour| hour.remove(key).is_some())
    }

    pub(super) fn delete_hour(&mut self, hour: Hour) -> bool {
        self.live.as_mut().is_some_and(|live| live.hours.remove(&hour).is_some())
    }

    pub(super) fn delete_meta(&mut self) -> bool {
        self.live.as_mut().is_some_and(|live| live.meta.take().is_some())
    }

    pub(super) fn leftovers(&self) -> u64 {
        self.retired.values().sum()
    }

    pub(super) fn sweep(&mut self) -> u64 {
        let (keys, swept) = (self.leftovers(), std::mem::take(&mut self.retired));
        if !swept.is_empty() {
            self.remember(Undo::Sweep(swept));
        }
        keys
    }

    pub(super) fn select(&self, scope_of: impl FnOnce(&Meta) -> Scope) -> Result<Option<LiveSlice>, Damage> {
        let Some(live) = &self.live else { return Ok(None) };
        let meta = live.meta()?;
        let scope = scope_of(meta);
        // A scrub asks for one hour after the other, of what may be millions of counts.
        let hours = live.hours.iter().filter(|(hour, _)| scope.touches(**hour)).flat_map(|(_, counts)| counts);
        let hours = hours.filter(|(key, _)| scope.holds(key));
        let nights = live.nights.values().flatten().filter(|(key, _)| scope.holds_late(key));
        Ok(Some(LiveSlice {
            generation: live.generation,
            meta: meta.clone(),
            counts: hours.map(|(key, count)| (key.clone(), *count)).collect(),
            late: nights.map(|(key, count)| (key.clone(), *count)).collect(),
        }))
    }
}

impl Stored {
    fn new(generation: Generation, meta: Meta) -> Self {
        Stored { generation, meta: Some(meta), hours: BTreeMap::new(), nights: BTreeMap::new() }
    }

    fn meta(&self) -> Result<&Meta, Damage> {
        self.meta.as_ref().ok_or(Damage(self.generation))
    }

    fn position(&self) -> Result<(Generation, Offset), Damage> {
        Ok((self.generation, self.meta()?.next_offset))
    }

    /// As many as Redis would hold of it.
    fn keys(&self) -> u64 {
        u64::from(self.meta.is_some()) + self.hours.len() as u64 + self.nights.len() as u64
    }

    fn apply(&mut self, flush: &Flush) -> Step {
        let hours = flush.drop_hours.iter().filter_map(|hour| self.hours.remove_entry(hour)).collect();
        let nights = flush.drop_nights.iter().filter_map(|night| self.nights.remove_entry(night)).collect();
        let meta = self.meta.replace(flush.meta.clone());
        let mut counts = Vec::with_capacity(flush.counts.len());
        for (key, count) in &flush.counts {
            let before = self.hours.entry(key.minute.hour()).or_default().insert(key.clone(), *count);
            counts.push((key.clone(), before));
        }
        let mut late = Vec::with_capacity(flush.late.len());
        for (key, count) in &flush.late {
            let before = self.nights.entry(key.night).or_default().insert(key.clone(), *count);
            late.push((key.clone(), before));
        }
        Step { meta, counts, late, hours, nights }
    }

    fn take_back(&mut self, step: Step) {
        // Backwards, should a flush have named a count twice.
        for (key, before) in step.counts.into_iter().rev() {
            set(self.hours.entry(key.minute.hour()).or_default(), key, before);
        }
        for (key, before) in step.late.into_iter().rev() {
            set(self.nights.entry(key.night).or_default(), key, before);
        }
        self.hours.extend(step.hours);
        self.nights.extend(step.nights);
        self.meta = step.meta;
    }
}

fn set<K: Hash + Eq>(counts: &mut HashMap<K, u64>, key: K, count: Option<u64>) {
    match count {
        Some(count) => _ = counts.insert(key, count),
        None => _ = counts.remove(&key),
    }
}

/// Its writer worked on a meta record of before an expiry, which moves no offset.
fn misses_an_expiry(stored: &Meta, given: &Meta) -> bool {
    given.base_day < stored.base_day
        || given.base_night < stored.base_night
        || given.totals.expired < stored.totals.expired
        || given.totals.late_expired < stored.totals.late_expired
}

fn validate(flush: &Flush) -> Result<(), String> {
    let (meta, totals) = (&flush.meta, &flush.meta.totals);
    let mut numbers = vec![meta.next_offset.value(), meta.base_offset.value(), meta.rebuilding_until.value()];
    numbers.extend([meta.dedup_evicted, totals.seen, totals.control, totals.rejected, totals.duplicate]);
    numbers.extend([totals.late, totals.counted, totals.expired, totals.late_expired]);
    let counts = flush.counts.iter().map(|(_, count)| *count);
    let late = flush.late.iter().map(|(_, count)| *count);
    if let Some(number) = numbers.into_iter().chain(counts).chain(late).find(|number| *number >= NUMBER_LIMIT) {
        return Err(format!("{number} is no number below 2^62"));
    }
    if let Some((key, _)) = flush.counts.iter().find(|(key, _)| flush.drop_hours.contains(&key.minute.hour())) {
        return Err(format!("hour {} is both written and dropped", key.minute.hour().number()));
    }
    if let Some((key, _)) = flush.late.iter().find(|(key, _)| flush.drop_nights.contains(&key.night)) {
        return Err(format!("night {} is both written and dropped", key.night));
    }
    Ok(())
}
