//! What was written since an earlier read.

use std::collections::BTreeMap;

use clicks::live::{CountKey, Flush, LateKey};
use clicks::position::PartitionId;

use super::steps::{Writer, all, count, day, generation, late, new_partition};
use super::{applied, slice, sorted, works};
use crate::store::{CHANGES_MAX, Changes, LiveSlice, Mark, Reached, SpeedStore};

/// A reader that reads everything once, and then what has changed.
struct Follower {
    mark: Mark,
    reached: Reached,
    counts: BTreeMap<CountKey, u64>,
    late: BTreeMap<LateKey, u64>,
}

impl Follower {
    async fn begin(store: &dyn SpeedStore, partition: &PartitionId) -> Self {
        let begun = changes(store, partition, None).await.expect("somebody has written");
        let stored = slice(store, partition, &all()).await;
        assert_eq!(LiveSlice { counts: Vec::new(), late: Vec::new(), ..stored.clone() }, begun.slice);
        assert_eq!(begun.reached, [stored.reached()]);
        let (counts, late) = (stored.counts.into_iter().collect(), stored.late.into_iter().collect());
        Follower { mark: begun.mark, reached: begun.slice.reached(), counts, late }
    }

    /// How many changes there were, of how many flushes, once it holds what is stored.
    async fn follow(&mut self, store: &dyn SpeedStore, partition: &PartitionId) -> (usize, usize) {
        let Changes { slice: changes, mark, reached } =
            changes(store, partition, Some(&self.mark)).await.expect("the changes are remembered");
        let stored = slice(store, partition, &all()).await;
        assert_eq!((changes.generation, &changes.meta), (stored.generation, &stored.meta));
        assert_eq!(changes.is_in_doubt, stored.is_in_doubt);
        assert_eq!((reached.first(), reached.last()), (Some(&self.reached), Some(&stored.reached())));
        let count = changes.counts.len() + changes.late.len();
        (self.mark, self.reached) = (mark, stored.reached());
        self.counts.extend(changes.counts);
        self.late.extend(changes.late);
        assert_eq!(self.counts.clone().into_iter().collect::<Vec<_>>(), sorted(stored.counts));
        assert_eq!(self.late.clone().into_iter().collect::<Vec<_>>(), sorted(stored.late));
        (count, reached.len() - 1)
    }
}

async fn changes(store: &dyn SpeedStore, partition: &PartitionId, mark: Option<&Mark>) -> Option<Changes> {
    works(store.read_changes(partition, mark).await, "read changes")
}

pub(super) async fn a_reader_follows_what_is_written(store: &dyn SpeedStore) {
    let partition = new_partition();
    assert_eq!(changes(store, &partition, None).await, None, "of an unknown partition");
    let mut writer = Writer::new(1, 0);
    applied(store, &partition, &writer.step(0, vec![])).await;
    let mut from_the_beginning = Follower::begin(store, &partition).await;
    assert_eq!(from_the_beginning.follow(store, &partition).await, (0, 0), "nothing is counted yet");
    let late = vec![(late("2026-03-10", "2026-02-28T12:00:00Z", "a"), 1)];
    let step = writer.step(4, vec![(count("11:59", "a"), 1), (count("12:00", "a"), 2)]);
    applied(store, &partition, &Flush { late, ..step }).await;
    let mut follower = Follower::begin(store, &partition).await;
    assert_eq!(follower.follow(store, &partition).await, (0, 0), "nothing was written since");
    assert_eq!(from_the_beginning.follow(store, &partition).await, (3, 1));
    applied(store, &partition, &writer.step(3, vec![(count("12:00", "a"), 5)])).await;
    applied(store, &partition, &writer.step(2, vec![(count("12:00", "a"), 6), (count("12:01", "b"), 1)])).await;
    applied(store, &partition, &writer.step(9, vec![])).await;
    assert_eq!(follower.follow(store, &partition).await, (3, 3), "the last value of a key holds");
    assert_eq!(follower.follow(store, &partition).await, (0, 0), "everything is seen");
    assert_eq!(from_the_beginning.follow(store, &partition).await, (3, 3));
    let many = (0..CHANGES_MAX).map(|n| (count("12:02", &format!("ad-{n}")), n as u64 + 1)).collect();
    applied(store, &partition, &writer.step(CHANGES_MAX as u64, many)).await;
    assert_eq!(follower.follow(store, &partition).await, (CHANGES_MAX, 1), "a large flush is remembered whole");
    // An expiry writes no counts and moves no offset.
    let mut expiry = writer.step(0, vec![]);
    expiry.meta.base_night = day("2026-03-09");
    applied(store, &partition, &expiry).await;
    assert_eq!(follower.follow(store, &partition).await, (0, 1));
}

pub(super) async fn a_reader_that_fell_behind_is_told_so(store: &dyn SpeedStore) {
    let partition = new_partition();
    let mut writer = Writer::new(1, 0);
    applied(store, &partition, &writer.step(0, vec![])).await;
    let mut some = vec![Follower::begin(store, &partition).await.mark];
    for minute in 0..200 {
        let at = format!("{:02}:{:02}", 8 + minute / 60, minute % 60);
        applied(store, &partition, &writer.step(1, vec![(count(&at, "a"), 1)])).await;
        some.push(Follower::begin(store, &partition).await.mark);
    }
    assert_eq!(changes(store, &partition, Some(&some[0])).await, None, "some are forgotten");
    let last = changes(store, &partition, Some(&some[199])).await.expect("the last one is remembered");
    assert_eq!(last.slice.counts, [(count("11:19", "a"), 1)]);
    let mut next = Writer::new(2, 0);
    next.expected = writer.expected;
    applied(store, &partition, &next.step(1, vec![(count("12:00", "a"), 1)])).await;
    assert_eq!(changes(store, &partition, Some(&some[200])).await, None, "another generation is live");
    let mark = Follower::begin(store, &partition).await.mark;
    assert_eq!(mark.generation, generation(2));
    assert_eq!(changes(store, &new_partition(), Some(&mark)).await, None, "of an unknown partition");
}
