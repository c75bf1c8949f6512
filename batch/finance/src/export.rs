//! The forms of a statement. All are made of the same columns, so they cannot disagree.

mod csv;
mod parquet;
pub(crate) mod xlsx;

use std::path::PathBuf;

pub(crate) use csv::harmless;
pub use csv::{Csv, CsvFlavor};
pub use parquet::Parquet;
pub use xlsx::Xlsx;

use crate::lines::{Line, Period};

/// Takes the lines of a statement, period by period.
pub trait Form {
    /// The lines of one period, sorted; never none.
    ///
    /// # Errors
    /// When they cannot be written.
    fn lines(&mut self, period: &Period, lines: &[Line<'_>]) -> Result<(), ExportError>;
}

/// Why a form could not be written.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// The writer says which file it is.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error(
        "a sheet of Excel has room for {max} lines, and there are more: take coarser periods, fewer of them, or CSV or Parquet"
    )]
    TooManyLines { max: u64 },
    #[error("a sheet of Excel has room for {max} lines, and the report has more: write it as .csv")]
    ReportTooLong { max: u64 },
    #[error("an amount, {0}, has more digits than a column of Parquet holds")]
    Amount(rust_decimal::Decimal),
    #[error("it cannot be written as XLSX: {0}")]
    Xlsx(#[from] rust_xlsxwriter::XlsxError),
    #[error(
        "it cannot be written as XLSX: {reason}. Its lines are gathered in a temporary file in {} first; TMPDIR names another \
         folder, and CSV needs none", folder.display()
    )]
    Gathering { folder: PathBuf, reason: String },
    #[error("it cannot be written as Parquet: {0}")]
    Parquet(#[from] ::parquet::errors::ParquetError),
    #[error("it cannot be written as Parquet: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
}

impl From<::csv::Error> for ExportError {
    fn from(error: ::csv::Error) -> Self {
        match error.into_kind() {
            ::csv::ErrorKind::Io(error) => ExportError::Io(error),
            kind => ExportError::Io(std::io::Error::other(format!("{kind:?}"))),
        }
    }
}
