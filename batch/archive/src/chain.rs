//! The chain of one partition: its raw objects in order, and the records (marks) of what no object can say.
//!
//! ```text
//! |base| object | object |gap      | object | … | object |end|
//!      0      100      190       400      520
//! ```
//!
//! A listing alone proves nothing: names tell where objects begin, only footers tell where they end (scenario 11). What is
//! not stored is either recorded as a gap or an error; so a chain is proven over objects and gaps together.
//!
//! # What a set of keys means
//!
//! The chain is a function of the keys that are there ([`walk`]), the same for whoever reads them:
//!
//! * **An object wins where it reaches, the gap is what is left.** A gap is recorded by an archiver that finds its next
//!   record gone. Another one, delayed for long, may still hold lost records in memory and store them later, under the
//!   very offset at which the gap begins, or behind it.
//! * **Where it reaches over the end of the gap**, to records that the others have stored, it counts up to the end of the
//!   gap, as soon as an object begins there.
//! * **A sealed gap stays as it is.** Whoever counts on a gap (a night that is published in spite of it) seals it first,
//!   reads the chain again and uses what that says. What begins in a sealed gap is no part of the chain any more, and
//!   stands in [`Chain::late`] for ever: nothing that was used changes in silence.
//! * **An end is the end of the chain or nothing.** Should an object be stored behind a recorded end, the life has not
//!   ended until another end is recorded.
//!
//! # What writers do
//!
//! One key decides between two objects, but an object and a gap at one offset have two keys. So each looks for the other
//! *after* its own put: a writer of a gap reads the chain again before it goes on, and a writer of an object looks for
//! gaps before its next object. At least one of the two finds the other and goes on where the keys say. Where an object
//! reaches over the end of a gap and nothing is stored behind either, both ends may still be taken as the next start, by
//! an archiver that knows only one of them. Whoever sees both stores the records between the two, which the object holds,
//! as an object of their own ([`Chain::bridge`]): then both starts lie on the one chain.

#[cfg(test)]
mod histories;
mod mark;
mod next;
mod read;
mod walk;

use clicks::layout::{ForeignKey, MarkKey, RawKey};
use clicks::position::{Offset, PartitionId};
use clicks::time::Timestamp;
use platform::objects::ObjectError;

use crate::footer::{Footer, FooterError};
pub use mark::{BaseMark, EndCause, EndMark, GapCause, GapMark, Mark, MarkError, SealMark, VERSION, record};
pub(crate) use next::{Next, next};
pub(crate) use read::read_marks;
pub use read::{read_chain, read_chain_end, read_chain_from, seal};
pub(crate) use walk::Marks;

/// One raw object of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    pub key: RawKey,
    /// Size of the object.
    pub bytes: u64,
    pub footer: Footer,
    /// Exclusive end of the records that count: the footer's end, unless the chain goes on with another object before.
    pub end: Offset,
    /// No record that counts was appended later: the footer's, unless the chain goes on with another object before.
    pub append_time_max: Timestamp,
}

impl Segment {
    /// An object that counts as a whole.
    pub fn new(key: RawKey, bytes: u64, footer: Footer) -> Self {
        Segment { end: footer.end, append_time_max: footer.append_time_max, key, bytes, footer }
    }
}

/// Records that are missing in a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The first record that is missing.
    pub from: Offset,
    /// Exclusive.
    pub to: Offset,
    /// The record of it, which may name more: objects may have been stored into it since.
    pub mark: GapMark,
    /// Nothing that is stored later fills it.
    pub is_sealed: bool,
}

/// Contiguous raw objects and gaps of one partition: each begins at the offset at which the one before it ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    pub partition: PartitionId,
    /// In offset order. Only [`Chain::push`] may add to them.
    pub segments: Vec<Segment>,
    /// What is missing between them or behind them, in offset order.
    pub gaps: Vec<Gap>,
    /// The life is over and this is where it ended; nothing follows.
    pub end: Option<EndMark>,
    /// Objects that were stored into a sealed gap: no part of the chain.
    pub late: Vec<RawKey>,
    /// Where it begins, if that was recorded.
    base: Option<Offset>,
    /// See [`Chain::bridge`].
    bridge: Option<Offset>,
}

/// What lies below a partition's prefix and is no chain. Each message names the object.
#[derive(Debug, thiserror::Error)]
pub enum ChainError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error(transparent)]
    Footer(#[from] FooterError),
    #[error(transparent)]
    Mark(#[from] MarkError),
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
        "partition {partition} has a hole: what is stored ends at offset {end}, yet `{mark}` was recorded behind it; an \
         object is lost, restore it"
    )]
    HoleBefore { partition: PartitionId, end: Offset, mark: Box<MarkKey> },
    #[error(
        "partition {partition} has lost its front: it begins at offset {base}, the first that is stored is {start}; \
         restore the objects between them"
    )]
    LostFront { partition: PartitionId, base: Offset, start: Offset },
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
        Chain {
            partition,
            segments: Vec::new(),
            gaps: Vec::new(),
            end: None,
            late: Vec::new(),
            base: None,
            bridge: None,
        }
    }

    /// Appends an object.
    ///
    /// # Errors
    /// [`ChainError`] when it does not begin where the chain ends; the chain is unchanged then.
    pub fn push(&mut self, segment: Segment) -> Result<(), ChainError> {
        if segment.key.partition != self.partition {
            return Err(ForeignKey(segment.key.to_string()).into());
        }
        self.check_start(&segment)?;
        if let Some(last) = self.segments.last() {
            let (before, found) = (last.append_time_max, segment.footer.append_time_min);
            if found < before {
                let (partition, key) = (self.partition.clone(), Box::new(segment.key));
                return Err(ChainError::TimeWentBack { partition, key, before, found });
            }
        }
        (self.end, self.bridge) = (None, None);
        self.segments.push(segment);
        Ok(())
    }

    fn check_start(&self, segment: &Segment) -> Result<(), ChainError> {
        let start = segment.footer.start;
        let Some(end) = self.next_offset().filter(|end| *end != start) else { return Ok(()) };
        let partition = self.partition.clone();
        let Some(last) = self.segments.last() else {
            return Err(ChainError::LostFront { partition, base: end, start });
        };
        let (before, after) = (Box::new(last.key.clone()), Box::new(segment.key.clone()));
        Err(match start > end {
            true => ChainError::Hole { partition, before, end, after, start },
            false => ChainError::Overlap { partition, before, end, after, start },
        })
    }

    /// The first offset of the chain: the recorded base, or what is stored or missing first; `None` when nothing is.
    pub fn base(&self) -> Option<Offset> {
        let first = self.segments.first().map(|segment| segment.footer.start);
        let missing = self.gaps.first().map(|gap| gap.from);
        self.base.or_else(|| first.into_iter().chain(missing).min())
    }

    /// The next offset to store; `None` when nothing is stored or recorded.
    pub fn next_offset(&self) -> Option<Offset> {
        let stored = self.segments.last().map(|segment| segment.end);
        let missing = self.gaps.last().map(|gap| gap.to);
        stored.max(missing).max(self.base)
    }

    /// Append time of the last record that is stored, heartbeats included: every record appended earlier is stored too, or
    /// lies in one of the gaps.
    pub fn coverage(&self) -> Option<Timestamp> {
        self.segments.last().map(|segment| segment.append_time_max)
    }

    /// Where an object must begin before the chain goes on: the last object reaches over the end of a gap to `next_offset`,
    /// and nothing is stored at either. See the head of this module.
    pub fn bridge(&self) -> Option<Offset> {
        self.bridge
    }

    /// Forgets all but the last `count` objects, which are proven to follow on what is forgotten.
    pub fn keep_last(&mut self, count: usize) {
        self.segments.drain(..self.segments.len().saturating_sub(count));
        let first = self.segments.first().map(|segment| segment.footer.start);
        self.gaps.retain(|gap| first.is_none_or(|first| gap.from >= first));
        if first.is_some() {
            self.base = None;
        }
    }
}
