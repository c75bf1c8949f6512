//! What can go wrong with a night. Each message names the thing, the reason and the mend.

use std::fmt;
use std::sync::Arc;

use archive::chain::ChainError;
use archive::footer::FooterError;
use clicks::books::PeriodState;
use clicks::id::{Region, TopicId};
use clicks::ledger::Objection;
use clicks::position::{Offset, PartitionId};
use clicks::time::{Day, Timestamp};
use datafusion::error::DataFusionError;
use platform::ledger::LedgerError;
use platform::objects::ObjectError;
use serde::Serialize;

use crate::gate::GateFailure;

/// Why a night was not published. Before the ledger entry nothing is visible, whatever the error.
#[derive(Debug, thiserror::Error)]
pub enum BatchError {
    /// The archive has not got there yet: retry later (exit code 10).
    #[error(transparent)]
    Incomplete(#[from] Incomplete),
    /// A topic life has more partitions than the ledger knows: their clicks would be left out (exit code 10).
    #[error(
        "night {night} must wait: by its heartbeats topic {topic} of region {region} has {found} partitions, the ledger \
         knows {known}, and what lies in the others is not archived. Record them with `twofold topic create` and start all \
         services again; then run the night"
    )]
    MorePartitions { night: Day, region: Region, topic: TopicId, known: u32, found: u32 },
    /// The archive holds a partition that the ledger does not know: its clicks would be left out (exit code 10).
    #[error(
        "night {night} must wait: the archive holds `{prefix}`, which no topic of the ledger has; record its topic with \
         `twofold topic create`, or move it away if it is foreign, then run again"
    )]
    UnknownPartition { night: Day, prefix: String },
    /// Another run published first; its entry is not this night (exit code 11).
    #[error(
        "another process published ledger entry {entry} while night {night} was computed, so nothing of this run was \
         published; run again"
    )]
    Lost { night: Day, entry: u64 },
    /// The result contradicts itself or what was published; nothing was published (exit code 12).
    #[error("night {night} fails its checks, nothing was published: {failure}")]
    Gate { night: Day, failure: GateFailure },
    /// A day that a person has to look at first (exit code 12).
    #[error(
        "{day} is withheld: {objections}. Mend the cause and run it again, or publish it as it is: `twofold batch run --date \
         {day} --accept REASON`, which is recorded"
    )]
    Withheld { day: Day, objections: String },
    /// The state of a day does not permit what a person asks (exit code 2, or 13 when it is final).
    #[error("{day} is {}, it cannot {action}; {mend}", .state.name())]
    Period { day: Day, state: PeriodState, action: &'static str, mend: &'static str },
    /// Not the next night in order (exit code 2).
    #[error("night {asked} cannot be run: nights are published in order and {next} is the next; run that one first")]
    NotNext { asked: Day, next: Day },
    /// Days before the first one are final and empty; nobody runs their night (exit code 2).
    #[error("night {asked} cannot be run: the ledger begins with {first}, earlier days are final and empty")]
    BeforeFirst { asked: Day, first: Day },
    #[error("{0}")]
    Chain(#[source] Box<ChainError>),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error("the query engine failed: {0}; if it ran out of memory, raise the memory limit or lower the parallelism")]
    Engine(#[source] DataFusionError),
    /// A broken invariant in a worker.
    #[error("counting ended abruptly: {0}")]
    Worker(#[from] tokio::task::JoinError),
}

impl From<ChainError> for BatchError {
    fn from(error: ChainError) -> Self {
        BatchError::Chain(Box::new(error))
    }
}

impl BatchError {
    /// As a run says that it has withheld a day.
    pub fn withheld(day: Day, objections: &[Objection]) -> Self {
        BatchError::Withheld { day, objections: Objection::list(objections) }
    }

    /// A stable name of the reason, for counters.
    pub const fn code(&self) -> &'static str {
        match self {
            BatchError::Incomplete(_) => "incomplete",
            BatchError::MorePartitions { .. } => "more_partitions",
            BatchError::UnknownPartition { .. } => "unknown_partition",
            BatchError::Lost { .. } => "lost",
            BatchError::Gate { .. } => "gate",
            BatchError::Withheld { .. } => "withheld",
            BatchError::Period { .. } => "period",
            BatchError::NotNext { .. } | BatchError::BeforeFirst { .. } => "not_next",
            BatchError::Chain(_) => "chain",
            BatchError::Input(_) => "input",
            BatchError::Table(_) => "table",
            BatchError::Object(_) => "object",
            BatchError::Ledger(_) => "ledger",
            BatchError::Engine(_) | BatchError::Worker(_) => "engine",
        }
    }

    /// The exit code of a command that ends with this error.
    pub const fn exit_code(&self) -> u8 {
        match self {
            BatchError::Period { state, .. } if state.is_settled() => 13,
            BatchError::NotNext { .. } | BatchError::BeforeFirst { .. } | BatchError::Period { .. } => 2,
            BatchError::Incomplete(_) | BatchError::MorePartitions { .. } | BatchError::UnknownPartition { .. } => 10,
            BatchError::Lost { .. } => 11,
            BatchError::Gate { .. } | BatchError::Withheld { .. } => 12,
            _ => 1,
        }
    }
}

/// Night `night` is not covered by the archive yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize)]
pub struct Incomplete {
    pub night: Day,
    pub lagging: Vec<Lag>,
}

/// A partition whose coverage does not reach far enough.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Lag {
    pub partition: PartitionId,
    /// Append time of its last stored record, `None` when nothing of it is stored; milliseconds when serialised.
    pub coverage: Option<Timestamp>,
    pub needed: Timestamp,
}

impl fmt::Display for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "night {} must wait: the archive does not reach far enough in", self.night)?;
        for (i, lag) in self.lagging.iter().enumerate() {
            let comma = if i == 0 { "" } else { "," };
            match lag.coverage {
                Some(coverage) => {
                    write!(f, "{comma} {} (stored up to {coverage}, needed {})", lag.partition, lag.needed)?
                }
                None => write!(f, "{comma} {} (nothing stored, needed {})", lag.partition, lag.needed)?,
            }
        }
        f.write_str("; run again once that time has passed, and check that `twofold archive` runs for these partitions")
    }
}

/// A raw object that cannot be counted. Cloned where it has passed through the engine, which only lends its sources.
#[derive(Debug, Clone, thiserror::Error)]
pub enum InputError {
    #[error("raw object `{key}` is gone; restore it, the night cannot be computed without it")]
    Missing { key: String },
    #[error("raw object `{key}` is damaged: {reason}; restore it from a backup, nothing was published")]
    Damaged { key: String, reason: String },
    #[error(
        "the archive of partition {partition} holds offsets {held}, but published days need them {needed}; raw objects \
         are lost, restore them"
    )]
    Lost { partition: PartitionId, held: String, needed: String },
    #[error("{0}")]
    Footer(#[source] Arc<FooterError>),
    #[error("{0}")]
    Object(#[source] Arc<ObjectError>),
}

impl From<FooterError> for InputError {
    fn from(error: FooterError) -> Self {
        InputError::Footer(Arc::new(error))
    }
}

impl From<ObjectError> for InputError {
    fn from(error: ObjectError) -> Self {
        InputError::Object(Arc::new(error))
    }
}

impl InputError {
    pub(crate) fn damaged(key: impl ToString, reason: impl ToString) -> Self {
        InputError::Damaged { key: key.to_string(), reason: reason.to_string() }
    }

    pub(crate) fn at(key: impl ToString, offset: Offset, reason: &str) -> Self {
        InputError::Damaged { key: key.to_string(), reason: format!("at offset {offset} {reason}") }
    }
}

/// A published or to be published file that is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    #[error("file `{key}`, which the ledger names, is gone; restore it")]
    Missing { key: String },
    #[error("file `{key}`, which the ledger names, has other bytes than were published; restore it")]
    Changed { key: String },
    #[error(
        "file `{key}` has other bytes than its name says; it is damaged and not published: remove it, then run again"
    )]
    Taken { key: String },
    #[error("table `{what}` cannot be written or read: {reason}")]
    Format { what: String, reason: String },
    #[error(transparent)]
    Object(#[from] ObjectError),
}

impl TableError {
    pub(crate) fn format(what: impl ToString, reason: impl ToString) -> Self {
        TableError::Format { what: what.to_string(), reason: reason.to_string() }
    }
}

impl From<DataFusionError> for BatchError {
    /// An error of ours that passed through the engine comes out as what it was, so that it names its object.
    fn from(error: DataFusionError) -> Self {
        let mut source: Option<&(dyn std::error::Error + 'static)> = Some(&error);
        while let Some(inner) = source {
            if let Some(input) = inner.downcast_ref::<InputError>() {
                return BatchError::Input(input.clone());
            }
            source = inner.source();
        }
        BatchError::Engine(error)
    }
}
