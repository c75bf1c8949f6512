//! Deleting raw objects of old append days, on an operator's word and never what a night may still read.
//!
//! Where the chain begins from then on is recorded first, create-only, so that a chain that begins there is not taken for
//! one that has lost its front. What lies before a recorded base is no part of any chain, so a run that is killed between
//! two deletes changes nothing for readers, and the next one finishes it. Marks are kept for ever: an answer about a day
//! with a gap says so also when its objects are gone.
//!
//! What is kept whatever the operator says:
//!
//! * everything that the last night has read, because the next one checks that it is still there, and reads it again;
//! * everything from the oldest day that is open, back by the maximum age and the batch's dedup horizon, and from the first
//!   record that no night has read, back by the horizon;
//! * everything, as long as no night was published;
//! * the last object of a partition that has not ended, because it tells an archiver where to go on.

use std::collections::BTreeMap;

use clicks::books::Books;
use clicks::inputs::InputList;
use clicks::layout::{ChainKey, RawKey, chain_prefix};
use clicks::ledger::{Body, Entry, entry_key, sha256};
use clicks::position::{Offset, PartitionId};
use clicks::time::{Day, Span, Timestamp};
use platform::clock::Clock;
use platform::ledger::{Ledger, LedgerError};
use platform::objects::{ObjectError, Objects};
use serde::Serialize;

use crate::chain::{BaseMark, Chain, ChainError, Mark, MarkError, VERSION, read_chain, record};

/// What is to be deleted, and whether it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PruneOptions {
    /// Append days that ended less than this ago are kept.
    pub keep: Span,
    pub mode: PruneMode,
    /// Stands in the recorded base: who did it.
    pub writer: String,
}

/// Whether anything is changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PruneMode {
    /// Only tells what would be deleted.
    DryRun,
    Delete,
}

/// What was deleted, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pruned {
    /// Whole append days before this one; `None` when everything is kept.
    pub before: Option<Day>,
    /// The day that the operator asked for, when the nights need earlier ones.
    pub asked: Day,
    /// Partitions of which something is deleted.
    pub partitions: Vec<PrunedPartition>,
}

/// What was deleted of one partition, or would be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PrunedPartition {
    pub partition: PartitionId,
    /// The first offset that is kept.
    pub base: Offset,
    pub objects: u64,
    pub bytes: u64,
}

/// Why nothing more was deleted.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("{0}. Nothing of a chain that is not whole is deleted")]
    Chain(#[from] ChainError),
    #[error(transparent)]
    Mark(#[from] MarkError),
    #[error("`{key}`, which the ledger names, {reason}; without it nobody knows what the last night has read")]
    Inputs { key: String, reason: String },
    #[error("the time to keep raw objects is {0}; it must be more than 0")]
    Keep(Span),
}

/// Deletes the raw objects of whole append days that are older than asked for and that no night needs.
///
/// # Errors
/// [`PruneError`]. What was deleted before is deleted; run it again once the reason is mended.
pub async fn prune(
    objects: &Objects,
    ledger: &Ledger,
    clock: &dyn Clock,
    options: &PruneOptions,
) -> Result<Pruned, PruneError> {
    if options.keep <= Span::ZERO {
        return Err(PruneError::Keep(options.keep));
    }
    let books = ledger.read().await?;
    let mut chains = Vec::new();
    for partition in books.partitions() {
        chains.push(read_chain(objects, &partition).await?);
    }
    let asked = (clock.now() - options.keep).day();
    let before = needed_from(&books, &chains).map(|needed| needed.day().min(asked));
    let read = last_inputs(objects, &books).await?;
    let mut partitions = Vec::new();
    if let Some(before) = before {
        for chain in &chains {
            let read = read.get(&chain.partition).copied();
            partitions.extend(prune_chain(objects, clock, options, chain, before, read).await?);
        }
    }
    Ok(Pruned { before, asked, partitions })
}

/// No night reads a record that was appended earlier; `None` when no night was published.
fn needed_from(books: &Books, chains: &[Chain]) -> Option<Timestamp> {
    books.last_night()?;
    let rules = books.rules();
    let reopened = books.days().filter(|(_, book)| book.is_reopened).map(|(day, _)| day);
    let open = books.open_days().into_iter().chain(reopened).chain(books.withheld().keys().copied());
    let oldest = open.chain([books.next_night()]).min()?;
    let of_days = oldest.start() - rules.on(oldest).ahead_max - rules.age_max();
    let news = chains.iter().filter_map(|chain| {
        let through = books.through().get(&chain.partition).copied().unwrap_or_default();
        let first = chain.segments.iter().find(|segment| segment.end > through);
        first.map(|segment| segment.footer.append_time_min)
    });
    let first = news.chain([of_days]).min()?;
    Some(first - rules.batch_horizon_max())
}

/// The first offset of each partition that the last night has read.
async fn last_inputs(objects: &Objects, books: &Books) -> Result<BTreeMap<PartitionId, Offset>, PruneError> {
    let Some(number) = books.last_night_entry() else { return Ok(BTreeMap::new()) };
    let key = entry_key(number);
    let wrong = |key: &str, reason: String| PruneError::Inputs { key: key.to_owned(), reason };
    let entry = objects.get(&key).await?.ok_or_else(|| wrong(&key, "is gone".to_owned()))?;
    let entry = Entry::decode(number, &entry).map_err(LedgerError::from)?;
    let Body::Night(night) = entry.body else { return Err(wrong(&key, "is no night".to_owned())) };
    let key = &night.inputs.key;
    let bytes = objects.get(key).await?.ok_or_else(|| wrong(key, "is gone".to_owned()))?;
    if sha256(&bytes) != night.inputs.sha256 {
        return Err(wrong(key, "has other bytes than it names".to_owned()));
    }
    let list = InputList::decode(&bytes).map_err(|error| wrong(key, format!("cannot be read: {error}")))?;
    let mut first: BTreeMap<PartitionId, Offset> = BTreeMap::new();
    for object in list.objects {
        let own: RawKey = object.key.parse().map_err(|error| wrong(key, format!("names what it cannot: {error}")))?;
        first.entry(own.partition).and_modify(|start| *start = own.start.min(*start)).or_insert(own.start);
    }
    Ok(first)
}

/// The first offset that is kept: the first object of a day that is kept, or one that the last night has read.
fn base_of(chain: &Chain, before: Day, read: Option<Offset>) -> Option<Offset> {
    let first = chain.segments.iter().find(|segment| segment.key.day >= before).map(|segment| segment.footer.start);
    let last = match &chain.end {
        Some(end) => Some(end.end),
        None => chain.segments.last().map(|segment| segment.footer.start),
    };
    [first.or(last), last, read].into_iter().flatten().min()
}

async fn prune_chain(
    objects: &Objects,
    clock: &dyn Clock,
    options: &PruneOptions,
    chain: &Chain,
    before: Day,
    read: Option<Offset>,
) -> Result<Option<PrunedPartition>, PruneError> {
    let Some(base) = base_of(chain, before, read) else { return Ok(None) };
    let partition = chain.partition.clone();
    // Also what a run that was killed has left below an earlier base.
    let listing = objects.list(&chain_prefix(&partition), None).await?;
    let parsed = listing.into_iter().map(|object| (object.key.parse::<ChainKey>(), object));
    let old: Vec<_> = parsed.filter(|(key, _)| matches!(key, Ok(ChainKey::Object(key)) if key.start < base)).collect();
    if old.is_empty() {
        return Ok(None);
    }
    let pruned = PrunedPartition {
        partition: partition.clone(),
        base,
        objects: old.len() as u64,
        bytes: old.iter().map(|(_, object)| object.bytes).sum(),
    };
    if options.mode == PruneMode::DryRun {
        return Ok(Some(pruned));
    }
    if chain.base() != Some(base) {
        let before_it = chain.segments.iter().take_while(|segment| segment.end <= base).last();
        let mark = BaseMark {
            version: VERSION,
            partition,
            base,
            first_day: before,
            writer: options.writer.clone(),
            recorded_at: clock.now(),
            append_time_before: before_it.map(|segment| segment.append_time_max),
        };
        // Another run may have recorded the same base; it says the same.
        record(objects, &mark).await?;
        tracing::info!(mark = %mark.key(), "the chain begins here from now on");
    }
    for (_, object) in old {
        objects.delete(&object.key).await?;
        metrics::counter!("twofold_archive_pruned_objects_total").increment(1);
        metrics::counter!("twofold_archive_pruned_bytes_total").increment(object.bytes);
    }
    Ok(Some(pruned))
}
