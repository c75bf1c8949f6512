//! All of it together, in an order that a seed chooses.

use std::time::{Duration, Instant};

use clicks::keyspace::PartitionKeys;
use promises::services::Redis;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::load::{Load, Sender};
use crate::place::{PATIENCE, Place, Setup};
use crate::speed::Speed;
use crate::{rounds, seed};

const FAULTS_PER_ROUND: u32 = 8;

#[derive(Debug, Clone, Copy)]
enum Fault {
    SpeedKilled,
    SpeedPaused,
    SecondSpeed,
    RedisKilled,
    RedisPaused,
    RedisFull,
    Flushed,
    KeyDeleted,
    LiveDeleted,
    ScriptsForgotten,
    ConnectionsCut,
}

const FAULTS: [Fault; 11] = [
    Fault::SpeedKilled,
    Fault::SpeedPaused,
    Fault::SecondSpeed,
    Fault::RedisKilled,
    Fault::RedisPaused,
    Fault::RedisFull,
    Fault::Flushed,
    Fault::KeyDeleted,
    Fault::LiveDeleted,
    Fault::ScriptsForgotten,
    Fault::ConnectionsCut,
];

#[tokio::test(flavor = "multi_thread")]
async fn counts_are_exact_after_faults_in_any_order() {
    let mut random = SmallRng::seed_from_u64(seed(21));
    let redis = Redis::start().await.unwrap();
    let place = Setup::on(&redis.url()).await.place().await;
    let mut sender = Sender::new(seed(22), place.topic.partitions);
    let mut world = World { speed: place.start().await, second: None, redis, place };
    for _ in 0..rounds(3) {
        let load = Load::start(world.place.log.clone(), sender, 500);
        let mut faults = Vec::new();
        for _ in 0..FAULTS_PER_ROUND {
            let fault = FAULTS[random.random_range(0..FAULTS.len())];
            faults.push(fault);
            world.inflict(fault, &mut random).await;
            tokio::time::sleep(Duration::from_millis(random.random_range(0..400))).await;
        }
        if let Some(second) = world.second.take() {
            second.kill();
        }
        sender = load.stop().await;
        println!("{faults:?}");
        world.in_the_end_exact().await;
    }
    world.place.check_all_kinds(&mut world.speed).await;
}

struct World {
    speed: Speed,
    /// Another one that counts the same partitions.
    second: Option<Speed>,
    redis: Redis,
    place: Place,
}

impl World {
    async fn inflict(&mut self, fault: Fault, random: &mut SmallRng) {
        let moment = Duration::from_millis(random.random_range(0..500));
        match fault {
            Fault::SpeedKilled => {
                let next = self.place.start().await;
                std::mem::replace(&mut self.speed, next).kill();
            }
            Fault::SpeedPaused => {
                self.speed.process.pause().unwrap();
                tokio::time::sleep(moment).await;
                self.speed.process.resume().unwrap();
            }
            Fault::SecondSpeed => match self.second.take() {
                Some(second) => second.kill(),
                None => self.second = Some(self.place.start().await),
            },
            Fault::RedisKilled => {
                self.redis.kill().unwrap();
                tokio::time::sleep(moment).await;
                self.redis.restart().await.unwrap();
            }
            Fault::RedisPaused => {
                self.redis.pause().unwrap();
                tokio::time::sleep(moment).await;
                self.redis.resume().unwrap();
            }
            Fault::RedisFull => {
                self.cli(&["CONFIG", "SET", "maxmemory", "1"]).await;
                tokio::time::sleep(moment).await;
                self.cli(&["CONFIG", "SET", "maxmemory", "0"]).await;
            }
            Fault::Flushed => self.cli(&["FLUSHALL"]).await,
            Fault::KeyDeleted => {
                let key = self.redis.cli(&["RANDOMKEY"]).await.unwrap();
                self.cli(&["DEL", &key]).await;
            }
            Fault::LiveDeleted => {
                let number = random.random_range(0..self.place.topic.partitions);
                let live = PartitionKeys::new(&self.place.partition(number)).live();
                self.cli(&["DEL", &live]).await;
            }
            Fault::ScriptsForgotten => self.cli(&["SCRIPT", "FLUSH"]).await,
            Fault::ConnectionsCut => self.cli(&["CLIENT", "KILL", "TYPE", "normal"]).await,
        }
    }

    async fn cli(&self, command: &[&str]) {
        self.redis.cli(command).await.unwrap();
    }

    /// What was deleted is missed at the latest when the scrub has come by.
    async fn in_the_end_exact(&mut self) {
        let began = Instant::now();
        let scrubs = self.speed.metric("twofold_speed_scrubs_total", "").await;
        let of_each = f64::from(2 * self.place.topic.partitions);
        self.speed.until_more("twofold_speed_scrubs_total", "", scrubs + of_each).await;
        self.place.settled(&mut self.speed).await;
        assert!(began.elapsed() < PATIENCE);
        self.place.check(&mut self.speed).await;
    }
}
