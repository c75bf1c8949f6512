//! The report beside an entry, and rehearsals.

use serde_json::{Value, json};

use super::world::{World, at, day, partition};
use crate::{NightOutcome, run_night};
use clicks::ledger::PeriodAction;
use clicks::tables::report_key;
use platform::ledger::Ledger;

async fn report(world: &World, entry: u64) -> Value {
    let bytes = world.objects.get(&report_key(entry)).await.unwrap().expect("the run has left a report");
    serde_json::from_slice(&bytes).unwrap()
}

async fn restated() -> World {
    let mut world = World::new(1).await;
    let p = partition(1, 0);
    for id in 0..5 {
        world.click(&p, at(1, 12, 0), at(1, 12, 0), "a", id);
    }
    world.click(&p, at(1, 12, 1), at(1, 12, 1), "a", 0);
    world.publish(1).await;
    world.click(&p, at(2, 9, 0), at(1, 12, 0), "a", 7);
    world.click(&p, at(2, 9, 0), at(2, 9, 0), "a", 8);
    world.cover(2).await;
    world
}

#[tokio::test]
async fn a_report_tells_what_changed_what_was_checked_and_how_long_it_took() {
    let world = restated().await;
    world.published(2).await;
    assert_eq!(report_key(3), "reports/00000000000000000003.json");
    let first = report(&world, 2).await;
    assert_eq!(first["days"][0]["before"], Value::Null);
    assert_eq!((&first["days"][0]["delta"], &first["balance"]["duplicates"]), (&json!(5), &json!(1)));
    let second = report(&world, 3).await;
    assert_eq!(second["night"], json!("2026-03-02"));
    let change = |day: &Value| (day["revision"].clone(), day["before"]["clicks"].clone(), day["delta"].clone());
    let days: Vec<_> = second["days"].as_array().unwrap().iter().map(change).collect();
    assert_eq!(days, [(json!(2), json!(5), json!(1)), (json!(1), Value::Null, json!(1))]);
    assert_eq!(second["days"][0]["live"], json!(5), "the late one is not in the live view");
    let stages: Vec<_> = second["stages"].as_array().unwrap().iter().map(|stage| stage["stage"].clone()).collect();
    let expected = ["repair", "prove", "count", "check", "write", "publish", "refresh"];
    assert_eq!(stages, expected.map(|stage| json!(stage)));
    assert!(second["stages"][2]["seconds"].as_f64().unwrap() >= 0.0);
    let checks = second["checks"].as_array().unwrap();
    assert!(checks.len() == 3 && checks.iter().all(|check| check["holds"] == json!(true)), "{checks:?}");
    assert_eq!(checks[1]["left"], json!(7), "a confirmed or restated day counts with all it has");
}

#[tokio::test]
async fn a_recount_leaves_a_report_like_any_night() {
    let world = restated().await;
    world.published(2).await;
    world.period(1, PeriodAction::Approve).await.unwrap();
    world.period(1, PeriodAction::Reopen).await.unwrap();
    let outcome = world.run(Some(1)).await.unwrap();
    let NightOutcome::Recounted(recounted) = outcome else { panic!("{outcome:?}") };
    let paper = report(&world, recounted.entry).await;
    assert_eq!((&paper["night"], &paper["days"][0]["day"]), (&json!("2026-03-02"), &json!("2026-03-01")));
    assert_eq!((&paper["days"][0]["revision"], &paper["days"][0]["delta"]), (&json!(3), &json!(0)));
    assert_eq!(paper["stages"].as_array().unwrap().len(), 7, "{paper}");
    assert!(paper["checks"].as_array().unwrap().iter().all(|check| check["holds"] == json!(true)), "{paper}");
}

/// A report is no part of what is published: without it everything goes on.
#[tokio::test]
async fn a_missing_report_is_no_error() {
    let mut world = restated().await;
    world.published(2).await;
    for entry in [2, 3] {
        world.objects.delete(&report_key(entry)).await.unwrap();
    }
    assert!(matches!(world.run(Some(2)).await, Ok(NightOutcome::AlreadyPublished { .. })));
    world.publish(3).await;
    let third = report(&world, 4).await;
    assert_eq!((&third["confirmed"], third["checks"][1]["holds"].clone()), (&json!([day(1), day(2)]), json!(true)));
}

#[tokio::test]
async fn a_rehearsal_says_what_would_be_published_and_writes_nothing() {
    let world = restated().await;
    let before = world.everything().await;
    let objects = world.objects.rehearsal();
    let ledger = Ledger::new(objects.clone());
    let rehearsed = run_night(&world.options, &objects, &ledger, &world.clock, Some(day(2))).await.unwrap();
    assert_eq!(world.everything().await, before);
    assert_eq!(world.objects.get(&report_key(3)).await.unwrap(), None);
    let NightOutcome::Published(rehearsed) = rehearsed else { panic!("{rehearsed:?}") };
    assert_eq!(*rehearsed, world.published(2).await, "the run afterwards publishes just that");
}
