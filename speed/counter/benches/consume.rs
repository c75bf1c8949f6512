//! Kafka to counts in Redis by the speed layer, wired and set as `twofold speed` does it, beside a consumer that polls the
//! same topic and throws every record away: CPU of the whole process per record. `cargo bench -p counter --bench consume
//! [-- RECORDS]`. One partition, lz4, canonical clicks on 100,000 ads (log-uniform) with 5 % retries. Both run in a process
//! of their own, in turns, and the counts are compared with what was produced before a time counts.
//! `-- RECORDS --beside COMMAND...` runs one more peer in each round, see `beside`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros)]

mod layer;
mod measure;

use std::process::{Command, Stdio};
use std::time::Duration;

use layer::{Layer, TOPIC, again};
use measure::{argument, cpu_of, median};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

const ROUNDS: usize = 3;

/// The peer: prints the nanoseconds of CPU that it took.
fn discard(brokers: &str, records: usize) {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("group.id", "peer")
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let mut from = TopicPartitionList::new();
    from.add_partition_offset(TOPIC, 0, Offset::Beginning).unwrap();
    consumer.assign(&from).unwrap();
    let mut seen = 0;
    while seen < records {
        if let Some(record) = consumer.poll(Duration::from_secs(1)) {
            record.unwrap();
            seen += 1;
        }
    }
    println!("{}", cpu_of(std::process::id()).as_nanos());
}

fn peer(brokers: &str, records: usize) -> Duration {
    let mut command = again("--discard", [brokers, &records.to_string(), ""]);
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success());
    Duration::from_nanos(String::from_utf8(output.stdout).unwrap().trim().parse().unwrap())
}

/// A peer of another language (`tests/bench flink`): it learns where the topic and the counts are and what they cost.
fn beside(command: &[String], layer: &Layer, records: usize, spent: Duration) {
    let mut peer = Command::new(&command[0]);
    let (records, spent) = (records.to_string(), spent.as_nanos().to_string());
    peer.args(&command[1..]).args([layer.brokers(), TOPIC, &layer.redis.url(), &records, &spent]);
    assert!(peer.status().unwrap().success());
}

/// The speed layer from an empty Redis to the end of the topic: its CPU time and what it has counted.
async fn ours(layer: &Layer, records: u64) -> (Duration, u64) {
    layer.redis.cli(&["FLUSHALL"]).await.unwrap();
    let mut process = layer.spawn();
    let meta = layer.until(&mut process, |meta| meta.next_offset.value() == records).await;
    let spent = cpu_of(process.id());
    process.kill().unwrap();
    assert_eq!(meta.totals.seen, records);
    (spent, meta.totals.counted)
}

async fn compare(records: usize, beside_us: Option<&[String]>) {
    let layer = Layer::start("consume").await;
    let distinct = layer.produce(records);
    println!(
        "{records} records of one partition, lz4, {distinct} distinct clicks; CPU of the whole process per record"
    );
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let (spent, counted) = ours(&layer, records as u64).await;
        assert_eq!(counted, distinct, "the answer is wrong: no time counts");
        let discarded = peer(layer.brokers(), records);
        let each = |spent: Duration| spent.as_nanos() as f64 / records as f64;
        let ratio = spent.as_secs_f64() / discarded.as_secs_f64();
        println!(
            "round {round}: the speed layer {:.0} ns, BaseConsumer::poll that discards {:.0} ns, ratio {ratio:.2}",
            each(spent),
            each(discarded)
        );
        ratios.push(ratio);
        if let Some(command) = beside_us {
            beside(command, &layer, records, spent);
        }
    }
    println!("Kafka to counts in Redis / BaseConsumer::poll that discards: median {:.2}", median(ratios));
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["--discard", brokers, records, ..] => discard(brokers, records.parse().unwrap()),
        ["--count", brokers, redis, folder] => layer::count(brokers, redis, folder),
        _ => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let peer = arguments.iter().position(|argument| argument == "--beside").map(|at| &arguments[at + 1..]);
            runtime.block_on(compare(argument().unwrap_or(2_000_000), peer));
        }
    }
}
