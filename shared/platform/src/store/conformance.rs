//! The conformance suite of the speed store port. It panics with the name of what does not hold.
//!
//! Every part takes a partition of its own with a random topic id, so it may run against a server that others use.

mod beside;
mod changes;
mod flushes;
mod reads;
mod steps;
mod sweeps;

use clicks::live::{Flush, FlushOutcome, Loaded};
use clicks::position::PartitionId;

use self::steps::{all, rules};
use super::{LiveQuery, LiveSlice, SpeedStore, StoreError};

/// Runs every part.
///
/// # Panics
/// When the store breaks the contract, or does not answer.
pub async fn suite(store: &dyn SpeedStore) {
    assert!(store.max_changes() > 0, "a flush may carry changes");
    works(store.check().await, "check");
    reads::nothing_is_stored_of_an_unknown_partition(store).await;
    flushes::a_first_flush_begins_a_generation(store).await;
    reads::a_generation_without_a_record_is_readable(store).await;
    flushes::a_flush_compares_generation_and_offset(store).await;
    flushes::offsets_beyond_double_precision_compare_exactly(store).await;
    flushes::values_are_absolute(store).await;
    flushes::a_repeated_flush_finds_its_own_position(store).await;
    flushes::a_zombie_of_a_replaced_generation_is_refused(store).await;
    flushes::a_writer_that_missed_an_expiry_is_refused(store).await;
    flushes::a_writer_that_counted_a_lost_record_is_refused(store).await;
    flushes::malformed_flushes_change_nothing(store).await;
    flushes::a_damaged_generation_is_replaced_whatever_is_left_of_it(store).await;
    beside::a_generation_is_built_beside_the_live_one(store).await;
    beside::another_one_takes_the_place_of_what_is_built(store).await;
    beside::a_rebuild_that_is_not_needed_is_given_up(store).await;
    sweeps::what_was_replaced_is_deleted_and_nothing_else(store).await;
    sweeps::a_damaged_generation_is_swept_as_well(store).await;
    flushes::of_two_racing_writers_one_wins(store).await;
    reads::a_load_gives_what_may_still_change(store).await;
    reads::late_counts_outlive_their_window(store).await;
    reads::an_expiry_drops_hours_and_nights(store).await;
    reads::a_read_clips_and_filters(store).await;
    reads::parts_add_up_to_the_whole(store).await;
    reads::partitions_do_not_touch(store).await;
    flushes::a_large_flush_is_stored_whole(store).await;
    changes::a_reader_follows_what_is_written(store).await;
    changes::a_reader_that_fell_behind_is_told_so(store).await;
}

/// Everything that the port shows of a partition.
#[derive(Debug, PartialEq)]
struct Dump {
    loaded: Loaded,
    slice: LiveSlice,
}

async fn dump(store: &dyn SpeedStore, partition: &PartitionId) -> Dump {
    let (mut loaded, mut slice) = (loaded(store, partition).await, slice(store, partition, &all()).await);
    for counts in [&mut loaded.counts, &mut slice.counts] {
        counts.sort();
    }
    for late in [&mut loaded.late, &mut slice.late] {
        late.sort();
    }
    Dump { loaded, slice }
}

async fn load(store: &dyn SpeedStore, partition: &PartitionId) -> Option<Loaded> {
    works(store.load(partition, &rules()).await, "load")
}

async fn loaded(store: &dyn SpeedStore, partition: &PartitionId) -> Loaded {
    load(store, partition).await.unwrap_or_else(|| panic!("nothing is live in {partition}"))
}

async fn read(store: &dyn SpeedStore, partition: &PartitionId, query: &LiveQuery) -> Option<LiveSlice> {
    works(store.read(partition, query).await, "read")
}

async fn slice(store: &dyn SpeedStore, partition: &PartitionId, query: &LiveQuery) -> LiveSlice {
    read(store, partition, query).await.unwrap_or_else(|| panic!("nothing is live in {partition}"))
}

async fn flush(store: &dyn SpeedStore, partition: &PartitionId, step: &Flush) -> FlushOutcome {
    works(store.flush(partition, step).await, "flush")
}

async fn applied(store: &dyn SpeedStore, partition: &PartitionId, step: &Flush) {
    assert_eq!(flush(store, partition, step).await, FlushOutcome::Applied, "{step:?}");
}

async fn refused(store: &dyn SpeedStore, partition: &PartitionId, step: &Flush, name: &str) {
    match store.flush(partition, step).await {
        Err(StoreError::Failed(reason)) => {
            assert!(reason.contains(&partition.to_string()), "{name}: the partition is named in: {reason}");
        }
        other => panic!("{name} is refused, not {other:?}"),
    }
}

fn works<T>(result: Result<T, StoreError>, what: &str) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error}"))
}

fn sorted<K: Ord>(mut counts: Vec<(K, u64)>) -> Vec<(K, u64)> {
    counts.sort();
    counts
}
