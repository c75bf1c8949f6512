//! Retention overtakes an archiver: what is lost is recorded, and archiving goes on behind it.

use archive::chain::{Chain, GapCause, read_chain};
use archive::codec::encode;
use archive::{Begin, Options};
use clicks::position::Offset;
use clicks::time::Span;
use platform::log::Log;
use platform::objects::Created;

use crate::support::{noon, with_append_time};
use crate::world::{World, soon};

fn missing(chain: &Chain) -> Vec<(u64, u64)> {
    chain.gaps.iter().map(|gap| (gap.from.value(), gap.to.value())).collect()
}

fn counted(name: &str) -> u64 {
    let text = platform::telemetry::metrics().render();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0, |value| value.parse().unwrap())
}

/// Everything that is stored is on the log under its offset, and everything that is not stored is in a gap.
async fn check(world: &World, ever: &[platform::log::LogRecord]) {
    let chain = world.chain(0).await;
    for record in world.archived(0).await {
        assert_eq!(record, ever[record.offset.value() as usize]);
    }
    let stored: u64 = chain.segments.iter().map(|s| s.end.distance_from(s.footer.start)).sum();
    let lost: u64 = chain.gaps.iter().map(|gap| gap.to.distance_from(gap.from)).sum();
    assert_eq!(stored + lost, chain.next_offset().unwrap().distance_from(chain.base().unwrap()));
}

#[tokio::test]
async fn a_gap_that_is_there_at_the_start_is_recorded() {
    let world = World::new(noon(), 1).await;
    for number in 0..20 {
        world.click(0, number).await;
    }
    let first = world.start(Options::default());
    soon(first.handle.cut_now()).await.unwrap();
    first.stop().await.unwrap();
    let before = world.chain(0).await;
    let end = before.next_offset().unwrap();
    for number in 20..40 {
        world.click(0, number).await;
    }
    let ever = world.logged(0).await;
    world.advance(Span::hours(1));
    world.log.delete_records(0, end.plus(7)).unwrap();
    let (gaps, lost) = (counted("twofold_archive_gaps_total"), counted("twofold_archive_lost_records_total"));
    let options = || Options { writer: "second".to_owned(), heartbeat_interval: Span::days(9), ..Options::default() };
    let second = world.start(options());
    soon(second.handle.cut_now()).await.unwrap();
    second.stop().await.unwrap();
    let chain = world.chain(0).await;
    assert_eq!(missing(&chain), [(end.value(), end.value() + 7)]);
    let mark = &chain.gaps[0].mark;
    assert_eq!(
        (mark.writer.as_str(), mark.cause, mark.noticed_at),
        ("second", GapCause::Retention, noon() + Span::hours(1))
    );
    assert_eq!(mark.append_time_before, before.coverage());
    assert!(counted("twofold_archive_gaps_total") > gaps && counted("twofold_archive_lost_records_total") >= lost + 7);
    // The next one goes on at the end, and records nothing.
    let third = world.start(options());
    soon(third.handle.cut_now()).await.unwrap();
    third.stop().await.unwrap();
    assert_eq!(world.chain(0).await.gaps, chain.gaps);
    let mut all = world.logged(0).await;
    all.splice(0..0, ever[..end.value() as usize + 7].to_vec());
    check(&world, &all).await;
}

/// Records vanish under a running archiver that is too slow: what it holds is stored, the rest recorded.
#[tokio::test]
async fn a_gap_that_opens_while_running_is_recorded() {
    let world = World::new(noon(), 1).await;
    let options = Options {
        object_records_max: 10,
        poll_records_max: 10,
        poll_bytes_max: 500,
        memory_bytes_max: 6_000,
        heartbeat_interval: Span::days(9),
        ..Options::default()
    };
    let archiver = world.start(options);
    soon(archiver.handle.cut_now()).await.unwrap();
    world.store.set_away(true);
    for number in 0..200 {
        world.click(0, number).await;
    }
    let ever = world.logged(0).await;
    // It reads up to its bound of memory and no further.
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    world.log.delete_records(0, Offset::new(150)).unwrap();
    world.store.set_away(false);
    soon(archiver.handle.cut_now()).await.unwrap();
    archiver.stop().await.unwrap();
    let chain = world.chain(0).await;
    assert!(matches!(missing(&chain)[..], [(from, 150)] if (2..100).contains(&from)), "{:?}", missing(&chain));
    assert_eq!(chain.next_offset(), Some(Offset::new(ever.len() as u64)));
    check(&world, &ever).await;
}

/// A gap that is recorded by two archivers at once is one gap, and both go on from the same record.
#[tokio::test]
async fn rivals_agree_on_a_gap() {
    let world = World::new(noon(), 1).await;
    for number in 0..10 {
        world.click(0, number).await;
    }
    let first = world.start(Options::default());
    soon(first.handle.cut_now()).await.unwrap();
    first.stop().await.unwrap();
    let end = world.chain(0).await.next_offset().unwrap();
    for number in 10..40 {
        world.click(0, number).await;
    }
    world.log.delete_records(0, end.plus(9)).unwrap();
    let rivals = ["a", "b", "c"].map(|name| world.start(Options { writer: name.to_owned(), ..Options::default() }));
    for rival in &rivals {
        soon(rival.handle.cut_now()).await.unwrap();
    }
    for rival in rivals {
        rival.stop().await.unwrap();
    }
    assert_eq!(missing(&world.chain(0).await), [(end.value(), end.value() + 9)]);
}

/// A zombie still held the lost records, and stores them when the gap is recorded already: they are lost no more.
#[tokio::test]
async fn what_a_zombie_still_held_fills_the_gap() {
    for (from, to, expected) in [(10, 15, vec![(15, 20)]), (10, 20, vec![]), (10, 26, vec![])] {
        let world = World::new(noon(), 1).await;
        for number in 0..30 {
            world.click(0, number).await;
        }
        let stored = with_append_time(world.logged(0).await);
        let partition = world.partition(0).await;
        let put = async |from: usize, to: usize| {
            let encoded = encode(&partition, "zombie", &stored[from..to]).unwrap();
            world.objects.create(&encoded.footer.key().to_string(), encoded.bytes).await.unwrap()
        };
        assert_eq!(put(0, 10).await, Created::Ours);
        world.log.delete_records(0, Offset::new(20)).unwrap();
        let options = || Options { heartbeat_interval: Span::days(9), ..Options::default() };
        let archiver = world.start(options());
        let mut progress = archiver.handle.watch();
        soon(progress.wait_for(|progress| progress.phase == archive::Phase::Running)).await.unwrap();
        assert_eq!(put(from, to).await, Created::Ours);
        soon(archiver.handle.cut_now()).await.unwrap();
        archiver.stop().await.unwrap();
        let chain = world.chain(0).await;
        assert_eq!(missing(&chain), expected, "{to}");
        assert_eq!(chain.bridge(), None);
        let next = world.start(options());
        world.click(0, 30).await;
        soon(next.handle.cut_now()).await.unwrap();
        next.stop().await.unwrap();
        assert_eq!(missing(&world.chain(0).await), expected, "{to}");
    }
}

/// Nobody knows whether the zombie has seen the gap or the other archiver the object; the records between the two ends are
/// stored as an object of their own, so that it does not matter.
#[tokio::test]
async fn an_object_that_reaches_over_the_end_of_a_gap_is_bridged() {
    let world = World::new(noon(), 1).await;
    for number in 0..30 {
        world.click(0, number).await;
    }
    let stored = with_append_time(world.logged(0).await);
    let partition = world.partition(0).await;
    for (from, to) in [(0, 10), (10, 26)] {
        let encoded = encode(&partition, "zombie", &stored[from..to]).unwrap();
        world.objects.create(&encoded.footer.key().to_string(), encoded.bytes).await.unwrap();
    }
    let gap = archive::chain::GapMark {
        version: archive::chain::VERSION,
        partition: partition.clone(),
        from: Offset::new(10),
        to: Offset::new(20),
        cause: GapCause::Retention,
        writer: "gone".to_owned(),
        noticed_at: noon(),
        append_time_before: None,
    };
    archive::chain::record(&world.objects, &gap).await.unwrap();
    assert_eq!(world.chain(0).await.bridge(), Some(Offset::new(20)));
    world.log.delete_records(0, Offset::new(20)).unwrap();
    let archiver = world.start(Options { heartbeat_interval: Span::days(9), ..Options::default() });
    soon(archiver.handle.cut_now()).await.unwrap();
    archiver.stop().await.unwrap();
    let chain = world.chain(0).await;
    let pieces: Vec<(u64, u64)> = chain.segments.iter().map(|s| (s.footer.start.value(), s.end.value())).collect();
    assert_eq!((missing(&chain), &pieces[..3]), (vec![], &[(0, 10), (10, 20), (20, 26)][..]));
    assert_eq!(chain.next_offset(), Some(world.log.bounds(0).await.unwrap().end));
}

/// Two archivers that begin an archive find the log to begin at different offsets; the first to record it decides.
#[tokio::test]
async fn where_an_archive_begins_is_recorded_once() {
    let world = World::new(noon(), 1).await;
    for number in 0..20 {
        world.click(0, number).await;
    }
    let options = || Options { begin: Begin::AtFirst, heartbeat_interval: Span::days(9), ..Options::default() };
    world.log.delete_records(0, Offset::new(3)).unwrap();
    let first = world.start(options());
    let mut progress = first.handle.watch();
    soon(progress.wait_for(|progress| progress.phase == archive::Phase::Running)).await.unwrap();
    world.log.delete_records(0, Offset::new(8)).unwrap();
    let second = world.start(options());
    for archiver in [first, second] {
        soon(archiver.handle.cut_now()).await.unwrap();
        archiver.stop().await.unwrap();
    }
    let chain = read_chain(&world.objects, &world.partition(0).await).await.unwrap();
    assert_eq!(chain.base(), Some(Offset::new(3)));
    assert_eq!(chain.next_offset(), Some(world.log.bounds(0).await.unwrap().end));
    // What lies before the first record of the log is no gap, what was lost after the archive had begun is one.
    assert!(chain.gaps.iter().all(|gap| gap.from >= Offset::new(3)), "{:?}", missing(&chain));
}
