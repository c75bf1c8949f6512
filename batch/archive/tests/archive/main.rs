//! The archive against logs and stores in memory, which fail, forget, hang and compete as told.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod chain;
mod codec;
mod faulty;
mod gaps;
mod golden;
mod marks;
mod run;
mod support;
mod world;
mod zombies;
