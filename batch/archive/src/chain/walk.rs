//! The one way from a set of keys to a chain: pure, and the same for whoever reads them.
//!
//! At each offset, beginning with the base:
//!
//! 1. a sealed gap begins here: it is passed as a whole;
//! 2. an object begins here: it counts to its end, or to the start of the next object, if that lies in it and is the
//!    recorded end of a gap;
//! 3. a recorded gap reaches over this offset: it is missing up to its end, or to the next object;
//! 4. the chain ends here. If anything lies behind it, an object is lost.

use std::collections::BTreeMap;

use clicks::layout::{MarkKey, MarkKind, RawKey};
use clicks::position::Offset;

use super::{BaseMark, Chain, ChainError, EndMark, Gap, GapCause, GapMark, Mark, MarkError, SealMark, Segment};

/// All marks of a partition, by the offset at which they stand.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Marks {
    pub(super) gaps: BTreeMap<Offset, GapMark>,
    pub(super) seals: BTreeMap<Offset, SealMark>,
    pub(super) ends: BTreeMap<Offset, EndMark>,
    pub(super) bases: BTreeMap<Offset, BaseMark>,
}

impl Marks {
    /// The gap that reaches over an offset, the farthest if there are several.
    pub(crate) fn gap_over(&self, offset: Offset) -> Option<&GapMark> {
        self.gaps.range(..=offset).map(|(_, gap)| gap).filter(|gap| gap.to > offset).max_by_key(|gap| gap.to)
    }

    /// A gap ends here.
    fn is_boundary(&self, offset: Offset) -> bool {
        self.gaps.range(..offset).any(|(_, gap)| gap.to == offset)
    }

    /// The last end of a gap within `(start, end)`.
    pub(crate) fn boundary_within(&self, start: Offset, end: Offset) -> Option<Offset> {
        let ends = self.gaps.values().map(|gap| gap.to);
        ends.filter(|to| *to > start && *to < end).max()
    }

    /// What begins here lies in a sealed gap.
    fn is_sealed(&self, offset: Offset) -> bool {
        self.seals.range(..=offset).any(|(_, seal)| seal.to > offset)
    }

    /// Where the chain begins, when that was recorded.
    fn base(&self) -> Option<Offset> {
        self.bases.keys().next_back().copied()
    }

    /// Takes out the objects that are no part of any chain: below the base, and those in sealed gaps, which it gives.
    pub(super) fn split_late(&self, found: &mut Vec<(RawKey, u64)>) -> Vec<RawKey> {
        found.retain(|(key, _)| self.base().is_none_or(|base| key.start >= base));
        let late = found.extract_if(.., |(key, _)| self.is_sealed(key.start));
        late.map(|(key, _)| key).collect()
    }
}

/// Continues a chain that is proven, from `at` or from where it begins, with what follows: objects in offset order, none
/// of them late, and all marks.
pub(super) fn walk(
    mut chain: Chain,
    at: Option<Offset>,
    segments: Vec<Segment>,
    marks: &Marks,
) -> Result<Chain, ChainError> {
    if at.is_none() {
        chain.base = marks.base();
    }
    let first = segments.first().map(|segment| segment.footer.start);
    let front = || first.into_iter().chain(marks.gaps.keys().next().copied()).min();
    let Some(mut at) = at.or(chain.base).or_else(front) else {
        return finish(chain, Offset::ZERO, marks);
    };
    let mut segments = segments.into_iter().peekable();
    loop {
        let next = segments.peek().map(|segment| segment.footer.start);
        if let Some(seal) = marks.seals.get(&at) {
            pass(&mut chain, at, seal.to, true, marks)?;
            at = seal.to;
        } else if let Some(mut segment) = segments.next_if(|segment| segment.footer.start <= at) {
            if let Some(after) = segments.peek().filter(|after| after.footer.start > segment.footer.start)
                && after.footer.start < segment.end
                && marks.is_boundary(after.footer.start)
            {
                segment.end = after.footer.start;
                segment.append_time_max = segment.append_time_max.min(after.footer.append_time_min);
            }
            let end = segment.end;
            chain.push(segment)?;
            at = end;
        } else if let Some(gap) = marks.gap_over(at) {
            let sealed = marks.seals.range(at..).next().map(|(from, _)| *from);
            let to = [Some(gap.to), next, sealed].into_iter().flatten().min().unwrap_or(gap.to);
            pass(&mut chain, at, to, false, marks)?;
            at = to;
        } else if let Some(segment) = segments.next() {
            // It begins behind the end of the chain, which is the error that this gives.
            chain.push(segment)?;
        } else {
            return finish(chain, at, marks);
        }
    }
}

/// Notes `[from, to)` as missing.
fn pass(chain: &mut Chain, from: Offset, to: Offset, is_sealed: bool, marks: &Marks) -> Result<(), ChainError> {
    let Some(mark) = marks.gap_over(from).cloned() else {
        let key = MarkKey { partition: chain.partition.clone(), at: from, kind: MarkKind::Seal }.to_string();
        let reason = "there is no gap where it seals one".to_owned();
        return Err(MarkError::Inconsistent { key, reason }.into());
    };
    // What an archive was begun without is no gap of it.
    if mark.cause == GapCause::Begin && chain.segments.is_empty() && chain.gaps.is_empty() {
        chain.base = Some(to);
    } else {
        chain.gaps.push(Gap { from, to, mark, is_sealed });
    }
    (chain.end, chain.bridge) = (None, None);
    Ok(())
}

fn finish(mut chain: Chain, at: Offset, marks: &Marks) -> Result<Chain, ChainError> {
    let beyond = marks.gaps.values().map(Mark::key).filter(|key| key.at > at);
    let ends = marks.ends.values().map(Mark::key).filter(|key| key.at > at);
    if let Some(mark) = beyond.chain(ends).min() {
        let (partition, mark) = (chain.partition.clone(), Box::new(mark));
        return Err(ChainError::HoleBefore { partition, end: at, mark });
    }
    chain.end = marks.ends.get(&at).cloned();
    let last = chain.segments.last().filter(|last| last.end == at && chain.end.is_none());
    chain.bridge = last.and_then(|last| marks.boundary_within(last.footer.start, last.end));
    Ok(chain)
}
