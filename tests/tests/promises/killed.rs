//! The nightly job, killed by SIGKILL at each of its steps: what is published is served, and the next run ends the work.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bytes::Bytes;
use clicks::ledger::entry_key;
use clicks::tables::{current_key, rev_prefix};
use clicks::window::Grain;
use platform::ledger::Ledger;
use platform::objects::Objects;
use promises::binary::twofold;
use promises::services::{duckdb, new_folder};

use crate::nightly::{NIGHTS, archive, begin, day, first_day, generate, settle};

/// An installation in a folder whose nights are all due.
struct Place {
    folder: PathBuf,
    objects: Objects,
    settings: PathBuf,
}

impl Place {
    async fn new(name: &str) -> Self {
        let folder = new_folder(name).unwrap();
        let objects = Objects::open_folder(folder.join("store")).unwrap();
        begin(&objects, first_day()).await;
        archive(&objects, first_day(), &generate(first_day())).await;
        let settings = settle(&folder, first_day());
        Place { folder, objects, settings }
    }

    fn start(&self) -> Child {
        let mut command: Command = twofold();
        command.arg("--config").arg(&self.settings).args(["batch", "run", "--catch-up"]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    fn path(&self, key: &str) -> PathBuf {
        self.folder.join("store").join(key)
    }

    /// Every table, those of the ledger and the copies.
    async fn tables(&self) -> BTreeMap<String, Bytes> {
        let mut tables = BTreeMap::new();
        for object in self.objects.list("tables/", None).await.unwrap() {
            tables.insert(object.key.clone(), self.objects.get(&object.key).await.unwrap().unwrap());
        }
        tables
    }

    /// Clicks and adjustments per day, as a glob over the copies sums them.
    async fn sums(&self) -> BTreeMap<String, u64> {
        if !self.path("tables/current/minute").exists() {
            return BTreeMap::new();
        }
        let sql = format!(
            "SELECT CAST(period_start AS DATE), sum(clicks) + sum(adjustment) \
             FROM read_parquet('{}/tables/current/minute/*/data.parquet') GROUP BY ALL",
            self.folder.join("store").display()
        );
        duckdb(&sql).await.unwrap().into_iter().map(|row| (row[0].clone(), row[1].parse().unwrap())).collect()
    }
}

/// Whether a run has come to a step, by what lies in its folder.
type Reached = fn(&Place) -> bool;

fn has_file(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut files| files.next().is_some())
}

#[tokio::test]
async fn a_batch_that_is_killed_at_any_step_leaves_the_old_tables_and_is_ended_by_the_next_run() {
    let (sound, place) = (Place::new("killed-sound").await, Place::new("killed").await);
    assert!(sound.start().wait().unwrap().success());
    let expected = (sound.tables().await, sound.sums().await);
    assert!(expected.1.len() >= NIGHTS as usize, "{:?}", expected.1);

    // Entry 1 is the topic, entry n + 1 night n.
    let steps: [(&str, Reached); 6] = [
        ("the lease is taken, the archive is read", |place| place.path("leases/batch.json").exists()),
        ("a file of night 1 is written", |place| has_file(&place.path(&rev_prefix(2)))),
        ("night 1 is published", |place| place.path(&entry_key(2)).exists()),
        ("a file of night 3 is written", |place| has_file(&place.path(&rev_prefix(4)))),
        ("a copy of night 3 is refreshed", |place| place.path(&current_key(Grain::Minute, day(3))).exists()),
        ("night 5 is published", |place| place.path(&entry_key(6)).exists()),
    ];
    let mut before = 1;
    for (step, reached) in steps {
        let mut batch = place.start();
        let deadline = Instant::now() + Duration::from_secs(60);
        while !reached(&place) {
            assert!(Instant::now() < deadline && batch.try_wait().unwrap().is_none(), "never came to: {step}");
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        batch.kill().unwrap();
        assert_eq!(batch.wait().unwrap().signal(), Some(9), "it had ended before: {step}");
        let head = Ledger::new(place.objects.clone()).read().await.unwrap().head();
        assert!(head >= before && head < 1 + NIGHTS as u64, "entry {head} after: {step}");
        before = head;
        // A click is never there twice, nor a day that was not published: later nights only add to what is there.
        for (day, clicks) in place.sums().await {
            assert!(clicks <= expected.1[&day], "{clicks} of {} clicks of {day}: {step}", expected.1[&day]);
        }
        // It would run out by itself, in two minutes.
        std::fs::remove_file(place.path("leases/batch.json")).unwrap();
    }
    assert!(place.start().wait().unwrap().success());
    assert_eq!(place.tables().await, expected.0, "the same files with the same bytes as of a run that nobody killed");
    assert_eq!(place.sums().await, expected.1);
}
