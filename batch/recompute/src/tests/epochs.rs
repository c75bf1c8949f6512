//! A topic that gets more partitions while it runs.

use super::oracle::check;
use super::world::{World, at, day, partition};
use crate::BatchError;

/// Scenario 23: partitions grow from 8 to 16 in the middle of a day; the new ones are empty at first.
#[tokio::test]
async fn a_topic_that_grows_closes_no_day_without_its_new_partitions_and_counts_no_key_twice() {
    let mut world = World::new(8).await;
    let (old, new) = (partition(1, 3), partition(1, 11));
    world.click(&old, at(1, 11, 59), at(1, 11, 59), "moved", 1);
    // A stale producer goes on by the old count for a while: the first sighting is in a new partition.
    world.click(&partition(1, 4), at(1, 12, 2), at(1, 12, 1), "moved", 2);
    world.store().await;
    // Heartbeats know it before the ledger does: nobody may close the day.
    for n in 0..8 {
        world.heartbeat(&partition(1, n), at(1, 12, 0), 16);
    }
    for n in 0..8 {
        world.heartbeat(&partition(1, n), super::world::cut_time(1), 16);
    }
    world.store().await;
    assert!(matches!(world.run(Some(1)).await, Err(BatchError::MorePartitions { known: 8, found: 16, .. })));
    world.grow(1, 16).await;
    let refused = world.run(Some(1)).await.unwrap_err();
    let BatchError::Incomplete(incomplete) = &refused else { panic!("{refused}") };
    assert_eq!(incomplete.lagging.len(), 8, "{refused}");
    // The client sends the same click again, and it comes to the new partition.
    world.click(&new, at(1, 12, 0), at(1, 11, 59), "moved", 1);
    world.click(&new, at(1, 12, 1), at(1, 12, 1), "moved", 2);
    world.publish(1).await;
    assert_eq!(world.clicks(1).await, 2);
    let totals = world.books().await.day(day(1)).unwrap().revision.totals;
    assert_eq!((totals.duplicates, totals.far_duplicates), (2, 2), "no live worker could know");
    // Across midnight, too, and days go on closing.
    world.click(&new, at(2, 1, 0), at(2, 1, 0), "moved", 1);
    for n in 2..=4 {
        world.publish(n).await;
    }
    check(&world, 4, -36).await;
}
