//! Three brokers, as in production, and the one that leads is killed.

use std::time::Instant;

use promises::services::{Kafka, KafkaOptions, Redis};

use crate::admin::leader_of;
use crate::load::{Load, Sender};
use crate::place::{Setup, until};
use crate::{rounds, seed};

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_clicks_are_counted_although_leaders_were_killed() {
    let options = KafkaOptions { brokers: 3, ..KafkaOptions::default() };
    let (kafka, redis) = tokio::join!(Kafka::start(options), Redis::start());
    let (mut kafka, redis) = (kafka.unwrap(), redis.unwrap());
    let setup = Setup { brokers: kafka.brokers(), replicas: 3, ..Setup::on(&redis.url()).await };
    let place = setup.place().await;
    let mut speed = place.start().await;
    let load = Load::start(place.log.clone(), Sender::new(seed(12), place.topic.partitions), 500);
    for round in 0..rounds(2) {
        let number = round % place.topic.partitions;
        let before = place.position(number).await;
        speed.until("it counts", async || place.position(number).await > before).await;
        let (leader, in_sync) = leader_of(&place, number);
        assert_eq!(in_sync, 3);
        let began = Instant::now();
        kafka.kill(leader as usize).unwrap();
        until("another broker leads", async || ![leader, -1].contains(&leader_of(&place, number).0)).await;
        let before = place.position(number).await;
        speed.until("it counts what the new leader has", async || place.position(number).await > before).await;
        println!("counted again {:?} after broker {leader} was killed", began.elapsed());
        kafka.restart(leader as usize).await.unwrap();
        until("all replicas are in sync", async || place.numbers().all(|number| leader_of(&place, number).1 == 3))
            .await;
    }
    let sender = load.stop().await;
    let totals = place.check_all_kinds(&mut speed).await;
    assert!(sender.acknowledged.len() > 500, "only {} acknowledged", sender.acknowledged.len());
    for number in place.numbers() {
        let records = place.read_all(number).await;
        for (appended, record) in sender.acknowledged.iter().filter(|(appended, _)| appended.partition == number) {
            let found = &records[appended.offset.value() as usize];
            assert_eq!((&found.key, &found.value), (&record.key, &record.value), "{appended:?} was acknowledged");
        }
    }
    println!("{} acknowledged, {} unknown; {totals:?}", sender.acknowledged.len(), sender.unknown);
}
