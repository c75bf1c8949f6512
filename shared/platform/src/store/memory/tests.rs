//! The store in memory keeps the contract, and its accidents are what they are called.

use clicks::event::Class;
use clicks::id::{AdId, Region, TopicId};
use clicks::live::{CountKey, Expected, Flush, FlushOutcome, Generation, Meta, Stage};
use clicks::position::{Offset, PartitionId};
use clicks::rules::{Rules, RulesBook};
use clicks::time::{Day, Interval, Timestamp};
use clicks::window::Minute;

use super::MemoryStore;
use crate::store::{Ads, LiveQuery, SpeedStore, StoreError, conformance};

#[tokio::test]
async fn it_conforms() {
    conformance::suite(&MemoryStore::new()).await;
}

fn partition() -> PartitionId {
    PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(1), number: 0 }
}

fn key(minute: i64) -> CountKey {
    let noon = Timestamp::parse_rfc3339("2026-03-10T12:00:00Z").unwrap();
    let minute = Minute::from_number(Minute::of(noon).number() + minute);
    CountKey { minute, class: Class::Valid, ad: AdId::parse("a").unwrap() }
}

/// Flush number `n` of a worker that counts one click per flush, in minute n of the hour.
fn nth(generation: u128, n: u64) -> Flush {
    let day: Day = "2026-03-10".parse().unwrap();
    let mut meta = Meta::new(Offset::ZERO, day, day, Offset::ZERO);
    meta.append_time = key(9).minute.start();
    meta.next_offset = Offset::new(n);
    meta.totals.seen = n;
    meta.totals.counted = n;
    let generation = Generation::from_u128(generation);
    let at = |next_offset| Expected::At { generation, next_offset, lost: 0 };
    Flush {
        expected: if n == 1 { Expected::Nothing } else { at(Offset::new(n - 1)) },
        generation,
        stage: Stage::Live,
        meta,
        counts: vec![(key(n as i64), 1), (key(0), n)],
        late: Vec::new(),
        drop_hours: Vec::new(),
        drop_nights: Vec::new(),
    }
}

async fn state(store: &MemoryStore) -> Option<(u64, Vec<u64>)> {
    let rules = RulesBook::new(Rules::default()).unwrap();
    let mut loaded = store.load(&partition(), &rules).await.unwrap()?;
    loaded.counts.sort();
    Some((loaded.meta.next_offset.value(), loaded.counts.into_iter().map(|(_, count)| count).collect()))
}

#[tokio::test]
async fn a_rollback_takes_counts_and_position_together() {
    let store = MemoryStore::new();
    for n in 1..=4 {
        assert_eq!(store.flush(&partition(), &nth(1, n)).await.unwrap(), FlushOutcome::Applied);
    }
    let backup = store.snapshot();
    assert_eq!(state(&store).await, Some((4, vec![4, 1, 1, 1, 1])));
    assert_eq!(store.rollback(&partition(), 2), 2);
    assert_eq!(state(&store).await, Some((2, vec![2, 1, 1])));
    let found = Some((Generation::from_u128(1), Offset::new(2)));
    assert_eq!(store.flush(&partition(), &nth(1, 5)).await.unwrap(), FlushOutcome::Mismatch { found });
    assert_eq!(store.flush(&partition(), &nth(1, 3)).await.unwrap(), FlushOutcome::Applied);
    assert_eq!(store.rollback(&partition(), 100), 3);
    assert_eq!(state(&store).await, None);
    store.restore(&backup);
    assert_eq!(state(&store).await, Some((4, vec![4, 1, 1, 1, 1])));
}

#[tokio::test]
async fn a_rollback_brings_back_what_was_dropped_or_replaced() {
    let store = MemoryStore::new();
    store.flush(&partition(), &nth(1, 1)).await.unwrap();
    let mut expiry = nth(1, 2);
    expiry.counts.clear();
    expiry.drop_hours = vec![key(0).minute.hour()];
    store.flush(&partition(), &expiry).await.unwrap();
    assert_eq!(state(&store).await, Some((2, vec![])));
    let mut replacing = nth(2, 1);
    replacing.expected = Expected::At { generation: Generation::from_u128(1), next_offset: Offset::new(2), lost: 0 };
    assert_eq!(store.flush(&partition(), &replacing).await.unwrap(), FlushOutcome::Applied);
    assert_eq!(state(&store).await, Some((1, vec![1, 1])));
    store.rollback(&partition(), 1);
    assert_eq!(state(&store).await, Some((2, vec![])));
    assert_eq!(store.flush(&partition(), &replacing).await.unwrap(), FlushOutcome::Applied, "new again");
    store.rollback(&partition(), 2);
    assert_eq!(state(&store).await, Some((1, vec![1, 1])));
}

#[tokio::test]
async fn accidents_are_what_they_are_called() {
    let store = MemoryStore::new();
    let unavailable = |result: Result<FlushOutcome, StoreError>| matches!(result, Err(StoreError::Unavailable(_)));
    store.lose_next_reply();
    assert!(unavailable(store.flush(&partition(), &nth(1, 1)).await));
    assert_eq!(state(&store).await, Some((1, vec![1, 1])), "applied, although nobody was told");
    assert_eq!(store.flush(&partition(), &nth(1, 2)).await.unwrap(), FlushOutcome::Applied, "only once");
    store.fail_next(2);
    for _ in 0..2 {
        assert!(unavailable(store.flush(&partition(), &nth(1, 3)).await));
    }
    assert_eq!(store.flush(&partition(), &nth(1, 3)).await.unwrap(), FlushOutcome::Applied);
    store.go_away(true);
    assert!(unavailable(store.flush(&partition(), &nth(1, 4)).await));
    assert!(store.check().await.is_err());
    store.go_away(false);
    assert_eq!(state(&store).await, Some((3, vec![3, 1, 1, 1])));
    assert!(store.delete_count(&partition(), &key(2)) && !store.delete_count(&partition(), &key(2)));
    assert_eq!(state(&store).await, Some((3, vec![3, 1, 1])), "position and other counts stay");
    assert!(store.delete_hour(&partition(), key(0).minute.hour()));
    assert_eq!(state(&store).await, Some((3, vec![])));
    store.flush_all();
    assert_eq!(state(&store).await, None);
}

#[tokio::test]
async fn a_lost_meta_record_is_an_error_until_its_generation_is_replaced() {
    let store = MemoryStore::new();
    assert!(!store.delete_meta(&partition()));
    for n in 1..=2 {
        store.flush(&partition(), &nth(1, n)).await.unwrap();
    }
    assert!(store.delete_meta(&partition()) && !store.delete_meta(&partition()));
    let damaged = |error: StoreError| {
        let live = Some(Generation::from_u128(1));
        assert!(matches!(&error, StoreError::Content { generation, .. } if *generation == live), "{error}");
    };
    let rules = RulesBook::new(Rules::default()).unwrap();
    damaged(store.load(&partition(), &rules).await.unwrap_err());
    damaged(store.flush(&partition(), &nth(1, 3)).await.unwrap_err());
    let mut cure = nth(2, 1);
    cure.expected = Expected::Damaged { generation: Some(Generation::from_u128(1)) };
    assert_eq!(store.flush(&partition(), &cure).await.unwrap(), FlushOutcome::Applied);
    assert_eq!(state(&store).await, Some((1, vec![1, 1])));
    assert_eq!(store.leftovers(&partition()), 2, "an hour and the changes");
    assert_eq!((store.sweep(&partition()).await.unwrap(), store.leftovers(&partition())), (2, 0));
    assert_eq!(store.rollback(&partition(), 1), 1);
    damaged(store.load(&partition(), &rules).await.unwrap_err());
}

#[tokio::test]
async fn a_rollback_takes_back_a_rebuild_and_its_end() {
    let store = MemoryStore::new();
    assert_eq!(store.flush(&partition(), &nth(1, 1)).await.unwrap(), FlushOutcome::Applied);
    let beside = |n| Flush { stage: Stage::Beside, ..nth(2, n) };
    let begin = Flush { expected: nth(1, 2).expected, ..beside(1) };
    for step in [begin, beside(2), nth(2, 3), nth(2, 4)] {
        assert_eq!(store.flush(&partition(), &step).await.unwrap(), FlushOutcome::Applied);
    }
    let all = LiveQuery {
        ads: Ads::All,
        range: Interval::new(Timestamp::MIN, Timestamp::MAX),
        late_from: Day::from_number(i32::MIN),
    };
    // Live generation and its position, and the current one.
    for want in [(2, 4, 4), (2, 3, 3), (1, 1, 2), (1, 1, 1), (1, 1, 1)] {
        let seen = store.read(&partition(), &all).await.unwrap().unwrap();
        let current = state(&store).await.unwrap().0;
        assert_eq!((seen.generation.as_u128(), seen.meta.next_offset.value(), current), want);
        assert_eq!(seen.counts.len(), 1 + seen.meta.next_offset.value() as usize);
        if want != (1, 1, 1) || seen.is_in_doubt {
            assert_eq!(store.rollback(&partition(), 1), 1);
        }
    }
    assert_eq!(store.leftovers(&partition()), 0, "nothing was replaced");
}
