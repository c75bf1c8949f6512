//! The speed layer against faults of real servers: whatever breaks, and whenever, the live counts are in the end what a
//! naive count of the whole topic gives, key for key; and every test shows that its fault really happened.
//!
//! A binary of its own, because it links no DataFusion: `twofold` runs as separate processes.
//! `TWOFOLD_FAULT_ROUNDS` multiplies the rounds of the loops, `TWOFOLD_SEED` chooses their faults; `tests/soak` sets both.
#![allow(clippy::unwrap_used, missing_docs)]

mod admin;
mod load;
mod place;
mod speed;

mod brokers;
mod chaos;
mod cluster;
mod damage;
mod log_lost;
mod memory;
mod network;
mod rates;
mod redis_killed;
mod retention;
mod speed_killed;
mod topic_life;

/// Chooses clicks, faults and moments. Printed, so that a failed run can be repeated, as far as servers allow it.
fn seed(of_test: u64) -> u64 {
    let seed = std::env::var("TWOFOLD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0);
    eprintln!("seed {seed}");
    seed * 1_000 + of_test
}

/// How many rounds a loop of kills takes.
fn rounds(usual: u32) -> u32 {
    let times = std::env::var("TWOFOLD_FAULT_ROUNDS").ok().and_then(|times| times.parse().ok()).unwrap_or(1);
    usual * times
}
