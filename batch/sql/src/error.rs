//! What can go wrong with a question.

use std::time::Duration;

use arrow::error::ArrowError;
use clicks::layout::ForeignKey;
use datafusion::error::DataFusionError;
use platform::ads::AdsError;
use platform::ledger::LedgerError;
use recompute::TableError;

use crate::statement::Refused;
use crate::tables::TABLES;

/// Why there is no answer, or no whole one.
#[derive(Debug, thiserror::Error)]
pub enum SqlError {
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The question names what is not there, or asks for what cannot be computed.
    #[error("{0}")]
    Question(String),
    #[error("the answer did not come within {0:?}: ask for less, or give it more time")]
    Time(Duration),
    #[error("the question was taken back")]
    Cancelled,
    #[error(
        "the answer broke off: this program could not compute it, which is a mistake of ours. What has come is not all"
    )]
    Broken,
    #[error("the answer has more than {0} rows: ask for fewer, with LIMIT or by grouping them, or permit more")]
    Rows(u64),
    #[error("the answer takes more memory than it may: ask for less at a time, or permit more ({0})")]
    Memory(String),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Ads(#[from] AdsError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Foreign(#[from] ForeignKey),
    /// What the tables are read from failed.
    #[error("{0}")]
    Read(String),
}

impl SqlError {
    /// Whether another question would have had an answer.
    pub fn is_question(&self) -> bool {
        matches!(self, SqlError::Refused(_) | SqlError::Question(_))
    }
}

impl From<DataFusionError> for SqlError {
    /// What the engine says, without the names of its own parts where they help nobody.
    fn from(error: DataFusionError) -> Self {
        match error.find_root() {
            // One of ours that has passed through the engine has said all already.
            DataFusionError::External(external) => SqlError::Read(external.to_string()),
            DataFusionError::ResourcesExhausted(what) => SqlError::Memory(what.clone()),
            DataFusionError::ObjectStore(error) => SqlError::Read(error.to_string()),
            DataFusionError::ParquetError(error) => SqlError::Read(error.to_string()),
            DataFusionError::IoError(error) => SqlError::Read(error.to_string()),
            DataFusionError::ExecutionJoin(_) => SqlError::Broken,
            DataFusionError::Plan(what) if what.starts_with("table '") => {
                SqlError::Question(format!("{what}: there are {}", TABLES.map(|table| table.name).join(", ")))
            }
            DataFusionError::Plan(what)
            | DataFusionError::Execution(what)
            | DataFusionError::NotImplemented(what)
            | DataFusionError::Configuration(what) => SqlError::Question(what.clone()),
            DataFusionError::SchemaError(what, _) => SqlError::Question(what.to_string()),
            DataFusionError::SQL(what, _) => SqlError::Question(what.to_string()),
            DataFusionError::ArrowError(what, _) if !matches!(**what, ArrowError::IoError(..)) => {
                SqlError::Question(what.to_string())
            }
            _ => SqlError::Read(error.strip_backtrace()),
        }
    }
}

impl From<SqlError> for DataFusionError {
    fn from(error: SqlError) -> Self {
        DataFusionError::External(Box::new(error))
    }
}
