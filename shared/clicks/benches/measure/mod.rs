//! Time, chance and medians of the benchmarks.
#![allow(dead_code, reason = "each benchmark uses its own part")]

/// CPU time of this thread, in nanoseconds.
pub fn cpu_nanos() -> u64 {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux tells a thread's CPU time");
    text.split(' ').next().and_then(|first| first.parse().ok()).expect("its first number is the time")
}

/// CPU seconds of all threads of this process.
pub fn process_cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("Linux tells a process's CPU time");
    let after_name = stat.rsplit(") ").next().expect("the name stands in parentheses");
    let fields: Vec<&str> = after_name.split(' ').collect();
    // In hundredths of a second: user and system time.
    [11, 12].iter().map(|field: &usize| fields[*field].parse::<f64>().expect("a number")).sum::<f64>() / 100.0
}

/// The most memory that this process has had, in bytes.
pub fn peak_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells a process's memory");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("its most memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

/// The first argument that is a number; `cargo bench` passes flags of its own.
pub fn argument() -> Option<usize> {
    std::env::args().skip(1).find_map(|argument| argument.parse().ok())
}

pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// SplitMix64: every run sees the same events.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed)
    }
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ bits >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ bits >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ bits >> 31
    }
    pub fn bits(&mut self) -> u128 {
        u128::from(self.next()) << 64 | u128::from(self.next())
    }
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
    /// In `[0, 1)`.
    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }
}
