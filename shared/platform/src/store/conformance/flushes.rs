//! What a flush promises: compare, validate, write.

use clicks::live::{Expected, Flush, FlushOutcome};
use clicks::position::Offset;
use clicks::time::Day;

use super::steps::{Writer, all, count, day, generation, late, new_partition};
use super::{applied, dump, flush, loaded, refused, slice, sorted};
use crate::store::SpeedStore;

pub(super) async fn a_first_flush_begins_a_generation(store: &dyn SpeedStore) {
    let partition = new_partition();
    let mut writer = Writer::new(1, 100);
    let mut step = writer.step(2, vec![(count("12:00", "a"), 1), (count("11:59", "a"), 1)]);
    step.late = vec![(late("2026-03-10", "2026-03-09T23:00:00Z", "b"), 7)];
    applied(store, &partition, &step).await;
    let loaded = loaded(store, &partition).await;
    assert_eq!((loaded.generation, &loaded.meta), (step.generation, &step.meta), "all of the meta record comes back");
    assert_eq!(sorted(loaded.counts), sorted(step.counts.clone()), "counts come back");
    assert_eq!(loaded.late, step.late, "late counts come back");
    let slice = slice(store, &partition, &all()).await;
    assert_eq!((slice.generation, &slice.meta), (step.generation, &step.meta), "read and load give one meta record");
    let again = Writer::new(2, 100).step(1, vec![]);
    let found = Some((step.generation, step.meta.next_offset));
    let outcome = flush(store, &partition, &again).await;
    assert_eq!(outcome, FlushOutcome::Mismatch { found }, "nothing was expected, something is live");
}

pub(super) async fn a_flush_compares_generation_and_offset(store: &dyn SpeedStore) {
    let partition = new_partition();
    let mut writer = Writer::new(1, 0);
    applied(store, &partition, &writer.step(5, vec![(count("12:00", "a"), 5)])).await;
    let before = dump(store, &partition).await;
    let found = Some((generation(1), Offset::new(5)));
    let expectations = [
        ("another generation", Expected::At { generation: generation(2), next_offset: Offset::new(5), lost: 0 }),
        ("an earlier offset", Expected::At { generation: generation(1), next_offset: Offset::new(4), lost: 0 }),
        ("a later offset", Expected::At { generation: generation(1), next_offset: Offset::new(6), lost: 0 }),
        ("nothing", Expected::Nothing),
    ];
    for (name, expected) in expectations {
        for target in [1, 2, 3] {
            let mut step = writer.clone().step(1, vec![(count("12:00", "a"), 6), (count("12:01", "b"), 1)]);
            step.expected = expected;
            step.generation = generation(target);
            step.drop_hours = vec![count("11:00", "a").minute.hour()];
            let outcome = flush(store, &partition, &step).await;
            assert_eq!(outcome, FlushOutcome::Mismatch { found }, "expected {name}, generation {target}");
            assert_eq!(dump(store, &partition).await, before, "expected {name}: a mismatch changes nothing");
        }
    }
    applied(store, &partition, &writer.step(1, vec![(count("12:00", "a"), 6)])).await;
}

pub(super) async fn offsets_beyond_double_precision_compare_exactly(store: &dyn SpeedStore) {
    // The first odd number that a double cannot hold is 2^53 + 1.
    let partition = new_partition();
    let edge = 1 << 53;
    let mut writer = Writer::new(1, edge);
    applied(store, &partition, &writer.step(1, vec![])).await;
    let mut step = writer.step(1, vec![]);
    step.expected = Expected::At { generation: generation(1), next_offset: Offset::new(edge), lost: 0 };
    let found = Some((generation(1), Offset::new(edge + 1)));
    assert_eq!(flush(store, &partition, &step).await, FlushOutcome::Mismatch { found }, "2^53 is not 2^53 + 1");
    step.expected = Expected::At { generation: generation(1), next_offset: Offset::new(edge + 1), lost: 0 };
    applied(store, &partition, &step).await;
    assert_eq!(loaded(store, &partition).await.meta.next_offset, Offset::new(edge + 2));
}

pub(super) async fn values_are_absolute(store: &dyn SpeedStore) {
    let partition = new_partition();
    let mut writer = Writer::new(1, 0);
    applied(store, &partition, &writer.step(2, vec![(count("12:00", "a"), 2), (count("12:00", "b"), 1)])).await;
    applied(store, &partition, &writer.step(1, vec![(count("12:00", "a"), 3)])).await;
    let counts = sorted(loaded(store, &partition).await.counts);
    assert_eq!(counts, [(count("12:00", "a"), 3), (count("12:00", "b"), 1)], "a count is what was written last");
}

pub(super) async fn a_repeated_flush_finds_its_own_position(store: &dyn SpeedStore) {
    let partition = new_partition();
    let mut writer = Writer::new(1, 0);
    let first = writer.step(2, vec![(count("12:00", "a"), 2)]);
    let second = writer.step(3, vec![(count("12:00", "a"), 5)]);
    for step in [first, second] {
        applied(store, &partition, &step).await;
        let before = dump(store, &partition).await;
        let found = Some((step.generation, step.meta.next_offset));
        let outcome = flush(store, &partition, &step).await;
        assert_eq!(outcome, FlushOutcome::Mismatch { found }, "after a lost reply");
        assert_eq!(dump(store, &partition).await, before, "a repeated flush changes nothing");
    }
}

/// Scenario 8 as well: the zombie stands at the same offset.
pub(super) async fn a_zombie_of_a_replaced_generation_is_refused(store: &dyn SpeedStore) {
    let partition = new_partition();
    let mut zombie = Writer::new(1, 0);
    applied(store, &partition, &zombie.step(500, vec![(count("12:00", "a"), 500)])).await;
    let mut owner = Writer::new(2, 300);
    owner.expected = zombie.expected;
    applied(store, &partition, &owner.step(200, vec![(count("12:00", "b"), 200)])).await;
    let before = dump(store, &partition).await;
    assert_eq!(sorted(before.slice.counts.clone()), [(count("12:00", "b"), 200)], "only the live generation is read");
    let found = Some((generation(2), Offset::new(500)));
    let outcome = flush(store, &partition, &zombie.step(1, vec![(count("12:00", "a"), 501)])).await;
    assert_eq!(outcome, FlushOutcome::Mismatch { found }, "a zombie at the same offset");
    assert_eq!(dump(store, &partition).await, before, "a zombie changes nothing");
    let mut back = Writer::new(1, 0);
    back.expected = owner.expected;
    refused(store, &partition, &back.step(1, vec![]), "a generation that is not new").await;
    assert_eq!(dump(store, &partition).await, before, "a generation does not come back");
}

pub(super) async fn a_writer_that_missed_an_expiry_is_refused(store: &dyn SpeedStore) {
    let partition = new_partition();
    let mut owner = Writer::new(1, 0);
    applied(store, &partition, &owner.step(3, vec![(count("12:00", "a"), 3)])).await;
    let zombie = owner.clone();
    let mut expiry = owner.step(0, vec![]);
    expiry.meta.base_day = day("2026-03-10");
    expiry.meta.totals.expired = 9;
    applied(store, &partition, &expiry).await;
    applied(store, &partition, &expiry).await;
    let before = dump(store, &partition).await;
    let found = Some((generation(1), Offset::new(3)));
    type Change = fn(&mut Flush);
    let changes: [(&str, Change); 4] = [
        ("base day", |step| step.meta.totals.expired = 9),
        ("expired", |step| step.meta.base_day = day("2026-03-10")),
        ("base night", |step| {
            (step.meta.base_day, step.meta.totals.expired) = (day("2026-03-10"), 9);
            step.meta.base_night = day("2026-03-07");
        }),
        ("all of it", |_| {}),
    ];
    for (name, change) in changes {
        let mut step = zombie.clone().step(1, vec![(count("12:00", "a"), 4)]);
        change(&mut step);
        let outcome = flush(store, &partition, &step).await;
        assert_eq!(outcome, FlushOutcome::Mismatch { found }, "{name} goes back");
        assert_eq!(dump(store, &partition).await, before, "{name} goes back: nothing changes");
    }
}

/// Two writers at one offset, of which one has counted a record that the other one found lost.
pub(super) async fn a_writer_that_counted_a_lost_record_is_refused(store: &dyn SpeedStore) {
    let partition = new_partition();
    let mut owner = Writer::new(1, 0);
    applied(store, &partition, &owner.step(3, vec![(count("12:00", "a"), 3)])).await;
    let (zombie, mut gap) = (owner.step(1, vec![(count("12:00", "a"), 4)]), owner.clone());
    let mut lost = zombie.clone();
    (lost.meta.totals.seen, lost.meta.totals.counted, lost.meta.lost.records) = (3, 3, 1);
    lost.counts.clear();
    applied(store, &partition, &lost).await;
    let before = dump(store, &partition).await;
    let next = gap.step(1, vec![(count("12:00", "a"), 5)]);
    let found = Some((generation(1), Offset::new(4)));
    assert_eq!(flush(store, &partition, &next).await, FlushOutcome::Mismatch { found }, "it stands at the same offset");
    assert_eq!(dump(store, &partition).await, before, "nothing changes");
    let mut on = next.clone();
    on.expected = Expected::at(generation(1), &lost.meta);
    on.meta.lost = lost.meta.lost;
    applied(store, &partition, &on).await;
}

pub(super) async fn malformed_flushes_change_nothing(store: &dyn SpeedStore) {
    const LIMIT: u64 = 1 << 62;
    let partition = new_partition();
    let mut writer = Writer::new(1, 0);
    applied(store, &partition, &writer.step(1, vec![(count("12:00", "a"), LIMIT - 1)])).await;
    let before = dump(store, &partition).await;
    assert_eq!(before.slice.counts, [(count("12:00", "a"), LIMIT - 1)], "the largest count comes back");
    let good = writer.step(1, vec![(count("12:00", "b"), 1)]);
    type Spoil = fn(&mut Flush);
    let spoils: [(&str, Spoil); 7] = [
        ("a fingerprint that is none", |step| step.meta.fingerprint = "x y".to_owned()),
        ("a base day beyond the year 9999", |step| step.meta.base_day = Day::from_number(4_000_000)),
        ("a count of 2^62", |step| step.counts.push((count("12:00", "c"), LIMIT))),
        ("a late count beyond it", |step| step.late.push((late("2026-03-10", "2026-03-09T23:00:00Z", "c"), u64::MAX))),
        ("a total of 2^62", |step| step.meta.totals.seen = LIMIT),
        ("an hour written and dropped", |step| step.drop_hours.push(count("12:00", "b").minute.hour())),
        ("a night written and dropped", |step| {
            step.late.push((late("2026-03-10", "2026-03-09T23:00:00Z", "c"), 1));
            step.drop_nights.push(day("2026-03-10"));
        }),
    ];
    for (name, spoil) in spoils {
        let mut step = good.clone();
        spoil(&mut step);
        refused(store, &partition, &step, name).await;
        assert_eq!(dump(store, &partition).await, before, "{name}: nothing changes");
    }
    applied(store, &partition, &good).await;
}

pub(super) async fn a_damaged_generation_is_replaced_whatever_is_left_of_it(store: &dyn SpeedStore) {
    let partition = new_partition();
    let mut cure = Writer::new(2, 0);
    cure.expected = Expected::Damaged { generation: Some(generation(1)) };
    let step = cure.step(9, vec![(count("12:00", "b"), 9)]);
    assert_eq!(flush(store, &partition, &step).await, FlushOutcome::Mismatch { found: None }, "nothing is live");
    let mut owner = Writer::new(1, 0);
    applied(store, &partition, &owner.step(5, vec![(count("12:00", "a"), 5)])).await;
    let before = dump(store, &partition).await;
    let found = Some((generation(1), Offset::new(5)));
    for other in [Some(generation(3)), None] {
        let step = Flush { expected: Expected::Damaged { generation: other }, ..step.clone() };
        assert_eq!(flush(store, &partition, &step).await, FlushOutcome::Mismatch { found }, "{other:?} is not live");
    }
    let on = Flush { generation: generation(1), ..step.clone() };
    refused(store, &partition, &on, "going on with a damaged generation").await;
    assert_eq!(dump(store, &partition).await, before, "nothing changes");
    applied(store, &partition, &step).await;
    let stored = loaded(store, &partition).await;
    assert_eq!((stored.generation, &stored.meta, &stored.counts), (step.generation, &step.meta, &step.counts));
    let found = Some((generation(2), Offset::new(9)));
    for late in [owner.step(1, vec![]), step] {
        assert_eq!(
            flush(store, &partition, &late).await,
            FlushOutcome::Mismatch { found },
            "once, and for all writers"
        );
    }
    applied(store, &partition, &cure.step(1, vec![(count("12:00", "b"), 10)])).await;
}

pub(super) async fn of_two_racing_writers_one_wins(store: &dyn SpeedStore) {
    let partition = new_partition();
    let mut owner = Writer::new(1, 0);
    applied(store, &partition, &owner.step(1, vec![(count("12:00", "a"), 1)])).await;
    for round in 0..30 {
        // One goes on, the other replaces the generation; both from the same position.
        let mut rival = Writer::new(100 + round, 0);
        rival.expected = owner.expected;
        let (mut one, mut two) = (owner.clone(), rival);
        let steps = [one.step(2, vec![(count("12:00", "one"), 1)]), two.step(3, vec![(count("12:00", "two"), 1)])];
        // Each is the first to ask in half of the rounds.
        let (first, second) = if round % 2 == 0 { (0, 1) } else { (1, 0) };
        let asked = futures::join!(flush(store, &partition, &steps[first]), flush(store, &partition, &steps[second]));
        let outcomes = if first == 0 { asked } else { (asked.1, asked.0) };
        let stored = loaded(store, &partition).await;
        let winner = match outcomes {
            (FlushOutcome::Applied, FlushOutcome::Mismatch { found }) => (0, found),
            (FlushOutcome::Mismatch { found }, FlushOutcome::Applied) => (1, found),
            other => panic!("round {round}: exactly one of two writers wins, not {other:?}"),
        };
        let (winner, found) = (&steps[winner.0], winner.1);
        assert_eq!(found, Some((winner.generation, winner.meta.next_offset)), "the loser is told who won");
        assert_eq!((stored.generation, &stored.meta), (winner.generation, &winner.meta), "the winner's record stands");
        owner = if winner.generation == steps[0].generation { one } else { two };
    }
}

pub(super) async fn a_large_flush_is_stored_whole(store: &dyn SpeedStore) {
    let partition = new_partition();
    let mut writer = Writer::new(1, 0);
    let counts: Vec<_> = (0..store.max_changes()).map(|n| (count("12:00", &format!("ad-{n:06}")), n as u64)).collect();
    applied(store, &partition, &writer.step(counts.len() as u64, counts.clone())).await;
    assert_eq!(sorted(loaded(store, &partition).await.counts), counts, "as many changes as a flush may carry");
}
