//! Live counts in memory: whatever happens to the store, the answers are those of a server that reads it each time.
#![allow(clippy::unwrap_used)]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use clicks::ledger::DayTotals;
use clicks::live::{CountKey, Expected, Flush, FlushOutcome, Generation, LateKey, Loaded, Meta, Stage};
use clicks::position::{Offset, PartitionId};
use clicks::rules::{Rules, RulesBook};
use clicks::time::{Day, Span, Timestamp};
use platform::store::{Changes, LiveQuery, LiveSlice, Mark, MemoryStore, Part, SpeedStore, StoreError};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use serde_json::Value;
use serving::{Options, Server};
use support::{PARTITIONS, System, at, day, key, partition};
use tokio_util::sync::{CancellationToken, DropGuard};

/// The store, and how often counts were read from it for a question.
#[derive(Debug)]
struct Watched {
    store: Arc<MemoryStore>,
    reads: AtomicUsize,
}

#[async_trait]
impl SpeedStore for Watched {
    fn max_changes(&self) -> usize {
        self.store.max_changes()
    }
    async fn load(&self, partition: &PartitionId, rules: &RulesBook) -> Result<Option<Loaded>, StoreError> {
        self.store.load(partition, rules).await
    }
    async fn flush(&self, partition: &PartitionId, flush: &Flush) -> Result<FlushOutcome, StoreError> {
        self.store.flush(partition, flush).await
    }
    async fn read(&self, partition: &PartitionId, query: &LiveQuery) -> Result<Option<LiveSlice>, StoreError> {
        if *query != LiveQuery::of_meta() {
            self.reads.fetch_add(1, Ordering::Relaxed);
        }
        self.store.read(partition, query).await
    }
    async fn read_part(&self, partition: &PartitionId, part: &Part) -> Result<Option<LiveSlice>, StoreError> {
        self.store.read_part(partition, part).await
    }
    async fn read_changes(&self, partition: &PartitionId, since: Option<&Mark>) -> Result<Option<Changes>, StoreError> {
        self.store.read_changes(partition, since).await
    }
    async fn check(&self) -> Result<(), StoreError> {
        self.store.check().await
    }
}

const ADS: [&str; 8] = ["a", "b", "c", "d", "e", "f", "g", "h"];

struct Reader {
    address: std::net::SocketAddr,
    store: Arc<Watched>,
    _stop: DropGuard,
}

async fn reader(system: &System, live_bytes_max: usize) -> Reader {
    let store = Arc::new(Watched { store: system.store.clone(), reads: AtomicUsize::new(0) });
    let options = Options {
        listen: support::listen(),
        ledger_refresh: Duration::from_millis(20),
        live_refresh: Duration::from_millis(1),
        live_bytes_max,
        ..Options::default()
    };
    let (objects, ledger, clock) = (system.objects.clone(), system.ledger.clone(), system.clock.clone());
    let server = Server::bind(options, objects, ledger, store.clone(), None, clock).await.unwrap();
    let (address, stop) = (server.address(), CancellationToken::new());
    tokio::spawn(server.run(stop.clone()));
    support::until_ready(address).await;
    Reader { address, store, _stop: stop.drop_guard() }
}

/// What an answer says, without what is said of the moment of asking.
async fn said(reader: &Reader, path: &str) -> Value {
    // What was read less than a millisecond ago would do.
    tokio::time::sleep(Duration::from_millis(2)).await;
    let answer = support::get(reader.address, path).await;
    assert_eq!(answer.status, 200, "{path}: {answer:?}");
    answer.json()
}

/// A worker that always knows what is stored, whatever has happened to it.
struct Writer<'a> {
    store: &'a MemoryStore,
    random: SmallRng,
    now: Timestamp,
    base_day: Day,
    generations: u128,
    /// Nothing happens but clicks.
    calm: bool,
}

impl Writer<'_> {
    async fn flush(&mut self) {
        let number = self.random.random_range(0..PARTITIONS);
        let rules = RulesBook::new(Rules::default()).unwrap();
        let loaded = self.store.load(&partition(number), &rules).await;
        let Ok(loaded) = loaded else { return };
        let new_day = self.now.day().previous();
        let begins = loaded.is_none() || (!self.calm && self.random.random_range(0..20) == 0);
        let (expected, mut meta, generation) = match &loaded {
            Some(Loaded { generation, meta, .. }) => (Expected::at(*generation, meta), meta.clone(), *generation),
            None => (Expected::Nothing, Meta::new(Offset::ZERO, self.base_day, self.base_day, Offset::ZERO), NONE),
        };
        let generation = if begins {
            self.generations += 1;
            meta = Meta::new(Offset::ZERO, self.base_day, self.base_day, Offset::ZERO);
            Generation::from_u128(self.generations)
        } else {
            generation
        };
        // Sometimes a rebuild, and sometimes beside the live one.
        let stays = matches!(&loaded, Some(Loaded { stage: Stage::Beside, .. })) && !begins;
        let beside = loaded.is_some() && (stays || begins) && self.random.random_range(0..3) > 0;
        let (mut drop_hours, mut drop_nights) = (Vec::new(), Vec::new());
        if !begins && meta.base_day < new_day && self.random.random_range(0..10) == 0 {
            drop_hours = clicks::counter::hours_of(meta.base_day, new_day);
            drop_nights = meta.base_night.until(new_day).collect();
            (meta.base_day, meta.base_night) = (new_day, meta.base_night.max(new_day));
        }
        meta.next_offset = meta.next_offset.plus(self.random.random_range(1..20));
        meta.append_time = self.now;
        meta.fingerprint = "00ff".to_owned();
        let flush = Flush {
            expected,
            generation,
            stage: if beside { Stage::Beside } else { Stage::Live },
            counts: self.counts(number, meta.base_day),
            late: self.late(number, meta.base_night),
            meta,
            drop_hours,
            drop_nights,
        };
        _ = self.store.flush(&partition(number), &flush).await;
    }

    fn ad(&mut self, number: u32) -> Option<&'static str> {
        let ad = *ADS.choose(&mut self.random)?;
        (support::home(ad) == number).then_some(ad)
    }

    fn counts(&mut self, number: u32, base_day: Day) -> Vec<(CountKey, u64)> {
        let count = *[0, 1, 1, 5, 40].choose(&mut self.random).unwrap();
        let mut counts = std::collections::BTreeMap::new();
        for _ in 0..count {
            let back = match self.random.random_range(0..6) {
                0 => Span::minutes(self.random.random_range(0..3_000)),
                _ => Span::minutes(self.random.random_range(-4..12)),
            };
            let time = (self.now - back).max(base_day.start());
            let clicks = self.random.random_range(1..1_000);
            if let Some(ad) = self.ad(number) {
                counts.insert(key(time, ad), clicks);
            }
        }
        counts.into_iter().collect()
    }

    fn late(&mut self, number: u32, base_night: Day) -> Vec<(LateKey, u64)> {
        let mut late = std::collections::BTreeMap::new();
        for _ in 0..*[0, 0, 0, 1, 4].choose(&mut self.random).unwrap() {
            let time = self.now - Span::minutes(self.random.random_range(11..6_000));
            let night = self.now.day().max(base_night);
            let clicks = self.random.random_range(1..1_000);
            if let Some(ad) = self.ad(number) {
                late.insert(LateKey { night, count: key(time, ad) }, clicks);
            }
        }
        late.into_iter().collect()
    }
}

const NONE: Generation = Generation::from_u128(0);

fn paths(random: &mut SmallRng, now: Timestamp) -> String {
    let minute = now.floor(Span::minutes(1));
    let (grain, span, longest) =
        *[("minute", Span::minutes(1), 180), ("hour", Span::hours(1), 60), ("day", Span::hours(24), 4)]
            .choose(random)
            .unwrap();
    let end = minute.floor(span) + span;
    let from = end - Span::millis(span.as_millis() * random.random_range(1..=longest));
    let range = format!("from={from}&to={end}");
    match random.random_range(0..4) {
        0 => format!("/v1/clicks?{range}&granularity={grain}"),
        1 => format!("/v1/ads?{range}&limit={}", random.random_range(1..9)),
        2 => format!("/v1/clicks?{range}&granularity={grain}&ad_id={}", ADS.choose(random).unwrap()),
        _ => format!("/v1/clicks?{range}&granularity={grain}&ad_id=a,c,e,g,nobody"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_kept_in_memory_answers_as_what_is_read() {
    let seed = std::env::var("TWOFOLD_SEED").map_or(1, |seed| seed.parse().expect("TWOFOLD_SEED is a number"));
    let first = day("2026-03-02");
    let system = System::new(first, at(first, 12, 0)).await;
    system.close(&[(at(first, 3, 0), "a", 5)], DayTotals::default(), &[], &[]).await;
    // A little memory holds the last hours, and none holds nothing.
    let [kept, little, read] = [64 << 20, 40_000, 0].map(|bytes| reader(&system, bytes));
    let (kept, little, read) = tokio::join!(kept, little, read);
    let now = at(first, 20, 0);
    let random = SmallRng::seed_from_u64(seed);
    let mut writer = Writer { store: &system.store, random, now, base_day: first, generations: 0, calm: false };
    for step in 0..400 {
        match writer.random.random_range(0..100) {
            0..=59 => {
                for _ in 0..writer.random.random_range(1..30) {
                    writer.flush().await;
                }
            }
            60..=79 => {
                let minutes = *[1, 5, 61, 400].choose(&mut writer.random).unwrap();
                writer.now = writer.now + Span::minutes(minutes);
            }
            80..=84 => _ = system.store.rollback(&partition(writer.random.random_range(0..PARTITIONS)), 3),
            85 => system.store.flush_all(),
            86..=87 => system.store.go_away(true),
            88..=94 => system.store.go_away(false),
            _ => tokio::time::sleep(Duration::from_millis(20)).await,
        }
        system.clock.advance_to(writer.now);
        for _ in 0..3 {
            let path = paths(&mut writer.random, writer.now);
            let (of_kept, of_little, wanted) =
                tokio::join!(said(&kept, &path), said(&little, &path), said(&read, &path));
            assert_eq!((&of_kept, &of_little), (&wanted, &wanted), "step {step} of seed {seed}: {path}");
        }
    }
    // Once all of it is in memory, no question reads counts, and whoever has no memory reads them each time.
    system.store.go_away(false);
    writer.calm = true;
    for _ in 0..10 {
        writer.flush().await;
    }
    let reads = |reader: &Reader| reader.store.reads.load(Ordering::Relaxed);
    let whole = format!("/v1/clicks?from={first}&granularity=day");
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while {
        let before = reads(&kept);
        said(&kept, &whole).await;
        reads(&kept) > before
    } {
        assert!(std::time::Instant::now() < deadline, "it is never in memory");
    }
    let before = (reads(&kept), reads(&read));
    for _ in 0..40 {
        writer.flush().await;
        let path = paths(&mut writer.random, writer.now);
        assert_eq!(said(&kept, &path).await, said(&read, &path).await, "{path}");
    }
    assert_eq!(reads(&kept), before.0);
    assert!(reads(&read) >= before.1 + 40);
}
