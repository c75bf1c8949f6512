//! The memory of Redis: settings with which it would drop counts, and no memory left.

use promises::services::Redis;

use crate::load::{Load, Sender};
use crate::place::Setup;

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_drops_counts_ends_the_process_and_is_refused_at_start() {
    let redis = Redis::start().await.unwrap();
    let place = Setup::on(&redis.url()).await.place().await;
    let mut speed = place.start().await;
    let load = Load::start(place.log.clone(), Sender::new(5, place.topic.partitions), 300);
    speed.until("it counts", async || place.positions().await.iter().all(|position| position.value() > 0)).await;

    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await.unwrap();
    let is_told = |log: &str| {
        assert!(log.contains("`maxmemory-policy` is `allkeys-lru` but must be `noeviction`"), "{log}");
        assert!(log.contains("CONFIG SET maxmemory-policy noeviction"), "{log}");
    };
    is_told(&speed.failed().await);
    is_told(&place.start_to_fail().failed().await);

    redis.cli(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await.unwrap();
    let mut speed = place.start().await;
    load.stop().await;
    place.check(&mut speed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_memory_makes_the_lag_grow_and_loses_nothing() {
    let redis = Redis::start().await.unwrap();
    let place = Setup::on(&redis.url()).await.place().await;
    let mut speed = place.start().await;
    let load = Load::start(place.log.clone(), Sender::new(6, place.topic.partitions), 300);
    speed.until("it counts", async || place.positions().await.iter().all(|position| position.value() > 0)).await;

    redis.cli(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    speed.until_more("twofold_speed_reloads_total", "store_away", 0.0).await;
    let full = place.positions().await;
    speed.until_more("twofold_speed_lag_records", "", 500.0).await;
    assert_eq!(place.positions().await, full, "a flush went through although the memory is full");
    assert!(speed.process.log().contains("raise `maxmemory`"), "{}", speed.process.log_tail());

    redis.cli(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    load.stop().await;
    place.check_all_kinds(&mut speed).await;
}
