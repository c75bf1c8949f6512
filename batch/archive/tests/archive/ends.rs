//! The ends of topic lives that are over.

use archive::Options;
use archive::chain::{EndCause, read_chain};
use archive::codec::encode;
use clicks::id::TopicId;
use clicks::position::PartitionId;
use clicks::time::Span;
use platform::log::{Log, MemoryLog};

use crate::support::{noon, with_append_time};
use crate::world::{World, soon};

async fn end_of(world: &World, partition: &PartitionId) -> Option<(u64, EndCause)> {
    let chain = read_chain(&world.objects, partition).await.unwrap();
    chain.end.map(|end| (end.end.value(), end.cause))
}

/// Moves the clock until every one of these partitions has an end.
async fn until_ended(world: &World, partitions: &[PartitionId]) {
    soon(async {
        loop {
            let mut ended = 0;
            for partition in partitions {
                ended += usize::from(end_of(world, partition).await.is_some());
            }
            if ended == partitions.len() {
                return;
            }
            world.advance(Span::minutes(1));
            tokio::time::sleep(std::time::Duration::from_millis(3)).await;
        }
    })
    .await;
}

/// The world of a second topic of the same region, recorded after the first.
async fn second(world: &World) -> World {
    let region = world.log.topic().await.unwrap().region;
    let log = MemoryLog::with_id(region, "clicks-2", 1, world.clock.clone(), TopicId::from_u128(99));
    let second = World { log, ..world.clone() };
    second.record_life().await;
    second
}

#[tokio::test]
async fn a_life_that_is_over_ends_where_its_log_does() {
    let world = World::new(noon(), 2).await;
    for number in 0..10 {
        world.click(0, number).await;
    }
    let partitions = [world.partition(0).await, world.partition(1).await];
    let archiver = world.start(Options::default());
    soon(archiver.handle.cut_now()).await.unwrap();
    world.advance(Span::hours(2));
    soon(archiver.handle.cut_now()).await.unwrap();
    archiver.stop().await.unwrap();
    for partition in &partitions {
        assert_eq!(end_of(&world, partition).await, None, "a life that is in use has no end, however quiet it is");
    }
    let last = world.click(0, 10).await;
    second(&world).await;
    let archiver = world.start(Options::default());
    soon(archiver.handle.cut_now()).await.unwrap();
    assert_eq!(end_of(&world, &partitions[0]).await, None, "something came a moment ago");
    until_ended(&world, &partitions).await;
    assert_eq!(end_of(&world, &partitions[0]).await, Some((last.next().value(), EndCause::Drained)));
    world.check_archived(0, last.next()).await;
    // A collector that nobody stopped: the record is stored, so the life has not ended yet, and ends again later.
    let late = world.click(0, 11).await;
    soon(archiver.handle.cut_now()).await.unwrap();
    assert_eq!(end_of(&world, &partitions[0]).await, None);
    until_ended(&world, &partitions).await;
    assert_eq!(end_of(&world, &partitions[0]).await, Some((late.next().value(), EndCause::Drained)));
    archiver.stop().await.unwrap();
    world.check_archived(0, late.next()).await;
}

#[tokio::test]
async fn a_life_whose_topic_is_gone_ends_where_its_chain_does() {
    let world = World::new(noon(), 2).await;
    let old = [world.partition(0).await, world.partition(1).await];
    for number in 0..10 {
        world.click(0, number).await;
    }
    let archiver = world.start(Options { heartbeat_interval: Span::days(9), ..Options::default() });
    soon(archiver.handle.cut_now()).await.unwrap();
    archiver.stop().await.unwrap();
    let stored = read_chain(&world.objects, &old[0]).await.unwrap().next_offset().unwrap();
    for number in 10..20 {
        world.click(0, number).await;
    }
    let logged = with_append_time(world.logged(0).await);
    world.log.recreate(1);
    world.record_life().await;
    let archiver = world.start(Options::default());
    soon(archiver.handle.cut_now()).await.unwrap();
    assert_eq!(end_of(&world, &old[0]).await, None, "an archiver of it may be on its way");
    until_ended(&world, &old).await;
    assert_eq!(end_of(&world, &old[0]).await, Some((stored.value(), EndCause::TopicGone)));
    // It was: what it stores counts, and the end is recorded again behind it.
    let encoded = encode(&old[0], "zombie", &logged[stored.value() as usize..20]).unwrap();
    world.objects.create(&encoded.footer.key().to_string(), encoded.bytes).await.unwrap();
    assert_eq!(end_of(&world, &old[0]).await, None);
    until_ended(&world, &old).await;
    assert_eq!(end_of(&world, &old[0]).await, Some((20, EndCause::TopicGone)));
    archiver.stop().await.unwrap();
}

/// A topic that is still there is not gone: its own archiver ends it.
#[tokio::test]
async fn a_life_whose_topic_is_there_is_left_to_its_own_archiver() {
    let world = World::new(noon(), 1).await;
    world.click(0, 1).await;
    let archiver = world.start(Options::default());
    soon(archiver.handle.cut_now()).await.unwrap();
    archiver.stop().await.unwrap();
    let old = world.partition(0).await;
    let other = second(&world).await;
    other.log.also_there("clicks", old.topic);
    let archiver = other.start(Options::default());
    for _ in 0..40 {
        world.advance(Span::minutes(5));
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    archiver.stop().await.unwrap();
    assert_eq!(end_of(&world, &old).await, None);
}
