//! One partition in memory: what is live, and how to take the last flushes back.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::Hash;

use clicks::live::{CountKey, Expected, Flush, FlushOutcome, Generation, LateKey, Meta};
use clicks::time::Day;
use clicks::window::Hour;

use crate::store::LiveSlice;
use crate::store::scope::Scope;

/// Flushes that can be taken back.
const HISTORY_MAX: usize = 64;

/// Numbers in a flush are below it, so that no sum of two of them overflows anywhere.
const NUMBER_LIMIT: u64 = 1 << 62;

#[derive(Debug, Clone, Default)]
pub(super) struct Partition {
    live: Option<Stored>,
    /// Generations that were replaced; Redis still holds their keys.
    retired: BTreeSet<Generation>,
    /// What each of the last flushes replaced, newest last.
    history: VecDeque<Undo>,
}

/// One generation.
#[derive(Debug, Clone)]
struct Stored {
    generation: Generation,
    meta: Meta,
    hours: BTreeMap<Hour, HashMap<CountKey, u64>>,
    nights: BTreeMap<Day, HashMap<LateKey, u64>>,
}

#[derive(Debug, Clone)]
enum Undo {
    /// The flush began a generation in the place of this one.
    Generation(Box<Option<Stored>>),
    /// The flush went on with the generation that was live.
    Step(Box<Step>),
}

/// What a flush replaced; `None` where there was nothing.
#[derive(Debug, Clone)]
struct Step {
    meta: Meta,
    counts: Vec<(CountKey, Option<u64>)>,
    late: Vec<(LateKey, Option<u64>)>,
    hours: Vec<(Hour, HashMap<CountKey, u64>)>,
    nights: Vec<(Day, HashMap<LateKey, u64>)>,
}

impl Partition {
    /// Compare, validate, write.
    ///
    /// # Errors
    /// What is wrong with the flush; nothing has changed then.
    pub(super) fn flush(&mut self, flush: &Flush) -> Result<FlushOutcome, String> {
        if !self.is_as_expected(flush) {
            let found = self.live.as_ref().map(|live| (live.generation, live.meta.next_offset));
            return Ok(FlushOutcome::Mismatch { found });
        }
        validate(flush)?;
        let undo = match self.live.take() {
            Some(mut live) if live.generation == flush.generation => {
                let undo = Undo::Step(Box::new(live.apply(flush)));
                self.live = Some(live);
                undo
            }
            before if self.retired.contains(&flush.generation) => {
                self.live = before;
                return Err(format!("generation {} is not new", flush.generation));
            }
            before => {
                self.retired.extend(before.as_ref().map(|stored| stored.generation));
                let mut begun = Stored::new(flush.generation, flush.meta.clone());
                begun.apply(flush);
                self.live = Some(begun);
                Undo::Generation(Box::new(before))
            }
        };
        self.history.push_back(undo);
        if self.history.len() > HISTORY_MAX {
            self.history.pop_front();
        }
        Ok(FlushOutcome::Applied)
    }

    fn is_as_expected(&self, flush: &Flush) -> bool {
        match (&self.live, flush.expected) {
            (None, Expected::Nothing) => true,
            (Some(live), Expected::At { generation, next_offset }) => {
                (live.generation, live.meta.next_offset) == (generation, next_offset)
                    && (live.generation != flush.generation || !misses_an_expiry(&live.meta, &flush.meta))
            }
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

    pub(super) fn select(&self, scope_of: impl FnOnce(&Meta) -> Scope) -> Option<LiveSlice> {
        let live = self.live.as_ref()?;
        let scope = scope_of(&live.meta);
        let hours = live.hours.values().flatten().filter(|(key, _)| scope.holds(key));
        let nights = live.nights.values().flatten().filter(|(key, _)| scope.holds_late(key));
        Some(LiveSlice {
            generation: live.generation,
            meta: live.meta.clone(),
            counts: hours.map(|(key, count)| (key.clone(), *count)).collect(),
            late: nights.map(|(key, count)| (key.clone(), *count)).collect(),
        })
    }
}

impl Stored {
    fn new(generation: Generation, meta: Meta) -> Self {
        Stored { generation, meta, hours: BTreeMap::new(), nights: BTreeMap::new() }
    }

    fn apply(&mut self, flush: &Flush) -> Step {
        let hours = flush.drop_hours.iter().filter_map(|hour| self.hours.remove_entry(hour)).collect();
        let nights = flush.drop_nights.iter().filter_map(|night| self.nights.remove_entry(night)).collect();
        let meta = std::mem::replace(&mut self.meta, flush.meta.clone());
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
