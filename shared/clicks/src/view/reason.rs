//! Why an answer is not complete.

use crate::live::Lost;
use crate::position::{Offset, PartitionId};
use crate::time::{Day, Interval, Timestamp};

/// Why a partition gave no slice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// No generation is live: nobody has counted it yet, or its counts were lost and are not rebuilt.
    NoGeneration,
    /// It could not be read; the text is for people.
    Unreachable(String),
}

/// One thing that is missing from an answer. The message says it in words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    #[error("the speed layer's store is away, so live periods are unknown and only closed days are answered: {detail}")]
    SpeedAway { detail: String },
    #[error("no topic is recorded in the ledger yet, so live periods are unknown")]
    NoTopic,
    #[error("the live counts of partition {partition} could not be read: {detail}")]
    PartitionAway { partition: PartitionId, detail: String },
    #[error(
        "partition {partition} has no live counts: the speed layer has not begun to count it, or is about to rebuild it"
    )]
    NoGeneration { partition: PartitionId },
    #[error("the live counts of partition {partition} begin with {base_day}; those of {day} are not there")]
    BaseDay { partition: PartitionId, base_day: Day, day: Day },
    #[error(
        "late clicks of partition {partition} are known from night {base_night} on; those of night {night} are not there"
    )]
    BaseNight { partition: PartitionId, base_night: Day, night: Day },
    #[error("partition {partition} is being rebuilt: it has reached offset {next_offset} of {until}")]
    Rebuilding { partition: PartitionId, next_offset: Offset, until: Offset },
    #[error(
        "what is stored of partition {partition} was found to be damaged and is being counted anew; until that is done \
         the old counts are shown"
    )]
    InDoubt { partition: PartitionId },
    #[error("partition {partition} has fallen behind: {}", reached(*append_time))]
    Behind { partition: PartitionId, append_time: Timestamp },
    #[error(
        "the topic life of partition {partition} has ended and nobody counts it any more, so what its live counts lack \
         stays away until the nights take it in: {}", reached(*append_time)
    )]
    LifeEnded { partition: PartitionId, append_time: Timestamp },
    #[error(
        "dedup of partition {partition} lacked sightings, for want of memory or because they had fallen off the log: \
         duplicates that arrived from {} to {} may be counted", drift.start, drift.end
    )]
    DedupDrift { partition: PartitionId, drift: Interval },
    #[error(
        "{} records of partition {partition} that arrived from {} to {} fell off the log before the speed layer counted \
         them, so clicks of that time are missing here until the night closes their day", lost.records,
        lost.appended.start, lost.appended.end
    )]
    LostRecords { partition: PartitionId, lost: Lost },
    #[error("the published table of {day} could not be read: {detail}")]
    TableAway { day: Day, detail: String },
    #[error(
        "{day} is not published: its night found that {detail}. Somebody has to look at it and accept it, or mend it"
    )]
    Withheld { day: Day, detail: String },
    #[error("clicks of {day} may be lost for ever, and it was published all the same: {detail}")]
    LostForEver { day: Day, detail: String },
    #[error("the ledger could not be read since {read_at}, so days may have been closed in between: {detail}")]
    LedgerStale { read_at: Timestamp, detail: String },
    #[error(
        "the ads table cannot be read, so ads belong to whom its version {version} says, which may have changed since: \
         {detail}"
    )]
    AdsStale { version: u64, detail: String },
}

fn reached(append_time: Timestamp) -> String {
    match append_time {
        Timestamp::MIN => "nothing of it is counted yet".to_owned(),
        time => format!("it has counted what arrived up to {time}"),
    }
}

impl Reason {
    /// The message for whoever may not see the whole installation: how much is lost, odd or still to be counted is a number
    /// of all ads together, and what a store says is of no use to them.
    pub fn in_short(&self) -> String {
        match self {
            Reason::SpeedAway { .. } => {
                "the speed layer's store is away, so live periods are unknown and only closed days are answered"
                    .to_owned()
            }
            Reason::PartitionAway { partition, .. } => {
                format!("the live counts of partition {partition} could not be read")
            }
            Reason::Rebuilding { partition, .. } => format!("partition {partition} is being rebuilt"),
            Reason::LostRecords { partition, lost } => format!(
                "records of partition {partition} that arrived from {} to {} fell off the log before the speed layer counted \
                 them, so clicks of that time are missing here until the night closes their day",
                lost.appended.start, lost.appended.end
            ),
            Reason::TableAway { day, .. } => format!("the published table of {day} could not be read"),
            Reason::Withheld { day, .. } => {
                format!("{day} is not published: somebody has to look at what its night has found")
            }
            Reason::LostForEver { day, .. } => {
                format!("clicks of {day} may be lost for ever, and it was published all the same")
            }
            Reason::LedgerStale { read_at, .. } => {
                format!("the ledger could not be read since {read_at}, so days may have been closed in between")
            }
            Reason::AdsStale { .. } => {
                "the ads table cannot be read, so which ads there are may have changed".to_owned()
            }
            Reason::NoTopic
            | Reason::NoGeneration { .. }
            | Reason::BaseDay { .. }
            | Reason::BaseNight { .. }
            | Reason::InDoubt { .. }
            | Reason::Behind { .. }
            | Reason::LifeEnded { .. }
            | Reason::DedupDrift { .. } => self.to_string(),
        }
    }

    /// A stable name, for programs.
    pub const fn code(&self) -> &'static str {
        match self {
            Reason::SpeedAway { .. } => "speed_away",
            Reason::NoTopic => "no_topic",
            Reason::PartitionAway { .. } => "partition_away",
            Reason::NoGeneration { .. } => "no_generation",
            Reason::BaseDay { .. } => "base_day",
            Reason::BaseNight { .. } => "base_night",
            Reason::Rebuilding { .. } => "rebuilding",
            Reason::InDoubt { .. } => "in_doubt",
            Reason::Behind { .. } => "behind",
            Reason::LifeEnded { .. } => "life_ended",
            Reason::DedupDrift { .. } => "dedup_drift",
            Reason::LostRecords { .. } => "lost_records",
            Reason::TableAway { .. } => "table_away",
            Reason::Withheld { .. } => "withheld",
            Reason::LostForEver { .. } => "lost_for_ever",
            Reason::LedgerStale { .. } => "ledger_stale",
            Reason::AdsStale { .. } => "ads_stale",
        }
    }

    pub const fn partition(&self) -> Option<&PartitionId> {
        match self {
            Reason::PartitionAway { partition, .. }
            | Reason::NoGeneration { partition }
            | Reason::BaseDay { partition, .. }
            | Reason::BaseNight { partition, .. }
            | Reason::Rebuilding { partition, .. }
            | Reason::InDoubt { partition }
            | Reason::Behind { partition, .. }
            | Reason::LifeEnded { partition, .. }
            | Reason::DedupDrift { partition, .. }
            | Reason::LostRecords { partition, .. } => Some(partition),
            Reason::SpeedAway { .. }
            | Reason::NoTopic
            | Reason::TableAway { .. }
            | Reason::Withheld { .. }
            | Reason::LostForEver { .. }
            | Reason::LedgerStale { .. }
            | Reason::AdsStale { .. } => None,
        }
    }

    pub const fn day(&self) -> Option<Day> {
        match self {
            Reason::BaseDay { day, .. }
            | Reason::TableAway { day, .. }
            | Reason::Withheld { day, .. }
            | Reason::LostForEver { day, .. } => Some(*day),
            Reason::BaseNight { night, .. } => Some(*night),
            _ => None,
        }
    }

    /// A newer position of the ledger may do away with it: the speed layer drops only what it knows to be closed.
    pub const fn may_be_an_old_position(&self) -> bool {
        matches!(self, Reason::BaseDay { .. } | Reason::BaseNight { .. })
    }
}
