//! One partition: poll, buffer, cut, put, and on again from the end of the chain.
//!
//! Two archivers may work on one partition, one of them a zombie. Both read the same records, and an object's key is a
//! function of its first record, so they collide on the name and the create-only put lets one win. That is enough only
//! while a worker has **one put in flight**: the next object begins where a stored one ends, never where one was hoped
//! to end (scenario 10). Whoever loses drops its buffer and goes on behind the winner's object.

use std::sync::Arc;

use clicks::position::{Offset, PartitionId};
use clicks::time::Timestamp;
use clicks::watermark::AppendTime;
use platform::log::{Bounds, LogError, LogRecord, Reader};
use platform::objects::Created;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::archiver::{Begin, Shared};
use crate::chain::{Chain, Segment, read_chain_end, read_chain_from};
use crate::codec::{self, Encoded};
use crate::confirmed::Fetched;
use crate::cut::{Buffer, Cut, edge_after};
use crate::error::ArchiveError;
use crate::patience::patiently;

/// Objects whose footers are read at the start. Their contiguity is checked on the way; the batch checks all.
const START_SEGMENTS: usize = 16;

#[derive(Debug)]
pub(crate) struct Worker {
    shared: Arc<Shared>,
    number: u32,
    partition: PartitionId,
    /// The end of the chain: the last object that is known to be stored.
    chain: Chain,
    /// The next record to read.
    next: Offset,
    append_time: AppendTime,
    buffer: Buffer,
    /// What is in the buffer, by when it was fetched.
    fetched: Fetched,
    reader: Box<dyn Reader>,
    asked: watch::Receiver<u64>,
    /// The call to cut now that is to be answered, once everything before this offset is stored.
    target: Option<(u64, Offset)>,
}

enum Step {
    Records(Vec<LogRecord>),
    LogFailed(LogError),
    Due,
    Asked,
    Stop,
}

/// What became of the buffer.
#[derive(PartialEq, Eq)]
enum Stored {
    Ours,
    /// Another writer was faster; the position is now behind its object.
    Taken,
    /// The archiver stops and the store is away; the next start reads the records again.
    GaveUp,
}

impl Worker {
    /// Finds where to go on, and opens the log there.
    pub(crate) async fn open(shared: Arc<Shared>, number: u32) -> Result<Self, ArchiveError> {
        let partition = shared.topic.partition(number);
        let chain = read_chain_end(&shared.objects, &partition, START_SEGMENTS).await?;
        let next = position(&shared, &chain, shared.log.bounds(number).await?)?;
        let reader = shared.log.open(number, next).await?;
        let worker = Worker {
            number,
            partition,
            next,
            append_time: AppendTime::resume(chain.coverage().unwrap_or(Timestamp::MIN)),
            buffer: Buffer::new(shared.options.limits(), next_edge(&shared, &chain)),
            fetched: Fetched::default(),
            chain,
            reader,
            asked: shared.options.handle.asked(),
            target: None,
            shared,
        };
        tracing::info!(partition = %worker.partition, next_offset = %next, "archiving");
        worker.report();
        Ok(worker)
    }

    pub(crate) async fn run(mut self) -> Result<(), ArchiveError> {
        let ended = self.work().await;
        if let Err(error) = &ended {
            // Of a topic that is gone, the buffer is the only copy.
            tracing::error!(partition = %self.partition, %error, "ending, after storing what is buffered");
            self.store(Cut::Asked).await?;
        }
        ended
    }

    async fn work(&mut self) -> Result<(), ArchiveError> {
        loop {
            // Also after a put that was lost: the position may have moved past the target without any further record.
            self.answer().await?;
            match self.step().await {
                Step::Records(records) => self.take(records).await?,
                Step::LogFailed(error) => self.reopen(error).await?,
                Step::Due => self.store(Cut::Age).await.map(drop)?,
                Step::Asked => self.aim().await?,
                Step::Stop => {
                    self.store(Cut::Asked).await?;
                    return Ok(());
                }
            }
        }
    }

    async fn step(&mut self) -> Step {
        let Worker { shared, reader, buffer, asked, .. } = self;
        let options = &shared.options;
        let due = async {
            match buffer.due() {
                Some(time) => shared.clock.sleep_until(time).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => Step::Stop,
            // The handle is ours too, so its sender lives.
            _ = asked.changed() => Step::Asked,
            () = due => Step::Due,
            polled = reader.poll(options.poll_records_max, options.poll_wait) => match polled {
                Ok(records) => Step::Records(records),
                Err(error) => Step::LogFailed(error),
            },
        }
    }

    async fn take(&mut self, records: Vec<LogRecord>) -> Result<(), ArchiveError> {
        // After the fetch, so no question up to this one says anything about these records.
        let asked = self.shared.questions.asked();
        for record in records {
            if record.offset != self.next {
                let (partition, expected, found) = (self.partition.clone(), self.next, record.offset);
                return Err(ArchiveError::NotContiguous { partition, expected, found });
            }
            let append_time = self.append_time.observe(record.broker_time);
            let before = self.buffer.ends_before(append_time);
            // When the position changed, the rest of what was polled is of no use.
            if let Some(cut) = before
                && self.store(cut).await? != Stored::Ours
            {
                return Ok(());
            }
            self.next = record.offset.next();
            self.fetched.push(asked, self.next);
            let full = self.buffer.push(record, append_time, &self.shared.rules, self.shared.clock.now());
            if let Some(cut) = full
                && self.store(cut).await? != Stored::Ours
            {
                return Ok(());
            }
            if self.target.is_some() && !self.answer().await? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// Somebody asks that everything be stored that is on the log now.
    async fn aim(&mut self) -> Result<(), ArchiveError> {
        let number = *self.asked.borrow_and_update();
        let Shared { log, stop, .. } = &*self.shared;
        if let Some(bounds) = patiently("bounds", stop, || log.bounds(self.number)).await? {
            self.target = Some((number, bounds.end));
        }
        Ok(())
    }

    /// Answers a call once its offset is reached; false when the position changed.
    async fn answer(&mut self) -> Result<bool, ArchiveError> {
        let Some((number, _)) = self.target.filter(|(_, end)| self.next >= *end) else { return Ok(true) };
        if self.store(Cut::Asked).await? != Stored::Ours {
            return Ok(false);
        }
        self.target = None;
        self.shared.options.handle.answer(&self.partition, number);
        Ok(true)
    }

    /// Stores what is buffered as one object.
    async fn store(&mut self, cut: Cut) -> Result<Stored, ArchiveError> {
        if self.buffer.is_empty() {
            return Ok(Stored::Ours);
        }
        let (mut records, fetched) = (self.buffer.take(), std::mem::take(&mut self.fetched));
        let shared = self.shared.clone();
        // Between the last fetch and the put: had the topic been re-created before a record was fetched, its id is
        // another one by now, and nothing of the new life may enter the chain of the old (scenario 12).
        let refused = match patiently("topic", &shared.stop, || shared.ask_topic()).await {
            Ok(Some(topic)) => shared.check_topic(&topic).err(),
            Ok(None) => return Ok(self.give_up(records.len() as u64)),
            Err(error) => Some(error.into()),
        };
        let Some(refused) = refused else { return self.put(records, cut).await };
        let confirmed = fetched.confirmed(shared.questions.answered());
        records.retain(|(record, _)| record.offset < confirmed);
        if !records.is_empty() {
            self.put(records, cut).await?;
        }
        Err(refused)
    }

    async fn put(&mut self, records: Vec<(LogRecord, Timestamp)>, cut: Cut) -> Result<Stored, ArchiveError> {
        let shared = self.shared.clone();
        let (objects, stop) = (&shared.objects, &shared.stop);
        // Only the very first object is named after the place where its writer found the log to begin, and retention may
        // have moved that between the starts of two archivers. What remains is the time between this listing and the put:
        // two first objects that overlap are found by whoever reads the chain, and no night runs over them.
        if self.chain.next_offset().is_none() {
            let read = patiently("chain", stop, || read_chain_end(objects, &self.partition, START_SEGMENTS)).await?;
            let Some(chain) = read else { return Ok(self.give_up(records.len() as u64)) };
            if chain.next_offset().is_some() {
                tracing::warn!(partition = %self.partition, "another archiver began this chain; going on at its end");
                return self.go_on_after(chain).await;
            }
        }
        let (partition, writer) = (self.partition.clone(), shared.options.writer.clone());
        // The records are dropped with the closure, so what waits for a store that is away is the encoded object alone.
        let encoding = tokio::task::spawn_blocking(move || codec::encode(&partition, &writer, &records));
        let encoded = encoding.await.map_err(|error| ArchiveError::Task(error.to_string()))?;
        let encoded = encoded
            .map_err(|error| ArchiveError::Codec { partition: self.partition.clone(), source: Box::new(error) })?;
        let key = encoded.footer.key();
        let name = key.to_string();
        let begun = Instant::now();
        let created = patiently("put", stop, || objects.create(&name, encoded.bytes.clone())).await?;
        match created {
            None => Ok(self.give_up(encoded.footer.rows)),
            Some(Created::Ours) => {
                metrics::histogram!("twofold_archive_put_seconds").record(begun.elapsed().as_secs_f64());
                count(&encoded, cut);
                let bytes = encoded.bytes.len() as u64;
                self.chain.push(Segment { key, bytes, footer: encoded.footer })?;
                self.chain.keep_last(1);
                self.report();
                Ok(Stored::Ours)
            }
            Some(Created::Taken(_)) => {
                metrics::counter!("twofold_archive_taken_total").increment(1);
                tracing::warn!(object = name, "another archiver stored this object; going on behind it");
                self.go_behind(&encoded).await
            }
        }
    }

    /// Drops everything, reads the chain again from where it was known, and goes on at its end.
    async fn go_behind(&mut self, ours: &Encoded) -> Result<Stored, ArchiveError> {
        let shared = self.shared.clone();
        let start = ours.footer.start;
        let reading = || read_chain_from(&shared.objects, self.chain.clone());
        let read = patiently("chain", &shared.stop, reading).await?;
        let Some(chain) = read else { return Ok(self.give_up(ours.footer.rows)) };
        let end = chain.next_offset().unwrap_or_default();
        if end <= start {
            return Err(ArchiveError::NoProgress { partition: self.partition.clone(), start, end });
        }
        self.go_on_after(chain).await
    }

    /// Another archiver's objects are the end of the chain: nothing of ours is of use any more.
    async fn go_on_after(&mut self, chain: Chain) -> Result<Stored, ArchiveError> {
        self.chain = chain;
        self.chain.keep_last(1);
        self.append_time = AppendTime::resume(self.chain.coverage().unwrap_or(Timestamp::MIN));
        self.buffer = Buffer::new(self.shared.options.limits(), next_edge(&self.shared, &self.chain));
        self.fetched = Fetched::default();
        self.next = self.chain.next_offset().unwrap_or_default();
        self.report();
        self.open_reader().await?;
        Ok(Stored::Taken)
    }

    /// The reader failed. It is opened again at the next record, when that can help.
    async fn reopen(&mut self, error: LogError) -> Result<(), ArchiveError> {
        match error {
            LogError::Unavailable(reason) => {
                metrics::counter!("twofold_archive_retries_total", "operation" => "poll").increment(1);
                tracing::warn!(partition = %self.partition, reason, "reading failed, the log is opened again");
                self.open_reader().await
            }
            error => Err(self.fatal(error).await?),
        }
    }

    async fn open_reader(&mut self) -> Result<(), ArchiveError> {
        let Shared { log, stop, .. } = &*self.shared;
        match patiently("open", stop, || log.open(self.number, self.next)).await {
            Ok(Some(reader)) => self.reader = reader,
            // It stops; the old reader is not polled any more.
            Ok(None) => {}
            Err(error) => return Err(self.fatal(error).await?),
        }
        Ok(())
    }

    /// What a failure of the log comes to. A re-created topic looks like lost records, so its id is asked for first.
    async fn fatal(&mut self, error: LogError) -> Result<ArchiveError, ArchiveError> {
        self.shared.check_topic(&self.shared.log.topic().await?)?;
        Ok(match error {
            LogError::OutOfRange { available, .. } => lost(&self.partition, self.next, available),
            error => error.into(),
        })
    }

    fn give_up(&mut self, records: u64) -> Stored {
        // Who asked for a cut must not be told that it was made: the buffer is empty now, and nothing of it is stored.
        self.target = None;
        let partition = &self.partition;
        tracing::warn!(%partition, records, "stopping while the store or the log is away; the next start reads these again");
        Stored::GaveUp
    }

    fn report(&self) {
        let coverage = self.chain.coverage();
        // Nothing is stored before the first object, so the position is that of the next record then.
        let next_offset = self.chain.next_offset().unwrap_or(self.next);
        self.shared.options.handle.stored(&self.partition, next_offset, coverage);
        if let Some(coverage) = coverage {
            metrics::gauge!("twofold_archive_coverage_timestamp_seconds", "partition" => self.number.to_string())
                .set(coverage.as_millis() as f64 / 1_000.0);
        }
    }
}

/// The first edge that the stored records have not passed. The very first record of a partition passes one.
fn next_edge(shared: &Shared, chain: &Chain) -> Timestamp {
    chain.coverage().map_or(Timestamp::MIN, |coverage| edge_after(&shared.rules, coverage))
}

/// Where to go on.
fn position(shared: &Shared, chain: &Chain, bounds: Bounds) -> Result<Offset, ArchiveError> {
    match chain.next_offset() {
        Some(end) if (bounds.first..=bounds.end).contains(&end) => Ok(end),
        Some(end) => Err(lost(&chain.partition, end, bounds)),
        None if bounds.first == Offset::ZERO || shared.options.begin == Begin::AtFirst => Ok(bounds.first),
        None => Err(ArchiveError::EmptyChain {
            partition: chain.partition.clone(),
            store: shared.objects.url().to_owned(),
            first: bounds.first,
        }),
    }
}

fn lost(partition: &PartitionId, next: Offset, available: Bounds) -> ArchiveError {
    let partition = partition.clone();
    match next < available.first {
        true => ArchiveError::Gap { partition, from: next, to: available.first },
        false => ArchiveError::BeyondLog { partition, stored: next, end: available.end },
    }
}

fn count(encoded: &Encoded, cut: Cut) {
    for (kind, records) in clicks::layout::Kind::ALL.into_iter().zip(encoded.kinds) {
        metrics::counter!("twofold_archive_records_total", "kind" => kind.name()).increment(records);
    }
    metrics::counter!("twofold_archive_objects_total", "cut" => cut.name()).increment(1);
    metrics::counter!("twofold_archive_bytes_total").increment(encoded.bytes.len() as u64);
}
