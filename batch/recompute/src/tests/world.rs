//! A log, its archive and its ledger, in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use archive::chain::{GapCause, GapMark, VERSION, record};
use archive::codec::encode;
use clicks::books::Books;
use clicks::control::{HEARTBEAT, Heartbeat};
use clicks::counter::{LiveCounter, Observed};
use clicks::event::Click;
use clicks::id::{AdId, ClickId, Region, TopicId, UserId};
use clicks::ledger::{Body, Epoch, FileRef, Genesis, PeriodAction, TopicLife};
use clicks::live::{Expected, FlushOutcome, Generation, Meta, Stage};
use clicks::position::{Offset, PartitionId};
use clicks::rules::Rules;
use clicks::tables::{EntryNumber, current_key};
use clicks::time::{Day, Span, Timestamp};
use clicks::window::Grain;
use clicks::wire;
use platform::clock::SimulatedClock;
use platform::ledger::Ledger;
use platform::log::{Header, LogRecord};
use platform::objects::Objects;
use platform::store::{MemoryStore, SpeedStore};

use crate::publish::read_file;
use crate::rows::Rows;
use crate::table::{AdjustmentRow, decode, decode_adjustments};
use crate::{Accept, BatchError, NightOutcome, NightReport, Options, Request, audit, change_period, run_night};

/// Day `n` of the tests' calendar; the ledger begins with day 1.
pub(super) fn day(n: i32) -> Day {
    "2026-03-01".parse::<Day>().unwrap().plus(n - 1)
}

/// An instant of day `n`.
pub(super) fn at(n: i32, hour: i64, minute: i64) -> Timestamp {
    day(n).start() + Span::hours(hour) + Span::minutes(minute)
}

/// The cut time of night `n` under the default rules.
pub(super) fn cut_time(n: i32) -> Timestamp {
    day(n).end() + Span::minutes(10)
}

pub(super) fn partition(topic: u128, number: u32) -> PartitionId {
    PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(topic), number }
}

/// A record of the log as the oracle sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Logged {
    pub(super) append_time: Timestamp,
    pub(super) what: Option<(String, u128, Timestamp)>,
    record: LogRecord,
}

/// Everything that a night stands on.
#[derive(Debug)]
pub(super) struct World {
    pub(super) objects: Objects,
    pub(super) ledger: Ledger,
    pub(super) clock: SimulatedClock,
    pub(super) options: Options,
    pub(super) logs: BTreeMap<PartitionId, Vec<Logged>>,
    /// Records per partition that are archived.
    stored: BTreeMap<PartitionId, usize>,
    /// Most records of one object.
    pub(super) object_rows: usize,
}

impl World {
    /// One topic life, 1, with `partitions` partitions.
    pub(super) async fn new(partitions: u32) -> Self {
        Self::over(Objects::memory(), partitions).await
    }

    pub(super) async fn over(objects: Objects, partitions: u32) -> Self {
        let ledger = Ledger::new(objects.clone());
        ledger.begin(Genesis { first_day: day(1), rules: Rules::default() }).await.unwrap();
        let options = Options { target_partitions: 2, release: "test".to_owned(), ..Options::default() };
        let mut world = World {
            objects,
            ledger,
            clock: SimulatedClock::new(at(1, 0, 0)),
            options,
            logs: BTreeMap::new(),
            stored: BTreeMap::new(),
            object_rows: 1000,
        };
        world.begin_life(1, partitions).await;
        world
    }

    /// The same logs over other objects.
    pub(super) fn moved_to(self, objects: Objects) -> Self {
        World { ledger: Ledger::new(objects.clone()), objects, ..self }
    }

    pub(super) async fn begin_life(&mut self, topic: u128, partitions: u32) {
        let life = TopicLife {
            region: Region::parse("eu").unwrap(),
            topic_id: TopicId::from_u128(topic),
            name: "clicks".to_owned(),
            partitions,
        };
        let mut books = self.books().await;
        self.ledger.publish(&mut books, Body::Topic(life)).await.unwrap();
        for number in 0..partitions {
            self.logs.insert(partition(topic, number), Vec::new());
        }
    }

    pub(super) async fn books(&self) -> Books {
        self.ledger.read().await.unwrap()
    }

    fn append(&mut self, to: &PartitionId, time: Timestamp, value: Option<Vec<u8>>, headers: Vec<Header>) {
        let log = self.logs.get_mut(to).unwrap();
        let append_time = log.last().map_or(time, |last| last.append_time.max(time));
        let control = headers.iter().any(|header| header.name == wire::HEADER_CONTROL);
        let click = wire::decode(value.as_deref()).ok().filter(|_| !control);
        let what = click.map(|click| (click.ad_id.to_string(), click.click_id.as_u128(), click.event_time));
        let offset = Offset::new(log.len() as u64);
        let (key, value) = (None, value.map(Into::into));
        let record = LogRecord { offset, broker_time: time, key, value, headers };
        log.push(Logged { append_time, what, record });
    }

    /// A click on `ad` with the given id, which happened at `event` and was appended at `append`.
    pub(super) fn click(&mut self, to: &PartitionId, append: Timestamp, event: Timestamp, ad: &str, id: u128) {
        let click = Click {
            click_id: ClickId::from_u128(id),
            ad_id: AdId::parse(ad).unwrap(),
            user_id: UserId::parse("u").unwrap(),
            event_time: event,
        };
        self.append(to, append, Some(wire::encode(&click).into_bytes()), Vec::new());
    }

    /// A record that is no click.
    pub(super) fn junk(&mut self, to: &PartitionId, append: Timestamp, value: Option<&[u8]>) {
        self.append(to, append, value.map(<[u8]>::to_vec), Vec::new());
    }

    pub(super) fn heartbeat(&mut self, to: &PartitionId, append: Timestamp, partitions: u32) {
        let beat = Heartbeat::new(to.topic, partitions, "test".to_owned());
        let header = Header { name: wire::HEADER_CONTROL.to_owned(), value: Some(HEARTBEAT.into()) };
        self.append(to, append, Some(beat.encode()), vec![header]);
    }

    /// Archives what is on the log and is not archived yet, in objects that never cross an append hour.
    pub(super) async fn store(&mut self) {
        for (partition, log) in &self.logs {
            let stored = self.stored.entry(partition.clone()).or_default();
            while *stored < log.len() {
                let hour = |logged: &Logged| logged.append_time.floor(Span::hours(1));
                let first = hour(&log[*stored]);
                let rows = log[*stored..].iter().take(self.object_rows).take_while(|l| hour(l) == first);
                let rows: Vec<_> = rows.map(|l| (l.record.clone(), l.append_time)).collect();
                let object = encode(partition, "test", &rows).unwrap();
                self.objects.create(&object.footer.key().to_string(), object.bytes).await.unwrap();
                *stored += rows.len();
            }
        }
    }

    /// The speed layer counts everything that is on the log, except what it takes for no click: the record `missed` of each
    /// partition.
    pub(super) async fn count_live(&mut self, missed: Option<usize>) {
        let (store, books) = (MemoryStore::new(), self.books().await);
        for (partition, log) in &self.logs {
            let meta = Meta::new(Offset::ZERO, day(1), day(1), Offset::ZERO);
            let begun = (Generation::from_u128(1), Stage::Live);
            let mut live = LiveCounter::begin(books.rules().clone(), Expected::Nothing, begun, meta, usize::MAX);
            for (n, Logged { record, .. }) in log.iter().enumerate() {
                let value = record.value.as_deref().filter(|_| missed != Some(n));
                let LogRecord { offset, broker_time, .. } = *record;
                let observed = Observed { offset, broker_time, key: None, value, control: record.is_control() };
                live.observe(&observed).unwrap();
                if live.changes() + 1 >= store.max_changes() || n + 1 == log.len() {
                    assert_eq!(store.flush(partition, &live.flush()).await.unwrap(), FlushOutcome::Applied);
                    live.stored();
                }
            }
        }
        self.options.live = Some(Arc::new(store));
    }

    /// The next `count` records that are not archived are gone from the log, and an archiver records it.
    pub(super) async fn lose(&mut self, partition: &PartitionId, count: usize) {
        let stored = self.stored.entry(partition.clone()).or_default();
        let before = stored.checked_sub(1).map(|last| self.logs[partition][last].append_time);
        let mark = GapMark {
            version: VERSION,
            partition: partition.clone(),
            from: Offset::new(*stored as u64),
            to: Offset::new((*stored + count) as u64),
            cause: GapCause::Retention,
            writer: "test".to_owned(),
            noticed_at: Timestamp::EPOCH,
            append_time_before: before,
        };
        record(&self.objects, &mark).await.unwrap();
        *stored += count;
    }

    /// An object that a zombie stores: the records `[from, to)` of a partition.
    pub(super) async fn store_late(&self, partition: &PartitionId, from: usize, to: usize) {
        let rows: Vec<_> = self.logs[partition][from..to].iter().map(|l| (l.record.clone(), l.append_time)).collect();
        let object = encode(partition, "zombie", &rows).unwrap();
        self.objects.create(&object.footer.key().to_string(), object.bytes).await.unwrap();
    }

    /// Archives a heartbeat of every partition of a topic life at the cut time of night `n`.
    pub(super) async fn cover_life(&mut self, topic: u128, n: i32) {
        let partitions: Vec<_> = self.logs.keys().filter(|p| p.topic == TopicId::from_u128(topic)).cloned().collect();
        for partition in &partitions {
            self.heartbeat(partition, cut_time(n), partitions.len() as u32);
        }
        self.store().await;
    }

    /// Night `n` of topic life 1 can run.
    pub(super) async fn cover(&mut self, n: i32) {
        self.cover_life(1, n).await;
    }

    pub(super) async fn run(&self, night: Option<i32>) -> Result<NightOutcome, BatchError> {
        self.ask(night.map(day).into()).await
    }

    pub(super) async fn ask(&self, request: Request) -> Result<NightOutcome, BatchError> {
        run_night(&self.options, &self.objects, &self.ledger, &self.clock, request).await
    }

    /// Runs night `n`, whatever speaks against it.
    pub(super) async fn accept(&self, n: i32) -> Result<NightOutcome, BatchError> {
        let accept = Accept { actor: "ann".to_owned(), reason: "a campaign".to_owned() };
        self.ask(Request { night: Some(day(n)), accept: Some(accept) }).await
    }

    pub(super) async fn period(&self, n: i32, action: PeriodAction) -> Result<EntryNumber, BatchError> {
        change_period(&self.objects, &self.ledger, &self.clock, day(n), action, "ann", "checked").await
    }

    /// The topic of life `topic` gets more partitions, which is recorded.
    pub(super) async fn grow(&mut self, topic: u128, partitions: u32) {
        let (region, topic_id) = (Region::parse("eu").unwrap(), TopicId::from_u128(topic));
        let mut books = self.books().await;
        self.ledger.publish(&mut books, Body::Epoch(Epoch { region, topic_id, partitions })).await.unwrap();
        for number in 0..partitions {
            self.logs.entry(partition(topic, number)).or_default();
        }
    }

    /// Covers night `n` and publishes it.
    pub(super) async fn publish(&mut self, n: i32) -> NightReport {
        self.cover(n).await;
        self.published(n).await
    }

    /// Publishes night `n`, which is covered.
    pub(super) async fn published(&self, n: i32) -> NightReport {
        match self.run(Some(n)).await {
            Ok(NightOutcome::Published(report)) => *report,
            other => panic!("night {n}: {other:?}"),
        }
    }

    /// Day `n` can be counted again from what the ledger names, and comes to what is published.
    pub(super) async fn check_audit(&self, n: i32) {
        let audit = audit(&self.options, &self.objects, &self.ledger, day(n)).await.unwrap();
        assert!(audit.entries.iter().all(|entry| entry.breaks.total == 0), "day {n}: {audit:?}");
    }

    pub(super) async fn read(&self, file: &FileRef) -> Rows {
        decode(&file.key, read_file(&self.objects, file).await.unwrap()).unwrap()
    }

    /// Minute rows of the published revision of a day.
    pub(super) async fn minutes(&self, n: i32) -> Rows {
        let books = self.books().await;
        self.read(&books.day(day(n)).unwrap().revision.minute).await
    }

    pub(super) async fn adjustments(&self, day: Day) -> Vec<AdjustmentRow> {
        let mut rows = Vec::new();
        for adjustment in self.books().await.adjustments(day) {
            let bytes = read_file(&self.objects, &adjustment.file).await.unwrap();
            let found = decode_adjustments(&adjustment.file.key, bytes).unwrap();
            let own: Vec<_> = found.into_iter().filter(|row| row.period_start.day() == day).collect();
            assert_eq!(own.iter().map(|row| row.clicks).sum::<u64>(), adjustment.clicks);
            rows.extend(own);
        }
        rows
    }

    /// Clicks of the published revision of a day.
    pub(super) async fn clicks(&self, n: i32) -> u64 {
        self.minutes(n).await.iter().map(|row| row.clicks).sum()
    }

    /// Clicks of a day that were published as adjustments.
    pub(super) async fn adjusted(&self, n: i32) -> u64 {
        self.adjustments(day(n)).await.iter().map(|row| row.clicks).sum()
    }

    pub(super) async fn current(&self, grain: Grain, n: i32) -> bytes::Bytes {
        self.objects.get(&current_key(grain, day(n))).await.unwrap().unwrap()
    }

    /// Every object with its bytes.
    pub(super) async fn everything(&self) -> BTreeMap<String, bytes::Bytes> {
        let mut all = BTreeMap::new();
        for folder in ["raw/", "ledger/", "tables/"] {
            for object in self.objects.list(folder, None).await.unwrap() {
                let bytes = self.objects.get(&object.key).await.unwrap().unwrap();
                all.insert(object.key, bytes);
            }
        }
        all
    }
}
