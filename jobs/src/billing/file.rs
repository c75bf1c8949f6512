//! Files that people take away.

use std::fs::{self, File};
use std::io::{self, Read, Seek};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// A file that is there as a whole, or not at all.
pub(super) struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    pub(super) fn create(target: &Path) -> io::Result<Self> {
        let name = target.file_name().ok_or_else(|| io::Error::other("it names no file"))?;
        if target.is_dir() {
            return Err(io::Error::other("it is a folder; name a file in it"));
        }
        let path = target.with_file_name(format!(".{}.{}.partial", name.to_string_lossy(), std::process::id()));
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path)?;
        Ok(Partial { path, file })
    }

    pub(super) fn clone_file(&self) -> io::Result<File> {
        self.file.try_clone()
    }

    /// Gives the file its name.
    pub(super) fn finish(&mut self, target: &Path) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.path, target)
    }

    /// Gives the file its name, and its SHA-256 a file beside it.
    pub(super) fn finish_with_hash(&mut self, target: &Path) -> io::Result<String> {
        self.file.rewind()?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
        loop {
            let count = self.file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
        }
        let sha256 = clicks::hex(&hash.finalize());
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let beside = target.with_file_name(format!("{name}.sha256"));
        // An old one would stand beside another file if this ended here.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.finish(target)?;
        fs::write(beside, format!("{sha256}  {name}\n"))?;
        Ok(sha256)
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // It has another name by now, unless something went wrong.
        let _ = fs::remove_file(&self.path);
    }
}
