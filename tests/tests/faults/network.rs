//! The network between the speed layer and Redis: answers that never come, answers that come late, and connections on
//! which nobody answers any more. Meanwhile the lag grows in Kafka, not the process.

use std::time::Duration;

use clicks::position::Offset;
use promises::services::{Network, Proxy, Redis};

use crate::load::{Load, Sender};
use crate::place::{Place, Setup};
use crate::speed::Speed;

const LATENCY: Duration = Duration::from_secs(3);
/// Longer than the speed layer waits for an answer.
const OUTAGE: Duration = Duration::from_secs(9);
/// Of each click.
const PADDING: usize = 12_000;
/// Bytes that must wait for the memory of the process to say anything.
const WAITING_MIN: u64 = 50 << 20;

struct Behind {
    _redis: Redis,
    proxy: Proxy,
    place: Place,
    speed: Speed,
    load: Load,
}

impl Behind {
    async fn start(seed: u64, padding: usize, per_second: usize) -> Self {
        let redis = Redis::start().await.unwrap();
        let proxy = Proxy::start(&redis.address()).await.unwrap();
        // The test itself sees what is really stored.
        let setup = Setup { redis: format!("redis://{}/", proxy.address()), ..Setup::on(&redis.url()).await };
        let place = setup.place().await;
        let mut speed = place.start().await;
        let mut sender = Sender::new(seed, place.topic.partitions);
        sender.padding = padding;
        let load = Load::start(place.log.clone(), sender, per_second);
        speed.until("it counts", async || place.positions().await.iter().all(|position| position.value() > 0)).await;
        Behind { _redis: redis, proxy, place, speed, load }
    }

    /// Goes on from where it stands.
    async fn goes_on(&mut self) {
        let before = self.place.positions().await;
        let (place, speed) = (&self.place, &mut self.speed);
        let more = |now: &[Offset]| now.iter().zip(&before).all(|(now, before)| now > before);
        speed.until("it goes on", async || more(&place.positions().await)).await;
    }

    async fn end(mut self) {
        self.load.stop().await;
        self.place.check_all_kinds(&mut self.speed).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn flushes_whose_answers_are_lost_count_once() {
    let mut behind = Behind::start(14, 0, 300).await;
    for _ in 0..2 {
        let generations = behind.place.generations().await;
        let before = behind.place.positions().await;
        behind.proxy.set(Network::AnswersLost);
        let lost = behind.proxy.bytes_held();
        let place = &behind.place;
        behind
            .speed
            .until("a flush is carried out whose answer is lost", async || {
                place.positions().await != before && behind.proxy.bytes_held() > lost
            })
            .await;
        let reloads = behind.speed.metric("twofold_speed_reloads_total", "").await;
        behind.speed.until_more("twofold_speed_reloads_total", "", reloads).await;
        behind.proxy.set(Network::Whole);
        behind.goes_on().await;
        assert_eq!(behind.place.generations().await, generations, "nothing had to be counted anew");
    }
    behind.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_that_come_seconds_late_only_slow_it_down() {
    let mut behind = Behind::start(15, 0, 300).await;
    let generations = behind.place.generations().await;
    behind.proxy.set(Network::AnswersLate(LATENCY));
    for _ in 0..2 {
        behind.goes_on().await;
    }
    assert!(behind.proxy.bytes_held() > 0);
    let slow = behind.speed.metric("twofold_speed_lag_seconds", "").await;
    assert!(slow > LATENCY.as_secs_f64() / 2.0, "nothing was late: the lag is {slow} s");
    behind.proxy.set(Network::Whole);
    assert_eq!(behind.place.generations().await, generations, "nothing had to be counted anew");
    behind.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_nobody_answers_make_the_lag_grow_and_not_the_process() {
    let mut behind = Behind::start(16, PADDING, 1_500).await;
    let before = behind.speed.resident();
    let reloads = behind.speed.metric("twofold_speed_reloads_total", "store_away").await;
    behind.proxy.set(Network::HalfOpen);
    // What was on its way may still arrive.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let stuck = behind.place.positions().await;
    tokio::time::sleep(OUTAGE).await;
    behind.speed.until_more("twofold_speed_reloads_total", "store_away", reloads).await;
    assert_eq!(behind.place.positions().await, stuck, "something got through");
    behind.speed.until_more("twofold_speed_lag_records", "", 500.0).await;
    let mut waiting = 0;
    for (number, position) in behind.place.numbers().zip(&stuck) {
        let end = platform::log::Log::bounds(&*behind.place.log, number).await.unwrap().end;
        waiting += end.distance_from(*position) * PADDING as u64;
    }
    let grown = behind.speed.resident().saturating_sub(before);
    println!("{} MB wait in Kafka, the process grew by {} MB", waiting >> 20, grown >> 20);
    assert!(waiting > WAITING_MIN, "only {waiting} bytes wait: the test shows nothing");
    assert!(grown < waiting / 2, "the process grew by {grown} bytes while {waiting} were waiting");
    behind.proxy.set(Network::Whole);
    behind.goes_on().await;
    behind.end().await;
}
