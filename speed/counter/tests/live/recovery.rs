//! Scenarios that a plausible implementation gets wrong: crashes, lost replies, rollbacks, zombies.

use std::time::Duration;

use clicks::live::{Expected, FlushOutcome, Stage};
use clicks::rules::Rules;
use clicks::time::{Interval, Span};
use platform::store::{SpeedStore, StoreError};

use crate::world::{World, click, first_day, noon};

#[tokio::test]
async fn a_log_is_counted_as_the_oracle_counts_it() {
    let mut world = World::new(3).await;
    let run = world.start();
    for minute in 0..30 {
        world.clicks(0, "a", 3).await;
        let id = world.click(1, "b", world.now() - Span::minutes(minute)).await;
        world.append(1, Some(click("b", id, world.now()))).await;
        world.append(1, None).await;
        world.append(1, Some("{".to_owned())).await;
        world.click(1, "b", world.now() + Span::minutes(6)).await;
        world.heartbeat(2).await;
        world.pass(Span::minutes(1));
    }
    world.check("counted").await;
    assert_eq!(world.stored(2).await.unwrap().meta.totals.control, 30, "a partition without clicks goes on as well");
    run.stop().await;
}

/// Scenario 1: Redis holds 500, the worker is killed, one more click arrives.
#[tokio::test]
async fn a_killed_worker_goes_on_with_the_whole_count() {
    let mut world = World::new(1).await;
    let run = world.start();
    world.clicks(0, "a", 500).await;
    world.settled().await;
    assert_eq!(world.count(0, "a", noon()).await, Some(500));
    let generation = world.generation(0).await;
    run.kill().await;
    world.clicks(0, "a", 1).await;
    let run = world.start();
    world.check("after the restart").await;
    assert_eq!(world.count(0, "a", noon()).await, Some(501));
    assert_eq!(world.generation(0).await, generation, "it resumed");
    run.stop().await;
}

/// Scenario 2: FLUSHALL at 10:00 of D+1; D was cut at D+1 02:00 and published at 03:00.
#[tokio::test]
async fn the_open_day_is_recounted_from_its_very_start() {
    let mut world = World::new(1).await;
    let run = world.start();
    world.clicks(0, "a", 5).await;
    let midnight = first_day().end();
    world.clock.advance_to(midnight + Span::hours(1));
    world.clicks(0, "a", 7).await;
    world.clock.advance_to(midnight + Span::hours(3));
    assert_eq!(world.close_next_day().await, first_day());
    world.clock.advance_to(midnight + Span::hours(10));
    world.clicks(0, "a", 2).await;
    world.settled().await;
    let before = world.generation(0).await;
    world.store.flush_all();
    world.clicks(0, "a", 1).await;
    world.check("recounted").await;
    assert_ne!(world.generation(0).await, before);
    assert_eq!(world.count(0, "a", midnight + Span::hours(1)).await, Some(7), "not vanished");
    let meta = world.stored(0).await.unwrap().meta;
    assert_eq!((meta.base_day, meta.base_night), (first_day().next(), first_day().next()));
    run.stop().await;
}

/// Scenario 3: appended at 23:57 of the closed day with an event time of 00:01 of the open one.
#[tokio::test]
async fn a_click_that_was_appended_before_its_day_is_recounted() {
    let mut world = World::new(1).await;
    let run = world.start();
    let midnight = first_day().end();
    world.clock.advance_to(midnight - Span::minutes(3));
    let early = world.click(0, "a", midnight + Span::minutes(1)).await;
    // Its retry, after the base: a duplicate only if the look-back reaches far enough before the base.
    world.clock.advance_to(midnight + Span::minutes(2));
    world.append(0, Some(click("a", early, midnight + Span::minutes(2)))).await;
    let shadowed = world.click(0, "b", midnight - Span::minutes(1)).await;
    world.clock.advance_to(midnight + Span::hours(3));
    world.close_next_day().await;
    world.append(0, Some(click("b", shadowed, world.now()))).await;
    world.settled().await;
    world.store.flush_all();
    world.clicks(0, "c", 1).await;
    world.check("recounted").await;
    assert_eq!(world.count(0, "a", midnight + Span::minutes(1)).await, Some(1));
    assert_eq!(world.count(0, "a", midnight + Span::minutes(2)).await, None);
    run.stop().await;
}

/// Scenario 5: first sighting late, the re-stamped retry on time; rejected for its future time, then its valid retry.
#[tokio::test]
async fn lateness_and_refusals_do_not_break_the_sum() {
    let mut world = World::new(1).await;
    let run = world.start();
    let late = world.click(0, "a", world.now() - Span::minutes(20)).await;
    world.append(0, Some(click("a", late, world.now()))).await;
    let ahead = world.click(0, "b", world.now() + Span::minutes(20)).await;
    world.append(0, Some(click("b", ahead, world.now()))).await;
    world.check("judged").await;
    assert_eq!((world.count(0, "a", noon()).await, world.count(0, "b", noon()).await), (None, Some(1)));
    run.stop().await;
}

/// Scenario 6: a click at the horizon's edge, a failover to a broker whose clock is behind, its retry.
#[tokio::test]
async fn brokers_with_different_clocks_do_not_let_a_duplicate_through() {
    let mut world = World::new(1).await;
    let run = world.start();
    let id = world.click(0, "k", world.now()).await;
    let horizon = Rules::default().live_horizon;
    world.pass(horizon);
    world.pass(Span::seconds(1));
    world.click(0, "x", world.now()).await;
    world.fail_over(0, Span::seconds(2));
    // By the raw times it is a duplicate, by the partition's append time it is not: both layers decide by the latter.
    let again = world.append(0, Some(click("k", id, world.now()))).await;
    assert!(again.broker_time < noon() + horizon);
    world.check("after the failover").await;
    assert_eq!(world.stored(0).await.unwrap().meta.totals.counted, 3);
    run.kill().await;
    let x = world.click(0, "x", world.now()).await;
    let run = world.start();
    world.append(0, Some(click("x", x, world.now()))).await;
    world.check("after a restart").await;
    assert_eq!(world.stored(0).await.unwrap().meta.append_time, noon() + horizon + Span::seconds(1));
    run.stop().await;
}

/// Scenario 7: a click of 12:00:00 that is appended at 12:05:00, and one at the very edge of the allowed lateness.
#[tokio::test]
async fn a_window_is_open_for_the_whole_allowed_lateness() {
    let mut world = World::new(1).await;
    let run = world.start();
    world.clicks(0, "a", 2).await;
    world.pass(Span::minutes(5));
    world.click(0, "a", noon()).await;
    world.clicks(0, "b", 1).await;
    world.settled().await;
    assert_eq!(world.count(0, "a", noon()).await, Some(3));
    world.pass(Span::minutes(5));
    world.click(0, "a", noon()).await;
    world.settled().await;
    run.kill().await;
    let run = world.start();
    world.click(0, "a", noon()).await;
    world.check("at the edge").await;
    assert_eq!(world.count(0, "a", noon()).await, Some(5));
    world.pass(Span::millis(1));
    world.click(0, "a", noon()).await;
    world.check("beyond it").await;
    assert_eq!(world.count(0, "a", noon()).await, Some(5), "late");
    run.stop().await;
}

/// Scenario 8: after FLUSHALL a writer of an earlier life stands at the very position of the new one.
#[tokio::test]
async fn a_writer_of_an_earlier_generation_never_matches() {
    let mut world = World::new(1).await;
    let run = world.start();
    world.clicks(0, "a", 5).await;
    world.settled().await;
    let rules = world.rules().await;
    let old = world.store.load(&world.partition(0), &rules).await.unwrap().unwrap();
    world.store.flush_all();
    world.clicks(0, "a", 5).await;
    world.settled().await;
    let new = world.stored(0).await.unwrap();
    // The zombie's next flush, had it read as far as the new generation.
    let mut meta = old.meta.clone();
    meta.next_offset = new.meta.next_offset.next();
    let expected = Expected::at(old.generation, &new.meta);
    let step = clicks::live::Flush {
        expected,
        generation: old.generation,
        stage: Stage::Live,
        meta,
        counts: Vec::new(),
        late: Vec::new(),
        drop_hours: Vec::new(),
        drop_nights: Vec::new(),
    };
    let outcome = world.store.flush(&world.partition(0), &step).await.unwrap();
    assert_eq!(outcome, FlushOutcome::Mismatch { found: Some((new.generation, new.meta.next_offset)) });
    world.check("untouched").await;
    run.stop().await;
}

#[tokio::test]
async fn a_lost_reply_costs_nothing() {
    let mut world = World::new(1).await;
    let run = world.start();
    for _ in 0..20 {
        world.store.lose_next_reply();
        world.clicks(0, "a", 3).await;
        world.settled().await;
    }
    let generation = world.generation(0).await;
    world.check("after lost replies").await;
    world.store.lose_next_reply();
    world.store.flush_all();
    world.clicks(0, "a", 3).await;
    world.check("the first flush of a generation is answered by nobody").await;
    assert_ne!(world.generation(0).await, generation);
    run.stop().await;
}

#[tokio::test]
async fn a_rolled_back_store_is_caught_up() {
    let mut world = World::new(1).await;
    let run = world.start();
    for _ in 0..10 {
        world.clicks(0, "a", 3).await;
        world.settled().await;
        world.pass(Span::minutes(2));
    }
    let (generation, before) = (world.generation(0).await, world.stored(0).await.unwrap().meta.next_offset);
    assert_eq!(world.store.rollback(&world.partition(0), 4), 4);
    assert!(world.stored(0).await.unwrap().meta.next_offset < before);
    world.clicks(0, "a", 1).await;
    world.check("after the rollback").await;
    assert_eq!(world.generation(0).await, generation, "the store went back as a whole, so it is gone on with");
    let meta = world.stored(0).await.unwrap().meta;
    assert_eq!((meta.rollbacks, meta.rebuilds), (1, 0));
    run.stop().await;
}

#[tokio::test]
async fn two_processes_count_one_partition_as_one_does() {
    let mut world = World::new(2).await;
    let first = world.start();
    world.clicks(0, "a", 10).await;
    let zombie = world.start();
    for _ in 0..40 {
        world.clicks(0, "a", 2).await;
        world.clicks(1, "b", 1).await;
        world.pass(Span::seconds(20));
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.check("both run").await;
    first.kill().await;
    world.clicks(0, "a", 2).await;
    world.check("the other goes on").await;
    assert!(zombie.is_running());
    zombie.stop().await;
}

#[tokio::test]
async fn a_store_that_is_away_makes_the_log_grow_and_nothing_else() {
    let mut world = World::new(2).await;
    let run = world.start();
    world.clicks(0, "a", 5).await;
    world.settled().await;
    let generation = world.generation(0).await;
    world.store.go_away(true);
    for _ in 0..100 {
        world.clicks(0, "a", 2).await;
        world.clicks(1, "b", 2).await;
        world.pass(Span::seconds(10));
    }
    tokio::time::sleep(Duration::from_millis(30)).await;
    let away = world.store.check().await;
    assert!(matches!(away, Err(StoreError::Unavailable(_))), "{away:?}");
    assert!(run.is_running());
    world.store.go_away(false);
    world.check("back again").await;
    assert_eq!(world.generation(0).await, generation);
    run.stop().await;
}

#[tokio::test]
async fn stopping_stores_what_was_read() {
    let mut world = World::new(1).await;
    let options = counter::Options { flush_interval: Duration::from_secs(3600), ..World::options() };
    let run = world.start_on(world.log.clone(), options);
    world.until("it began", async || world.stored(0).await.is_some()).await;
    world.clicks(0, "a", 5).await;
    // It has no reason to flush before the hour is over.
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(world.count(0, "a", noon()).await, None);
    run.stop().await;
    assert_eq!(world.count(0, "a", noon()).await, Some(5));
    world.check("stopped").await;
}

/// Scenario 25: dedup beyond its bound forgets, and says so, also after a restart.
#[tokio::test]
async fn dedup_beyond_its_memory_is_flagged() {
    let mut world = World::new(1).await;
    let options = || counter::Options { sightings_max: 10, ..World::options() };
    let run = world.start_on(world.log.clone(), options());
    for _ in 0..15 {
        world.clicks(0, "a", 1).await;
        world.pass(Span::seconds(2));
    }
    world.settled().await;
    let meta = world.stored(0).await.unwrap().meta;
    assert_eq!(meta.dedup_evicted, 5);
    assert_eq!(meta.drift, Interval::new(noon() + Span::seconds(20), noon() + Span::seconds(28) + Span::minutes(15)));
    run.kill().await;
    let run = world.start_on(world.log.clone(), options());
    for _ in 0..2 {
        world.clicks(0, "a", 1).await;
        world.pass(Span::seconds(2));
    }
    world.settled().await;
    assert_eq!(world.stored(0).await.unwrap().meta.dedup_evicted, 7, "neither forgotten nor counted twice");
    run.stop().await;
}
