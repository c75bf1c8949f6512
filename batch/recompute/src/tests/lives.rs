//! Topic lives: what ended, what began, and a key on both sides.

use super::oracle::check;
use super::world::{World, at, cut_time, day, partition};
use crate::{BatchError, InputError};

/// Scenarios 12, 23 and 24: a new life with more partitions begins at noon of day 2.
#[tokio::test]
async fn a_click_on_both_sides_of_a_migration_counts_once_and_days_go_on_closing() {
    let mut world = World::new(1).await;
    let old = partition(1, 0);
    world.click(&old, at(1, 12, 0), at(1, 12, 0), "a", 1);
    world.publish(1).await;
    world.click(&old, at(2, 11, 50), at(2, 11, 50), "a", 2);
    world.click(&old, at(2, 11, 51), at(2, 11, 51), "a", 3);
    world.begin_life(2, 2).await;
    let (new, other) = (partition(2, 0), partition(2, 1));
    world.click(&new, at(2, 12, 1), at(2, 12, 1), "a", 2); // within the live horizon, yet live sees it twice
    world.click(&other, at(2, 12, 2), at(2, 12, 2), "b", 2); // another ad, so another click
    world.click(&new, at(3, 11, 0), at(3, 11, 0), "a", 3); // far, on the other side
    world.click(&new, at(3, 11, 1), at(3, 11, 1), "a", 1); // 47 hours after its only sighting
    // The old life ended before the cut and lags no more; the new one must reach it.
    world.store().await;
    let error = world.run(Some(2)).await.unwrap_err();
    assert!(matches!(error, BatchError::Incomplete(_)), "{error}");
    for n in 2..=7 {
        world.cover_life(2, n).await;
        world.published(n).await;
    }
    assert_eq!((world.clicks(2).await, world.clicks(3).await), (3, 1));
    let books = world.books().await;
    let second = books.day(day(2)).unwrap().revision.totals;
    assert_eq!((second.duplicates, second.far_duplicates, second.live()), (1, 1, 4));
    check(&world, 7, 1).await;
}

/// The tail of an ended life reaches beyond the cut of a night that is caught up.
#[tokio::test]
async fn an_ended_life_is_cut_like_any_other_where_it_reaches_the_cut() {
    let mut world = World::new(1).await;
    let old = partition(1, 0);
    world.click(&old, cut_time(1) - clicks::time::Span::millis(1), at(1, 23, 59), "a", 1);
    world.click(&old, cut_time(1), at(1, 23, 59), "a", 2);
    world.begin_life(2, 1).await;
    world.store().await;
    world.cover_life(2, 1).await;
    let report = world.published(1).await;
    assert_eq!(report.days[0].totals.clicks, 1);
    world.cover_life(2, 2).await;
    let report = world.published(2).await;
    assert_eq!(report.days[0].totals.clicks, 2, "day 1 is restated with the click at its first cut");
    check(&world, 2, 1).await;
}

/// An archiver stores the tail of an ended life only after a night has cut that life at the end of its chain: the next
/// night takes it, as part of days that are open and as adjustments of those that are final.
#[tokio::test]
async fn the_tail_of_an_ended_life_that_is_archived_late_is_in_the_next_night() {
    let mut world = World::new(1).await;
    let old = partition(1, 0);
    world.click(&old, at(1, 12, 0), at(1, 12, 0), "a", 1);
    world.begin_life(2, 1).await;
    world.cover_life(2, 1).await;
    world.published(1).await;
    assert_eq!(world.clicks(1).await, 1);
    world.click(&old, at(1, 13, 0), at(1, 13, 0), "a", 2);
    world.click(&old, at(1, 13, 1), at(1, 13, 1), "a", 1);
    world.cover_life(2, 2).await;
    let report = world.published(2).await;
    assert_eq!((report.days[0].day, report.days[0].totals.clicks, report.days[0].totals.duplicates), (day(1), 2, 1));
    check(&world, 2, 1).await;
    for n in 3..=4 {
        world.cover_life(2, n).await;
        world.published(n).await;
    }
    world.click(&old, at(1, 14, 0), at(1, 14, 0), "a", 3);
    world.cover_life(2, 5).await;
    let report = world.published(5).await;
    assert_eq!(report.adjustments.get(&day(1)), Some(&1), "day 1 is final since night 4");
    world.cover_life(2, 6).await;
    assert!(world.published(6).await.adjustments.is_empty());
    assert_eq!((world.clicks(1).await, world.adjusted(1).await), (2, 1));
}

/// Raw objects are kept for so long and no longer; of a life that has ended nothing is left then.
#[tokio::test]
async fn nights_go_on_when_an_ended_life_has_expired_from_the_archive() {
    let mut world = World::new(1).await;
    let old = partition(1, 0);
    world.click(&old, at(1, 12, 0), at(1, 12, 0), "a", 1);
    world.publish(1).await;
    world.begin_life(2, 1).await;
    let raw = world.objects.list("raw/", None).await.unwrap();
    let mut bytes = Vec::new();
    for object in &raw {
        bytes.push((object.key.clone(), world.objects.get(&object.key).await.unwrap().unwrap()));
    }
    let through = world.books().await.through()[&old];
    world.cover_life(2, 2).await;
    world.published(2).await;
    // What the last night has read must still be there, ended or not.
    for object in &raw {
        world.objects.delete(&object.key).await.unwrap();
    }
    world.cover_life(2, 3).await;
    let error = world.run(Some(3)).await.unwrap_err();
    assert!(matches!(error, BatchError::Input(InputError::Lost { .. })), "{error}");
    for (key, bytes) in bytes {
        world.objects.put(&key, bytes).await.unwrap();
    }
    for n in 3..=8 {
        world.cover_life(2, n).await;
        world.published(n).await;
    }
    for object in &raw {
        world.objects.delete(&object.key).await.unwrap();
    }
    let end = world.books().await.through()[&old];
    assert!(end > through, "the heartbeat at the cut of night 1 is below the later cuts");
    for n in 9..=10 {
        world.cover_life(2, n).await;
        world.published(n).await;
        assert_eq!(world.books().await.through()[&old], end);
    }
}
