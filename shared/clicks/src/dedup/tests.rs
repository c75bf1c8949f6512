//! Dedup against its definition.

use super::*;
use proptest::prelude::*;

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

/// Of small numbers keys that all lie in one shard, so that they meet.
fn k(number: u8) -> DedupKey {
    DedupKey::from_u128(u128::from(number) << 100 | 1)
}

/// The definition, word for word: sighted within the last H of append time.
fn oracle(log: &[(u8, i64)], i: usize, horizon: i64) -> Option<i64> {
    log[..i]
        .iter()
        .rev()
        .find(|(key, _)| *key == log[i].0)
        .map(|(_, time)| log[i].1 - time)
        .filter(|age| *age < horizon)
}

fn follow(log: &[(u8, i64)], horizon: i64, crash: usize) -> Result<(), TestCaseError> {
    let mut dedup = SlidingDedup::new(Span::millis(horizon), usize::MAX);
    for (i, (key, time)) in log.iter().enumerate() {
        if i == crash {
            // A restart knows nothing but the last H of the log.
            dedup = SlidingDedup::new(Span::millis(horizon), usize::MAX);
            let now = log[..i].last().map_or(0, |(_, t)| *t);
            for (key, time) in log[..i].iter().filter(|(_, t)| now - t < horizon) {
                dedup.sight(k(*key), at(*time));
            }
        }
        let got = dedup.sight(k(*key), at(*time)).map(Span::as_millis);
        prop_assert_eq!(got, oracle(log, i, horizon), "at {} of {:?}", i, log);
    }
    Ok(())
}

fn log_of(start: i64, steps: Vec<(u8, i64)>) -> Vec<(u8, i64)> {
    let mut time = start;
    steps
        .into_iter()
        .map(|(key, step)| {
            time += step;
            (key, time)
        })
        .collect()
}

proptest! {
    #[test]
    fn agrees_with_the_definition_and_rebuilds_from_the_last_horizon(
        steps in prop::collection::vec((0u8..6, 0i64..6), 1..120), crash in 0usize..120, start in -50i64..50,
    ) {
        follow(&log_of(start, steps), 10, crash)?;
    }

    /// Many keys of one shard, steps from nothing to several horizons: sweeps, growth and the slices' turn.
    #[test]
    fn agrees_with_the_definition_when_it_grows_and_sweeps(
        steps in prop::collection::vec((any::<u8>(), prop_oneof![8 => 0i64..4, 2 => 0i64..3_000, 1 => 0i64..30_000]), 1..600),
        horizon in prop_oneof![Just(10i64), Just(1_500), Just(9_000)],
        crash in 0usize..600,
    ) {
        follow(&log_of(0, steps), horizon, crash)?;
    }

    /// Around the moment at which the 32 bits of a stamp come round.
    #[test]
    fn agrees_with_the_definition_when_the_stamps_come_round(
        steps in prop::collection::vec((0u8..20, 0i64..4_000), 1..200),
    ) {
        follow(&log_of(i64::from(u32::MAX) - 100_000, steps), 9_000, usize::MAX)?;
    }
}

#[test]
fn an_old_sighting_never_comes_back_as_a_young_one() {
    // Silence of exactly one period of the stamps, in one jump and in many.
    let period = i64::from(u32::MAX);
    for step in [period, 1_000_003, 8_999] {
        let mut dedup = SlidingDedup::new(Span::millis(9_000), usize::MAX);
        dedup.sight(k(1), at(0));
        let mut now = 0;
        while now + step < period {
            now += step;
            dedup.sight(k(2), at(now));
        }
        assert_eq!(dedup.sight(k(1), at(period)), None, "steps of {step}");
    }
}

#[test]
fn beyond_its_bound_it_forgets_the_oldest_slice_and_says_so() {
    let horizon = Span::minutes(15);
    let mut dedup = SlidingDedup::new(horizon, 3);
    for key in 0..3 {
        dedup.sight(k(key), at(i64::from(key) * 10_000));
    }
    assert_eq!(dedup.evicted(), 0);
    dedup.sight(k(3), at(30_000));
    assert_eq!((dedup.evicted(), dedup.len()), (1, 3));
    assert_eq!(dedup.sight(k(1), at(31_000)), Some(Span::millis(21_000)));
    assert_eq!(dedup.sight(k(0), at(32_000)), None, "forgotten, and flagged above");
}

#[test]
fn what_is_remembered_is_counted_and_takes_little_memory() {
    let mut dedup = SlidingDedup::new(Span::minutes(15), usize::MAX);
    let keys = DedupKeys::new(3).ad("a");
    let number = 8_000_000u32;
    for id in 0..number {
        dedup.sight(keys.click(crate::id::ClickId::from_u128(id.into())), at(i64::from(id) / 10_000));
        // Small tables have room.
        if id.is_multiple_of(1_000_000) {
            assert_eq!(dedup.len(), id as usize + 1);
            let (per_key, most) = (dedup.memory() as f64 / f64::from(id + 1), if id < 5_000_000 { 64.0 } else { 27.0 });
            assert!(id == 0 || per_key < most, "{per_key} bytes at {id} keys");
        }
    }
    // An hour later all of it is gone, memory too.
    dedup.sight(k(0), at(3_600_000));
    assert!((dedup.len(), dedup.memory()) < (2, 10_000), "{} {}", dedup.len(), dedup.memory());
}

/// Many keys over all shards, against a plain map; some are sighted again soon, some late, some never.
#[test]
fn agrees_with_a_map_at_many_keys() {
    let horizon = 20_000;
    let mut dedup = SlidingDedup::new(Span::millis(horizon), usize::MAX);
    let mut last: std::collections::HashMap<DedupKey, i64> = std::collections::HashMap::new();
    let keys = DedupKeys::new(9).ad("a");
    let mut state = 1u64;
    let mut random = move |limit: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % limit
    };
    for n in 0..600_000i64 {
        let now = n / 10;
        let id = match random(10) {
            0 => random(n as u64 + 1),
            1 => (n as u64).saturating_sub(random(5_000)),
            _ => n as u64,
        };
        let key = keys.click(crate::id::ClickId::from_u128(id.into()));
        let wanted = last.insert(key, now).map(|then| now - then).filter(|age| *age < horizon);
        assert_eq!(dedup.sight(key, at(now)).map(Span::as_millis), wanted, "{n}");
    }
}
