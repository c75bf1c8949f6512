//! The topic is deleted and created again under its name. Kafka reports nothing of it to a reader: positions of the old
//! life are positions of the new one as well.

use std::sync::Arc;

use platform::log::{KafkaLog, Log, Topic};
use platform::store::LiveSlice;
use promises::services::Redis;

use crate::admin::recreate;
use crate::load::Sender;
use crate::place::{Place, Setup};
use crate::rounds;

#[tokio::test(flavor = "multi_thread")]
async fn a_recreated_topic_is_refused_until_its_new_life_is_recorded_and_then_counted_beside_the_old_one() {
    let redis = Redis::start().await.unwrap();
    let mut place = Setup::on(&redis.url()).await.place().await;
    let mut speed = place.start().await;
    Sender::new(10, place.topic.partitions).send(&place.log, 400).await;
    place.check(&mut speed).await;
    let (first, of_first) = (place.topic.clone(), slices(&place).await);

    // While it runs; it is paused, so that it cannot see the moment at which there is no topic at all.
    speed.process.pause().unwrap();
    let again = recreate(&place).await;
    let mut sender = Sender::new(11, place.topic.partitions);
    // More than before, so that every old position is on the new life too.
    sender.send(&again, 1_200).await;
    speed.process.resume().unwrap();
    let second = again.topic().await.unwrap();
    let log = speed.failed().await;
    let told = format!("was deleted and created again: {} is there instead of {}", second.id, first.id);
    assert!(log.contains(&told) && log.contains("twofold topic create"), "{log}");
    assert_eq!(slices(&place).await, of_first, "something of the new life was counted as the old one");

    refused(&place, &first, &second).await;
    assert_eq!(slices(&place).await, of_first);
    record(&mut place).await;
    assert_eq!(place.topic.id, second.id);
    let mut speed = place.start().await;
    assert!(place.check(&mut speed).await.seen >= 1_200);
    assert_eq!(slices_of(&place, &first).await, of_first);
    speed.stop().await;

    // While it does not run.
    let of_second = slices(&place).await;
    let again = recreate(&place).await;
    sender.send(&again, 2_000).await;
    refused(&place, &second, &again.topic().await.unwrap()).await;
    record(&mut place).await;
    let mut speed = place.start().await;
    assert!(place.check_all_kinds(&mut speed).await.seen >= 2_000);
    assert_eq!(slices_of(&place, &first).await, of_first);
    assert_eq!(slices_of(&place, &second).await, of_second);
}

/// As fast as it can be done, and the new life has records at once: a flush that did not ask after its records were read
/// would store them.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_of_a_new_life_is_stored_in_the_old_keys_however_fast_the_topic_was_created_again() {
    let redis = Redis::start().await.unwrap();
    let mut place = Setup::on(&redis.url()).await.place().await;
    for round in 0..rounds(3) {
        let mut speed = place.start().await;
        Sender::new(23, place.topic.partitions).send(&place.log, 30).await;
        place.check(&mut speed).await;
        let (before, of_before) = (place.topic.clone(), slices(&place).await);
        let again = recreate(&place).await;
        Sender::new(24, place.topic.partitions).send(&again, 300).await;
        let log = speed.failed().await;
        assert!(log.contains("twofold topic create"), "{log}");
        assert_eq!(
            slices(&place).await,
            of_before,
            "round {round}: something of the new life was counted as the old one"
        );
        record(&mut place).await;
        assert_ne!(place.topic.id, before.id);
    }
    let mut speed = place.start().await;
    place.check(&mut speed).await;
}

/// A start names both lives and what to do.
async fn refused(place: &Place, recorded: &Topic, there: &Topic) {
    let log = place.start_to_fail().failed().await;
    for told in [recorded.id.to_string(), there.id.to_string(), "twofold topic create".to_owned()] {
        assert!(log.contains(&told), "{told} is not named: {log}");
    }
}

/// Records the life that is there now, and goes on with it.
async fn record(place: &mut Place) {
    let created = place.twofold(&["topic", "create"]);
    assert!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    place.log = Arc::new(KafkaLog::connect(place.options.clone()).await.unwrap());
    place.topic = place.log.topic().await.unwrap();
}

async fn slices(place: &Place) -> Vec<LiveSlice> {
    slices_of(place, &place.topic).await
}

/// What is stored of a life, in a fixed order.
async fn slices_of(place: &Place, topic: &Topic) -> Vec<LiveSlice> {
    let stored = (0..topic.partitions).map(|number| place.stored_of(topic.partition(number)));
    let slices = futures::future::join_all(stored).await.into_iter().map(|slice| {
        let mut slice = slice.expect("it is stored");
        slice.counts.sort();
        slice.late.sort();
        slice
    });
    slices.collect()
}
