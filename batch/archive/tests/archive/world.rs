//! A log, a store, a ledger and a clock in memory, and archivers among them.

use std::sync::Arc;
use std::time::Duration;

use archive::chain::{Chain, read_chain};
use archive::codec::decode;
use archive::{ArchiveError, Handle, Options, run};
use bytes::Bytes;
use clicks::id::{Region, TopicId};
use clicks::ledger::{Body, Genesis, TopicLife};
use clicks::position::{Offset, PartitionId};
use clicks::rules::Rules;
use clicks::time::{Span, Timestamp};
use platform::clock::{Clock, SimulatedClock};
use platform::ledger::Ledger;
use platform::log::{Log, LogRecord, MemoryLog, NewRecord, Target};
use platform::objects::Objects;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::faulty::Faulty;
use crate::support::click;

/// No test waits longer for anything; one that does has found a hang.
const PATIENCE: Duration = Duration::from_secs(60);

pub async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future).await.expect("it hangs")
}

#[derive(Debug, Clone)]
pub struct World {
    pub clock: Arc<SimulatedClock>,
    pub log: MemoryLog,
    pub store: Faulty,
    pub objects: Objects,
    pub ledger: Ledger,
}

/// A running archiver.
#[derive(Debug)]
pub struct Archiver {
    task: JoinHandle<Result<(), ArchiveError>>,
    stop: CancellationToken,
    pub handle: Handle,
}

impl World {
    /// A world at `start` whose ledger knows its topic.
    pub async fn new(start: Timestamp, partitions: u32) -> Self {
        let world = Self::without_topic(start, partitions).await;
        world.record_life().await;
        world
    }

    pub async fn without_topic(start: Timestamp, partitions: u32) -> Self {
        let clock = Arc::new(SimulatedClock::new(start));
        let region = Region::parse("eu").unwrap();
        let log = MemoryLog::with_id(region, "clicks", partitions, clock.clone(), TopicId::from_u128(7));
        let store = Faulty::default();
        let objects = Objects::over(Arc::new(store.clone()), "memory:///faulty");
        let ledger = Ledger::new(objects.clone());
        ledger.begin(Genesis { first_day: start.day(), rules: Rules::default() }).await.unwrap();
        World { clock, log, store, objects, ledger }
    }

    /// Writes the topic's life as it is now into the ledger.
    pub async fn record_life(&self) {
        let topic = self.log.topic().await.unwrap();
        let (region, topic_id, name, partitions) = (topic.region, topic.id, topic.name, topic.partitions);
        let mut books = self.ledger.read().await.unwrap();
        let life = Body::Topic(TopicLife { region, topic_id, name, partitions });
        self.ledger.publish(&mut books, life).await.unwrap();
    }

    pub async fn partition(&self, number: u32) -> PartitionId {
        self.log.topic().await.unwrap().partition(number)
    }

    pub fn start(&self, options: Options) -> Archiver {
        let (handle, stop) = (options.handle.clone(), CancellationToken::new());
        let archiver = run(
            options,
            Arc::new(self.log.clone()),
            self.objects.clone(),
            self.ledger.clone(),
            self.clock.clone(),
            stop.clone(),
        );
        Archiver { task: tokio::spawn(archiver), stop, handle }
    }

    /// Appends a click to a partition.
    pub async fn click(&self, partition: u32, number: u64) -> Offset {
        let click = click(number, self.clock.now());
        let key = Bytes::copy_from_slice(click.ad_id.as_str().as_bytes());
        let record =
            NewRecord { key: Some(key), value: Some(clicks::wire::encode(&click).into()), headers: Vec::new() };
        self.log.append(Target::Partition(partition), record).await.unwrap().offset
    }

    pub fn advance(&self, span: Span) {
        self.clock.advance_to(self.clock.now() + span);
    }

    pub async fn log_end(&self, partition: u32) -> Offset {
        self.log.bounds(partition).await.unwrap().end
    }

    /// Everything that is on a partition.
    pub async fn logged(&self, partition: u32) -> Vec<LogRecord> {
        let bounds = self.log.bounds(partition).await.unwrap();
        let mut reader = self.log.open(partition, bounds.first).await.unwrap();
        reader.poll(usize::MAX, Duration::from_millis(1)).await.unwrap()
    }

    pub async fn chain(&self, partition: u32) -> Chain {
        read_chain(&self.objects, &self.partition(partition).await).await.unwrap()
    }

    /// Everything that is stored of a partition, read by listing.
    pub async fn archived(&self, partition: u32) -> Vec<LogRecord> {
        self.archived_of(&self.partition(partition).await).await
    }

    pub async fn archived_of(&self, partition: &PartitionId) -> Vec<LogRecord> {
        let mut records = Vec::new();
        for segment in read_chain(&self.objects, partition).await.unwrap().segments {
            let object = self.objects.get(&segment.key.to_string()).await.unwrap().unwrap();
            records.extend(decode(object).unwrap().into_iter().map(|(record, _)| record));
        }
        records
    }

    /// Checks that exactly the log is stored, each record once and in order, at least up to `least`.
    pub async fn check_archived(&self, partition: u32, least: Offset) {
        let (logged, archived) = (self.logged(partition).await, self.archived(partition).await);
        assert!(archived.len() as u64 >= least.value(), "{} of {least} are stored", archived.len());
        assert!(archived == logged[..archived.len()], "the archive of partition {partition} is not the log");
    }
}

impl Archiver {
    /// Told to stop, as by SIGTERM.
    pub async fn stop(self) -> Result<(), ArchiveError> {
        self.stop.cancel();
        self.ended().await
    }

    /// Gone between two instructions, as by SIGKILL.
    pub async fn kill(self) {
        self.task.abort();
        let _ = soon(self.task).await;
    }

    pub fn is_over(&self) -> bool {
        self.task.is_finished()
    }

    /// Waits until it ends by itself.
    pub async fn ended(self) -> Result<(), ArchiveError> {
        soon(self.task).await.unwrap()
    }
}
