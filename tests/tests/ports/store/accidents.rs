//! What happens to Redis happens to a Redis of the test's own.

use std::time::{Duration, Instant};

use clicks::live::FlushOutcome;
use platform::store::{Ads, LiveQuery, RedisOptions, RedisStore, SpeedStore, StoreError};
use promises::services::Redis;

use super::connect;
use super::script::dump;
use super::worker::{Worker, new_partition, query, rules, scrub};

/// Counts and position are lost together or not at all, and a worker that believes nothing but what is stored goes on to
/// the right sums.
#[tokio::test(flavor = "multi_thread")]
async fn sums_equal_totals_after_every_kill() {
    const KILLS: u32 = 6;
    let mut redis = Redis::start().await.unwrap();
    let store = connect(&redis);
    let partition = new_partition();
    let done = std::cell::Cell::new(false);
    let work = async {
        let (mut worker, mut doubts, mut begun) = (Worker::begin(0), 0, 0);
        while !done.get() {
            worker.observe(23);
            match worker.flush(&store, &partition).await {
                Ok(FlushOutcome::Applied) => continue,
                Ok(FlushOutcome::Mismatch { .. }) | Err(StoreError::Unavailable(_)) => doubts += 1,
                Err(error) => panic!("{error}"),
            }
            worker = loop {
                match Worker::resume(&store, &partition).await {
                    Ok(Some(worker)) => break worker,
                    Ok(None) => {
                        begun += 1;
                        break Worker::begin(begun);
                    }
                    Err(StoreError::Unavailable(_)) => tokio::time::sleep(Duration::from_millis(5)).await,
                    Err(error) => panic!("{error}"),
                }
            };
        }
        (worker, doubts)
    };
    let kill = async {
        for _ in 0..KILLS {
            tokio::time::sleep(Duration::from_millis(150)).await;
            redis.kill().unwrap();
            tokio::time::sleep(Duration::from_millis(30)).await;
            redis.restart().await.unwrap();
            scrub(&connect(&redis).read(&partition, &query()).await.unwrap().unwrap());
        }
        done.set(true);
    };
    let ((mut worker, doubts), ()) = futures::join!(work, kill);
    assert!(doubts >= KILLS, "each kill was noticed: {doubts}");
    worker.observe(1);
    assert_eq!(worker.flush(&store, &partition).await.unwrap(), FlushOutcome::Applied);
    let slice = store.read(&partition, &query()).await.unwrap().unwrap();
    scrub(&slice);
    assert!(slice.meta.next_offset.value() > 1_000, "{:?}", slice.meta);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_is_told_at_once_and_found_at_once() {
    let mut redis = Redis::start().await.unwrap();
    redis.kill().unwrap();
    // It may be away at the start.
    let store = connect(&redis);
    let partition = new_partition();
    let mut worker = Worker::begin(1);
    worker.observe(10);
    for round in 0..3 {
        let began = Instant::now();
        for _ in 0..3 {
            let errors = [
                worker.flush(&store, &partition).await.map(drop).unwrap_err(),
                store.load(&partition, &rules()).await.map(drop).unwrap_err(),
                store.read(&partition, &query()).await.map(drop).unwrap_err(),
                store.check().await.unwrap_err(),
            ];
            for error in errors {
                assert!(matches!(error, StoreError::Unavailable(_)), "{error}");
                assert!(error.to_string().contains("127.0.0.1"), "the server is named: {error}");
            }
        }
        assert!(began.elapsed() < Duration::from_secs(2), "twelve operations took {:?}", began.elapsed());
        redis.restart().await.unwrap();
        // Not even one more operation fails.
        store.check().await.unwrap_or_else(|error| panic!("round {round}: it is back: {error}"));
        assert_eq!(worker.flush(&store, &partition).await.unwrap(), FlushOutcome::Applied);
        worker.observe(10);
        redis.kill().unwrap();
        // The first one notices a connection that broke, the next ones that nobody listens.
        assert!(matches!(store.check().await, Err(StoreError::Unavailable(_))));
    }
}

/// A flush that is not answered in time was carried out nevertheless: the worker learns it from what is stored.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_comes_too_late_is_unknown_and_not_a_failure() {
    let redis = Redis::start().await.unwrap();
    let options = RedisOptions { response_timeout: Duration::from_millis(200), ..RedisOptions::new(redis.url()) };
    let store = RedisStore::connect(&options).unwrap();
    let partition = new_partition();
    let mut worker = Worker::begin(1);
    worker.observe(10);
    worker.flush(&store, &partition).await.unwrap();
    worker.observe(10);
    let step = worker.step();
    redis.cli(&["CLIENT", "PAUSE", "1000", "ALL"]).await.unwrap();
    let began = Instant::now();
    let unknown = store.flush(&partition, &step).await;
    assert!(matches!(unknown, Err(StoreError::Unavailable(_))), "{unknown:?}");
    assert!(began.elapsed() < Duration::from_millis(900), "{:?}", began.elapsed());
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    // The connection was given up, so the server may have carried it out or thrown it away. Asked again it says which.
    let found = Some((step.generation, step.meta.next_offset));
    let again = store.flush(&partition, &step).await.unwrap();
    assert!([FlushOutcome::Applied, FlushOutcome::Mismatch { found }].contains(&again), "{again:?}");
    scrub(&store.read(&partition, &query()).await.unwrap().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_memory_refuses_a_flush_as_a_whole() {
    let redis = Redis::start().await.unwrap();
    let store = connect(&redis);
    let partition = new_partition();
    let mut worker = Worker::begin(1);
    worker.observe(100);
    worker.flush(&store, &partition).await.unwrap();
    let before = dump(&redis, &partition).await;
    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    worker.observe(100);
    let refusal = worker.flush(&store, &partition).await.unwrap_err();
    assert!(matches!(&refusal, StoreError::Unavailable(what) if what.contains("raise `maxmemory`")), "{refusal}");
    // What was counted so far is still shown, although Redis refuses even a MULTI around reads now.
    scrub(&store.read(&partition, &query()).await.unwrap().unwrap());
    let of_ad = LiveQuery { ads: Ads::Some(vec!["ad-1".parse().unwrap()]), ..query() };
    let counts = store.read(&partition, &of_ad).await.unwrap().unwrap().counts;
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), 14);
    assert!(Worker::resume(&store, &partition).await.unwrap().is_some());
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    assert_eq!(dump(&redis, &partition).await, before);
    assert_eq!(worker.flush(&store, &partition).await.unwrap(), FlushOutcome::Applied);
    scrub(&store.read(&partition, &query()).await.unwrap().unwrap());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flushed_server_is_empty_and_not_zero() {
    let redis = Redis::start().await.unwrap();
    let store = connect(&redis);
    let partition = new_partition();
    let mut worker = Worker::begin(1);
    worker.observe(10);
    worker.flush(&store, &partition).await.unwrap();
    redis.cli(&["FLUSHALL"]).await.unwrap();
    assert_eq!(store.read(&partition, &query()).await.unwrap(), None);
    worker.observe(10);
    assert_eq!(worker.flush(&store, &partition).await.unwrap(), FlushOutcome::Mismatch { found: None });
    assert_eq!(store.load(&partition, &rules()).await.unwrap(), None);
}
