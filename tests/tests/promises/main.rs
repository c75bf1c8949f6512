//! The system's promises as executable tests, on the real services.
//!
//! One binary with a module per promise: linking DataFusion once is slow enough.
#![allow(clippy::unwrap_used, missing_docs)]

mod access;
mod archive;
mod collector;
mod embedded;
mod finance;
mod killed;
mod mistakes;
mod nightly;
mod schedules;
mod serving;
mod speed;
mod tables;
mod up;
mod whole_way;
mod wire;
