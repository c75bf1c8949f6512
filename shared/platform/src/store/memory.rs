//! The speed store in memory: the embedded default of `twofold demo`, and the ground of the simulation.
//!
//! Beside the port it has the accidents that a real server has, each under a name of its own: a rollback, a lost reply,
//! a flushed server, a lost key, an outage.

mod partition;

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use clicks::live::{CountKey, Flush, FlushOutcome, Loaded};
use clicks::position::PartitionId;
use clicks::rules::RulesBook;
use clicks::window::Hour;

use self::partition::{Partition, Refusal};
use super::scope::Scope;
use super::step::{refused, validate};
use super::{CHANGES_MAX, Changes, LiveQuery, LiveSlice, Mark, Part, SpeedStore, StoreError, Whose};

/// Live counts of all partitions, in this process.
#[derive(Debug, Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    partitions: HashMap<PartitionId, Partition>,
    away: bool,
    evicts: bool,
    overlooks_expiries: bool,
    failures: usize,
    lose_reply: bool,
    /// Flushes so far, those that were taken back included.
    flushes: u64,
}

/// Everything that was stored at one moment; see [`MemoryStore::snapshot`].
#[derive(Debug, Clone)]
pub struct Snapshot(HashMap<PartitionId, Partition>);

impl MemoryStore {
    /// An empty store.
    pub fn new() -> Self {
        Self::default()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic elsewhere cannot leave a half-made step: steps are validated before they begin.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The state, unless an outage is being played.
    fn enter(&self) -> Result<MutexGuard<'_, State>, StoreError> {
        let mut state = self.lock();
        if state.away {
            return Err(StoreError::Unavailable("the store in memory plays an outage".to_owned()));
        }
        if state.failures > 0 {
            state.failures -= 1;
            return Err(StoreError::Unavailable("the store in memory plays a failure".to_owned()));
        }
        Ok(state)
    }
}

/// Accidents.
impl MemoryStore {
    /// Takes back the last `flushes` flushes of one partition, counts and position together, as a failover to a lagging
    /// replica does. Returns how many were taken back: the store remembers the last 64 of each partition.
    pub fn rollback(&self, partition: &PartitionId, flushes: usize) -> usize {
        self.lock().partitions.get_mut(partition).map_or(0, |stored| stored.rollback(flushes))
    }

    /// A copy of everything, as a backup is.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot(self.lock().partitions.clone())
    }

    /// Replaces everything by what it was when the snapshot was taken.
    pub fn restore(&self, snapshot: &Snapshot) {
        self.lock().partitions = snapshot.0.clone();
    }

    /// FLUSHALL.
    pub fn flush_all(&self) {
        self.lock().partitions.clear();
    }

    /// Loses one live count and nothing else. True when there was one.
    pub fn delete_count(&self, partition: &PartitionId, key: &CountKey) -> bool {
        self.lock().partitions.get_mut(partition).is_some_and(|stored| stored.delete_count(key))
    }

    /// Loses all live counts of one hour and nothing else: what a single deleted or evicted key of Redis is. True when
    /// there were any.
    pub fn delete_hour(&self, partition: &PartitionId, hour: Hour) -> bool {
        self.lock().partitions.get_mut(partition).is_some_and(|stored| stored.delete_hour(hour))
    }

    /// Loses the meta record of the live generation and nothing else. True when there was one.
    pub fn delete_meta(&self, partition: &PartitionId) -> bool {
        self.lock().partitions.get_mut(partition).is_some_and(Partition::delete_meta)
    }

    /// Keys of replaced generations that were not swept yet.
    pub fn leftovers(&self, partition: &PartitionId) -> u64 {
        self.lock().partitions.get(partition).map_or(0, Partition::leftovers)
    }

    /// The next flush that is carried out is answered with [`StoreError::Unavailable`] although it was applied.
    pub fn lose_next_reply(&self) {
        self.lock().lose_reply = true;
    }

    /// The next `operations` operations do nothing and fail.
    pub fn fail_next(&self, operations: usize) {
        self.lock().failures = operations;
    }

    /// Somebody changes the server's setting, so that it may drop counts when its memory is full.
    pub fn let_evict(&self, evicts: bool) {
        self.lock().evicts = evicts;
    }

    /// From now on its flushes compare no expiries, as a script would that forgets to.
    pub fn overlook_expiries(&self, overlooks: bool) {
        self.lock().overlooks_expiries = overlooks;
    }

    /// While it is away every operation does nothing and fails.
    pub fn go_away(&self, away: bool) {
        self.lock().away = away;
    }
}

#[async_trait]
impl SpeedStore for MemoryStore {
    fn max_changes(&self) -> usize {
        CHANGES_MAX
    }

    async fn load(&self, partition: &PartitionId, rules: &RulesBook) -> Result<Option<Loaded>, StoreError> {
        let state = self.enter()?;
        let Some(stored) = state.partitions.get(partition) else { return Ok(None) };
        let slice = stored.select(Whose::Current, |meta| Scope::to_load(meta, rules));
        Ok(slice.map_err(|damage| damage.in_partition(partition))?.map(LiveSlice::into_loaded))
    }

    async fn flush(&self, partition: &PartitionId, flush: &Flush) -> Result<FlushOutcome, StoreError> {
        validate(partition, flush)?;
        let mut state = self.enter()?;
        let overlooks = state.overlooks_expiries;
        state.flushes += 1;
        let number = state.flushes;
        // Nothing is stored of a partition whose first flush is refused.
        let outcome = match state.partitions.get_mut(partition) {
            Some(stored) => stored.flush(flush, number, overlooks),
            None => {
                let mut stored = Partition::default();
                let outcome = stored.flush(flush, number, overlooks);
                if matches!(outcome, Ok(FlushOutcome::Applied)) {
                    state.partitions.insert(partition.clone(), stored);
                }
                outcome
            }
        };
        let outcome = outcome.map_err(|refusal| match refusal {
            Refusal::Malformed(what) => refused(partition, &what),
            Refusal::Damaged(damage) => damage.in_partition(partition),
        })?;
        if outcome == FlushOutcome::Applied && std::mem::take(&mut state.lose_reply) {
            return Err(StoreError::Unavailable("the store in memory plays a lost reply".to_owned()));
        }
        Ok(outcome)
    }

    async fn read(&self, partition: &PartitionId, query: &LiveQuery) -> Result<Option<LiveSlice>, StoreError> {
        let state = self.enter()?;
        let Some(stored) = state.partitions.get(partition) else { return Ok(None) };
        stored.select(Whose::Live, |meta| Scope::to_read(meta, query)).map_err(|damage| damage.in_partition(partition))
    }

    async fn read_part(&self, partition: &PartitionId, part: &Part) -> Result<Option<LiveSlice>, StoreError> {
        let state = self.enter()?;
        let Some(stored) = state.partitions.get(partition) else { return Ok(None) };
        stored.select(Whose::Live, |meta| Scope::to_part(meta, part)).map_err(|damage| damage.in_partition(partition))
    }

    async fn read_changes(&self, partition: &PartitionId, since: Option<&Mark>) -> Result<Option<Changes>, StoreError> {
        let state = self.enter()?;
        let Some(stored) = state.partitions.get(partition) else { return Ok(None) };
        stored.changes(since).map_err(|damage| damage.in_partition(partition))
    }

    async fn sweep(&self, partition: &PartitionId) -> Result<u64, StoreError> {
        Ok(self.enter()?.partitions.get_mut(partition).map_or(0, Partition::sweep))
    }

    async fn check(&self) -> Result<(), StoreError> {
        if self.enter()?.evicts {
            let (found, mend) = ("allkeys-lru".to_owned(), "play no evictions");
            return Err(StoreError::Setting { setting: "maxmemory-policy", found, wanted: "noeviction", mend });
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
