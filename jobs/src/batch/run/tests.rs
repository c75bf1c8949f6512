//! Runs of an installation in memory, under a clock that stands still.

use std::sync::Arc;

use archive::codec::encode;
use clicks::control::HEARTBEAT;
use clicks::id::{Region, TopicId};
use clicks::ledger::{Body, Genesis, TopicLife};
use clicks::position::{Offset, PartitionId};
use clicks::rules::Rules;
use clicks::wire;
use platform::clock::{Clock, SimulatedClock};
use platform::ledger::Ledger;
use platform::log::{Header, LogRecord};
use platform::objects::Objects;
use recompute::LEASE;

use super::*;

const LENGTH: Span = Span::minutes(2);

fn day(n: i32) -> Day {
    "2026-03-01".parse::<Day>().unwrap().plus(n - 1)
}

fn cut_time(n: i32) -> Timestamp {
    day(n).end() + Span::minutes(10)
}

struct World {
    desk: Desk,
    clock: Arc<SimulatedClock>,
}

impl World {
    /// One partition, nothing archived.
    async fn new(now: Timestamp) -> Self {
        let (objects, clock) = (Objects::memory(), Arc::new(SimulatedClock::new(now)));
        let ledger = Ledger::new(objects.clone());
        let mut books = ledger.begin(Genesis { first_day: day(1), rules: Rules::default() }).await.unwrap();
        let PartitionId { region, topic, .. } = partition();
        let life = TopicLife { region, topic_id: topic, name: "clicks".to_owned(), partitions: 1 };
        ledger.publish(&mut books, Body::Topic(life)).await.unwrap();
        let options = recompute::Options { runner: "us".to_owned(), target_partitions: 1, ..Default::default() };
        World { desk: Desk { objects, ledger, clock: clock.clone(), options, accept: None }, clock }
    }

    /// Archives a heartbeat at the cut of night `n`, the record with that number.
    async fn cover(&self, n: i32) {
        let header = Header { name: wire::HEADER_CONTROL.to_owned(), value: Some(HEARTBEAT.into()) };
        let (offset, broker_time) = (Offset::new(n as u64 - 1), cut_time(n));
        let record = LogRecord { offset, broker_time, key: None, value: None, headers: vec![header] };
        let object = encode(&partition(), "test", &[(record, broker_time)]).unwrap();
        self.desk.objects.create(&object.footer.key().to_string(), object.bytes).await.unwrap();
    }

    async fn hold(&self, until: Timestamp) {
        let text = format!(r#"{{"version":1,"holder":"them","since":0,"until":{}}}"#, until.as_millis());
        self.desk.objects.put(LEASE, text.into()).await.unwrap();
    }

    async fn close(&self, asked: Asked, wait: Span) -> Outcome {
        let progress = Progress::start(&self.desk.options.stages);
        close(&self.desk, asked, Some(LENGTH), self.clock.now() + wait, &progress).await
    }

    /// Runs while time passes in steps of ten seconds; `event` happens at `time`.
    async fn close_while(&self, asked: Asked, wait: Span, time: Timestamp, event: impl Future<Output = ()>) -> Outcome {
        let passing = async {
            while self.clock.now() < time {
                self.step().await;
            }
            event.await;
            loop {
                self.step().await;
            }
        };
        tokio::select! {
            outcome = self.close(asked, wait) => outcome,
            () = passing => unreachable!("time passes for ever"),
        }
    }

    async fn step(&self) {
        // Work goes on between two moments: it must not look as if it took minutes.
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        self.clock.advance_to(self.clock.now() + Span::seconds(10));
    }

    async fn published(&self) -> Option<Day> {
        self.desk.ledger.read().await.unwrap().last_night()
    }
}

fn partition() -> PartitionId {
    PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(1), number: 0 }
}

fn nights(outcome: &Outcome) -> Vec<Day> {
    outcome.nights.iter().map(|night| night.night).collect()
}

#[tokio::test]
async fn without_patience_a_night_that_is_not_archived_is_to_be_tried_again() {
    let world = World::new(cut_time(1)).await;
    for asked in [Asked::Next, Asked::Night(day(1)), Asked::AllDue { lookback: None }] {
        let outcome = world.close(asked, Span::ZERO).await;
        assert!(matches!(outcome.end, End::Waits(_)) && outcome.exit() == Exit::Incomplete, "{outcome:?}");
    }
    assert_eq!(world.clock.now(), cut_time(1), "nobody has waited");
    assert_eq!(world.desk.objects.get(LEASE).await.unwrap(), None, "the lease is given back");
}

#[tokio::test]
async fn with_patience_it_is_published_as_soon_as_it_is_archived() {
    for asked in [Asked::Next, Asked::Night(day(1)), Asked::AllDue { lookback: None }] {
        let world = World::new(cut_time(1)).await;
        let archived = cut_time(1) + Span::minutes(20);
        let outcome = world.close_while(asked, Span::hours(1), archived, world.cover(1)).await;
        assert_eq!((nights(&outcome), outcome.exit()), (vec![day(1)], Exit::Done), "{outcome:?}");
        assert_eq!(world.desk.objects.get(LEASE).await.unwrap(), None, "the lease is given back");
    }
}

#[tokio::test]
async fn patience_ends() {
    let world = World::new(cut_time(1)).await;
    let began = world.clock.now();
    let outcome = world.close_while(Asked::Next, Span::minutes(45), began, async {}).await;
    assert!(matches!(outcome.end, End::Waits(_)) && outcome.exit() == Exit::Incomplete, "{outcome:?}");
    assert!(world.clock.now() >= began + Span::minutes(45), "it gave up at {}", world.clock.now());
}

/// Started five minutes before the night is due.
#[tokio::test]
async fn a_night_that_becomes_due_meanwhile_is_waited_for_and_a_later_one_is_not() {
    for asked in [Asked::Next, Asked::AllDue { lookback: None }] {
        let world = World::new(cut_time(1) - Span::minutes(5)).await;
        let archived = cut_time(1) + Span::minutes(1);
        let outcome = world.close_while(asked, Span::hours(1), archived, world.cover(1)).await;
        assert_eq!(nights(&outcome), [day(1)], "{outcome:?}");
        // The next one is due tomorrow.
        let again = world.close(asked, Span::hours(1)).await;
        let End::NothingDue { next, .. } = again.end else { panic!("{again:?}") };
        assert_eq!((next, again.exit()), (day(2), Exit::Done));
    }
    let world = World::new(cut_time(1) - Span::minutes(5)).await;
    let early = world.close(Asked::Next, Span::minutes(4)).await;
    assert!(matches!(early.end, End::NothingDue { .. }) && early.exit() == Exit::Incomplete, "{early:?}");
    let all = world.close(Asked::AllDue { lookback: None }, Span::minutes(4)).await;
    assert_eq!(all.exit(), Exit::Done, "whoever asks for what is due has it all");
}

#[tokio::test]
async fn another_run_is_not_disturbed_and_is_waited_for_if_asked() {
    let world = World::new(cut_time(1)).await;
    world.cover(1).await;
    let until = cut_time(1) + Span::minutes(10);
    world.hold(until).await;
    let outcome = world.close(Asked::Night(day(1)), Span::ZERO).await;
    let End::Held(held) = &outcome.end else { panic!("{outcome:?}") };
    assert_eq!((held.holder.as_str(), held.until, outcome.exit()), ("them", until, Exit::Lost));
    assert_eq!(world.published().await, None);
    assert!(world.desk.objects.list("tables/", None).await.unwrap().is_empty(), "nothing was computed");

    // It was killed; its lease runs out while this one waits.
    let began = world.clock.now();
    let outcome = world.close_while(Asked::Night(day(1)), Span::hours(1), began, async {}).await;
    assert_eq!((nights(&outcome), outcome.exit()), (vec![day(1)], Exit::Done));
    assert!(world.clock.now() >= until);
    // What is published already is told whoever is at work.
    world.hold(world.clock.now() + Span::minutes(10)).await;
    let again = world.close(Asked::Night(day(1)), Span::ZERO).await;
    assert!(matches!(again.end, End::AlreadyPublished { .. }) && again.exit() == Exit::Done, "{again:?}");
    let all = world.close(Asked::AllDue { lookback: None }, Span::ZERO).await;
    assert!(matches!(all.end, End::NothingDue { .. }) && all.exit() == Exit::Done, "{all:?}");
}

#[tokio::test]
async fn a_store_that_takes_no_lease_does_not_stop_a_night() {
    let folder = tempfile::tempdir().unwrap();
    let world = World::new(cut_time(1)).await;
    world.cover(1).await;
    let objects = Objects::open_folder(folder.path().to_owned()).unwrap();
    for prefix in ["raw/", "ledger/"] {
        for object in world.desk.objects.list(prefix, None).await.unwrap() {
            let bytes = world.desk.objects.get(&object.key).await.unwrap().unwrap();
            objects.create(&object.key, bytes).await.unwrap();
        }
    }
    std::fs::write(folder.path().join("leases"), "a file where the folder should be").unwrap();
    let ledger = Ledger::new(objects.clone());
    let world = World { desk: Desk { objects, ledger, ..world.desk }, clock: world.clock };
    let outcome = world.close(Asked::Next, Span::ZERO).await;
    assert_eq!(nights(&outcome), [day(1)], "{outcome:?}");
}

#[tokio::test]
async fn more_nights_than_allowed_are_not_begun_and_none_is_left_out() {
    let world = World::new(cut_time(3)).await;
    for n in 1..=3 {
        world.cover(n).await;
    }
    let few = world.close(Asked::AllDue { lookback: Some(2) }, Span::hours(1)).await;
    let End::Behind { first, last, nights: due, lookback } = few.end else { panic!("{few:?}") };
    assert_eq!((first, last, due, lookback, few.exit()), (day(1), day(3), 3, 2, Exit::Usage));
    assert_eq!(world.published().await, None);
    let enough = world.close(Asked::AllDue { lookback: Some(3) }, Span::ZERO).await;
    assert_eq!((nights(&enough), enough.exit()), (vec![day(1), day(2), day(3)], Exit::Done));
    let nothing = world.close(Asked::AllDue { lookback: Some(1) }, Span::ZERO).await;
    assert!(matches!(nothing.end, End::NothingDue { .. }), "{nothing:?}");
}

#[tokio::test]
async fn what_was_published_before_a_night_that_waits_or_fails_is_told() {
    let world = World::new(cut_time(2)).await;
    world.cover(1).await;
    let outcome = world.close(Asked::AllDue { lookback: None }, Span::ZERO).await;
    assert_eq!((nights(&outcome), outcome.exit()), (vec![day(1)], Exit::Incomplete));
    let End::Waits(incomplete) = &outcome.end else { panic!("{outcome:?}") };
    assert_eq!(incomplete.night, day(2));
}

/// All nights that are due, one upon the other, and nothing of it stays.
#[tokio::test]
async fn a_rehearsal_of_several_nights_leaves_nothing_behind() {
    let world = World::new(cut_time(2)).await;
    for n in 1..=2 {
        world.cover(n).await;
    }
    let before = world.desk.objects.list("", None).await.unwrap();
    let Desk { objects, ledger, clock, options, accept: _ } = &world.desk;
    let desk = Desk {
        objects: objects.clone(),
        ledger: ledger.clone(),
        clock: clock.clone(),
        options: options.clone(),
        accept: None,
    };
    let desk = desk.rehearsal();
    let progress = Progress::start(&desk.options.stages);
    let outcome = close(&desk, Asked::AllDue { lookback: None }, None, world.clock.now(), &progress).await;
    assert_eq!((nights(&outcome), outcome.exit()), (vec![day(1), day(2)], Exit::Done));
    assert_eq!(world.desk.objects.list("", None).await.unwrap(), before);
}

#[test]
fn a_lease_is_neither_endless_nor_over_at_once() {
    for (length, fine) in [("9s", false), ("10s", true), ("1h", true), ("61min", false)] {
        let settings = Settings::from_toml(&format!("[batch]\nlease = \"{length}\"")).unwrap();
        let checked = lease_length(&settings);
        assert_eq!(checked.is_ok(), fine, "{length}: {checked:?}");
        if let Err(error) = checked {
            assert!(Exit::of_error(&error) == Exit::Usage && error.to_string().contains("batch.lease"), "{error}");
        }
    }
}
