//! Why the streaming loop ends.

use clicks::counter::Gap;
use clicks::id::{Region, TopicId};
use clicks::position::PartitionId;
use clicks::time::Span;
use platform::ledger::LedgerError;
use platform::log::LogError;
use platform::store::StoreError;

/// What the streaming loop does not mend by itself.
#[derive(Debug, thiserror::Error)]
pub enum CounterError {
    #[error("the speed layer cannot read its rules: {0}")]
    Ledger(#[source] LedgerError),
    #[error(
        "topic `{name}` of region `{region}` is {found} with {partitions} partitions, but the ledger knows {recorded}; `twofold topic create` records a new topic life"
    )]
    ForeignTopic { region: Region, name: String, found: TopicId, partitions: u32, recorded: String },
    #[error(
        "topic `{name}` was deleted and created again: {now} is there instead of {before}. Nothing of the new one was stored; record it with `twofold topic create` and start again"
    )]
    TopicRecreated { name: String, before: TopicId, now: TopicId },
    #[error("topic `{name}` has no partition {number}, only 0 to {}; correct the list of partitions", partitions - 1)]
    NoPartition { name: String, number: u32, partitions: u32 },
    #[error(
        "no partition is chosen; name at least one, or leave the list out to share all of them with the other processes of the group"
    )]
    NothingToCount,
    #[error("partitions cannot be shared with the other processes of the group `{name}`: {source}")]
    Group { name: String, source: LogError },
    #[error(
        "the copy of the ledger is {age} old and cannot be refreshed, so nothing is judged any more: {source}; make the object store reachable and start again"
    )]
    RulesStale { age: Span, source: Box<LedgerError> },
    #[error("the topic cannot be identified: {0}")]
    Topic(#[source] LogError),
    #[error("partition {partition} cannot be read: {source}")]
    Log { partition: PartitionId, source: LogError },
    #[error("the speed layer cannot use its store: {0}")]
    StoreCheck(#[source] StoreError),
    #[error("partition {partition} cannot be stored: {source}")]
    Store { partition: PartitionId, source: Box<StoreError> },
    #[error(
        "partition {partition}: {source}; a reader that skips records would leave clicks out, so nothing more is stored. Start again, and report it if it comes back"
    )]
    Gap { partition: PartitionId, source: Gap },
    #[error("a worker of the speed layer broke: {reason}; start again, and report it if it comes back")]
    Panicked { reason: String },
}
