//! Kafka to counts in Redis by the speed layer, wired and set as `twofold speed` does it, beside a consumer that polls the
//! same topic and throws every record away: CPU of the whole process per record. `cargo bench -p counter --bench consume
//! [-- RECORDS]`. One partition, lz4, canonical clicks on 100,000 ads (log-uniform) with 5 % retries. Both run in a process
//! of their own, in turns, and the counts are compared with what was produced before a time counts.
//! `-- RECORDS --beside COMMAND...` runs one more peer in each round, see `beside`.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros)]

mod measure;

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clicks::event::Click;
use clicks::id::{AdId, ClickId, Region, UserId};
use clicks::ledger::{Body, Genesis, TopicLife};
use clicks::rules::Rules;
use clicks::time::Span;
use clicks::wire;
use measure::{argument, cpu_of, median};
use platform::clock::{Clock, SystemClock};
use platform::ledger::{Ledger, Published};
use platform::log::{KafkaLog, KafkaOptions, Topic, TopicSpec};
use platform::objects::Objects;
use platform::settings::Settings;
use platform::store::{LiveQuery, RedisOptions, RedisStore, SpeedStore};
use platform::telemetry;
use promises::services::{Kafka, Process, Redis, new_folder};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio_util::sync::CancellationToken;

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

/// This program again, in a process of its own that does one part alone.
fn again(part: &str, arguments: [&str; 3]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(part).args(arguments);
    command
}

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
fn beside(command: &[String], brokers: &str, redis: &Redis, records: usize, spent: Duration) {
    let mut peer = Command::new(&command[0]);
    peer.args(&command[1..]).args([brokers, TOPIC, &redis.url(), &records.to_string(), &spent.as_nanos().to_string()]);
    assert!(peer.status().unwrap().success());
}

fn kafka(brokers: &str) -> KafkaOptions {
    KafkaOptions::new(brokers, TOPIC, Region::parse("local").unwrap())
}

fn ledger(folder: &str) -> Ledger {
    Ledger::new(Objects::open_folder(folder.into()).unwrap())
}

/// The speed layer as `twofold speed` runs it by default, but for its admin port, which nobody asks here. Until it is ended.
fn count(brokers: &str, redis: &str, folder: &str) {
    telemetry::init_logs("warn");
    telemetry::metrics();
    let settings = Settings::default().speed;
    let options = counter::Options {
        partitions: counter::Partitions::Fixed(vec![0]),
        flush_interval: settings.flush_interval.0,
        sightings_max: settings.sightings_max,
        keep_closed: Span::millis(settings.keep_closed.0.as_millis() as i64),
        scrub_interval: settings.scrub_interval.0,
        ..counter::Options::default()
    };
    let run = async {
        let log = Arc::new(KafkaLog::connect(kafka(brokers)).await.unwrap());
        let store = Arc::new(RedisStore::connect(&RedisOptions::new(redis)).unwrap());
        counter::run(options, log, store, ledger(folder), Arc::new(SystemClock), CancellationToken::new()).await
    };
    tokio::runtime::Runtime::new().unwrap().block_on(run).unwrap();
}

/// The speed layer from an empty Redis to the end of the topic: its CPU time and what it has counted.
async fn ours(brokers: &str, folder: &Path, redis: &Redis, topic: &Topic, records: u64) -> (Duration, u64) {
    redis.cli(&["FLUSHALL"]).await.unwrap();
    let store = RedisStore::connect(&RedisOptions::new(redis.url())).unwrap();
    let command = again("--count", [brokers, &redis.url(), folder.to_str().unwrap()]);
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
    process.kill().unwrap();
    assert_eq!(meta.totals.seen, records);
    (spent, meta.totals.counted)
}

/// As `twofold topic create` does it.
async fn create(options: &KafkaOptions, ledger: &Ledger) -> Topic {
    let spec = TopicSpec { partitions: 1, replication_factor: 1, ..TopicSpec::default() };
    let topic = KafkaLog::create_topic(options, &spec).await.unwrap();
    let genesis = Genesis { first_day: SystemClock.now().day(), rules: Rules::default() };
    let mut books = ledger.begin(genesis).await.unwrap();
    let life = TopicLife {
        region: topic.region.clone(),
        topic_id: topic.id,
        name: topic.name.clone(),
        partitions: topic.partitions,
    };
    assert!(matches!(ledger.publish(&mut books, Body::Topic(life)).await.unwrap(), Published::Ours));
    topic
}

async fn compare(records: usize, beside_us: Option<&[String]>) {
    let (brokers, redis) = (Kafka::start(Default::default()).await.unwrap(), Redis::start().await.unwrap());
    let (brokers, folder) = (brokers.brokers(), new_folder("consume").unwrap());
    let topic = create(&kafka(&brokers), &ledger(folder.to_str().unwrap())).await;
    let distinct = produce(&brokers, records);
    println!(
        "{records} records of one partition, lz4, {distinct} distinct clicks; CPU of the whole process per record"
    );
    let mut ratios = Vec::new();
    for round in 1..=ROUNDS {
        let (spent, counted) = ours(&brokers, &folder, &redis, &topic, records as u64).await;
        assert_eq!(counted, distinct, "the answer is wrong: no time counts");
        let discarded = peer(&brokers, records);
        let each = |spent: Duration| spent.as_nanos() as f64 / records as f64;
        let ratio = spent.as_secs_f64() / discarded.as_secs_f64();
        println!(
            "round {round}: the speed layer {:.0} ns, BaseConsumer::poll that discards {:.0} ns, ratio {ratio:.2}",
            each(spent),
            each(discarded)
        );
        ratios.push(ratio);
        if let Some(command) = beside_us {
            beside(command, &brokers, &redis, records, spent);
        }
    }
    println!("Kafka to counts in Redis / BaseConsumer::poll that discards: median {:.2}", median(ratios));
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["--discard", brokers, records, ..] => discard(brokers, records.parse().unwrap()),
        ["--count", brokers, redis, folder] => count(brokers, redis, folder),
        _ => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let peer = arguments.iter().position(|argument| argument == "--beside").map(|at| &arguments[at + 1..]);
            runtime.block_on(compare(argument().unwrap_or(2_000_000), peer));
        }
    }
}
