//! Days that are left out of their night, and how they are published after all.

use clicks::books::PeriodState;
use clicks::ledger::{Check, PeriodAction};
use clicks::time::Span;

use super::world::{World, at, day, partition};
use crate::{BatchError, NightOutcome};

/// `clicks` clicks on day `n`, one a second from 10:00 on.
fn fill(world: &mut World, n: i32, clicks: u64) {
    for i in 0..clicks {
        let time = at(n, 10, 0) + Span::seconds(i as i64);
        world.click(&partition(1, 0), time, time, "a", (n as u128) << 64 | u128::from(i));
    }
}

/// Three usual days and one with a tenth of their clicks and a bit less.
async fn a_quiet_fourth_day() -> World {
    let mut world = World::new(1).await;
    for n in 1..=3 {
        fill(&mut world, n, 2_000);
        world.publish(n).await;
    }
    fill(&mut world, 4, 198);
    // The rest of the night goes on: a late click of day 2 restates it.
    world.click(&partition(1, 0), at(4, 12, 0), at(2, 3, 0), "late", 7);
    world
}

#[tokio::test]
async fn a_day_of_unusual_volume_is_withheld_while_the_rest_of_its_night_is_published() {
    let mut world = a_quiet_fourth_day().await;
    let report = world.publish(4).await;
    assert_eq!(report.withheld.iter().map(|o| o.check).collect::<Vec<_>>(), [Check::Volume]);
    assert!(report.withheld[0].detail.contains("198 clicks where 2000 are usual"), "{:?}", report.withheld);
    assert!(report.balance.holds(), "{:?}", report.balance);
    assert_eq!(report.days.iter().map(|r| (r.day, r.revision)).collect::<Vec<_>>(), [(day(2), 2)]);
    assert_eq!(report.finals, [day(1)]);
    let books = world.books().await;
    assert_eq!((books.state(day(4)), books.next_night()), (PeriodState::Withheld, day(5)));
    // Asking again changes nothing and says what to do.
    let entries = world.books().await.head();
    let refused = world.run(Some(4)).await.unwrap_err();
    assert!(matches!(refused, BatchError::Withheld { .. }) && refused.exit_code() == 12, "{refused}");
    assert!(refused.to_string().contains("--accept"), "{refused}");
    assert_eq!(world.books().await.head(), entries);
    // Nights go on; the withheld day is published at the last of their cuts, with what came in between, and checked on.
    fill(&mut world, 5, 2_000);
    world.click(&partition(1, 0), at(5, 23, 0), at(4, 3, 0), "late", 8);
    world.publish(5).await;
    let Ok(NightOutcome::Recounted(report)) = world.accept(4).await else { panic!() };
    assert_eq!((report.day.revision, report.day.totals.clicks, report.night), (1, 199, day(5)));
    assert_eq!(report.accepted.unwrap().reason, "a campaign");
    assert!(report.balance.holds());
    assert_eq!(world.books().await.state(day(4)), PeriodState::Closed);
    world.check_audit(4).await;
    assert_eq!(world.clicks(4).await, 199);
    fill(&mut world, 6, 2_000);
    world.click(&partition(1, 0), at(6, 23, 0), at(4, 4, 0), "late", 9);
    world.publish(6).await;
    assert_eq!(world.clicks(4).await, 200);
    // Accepting once more is no news.
    assert!(matches!(world.accept(4).await, Ok(NightOutcome::AlreadyPublished { .. })));
    world.publish(7).await;
    assert_eq!(world.books().await.state(day(4)), PeriodState::Final);
    let accepted = world.books().await.day(day(4)).unwrap().accepted.clone().unwrap();
    assert_eq!((accepted.actor.as_str(), accepted.objections.len()), ("ann", 1), "for ever");
}

#[tokio::test]
async fn who_accepts_beforehand_publishes_at_once_and_stands_in_the_ledger() {
    let mut world = a_quiet_fourth_day().await;
    world.cover(4).await;
    let Ok(NightOutcome::Published(report)) = world.accept(4).await else { panic!() };
    assert!(report.withheld.is_empty());
    assert_eq!(report.accepted.as_ref().unwrap().objections[0].check, Check::Volume);
    assert_eq!(world.clicks(4).await, 198);
    assert!(world.books().await.day(day(4)).unwrap().accepted.is_some());
}

#[tokio::test]
async fn accepting_a_day_that_nothing_speaks_against_leaves_no_trace() {
    let mut world = World::new(1).await;
    fill(&mut world, 1, 5);
    world.cover(1).await;
    let Ok(NightOutcome::Published(report)) = world.accept(1).await else { panic!() };
    assert_eq!(report.accepted, None);
}

#[tokio::test]
async fn a_factor_of_ten_is_usual_and_few_days_or_clicks_prove_nothing() {
    for (usual, days, odd, expected) in
        [(2_000, 3, 200, false), (2_000, 3, 199, true), (999, 3, 0, false), (2_000, 2, 0, false), (1_000, 3, 0, true)]
    {
        let mut world = World::new(1).await;
        for n in 1..=days {
            fill(&mut world, n, usual);
            world.publish(n).await;
        }
        fill(&mut world, days + 1, odd);
        let report = world.publish(days + 1).await;
        assert_eq!(!report.withheld.is_empty(), expected, "{odd} after {days} days of {usual}");
    }
    let mut world = a_quiet_fourth_day().await;
    world.options.volume_factor = 0;
    assert!(world.publish(4).await.withheld.is_empty(), "the check can be switched off");
}

#[tokio::test]
async fn a_withheld_day_whose_objections_have_gone_is_published_without_a_reason() {
    let mut world = a_quiet_fourth_day().await;
    world.publish(4).await;
    assert!(world.period(4, PeriodAction::Approve).await.is_err());
    world.options.volume_factor = 20;
    let Ok(NightOutcome::Recounted(report)) = world.run(Some(4)).await else { panic!() };
    assert_eq!((report.accepted, report.day.totals.clicks), (None, 198));
}
