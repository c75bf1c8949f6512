//! Log and store as one process sees them: calls take time, hang, or are the last thing that the process does. Some of the
//! bugs that can be switched on live here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use clicks::bugs::{Bug, is_on};
use clicks::live::{Expected, Flush, FlushOutcome, Loaded, Stage};
use clicks::position::{Offset, PartitionId};
use clicks::rules::RulesBook;
use clicks::time::{Span, Timestamp};
use clicks::window::Hour;
use platform::log::{
    Appended, Bounds, Log, LogError, LogRecord, Membership, MemoryLog, NewRecord, Reader, Target, Topic,
};
use platform::store::{LiveQuery, LiveSlice, MemoryStore, Part, SpeedStore, StoreError};

use crate::control::{Control, Fault};
use crate::making;

/// How long an hour is stored by a store whose keys have a time to live.
const TIME_TO_LIVE: Span = Span::minutes(30);

#[derive(Debug)]
pub(crate) struct ProcessLog {
    pub(crate) inner: MemoryLog,
    pub(crate) control: Arc<Control>,
    pub(crate) first_answer: Mutex<Option<Topic>>,
}

#[derive(Debug)]
struct ProcessReader {
    inner: Box<dyn Reader>,
    control: Arc<Control>,
    /// Read, but not handed over yet: dropping the future of a call loses nothing.
    ready: Vec<LogRecord>,
}

#[async_trait]
impl Log for ProcessLog {
    async fn topic(&self) -> Result<Topic, LogError> {
        self.control.way().await;
        let mut answer = self.inner.topic().await?;
        if is_on(Bug::TopicNotAsked) {
            answer = self.first_answer.lock().unwrap().get_or_insert(answer).clone();
        }
        self.control.way().await;
        Ok(answer)
    }

    async fn append(&self, target: Target, record: NewRecord) -> Result<Appended, LogError> {
        self.inner.append(target, record).await
    }

    async fn join(&self, group: &str) -> Result<Box<dyn Membership>, LogError> {
        self.inner.join(group).await
    }

    async fn bounds(&self, partition: u32) -> Result<Bounds, LogError> {
        self.control.way().await;
        let bounds = self.inner.bounds(partition).await;
        self.control.running().await;
        bounds
    }

    async fn offset_at(&self, partition: u32, time: Timestamp) -> Result<Option<Offset>, LogError> {
        self.control.way().await;
        let found = self.inner.offset_at(partition, time).await;
        self.control.running().await;
        found
    }

    async fn open(&self, partition: u32, from: Offset) -> Result<Box<dyn Reader>, LogError> {
        self.control.way().await;
        let first = self.inner.bounds(partition).await?.first;
        let from = if is_on(Bug::JumpsOverGap) { from.max(first) } else { from };
        let inner = self.inner.open(partition, from).await?;
        Ok(Box::new(ProcessReader { inner, control: self.control.clone(), ready: Vec::new() }))
    }
}

#[async_trait]
impl Reader for ProcessReader {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Vec<LogRecord>, LogError> {
        if self.ready.is_empty() {
            self.control.running().await;
            self.ready = self.inner.poll(max, wait).await?;
        }
        if !self.ready.is_empty() {
            self.control.way().await;
            let (first, last) = (self.ready[0].offset, self.ready[self.ready.len() - 1].offset);
            self.control.trace.note((self.control.number, first.value(), last.value()), || {
                format!("process {} reads {first} to {last}", self.control.number)
            });
        }
        Ok(std::mem::take(&mut self.ready))
    }
}

#[derive(Debug)]
pub(crate) struct ProcessStore {
    pub(crate) inner: Arc<MemoryStore>,
    pub(crate) control: Arc<Control>,
}

impl ProcessStore {
    async fn call<T>(&self, call: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        self.control.way().await;
        let lost = || Err(StoreError::Unavailable("the reply was lost".to_owned()));
        let fault = self.control.next_call();
        match fault {
            Some((Fault::Die, false)) => return self.control.die().await,
            Some((Fault::Pause, false)) => {
                self.control.pause(true);
                self.control.running().await;
            }
            Some((Fault::NoReply, false)) => return lost(),
            _ => {}
        }
        let answer = call.await;
        match fault {
            Some((Fault::Die, true)) => return self.control.die().await,
            Some((Fault::Pause, true)) => {
                self.control.pause(true);
                self.control.running().await;
            }
            Some((Fault::NoReply, true)) => return lost(),
            _ => {}
        }
        self.control.way().await;
        answer
    }

    fn note<T>(
        &self,
        what: &str,
        partition: &PartitionId,
        answer: &Result<T, StoreError>,
        text: impl FnOnce() -> String,
    ) {
        let event = (self.control.number, what, partition.number, answer.is_ok());
        if answer.is_err() {
            self.control.trace.count("a failed call");
        }
        self.control.trace.note(event, || {
            let answer = answer.as_ref().err().map_or_else(String::new, |error| format!(": {error}"));
            format!("process {} {what} p{} {}{answer}", self.control.number, partition.number, text())
        });
    }

    async fn read_all(&self, partition: &PartitionId) -> Result<Option<LiveSlice>, StoreError> {
        self.inner.read(partition, &making::all()).await
    }

    /// What a store without validation before the first write does when a script fails in the middle.
    async fn half(&self, partition: &PartitionId, flush: &Flush) -> Result<FlushOutcome, StoreError> {
        if let Some(slice) = self.read_all(partition).await?.filter(|slice| slice.generation == flush.generation) {
            let counts = flush.counts.iter().take(flush.counts.len().div_ceil(2)).cloned().collect();
            let generation = slice.generation;
            let half = Flush { meta: slice.meta, counts, generation, late: Vec::new(), ..flush.clone() };
            self.inner.flush(partition, &half).await?;
        }
        Err(StoreError::Unavailable("the script failed in the middle".to_owned()))
    }

    async fn expire_keys(&self, partition: &PartitionId) -> Result<(), StoreError> {
        if let Some(slice) = self.read_all(partition).await? {
            let hours = slice.counts.iter().map(|(key, _)| key.minute.hour());
            let limit = Hour::of(slice.meta.append_time - TIME_TO_LIVE);
            hours.filter(|hour| *hour < limit).for_each(|hour| _ = self.inner.delete_hour(partition, hour));
        }
        Ok(())
    }

    async fn write(&self, partition: &PartitionId, flush: &Flush) -> Result<FlushOutcome, StoreError> {
        if is_on(Bug::HalfFlush) && self.control.draw(4) == 0 {
            return self.half(partition, flush).await;
        }
        if is_on(Bug::IgnoresExpected)
            && let Some(slice) = self.read_all(partition).await?.filter(|slice| !slice.is_in_doubt)
        {
            let expected = Expected::At { generation: slice.generation, next_offset: slice.meta.next_offset };
            return self.inner.flush(partition, &Flush { expected, ..flush.clone() }).await;
        }
        let outcome = self.inner.flush(partition, flush).await;
        if is_on(Bug::TimeToLive) {
            self.expire_keys(partition).await?;
        }
        outcome
    }
}

#[async_trait]
impl SpeedStore for ProcessStore {
    fn max_changes(&self) -> usize {
        self.inner.max_changes()
    }

    async fn load(&self, partition: &PartitionId, rules: &RulesBook) -> Result<Option<Loaded>, StoreError> {
        let answer = self.call(self.inner.load(partition, rules)).await;
        self.note("loads", partition, &answer, || match &answer {
            Ok(Some(loaded)) => format!("{:?} of {}", loaded.meta.next_offset, loaded.generation.as_u128()),
            _ => String::new(),
        });
        answer
    }

    async fn flush(&self, partition: &PartitionId, flush: &Flush) -> Result<FlushOutcome, StoreError> {
        let answer = self.call(self.write(partition, flush)).await;
        match &answer {
            Ok(FlushOutcome::Mismatch { .. }) => self.control.trace.count("a mismatch"),
            Ok(FlushOutcome::Applied) if flush.stage == Stage::Beside => {
                self.control.trace.count("a flush beside the live generation");
            }
            Err(StoreError::Unavailable(why)) if why.contains("lost reply") => self.control.trace.count("a lost reply"),
            _ => {}
        }
        let written: BTreeMap<_, _> = flush.counts.iter().cloned().collect();
        let event = (flush.generation, flush.meta.next_offset.value(), written.into_iter().collect::<Vec<_>>());
        self.control.trace.note(event, String::new);
        self.note("flushes", partition, &answer, || {
            let (to, generation) = (flush.meta.next_offset, flush.generation.as_u128());
            format!("{:?} to {to} of {generation}: {answer:?}", flush.expected)
        });
        answer
    }

    async fn read(&self, partition: &PartitionId, query: &LiveQuery) -> Result<Option<LiveSlice>, StoreError> {
        let answer = self.call(self.inner.read(partition, query)).await;
        self.note("reads", partition, &answer, String::new);
        answer
    }

    async fn read_part(&self, partition: &PartitionId, part: &Part) -> Result<Option<LiveSlice>, StoreError> {
        // A scrub makes many calls of this kind; that one of them takes time now and then is enough.
        self.control.running().await;
        match self.control.draw(16) {
            0 if !self.control.is_prompt() => self.call(self.inner.read_part(partition, part)).await,
            _ => self.inner.read_part(partition, part).await,
        }
    }

    async fn sweep(&self, partition: &PartitionId) -> Result<u64, StoreError> {
        let answer = self.call(self.inner.sweep(partition)).await;
        self.note("sweeps", partition, &answer, String::new);
        answer
    }

    async fn check(&self) -> Result<(), StoreError> {
        self.call(self.inner.check()).await
    }
}
