//! Closed days leave the live view: never too early, never twice, and the totals say how many clicks they held.

use std::time::Duration;

use clicks::time::Span;
use counter::Options;

use crate::world::{World, first_day, noon};

fn keeping(span: Span) -> Options {
    Options { keep_closed: span, ..World::options() }
}

#[tokio::test]
async fn a_closed_day_goes_when_it_was_kept_long_enough() {
    let mut world = World::new(2).await;
    let run = world.start_on(world.log.clone(), keeping(Span::hours(24)));
    for number in 0..2 {
        world.clicks(number, "a", 3).await;
        world.click(number, "a", noon() - Span::hours(1)).await;
    }
    world.settled().await;
    let midnight = first_day().end();
    world.clock.advance_to(midnight + Span::hours(3));
    world.close_next_day().await;
    world.clicks(0, "a", 2).await;
    world.heartbeat(1).await;
    world.check("closed, and kept").await;
    assert_eq!(world.count(0, "a", noon()).await, Some(3));

    world.clock.advance_to(midnight + Span::hours(24));
    // The step rides on what comes next; a heartbeat will do.
    for _ in 0..200 {
        let bases = [world.stored(0).await, world.stored(1).await].map(|slice| slice.unwrap().meta.base_day);
        if bases == [first_day().next(); 2] {
            break;
        }
        world.heartbeat(0).await;
        world.heartbeat(1).await;
        world.settled().await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    world.check("expired").await;
    let meta = world.stored(0).await.unwrap().meta;
    assert_eq!((meta.totals.expired, meta.totals.late_expired, meta.base_night), (3, 1, first_day().next()));
    assert_eq!(world.count(0, "a", midnight + Span::hours(3)).await, Some(2), "the open day stays");

    // And it stays gone when the worker starts again.
    run.kill().await;
    let run = world.start_on(world.log.clone(), keeping(Span::hours(24)));
    world.clicks(0, "a", 1).await;
    world.check("after a restart").await;
    run.stop().await;
}

/// Scenario 4: three nights are skipped while closed minutes are kept for an hour only.
#[tokio::test]
async fn what_is_not_closed_never_expires() {
    let mut world = World::new(1).await;
    let run = world.start_on(world.log.clone(), keeping(Span::hours(1)));
    for _ in 0..4 {
        world.clicks(0, "a", 5).await;
        world.settled().await;
        world.pass(Span::hours(24));
    }
    for _ in 0..5 {
        world.heartbeat(0).await;
        world.settled().await;
    }
    world.check("three nights late").await;
    let meta = world.stored(0).await.unwrap().meta;
    assert_eq!((meta.base_day, meta.totals.expired), (first_day(), 0));
    assert_eq!(world.count(0, "a", noon()).await, Some(5));
    run.stop().await;
}

/// Scenario 26: a worker that is two days behind while the batch closes both, and nothing is kept.
#[tokio::test]
async fn a_worker_that_is_behind_does_not_expire_what_it_still_counts() {
    let mut world = World::new(1).await;
    let options = || keeping(Span::ZERO);
    let run = world.start_on(world.log.clone(), options());
    world.clicks(0, "a", 5).await;
    world.settled().await;
    run.kill().await;
    world.pass(Span::seconds(30));
    world.clicks(0, "a", 8).await;
    for _ in 0..50 {
        world.pass(Span::hours(1));
        world.clicks(0, "a", 1).await;
    }
    world.close_next_day().await;
    world.close_next_day().await;
    let generation = world.generation(0).await;
    let run = world.start_on(world.log.clone(), options());
    world.settled().await;
    for _ in 0..5 {
        world.heartbeat(0).await;
        world.settled().await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    world.check("caught up").await;
    let meta = world.stored(0).await.unwrap().meta;
    assert_eq!(meta.base_day, first_day().plus(2), "both are gone");
    assert_eq!(meta.totals.expired, 5 + 8 + 11 + 24);
    assert_eq!(world.generation(0).await, generation, "nothing was in doubt");
    run.stop().await;
}

/// Scenario 19: a click ten days late for a window long gone; the late counter held 3; the worker reloads.
#[tokio::test]
async fn late_counts_of_windows_long_gone_are_resumed() {
    let mut world = World::new(1).await;
    let run = world.start();
    let event = noon() - Span::days(10);
    for _ in 0..3 {
        world.click(0, "a", event).await;
    }
    world.settled().await;
    run.kill().await;
    let run = world.start();
    world.click(0, "a", event).await;
    world.check("one more").await;
    let late = world.stored(0).await.unwrap().late;
    assert_eq!(late.iter().map(|(key, count)| (key.night, *count)).collect::<Vec<_>>(), [(first_day(), 4)]);
    run.stop().await;
}

/// Two processes of which one has missed the expiry: it must not bring the old base back.
#[tokio::test]
async fn a_zombie_does_not_undo_an_expiry() {
    let mut world = World::new(1).await;
    let run = world.start_on(world.log.clone(), keeping(Span::ZERO));
    // It never sees that the day is closed.
    let zombie = world.start_on(
        world.log.clone(),
        Options { ledger_refresh: Duration::from_secs(3600), keep_closed: Span::ZERO, ..World::options() },
    );
    world.clicks(0, "a", 4).await;
    world.settled().await;
    world.clock.advance_to(first_day().end() + Span::hours(2));
    world.clicks(0, "a", 2).await;
    world.settled().await;
    world.close_next_day().await;
    let mut was_gone = false;
    for _ in 0..60 {
        world.clicks(0, "a", 1).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
        let gone = world.stored(0).await.unwrap().meta.base_day > first_day();
        assert!(gone || !was_gone, "the base went back");
        was_gone = gone;
    }
    assert!(was_gone);
    world.check("two writers, one expiry").await;
    assert_eq!(world.stored(0).await.unwrap().meta.totals.expired, 4);
    zombie.kill().await;
    run.stop().await;
}
