//! The speed layer is killed, again and again, at moments that nobody chose.

use std::time::Duration;

use promises::services::Redis;
use rand::Rng;

use crate::load::{Load, Sender};
use crate::place::{Setup, Share};
use crate::{rounds, seed};

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_exact_after_the_process_was_killed_at_random_points() {
    let redis = Redis::start().await.unwrap();
    let place = Setup::on(&redis.url()).await.place().await;
    let load = Load::start(place.log.clone(), Sender::new(seed(1), place.topic.partitions), 1_000);
    let (mut in_the_middle, kills) = (0, rounds(10));
    for _ in 0..kills {
        let before = place.positions().await;
        let mut speed = place.start().await;
        // Half of them while it enters, half of them while it counts.
        if rand::random() {
            speed.until("it counts", async || place.positions().await != before).await;
        }
        let chance = Duration::from_millis(rand::rng().random_range(0..300));
        tokio::time::sleep(chance).await;
        speed.kill();
        in_the_middle += u32::from(place.positions().await != before);
    }
    assert!(in_the_middle >= kills / 4, "{in_the_middle} of {kills} kills hit one that counted");
    let mut speed = place.start().await;
    load.stop().await;
    let totals = place.check_all_kinds(&mut speed).await;
    println!("{kills} kills, {in_the_middle} of them in the middle; {totals:?}");

    // What is stored when it ends in good order needs nothing to be counted again.
    let generations = place.generations().await;
    speed.stop().await;
    let mut speed = place.start().await;
    place.check(&mut speed).await;
    assert_eq!(place.generations().await, generations);
    assert_eq!(speed.metric("twofold_speed_generations_total", "").await, 0.0);
}

/// The group gives its partitions to another process while it is paused; then it goes on with what it holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_paused_past_its_session_changes_nothing_when_it_goes_on() {
    pause(Share::Group, rounds(1), "twofold_speed_rebalances_total").await;
}

/// Without a group both count for as long as both run.
#[tokio::test(flavor = "multi_thread")]
async fn a_paused_process_that_finds_another_one_changes_nothing() {
    pause(Share::All, rounds(2), "twofold_speed_reloads_total").await;
}

/// `noticed` is the counter by which the paused process shows that it was overtaken.
async fn pause(share: Share, times: u32, noticed: &str) {
    let redis = Redis::start().await.unwrap();
    let place = Setup { share, ..Setup::on(&redis.url()).await }.place().await;
    let load = Load::start(place.log.clone(), Sender::new(seed(2), place.topic.partitions), 500);
    let mut paused = place.start().await;
    paused.until("it counts", async || place.positions().await.iter().all(|position| position.value() > 0)).await;
    let generations = place.generations().await;
    for round in 0..times {
        let before = paused.metric(noticed, "").await;
        paused.process.pause().unwrap();
        let at_pause = place.positions().await;
        let mut other = place.start().await;
        other
            .until("the other one counts", async || {
                place.positions().await.iter().zip(&at_pause).all(|(now, then)| now > then)
            })
            .await;
        let taken_over = place.positions().await;
        paused.process.resume().unwrap();
        // It cannot know yet; the store tells it.
        paused.until_more(noticed, "", before).await;
        for (before, after) in taken_over.iter().zip(place.positions().await) {
            assert!(*before <= after, "round {round}: the position went back from {before} to {after}");
        }
        other.kill();
    }
    load.stop().await;
    place.check_all_kinds(&mut paused).await;
    assert_eq!(place.generations().await, generations, "nothing had to be counted anew");
}
