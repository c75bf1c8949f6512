//! New rules are taken from the ledger while the loop runs, and a ledger that is away is borne only so long.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clicks::rules::Rules;
use clicks::time::Span;
use counter::CounterError;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result,
};
use platform::ledger::Ledger;
use platform::objects::Objects;

use crate::world::{World, click, first_day, noon};

/// Scenario 22: L goes from 10 to 60 minutes and the live horizon from 15 to 60, at midnight.
#[tokio::test]
async fn rules_change_at_midnight_for_the_events_of_the_new_day() {
    let mut world = World::new(1).await;
    let run = world.start();
    world.clicks(0, "a", 1).await;
    world.settled().await;
    let generation = world.generation(0).await;
    let hour = Span::hours(1);
    let (second, midnight) = (first_day().plus(2), first_day().plus(2).start());
    let rules = Rules { version: 2, lateness: hour, live_horizon: hour, ..Rules::default() };
    world.change_rules(second, rules).await;
    tokio::time::sleep(Duration::from_millis(30)).await;

    world.clock.advance_to(midnight - Span::minutes(40));
    let key = world.click(0, "k", world.now()).await;
    world.clock.advance_to(midnight + Span::minutes(10));
    world.append(0, Some(click("k", key, world.now()))).await;
    world.check("23:20 and 00:10").await;
    assert_eq!(world.count(0, "k", world.now()).await, None, "within the larger horizon of its own day");
    world.clock.advance_to(midnight + Span::minutes(50));
    world.click(0, "b", midnight - Span::minutes(1)).await;
    world.click(0, "c", midnight).await;
    world.check("late by the old rules, on time by the new ones").await;
    assert_eq!(world.count(0, "b", midnight - Span::minutes(1)).await, None);
    assert_eq!(world.count(0, "c", midnight).await, Some(1));
    assert_eq!(world.generation(0).await, generation, "the worker entered again and went on");
    run.kill().await;
    let run = world.start();
    world.click(0, "c", midnight).await;
    world.check("after a restart").await;
    assert_eq!(world.count(0, "c", midnight).await, Some(2));
    run.stop().await;
}

/// A store of objects that can be away.
#[derive(Debug)]
struct Faulty {
    inner: InMemory,
    away: Arc<AtomicBool>,
}

impl std::fmt::Display for Faulty {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("faulty")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, at: &Path, payload: PutPayload, options: PutOptions) -> Result<PutResult> {
        self.inner.put_opts(at, payload, options).await
    }
    async fn put_multipart_opts(&self, at: &Path, options: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.inner.put_multipart_opts(at, options).await
    }
    async fn get_opts(&self, at: &Path, options: GetOptions) -> Result<GetResult> {
        if self.away.load(Ordering::Relaxed) {
            return Err(object_store::Error::Generic { store: "faulty", source: "it is away".into() });
        }
        self.inner.get_opts(at, options).await
    }
    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.inner.delete_stream(paths)
    }
    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.inner.list(prefix)
    }
    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }
    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.inner.copy_opts(from, to, options).await
    }
}

#[tokio::test]
async fn nothing_is_judged_by_rules_that_may_be_out_of_date() {
    let away = Arc::new(AtomicBool::new(false));
    let faulty = Faulty { inner: InMemory::new(), away: away.clone() };
    let ledger = Ledger::new(Objects::over(Arc::new(faulty), "faulty:///"));
    let mut world = World::on(1, ledger).await;
    let run = world.start();
    world.clicks(0, "a", 1).await;
    world.settled().await;
    away.store(true, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(30)).await;
    world.pass(Span::hours(22));
    world.clicks(0, "a", 1).await;
    world.settled().await;
    assert!(run.is_running(), "the copy is young enough");
    world.pass(Span::hours(2));
    world.clicks(0, "a", 1).await;
    let error = run.ends().await;
    assert!(matches!(error, CounterError::RulesStale { age, .. } if age == Span::hours(24)), "{error}");
    assert_eq!(world.stored(0).await.unwrap().meta.next_offset.value(), 2, "the third was not judged");
    assert_eq!(world.count(0, "a", noon()).await, Some(1));
    away.store(false, Ordering::Relaxed);
    let run = world.start();
    world.check("the ledger is back").await;
    // A clock that jumps a day is no reason to stop, as long as the ledger answers.
    world.pass(Span::days(3));
    world.clicks(0, "a", 1).await;
    world.check("three days later").await;
    run.stop().await;
}
