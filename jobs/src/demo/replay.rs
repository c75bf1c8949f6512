//! A broker whose clock can be held: each click of a file is stamped with the time at which it arrived.
//!
//! Clicks of a file are sent in batches, or a million lines would take a million round trips. While a batch is under
//! way the broker's clock stands at the arrival of the click that is being appended; otherwise it is the demo's clock.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use clicks::id::{ClickId, Region};
use clicks::position::Offset;
use clicks::time::Timestamp;
use clicks::wire;
use platform::clock::Clock;
use platform::log::{Appended, Bounds, Log, LogError, Membership, MemoryLog, NewRecord, Reader, Target, Topic};

/// The clock of the demo's broker.
#[derive(Debug)]
struct BrokerClock {
    demo: Arc<dyn Clock>,
    held: Mutex<Option<Timestamp>>,
}

#[async_trait]
impl Clock for BrokerClock {
    fn now(&self) -> Timestamp {
        lock(&self.held).unwrap_or_else(|| self.demo.now())
    }
    async fn sleep_until(&self, time: Timestamp) {
        self.demo.sleep_until(time).await;
    }
}

/// The demo's topic.
#[derive(Debug)]
pub struct ReplayLog {
    inner: MemoryLog,
    broker: Arc<BrokerClock>,
    /// Clicks of the batch that is under way and when each arrived, in order.
    arrivals: Mutex<VecDeque<(ClickId, Timestamp)>>,
}

impl ReplayLog {
    pub fn new(region: Region, partitions: u32, demo: Arc<dyn Clock>) -> Self {
        let broker = Arc::new(BrokerClock { demo, held: Mutex::new(None) });
        ReplayLog {
            inner: MemoryLog::new(region, "clicks", partitions, broker.clone()),
            broker,
            arrivals: Mutex::new(VecDeque::new()),
        }
    }

    /// Holds the broker's clock at the arrival of the first of these clicks, then of each as it is appended.
    pub fn hold(&self, batch: impl Iterator<Item = (ClickId, Timestamp)>) {
        let mut arrivals = lock(&self.arrivals);
        arrivals.extend(batch);
        *lock(&self.broker.held) = arrivals.front().map(|(_, arrival)| *arrival);
    }

    /// The batch is done: the broker's clock is the demo's again.
    pub fn release(&self) {
        lock(&self.arrivals).clear();
        *lock(&self.broker.held) = None;
    }

    /// Moves the held clock to the arrival of this record, if it is one of the batch.
    fn arrive(&self, record: &NewRecord) {
        let mut arrivals = lock(&self.arrivals);
        if arrivals.is_empty() || record.headers.iter().any(|header| header.name == wire::HEADER_CONTROL) {
            return;
        }
        let Ok(click) = wire::decode(record.value.as_deref()) else { return };
        // The collector keeps the order and may leave some out.
        if let Some(place) = arrivals.iter().position(|(id, _)| *id == click.click_id) {
            *lock(&self.broker.held) = Some(arrivals[place].1);
            arrivals.drain(..=place);
        }
    }
}

#[async_trait]
impl Log for ReplayLog {
    async fn topic(&self) -> Result<Topic, LogError> {
        self.inner.topic().await
    }
    async fn append(&self, target: Target, record: NewRecord) -> Result<Appended, LogError> {
        self.arrive(&record);
        self.inner.append(target, record).await
    }
    async fn bounds(&self, partition: u32) -> Result<Bounds, LogError> {
        self.inner.bounds(partition).await
    }
    async fn offset_at(&self, partition: u32, time: Timestamp) -> Result<Option<Offset>, LogError> {
        self.inner.offset_at(partition, time).await
    }
    async fn open(&self, partition: u32, from: Offset) -> Result<Box<dyn Reader>, LogError> {
        self.inner.open(partition, from).await
    }
    async fn join(&self, group: &str) -> Result<Box<dyn Membership>, LogError> {
        self.inner.join(group).await
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
