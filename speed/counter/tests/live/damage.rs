//! A store that lost a part of what it held, or that cannot be read: found, counted anew, and nothing is left behind.

use std::sync::Arc;
use std::time::Duration;

use clicks::live::{CountKey, Generation, Stage};
use clicks::time::Span;
use counter::{CounterError, Options};
use platform::log::MemoryLog;
use platform::store::{SpeedStore, StoreError};

use crate::endings::Odd;
use crate::metrics::counted;
use crate::world::{Run, World, first_day};

fn scrubbing() -> Options {
    Options { scrub_interval: Duration::from_millis(5), ..World::options() }
}

/// Never again after the scrub that begins with an entry.
fn once() -> Options {
    Options { scrub_interval: Duration::from_secs(3600), ..World::options() }
}

/// Two hours of clicks, some of them late, and the first of them on another day than the last.
async fn counted_world() -> World {
    let mut world = World::new(2).await;
    world.clock.advance_to(first_day().end() - Span::minutes(90));
    let run = world.start_on(world.log.clone(), once());
    for _ in 0..12 {
        world.clicks(0, "a", 2).await;
        world.click(0, "b", world.now() - Span::minutes(3)).await;
        world.click(0, "c", world.now() - Span::hours(2)).await;
        world.clicks(1, "d", 1).await;
        world.pass(Span::minutes(15));
    }
    world.heartbeat(0).await;
    world.check("undamaged").await;
    run.stop().await;
    world
}

/// A count of partition 0, the first or the last one.
async fn count_of(world: &World, last: bool) -> CountKey {
    let mut keys: Vec<_> = world.stored(0).await.unwrap().counts.into_iter().map(|(key, _)| key).collect();
    keys.sort();
    if last { keys.pop().unwrap() } else { keys.swap_remove(0) }
}

/// Another generation takes the place of the damaged one, counts the same, and the damaged one is gone.
async fn cured(world: &mut World, run: Run, damaged: Generation, what: &str) {
    world.until(what, async || world.stored(0).await.is_some_and(|slice| slice.generation != damaged)).await;
    world.check(what).await;
    world.until(what, async || world.store.leftovers(&world.partition(0)) == 0).await;
    assert!(run.is_running(), "{what}");
    assert!(counted("twofold_speed_swept_keys_total") > 0, "{what}");
    let cure = world.generation(0).await;
    assert_eq!(world.stored(0).await.unwrap().meta.rebuilds, 1, "{what}");
    world.clicks(0, "a", 3).await;
    world.check(&format!("{what}, and on")).await;
    run.kill().await;
    let run = world.start_on(world.log.clone(), scrubbing());
    world.clicks(0, "a", 3).await;
    world.check(&format!("{what}, after a restart")).await;
    assert_eq!(world.generation(0).await, cure, "{what}: once");
    run.stop().await;
}

#[tokio::test]
async fn a_lost_meta_record_is_no_crash_loop() {
    let mut world = counted_world().await;
    let damaged = world.generation(0).await;
    assert!(world.store.delete_meta(&world.partition(0)));
    let run = world.start_on(world.log.clone(), once());
    cured(&mut world, run, damaged, "no meta record at the entry").await;
    assert!(counted("twofold_speed_generations_total") > 0);
}

#[tokio::test]
async fn a_meta_record_that_is_lost_while_counting_is_cured() {
    for (clicks, what) in [(0, "while nothing is appended"), (5, "while clicks come")] {
        let mut world = counted_world().await;
        let damaged = world.generation(0).await;
        let run = world.start_on(world.log.clone(), once());
        world.clicks(0, "a", 1).await;
        world.settled().await;
        assert!(world.store.delete_meta(&world.partition(0)));
        world.clicks(0, "a", clicks).await;
        cured(&mut world, run, damaged, what).await;
    }
}

#[tokio::test]
async fn a_lost_hour_is_found_at_the_entry() {
    for last in [false, true] {
        let mut world = counted_world().await;
        let damaged = world.generation(0).await;
        let hour = count_of(&world, last).await.minute.hour();
        assert!(world.store.delete_hour(&world.partition(0), hour));
        let before = counted("twofold_speed_scrubs_failed_total");
        let run = world.start_on(world.log.clone(), once());
        cured(&mut world, run, damaged, "an hour is lost").await;
        assert!(counted("twofold_speed_scrubs_failed_total") > before);
    }
}

#[tokio::test]
async fn a_lost_count_is_found_while_counting() {
    for last in [false, true] {
        let mut world = counted_world().await;
        let damaged = world.generation(0).await;
        let run = world.start_on(world.log.clone(), scrubbing());
        world.clicks(1, "d", 1).await;
        world.settled().await;
        let before = counted("twofold_speed_scrubs_failed_total");
        let key = count_of(&world, last).await;
        assert!(world.store.delete_count(&world.partition(0), &key));
        cured(&mut world, run, damaged, "a count is lost").await;
        assert!(counted("twofold_speed_scrubs_failed_total") > before);
    }
}

/// Readers see the old counts, flagged, until the new ones are whole, and never less.
#[tokio::test]
async fn what_is_damaged_is_counted_anew_beside_what_readers_see() {
    let world = counted_world().await;
    let key = count_of(&world, true).await;
    assert!(world.store.delete_count(&world.partition(0), &key));
    let damaged = world.stored(0).await.unwrap();
    let slow = Odd {
        inner: MemoryLog::clone(&world.log),
        answer_takes: Duration::ZERO,
        poll_takes: Duration::from_millis(3),
        skips: None,
    };
    let options = || Options { poll_max: 1, flush_interval: Duration::from_millis(4), ..once() };
    let mut run = world.start_on(Arc::new(slow), options());
    let (mut seen_in_doubt, mut is_killed) = (0, false);
    loop {
        let seen = world.stored(0).await.unwrap();
        if seen.generation != damaged.generation {
            assert!(!seen.meta.is_rebuilding() && !seen.is_in_doubt, "{seen:?}");
            break;
        }
        assert_eq!((&seen.meta, seen.counts.len()), (&damaged.meta, damaged.counts.len()), "nothing is written to it");
        seen_in_doubt += usize::from(seen.is_in_doubt);
        assert!(run.is_running());
        if seen_in_doubt > 10 && !is_killed {
            // Who comes next goes on with what was counted.
            is_killed = true;
            run.kill().await;
            let rules = world.rules().await;
            let loaded = world.store.load(&world.partition(0), &rules).await.unwrap().unwrap();
            assert!(loaded.stage == Stage::Beside && loaded.meta.totals.seen > 0, "{loaded:?}");
            run = world.start_on(world.log.clone(), options());
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert!(is_killed);
    world.check("counted anew").await;
    run.stop().await;
}

/// Expiry takes a day out of the store by the sums that it finds there.
#[tokio::test]
async fn scrubs_and_expiries_go_together() {
    let mut world = counted_world().await;
    let generation = world.generation(0).await;
    let options = Options { keep_closed: Span::ZERO, scrub_interval: Duration::ZERO, ..World::options() };
    let run = world.start_on(world.log.clone(), options);
    world.clock.advance_to(first_day().end() + Span::hours(30));
    world.close_next_day().await;
    // The step rides on what comes next; a heartbeat will do.
    while world.generation(0).await == generation && world.stored(0).await.unwrap().meta.base_day == first_day() {
        world.heartbeat(0).await;
        world.settled().await;
    }
    world.check("expired").await;
    assert_eq!(world.generation(0).await, generation, "nothing was found");
    run.stop().await;
}

#[tokio::test]
async fn a_store_that_may_evict_by_now_ends_the_process() {
    let world = counted_world().await;
    let run = world.start_on(world.log.clone(), scrubbing());
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert!(run.is_running());
    world.store.let_evict(true);
    let error = run.ends().await;
    assert!(
        matches!(&error, CounterError::StoreCheck(StoreError::Setting { found, .. }) if found == "allkeys-lru"),
        "{error}"
    );
    assert!(world.store.check().await.is_err());
}

#[tokio::test]
async fn a_store_that_is_away_is_no_finding() {
    let mut world = counted_world().await;
    let generation = world.generation(0).await;
    let run = world.start_on(world.log.clone(), scrubbing());
    for _ in 0..20 {
        world.store.fail_next(3);
        tokio::time::sleep(Duration::from_millis(3)).await;
    }
    world.store.fail_next(0);
    world.clicks(0, "a", 1).await;
    world.check("it is back").await;
    assert_eq!(world.generation(0).await, generation);
    run.stop().await;
}
