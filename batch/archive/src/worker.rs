//! One partition: poll, buffer, cut, put, and on again from the end of the chain.
//!
//! Two archivers may work on one partition, one of them a zombie. Both read the same records, and an object's key is a
//! function of its first record, so they collide on the name and the create-only put lets one win. That is enough only
//! while a worker has **one put in flight**: the next object begins where a stored one ends, never where one was hoped
//! to end (scenario 10). Whoever loses drops what it holds and goes on behind the winner's object.
//!
//! While a put is under way, reading goes on, up to the bound of memory; what is cut meanwhile waits in a queue.

use std::collections::VecDeque;
use std::sync::Arc;

use clicks::position::{Offset, PartitionId};
use clicks::time::Timestamp;
use clicks::watermark::AppendTime;
use futures::FutureExt;
use futures::future::BoxFuture;
use platform::log::{LogError, LogRecord, Reader};
use tokio::sync::watch;

use crate::archiver::Shared;
use crate::chain::{Chain, Marks, read_chain_end};
use crate::confirmed::Fetched;
use crate::cut::{self, Buffer, Cut, edge_after};
use crate::endings::end_drained;
use crate::error::ArchiveError;
use crate::memory::Held;
use crate::patience::patiently;
use crate::settle::settle;
use crate::upload::{Batch, Known, Uploaded, upload};

/// Objects whose footers are read at the start. Their contiguity is checked on the way; the batch checks all.
const START_SEGMENTS: usize = 16;

pub(crate) struct Worker {
    shared: Arc<Shared>,
    number: u32,
    partition: PartitionId,
    /// The end of the chain: the last object that is known to be stored.
    known: Known,
    /// The next record to read.
    next: Offset,
    append_time: AppendTime,
    buffer: Buffer,
    /// What is in the buffer, by when it was fetched.
    fetched: Fetched,
    /// The memory of the buffer.
    held: Held,
    /// What is cut and waits for the put before it.
    queue: VecDeque<Batch>,
    uploading: Option<BoxFuture<'static, Result<Uploaded, ArchiveError>>>,
    /// `None` when the next record is not on the log any more.
    reader: Option<Box<dyn Reader>>,
    asked: watch::Receiver<u64>,
    /// The call to cut now that is to be answered, once everything before this offset is stored.
    target: Option<(u64, Offset)>,
    /// When to look whether a life that is over has come to its end.
    end_due: Timestamp,
}

enum Step {
    Records(Vec<LogRecord>, Held),
    LogFailed(LogError),
    Uploaded(Box<Result<Uploaded, ArchiveError>>),
    Cut(Cut),
    Asked,
    /// The next record is lost, and everything before it is stored.
    Lost,
    /// Nothing has come for long, in a life that is over.
    Quiet,
    Stop,
}

impl Worker {
    /// Finds where to go on, and opens the log there.
    pub(crate) async fn open(shared: Arc<Shared>, number: u32) -> Result<Self, ArchiveError> {
        let partition = shared.topic.partition(number);
        let chain = read_chain_end(&shared.objects, &partition, START_SEGMENTS).await?;
        let mut worker = Worker {
            number,
            partition,
            next: Offset::ZERO,
            append_time: AppendTime::resume(Timestamp::MIN),
            buffer: Buffer::new(shared.options.limits(), Timestamp::MIN),
            fetched: Fetched::default(),
            held: shared.memory.nothing(),
            queue: VecDeque::new(),
            uploading: None,
            known: Known { chain, marks: Marks::default() },
            reader: None,
            asked: shared.options.handle.asked(),
            target: None,
            end_due: shared.clock.now(),
            shared,
        };
        worker.go_on().await?;
        tracing::info!(partition = %worker.partition, next_offset = %worker.next, "archiving");
        Ok(worker)
    }

    pub(crate) async fn run(mut self) -> Result<(), ArchiveError> {
        let ended = self.work().await;
        if let Err(error) = &ended {
            // Of a topic that is gone, the buffer is the only copy.
            tracing::error!(partition = %self.partition, %error, "ending, after storing what is buffered");
        }
        ended.and(self.store_all().await)
    }

    async fn work(&mut self) -> Result<(), ArchiveError> {
        loop {
            self.answer();
            self.start_upload();
            match self.step().await {
                Step::Records(records, held) => self.take(records, held)?,
                Step::LogFailed(error) => self.reopen(error).await?,
                Step::Uploaded(done) => match *done {
                    Ok(done) => self.uploaded(done).await?,
                    Err(error) => {
                        // What follows on what is not stored must not be stored either.
                        self.drop_all();
                        return Err(error);
                    }
                },
                Step::Cut(cut) => self.cut(cut),
                Step::Asked => self.aim().await?,
                Step::Lost => self.go_on().await?,
                Step::Quiet => self.end().await?,
                Step::Stop => return Ok(()),
            }
        }
    }

    async fn step(&mut self) -> Step {
        let idle = self.uploading.is_none();
        let end_due = self.end_due();
        let Worker { shared, reader, buffer, asked, uploading, .. } = self;
        let options = &shared.options;
        let poll_held = options.poll_held();
        if reader.is_none() && buffer.is_empty() && idle && !shared.stop.is_cancelled() {
            return Step::Lost;
        }
        let due = async {
            match buffer.due() {
                // While a put is under way, a further object would only wait, and the buffer may as well grow.
                Some(time) if idle => shared.clock.sleep_until(time).await,
                _ => std::future::pending().await,
            }
        };
        let quiet = async {
            match end_due {
                Some(time) => shared.clock.sleep_until(time).await,
                None => std::future::pending().await,
            }
        };
        let number = self.number;
        let polled = async {
            let Some(reader) = reader.as_mut() else { return std::future::pending().await };
            let held = room(shared, number, poll_held).await;
            match reader.poll_within(options.poll_records_max, options.poll_bytes_max, options.poll_wait).await {
                Ok(records) => Step::Records(records, held),
                Err(error) => Step::LogFailed(error),
            }
        };
        let done = async {
            match uploading.as_mut() {
                Some(uploading) => uploading.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => Step::Stop,
            done = done => {
                self.uploading = None;
                Step::Uploaded(Box::new(done))
            }
            // The handle is ours too, so its sender lives.
            _ = asked.changed() => Step::Asked,
            () = due => Step::Cut(Cut::Age),
            () = quiet => Step::Quiet,
            // All partitions together hold what they may: what is here becomes an object early, so that they go on.
            () = std::future::ready(()), if idle && buffer.bytes() >= poll_held && !shared.memory.has_room(poll_held) => {
                Step::Cut(Cut::Memory)
            }
            step = polled => step,
        }
    }

    fn take(&mut self, records: Vec<LogRecord>, mut held: Held) -> Result<(), ArchiveError> {
        // After the fetch, so no question up to this one says anything about these records.
        let asked = self.shared.questions.asked();
        held.resize(records.iter().map(cut::size).sum());
        for record in records {
            if record.offset != self.next {
                let (partition, expected, found) = (self.partition.clone(), self.next, record.offset);
                return Err(ArchiveError::NotContiguous { partition, expected, found });
            }
            let append_time = self.append_time.observe(record.broker_time);
            if let Some(cut) = self.buffer.ends_before(append_time) {
                self.cut(cut);
            }
            self.next = record.offset.next();
            self.fetched.push(asked, self.next);
            self.held.take_from(&mut held, cut::size(&record));
            let full = self.buffer.push(record, append_time, &self.shared.rules, self.shared.clock.now());
            let asked = || self.target.filter(|(_, end)| self.next == *end).map(|_| Cut::Asked);
            if let Some(cut) = full.or_else(asked) {
                self.cut(cut);
            }
        }
        Ok(())
    }

    /// What is buffered becomes an object, as soon as those before it are stored.
    fn cut(&mut self, cut: Cut) {
        if self.buffer.is_empty() {
            return;
        }
        let (records, fetched, held) = (self.buffer.take(), std::mem::take(&mut self.fetched), self.held.take());
        self.queue.push_back(Batch { records, fetched, cut, held });
    }

    fn start_upload(&mut self) {
        if self.uploading.is_none()
            && let Some(batch) = self.queue.pop_front()
        {
            self.uploading = Some(upload(self.shared.clone(), self.known.clone(), batch).boxed());
        }
    }

    async fn uploaded(&mut self, done: Uploaded) -> Result<(), ArchiveError> {
        match done {
            Uploaded::Stored(known) => {
                self.known = *known;
                self.report();
                Ok(())
            }
            Uploaded::Moved(known) => {
                self.known = *known;
                self.go_on().await
            }
            Uploaded::Refused { known, is_whole, reason } => {
                self.known = *known;
                self.report();
                if !is_whole {
                    self.drop_all();
                }
                Err(reason)
            }
            Uploaded::GaveUp { records } => {
                self.give_up(records);
                Ok(())
            }
        }
    }

    /// Before the end: stores what is held, one object after the other, until one is not.
    async fn store_all(&mut self) -> Result<(), ArchiveError> {
        self.cut(Cut::Asked);
        loop {
            self.start_upload();
            let Some(uploading) = self.uploading.take() else { return Ok(()) };
            match uploading.await? {
                Uploaded::Stored(known) => {
                    self.known = *known;
                    self.report();
                    self.answer();
                }
                // Somebody else has these records, and goes on.
                Uploaded::Moved(_) => return Ok(()),
                refused @ Uploaded::Refused { is_whole: true, .. } if !self.queue.is_empty() => {
                    // What was fetched before the topic changed is wanted, up to the last of it.
                    let _ = self.uploaded(refused).await;
                }
                done => return self.uploaded(done).await,
            }
        }
    }

    /// Somebody asks that everything be stored that is on the log now.
    async fn aim(&mut self) -> Result<(), ArchiveError> {
        let number = *self.asked.borrow_and_update();
        let Shared { log, stop, .. } = &*self.shared;
        if let Some(bounds) = patiently("bounds", stop, || log.bounds(self.number)).await? {
            self.target = Some((number, bounds.end));
            if self.next >= bounds.end {
                self.cut(Cut::Asked);
            }
        }
        Ok(())
    }

    /// Only a life that another one follows ends, and only once.
    fn end_due(&self) -> Option<Timestamp> {
        let waits = self.shared.ended && self.uploading.is_none() && self.known.chain.end.is_none();
        let last = self.append_time.last();
        let quiet = if last == Timestamp::MIN { last } else { last + self.shared.options.end_after };
        waits.then(|| self.end_due.max(quiet))
    }

    /// Records the end of a life that is over, if everything that its log holds is stored.
    async fn end(&mut self) -> Result<(), ArchiveError> {
        // Should it not be, it is looked at again later.
        self.end_due = self.shared.clock.now() + self.shared.options.heartbeat_interval;
        self.cut(Cut::Asked);
        let shared = self.shared.clone();
        let bounds = patiently("bounds", &shared.stop, || shared.log.bounds(self.number)).await?;
        let Some(bounds) = bounds.filter(|bounds| bounds.end == self.stored()) else { return Ok(()) };
        // After the bounds, which would be those of another life otherwise.
        let Some(topic) = patiently("topic", &shared.stop, || shared.ask_topic()).await? else { return Ok(()) };
        shared.check_topic(&topic)?;
        if let Some(end) = end_drained(&shared, &self.known.chain, bounds.end).await? {
            self.known.chain.end = Some(end);
        }
        Ok(())
    }

    /// Answers a call once everything before its offset is stored.
    fn answer(&mut self) {
        if let Some((number, _)) = self.target.filter(|(_, end)| self.stored() >= *end) {
            self.target = None;
            self.shared.options.handle.answer(&self.partition, number);
        }
    }

    /// Everything before this offset is stored or recorded as lost.
    fn stored(&self) -> Offset {
        self.known.chain.next_offset().unwrap_or_default()
    }

    fn drop_all(&mut self) {
        self.queue.clear();
        self.fetched = Fetched::default();
        self.held.resize(0);
        let coverage = self.known.chain.coverage();
        self.append_time = AppendTime::resume(coverage.unwrap_or(Timestamp::MIN));
        self.buffer = Buffer::new(self.shared.options.limits(), next_edge(&self.shared, &self.known.chain));
        self.next = self.stored();
    }

    /// The chain ends elsewhere than was known: nothing that is held is of use any more. What is lost is recorded.
    async fn go_on(&mut self) -> Result<(), ArchiveError> {
        let shared = self.shared.clone();
        (self.reader, self.queue) = (None, VecDeque::new());
        self.drop_all();
        // It stops when there is no answer, and the old reader is not polled any more.
        if settle(&shared, self.number, &mut self.known).await?.is_none() {
            return Ok(());
        }
        self.known.chain.keep_last(1);
        self.drop_all();
        self.report();
        self.open_reader().await
    }

    /// The reader failed. It is opened again at the next record, when that can help.
    async fn reopen(&mut self, error: LogError) -> Result<(), ArchiveError> {
        match error {
            LogError::Unavailable(reason) => {
                metrics::counter!("twofold_archive_retries_total", "operation" => "poll").increment(1);
                tracing::warn!(partition = %self.partition, reason, "reading failed, the log is opened again");
                self.open_reader().await
            }
            error => self.unreadable(error).await,
        }
    }

    async fn open_reader(&mut self) -> Result<(), ArchiveError> {
        let Shared { log, stop, .. } = &*self.shared;
        match patiently("open", stop, || log.open(self.number, self.next)).await {
            Ok(Some(reader)) => self.reader = Some(reader),
            // It stops; the old reader is not polled any more.
            Ok(None) => {}
            Err(error) => return self.unreadable(error).await,
        }
        Ok(())
    }

    /// The next record is not on the log, or the log failed. A re-created topic looks like lost records, so it is asked for
    /// first. Before what is lost is recorded, everything before it is stored.
    async fn unreadable(&mut self, error: LogError) -> Result<(), ArchiveError> {
        let shared = self.shared.clone();
        match patiently("topic", &shared.stop, || shared.ask_topic()).await? {
            Some(topic) => shared.check_topic(&topic)?,
            None => self.reader = None,
        }
        match error {
            LogError::OutOfRange { available, .. } if self.next < available.first => {
                self.reader = None;
                self.cut(Cut::Gap);
                Ok(())
            }
            LogError::OutOfRange { available, .. } => {
                let (partition, stored, end) = (self.partition.clone(), self.next, available.end);
                Err(ArchiveError::BeyondLog { partition, stored, end })
            }
            error => Err(error.into()),
        }
    }

    fn give_up(&mut self, records: u64) {
        // Who asked for a cut must not be told that it was made: nothing of what was held is stored.
        self.target = None;
        self.drop_all();
        let partition = &self.partition;
        tracing::warn!(%partition, records, "stopping while the store or the log is away; the next start reads these again");
    }

    fn report(&self) {
        let coverage = self.known.chain.coverage();
        self.shared.options.handle.stored(&self.partition, self.stored(), coverage);
        if let Some(coverage) = coverage {
            metrics::gauge!("twofold_archive_coverage_timestamp_seconds", "partition" => self.number.to_string())
                .set(coverage.as_millis() as f64 / 1_000.0);
        }
    }
}

/// Memory for one poll. While there is none nothing is read, and the lag grows.
async fn room(shared: &Shared, number: u32, bytes: u64) -> Held {
    let _stopped = (!shared.memory.has_room(bytes)).then(|| Stopped::new(number));
    shared.memory.reserve(bytes).await
}

/// A partition is not read because there is no memory for it. Dropping it tells the opposite, also when waiting is given up.
struct Stopped(metrics::Gauge);

impl Stopped {
    fn new(number: u32) -> Self {
        let gauge = metrics::gauge!("twofold_archive_reading_stopped", "partition" => number.to_string());
        gauge.set(1.0);
        Stopped(gauge)
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        self.0.set(0.0);
    }
}

/// The first edge that the stored records have not passed. The very first record of a partition passes one.
fn next_edge(shared: &Shared, chain: &Chain) -> Timestamp {
    chain.coverage().map_or(Timestamp::MIN, |coverage| edge_after(&shared.rules, coverage))
}
