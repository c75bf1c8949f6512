//! A day held against the live view of it: counts that differ withhold it, and a live view that cannot tell does not.

use std::sync::Arc;

use clicks::books::PeriodState;
use clicks::ledger::Check;
use clicks::time::Span;
use platform::store::MemoryStore;

use super::world::{World, at, cut_time, day, partition};
use crate::{Drift, NightOutcome};

/// Two clicks on time, one of them sent again within and beyond the live horizon, a late one and its late duplicate.
async fn a_day() -> World {
    let mut world = World::new(1).await;
    let p = partition(1, 0);
    let noon = at(1, 12, 0);
    world.click(&p, noon, noon, "a", 1);
    world.click(&p, noon, noon, "b", 2);
    world.click(&p, at(1, 12, 5), noon, "a", 1);
    world.click(&p, at(1, 12, 25), at(1, 12, 24), "a", 1);
    world.click(&p, at(1, 13, 0), noon, "c", 3);
    world.click(&p, at(1, 14, 0), noon, "c", 3);
    // Of the next night.
    world.heartbeat(&p, cut_time(1), 1);
    world.click(&p, cut_time(1), at(1, 13, 0), "d", 4);
    world.store().await;
    world
}

const EQUAL: Drift = Drift::Compared { live: 3, exact: 3, live_late: Some(2), exact_late: 2 };

#[tokio::test]
async fn what_live_counts_by_its_own_rule_is_held_against_the_recount() {
    let mut world = a_day().await;
    world.count_live(None).await;
    assert_eq!(world.published(1).await.drift, EQUAL);
    let noon = world.minutes(1).await.iter().map(|row| row.clicks).collect::<Vec<_>>();
    assert_eq!(noon, [1, 1, 1, 0], "what is published is counted by the rule of the batch");
}

#[tokio::test]
async fn a_day_that_live_has_counted_differently_is_withheld_until_a_person_accepts_it() {
    for (missed, text) in [
        (1, "2 clicks of 2026-03-01 on time and 2 late ones, where by the same rule the archive holds 3 and 2"),
        (5, "3 clicks of 2026-03-01 on time and 1 late ones"),
    ] {
        let mut world = a_day().await;
        world.count_live(Some(missed)).await;
        let report = world.published(1).await;
        assert_eq!(report.withheld.iter().map(|o| o.check).collect::<Vec<_>>(), [Check::Drift]);
        assert!(report.withheld[0].detail.contains(text), "{:?}", report.withheld);
        assert_eq!(world.books().await.state(day(1)), PeriodState::Withheld);
        // Asking again does not publish it, whatever live has become.
        world.count_live(None).await;
        let refused = world.run(Some(1)).await.unwrap_err();
        assert!(refused.exit_code() == 12 && refused.to_string().contains(text), "{refused}");
        let Ok(NightOutcome::Recounted(report)) = world.accept(1).await else { panic!() };
        assert_eq!(report.accepted.unwrap().objections[0].check, Check::Drift);
        assert_eq!(report.day.totals.clicks, 3);
    }
}

#[tokio::test]
async fn a_live_view_that_cannot_tell_withholds_nothing_and_the_reason_is_said() {
    let unknown = async |world: &World, text: &str| {
        let report = world.published(1).await;
        let Drift::Unknown(why) = &report.drift else { panic!("{:?}", report.drift) };
        assert!(why.contains(text), "{why}");
        assert_eq!(report.withheld, []);
    };
    // Nobody counts.
    let mut world = a_day().await;
    world.options.live = Some(Arc::new(MemoryStore::new()));
    unknown(&world, "has no live counts").await;
    // The store is away.
    let mut world = a_day().await;
    let store = MemoryStore::new();
    store.go_away(true);
    world.options.live = Some(Arc::new(store));
    unknown(&world, "could not be read").await;
    // The speed layer is behind: all that it has counted lies a moment before the cut.
    let mut world = World::new(1).await;
    let p = partition(1, 0);
    world.click(&p, at(1, 12, 0), at(1, 12, 0), "a", 1);
    world.heartbeat(&p, cut_time(1) - Span::millis(1), 1);
    world.count_live(None).await;
    world.cover(1).await;
    unknown(&world, "has fallen behind: it has counted what arrived up to 2026-03-02T00:09:59.999Z").await;
}

#[tokio::test]
async fn where_keys_move_live_counts_by_less_than_the_batch_knows() {
    let mut world = World::new(1).await;
    let noon = at(1, 12, 0);
    world.click(&partition(1, 0), noon, noon, "a", 1);
    world.cover(1).await;
    world.grow(1, 2).await;
    world.click(&partition(1, 1), noon, noon, "a", 1);
    world.cover(1).await;
    world.count_live(None).await;
    let report = world.published(1).await;
    let Drift::Unknown(why) = &report.drift else { panic!("{:?}", report.drift) };
    assert!(why.contains("lie in several partitions"), "{why}");
    assert_eq!(world.clicks(1).await, 1);
}
