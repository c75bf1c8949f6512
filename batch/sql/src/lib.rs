//! The books as tables: read-only SQL, from the command line and over PostgreSQL's protocol.
//!
//! ```text
//! ledger position + version of the ads table -> snapshot -> pin        (what a statement is read from)
//! text -> statement: reads only? -> plan: reads only? -> DataFusion    (within limits of memory, time and rows)
//!   -> clicks_minute, clicks_hour, clicks_day: files that the books name, with their adjustments
//!   -> raw_clicks: objects that the entries have counted, as far as they were counted
//!   -> adjustments, periods, quality, ads: made of the books when they are asked for
//! ```
//!
//! Every answer is a function of a position of the ledger, a version of the ads table, and the question. Files are named by
//! the hash of their bytes and read by ranges; that they still hold those bytes is what `twofold audit` proves.

mod duckdb;
mod error;
mod functions;
#[cfg(feature = "pgwire")]
pub mod pgwire;
mod pump;
pub mod render;
mod session;
mod size;
mod snapshot;
mod statement;
mod tables;

pub use duckdb::views;
pub use error::SqlError;
pub use session::{Answer, CATALOG, Engine, Limits, SCHEMA, Session};
pub use snapshot::{Archive, Pin, Snapshot};
pub use statement::Refused;
pub use tables::{About, TABLES};
