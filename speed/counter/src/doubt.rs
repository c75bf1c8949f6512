//! Doubt: what makes a worker drop all that it holds of its partition and enter again from what is stored.

use clicks::live::{Expected, Generation};
use clicks::position::{Offset, PartitionId};
use platform::log::LogError;
use platform::store::StoreError;

use crate::error::CounterError;
use crate::resume::Reason;

/// Why a worker enters again. Understood, harmless, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Doubt {
    /// The generation is stored at an earlier position than it was: the store went back.
    Rollback,
    /// Another generation or a later position is stored than expected: another process counts this partition too.
    Mismatch,
    /// Nothing is stored any more.
    Vanished,
    /// The store did not answer, so a flush may have happened or not.
    StoreAway,
    LogAway,
    /// The position fell off the log while it was read.
    OutOfRange,
    /// The ledger got new rules.
    NewRules,
}

impl Doubt {
    pub(crate) const ALL: [Doubt; 7] = [
        Doubt::Rollback,
        Doubt::Mismatch,
        Doubt::Vanished,
        Doubt::StoreAway,
        Doubt::LogAway,
        Doubt::OutOfRange,
        Doubt::NewRules,
    ];

    /// Label of `twofold_speed_reloads_total`.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Doubt::Rollback => "rollback",
            Doubt::Mismatch => "mismatch",
            Doubt::Vanished => "vanished",
            Doubt::StoreAway => "store_away",
            Doubt::LogAway => "log_away",
            Doubt::OutOfRange => "out_of_range",
            Doubt::NewRules => "new_rules",
        }
    }
}

/// Stored counts that are not to be gone on with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Unsound {
    /// The live generation; `None` when what names it cannot be read.
    pub(crate) generation: Option<Generation>,
    pub(crate) reason: Reason,
}

/// Why a worker does not go on.
#[derive(Debug)]
pub(crate) enum Break {
    /// It was asked to stop, and what it observed is stored.
    Stopped,
    Doubt(Doubt, String),
    /// What is stored is not whole, so the next generation takes its place.
    Unsound(Unsound, String),
    Failed(CounterError),
}

impl Break {
    pub(crate) fn mismatch(found: Option<(Generation, Offset)>, expected: Expected) -> Self {
        let doubt = match (found, expected.position()) {
            (Some((found, at)), Some((expected, next))) if found == expected && at < next => Doubt::Rollback,
            _ => Doubt::Mismatch,
        };
        Break::Doubt(doubt, format!("{found:?} is stored, expected {expected:?}"))
    }

    pub(crate) fn log(partition: &PartitionId, source: LogError) -> Self {
        match source {
            LogError::Unavailable(_) => Break::Doubt(Doubt::LogAway, source.to_string()),
            LogError::OutOfRange { .. } => Break::Doubt(Doubt::OutOfRange, source.to_string()),
            source => Break::Failed(CounterError::Log { partition: partition.clone(), source }),
        }
    }

    pub(crate) fn store(partition: &PartitionId, source: StoreError) -> Self {
        match source {
            StoreError::Unavailable(_) => Break::Doubt(Doubt::StoreAway, source.to_string()),
            // What a later release wrote is whole, and not ours to replace.
            StoreError::Content { generation, ref source, .. } if !source.is_of_a_later_release() => {
                let why = source.to_string();
                Break::Unsound(Unsound { generation, reason: Reason::Damaged }, why)
            }
            source => Break::Failed(CounterError::Store { partition: partition.clone(), source: Box::new(source) }),
        }
    }
}
