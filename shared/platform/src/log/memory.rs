//! The log in memory: the whole contract of the port in one process, and what only a simulation can ask for.
//!
//! Append times are read from the clock that it is given, so with a simulated one a run is the same every time. A record
//! takes what its bytes take plus about 200 bytes; [`MemoryLog::delete_records`] gives memory back.
//!
//! Nothing is held across an await, and readers sleep until something happens to their partition.

use std::collections::VecDeque;
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
    Appended, Bounds, Log, LogError, LogRecord, NewRecord, RECORD_LENGTH_MAX, Reader, Target, Topic, deadline,
};
use crate::clock::Clock;

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
    faults: Mutex<VecDeque<AppendFault>>,
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

    /// Up to `max` records from `next` on; `None` when `next` is not on the log.
    fn read(&self, next: Offset, max: usize) -> Option<Vec<LogRecord>> {
        let Bounds { first, end } = self.bounds();
        if next < first || next > end {
            return None;
        }
        let start = next.distance_from(first) as usize;
        let stop = start.saturating_add(max).min(self.records.len());
        Some(self.records.range(start..stop).cloned().collect())
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
        MemoryLog { shared: Arc::new(Shared { region, name: name.to_owned(), clock, life, faults: Mutex::default() }) }
    }

    /// Deletes the topic and creates it again, empty, with another identity and without skew. Readers go on at their
    /// offset in the new life and are told nothing, as on Kafka.
    pub fn recreate(&self, partitions: u32) {
        let ended = {
            let mut life = self.shared.life.write().unwrap_or_else(PoisonError::into_inner);
            let next = Life::new(TopicId::from_u128(life.id.as_u128().wrapping_add(1)), partitions);
            std::mem::replace(&mut *life, next)
        };
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

    /// Makes the next append that is not told to fail already end with [`LogError::Unavailable`].
    pub fn fail_next_append(&self, fault: AppendFault) {
        self.shared.faults().push_back(fault);
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

    fn read(&self, life: &Life, number: u32, next: Offset, max: usize) -> Result<Vec<LogRecord>, LogError> {
        let content = self.partition(life, number)?.content();
        content.read(next, max).ok_or_else(|| LogError::OutOfRange {
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
        let until = deadline(wait);
        loop {
            let life = self.shared.life();
            let partition = self.shared.partition(&life, self.partition)?;
            // Taken before looking: what happens after the look, wakes it.
            let changed = partition.changed.notified();
            let records = self.shared.read(&life, self.partition, self.next, max)?;
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
mod tests {
    use super::super::conformance::{self, LogUnderTest};
    use super::*;
    use crate::clock::{SimulatedClock, SystemClock};

    fn region() -> Region {
        Region::parse("eu").unwrap()
    }

    fn record(value: &str) -> NewRecord {
        NewRecord { value: Some(value.to_owned().into()), ..NewRecord::default() }
    }

    #[derive(Debug)]
    struct InMemory;

    impl LogUnderTest for InMemory {
        type Log = MemoryLog;

        async fn fresh(&self, partitions: u32) -> MemoryLog {
            MemoryLog::new(region(), "clicks", partitions, Arc::new(SystemClock))
        }
        async fn delete_records(&self, log: &MemoryLog, partition: u32, before: Offset) {
            log.delete_records(partition, before).unwrap();
        }
        async fn recreate(&self, log: &MemoryLog, partitions: u32) {
            log.recreate(partitions);
        }
        fn keys(&self) -> usize {
            10_000
        }
    }

    #[tokio::test]
    async fn the_memory_log_conforms() {
        conformance::suite(&InMemory).await;
    }

    #[tokio::test]
    async fn append_times_are_the_clock_plus_the_skew_of_the_broker() {
        let clock = Arc::new(SimulatedClock::new(Timestamp::from_millis(1_000)));
        let log = MemoryLog::with_id(region(), "clicks", 2, clock.clone(), TopicId::from_u128(7));
        let at = async |partition, time| log.offset_at(partition, Timestamp::from_millis(time)).await.unwrap();
        let append = async |partition| {
            let appended = log.append(Target::Partition(partition), record("x")).await.unwrap();
            appended.broker_time.as_millis()
        };
        assert_eq!(append(0).await, 1_000);
        clock.advance_to(Timestamp::from_millis(1_011));
        assert_eq!(append(0).await, 1_011);
        log.set_broker_skew(0, Span::millis(-5)).unwrap();
        clock.advance_to(Timestamp::from_millis(1_014));
        assert_eq!(append(0).await, 1_009, "the new broker's clock is behind");
        assert_eq!(append(1).await, 1_014);
        // The first record at or after the time, though a later one is earlier.
        assert_eq!(at(0, 1_005).await, Some(Offset::new(1)));
        log.delete_records(0, Offset::new(2)).unwrap();
        assert_eq!(at(0, 1_005).await, Some(Offset::new(2)));
        assert_eq!(at(0, 1_010).await, None);
        log.recreate(1);
        assert_eq!(log.topic().await.unwrap().id, TopicId::from_u128(8));
    }

    #[tokio::test]
    async fn appends_fail_as_told_and_in_that_order() {
        let log = MemoryLog::new(region(), "clicks", 1, Arc::new(SystemClock));
        log.fail_next_append(AppendFault::Refused);
        log.fail_next_append(AppendFault::LostReply);
        for value in ["refused", "lost"] {
            let failed = log.append(Target::Partition(0), record(value)).await;
            assert!(matches!(failed, Err(LogError::Unavailable(_))), "{failed:?}");
        }
        assert_eq!(log.append(Target::Partition(0), record("taken")).await.unwrap().offset, Offset::new(1));
        let read = log.open(0, Offset::ZERO).await.unwrap().poll(9, Duration::ZERO).await.unwrap();
        let values: Vec<_> = read.iter().map(|record| record.value.as_deref().unwrap()).collect();
        assert_eq!(values, [b"lost".as_slice(), b"taken"]);
    }

    /// Readers and writers at once on several threads: nothing is lost, doubled or slept through.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn readers_keep_up_with_concurrent_writers() {
        const EACH: usize = 2_000;
        let log = MemoryLog::new(region(), "clicks", 1, Arc::new(SystemClock));
        let mut reader = log.open(0, Offset::ZERO).await.unwrap();
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let log = log.clone();
                tokio::spawn(async move {
                    for n in 0..EACH {
                        log.append(Target::Partition(0), record(&format!("{writer}-{n}"))).await.unwrap();
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        let mut next = Offset::ZERO;
        while next < Offset::new(4 * EACH as u64) {
            let read = reader.poll(7, Duration::from_secs(20)).await.unwrap();
            assert!(!read.is_empty(), "slept through an append at {next}");
            for record in read {
                assert_eq!(record.offset, next);
                next = next.next();
            }
        }
        for writer in writers {
            writer.await.unwrap();
        }
    }
}
