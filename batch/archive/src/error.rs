//! What can end an archiver.

use clicks::id::TopicId;
use clicks::position::{Offset, PartitionId};
use platform::ledger::LedgerError;
use platform::log::LogError;
use platform::objects::ObjectError;

use crate::chain::{ChainError, MarkError};
use crate::codec::CodecError;

/// Why an archiver ended. Nothing is lost by any of them: the next start goes on at the end of the chain.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Mark(#[from] MarkError),
    #[error("partition {partition}: {source}")]
    Codec { partition: PartitionId, source: Box<CodecError> },
    #[error("setting `{name}` of the archiver is {value}: {reason}")]
    Options { name: &'static str, value: String, reason: &'static str },
    #[error(
        "setting `memory_bytes_max` of the archiver is {bytes_max}: {partitions} partitions need at least {least}; raise it, \
         or let each archiver take fewer partitions"
    )]
    Memory { bytes_max: u64, partitions: usize, least: u64 },
    #[error("the ledger knows no topic of region {0}; record it with `twofold topic create`")]
    NoLife(String),
    #[error(
        "topic `{topic}` has the id {found}, the ledger reads {expected}: it was deleted and created again. Offsets mean \
         nothing across the two; record the new life with `twofold topic create`"
    )]
    OtherLife { topic: String, expected: TopicId, found: TopicId },
    #[error(
        "topic `{topic}` has {found} partitions, the ledger reads {expected}; keys lie elsewhere since. Record it: \
         set `kafka.partitions` to {found}, run `twofold topic create`, start all services again. Nothing is lost until then: \
         what the new partitions hold is archived from their first record on"
    )]
    PartitionCount { topic: String, expected: u32, found: u32 },
    #[error("the topic has {count} partitions, numbered from 0; there is no {number} to archive")]
    NoPartition { number: u32, count: u32 },
    #[error(
        "nothing of partition {partition} is stored in {store}, but its log begins at offset {first}: is this the wrong \
         bucket or prefix? If what came before may be missing for ever, let the archive begin there (`--begin`)"
    )]
    EmptyChain { partition: PartitionId, store: String, first: Offset },
    #[error(
        "partition {partition} is stored up to offset {stored}, its log ends at {end}: the log was cut back (an unclean \
         leader election, or restored from a backup). Records of two histories must not be mixed. Begin a new topic: give \
         `kafka.topic` another name, run `twofold topic create`, start all services again"
    )]
    BeyondLog { partition: PartitionId, stored: Offset, end: Offset },
    #[error("the log of partition {partition} gave record {found} where {expected} is next")]
    NotContiguous { partition: PartitionId, expected: Offset, found: Offset },
    #[error("another object of partition {partition} begins at {start}, yet the chain read again ends at {end}")]
    NoProgress { partition: PartitionId, start: Offset, end: Offset },
    #[error("a task of the archiver ended early: {0}")]
    Task(String),
}
