//! Kafka loses the end of its log: the offsets that were counted are given to other records.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use platform::log::{KafkaLog, Log};
use promises::services::{Kafka, KafkaOptions, Redis, new_folder};

use crate::load::{Load, Sender};
use crate::place::{Setup, until};

/// Whether it was away when it happened, and how far the log has come again when it looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// It runs, and finds its positions beyond the end.
    WhileItRuns,
    /// It starts when every position is on the log again, with another record before it.
    WhileItIsStopped,
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_those_of_the_log_that_is_left_when_its_end_was_lost() {
    lose(Loss::WhileItRuns, "beyond_end").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_records_at_the_counted_offsets_are_found_by_the_fingerprint() {
    lose(Loss::WhileItIsStopped, "fingerprint").await;
}

async fn lose(loss: Loss, reason: &str) {
    let (kafka, redis) = tokio::join!(Kafka::start(KafkaOptions::default()), Redis::start());
    let (mut kafka, redis) = (kafka.unwrap(), redis.unwrap());
    let place = Setup { brokers: kafka.brokers(), ..Setup::on(&redis.url()).await }.place().await;
    let mut speed = place.start().await;
    Sender::new(18, place.topic.partitions).send(&place.log, 300).await;
    place.check(&mut speed).await;
    let older = new_folder("older").unwrap();
    kafka.kill(1).unwrap();
    let data = kafka.data(1).unwrap().to_owned();
    copy(&data, &older);
    kafka.restart(1).await.unwrap();
    until("the broker takes records again", async || place.log.bounds(0).await.is_ok()).await;
    Sender::new(19, place.topic.partitions).send(&place.log, 300).await;
    place.check(&mut speed).await;
    let (counted, generations) = (place.positions().await, place.generations().await);

    let running = match loss {
        Loss::WhileItRuns => Some(speed),
        Loss::WhileItIsStopped => {
            speed.stop().await;
            None
        }
    };
    kafka.kill(1).unwrap();
    std::fs::remove_dir_all(&data).unwrap();
    copy(&older, &data);
    kafka.restart(1).await.unwrap();
    for (number, counted) in place.numbers().zip(&counted) {
        let left = place.log.bounds(number).await.unwrap().end;
        assert!(left < *counted, "partition {number} lost nothing: {left} of {counted}");
    }
    // The old producer's sequence numbers are of records that the broker does not know any more.
    let log = Arc::new(KafkaLog::connect(place.options.clone()).await.unwrap());
    let mut sender = Sender::new(20, place.topic.partitions);
    let mut speed = match running {
        Some(speed) => speed,
        None => {
            sender.send(&log, 1_000).await;
            for (number, counted) in place.numbers().zip(&counted) {
                let end = place.log.bounds(number).await.unwrap().end;
                assert!(end > *counted, "partition {number} has not grown beyond {counted}: {end}");
            }
            place.start().await
        }
    };
    // Nothing is sent before the loss is found: a process that reaches the broker later than the load does finds its
    // positions on the log again, and another reason.
    speed
        .until("the loss is found everywhere", async || {
            place.generations().await.iter().zip(&generations).all(|(now, then)| now.is_some() && now != then)
        })
        .await;
    let load = Load::start(log, sender, 300);
    tokio::time::sleep(Duration::from_secs(1)).await;
    load.stop().await;
    place.check_all_kinds(&mut speed).await;
    let label = format!("reason=\"{reason}\"");
    let begun = speed.metric("twofold_speed_generations_total", &label).await;
    assert_eq!(begun, f64::from(place.topic.partitions), "{}", speed.process.log_tail());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let copied = Command::new("cp").arg("-r").arg(format!("{}/.", from.display())).arg(to).status().unwrap();
    assert!(copied.success());
}
