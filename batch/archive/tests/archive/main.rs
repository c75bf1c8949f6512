//! The archive against logs and stores in memory, which fail, forget, hang and compete as told.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod bounds;
mod chain;
mod codec;
mod ends;
mod faulty;
mod gaps;
mod golden;
mod marks;
mod outcomes;
mod prune;
mod run;
mod s3;
mod support;
mod world;
mod zombies;
