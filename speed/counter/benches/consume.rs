//! Kafka to counts in Redis by the real `twofold speed`, beside a consumer that polls the same topic and throws every
//! record away: CPU of the whole process per record. `cargo bench -p counter --bench consume [-- RECORDS]`, after
//! `cargo build --release --bin twofold`. One partition, lz4, canonical clicks on 100,000 ads (log-uniform) with 5 %
//! retries. The runs are interleaved, and the counts are compared with what was produced before a time counts.
//! `-- RECORDS --beside COMMAND...` runs one more peer in each round, see `beside`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros)]

mod measure;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use clicks::event::Click;
use clicks::id::{AdId, ClickId, Region, UserId};
use clicks::time::Span;
use clicks::wire;
use measure::{argument, cpu_of, median};
use platform::clock::{Clock, SystemClock};
use platform::log::{KafkaLog, KafkaOptions, Log, Topic};
use platform::store::{LiveQuery, RedisOptions, RedisStore, SpeedStore};
use promises::binary::twofold;
use promises::services::{Kafka, Process, Redis, free_port, new_folder};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};

const ROUNDS: usize = 3;
const TOPIC: &str = "clicks";

/// Produces and returns how many distinct clicks that were.
fn produce(brokers: &str, records: usize) -> u64 {
    let producer: ThreadedProducer<DefaultProducerContext> = ClientConfig::new()
        .set("bootstrap.servers", brokers)
        .set("compression.type", "lz4")
        .set("linger.ms", "50")
        .set("acks", "1")
        .set("queue.buffering.max.messages", "1000000")
        .create()
        .unwrap();
    let (mut random, mut recent, mut distinct) = (SmallRng::seed_from_u64(7), Vec::<(u128, u32)>::new(), 0);
    for _ in 0..records {
        let retried = random.random_bool(0.05) && !recent.is_empty();
        let (id, ad) = match retried {
            true => recent[random.random_range(0..recent.len())],
            false => (random.random(), 100_000f64.powf(random.random()) as u32),
        };
        if !retried {
            distinct += 1;
            match recent.len() < 50_000 {
                true => recent.push((id, ad)),
                false => recent[distinct as usize % 50_000] = (id, ad),
            }
        }
        let value = wire::encode(&Click {
            click_id: ClickId::from_u128(id),
            ad_id: AdId::parse(&format!("ad-{ad}")).unwrap(),
            user_id: UserId::parse(&format!("u{}", random.random_range(0..1_000_000))).unwrap(),
            event_time: SystemClock.now() - Span::millis(random.random_range(0..2_000)),
        });
        let mut record = BaseRecord::<[u8], str>::to(TOPIC).partition(0).payload(&value);
        while let Err((_, again)) = producer.send(record) {
            std::thread::sleep(Duration::from_millis(5));
            record = again;
        }
    }
    producer.flush(Duration::from_secs(60)).unwrap();
    distinct
}

/// The peer, in a process of its own: prints the nanoseconds of CPU that it took.
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
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--discard", brokers, &records.to_string()]).stderr(Stdio::inherit());
    let output = command.output().unwrap();
    assert!(output.status.success());
    Duration::from_nanos(String::from_utf8(output.stdout).unwrap().trim().parse().unwrap())
}

/// A peer of another language (`tests/bench flink`): it learns where the topic and the counts are and what they cost.
fn beside(command: &[String], brokers: &str, redis: &Redis, records: usize, spent: Duration) {
    let mut peer = Command::new(&command[0]);
    peer.args(&command[1..]).args([brokers, TOPIC, &redis.url(), &records.to_string(), &spent.as_nanos().to_string()]);
    assert!(peer.status().unwrap().success());
}

/// `twofold speed` from an empty Redis to the end of the topic: its CPU time and what it has counted.
async fn ours(config: &std::path::Path, redis: &Redis, topic: &Topic, records: u64) -> (Duration, u64) {
    redis.cli(&["FLUSHALL"]).await.unwrap();
    let store = RedisStore::connect(&RedisOptions::new(redis.url())).unwrap();
    let mut command = twofold();
    command.arg("--config").arg(config).arg("speed");
    command.env("TWOFOLD__SPEED__ADMIN", format!("127.0.0.1:{}", free_port().unwrap())).env("RUST_LOG", "warn");
    let mut process = Process::spawn("speed", command).unwrap();
    let began = Instant::now();
    let meta = loop {
        tokio::time::sleep(Duration::from_millis(20)).await;
        assert!(began.elapsed() < Duration::from_secs(120), "{}", process.log_tail());
        let slice = store.read(&topic.partition(0), &LiveQuery::of_meta()).await.unwrap();
        match slice {
            Some(slice) if slice.meta.next_offset.value() == records => break slice.meta,
            _ => {}
        }
    };
    let spent = cpu_of(process.id());
    process.terminate().await.unwrap();
    assert_eq!(meta.totals.seen, records);
    (spent, meta.totals.counted)
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some(at) = arguments.iter().position(|argument| argument == "--discard") {
        return discard(&arguments[at + 1], arguments[at + 2].parse().unwrap());
    }
    let records = argument().unwrap_or(2_000_000);
    let (kafka, redis) = (Kafka::start(Default::default()).await.unwrap(), Redis::start().await.unwrap());
    let (brokers, folder) = (kafka.brokers(), new_folder("consume").unwrap());
    let config = folder.join("twofold.toml");
    std::fs::create_dir(folder.join("objects")).unwrap();
    let text = format!(
        "[kafka]\nbrokers = \"{brokers}\"\ntopic = \"{TOPIC}\"\npartitions = 1\nreplication_factor = 1\n\
         [redis]\nurl = \"{}\"\n[storage]\nurl = \"file://{}\"\n[speed]\npartitions = [0]\n",
        redis.url(),
        folder.join("objects").display(),
    );
    std::fs::write(&config, text).unwrap();
    let created = twofold().arg("--config").arg(&config).args(["topic", "create"]).output().unwrap();
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    let options = KafkaOptions::new(&brokers, TOPIC, Region::parse("local").unwrap());
    let topic = KafkaLog::connect(options).await.unwrap().topic().await.unwrap();
    let distinct = produce(&brokers, records);
    println!(
        "{records} records of one partition, lz4, {distinct} distinct clicks; CPU of the whole process per record"
    );
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let (spent, counted) = ours(&config, &redis, &topic, records as u64).await;
        assert_eq!(counted, distinct, "the answer is wrong: no time counts");
        let discarded = peer(&brokers, records);
        let each = |spent: Duration| spent.as_nanos() as f64 / records as f64;
        let ratio = spent.as_secs_f64() / discarded.as_secs_f64();
        println!(
            "round {round}: twofold {:.0} ns, BaseConsumer::poll that discards {:.0} ns, ratio {ratio:.2}",
            each(spent),
            each(discarded)
        );
        ratios.push(ratio);
        if let Some(at) = arguments.iter().position(|argument| argument == "--beside") {
            beside(&arguments[at + 1..], &brokers, &redis, records, spent);
        }
    }
    println!("Kafka to counts in Redis / BaseConsumer::poll that discards: median {:.2}", median(ratios));
}
