//! Runs that are killed at every put in turn, and runs that meet.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use clicks::ledger::{Body, RulesChange};
use clicks::rules::Rules;
use clicks::tables::current_key;
use clicks::time::Span;
use clicks::window::Grain;
use futures::FutureExt;
use platform::clock::SimulatedClock;
use platform::ledger::Ledger;
use platform::objects::Objects;
use tokio::sync::Barrier;

use super::hooked::{Hooked, When};
use super::oracle::check;
use super::world::{World, at, cut_time, day, partition};
use crate::{BatchError, NightOutcome, catch_up, run_night, table};

/// Night 5 of this world restates a day, makes one final and adjusts another.
async fn eventful() -> World {
    let mut world = World::new(2).await;
    for n in 1..=5 {
        for (number, ad) in [(0, "a"), (1, "b")] {
            let p = partition(1, number);
            world.click(&p, at(n, 1, 0), at(n - 1, 22, 0), ad, n as u128);
            world.click(&p, at(n, 12, 0), at(n, 12, 0), ad, 100 + n as u128);
            world.click(&p, at(n, 13, 0), at(n - 4, 12, 0), ad, 200 + n as u128);
        }
        world.cover(n).await;
        if n < 5 {
            world.published(n).await;
        }
    }
    world
}

async fn copy_of(world: &World) -> Objects {
    let copy = Objects::memory();
    for (key, bytes) in world.everything().await {
        copy.create(&key, bytes).await.unwrap();
    }
    copy
}

/// What a glob over `tables/current/<grain>` sees: clicks and adjustments of every day, each file once.
async fn glob(objects: &Objects) -> Vec<(String, usize)> {
    let mut seen = Vec::new();
    for object in objects.list("tables/current/", None).await.unwrap() {
        let bytes = objects.get(&object.key).await.unwrap().unwrap();
        seen.push((object.key.clone(), table::decode(&object.key, bytes).unwrap().len()));
    }
    seen
}

#[tokio::test]
async fn a_run_that_is_killed_at_any_put_is_repaired_by_the_next() {
    let world = eventful().await;
    let expected = {
        let objects = copy_of(&world).await;
        let ledger = Ledger::new(objects.clone());
        run_night(&world.options, &objects, &ledger, &world.clock, Some(day(5))).await.unwrap();
        let world = eventful().await.moved_to(objects);
        check(&world, 5, -3).await;
        world.everything().await
    };
    let mut killed_runs = 0;
    for kill_at in 0.. {
        let when = [When::Before, When::After][kill_at % 2];
        let objects = copy_of(&world).await;
        let (puts, dead) = (Arc::new(AtomicUsize::new(0)), Arc::new(tokio::sync::Notify::new()));
        let hook = {
            let (puts, dead) = (puts.clone(), dead.clone());
            move |_: String, at: When| {
                let dies = at == when && puts.fetch_add(1, Ordering::SeqCst) == kill_at / 2;
                let dead = dead.clone();
                async move {
                    if dies {
                        dead.notify_one();
                        std::future::pending::<()>().await;
                    }
                }
                .boxed()
            }
        };
        let hooked = Objects::over(Arc::new(Hooked::new(objects.store(), hook)), "memory:///");
        let ledger = Ledger::new(hooked.clone());
        let survived = tokio::select! {
            outcome = run_night(&world.options, &hooked, &ledger, &world.clock, Some(day(5))) => {
                outcome.unwrap();
                true
            }
            () = dead.notified() => false,
        };
        let published = Ledger::new(objects.clone()).read().await.unwrap().last_night() == Some(day(5));
        if !published {
            // Whatever lies there already, no reader sees it.
            assert_eq!(glob(&objects).await, glob(&world.objects).await, "killed at {kill_at}");
        }
        let keys: BTreeSet<String> = glob(&objects).await.into_iter().map(|(key, _)| key).collect();
        let days = (-3..=5).flat_map(|n| Grain::ALL.map(|grain| current_key(grain, day(n)))).collect();
        assert!(keys.is_subset(&days), "a second file of a day would be counted twice by a glob: {keys:?}");

        let ledger = Ledger::new(objects.clone());
        let again = run_night(&world.options, &objects, &ledger, &world.clock, Some(day(5))).await.unwrap();
        assert_eq!(matches!(again, NightOutcome::AlreadyPublished { .. }), published, "killed at {kill_at}");
        let repaired = World::new(0).await.moved_to(objects);
        assert!(
            repaired.everything().await == expected,
            "killed at {kill_at}: not the same bytes as an undisturbed run"
        );
        if survived {
            break;
        }
        killed_runs += 1;
    }
    assert!(killed_runs > 30, "{killed_runs}: 2 days, adjustments, inputs, entry and the copies of 3 days");
}

/// Two runs of one night: both have computed everything when the first of them publishes.
#[tokio::test]
async fn of_two_runs_at_once_one_publishes() {
    let world = eventful().await;
    let objects = copy_of(&world).await;
    let barrier = Arc::new(Barrier::new(2));
    let hook = move |key: String, when: When| {
        let barrier = barrier.clone();
        async move {
            if key.starts_with("ledger/") && when == When::Before {
                barrier.wait().await;
            }
        }
        .boxed()
    };
    let hooked = Objects::over(Arc::new(Hooked::new(objects.store(), hook)), "memory:///");
    let ledger = Ledger::new(hooked.clone());
    // Of one instant the two entries would be the same bytes, and both runs right to call it theirs.
    let clocks = [0, 1].map(|millis| SimulatedClock::new(at(6, 1, 0) + Span::millis(millis)));
    let run = |i: usize| run_night(&world.options, &hooked, &ledger, &clocks[i], Some(day(5)));
    let (one, two) = tokio::join!(run(0), run(1));
    let outcomes = [one.unwrap(), two.unwrap()];
    let published = outcomes.iter().filter(|o| matches!(o, NightOutcome::Published(_))).count();
    let already = outcomes.iter().filter(|o| matches!(o, NightOutcome::AlreadyPublished { .. })).count();
    assert_eq!((published, already), (1, 1));
    let raced = eventful().await.moved_to(objects);
    check(&raced, 5, -3).await;
}

#[tokio::test]
async fn a_run_that_loses_to_another_kind_of_entry_publishes_nothing() {
    let world = eventful().await;
    let objects = copy_of(&world).await;
    let rival = Arc::new(AtomicUsize::new(0));
    let hook = {
        let objects = objects.clone();
        move |key: String, when: When| {
            let (objects, rival) = (objects.clone(), rival.clone());
            async move {
                if key.starts_with("ledger/") && when == When::Before && rival.fetch_add(1, Ordering::SeqCst) == 0 {
                    let ledger = Ledger::new(objects);
                    let mut books = ledger.read().await.unwrap();
                    let rules = Rules { version: 2, ..Rules::default() };
                    let change = RulesChange { effective: day(20), rules };
                    ledger.publish(&mut books, Body::Rules(change)).await.unwrap();
                }
            }
            .boxed()
        }
    };
    let hooked = Objects::over(Arc::new(Hooked::new(objects.store(), hook)), "memory:///");
    let lost = run_night(&world.options, &hooked, &Ledger::new(hooked.clone()), &world.clock, Some(day(5))).await;
    assert!(matches!(lost, Err(BatchError::Lost { .. })), "{lost:?}");
    assert_eq!(lost.unwrap_err().exit_code(), 11);
    let again = eventful().await.moved_to(objects);
    again.published(5).await;
    check(&again, 5, -3).await;
}

/// Another run wins the first of two nights that are due: the second is still to be run.
#[tokio::test]
async fn a_night_that_another_run_publishes_first_does_not_end_catching_up() {
    let mut world = World::new(1).await;
    for n in 1..=2 {
        world.click(&partition(1, 0), at(n, 12, 0), at(n, 12, 0), "a", n as u128);
        world.cover(n).await;
    }
    world.clock.advance_to(cut_time(2));
    let rival = Arc::new(AtomicUsize::new(0));
    let hook = {
        let (objects, options) = (world.objects.clone(), world.options.clone());
        move |key: String, when: When| {
            let (objects, options, rival) = (objects.clone(), options.clone(), rival.clone());
            async move {
                if key.starts_with("ledger/") && when == When::Before && rival.fetch_add(1, Ordering::SeqCst) == 0 {
                    // On a thread of its own, because the future of a night cannot be boxed as one that is sent.
                    let night = move || {
                        let (clock, ledger) = (SimulatedClock::new(cut_time(1)), Ledger::new(objects.clone()));
                        let run = run_night(&options, &objects, &ledger, &clock, Some(day(1)));
                        tokio::runtime::Handle::current().block_on(run).unwrap()
                    };
                    tokio::task::spawn_blocking(night).await.unwrap();
                }
            }
            .boxed()
        }
    };
    let hooked = Objects::over(Arc::new(Hooked::new(world.objects.store(), hook)), "memory:///");
    let caught = catch_up(&world.options, &hooked, &Ledger::new(hooked.clone()), &world.clock).await.unwrap();
    let nights: Vec<_> = caught.nights.iter().map(|report| report.night).collect();
    assert_eq!((nights, caught.waits), (vec![day(2)], None));
    assert_eq!(world.books().await.last_night(), Some(day(2)));
    check(&world, 2, 1).await;
}

/// Scenario 17: a run refreshes from an old head, pauses before its last write, and goes on after another has published.
#[tokio::test]
async fn current_never_stays_behind_the_ledger() {
    let mut world = eventful().await;
    world.published(5).await;
    // An old run's write: the copy of day 5 as a stranger or a paused run may leave it.
    let stale = world.current(Grain::Minute, 4).await;
    world.objects.put(&current_key(Grain::Minute, day(5)), stale).await.unwrap();
    world.objects.put(&current_key(Grain::Hour, day(5)), "no parquet".into()).await.unwrap();
    world.objects.delete(&current_key(Grain::Day, day(5))).await.unwrap();
    world.publish(6).await;
    let repaired = table::decode("current", world.current(Grain::Minute, 5).await).unwrap();
    assert_eq!(repaired, world.minutes(5).await);
    for grain in [Grain::Hour, Grain::Day] {
        assert_eq!(table::decode("current", world.current(grain, 5).await).unwrap().len(), 2);
    }
}
