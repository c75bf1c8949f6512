//! One archiver, from start to stop, in good and in bad days.

use archive::{ArchiveError, Begin, Ended, Handle, Options, PartitionProgress};
use clicks::control::Heartbeat;
use clicks::id::TopicId;
use clicks::position::Offset;
use clicks::time::{Span, Timestamp};
use platform::clock::Clock;
use platform::log::{AppendFault, Log, MemoryLog};
use platform::objects::Created;

use crate::support::{click_record, noon, with_append_time};
use crate::world::{World, soon};

fn midnight() -> Timestamp {
    noon().day().end()
}

#[tokio::test]
async fn everything_on_the_log_is_stored_once_and_in_order() {
    let world = World::new(noon(), 3).await;
    let archiver = world.start(Options::default());
    for number in 0..500 {
        world.click((number % 2) as u32, number).await;
        world.advance(Span::seconds(20));
    }
    soon(archiver.handle.cut_now()).await.unwrap();
    for partition in 0..3 {
        let end = world.log.bounds(partition).await.unwrap().end;
        world.check_archived(partition, end.minus(1)).await;
    }
    world.click(2, 500).await;
    archiver.stop().await.unwrap();
    world.check_archived(2, world.log.bounds(2).await.unwrap().end.minus(1)).await;
    assert_eq!(world.store.puts_in_flight_max(), 1);
}

#[tokio::test]
async fn objects_do_not_cross_an_append_hour() {
    let world = World::new(noon(), 1).await;
    let archiver = world.start(Options { object_age_max: Span::hours(100), ..Options::default() });
    for number in 0..40 {
        world.click(0, number).await;
        world.advance(Span::minutes(7));
    }
    soon(archiver.handle.cut_now()).await.unwrap();
    let chain = world.chain(0).await;
    let hour = |time: Timestamp| time.floor(Span::hours(1));
    // The very first record passes an edge and is an object by itself.
    assert_eq!(chain.segments[0].footer.rows, 1);
    let objects = chain.segments[1..].iter();
    let hours: Vec<Timestamp> = objects.map(|segment| hour(segment.footer.append_time_min)).collect();
    assert!(hours.windows(2).all(|pair| pair[0] < pair[1]), "one object an hour: {hours:?}");
    assert_eq!(hours.len(), 5);
    assert!(chain.segments.iter().all(|s| hour(s.footer.append_time_min) == hour(s.footer.append_time_max)));
}

#[tokio::test]
async fn objects_end_by_records_and_by_bytes() {
    for (options, records_max) in [
        (Options { object_records_max: 10, ..Options::default() }, 10),
        (Options { object_bytes_max: 2_000, ..Options::default() }, 12),
    ] {
        let world = World::new(noon(), 1).await;
        for number in 0..95 {
            world.click(0, number).await;
        }
        let archiver = world.start(options);
        soon(archiver.handle.cut_now()).await.unwrap();
        world.check_archived(0, Offset::new(95)).await;
        let rows: Vec<u64> = world.chain(0).await.segments.iter().map(|segment| segment.footer.rows).collect();
        assert!(rows.len() >= 8 && rows.iter().all(|rows| *rows <= records_max), "{rows:?}");
    }
}

/// The clock alone stores what has waited for too long, without any further record.
#[tokio::test]
async fn age_bounds_how_long_a_record_waits() {
    let world = World::new(noon(), 1).await;
    let options = Options { heartbeat_interval: Span::days(9), ..Options::default() };
    let archiver = world.start(options);
    let mut progress = archiver.handle.watch();
    let offset = world.click(0, 1).await;
    let stored = |least: Offset| {
        move |progress: &archive::Progress| {
            progress.partitions.values().any(|p: &PartitionProgress| p.next_offset > least)
        }
    };
    // The first record may be read a moment after it was written, so the clock is moved until it is due.
    let due = async { while progress.wait_for(stored(offset)).await.is_err() {} };
    let tick = async {
        loop {
            world.advance(Span::minutes(16));
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    soon(async {
        tokio::select! { () = due => (), () = tick => () }
    })
    .await;
    world.check_archived(0, offset.next()).await;
}

/// Night N may run once coverage has reached end of day + L. Nobody asks, no age passes: the edge cuts, on a partition
/// with clicks and on one that has nothing but heartbeats.
#[tokio::test]
async fn coverage_passes_the_edge_of_a_day_as_soon_as_the_log_does() {
    let world = World::new(midnight() - Span::minutes(1), 2).await;
    let archiver = world.start(Options { object_age_max: Span::hours(100), ..Options::default() });
    let edge = midnight() + Span::minutes(10);
    for number in 0..11 {
        world.click(0, number).await;
        world.advance(Span::minutes(1));
    }
    assert_eq!(world.clock.now(), edge);
    soon(archiver.handle.covered(edge)).await.unwrap();
    for partition in 0..2 {
        let chain = world.chain(partition).await;
        let last = &chain.segments.last().unwrap().footer;
        assert_eq!(last.append_time_max, edge);
        assert_eq!(last.partitions, Some(2), "it holds a heartbeat");
        let at_edge = world.archived(partition).await.iter().filter(|record| record.broker_time >= edge).count();
        assert_eq!(at_edge, 1, "the object ends with the first record at the edge");
        world.check_archived(partition, chain.next_offset().unwrap()).await;
    }
}

#[tokio::test]
async fn heartbeats_are_control_records_that_name_topic_and_partition_count() {
    let world = World::new(noon(), 3).await;
    let archiver = world.start(Options { writer: "archiver-1".to_owned(), ..Options::default() });
    // Coverage is what is stored, and only heartbeats are there to be stored.
    let asking = async {
        while archiver.handle.progress().partitions.values().any(|partition| partition.coverage.is_none())
            || archiver.handle.progress().partitions.is_empty()
        {
            archiver.handle.cut_now().await.unwrap();
        }
    };
    soon(asking).await;
    soon(archiver.handle.covered(noon())).await.unwrap();
    let record = &world.logged(2).await[0];
    let beat = Heartbeat::decode(record.value.as_deref().unwrap()).unwrap();
    assert!(record.is_control() && record.key.is_none());
    assert_eq!(beat, Heartbeat::new(world.partition(2).await.topic, 3, "archiver-1".to_owned()));
}

/// A heartbeat whose append fails is counted and missed; the next one comes.
#[tokio::test]
async fn a_log_that_is_away_for_a_beat_ends_nothing() {
    let world = World::new(noon(), 1).await;
    world.log.fail_next_append(AppendFault::Refused);
    world.log.fail_next_append(AppendFault::LostReply);
    let archiver = world.start(Options::default());
    let beats = async {
        while world.logged(0).await.len() < 3 {
            world.advance(Span::seconds(5));
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    soon(beats).await;
    soon(archiver.handle.cut_now()).await.unwrap();
    world.check_archived(0, Offset::new(3)).await;
}

/// Scenario 10, lived through: another archiver stored this object first, with another end.
#[tokio::test]
async fn whoever_loses_the_put_goes_on_behind_the_winner() {
    let world = World::new(noon(), 1).await;
    for number in 0..1_200 {
        world.click(0, number).await;
    }
    let stored = with_append_time(world.logged(0).await);
    let archiver = world.start(Options { object_records_max: 1_000, ..Options::default() });
    let theirs = archive::codec::encode(&world.partition(0).await, "other", &stored[..1_080]).unwrap();
    let won = world.objects.create(&theirs.footer.key().to_string(), theirs.bytes).await.unwrap();
    soon(archiver.handle.cut_now()).await.unwrap();
    let first = &world.chain(0).await.segments[0].footer;
    let winner = if won == Created::Ours { ("other", 1_080) } else { ("archiver", 1_000) };
    assert_eq!((first.writer.as_str(), first.end.value()), winner);
    world.check_archived(0, Offset::new(1_200)).await;
}

/// A store that is away for a while: heartbeats go on, the lag grows, and afterwards nothing is missing.
#[tokio::test]
async fn a_store_that_is_away_costs_nothing_but_time() {
    // A partition of its own number, because the gauge is the process's.
    let world = World::new(noon(), 14).await;
    let metrics = platform::telemetry::metrics();
    let options = Options { partitions: Some(vec![13]), object_records_max: 50, ..Options::default() };
    let archiver = world.start(options);
    soon(archiver.handle.cut_now()).await.unwrap();
    world.store.set_away(true);
    let before = archiver.handle.progress();
    for number in 0..400 {
        world.click(13, number).await;
    }
    let lag = async {
        loop {
            let text = metrics.render();
            let gauge =
                text.lines().find_map(|line| line.strip_prefix("twofold_archive_lag_records{partition=\"13\"} "));
            let grown = gauge.is_some_and(|lag| lag.parse::<f64>().unwrap() >= 400.0);
            if grown && text.contains("twofold_archive_retries_total{operation=\"put\"}") {
                break;
            }
            world.advance(Span::seconds(6));
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    soon(lag).await;
    assert_eq!(archiver.handle.progress(), before, "nothing was stored");
    world.store.set_away(false);
    soon(archiver.handle.cut_now()).await.unwrap();
    world.check_archived(13, Offset::new(401)).await;
    assert_eq!(world.store.puts_in_flight_max(), 1);
}

#[tokio::test]
async fn stopping_while_the_store_is_away_ends_and_loses_nothing() {
    let world = World::new(noon(), 1).await;
    // The very first record passes an edge, and is stored by itself.
    world.click(0, 0).await;
    let archiver = world.start(Options::default());
    soon(archiver.handle.cut_now()).await.unwrap();
    let offset = world.click(0, 1).await;
    world.store.set_away(true);
    // Whoever waits for a cut is not told that it was made.
    let handle = archiver.handle.clone();
    let mut asked = Box::pin(async move { handle.cut_now().await });
    // Asked before the record is read, which then reaches what was asked for.
    assert!(futures::poll!(&mut asked).is_pending());
    let asked = tokio::spawn(asked);
    // Long enough that the put has failed at least once, and waits for its next try.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    archiver.stop().await.unwrap();
    assert!(matches!(soon(asked).await.unwrap(), Err(Ended)));
    world.store.set_away(false);
    let next = world.start(Options::default());
    soon(next.handle.cut_now()).await.unwrap();
    world.check_archived(0, offset.next()).await;
}

/// Scenario 12: the topic is re-created while records are buffered; nothing of the new life enters the chain of the old.
#[tokio::test]
async fn a_topic_that_is_created_again_ends_the_archiver() {
    let world = World::new(noon(), 1).await;
    let old = world.partition(0).await;
    let archiver = world.start(Options::default());
    for number in 0..10 {
        world.click(0, number).await;
    }
    soon(archiver.handle.cut_now()).await.unwrap();
    let stored = archiver.handle.progress().partitions[&old].next_offset;
    world.click(0, 10).await;
    world.log.recreate(1);
    for number in 0..100 {
        world.click(0, 1_000 + number).await;
    }
    let asked = archiver.handle.cut_now();
    assert!(matches!(soon(asked).await, Err(Ended)));
    let error = archiver.ended().await.unwrap_err();
    assert!(matches!(error, ArchiveError::OtherLife { .. }), "{error}");
    let chain = archive::chain::read_chain(&world.objects, &old).await.unwrap();
    assert!(chain.next_offset().unwrap() <= stored.next(), "at most the record from before");
    let error = world.start(Options::default()).ended().await.unwrap_err();
    assert!(error.to_string().contains("twofold topic create"), "{error}");
    // Once the new life is recorded, it has a chain of its own.
    world.record_life().await;
    let next = world.start(Options::default());
    soon(next.handle.cut_now()).await.unwrap();
    world.check_archived(0, Offset::new(100)).await;
    assert!(world.chain(0).await.partition != old);
}

/// What was fetched before the last heartbeat asked for the topic is of the old life for sure, and nobody else has it any
/// more: it is stored, whether the new life has got as far as the old reader or not.
#[tokio::test]
async fn what_was_confirmed_before_a_topic_was_created_again_is_stored() {
    for clicks_of_the_new_life in [0, 100] {
        let world = World::new(noon(), 1).await;
        let old = world.partition(0).await;
        let archiver = world.start(Options::default());
        soon(archiver.handle.cut_now()).await.unwrap();
        for number in 0..10 {
            world.click(0, number).await;
        }
        let buffered = world.logged(0).await;
        let beats = async {
            while world.logged(0).await.len() < buffered.len() + 3 {
                world.advance(Span::seconds(5));
                tokio::time::sleep(std::time::Duration::from_millis(2)).await;
            }
        };
        soon(beats).await;
        let logged = world.logged(0).await;
        world.log.recreate(1);
        for number in 0..clicks_of_the_new_life {
            world.click(0, 1_000 + number).await;
        }
        let _ = soon(archiver.handle.cut_now()).await;
        let error = archiver.ended().await.unwrap_err();
        assert!(matches!(error, ArchiveError::OtherLife { .. }), "{error}");
        let archived = world.archived_of(&old).await;
        assert!(archived.len() >= buffered.len(), "{} of {} are stored", archived.len(), buffered.len());
        assert!(archived == logged[..archived.len()], "only what was on the old life is in its chain");
    }
}

/// A second topic was recorded while the first still held records that are not stored.
#[tokio::test]
async fn the_tail_of_a_life_that_has_ended_is_stored_by_a_later_archiver() {
    let world = World::new(noon(), 2).await;
    let archiver = world.start(Options::default());
    soon(archiver.handle.cut_now()).await.unwrap();
    archiver.stop().await.unwrap();
    for number in 0..10 {
        world.click(0, number).await;
    }
    let region = world.log.topic().await.unwrap().region;
    let other = MemoryLog::with_id(region, "clicks-2", 2, world.clock.clone(), TopicId::from_u128(99));
    World { log: other, ..world.clone() }.record_life().await;
    let ends = [world.log.bounds(0).await.unwrap().end, world.log.bounds(1).await.unwrap().end];
    let archiver = world.start(Options::default());
    soon(archiver.handle.cut_now()).await.unwrap();
    world.advance(Span::minutes(1));
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    archiver.stop().await.unwrap();
    for (partition, end) in ends.into_iter().enumerate() {
        world.check_archived(partition as u32, end).await;
        let now = world.log.bounds(partition as u32).await.unwrap().end;
        assert_eq!(now, end, "nobody waits for heartbeats of a life that has ended");
    }
    // A life that no entry names is still another one.
    world.log.recreate(2);
    let error = world.start(Options::default()).ended().await.unwrap_err();
    assert!(matches!(error, ArchiveError::OtherLife { .. }), "{error}");
}

/// Retention moved the front of the log between the starts of two archivers, so their first objects have other names.
#[tokio::test]
async fn a_chain_that_another_archiver_began_meanwhile_is_not_begun_again() {
    let world = World::new(noon(), 1).await;
    for number in 0..5 {
        world.click(0, number).await;
    }
    world.log.delete_records(0, Offset::new(5)).unwrap();
    // The first heartbeat fails and the clock stands, so the archiver opens its chain and then waits for a record.
    world.log.fail_next_append(AppendFault::Refused);
    let archiver = world.start(Options { begin: Begin::AtFirst, ..Options::default() });
    let mut progress = archiver.handle.watch();
    soon(progress.wait_for(|progress| progress.phase == archive::Phase::Running)).await.unwrap();
    let theirs = with_append_time((3..6).map(|offset| click_record(offset, noon())).collect());
    let theirs = archive::codec::encode(&world.partition(0).await, "other", &theirs).unwrap();
    world.objects.create(&theirs.footer.key().to_string(), theirs.bytes).await.unwrap();
    while world.log.bounds(0).await.unwrap().end < Offset::new(8) {
        world.click(0, 5).await;
    }
    soon(archiver.handle.cut_now()).await.unwrap();
    let chain = world.chain(0).await;
    assert_eq!((chain.base(), chain.next_offset()), (Some(Offset::new(3)), Some(Offset::new(8))));
    archiver.stop().await.unwrap();
}

/// The heartbeats notice a re-created or grown topic also while no record comes.
#[tokio::test]
async fn an_idle_archiver_notices_a_changed_topic() {
    let growth = |world: &World| world.log.recreate(2);
    let world = World::new(noon(), 1).await;
    let archiver = world.start(Options::default());
    soon(archiver.handle.cut_now()).await.unwrap();
    growth(&world);
    let tick = async {
        loop {
            world.advance(Span::seconds(5));
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    let error = soon(async {
        tokio::select! { ended = archiver.ended() => ended, () = tick => Ok(()) }
    })
    .await;
    assert!(matches!(error, Err(ArchiveError::OtherLife { .. })), "{error:?}");
}

#[tokio::test]
async fn a_start_that_would_lose_or_mix_something_is_refused() {
    let world = World::without_topic(noon(), 2).await;
    let refused = async |options: Options| world.start(options).ended().await.unwrap_err();
    let error = refused(Options::default()).await;
    assert!(matches!(error, ArchiveError::NoLife(_)), "{error}");
    world.record_life().await;
    let error = refused(Options { partitions: Some(vec![2]), ..Options::default() }).await;
    assert!(matches!(error, ArchiveError::NoPartition { number: 2, count: 2 }), "{error}");
    let error = refused(Options { object_records_max: 0, ..Options::default() }).await;
    assert!(error.to_string().contains("object_records_max"), "{error}");

    for number in 0..20 {
        world.click(0, number).await;
    }
    world.log.delete_records(0, Offset::new(5)).unwrap();
    let error = refused(Options::default()).await;
    assert!(matches!(error, ArchiveError::EmptyChain { first, .. } if first.value() == 5), "{error}");
    assert!(error.to_string().contains("wrong bucket or prefix"), "{error}");
    let archiver = world.start(Options { begin: Begin::AtFirst, ..Options::default() });
    soon(archiver.handle.cut_now()).await.unwrap();
    archiver.stop().await.unwrap();
    let chain = world.chain(0).await;
    assert_eq!(chain.base(), Some(Offset::new(5)));

    let end = chain.next_offset().unwrap();
    world.log.truncate(0, end.minus(2)).unwrap();
    let error = refused(Options { begin: Begin::AtFirst, ..Options::default() }).await;
    assert!(matches!(error, ArchiveError::BeyondLog { stored, .. } if stored == end), "{error}");
}

#[tokio::test]
async fn a_changed_partition_count_is_refused_with_its_mend() {
    let world = World::new(noon(), 4).await;
    let topic = world.log.topic().await.unwrap();
    let same_id = MemoryLog::with_id(topic.region.clone(), "clicks", 5, world.clock.clone(), topic.id);
    let grown = World { log: same_id, ..world.clone() };
    let error = grown.start(Options::default()).ended().await.unwrap_err();
    assert!(matches!(error, ArchiveError::PartitionCount { expected: 4, found: 5, .. }), "{error}");
    assert!(error.to_string().contains("twofold topic create"), "{error}");
    // Once the new topic is recorded, what the old one holds in the partitions that the ledger knows is archived.
    let next = MemoryLog::with_id(topic.region, "clicks-2", 5, world.clock.clone(), TopicId::from_u128(99));
    World { log: next, ..world.clone() }.record_life().await;
    let end = grown.click(3, 1).await.next();
    let archiver = grown.start(Options::default());
    soon(archiver.handle.cut_now()).await.unwrap();
    archiver.stop().await.unwrap();
    grown.check_archived(3, end).await;
}

/// The running maximum goes on across a restart: a broker whose clock is behind does not set append time back.
#[tokio::test]
async fn append_time_goes_on_across_a_restart() {
    let world = World::new(noon(), 1).await;
    let first = world.start(Options::default());
    world.click(0, 1).await;
    soon(first.handle.cut_now()).await.unwrap();
    first.stop().await.unwrap();
    world.log.set_broker_skew(0, Span::minutes(-30)).unwrap();
    let end = world.click(0, 2).await.next();
    let second = world.start(Options::default());
    soon(second.handle.cut_now()).await.unwrap();
    let chain = world.chain(0).await;
    assert_eq!(chain.coverage(), Some(noon()));
    assert!(chain.segments.iter().all(|segment| segment.footer.append_time_min == noon()));
    world.check_archived(0, end).await;
}

#[tokio::test]
async fn a_handle_tells_that_its_archiver_ended() {
    let world = World::without_topic(noon(), 1).await;
    let handle = Handle::default();
    let archiver = world.start(Options { handle: handle.clone(), ..Options::default() });
    assert!(matches!(soon(handle.cut_now()).await, Err(Ended)));
    assert!(matches!(soon(handle.covered(noon())).await, Err(Ended)));
    archiver.ended().await.unwrap_err();
}
