//! Somebody deletes or overwrites keys of a store that is counted into. None of it is an error of a write, so the scrub
//! must find it; the counts are then made anew from the log.

use clicks::event::Class;
use clicks::keyspace::{PartitionKeys, hour_field};
use clicks::live::CountKey;
use clicks::time::Span;
use clicks::window::Minute;
use promises::services::Redis;

use crate::load::{Load, Sender, send_old_click};
use crate::place::{Place, Setup};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Damage {
    Flushed,
    HourDeleted,
    CountDeleted,
    CountChanged,
    MetaDeleted,
    LiveDeleted,
    LiveOverwritten,
    HourOfAnotherType,
    MetaOfAnotherType,
}

const DAMAGES: [Damage; 9] = [
    Damage::Flushed,
    Damage::HourDeleted,
    Damage::CountDeleted,
    Damage::CountChanged,
    Damage::MetaDeleted,
    Damage::LiveDeleted,
    Damage::LiveOverwritten,
    Damage::HourOfAnotherType,
    Damage::MetaOfAnotherType,
];

#[tokio::test(flavor = "multi_thread")]
async fn what_was_lost_or_damaged_is_found_and_counted_anew() {
    let redis = Redis::start().await.unwrap();
    let place = Setup::on(&redis.url()).await.place().await;
    let mut speed = place.start().await;
    let mut sender = Sender::new(4, place.topic.partitions);
    let mut begun = 0.0;
    for damage in DAMAGES {
        let load = Load::start(place.log.clone(), sender, 500);
        // The count that is damaged is one that no later click writes again.
        let (sent, time) = send_old_click(&place.log, &format!("rare-{damage:?}"), Span::minutes(4)).await;
        speed.until("the click is counted", async || place.position(sent.partition).await > sent.offset).await;
        // Of the generation that is about to be damaged, not of one that is replaced this very moment.
        place.whole(&mut speed, sent.partition).await;
        let before = place.generations().await;
        let count =
            CountKey { minute: Minute::of(time), class: Class::Valid, ad: format!("rare-{damage:?}").parse().unwrap() };
        inflict(damage, &redis, &place, sent.partition, &count).await;
        let number = sent.partition as usize;
        speed
            .until(&format!("{damage:?} is found"), async || {
                let now = place.generations().await;
                let changed = |number: usize| now[number].is_some() && now[number] != before[number];
                if damage == Damage::Flushed { (0..now.len()).all(changed) } else { changed(number) }
            })
            .await;
        sender = load.stop().await;
        place.check(&mut speed).await;
        speed.until_more("twofold_speed_generations_total", "", begun).await;
        begun = speed.metric("twofold_speed_generations_total", "").await;
    }
    let scrubs_failed = speed.metric("twofold_speed_scrubs_failed_total", "").await;
    assert!(scrubs_failed >= 2.0, "no damage was found by a scrub: {scrubs_failed}");
    let totals = place.check_all_kinds(&mut speed).await;
    println!("{} damages, {begun} generations, {scrubs_failed} found by the scrub; {totals:?}", DAMAGES.len());
}

async fn inflict(damage: Damage, redis: &Redis, place: &Place, partition: u32, count: &CountKey) {
    let keys = PartitionKeys::new(&place.partition(partition));
    let live = place.stored(partition).await.unwrap().generation;
    let (hour, meta, field) = (keys.hour(live, count.minute.hour()), keys.meta(live), hour_field(count));
    assert_eq!(redis.cli(&["HGET", &hour, &field]).await.unwrap(), "1", "{damage:?}: the test damages what is there");
    let commands: &[&[&str]] = match damage {
        Damage::Flushed => &[&["FLUSHALL"]],
        Damage::HourDeleted => &[&["DEL", &hour]],
        Damage::CountDeleted => &[&["HDEL", &hour, &field]],
        Damage::CountChanged => &[&["HINCRBY", &hour, &field, "1"]],
        Damage::MetaDeleted => &[&["DEL", &meta]],
        Damage::LiveDeleted => &[&["DEL", &keys.live()]],
        Damage::LiveOverwritten => &[&["SET", &keys.live(), "nothing of ours"]],
        Damage::HourOfAnotherType => &[&["SET", &hour, "nothing of ours"]],
        Damage::MetaOfAnotherType => &[&["SET", &meta, "nothing of ours"]],
    };
    for command in commands {
        redis.cli(command).await.unwrap();
    }
}
