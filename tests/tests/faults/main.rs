//! The speed layer against faults of real servers: whatever breaks, and whenever, the live counts are in the end what a
//! naive count of the whole topic gives, key for key; and every test shows that its fault really happened.
//!
//! A binary of its own, because it links no DataFusion: `twofold` runs as separate processes.
//! `TWOFOLD_FAULT_ROUNDS` multiplies the rounds of the loops; `tests/soak` sets it.
#![allow(clippy::unwrap_used, missing_docs)]

mod admin;
mod load;
mod place;
mod speed;

mod brokers;
mod cluster;
mod damage;
mod memory;
mod network;
mod rates;
mod redis_killed;
mod retention;
mod speed_killed;
mod topic_life;

/// How many rounds a loop of kills takes.
fn rounds(usual: u32) -> u32 {
    let times = std::env::var("TWOFOLD_FAULT_ROUNDS").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    usual * times
}
