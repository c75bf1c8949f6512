//! Small fixed-size items in buckets, in memory as long as the pool lends some, then in a file.
//!
//! Items of a bucket come out in the order in which they went in. When the pool refuses another chunk, everything that is
//! held is appended to the file, bucket after bucket: a bucket is read back in one piece per spill.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::TaskContext;
use datafusion::execution::disk_manager::DiskManager;
use datafusion::execution::memory_pool::{MemoryConsumer, MemoryReservation};
use datafusion::execution::spill_file::{SpillFile, SpillWriter};

/// Bytes that are asked of the pool at a time.
const CHUNK_BYTES: usize = 8 * 1024;

/// What goes into a bucket, and how it stands in a file.
pub(crate) trait Item: Copy {
    const BYTES: usize;
    fn write(&self, bytes: &mut Vec<u8>);
    /// `bytes` are [`Item::BYTES`] that were written.
    fn read(bytes: &[u8]) -> Self;
}

pub(crate) struct Buckets<T> {
    buckets: Vec<Bucket<T>>,
    spilled: Option<Spilled>,
    memory: MemoryReservation,
    disk: Arc<DiskManager>,
}

/// Chunks of a bucket that are in memory. All but `open` are full.
struct Bucket<T> {
    open: Vec<T>,
    full: Vec<Vec<T>>,
}

/// A file and where everything lies in it.
struct Spilled {
    file: Arc<dyn SpillFile>,
    writer: Box<dyn SpillWriter>,
    /// Of each spill, the end of every bucket in bytes; it begins where the one before ends.
    spills: Vec<Vec<u64>>,
    end: u64,
}

impl<T: Item> Buckets<T> {
    const CHUNK: usize = CHUNK_BYTES / T::BYTES;

    pub(crate) fn new(name: &str, count: usize, context: &TaskContext) -> Self {
        let memory = MemoryConsumer::new(name).with_can_spill(true).register(context.memory_pool());
        let bucket = || Bucket { open: Vec::new(), full: Vec::new() };
        let disk = context.runtime_env().disk_manager.clone();
        Buckets { buckets: (0..count).map(|_| bucket()).collect(), spilled: None, memory, disk }
    }

    /// # Errors
    /// The pool is too small for one chunk, or the file cannot be written.
    #[inline(always)]
    pub(crate) fn push(&mut self, bucket: usize, item: T) -> Result<()> {
        let open = &self.buckets[bucket].open;
        if open.len() == open.capacity() {
            self.open_chunk(bucket)?;
        }
        self.buckets[bucket].open.push(item);
        Ok(())
    }

    // It does not take the item: handed over in memory it would be read back before it is there, for every item.
    #[cold]
    fn open_chunk(&mut self, bucket: usize) -> Result<()> {
        if self.memory.try_grow(CHUNK_BYTES).is_err() {
            self.spill()?;
            self.memory.try_grow(CHUNK_BYTES)?;
        }
        let bucket = &mut self.buckets[bucket];
        let full = std::mem::replace(&mut bucket.open, Vec::with_capacity(Self::CHUNK));
        if !full.is_empty() {
            bucket.full.push(full);
        }
        Ok(())
    }

    /// How many buckets there are.
    pub(crate) fn count(&self) -> usize {
        self.buckets.len()
    }

    /// How often memory was too small.
    pub(crate) fn spills(&self) -> usize {
        self.spilled.as_ref().map_or(0, |spilled| spilled.spills.len())
    }

    pub(crate) fn spilled_bytes(&self) -> u64 {
        self.spilled.as_ref().map_or(0, |spilled| spilled.end)
    }

    fn spill(&mut self) -> Result<()> {
        let spilled = match &mut self.spilled {
            Some(spilled) => spilled,
            none => none.insert(Spilled::create(&self.disk)?),
        };
        let mut ends = Vec::with_capacity(self.buckets.len());
        let mut bytes = Vec::with_capacity(CHUNK_BYTES);
        for bucket in &mut self.buckets {
            let chunks = std::mem::take(&mut bucket.full).into_iter().chain([std::mem::take(&mut bucket.open)]);
            for chunk in chunks.filter(|chunk| !chunk.is_empty()) {
                bytes.clear();
                chunk.iter().for_each(|item| item.write(&mut bytes));
                spilled.writer.write_all(&bytes)?;
                spilled.end += bytes.len() as u64;
            }
            ends.push(spilled.end);
        }
        spilled.spills.push(ends);
        self.memory.free();
        Ok(())
    }

    /// Takes all items of a bucket into `items`, which is emptied first.
    pub(crate) fn take(&mut self, bucket: usize, items: &mut Vec<T>) -> Result<()> {
        items.clear();
        if let Some(spilled) = &self.spilled {
            spilled.read(bucket, items)?;
        }
        let Bucket { open, full } = &mut self.buckets[bucket];
        let chunks = full.len() + usize::from(open.capacity() > 0);
        for chunk in std::mem::take(full).iter().chain([&std::mem::take(open)]) {
            items.extend_from_slice(chunk);
        }
        self.memory.shrink(chunks * CHUNK_BYTES);
        Ok(())
    }
}

impl Spilled {
    fn create(disk: &Arc<DiskManager>) -> Result<Self> {
        let file = disk.create_tmp_file("counting clicks")?;
        let writer = file.open_writer()?;
        Ok(Spilled { file, writer, spills: Vec::new(), end: 0 })
    }

    fn read<T: Item>(&self, bucket: usize, items: &mut Vec<T>) -> Result<()> {
        let path = self.file.path().ok_or_else(|| DataFusionError::Internal("spill files are local".to_owned()))?;
        let mut file = File::open(path)?;
        let mut bytes = Vec::new();
        let mut first = 0;
        for ends in &self.spills {
            let start = bucket.checked_sub(1).map_or(first, |before| ends[before]);
            first = ends.last().copied().unwrap_or_default();
            bytes.resize((ends[bucket] - start) as usize, 0);
            if !bytes.is_empty() {
                file.seek(SeekFrom::Start(start))?;
                file.read_exact(&mut bytes)?;
                items.extend(bytes.chunks_exact(T::BYTES).map(T::read));
            }
        }
        Ok(())
    }
}

impl<T> std::fmt::Debug for Buckets<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let buckets = self.buckets.len();
        f.debug_struct("Buckets").field("buckets", &buckets).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::memory_pool::GreedyMemoryPool;
    use datafusion::execution::runtime_env::RuntimeEnvBuilder;

    use super::*;
    use crate::exact::sighting::Outcome;

    fn context(memory: usize) -> TaskContext {
        let pool = Arc::new(GreedyMemoryPool::new(memory));
        let runtime = RuntimeEnvBuilder::new().with_memory_pool(pool).build_arc().unwrap();
        TaskContext::default().with_runtime(runtime)
    }

    #[test]
    fn items_come_out_in_their_order_from_memory_and_from_the_file() {
        for (memory, spills) in [(1 << 30, 0), (5 * CHUNK_BYTES, 10), (CHUNK_BYTES, 50_000)] {
            let context = context(memory);
            let mut buckets = Buckets::<Outcome>::new("test", 7, &context);
            for item in 0..60_000_u64 {
                buckets.push((item % 5) as usize, Outcome(item)).unwrap();
            }
            assert!(buckets.spills() >= spills, "{} spills at {memory}", buckets.spills());
            let mut items = vec![Outcome(1)];
            for bucket in 0..7 {
                buckets.take(bucket, &mut items).unwrap();
                let expected: Vec<_> = (0..60_000).filter(|item| item % 5 == bucket as u64).map(Outcome).collect();
                assert_eq!(items, expected, "bucket {bucket} at {memory}");
            }
            assert_eq!(buckets.memory.size(), 0);
        }
    }

    #[test]
    fn a_pool_without_room_for_one_chunk_is_an_error() {
        let context = context(CHUNK_BYTES - 1);
        assert!(Buckets::<Outcome>::new("test", 1, &context).push(0, Outcome(0)).is_err());
    }
}
