//! Whether a number is known: who has counted what belongs to it, and how far.

use super::merge::Merge;
use super::owner::Slot;
use super::partitions::{End, Partition, Status, has_counted};
use crate::live::Meta;
use crate::time::Timestamp;

impl Merge {
    /// Partitions that can hold clicks of a series.
    fn holders(&self, series: Option<usize>) -> impl Iterator<Item = &Partition> {
        self.partitions.iter().filter(move |partition| {
            series.is_none_or(|n| partition.series.is_empty() || partition.series.contains(&n))
        })
    }

    /// Whether anybody knows a live period, and whether everybody does.
    pub(super) fn live_standing(&self, series: usize, slot: &Slot) -> (bool, bool) {
        let (mut known, mut complete) = (false, !self.partitions.is_empty());
        let day = slot.period.start.day();
        for partition in self.holders(Some(series)).filter(|partition| partition.end.reaches(day)) {
            let Status::Known(meta) = &partition.status else {
                complete = false;
                continue;
            };
            let stored = meta.base_day <= day;
            let reached = self.has_reached(partition, meta, slot.settled_at);
            known |= stored && (reached || meta.append_time >= slot.period.start);
            complete &= stored && reached && !partition.is_recounted(meta) && slot.is_counted_exactly(meta);
        }
        (known, complete)
    }

    /// Everything that was appended before `time` is counted. The lag that is allowed excuses only what has just arrived:
    /// whoever stopped earlier than that has to have come to the end. Nobody goes on counting a life that is over.
    pub(super) fn has_reached(&self, partition: &Partition, meta: &Meta, time: Timestamp) -> bool {
        let due = match partition.end {
            End::Open => time.min(self.now - self.lag_max),
            End::Unknown | End::Known { .. } => time,
        };
        has_counted(partition, meta, due)
    }

    /// Every live count of a period is still stored, and nothing else beside them. No lag is excused here: a difference
    /// between the layers has to mean something.
    pub(super) fn all_stored(&self, series: usize, slot: &Slot) -> bool {
        let day = slot.period.start.day();
        !self.sums.ranked
            && !self.partitions.is_empty()
            && self.not_asked_through.is_none_or(|last_day| last_day < day)
            && self.holders(Some(series)).all(|partition| match &partition.status {
                Status::Known(meta) => {
                    meta.base_day <= day
                        && !partition.is_recounted(meta)
                        && slot.is_counted_exactly(meta)
                        && has_counted(partition, meta, slot.settled_at)
                }
                Status::NotYet | Status::Missing(_) => false,
            })
    }

    /// No late click of these periods is missing, of the nights that are still to come. Without a topic there can be none.
    pub(super) fn late_known(&self, series: Option<usize>, slots: &[Slot]) -> bool {
        if !self.asks_live {
            return false;
        }
        let Some(until) = self.late_until(slots) else { return true };
        self.holders(series).filter(|partition| partition.end.has_pending()).all(|partition| match &partition.status {
            Status::Known(meta) => {
                meta.base_night <= self.next_night
                    && !partition.is_recounted(meta)
                    && !self.may_lack_late(slots, meta)
                    && self.has_reached(partition, meta, until)
            }
            Status::NotYet | Status::Missing(_) => false,
        })
    }

    /// Late clicks of these periods that no night has taken in may have fallen off the log before they were counted.
    pub(super) fn may_lack_late(&self, slots: &[Slot], meta: &Meta) -> bool {
        let mut pending = meta.lost.appended;
        pending.start = self.last_cut.map_or(pending.start, |cut| pending.start.max(cut));
        slots.iter().any(|slot| slot.may_be_late_in(pending))
    }

    /// Until when late clicks of these periods may be appended; `None` when the last night has taken in all of them.
    pub(super) fn late_until(&self, slots: &[Slot]) -> Option<Timestamp> {
        let until = slots.iter().map(|slot| slot.too_old_at).max()?;
        self.last_cut.is_none_or(|cut| until > cut).then_some(until)
    }
}
