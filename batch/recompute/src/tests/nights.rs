//! What nights publish: counts, restatements, finality, adjustments.

use clicks::books::PeriodState;
use clicks::time::Span;
use clicks::window::Grain;

use super::oracle::check;
use super::world::{World, at, cut_time, day, partition};
use crate::table::decode;
use crate::{BatchError, NightOutcome, catch_up, status};
use platform::clock::SimulatedClock;

const MS: Span = Span::millis(1);

#[tokio::test]
async fn duplicates_are_dropped_near_and_far_across_objects_and_across_midnight() {
    let mut world = World::new(1).await;
    let p = partition(1, 0);
    world.object_rows = 2;
    world.click(&p, at(1, 12, 0), at(1, 12, 0), "a", 1);
    world.click(&p, at(1, 12, 1), at(1, 12, 1), "a", 1); // near, in the same object
    world.click(&p, at(1, 12, 30), at(1, 12, 30), "a", 1); // far, in another object
    world.click(&p, at(1, 23, 50), at(1, 23, 50), "a", 2);
    world.click(&p, at(2, 0, 4), at(2, 0, 4), "a", 2); // within 15 minutes, across midnight
    world.click(&p, at(2, 12, 29), at(2, 12, 29), "a", 1); // 23:59 after its last sighting
    world.click(&p, at(3, 12, 29), at(3, 12, 29), "a", 1); // exactly 24 hours later: a click again
    world.publish(1).await;
    world.publish(2).await;
    world.publish(3).await;
    assert_eq!((world.clicks(1).await, world.clicks(2).await, world.clicks(3).await), (2, 0, 1));
    let books = world.books().await;
    let totals = [1, 2].map(|n| books.day(day(n)).unwrap().revision.totals);
    assert_eq!((totals[0].duplicates, totals[0].far_duplicates), (2, 1));
    assert_eq!((totals[1].duplicates, totals[1].far_duplicates), (2, 1));
    check(&world, 3, 1).await;
}

#[tokio::test]
async fn a_late_click_is_counted_at_once_or_by_a_restatement_or_as_an_adjustment() {
    let mut world = World::new(1).await;
    let p = partition(1, 0);
    world.click(&p, at(1, 12, 0), at(1, 12, 0), "a", 1);
    world.click(&p, at(2, 0, 5), at(1, 23, 50), "a", 2); // late by 15 minutes, within the cut of night 1
    let first = world.publish(1).await;
    assert_eq!((first.days[0].totals.clicks, first.days[0].totals.late), (2, 1));
    world.click(&p, at(2, 9, 0), at(1, 12, 0), "b", 3);
    let second = world.publish(2).await;
    assert_eq!(second.days.iter().map(|d| (d.day, d.revision)).collect::<Vec<_>>(), [(day(1), 2), (day(2), 1)]);
    assert_eq!((world.clicks(1).await, second.confirmed.len()), (3, 0));
    let third = world.publish(3).await;
    assert_eq!((third.confirmed, third.days.len()), (vec![day(1), day(2)], 1), "nothing new, nothing restated");
    world.click(&p, at(4, 9, 0), at(1, 12, 1), "b", 4);
    let fourth = world.publish(4).await;
    assert_eq!(fourth.finals, [day(1)]);
    assert_eq!((world.clicks(1).await, fourth.adjustments.len()), (4, 0), "the last re-check still restates");
    world.click(&p, at(5, 9, 0), at(1, 12, 1), "b", 5);
    let fifth = world.publish(5).await;
    assert_eq!(fifth.adjustments.get(&day(1)), Some(&1));
    assert_eq!((world.clicks(1).await, world.adjusted(1).await), (4, 1));
    assert_eq!(world.books().await.state(day(1)), PeriodState::Adjusted);
    check(&world, 5, 1).await;
}

/// Scenario 13: a click of final day 1 lies exactly at cut(4).
#[tokio::test]
async fn a_click_at_the_cut_is_in_the_next_night_and_in_one_place() {
    let mut world = World::new(1).await;
    let p = partition(1, 0);
    for n in 1..=3 {
        world.publish(n).await;
    }
    world.click(&p, cut_time(4) - MS, at(1, 12, 0), "a", 1);
    world.click(&p, cut_time(4), at(1, 12, 0), "a", 2);
    let fourth = world.publish(4).await;
    assert_eq!(fourth.days[0].totals.clicks, 1, "the one before the cut is in the last revision");
    let fifth = world.publish(5).await;
    assert_eq!(fifth.adjustments.get(&day(1)), Some(&1), "the one at the cut is the first of the next night");
    let sixth = world.publish(6).await;
    assert!(sixth.adjustments.is_empty());
    check(&world, 6, 1).await;
}

/// Scenarios 14 and 16: nights run in order only, so no cut ever goes back.
#[tokio::test]
async fn nights_run_in_order_and_once() {
    let mut world = World::new(1).await;
    world.cover(3).await;
    assert!(matches!(world.run(Some(2)).await, Err(BatchError::NotNext { .. })));
    assert!(matches!(world.run(Some(0)).await, Err(BatchError::BeforeFirst { .. })));
    world.published(1).await;
    world.published(2).await;
    let before = world.everything().await;
    let again = world.run(Some(1)).await.unwrap();
    assert_eq!(again, NightOutcome::AlreadyPublished { night: day(1), entry: 2 });
    assert_eq!(world.everything().await, before, "running again changes no byte");
}

/// Scenario 15: a click ten days late, and every later night is run twice.
#[tokio::test]
async fn an_adjustment_is_issued_once_however_often_nights_are_run() {
    let mut world = World::new(1).await;
    let p = partition(1, 0);
    for id in 0..100 {
        world.click(&p, at(1, 12, 0), at(1, 12, 0), "a", id);
    }
    for n in 1..=10 {
        world.publish(n).await;
    }
    for id in 100..105 {
        world.click(&p, at(11, 12, 0), at(1, 12, 0), "a", id);
    }
    for n in 11..=14 {
        world.publish(n).await;
        let before = world.everything().await;
        assert!(matches!(world.run(Some(n)).await, Ok(NightOutcome::AlreadyPublished { .. })));
        assert!(matches!(world.run(None).await, Ok(NightOutcome::NothingDue { .. })), "no later night is due");
        assert_eq!(world.everything().await, before);
    }
    assert_eq!((world.clicks(1).await, world.adjusted(1).await), (100, 5));
    check(&world, 14, 1).await;
}

/// Scenario 21: the first archived day holds a click of five days before.
#[tokio::test]
async fn clicks_from_before_the_first_day_become_adjustments_of_it() {
    let mut world = World::new(1).await;
    let p = partition(1, 0);
    world.click(&p, at(1, 12, 0), at(-4, 12, 0), "a", 1);
    world.click(&p, at(1, 12, 1), at(-4, 12, 0), "a", 1);
    let first = world.publish(1).await;
    assert_eq!(first.adjustments.get(&day(-4)), Some(&1));
    world.click(&p, at(2, 12, 0), at(-4, 12, 0), "a", 2);
    world.publish(2).await;
    assert_eq!(world.adjusted(-4).await, 2);
    let books = world.books().await;
    assert!(books.day(day(-4)).is_none() && books.state(day(-4)) == PeriodState::Adjusted);
    assert_eq!(decode("current", world.current(Grain::Day, -4).await).unwrap().len(), 1);
    check(&world, 2, -5).await;
}

/// Nights that were skipped publish what they would have published in their own time.
#[tokio::test]
async fn nights_that_are_caught_up_publish_the_same_bytes() {
    let (mut punctual, mut late) = (World::new(2).await, World::new(2).await);
    for n in 1..=6 {
        for world in [&mut punctual, &mut late] {
            for (number, ad) in [(0, "a"), (1, "b")] {
                let p = partition(1, number);
                world.click(&p, at(n, 1, 0), at(n - 1, 22, 0), ad, n as u128); // late
                world.click(&p, at(n, 12, 0), at(n, 12, 0), ad, 100 + n as u128);
                world.click(&p, at(n, 13, 0), at(n - 4, 12, 0), ad, 200 + n as u128); // an adjustment, mostly
            }
            world.cover(n).await;
        }
        punctual.published(n).await;
    }
    late.clock.advance_to(cut_time(6));
    let caught = catch_up(&late.options, &late.objects, &late.ledger, &late.clock).await.unwrap();
    assert_eq!((caught.nights.len(), caught.waits), (6, None));
    let data = |world: &World| {
        let everything = futures::executor::block_on(world.everything());
        everything.into_iter().filter(|(key, _)| key.starts_with("tables/")).collect::<Vec<_>>()
    };
    let (punctual_files, late_files) = (data(&punctual), data(&late));
    assert_eq!(punctual_files.len(), late_files.len());
    assert!(punctual_files == late_files, "same inputs, same release, same bytes");
    assert_eq!(punctual.books().await.through(), late.books().await.through());
    check(&late, 6, -4).await;
}

#[tokio::test]
async fn a_day_without_clicks_is_published_as_zero() {
    let mut world = World::new(2).await;
    let report = world.publish(1).await;
    assert_eq!(report.days[0].totals.clicks, 0);
    assert_eq!(world.minutes(1).await.len(), 0);
    for grain in Grain::ALL {
        assert_eq!(decode("current", world.current(grain, 1).await).unwrap().len(), 0);
    }
    world.junk(&partition(1, 0), at(2, 12, 0), Some(b"no json"));
    world.junk(&partition(1, 0), at(2, 12, 0), None);
    world.click(&partition(1, 0), at(2, 12, 0), at(2, 12, 6), "a", 1); // too far ahead
    let report = world.publish(2).await;
    let balance = report.balance;
    assert_eq!((balance.rejected, balance.counted, report.days[0].totals.clicks), (3, 0, 0));
}

/// Scenario 32: inputs hold the neighbours' days.
#[tokio::test]
async fn the_balance_holds_while_inputs_hold_neighbouring_days() {
    let mut world = World::new(1).await;
    let p = partition(1, 0);
    world.click(&p, at(1, 23, 57), at(2, 0, 1), "a", 1); // ahead of its time, of tomorrow
    world.click(&p, at(1, 23, 58), at(1, 23, 58), "a", 2);
    world.click(&p, at(2, 0, 3), at(1, 23, 59), "a", 3); // on time, of yesterday
    world.click(&p, at(2, 0, 4), at(2, 0, 4), "a", 4);
    world.click(&p, at(2, 0, 5), at(2, 0, 5), "a", 4);
    let report = world.publish(1).await;
    let balance = report.balance;
    assert!(balance.holds());
    assert_eq!((balance.rows, balance.counted, balance.other_days), (5, 2, 3), "the heartbeat lies at the cut");
    let report = world.publish(2).await;
    assert_eq!(report.days[0].totals.clicks, 2);
    assert_eq!((report.balance.other_days, report.balance.control), (0, 1));
    check(&world, 2, 1).await;
}

#[tokio::test]
async fn status_tells_what_is_published_and_what_the_next_night_waits_for() {
    let mut world = World::new(2).await;
    world.click(&partition(1, 0), at(1, 12, 0), at(1, 12, 0), "a", 1);
    world.publish(1).await;
    world.heartbeat(&partition(1, 1), cut_time(2), 2);
    world.store().await;
    let clock = SimulatedClock::new(cut_time(2));
    let status = status(&world.objects, &world.ledger, &clock).await.unwrap();
    assert_eq!((status.last_night, status.next_night, status.due), (Some(day(1)), day(2), true));
    assert_eq!((status.open_days.clone(), status.days[0].clicks), (vec![day(1)], 1));
    let lagging: Vec<_> = status.waits.iter().flat_map(|w| &w.lagging).map(|lag| lag.partition.clone()).collect();
    assert_eq!(lagging, [partition(1, 0)]);
    assert!(!status.can_run());
}
