//! A generation that is counted beside the live one, until it takes its place.

use clicks::live::{Expected, FlushOutcome, Stage};
use clicks::position::Offset;

use super::steps::{Writer, all, count, generation, late, new_partition};
use super::{applied, dump, flush, load, loaded, read, refused, slice, sorted, works};
use crate::store::SpeedStore;

/// A writer of another generation that is to be counted beside what `live` has stored.
fn beside(number: u128, live: &Writer) -> Writer {
    let mut builder = Writer::new(number, 0);
    (builder.expected, builder.stage) = (live.expected, Stage::Beside);
    builder
}

pub(super) async fn a_generation_is_built_beside_the_live_one(store: &dyn SpeedStore) {
    let partition = new_partition();
    let mut owner = Writer::new(1, 0);
    let mut old = owner.step(5, vec![(count("11:00", "a"), 2), (count("12:00", "a"), 3)]);
    old.late = vec![(late("2026-03-10", "2026-03-09T23:00:00Z", "a"), 1)];
    applied(store, &partition, &old).await;
    assert!(!slice(store, &partition, &all()).await.is_in_doubt, "nothing is built");
    assert_eq!(loaded(store, &partition).await.stage, Stage::Live);

    let mut builder = beside(2, &owner);
    for records in [2, 1] {
        let step = builder.step(records, vec![(count("12:00", "b"), records)]);
        applied(store, &partition, &step).await;
        let seen = slice(store, &partition, &all()).await;
        assert_eq!((seen.generation, &seen.meta), (old.generation, &old.meta), "readers see the live one");
        assert!(seen.is_in_doubt, "and that it is in doubt");
        assert_eq!((sorted(seen.counts), seen.late), (sorted(old.counts.clone()), old.late.clone()), "as it was");
        let current = loaded(store, &partition).await;
        assert_eq!((current.generation, current.stage), (step.generation, Stage::Beside), "the worker loads the other");
        assert_eq!((&current.meta, &current.counts), (&step.meta, &step.counts));
        let found = Some((generation(2), step.meta.next_offset));
        let again = flush(store, &partition, &step).await;
        assert_eq!(again, FlushOutcome::Mismatch { found }, "after a lost reply");
    }
    let before = dump(store, &partition).await;
    let found = Some((generation(2), Offset::new(3)));
    let zombie = owner.clone().step(1, vec![(count("12:00", "a"), 4)]);
    let outcome = flush(store, &partition, &zombie).await;
    assert_eq!(outcome, FlushOutcome::Mismatch { found }, "nobody goes on with the live one");
    assert_eq!(works(store.sweep(&partition).await, "sweep"), 0, "neither of the two is swept");
    assert_eq!(dump(store, &partition).await, before, "nothing changes");

    builder.stage = Stage::Live;
    let switch = builder.step(1, vec![(count("12:00", "b"), 4)]);
    applied(store, &partition, &switch).await;
    let seen = slice(store, &partition, &all()).await;
    assert_eq!((seen.generation, &seen.meta, seen.is_in_doubt), (switch.generation, &switch.meta, false), "one step");
    assert_eq!(seen.counts, switch.counts, "with all that was built");
    assert_eq!(loaded(store, &partition).await.stage, Stage::Live);
    let found = Some((generation(2), Offset::new(4)));
    for late in [zombie, switch] {
        assert_eq!(flush(store, &partition, &late).await, FlushOutcome::Mismatch { found }, "once");
    }
    assert_eq!(works(store.sweep(&partition).await, "sweep"), 5, "all keys of the old one");
    applied(store, &partition, &builder.step(1, vec![(count("12:00", "b"), 5)])).await;
    builder.stage = Stage::Beside;
    refused(store, &partition, &builder.step(1, vec![]), "a live generation that goes back beside another one").await;
}

pub(super) async fn another_one_takes_the_place_of_what_is_built(store: &dyn SpeedStore) {
    let partition = new_partition();
    let mut owner = Writer::new(1, 0);
    let old = owner.step(5, vec![(count("12:00", "a"), 5)]);
    applied(store, &partition, &old).await;
    let mut first = beside(2, &owner);
    let other = beside(3, &owner).step(1, vec![]);
    applied(store, &partition, &first.step(2, vec![(count("12:00", "b"), 2)])).await;
    let found = Some((generation(2), Offset::new(2)));
    let outcome = flush(store, &partition, &other).await;
    assert_eq!(outcome, FlushOutcome::Mismatch { found }, "of two that begin one wins");
    let mut back = beside(1, &first);
    refused(store, &partition, &back.step(1, vec![]), "the live one, beside itself").await;

    for (number, expected) in [(3, first.expected), (4, Expected::Damaged { generation: Some(generation(3)) })] {
        let mut next = beside(number, &first);
        next.expected = expected;
        let step = next.step(1, vec![(count("12:00", "c"), 1)]);
        applied(store, &partition, &step).await;
        let current = loaded(store, &partition).await;
        assert_eq!(
            (current.generation, current.stage, &current.counts),
            (step.generation, Stage::Beside, &step.counts)
        );
        let seen = slice(store, &partition, &all()).await;
        assert_eq!((seen.generation, &seen.counts), (old.generation, &old.counts), "readers see the live one");
        assert_eq!(works(store.sweep(&partition).await, "sweep"), 3, "all keys of what was built");
        assert_eq!(loaded(store, &partition).await, current);
    }
    let late = first.step(1, vec![]);
    let found = Some((generation(4), Offset::new(1)));
    assert_eq!(flush(store, &partition, &late).await, FlushOutcome::Mismatch { found }, "it was replaced");
}

/// Where readers can see nothing of the live one there is no reason to hide what is built.
pub(super) async fn a_rebuild_that_is_not_needed_is_given_up(store: &dyn SpeedStore) {
    let partition = new_partition();
    let mut builder = Writer::new(2, 0);
    builder.stage = Stage::Beside;
    applied(store, &partition, &builder.step(2, vec![(count("12:00", "a"), 2)])).await;
    assert!(read(store, &partition, &all()).await.is_none(), "nothing is live");
    assert_eq!(load(store, &partition).await.map(|current| current.stage), Some(Stage::Beside));
    let mut live = Writer::new(3, 0);
    live.expected = builder.expected;
    let step = live.step(1, vec![(count("12:00", "b"), 1)]);
    applied(store, &partition, &step).await;
    let seen = slice(store, &partition, &all()).await;
    assert_eq!((seen.generation, seen.is_in_doubt, &seen.counts), (step.generation, false, &step.counts));
    assert_eq!(works(store.sweep(&partition).await, "sweep"), 3, "all keys of what was built");
    applied(store, &partition, &live.step(1, vec![(count("12:00", "b"), 2)])).await;
}
