//! Inputs that are damaged or gone: the run fails, names the object, publishes nothing.

use super::world::{World, at, cut_time, day, partition};
use crate::{BatchError, GateFailure, InputError, catch_up};
use clicks::ledger::{Body, DayRevision};

async fn two_nights() -> (World, Vec<String>) {
    let mut world = World::new(1).await;
    world.object_rows = 10;
    for id in 0..40 {
        world.click(&partition(1, 0), at(1, 12, id as i64), at(1, 12, id as i64), "a", id);
    }
    world.cover(1).await;
    let raw = world.objects.list("raw/", None).await.unwrap().into_iter().map(|object| object.key).collect();
    (world, raw)
}

#[tokio::test]
async fn a_flipped_byte_anywhere_fails_the_run_and_names_the_object() {
    let (world, raw) = two_nights().await;
    let key = &raw[1];
    let sound = world.objects.get(key).await.unwrap().unwrap();
    let before = world.books().await;
    for position in (0..sound.len()).step_by(41) {
        let mut bytes = sound.to_vec();
        bytes[position] ^= 0x10;
        world.objects.put(key, bytes.into()).await.unwrap();
        let error = world.run(Some(1)).await.unwrap_err();
        assert!(error.to_string().contains(key.as_str()), "byte {position}: {error}");
        assert!(matches!(error, BatchError::Input(_) | BatchError::Chain(_)), "byte {position}: {error:?}");
        assert_eq!(world.books().await, before);
    }
    assert!(world.objects.list("tables/", None).await.unwrap().is_empty());
    world.objects.put(key, sound).await.unwrap();
    world.published(1).await;
}

#[tokio::test]
async fn a_hole_in_the_chain_fails_the_run() {
    let (world, raw) = two_nights().await;
    world.objects.delete(&raw[2]).await.unwrap();
    let error = world.run(Some(1)).await.unwrap_err();
    assert!(matches!(error, BatchError::Chain(_)), "{error}");
    assert!(error.to_string().contains(&raw[1]) && error.to_string().contains(&raw[3]), "{error}");
    assert!(world.objects.list("tables/", None).await.unwrap().is_empty());
}

/// Without its first objects the chain has no hole, yet duplicates would become first sightings.
#[tokio::test]
async fn objects_that_the_last_night_has_read_must_still_be_there_and_be_the_same() {
    let (mut world, raw) = two_nights().await;
    world.published(1).await;
    world.cover(2).await;
    let sound = world.objects.get(&raw[0]).await.unwrap().unwrap();
    world.objects.delete(&raw[0]).await.unwrap();
    let error = world.run(Some(2)).await.unwrap_err();
    assert!(matches!(error, BatchError::Input(InputError::Lost { .. })), "{error}");

    // A forged object with sound hashes of its own.
    let mut other = World::new(1).await;
    other.object_rows = 10;
    for id in 100..140 {
        other.click(&partition(1, 0), at(1, 12, id as i64 - 100), at(1, 12, id as i64 - 100), "a", id);
    }
    other.store().await;
    let forged = other.objects.get(&raw[0]).await.unwrap().unwrap();
    world.objects.put(&raw[0], forged).await.unwrap();
    let error = world.run(Some(2)).await.unwrap_err();
    assert!(matches!(error, BatchError::Input(InputError::Damaged { .. })), "{error}");
    assert!(error.to_string().contains(&raw[0]), "{error}");
    world.objects.put(&raw[0], sound).await.unwrap();
    world.published(2).await;
}

/// Nights that were published before the one that fails are not kept from whoever asked for all of them.
#[tokio::test]
async fn catching_up_reports_what_it_published_before_it_failed() {
    let mut world = World::new(1).await;
    world.cover(1).await;
    let before = world.objects.list("raw/", None).await.unwrap();
    world.click(&partition(1, 0), at(2, 12, 0), at(2, 12, 0), "a", 1);
    world.store().await;
    let raw = world.objects.list("raw/", None).await.unwrap();
    let key = &raw.iter().find(|object| !before.contains(object)).unwrap().key;
    let mut bytes = world.objects.get(key).await.unwrap().unwrap().to_vec();
    bytes[10] ^= 0x10;
    world.objects.put(key, bytes.into()).await.unwrap();
    world.cover(2).await;
    world.clock.advance_to(cut_time(2));
    let interrupted = catch_up(&world.options, &world.objects, &world.ledger, &world.clock).await.unwrap_err();
    assert!(matches!(interrupted.error, BatchError::Input(InputError::Damaged { .. })), "{interrupted}");
    let nights: Vec<_> = interrupted.nights.iter().map(|report| report.night).collect();
    assert_eq!(nights, [day(1)]);
}

#[tokio::test]
async fn an_archive_whose_end_was_lost_is_not_taken_for_a_quiet_day() {
    let mut world = World::new(1).await;
    world.click(&partition(1, 0), at(1, 12, 0), at(1, 12, 0), "a", 1);
    world.publish(1).await;
    let raw = world.objects.list("raw/", None).await.unwrap();
    for object in &raw {
        world.objects.delete(&object.key).await.unwrap();
    }
    let error = world.run(Some(2)).await.unwrap_err();
    assert!(matches!(error, BatchError::Input(InputError::Lost { .. })), "{error}");
}

/// A published revision that holds more than the recount: the night before had inputs that are gone.
#[tokio::test]
async fn a_recount_that_would_take_clicks_away_fails_the_gate() {
    let (mut richer, _) = two_nights().await;
    richer.published(1).await;
    let mut world = World::new(1).await;
    for (key, bytes) in richer.everything().await.into_iter().filter(|(key, _)| key.starts_with("tables/rev/")) {
        world.objects.create(&key, bytes).await.unwrap();
    }
    world.click(&partition(1, 0), at(1, 12, 0), at(1, 12, 0), "a", 0);
    world.cover(1).await;
    world.published(1).await;
    // The books of the poorer world are made to name the richer world's revision 2.
    world.cover(2).await;
    let rich: DayRevision = richer.books().await.day(day(1)).unwrap().revision.clone();
    let mut books = world.books().await;
    let report = {
        let own = books.day(day(1)).unwrap().revision.clone();
        let night = clicks::ledger::Night {
            night: day(2),
            published_at: cut_time(2),
            release: "forged".to_owned(),
            cuts: books.through().clone(),
            withheld: None,
            accepted: None,
            days: vec![DayRevision { revision: 2, ..rich }, DayRevision { day: day(2), revision: 1, ..own.clone() }],
            confirmed: Vec::new(),
            finals: Vec::new(),
            adjustments: None,
            inputs: last_inputs(&world).await,
            balance: Default::default(),
        };
        world.ledger.publish(&mut books, Body::Night(Box::new(night))).await.unwrap()
    };
    assert_eq!(report, platform::ledger::Published::Ours);
    world.cover(3).await;
    let before = world.books().await;
    let error = world.run(Some(3)).await.unwrap_err();
    assert!(matches!(&error, BatchError::Gate { failure: GateFailure::Shrunk { .. }, .. }), "{error}");
    assert_eq!((error.exit_code(), world.books().await), (12, before));
    richer.cover(2).await;
}

async fn last_inputs(world: &World) -> clicks::ledger::FileRef {
    let books = world.books().await;
    let entry = books.day(day(1)).unwrap().entry;
    let bytes = world.objects.get(&clicks::ledger::entry_key(entry)).await.unwrap().unwrap();
    match clicks::ledger::Entry::decode(entry, &bytes).unwrap().body {
        Body::Night(night) => night.inputs,
        other => panic!("{other:?}"),
    }
}
