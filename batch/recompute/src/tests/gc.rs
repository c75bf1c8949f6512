//! What is deleted, and above all what is not.

use std::collections::BTreeSet;
use std::sync::Arc;

use clicks::ledger::entry_key;
use clicks::time::Span;
use futures::FutureExt;
use platform::clock::{Clock, SimulatedClock, SystemClock};
use platform::ledger::Ledger;
use platform::objects::Objects;

use super::hooked::{Hooked, When};
use super::world::{World, at, day, partition};
use crate::error::TableError;
use crate::{BatchError, LEASE, Mode, NightOutcome, audit, gc, run_night};

const WEEK: Span = Span::days(7);

/// Objects in memory are as old as the test; this clock makes them eight days old.
fn eight_days_on() -> SimulatedClock {
    SimulatedClock::new(SystemClock.now() + Span::days(8))
}

async fn keys(objects: &Objects, prefix: &str) -> BTreeSet<String> {
    objects.list(prefix, None).await.unwrap().into_iter().map(|object| object.key).collect()
}

/// Night 1 is published by entry 2. A run of night 2 was killed before its entry 3, so its files lie in folder 3.
async fn killed_before_the_entry() -> World {
    let mut world = World::new(1).await;
    world.click(&partition(1, 0), at(1, 12, 0), at(1, 12, 0), "a", 1);
    world.publish(1).await;
    world.click(&partition(1, 0), at(2, 12, 0), at(2, 12, 0), "a", 2);
    world.cover(2).await;
    let dead = Arc::new(tokio::sync::Notify::new());
    let hook = {
        let dead = dead.clone();
        move |key: String, _: When| {
            let dead = dead.clone();
            async move {
                if key.starts_with("ledger/") {
                    dead.notify_one();
                    std::future::pending::<()>().await;
                }
            }
            .boxed()
        }
    };
    let hooked = Objects::over(Arc::new(Hooked::new(world.objects.store(), hook)), "memory:///");
    let ledger = Ledger::new(hooked.clone());
    tokio::select! {
        outcome = run_night(&world.options, &hooked, &ledger, &world.clock, Some(day(2))) => panic!("{outcome:?}"),
        () = dead.notified() => {}
    }
    world
}

/// Scenario 27, with its numbers: the orphans of a killed run are eight days old, the night is run again and finds them
/// with the right content, and `gc` runs just before the entry that names them.
#[tokio::test]
async fn an_orphan_that_is_reused_just_when_gc_runs_is_kept() {
    let world = killed_before_the_entry().await;
    let orphans = keys(&world.objects, "tables/rev/00000000000000000003/").await;
    assert_eq!(orphans.len(), 4, "minutes, hours, day and inputs: {orphans:?}");
    let collected = Arc::new(std::sync::Mutex::new(None));
    let hook = {
        let (objects, collected) = (world.objects.clone(), collected.clone());
        move |key: String, when: When| {
            let (objects, collected) = (objects.clone(), collected.clone());
            async move {
                if key == entry_key(3) && when == When::Before {
                    let (ledger, clock) = (Ledger::new(objects.clone()), eight_days_on());
                    let found = gc(&objects, &ledger, &clock, WEEK, Mode::Delete).await.unwrap();
                    *collected.lock().unwrap() = Some(found);
                }
            }
            .boxed()
        }
    };
    let hooked = Objects::over(Arc::new(Hooked::new(world.objects.store(), hook)), "memory:///");
    let again = run_night(&world.options, &hooked, &Ledger::new(hooked.clone()), &world.clock, Some(day(2))).await;
    assert!(matches!(again.unwrap(), NightOutcome::Published(_)));
    let collected = collected.lock().unwrap().take().expect("gc ran before the entry");
    assert_eq!((collected.orphans.len(), collected.unsettled, collected.head), (0, 4, 2));
    assert_eq!(keys(&world.objects, "tables/rev/00000000000000000003/").await, orphans, "all of them are named now");
    assert_eq!(audit(&world.options, &world.objects, &world.ledger, day(2)).await.unwrap().breaks(), 0);
    let later = gc(&world.objects, &world.ledger, &eight_days_on(), WEEK, Mode::Delete).await.unwrap();
    assert_eq!((later.orphans.len(), later.unsettled, later.named), (0, 0, 8));
}

/// What a loser left under a number that another run has published.
#[tokio::test]
async fn a_file_that_no_entry_names_goes_once_its_number_is_published_and_it_is_old() {
    let mut world = World::new(1).await;
    world.click(&partition(1, 0), at(1, 12, 0), at(1, 12, 0), "a", 1);
    world.publish(1).await;
    world.click(&partition(1, 0), at(2, 9, 0), at(1, 12, 1), "a", 2);
    world.publish(2).await;
    let published = world.everything().await;
    let orphan = "tables/rev/00000000000000000002/minute-2026-03-01-0000.parquet";
    let ahead = "tables/rev/00000000000000000004/minute-2026-03-03-0000.parquet";
    let foreign = ["tables/rev/2/short.parquet", "tables/rev/notes.txt"];
    for key in [orphan, ahead, foreign[0], foreign[1]] {
        world.objects.put(key, "four".into()).await.unwrap();
    }
    let listed = world.objects.list_dated("tables/rev/", None).await.unwrap();
    let written = listed.iter().find(|(object, _)| object.key == orphan).unwrap().1;
    let run = async |clock: SimulatedClock, mode| gc(&world.objects, &world.ledger, &clock, WEEK, mode).await.unwrap();

    let young = run(SimulatedClock::new(written + WEEK), Mode::Delete).await;
    assert_eq!((young.orphans.len(), young.young), (0, 1), "just as old as asked is not older");
    let named = run(SimulatedClock::new(written + WEEK + Span::millis(1)), Mode::Name).await;
    assert_eq!((named.orphans[0].key.as_str(), named.orphans.len(), named.bytes), (orphan, 1, 4));
    assert!(world.objects.get(orphan).await.unwrap().is_some(), "it was only named");
    let deleted = run(SimulatedClock::new(written + WEEK + Span::millis(1)), Mode::Delete).await;
    assert_eq!(deleted, named);
    assert_eq!((deleted.unsettled, deleted.foreign.len(), deleted.head), (1, 2, 3));
    // Everything that was published is there, the revision that was replaced too.
    let mut expected: BTreeSet<String> = published.keys().cloned().collect();
    expected.extend([ahead, foreign[0], foreign[1]].map(str::to_owned));
    assert_eq!(world.everything().await.into_keys().collect::<BTreeSet<_>>(), expected);
}

/// A newer release may name files in fields, or in kinds of entries, that this one does not know.
#[tokio::test]
async fn a_file_is_named_by_whatever_in_an_entry_names_it() {
    let mut world = World::new(1).await;
    world.publish(1).await;
    let key = "tables/rev/00000000000000000003/evidence-0000.parquet";
    world.objects.put(key, "x".into()).await.unwrap();
    let books = world.books().await;
    let life =
        r#""topic":{"region":"us","topic_id":"00000000-0000-0000-0000-000000000009","name":"clicks","partitions":1"#;
    let entry = format!(
        r#"{{"version":1,"number":3,"previous":"{}",{life},"evidence":[{{"file":{{"key":"{key}"}}}}]}}}}"#,
        books.head_hash()
    );
    world.objects.create(&entry_key(3), entry.into()).await.unwrap();
    let found = gc(&world.objects, &world.ledger, &eight_days_on(), WEEK, Mode::Delete).await.unwrap();
    assert_eq!((found.head, found.orphans.len(), found.named), (3, 0, 5));
    assert!(world.objects.get(key).await.unwrap().is_some());
}

#[tokio::test]
async fn nothing_is_deleted_by_a_listing_that_lacks_what_is_published() {
    let mut world = World::new(1).await;
    world.publish(1).await;
    let orphan = "tables/rev/00000000000000000001/minute-2026-03-01-0000.parquet";
    world.objects.put(orphan, "x".into()).await.unwrap();
    let minute = world.books().await.day(day(1)).unwrap().revision.minute.key.clone();
    world.objects.delete(&minute).await.unwrap();
    let error = gc(&world.objects, &world.ledger, &eight_days_on(), WEEK, Mode::Delete).await.unwrap_err();
    assert!(matches!(&error, BatchError::Table(TableError::Missing { key }) if *key == minute), "{error}");
    assert!(world.objects.get(orphan).await.unwrap().is_some());
}

#[tokio::test]
async fn the_lease_of_a_run_that_ended_long_ago_goes_too() {
    let mut world = World::new(1).await;
    world.publish(1).await;
    let lease = |until: i64| format!(r#"{{"version":1,"holder":"killed","since":0,"until":{until}}}"#);
    let clock = eight_days_on();
    let limit = (clock.now() - WEEK).as_millis();
    for (until, goes) in [(limit, false), (limit - 1, true)] {
        world.objects.put(LEASE, lease(until).into()).await.unwrap();
        let named = gc(&world.objects, &world.ledger, &clock, WEEK, Mode::Name).await.unwrap();
        assert!(named.lease == goes && world.objects.get(LEASE).await.unwrap().is_some());
        let found = gc(&world.objects, &world.ledger, &clock, WEEK, Mode::Delete).await.unwrap();
        assert_eq!((found.lease, world.objects.get(LEASE).await.unwrap().is_none()), (goes, goes));
    }
}
