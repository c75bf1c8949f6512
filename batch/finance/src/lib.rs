//! What is billed, for the people who bill.
//!
//! Everything here is a function of a position of the ledger, a version of the ads table, and what is asked for: the same
//! three give the same numbers, and the same bytes, for ever. Live counts have no part in it.
//!
//! ```text
//! ledger position -> books -> day by day: revision + adjustments      (tables are read as a stream)
//!   -> windows of a zone -> lines by ad, campaign or tenant, by currency -> CSV, XLSX, Parquet
//! ```
//!
//! * A line's clicks are those of its revision, its adjustment what was found later, its amount that of both together.
//! * An amount is exact: clicks times the price that is valid on the UTC day of the click, never rounded, and never added
//!   to one of another currency. Clicks without a price have no amount; they stand in lines of their own.

mod changes;
mod close;
mod dates;
mod explain;
mod export;
mod inputs;
mod invoice;
mod lines;
mod money;
mod position;
mod provisional;
mod reconcile;
mod report;
mod statement;

pub use changes::{AdChange, ChangeCause, ChangesError, DayChange, changes};
pub use close::{Blocker, Close, DayClose};
pub use dates::{Dates, DatesError};
pub use explain::{ExplainError, Explained, ExplainedClick, Fate, ReadObject, explain};
pub use export::{Csv, CsvFlavor, ExportError, Form, Parquet, Xlsx};
pub use inputs::InputsError;
pub use invoice::{Field, Invoice, InvoiceError, InvoiceForm, InvoiceLine, InvoiceOptions, Mapping, MappingError};
pub use lines::{Line, Period};
pub use money::{Counts, Money, Total, Totals};
pub use position::{PointInTime, PointParseError, books_at, published_at};
pub use provisional::Provisional;
pub use reconcile::{
    AtStake, Bucket, Cause, Compared, Keys, KeysError, Mine, ReconcileError, Terms, Tolerance, ToleranceError,
    reconcile,
};
pub use report::{BucketSum, Largest, Report, ReportForm, Summary, stakes};
pub use statement::{By, OpenDay, Scope, StatementError, Step, Written, adjustments_of, write};
