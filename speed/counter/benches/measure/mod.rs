//! CPU times of processes, chance and medians of the benchmarks.
#![allow(dead_code, reason = "each benchmark uses its own part")]

use std::time::Duration;

/// Ticks of a second in which Linux counts CPU time for us.
const TICKS: u64 = 100;

/// CPU time of a process that runs, of all its threads, user and system, to a hundredth of a second.
pub fn cpu_of(process: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    // The name may hold anything, but ends with the last parenthesis; the times are the 12th and 13th field after it.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number of ticks")).sum();
    Duration::from_millis(ticks * 1_000 / TICKS)
}

/// Resident memory of a process that runs, in MB.
pub fn memory_of(process: u32) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it tells its memory");
    line.trim().trim_end_matches("kB").trim().parse::<f64>().expect("a number of kB") / 1_000.0
}

/// The first argument that is a number; `cargo bench` passes flags of its own.
pub fn argument() -> Option<usize> {
    arguments().next()
}

/// All arguments that are numbers.
pub fn arguments() -> impl Iterator<Item = usize> {
    std::env::args().skip(1).filter_map(|argument| argument.parse().ok())
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
