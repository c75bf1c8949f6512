//! The world of one history: clock, log, store, ledger, processes, and all that was ever appended.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clicks::books::Books;
use clicks::bugs::{self, Bug};
use clicks::control::HEARTBEAT;
use clicks::id::{Region, TopicId};
use clicks::ledger::{Body, Genesis};
use clicks::live::Generation;
use clicks::position::{Offset, PartitionId};
use clicks::rules::Rules;
use clicks::time::{Span, Timestamp};
use clicks::wire;
use counter::{CounterError, Generations, Options, Partitions, Retry};
use platform::clock::{Clock, SimulatedClock};
use platform::ledger::Ledger;
use platform::log::{Header, Log, LogRecord, MemoryLog, NewRecord, Target, Topic};
use platform::objects::Objects;
use platform::store::{LiveSlice, MemoryStore, Snapshot, SpeedStore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::control::{Control, LocalClock};
use crate::making::{self, first_day, noon};
use crate::oracle::{Judged, Oracle};
use crate::plan::{PROCESSES, Plan};
use crate::ports::{ProcessLog, ProcessStore};
use crate::trace::Trace;

/// How long a process may take to stop, in simulated time.
const STOP_MAX: Duration = Duration::from_secs(60);

/// The group of all processes, where they are in one.
pub(crate) const GROUP: &str = "speed";

pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) trace: Trace,
    pub(crate) clock: Arc<SimulatedClock>,
    pub(crate) log: MemoryLog,
    pub(crate) store: Arc<MemoryStore>,
    pub(crate) ledger: Ledger,
    pub(crate) books: Books,
    /// All lives of the topic, the last one is on the log now.
    pub(crate) lives: Vec<Life>,
    pub(crate) processes: [Option<Process>; PROCESSES],
    pub(crate) sent: Vec<Sent>,
    pub(crate) backup: Option<Snapshot>,
    pub(crate) generations: Arc<AtomicU64>,
    pub(crate) next_id: u128,
    cuts: BTreeMap<PartitionId, Offset>,
    starts: u64,
}

/// A click that was sent.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sent {
    pub(crate) partition: u32,
    pub(crate) ad: u8,
    pub(crate) id: u128,
    pub(crate) event: Timestamp,
    /// Append time of the last sighting.
    pub(crate) sighted: Timestamp,
}

/// One life of the topic.
pub(crate) struct Life {
    pub(crate) topic: Topic,
    pub(crate) partitions: Vec<Partition>,
}

/// All that was appended to a partition in one life, and what happened to what is stored of it.
#[derive(Default)]
pub(crate) struct Partition {
    pub(crate) records: Vec<LogRecord>,
    pub(crate) oracle: Oracle,
    /// Retention took everything before it.
    pub(crate) deleted_to: Offset,
    /// The same of all times.
    pub(crate) deletions: Vec<Offset>,
    /// The store went back once.
    pub(crate) went_back: bool,
    /// Generations of which something was lost.
    pub(crate) damaged: BTreeSet<Generation>,
    /// Generations below this one may have counted records from this offset on that are gone since an election.
    pub(crate) elected: Option<(u64, Offset)>,
}

impl Partition {
    /// Whoever begins behind a gap before this record cannot know how late it is: its append time was that of a lost one.
    pub(crate) fn is_timeless(&self, record: &Judged) -> bool {
        self.deletions.iter().any(|to| record.time_from < *to && *to <= record.offset)
    }
}

pub(crate) struct Process {
    task: JoinHandle<Result<(), CounterError>>,
    stop: CancellationToken,
    pub(crate) control: Arc<Control>,
    /// As bits.
    pub(crate) partitions: u8,
    topic: TopicId,
}

impl World {
    pub(crate) async fn new(plan: &Plan, with_text: bool) -> Self {
        let clock = Arc::new(SimulatedClock::new(noon()));
        let id = TopicId::from_u128(1);
        let log = MemoryLog::with_id(Region::parse("eu").unwrap(), "clicks", plan.partitions, clock.clone(), id);
        let topic = log.topic().await.unwrap();
        let ledger = Ledger::new(Objects::memory());
        let books = ledger.begin(Genesis { first_day: first_day(), rules: Rules::default() }).await.unwrap();
        let store = Arc::new(MemoryStore::new());
        store.overlook_expiries(bugs::is_on(Bug::OverlooksExpiry));
        let mut world = World {
            plan: plan.clone(),
            trace: Trace::begin(with_text),
            clock,
            log,
            store,
            ledger,
            books,
            lives: Vec::new(),
            processes: Default::default(),
            sent: Vec::new(),
            backup: None,
            generations: Arc::new(AtomicU64::new(1)),
            next_id: 1,
            cuts: BTreeMap::new(),
            starts: 0,
        };
        world.begin_life(topic);
        world.record_life().await;
        world
    }

    pub(crate) fn begin_life(&mut self, topic: Topic) {
        let partitions = (0..topic.partitions).map(|_| Partition::default()).collect();
        self.lives.push(Life { topic, partitions });
    }

    pub(crate) fn topic(&self) -> &Topic {
        &self.lives[self.lives.len() - 1].topic
    }

    pub(crate) fn partition(&mut self, number: u32) -> &mut Partition {
        let last = self.lives.len() - 1;
        &mut self.lives[last].partitions[number as usize]
    }

    pub(crate) fn id(&self, number: u32) -> PartitionId {
        self.topic().partition(number)
    }

    pub(crate) fn numbers(&self) -> std::ops::Range<u32> {
        0..self.plan.partitions
    }

    pub(crate) async fn publish(&mut self, body: Body) {
        self.ledger.publish(&mut self.books, body).await.unwrap();
    }

    /// The operator records the topic's life, as `twofold topic create` does.
    async fn record_life(&mut self) {
        if !self.is_recorded() {
            self.publish(Body::Topic(making::life(self.topic()))).await;
        }
    }

    fn is_recorded(&self) -> bool {
        self.books.current_life(&self.topic().region).is_some_and(|life| self.topic().is(life))
    }

    pub(crate) async fn append(&mut self, number: u32, value: Option<String>, headers: Vec<Header>) -> Timestamp {
        let record = NewRecord { key: None, value: value.map(Into::into), headers };
        let appended = self.log.append(Target::Partition(number), record.clone()).await.unwrap();
        let NewRecord { key, value, headers } = record;
        let record = LogRecord { offset: appended.offset, broker_time: appended.broker_time, key, value, headers };
        let last = self.lives.len() - 1;
        let partition = &mut self.lives[last].partitions[number as usize];
        partition.oracle.observe(&record, self.books.rules());
        partition.records.push(record);
        partition.oracle.judged[partition.oracle.judged.len() - 1].append_time
    }

    pub(crate) async fn heartbeat(&mut self, number: u32) {
        // No two are alike, or the log before and after an election could not be told apart.
        self.next_id += 1;
        let header = Header { name: wire::HEADER_CONTROL.to_owned(), value: Some(HEARTBEAT.into()) };
        self.append(number, Some(format!("{{\"n\":{}}}", self.next_id)), vec![header]).await;
    }

    /// Everything that is stored of a partition; nothing when the store plays a failure.
    pub(crate) async fn stored(&self, partition: &PartitionId) -> Option<LiveSlice> {
        self.store.read(partition, &making::all()).await.unwrap_or(None)
    }

    fn options(&self, partitions: u8) -> Options {
        let ms = Duration::from_millis;
        let all = (1 << self.plan.partitions) - 1;
        let chosen = self.numbers().filter(|number| partitions & 1 << number != 0).collect();
        Options {
            partitions: match partitions & all == all {
                _ if self.plan.in_group => Partitions::Group(GROUP.to_owned()),
                true => Partitions::All,
                false => Partitions::Fixed(chosen),
            },
            flush_interval: ms(self.plan.flush_millis),
            poll_max: self.plan.poll_max,
            sightings_max: self.plan.sightings_max,
            keep_closed: Span::hours(self.plan.keep_closed_hours),
            ledger_refresh: ms(40),
            scrub_interval: ms(100),
            store_retry: Retry { first: ms(1), max: ms(20) },
            generations: Generations::Numbered(self.generations.clone()),
        }
    }

    /// Starts a process that counts these partitions, or all if that is none of them.
    pub(crate) fn start(&mut self, number: usize, partitions: u8) {
        let all = (1 << self.plan.partitions) - 1;
        let partitions = if partitions & all == 0 || self.plan.in_group { all } else { partitions & all };
        self.starts += 1;
        let seed = self.plan.seed.wrapping_mul(1_000).wrapping_add(self.starts);
        let control = Control::new(number, seed, self.clock.clone(), self.trace.clone());
        let log = ProcessLog { inner: self.log.clone(), control: control.clone(), first_answer: Default::default() };
        let store = ProcessStore { inner: self.store.clone(), control: control.clone() };
        let clock = Arc::new(LocalClock(control.clone()));
        let stop = CancellationToken::new();
        let options = self.options(partitions);
        let run = counter::run(options, Arc::new(log), Arc::new(store), self.ledger.clone(), clock, stop.clone());
        let (task, topic) = (tokio::spawn(run), self.topic().id);
        self.trace.note((number, partitions), || format!("process {number} starts, partitions {partitions:b}"));
        self.processes[number] = Some(Process { task, stop, control, partitions, topic });
    }

    pub(crate) async fn kill(&mut self, number: usize) {
        let Some(process) = self.processes[number].take() else { return };
        process.task.abort();
        let _ = process.task.await;
        // The workers are tasks of their own, and are dropped when it is their turn.
        for _ in 0..3 {
            tokio::task::yield_now().await;
        }
        bugs::crash();
        self.trace.note(number, || format!("process {number} is dead"));
    }

    /// As SIGTERM does.
    pub(crate) async fn stop(&mut self, number: usize) -> Result<(), String> {
        let Some(mut process) = self.processes[number].take() else { return Ok(()) };
        process.control.pause(false);
        process.stop.cancel();
        let deadline = tokio::time::Instant::now() + STOP_MAX;
        while !process.task.is_finished() {
            if process.control.has_crashed() {
                process.task.abort();
                let _ = (&mut process.task).await;
                bugs::crash();
                return Ok(());
            }
            if tokio::time::Instant::now() > deadline {
                return Err(format!("process {number} does not stop"));
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let ended = process.task.await;
        bugs::crash();
        self.trace.note(number, || format!("process {number} stopped: {ended:?}"));
        match ended {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) if self.is_of_another_life(process.topic, &error) => Ok(()),
            ended => Err(format!("process {number} does not stop well: {ended:?}")),
        }
    }

    fn is_of_another_life(&self, started_in: TopicId, error: &CounterError) -> bool {
        match error {
            CounterError::TopicRecreated { before, .. } => *before >= started_in && *before != self.topic().id,
            // The operator had not recorded the life when it started.
            CounterError::ForeignTopic { .. } => self.lives.len() > 1,
            _ => false,
        }
    }

    /// Looks after the processes: none may end by itself, but for a topic that was created again. Then the operator
    /// records the new life and starts it again.
    pub(crate) async fn supervise(&mut self) -> Result<(), String> {
        for number in 0..PROCESSES {
            let Some(process) = &mut self.processes[number] else { continue };
            if process.control.has_crashed() {
                self.trace.count("a crash in a call");
                self.kill(number).await;
                continue;
            }
            if !process.task.is_finished() {
                continue;
            }
            let (partitions, topic) = (process.partitions, process.topic);
            let ended = (&mut process.task).await;
            self.processes[number] = None;
            bugs::crash();
            self.trace.note(number, || format!("process {number} ended: {ended:?}"));
            match ended {
                Ok(Err(error)) if self.is_of_another_life(topic, &error) => {
                    self.trace.count("another topic life");
                    self.record_life().await;
                    self.start(number, partitions);
                }
                ended => return Err(format!("process {number} ended by itself: {ended:?}")),
            }
        }
        Ok(())
    }

    pub(crate) fn generation(&self) -> u64 {
        self.generations.load(Ordering::Relaxed)
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The batch closes the next day at the ends of all lives, if it is over and the topic's life is recorded.
    pub(crate) async fn close_day(&mut self) {
        let is_over = self.books.rules().cut_time(self.books.next_night()) + Span::minutes(1) < self.now();
        if !is_over || !self.is_recorded() {
            return;
        }
        for life in &self.lives {
            for (number, partition) in (0..).zip(&life.partitions) {
                let cut = self.cuts.entry(life.topic.partition(number)).or_default();
                // A cut never goes back, not even after an election.
                *cut = (*cut).max(Offset::new(partition.records.len() as u64));
            }
        }
        let body = making::night(&self.books, self.cuts.clone(), self.now());
        self.publish(body).await;
    }
}
