//! HTTP in, Kafka out: takes clicks over HTTP and answers after the log acknowledged them.
//!
//! ```text
//! POST /v1/clicks   one JSON click | a JSON array | NDJSON
//!     202   every click that the answer calls accepted is on the log, durably
//!     4xx   nothing of the request is on the log, or the answer says item by item what is
//!     503   the log did not take every click in time; the same click ids may be sent again, dedup recognises them
//! GET  /livez, /readyz, /metrics
//! ```
//!
//! Invariants:
//! * No 202 before the acknowledgement, and none without it.
//! * What is acknowledged is readable: the forwarded value decodes to the very click that was checked, and lies within
//!   time limits that are a minute narrower than the counters', so that no counter rejects it later.
//! * Memory is bounded: by bytes of request bodies, by records that wait for the log, by connections. Beyond a bound
//!   clients are told to come again; nothing queues without end.
//! * A request that was begun is answered, also while the process drains.
//!
//! An error of the log that is not understood ends [`Collector::run`]; restart is the one recovery road.

mod options;
mod server;

mod intake;

mod body;
mod split;

mod forward;
mod item;
mod refusal;

mod append;

mod answer;
mod health;
mod telemetry;

#[cfg(test)]
mod tests;

pub use intake::{Intake, router};
pub use options::{Options, OptionsError};
pub use server::{Collector, CollectorError, serve};
