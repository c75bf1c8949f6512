//! The speed store port on a real Redis.

mod accidents;
mod script;
mod watch;
mod worker;

use std::time::{Duration, Instant};

use clicks::keyspace::PartitionKeys;
use clicks::live::{Expected, Flush, FlushOutcome};
use platform::store::{RedisOptions, RedisStore, SpeedStore, StoreError, conformance};
use promises::services::{Redis, shared};

use self::worker::{Worker, new_partition, query, scrub};

pub(crate) fn connect(redis: &Redis) -> RedisStore {
    RedisStore::connect(&RedisOptions::new(redis.url())).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_conforms() {
    conformance::suite(&connect(&shared().await.unwrap().redis)).await;
}

/// A reader sees counts and totals of one moment, whatever is written meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn reads_are_atomic_under_flushing() {
    let redis = &shared().await.unwrap().redis;
    let (writing, reading) = (connect(redis), connect(redis));
    let partition = new_partition();
    let mut worker = Worker::begin(1);
    worker.observe(1);
    worker.flush(&writing, &partition).await.unwrap();
    let until = Instant::now() + Duration::from_secs(1);
    let write = async {
        while Instant::now() < until {
            worker.observe(37);
            assert_eq!(worker.flush(&writing, &partition).await.unwrap(), FlushOutcome::Applied);
        }
    };
    let read = async {
        let mut offsets = std::collections::BTreeSet::new();
        while Instant::now() < until {
            let slice = reading.read(&partition, &query()).await.unwrap().unwrap();
            scrub(&slice);
            assert!(offsets.last().is_none_or(|last| *last <= slice.meta.next_offset), "a read goes back in time");
            offsets.insert(slice.meta.next_offset);
        }
        offsets.len()
    };
    let ((), moments) = futures::join!(write, read);
    assert!(moments > 20, "only {moments} different moments were seen");
}

/// Two workers that both believe to own the partition, each with a connection of its own.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_owners_each_flush_has_one_winner() {
    let redis = &shared().await.unwrap().redis;
    let partition = new_partition();
    let mut worker = Worker::begin(1);
    worker.observe(1);
    worker.flush(&connect(redis), &partition).await.unwrap();
    let own = async |store: RedisStore| {
        let mut worker = Worker::resume(&store, &partition).await.unwrap().unwrap();
        let mut won = 0u64;
        for _ in 0..200 {
            worker.observe(5);
            match worker.flush(&store, &partition).await.unwrap() {
                FlushOutcome::Applied => won += 1,
                FlushOutcome::Mismatch { .. } => worker = Worker::resume(&store, &partition).await.unwrap().unwrap(),
            }
            tokio::task::yield_now().await;
        }
        won
    };
    let (one, two) = futures::join!(own(connect(redis)), own(connect(redis)));
    let slice = connect(redis).read(&partition, &query()).await.unwrap().unwrap();
    scrub(&slice);
    assert_eq!(slice.meta.next_offset.value(), 1 + 5 * (one + two), "every flush that was applied moved it once");
    assert!(one > 0 && two > 0 && one + two < 400, "they got in each other's way: {one} and {two}");
}

#[tokio::test(flavor = "multi_thread")]
async fn settings_that_lose_counts_are_refused_with_their_mend() {
    let redis = Redis::start().await.unwrap();
    let store = connect(&redis);
    store.check().await.unwrap();
    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await.unwrap();
    let refusal = store.check().await.unwrap_err();
    assert!(
        matches!(&refusal, StoreError::Setting { setting: "maxmemory-policy", found, .. } if found == "allkeys-lru")
    );
    let mend = "CONFIG SET maxmemory-policy noeviction";
    assert!(refusal.to_string().contains(mend), "{refusal}");
    redis.cli(&mend.split(' ').collect::<Vec<_>>()).await.unwrap();
    store.check().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_is_told_so() {
    let redis = Redis::start_with_password("right").await.unwrap();
    let address = redis.url().rsplit_once('@').unwrap().1.to_owned();
    let with = |user: &str, password: Option<&str>| {
        let mut options = RedisOptions::new(format!("redis://{user}{address}"));
        options.password = password.map(str::to_owned);
        RedisStore::connect(&options).unwrap()
    };
    for store in [with("", None), with("", Some("wrong")), with(":wrong@", None), with("nobody@", Some("right"))] {
        // Twice: the second does not find the first one's connection.
        for _ in 0..2 {
            let refusal = store.check().await.unwrap_err();
            assert!(matches!(refusal, StoreError::Denied(_)), "{refusal}");
            let shown = format!("{refusal} {refusal:?} {store:?}");
            assert!(!shown.contains("wrong") && !shown.contains("right"), "{shown}");
        }
    }
    with("", Some("right")).check().await.unwrap();
    with(":wrong@", Some("right")).check().await.unwrap();

    let store = with("limited@", Some("pw"));
    assert!(matches!(store.check().await, Err(StoreError::Denied(_))));
    let acl = ["ACL", "SETUSER", "limited", "on", ">pw", "~tf1:*", "+@all", "-config"];
    redis.cli(&acl).await.unwrap();
    store.check().await.unwrap_or_else(|error| panic!("it is let in now, and INFO stands in for CONFIG: {error}"));
    let mut worker = Worker::begin(1);
    worker.observe(1);
    let partition = new_partition();
    worker.flush(&store, &partition).await.unwrap();
    for (right, flushes) in [("@transaction", false), ("@scripting", true)] {
        redis.cli(&["ACL", "SETUSER", "limited", &format!("-{right}")]).await.unwrap();
        worker.observe(1);
        let outcome = worker.flush(&store, &partition).await;
        let denied = matches!(outcome, Err(StoreError::Denied(_)));
        assert_eq!((outcome.is_ok(), denied), (flushes, !flushes), "without {right}: {outcome:?}");
        let refusal = store.check().await;
        assert!(matches!(refusal, Err(StoreError::Denied(_))), "the check notices a missing {right}: {refusal:?}");
        redis.cli(&["ACL", "SETUSER", "limited", &format!("+{right}")]).await.unwrap();
    }
}

/// What this release cannot read, or what is not whole, is never read as a smaller number.
#[tokio::test(flavor = "multi_thread")]
async fn damaged_content_is_an_error_and_stays_as_it_is() {
    let redis = &shared().await.unwrap().redis;
    let store = connect(redis);
    let damages: [(&str, &[&str]); 8] = [
        ("no meta", &["DEL", "META"]),
        ("half a meta", &["HDEL", "META", "seen"]),
        ("a newer version", &["HSET", "META", "version", "2"]),
        ("no offset", &["HDEL", "META", "next_offset"]),
        ("a foreign field", &["HSET", "HOUR", "what", "1"]),
        ("a count that is none", &["HSET", "HOUR", "00:v:ad-0", "x"]),
        ("a live generation that is none", &["SET", "LIVE", "x"]),
        ("an hour of another type", &["SET", "HOUR", "x"]),
    ];
    for (name, damage) in damages {
        let partition = new_partition();
        let mut worker = Worker::begin(1);
        worker.observe(10);
        worker.flush(&store, &partition).await.unwrap();
        let keys = PartitionKeys::new(&partition);
        let hour = keys.hour(worker.generation(), worker::start_hour());
        let named: Vec<String> = damage
            .iter()
            .map(|word| match *word {
                "META" => keys.meta(worker.generation()),
                "HOUR" => hour.clone(),
                "LIVE" => keys.live(),
                word => word.to_owned(),
            })
            .collect();
        redis.cli(&named.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap();
        let before = script::dump(redis, &partition).await;
        for error in [
            store.load(&partition, &worker::rules()).await.unwrap_err(),
            store.read(&partition, &query()).await.unwrap_err(),
        ] {
            let understood = matches!(error, StoreError::Content { .. }) || name == "an hour of another type";
            assert!(understood, "{name}: {error:?}");
            assert!(error.to_string().contains(&partition.to_string()), "{name}: {error}");
        }
        worker.observe(1);
        let outcome = worker.flush(&store, &partition).await;
        let unharmed = matches!(name, "half a meta" | "a newer version" | "a foreign field" | "a count that is none");
        match outcome {
            Ok(FlushOutcome::Applied) => assert!(unharmed, "{name}: a flush went through"),
            Ok(outcome) => panic!("{name}: {outcome:?}"),
            Err(error) => {
                assert!(!matches!(error, StoreError::Unavailable(_)), "{name}: {error}");
                assert_eq!(script::dump(redis, &partition).await, before, "{name}");
            }
        }
        let (mut cure, damaged) = (Worker::begin(2), worker.generation());
        cure.observe(10);
        let is_named = name != "a live generation that is none";
        let expected = Expected::Damaged { generation: is_named.then_some(damaged) };
        let step = Flush { expected, ..cure.step() };
        assert_eq!(store.flush(&partition, &step).await.unwrap(), FlushOutcome::Applied, "{name}: it is replaced");
        scrub(&store.read(&partition, &query()).await.unwrap().unwrap());
        let swept = store.sweep(&partition).await.unwrap();
        let (left, of_damaged) = (script::dump(redis, &partition).await, format!(":{damaged}:"));
        assert_eq!((swept > 0, left.contains(&of_damaged)), (is_named, !is_named), "{name}: {swept} swept\n{left}");
        scrub(&store.read(&partition, &query()).await.unwrap().unwrap());
    }
}

/// A sweep that is late by a rollback of Redis must not touch what is live again.
#[tokio::test(flavor = "multi_thread")]
async fn a_generation_that_is_live_again_is_not_swept() {
    let redis = &shared().await.unwrap().redis;
    let store = connect(redis);
    let partition = new_partition();
    let mut worker = Worker::begin(1);
    worker.observe(300);
    worker.flush(&store, &partition).await.unwrap();
    let before = script::dump(redis, &partition).await;
    let (retired, live) = (PartitionKeys::new(&partition).retired(), worker.generation().to_string());
    redis.cli(&["SADD", &retired, &live]).await.unwrap();
    assert_eq!(store.sweep(&partition).await.unwrap(), 0);
    assert_eq!(script::dump(redis, &partition).await, before, "and it is no longer named");
}
