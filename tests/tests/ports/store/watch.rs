//! A flush between its two round trips: what comes between WATCH and EXEC voids it as a whole. `CLIENT PAUSE … WRITE`
//! holds it there: Redis answers WATCH and the reads, and then nobody whose MULTI holds a write.

use std::time::Duration;

use clicks::live::{Flush, FlushOutcome};
use clicks::position::PartitionId;
use platform::store::{RedisStore, SpeedStore, StoreError};
use promises::services::Redis;

use super::connect;
use super::script::dump;
use super::worker::{Worker, new_partition, query, scrub};

/// A partition with a flush stored, and the next one.
async fn begun(redis: &Redis) -> (PartitionId, Worker, Flush) {
    let (partition, mut worker) = (new_partition(), Worker::begin(1));
    worker.observe(150);
    worker.flush(&connect(redis), &partition).await.unwrap();
    worker.observe(150);
    let step = worker.step();
    (partition, worker, step)
}

async fn hold(redis: &Redis) {
    redis.cli(&["CLIENT", "PAUSE", "60000", "WRITE"]).await.unwrap();
}

async fn go_on(redis: &Redis) {
    redis.cli(&["CLIENT", "UNPAUSE"]).await.unwrap();
}

/// The clients that have begun a transaction.
async fn in_transaction(redis: &Redis) -> Vec<String> {
    let list = redis.cli(&["CLIENT", "LIST"]).await.unwrap();
    let begun = list.lines().filter(|client| client.contains(" multi=") && !client.contains(" multi=-1"));
    begun.filter_map(|client| Some(client.split(' ').next()?.strip_prefix("id=")?.to_owned())).collect()
}

async fn until_in_transaction(redis: &Redis, clients: usize) -> Vec<String> {
    for _ in 0..400 {
        let begun = in_transaction(redis).await;
        if begun.len() == clients {
            return begun;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not {clients} flushes were held: {:?}", in_transaction(redis).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_that_have_all_looked_one_writes() {
    const WRITERS: usize = 12;
    let redis = Redis::start().await.unwrap();
    let (partition, _, step) = begun(&redis).await;
    let stores: Vec<RedisStore> = (0..3).map(|_| connect(&redis)).collect();
    hold(&redis).await;
    let writers = (0..WRITERS).map(|n| stores[n % stores.len()].flush(&partition, &step));
    let release = async {
        until_in_transaction(&redis, WRITERS).await;
        go_on(&redis).await;
    };
    let (outcomes, ()) = futures::join!(futures::future::join_all(writers), release);
    let outcomes: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    let lost = FlushOutcome::Mismatch { found: Some((step.generation, step.meta.next_offset)) };
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == FlushOutcome::Applied).count(), 1, "{outcomes:?}");
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == lost).count(), WRITERS - 1, "{outcomes:?}");
    scrub(&stores[0].read(&partition, &query()).await.unwrap().unwrap());
}

/// Scenario 9: on another connection the EXEC would compare nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_is_cut_before_exec_writes_nothing() {
    let redis = Redis::start().await.unwrap();
    let store = connect(&redis);
    let (partition, mut worker, step) = begun(&redis).await;
    let before = dump(&redis, &partition).await;
    hold(&redis).await;
    let cut = async {
        let held = until_in_transaction(&redis, 1).await;
        assert_eq!(redis.cli(&["CLIENT", "KILL", "ID", &held[0]]).await.unwrap(), "1");
    };
    let (outcome, ()) = futures::join!(store.flush(&partition, &step), cut);
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    go_on(&redis).await;
    assert_eq!(dump(&redis, &partition).await, before);
    assert_eq!(worker.flush(&store, &partition).await.unwrap(), FlushOutcome::Applied, "on another connection");
    scrub(&store.read(&partition, &query()).await.unwrap().unwrap());
}

/// Whoever drops a flush does not know what became of it; its connection is used by nobody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_flush_that_is_dropped_takes_its_connection_with_it() {
    let redis = Redis::start().await.unwrap();
    let store = connect(&redis);
    let (partition, mut worker, step) = begun(&redis).await;
    // A connection that waits is among those that could be used again.
    store.check().await.unwrap();
    hold(&redis).await;
    {
        let flush = store.flush(&partition, &step);
        futures::pin_mut!(flush);
        let held = until_in_transaction(&redis, 1);
        futures::pin_mut!(held);
        match futures::future::select(flush, held).await {
            futures::future::Either::Left((outcome, _)) => panic!("it is held: {outcome:?}"),
            futures::future::Either::Right((held, _)) => assert_eq!(held.len(), 1),
        }
    }
    go_on(&redis).await;
    until_in_transaction(&redis, 0).await;
    let outcome = worker.flush(&store, &partition).await.unwrap();
    let own = FlushOutcome::Mismatch { found: Some((step.generation, step.meta.next_offset)) };
    assert!(outcome == FlushOutcome::Applied || outcome == own, "all of it or nothing: {outcome:?}");
    let slice = store.read(&partition, &query()).await.unwrap().unwrap();
    assert_eq!(slice.meta.next_offset, step.meta.next_offset);
    scrub(&slice);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_memory_that_fills_before_exec_refuses_all_of_it() {
    let redis = Redis::start().await.unwrap();
    let store = connect(&redis);
    let (partition, mut worker, step) = begun(&redis).await;
    let before = dump(&redis, &partition).await;
    hold(&redis).await;
    let fill = async {
        until_in_transaction(&redis, 1).await;
        redis.cli(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
        go_on(&redis).await;
    };
    let (outcome, ()) = futures::join!(store.flush(&partition, &step), fill);
    let told = matches!(&outcome, Err(StoreError::Unavailable(what)) if what.contains("raise `maxmemory`"));
    assert!(told, "{outcome:?}");
    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    assert_eq!(dump(&redis, &partition).await, before);
    assert_eq!(worker.flush(&store, &partition).await.unwrap(), FlushOutcome::Applied);
    scrub(&store.read(&partition, &query()).await.unwrap().unwrap());
}

/// A server may close what was silent for long; nothing was sent on it yet.
#[tokio::test(flavor = "multi_thread")]
async fn a_connection_that_was_closed_while_it_waited_is_not_noticed() {
    let redis = Redis::start().await.unwrap();
    let store = connect(&redis);
    let (partition, mut worker) = (new_partition(), Worker::begin(1));
    for round in 0..5 {
        worker.observe(20);
        assert_eq!(worker.flush(&store, &partition).await.unwrap(), FlushOutcome::Applied, "round {round}");
        let killed: u32 = redis.cli(&["CLIENT", "KILL", "TYPE", "normal"]).await.unwrap().parse().unwrap();
        assert!(killed > 0, "round {round}");
    }
    store.check().await.unwrap();
    scrub(&store.read(&partition, &query()).await.unwrap().unwrap());
}

/// Nobody waits for anybody: each looks, writes if nothing came between, and looks again.
#[tokio::test(flavor = "multi_thread")]
async fn every_flush_of_many_writers_counts_once() {
    const WRITERS: usize = 6;
    let redis = Redis::start().await.unwrap();
    let (partition, mut first, _) = begun(&redis).await;
    first.flush(&connect(&redis), &partition).await.unwrap();
    let begin = first.next_offset().value();
    let write = async |store: RedisStore| {
        let (mut won, mut lost) = (0, 0);
        let mut worker = Worker::resume(&store, &partition).await.unwrap().unwrap();
        for _ in 0..60 {
            worker.observe(5);
            match worker.flush(&store, &partition).await.unwrap() {
                FlushOutcome::Applied => won += 1,
                FlushOutcome::Mismatch { .. } => {
                    lost += 1;
                    worker = Worker::resume(&store, &partition).await.unwrap().unwrap();
                }
            }
        }
        (won, lost)
    };
    let outcomes = futures::future::join_all((0..WRITERS).map(|_| write(connect(&redis)))).await;
    let (won, lost) = outcomes.iter().fold((0, 0), |sum, outcome| (sum.0 + outcome.0, sum.1 + outcome.1));
    let slice = connect(&redis).read(&partition, &query()).await.unwrap().unwrap();
    scrub(&slice);
    assert_eq!(slice.meta.next_offset.value(), begin + 5 * won, "{outcomes:?}");
    assert!(won > 0 && lost > 0, "they got in each other's way: {outcomes:?}");
}
