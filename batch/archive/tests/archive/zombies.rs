//! Archivers that are killed, paused and started again beside each other, on a store that fails: whatever the schedule,
//! what is stored is the log, each record once.
//!
//! `TWOFOLD_SEED=1000` runs other histories than the usual ones; a failure names the seed of its history.

use archive::{Begin, Options, Phase};
use clicks::position::Offset;
use clicks::time::Span;
use platform::log::{Log, LogRecord};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::support::noon;
use crate::world::{Archiver, World, soon};

const PARTITIONS: u32 = 2;

/// One random history. `slots` archivers may run at the same time; each owns every partition and knows nothing of the
/// others, so all but one are zombies.
async fn history(seed: u64, slots: usize) {
    let mut random = SmallRng::seed_from_u64(seed);
    let world = World::new(noon(), PARTITIONS).await;
    world.store.be_chaotic(seed);
    let mut running: Vec<Option<Archiver>> = (0..slots).map(|_| None).collect();
    let mut number = 0;
    for _ in 0..60 {
        let slot = random.random_range(0..slots);
        match random.random_range(0..10) {
            0..4 => {
                for _ in 0..random.random_range(1..40) {
                    world.click(random.random_range(0..PARTITIONS), number).await;
                    number += 1;
                }
            }
            4..6 => world.advance(Span::seconds(random.random_range(1..1_500))),
            6 => {
                let skew = Span::seconds(random.random_range(-120..120));
                world.log.set_broker_skew(random.random_range(0..PARTITIONS), skew).unwrap();
            }
            7 => match running[slot].take() {
                Some(archiver) if random.random_bool(0.7) => archiver.kill().await,
                Some(archiver) => archiver.stop().await.unwrap_or_else(|error| panic!("seed {seed}: {error}")),
                None => {}
            },
            8 => drop(running[slot].as_ref().map(|archiver| {
                let handle = archiver.handle.clone();
                tokio::spawn(async move { handle.cut_now().await })
            })),
            _ => {}
        }
        if running[slot].is_none() {
            let options = Options {
                object_records_max: random.random_range(1..60),
                poll_records_max: random.random_range(1..30),
                // The same name in some, so that their objects are equal or differ only in their end.
                writer: format!("archiver-{}", random.random_range(0..2)),
                ..Options::default()
            };
            running[slot] = Some(world.start(options));
        }
        tokio::time::sleep(std::time::Duration::from_millis(random.random_range(0..15))).await;
    }
    world.store.calm_down();
    let last = world.start(Options::default());
    soon(last.handle.cut_now()).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    for archiver in running.into_iter().flatten() {
        archiver.stop().await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
    last.stop().await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    let mut clicks = 0;
    for partition in 0..PARTITIONS {
        world.check_archived(partition, Offset::ZERO).await;
        clicks += world.archived(partition).await.iter().filter(|record| !record.is_control()).count() as u64;
    }
    assert_eq!(clicks, number, "seed {seed}");
}

/// As [`history`], with retention that overtakes everybody now and then: every record is stored once or lies in a gap.
async fn overtaken(seed: u64, slots: usize) {
    let mut random = SmallRng::seed_from_u64(seed);
    let world = World::new(noon(), 1).await;
    world.store.be_chaotic(seed);
    let mut running: Vec<Option<Archiver>> = (0..slots).map(|_| None).collect();
    let mut ever: Vec<LogRecord> = Vec::new();
    for number in 0..80 {
        let slot = random.random_range(0..slots);
        match random.random_range(0..10) {
            0..4 => {
                for _ in 0..random.random_range(1..40) {
                    world.click(0, number).await;
                }
            }
            4 => world.advance(Span::seconds(random.random_range(1..1_500))),
            5 | 6 => match running[slot].take() {
                Some(archiver) if random.random_bool(0.7) => archiver.kill().await,
                Some(archiver) => stop(archiver, seed).await,
                None => {}
            },
            7 => {
                note(&world, &mut ever).await;
                let bounds = world.log.bounds(0).await.unwrap();
                let held = bounds.end.distance_from(bounds.first);
                world.log.delete_records(0, bounds.first.plus(random.random_range(0..=held))).unwrap();
            }
            8 => world.store.set_away(random.random_bool(0.4)),
            _ => {}
        }
        // A start that meets a store that is away is refused.
        if running[slot].is_none() && !world.store.is_away() {
            let options = Options {
                object_records_max: random.random_range(1..60),
                poll_records_max: random.random_range(1..30),
                writer: format!("archiver-{}", random.random_range(0..2)),
                begin: Begin::AtFirst,
                ..Options::default()
            };
            running[slot] = Some(world.start(options));
            tokio::time::sleep(std::time::Duration::from_millis(random.random_range(0..8))).await;
        }
        tokio::time::sleep(std::time::Duration::from_millis(random.random_range(0..10))).await;
        for slot in &mut running {
            // One whose start met it all the same.
            if slot.as_ref().is_some_and(Archiver::is_over)
                && let Some(archiver) = slot.take()
            {
                let error = archiver.ended().await.unwrap_err().to_string();
                assert!(error.contains("the store is away"), "seed {seed}: {error}");
            }
        }
    }
    world.store.set_away(false);
    world.store.calm_down();
    note(&world, &mut ever).await;
    let last = world.start(Options { heartbeat_interval: Span::days(9), begin: Begin::AtFirst, ..Options::default() });
    soon(last.handle.cut_now()).await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    for archiver in running.into_iter().flatten() {
        stop(archiver, seed).await;
    }
    last.stop().await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    note(&world, &mut ever).await;
    let chain = world.chain(0).await;
    let (mut at, mut lost) = (chain.base().unwrap(), chain.gaps.iter().peekable());
    for segment in &chain.segments {
        while let Some(gap) = lost.next_if(|gap| gap.from == at) {
            at = gap.to;
        }
        assert_eq!(segment.footer.start, at, "seed {seed}");
        let object = world.objects.get(&segment.key.to_string()).await.unwrap().unwrap();
        for (record, _) in archive::codec::decode(object).unwrap() {
            assert!(record == ever[record.offset.value() as usize], "seed {seed}: {}", record.offset);
        }
        at = segment.end;
    }
    assert!(lost.all(|gap| gap.to <= chain.next_offset().unwrap()), "seed {seed}");
    assert!(chain.next_offset().unwrap().value() + 1 >= ever.len() as u64, "seed {seed}");
}

/// One that runs stops in good order whatever the store does; one that is still starting may have met a store that is away.
async fn stop(archiver: Archiver, seed: u64) {
    let starting = archiver.handle.progress().phase == Phase::Starting;
    if let Err(error) = archiver.stop().await {
        assert!(starting && error.to_string().contains("the store is away"), "seed {seed}: {error}");
    }
}

/// What was appended since is noted before retention can take it.
async fn note(world: &World, ever: &mut Vec<LogRecord>) {
    let logged = world.logged(0).await;
    let known = ever.len() as u64;
    ever.extend(logged.into_iter().filter(|record| record.offset.value() >= known));
}

async fn histories(seeds: std::ops::Range<u64>, slots: usize) {
    let base: u64 = std::env::var("TWOFOLD_SEED").map_or(0, |seed| seed.parse().expect("TWOFOLD_SEED is a number"));
    // At the same time, because they mostly wait.
    let all: Vec<_> = seeds.map(|seed| base + seed).map(|seed| (seed, tokio::spawn(history(seed, slots)))).collect();
    for (seed, history) in all {
        history.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_point_resumes_exactly_at_the_end_of_the_chain() {
    histories(0..12, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_retention_takes_the_rest_is_a_chain() {
    let all: Vec<_> = (200..232).map(|seed| (seed, tokio::spawn(overtaken(seed, 3)))).collect();
    for (seed, history) in all {
        history.await.unwrap_or_else(|error| panic!("seed {seed}: {error}"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn zombies_never_make_an_overlap_or_a_gap() {
    histories(100..124, 3).await;
}
