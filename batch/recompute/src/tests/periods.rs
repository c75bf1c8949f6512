//! What people decide about closed days.

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use clicks::books::PeriodState;
use clicks::ledger::{ChangeReason, PeriodAction};
use clicks::window::Grain;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::world::{World, at, day, partition};
use crate::publish::read_file;
use crate::{BatchError, NightOutcome};

fn sum(parquet: &Bytes, column: &str) -> i64 {
    let batches = ParquetRecordBatchReaderBuilder::try_new(parquet.clone()).unwrap().build().unwrap();
    let sum = |batch: RecordBatch| -> i64 {
        batch.column_by_name(column).unwrap().as_primitive::<Int64Type>().values().iter().sum()
    };
    batches.map(|batch| sum(batch.unwrap())).sum()
}

/// Scenario 15: a click ten days late, every later night rerun twice, then the day is reopened: 105, not 110.
#[tokio::test]
async fn a_reopened_day_absorbs_its_adjustments_once() {
    let mut world = World::new(1).await;
    let p = partition(1, 0);
    for i in 0..100 {
        world.click(&p, at(1, 10, i % 60), at(1, 10, i % 60), "a", i as u128);
    }
    for n in 1..=10 {
        world.publish(n).await;
    }
    for i in 0..5 {
        world.click(&p, at(11, 10, i), at(1, 10, i), "a", 1_000 + i as u128);
    }
    for n in 11..=12 {
        world.publish(n).await;
        for _ in 0..2 {
            assert!(matches!(world.run(Some(n)).await, Ok(NightOutcome::AlreadyPublished { .. })));
        }
    }
    assert_eq!((world.clicks(1).await, world.adjusted(1).await), (100, 5));
    // Without leave there is no further revision.
    assert!(matches!(world.run(Some(1)).await, Ok(NightOutcome::AlreadyPublished { .. })));
    world.period(1, PeriodAction::Reopen).await.unwrap();
    assert_eq!((world.clicks(1).await, world.adjusted(1).await), (100, 5), "it serves what it served");
    // A click between the leave and the recount is an adjustment first, and absorbed too.
    world.click(&p, at(13, 10, 0), at(1, 10, 0), "b", 2_000);
    world.publish(13).await;
    assert_eq!(world.adjusted(1).await, 6);
    let Ok(NightOutcome::Recounted(report)) = world.run(Some(1)).await else { panic!() };
    assert_eq!((report.day.revision, report.absorbs.as_slice()), (2, [day(11), day(13)].as_slice()));
    assert_eq!((world.clicks(1).await, world.adjusted(1).await), (106, 0));
    assert_eq!(world.books().await.state(day(1)), PeriodState::Final);
    // Nothing that was billed has changed, and the revision says so per ad: no row.
    let change = report.day.change.unwrap();
    assert_eq!((change.reason, change.clicks, change.file.rows), (ChangeReason::Reopened, 0, 0));
    world.check_audit(1).await;
    // The copy holds the same, and later clicks are adjustments again.
    world.click(&p, at(14, 10, 0), at(1, 11, 0), "b", 3_000);
    world.publish(14).await;
    assert_eq!((world.clicks(1).await, world.adjusted(1).await), (106, 1));
    let copy = world.current(Grain::Day, 1).await;
    assert_eq!((sum(&copy, "clicks"), sum(&copy, "adjustment")), (106, 1));
}

#[tokio::test]
async fn a_restatement_says_per_ad_what_it_changes() {
    let mut world = World::new(1).await;
    let p = partition(1, 0);
    for (i, ad) in ["a", "b", "b"].iter().enumerate() {
        world.click(&p, at(1, 10, 0), at(1, 10, 0), ad, i as u128);
    }
    world.publish(1).await;
    world.click(&p, at(2, 10, 0), at(1, 11, 0), "b", 10);
    world.click(&p, at(2, 10, 0), at(1, 11, 0), "c", 11);
    let report = world.publish(2).await;
    let restated = report.days.iter().find(|revision| revision.day == day(1)).unwrap();
    let change = restated.change.as_ref().unwrap();
    assert_eq!((change.reason, change.clicks, change.file.rows), (ChangeReason::LateArrival, 2, 2));
    let bytes = read_file(&world.objects, &change.file).await.unwrap();
    assert_eq!((sum(&bytes, "clicks_before"), sum(&bytes, "clicks_after")), (2, 4));
    let batch = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap().build().unwrap().next().unwrap().unwrap();
    let text = |name: &str| -> Vec<String> {
        batch.column_by_name(name).unwrap().as_string::<i32>().iter().map(|t| t.unwrap().to_owned()).collect()
    };
    assert_eq!((text("ad_id"), text("reason")), (vec!["b".into(), "c".into()], vec!["late_arrival".to_owned(); 2]));
    assert!(report.days.iter().find(|revision| revision.day == day(2)).unwrap().change.is_none());
}

#[tokio::test]
async fn approving_brings_final_forward_and_holding_delays_it() {
    let mut world = World::new(1).await;
    let p = partition(1, 0);
    for n in 1..=2 {
        world.click(&p, at(n, 10, 0), at(n, 10, 0), "a", n as u128);
        world.publish(n).await;
    }
    world.period(1, PeriodAction::Hold).await.unwrap();
    world.period(2, PeriodAction::Approve).await.unwrap();
    // What is late for the approved day is an adjustment, for the held one a restatement, whenever it comes.
    for n in 3..=6 {
        world.click(&p, at(n, 10, 0), at(1, 11, 0), "a", 10 + n as u128);
        world.click(&p, at(n, 10, 0), at(2, 11, 0), "a", 20 + n as u128);
        world.publish(n).await;
    }
    assert_eq!((world.clicks(1).await, world.adjusted(1).await), (5, 0));
    assert_eq!((world.clicks(2).await, world.adjusted(2).await), (1, 4));
    let books = world.books().await;
    assert_eq!((books.state(day(1)), books.state(day(2))), (PeriodState::Closed, PeriodState::Adjusted));
    world.period(1, PeriodAction::Approve).await.unwrap();
    assert_eq!(world.books().await.state(day(1)), PeriodState::Final);
    for (n, action, code) in [(1, PeriodAction::Hold, 13), (9, PeriodAction::Approve, 2), (0, PeriodAction::Reopen, 13)]
    {
        let refused = world.period(n, action).await.unwrap_err();
        assert_eq!(refused.exit_code(), code, "{action:?} of day {n}: {refused}");
    }
}

#[tokio::test]
async fn a_day_whose_raw_objects_are_gone_is_not_reopened() {
    let mut world = World::new(1).await;
    let p = partition(1, 0);
    for n in 1..=5 {
        world.click(&p, at(n, 10, 0), at(n, 10, 0), "a", n as u128);
        world.publish(n).await;
    }
    let first = world.objects.list("raw/", None).await.unwrap().remove(0).key;
    world.objects.delete(&first).await.unwrap();
    let refused = world.period(1, PeriodAction::Reopen).await.unwrap_err();
    assert!(matches!(refused, BatchError::Input(_)), "{refused}");
    assert_eq!(world.books().await.state(day(1)), PeriodState::Final);
}
