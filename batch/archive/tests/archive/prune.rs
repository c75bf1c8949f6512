//! Deleting old raw objects: never what a night may still read, and whatever happens in between, a chain remains.

use std::collections::BTreeMap;

use archive::chain::read_chain;
use archive::codec::encode;
use archive::{PruneError, PruneMode, PruneOptions, Pruned, prune};
use bytes::Bytes;
use clicks::inputs::{InputList, InputObject};
use clicks::layout::chain_prefix;
use clicks::ledger::{Balance, Body, DayRevision, DayTotals, FileRef, Night, sha256};
use clicks::position::Offset;
use clicks::time::{Day, Span};
use platform::clock::{Clock, SimulatedClock};

use crate::support::{click_record, noon, with_append_time};
use crate::world::World;

const DAYS: i32 = 60;
/// Records a day: one every two hours.
const RECORDS: u64 = 12;

fn first_day() -> Day {
    noon().day()
}

fn options(keep: Span, mode: PruneMode) -> PruneOptions {
    PruneOptions { keep, mode, writer: "test".to_owned() }
}

/// A partition of 60 days, an object each, whose nights are published up to `nights` days; the last has read the objects
/// from `read` on.
async fn world(nights: i32, read: i32) -> World {
    let mut world = World::new(first_day().start(), 1).await;
    let partition = world.partition(0).await;
    let mut keys = Vec::new();
    for day in 0..DAYS {
        let start = day as u64 * RECORDS;
        let at = |n: u64| first_day().plus(day).start() + Span::hours(2 * n as i64);
        let records = (0..RECORDS).map(|n| click_record(start + n, at(n))).collect();
        let encoded = encode(&partition, "test", &with_append_time(records)).unwrap();
        keys.push(encoded.footer.key().to_string());
        world.objects.put(keys.last().unwrap(), encoded.bytes).await.unwrap();
    }
    let mut books = world.ledger.read().await.unwrap();
    for night in 0..nights {
        let object = |key: &String| {
            let (from, to) = (Offset::ZERO, Offset::ZERO);
            InputObject { key: key.clone(), sha256: String::new(), bytes: 1, from, to }
        };
        let objects = keys[read as usize..=night.max(read) as usize].iter().map(object).collect();
        let list = InputList { version: InputList::VERSION, night: first_day().plus(night), objects };
        let list = Bytes::from(list.encode());
        let key = format!("tables/rev/{night}/inputs.json");
        let file = |key: &str, bytes: &[u8]| FileRef { key: key.to_owned(), sha256: sha256(bytes), bytes: 1, rows: 1 };
        let inputs = file(&key, &list);
        world.objects.put(&key, list).await.unwrap();
        let day = first_day().plus(night);
        let none = file("none", b"");
        let revision = DayRevision {
            day,
            revision: 1,
            rules_version: 1,
            minute: none.clone(),
            hour: none.clone(),
            day_file: none,
            totals: DayTotals::default(),
            change: None,
        };
        let finals = books.finals_of(day);
        let night = Night {
            night: day,
            published_at: day.end(),
            release: "test".to_owned(),
            // The first record of the next day is at its midnight, before the cut.
            cuts: BTreeMap::from([(partition.clone(), Offset::new((night as u64 + 1) * RECORDS + 1))]),
            days: vec![revision],
            withheld: None,
            accepted: None,
            confirmed: Vec::new(),
            finals,
            adjustments: None,
            inputs,
            balance: Balance::default(),
        };
        world.ledger.publish(&mut books, Body::Night(Box::new(night))).await.unwrap();
    }
    world.clock = std::sync::Arc::new(SimulatedClock::new(first_day().plus(DAYS).start()));
    world
}

async fn days_left(world: &World) -> Vec<i32> {
    let chain = read_chain(&world.objects, &world.partition(0).await).await.unwrap();
    chain.segments.iter().map(|segment| segment.key.day.number() - first_day().number()).collect()
}

async fn run(world: &World, keep: i64, mode: PruneMode) -> Pruned {
    prune(&world.objects, &world.ledger, &*world.clock, &options(Span::days(keep), mode)).await.unwrap()
}

#[tokio::test]
async fn whole_days_are_deleted_and_the_base_is_recorded() {
    let world = world(59, 54).await;
    let before = world.objects.list("raw/", None).await.unwrap();
    let would = run(&world, 50, PruneMode::DryRun).await;
    assert_eq!(world.objects.list("raw/", None).await.unwrap(), before, "a dry run changes nothing");
    let done = run(&world, 50, PruneMode::Delete).await;
    assert_eq!(done, would);
    assert_eq!((done.before, done.asked), (Some(first_day().plus(10)), first_day().plus(10)));
    assert_eq!((done.partitions[0].objects, done.partitions[0].base), (10, Offset::new(10 * RECORDS)));
    assert_eq!(days_left(&world).await, (10..DAYS).collect::<Vec<_>>());
    let chain = read_chain(&world.objects, &world.partition(0).await).await.unwrap();
    assert_eq!(chain.base(), Some(Offset::new(10 * RECORDS)));
    assert_eq!(run(&world, 50, PruneMode::Delete).await.partitions, [], "nothing is left to do");
    // Should an object of the kept days vanish, the front is lost, not begun later.
    world.objects.delete(&chain.segments[0].key.to_string()).await.unwrap();
    let error = prune(&world.objects, &world.ledger, &*world.clock, &options(Span::days(40), PruneMode::Delete)).await;
    assert!(matches!(error, Err(PruneError::Chain(_))), "{error:?}");
}

/// Days 56 to 58 are open, the next night is 59: 35 days of age and a day of horizon before the oldest are kept.
#[tokio::test]
async fn what_a_night_may_still_read_is_kept_whatever_is_asked() {
    let cases = [
        // Nights, what the last one has read, days that are kept at least.
        ("the maximum age and the horizon before the oldest open day", 59, 54, 19..DAYS),
        ("what the last night has read", 59, 7, 7..DAYS),
        ("what no night has read", 5, 0, 0..DAYS),
        ("without a night nothing is deleted", 0, 0, 0..DAYS),
    ];
    for (name, nights, read, kept) in cases {
        let world = world(nights, read).await;
        run(&world, 1, PruneMode::Delete).await;
        assert_eq!(days_left(&world).await, kept.collect::<Vec<_>>(), "{name}");
    }
}

/// A run that is killed between any two deletes is finished by the next one, and readers see one chain throughout.
#[tokio::test]
async fn a_killed_run_is_finished_by_the_next_one() {
    for killed_after in 0..=10 {
        let world = world(59, 54).await;
        let partition = world.partition(0).await;
        world.store.fail_deletes_after(killed_after);
        let outcome =
            prune(&world.objects, &world.ledger, &*world.clock, &options(Span::days(50), PruneMode::Delete)).await;
        assert_eq!(outcome.is_err(), killed_after < 10);
        assert_eq!(days_left(&world).await, (10..DAYS).collect::<Vec<_>>(), "{killed_after}");
        world.store.fail_deletes_after(usize::MAX);
        let again = run(&world, 50, PruneMode::Delete).await;
        let objects: u64 = again.partitions.iter().map(|partition| partition.objects).sum();
        assert_eq!(objects, 10 - killed_after as u64);
        let listed = world.objects.list(&chain_prefix(&partition), None).await.unwrap();
        assert_eq!(listed.len() as i32, DAYS - 10 + 1, "the objects that are kept and the base");
        assert_eq!(read_chain(&world.objects, &partition).await.unwrap().base(), Some(Offset::new(10 * RECORDS)));
    }
}

#[tokio::test]
async fn what_cannot_be_decided_deletes_nothing() {
    let world = world(59, 54).await;
    let refused =
        async |keep| prune(&world.objects, &world.ledger, &*world.clock, &options(keep, PruneMode::Delete)).await;
    assert!(matches!(refused(Span::ZERO).await, Err(PruneError::Keep(_))));
    world.objects.put("tables/rev/58/inputs.json", Bytes::from_static(b"{}")).await.unwrap();
    let error = refused(Span::days(50)).await.unwrap_err();
    assert!(matches!(&error, PruneError::Inputs { key, .. } if key == "tables/rev/58/inputs.json"), "{error}");
    assert_eq!(days_left(&world).await.len() as i32, DAYS);
    assert!(world.clock.now() > noon());
}
