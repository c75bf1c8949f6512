//! The conformance suite of the log port: what every implementation must do, a real broker included.
//!
//! Each case begins on a topic of its own. A case that fails panics and says what was promised.
#![allow(clippy::unwrap_used)] // It is a test, in the library only so that other crates can run it.

mod groups;

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use clicks::partitioner::partition_of;
use clicks::position::Offset;
use clicks::time::{Span, Timestamp};
use clicks::wire::HEADER_CONTROL;
use futures::future::join_all;

use super::{Bounds, Header, Log, LogError, LogRecord, NewRecord, RECORD_LENGTH_MAX, Reader, Records, Target};
use crate::clock::{Clock, SystemClock};

/// An implementation, and what the suite needs that the port does not offer.
pub trait LogUnderTest {
    type Log: Log;

    /// A new, empty topic whose broker's clock is the machine's.
    fn fresh(&self, partitions: u32) -> impl Future<Output = Self::Log>;

    /// Removes the records below `before`, as retention would.
    fn delete_records(&self, log: &Self::Log, partition: u32, before: Offset) -> impl Future<Output = ()>;

    /// Deletes the topic and creates it again under the same name; returns when the new life can be used.
    fn recreate(&self, log: &Self::Log, partitions: u32) -> impl Future<Output = ()>;

    /// How many keys are tried.
    fn keys(&self) -> usize;
}

/// Longer than anything here takes on a busy machine; what waits so long has failed.
const LONG: Duration = Duration::from_secs(30);
/// How far the broker's time may be off what we read before and after, as clocks are stepped by the machine.
const CLOCK_SLACK: Span = Span::millis(500);

/// Runs every case.
pub async fn suite<L: LogUnderTest>(under_test: &L) {
    offsets_are_dense_and_order_is_kept(under_test).await;
    keys_choose_the_partition(under_test).await;
    records_come_back_as_they_were(under_test).await;
    broker_times_can_be_found(under_test).await;
    retention_is_an_error_not_a_skip(under_test).await;
    a_reader_that_retention_overtakes_is_told(under_test).await;
    readers_wait_and_go_on(under_test).await;
    a_poll_is_bounded_by_bytes(under_test).await;
    a_poll_that_is_dropped_loses_nothing(under_test).await;
    a_new_life_has_another_identity(under_test).await;
    a_reader_beyond_the_new_life_is_told(under_test).await;
    what_cannot_be_is_refused(under_test).await;
    groups::suite(under_test).await;
}

fn record(value: impl Into<Bytes>) -> NewRecord {
    NewRecord { value: Some(value.into()), ..NewRecord::default() }
}

async fn append(log: &impl Log, partition: u32, values: impl IntoIterator<Item = String>) {
    for value in values {
        log.append(Target::Partition(partition), record(value)).await.unwrap();
    }
}

/// Exactly `count` records.
async fn read(reader: &mut dyn Reader, count: usize) -> Vec<LogRecord> {
    let mut records = Vec::new();
    while records.len() < count {
        let more = reader.poll(count - records.len(), LONG).await.unwrap();
        assert!(!more.is_empty(), "only {} of {count} records came", records.len());
        records.extend(more);
    }
    records
}

fn offsets(records: &[LogRecord]) -> Vec<u64> {
    records.iter().map(|record| record.offset.value()).collect()
}

fn out_of_range<T: std::fmt::Debug>(result: Result<T, LogError>, requested: u64, first: u64, end: u64) {
    match result {
        Err(LogError::OutOfRange { requested: found, available, .. }) => {
            assert_eq!(found, Offset::new(requested));
            assert_eq!(available, Bounds { first: Offset::new(first), end: Offset::new(end) });
        }
        other => panic!("{requested} is not in [{first}, {end}), yet: {other:?}"),
    }
}

async fn offsets_are_dense_and_order_is_kept<L: LogUnderTest>(under_test: &L) {
    let log = under_test.fresh(2).await;
    let mut reader = log.open(1, Offset::ZERO).await.unwrap();
    for n in 0..20 {
        let appended = log.append(Target::Partition(1), record(format!("one {n}"))).await.unwrap();
        assert_eq!(
            (appended.partition, appended.offset),
            (1, Offset::new(n)),
            "the next offset, in the partition asked"
        );
    }
    let at_once = join_all((0..300).map(|n| log.append(Target::Partition(1), record(format!("many {n}"))))).await;
    let at_once: Vec<_> = at_once.into_iter().map(Result::unwrap).collect();
    let taken: BTreeSet<_> = at_once.iter().map(|appended| appended.offset).collect();
    assert!(taken.iter().copied().eq((20..320).map(Offset::new)), "offsets are dense under concurrent appends");

    let records = read(&mut *reader, 320).await;
    assert!(offsets(&records).into_iter().eq(0..320), "read in the order of offsets, none left out");
    for (n, record) in records[..20].iter().enumerate() {
        assert_eq!(record.value.as_deref(), Some(format!("one {n}").as_bytes()));
    }
    for (n, appended) in at_once.iter().enumerate() {
        let record = &records[appended.offset.value() as usize];
        assert_eq!(record.value.as_deref(), Some(format!("many {n}").as_bytes()), "acknowledged at its own offset");
        assert_eq!(record.broker_time, appended.broker_time, "acknowledged with its own time");
    }
    assert_eq!(log.bounds(1).await.unwrap(), Bounds { first: Offset::ZERO, end: Offset::new(320) });
    assert_eq!(log.bounds(0).await.unwrap(), Bounds { first: Offset::ZERO, end: Offset::ZERO });
}

async fn keys_choose_the_partition<L: LogUnderTest>(under_test: &L) {
    const PARTITIONS: u32 = 7;
    let log = under_test.fresh(PARTITIONS).await;
    let mut keys: Vec<Vec<u8>> = (0..under_test.keys()).map(|n| format!("ad-{n}").into_bytes()).collect();
    // Every rest that murmur2 treats apart, bytes that are negative in Java, and lengths that no ad has.
    keys.extend((0..=16).map(|length| vec![0xf0 | length; usize::from(length)]));
    keys.extend([vec![b'a'; 64], vec![0xff; 1_000], vec![7; 100_000]]);
    let keyed = |key: &[u8]| NewRecord { key: Some(Bytes::copy_from_slice(key)), ..record("v") };
    for some in keys.chunks(500) {
        let appended = join_all(some.iter().map(|key| log.append(Target::Key, keyed(key)))).await;
        for (key, appended) in some.iter().zip(appended) {
            let want = partition_of(key, PARTITIONS);
            assert_eq!(appended.unwrap().partition, want, "the partition of a key of {} bytes: {key:.40?}", key.len());
        }
    }
    let elsewhere = (partition_of(b"ad-1", PARTITIONS) + 1) % PARTITIONS;
    let appended = log.append(Target::Partition(elsewhere), keyed(b"ad-1")).await.unwrap();
    assert_eq!(appended.partition, elsewhere, "a partition that is named wins over the key");
}

async fn records_come_back_as_they_were<L: LogUnderTest>(under_test: &L) {
    let log = under_test.fresh(1).await;
    let header = |name: &str, value: Option<&'static [u8]>| Header {
        name: name.to_owned(),
        value: value.map(Bytes::from_static),
    };
    let every_header = vec![
        header("b", Some(b"1")),
        header("a", Some(b"2")),
        header("b", Some(b"1")),
        header("empty", Some(b"")),
        header("null", None),
        header("binary", Some(b"\x00\xff\x80")),
        header("n\u{e4}me", Some("w\u{e4}rt".as_bytes())),
        header("", Some(b"no name")),
    ];
    let control = vec![header("tf-contro", None), header(HEADER_CONTROL, None)];
    let parts: [Option<&'static [u8]>; 4] = [None, Some(b""), Some(b"text"), Some(b"\x00\xff\xfe")];
    let large = Bytes::from(vec![b'x'; 500_000]);
    let mut sent: Vec<NewRecord> = Vec::new();
    for key in parts {
        for value in parts {
            for headers in [Vec::new(), every_header.clone(), control.clone()] {
                sent.push(NewRecord {
                    key: key.map(Bytes::from_static),
                    value: value.map(Bytes::from_static),
                    headers,
                });
            }
        }
    }
    sent.push(record(large));
    let appended = join_all(sent.iter().map(|record| log.append(Target::Partition(0), record.clone()))).await;
    let records = read(&mut *log.open(0, Offset::ZERO).await.unwrap(), sent.len()).await;
    for (sent, appended) in sent.into_iter().zip(appended) {
        let appended = appended.unwrap();
        let NewRecord { key, value, headers } = sent;
        let want = LogRecord { offset: appended.offset, broker_time: appended.broker_time, key, value, headers };
        assert_eq!(records[appended.offset.value() as usize], want);
    }
    let (mut reader, mut filled, mut rest) =
        (log.open(0, Offset::ZERO).await.unwrap(), Records::default(), &records[..]);
    while !rest.is_empty() {
        reader.fill(&mut filled, 7, LONG).await.unwrap();
        assert!((1..=7).contains(&filled.len()), "a filled batch has records, and not more than were asked for");
        let want = rest.split_off(..filled.len()).unwrap().iter().map(|record| format!("{:?}", record.observed()));
        assert!(filled.iter().map(|record| format!("{record:?}")).eq(want), "filled as polled");
    }
}

async fn broker_times_can_be_found<L: LogUnderTest>(under_test: &L) {
    let log = under_test.fresh(1).await;
    let at = async |time: Timestamp| log.offset_at(0, time).await.unwrap().map(Offset::value);
    assert_eq!(at(Timestamp::EPOCH).await, None, "there is nothing yet");
    let mut times = Vec::new();
    for n in 0..3 {
        let before = SystemClock.now();
        let appended = log.append(Target::Partition(0), record(format!("{n}"))).await.unwrap();
        let (time, after) = (appended.broker_time, SystemClock.now());
        assert!(time >= before - CLOCK_SLACK && time <= after + CLOCK_SLACK, "{before:?} <= {time:?} <= {after:?}");
        times.push(time);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let one = Span::millis(1);
    for early in [Timestamp::MIN, Timestamp::from_millis(-2), Timestamp::EPOCH, times[0] - one, times[0]] {
        assert_eq!(at(early).await, Some(0), "{early:?}");
    }
    for (n, time) in (1..).zip(&times[1..]) {
        assert_eq!(at(times[n as usize - 1] + one).await, Some(n), "between two records");
        assert_eq!(at(*time).await, Some(n), "at a record's time exactly");
    }
    assert_eq!(at(times[2] + one).await, None, "after the last record");
    assert_eq!(at(Timestamp::MAX).await, None);
    under_test.delete_records(&log, 0, Offset::new(1)).await;
    assert_eq!(at(Timestamp::EPOCH).await, Some(1), "what is gone is not found");
}

async fn retention_is_an_error_not_a_skip<L: LogUnderTest>(under_test: &L) {
    let log = under_test.fresh(1).await;
    append(&log, 0, (0..10).map(|n| format!("{n}"))).await;
    out_of_range(log.open(0, Offset::new(11)).await, 11, 0, 10);
    under_test.delete_records(&log, 0, Offset::new(4)).await;
    let bounds = log.bounds(0).await.unwrap();
    assert_eq!(bounds, Bounds { first: Offset::new(4), end: Offset::new(10) });
    out_of_range(log.open(0, Offset::ZERO).await, 0, 4, 10);
    out_of_range(log.open(0, Offset::new(3)).await, 3, 4, 10);
    let records = read(&mut *log.open(0, Offset::new(4)).await.unwrap(), 6).await;
    assert!(offsets(&records).into_iter().eq(4..10));
    let mut at_end = log.open(0, Offset::new(10)).await.unwrap();
    assert_eq!(at_end.poll(1, Duration::from_millis(50)).await.unwrap(), []);

    under_test.delete_records(&log, 0, Offset::new(10)).await;
    assert_eq!(log.bounds(0).await.unwrap(), Bounds { first: Offset::new(10), end: Offset::new(10) });
    append(&log, 0, ["after all was deleted".to_owned()]).await;
    assert_eq!(offsets(&read(&mut *at_end, 1).await), [10], "offsets go on");
}

/// The reader stands in the middle when the front moves past it. What it has fetched ahead may still come.
async fn a_reader_that_retention_overtakes_is_told<L: LogUnderTest>(under_test: &L) {
    const RECORDS: u64 = 400;
    let log = under_test.fresh(1).await;
    // Far more than a client fetches ahead.
    let value = Bytes::from(vec![b'x'; 60_000]);
    for appended in join_all((0..RECORDS).map(|_| log.append(Target::Partition(0), record(value.clone())))).await {
        appended.unwrap();
    }
    let mut reader = log.open(0, Offset::ZERO).await.unwrap();
    let mut next = read(&mut *reader, 5).await.len() as u64;
    under_test.delete_records(&log, 0, Offset::new(RECORDS - 1)).await;
    let told = loop {
        match reader.poll(50, LONG).await {
            Ok(records) => {
                assert!(!records.is_empty(), "the reader waits at {next}, which is gone");
                for record in records {
                    assert_eq!(record.offset, Offset::new(next), "records were skipped in silence");
                    next += 1;
                }
            }
            Err(error) => break error,
        }
    };
    out_of_range(Err::<(), _>(told), next, RECORDS - 1, RECORDS);
}

async fn readers_wait_and_go_on<L: LogUnderTest>(under_test: &L) {
    let log = under_test.fresh(1).await;
    let mut reader = log.open(0, Offset::ZERO).await.unwrap();
    let began = std::time::Instant::now();
    assert_eq!(reader.poll(10, Duration::from_millis(100)).await.unwrap(), []);
    assert!(began.elapsed() >= Duration::from_millis(95), "it returned before the wait was over");

    let (records, _) = tokio::join!(reader.poll(10, LONG), async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        append(&log, 0, ["awaited".to_owned()]).await;
    });
    assert_eq!(offsets(&records.unwrap()), [0]);
    assert!(began.elapsed() < LONG / 2, "a record that came was slept through");

    append(&log, 0, (1..10).map(|n| format!("{n}"))).await;
    let mut next = 1;
    while next < 10 {
        let records = reader.poll(2, LONG).await.unwrap();
        assert!((1..=2).contains(&records.len()), "at most as many as asked for, and at least one");
        for record in records {
            assert_eq!(record.offset, Offset::new(next));
            next += 1;
        }
    }
    assert_eq!(reader.poll(2, Duration::ZERO).await.unwrap(), [], "no wait at all is allowed");

    let mut second = log.open(0, Offset::new(7)).await.unwrap();
    assert_eq!(offsets(&read(&mut *second, 3).await), [7, 8, 9], "readers do not take from each other");
}

async fn a_poll_is_bounded_by_bytes<L: LogUnderTest>(under_test: &L) {
    let log = under_test.fresh(1).await;
    // Lengths of values; one alone is longer than the bound.
    let lengths = [400, 400, 200, 1, 5_000, 300, 900, 0, 100];
    append(&log, 0, lengths.map(|length| "x".repeat(length))).await;
    let (mut reader, mut next, mut largest) = (log.open(0, Offset::ZERO).await.unwrap(), 0, 0);
    while next < lengths.len() {
        let records = reader.poll_within(3, 1_000, LONG).await.unwrap();
        let bytes: usize = records.iter().map(LogRecord::length).sum();
        assert!(
            records.len() == 1 || (records.len() <= 3 && bytes <= 1_000),
            "{} records, {bytes} bytes",
            records.len()
        );
        for record in &records {
            assert_eq!((record.offset, record.length()), (Offset::new(next as u64), lengths[next]));
            next += 1;
        }
        largest = largest.max(records.len());
    }
    assert_eq!(next, lengths.len());
    assert!(largest > 1, "no poll gave more than one record");
}

async fn a_poll_that_is_dropped_loses_nothing<L: LogUnderTest>(under_test: &L) {
    const RECORDS: u64 = 150;
    let log = under_test.fresh(1).await;
    let mut reader = log.open(0, Offset::ZERO).await.unwrap();
    let reading = async {
        let (mut next, mut polls, mut dropped) = (0, 0, 0);
        while next < RECORDS {
            // From none at all to about the time between two records.
            let patience = Duration::from_micros(polls % 40 * 150);
            polls += 1;
            match tokio::time::timeout(patience, reader.poll(3, LONG)).await {
                Ok(records) => {
                    for record in records.unwrap() {
                        assert_eq!(record.offset, Offset::new(next), "after {dropped} polls that were dropped");
                        next += 1;
                    }
                }
                Err(_) => dropped += 1,
            }
        }
        assert!(dropped > 20, "only {dropped} polls were dropped, which proves nothing");
    };
    let writing = async {
        for n in 0..RECORDS {
            append(&log, 0, [format!("{n}")]).await;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let both = async { tokio::join!(reading, writing) };
    tokio::time::timeout(LONG * 2, both).await.expect("records were lost");
}

/// What makes asking for the topic between a read and a store necessary: the reader itself notices nothing.
async fn a_new_life_has_another_identity<L: LogUnderTest>(under_test: &L) {
    let log = under_test.fresh(2).await;
    let before = log.topic().await.unwrap();
    assert_eq!(before.partitions, 2);
    assert_eq!(before, log.topic().await.unwrap(), "the identity stays");
    append(&log, 0, (0..5).map(|n| format!("old {n}"))).await;
    let mut reader = log.open(0, Offset::ZERO).await.unwrap();
    assert_eq!(offsets(&read(&mut *reader, 5).await), [0, 1, 2, 3, 4]);
    let mut at_start = log.open(1, Offset::ZERO).await.unwrap();
    assert_eq!(at_start.poll(1, Duration::from_millis(50)).await.unwrap(), []);

    under_test.recreate(&log, 2).await;
    let after = log.topic().await.unwrap();
    assert_ne!(after.id, before.id);
    assert_eq!((&after.name, after.partitions), (&before.name, 2));
    assert_eq!(log.bounds(0).await.unwrap(), Bounds { first: Offset::ZERO, end: Offset::ZERO });
    let appended = join_all((0..8).map(|n| log.append(Target::Partition(0), record(format!("new {n}"))))).await;
    let appended: BTreeSet<_> = appended.into_iter().map(|appended| appended.unwrap().offset.value()).collect();
    assert!(appended.into_iter().eq(0..8), "the same log appends to the new life");
    // The reader at the very start of the other partition cannot be off the log: it goes on, and gets no error.
    append(&log, 1, ["new".to_owned()]).await;
    let silent = read(&mut *at_start, 1).await;
    assert_eq!((offsets(&silent), silent[0].value.as_deref()), (vec![0], Some(b"new".as_slice())));
    // The other one goes on at its old offset, never again from the start; unless it looked while the new life was
    // still shorter than that.
    match reader.poll(1, LONG).await {
        Ok(records) => {
            assert_eq!(offsets(&records), [5]);
            assert!(records[0].value.as_ref().unwrap().starts_with(b"new"), "a record of the life that ended");
        }
        Err(error) => out_of_range(Err::<(), _>(error), 5, 0, 8),
    }
    let records = read(&mut *log.open(0, Offset::ZERO).await.unwrap(), 8).await;
    assert!(records.iter().all(|record| record.value.as_ref().unwrap().starts_with(b"new")));
}

async fn a_reader_beyond_the_new_life_is_told<L: LogUnderTest>(under_test: &L) {
    let log = under_test.fresh(1).await;
    for appended in join_all((0..50).map(|_| log.append(Target::Partition(0), record("old")))).await {
        appended.unwrap();
    }
    let mut reader = log.open(0, Offset::new(50)).await.unwrap();
    assert_eq!(reader.poll(1, Duration::from_millis(50)).await.unwrap(), []);
    under_test.recreate(&log, 1).await;
    append(&log, 0, (0..8).map(|n| format!("new {n}"))).await;
    out_of_range(reader.poll(1, LONG).await, 50, 0, 8);
}

async fn what_cannot_be_is_refused<L: LogUnderTest>(under_test: &L) {
    let log = under_test.fresh(2).await;
    let no_key = log.append(Target::Key, record("v")).await;
    assert!(matches!(no_key, Err(LogError::NoKey)), "{no_key:?}");
    for wrong in [2, 1_000, u32::MAX] {
        let results = [
            log.append(Target::Partition(wrong), record("v")).await.map(|_| ()),
            log.bounds(wrong).await.map(|_| ()),
            log.offset_at(wrong, Timestamp::EPOCH).await.map(|_| ()),
            log.open(wrong, Offset::ZERO).await.map(|_| ()),
        ];
        for (n, result) in results.into_iter().enumerate() {
            match result {
                Err(LogError::NoPartition { partition, .. }) => assert_eq!(partition, wrong),
                other => panic!("partition {wrong} does not exist, yet call {n} gave {other:?}"),
            }
        }
    }
    let large = log.append(Target::Partition(0), record(vec![0; RECORD_LENGTH_MAX + 1])).await;
    assert!(matches!(large, Err(LogError::TooLarge(_))), "{large:?}");
    assert_eq!(log.bounds(0).await.unwrap().end, Offset::ZERO, "nothing of it was written");
}
