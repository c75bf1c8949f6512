//! Reading a chain: listings, the ends of objects, and the marks.

use std::collections::BTreeSet;

use clicks::layout::{ChainKey, ForeignKey, MarkKey, MarkKind, RawKey, chain_prefix, marks_prefix};
use clicks::position::PartitionId;
use clicks::time::Timestamp;
use futures::{StreamExt, TryStreamExt};
use platform::objects::Objects;

use super::mark;
use super::walk::{Marks, walk};
use super::{Chain, ChainError, Gap, SealMark, Segment, VERSION, record};
use crate::footer::Footer;

/// Footers that are read at the same time.
const READS_MAX: usize = 16;

/// Reads and proves the whole chain of a partition: its listing, the end of each object, its marks.
pub async fn read_chain(objects: &Objects, partition: &PartitionId) -> Result<Chain, ChainError> {
    read_chain_end(objects, partition, usize::MAX).await
}

/// The last `segments_max` objects of a chain, which is what a writer needs to go on; earlier footers are not read.
pub async fn read_chain_end(
    objects: &Objects,
    partition: &PartitionId,
    segments_max: usize,
) -> Result<Chain, ChainError> {
    let (mut found, marks) = list(objects, partition, None).await?;
    let late = marks.split_late(&mut found);
    let earlier = found.len().saturating_sub(segments_max);
    found.drain(..earlier);
    let at = found.first().filter(|_| earlier > 0).map(|(key, _)| key.start);
    let chain = Chain { late, ..Chain::empty(partition.clone()) };
    walk(chain, at, segments(objects, found).await?, &marks)
}

/// Continues a known chain with what was stored since. Objects before its last one are not looked at again.
pub async fn read_chain_from(objects: &Objects, mut known: Chain) -> Result<Chain, ChainError> {
    // The last one too, because it may count for less once others are stored.
    let Some(last) = known.segments.pop() else { return read_chain(objects, &known.partition).await };
    let (mut found, marks) = list(objects, &known.partition, Some(&last.key)).await?;
    let late = marks.split_late(&mut found);
    known.late.extend(late);
    known.gaps.retain(|gap| gap.from < last.footer.start);
    (known.end, known.bridge) = (None, None);
    let at = last.footer.start;
    let mut following = vec![Segment::new(last.key, last.bytes, last.footer)];
    following.extend(segments(objects, found).await?);
    walk(known, Some(at), following, &marks)
}

/// Seals a gap: from now on it stays as it is. Whoever does so reads the chain again before it counts on it, because an
/// object may have been stored into it just before, or another one may have sealed more.
///
/// # Errors
/// [`ChainError::Mark`] when the outcome stays unknown.
pub async fn seal(objects: &Objects, gap: &Gap, user: &str, now: Timestamp) -> Result<(), ChainError> {
    let Gap { from, to, ref mark, is_sealed: _ } = *gap;
    let (partition, user) = (mark.partition.clone(), user.to_owned());
    record(objects, &SealMark { version: VERSION, partition, from, to, user, sealed_at: now }).await?;
    Ok(())
}

/// The marks as they are now; those that are known are not read again, because no mark ever changes.
pub(crate) async fn read_marks(
    objects: &Objects,
    partition: &PartitionId,
    mut known: Marks,
) -> Result<Marks, ChainError> {
    let keys = list_marks(objects, partition).await?;
    let new: Vec<MarkKey> = keys.into_iter().filter(|key| !known.holds(key)).collect();
    for key in new {
        known.read(objects, &key).await?;
    }
    Ok(known)
}

async fn list_marks(objects: &Objects, partition: &PartitionId) -> Result<BTreeSet<MarkKey>, ChainError> {
    let listing = objects.list(&marks_prefix(partition), None).await?;
    let own = |key: String| match key.parse() {
        Ok(ChainKey::Mark(mark)) if mark.partition == *partition => Ok(mark),
        _ => Err(ForeignKey(key).into()),
    };
    listing.into_iter().map(|object| own(object.key)).collect()
}

/// Objects in offset order, and all marks. No listing is a snapshot: an object may be missing that was stored before a
/// mark that is seen, or the other way round. So the marks are listed before and after the objects, until both agree.
async fn list(
    objects: &Objects,
    partition: &PartitionId,
    after: Option<&RawKey>,
) -> Result<(Vec<(RawKey, u64)>, Marks), ChainError> {
    let after = after.map(ToString::to_string);
    let mut before = list_marks(objects, partition).await?;
    loop {
        let listing = objects.list(&chain_prefix(partition), after.as_deref()).await?;
        let marks = list_marks(objects, partition).await?;
        if marks != before {
            before = marks;
            continue;
        }
        let mut found = Vec::with_capacity(listing.len());
        for object in listing {
            match object.key.parse() {
                Ok(ChainKey::Object(key)) if key.partition == *partition => found.push((key, object.bytes)),
                Ok(ChainKey::Mark(mark)) if mark.partition == *partition => {}
                _ => return Err(ForeignKey(object.key).into()),
            }
        }
        // By offset, not by day: should a day be wrong, the append times will not fit and the object is named.
        found.sort_by_key(|(key, _)| key.start);
        let mut known = Marks::default();
        for key in &marks {
            known.read(objects, key).await?;
        }
        return Ok((found, known));
    }
}

async fn segments(objects: &Objects, found: Vec<(RawKey, u64)>) -> Result<Vec<Segment>, ChainError> {
    let segments = futures::stream::iter(found).map(|(key, bytes)| async move {
        let footer = Footer::read(objects, &key, bytes).await?;
        Ok::<_, ChainError>(Segment::new(key, bytes, footer))
    });
    segments.buffered(READS_MAX).try_collect().await
}

impl Marks {
    fn holds(&self, key: &MarkKey) -> bool {
        match key.kind {
            MarkKind::Base => self.bases.contains_key(&key.at),
            MarkKind::End => self.ends.contains_key(&key.at),
            MarkKind::Gap => self.gaps.contains_key(&key.at),
            MarkKind::Seal => self.seals.contains_key(&key.at),
        }
    }

    async fn read(&mut self, objects: &Objects, key: &MarkKey) -> Result<(), ChainError> {
        match key.kind {
            MarkKind::Base => drop(self.bases.insert(key.at, mark::read(objects, key).await?)),
            MarkKind::End => drop(self.ends.insert(key.at, mark::read(objects, key).await?)),
            MarkKind::Gap => drop(self.gaps.insert(key.at, mark::read(objects, key).await?)),
            MarkKind::Seal => drop(self.seals.insert(key.at, mark::read(objects, key).await?)),
        }
        Ok(())
    }
}
