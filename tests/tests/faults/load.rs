//! Clicks under way while something breaks: duplicates, late ones, garbage and heartbeats among them.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clicks::event::Click;
use clicks::id::{AdId, ClickId, UserId};
use clicks::time::{Span, Timestamp};
use clicks::wire;
use futures::future::join_all;
use platform::clock::{Clock, SystemClock};
use platform::log::{Appended, Header, KafkaLog, Log, LogError, NewRecord, Target};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TICK: Duration = Duration::from_millis(20);
const ADS: u32 = 40;

/// Makes records, and remembers what a retry would send again.
pub(crate) struct Sender {
    random: SmallRng,
    partitions: u32,
    sent: Vec<(AdId, ClickId)>,
    /// What was acknowledged.
    pub(crate) acknowledged: Vec<(Appended, NewRecord)>,
    /// Appends of which nobody knows what became.
    pub(crate) unknown: u64,
    /// How far the clock of the broker is moved.
    pub(crate) ahead: Span,
    /// Bytes that make each click longer than it must be.
    pub(crate) padding: usize,
}

impl Sender {
    pub(crate) fn new(seed: u64, partitions: u32) -> Self {
        let random = SmallRng::seed_from_u64(seed);
        Sender {
            random,
            partitions,
            sent: Vec::new(),
            acknowledged: Vec::new(),
            unknown: 0,
            ahead: Span::ZERO,
            padding: 0,
        }
    }

    pub(crate) async fn send(&mut self, log: &KafkaLog, number: usize) {
        let records: Vec<_> = (0..number).map(|_| self.record()).collect();
        let appends = records.iter().map(|(target, record)| log.append(*target, record.clone()));
        for (appended, (_, record)) in join_all(appends).await.into_iter().zip(&records) {
            match appended {
                Ok(appended) => self.acknowledged.push((appended, record.clone())),
                Err(LogError::Unavailable(_)) => self.unknown += 1,
                Err(error) => panic!("{error}"),
            }
        }
    }

    fn record(&mut self) -> (Target, NewRecord) {
        if self.random.random_range(0..50) == 0 {
            let header =
                Header { name: wire::HEADER_CONTROL.to_owned(), value: Some(Bytes::from_static(b"heartbeat")) };
            let beat = NewRecord { key: None, value: Some("{}".into()), headers: vec![header] };
            return (Target::Partition(self.random.random_range(0..self.partitions)), beat);
        }
        let new = (
            AdId::parse(&format!("ad-{}", self.random.random_range(0..ADS))).unwrap(),
            ClickId::from_u128(self.random.random()),
        );
        let (ad_id, click_id) = match self.random.random_range(0..100) {
            0..8 if !self.sent.is_empty() => self.sent[self.random.random_range(0..self.sent.len())].clone(),
            _ => new,
        };
        let age = match self.random.random_range(0..100) {
            0..3 => Span::minutes(11),
            3 => Span::days(3),
            4 => Span::minutes(-6),
            _ => Span::seconds(self.random.random_range(0..540)),
        };
        self.sent.push((ad_id.clone(), click_id));
        let key = Some(ad_id.as_str().to_owned().into());
        let value = match self.random.random_range(0..100) {
            0 => Some("no click".into()),
            1 => None,
            _ => Some(click(ad_id, click_id, SystemClock.now() + self.ahead - age, self.padding)),
        };
        (Target::Key, NewRecord { key, value, headers: Vec::new() })
    }
}

pub(crate) fn click(ad_id: AdId, click_id: ClickId, event_time: Timestamp, padding: usize) -> Bytes {
    let user_id = UserId::parse("u").unwrap();
    let value = wire::encode(&Click { click_id, ad_id, user_id, event_time });
    let Some(open) = value.strip_suffix('}').filter(|_| padding > 0) else { return value.into() };
    format!("{open},\"padding\":\"{}\"}}", "x".repeat(padding)).into()
}

/// A click of this ad, a few minutes old, so that its window changes no more unless another like it comes.
pub(crate) async fn send_old_click(log: &KafkaLog, ad: &str, age: Span) -> (Appended, Timestamp) {
    let (ad_id, event_time) = (AdId::parse(ad).unwrap(), SystemClock.now() - age);
    let value = Some(click(ad_id, ClickId::from_u128(rand::random()), event_time, 0));
    let record = NewRecord { key: Some(ad.to_owned().into()), value, headers: Vec::new() };
    (log.append(Target::Key, record).await.unwrap(), event_time)
}

/// Sends until it is told to stop.
pub(crate) struct Load {
    stop: CancellationToken,
    task: JoinHandle<Sender>,
}

impl Load {
    pub(crate) fn start(log: Arc<KafkaLog>, mut sender: Sender, per_second: usize) -> Self {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let number = (per_second * TICK.as_millis() as usize / 1_000).max(1);
        let task = tokio::spawn(async move {
            let mut ticks = tokio::time::interval(TICK);
            while !stopped.is_cancelled() {
                ticks.tick().await;
                sender.send(&log, number).await;
            }
            sender
        });
        Load { stop, task }
    }

    /// Nothing is under way any more afterwards.
    pub(crate) async fn stop(self) -> Sender {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}
