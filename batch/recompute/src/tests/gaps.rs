//! Records that were lost before they were archived.

use clicks::books::PeriodState;
use clicks::ledger::Check;

use super::world::{World, at, day, partition};
use crate::{BatchError, NightOutcome};

/// Days 1 and 2, the second of which has lost two of its five clicks.
async fn lossy() -> World {
    let mut world = World::new(2).await;
    let p = partition(1, 0);
    for i in 0..3 {
        world.click(&p, at(1, 10, i), at(1, 10, i), "a", i as u128);
    }
    world.publish(1).await;
    world.click(&p, at(2, 10, 0), at(2, 10, 0), "a", 10);
    world.store().await;
    world.click(&p, at(2, 11, 0), at(2, 11, 0), "a", 11);
    world.click(&p, at(2, 11, 1), at(2, 11, 1), "a", 12);
    world.lose(&p, 2).await;
    world.click(&p, at(2, 12, 0), at(2, 12, 0), "a", 13);
    // A late click of day 1 behind the loss restates it all the same.
    world.click(&p, at(2, 12, 1), at(1, 12, 1), "late", 14);
    world
}

#[tokio::test]
async fn a_day_that_lost_records_is_withheld_until_somebody_accepts_it_and_says_so_for_ever() {
    let mut world = lossy().await;
    let report = world.publish(2).await;
    let [objection] = report.withheld.as_slice() else { panic!("{:?}", report.withheld) };
    assert_eq!(objection.check, Check::Gap);
    assert!(objection.detail.contains("the 2 records [5, 7)"), "{objection:?}");
    assert_eq!((world.clicks(1).await, world.books().await.state(day(2))), (4, PeriodState::Withheld));
    // The days after it are not concerned.
    world.click(&partition(1, 0), at(3, 10, 0), at(3, 10, 0), "a", 20);
    assert!(world.publish(3).await.withheld.is_empty());
    let refused = world.run(Some(2)).await.unwrap_err();
    assert!(matches!(refused, BatchError::Withheld { .. }) && refused.to_string().contains("[5, 7)"), "{refused}");
    let Ok(NightOutcome::Recounted(report)) = world.accept(2).await else { panic!() };
    assert_eq!(report.day.totals.clicks, 2);
    for n in [1, 2, 3] {
        world.check_audit(n).await;
    }
    world.click(&partition(1, 0), at(4, 10, 0), at(2, 13, 0), "a", 21);
    world.publish(4).await;
    let books = world.books().await;
    let book = books.day(day(2)).unwrap();
    assert_eq!((book.revision.revision, book.revision.totals.clicks), (2, 3));
    assert_eq!(book.accepted.as_ref().unwrap().objections[0].check, Check::Gap);
}

#[tokio::test]
async fn what_is_stored_into_a_gap_after_a_night_counted_on_it_changes_nothing() {
    let mut world = lossy().await;
    world.publish(2).await;
    let p = partition(1, 0);
    // A zombie comes with the records that were thought lost.
    world.store_late(&p, 5, 7).await;
    let Ok(NightOutcome::Recounted(report)) = world.accept(2).await else { panic!() };
    assert_eq!(report.day.totals.clicks, 2, "the gap was sealed by night 2");
    assert_eq!(world.publish(3).await.balance.counted, 6, "four of day 1, two of day 2");
}

#[tokio::test]
async fn what_is_stored_into_a_gap_before_a_night_passes_it_is_counted() {
    let mut world = lossy().await;
    let p = partition(1, 0);
    world.store_late(&p, 5, 7).await;
    let report = world.publish(2).await;
    assert!(report.withheld.is_empty(), "{:?}", report.withheld);
    assert_eq!(world.clicks(2).await, 4);
}
