//! Retention deletes records that a stopped speed layer has not counted yet.

use std::collections::BTreeMap;
use std::time::Duration;

use clicks::live::CountKey;
use clicks::time::{Day, Span};
use platform::log::LogRecord;
use promises::oracle;
use promises::services::{Kafka, KafkaOptions, Process, Redis, free_port};
use serde_json::Value;

use crate::admin::delete_records;
use crate::load::Sender;
use crate::place::{PATIENCE, Place, Setup, now};

#[tokio::test(flavor = "multi_thread")]
async fn records_that_were_lost_are_reported_and_later_days_are_exact() {
    let options = KafkaOptions { shifted_clock: true, ..KafkaOptions::default() };
    let (kafka, redis) = tokio::join!(Kafka::start(options), Redis::start());
    let (kafka, redis) = (kafka.unwrap(), redis.unwrap());
    let clock = Some(kafka.clock_file().to_owned());
    let setup = Setup { brokers: kafka.brokers(), clock, ..Setup::on(&redis.url()).await };
    let place = setup.place().await;
    let mut speed = place.start().await;
    let mut sender = Sender::new(13, place.topic.partitions);
    sender.send(&place.log, 500).await;
    place.check(&mut speed).await;
    speed.stop().await;
    let first_day = now().day();

    // Lost on two of the partitions.
    sender.send(&place.log, 500).await;
    let mut records: Vec<Vec<LogRecord>> = Vec::new();
    for number in place.numbers() {
        records.push(place.read_all(number).await);
    }
    for number in [0, 2] {
        let position = place.position(number).await;
        delete_records(&place, number, position.plus(10)).await;
    }
    let mut speed = place.start().await;
    place.settled(&mut speed).await;
    assert_eq!(speed.metric("twofold_speed_gaps_total", "").await, 2.0);
    assert!(speed.process.log().contains("records fell off the log before they were counted"));

    let serve = Serve::start(&place).await;
    let answer = serve.get(&format!("/v1/clicks?from={first_day}&to={}&granularity=day", first_day.next())).await;
    assert_eq!(answer["meta"]["complete"], false, "the day that lacks clicks is shown as complete: {answer}");
    assert_eq!(answer["data"][0]["complete"], false, "{answer}");
    let codes: Vec<_> = answer["meta"]["reasons"].as_array().unwrap().iter().map(|reason| &reason["code"]).collect();
    assert!(codes.contains(&&Value::from("lost_records")), "{answer}");
    let status = place.twofold(&["--json", "speed", "status"]);
    assert!(status.status.success(), "{}", String::from_utf8_lossy(&status.stderr));
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    for (number, partition) in place.numbers().zip(status["partitions"].as_array().unwrap()) {
        let lost = if [0, 2].contains(&number) { 10 } else { 0 };
        assert_eq!(partition["live"]["lost"], lost, "{status}");
        assert_eq!(partition["trouble"].as_array().unwrap().is_empty(), lost == 0, "{status}");
        assert_eq!(partition["lag_records"], 0, "{status}");
        assert_eq!(partition["live"]["seen"].as_u64().unwrap() + lost, partition["end_offset"], "{status}");
    }

    // Two days later everything is exact again.
    let later = first_day.plus(2);
    let ahead = (later.start() + Span::hours(1)).since(now());
    kafka.shift_clock(Duration::from_millis(ahead.as_millis() as u64)).await.unwrap();
    sender.ahead = ahead;
    sender.send(&place.log, 500).await;
    place.settled(&mut speed).await;
    let mut counted = 0;
    for number in place.numbers() {
        let known = &mut records[number as usize];
        known.extend(place.read_from(number, known.len() as u64).await);
        let slice = place.stored(number).await.unwrap();
        let truth = oracle::truth(known, &place.rules, &slice.meta);
        let stored = of_day(slice.counts, later);
        assert_eq!(stored, of_day(truth.counts, later), "partition {number}");
        counted += stored.values().sum::<u64>();
    }
    assert!(counted > 300, "only {counted} clicks of the later day: the test shows nothing");
    let answer = serve.get(&format!("/v1/clicks?from={later}&to={}&granularity=day", later.next())).await;
    assert_eq!(answer["data"][0]["total"], counted, "{answer}");
    assert_eq!(speed.metric("twofold_speed_gaps_total", "").await, 2.0);
}

fn of_day(counts: impl IntoIterator<Item = (CountKey, u64)>, day: Day) -> BTreeMap<CountKey, u64> {
    counts.into_iter().filter(|(key, _)| key.minute.start().day() == day).collect()
}

/// The API.
struct Serve {
    _process: Process,
    port: u16,
}

impl Serve {
    async fn start(place: &Place) -> Self {
        let port = free_port().unwrap();
        let mut command = place.command("serve");
        command.env("TWOFOLD__SERVING__LISTEN", format!("127.0.0.1:{port}"));
        let mut process = Process::spawn("serve", command).unwrap();
        process.wait_for_port(port, PATIENCE).await.unwrap();
        Serve { _process: process, port }
    }

    async fn get(&self, path: &str) -> Value {
        let answer = reqwest::get(format!("http://127.0.0.1:{}{path}", self.port)).await.unwrap();
        serde_json::from_str(&answer.text().await.unwrap()).unwrap()
    }
}
