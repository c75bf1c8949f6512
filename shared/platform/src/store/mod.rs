//! The speed store port: the live counts of every partition.
//!
//! # Contract
//! * [`SpeedStore::flush`] is one atomic step: a flush that is malformed in itself is refused first, then it compares
//!   what is current with [`Flush::expected`] and writes all of it; on a mismatch it changes nothing. Values are absolute, so applying a flush again right after
//!   it was applied (a lost reply) is a [`FlushOutcome::Mismatch`] whose `found` is the flush's own generation and next
//!   offset, which the caller may read as success.
//! * The compare covers expiries too, which move no offset: within a generation `base_day`, `base_night`, `expired` and
//!   `late_expired` never go back. A flush that would set one back comes from a writer that missed an expiry; it is a
//!   mismatch although `found` is the very pair that the writer expected. And it covers how many records were lost before
//!   they were counted, because a writer that counted one of them can stand at the same offset.
//! * Numbers are below 2^62, an hour or night is not both written and dropped, and a generation that becomes current
//!   is new: anything else is [`StoreError::Failed`], and nothing was changed.
//! * An error of `flush` means *unknown*: the step may have happened, wholly or not at all.
//! * The store may lose a suffix of its history (a rollback), of a partition as a whole: counts and position go together.
//! * The *current* generation is the one that is counted beside the live one (`Stage::Beside`), if there is one, or else
//!   the live one. Writers load, expect and write the current one, readers see the live one: whole, as it was when the
//!   other one began, until one flush puts that in its place.
//! * [`Expected::Damaged`](clicks::live::Expected) compares the current generation alone, so that a generation which cannot
//!   be read, whatever of it is lost, can be replaced; it never goes on with that generation.
//! * Content that cannot be read is [`StoreError::Content`], never a smaller number; the error names its generation.
//! * A generation that is replaced is retired in the same step; [`SpeedStore::sweep`] deletes what is left of it.
//! * [`SpeedStore::load`], [`SpeedStore::read`], [`SpeedStore::read_part`] and [`SpeedStore::read_changes`] are one atomic read each of one partition.
//! * The store remembers what the last flushes wrote, so a reader that holds the rest need not read it again:
//!   [`SpeedStore::read_changes`] gives all that was written since a [`Mark`], or says that it cannot. Writers depend on
//!   nothing of that memory: what is wrong with it is the readers' loss alone.
//! * Nothing is evicted: [`SpeedStore::check`] refuses a server that may.

pub mod conformance;
mod memory;
mod redis;
mod scope;
mod step;

use std::fmt;

use async_trait::async_trait;
use clicks::id::AdId;
use clicks::keyspace::KeyspaceError;
use clicks::live::{CountKey, Flush, FlushOutcome, Generation, LateKey, Loaded, Meta, Stage};
use clicks::position::{Offset, PartitionId};
use clicks::rules::RulesBook;
use clicks::time::{Day, Interval, Timestamp};
use clicks::view::Live;

pub use memory::{MemoryStore, Snapshot};
pub use redis::{FLUSH_SCRIPT, RedisOptions, RedisStore, flush_arguments};

/// Most changed counts per flush, of both implementations. Redis is busy with as many for 2.8 ms, a cluster for 4.8 ms
/// (measured with 7.0.15: 0.35 and 0.6 us per count), and every other partition on it waits that long. That is at full
/// speed alone, where a flush of a quarter cost the worker a fifth more CPU per click: each has its round trips, and what
/// is clicked often is written with each.
const CHANGES_MAX: usize = 8_000;

/// Entries that the stream of changes keeps, two of most flushes: seconds of an even load. The script says the same.
const CHANGES_KEPT: usize = 128;

/// How many are kept when one of so many counts is added: still several flushes where each is as large as may be, so that
/// the stream takes some megabytes at most.
fn changes_kept(counts: usize) -> usize {
    (128_000 / counts.max(1)).clamp(16, CHANGES_KEPT)
}

/// What a reader asks of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveQuery {
    pub ads: Ads,
    /// Windows that begin in it.
    pub range: Interval,
    /// Late counts of these nights and later ones.
    pub late_from: Day,
}

impl LiveQuery {
    /// Asks for the meta record and no counts.
    pub fn of_meta() -> Self {
        let nothing = Interval::new(Timestamp::EPOCH, Timestamp::EPOCH);
        LiveQuery { ads: Ads::Some(Vec::new()), range: nothing, late_from: Day::from_number(i32::MAX) }
    }
}

/// Which ads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ads {
    All,
    Some(Vec<AdId>),
}

/// A part of what is stored of one partition, for whoever goes through all of it in short steps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Windows that begin in it.
    pub windows: Interval,
    /// Late counts of the nights `[from, to)`, whatever their minutes.
    pub nights: (Day, Day),
}

/// Where a reader stands that follows what is written to a generation: behind this flush.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    generation: Generation,
    /// Of its last entry in the stream of changes. A server that went back may use an id once more.
    id: (u64, u64),
    reached: Reached,
}

/// The position that a flush has reached: next offset and lost records. What is counted up to there is always the same.
pub type Reached = (Offset, u64);

/// What was written to a generation since a mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The counts in the order in which they were written: the last one of a key is what is stored.
    pub slice: LiveSlice,
    /// Behind them.
    pub mark: Mark,
    /// Of the mark that was given, if one was, and of each flush since.
    pub reached: Vec<Reached>,
}

/// One atomic read of a partition for a reader.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSlice {
    pub generation: Generation,
    pub meta: Meta,
    /// Another generation is counted beside the live one, to take its place.
    pub is_in_doubt: bool,
    /// Counts of the query's ads and windows; not sorted.
    pub counts: Vec<(CountKey, u64)>,
    /// Late counts of the query's ads whose minute lies in the range; not sorted.
    pub late: Vec<(LateKey, u64)>,
}

/// What can go wrong with the store.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("the speed store did not answer: {0}")]
    Unavailable(String),
    #[error("the speed store refuses us: {0}; check the password and user of `redis.url`")]
    Denied(String),
    #[error("the speed store's setting `{setting}` is `{found}` but must be `{wanted}`: {mend}")]
    Setting { setting: &'static str, found: String, wanted: &'static str, mend: &'static str },
    /// `generation` is the one that was read; `None` when what names it cannot be read.
    #[error("partition {partition} in the speed store cannot be read: {source}")]
    Content { partition: PartitionId, generation: Option<Generation>, source: Box<KeyspaceError> },
    #[error("the speed store failed: {0}")]
    Failed(String),
}

/// Live counts of all partitions.
#[async_trait]
pub trait SpeedStore: Send + Sync + fmt::Debug {
    /// Most changed counts that one flush should carry, so that a step stays short.
    fn max_changes(&self) -> usize;

    /// For the partition's worker: the current generation with every count that may still change, by the watermark that
    /// follows from the stored append time; `None` when there is none.
    async fn load(&self, partition: &PartitionId, rules: &RulesBook) -> Result<Option<Loaded>, StoreError>;

    async fn flush(&self, partition: &PartitionId, flush: &Flush) -> Result<FlushOutcome, StoreError>;

    /// For readers, and for the worker before it expires windows; `None` when no generation is live.
    async fn read(&self, partition: &PartitionId, query: &LiveQuery) -> Result<Option<LiveSlice>, StoreError>;

    /// One atomic read of a part; `None` when no generation is live.
    async fn read_part(&self, partition: &PartitionId, part: &Part) -> Result<Option<LiveSlice>, StoreError> {
        let range = Interval::new(Timestamp::MIN, Timestamp::MAX);
        let all = LiveQuery { ads: Ads::All, range, late_from: part.nights.0 };
        let slice = self.read(partition, &all).await?;
        Ok(slice.map(|mut slice| {
            slice.counts.retain(|(key, _)| part.windows.contains(key.minute.start()));
            slice.late.retain(|(key, _)| (part.nights.0..part.nights.1).contains(&key.night));
            slice
        }))
    }

    /// What was written to the live generation since a mark, or without one no counts and a mark to begin with. `None` when
    /// that cannot be told: no generation is live or another one, the store does not remember so much, or some writer does
    /// not let it remember. A store that remembers nothing has nothing to do.
    async fn read_changes(&self, _: &PartitionId, _since: Option<&Mark>) -> Result<Option<Changes>, StoreError> {
        Ok(None)
    }

    /// Deletes what is left of retired generations, in steps that are short, and returns how many keys that were. Never
    /// touches the live one, or the one that is counted beside it. What an error leaves behind is found by the next call. A store that keeps nothing of what
    /// was replaced has nothing to do.
    async fn sweep(&self, _partition: &PartitionId) -> Result<u64, StoreError> {
        Ok(0)
    }

    /// Reaches the server and checks the settings that correctness rests on.
    async fn check(&self) -> Result<(), StoreError>;
}

/// Which generation of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Live,
    Current,
}

impl Mark {
    pub const fn generation(&self) -> Generation {
        self.generation
    }
}

impl LiveSlice {
    /// The position up to which it is counted.
    pub fn reached(&self) -> Reached {
        reached(&self.meta)
    }

    /// As the merge takes it.
    pub fn live(&self) -> Live<'_> {
        let LiveSlice { generation: _, meta, is_in_doubt, counts, late } = self;
        Live { meta, is_in_doubt: *is_in_doubt, counts, late }
    }

    /// Of a slice of the current generation.
    fn into_loaded(self) -> Loaded {
        let stage = if self.is_in_doubt { Stage::Beside } else { Stage::Live };
        Loaded { generation: self.generation, stage, meta: self.meta, counts: self.counts, late: self.late }
    }
}

fn reached(meta: &Meta) -> Reached {
    (meta.next_offset, meta.lost.records)
}
