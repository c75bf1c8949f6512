//! The newest state of the books, not read more often than anybody could notice.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clicks::books::Books;
use platform::ads::Ads;
use platform::ledger::Ledger;
use platform::objects::Objects;
use tokio::sync::Mutex;

use crate::error::SqlError;
use crate::snapshot::{Archive, Snapshot};

/// What was read so long ago is the newest.
const FRESH: Duration = Duration::from_secs(1);
/// Deadline of one reading.
const READ_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Latest {
    archive: Archive,
    ledger: Ledger,
    ads: Ads,
    known: Mutex<Option<(Instant, Arc<Snapshot>)>>,
}

impl Latest {
    pub(super) fn new(ads: Ads, objects: Objects, ledger: Ledger) -> Self {
        Latest { archive: Archive::new(objects, ledger.clone()), ledger, ads, known: Mutex::default() }
    }

    /// # Errors
    /// When the store does not answer: there are no answers without it, and none are made up.
    pub(super) async fn get(&self) -> Result<Arc<Snapshot>, SqlError> {
        let mut known = self.known.lock().await;
        let last = known.as_ref().filter(|(at, _)| at.elapsed() < FRESH);
        if let Some((_, snapshot)) = last {
            return Ok(snapshot.clone());
        }
        let before = known.as_ref().map(|(_, snapshot)| snapshot.clone());
        let late = |_| SqlError::Read(format!("the store does not answer within {READ_MAX:?}; ask again later"));
        let snapshot = tokio::time::timeout(READ_MAX, self.read(before)).await.map_err(late)??;
        *known = Some((Instant::now(), snapshot.clone()));
        Ok(snapshot)
    }

    async fn read(&self, before: Option<Arc<Snapshot>>) -> Result<Arc<Snapshot>, SqlError> {
        let Some(before) = before else {
            let books = Arc::new(self.ledger.read().await?);
            let version = self.ads.last(0).await?;
            return Ok(Arc::new(self.archive.snapshot(books, version, Arc::new(self.ads.read(version).await?))));
        };
        let mut books = Books::clone(&before.books);
        self.ledger.catch_up(&mut books).await?;
        let version = self.ads.last(before.ads_version).await?;
        if (books.head(), version) == (before.books.head(), before.ads_version) {
            return Ok(before);
        }
        let ads = match version == before.ads_version {
            true => before.ads.clone(),
            false => Arc::new(self.ads.read(version).await?),
        };
        Ok(Arc::new(self.archive.snapshot(Arc::new(books), version, ads)))
    }
}
