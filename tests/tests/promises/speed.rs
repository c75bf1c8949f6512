//! The speed layer on real Kafka and real Redis: after crashes of both sides the live counts are what a naive count of
//! the whole log gives, key for key; and nothing of a re-created topic is counted as the old one.

mod rebalance;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clicks::event::{Class, Click};
use clicks::id::{AdId, ClickId, Region, UserId};
use clicks::ledger::{Body, Genesis};
use clicks::live::{CountKey, Totals};
use clicks::position::Offset;
use clicks::rules::Rules;
use clicks::time::{Day, Interval, Span, Timestamp};
use clicks::window::Minute;
use clicks::wire;
use counter::{CounterError, Options};
use platform::clock::{Clock, SystemClock};
use platform::ledger::Ledger;
use platform::log::{KafkaLog, KafkaOptions, Log, LogRecord, NewRecord, Target, Topic, TopicSpec};
use platform::objects::Objects;
use platform::store::{Ads, LiveQuery, LiveSlice, RedisOptions, RedisStore, SpeedStore};
use promises::services::{Redis, shared};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PARTITIONS: u32 = 4;
const PATIENCE: Duration = Duration::from_secs(60);

/// A topic of the test's own, its ledger, and the store that it is counted into.
struct Place {
    options: KafkaOptions,
    log: Arc<KafkaLog>,
    topic: Topic,
    ledger: Ledger,
    store: Arc<RedisStore>,
    began: Timestamp,
}

impl Place {
    async fn new(redis: &Redis) -> Self {
        Self::with_ledger(redis, Ledger::new(Objects::memory())).await
    }

    async fn with_ledger(redis: &Redis, ledger: Ledger) -> Self {
        let brokers = shared().await.unwrap().kafka.brokers();
        let name = format!("speed-{}", uuid::Uuid::new_v4());
        let options = KafkaOptions::new(&brokers, &name, Region::parse("eu").unwrap());
        KafkaLog::create_topic(&options, &spec()).await.unwrap();
        let log = Arc::new(KafkaLog::connect(options.clone()).await.unwrap());
        let topic = log.topic().await.unwrap();
        let began = SystemClock.now();
        let genesis = Genesis { first_day: began.day(), rules: Rules::default() };
        let mut books = ledger.begin(genesis).await.unwrap();
        ledger.publish(&mut books, Body::Topic(topic.life())).await.unwrap();
        let store = Arc::new(RedisStore::connect(&RedisOptions::new(redis.url())).unwrap());
        Place { options, log, topic, ledger, store, began }
    }

    fn start(&self) -> (JoinHandle<Result<(), CounterError>>, CancellationToken) {
        self.start_with(Options::default())
    }

    fn start_with(&self, options: Options) -> (JoinHandle<Result<(), CounterError>>, CancellationToken) {
        let stop = CancellationToken::new();
        let (log, store, clock) = (self.log.clone(), self.store.clone(), Arc::new(SystemClock));
        let run = counter::run(options, log, store, self.ledger.clone(), clock, stop.clone());
        (tokio::spawn(run), stop)
    }

    /// Everything that is stored of a partition; nothing while Redis is away.
    async fn stored(&self, number: u32) -> Option<LiveSlice> {
        let query = LiveQuery {
            ads: Ads::All,
            range: Interval::new(self.began - Span::days(40), self.began + Span::days(2)),
            late_from: self.began.day().previous(),
        };
        self.store.read(&self.topic.partition(number), &query).await.unwrap_or(None)
    }

    async fn settled(&self) {
        for number in 0..PARTITIONS {
            let end = self.log.bounds(number).await.unwrap().end;
            let begun = Instant::now();
            while self.stored(number).await.is_none_or(|slice| slice.meta.next_offset < end) {
                assert!(begun.elapsed() < PATIENCE, "partition {number} does not reach {end}");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }

    async fn read_all(&self, number: u32) -> Vec<LogRecord> {
        let end = self.log.bounds(number).await.unwrap().end;
        let mut reader = self.log.open(number, Offset::ZERO).await.unwrap();
        let mut records = Vec::new();
        while (records.len() as u64) < end.value() {
            records.extend(reader.poll(10_000, PATIENCE).await.unwrap());
        }
        records
    }

    /// Holds what is stored against the log itself, key for key.
    async fn check(&self) -> Totals {
        self.settled().await;
        let mut sum = Totals::default();
        for number in 0..PARTITIONS {
            let (slice, records) = (self.stored(number).await.unwrap(), self.read_all(number).await);
            let (counts, late, totals) = naive(&records);
            assert_eq!(slice.counts.iter().cloned().collect::<BTreeMap<_, _>>(), counts, "partition {number}");
            let mut stored_late = BTreeMap::new();
            for (key, clicks) in slice.late {
                *stored_late.entry(key.count).or_default() += clicks;
            }
            assert_eq!(stored_late, late, "partition {number}");
            assert_eq!(slice.meta.totals, totals, "partition {number}");
            assert!(slice.meta.dedup_evicted == 0 && !slice.meta.is_rebuilding(), "{:?}", slice.meta);
            sum.seen += totals.seen;
            sum.rejected += totals.rejected;
            sum.duplicate += totals.duplicate;
            sum.late += totals.late;
            sum.counted += totals.counted;
        }
        sum
    }
}

fn spec() -> TopicSpec {
    TopicSpec { partitions: PARTITIONS, replication_factor: 1, ..TopicSpec::default() }
}

type Counts = BTreeMap<CountKey, u64>;

/// The rules word for word, over the whole log, remembering every sighting.
fn naive(records: &[LogRecord]) -> (Counts, Counts, Totals) {
    let (rules, mut now) = (Rules::default(), Timestamp::MIN);
    let mut sighted: HashMap<(AdId, ClickId), Timestamp> = HashMap::new();
    let (mut counts, mut late, mut totals) = (Counts::new(), Counts::new(), Totals::default());
    for record in records {
        now = now.max(record.broker_time);
        totals.seen += 1;
        let Ok(click) = wire::decode(record.value.as_deref()) else {
            totals.rejected += 1;
            continue;
        };
        if click.event_time.since(now) > rules.ahead_max || now.since(click.event_time) > rules.age_max {
            totals.rejected += 1;
            continue;
        }
        let minute = Minute::of(click.event_time);
        let key = CountKey { minute, class: Class::Valid, ad: click.ad_id.clone() };
        let last = sighted.insert((click.ad_id, click.click_id), now);
        if last.is_some_and(|last| now.since(last) < rules.live_horizon) {
            totals.duplicate += 1;
        } else if now.since(click.event_time) > rules.lateness {
            totals.late += 1;
            *late.entry(key).or_default() += 1;
        } else {
            totals.counted += 1;
            *counts.entry(key).or_default() += 1;
        }
    }
    (counts, late, totals)
}

/// Sends clicks with duplicates, late ones and garbage among them.
struct Sender {
    random: SmallRng,
    sent: Vec<(AdId, ClickId)>,
    /// Earlier days are expired at once, which a run over midnight must not make of a late click's retry.
    day: Day,
}

impl Sender {
    async fn send(&mut self, log: &KafkaLog, number: usize) {
        let records: Vec<_> = (0..number).map(|_| self.record()).collect();
        let appends = records.into_iter().map(|record| log.append(Target::Key, record));
        for appended in futures::future::join_all(appends).await {
            appended.unwrap();
        }
    }

    fn record(&mut self) -> NewRecord {
        let now = SystemClock.now().max(self.day.start() + Span::minutes(1));
        let new = (
            AdId::parse(&format!("ad-{}", self.random.random_range(0..50))).unwrap(),
            ClickId::from_u128(self.random.random()),
        );
        let (ad_id, click_id) = match self.random.random_range(0..100) {
            0..5 if !self.sent.is_empty() => self.sent[self.random.random_range(0..self.sent.len())].clone(),
            _ => new,
        };
        let age = match self.random.random_range(0..100) {
            0 => Span::minutes(11),
            1 => Span::days(3),
            2 => Span::minutes(-6),
            _ => Span::ZERO,
        };
        self.sent.push((ad_id.clone(), click_id));
        let key = Some(ad_id.as_str().to_owned().into());
        let user_id = UserId::parse("u").unwrap();
        let value = match self.random.random_range(0..200) {
            0 => Some("no click".into()),
            1 => None,
            _ => Some(wire::encode(&Click { click_id, ad_id, user_id, event_time: now - age }).into()),
        };
        NewRecord { key, value, headers: Vec::new() }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn live_counts_equal_the_log_after_crashes_of_redis_and_of_the_counter() {
    let mut redis = Redis::start().await.unwrap();
    let place = Place::new(&redis).await;
    let mut sender = Sender { random: SmallRng::seed_from_u64(3), sent: Vec::new(), day: place.began.day() };
    let (mut run, _) = place.start();
    sender.send(&place.log, 2_000).await;
    place.settled().await;

    redis.kill().unwrap();
    sender.send(&place.log, 2_000).await;
    assert!(!run.is_finished(), "Redis away is no reason to end");
    redis.restart().await.unwrap();
    sender.send(&place.log, 2_000).await;

    for _ in 0..3 {
        run.abort();
        assert!(run.await.unwrap_err().is_cancelled());
        sender.send(&place.log, 500).await;
        (run, _) = place.start();
        sender.send(&place.log, 500).await;
    }
    let generations = |slices: &[Option<LiveSlice>]| -> Vec<_> {
        slices.iter().map(|slice| slice.as_ref().unwrap().generation).collect()
    };
    place.settled().await;
    let before = futures::future::join_all((0..PARTITIONS).map(|number| place.stored(number))).await;
    let totals = place.check().await;
    assert_eq!(totals.seen, 9_000);
    for (what, number) in [("rejected", totals.rejected), ("duplicate", totals.duplicate), ("late", totals.late)] {
        assert!(number > 50, "only {number} {what}: the test shows nothing");
    }

    redis.cli(&["FLUSHALL"]).await.unwrap();
    let (zombie, _) = place.start();
    sender.send(&place.log, 2_000).await;
    place.settled().await;
    zombie.abort();
    sender.send(&place.log, 1_000).await;
    assert_eq!(place.check().await.seen, 12_000);
    let after = futures::future::join_all((0..PARTITIONS).map(|number| place.stored(number))).await;
    assert!(generations(&before).iter().zip(generations(&after)).all(|(before, after)| *before != after));

    run.abort();
    let (run, stop) = place.start();
    sender.send(&place.log, 1_000).await;
    let sent = Instant::now();
    place.settled().await;
    println!("the last of 1000 clicks was visible {:?} after it was acknowledged", sent.elapsed());
    stop.cancel();
    run.await.unwrap().unwrap();
    assert_eq!(place.check().await.seen, 13_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_topic_ends_the_counter_and_leaves_the_old_counts_alone() {
    let redis = &shared().await.unwrap().redis;
    let place = Place::new(redis).await;
    let mut sender = Sender { random: SmallRng::seed_from_u64(4), sent: Vec::new(), day: place.began.day() };
    let (run, _) = place.start();
    sender.send(&place.log, 500).await;
    let before = place.check().await;

    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", &place.options.brokers).create().unwrap();
    let patient = AdminOptions::new().operation_timeout(Some(PATIENCE));
    for deleted in admin.delete_topics(&[&place.options.topic], &patient).await.unwrap() {
        deleted.unwrap();
    }
    let begun = Instant::now();
    loop {
        assert!(begun.elapsed() < PATIENCE, "the broker does not forget the old topic");
        match KafkaLog::create_topic(&place.options, &spec()).await {
            Ok(topic) if topic.id != place.topic.id => break,
            _ => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    }
    let error = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap().unwrap_err();
    // Which of the two depends on whether it asked while there was no topic at all.
    let text = error.to_string();
    assert!(matches!(error, CounterError::TopicRecreated { .. } | CounterError::Topic(_)), "{text}");
    assert!(text.contains("twofold topic create"), "{text}");

    // More than the old life had, so that every position of it is on the new one as well.
    let again = KafkaLog::connect(place.options.clone()).await.unwrap();
    sender.send(&again, 1_000).await;
    let (run, _) = place.start();
    let error = tokio::time::timeout(PATIENCE, run).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, CounterError::ForeignTopic { .. }), "{error}");
    let slices = futures::future::join_all((0..PARTITIONS).map(|number| place.stored(number))).await;
    let seen: u64 = slices.into_iter().map(|slice| slice.unwrap().meta.totals.seen).sum();
    assert_eq!(seen, before.seen);
}
