//! A store in memory that fails, forgets its answers, hangs and is away as told.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore,
    PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Clones are the same store.
#[derive(Debug, Clone, Default)]
pub struct Faulty(Arc<State>);

#[derive(Debug, Default)]
struct State {
    inner: InMemory,
    away: AtomicBool,
    /// Deletes that still succeed, less one; 0 for all.
    deletes: AtomicUsize,
    chaos: Mutex<Option<SmallRng>>,
    /// Puts under way per folder of a partition, and the most that there were.
    puts: Mutex<BTreeMap<String, (usize, usize)>>,
}

enum Fault {
    None,
    /// Nothing happens.
    Refused,
    /// It happens, but is answered with an error.
    LostReply,
    /// Nothing happens, and the answer is that the object exists: how a 409 of S3 is shown.
    FalseConflict,
}

impl Faulty {
    /// Every call fails while it is away.
    pub fn set_away(&self, away: bool) {
        self.0.away.store(away, Ordering::SeqCst);
    }

    pub fn is_away(&self) -> bool {
        self.0.away.load(Ordering::SeqCst)
    }

    /// After so many deletes every further one fails.
    pub fn fail_deletes_after(&self, deletes: usize) {
        self.0.deletes.store(deletes.wrapping_add(1), Ordering::SeqCst);
    }

    /// From now on some puts hang for a moment, some fail before, some after they took effect.
    pub fn be_chaotic(&self, seed: u64) {
        *self.0.chaos.lock().unwrap() = Some(SmallRng::seed_from_u64(seed));
    }

    pub fn calm_down(&self) {
        *self.0.chaos.lock().unwrap() = None;
    }

    /// The most puts that were ever under way at the same time in one partition's folder.
    pub fn puts_in_flight_max(&self) -> usize {
        self.0.puts.lock().unwrap().values().map(|(_, most)| *most).max().unwrap_or(0)
    }

    fn present(&self) -> Result<()> {
        match self.0.away.load(Ordering::SeqCst) {
            true => Err(failure("the store is away")),
            false => Ok(()),
        }
    }

    fn draw(&self) -> (Duration, Fault) {
        let mut chaos = self.0.chaos.lock().unwrap();
        let Some(random) = chaos.as_mut() else { return (Duration::ZERO, Fault::None) };
        let hangs =
            if random.random_ratio(1, 3) { Duration::from_millis(random.random_range(0..40)) } else { Duration::ZERO };
        let fault = match random.random_range(0..20) {
            0 => Fault::Refused,
            1 => Fault::LostReply,
            2 => Fault::FalseConflict,
            _ => Fault::None,
        };
        (hangs, fault)
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a faulty store")
    }
}

fn failure(reason: &'static str) -> Error {
    Error::Generic { store: "faulty", source: reason.into() }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, opts: PutOptions) -> Result<PutResult> {
        self.present()?;
        let (folder, _) = location.as_ref().split_once("/day=").unwrap_or((location.as_ref(), ""));
        {
            let mut puts = self.0.puts.lock().unwrap();
            let (now, most) = puts.entry(folder.to_owned()).or_default();
            *now += 1;
            *most = (*most).max(*now);
        }
        // A start that meets a fault is refused, which is no matter of the histories.
        let (hangs, fault) = match folder.starts_with("raw/") {
            true => self.draw(),
            false => (Duration::ZERO, Fault::None),
        };
        tokio::time::sleep(hangs).await;
        let put = match fault {
            Fault::Refused => Err(failure("refused")),
            Fault::FalseConflict => Err(Error::AlreadyExists { path: location.to_string(), source: "409".into() }),
            Fault::None => self.0.inner.put_opts(location, payload, opts).await,
            Fault::LostReply => {
                self.0.inner.put_opts(location, payload, opts).await?;
                Err(failure("the reply was lost"))
            }
        };
        self.0.puts.lock().unwrap().entry(folder.to_owned()).or_default().0 -= 1;
        put
    }

    async fn put_multipart_opts(&self, location: &Path, opts: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        self.0.inner.put_multipart_opts(location, opts).await
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        self.present()?;
        self.0.inner.get_opts(location, options).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        let state = self.0.clone();
        let allowed = move |location: Result<Path>| {
            let left = state.deletes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| match left {
                0 => Some(0),
                1 => None,
                left => Some(left - 1),
            });
            if left.is_ok() { location } else { Err(failure("no further delete")) }
        };
        self.0.inner.delete_stream(locations.map(allowed).boxed())
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        match self.present() {
            Ok(()) => self.0.inner.list(prefix),
            Err(error) => futures::stream::iter([Err(error)]).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.present()?;
        self.0.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.0.inner.copy_opts(from, to, options).await
    }
}
