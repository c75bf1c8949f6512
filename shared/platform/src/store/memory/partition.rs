//! One partition in memory: what is live, and how to take the last flushes back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::Arc;

use clicks::keyspace::KeyspaceError;
use clicks::live::{CountKey, Expected, Flush, FlushOutcome, Generation, LateKey, Meta, Stage};
use clicks::position::{Offset, PartitionId};
use clicks::time::Day;
use clicks::window::Hour;

use crate::store::scope::Scope;
use crate::store::{Changes, LiveSlice, Mark, Reached, StoreError, Whose, changes_kept, reached};

/// Flushes that can be taken back.
const HISTORY_MAX: usize = 64;

#[derive(Debug, Clone, Default)]
pub(super) struct Partition {
    live: Option<Stored>,
    /// What is counted to take its place.
    building: Option<Stored>,
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
    /// What was last written, oldest first.
    changes: Vec<Arc<Change>>,
}

/// What one flush has written.
#[derive(Debug, Clone)]
struct Change {
    /// That of no other flush, whatever is taken back.
    number: u64,
    counts: Vec<(CountKey, u64)>,
    late: Vec<(LateKey, u64)>,
    reached: Reached,
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
    /// The flush began a generation; these were the live one and the one that was counted beside it.
    Begin(Box<(Option<Stored>, Option<Stored>)>),
    /// The flush went on with the current generation.
    Step(Box<Step>),
    /// It went on as well, and put the generation in the place of this one.
    Switch(Box<(Step, Option<Stored>)>),
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
    changes: Vec<Arc<Change>>,
}

impl Partition {
    /// Compare and write; the flush was validated before, and its number is that of no other one.
    ///
    /// # Errors
    /// What is wrong with the flush here, or with what is stored; nothing has changed then.
    pub(super) fn flush(
        &mut self,
        flush: &Flush,
        number: u64,
        overlooks_expiries: bool,
    ) -> Result<FlushOutcome, Refusal> {
        if !self.is_as_expected(flush, overlooks_expiries) {
            let found = self.current().map(Stored::position).transpose().map_err(Refusal::Damaged)?;
            return Ok(FlushOutcome::Mismatch { found });
        }
        let undo = match self.current() {
            Some(current) if current.generation == flush.generation => self.go_on(flush, number)?,
            _ => self.begin(flush, number)?,
        };
        self.remember(undo);
        Ok(FlushOutcome::Applied)
    }

    fn begin(&mut self, flush: &Flush, number: u64) -> Result<Undo, Refusal> {
        let is_known = |stored: &Option<Stored>| stored.as_ref().is_some_and(|s| s.generation == flush.generation);
        if self.retired.contains_key(&flush.generation) || is_known(&self.live) {
            return Err(Refusal::Malformed(format!("generation {} is not new", flush.generation)));
        }
        let before = (self.live.clone(), self.building.take());
        let mut begun = Stored::new(flush.generation, flush.meta.clone());
        begun.apply(flush, number);
        self.retire(before.1.as_ref());
        match flush.stage {
            Stage::Beside => self.building = Some(begun),
            Stage::Live => {
                self.retire(before.0.as_ref());
                self.live = Some(begun);
            }
        }
        Ok(Undo::Begin(Box::new(before)))
    }

    fn go_on(&mut self, flush: &Flush, number: u64) -> Result<Undo, Refusal> {
        let refused = |what| Err(Refusal::Malformed(format!("generation {} is {what}", flush.generation)));
        if matches!(flush.expected, Expected::Damaged { .. }) {
            return refused("damaged and is not gone on with");
        }
        match (&mut self.building, &mut self.live) {
            (Some(building), _) => {
                let step = building.apply(flush, number);
                if flush.stage == Stage::Beside {
                    return Ok(Undo::Step(Box::new(step)));
                }
                let before = std::mem::replace(&mut self.live, self.building.take());
                self.retire(before.as_ref());
                Ok(Undo::Switch(Box::new((step, before))))
            }
            (None, _) if flush.stage == Stage::Beside => refused("live and does not go back beside another one"),
            (None, Some(live)) => Ok(Undo::Step(Box::new(live.apply(flush, number)))),
            (None, None) => unreachable!("the caller found it"),
        }
    }

    fn retire(&mut self, replaced: Option<&Stored>) {
        self.retired.extend(replaced.map(|stored| (stored.generation, stored.keys())));
    }

    fn current(&self) -> Option<&Stored> {
        self.building.as_ref().or(self.live.as_ref())
    }

    fn remember(&mut self, undo: Undo) {
        self.history.push_back(undo);
        if self.history.len() > HISTORY_MAX {
            self.history.pop_front();
        }
    }

    fn is_as_expected(&self, flush: &Flush, overlooks_expiries: bool) -> bool {
        match (self.current(), flush.expected) {
            (None, Expected::Nothing) => true,
            (Some(current), Expected::At { generation, next_offset, lost }) => {
                current.meta.as_ref().is_some_and(|meta| {
                    (current.generation, meta.next_offset, meta.lost.records) == (generation, next_offset, lost)
                        && (current.generation != flush.generation
                            || overlooks_expiries
                            || !misses_an_expiry(meta, &flush.meta))
                })
            }
            (Some(current), Expected::Damaged { generation }) => generation == Some(current.generation),
            _ => false,
        }
    }

    pub(super) fn rollback(&mut self, flushes: usize) -> usize {
        let mut taken_back = 0;
        while taken_back < flushes {
            match self.history.pop_back() {
                None => break,
                Some(Undo::Begin(before)) => {
                    (self.live, self.building) = *before;
                    self.unretire();
                }
                Some(Undo::Switch(before)) => {
                    let (step, live) = *before;
                    self.building = std::mem::replace(&mut self.live, live);
                    self.unretire();
                    self.take_back(step);
                }
                Some(Undo::Step(step)) => self.take_back(*step),
                Some(Undo::Sweep(swept)) => {
                    self.retired.extend(swept);
                    continue;
                }
            }
            taken_back += 1;
        }
        taken_back
    }

    /// Accidents may have left nothing to take back.
    fn take_back(&mut self, step: Step) {
        if let Some(current) = self.building.as_mut().or(self.live.as_mut()) {
            current.take_back(step);
        }
    }

    /// What is there again is not retired any more.
    fn unretire(&mut self) {
        for stored in self.live.iter().chain(&self.building) {
            self.retired.remove(&stored.generation);
        }
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

    pub(super) fn changes(&self, since: Option<&Mark>) -> Result<Option<Changes>, Damage> {
        let Some(live) = &self.live else { return Ok(None) };
        let meta = live.meta()?;
        let Some(last) = live.changes.last() else { return Ok(None) };
        let seen = match since {
            None => live.changes.len() - 1,
            Some(mark) => match live.changes.iter().position(|change| live.mark(change) == *mark) {
                Some(seen) => seen,
                None => return Ok(None),
            },
        };
        let unseen = &live.changes[seen + 1..];
        let slice = LiveSlice {
            generation: live.generation,
            meta: meta.clone(),
            is_in_doubt: self.building.is_some(),
            counts: unseen.iter().flat_map(|change| change.counts.iter().cloned()).collect(),
            late: unseen.iter().flat_map(|change| change.late.iter().cloned()).collect(),
        };
        let reached = live.changes[seen..].iter().map(|change| change.reached).collect();
        Ok(Some(Changes { slice, mark: live.mark(last), reached }))
    }

    pub(super) fn select(
        &self,
        whose: Whose,
        scope_of: impl FnOnce(&Meta) -> Scope,
    ) -> Result<Option<LiveSlice>, Damage> {
        let stored = match whose {
            Whose::Live => self.live.as_ref(),
            Whose::Current => self.current(),
        };
        let Some(stored) = stored else { return Ok(None) };
        let meta = stored.meta()?;
        let scope = scope_of(meta);
        // A scrub asks for one hour after the other, of what may be millions of counts.
        let hours = stored.hours.iter().filter(|(hour, _)| scope.touches(**hour)).flat_map(|(_, counts)| counts);
        let hours = hours.filter(|(key, _)| scope.holds(key));
        let nights = stored.nights.values().flatten().filter(|(key, _)| scope.holds_late(key));
        Ok(Some(LiveSlice {
            generation: stored.generation,
            meta: meta.clone(),
            is_in_doubt: self.building.is_some(),
            counts: hours.map(|(key, count)| (key.clone(), *count)).collect(),
            late: nights.map(|(key, count)| (key.clone(), *count)).collect(),
        }))
    }
}

impl Stored {
    fn new(generation: Generation, meta: Meta) -> Self {
        let (hours, nights) = (BTreeMap::new(), BTreeMap::new());
        Stored { generation, meta: Some(meta), hours, nights, changes: Vec::new() }
    }

    /// Behind a flush.
    fn mark(&self, change: &Change) -> Mark {
        Mark { generation: self.generation, id: (change.number, 0), reached: change.reached }
    }

    fn meta(&self) -> Result<&Meta, Damage> {
        self.meta.as_ref().ok_or(Damage(self.generation))
    }

    fn position(&self) -> Result<(Generation, Offset), Damage> {
        Ok((self.generation, self.meta()?.next_offset))
    }

    /// As many as Redis would hold of it.
    fn keys(&self) -> u64 {
        // The stream of changes is one.
        1 + u64::from(self.meta.is_some()) + self.hours.len() as u64 + self.nights.len() as u64
    }

    fn apply(&mut self, flush: &Flush, number: u64) -> Step {
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
        let changes = self.changes.clone();
        let change =
            Change { number, counts: flush.counts.clone(), late: flush.late.clone(), reached: reached(&flush.meta) };
        self.changes.push(Arc::new(change));
        // Two entries each, where they are entries.
        let kept = changes_kept(flush.counts.len() + flush.late.len()) / 2;
        self.changes.drain(..self.changes.len().saturating_sub(kept));
        Step { meta, counts, late, hours, nights, changes }
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
        self.changes = step.changes;
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
