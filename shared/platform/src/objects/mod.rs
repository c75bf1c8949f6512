//! The object store port: raw objects, tables and the ledger, on S3, in a local folder or in memory.
//!
//! # Contract
//! * [`Objects::create`] is create-only: of any number of racing writers exactly one succeeds. Its outcome is never a
//!   guess: every result of the store other than success is *unknown*, so the object is read back and compared.
//! * What was created or put is durable (a local folder is synced, file and directory) and visible to the next listing.
//! * [`Objects::list`] is sorted by key, and complete.
//! * A local folder never shows half-written objects or staging files.

pub mod conformance;

use std::fmt;
use std::io::ErrorKind;
use std::sync::Arc;

use bytes::Bytes;
use clicks::time::Timestamp;
use object_store::ObjectStore;
use object_store::path::Path;
use object_store::{ObjectStoreExt, PutMode, PutPayload};

mod local;
mod open;
mod rehearsal;

pub use local::LocalFolder;
pub use open::S3Options;

/// A bucket or folder, and a prefix in it.
#[derive(Clone)]
pub struct Objects {
    store: Arc<dyn ObjectStore>,
    /// Set where the store is a local folder: its writes are ours, because they must be synced.
    folder: Option<LocalFolder>,
    prefix: Path,
    url: String,
}

/// What a create-only put came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Created {
    /// The object is there with these bytes: written now, or by an earlier attempt of ours whose answer was lost.
    Ours,
    /// Another writer's object has this key.
    Taken(Bytes),
}

/// An object in a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Relative to the prefix of [`Objects`].
    pub key: String,
    pub bytes: u64,
}

/// What can go wrong with the object store.
#[derive(Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("storage url `{url}`: {reason}")]
    BadUrl { url: String, reason: String },
    #[error("object `{key}`: {source}")]
    Store { key: String, source: object_store::Error },
    #[error("object `{key}`: {source}")]
    Io { key: String, source: std::io::Error },
    #[error("object `{key}` could not be written: {attempts} attempts ended in an unknown outcome, last: {last}")]
    Unknown { key: String, attempts: u32, last: String },
    #[error(
        "the store does not honour create-only puts ({0}); two writers could overwrite each other, so it is refused"
    )]
    NotCreateOnly(String),
}

/// Attempts of one create-only put whose outcome stays unknown, before the caller is told.
const ATTEMPTS_MAX: u32 = 4;

impl fmt::Debug for Objects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Objects({})", self.url)
    }
}

impl Objects {
    /// Everything in memory: for the demo and for tests.
    pub fn memory() -> Self {
        Self::over(Arc::new(object_store::memory::InMemory::new()), "memory:///")
    }

    /// Over any store: for tests that inject faults.
    pub fn over(store: Arc<dyn ObjectStore>, url: &str) -> Self {
        Objects { store, folder: None, prefix: Path::default(), url: url.to_owned() }
    }

    /// The same objects, on which everything may be tried: what is written stays in memory, is seen by this value alone,
    /// and is gone with it. Nothing can be deleted.
    pub fn rehearsal(&self) -> Self {
        Objects {
            store: Arc::new(rehearsal::Rehearsal::over(self.store.clone())),
            folder: None,
            prefix: self.prefix.clone(),
            url: self.url.clone(),
        }
    }

    /// The storage URL, for people.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The store itself, for engines that read through `object_store`; full paths come from [`Objects::path`].
    pub fn store(&self) -> Arc<dyn ObjectStore> {
        self.store.clone()
    }

    /// Full path of a key within [`Objects::store`].
    pub fn path(&self, key: &str) -> Path {
        Path::from_iter(self.prefix.parts().chain(Path::from(key).parts()))
    }

    /// Creates an object, or tells whose object has its key.
    ///
    /// # Errors
    /// [`ObjectError::Unknown`] when the store kept failing; nothing may be assumed then.
    pub async fn create(&self, key: &str, bytes: Bytes) -> Result<Created, ObjectError> {
        let mut last = String::new();
        for attempt in 0..ATTEMPTS_MAX {
            if attempt > 0 {
                tokio::time::sleep(std::time::Duration::from_millis(50 << attempt)).await;
            }
            // Success is the only answer that says something: a conflict may be our own earlier attempt, or (409)
            // nobody's; an error may have happened after the commit. So read back and compare.
            match self.try_create(key, bytes.clone()).await {
                Ok(()) => return Ok(Created::Ours),
                // A disk that failed may show the bytes and still lose them, so reading them back proves nothing.
                Err(ObjectError::Io { key, source }) if source.kind() != ErrorKind::AlreadyExists => {
                    return Err(ObjectError::Io { key, source });
                }
                Err(error) => last = error.to_string(),
            }
            match self.get(key).await {
                Ok(Some(found)) if found == bytes => return Ok(Created::Ours),
                Ok(Some(found)) => return Ok(Created::Taken(found)),
                Ok(None) => {}
                Err(error) => last = error.to_string(),
            }
        }
        Err(ObjectError::Unknown { key: key.to_owned(), attempts: ATTEMPTS_MAX, last })
    }

    async fn try_create(&self, key: &str, bytes: Bytes) -> Result<(), ObjectError> {
        match &self.folder {
            Some(folder) => folder.create(&self.path(key), bytes).await.map_err(|source| io(key, source)),
            None => {
                let (path, payload) = (self.path(key), PutPayload::from_bytes(bytes));
                let put = self.store.put_opts(&path, payload, PutMode::Create.into()).await;
                put.map(drop).map_err(|source| failed(key, source))
            }
        }
    }

    /// Writes an object, replacing what is there. Only for what is a copy of something else.
    pub async fn put(&self, key: &str, bytes: Bytes) -> Result<(), ObjectError> {
        match &self.folder {
            Some(folder) => folder.replace(&self.path(key), bytes).await.map_err(|source| io(key, source)),
            None => {
                let put = self.store.put(&self.path(key), PutPayload::from_bytes(bytes)).await;
                put.map(drop).map_err(|source| failed(key, source))
            }
        }
    }

    /// The whole object; `None` when there is none.
    pub async fn get(&self, key: &str) -> Result<Option<Bytes>, ObjectError> {
        match self.store.get(&self.path(key)).await {
            Ok(found) => found.bytes().await.map(Some).map_err(|source| failed(key, source)),
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(source) => Err(failed(key, source)),
        }
    }

    /// Bytes `[range)` of an object.
    pub async fn get_range(&self, key: &str, range: std::ops::Range<u64>) -> Result<Bytes, ObjectError> {
        self.store.get_range(&self.path(key), range).await.map_err(|source| failed(key, source))
    }

    /// Every object whose key begins with the folder `prefix` (ends in `/`), after `after` if given, sorted by key.
    pub async fn list(&self, prefix: &str, after: Option<&str>) -> Result<Vec<ObjectInfo>, ObjectError> {
        let dated = self.list_dated(prefix, after).await?;
        Ok(dated.into_iter().map(|(object, _)| object).collect())
    }

    /// Like [`Objects::list`], each object with the time at which it was written, by the store's clock.
    pub async fn list_dated(
        &self,
        prefix: &str,
        after: Option<&str>,
    ) -> Result<Vec<(ObjectInfo, Timestamp)>, ObjectError> {
        use futures::TryStreamExt;
        let path = self.path(prefix);
        let listing = match after {
            Some(after) => self.store.list_with_offset(Some(&path), &self.path(after)),
            None => self.store.list(Some(&path)),
        };
        let found: Vec<_> = listing.try_collect().await.map_err(|source| failed(prefix, source))?;
        let skip = if self.prefix.as_ref().is_empty() { 0 } else { self.prefix.as_ref().len() + 1 };
        let info = |meta: object_store::ObjectMeta| {
            let written = Timestamp::from_millis(meta.last_modified.timestamp_millis());
            (ObjectInfo { key: meta.location.as_ref()[skip..].to_owned(), bytes: meta.size }, written)
        };
        let mut objects: Vec<(ObjectInfo, Timestamp)> = found
            .into_iter()
            .map(info)
            .filter(|(object, _)| self.folder.is_none() || !local::is_staging(&object.key))
            .collect();
        objects.sort_by(|(a, _), (b, _)| a.key.cmp(&b.key));
        Ok(objects)
    }

    /// Deletes an object; one that is not there is no error.
    pub async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        match self.store.delete(&self.path(key)).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
            Err(source) => Err(failed(key, source)),
        }
    }
}

fn failed(key: &str, source: object_store::Error) -> ObjectError {
    ObjectError::Store { key: key.to_owned(), source }
}

fn io(key: &str, source: std::io::Error) -> ObjectError {
    ObjectError::Io { key: key.to_owned(), source }
}
