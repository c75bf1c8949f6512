//! A small world: a log, a store and a ledger in memory, a clock that the test moves, and runs of the streaming loop.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use clicks::control::HEARTBEAT;
use clicks::id::Region;
use clicks::ledger::{Body, Genesis, RulesChange};
use clicks::live::Generation;
use clicks::position::{Offset, PartitionId};
use clicks::rules::{Rules, RulesBook};
use clicks::time::{Day, Span, Timestamp};
use clicks::wire;
use counter::{CounterError, Options, Retry, run};
use platform::clock::{Clock, SimulatedClock};
use platform::ledger::{Ledger, Published};
use platform::log::{Appended, Header, Log, LogRecord, MemoryLog, NewRecord, Target, Topic};
use platform::objects::Objects;
use platform::store::{LiveSlice, MemoryStore, SpeedStore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::making;
pub(crate) use crate::making::{click, first_day, life, noon};

/// How long anything is waited for, in real time.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) clock: Arc<SimulatedClock>,
    pub(crate) log: Arc<MemoryLog>,
    pub(crate) topic: Topic,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) ledger: Ledger,
    /// Everything that was ever appended, by partition.
    pub(crate) history: BTreeMap<u32, Vec<LogRecord>>,
    next_id: u128,
}

/// One process.
#[derive(Debug)]
pub(crate) struct Run {
    task: JoinHandle<Result<(), CounterError>>,
    stop: CancellationToken,
}

impl World {
    /// It is noon of the first day, the ledger is begun and knows the topic, and nothing was appended.
    pub(crate) async fn new(partitions: u32) -> Self {
        Self::on(partitions, Ledger::new(Objects::memory())).await
    }

    /// The same with a ledger of the test's own, not begun yet.
    pub(crate) async fn on(partitions: u32, ledger: Ledger) -> Self {
        // RUST_LOG=counter=debug shows what the loop does.
        platform::telemetry::init_logs("off");
        crate::metrics::begin();
        let clock = Arc::new(SimulatedClock::new(noon()));
        let log = MemoryLog::new(Region::parse("eu").unwrap(), "clicks", partitions, clock.clone());
        let topic = log.topic().await.unwrap();
        ledger.begin(Genesis { first_day: first_day(), rules: Rules::default() }).await.unwrap();
        let world = World {
            clock,
            log: Arc::new(log),
            topic: topic.clone(),
            store: Arc::new(MemoryStore::new()),
            ledger,
            history: (0..partitions).map(|number| (number, Vec::new())).collect(),
            next_id: 0,
        };
        world.publish(Body::Topic(life(&topic))).await;
        world
    }

    pub(crate) async fn publish(&self, body: Body) {
        let mut books = self.ledger.read().await.unwrap();
        assert_eq!(self.ledger.publish(&mut books, body).await.unwrap(), Published::Ours);
    }

    /// New rules for event days from `effective` on.
    pub(crate) async fn change_rules(&self, effective: Day, rules: Rules) {
        self.publish(Body::Rules(RulesChange { effective, rules })).await;
    }

    pub(crate) async fn rules(&self) -> RulesBook {
        self.ledger.read().await.unwrap().rules().clone()
    }

    /// The batch closes the next day, whatever the log holds.
    pub(crate) async fn close_next_day(&self) -> Day {
        let books = self.ledger.read().await.unwrap();
        let ends = self
            .history
            .iter()
            .map(|(number, records)| (self.topic.partition(*number), Offset::new(records.len() as u64)));
        let (night, body) = (books.next_night(), making::night(&books, ends.collect(), self.clock.now()));
        self.publish(body).await;
        night
    }

    pub(crate) fn options() -> Options {
        let ms = Duration::from_millis;
        Options {
            flush_interval: ms(2),
            poll_max: 7,
            ledger_refresh: ms(5),
            store_retry: Retry { first: ms(1), max: ms(20) },
            ..Options::default()
        }
    }

    pub(crate) fn start(&self) -> Run {
        self.start_on(self.log.clone(), Self::options())
    }

    pub(crate) fn start_on(&self, log: Arc<dyn Log>, options: Options) -> Run {
        let stop = CancellationToken::new();
        let (store, ledger, clock) = (self.store.clone(), self.ledger.clone(), self.clock.clone());
        Run { task: tokio::spawn(run(options, log, store, ledger, clock, stop.clone())), stop }
    }

    pub(crate) fn partition(&self, number: u32) -> PartitionId {
        self.topic.partition(number)
    }

    /// Moves the clock forward.
    pub(crate) fn pass(&self, span: Span) {
        self.clock.advance_to(self.clock.now() + span);
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// From now on the time of the partition's broker is this much behind the clock.
    pub(crate) fn fail_over(&self, partition: u32, behind: Span) {
        self.log.set_broker_skew(partition, Span::millis(-behind.as_millis())).unwrap();
    }

    /// Appends a click that nobody sent before, with this event time; returns its id.
    pub(crate) async fn click(&mut self, partition: u32, ad: &str, event_time: Timestamp) -> u128 {
        self.next_id += 1;
        self.append(partition, Some(click(ad, self.next_id, event_time))).await;
        self.next_id
    }

    /// Appends `number` clicks of now.
    pub(crate) async fn clicks(&mut self, partition: u32, ad: &str, number: usize) {
        for _ in 0..number {
            self.click(partition, ad, self.now()).await;
        }
    }

    pub(crate) async fn append(&mut self, partition: u32, value: Option<String>) -> Appended {
        self.append_with(partition, value, Vec::new()).await
    }

    pub(crate) async fn heartbeat(&mut self, partition: u32) {
        let header = Header { name: wire::HEADER_CONTROL.to_owned(), value: Some(HEARTBEAT.into()) };
        self.append_with(partition, Some("{}".to_owned()), vec![header]).await;
    }

    async fn append_with(&mut self, partition: u32, value: Option<String>, headers: Vec<Header>) -> Appended {
        let record = NewRecord { key: None, value: value.map(Into::into), headers };
        let appended = self.log.append(Target::Partition(partition), record.clone()).await.unwrap();
        self.history.get_mut(&partition).unwrap().push(LogRecord {
            offset: appended.offset,
            broker_time: appended.broker_time,
            key: record.key,
            value: record.value,
            headers: record.headers,
        });
        appended
    }

    /// Everything that is stored of a partition; nothing when the store plays a failure.
    pub(crate) async fn stored(&self, number: u32) -> Option<LiveSlice> {
        self.store.read(&self.partition(number), &making::all()).await.unwrap_or(None)
    }

    /// Waits until all records of all partitions are stored.
    pub(crate) async fn settled(&self) {
        for number in 0..self.topic.partitions {
            let end = self.log.bounds(number).await.unwrap().end;
            self.until(&format!("partition {number} reaches {end}"), async || {
                self.stored(number).await.is_some_and(|slice| slice.meta.next_offset >= end)
            })
            .await;
        }
    }

    /// Waits until all is stored, and holds it against the oracle, key for key.
    pub(crate) async fn check(&self, what: &str) {
        self.settled().await;
        let books = self.ledger.read().await.unwrap();
        for (number, records) in &self.history {
            let slice = self.stored(*number).await.unwrap();
            crate::oracle::check(&slice, records, books.rules(), &format!("{what}, partition {number}"));
            assert!(slice.meta.base_day <= books.next_night(), "{what}: an open day is not live, {:?}", slice.meta);
        }
    }

    pub(crate) async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let waited = tokio::time::timeout(PATIENCE, async {
            while !condition().await {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
        if waited.await.is_err() {
            panic!("waited in vain: {what}; partition 0 holds {:?}", self.stored(0).await.map(|slice| slice.meta));
        }
    }

    pub(crate) async fn generation(&self, number: u32) -> Generation {
        self.stored(number).await.unwrap().generation
    }

    /// The live count of an ad in the minute of `time`; `None` when none is stored.
    pub(crate) async fn count(&self, number: u32, ad: &str, time: Timestamp) -> Option<u64> {
        let slice = self.stored(number).await?;
        slice.counts.iter().find(|(key, _)| making::is_count(key, ad, time)).map(|(_, count)| *count)
    }
}

impl Run {
    /// As SIGKILL does.
    pub(crate) async fn kill(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    /// As SIGTERM does.
    pub(crate) async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.task).await.expect("it stops in time").unwrap().unwrap();
    }

    /// Waits until it ends by itself, with an error.
    pub(crate) async fn ends(self) -> CounterError {
        let ended = tokio::time::timeout(PATIENCE, self.task).await.expect("it ends by itself");
        ended.unwrap().expect_err("it fails")
    }

    pub(crate) fn is_running(&self) -> bool {
        !self.task.is_finished()
    }
}
