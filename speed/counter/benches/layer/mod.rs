//! The speed layer of one partition in a process of its own, on a Kafka and a Redis of its own. The process is the
//! benchmark's program again, so nothing but the benchmark needs to be built.
#![allow(dead_code, reason = "each benchmark uses its own part")]

use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clicks::event::Click;
use clicks::id::{AdId, ClickId, Region, UserId};
use clicks::ledger::{Body, Genesis};
use clicks::live::Meta;
use clicks::rules::Rules;
use clicks::time::Span;
use clicks::wire;
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
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};
use tokio_util::sync::CancellationToken;

pub const TOPIC: &str = "clicks";

#[derive(Debug)]
pub struct Layer {
    pub redis: Redis,
    kafka: Kafka,
    brokers: String,
    folder: PathBuf,
    topic: Topic,
    store: RedisStore,
}

impl Layer {
    /// The services, an empty topic and its ledger.
    pub async fn start(name: &str) -> Self {
        let (kafka, redis) = (Kafka::start(Default::default()).await.unwrap(), Redis::start().await.unwrap());
        let (brokers, folder) = (kafka.brokers(), new_folder(name).unwrap());
        let topic = create(&kafka_options(&brokers), &ledger(folder.to_str().unwrap())).await;
        let store = RedisStore::connect(&RedisOptions::new(redis.url())).unwrap();
        Layer { redis, kafka, brokers, folder, topic, store }
    }

    pub fn brokers(&self) -> &str {
        &self.brokers
    }

    /// Produces lz4 batches of canonical clicks on 100,000 ads (log-uniform) with 5 % retries, and returns how many
    /// distinct clicks those are.
    pub fn produce(&self, records: usize) -> u64 {
        produce(&self.brokers, records)
    }

    /// The speed layer in a process of its own.
    pub fn spawn(&self) -> Process {
        let command = again("--count", [&self.brokers, &self.redis.url(), self.folder.to_str().unwrap()]);
        Process::spawn("speed", command).unwrap()
    }

    /// Waits until what readers see is like that.
    pub async fn until(&self, process: &mut Process, is_it: impl Fn(&Meta) -> bool) -> Meta {
        let began = Instant::now();
        loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            assert!(began.elapsed() < Duration::from_secs(600), "{}", process.log_tail());
            let slice = self.store.read(&self.topic.partition(0), &LiveQuery::of_meta()).await.unwrap();
            match slice {
                Some(slice) if is_it(&slice.meta) => return slice.meta,
                _ => {}
            }
        }
    }
}

/// This program again, in a process of its own that does one part alone.
pub fn again(part: &str, arguments: [&str; 3]) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(part).args(arguments);
    command
}

fn kafka_options(brokers: &str) -> KafkaOptions {
    KafkaOptions::new(brokers, TOPIC, Region::parse("local").unwrap())
}

fn ledger(folder: &str) -> Ledger {
    Ledger::new(Objects::open_folder(folder.into()).unwrap())
}

/// The speed layer as `twofold speed` runs it by default, but for its admin port, which nobody asks here. Until it is ended.
pub fn count(brokers: &str, redis: &str, folder: &str) {
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
        let log = Arc::new(KafkaLog::connect(kafka_options(brokers)).await.unwrap());
        let store = Arc::new(RedisStore::connect(&RedisOptions::new(redis)).unwrap());
        counter::run(options, log, store, ledger(folder), Arc::new(SystemClock), CancellationToken::new()).await
    };
    tokio::runtime::Runtime::new().unwrap().block_on(run).unwrap();
}

/// As `twofold topic create` does it.
async fn create(options: &KafkaOptions, ledger: &Ledger) -> Topic {
    let spec = TopicSpec { partitions: 1, replication_factor: 1, ..TopicSpec::default() };
    let topic = KafkaLog::create_topic(options, &spec).await.unwrap();
    let genesis = Genesis { first_day: SystemClock.now().day(), rules: Rules::default() };
    let mut books = ledger.begin(genesis).await.unwrap();
    assert!(matches!(ledger.publish(&mut books, Body::Topic(topic.life())).await.unwrap(), Published::Ours));
    topic
}

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
    let (mut random, mut recent, mut distinct) = (SmallRng::from_os_rng(), Vec::<(u128, u32)>::new(), 0);
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
