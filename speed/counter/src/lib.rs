//! The streaming loop: one worker per partition turns the log into live counts, within seconds and exactly.
//!
//! ```text
//! load ─┬─ a generation is live ── look-back, fingerprint ──┐
//!       └─ none, or it is in doubt ── begin a new one ──────┴─ poll → observe → confirm topic → flush ─┐
//!   ▲                                                                                   ▲──────────────┤
//!   └──────────── any mismatch or doubt: drop all that is held ◄───────────────────────────────────────┘
//! ```
//!
//! - **One recovery road.** A killed process, a Redis that went back, a zombie, a lost reply, a log or store that was away
//!   for a while: the worker drops what it holds of the partition and enters again from what is stored. What is stored is
//!   a function of the log, so nothing is lost and nothing counts twice.
//! - **Bounded memory.** Nothing is read while a flush is pending: when the store is away the lag in Kafka grows, not
//!   the process. Dedup has a bound of its own, beyond which its drift is counted.
//! - **Nothing of another topic life.** A flush waits for an answer to "which topic is it?" whose question began after
//!   the last record of the flush was read; see `topic`.
//! - **Nothing that was lost is believed.** A scrub goes through all that is stored and holds it against the totals and
//!   against what is held. Counts that are not whole are replaced: the next generation counts them again from the log.
//! - **Partitions come and go.** A group may share them among processes; see `crew`. It fences nobody: the store does.
//! - **What is not understood ends the process.** [`run`] returns the first such error after all workers have ended.

mod begin;
mod books;
mod crew;
mod doubt;
mod error;
mod expiry;
mod meter;
mod options;
mod resume;
mod run;
mod scrub;
mod topic;
mod worker;

pub use error::CounterError;
pub use options::{Generations, Options, Partitions, Retry};
pub use run::run;
