//! The log in memory: the whole contract of the port in one process, and what only a simulation can ask for.
//!
//! Append times are read from the clock that it is given, so with a simulated one a run is the same every time. A record
//! takes what its parts take and 104 bytes, and 56 for each header; [`MemoryLog::delete_records`] gives them back.
//!
//! Nothing is held across an await, and readers sleep until something happens to their partition.

mod group;

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use clicks::id::{Region, TopicId};
use clicks::partitioner::partition_of;
use clicks::position::Offset;
use clicks::time::{Span, Timestamp};
use tokio::sync::Notify;

use super::{
    Appended, Bounds, Header, Log, LogError, LogRecord, Membership, NewRecord, RECORD_LENGTH_MAX, Reader, Target,
    Topic, deadline,
};
use crate::clock::Clock;
use group::{Groups, MemoryMembership};

const _: () = assert!(size_of::<LogRecord>() <= 104 && size_of::<Header>() <= 56);

/// A topic in memory. Clones are handles of the same topic.
#[derive(Clone)]
pub struct MemoryLog {
    shared: Arc<Shared>,
}

/// How an append fails that is told to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AppendFault {
    /// Nothing is written.
    Refused,
    /// The record is written, but who appended it does not learn so.
    LostReply,
}

struct Shared {
    region: Region,
    name: String,
    clock: Arc<dyn Clock>,
    life: RwLock<Arc<Life>>,
    others: Mutex<BTreeMap<String, TopicId>>,
    faults: Mutex<VecDeque<AppendFault>>,
    groups: Arc<Groups>,
}

/// One life of the topic.
struct Life {
    id: TopicId,
    partitions: Vec<Partition>,
}

#[derive(Default)]
struct Partition {
    content: Mutex<Content>,
    changed: Notify,
}

#[derive(Default)]
struct Content {
    /// Offset of the front of `records`.
    first: Offset,
    records: VecDeque<LogRecord>,
    skew: Span,
}

impl Content {
    fn bounds(&self) -> Bounds {
        Bounds { first: self.first, end: self.first.plus(self.records.len() as u64) }
    }

    /// Up to `max` records of up to `bytes` from `next` on; `None` when `next` is not on the log.
    fn read(&self, next: Offset, max: usize, bytes: usize) -> Option<Vec<LogRecord>> {
        let Bounds { first, end } = self.bounds();
        if next < first || next > end {
            return None;
        }
        let start = next.distance_from(first) as usize;
        let stop = start.saturating_add(max).min(self.records.len());
        let mut records = Vec::new();
        let mut left = bytes;
        for record in self.records.range(start..stop) {
            match left.checked_sub(record.length()) {
                None if !records.is_empty() => break,
                rest => left = rest.unwrap_or(0),
            }
            records.push(record.clone());
        }
        Some(records)
    }
}

impl Partition {
    fn content(&self) -> MutexGuard<'_, Content> {
        self.content.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Life {
    fn new(id: TopicId, partitions: u32) -> Arc<Self> {
        Arc::new(Life { id, partitions: (0..partitions).map(|_| Partition::default()).collect() })
    }
}

impl MemoryLog {
    /// A topic with a random identity.
    pub fn new(region: Region, name: &str, partitions: u32, clock: Arc<dyn Clock>) -> Self {
        Self::with_id(region, name, partitions, clock, TopicId::from_u128(uuid::Uuid::new_v4().as_u128()))
    }

    /// A topic whose first life has this identity; each further life has the next number, so that a seeded run repeats.
    pub fn with_id(region: Region, name: &str, partitions: u32, clock: Arc<dyn Clock>, id: TopicId) -> Self {
        let life = RwLock::new(Life::new(id, partitions));
        let (name, faults, groups) = (name.to_owned(), Mutex::default(), Arc::new(Groups::new(partitions)));
        MemoryLog { shared: Arc::new(Shared { region, name, clock, life, others: Mutex::default(), faults, groups }) }
    }

    /// Deletes the topic and creates it again, empty, with another identity and without skew. Readers go on at their
    /// offset in the new life and are told nothing, as on Kafka.
    pub fn recreate(&self, partitions: u32) {
        let ended = {
            let mut life = self.shared.life.write().unwrap_or_else(PoisonError::into_inner);
            let next = Life::new(TopicId::from_u128(life.id.as_u128().wrapping_add(1)), partitions);
            std::mem::replace(&mut *life, next)
        };
        self.shared.groups.resize(partitions);
        for partition in &ended.partitions {
            partition.changed.notify_waiters();
        }
    }

    /// Removes the records below `before` (retention), at most up to the end.
    ///
    /// # Errors
    /// [`LogError::NoPartition`].
    pub fn delete_records(&self, partition: u32, before: Offset) -> Result<(), LogError> {
        let life = self.shared.life();
        let partition = self.shared.partition(&life, partition)?;
        {
            let mut content = partition.content();
            let removed = before.min(content.bounds().end).distance_from(content.first);
            content.records.drain(..removed as usize);
            content.first = content.first.plus(removed);
        }
        partition.changed.notify_waiters();
        Ok(())
    }

    /// Loses the records from `end` on, as an unclean election does: what is appended next takes their offsets.
    ///
    /// # Errors
    /// [`LogError::NoPartition`].
    pub fn truncate(&self, partition: u32, end: Offset) -> Result<(), LogError> {
        let life = self.shared.life();
        let partition = self.shared.partition(&life, partition)?;
        {
            let mut content = partition.content();
            let kept = end.max(content.first).distance_from(content.first);
            content.records.truncate(kept as usize);
        }
        partition.changed.notify_waiters();
        Ok(())
    }

    /// From now on the broker of this partition stamps the clock's time plus `skew`, which may be negative: with a
    /// change of it, as at a failover, times step back.
    ///
    /// # Errors
    /// [`LogError::NoPartition`].
    pub fn set_broker_skew(&self, partition: u32, skew: Span) -> Result<(), LogError> {
        let life = self.shared.life();
        self.shared.partition(&life, partition)?.content().skew = skew;
        Ok(())
    }

    /// Another topic, of which nothing else is known, is there too.
    pub fn also_there(&self, name: &str, id: TopicId) {
        self.shared.others.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_owned(), id);
    }

    /// Makes the next append that is not told to fail already end with [`LogError::Unavailable`].
    pub fn fail_next_append(&self, fault: AppendFault) {
        self.shared.faults().push_back(fault);
    }

    /// From now on members of groups that are dropped without leaving are missed only at [`MemoryLog::end_sessions`],
    /// like those of a killed process. Otherwise the group knows at once.
    pub fn let_the_dead_linger(&self) {
        self.shared.groups.let_the_dead_linger();
    }

    /// The sessions of the members that were dropped time out: the others get their partitions.
    pub fn end_sessions(&self) {
        self.shared.groups.end_sessions();
    }

    /// Ends the session of the group's oldest member, as a long pause of its process would. Others get its partitions
    /// at once; it is told that it owns nothing when it asks next, and joins anew with the question after that.
    pub fn end_oldest_session(&self, group: &str) {
        self.shared.groups.end_oldest_session(group);
    }
}

impl Shared {
    fn life(&self) -> Arc<Life> {
        self.life.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn faults(&self) -> MutexGuard<'_, VecDeque<AppendFault>> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn partition<'a>(&self, life: &'a Life, partition: u32) -> Result<&'a Partition, LogError> {
        let missing = || LogError::NoPartition { topic: self.name.clone(), partition };
        life.partitions.get(partition as usize).ok_or_else(missing)
    }

    fn append(&self, target: Target, record: NewRecord) -> Result<Appended, LogError> {
        let life = self.life();
        let number = match (target, &record.key) {
            (Target::Partition(number), _) => number,
            (Target::Key, Some(key)) => partition_of(key, life.partitions.len() as u32),
            (Target::Key, None) => return Err(LogError::NoKey),
        };
        let partition = self.partition(&life, number)?;
        let length = |part: &Option<bytes::Bytes>| part.as_ref().map_or(0, bytes::Bytes::len);
        let length = length(&record.key) + length(&record.value);
        if length > RECORD_LENGTH_MAX {
            return Err(LogError::TooLarge(format!("{length} bytes, at most {RECORD_LENGTH_MAX} are taken")));
        }
        let lost = || LogError::Unavailable(format!("an append to partition {number} was told to fail"));
        let fault = self.faults().pop_front();
        if fault == Some(AppendFault::Refused) {
            return Err(lost());
        }
        let appended = {
            let mut content = partition.content();
            let (offset, broker_time) = (content.bounds().end, self.clock.now() + content.skew);
            let NewRecord { key, value, headers } = record;
            content.records.push_back(LogRecord { offset, broker_time, key, value, headers });
            Appended { partition: number, offset, broker_time }
        };
        partition.changed.notify_waiters();
        match fault {
            Some(_) => Err(lost()),
            None => Ok(appended),
        }
    }

    fn bounds(&self, partition: u32) -> Result<Bounds, LogError> {
        let life = self.life();
        let bounds = self.partition(&life, partition)?.content().bounds();
        Ok(bounds)
    }

    fn read(
        &self,
        life: &Life,
        number: u32,
        next: Offset,
        max: usize,
        bytes: usize,
    ) -> Result<Vec<LogRecord>, LogError> {
        let content = self.partition(life, number)?.content();
        content.read(next, max, bytes).ok_or_else(|| LogError::OutOfRange {
            partition: number,
            requested: next,
            available: content.bounds(),
        })
    }
}

#[async_trait]
impl Log for MemoryLog {
    async fn topic(&self) -> Result<Topic, LogError> {
        let life = self.shared.life();
        Ok(Topic {
            region: self.shared.region.clone(),
            name: self.shared.name.clone(),
            id: life.id,
            partitions: life.partitions.len() as u32,
        })
    }

    async fn find(&self, name: &str) -> Result<Option<TopicId>, LogError> {
        let others = self.shared.others.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(if self.shared.name == name { Some(self.shared.life().id) } else { others.get(name).copied() })
    }

    async fn append(&self, target: Target, record: NewRecord) -> Result<Appended, LogError> {
        self.shared.append(target, record)
    }

    async fn bounds(&self, partition: u32) -> Result<Bounds, LogError> {
        self.shared.bounds(partition)
    }

    async fn offset_at(&self, partition: u32, time: Timestamp) -> Result<Option<Offset>, LogError> {
        let life = self.shared.life();
        let content = self.shared.partition(&life, partition)?.content();
        // Times may step back, so only looking at each in turn finds the first.
        Ok(content.records.iter().find(|record| record.broker_time >= time).map(|record| record.offset))
    }

    async fn open(&self, partition: u32, from: Offset) -> Result<Box<dyn Reader>, LogError> {
        let available = self.shared.bounds(partition)?;
        if from < available.first || from > available.end {
            return Err(LogError::OutOfRange { partition, requested: from, available });
        }
        Ok(Box::new(MemoryReader { shared: self.shared.clone(), partition, next: from }))
    }

    async fn join(&self, group: &str) -> Result<Box<dyn Membership>, LogError> {
        Ok(Box::new(MemoryMembership::join(self.shared.groups.clone(), group)))
    }
}

impl fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let life = self.shared.life();
        f.debug_struct("MemoryLog")
            .field("region", &self.shared.region)
            .field("name", &self.shared.name)
            .field("id", &life.id)
            .field("partitions", &life.partitions.len())
            .finish_non_exhaustive()
    }
}

struct MemoryReader {
    shared: Arc<Shared>,
    partition: u32,
    next: Offset,
}

#[async_trait]
impl Reader for MemoryReader {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Vec<LogRecord>, LogError> {
        self.poll_within(max, usize::MAX, wait).await
    }

    async fn poll_within(&mut self, max: usize, bytes: usize, wait: Duration) -> Result<Vec<LogRecord>, LogError> {
        let until = deadline(wait);
        loop {
            let life = self.shared.life();
            let partition = self.shared.partition(&life, self.partition)?;
            // Taken before looking: what happens after the look, wakes it.
            let changed = partition.changed.notified();
            let records = self.shared.read(&life, self.partition, self.next, max, bytes)?;
            if let Some(last) = records.last() {
                self.next = last.offset.next();
                return Ok(records);
            }
            // The life may have ended between the first line and `changed`, and nothing more happens to an ended one.
            if Arc::ptr_eq(&life, &self.shared.life()) && tokio::time::timeout_at(until, changed).await.is_err() {
                return Ok(Vec::new());
            }
        }
    }
}

impl fmt::Debug for MemoryReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryReader").field("partition", &self.partition).field("next", &self.next).finish()
    }
}

#[cfg(test)]
mod tests;
