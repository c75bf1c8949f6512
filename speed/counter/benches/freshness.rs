//! How soon a click that the collector acknowledged is readable in Redis, in an answer of the API, and in a stream of its
//! changes, at half of the highest rate that this machine reaches with everything on it: Kafka, Redis, `twofold collect`,
//! `twofold speed`, `twofold serve` and the client. `cargo bench -p counter --bench freshness [-- SECONDS [RATE]]`, after
//! `cargo build --release --bin twofold`.
//!
//! First as fast as the collector answers (closed loop), then half of that, sent by the clock whatever is answered (open
//! loop); or as many clicks a second as were asked for. Every 20 ms one click is sent alone, and looked for from its
//! acknowledgement on: in Redis, in the API (of an ad of its own, asked for every 10 ms), or in a stream, in turn. Resident
//! memory of the collector and the speed layer is told fifteen times: dedup fills for 15 minutes, and from then on it must stay as it is.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros)]

mod measure;

use std::collections::HashMap;
use std::fmt::Write;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clicks::id::{AdId, Region};
use clicks::partitioner::partition_of;
use clicks::time::{Day, Interval, Span, Timestamp};
use measure::{argument, arguments, memory_of};
use platform::clock::{Clock, SystemClock};
use platform::log::{KafkaLog, KafkaOptions, Log, Topic};
use platform::store::{Ads, LiveQuery, RedisOptions, RedisStore, SpeedStore};
use promises::binary::twofold;
use promises::services::{Kafka, Process, Redis, free_port, new_folder};
use rand::Rng;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

const PARTITIONS: u32 = 4;
/// Clicks of one request.
const BATCH: usize = 100;
/// Requests under way while the highest rate is looked for.
const AT_ONCE: usize = 16;
const PROBE_EVERY: Duration = Duration::from_millis(20);
/// Seconds until dedup is full, and what fills with it.
const WARM_UP: f64 = 1_000.0;
/// How often memory is looked at.
const LOOKS: f64 = 15.0;
const PATIENCE: Duration = Duration::from_secs(60);

fn lines(number: usize) -> String {
    let (now, mut random, mut text) = (SystemClock.now(), rand::rng(), String::new());
    for _ in 0..number {
        let (ad, user) = (100_000f64.powf(random.random()) as u32, random.random_range(0..1_000_000));
        let id = uuid::Uuid::from_u128(random.random());
        let _ = writeln!(text, r#"{{"click_id":"{id}","ad_id":"ad-{ad}","user_id":"u{user}","timestamp":"{now}"}}"#);
    }
    text
}

#[derive(Clone)]
struct Client {
    http: reqwest::Client,
    url: String,
}

impl Client {
    /// True when all of it was acknowledged.
    async fn send(&self, body: String) -> bool {
        let request = self.http.post(&self.url).header("content-type", "application/x-ndjson").body(body);
        let Ok(answer) = request.send().await else { return false };
        answer.status() == 202 && answer.bytes().await.is_ok()
    }
}

/// Acknowledged clicks per second, as many as there can be.
async fn highest_rate(client: &Client, time: Duration) -> f64 {
    let (acknowledged, until) = (Arc::new(AtomicU64::new(0)), Instant::now() + time);
    let mut senders = JoinSet::new();
    for _ in 0..AT_ONCE {
        let (client, acknowledged) = (client.clone(), acknowledged.clone());
        senders.spawn(async move {
            while Instant::now() < until {
                if client.send(lines(BATCH)).await {
                    acknowledged.fetch_add(BATCH as u64, Ordering::Relaxed);
                }
            }
        });
    }
    while senders.join_next().await.is_some() {}
    acknowledged.load(Ordering::Relaxed) as f64 / time.as_secs_f64()
}

/// Where a click is looked for.
const PLACES: [&str; 3] = ["readable in Redis", "in an answer of the API", "in a stream"];

/// Where clicks are looked for.
#[derive(Clone)]
struct Places {
    client: Client,
    store: Arc<RedisStore>,
    topic: Topic,
    /// Of the server.
    url: String,
    /// Clicks of the ad `streamed` that were acknowledged, and that its stream has told of.
    streamed: Arc<AtomicU64>,
    told: watch::Receiver<u64>,
}

impl Places {
    /// Sends a click; how long after its acknowledgement it was there.
    async fn probe(mut self, number: u64) -> Option<(usize, Duration)> {
        let place = number as usize % PLACES.len();
        let (ad, now) = (if place == 2 { "streamed".to_owned() } else { format!("probe-{number}") }, SystemClock.now());
        let id = uuid::Uuid::from_u128(rand::random());
        let line = format!(r#"{{"click_id":"{id}","ad_id":"{ad}","user_id":"u","timestamp":"{now}"}}"#);
        if !self.client.send(line).await {
            return None;
        }
        let acknowledged = Instant::now();
        let found = async {
            match place {
                0 => in_redis(&self.store, &self.topic, &ad, now).await,
                1 => self.in_api(&ad).await,
                _ => {
                    let sent = self.streamed.fetch_add(1, Ordering::Relaxed) + 1;
                    self.told.wait_for(|told| *told >= sent).await.unwrap();
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.ok()?;
        Some((place, acknowledged.elapsed()))
    }

    async fn in_api(&self, ad: &str) {
        let address = format!("{}/v1/clicks?ad_id={ad}", self.url);
        loop {
            let text = self.client.http.get(&address).send().await.unwrap().text().await.unwrap();
            if total(&serde_json::from_str(&text).unwrap()).values().sum::<u64>() > 0 {
                return;
            }
            sleep(Duration::from_millis(10)).await;
        }
    }
}

/// Clicks by period.
fn total(answer: &serde_json::Value) -> HashMap<String, u64> {
    let rows = answer["data"].as_array().unwrap_or_else(|| panic!("no answer: {answer}"));
    rows.iter().map(|row| (row["period_start"].to_string(), row["total"].as_u64().unwrap_or(0))).collect()
}

/// Tells how many clicks of an ad its stream has told of. The server ends a stream after a quarter of an hour; like a
/// browser, this opens it again.
async fn follow(http: reqwest::Client, url: String, told: watch::Sender<u64>) {
    let mut periods = HashMap::new();
    loop {
        let mut stream = http.get(format!("{url}/v1/stream?ad_id=streamed")).send().await.unwrap();
        assert_eq!(stream.status(), 200);
        let mut text = String::new();
        while let Some(chunk) = stream.chunk().await.unwrap() {
            text.push_str(std::str::from_utf8(&chunk).unwrap());
            while let Some((event, rest)) = text.split_once("\n\n") {
                let data = event.lines().find_map(|line| line.strip_prefix("data: "));
                if let Some(data) = data.filter(|_| event.contains("event: clicks")) {
                    periods.extend(total(&serde_json::from_str(data).unwrap()));
                }
                text = rest.to_owned();
            }
            let _ = told.send(periods.values().sum());
        }
    }
}

async fn in_redis(store: &RedisStore, topic: &Topic, ad: &str, now: Timestamp) {
    let partition = topic.partition(partition_of(ad.as_bytes(), topic.partitions));
    let query = LiveQuery {
        ads: Ads::Some(vec![AdId::parse(ad).unwrap()]),
        range: Interval::new(now - Span::minutes(1), now + Span::minutes(1)),
        late_from: Day::from_number(i32::MAX),
    };
    while store.read(&partition, &query).await.unwrap().is_none_or(|slice| slice.counts.is_empty()) {
        sleep(Duration::from_millis(1)).await;
    }
}

fn settings(folder: &Path, brokers: &str, redis: &Redis, collector: u16, serving: u16) -> String {
    std::fs::create_dir(folder.join("objects")).unwrap();
    format!(
        "[kafka]\nbrokers = \"{brokers}\"\npartitions = {PARTITIONS}\nreplication_factor = 1\n\
         [redis]\nurl = \"{}\"\n[storage]\nurl = \"file://{}\"\n[collector]\nlisten = \"127.0.0.1:{collector}\"\n\
         [speed]\nadmin = \"127.0.0.1:{}\"\n[serving]\nlisten = \"127.0.0.1:{serving}\"\nadmin = \"127.0.0.1:0\"\n",
        redis.url(),
        folder.join("objects").display(),
        free_port().unwrap(),
    )
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let (seconds, rate) = (argument().unwrap_or(30) as u64, arguments().nth(1));
    let (kafka, redis) = (Kafka::start(Default::default()).await.unwrap(), Redis::start().await.unwrap());
    let (folder, collector, serving) = (new_folder("freshness").unwrap(), free_port().unwrap(), free_port().unwrap());
    let config = folder.join("twofold.toml");
    std::fs::write(&config, settings(&folder, &kafka.brokers(), &redis, collector, serving)).unwrap();
    let command = |name: &str| {
        let mut command = twofold();
        command.arg("--config").arg(&config).env("RUST_LOG", "warn").arg(name);
        command
    };
    let created = command("topic").arg("create").output().unwrap();
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    let options = KafkaOptions::new(&kafka.brokers(), "clicks", Region::parse("local").unwrap());
    let topic = KafkaLog::connect(options).await.unwrap().topic().await.unwrap();
    let mut services = ["collect", "speed", "serve"].map(|name| Process::spawn(name, command(name)).unwrap());
    services[0].wait_for_port(collector, PATIENCE).await.unwrap();
    services[2].wait_for_port(serving, PATIENCE).await.unwrap();
    let client = Client { http: reqwest::Client::new(), url: format!("http://127.0.0.1:{collector}/v1/clicks") };
    let store = Arc::new(RedisStore::connect(&RedisOptions::new(redis.url())).unwrap());
    let (url, (tell, told)) = (format!("http://127.0.0.1:{serving}"), watch::channel(0));
    while !client.http.get(format!("{url}/readyz")).send().await.is_ok_and(|answer| answer.status() == 200) {
        sleep(Duration::from_millis(50)).await;
    }
    let following = tokio::spawn(follow(client.http.clone(), url.clone(), tell));
    let places = Places { client: client.clone(), store, topic, url, streamed: Arc::default(), told };
    for (number, place) in (0..).zip(PLACES) {
        assert!(places.clone().probe(number).await.is_some(), "it is never {place}");
    }

    highest_rate(&client, Duration::from_secs(2)).await;
    let highest = highest_rate(&client, Duration::from_secs(8)).await;
    sleep(Duration::from_secs(3)).await;
    let half = rate.map_or(highest / 2.0, |rate| rate as f64);
    let mut load = interval(Duration::from_secs_f64(BATCH as f64 / half));
    // What is late is sent at once: an open loop does not wait for anybody.
    load.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut probes, until) = (interval(PROBE_EVERY), Instant::now() + Duration::from_secs(seconds));
    let mut looks = interval(Duration::from_secs_f64(seconds as f64 / LOOKS));
    let (mut memory, mut fresh) = (Vec::new(), PLACES.map(|_| Vec::new()));
    let (mut requests, mut probing, mut sent, mut refused, mut number) = (JoinSet::new(), JoinSet::new(), 0, 0, 2);
    let mut found = |done: Result<Option<(usize, Duration)>, JoinError>| {
        let (place, after) = done.unwrap().expect("an acknowledged click becomes readable");
        fresh[place].push(after);
    };
    while Instant::now() < until {
        tokio::select! {
            _ = load.tick() => {
                let client = client.clone();
                requests.spawn(async move { client.send(lines(BATCH)).await });
                sent += 1;
            }
            _ = probes.tick() => {
                number += 1;
                probing.spawn(places.clone().probe(number));
            }
            _ = looks.tick() => memory.push([0, 1].map(|service| memory_of(services[service].id()).round())),
            Some(done) = requests.join_next() => refused += usize::from(!done.unwrap()),
            Some(done) = probing.join_next() => found(done),
        }
    }
    while let Some(done) = requests.join_next().await {
        refused += usize::from(!done.unwrap());
    }
    while let Some(done) = probing.join_next().await {
        found(done);
    }
    println!(
        "highest rate {highest:.0} clicks/s; at {half:.0} clicks/s for {seconds} s: {sent} requests, {refused} refused"
    );
    for (place, fresh) in PLACES.iter().zip(&mut fresh) {
        fresh.sort();
        let at = |part: f64| fresh[((fresh.len() - 1) as f64 * part) as usize].as_secs_f64() * 1_000.0;
        println!(
            "acknowledged to {place}, {} clicks: p50 {:.1} ms, p90 {:.1} ms, p99 {:.1} ms, max {:.1} ms",
            fresh.len(),
            at(0.5),
            at(0.9),
            at(0.99),
            at(1.0)
        );
    }
    println!("resident MB of the collector and the speed layer, every {:.0} s: {memory:?}", seconds as f64 / LOOKS);
    following.abort();
    for service in &mut services {
        service.terminate().await.unwrap();
    }
    let warm = &memory[memory.len().min((WARM_UP * LOOKS / seconds as f64).ceil() as usize)..];
    for (service, name) in ["collector", "speed layer"].into_iter().enumerate() {
        if let [first, .., last] = warm {
            let (first, last) = (first[service], last[service]);
            println!("{name}: {first} MB when it was warm, {last} MB at the end");
            assert!(last < first * 1.1 + 16.0, "the memory of the {name} grows");
        }
    }
}
