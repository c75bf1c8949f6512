//! A local folder as an object store whose writes survive a power cut.
//!
//! Reading and listing are `object_store`'s. Writing is ours, because it does not sync: the bytes are written to a
//! staging file and synced *before* a link (create-only) or a rename (replace) makes them visible, then the directory
//! is synced. A crash leaves a staging file at most, outside every listing.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path as FsPath, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use object_store::path::Path;

/// Folder of staging files below the root.
const STAGING: &str = ".staging";
/// A staging file that is older was left by a crash: no put takes so long.
const STALE_AFTER: Duration = Duration::from_secs(3600);

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
            match remove_stale(&stale?) {
                // Another process has published or removed it since the folder was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                removed => removed?,
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

/// Another process may be writing at this moment; only what is old is stale.
fn remove_stale(staged: &fs::DirEntry) -> io::Result<()> {
    let age = staged.metadata()?.modified()?.elapsed().unwrap_or_default();
    match age > STALE_AFTER {
        true => fs::remove_file(staged.path()),
        false => Ok(()),
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Another process publishes its staging files while the folder is opened: each is there when the folder is read,
    /// and mostly gone when it is looked at.
    #[test]
    fn opening_does_not_stumble_over_what_another_process_publishes() {
        let root = std::env::temp_dir().join(format!("twofold-open-{}", uuid::Uuid::new_v4().simple()));
        LocalFolder::open(root.clone()).unwrap();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let staged: Vec<_> = (0..50).map(|n| root.join(STAGING).join(n.to_string())).collect();
                    staged.iter().for_each(|file| fs::write(file, "x").unwrap());
                    staged.iter().for_each(|file| fs::remove_file(file).unwrap());
                }
            });
            let opened = (0..5_000).try_for_each(|_| LocalFolder::open(root.clone()).map(drop));
            done.store(true, Ordering::Relaxed);
            opened.unwrap();
        });
        fs::remove_dir_all(root).unwrap();
    }

    #[test]
    fn only_old_staging_files_are_removed() {
        let root = std::env::temp_dir().join(format!("twofold-stale-{}", uuid::Uuid::new_v4().simple()));
        LocalFolder::open(root.clone()).unwrap();
        let (old, young) = (root.join(STAGING).join("old"), root.join(STAGING).join("young"));
        let then = std::time::SystemTime::now() - 2 * STALE_AFTER;
        File::create_new(&old).unwrap().set_modified(then).unwrap();
        File::create_new(&young).unwrap();
        LocalFolder::open(root.clone()).unwrap();
        assert!(!old.exists() && young.exists());
        fs::remove_dir_all(root).unwrap();
    }
}
