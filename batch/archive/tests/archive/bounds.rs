//! A store that is slow, full, read-only or away: reading goes on up to the bound of memory, then waits, and nothing is
//! lost or doubled.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use archive::{ArchiveError, Handle, Options, run};
use clicks::position::Offset;
use clicks::time::Span;
use platform::ledger::Ledger;
use platform::objects::Objects;
use tokio_util::sync::CancellationToken;

use crate::support::noon;
use crate::world::{World, soon};

fn value_of(name: &str) -> f64 {
    let text = platform::telemetry::metrics().render();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map_or(0.0, |value| value.parse().unwrap())
}

/// While one put hangs, what follows is read and cut; it is all there soon after the store answers again.
#[tokio::test]
async fn reading_goes_on_while_a_put_is_under_way() {
    let world = World::new(noon(), 1).await;
    let options = Options { object_records_max: 20, heartbeat_interval: Span::days(9), ..Options::default() };
    let archiver = world.start(options);
    soon(archiver.handle.cut_now()).await.unwrap();
    world.store.set_away(true);
    for number in 0..300 {
        world.click(0, number).await;
    }
    // Retention takes everything: only what was read meanwhile can still be stored.
    tokio::time::sleep(Duration::from_millis(300)).await;
    world.log.delete_records(0, Offset::new(300)).unwrap();
    world.store.set_away(false);
    soon(archiver.handle.cut_now()).await.unwrap();
    archiver.stop().await.unwrap();
    let chain = world.chain(0).await;
    assert_eq!((chain.gaps.len(), world.archived(0).await.len() as u64), (0, chain.next_offset().unwrap().value()));
    assert!(chain.next_offset().unwrap() >= Offset::new(300));
    assert_eq!(world.store.puts_in_flight_max(), 1);
}

/// The bound is one over all partitions, and holds whatever comes.
#[tokio::test]
async fn memory_is_bounded_and_reading_resumes_without_a_gap() {
    let world = World::new(noon(), 21).await;
    let bound = 200_000;
    let options = Options {
        partitions: Some(vec![19, 20]),
        object_records_max: 100,
        poll_bytes_max: 10_000,
        memory_bytes_max: bound,
        ..Options::default()
    };
    let archiver = world.start(options);
    soon(archiver.handle.cut_now()).await.unwrap();
    world.store.set_away(true);
    for number in 0..6_000 {
        world.click(19 + (number % 2) as u32, number).await;
    }
    let full = async {
        while value_of("twofold_archive_reading_stopped{partition=\"19\"}") < 1.0
            || value_of("twofold_archive_reading_stopped{partition=\"20\"}") < 1.0
        {
            world.advance(Span::seconds(1));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(full).await;
    world.store.set_away(false);
    soon(archiver.handle.cut_now()).await.unwrap();
    for partition in [19, 20] {
        world.check_archived(partition, Offset::new(3_000)).await;
        assert_eq!(value_of(&format!("twofold_archive_reading_stopped{{partition=\"{partition}\"}}")), 0.0);
    }
    archiver.stop().await.unwrap();
    assert_eq!(world.store.puts_in_flight_max(), 1);
}

/// Many partitions that fill slowly must not wait for each other when the memory is full: they make objects early.
#[tokio::test]
async fn full_memory_makes_objects_early() {
    let world = World::new(noon(), 2).await;
    let options = Options {
        object_age_max: Span::hours(100),
        poll_bytes_max: 5_000,
        memory_bytes_max: 60_000,
        heartbeat_interval: Span::days(9),
        ..Options::default()
    };
    let archiver = world.start(options);
    for number in 0..2_000 {
        world.click((number % 2) as u32, number).await;
    }
    let stored = async {
        while archiver.handle.progress().partitions.values().any(|progress| progress.next_offset < Offset::new(800)) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    soon(stored).await;
    soon(archiver.handle.cut_now()).await.unwrap();
    for partition in 0..2 {
        world.check_archived(partition, Offset::new(1_000)).await;
    }
    archiver.stop().await.unwrap();
}

#[tokio::test]
async fn too_little_memory_for_the_partitions_is_refused() {
    let world = World::new(noon(), 4).await;
    let error = world.start(Options { memory_bytes_max: 1 << 20, ..Options::default() }).ended().await.unwrap_err();
    assert!(matches!(error, ArchiveError::Memory { partitions: 4, .. }), "{error}");
    assert!(error.to_string().contains("memory_bytes_max") && error.to_string().contains("raise it"), "{error}");
}

/// An archiver of a folder; its ledger lies elsewhere.
async fn into_folder(folder: &Path, mut spoil: impl AsyncFnMut(&World), mut mend: impl AsyncFnMut()) {
    let world = World::new(noon(), 1).await;
    world.click(0, 0).await;
    let objects = Objects::open_folder(folder.to_owned()).unwrap();
    let (handle, stop) = (Handle::default(), CancellationToken::new());
    let options = Options { object_records_max: 200, handle: handle.clone(), ..Options::default() };
    let (log, clock) = (Arc::new(world.log.clone()), world.clock.clone());
    let ledger: Ledger = world.ledger.clone();
    let archiver = tokio::spawn(run(options, log, objects.clone(), ledger, clock, stop.clone()));
    soon(handle.cut_now()).await.unwrap();
    let retries = value_of("twofold_archive_retries_total{operation=\"put\"}");
    spoil(&world).await;
    let failing = async {
        while value_of("twofold_archive_retries_total{operation=\"put\"}") <= retries {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    soon(failing).await;
    mend().await;
    soon(handle.cut_now()).await.unwrap();
    stop.cancel();
    archiver.await.unwrap().unwrap();
    World { objects, ..world.clone() }.check_archived(0, world.log_end(0).await.minus(1)).await;
}

/// A folder that cannot be written to. Root may write everywhere, so the folder of the day is a file meanwhile.
#[tokio::test]
async fn a_folder_that_takes_nothing_costs_nothing_but_time() {
    let folder = tempfile::tempdir().unwrap();
    let raw = folder.path().join("raw");
    let aside = folder.path().join("aside");
    into_folder(
        folder.path(),
        async |world| {
            std::fs::rename(&raw, &aside).unwrap();
            std::fs::write(&raw, "not a folder").unwrap();
            for number in 0..500 {
                world.click(0, number).await;
            }
        },
        async || {
            std::fs::remove_file(&raw).unwrap();
            std::fs::rename(&aside, &raw).unwrap();
        },
    )
    .await;
}

/// A real file system of one megabyte, full to the last byte. Mounting needs root: without it this says so.
#[tokio::test]
async fn a_full_disk_costs_nothing_but_time() {
    let folder = tempfile::tempdir().unwrap();
    let mounted =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"]).arg(folder.path()).status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("NOT TESTED: no tmpfs can be mounted here; run it as root");
        return;
    }
    let _unmount = Unmount(folder.path().to_owned());
    let filler = folder.path().join("filler");
    into_folder(
        folder.path(),
        async |world| {
            let mut size = 1 << 20;
            while size > 0 {
                let taken = std::fs::metadata(&filler).map_or(0, |file| file.len());
                let mut bytes = std::fs::read(&filler).unwrap_or_default();
                bytes.resize(taken as usize + size, 7);
                if std::fs::write(&filler, &bytes).is_err() {
                    std::fs::write(&filler, &bytes[..taken as usize]).unwrap();
                    size /= 2;
                }
            }
            for number in 0..500 {
                world.click(0, number).await;
            }
        },
        async || std::fs::remove_file(&filler).unwrap(),
    )
    .await;
}

struct Unmount(std::path::PathBuf);

impl Drop for Unmount {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount").arg("-l").arg(&self.0).status();
    }
}
