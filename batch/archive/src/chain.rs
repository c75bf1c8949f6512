//! The chain of one partition: its raw objects in order, proven to have no gap and no overlap.
//!
//! A listing alone proves nothing: names tell where objects begin, only footers tell where they end (scenario 11).

use clicks::layout::{ForeignKey, RawKey, chain_prefix};
use clicks::position::{Offset, PartitionId};
use clicks::time::Timestamp;
use futures::{StreamExt, TryStreamExt};
use platform::objects::{ObjectError, ObjectInfo, Objects};

use crate::footer::{Footer, FooterError};

/// Footers that are read at the same time.
const READS_MAX: usize = 16;

/// One raw object of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub key: RawKey,
    /// Size of the object.
    pub bytes: u64,
    pub footer: Footer,
}

/// Contiguous raw objects of one partition: each begins at the offset at which the one before it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub partition: PartitionId,
    /// In offset order. Only [`Chain::push`] may add to them.
    pub segments: Vec<Segment>,
}

/// Raw objects that are no chain. Each message names the object.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Footer(#[from] FooterError),
    #[error(
        "{0}, yet it lies among those of a partition; find out whose it is (it may be a lost object) and move it away"
    )]
    Foreign(#[from] ForeignKey),
    #[error(
        "partition {partition} has a hole: `{before}` ends at offset {end}, `{after}` begins at {start}; an object is \
         lost, restore it"
    )]
    Hole { partition: PartitionId, before: Box<RawKey>, end: Offset, after: Box<RawKey>, start: Offset },
    #[error(
        "partition {partition} has an overlap: `{before}` ends at offset {end}, `{after}` begins at {start}; two writers \
         without create-only puts were at work, keep both objects and find out which one the ledger's inputs name"
    )]
    Overlap { partition: PartitionId, before: Box<RawKey>, end: Offset, after: Box<RawKey>, start: Offset },
    #[error(
        "append time of partition {partition} goes back from {before} to {found} at `{key}`; it is a running maximum, \
         so the object was not written as the continuation of the one before it"
    )]
    TimeWentBack { partition: PartitionId, key: Box<RawKey>, before: Timestamp, found: Timestamp },
}

impl Chain {
    /// The chain of a partition of which nothing is stored.
    pub const fn empty(partition: PartitionId) -> Self {
        Chain { partition, segments: Vec::new() }
    }

    /// Appends an object.
    ///
    /// # Errors
    /// [`ChainError`] when it does not begin where the chain ends; the chain is unchanged then.
    pub fn push(&mut self, segment: Segment) -> Result<(), ChainError> {
        if segment.key.partition != self.partition {
            return Err(ForeignKey(segment.key.to_string()).into());
        }
        if let Some(last) = self.segments.last() {
            let (end, start) = (last.footer.end, segment.footer.start);
            if start != end {
                let (before, after) = (Box::new(last.key.clone()), Box::new(segment.key));
                let partition = self.partition.clone();
                return Err(match start > end {
                    true => ChainError::Hole { partition, before, end, after, start },
                    false => ChainError::Overlap { partition, before, end, after, start },
                });
            }
            let (before, found) = (last.footer.append_time_max, segment.footer.append_time_min);
            if found < before {
                let (partition, key) = (self.partition.clone(), Box::new(segment.key));
                return Err(ChainError::TimeWentBack { partition, key, before, found });
            }
        }
        self.segments.push(segment);
        Ok(())
    }

    /// The first offset that is stored; `None` when nothing is.
    pub fn base(&self) -> Option<Offset> {
        self.segments.first().map(|segment| segment.footer.start)
    }

    /// The next offset to store; `None` when nothing is stored.
    pub fn next_offset(&self) -> Option<Offset> {
        self.segments.last().map(|segment| segment.footer.end)
    }

    /// Append time of the last record that is stored, heartbeats included: every record appended earlier is stored too.
    pub fn coverage(&self) -> Option<Timestamp> {
        self.segments.last().map(|segment| segment.footer.append_time_max)
    }

    /// Forgets all but the last `count` objects, which are proven to follow on what is forgotten.
    pub(crate) fn keep_last(&mut self, count: usize) {
        self.segments.drain(..self.segments.len().saturating_sub(count));
    }
}

/// Reads and proves the whole chain of a partition: one listing and the end of each object.
pub async fn read_chain(objects: &Objects, partition: &PartitionId) -> Result<Chain, ChainError> {
    read_chain_from(objects, Chain::empty(partition.clone())).await
}

/// Continues a known chain with the objects that were stored since. What is known is not looked at again.
pub async fn read_chain_from(objects: &Objects, known: Chain) -> Result<Chain, ChainError> {
    let after = known.segments.last().map(|segment| segment.key.to_string());
    let found = list(objects, &known.partition, after.as_deref()).await?;
    extend(objects, known, found).await
}

/// The last `segments_max` objects of a chain, which is what a writer needs to go on; earlier footers are not read.
pub async fn read_chain_end(
    objects: &Objects,
    partition: &PartitionId,
    segments_max: usize,
) -> Result<Chain, ChainError> {
    let mut found = list(objects, partition, None).await?;
    found.drain(..found.len().saturating_sub(segments_max));
    extend(objects, Chain::empty(partition.clone()), found).await
}

async fn list(
    objects: &Objects,
    partition: &PartitionId,
    after: Option<&str>,
) -> Result<Vec<(RawKey, u64)>, ChainError> {
    let own = |ObjectInfo { key, bytes }: ObjectInfo| match key.parse::<RawKey>() {
        Ok(raw) if raw.partition == *partition => Ok((raw, bytes)),
        _ => Err(ForeignKey(key)),
    };
    let listing = objects.list(&chain_prefix(partition), after).await?;
    let mut found = listing.into_iter().map(own).collect::<Result<Vec<_>, _>>()?;
    // By offset, not by day: should a day be wrong, the append times will not fit and the object is named.
    found.sort_by_key(|(key, _)| key.start);
    Ok(found)
}

async fn extend(objects: &Objects, mut chain: Chain, found: Vec<(RawKey, u64)>) -> Result<Chain, ChainError> {
    let segments = futures::stream::iter(found).map(|(key, bytes)| async move {
        let footer = Footer::read(objects, &key, bytes).await?;
        Ok::<_, ChainError>(Segment { key, bytes, footer })
    });
    let mut segments = segments.buffered(READS_MAX);
    while let Some(segment) = segments.try_next().await? {
        chain.push(segment)?;
    }
    Ok(chain)
}
