//! Sliding dedup at many keys beside `hashbrown` and a queue of expiries, and beside a bare table: time and bytes per key,
//! and the longest pause.
//!
//! The bare table is the limit of the machine: twice as large as all keys from the start, its memory touched before, one
//! slot of 20 bytes looked at ahead and written per key. It never expires; keys that come again do so soon.
//!
//! `cargo bench -p clicks --bench dedup [-- KEYS]`, 50 million by default. Each round grows to that many keys, which fill
//! one horizon, then goes on for half a horizon, so that as many keys expire as come.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros)]

mod measure;

use std::collections::VecDeque;
use std::time::Instant;

use clicks::dedup::{DedupKey, SlidingDedup};
use clicks::time::{Span, Timestamp};
use measure::{Random, cpu_nanos, median};

/// Keys that a caller reads ahead of their judgement.
const AHEAD: usize = 32;
const ROUNDS: usize = 3;

struct Run {
    growing: f64,
    steady: f64,
    bytes_per_key: f64,
    pause_ms_max: f64,
    duplicates: u64,
}

struct Keys {
    random: Random,
    recent: Vec<u128>,
}

impl Keys {
    fn new() -> Self {
        Keys { random: Random::new(1), recent: Vec::new() }
    }

    /// One in twenty was there before.
    fn fill(&mut self, keys: &mut [u128; AHEAD]) {
        for key in keys {
            let place = self.random.below(10_000) as usize;
            *key = match self.recent.get(place) {
                Some(recent) if self.random.below(20) == 0 => *recent,
                _ => self.random.bits(),
            };
            if self.recent.len() < 10_000 { self.recent.push(*key) } else { self.recent[place] = *key }
        }
    }
}

/// `sight` takes some keys and their time, and returns how many were duplicates.
fn run(number: usize, horizon: Span, mut sight: impl FnMut(&[u128; AHEAD], Timestamp) -> u64) -> (f64, f64, f64, u64) {
    let (mut keys, mut few) = (Keys::new(), [0; AHEAD]);
    let (mut pause, mut duplicates) = (0u128, 0);
    let at = |n: usize| Timestamp::from_millis((n as i128 * i128::from(horizon.as_millis()) / number as i128) as i64);
    let mut phase = |from: usize, to: usize| {
        let mut nanos = 0;
        let mut n = from;
        while n < to {
            // The keys are made outside the measurement.
            let batch: Vec<[u128; AHEAD]> = (0..1_000)
                .map(|_| {
                    keys.fill(&mut few);
                    few
                })
                .collect();
            let began = cpu_nanos();
            for few in &batch {
                let moment = Instant::now();
                duplicates += sight(few, at(n));
                pause = pause.max(moment.elapsed().as_nanos());
                n += AHEAD;
            }
            nanos += cpu_nanos() - began;
        }
        (nanos as f64 / (n - from) as f64, n)
    };
    // The second phase goes on where the first one ended: append time never moves back.
    let (growing, reached) = phase(0, number);
    let (steady, _) = phase(reached, reached + number / 2);
    (growing, steady, pause as f64 / 1e6, duplicates)
}

fn ours(number: usize, horizon: Span) -> Run {
    let mut dedup = SlidingDedup::new(horizon, usize::MAX);
    let mut bytes_per_key: f64 = 0.0;
    let mut sightings = 0;
    let (growing, steady, pause_ms_max, duplicates) = run(number, horizon, |few, now| {
        for key in few {
            dedup.touch(DedupKey::from_u128(*key));
        }
        let known = few.iter().filter(|key| dedup.sight(DedupKey::from_u128(**key), now).is_some()).count();
        sightings += AHEAD;
        if sightings % (number / 20 / AHEAD * AHEAD) == 0 && sightings > number / 2 {
            bytes_per_key = bytes_per_key.max(dedup.memory() as f64 / dedup.len() as f64);
        }
        known as u64
    });
    Run { growing, steady, bytes_per_key, pause_ms_max, duplicates }
}

/// A hash map of last sightings, and a queue in which they expire.
fn plain(number: usize, horizon: Span) -> Run {
    let mut last: hashbrown::HashMap<u128, i64, foldhash::fast::RandomState> = Default::default();
    let mut order: VecDeque<(i64, u128)> = VecDeque::new();
    let mut bytes_per_key: f64 = 0.0;
    let (growing, steady, pause_ms_max, duplicates) = run(number, horizon, |few, now| {
        let now = now.as_millis();
        while let Some((time, key)) = order.front().copied().filter(|(time, _)| now - time >= horizon.as_millis()) {
            order.pop_front();
            if last.get(&key) == Some(&time) {
                last.remove(&key);
            }
        }
        let mut known = 0;
        for key in few {
            known += u64::from(last.insert(*key, now).is_some());
            order.push_back((now, *key));
        }
        let bytes = last.capacity() * 8 / 7 * 33 + order.capacity() * 32;
        if last.len() > number / 2 {
            bytes_per_key = bytes_per_key.max(bytes as f64 / last.len() as f64);
        }
        known
    });
    Run { growing, steady, bytes_per_key, pause_ms_max, duplicates }
}

/// The limit: see above.
fn bare(number: usize, horizon: Span) -> Run {
    const SLOT: usize = 5;
    let slots = number * 2;
    let mut table = vec![1u32; slots * SLOT];
    table.fill(0);
    let (growing, steady, pause_ms_max, duplicates) = run(number, horizon, |few, now| {
        let homes = few.map(|key| (((key >> 64) * slots as u128) >> 64) as usize * SLOT);
        // Independent loads, so that the processor has many of them under way.
        std::hint::black_box(homes.iter().fold(0, |sum, home| sum ^ table[*home]));
        let mut known = 0;
        for (key, mut home) in few.iter().zip(homes) {
            let words = [*key as u32, (*key >> 32) as u32, (*key >> 64) as u32, (*key >> 96) as u32];
            while table[home + 4] != 0 && table[home..home + 4] != words {
                home = (home + SLOT) % table.len();
            }
            known += u64::from(table[home + 4] != 0);
            table[home..home + 4].copy_from_slice(&words);
            table[home + 4] = now.as_millis() as u32 | 1;
        }
        known
    });
    Run { growing, steady, bytes_per_key: (table.len() * 4) as f64 / number as f64, pause_ms_max, duplicates }
}

fn main() {
    let number = measure::argument().unwrap_or(50_000_000);
    let horizon = Span::minutes(15);
    let (mut our, mut their, mut limit) = (vec![], vec![], vec![]);
    for round in 1..=ROUNDS {
        let (a, b, c) = (ours(number, horizon), plain(number, horizon), bare(number, horizon));
        assert!(a.duplicates == b.duplicates && a.duplicates == c.duplicates, "the answers differ");
        for (name, run) in [("twofold", &a), ("hash map and queue", &b), ("bare table", &c)] {
            println!(
                "round {round}, {name}: growing {:.0} ns, steady {:.0} ns per key; at most {:.1} bytes per key; longest pause {:.1} ms",
                run.growing, run.steady, run.bytes_per_key, run.pause_ms_max
            );
        }
        our.push(a.steady);
        their.push(b.steady);
        limit.push(c.growing);
    }
    let (our, their, limit) = (median(our), median(their), median(limit));
    println!(
        "{number} keys, steady: hash map and queue / twofold {:.1}, twofold / bare table, half full {:.1}",
        their / our,
        our / limit
    );
}
