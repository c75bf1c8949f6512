//! The streaming loop on the log and the store in memory: whatever happens, what is stored is what a naive count of the
//! whole log gives, key for key.
#![allow(clippy::unwrap_used, missing_docs)]

mod damage;
mod endings;
mod expiry;
#[path = "../common/making.rs"]
#[allow(dead_code)]
mod making;
mod metrics;
#[path = "../common/oracle.rs"]
#[allow(dead_code)]
mod oracle;
mod rebalance;
mod recovery;
mod rules;
mod world;
