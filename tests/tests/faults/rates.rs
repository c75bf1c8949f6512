//! How long recovery takes. Printed, not asserted: a shared machine says little about time.

use std::time::{Duration, Instant};

use clicks::id::{AdId, ClickId};
use clicks::time::Span;
use promises::services::Redis;
use rand::Rng;
use rand::rngs::SmallRng;
use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{BaseRecord, DefaultProducerContext, Producer, ThreadedProducer};

use crate::load::{Sender, click};
use crate::place::{PATIENCE, Place, Setup, now};
use crate::rounds;
use crate::speed::Speed;

const CLICKS: u32 = 200_000;
const ADS: u32 = 1_000;

/// In the look-back of 15 minutes at 20,000 clicks a second.
const LOOK_BACK: f64 = 18e6;
const LOOK_BACK_TARGET: Duration = Duration::from_secs(30);
/// Of one open day.
const DAY: f64 = 100e6;
const DAY_TARGET: Duration = Duration::from_secs(600);

#[tokio::test(flavor = "multi_thread")]
async fn recovery_is_measured() {
    let redis = Redis::start().await.unwrap();
    let place = Setup::on(&redis.url()).await.place().await;
    let clicks = rounds(CLICKS);
    produce(&place, clicks);
    let mut speed = place.start().await;
    place.settled(&mut speed).await;

    let mut sender = Sender::new(17, place.topic.partitions);
    speed.kill();
    sender.send(&place.log, 200).await;
    let began = Instant::now();
    let mut speed = place.start().await;
    let started = began.elapsed();
    place.settled(&mut speed).await;
    print("look-back after a kill", clicks, began.elapsed(), LOOK_BACK, LOOK_BACK_TARGET);
    println!("  of which the process itself took {started:?} to start");

    redis.cli(&["FLUSHALL"]).await.unwrap();
    let began = Instant::now();
    rebuilt(&place, &mut speed).await;
    print("rebuild after FLUSHALL", clicks, began.elapsed(), DAY, DAY_TARGET);
    place.check(&mut speed).await;
}

/// The old counts are gone, so whatever is whole now was counted anew.
async fn rebuilt(place: &Place, speed: &mut Speed) {
    place.settled(speed).await;
    assert!(speed.metric("twofold_speed_generations_total", "").await >= f64::from(place.topic.partitions));
}

fn print(what: &str, clicks: u32, took: Duration, scale: f64, target: Duration) {
    let rate = f64::from(clicks) / took.as_secs_f64();
    let profile = if cfg!(debug_assertions) { "development" } else { "release" };
    println!(
        "{what}: {clicks} records in {:.2} s, {rate:.0} records/s ({profile} build); {:.0} M at this rate: {:.0} s, the target is {} s",
        took.as_secs_f64(),
        scale / 1e6,
        scale / rate,
        target.as_secs()
    );
}

/// Much faster than one acknowledgement for each.
fn produce(place: &Place, clicks: u32) {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", &place.options.brokers).set("enable.idempotence", "true");
    config.set("partitioner", "murmur2_random").set("compression.type", "lz4");
    let producer: ThreadedProducer<DefaultProducerContext> = config.create().unwrap();
    let mut random: SmallRng = rand::SeedableRng::seed_from_u64(17);
    for _ in 0..clicks {
        let ad = format!("ad-{}", random.random_range(0..ADS));
        let age = Span::seconds(random.random_range(0..540));
        let value = click(AdId::parse(&ad).unwrap(), ClickId::from_u128(random.random()), now() - age, 0);
        let mut record = BaseRecord::to(&place.options.topic).key(&ad).payload(&value[..]);
        while let Err((error, again)) = producer.send(record) {
            assert!(matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)), "{error}");
            std::thread::sleep(Duration::from_millis(10));
            record = again;
        }
    }
    producer.flush(PATIENCE).unwrap();
}
