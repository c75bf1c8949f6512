//! The streaming loop, simulated: whole processes on the ports in memory, on one thread and in simulated time, so that a
//! seed is a history that can be played again, step by step. Whatever happens, the store equals the oracle in the end, and
//! at every look between.
#![allow(clippy::unwrap_used, missing_docs)]

mod bugs;
mod control;
mod exhaustive;
#[path = "../common/making.rs"]
#[allow(dead_code)]
mod making;
#[path = "../common/oracle.rs"]
#[allow(dead_code)]
mod oracle;
mod plan;
mod play;
mod ports;
mod rest;
mod runner;
mod shrink;
mod tally;
mod trace;
mod verify;
mod world;

use std::time::Instant;

use plan::{Plan, Step};
use runner::{explain, first_red, run};

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

/// `TWOFOLD_SEED=n` plays one history alone, `TWOFOLD_HISTORIES=n` as many as that.
#[test]
fn whatever_happens_the_store_equals_the_oracle() {
    if let Some(seed) = number("TWOFOLD_SEED") {
        match run(&Plan::draw(seed), None, true) {
            Ok(end) => println!("seed {seed} is green\n{}", end.text),
            Err(red) => panic!("{}", explain(seed, None, &red)),
        }
        return;
    }
    let histories = number("TWOFOLD_HISTORIES").unwrap_or(2_000);
    let first: u64 = rand::random::<u64>() >> 16;
    // One half is the same each time.
    let seeds: Vec<_> = (0..histories / 2).chain(first..first + histories.div_ceil(2)).collect();
    let began = Instant::now();
    let (red, tally) = first_red(&seeds, None);
    if let Some((number, red)) = red {
        panic!("{}", explain(seeds[number], None, &red));
    }
    print!("{tally}");
    let took = began.elapsed().as_secs_f64();
    println!(
        "{histories} histories from 0 and from {first} in {took:.1} s: {:.0} a minute",
        histories as f64 / took * 60.0
    );
    if histories >= 2_000 {
        assert_eq!(tally.missing(), [""; 0], "in {histories} histories");
    }
}

/// As at the start of a machine whose clock is set late: the copy of the ledger is too old before the first look at it.
#[test]
fn the_clock_may_jump_while_a_process_starts() {
    for number in 0..12 {
        let steps = vec![Step::Turns { number }, Step::Pass { span: 25 * 60 * 60_000 }];
        let plan = Plan { steps, ..Plan::draw(0) };
        run(&plan, None, false).map_err(|red| red.why).unwrap();
    }
}

/// Whenever retention takes sightings that the look-back needs, a retry of them is a duplicate or owned up to.
#[test]
fn retention_may_come_at_any_moment_of_an_entry() {
    let mut drifts = 0;
    for (seed, number) in (0..300).flat_map(|seed| (0..20).map(move |number| (seed, number))) {
        let steps = vec![
            Step::Clicks { partition: 0, number: 4 },
            Step::Settle,
            Step::Kill { process: 0, again: true },
            Step::Turns { number },
            Step::Retention { partition: 0, beyond: -1 },
            Step::Again { back: 3 },
        ];
        let plan = Plan { seed, partitions: 1, in_group: false, sightings_max: usize::MAX, steps, ..Plan::draw(0) };
        let end = run(&plan, None, false).map_err(|red| red.why).unwrap();
        drifts += u64::from(!end.tally.has("a duplicate at rest"));
    }
    assert!(drifts > 0, "no retry was ever counted");
}

#[test]
fn a_seed_is_the_same_history_each_time() {
    for seed in 0..60 {
        let plan = Plan::draw(seed);
        let [first, second] = [run(&plan, None, true), run(&plan, None, true)].map(|end| end.unwrap());
        assert_eq!(first, second, "seed {seed}");
        assert!(first.events > 20, "seed {seed}");
    }
}
