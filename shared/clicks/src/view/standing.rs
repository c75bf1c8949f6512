//! How the answer as a whole is to be taken, and what stands against it.

use super::merge::{Handed, Merge, Partition, Status};
use super::owner::{Slot, segments};
use super::{Missing, Reason, Source, Standing};
use crate::time::{Day, Span, Timestamp};

impl Merge {
    pub(super) fn standing(&self) -> Standing {
        let reasons = self.reasons();
        let has_live = self.slots.iter().any(|slot| slot.source == Source::Speed);
        let has_closed = self.slots.iter().any(|slot| slot.source == Source::Batch);
        let as_of = match (has_live, has_closed) {
            (true, _) => self.live_as_of(),
            (false, true) => self.last_cut,
            (false, false) => None,
        };
        Standing {
            range: self.range,
            clipped_at: self.clipped_at,
            complete: reasons.is_empty(),
            reasons,
            as_of,
            freshness: as_of.filter(|_| has_live).map(|as_of| self.now.since(as_of).max(Span::ZERO)),
            closed_through: self.closed_through,
            segments: segments(&self.slots),
        }
    }

    fn live_as_of(&self) -> Option<Timestamp> {
        let reached =
            self.partitions.iter().filter(|partition| !partition.ended).map(|partition| match &partition.status {
                Status::Known(meta) => meta.append_time,
                Status::NotYet | Status::Missing(_) => Timestamp::MIN,
            });
        reached.min().filter(|time| *time > Timestamp::MIN)
    }

    /// What is missing from what has been handed over so far.
    pub fn reasons(&self) -> Vec<Reason> {
        let mut reasons = Vec::new();
        for (day, handed) in &self.days {
            match handed {
                Handed::Given => {}
                Handed::NotYet => reasons.push(table_away(*day, "it was not asked for")),
                Handed::Missing(detail) => reasons.push(table_away(*day, detail)),
            }
        }
        let mut live = self.slots.iter().filter(|slot| slot.source == Source::Speed);
        let first_live = live.next().copied();
        let last_live = live.next_back().copied().or(first_live);
        if first_live.is_some() && self.partitions.is_empty() {
            reasons.push(Reason::NoTopic);
        }
        if let Some(detail) = self.all_unreachable() {
            reasons.push(Reason::SpeedAway { detail });
            return reasons;
        }
        for partition in &self.partitions {
            self.partition_reasons(partition, first_live.zip(last_live), &mut reasons);
        }
        reasons
    }

    fn partition_reasons(&self, partition: &Partition, live: Option<(Slot, Slot)>, reasons: &mut Vec<Reason>) {
        let id = || partition.id.clone();
        let meta = match &partition.status {
            Status::Known(meta) => meta,
            Status::NotYet => {
                let detail = "it was not asked for".to_owned();
                return reasons.push(Reason::PartitionAway { partition: id(), detail });
            }
            Status::Missing(Missing::Unreachable(detail)) => {
                return reasons.push(Reason::PartitionAway { partition: id(), detail: detail.clone() });
            }
            Status::Missing(Missing::NoGeneration) => return reasons.push(Reason::NoGeneration { partition: id() }),
        };
        if meta.is_rebuilding() {
            let (next_offset, until) = (meta.next_offset, meta.rebuilding_until);
            reasons.push(Reason::Rebuilding { partition: id(), next_offset, until });
        }
        if meta.base_night > self.next_night {
            let (base_night, night) = (meta.base_night, self.next_night);
            reasons.push(Reason::BaseNight { partition: id(), base_night, night });
        }
        let Some((first, last)) = live else { return };
        let day = first.period.start.day();
        if meta.base_day > day {
            reasons.push(Reason::BaseDay { partition: id(), base_day: meta.base_day, day });
        }
        if !self.has_reached(partition, meta, last.period) {
            reasons.push(Reason::Behind { partition: id(), append_time: meta.append_time });
        }
        if meta.dedup_evicted > 0 {
            reasons.push(Reason::DedupEvicted { partition: id(), sightings: meta.dedup_evicted });
        }
    }

    /// The store as a whole is away when no partition could be read; one reason says it better than one for each.
    fn all_unreachable(&self) -> Option<String> {
        let mut detail = None;
        for partition in &self.partitions {
            match &partition.status {
                Status::Missing(Missing::Unreachable(text)) => detail = detail.or(Some(text)),
                _ => return None,
            }
        }
        detail.cloned()
    }
}

fn table_away(day: Day, detail: &str) -> Reason {
    Reason::TableAway { day, detail: detail.to_owned() }
}
