//! What is left of a generation that was replaced.

use clicks::live::Expected;

use super::steps::{Writer, count, generation, late, new_partition};
use super::{applied, dump, works};
use crate::store::SpeedStore;

pub(super) async fn what_was_replaced_is_deleted_and_nothing_else(store: &dyn SpeedStore) {
    let partition = new_partition();
    let sweep = async || works(store.sweep(&partition).await, "sweep");
    assert_eq!(sweep().await, 0, "of a partition that is unknown");
    let mut writer = Writer::new(1, 0);
    for replaced in 1..4 {
        let mut step =
            writer.step(3, vec![(count("11:00", "a"), 1), (count("12:00", "a"), 1), (count("12:59", "a"), 1)]);
        step.late = vec![(late("2026-03-10", "2026-03-09T23:00:00Z", "a"), 1)];
        applied(store, &partition, &step).await;
        assert_eq!(sweep().await, 0, "nothing was replaced");
        let mut next = Writer::new(replaced + 1, 0);
        next.expected = writer.expected;
        writer = next;
        let mut step = writer.step(1, vec![(count("12:00", "b"), 1)]);
        step.late = vec![(late("2026-03-10", "2026-03-09T23:00:00Z", "b"), 1)];
        applied(store, &partition, &step).await;
        let before = dump(store, &partition).await;
        assert_eq!(sweep().await, 5, "a meta record, two hours, a night and the changes");
        assert_eq!(sweep().await, 0, "nothing is left");
        assert_eq!(dump(store, &partition).await, before, "the live generation is not touched");
    }
    applied(store, &partition, &writer.step(1, vec![(count("12:00", "b"), 2)])).await;
    assert_eq!(sweep().await, 0, "going on replaces nothing");
}

pub(super) async fn a_damaged_generation_is_swept_as_well(store: &dyn SpeedStore) {
    let partition = new_partition();
    applied(store, &partition, &Writer::new(1, 0).step(1, vec![(count("12:00", "a"), 1)])).await;
    let mut cure = Writer::new(2, 0);
    cure.expected = Expected::Damaged { generation: Some(generation(1)) };
    applied(store, &partition, &cure.step(1, vec![(count("12:00", "b"), 1)])).await;
    let before = dump(store, &partition).await;
    assert_eq!(works(store.sweep(&partition).await, "sweep"), 3, "a meta record, an hour and the changes");
    assert_eq!(dump(store, &partition).await, before, "the live generation is not touched");
}
