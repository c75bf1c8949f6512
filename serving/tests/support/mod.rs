//! A filled system in memory: what the other layers would have written, written by hand, so that every number that is
//! asked for is known.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use bytes::Bytes;
use clicks::event::Class;
use clicks::id::{AdId, Region, TopicId};
use clicks::ledger::{
    Adjustments, Balance, Body, Check, DayRevision, DayTotals, FileRef, Genesis, Night, Objection, TopicLife, Withheld,
    sha256,
};
use clicks::live::{CountKey, Expected, Flush, FlushOutcome, Generation, LateKey, Meta, Stage};
use clicks::partitioner::partition_of;
use clicks::position::{Offset, PartitionId};
use clicks::rules::Rules;
use clicks::tables::{adjustments_key, columns, rev_key};
use clicks::time::{Day, Span, Timestamp};
use clicks::window::{Grain, Minute};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use platform::clock::SimulatedClock;
use platform::ledger::{Ledger, Published};
use platform::objects::Objects;
use platform::store::{MemoryStore, SpeedStore};
use reqwest::header::HeaderMap;
use serde_json::Value;
use serving::{Archive, Options, Server, ServingError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_util::sync::{CancellationToken, DropGuard};

pub const PARTITIONS: u32 = 2;

/// A time, an ad and its clicks.
pub type Row = (Timestamp, &'static str, u64);

#[derive(Debug)]
pub struct System {
    pub objects: Objects,
    pub ledger: Ledger,
    pub store: Arc<MemoryStore>,
    pub clock: Arc<SimulatedClock>,
    /// What the status tells of it.
    pub archive: Option<Arc<dyn Archive>>,
    stored: BTreeMap<u32, Expected>,
}

pub fn partition(number: u32) -> PartitionId {
    PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(7), number }
}

/// The partition that an ad lives in.
pub fn home(ad: &str) -> u32 {
    partition_of(ad.as_bytes(), PARTITIONS)
}

pub fn key(time: Timestamp, ad: &str) -> CountKey {
    CountKey { minute: Minute::of(time), class: Class::Valid, ad: AdId::parse(ad).unwrap() }
}

impl System {
    /// A ledger with one topic, and nothing else.
    pub async fn new(first_day: Day, now: Timestamp) -> Self {
        Self::over(Objects::memory(), first_day, now).await
    }

    pub async fn over(objects: Objects, first_day: Day, now: Timestamp) -> Self {
        let ledger = Ledger::new(objects.clone());
        let mut books = ledger.begin(Genesis { first_day, rules: Rules::default() }).await.unwrap();
        let PartitionId { region, topic, .. } = partition(0);
        let life = TopicLife { region, topic_id: topic, name: "clicks".to_owned(), partitions: PARTITIONS };
        ledger.publish(&mut books, Body::Topic(life)).await.unwrap();
        Self::of(objects, now)
    }

    /// Over a ledger that is there already.
    pub fn of(objects: Objects, now: Timestamp) -> Self {
        System {
            ledger: Ledger::new(objects.clone()),
            objects,
            store: Arc::new(MemoryStore::new()),
            clock: Arc::new(SimulatedClock::new(now)),
            archive: None,
            stored: BTreeMap::new(),
        }
    }

    /// Publishes the next night: its own day's rows, and what it found for final days.
    pub async fn close(&self, rows: &[Row], totals: DayTotals, finals: &[Day], adjustments: &[Row]) -> Day {
        let mut books = self.ledger.read().await.unwrap();
        let (day, number) = (books.next_night(), books.head() + 1);
        let mut files = Vec::new();
        for grain in Grain::ALL {
            let bytes = table(&grouped(rows, grain), grain, 1);
            let key = rev_key(number, grain, day, &sha256(&bytes.0));
            files.push(self.put(key, bytes).await);
        }
        let [minute, hour, day_file] = files.try_into().unwrap();
        let clicks = rows.iter().map(|row| row.2).sum();
        let revision = DayRevision {
            day,
            revision: 1,
            rules_version: 1,
            minute,
            hour,
            day_file,
            totals: DayTotals { clicks, ..totals },
            change: None,
        };
        let adjustments = match adjustments {
            [] => None,
            found => {
                let bytes = adjustment_table(&grouped(found, Grain::Minute), day);
                let file = self.put(adjustments_key(number, &sha256(&bytes.0)), bytes).await;
                let mut clicks = BTreeMap::new();
                for (time, _, count) in found {
                    *clicks.entry(time.day()).or_default() += count;
                }
                Some(Adjustments { file, clicks })
            }
        };
        let night = Night { days: vec![revision], finals: finals.to_vec(), adjustments, ..self.night(day) };
        let published = self.ledger.publish(&mut books, Body::Night(Box::new(night))).await.unwrap();
        assert_eq!(published, Published::Ours);
        day
    }

    /// The next night leaves its own day out.
    pub async fn withhold(&self, detail: &str) {
        let mut books = self.ledger.read().await.unwrap();
        let objections = vec![Objection { check: Check::Volume, detail: detail.to_owned() }];
        let night = Night { withheld: Some(Withheld { objections }), ..self.night(books.next_night()) };
        let published = self.ledger.publish(&mut books, Body::Night(Box::new(night))).await.unwrap();
        assert_eq!(published, Published::Ours);
    }

    /// One that publishes nothing.
    fn night(&self, night: Day) -> Night {
        Night {
            night,
            published_at: self.clock_now(),
            release: "test".to_owned(),
            cuts: BTreeMap::new(),
            days: Vec::new(),
            withheld: None,
            accepted: None,
            confirmed: Vec::new(),
            finals: Vec::new(),
            adjustments: None,
            inputs: FileRef { key: "inputs".to_owned(), sha256: String::new(), bytes: 0, rows: 0 },
            balance: Balance::default(),
        }
    }

    fn clock_now(&self) -> Timestamp {
        platform::clock::Clock::now(&*self.clock)
    }

    async fn put(&self, key: String, (bytes, rows): (Bytes, u64)) -> FileRef {
        let file = FileRef { key: key.clone(), sha256: sha256(&bytes), bytes: bytes.len() as u64, rows };
        self.objects.create(&key, bytes).await.unwrap();
        file
    }

    /// Stores live counts in the partitions of their ads, each of which has then reached `append_time`.
    pub async fn count(&mut self, base_day: Day, append_time: Timestamp, counts: &[Row], late: &[(Day, Row)]) {
        for number in 0..PARTITIONS {
            let counts = counts.iter().filter(|row| home(row.1) == number).map(|row| (key(row.0, row.1), row.2));
            let late = late.iter().filter(|(_, row)| home(row.1) == number);
            let late = late.map(|(night, row)| (LateKey { night: *night, count: key(row.0, row.1) }, row.2));
            let meta = Meta { append_time, ..Meta::new(Offset::ZERO, base_day, base_day.previous(), Offset::ZERO) };
            self.flush(number, meta, counts.collect(), late.collect()).await;
        }
    }

    /// Stores a partition's counts; absolute values, whatever the meta record says.
    pub async fn flush(&mut self, number: u32, meta: Meta, counts: Vec<(CountKey, u64)>, late: Vec<(LateKey, u64)>) {
        let before = self.stored.get(&number).copied().unwrap_or(Expected::Nothing);
        let generation = Generation::from_u128(100 + u128::from(number));
        let next_offset = match before {
            Expected::Nothing => Offset::new(1),
            Expected::At { next_offset, .. } => next_offset.next(),
            Expected::Damaged { .. } => unreachable!("nothing is damaged here"),
        };
        let meta = Meta { next_offset, fingerprint: "f".to_owned(), ..meta };
        let flush = Flush {
            expected: before,
            generation,
            stage: Stage::Live,
            meta,
            counts,
            late,
            drop_hours: Vec::new(),
            drop_nights: Vec::new(),
        };
        let outcome = self.store.flush(&partition(number), &flush).await.unwrap();
        assert_eq!(outcome, FlushOutcome::Applied);
        self.stored.insert(number, Expected::At { generation, next_offset, lost: 0 });
    }

    /// Starts a server on a free port, and waits until it has read the ledger.
    pub async fn serve(&self) -> Running {
        let options = Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            ledger_refresh: std::time::Duration::from_millis(20),
            live_refresh: std::time::Duration::from_millis(1),
            ..Options::default()
        };
        self.ready(options).await
    }

    /// Starts a server, and waits until it has read the ledger.
    pub async fn ready(&self, options: Options) -> Running {
        let running = self.start(options).await.unwrap();
        until_ready(running.address).await;
        running
    }

    pub async fn start(&self, options: Options) -> Result<Running, ServingError> {
        let (objects, ledger, archive) = (self.objects.clone(), self.ledger.clone(), self.archive.clone());
        let server = Server::bind(options, objects, ledger, self.store.clone(), archive, self.clock.clone()).await?;
        let (address, stop) = (server.address(), CancellationToken::new());
        let task = tokio::spawn(server.run(stop.clone()));
        Ok(Running { address, task, stop: stop.drop_guard() })
    }
}

#[derive(Debug)]
pub struct Running {
    pub address: SocketAddr,
    pub task: tokio::task::JoinHandle<Result<(), ServingError>>,
    pub stop: DropGuard,
}

/// Sums by period, ad by ad, in the order of the tables.
fn grouped(rows: &[Row], grain: Grain) -> Vec<(Timestamp, String, u64)> {
    let mut sums = BTreeMap::<(Timestamp, String), u64>::new();
    for (time, ad, clicks) in rows {
        *sums.entry((grain.window(*time).start, (*ad).to_owned())).or_default() += clicks;
    }
    sums.into_iter().map(|((start, ad), clicks)| (start, ad, clicks)).collect()
}

fn table(rows: &[(Timestamp, String, u64)], grain: Grain, revision: i32) -> (Bytes, u64) {
    let zeros = || Arc::new(Int64Array::from_value(0, rows.len())) as ArrayRef;
    let same = |value| Arc::new(Int32Array::from_value(value, rows.len())) as ArrayRef;
    let mut found = common(rows);
    found.insert(1, (columns::PERIOD_END, times(rows.iter().map(|row| row.0 + grain.width()))));
    found.extend([
        (columns::DUPLICATES, zeros()),
        (columns::LATE, zeros()),
        (columns::REVISION, same(revision)),
        (columns::RULES_VERSION, same(1)),
    ]);
    write(found)
}

fn adjustment_table(rows: &[(Timestamp, String, u64)], night: Day) -> (Bytes, u64) {
    let mut found = common(rows);
    found.push((columns::NIGHT, Arc::new(Date32Array::from_value(night.number(), rows.len()))));
    write(found)
}

fn common(rows: &[(Timestamp, String, u64)]) -> Vec<(&'static str, ArrayRef)> {
    vec![
        (columns::PERIOD_START, times(rows.iter().map(|row| row.0))),
        (columns::AD_ID, Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.1)))),
        (columns::CLASS, Arc::new(StringArray::from_iter_values(rows.iter().map(|_| "valid")))),
        (columns::CLICKS, Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.2 as i64)))),
    ]
}

fn times(values: impl Iterator<Item = Timestamp>) -> ArrayRef {
    Arc::new(TimestampMillisecondArray::from_iter_values(values.map(Timestamp::as_millis)).with_timezone("UTC"))
}

fn write(columns: Vec<(&'static str, ArrayRef)>) -> (Bytes, u64) {
    let batch =
        RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, column)| (name, column, false)));
    let batch = batch.unwrap();
    let version = KeyValue::new("twofold.version".to_owned(), "1".to_owned());
    let properties = WriterProperties::builder().set_key_value_metadata(Some(vec![version])).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    (bytes.into(), batch.num_rows() as u64)
}

/// One HTTP answer.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = |line: &&str| line.to_ascii_lowercase().starts_with(&format!("{name}:"));
        self.head.lines().find(found).and_then(|line| line.split_once(':')).map(|(_, value)| value.trim())
    }
}

pub async fn until_ready(address: SocketAddr) {
    while get(address, "/readyz").await.status != 200 {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

pub async fn get(address: SocketAddr, path: &str) -> Answer {
    request(address, "GET", path, "").await
}

/// `headers` are whole lines, each with its line end.
pub async fn request(address: SocketAddr, method: &str, path: &str, headers: &str) -> Answer {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let text = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    // Arrow is not text; what differs there differs here.
    let text = String::from_utf8_lossy(&bytes);
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

pub fn day(text: &str) -> Day {
    text.parse().unwrap()
}

pub fn at(day: Day, hours: i64, minutes: i64) -> Timestamp {
    day.start() + Span::hours(hours) + Span::minutes(minutes)
}

/// Three closed days (the first final and adjusted) and a live one, 12:00:30 on it.
pub async fn filled() -> (System, Running) {
    filled_over(Objects::memory()).await
}

pub async fn filled_over(objects: Objects) -> (System, Running) {
    let (one, two, three) = days();
    let mut system = System::over(objects, one, at(three, 12, 0) + Span::seconds(30)).await;
    let late = |late| DayTotals { late, duplicates: 5, far_duplicates: 1, ..DayTotals::default() };
    system.close(&[(at(one, 10, 0), "a", 100), (at(one, 10, 1), "b", 7)], late(3), &[], &[]).await;
    let second: [Row; 3] = [(at(two, 0, 0), "a", 20), (at(two, 23, 59), "a", 30), (at(two, 23, 59), "c", 4)];
    system.close(&second, late(3), &[one], &[]).await;
    // The third night finds two more clicks of the first day, which is final by then.
    system.clock.advance_to(at(three.next(), 12, 0) + Span::seconds(30));
    system.close(&[(at(three, 0, 0), "a", 1)], late(0), &[], &[(at(one, 10, 0), "a", 2)]).await;
    let live = three.next();
    let counts: [Row; 5] = [
        (at(three, 0, 0), "a", 1),
        (at(live, 0, 0), "a", 5),
        (at(live, 11, 59), "b", 6),
        (at(live, 12, 0), "a", 1),
        (at(live, 12, 0), "c", 2),
    ];
    let late =
        [(live, (at(three, 23, 0), "a", 9)), (three, (at(three, 22, 0), "a", 50)), (live, (at(live, 1, 0), "b", 3))];
    system.count(three, at(live, 12, 0) + Span::seconds(29), &counts, &late).await;
    let running = system.serve().await;
    (system, running)
}

pub fn days() -> (Day, Day, Day) {
    (day("2026-03-01"), day("2026-03-02"), day("2026-03-03"))
}

/// With these headers.
pub async fn ask(running: &Running, path: &str, headers: &[(&'static str, &str)]) -> reqwest::Response {
    let headers = headers.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
    let request = reqwest::Client::new().get(format!("http://{}{path}", running.address));
    request.headers(HeaderMap::from_iter(headers)).send().await.unwrap()
}

pub async fn json_of(running: &Running, path: &str) -> Value {
    let answer = ask(running, path, &[]).await;
    assert_eq!(answer.status(), 200, "{path}");
    serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
}

pub fn texts<'a>(body: &'a Value, field: &str) -> Vec<&'a str> {
    body["data"].as_array().unwrap().iter().map(|row| row[field].as_str().unwrap()).collect()
}

pub fn numbers(body: &Value, field: &str) -> Vec<Option<u64>> {
    body["data"].as_array().unwrap().iter().map(|row| row[field].as_u64()).collect()
}

pub fn listen() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}
