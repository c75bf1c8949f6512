//! The inputs of a night once more: every object that is listed, and that the list is the one the night must have.

use std::collections::BTreeMap;

use archive::chain::{Chain, Segment, read_chain};
use archive::footer::{Footer, FooterError};
use clicks::books::Books;
use clicks::inputs::{InputList, InputObject};
use clicks::layout::{RawKey, chain_prefix};
use clicks::ledger::{FileRef, Night, sha256};
use clicks::position::{Offset, PartitionId};
use clicks::tables::EntryNumber;
use clicks::time::Day;
use futures::{StreamExt, TryStreamExt};
use platform::objects::{ObjectError, Objects};

use super::{AuditError, Break, Breaks, EntryAudit, Stopped, read_published};
use crate::archived::Archived;
use crate::error::{InputError, TableError};
use crate::input::Input;
use crate::plan::Plan;
use crate::scan::Hashes;

/// Objects that are looked at at the same time.
const READS_MAX: usize = 16;

/// The list that an entry names; `None` when it is another one.
pub(super) async fn read_list(
    objects: &Objects,
    file: &FileRef,
    breaks: &mut Breaks,
) -> Result<Option<InputList>, Stopped> {
    let Some(bytes) = read_published(objects, file, breaks).await? else { return Ok(None) };
    Ok(Some(InputList::decode(&bytes).map_err(|e| TableError::format(&file.key, e))?))
}

/// The plan of the night over the listed objects; `None` when they are such that counting them means nothing.
///
/// It is made by the night's own code from the listed objects and one neighbour on each side. So an object that the
/// look-back needs and the list lacks, and a cut that is not the first record of its time, show as a difference.
pub(super) async fn plan(
    objects: &Objects,
    before: &Books,
    entry: EntryNumber,
    night: &Night,
    alone: Option<Day>,
    list: &InputList,
    audit: &mut EntryAudit,
) -> Result<Option<Plan>, Stopped> {
    let Some(listed) = by_partition(list, &mut audit.breaks) else { return Ok(None) };
    let mut chains = BTreeMap::new();
    let (mut gone, mut usable) = (Vec::new(), true);
    for partition in before.partitions() {
        let own = listed.get(&partition).map_or(&[][..], Vec::as_slice);
        let cut = night.cuts.get(&partition).copied().unwrap_or_default();
        let stored = stored(objects, &partition).await?;
        gone.extend(own.iter().filter(|(key, _)| !stored.contains_key(&key.start)).map(|(key, _)| key.to_string()));
        if !gone.is_empty() {
            continue;
        }
        for (key, object) in own {
            let size = stored[&key.start].1;
            if size != object.bytes {
                let reason = format!("it has {size} bytes, {} were counted", object.bytes);
                audit.breaks.push(Break::Object { key: object.key.clone(), reason });
                usable = false;
            }
        }
        if usable {
            let chain = chain(objects, &partition, own, &stored, cut, audit).await?;
            usable &= chain.is_some();
            chains.extend(chain.map(|chain| (partition, chain)));
        }
    }
    if !gone.is_empty() {
        return Err(Stopped(AuditError::Gone { entry, listed: list.objects.len(), keys: gone }));
    }
    if !usable {
        return Ok(None);
    }
    let archived = Archived::of_chains(chains, before);
    check_cuts(objects, before, night, &archived, audit).await?;
    let mut plan = match alone {
        Some(day) => Plan::of_day(before, &archived, day),
        None => Plan::new(before, &archived, night.night, night.cuts.clone()),
    };
    check_listed(&plan, list, &mut audit.breaks);
    // Counted is what the list names, whatever it should have named.
    plan.inputs = named(&archived, &listed, night);
    Ok(Some(plan))
}

type Listed<'a> = BTreeMap<PartitionId, Vec<(RawKey, &'a InputObject)>>;

fn by_partition<'a>(list: &'a InputList, breaks: &mut Breaks) -> Option<Listed<'a>> {
    let mut listed = Listed::new();
    let mut readable = true;
    for object in &list.objects {
        match object.key.parse::<RawKey>() {
            Ok(key) => listed.entry(key.partition.clone()).or_default().push((key, object)),
            Err(error) => {
                breaks.push(Break::Inputs { reason: error.to_string() });
                readable = false;
            }
        }
    }
    readable.then_some(listed)
}

/// What is stored of a partition, by first offset.
async fn stored(objects: &Objects, partition: &PartitionId) -> Result<BTreeMap<Offset, (RawKey, u64)>, ObjectError> {
    let listing = objects.list(&chain_prefix(partition), None).await?;
    let own = listing.into_iter().filter_map(|object| Some((object.key.parse::<RawKey>().ok()?, object.bytes)));
    Ok(own.map(|(key, bytes)| (key.start, (key, bytes))).collect())
}

/// The listed objects of a partition with one neighbour on each side, proven to follow each other; `None` when the
/// listed ones do not, or are damaged.
async fn chain(
    objects: &Objects,
    partition: &PartitionId,
    own: &[(RawKey, &InputObject)],
    stored: &BTreeMap<Offset, (RawKey, u64)>,
    cut: Offset,
    audit: &mut EntryAudit,
) -> Result<Option<Chain>, Stopped> {
    // Only the whole chain says what a recorded gap means for the objects beside it.
    let whole = read_chain(objects, partition).await.ok().filter(|whole| !whole.gaps.is_empty());
    if let Some(whole) = whole
        && own.iter().all(|(key, _)| whole.segments.iter().any(|segment| segment.key == *key))
    {
        return Ok(Some(whole));
    }
    let Some(listed) = listed_chain(objects, partition, own, &mut audit.breaks).await? else { return Ok(None) };
    let (first, end) = (listed.base().unwrap_or(cut), listed.next_offset().unwrap_or(cut));
    let earlier = stored.range(..first).next_back().map(|(_, object)| object);
    let later = stored.range(end..).next().map(|(_, object)| object);
    let mut chain = Chain::empty(partition.clone());
    match neighbour(objects, earlier).await? {
        Ok(Some(segment)) if segment.footer.end == first => chain.push(segment).map_err(wrong)?,
        Ok(None) if first == Offset::ZERO => {}
        Ok(_) => audit.notes.push(format!(
            "partition {partition}: what lay before offset {first} is gone; that nothing of it was needed is not shown"
        )),
        Err(reason) => audit.notes.push(format!("partition {partition}: what lies before offset {first}: {reason}")),
    }
    for segment in listed.segments {
        if let Err(error) = chain.push(segment) {
            audit.breaks.push(Break::Inputs { reason: error.to_string() });
            return Ok(None);
        }
    }
    if let Ok(Some(segment)) = neighbour(objects, later).await?
        && segment.footer.start == end
        && chain.push(segment).is_err()
    {
        audit
            .notes
            .push(format!("partition {partition}: what lies from offset {end} on does not follow on this night's"));
    }
    Ok(Some(chain))
}

fn wrong(error: archive::chain::ChainError) -> Stopped {
    Stopped(AuditError::Batch(error.into()))
}

async fn listed_chain(
    objects: &Objects,
    partition: &PartitionId,
    own: &[(RawKey, &InputObject)],
    breaks: &mut Breaks,
) -> Result<Option<Chain>, Stopped> {
    let footers = own.iter().map(|(key, object)| async move {
        (key.clone(), object.bytes, Footer::read(objects, key, object.bytes).await)
    });
    let footers: Vec<_> = futures::stream::iter(footers.collect::<Vec<_>>()).buffered(READS_MAX).collect().await;
    let (mut chain, before) = (Chain::empty(partition.clone()), breaks.total);
    for (key, bytes, footer) in footers {
        match footer {
            Ok(footer) => {
                if let Err(error) = chain.push(Segment::new(key, bytes, footer)) {
                    breaks.push(Break::Inputs { reason: error.to_string() });
                }
            }
            Err(FooterError::Object(error)) => return Err(error.into()),
            Err(error) => breaks.push(Break::Object { key: key.to_string(), reason: error.to_string() }),
        }
    }
    Ok((breaks.total == before).then_some(chain))
}

/// An object that the night did not read. One that is damaged is no matter of the audit, but is told.
async fn neighbour(
    objects: &Objects,
    object: Option<&(RawKey, u64)>,
) -> Result<Result<Option<Segment>, String>, ObjectError> {
    let Some((key, bytes)) = object else { return Ok(Ok(None)) };
    match Footer::read(objects, key, *bytes).await {
        Ok(footer) => Ok(Ok(Some(Segment::new(key.clone(), *bytes, footer)))),
        Err(FooterError::Object(error)) => Err(error),
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// The cuts of the entry are those of the log.
async fn check_cuts(
    objects: &Objects,
    before: &Books,
    night: &Night,
    archived: &Archived,
    audit: &mut EntryAudit,
) -> Result<(), Stopped> {
    for (partition, cut) in archived.cuts(objects, before, night.night).await? {
        let Some(published) = night.cuts.get(&partition).copied() else {
            audit.breaks.push(Break::Inputs { reason: format!("the entry has no cut of partition {partition}") });
            continue;
        };
        if archived.chains[&partition].segments.is_empty() && cut != published {
            audit.notes.push(format!("nothing is left of partition {partition}; its cut {published} is not shown"));
        } else if archived.has_ended(&partition) && cut > published {
            audit.notes.push(format!(
                "more of partition {partition}, whose topic had ended, was archived after the night, beyond {published}"
            ));
        } else if cut != published {
            let reason = format!("the cut of partition {partition} is {published}, by its records it is {cut}");
            audit.breaks.push(Break::Inputs { reason });
        }
    }
    Ok(())
}

/// What the night has to read is what the list names.
fn check_listed(plan: &Plan, list: &InputList, breaks: &mut Breaks) {
    let object = |input: &Input| (input.segment.key.to_string(), input.segment.footer.start, input.to);
    let needed: Vec<_> = plan.inputs.values().flatten().map(object).collect();
    let listed: Vec<_> = list.objects.iter().map(|object| (object.key.clone(), object.from, object.to)).collect();
    for (key, from, to) in needed.iter().filter(|object| !listed.contains(object)) {
        let reason = format!("`{key}` must be read from {from} up to {to}, and is not listed so");
        breaks.push(Break::Inputs { reason });
    }
    for (key, from, to) in listed.iter().filter(|object| !needed.contains(object)) {
        let reason = format!("`{key}` is listed from {from} up to {to}, and must not be read so");
        breaks.push(Break::Inputs { reason });
    }
}

fn named(archived: &Archived, listed: &Listed<'_>, night: &Night) -> BTreeMap<PartitionId, Vec<Input>> {
    let of = |(partition, own): (&PartitionId, &Vec<(RawKey, &InputObject)>)| {
        let cut = night.cuts.get(partition).copied().unwrap_or_default();
        let chain = archived.chains.get(partition)?;
        let is_listed = |segment: &&Segment| own.iter().any(|(key, _)| *key == segment.key);
        let input = |segment: &Segment| Input { to: segment.end.min(cut), segment: segment.clone() };
        Some((partition.clone(), chain.segments.iter().filter(is_listed).map(input).collect()))
    };
    listed.iter().filter_map(of).collect()
}

/// Holds the SHA-256 of what was counted against the list.
pub(super) fn compare_hashes(list: &InputList, hashes: &Hashes, breaks: &mut Breaks) {
    for object in &list.objects {
        if hashes.get(&object.key).is_none_or(|found| found != object.sha256) {
            breaks.push(changed(object));
        }
    }
}

/// Names every listed object with other bytes than were counted; `error` is what ended the count.
pub(super) async fn name_changed(
    objects: &Objects,
    list: &InputList,
    error: &InputError,
    breaks: &mut Breaks,
) -> Result<(), ObjectError> {
    let before = breaks.total;
    let read = futures::stream::iter(&list.objects).map(|object| async move {
        let bytes = objects.get(&object.key).await?;
        Ok::<_, ObjectError>(bytes.is_none_or(|bytes| sha256(&bytes) != object.sha256).then_some(object))
    });
    let found: Vec<_> = read.buffered(READS_MAX).try_collect().await?;
    for object in found.into_iter().flatten() {
        breaks.push(changed(object));
    }
    if breaks.total == before {
        breaks.push(Break::Recount { reason: error.to_string() });
    }
    Ok(())
}

fn changed(object: &InputObject) -> Break {
    let reason = format!("its SHA-256 is not {}", object.sha256);
    Break::Object { key: object.key.clone(), reason }
}
