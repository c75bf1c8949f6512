//! One archiver: a task per partition, one for heartbeats, and what they share.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use clicks::ledger::TopicLife;
use clicks::position::Offset;
use clicks::rules::RulesBook;
use clicks::time::Span;
use futures::future::try_join_all;
use platform::clock::Clock;
use platform::ledger::Ledger;
use platform::log::{Log, LogError, Topic};
use platform::objects::Objects;
use platform::objects::conformance::probe;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::confirmed::Questions;
use crate::cut::Limits;
use crate::endings;
use crate::error::ArchiveError;
use crate::heartbeat;
use crate::memory::Memory;
use crate::progress::Handle;
use crate::worker::Worker;

/// What tunes an archiver. None of it changes what is counted.
#[derive(Debug, Clone)]
pub struct Options {
    /// Partitions that this archiver owns; `None` for all.
    pub partitions: Option<Vec<u32>>,
    /// An object ends when its records have this many bytes in memory.
    pub object_bytes_max: u64,
    /// An object ends with this many records.
    pub object_records_max: u64,
    /// An object ends this long after its first record was read, by the clock port.
    pub object_age_max: Span,
    /// How often a heartbeat is written to each partition, by the clock port.
    pub heartbeat_interval: Span,
    /// What all partitions together may hold in memory: records that are not stored yet, and objects on their way. When a
    /// store is away, reading goes on up to it.
    pub memory_bytes_max: u64,
    /// A topic life that another one follows is taken for over when nothing came for so long, by the clock port.
    pub end_after: Span,
    /// Records that one poll may give.
    pub poll_records_max: usize,
    /// Bytes of keys, values and headers that one poll may give; a single record may have more.
    pub poll_bytes_max: usize,
    /// How long one poll waits for records, in real time.
    pub poll_wait: Duration,
    /// Stands in footers and heartbeats, for operators: which process wrote this.
    pub writer: String,
    /// Where a partition begins of which nothing is stored.
    pub begin: Begin,
    /// For whoever wants to see the progress or ask for cuts.
    pub handle: Handle,
}

/// Where a partition begins of which nothing is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Begin {
    /// At offset 0; a log that begins later is refused, as the bucket or the prefix may be wrong.
    #[default]
    AtZero,
    /// At the first offset that is on the log: what was before it is given up, on purpose.
    AtFirst,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            partitions: None,
            object_bytes_max: 64 * 1024 * 1024,
            object_records_max: 1_000_000,
            object_age_max: Span::minutes(15),
            heartbeat_interval: Span::seconds(5),
            memory_bytes_max: 1024 * 1024 * 1024,
            end_after: Span::minutes(15),
            poll_records_max: 1_000,
            poll_bytes_max: 1024 * 1024,
            poll_wait: Duration::from_millis(500),
            writer: "archiver".to_owned(),
            begin: Begin::default(),
            handle: Handle::default(),
        }
    }
}

impl Options {
    fn check(&self) -> Result<(), ArchiveError> {
        let positive = [
            ("object_bytes_max", i64::try_from(self.object_bytes_max).unwrap_or(i64::MAX)),
            ("object_records_max", i64::try_from(self.object_records_max).unwrap_or(i64::MAX)),
            ("object_age_max", self.object_age_max.as_millis()),
            ("end_after", self.end_after.as_millis()),
            ("heartbeat_interval", self.heartbeat_interval.as_millis()),
            ("poll_records_max", i64::try_from(self.poll_records_max).unwrap_or(i64::MAX)),
            ("poll_bytes_max", i64::try_from(self.poll_bytes_max).unwrap_or(i64::MAX)),
        ];
        match positive.into_iter().find(|(_, value)| *value <= 0) {
            Some((name, value)) => {
                Err(ArchiveError::Options { name, value: value.to_string(), reason: "it must be more than 0" })
            }
            None => Ok(()),
        }
    }

    /// With less, each partition could hold too little for an object while none of them may read on.
    fn check_memory(&self, partitions: usize) -> Result<(), ArchiveError> {
        let least = 2 * self.poll_held() * partitions as u64;
        match self.memory_bytes_max < least {
            true => Err(ArchiveError::Memory { bytes_max: self.memory_bytes_max, partitions, least }),
            false => Ok(()),
        }
    }

    /// Memory that is reserved for one poll: its bytes, and what its records cost besides.
    pub(crate) fn poll_held(&self) -> u64 {
        2 * self.poll_bytes_max as u64
    }

    pub(crate) fn limits(&self) -> Limits {
        Limits { bytes_max: self.object_bytes_max, records_max: self.object_records_max, age_max: self.object_age_max }
    }
}

/// What all tasks of an archiver share.
pub(crate) struct Shared {
    pub options: Options,
    pub log: Arc<dyn Log>,
    pub objects: Objects,
    pub clock: Arc<dyn Clock>,
    /// The topic life that was on the log at the start, as the ledger names it.
    pub topic: Topic,
    /// Another topic was recorded for the region since: this one is archived to its end, and nothing is written to it.
    pub ended: bool,
    pub questions: Questions,
    pub rules: RulesBook,
    pub memory: Memory,
    pub stop: CancellationToken,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").field("topic", &self.topic).finish_non_exhaustive()
    }
}

impl Shared {
    /// Asks the broker for the topic that is there now. If it is of our life, so is every record that was fetched before.
    pub(crate) async fn ask_topic(&self) -> Result<Topic, LogError> {
        let question = self.questions.ask();
        let topic = self.log.topic().await?;
        if topic.id == self.topic.id {
            self.questions.answer(question);
        }
        Ok(topic)
    }

    /// Refuses a topic that is not the one the archiver started with.
    pub(crate) fn check_topic(&self, found: &Topic) -> Result<(), ArchiveError> {
        let topic = self.topic.name.clone();
        if found.id != self.topic.id {
            return Err(ArchiveError::OtherLife { topic, expected: self.topic.id, found: found.id });
        }
        // Of a life that has ended, what lies in further partitions is given up: it was ended because of them.
        if found.partitions != self.topic.partitions && !self.ended {
            let (expected, found) = (self.topic.partitions, found.partitions);
            return Err(ArchiveError::PartitionCount { topic, expected, found });
        }
        Ok(())
    }

    /// Records on the log that are not stored yet. It grows while the store is away.
    pub(crate) fn report_lag(&self, number: u32, log_end: Offset) {
        let partition = self.topic.partition(number);
        let stored = self.options.handle.next_offset(&partition).unwrap_or_default();
        metrics::gauge!("twofold_archive_lag_records", "partition" => number.to_string())
            .set(log_end.distance_from(stored) as f64);
    }
}

/// Archives until `stop`, then stores what is buffered and returns.
///
/// # Errors
/// At the start when the ledger, the topic, the store or a partition's chain is not as it must be; later when the topic
/// changed, records were lost or something failed that is not understood. A log or a store that is away is no error: it
/// is tried again, counted and logged. All tasks end with the first that fails.
pub async fn run(
    options: Options,
    log: Arc<dyn Log>,
    objects: Objects,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> Result<(), ArchiveError> {
    let handle = options.handle.clone();
    let _run = handle.begin();
    options.check()?;
    let found = log.topic().await?;
    let books = ledger.read().await?;
    // By its id: a life that has ended, because another one was recorded since, may still be on the log with a tail that
    // is not stored. The batch takes what is stored of it until the next night.
    let known = books.lives().iter().find(|life| life.region == found.region && life.topic_id == found.id);
    let life = known.or_else(|| books.current_life(&found.region));
    let life = life.ok_or_else(|| ArchiveError::NoLife(found.region.to_string()))?;
    let ended = books.has_ended(life);
    // Of the lives that are over, whose topics may be gone, somebody has to record the end.
    let over = books.lives().iter().filter(|other| other.region == life.region && other.topic_id != life.topic_id);
    let over: Vec<TopicLife> = over.filter(|other| !ended && books.has_ended(other)).cloned().collect();
    let topic = Topic { id: life.topic_id, partitions: life.partitions, ..found.clone() };
    let rules = books.rules().clone();
    // Of its own, so that one task that fails stops the others without stopping whoever called.
    let stop = stop.child_token();
    let shared = Arc::new(Shared {
        memory: Memory::new(options.memory_bytes_max),
        options,
        log,
        objects,
        clock,
        topic,
        ended,
        questions: Questions::default(),
        rules,
        stop: stop.clone(),
    });
    shared.check_topic(&found)?;
    let owned = owned(&shared)?;
    shared.options.check_memory(owned.len())?;
    // A store that lets a second writer overwrite the first would void everything that is said here.
    probe(&shared.objects, &format!("archiver-{}", uuid::Uuid::new_v4())).await?;
    let workers = try_join_all(owned.iter().map(|number| Worker::open(shared.clone(), *number))).await?;
    handle.running();
    let mut tasks = JoinSet::new();
    for worker in workers {
        tasks.spawn(worker.run());
    }
    // Nobody waits for the coverage of a life that has ended, and a chain that goes on growing would never end. Its topic
    // is still asked for.
    let beating = if ended { Vec::new() } else { owned };
    if ended {
        tracing::warn!(topic = %shared.topic.id, "another topic was recorded since; archiving what this one still holds");
    }
    tasks.spawn(endings::run(shared.clone(), over));
    tasks.spawn(heartbeat::run(shared, beating));
    let mut result = Ok(());
    while let Some(ended) = tasks.join_next().await {
        // Also when one ends in good order: they all do so only once they are told to.
        stop.cancel();
        let ended = ended.unwrap_or_else(|error| Err(ArchiveError::Task(error.to_string())));
        if let Err(error) = &ended {
            tracing::error!(%error, "a task of the archiver failed, the others store what they hold");
        }
        result = result.and(ended);
    }
    result
}

fn owned(shared: &Shared) -> Result<Vec<u32>, ArchiveError> {
    let count = shared.topic.partitions;
    let mut owned = shared.options.partitions.clone().unwrap_or_else(|| (0..count).collect());
    // One put in flight per partition: a partition named twice must not have two workers.
    owned.sort_unstable();
    owned.dedup();
    match owned.iter().find(|number| **number >= count) {
        Some(number) => Err(ArchiveError::NoPartition { number: *number, count }),
        None => Ok(owned),
    }
}
