//! Sorting by (arrival, line) with bounded memory: chunks are sorted in memory, written as runs behind one another into
//! one file without a name, and merged while they are read.
//!
//! ```text
//! memory  | entry entry entry …   index (arrival, line, start)      up to half of the limit, as vectors double
//! file    | run 0 …… | run 1 …… | run 2 …… |                        each sorted; merged through a heap
//! ```

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::PathBuf;

use super::InputClick;
use super::entry::{ENTRY_BYTES_MAX, Entry, SortKey};
use super::error::InputError;
use super::report::Summary;

/// What one run reads at once while merging: enough for sequential reading, and for many runs little.
const BLOCK_BYTES: Range<usize> = 4 << 10..256 << 10;

/// Where one entry lies in memory, and its place in the order.
#[derive(Debug, Clone, Copy)]
struct Slot {
    key: SortKey,
    start: usize,
}

/// Takes clicks in any order.
#[derive(Debug)]
pub(super) struct Sorter {
    memory_limit: usize,
    folder: PathBuf,
    entries: Vec<u8>,
    index: Vec<Slot>,
    spill: Option<Spill>,
}

/// Runs on disk.
#[derive(Debug)]
struct Spill {
    file: File,
    bytes: u64,
    runs: Vec<Range<u64>>,
}

impl Sorter {
    pub(super) fn new(memory_limit: usize, folder: Option<PathBuf>) -> Self {
        let folder = folder.unwrap_or_else(std::env::temp_dir);
        Sorter { memory_limit, folder, entries: Vec::new(), index: Vec::new(), spill: None }
    }

    pub(super) fn push(&mut self, entry: Entry<'_>) -> Result<(), InputError> {
        let used = self.entries.len() + entry.len() + (self.index.len() + 1) * size_of::<Slot>();
        if used > self.memory_limit / 2 && !self.index.is_empty() {
            self.write_run()?;
        }
        self.index.push(Slot { key: entry.key(), start: self.entries.len() });
        entry.write(&mut self.entries);
        Ok(())
    }

    /// Sorts what is left and makes everything readable.
    pub(super) fn finish(mut self, summary: Summary) -> Result<Sorted, InputError> {
        let source = if self.spill.is_none() {
            self.index.sort_unstable_by_key(|slot| slot.key);
            Source::Memory { entries: self.entries, index: self.index.into_iter() }
        } else {
            self.write_run()?;
            let spill = self.spill.take().expect("`write_run` made one");
            let (bytes, folder) = (spill.bytes, self.folder.display().to_string());
            let memory_limit = self.memory_limit;
            // The memory of the chunks is free before that of the merge is taken.
            drop(self);
            let failed = |source| InputError::Spill { folder: folder.clone(), bytes, source };
            let merge = Merge::new(spill, memory_limit).map_err(failed)?;
            Source::Disk { merge, folder, bytes }
        };
        Ok(Sorted { summary, source })
    }

    fn write_run(&mut self) -> Result<(), InputError> {
        let written = self.try_write_run();
        let bytes = self.spill.as_ref().map_or(0, |spill| spill.bytes);
        written.map_err(|source| InputError::Spill { folder: self.folder.display().to_string(), bytes, source })
    }

    fn try_write_run(&mut self) -> io::Result<()> {
        self.index.sort_unstable_by_key(|slot| slot.key);
        if self.spill.is_none() {
            self.spill = Some(Spill { file: tempfile::tempfile_in(&self.folder)?, bytes: 0, runs: Vec::new() });
        }
        let spill = self.spill.as_mut().expect("made above");
        let start = spill.bytes;
        let mut out = BufWriter::with_capacity(BLOCK_BYTES.end, &spill.file);
        for slot in &self.index {
            let bytes = &self.entries[slot.start..];
            let bytes = &bytes[..Entry::read(bytes).ok_or_else(damaged)?.len()];
            out.write_all(bytes)?;
            spill.bytes += bytes.len() as u64;
        }
        out.flush()?;
        drop(out);
        spill.runs.push(start..spill.bytes);
        self.index.clear();
        self.entries.clear();
        Ok(())
    }
}

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "the bytes read back are not those that were written")
}

/// All accepted clicks in order of (arrival, line), once.
#[derive(Debug)]
pub struct Sorted {
    /// What became of the lines.
    pub summary: Summary,
    source: Source,
}

#[derive(Debug)]
enum Source {
    Memory { entries: Vec<u8>, index: std::vec::IntoIter<Slot> },
    Disk { merge: Merge, folder: String, bytes: u64 },
}

impl Sorted {
    /// Sorted runs on disk; 0 when everything fits in memory.
    pub fn runs(&self) -> usize {
        match &self.source {
            Source::Memory { .. } => 0,
            Source::Disk { merge, .. } => merge.runs.len(),
        }
    }
}

impl Iterator for Sorted {
    /// An error is one of the disk; there is nothing behind it that could be relied on.
    type Item = Result<InputClick, InputError>;

    fn next(&mut self) -> Option<Self::Item> {
        match &mut self.source {
            Source::Memory { entries, index } => {
                let slot = index.next()?;
                let click = Entry::read(&entries[slot.start..]).and_then(Entry::to_click);
                Some(Ok(click.expect("only checked entries are held, and nothing else writes to this memory")))
            }
            Source::Disk { merge, folder, bytes } => {
                let next = merge.next().transpose()?;
                let failed = |source| InputError::Spill { folder: folder.clone(), bytes: *bytes, source };
                Some(next.map_err(failed))
            }
        }
    }
}

/// All runs, read side by side.
#[derive(Debug)]
struct Merge {
    file: File,
    block: usize,
    runs: Vec<Run>,
    /// The smallest entry that is left in every run that has any.
    heads: BinaryHeap<Reverse<(SortKey, usize)>>,
}

/// One run: the part of it that is in memory, and what is still in the file.
#[derive(Debug)]
struct Run {
    rest: Range<u64>,
    buffer: Vec<u8>,
    at: usize,
}

impl Merge {
    fn new(spill: Spill, memory_limit: usize) -> io::Result<Self> {
        let block = (memory_limit / spill.runs.len().max(1)).clamp(BLOCK_BYTES.start, BLOCK_BYTES.end);
        let runs = spill.runs.into_iter().map(|rest| Run { rest, buffer: Vec::new(), at: 0 }).collect();
        let mut merge = Merge { file: spill.file, block, runs, heads: BinaryHeap::new() };
        for number in 0..merge.runs.len() {
            merge.queue(number)?;
        }
        Ok(merge)
    }

    fn next(&mut self) -> io::Result<Option<InputClick>> {
        let Some(Reverse((_, number))) = self.heads.pop() else { return Ok(None) };
        let run = &mut self.runs[number];
        let entry = Entry::read(&run.buffer[run.at..]).ok_or_else(damaged)?;
        run.at += entry.len();
        let click = entry.to_click().ok_or_else(damaged)?;
        self.queue(number)?;
        Ok(Some(click))
    }

    /// Puts the next entry of a run in line, if it has one.
    fn queue(&mut self, number: usize) -> io::Result<()> {
        let run = &mut self.runs[number];
        run.fill(&mut self.file, self.block)?;
        let left = &run.buffer[run.at..];
        if !left.is_empty() {
            let key = Entry::read(left).ok_or_else(damaged)?.key();
            self.heads.push(Reverse((key, number)));
        }
        Ok(())
    }
}

impl Run {
    /// Sees to it that a whole entry is in memory, unless the run is at its end.
    fn fill(&mut self, file: &mut File, block: usize) -> io::Result<()> {
        if self.buffer.len() - self.at >= ENTRY_BYTES_MAX || self.rest.is_empty() {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let held = self.buffer.len();
        let wanted = (self.rest.end - self.rest.start).min(block as u64);
        self.buffer.resize(held + wanted as usize, 0);
        file.seek(SeekFrom::Start(self.rest.start))?;
        file.read_exact(&mut self.buffer[held..])?;
        self.rest.start += wanted;
        Ok(())
    }
}
