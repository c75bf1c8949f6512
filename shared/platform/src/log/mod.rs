//! The log port: a topic with partitions, as one region sees it.
//!
//! # Contract
//! * [`Log::append`] returns only after the record is durable; an error means *unknown*, never *not written*.
//! * Offsets of a partition are dense and increase by one: a reader that gets offset n next after n - 1 has missed nothing.
//! * `broker_time` is given by the broker when the record is appended (LogAppendTime), and may step back between brokers.
//! * Records may vanish from the *front* of a partition (retention). A reader whose position is gone, or lies beyond the
//!   end, gets [`LogError::OutOfRange`]; nothing is ever skipped in silence.
//! * A topic that is deleted and created again has another [`TopicId`]. A reader goes on in the new life at its old
//!   offset without any error (unless the new life is shorter, which is [`LogError::OutOfRange`]), so whoever stores
//!   what it read asks [`Log::topic`] again between the read and the store.
//! * [`Log::append`] with [`Target::Key`] puts equal keys into one partition, that of [`clicks::partitioner`].
//! * Membership of a group, see [`Log::join`], spreads the partitions over processes; it fences nobody. While partitions
//!   move, one may have two owners for a moment, or none; the members that stay keep as many of theirs as they can.

pub mod conformance;
mod kafka;
mod memory;
mod records;
mod topic;

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use clicks::id::{Region, TopicId};
use clicks::ledger::TopicLife;
use clicks::position::{Offset, PartitionId};
use clicks::time::Timestamp;

pub use kafka::{KafkaLog, KafkaOptions};
pub use memory::{AppendFault, MemoryLog};
pub use records::Records;
pub use topic::{Finding, Severity, TopicError, TopicReport, TopicSpec};

/// Most bytes of key and value of a record together, and of a batch of records on its way to the broker.
pub const RECORD_LENGTH_MAX: usize = 1_000_000;

/// One life of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topic {
    pub region: Region,
    pub name: String,
    pub id: TopicId,
    pub partitions: u32,
}

impl Topic {
    /// It is the life that the ledger knows, with as many partitions.
    pub fn is(&self, life: &TopicLife) -> bool {
        (self.id, self.partitions) == (life.topic_id, life.partitions)
    }

    /// As the ledger records it.
    pub fn life(&self) -> TopicLife {
        let Topic { region, name, id, partitions } = self.clone();
        TopicLife { region, topic_id: id, name, partitions }
    }

    pub fn partition(&self, number: u32) -> PartitionId {
        PartitionId { region: self.region.clone(), topic: self.id, number }
    }
}

/// A header of a record. Names may repeat, the order is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    pub name: String,
    pub value: Option<Bytes>,
}

/// A record to append.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewRecord {
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

/// Where a record goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The partition of the record's key; a record without a key is refused.
    Key,
    Partition(u32),
}

/// Acknowledgement of an append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Appended {
    pub partition: u32,
    pub offset: Offset,
    pub broker_time: Timestamp,
}

/// A record as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    pub offset: Offset,
    pub broker_time: Timestamp,
    pub key: Option<Bytes>,
    pub value: Option<Bytes>,
    pub headers: Vec<Header>,
}

impl LogRecord {
    /// The value of the first header of this name.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        self.headers.iter().find(|header| header.name == name).and_then(|header| header.value.as_deref())
    }

    /// Bytes of its key, value and headers together.
    pub fn length(&self) -> usize {
        let length = |part: &Option<Bytes>| part.as_ref().map_or(0, Bytes::len);
        let headers = self.headers.iter().map(|header| header.name.len() + length(&header.value));
        length(&self.key) + length(&self.value) + headers.sum::<usize>()
    }

    /// It is a record of our own: it carries the control header.
    pub fn is_control(&self) -> bool {
        self.headers.iter().any(|header| header.name == clicks::wire::HEADER_CONTROL)
    }
}

/// What is on a partition: offsets `[first, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    pub first: Offset,
    pub end: Offset,
}

/// What can go wrong with the log.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("topic `{0}` does not exist; create it with `twofold topic create`")]
    NoTopic(String),
    #[error("topic `{topic}` has no partition {partition}")]
    NoPartition { topic: String, partition: u32 },
    #[error("offset {requested} of partition {partition} is not on the log, which holds [{}, {})", available.first, available.end)]
    OutOfRange { partition: u32, requested: Offset, available: Bounds },
    #[error("a record without a key cannot be placed by its key")]
    NoKey,
    #[error("the record is too large for the broker: {0}")]
    TooLarge(String),
    /// The operator's to mend: another try fails in the same way.
    #[error("the setting `{name}` of the log is refused: {reason}")]
    Setting { name: String, reason: String },
    /// Worth another try; an append may have happened.
    #[error("the log did not answer in time: {0}")]
    Unavailable(String),
    /// Not understood: the process ends.
    #[error("the log failed: {0}")]
    Failed(String),
}

/// One topic of one region.
#[async_trait]
pub trait Log: Send + Sync + fmt::Debug {
    /// The life of the topic that is there now, asked of the broker.
    async fn topic(&self) -> Result<Topic, LogError>;

    /// The identity of the life that a topic of this name has now, on the same cluster; `None` when there is none. Asking
    /// for a topic never creates it.
    async fn find(&self, name: &str) -> Result<Option<TopicId>, LogError> {
        let topic = self.topic().await?;
        Ok((topic.name == name).then_some(topic.id))
    }

    /// Appends one record and waits until it is durable.
    async fn append(&self, target: Target, record: NewRecord) -> Result<Appended, LogError>;

    async fn bounds(&self, partition: u32) -> Result<Bounds, LogError>;

    /// The first offset whose broker time is at or after `time`; `None` when there is none yet.
    async fn offset_at(&self, partition: u32, time: Timestamp) -> Result<Option<Offset>, LogError>;

    /// A reader of one partition that begins at `from`.
    async fn open(&self, partition: u32, from: Offset) -> Result<Box<dyn Reader>, LogError>;

    /// Takes part in the group of this name, which belongs to this topic. A log that one process alone reads needs no
    /// groups, and says so.
    async fn join(&self, group: &str) -> Result<Box<dyn Membership>, LogError> {
        Err(LogError::Failed(format!("there is no group `{group}`: this log has none; name the partitions instead")))
    }
}

/// Numbers of the partitions that a member of a group owns.
pub type Assignment = BTreeSet<u32>;

/// A member's part in a group that shares the partitions of a topic. It reads nothing, and stores no position.
#[async_trait]
pub trait Membership: Send + fmt::Debug {
    /// All partitions that this member owns now, as soon as the group gave it its first ones (or none), then each time
    /// that they changed; of several changes since the call before, the last. After an error the membership is of no
    /// further use. Dropping the future of a call loses nothing.
    async fn next(&mut self) -> Result<Assignment, LogError>;

    /// Leaves the group, and waits a little until it knows, so that the process may end. Dropping a membership leaves
    /// as well, but a process that ends at once keeps the others waiting until its session times out.
    async fn leave(self: Box<Self>);
}

/// Reads one partition in order.
#[async_trait]
pub trait Reader: Send + fmt::Debug {
    /// Up to `max` records that follow those of the call before; none when `wait` passes first. Returns as soon as
    /// there is at least one. After an error the reader is of no further use. Dropping the future of a call loses
    /// nothing.
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Vec<LogRecord>, LogError>;

    /// As [`Reader::poll`], and no more than `bytes` of keys, values and headers together, unless the first record alone
    /// has more: for whoever keeps what it reads, and bounds its memory. A reader that does not look at bytes gives one
    /// record at a time.
    async fn poll_within(&mut self, max: usize, bytes: usize, wait: Duration) -> Result<Vec<LogRecord>, LogError> {
        let _ = bytes;
        self.poll(max.min(1), wait).await
    }

    /// As [`Reader::poll`], in the place of what is in `records`, and without headers: for whoever looks at each record
    /// once.
    async fn fill(&mut self, records: &mut Records, max: usize, wait: Duration) -> Result<(), LogError> {
        records.clear();
        self.poll(max, wait).await?.iter().for_each(|record| records.push(record.observed()));
        Ok(())
    }
}

/// When a wait that begins now is over.
fn deadline(wait: Duration) -> tokio::time::Instant {
    let now = tokio::time::Instant::now();
    // As good as never, for waits that no clock can hold.
    now.checked_add(wait).unwrap_or(now + Duration::from_secs(365 * 24 * 60 * 60))
}
