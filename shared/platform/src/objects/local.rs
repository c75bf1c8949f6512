//! A local folder as an object store whose writes survive a power cut.
//!
//! Reading and listing are `object_store`'s. Writing is ours, because it does not sync: the bytes are written to a
//! staging file and synced *before* a link (create-only) or a rename (replace) makes them visible, then the directory
//! is synced. A crash leaves a staging file at most, outside every listing.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path as FsPath, PathBuf};

use bytes::Bytes;
use object_store::path::Path;

/// Folder of staging files below the root.
const STAGING: &str = ".staging";

/// True for the key of a staging file, which no listing shows.
pub(super) fn is_staging(key: &str) -> bool {
    key.strip_prefix(STAGING).is_some_and(|rest| rest.starts_with('/'))
}

/// Synced writes below a root folder.
#[derive(Debug, Clone)]
pub struct LocalFolder {
    root: PathBuf,
}

impl LocalFolder {
    /// Creates the folder if it is missing and removes what a crash left in staging.
    pub fn open(root: PathBuf) -> io::Result<Self> {
        fs::create_dir_all(root.join(STAGING))?;
        for stale in fs::read_dir(root.join(STAGING))? {
            let stale = stale?;
            // Another process may be writing at this moment; only what is old is stale.
            let age = stale.metadata()?.modified()?.elapsed().unwrap_or_default();
            if age > std::time::Duration::from_secs(3600) {
                fs::remove_file(stale.path())?;
            }
        }
        Ok(LocalFolder { root })
    }

    /// Create-only.
    pub(super) async fn create(&self, path: &Path, bytes: Bytes) -> io::Result<()> {
        self.write(path, bytes, |staged, target| {
            fs::hard_link(staged, target)?;
            fs::remove_file(staged)
        })
        .await
    }

    pub(super) async fn replace(&self, path: &Path, bytes: Bytes) -> io::Result<()> {
        self.write(path, bytes, |staged, target| fs::rename(staged, target)).await
    }

    async fn write(
        &self,
        path: &Path,
        bytes: Bytes,
        publish: impl FnOnce(&FsPath, &FsPath) -> io::Result<()> + Send + 'static,
    ) -> io::Result<()> {
        let root = self.root.clone();
        let target = root.join(path.as_ref());
        tokio::task::spawn_blocking(move || {
            let staged = root.join(STAGING).join(uuid::Uuid::new_v4().simple().to_string());
            let mut file = File::create_new(&staged)?;
            file.write_all(&bytes)?;
            file.sync_all()?;
            let made = make_folders(&root, target.parent().unwrap_or(&root))?;
            let published = publish(&staged, &target);
            if published.is_err() {
                // The error that matters is the one above.
                let _ = fs::remove_file(&staged);
            }
            // An object that was there already may be our own, of an attempt that was killed before it came to this:
            // whoever reads it back and finds the same bytes takes it for durable.
            let changed = if published.is_ok() { made } else { folders_between(&root, &target) };
            for folder in changed {
                File::open(folder)?.sync_all()?;
            }
            File::open(target.parent().unwrap_or(&root))?.sync_all()?;
            published
        })
        .await
        .map_err(io::Error::other)?
    }
}

/// Every folder from the root down to the one that holds `target`.
fn folders_between(root: &FsPath, target: &FsPath) -> Vec<PathBuf> {
    let folders = target.ancestors().skip(1).take_while(|folder| folder.starts_with(root));
    folders.map(FsPath::to_owned).collect()
}

/// Creates missing folders and tells which folders got a new entry, so that they are synced too.
fn make_folders(root: &FsPath, folder: &FsPath) -> io::Result<Vec<PathBuf>> {
    let mut changed = Vec::new();
    let mut missing = folder;
    while missing != root && !missing.exists() {
        let Some(parent) = missing.parent() else { break };
        changed.push(parent.to_owned());
        missing = parent;
    }
    fs::create_dir_all(folder)?;
    Ok(changed)
}
