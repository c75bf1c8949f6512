//! What the loop does not mend by itself: it ends, says what is wrong and how to mend it, and nothing wrong is stored.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use clicks::ledger::Body;
use clicks::live::{Expected, Flush, Lost, Stage};
use clicks::position::Offset;
use clicks::time::{Interval, Span, Timestamp};
use counter::{CounterError, Options, Partitions};
use platform::ledger::{Ledger, LedgerError};
use platform::log::{Appended, Bounds, Log, LogError, LogRecord, MemoryLog, NewRecord, Reader, Target, Topic};
use platform::objects::Objects;
use platform::store::SpeedStore;

use crate::metrics::counted;
use crate::world::{World, first_day, life, noon};

/// A log whose answers are out of date when they arrive, or whose reader is slow or skips a record.
#[derive(Debug)]
pub(crate) struct Odd {
    pub(crate) inner: MemoryLog,
    pub(crate) answer_takes: Duration,
    pub(crate) poll_takes: Duration,
    pub(crate) skips: Option<Offset>,
}

#[derive(Debug)]
struct OddReader {
    inner: Box<dyn Reader>,
    poll_takes: Duration,
    skips: Option<Offset>,
}

#[async_trait]
impl Log for Odd {
    async fn topic(&self) -> Result<Topic, LogError> {
        let answer = self.inner.topic().await;
        tokio::time::sleep(self.answer_takes).await;
        answer
    }
    async fn append(&self, target: Target, record: NewRecord) -> Result<Appended, LogError> {
        self.inner.append(target, record).await
    }
    async fn bounds(&self, partition: u32) -> Result<Bounds, LogError> {
        self.inner.bounds(partition).await
    }
    async fn offset_at(&self, partition: u32, time: Timestamp) -> Result<Option<Offset>, LogError> {
        self.inner.offset_at(partition, time).await
    }
    async fn open(&self, partition: u32, from: Offset) -> Result<Box<dyn Reader>, LogError> {
        let inner = self.inner.open(partition, from).await?;
        Ok(Box::new(OddReader { inner, poll_takes: self.poll_takes, skips: self.skips }))
    }
}

#[async_trait]
impl Reader for OddReader {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Vec<LogRecord>, LogError> {
        tokio::time::sleep(self.poll_takes).await;
        let mut records = self.inner.poll(max, wait).await?;
        records.retain(|record| Some(record.offset) != self.skips);
        Ok(records)
    }
}

/// Scenario 12: the topic is re-created with 10,000 counted, and records of the new life are read before it is noticed.
#[tokio::test]
async fn nothing_of_a_recreated_topic_enters_the_old_counts() {
    let mut world = World::new(1).await;
    // An answer that was true when the broker gave it arrives after records of the new life were read.
    let odd = Odd {
        inner: MemoryLog::clone(&world.log),
        answer_takes: Duration::from_millis(40),
        poll_takes: Duration::ZERO,
        skips: None,
    };
    let options = Options { poll_max: 1_000, ..World::options() };
    let run = world.start_on(Arc::new(odd), options);
    world.clicks(0, "a", 10_000).await;
    world.settled().await;
    world.pass(Span::hours(3));
    world.log.recreate(1);
    let (old, old_records) = (world.topic.clone(), world.history.insert(0, Vec::new()).unwrap());
    // More than the old life had, so that its reader finds its position.
    world.clicks(0, "a", 10_500).await;
    let error = run.ends().await;
    let new = world.log.topic().await.unwrap();
    assert!(
        matches!(&error, CounterError::TopicRecreated { before, now, .. } if (*before, *now) == (old.id, new.id)),
        "{error}"
    );
    assert!(error.to_string().contains("twofold topic create"));
    assert_eq!(world.count(0, "a", noon()).await, Some(10_000), "the old counts stay");
    assert_eq!(world.stored(0).await.unwrap().meta.next_offset, Offset::new(10_000));
    let rules = world.rules().await;
    crate::oracle::check(&world.stored(0).await.unwrap(), &old_records, &rules, "the old life");

    let error = world.start().ends().await;
    assert!(matches!(error, CounterError::ForeignTopic { found, .. } if found == new.id), "{error}");
    world.publish(Body::Topic(life(&new))).await;
    world.topic = new;
    let run = world.start();
    world.check("the new life is counted apart").await;
    assert_eq!(world.count(0, "a", world.now()).await, Some(10_500));
    run.stop().await;
}

#[tokio::test]
async fn a_topic_that_vanishes_or_grows_while_nothing_is_read_is_noticed() {
    let world = World::new(2).await;
    let run = world.start();
    world.until("it began", async || world.stored(1).await.is_some()).await;
    world.log.recreate(2);
    assert!(matches!(run.ends().await, CounterError::TopicRecreated { .. }));

    let world = World::new(2).await;
    world.log.recreate(3);
    let error = world.start().ends().await;
    assert!(matches!(&error, CounterError::ForeignTopic { partitions: 3, .. }), "{error}");
    assert!(error.to_string().contains("twofold topic create"), "{error}");
    assert!(world.stored(0).await.is_none());
}

#[tokio::test]
async fn what_is_missing_at_the_start_is_named() {
    let mut world = World::new(2).await;
    let choose = |partitions| Options { partitions: Partitions::Fixed(partitions), ..World::options() };
    let error = world.start_on(world.log.clone(), choose(vec![1, 2])).ends().await;
    assert!(matches!(error, CounterError::NoPartition { number: 2, partitions: 2, .. }), "{error}");
    assert!(error.to_string().contains("only 0 to 1"), "{error}");
    let error = world.start_on(world.log.clone(), choose(vec![])).ends().await;
    assert!(matches!(error, CounterError::NothingToCount), "{error}");

    world.clicks(0, "a", 1).await;
    world.clicks(1, "a", 1).await;
    let run = world.start_on(world.log.clone(), choose(vec![1, 1]));
    world.until("partition 1 is counted", async || world.count(1, "a", noon()).await == Some(1)).await;
    assert!(world.stored(0).await.is_none(), "partition 0 is another process's");
    run.stop().await;

    world.ledger = Ledger::new(Objects::memory());
    let error = world.start().ends().await;
    assert!(matches!(error, CounterError::Ledger(LedgerError::Missing(_))), "{error}");
    assert!(error.to_string().contains("twofold topic create"), "{error}");
}

#[tokio::test]
async fn a_reader_that_skips_a_record_ends_the_process() {
    let mut world = World::new(1).await;
    world.clicks(0, "a", 9).await;
    let skips = Some(Offset::new(5));
    let odd =
        Odd { inner: MemoryLog::clone(&world.log), answer_takes: Duration::ZERO, poll_takes: Duration::ZERO, skips };
    let options = Options { poll_max: 1, ..World::options() };
    let error = world.start_on(Arc::new(odd), options).ends().await;
    assert!(matches!(&error, CounterError::Gap { source, .. } if source.expected == Offset::new(5)), "{error}");
    assert!(world.stored(0).await.unwrap().meta.next_offset <= Offset::new(5));
}

/// Another log under the same identity: what real brokers are after an unclean election.
async fn replace_log(world: &mut World, clicks: usize) {
    let log = MemoryLog::with_id(
        world.topic.region.clone(),
        &world.topic.name,
        world.topic.partitions,
        world.clock.clone(),
        world.topic.id,
    );
    world.log = Arc::new(log);
    world.history.insert(0, Vec::new());
    world.clicks(0, "b", clicks).await;
}

#[tokio::test]
async fn a_log_that_is_not_the_one_that_was_counted_is_counted_anew() {
    for (clicks, what) in [(20, "another record before the position"), (3, "the log ends before the position")] {
        let mut world = World::new(1).await;
        let run = world.start();
        world.clicks(0, "a", 10).await;
        world.settled().await;
        let generation = world.generation(0).await;
        run.kill().await;
        replace_log(&mut world, clicks).await;
        let run = world.start();
        world.until(what, async || world.generation(0).await != generation).await;
        world.check(what).await;
        assert_eq!(world.count(0, "a", noon()).await, None, "{what}");
        run.stop().await;
    }
}

/// The reader stands at the end and is told nothing: the log lost its end and grew again in between.
#[tokio::test]
async fn another_record_before_the_position_is_found_while_counting() {
    let mut world = World::new(1).await;
    let options = Options { scrub_interval: Duration::from_millis(5), ..World::options() };
    let run = world.start_on(world.log.clone(), options);
    world.clicks(0, "a", 10).await;
    world.check("before").await;
    let generation = world.generation(0).await;
    world.log.truncate(0, Offset::new(9)).unwrap();
    world.history.get_mut(&0).unwrap().pop();
    world.clicks(0, "b", 1).await;
    world.until("a new generation", async || world.generation(0).await != generation).await;
    world.check("counted anew").await;
    assert_eq!((world.count(0, "a", noon()).await, world.count(0, "b", noon()).await), (Some(9), Some(1)));
    run.stop().await;
}

#[tokio::test]
async fn totals_that_contradict_each_other_are_counted_anew() {
    let mut world = World::new(1).await;
    let run = world.start();
    world.clicks(0, "a", 10).await;
    world.settled().await;
    run.kill().await;
    let slice = world.stored(0).await.unwrap();
    let mut meta = slice.meta.clone();
    meta.totals.seen += 1;
    let step = Flush {
        expected: Expected::At { generation: slice.generation, next_offset: meta.next_offset },
        generation: slice.generation,
        stage: Stage::Live,
        meta,
        counts: Vec::new(),
        late: Vec::new(),
        drop_hours: Vec::new(),
        drop_nights: Vec::new(),
    };
    world.store.flush(&world.partition(0), &step).await.unwrap();
    let run = world.start();
    world.until("a new generation", async || world.generation(0).await != slice.generation).await;
    world.check("counted anew").await;
    run.stop().await;
}

#[tokio::test]
async fn records_that_fell_off_the_log_are_never_shown_as_counted() {
    let mut world = World::new(1).await;
    let run = world.start();
    world.clicks(0, "a", 10).await;
    world.settled().await;
    let generation = world.generation(0).await;
    run.kill().await;

    // Only what was counted fell off. It is gone on with, but a retry of it would count again, so that is owned up to.
    world.log.delete_records(0, Offset::new(10)).unwrap();
    world.clicks(0, "a", 2).await;
    let run = world.start();
    world.check("the fingerprint's record is gone").await;
    assert_eq!(world.generation(0).await, generation);
    let drift = world.stored(0).await.unwrap().meta.drift;
    assert_eq!(drift, Interval::new(noon(), noon() + Span::minutes(15)));
    run.kill().await;

    // Now clicks of 23:38 fell off that were not counted, and one is left: what was counted stays, what is lost is told.
    let midnight = first_day().end();
    let gap = midnight - Span::minutes(22);
    world.clock.advance_to(gap);
    world.clicks(0, "a", 3).await;
    world.log.delete_records(0, Offset::new(14)).unwrap();
    let gaps = counted("twofold_speed_gaps_total");
    let run = world.start();
    world.settled().await;
    assert!(counted("twofold_speed_gaps_total") > gaps);
    assert_eq!(world.generation(0).await, generation);
    let meta = world.stored(0).await.unwrap().meta;
    let appended = Interval::new(noon(), gap + Span::millis(1));
    assert_eq!(meta.lost, Lost { records: 2, appended });
    assert_eq!(meta.drift, Interval::new(noon(), gap + Span::millis(1) + Span::minutes(15)));
    assert!(meta.is_balanced(), "{meta:?}");
    assert_eq!((world.count(0, "a", noon()).await, world.count(0, "a", gap).await), (Some(12), Some(1)));
    run.kill().await;

    // Nothing at all is left, twice, and once more while it runs.
    world.clock.advance_to(midnight);
    world.clicks(0, "a", 2).await;
    world.log.delete_records(0, Offset::new(17)).unwrap();
    let run = world.start();
    world.settled().await;
    world.store.go_away(true);
    world.pass(Span::minutes(1));
    world.clicks(0, "a", 2).await;
    world.log.delete_records(0, Offset::new(19)).unwrap();
    world.store.go_away(false);
    world.pass(Span::minutes(1));
    world.clicks(0, "a", 4).await;
    world.settled().await;
    let meta = world.stored(0).await.unwrap().meta;
    assert_eq!((meta.lost.records, meta.lost.appended.start), (6, noon()));
    assert!(meta.lost.appended.end > midnight + Span::minutes(1), "{meta:?}");
    assert_eq!((world.generation(0).await, world.count(0, "a", world.now()).await), (generation, Some(4)));
    run.kill().await;

    // Without what was stored there is nothing to go on with: a retry of what fell off could count on the next day as
    // well, so neither day is live.
    let mut world = World::new(1).await;
    world.clock.advance_to(midnight - Span::minutes(20));
    world.clicks(0, "a", 2).await;
    world.log.delete_records(0, Offset::new(1)).unwrap();
    let run = world.start();
    world.settled().await;
    assert_eq!(world.stored(0).await.unwrap().meta.base_day, first_day().plus(2));
    run.stop().await;

    // All of the first day's clicks are left, but not all sightings of the look-back before it.
    let mut world = World::new(1).await;
    world.fail_over(0, Span::minutes(12 * 60 + 9));
    world.clicks(0, "a", 2).await;
    world.log.delete_records(0, Offset::new(1)).unwrap();
    world.fail_over(0, Span::ZERO);
    world.clicks(0, "a", 3).await;
    let run = world.start();
    world.settled().await;
    let meta = world.stored(0).await.unwrap().meta;
    assert_eq!((meta.base_offset, meta.base_day), (Offset::new(2), first_day()));
    let (base_time, left) = (first_day().start() - Span::minutes(5), first_day().start() - Span::minutes(9));
    assert_eq!(meta.drift, Interval::new(base_time, left + Span::minutes(15)));
    run.stop().await;

    // A log that holds nothing any more may have lost clicks of now.
    let mut world = World::new(1).await;
    world.clicks(0, "a", 2).await;
    world.log.delete_records(0, Offset::new(2)).unwrap();
    let run = world.start();
    world.settled().await;
    assert_eq!(world.stored(0).await.unwrap().meta.base_day, first_day().next());
    run.stop().await;
}
