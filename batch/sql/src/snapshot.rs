//! What one statement is read from: a position of the ledger, and a version of the ads table.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use clicks::ads::AdsTable;
use clicks::books::Books;
use clicks::inputs::InputObject;
use clicks::layout::RawKey;
use clicks::ledger::{Body, Entry, FileRef};
use clicks::position::Offset;
use clicks::tables::EntryNumber;
use futures::{StreamExt, TryStreamExt};
use platform::ledger::{Ledger, LedgerError};
use platform::objects::Objects;
use recompute::published;

use crate::error::SqlError;

/// Entries and lists that are read at the same time.
const READS_MAX: usize = 16;

/// A state of the books. Whatever is read of it is the same for ever.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub books: Arc<Books>,
    pub ads: Arc<AdsTable>,
    pub ads_version: u64,
    archive: Archive,
}

/// What of the ledger is read only when a table needs it, and shared by all snapshots: none of it ever changes.
#[derive(Debug, Clone)]
pub struct Archive {
    pub(crate) objects: Objects,
    ledger: Ledger,
    read: Arc<tokio::sync::Mutex<Read>>,
}

#[derive(Debug, Default)]
struct Read {
    /// From entry 0 on.
    entries: Vec<Arc<Entry>>,
    /// The raw objects that the first so many entries were counted from.
    inputs: Inputs,
}

#[derive(Debug, Default)]
struct Inputs {
    entries: usize,
    objects: BTreeMap<RawKey, RawObject>,
}

/// A raw object, as far as it was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RawObject {
    pub(crate) bytes: u64,
    /// Offsets `[from, to)`.
    pub(crate) from: Offset,
    pub(crate) to: Offset,
}

impl Archive {
    pub fn new(objects: Objects, ledger: Ledger) -> Self {
        Archive { objects, ledger, read: Arc::default() }
    }

    pub fn snapshot(&self, books: Arc<Books>, ads_version: u64, ads: Arc<AdsTable>) -> Snapshot {
        Snapshot { books, ads, ads_version, archive: self.clone() }
    }

    async fn entries(&self, read: &mut Read, head: EntryNumber) -> Result<(), SqlError> {
        let missing = read.entries.len() as u64..head + 1;
        let entries = futures::stream::iter(missing).map(|number| self.entry(number)).buffered(READS_MAX);
        let entries: Vec<Arc<Entry>> = entries.try_collect().await?;
        read.entries.extend(entries);
        Ok(())
    }

    async fn entry(&self, number: EntryNumber) -> Result<Arc<Entry>, LedgerError> {
        let bytes = self.ledger.entry_bytes(number).await?;
        let missing = || LedgerError::NoEntry { url: self.ledger.url().to_owned(), number, head: number };
        Ok(Arc::new(Entry::decode(number, &bytes.ok_or_else(missing)?)?))
    }
}

impl Snapshot {
    pub(crate) fn objects(&self) -> &Objects {
        &self.archive.objects
    }

    /// The entries of the ledger up to its position, from entry 0 on.
    pub(crate) async fn entries(&self) -> Result<Vec<Arc<Entry>>, SqlError> {
        let mut read = self.archive.read.lock().await;
        self.archive.entries(&mut read, self.books.head()).await?;
        Ok(read.entries[..=self.books.head() as usize].to_vec())
    }

    /// The raw objects that were counted, each as far as it was.
    pub(crate) async fn raw_objects(&self) -> Result<BTreeMap<RawKey, RawObject>, SqlError> {
        let mut read = self.archive.read.lock().await;
        let read = &mut *read;
        self.archive.entries(read, self.books.head()).await?;
        let unread: Vec<(usize, FileRef)> = read
            .entries
            .iter()
            .enumerate()
            .skip(read.inputs.entries)
            .filter_map(|(number, entry)| Some((number, inputs_of(&entry.body)?.clone())))
            .collect();
        let objects = &self.archive.objects;
        let lists = unread
            .into_iter()
            .map(|(number, file)| async move { Ok::<_, SqlError>((number, published::inputs(objects, &file).await?)) });
        // One after the other: who is broken off here goes on where it came to.
        let mut lists = futures::stream::iter(lists).buffered(READS_MAX);
        while let Some((number, list)) = lists.try_next().await? {
            for object in list.objects {
                let key: RawKey = object.key.parse()?;
                let InputObject { bytes, from, to, .. } = object;
                let known = read.inputs.objects.entry(key).or_insert(RawObject { bytes, from, to });
                (known.from, known.to) = (known.from.min(from), known.to.max(to));
            }
            read.inputs.entries = number + 1;
        }
        read.inputs.entries = read.entries.len();
        // Later entries may have been read already: what they have counted lies behind the cuts of this position.
        let counted = read.inputs.objects.iter().filter_map(|(key, object)| {
            let to = object.to.min(self.books.through().get(&key.partition).copied()?);
            (object.from < to).then(|| (key.clone(), RawObject { to, ..*object }))
        });
        Ok(counted.collect())
    }
}

fn inputs_of(body: &Body) -> Option<&FileRef> {
    match body {
        Body::Night(night) => Some(&night.inputs),
        Body::Recount(recount) => Some(&recount.inputs),
        Body::Genesis(_) | Body::Topic(_) | Body::Epoch(_) | Body::Rules(_) | Body::Period(_) => None,
    }
}

/// Where the tables of a session find their snapshot: it changes between statements, never within one.
#[derive(Debug, Clone, Default)]
pub struct Pin(Arc<RwLock<Option<Arc<Snapshot>>>>);

impl Pin {
    /// # Errors
    /// When there is none yet.
    pub(crate) fn get(&self) -> Result<Arc<Snapshot>, SqlError> {
        let snapshot = self.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        snapshot.ok_or_else(|| SqlError::Read("the books have not been read yet".to_owned()))
    }

    pub fn set(&self, snapshot: Arc<Snapshot>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(snapshot);
    }
}
