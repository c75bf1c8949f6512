//! Redis Cluster: a master that dies with flushes that its replica never got, a slot that moves while it is written, and
//! a setting that is wrong on one node only.

use std::time::Duration;

use clicks::keyspace::PartitionKeys;
use platform::store::{RedisOptions, SpeedStore};
use promises::services::RedisCluster;
use tokio::sync::{Mutex, MutexGuard, OnceCell};

use crate::load::{Load, Sender};
use crate::place::{Place, Setup, until};
use crate::speed::Speed;

/// The live generation's name, its meta record, an hour, and late clicks.
const KEYS_MIN: u32 = 4;

/// One for all tests here, one test at a time: each leaves it whole.
async fn cluster() -> MutexGuard<'static, RedisCluster> {
    static CLUSTER: OnceCell<Mutex<RedisCluster>> = OnceCell::const_new();
    let cluster = CLUSTER.get_or_init(|| async { Mutex::new(RedisCluster::start().await.unwrap()) }).await;
    cluster.lock().await
}

async fn place(cluster: &RedisCluster) -> Place {
    let setup = Setup::on(&cluster.url()).await;
    let store = RedisOptions { cluster: true, ..setup.store };
    Setup { store, ..setup }.place().await
}

async fn counts(place: &Place, speed: &mut Speed) {
    speed.until("it counts", async || place.positions().await.iter().all(|position| position.value() > 0)).await;
}

/// What one node holds of a partition, asked of that very node.
async fn position_on(cluster: &RedisCluster, node: usize, place: &Place, partition: u32) -> u64 {
    let keys = PartitionKeys::new(&place.partition(partition));
    let live = cluster.cli(node, &["GET", &keys.live()]).await.unwrap().parse::<String>().unwrap();
    let meta = format!("{}:{live}:meta", keys.live().strip_suffix(":live").unwrap());
    cluster.cli(node, &["HGET", &meta, "next_offset"]).await.unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_exact_after_a_failover_to_a_replica_that_lagged() {
    let mut cluster = cluster().await;
    let place = place(&cluster).await;
    let slot = cluster.slot_of(&PartitionKeys::new(&place.partition(0)).live()).await.unwrap();
    let mut speed = place.start().await;
    let load = Load::start(place.log.clone(), Sender::new(7, place.topic.partitions), 500);
    counts(&place, &mut speed).await;
    let generations = place.generations().await;

    // The replica is stopped and its connection cut, or the kernel would keep for it what it does not read.
    let master = cluster.master_of(slot).await.unwrap();
    let replica = cluster.replica_of(master).await.unwrap();
    cluster.node(replica).pause().unwrap();
    cluster.cli(master, &["CLIENT", "KILL", "TYPE", "replica"]).await.unwrap();
    let before = position_on(&cluster, master, &place, 0).await;
    speed
        .until("it counts without the replica", async || position_on(&cluster, master, &place, 0).await > before + 20)
        .await;
    // Paused, so that what it was told and what is left can be compared before it goes on.
    speed.process.pause().unwrap();
    let acknowledged = position_on(&cluster, master, &place, 0).await;
    cluster.node(master).kill().unwrap();
    cluster.node(replica).resume().unwrap();
    until("the replica is promoted", async || cluster.master_of(slot).await.is_ok_and(|now| now == replica)).await;
    cluster.ready().await.unwrap();
    let left = position_on(&cluster, replica, &place, 0).await;
    assert!(left < acknowledged, "the replica had all of it: {left} of {acknowledged}");
    speed.process.resume().unwrap();
    speed.until("it goes on", async || position_on(&cluster, replica, &place, 0).await > acknowledged).await;
    println!("the failover took partition 0 back from {acknowledged} to {left}");

    // And back again, in the middle of its flushes.
    cluster.node(master).restart().await.unwrap();
    until("the old master follows the new one", async || {
        cluster.replica_of(replica).await.is_ok_and(|number| number == master)
    })
    .await;
    cluster.ready().await.unwrap();
    cluster.node(replica).kill().unwrap();
    until("the old master is promoted", async || cluster.master_of(slot).await.is_ok_and(|now| now == master)).await;
    cluster.ready().await.unwrap();
    load.stop().await;
    place.check_all_kinds(&mut speed).await;
    assert_eq!(place.generations().await, generations, "nothing had to be counted anew");
    assert!(speed.metric("twofold_speed_reloads_total", "").await > 0.0);
    cluster.node(replica).restart().await.unwrap();
    cluster.ready().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_exact_while_a_slot_moves() {
    let cluster = cluster().await;
    let place = place(&cluster).await;
    let keys = PartitionKeys::new(&place.partition(0));
    let slot = cluster.slot_of(&keys.live()).await.unwrap();
    let name = slot.to_string();
    let mut speed = place.start().await;
    let load = Load::start(place.log.clone(), Sender::new(8, place.topic.partitions), 500);
    counts(&place, &mut speed).await;
    let generations = place.generations().await;

    let from = cluster.master_of(slot).await.unwrap();
    speed
        .until("there are keys to move", async || {
            let keys = cluster.cli(from, &["CLUSTER", "COUNTKEYSINSLOT", &name]).await.unwrap();
            keys.parse::<u32>().unwrap() >= KEYS_MIN
        })
        .await;
    let masters = cluster.masters().await.unwrap();
    let to = *masters.iter().find(|number| **number != from).unwrap();
    let (from_id, to_id) = (cluster.id(from).await.unwrap(), cluster.id(to).await.unwrap());
    let (host, port) =
        cluster.address(to).split_once(':').map(|(host, port)| (host.to_owned(), port.to_owned())).unwrap();
    cluster.cli(to, &["CLUSTER", "SETSLOT", &name, "IMPORTING", &from_id]).await.unwrap();
    cluster.cli(from, &["CLUSTER", "SETSLOT", &name, "MIGRATING", &to_id]).await.unwrap();
    let mut moved = 0;
    loop {
        let key = cluster.cli(from, &["CLUSTER", "GETKEYSINSLOT", &name, "1"]).await.unwrap();
        if key.is_empty() {
            break;
        }
        cluster.cli(from, &["MIGRATE", &host, &port, &key, "0", "5000"]).await.unwrap();
        moved += 1;
        // Flushes and reads meet a partition half of whose keys are here and half are there.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for number in [to, from].iter().chain(masters.iter().filter(|number| ![to, from].contains(number))) {
        cluster.cli(*number, &["CLUSTER", "SETSLOT", &name, "NODE", &to_id]).await.unwrap();
    }
    assert!(moved >= KEYS_MIN, "only {moved} keys moved");
    assert_eq!(cluster.master_of(slot).await.unwrap(), to);
    let there = position_on(&cluster, to, &place, 0).await;
    speed.until("it goes on there", async || position_on(&cluster, to, &place, 0).await > there + 20).await;
    load.stop().await;
    place.check_all_kinds(&mut speed).await;
    assert_eq!(place.generations().await, generations, "nothing had to be counted anew");
    let reloads = speed.metric("twofold_speed_reloads_total", "").await;
    println!("{moved} keys of partition 0 moved, {reloads} reloads");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_master_that_may_drop_counts_is_enough_to_be_refused() {
    let cluster = cluster().await;
    let place = place(&cluster).await;
    place.store.check().await.unwrap();
    for node in cluster.masters().await.unwrap() {
        let address = cluster.address(node);
        cluster.cli(node, &["CONFIG", "SET", "maxmemory-policy", "volatile-ttl"]).await.unwrap();
        let refusal = place.store.check().await.unwrap_err().to_string();
        let told = format!("`maxmemory-policy` is `volatile-ttl on {address}` but must be `noeviction`");
        assert!(refusal.contains(&told), "{refusal}");
        let log = place.start_to_fail().failed().await;
        assert!(log.contains(&told) && !log.contains("counting topic="), "it is refused before it counts: {log}");
        cluster.cli(node, &["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await.unwrap();
        place.store.check().await.unwrap();
    }
}

/// A replica on which nobody answers is the operator's business, not that of the counts.
#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hangs_stops_neither_the_start_nor_the_scrub() {
    let mut cluster = cluster().await;
    let place = place(&cluster).await;
    let master = cluster.masters().await.unwrap()[0];
    let replica = cluster.replica_of(master).await.unwrap();
    let mut running = place.start().await;
    let mut sender = Sender::new(9, place.topic.partitions);
    sender.send(&place.log, 300).await;
    place.check(&mut running).await;
    cluster.node(replica).pause().unwrap();
    let scrubs = running.metric("twofold_speed_scrubs_total", "").await;
    // Counts are loaded, scripts are asked for.
    for master in cluster.masters().await.unwrap() {
        cluster.cli(master, &["SCRIPT", "FLUSH"]).await.unwrap();
    }
    sender.send(&place.log, 300).await;
    running.until_more("twofold_speed_scrubs_total", "", scrubs + f64::from(2 * place.topic.partitions)).await;
    place.check(&mut running).await;
    running.stop().await;
    let mut started = place.start().await;
    sender.send(&place.log, 300).await;
    place.check(&mut started).await;
    cluster.node(replica).resume().unwrap();
    cluster.ready().await.unwrap();
}
