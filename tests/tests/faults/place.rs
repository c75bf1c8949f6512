//! A topic of the test's own, its ledger, and the store that it is counted into.

use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clicks::id::Region;
use clicks::live::{Generation, Meta, Totals};
use clicks::position::{Offset, PartitionId};
use clicks::rules::RulesBook;
use clicks::time::{Interval, Span, Timestamp};
use platform::clock::{Clock, SystemClock};
use platform::ledger::Ledger;
use platform::log::{KafkaLog, KafkaOptions, Log, LogRecord, Topic, TopicSpec};
use platform::objects::Objects;
use platform::store::{Ads, LiveQuery, LiveSlice, RedisOptions, RedisStore, SpeedStore};
use promises::binary::twofold;
use promises::oracle;
use promises::services::{Process, free_port, new_folder, shared};

use crate::speed::Speed;

/// Longest wait for anything, on a machine that also compiles.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

const REGION: &str = "eu";

/// How processes come by their partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// Each counts all of them, and gets in the way of others that do.
    All,
    /// By the group, which misses a dead or paused member only after its session.
    Group,
}

/// What a place is made of.
pub(crate) struct Setup {
    pub(crate) brokers: String,
    pub(crate) replicas: u32,
    pub(crate) partitions: u32,
    pub(crate) share: Share,
    /// What the speed layer is told; the test itself looks at `store`.
    pub(crate) redis: String,
    pub(crate) store: RedisOptions,
    /// The file of a broker whose clock is moved.
    pub(crate) clock: Option<PathBuf>,
}

impl Setup {
    /// On the Kafka that all tests share.
    pub(crate) async fn on(redis: &str) -> Self {
        Setup {
            brokers: shared().await.unwrap().kafka.brokers(),
            replicas: 1,
            partitions: 4,
            share: Share::All,
            redis: redis.to_owned(),
            store: RedisOptions::new(redis),
            clock: None,
        }
    }

    pub(crate) async fn place(self) -> Place {
        Place::new(self).await
    }
}

pub(crate) struct Place {
    pub(crate) options: KafkaOptions,
    pub(crate) log: Arc<KafkaLog>,
    pub(crate) topic: Topic,
    /// Reached directly, also where the speed layer has a proxy before it.
    pub(crate) store: RedisStore,
    /// Those of its ledger.
    pub(crate) rules: RulesBook,
    config: PathBuf,
    replicas: u32,
}

impl Place {
    async fn new(setup: Setup) -> Self {
        let folder = new_folder("place").unwrap();
        let name = format!("faults-{}", uuid::Uuid::new_v4());
        let clock = setup.clock.map(|file| format!("[clock]\noffset_file = \"{}\"\n", file.display()));
        let share = match setup.share {
            Share::All => format!("partitions = {:?}\n", (0..setup.partitions).collect::<Vec<_>>()),
            // The shortest session that brokers allow.
            Share::Group => "[kafka.client]\n\"session.timeout.ms\" = \"6000\"\n".to_owned(),
        };
        let config = folder.join("twofold.toml");
        let text = format!(
            "region = \"{REGION}\"\n\
             [kafka]\nbrokers = \"{}\"\ntopic = \"{name}\"\npartitions = {}\nreplication_factor = {}\n\
             [redis]\nurl = \"{}\"\ncluster = {}\n\
             [storage]\nurl = \"file://{}\"\n\
             [speed]\nscrub_interval = \"1s\"\n{share}{}",
            setup.brokers,
            setup.partitions,
            setup.replicas,
            setup.redis,
            setup.store.cluster,
            folder.join("objects").display(),
            clock.unwrap_or_default(),
        );
        std::fs::create_dir(folder.join("objects")).unwrap();
        std::fs::write(&config, text).unwrap();
        let options = KafkaOptions::new(&setup.brokers, &name, Region::parse(REGION).unwrap());
        let created = command(&config).args(["topic", "create"]).output().unwrap();
        assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
        let log = Arc::new(KafkaLog::connect(options.clone()).await.unwrap());
        let topic = log.topic().await.unwrap();
        let ledger = Ledger::new(Objects::open_folder(folder.join("objects")).unwrap());
        Place {
            options,
            log,
            topic,
            store: RedisStore::connect(&setup.store).unwrap(),
            rules: ledger.read().await.unwrap().rules().clone(),
            config,
            replicas: setup.replicas,
        }
    }

    pub(crate) fn spec(&self) -> TopicSpec {
        let (partitions, replication_factor) = (self.topic.partitions, self.replicas);
        TopicSpec { partitions, replication_factor, ..TopicSpec::default() }
    }

    /// Runs a subcommand to its end.
    pub(crate) fn twofold(&self, arguments: &[&str]) -> Output {
        command(&self.config).args(arguments).output().unwrap()
    }

    /// A subcommand that is still to be run.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = command(&self.config);
        command.arg(name);
        command
    }

    /// Starts the speed layer and returns when it runs, before it counts.
    pub(crate) async fn start(&self) -> Speed {
        let mut speed = self.start_to_fail();
        speed.process.wait_for_port(speed.admin, PATIENCE).await.unwrap();
        speed
    }

    /// Starts a speed layer that is about to end by itself.
    pub(crate) fn start_to_fail(&self) -> Speed {
        let admin = free_port().unwrap();
        let mut command = self.command("speed");
        command.env("TWOFOLD__SPEED__ADMIN", format!("127.0.0.1:{admin}"));
        Speed { process: Process::spawn("speed", command).unwrap(), admin }
    }

    pub(crate) fn numbers(&self) -> std::ops::Range<u32> {
        0..self.topic.partitions
    }

    pub(crate) fn partition(&self, number: u32) -> PartitionId {
        self.topic.partition(number)
    }

    /// Everything that is stored of a partition; nothing while that cannot be read.
    pub(crate) async fn stored(&self, number: u32) -> Option<LiveSlice> {
        self.stored_of(self.partition(number)).await
    }

    /// Of this or an earlier life of the topic.
    pub(crate) async fn stored_of(&self, partition: PartitionId) -> Option<LiveSlice> {
        self.store.read(&partition, &everything()).await.unwrap_or(None)
    }

    /// Generation and meta record of a partition; nothing while they cannot be read.
    pub(crate) async fn glance(&self, number: u32) -> Option<(Generation, Meta)> {
        let slice = self.store.read(&self.partition(number), &LiveQuery::of_meta()).await.unwrap_or(None);
        slice.map(|slice| (slice.generation, slice.meta))
    }

    /// Where the store stands, zero where it holds nothing.
    pub(crate) async fn position(&self, number: u32) -> Offset {
        self.glance(number).await.map_or(Offset::ZERO, |(_, meta)| meta.next_offset)
    }

    /// Of all partitions.
    pub(crate) async fn positions(&self) -> Vec<Offset> {
        futures::future::join_all(self.numbers().map(|number| self.position(number))).await
    }

    /// Of all partitions.
    pub(crate) async fn generations(&self) -> Vec<Option<Generation>> {
        let glances = futures::future::join_all(self.numbers().map(|number| self.glance(number))).await;
        glances.into_iter().map(|glance| glance.map(|(generation, _)| generation)).collect()
    }

    /// Waits until all that is on the topic is counted.
    pub(crate) async fn settled(&self, speed: &mut Speed) {
        for number in self.numbers() {
            let end = self.log.bounds(number).await.unwrap().end;
            speed
                .until(&format!("partition {number} reaches {end}"), async || {
                    self.glance(number).await.is_some_and(|(_, meta)| meta.next_offset >= end && !meta.is_rebuilding())
                })
                .await;
        }
    }

    /// Waits until a partition is complete, though more may be on its way.
    pub(crate) async fn whole(&self, speed: &mut Speed, number: u32) {
        speed
            .until(&format!("partition {number} is whole"), async || {
                self.glance(number).await.is_some_and(|(_, meta)| !meta.is_rebuilding())
            })
            .await;
    }

    /// A whole partition, from its very first record on.
    pub(crate) async fn read_all(&self, number: u32) -> Vec<LogRecord> {
        self.read_from(number, 0).await
    }

    /// A partition from an offset on.
    pub(crate) async fn read_from(&self, number: u32, first: u64) -> Vec<LogRecord> {
        let end = self.log.bounds(number).await.unwrap().end;
        let mut reader = self.log.open(number, Offset::new(first)).await.unwrap();
        let mut records = Vec::new();
        while first + (records.len() as u64) < end.value() {
            records.extend(reader.poll(10_000, PATIENCE).await.unwrap());
        }
        records
    }

    /// Waits until all is counted and holds it against the topic, key for key. Returns the sum of the totals.
    pub(crate) async fn check(&self, speed: &mut Speed) -> Totals {
        self.settled(speed).await;
        let mut sum = Totals::default();
        for number in self.numbers() {
            let slice = self.stored(number).await.unwrap();
            oracle::check(&slice, &self.read_all(number).await, &self.rules, &format!("partition {number}"));
            oracle::add(&mut sum, &slice.meta.totals);
        }
        sum
    }

    /// The same, and the topic held some of each kind of record.
    pub(crate) async fn check_all_kinds(&self, speed: &mut Speed) -> Totals {
        let totals = self.check(speed).await;
        let Totals { control, rejected, duplicate, late, counted, .. } = totals;
        assert!([control, rejected, duplicate, late, counted].iter().all(|kind| *kind > 5), "{totals:?} shows nothing");
        totals
    }
}

fn command(config: &std::path::Path) -> Command {
    let mut command = twofold();
    command.arg("--config").arg(config);
    command
}

fn everything() -> LiveQuery {
    let now = SystemClock.now();
    let range = Interval::new(now - Span::days(40), now + Span::days(9));
    LiveQuery { ads: Ads::All, range, late_from: (now - Span::days(3)).day() }
}

pub(crate) fn now() -> Timestamp {
    SystemClock.now()
}

/// Waits for something that has nothing to do with a running speed layer.
pub(crate) async fn until(what: &str, condition: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !condition().await {
        assert!(began.elapsed() < PATIENCE, "{PATIENCE:?} passed before {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
