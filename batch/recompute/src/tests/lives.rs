//! Topic lives: what ended, what began, and a key on both sides.

use super::oracle::check;
use super::world::{World, at, cut_time, partition};
use crate::BatchError;

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
    let second = books.day(super::world::day(2)).unwrap().revision.totals;
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
