//! Redis is killed, again and again; some of the time it comes back with an older state than it had acknowledged, as after
//! a crash of its machine between two syncs.

use std::path::Path;
use std::time::Duration;

use promises::services::{Redis, new_folder};
use rand::Rng;

use crate::load::{Load, Sender};
use crate::place::Setup;
use crate::{rounds, seed};

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_exact_after_redis_was_killed_and_came_back_older() {
    let mut redis = Redis::start().await.unwrap();
    let place = Setup::on(&redis.url()).await.place().await;
    let load = Load::start(place.log.clone(), Sender::new(seed(3), place.topic.partitions), 1_000);
    let mut speed = place.start().await;
    let (mut went_back, kills) = (0, rounds(8));
    for round in 0..kills {
        let before = place.positions().await;
        speed.until("it counts", async || place.positions().await.iter().zip(&before).any(|(a, b)| a > b)).await;
        let older = new_folder("older").unwrap();
        copy(&redis.folder().join("appendonlydir"), &older);
        tokio::time::sleep(Duration::from_millis(rand::rng().random_range(100..500))).await;
        // Every second time the process does not see it happen, so that the state before and after can be compared;
        // otherwise it is in the middle of its flushes.
        let (goes_back, is_paused) = (round % 4 < 2, round % 2 == 0);
        if is_paused {
            speed.process.pause().unwrap();
        }
        let acknowledged = place.positions().await;
        redis.kill().unwrap();
        if goes_back {
            std::fs::remove_dir_all(redis.folder().join("appendonlydir")).unwrap();
            copy(&older, &redis.folder().join("appendonlydir"));
        }
        redis.restart().await.unwrap();
        if is_paused {
            let found = place.positions().await;
            if goes_back {
                assert!(found.iter().zip(&acknowledged).all(|(found, had)| found <= had), "{found:?} {acknowledged:?}");
                assert_ne!(found, acknowledged, "nothing went back");
                went_back += 1;
            }
            speed.process.resume().unwrap();
        }
    }
    assert!(went_back > 0, "the position never went back: the test shows nothing");
    let reloads = speed.metric("twofold_speed_reloads_total", "").await;
    assert!(reloads >= f64::from(kills), "{kills} kills, {reloads} reloads");
    load.stop().await;
    let totals = place.check_all_kinds(&mut speed).await;
    // Nobody lost anything that the log could not give again, so no generation had to begin.
    let generations = speed.metric("twofold_speed_generations_total", "").await;
    assert_eq!(generations, f64::from(place.topic.partitions));
    println!("{kills} kills, {went_back} times known to have gone back, {reloads} reloads; {totals:?}");
}

/// The files of a folder, as they are at this moment: a prefix of what Redis will have written.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}
