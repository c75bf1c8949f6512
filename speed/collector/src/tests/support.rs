//! A log that can be told to misbehave, and small clients.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Request};
use clicks::id::Region;
use clicks::ledger::TopicLife;
use clicks::position::Offset;
use clicks::time::Timestamp;
use platform::clock::SimulatedClock;
use platform::log::{Appended, Bounds, Log, LogError, LogRecord, MemoryLog, NewRecord, Reader, Target, Topic};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::{Collector, CollectorError, Intake, Options, router};

pub(super) const NOW: &str = "2026-03-01T12:00:00Z";
const PARTITIONS: u32 = 4;

/// How [`TestLog`] treats appends, for those that wait as well as for those to come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    Well,
    /// Appends wait until the mood changes.
    Hangs,
    /// Appends of this ad wait, all others go through.
    HangsFor(&'static str),
    /// Nothing is reached: not the topic either.
    Away,
    TooLarge,
    Broken,
    NoTopic,
}

/// The log in memory behind a mood.
#[derive(Debug)]
pub(super) struct TestLog {
    memory: MemoryLog,
    mood: watch::Sender<Mood>,
    pub(super) begun: AtomicUsize,
    pub(super) written: AtomicUsize,
}

impl TestLog {
    pub(super) fn new(mood: Mood) -> Arc<Self> {
        let region = Region::parse("eu").unwrap();
        let memory = MemoryLog::new(region, "clicks", PARTITIONS, clock());
        Arc::new(TestLog {
            memory,
            mood: watch::Sender::new(mood),
            begun: AtomicUsize::new(0),
            written: AtomicUsize::new(0),
        })
    }

    /// As the ledger knows it.
    pub(super) async fn life(&self) -> TopicLife {
        let Topic { region, name, id, partitions } = self.memory.topic().await.unwrap();
        TopicLife { region, topic_id: id, name, partitions }
    }

    /// The topic is deleted and created again.
    pub(super) fn recreate(&self) {
        self.memory.recreate(PARTITIONS);
    }

    pub(super) fn turn(&self, mood: Mood) {
        self.mood.send_replace(mood);
    }

    /// Everything on the log, partition by partition.
    pub(super) async fn records(&self) -> Vec<LogRecord> {
        let mut all = Vec::new();
        for partition in 0..PARTITIONS {
            let mut reader = self.memory.open(partition, Offset::ZERO).await.unwrap();
            let left = self.memory.bounds(partition).await.unwrap().end.value() as usize;
            let end = all.len() + left;
            while all.len() < end {
                all.extend(reader.poll(10_000, Duration::from_secs(1)).await.unwrap());
            }
        }
        all
    }

    pub(super) async fn values(&self) -> Vec<String> {
        let records = self.records().await;
        let mut values: Vec<_> =
            records.iter().map(|record| String::from_utf8(record.value.clone().unwrap().to_vec()).unwrap()).collect();
        values.sort();
        values
    }
}

#[async_trait]
impl Log for TestLog {
    async fn topic(&self) -> Result<Topic, LogError> {
        match *self.mood.borrow() {
            Mood::Away => return Err(LogError::Unavailable("the broker is away".to_owned())),
            Mood::NoTopic => return Err(LogError::NoTopic("clicks".to_owned())),
            Mood::Broken => return Err(LogError::Failed("fenced".to_owned())),
            Mood::Well | Mood::Hangs | Mood::HangsFor(_) | Mood::TooLarge => {}
        }
        self.memory.topic().await
    }

    async fn append(&self, target: Target, record: NewRecord) -> Result<Appended, LogError> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let key = record.key.clone().unwrap();
        let mut moods = self.mood.subscribe();
        let waits = |mood: &Mood| match mood {
            Mood::Hangs => true,
            Mood::HangsFor(ad) => ad.as_bytes() == key,
            _ => false,
        };
        let mood = *moods.wait_for(|mood| !waits(mood)).await.unwrap();
        match mood {
            Mood::Well | Mood::Hangs | Mood::HangsFor(_) => {
                let appended = self.memory.append(target, record).await?;
                self.written.fetch_add(1, Ordering::SeqCst);
                Ok(appended)
            }
            Mood::Away => Err(LogError::Unavailable("the broker is away".to_owned())),
            Mood::TooLarge => Err(LogError::TooLarge("max.message.bytes".to_owned())),
            Mood::Broken => Err(LogError::Failed("fenced".to_owned())),
            Mood::NoTopic => Err(LogError::NoTopic("clicks".to_owned())),
        }
    }

    async fn bounds(&self, partition: u32) -> Result<Bounds, LogError> {
        self.memory.bounds(partition).await
    }

    async fn offset_at(&self, partition: u32, time: Timestamp) -> Result<Option<Offset>, LogError> {
        self.memory.offset_at(partition, time).await
    }

    async fn open(&self, partition: u32, from: Offset) -> Result<Box<dyn Reader>, LogError> {
        self.memory.open(partition, from).await
    }
}

pub(super) fn clock() -> Arc<SimulatedClock> {
    Arc::new(SimulatedClock::new(Timestamp::parse_rfc3339(NOW).unwrap()))
}

/// Short times, so that what waits for one is soon over, and free ports.
pub(super) fn options() -> Options {
    Options {
        listen: ([127, 0, 0, 1], 0).into(),
        admission_wait: Duration::from_millis(100),
        append_timeout: Duration::from_millis(200),
        body_timeout: Duration::from_millis(300),
        header_timeout: Duration::from_millis(300),
        drain: Duration::from_secs(2),
        ..Options::default()
    }
}

/// Options for tests in which nothing may time out, however slow the machine.
pub(super) fn patient() -> Options {
    let long = Duration::from_secs(30);
    Options {
        admission_wait: long,
        append_timeout: long,
        body_timeout: long,
        header_timeout: long,
        drain: long,
        ..options()
    }
}

pub(super) fn app(options: Options, log: &Arc<TestLog>) -> Router {
    router(Intake::new(options, log.clone(), clock()).unwrap())
}

/// A collector with its sockets, in the background.
pub(super) struct Running {
    pub(super) address: std::net::SocketAddr,
    pub(super) stop: CancellationToken,
    pub(super) run: tokio::task::JoinHandle<Result<(), CollectorError>>,
}

pub(super) async fn run(options: Options, log: &Arc<TestLog>) -> Running {
    let collector = Collector::bind(options, log.clone(), clock()).await.unwrap();
    let (address, stop) = (collector.address(), CancellationToken::new());
    Running { address, run: tokio::spawn(collector.run(stop.clone())), stop }
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) text: String,
}

impl Reply {
    pub(super) fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// The reply is a problem: its code.
    pub(super) fn problem(&self) -> String {
        assert_eq!(self.header("content-type"), "application/problem+json", "{self:?}");
        let json = self.json();
        assert_eq!(json["status"], self.status, "{json}");
        assert!(json["title"].is_string() && json["detail"].is_string(), "{json}");
        json["type"].as_str().unwrap().strip_prefix("urn:twofold:problem:").unwrap().to_owned()
    }

    pub(super) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(super) async fn send(app: &Router, request: Request<Body>) -> Reply {
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    let text = String::from_utf8(to_bytes(body, usize::MAX).await.unwrap().to_vec()).unwrap();
    Reply { status: parts.status.as_u16(), headers: parts.headers, text }
}

pub(super) async fn post(app: &Router, body: impl Into<Body>) -> Reply {
    send(app, Request::post("/v1/clicks").header("content-type", "application/json").body(body.into()).unwrap()).await
}

pub(super) async fn get(app: &Router, path: &str) -> Reply {
    send(app, Request::get(path).body(Body::empty()).unwrap()).await
}

/// The value of one series of `/metrics`, which all tests of this process share: only differences mean something.
pub(super) fn metric(series: &str) -> f64 {
    let text = platform::telemetry::metrics().render();
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{series} is not among\n{text}")).parse().unwrap()
}

/// A click in the canonical form, its id numbered.
pub(super) fn click(number: u64) -> String {
    let id = clicks::id::ClickId::from_u128(number.into());
    format!(r#"{{"click_id":"{id}","ad_id":"ad-{}","user_id":"u","timestamp":"2026-03-01T11:59:59.000Z"}}"#, number % 7)
}

/// A click without an id.
pub(super) const ANONYMOUS: &str = r#"{"ad_id":"ad-1","user_id":"u","timestamp":"2026-03-01T11:59:59.000Z"}"#;

/// Waits until `condition` holds; what never comes true fails the test.
pub(super) async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(20), waiting).await.is_err() {
        panic!("never: {what}");
    }
}
