//! Random logs over many nights, against the oracle: every number of every day, minute and ad.

use clicks::time::Span;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::oracle::check;
use super::world::{World, at, partition};
use crate::{CountBy, Drift, Options};

/// Clicks of one day of one partition in append order, with lates, duplicates near and far, and junk.
fn fill_day(
    world: &mut World,
    random: &mut SmallRng,
    n: i32,
    topic: u128,
    number: u32,
    seen: &mut Vec<(String, u128)>,
) {
    let p = partition(topic, number);
    let mut times: Vec<i64> = (0..120).map(|_| random.random_range(0..86_400_000)).collect();
    // A few around midnight and the cut, to the millisecond.
    times.extend([0, 1, 599_999, 600_000, 600_001, 86_399_999]);
    times.sort_unstable();
    for time in times {
        let append = at(n, 0, 0) + Span::millis(time);
        let (ad, id) = match random.random_range(0..10) {
            0..3 if !seen.is_empty() => seen[random.random_range(0..seen.len())].clone(),
            _ => (format!("ad-{number}-{}", random.random_range(0..4)), random.random()),
        };
        match random.random_range(0..20) {
            0 => world.junk(&p, append, Some(b"{}")),
            1 => world.junk(&p, append, None),
            2 => world.heartbeat(&p, append, 0),
            _ => {
                let event = append - Span::millis(delay(random));
                world.click(&p, append, event, &ad, id);
                seen.push((ad, id));
            }
        }
    }
}

/// Milliseconds from event to append: mostly on time, some ahead, some late by minutes, hours, days, too many days.
fn delay(random: &mut SmallRng) -> i64 {
    match random.random_range(0..20) {
        0 => random.random_range(-301_000..0),
        1 => [-300_000, -300_001, 600_000, 600_001][random.random_range(0..4)],
        2 => random.random_range(600_000..4 * 3_600_000),
        3 => random.random_range(0..6 * 86_400_000),
        4 if random.random_bool(0.2) => random.random_range(34 * 86_400_000..36 * 86_400_000),
        _ => random.random_range(0..600_000),
    }
}

/// A week of one topic life.
async fn week(seed: u64, options: Options) -> World {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut world = World::new(2).await;
    world.options = options;
    world.object_rows = random.random_range(1..60);
    let mut seen = [Vec::new(), Vec::new()];
    for n in 1..=7 {
        for number in 0..2 {
            fill_day(&mut world, &mut random, n, 1, number, &mut seen[number as usize]);
        }
        world.cover(n).await;
        world.count_live(None).await;
        check_live(&world.published(n).await.drift);
    }
    world
}

/// Two programs have come to the same numbers, and there were some.
fn check_live(drift: &Drift) {
    let Drift::Compared { live, exact, live_late: Some(live_late), exact_late } = drift else { panic!("{drift:?}") };
    assert_eq!((live, live_late), (exact, exact_late));
    assert!(*live > 100 && *live_late > 0, "{drift:?}");
}

/// Nine days with a migration in the middle: the keys go on in partitions of another life.
async fn migration(seed: u64, options: Options) -> World {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut world = World::new(1).await;
    world.options = options;
    world.object_rows = random.random_range(1..60);
    let mut seen = Vec::new();
    for n in 1..=9 {
        let topic = if n < 4 { 1 } else { 2 };
        if n == 4 {
            world.store().await;
            world.begin_life(2, 1).await;
        }
        fill_day(&mut world, &mut random, n, topic, 0, &mut seen);
        world.cover_life(topic, n).await;
        world.published(n).await;
    }
    world
}

fn options() -> Options {
    Options { target_partitions: 2, release: "test".to_owned(), ..Options::default() }
}

#[tokio::test]
async fn every_number_equals_the_oracle() {
    for seed in 0..2 {
        eprintln!("seed {seed}");
        check(&week(seed, options()).await, 7, -36).await;
    }
}

#[tokio::test]
async fn every_number_equals_the_oracle_across_a_migration() {
    for seed in 10..12 {
        eprintln!("seed {seed}");
        check(&migration(seed, options()).await, 9, -36).await;
    }
}

/// Neither the engine nor memory nor threads decide a number or a byte.
#[tokio::test]
async fn another_engine_less_memory_and_other_threads_publish_the_same_bytes() {
    let others = [
        Options { count_by: CountBy::Reference, ..options() },
        // Room for a few chunks of 8 KB: everything goes through files, many times.
        Options { memory_limit_bytes: 64 << 10, ..options() },
        Options { target_partitions: 1, ..options() },
        Options { target_partitions: 7, ..options() },
    ];
    let tables = async |world: &World| {
        let mut all = world.everything().await;
        // Entries of the ledger hold the time at which they were published.
        all.retain(|key, _| key.starts_with("tables/"));
        all
    };
    let (first, second) = (tables(&week(20, options()).await).await, tables(&migration(21, options()).await).await);
    assert!(first.len() > 7 * 4 && second.len() > 9 * 4, "{} and {} files", first.len(), second.len());
    for other in others {
        eprintln!("{other:?}");
        let (week, migration) = (week(20, other.clone()).await, migration(21, other).await);
        assert_eq!(tables(&week).await, first);
        assert_eq!(tables(&migration).await, second);
    }
}
