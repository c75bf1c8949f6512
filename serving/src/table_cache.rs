//! Tables that were read before: their names hold their content's hash, so what is cached never goes out of date.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clicks::ledger::FileRef;
use platform::objects::Objects;
use tokio::sync::OnceCell;

use crate::tables::{Table, TableError, bytes_of};

/// Deadline for fetching one file. Minutes of a large day are some ten megabytes.
const FETCH_MAX: Duration = Duration::from_secs(20);

/// Deadline of reading tables before anybody asks for them.
const WARM_MAX: Duration = Duration::from_secs(1);
/// A table that takes more than so much of the memory is read when somebody asks for it.
const WARM_SHARE: usize = 16;

/// Bounded by the memory that tables take; the least recently used go first.
#[derive(Debug)]
pub(crate) struct TableCache {
    objects: Objects,
    bytes_max: usize,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    tables: HashMap<String, Kept>,
    /// Counts uses, so that the least recently used is known.
    uses: u64,
}

#[derive(Debug)]
struct Kept {
    /// Set once it is read: requests for one file share one reading.
    cell: Arc<OnceCell<Arc<Table>>>,
    used: u64,
}

impl TableCache {
    pub(crate) fn new(objects: Objects, bytes_max: usize) -> Self {
        TableCache { objects, bytes_max, inner: Mutex::default() }
    }

    /// A table that is in memory.
    pub(crate) fn kept(&self, file: &FileRef) -> Option<Arc<Table>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.uses += 1;
        let used = inner.uses;
        let kept = inner.tables.get_mut(&file.key)?;
        kept.used = used;
        kept.cell.get().cloned()
    }

    pub(crate) async fn get(&self, file: &FileRef) -> Result<Arc<Table>, TableError> {
        let cell = self.cell(&file.key);
        let table = cell.get_or_try_init(|| self.fetch(file)).await.cloned();
        match &table {
            Ok(_) => self.shrink(&file.key),
            // A failure is not kept: the next request tries again.
            Err(_) => metrics::counter!("twofold_serving_table_failures_total").increment(1),
        }
        table
    }

    /// Reads tables before anybody asks for them, as long as that takes no longer than [`WARM_MAX`]. Failures are for those
    /// who ask.
    pub(crate) async fn warm(&self, files: impl Iterator<Item = &FileRef>) {
        let read = async {
            // One that takes a large part of the memory would drive out what is asked for, and take several times as much
            // while it is decoded, beside what questions may take.
            for file in files.filter(|file| bytes_of(file.rows as usize, 0, 0) < self.bytes_max / WARM_SHARE) {
                _ = self.get(file).await;
            }
        };
        _ = tokio::time::timeout(WARM_MAX, read).await;
    }

    async fn fetch(&self, file: &FileRef) -> Result<Arc<Table>, TableError> {
        metrics::counter!("twofold_serving_table_reads_total").increment(1);
        let fetched = tokio::time::timeout(FETCH_MAX, self.objects.get(&file.key)).await;
        let bytes = fetched.map_err(|_| TableError::Timeout(FETCH_MAX))??;
        let bytes = bytes.ok_or_else(|| TableError::Missing(file.key.clone()))?;
        let file = file.clone();
        // Hashing and decoding would hold up every other request of this thread.
        let read = tokio::task::spawn_blocking(move || Table::read(&file, bytes)).await;
        read.expect("reading a table does not panic, and nobody aborts it").map(Arc::new)
    }

    fn cell(&self, key: &str) -> Arc<OnceCell<Arc<Table>>> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.uses += 1;
        let used = inner.uses;
        let kept = inner.tables.entry(key.to_owned()).or_insert_with(|| Kept { cell: Arc::default(), used });
        kept.used = used;
        kept.cell.clone()
    }

    fn shrink(&self, just_used: &str) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // Cells without a table are either being read, or their reading failed; the latter are of no use.
        let size = |kept: &Kept| kept.cell.get().map_or(0, |table| table.bytes());
        inner.tables.retain(|_, kept| kept.cell.initialized() || Arc::strong_count(&kept.cell) > 1);
        let mut bytes: usize = inner.tables.values().map(size).sum();
        while bytes > self.bytes_max {
            let others = inner.tables.iter().filter(|(key, kept)| *key != just_used && kept.cell.initialized());
            let Some((oldest, freed)) =
                others.min_by_key(|(_, kept)| kept.used).map(|(key, kept)| (key.clone(), size(kept)))
            else {
                break;
            };
            inner.tables.remove(&oldest);
            bytes -= freed;
        }
        metrics::gauge!("twofold_serving_tables_bytes").set(bytes as f64);
    }
}
