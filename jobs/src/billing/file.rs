//! Files that people take away.

use std::fmt::Display;
use std::fs::{self, File, Permissions};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;

/// A file that is there as a whole, or not at all. All errors name it.
pub(super) struct Partial<'a> {
    file: NamedTempFile,
    target: &'a Path,
}

impl<'a> Partial<'a> {
    pub(super) fn create(target: &'a Path) -> io::Result<Self> {
        let file = if target.file_name().is_none() {
            Err(io::Error::other("it names no file"))
        } else if fs::metadata(target).is_ok_and(|there| !there.is_file()) {
            // A pipe or a device would be replaced by a file.
            Err(io::Error::other("there is something of that name that is no file; name another one"))
        } else {
            beside(target)
        };
        Ok(Partial { file: file.map_err(|error| unwritten(target.display(), error))?, target })
    }

    pub(super) fn writer(&self) -> io::Result<BufWriter<Named>> {
        let file = self.file.as_file().try_clone().map_err(|error| unwritten(self.target.display(), error))?;
        Ok(BufWriter::new(Named { file, name: self.target.display().to_string() }))
    }

    /// Gives the file its name.
    pub(super) fn finish(self) -> io::Result<()> {
        let target = self.target;
        self.persist().map_err(|error| unwritten(target.display(), error))
    }

    /// Gives the file its name, and its SHA-256 a file beside it.
    pub(super) fn finish_with_hash(self) -> io::Result<String> {
        let target = self.target;
        self.persist_with_hash().map_err(|error| unwritten(target.display(), error))
    }

    fn persist(self) -> io::Result<()> {
        self.file.as_file().sync_all()?;
        self.file.persist(self.target).map(drop).map_err(|error| error.error)
    }

    fn persist_with_hash(mut self) -> io::Result<String> {
        let target = self.target;
        let file = self.file.as_file_mut();
        file.rewind()?;
        let (mut hash, mut buffer) = (Sha256::new(), vec![0; 1 << 20]);
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            hash.update(&buffer[..count]);
        }
        let sha256 = clicks::hex(&hash.finalize());
        let name = target.file_name().unwrap_or_default().to_string_lossy();
        let sum = beside(target)?;
        fs::write(sum.path(), format!("{sha256}  {name}\n"))?;
        // Of two that write the same file at the same time, both names go to the later one.
        let folder = File::open(folder(target))?;
        folder.lock()?;
        self.persist()?;
        sum.persist(target.with_file_name(format!("{name}.sha256"))).map_err(|error| error.error)?;
        Ok(sha256)
    }
}

/// An error that names what cannot be written.
fn unwritten(name: impl Display, error: io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{name} cannot be written: {error}"))
}

/// A file whose errors name it.
#[derive(Debug)]
pub(super) struct Named {
    file: File,
    name: String,
}

/// One that goes away with the process.
pub(super) fn temporary() -> io::Result<BufWriter<Named>> {
    let name = format!("a temporary file in {}", std::env::temp_dir().display());
    let file = tempfile::tempfile().map_err(|error| unwritten(&name, error))?;
    Ok(BufWriter::new(Named { file, name }))
}

impl Named {
    pub(super) fn into_file(self) -> File {
        self.file
    }

    fn named<T>(&self, done: io::Result<T>) -> io::Result<T> {
        done.map_err(|error| unwritten(&self.name, error))
    }
}

impl Write for Named {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let done = self.file.write(bytes);
        self.named(done)
    }

    fn flush(&mut self) -> io::Result<()> {
        let done = self.file.flush();
        self.named(done)
    }
}

impl Seek for Named {
    fn seek(&mut self, place: SeekFrom) -> io::Result<u64> {
        let done = self.file.seek(place);
        self.named(done)
    }
}

/// A new file in the same folder, under a name of its own, which goes away if nothing becomes of it.
fn beside(target: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".twofold-").suffix(".partial").permissions(Permissions::from_mode(0o666));
    builder.tempfile_in(folder(target))
}

fn folder(target: &Path) -> &Path {
    target.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    /// Whoever writes the same file at the same time: it is one of the two, and its hash is that of the same one.
    #[test]
    fn of_two_writers_the_later_one_has_both_names() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("march.csv");
        std::thread::scope(|scope| {
            for letter in ["a", "b", "c", "d"] {
                let target = &target;
                scope.spawn(move || {
                    for _ in 0..50 {
                        let partial = Partial::create(target).unwrap();
                        partial.writer().unwrap().write_all(letter.repeat(100_000).as_bytes()).unwrap();
                        partial.finish_with_hash().unwrap();
                    }
                });
            }
        });
        let bytes = fs::read(&target).unwrap();
        assert!(bytes.len() == 100_000 && bytes.iter().all(|byte| *byte == bytes[0]));
        let sum = fs::read_to_string(folder.path().join("march.csv.sha256")).unwrap();
        assert_eq!(sum, format!("{}  march.csv\n", clicks::hex(&Sha256::digest(&bytes))));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing else is left");
        // Others may read it, as any file that is made.
        assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o400, 0o400);
        assert!(Partial::create(folder.path()).is_err(), "a folder is no file");
    }
}
