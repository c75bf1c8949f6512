//! Nights that must not be published: incomplete input, partitions that nobody knows.

use super::world::{World, at, cut_time, day, partition};
use crate::{BatchError, NightOutcome, catch_up};

#[tokio::test]
async fn a_partition_that_lags_is_named_and_nothing_is_published() {
    let mut world = World::new(3).await;
    world.click(&partition(1, 0), at(1, 12, 0), at(1, 12, 0), "a", 1);
    world.heartbeat(&partition(1, 0), cut_time(1), 3);
    world.heartbeat(&partition(1, 2), cut_time(1) - clicks::time::Span::millis(1), 3);
    world.store().await;
    let before = world.everything().await;
    let error = world.run(Some(1)).await.unwrap_err();
    let BatchError::Incomplete(incomplete) = &error else { panic!("{error}") };
    assert_eq!(error.exit_code(), 10);
    let lagging: Vec<_> = incomplete.lagging.iter().map(|lag| (lag.partition.number, lag.coverage.is_some())).collect();
    assert_eq!(lagging, [(1, false), (2, true)], "scenario 23: an empty partition is missed too");
    for named in [partition(1, 1).to_string(), partition(1, 2).to_string()] {
        assert!(error.to_string().contains(&named), "{error}");
    }
    assert!(error.to_string().contains("twofold archive"), "{error}");
    assert_eq!(world.everything().await, before);
}

#[tokio::test]
async fn the_next_night_is_an_error_only_once_its_time_has_come() {
    let mut world = World::new(1).await;
    let nothing_due = async |world: &World, n: i32| {
        let last_night = (n > 1).then(|| day(n - 1));
        let expected = NightOutcome::NothingDue { next: day(n), due: cut_time(n), last_night };
        assert_eq!(world.run(None).await.unwrap(), expected);
        let caught = catch_up(&world.options, &world.objects, &world.ledger, &world.clock).await.unwrap();
        assert_eq!((caught.nights.len(), caught.waits), (0, None));
        // Whoever names the day wants that one, and is told to come again.
        assert!(matches!(world.run(Some(n)).await, Err(BatchError::Incomplete(_))));
    };
    nothing_due(&world, 1).await;
    world.publish(1).await;
    world.clock.advance_to(cut_time(2) - clicks::time::Span::millis(1));
    nothing_due(&world, 2).await;
    world.clock.advance_to(cut_time(2));
    assert!(matches!(world.run(None).await, Err(BatchError::Incomplete(_))));
    let caught = catch_up(&world.options, &world.objects, &world.ledger, &world.clock).await.unwrap();
    assert_eq!((caught.nights.len(), caught.waits.map(|w| w.night)), (0, Some(day(2))));
}

/// Scenario 23: partitions grow while running.
#[tokio::test]
async fn partitions_that_the_ledger_does_not_know_stop_the_night() {
    let mut world = World::new(1).await;
    world.heartbeat(&partition(1, 0), at(1, 12, 0), 2);
    world.cover(1).await;
    let error = world.run(Some(1)).await.unwrap_err();
    assert!(matches!(error, BatchError::MorePartitions { known: 1, found: 2, .. }), "{error}");
    assert_eq!(error.exit_code(), 10);
    // What the message tells the operator to do helps.
    assert!(error.to_string().contains("twofold topic create"), "{error}");
    world.begin_life(2, 2).await;
    world.cover_life(2, 1).await;
    world.published(1).await;

    let mut world = World::new(1).await;
    world.logs.insert(partition(9, 0), Vec::new());
    world.click(&partition(9, 0), at(1, 12, 0), at(1, 12, 0), "a", 1);
    world.cover(1).await;
    let error = world.run(Some(1)).await.unwrap_err();
    let BatchError::UnknownPartition { prefix, .. } = &error else { panic!("{error}") };
    assert!(prefix.contains("part=0") && prefix.contains("region=eu"), "{prefix}");
    assert_eq!(world.books().await.last_night(), None);
}
