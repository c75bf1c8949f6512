//! The exact count of a night and its publishing.
//!
//! ```text
//! books at head -> coverage -> cut(N) -> plan: days, inputs        (night, books and archive say what is to be done)
//!   -> scan, verified -> verdict and count -> hours and days       (DataFusion plans and reads, `clicks` judges)
//!   -> gate -> data files -> ONE ledger entry -> tables/current    (nothing is visible before the entry)
//! ```
//!
//! Invariants:
//! * A night is a function of the log, the ledger before it and the release: no wall time, no listing order, no thread
//!   decides a number or a byte of a data file.
//! * Every input is named with its hash, and what is counted are the bytes that were hashed.
//! * A run that ends anywhere before its entry has published nothing; one that ends after it leaves at most stale copies
//!   in `tables/current`, which every later run repairs first.

mod archived;
mod audit;
mod catch_up;
mod change;
mod count;
mod counted;
mod current;
mod drift;
mod engine;
mod error;
mod exact;
mod gate;
mod gc;
mod input;
mod lease;
pub mod measure;
mod night;
mod objections;
mod options;
mod periods;
mod plan;
mod previous;
mod publish;
pub mod published;
mod record;
mod recount;
mod reference;
mod report;
mod rows;
mod scan;
mod stages;
mod status;
mod table;
mod words;

pub use audit::{Audit, AuditError, Break, Breaks, Counts, EntryAudit, audit};
pub use catch_up::{CatchUp, Interrupted, catch_up};
pub use count::CountBy;
pub use drift::Drift;
pub use error::{BatchError, Incomplete, InputError, Lag, TableError};
pub use gate::GateFailure;
pub use gc::{Gc, Mode, Orphan, gc};
pub use lease::{Acquired, Held, LEASE, LEASE_MAX, Lease, acquire, give_back};
pub use night::{Accept, NightOutcome, NightReport, Request, run_night};
pub use options::Options;
pub use periods::change_period;
pub use recount::RecountReport;
pub use stages::{Stage, Stages};
pub use status::{DayStatus, PartitionStatus, Status, status};

#[cfg(test)]
mod tests;
