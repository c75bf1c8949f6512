//! Kafka to raw Parquet: everything that was on the log, once, without a gap.
//!
//! One object is one contiguous offset range of one partition, written by one create-only put under a key that is a
//! function of its first record; so two writers can never both succeed. The footers carry the ends, so listing plus
//! footers prove that there is no gap and no overlap.
//!
//! ```text
//! log ─poll─> buffer ─cut─> codec::encode ─create-only put─> raw/v1/…/<start>.parquet ─> chain::read_chain ─> the batch
//!  ^                                                                    |
//!  └──────────── heartbeats                  position = end of the chain┘
//! ```

pub mod schema;

pub mod codec;

pub mod footer;

pub mod chain;

mod cut;

mod archiver;

mod worker;

mod upload;

mod settle;

mod endings;

mod prune;

mod memory;

mod confirmed;

mod heartbeat;

mod patience;

mod progress;

mod error;

pub use archiver::{Begin, Options, run};
pub use error::ArchiveError;
pub use progress::{Ended, Handle, PartitionProgress, Phase, Progress};
pub use prune::{PruneError, PruneMode, PruneOptions, Pruned, PrunedPartition, prune};
