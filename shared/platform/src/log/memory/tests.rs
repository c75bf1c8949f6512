use super::*;
use crate::clock::{SimulatedClock, SystemClock};
use crate::log::conformance::{self, LogUnderTest};

fn region() -> Region {
    Region::parse("eu").unwrap()
}

fn record(value: &str) -> NewRecord {
    NewRecord { value: Some(value.to_owned().into()), ..NewRecord::default() }
}

#[derive(Debug)]
struct InMemory;

impl LogUnderTest for InMemory {
    type Log = MemoryLog;

    async fn fresh(&self, partitions: u32) -> MemoryLog {
        MemoryLog::new(region(), "clicks", partitions, Arc::new(SystemClock))
    }
    async fn delete_records(&self, log: &MemoryLog, partition: u32, before: Offset) {
        log.delete_records(partition, before).unwrap();
    }
    async fn recreate(&self, log: &MemoryLog, partitions: u32) {
        log.recreate(partitions);
    }
    fn keys(&self) -> usize {
        10_000
    }
}

#[tokio::test]
async fn the_memory_log_conforms() {
    conformance::suite(&InMemory).await;
}

#[tokio::test]
async fn append_times_are_the_clock_plus_the_skew_of_the_broker() {
    let clock = Arc::new(SimulatedClock::new(Timestamp::from_millis(1_000)));
    let log = MemoryLog::with_id(region(), "clicks", 2, clock.clone(), TopicId::from_u128(7));
    let at = async |partition, time| log.offset_at(partition, Timestamp::from_millis(time)).await.unwrap();
    let append = async |partition| {
        let appended = log.append(Target::Partition(partition), record("x")).await.unwrap();
        appended.broker_time.as_millis()
    };
    assert_eq!(append(0).await, 1_000);
    clock.advance_to(Timestamp::from_millis(1_011));
    assert_eq!(append(0).await, 1_011);
    log.set_broker_skew(0, Span::millis(-5)).unwrap();
    clock.advance_to(Timestamp::from_millis(1_014));
    assert_eq!(append(0).await, 1_009, "the new broker's clock is behind");
    assert_eq!(append(1).await, 1_014);
    // The first record at or after the time, though a later one is earlier.
    assert_eq!(at(0, 1_005).await, Some(Offset::new(1)));
    log.delete_records(0, Offset::new(2)).unwrap();
    assert_eq!(at(0, 1_005).await, Some(Offset::new(2)));
    assert_eq!(at(0, 1_010).await, None);
    log.recreate(1);
    assert_eq!(log.topic().await.unwrap().id, TopicId::from_u128(8));
}

#[tokio::test]
async fn appends_fail_as_told_and_in_that_order() {
    let log = MemoryLog::new(region(), "clicks", 1, Arc::new(SystemClock));
    log.fail_next_append(AppendFault::Refused);
    log.fail_next_append(AppendFault::LostReply);
    for value in ["refused", "lost"] {
        let failed = log.append(Target::Partition(0), record(value)).await;
        assert!(matches!(failed, Err(LogError::Unavailable(_))), "{failed:?}");
    }
    assert_eq!(log.append(Target::Partition(0), record("taken")).await.unwrap().offset, Offset::new(1));
    let read = log.open(0, Offset::ZERO).await.unwrap().poll(9, Duration::ZERO).await.unwrap();
    let values: Vec<_> = read.iter().map(|record| record.value.as_deref().unwrap()).collect();
    assert_eq!(values, [b"lost".as_slice(), b"taken"]);
}

/// Readers and writers at once on several threads: nothing is lost, doubled or slept through.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_keep_up_with_concurrent_writers() {
    const EACH: usize = 2_000;
    let log = MemoryLog::new(region(), "clicks", 1, Arc::new(SystemClock));
    let mut reader = log.open(0, Offset::ZERO).await.unwrap();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let log = log.clone();
            tokio::spawn(async move {
                for n in 0..EACH {
                    log.append(Target::Partition(0), record(&format!("{writer}-{n}"))).await.unwrap();
                    tokio::task::yield_now().await;
                }
            })
        })
        .collect();
    let mut next = Offset::ZERO;
    while next < Offset::new(4 * EACH as u64) {
        let read = reader.poll(7, Duration::from_secs(20)).await.unwrap();
        assert!(!read.is_empty(), "slept through an append at {next}");
        for record in read {
            assert_eq!(record.offset, next);
            next = next.next();
        }
    }
    for writer in writers {
        writer.await.unwrap();
    }
}
