//! How the answer as a whole is to be taken, and what stands against it.

use super::merge::{Handed, Merge};
use super::owner::{Slot, segments};
use super::partitions::{End, Partition, Status};
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
            segments: segments(&self.slots).map(|(segment, _)| segment).collect(),
        }
    }

    fn live_as_of(&self) -> Option<Timestamp> {
        let reached = self.partitions.iter().filter(|partition| partition.end == End::Open).map(|partition| {
            match &partition.status {
                Status::Known(meta) => meta.append_time,
                Status::NotYet | Status::Missing(_) => Timestamp::MIN,
            }
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
                Handed::Withheld(detail) => reasons.push(Reason::Withheld { day: *day, detail: detail.clone() }),
            }
        }
        let lossy = self.lossy.iter().map(|(day, detail)| Reason::LostForEver { day: *day, detail: detail.clone() });
        reasons.extend(lossy);
        if self.partitions.is_empty() && self.slots.iter().any(|slot| slot.source == Source::Speed) {
            reasons.push(Reason::NoTopic);
        }
        let needed: Vec<_> =
            self.partitions.iter().filter_map(|partition| Some((partition, self.needs(partition)?))).collect();
        if let Some(detail) = all_unreachable(&needed) {
            reasons.push(Reason::SpeedAway { detail });
            return reasons;
        }
        for (partition, needs) in needed {
            self.partition_reasons(partition, needs, &mut reasons);
        }
        reasons
    }

    /// What the question needs of a partition, if anything.
    fn needs(&self, partition: &Partition) -> Option<Needs> {
        let first_live = self.live_slots(partition).map(|slot| slot.period.start.day()).min();
        // Where the allowed lateness becomes shorter, it is not the last period that waits longest.
        let settled_at = self.live_slots(partition).map(|slot| slot.settled_at).max();
        let late_until = self.late_until(&self.slots).filter(|_| partition.end.has_pending());
        Some(Needs { due: settled_at.max(late_until)?, first_live, late: late_until.is_some() })
    }

    /// Live periods that a partition can hold counts of.
    fn live_slots(&self, partition: &Partition) -> impl Iterator<Item = &Slot> {
        let end = partition.end;
        let live = self.slots.iter().filter(|slot| slot.source == Source::Speed);
        live.filter(move |slot| end.reaches(slot.period.start.day()))
    }

    fn partition_reasons(&self, partition: &Partition, needs: Needs, reasons: &mut Vec<Reason>) {
        let id = || partition.id.clone();
        let is_over = partition.end != End::Open;
        let meta = match &partition.status {
            Status::Known(meta) => meta,
            Status::NotYet => {
                let detail = "it was not asked for".to_owned();
                return reasons.push(Reason::PartitionAway { partition: id(), detail });
            }
            Status::Missing(Missing::Unreachable(detail)) => {
                return reasons.push(Reason::PartitionAway { partition: id(), detail: detail.clone() });
            }
            Status::Missing(Missing::NoGeneration) if is_over => {
                return reasons.push(Reason::LifeEnded { partition: id(), append_time: Timestamp::MIN });
            }
            Status::Missing(Missing::NoGeneration) => return reasons.push(Reason::NoGeneration { partition: id() }),
        };
        if partition.is_in_doubt {
            reasons.push(Reason::InDoubt { partition: id() });
        }
        if meta.is_rebuilding() {
            let (next_offset, until) = (meta.next_offset, meta.rebuilding_until);
            reasons.push(Reason::Rebuilding { partition: id(), next_offset, until });
        }
        if needs.late && meta.base_night > self.next_night {
            let (base_night, night) = (meta.base_night, self.next_night);
            reasons.push(Reason::BaseNight { partition: id(), base_night, night });
        }
        if !self.has_reached(partition, meta, needs.due) {
            let append_time = meta.append_time;
            reasons.push(match is_over {
                true => Reason::LifeEnded { partition: id(), append_time },
                false => Reason::Behind { partition: id(), append_time },
            });
        }
        let lacks_live = self.live_slots(partition).any(|slot| slot.may_lack_clicks(meta));
        if lacks_live || (needs.late && self.may_lack_late(&self.slots, meta)) {
            reasons.push(Reason::LostRecords { partition: id(), lost: meta.lost });
        }
        let Some(day) = needs.first_live else { return };
        if meta.base_day > day {
            reasons.push(Reason::BaseDay { partition: id(), base_day: meta.base_day, day });
        }
        if self.live_slots(partition).any(|slot| slot.may_hold_duplicates(meta)) {
            reasons.push(Reason::DedupDrift { partition: id(), drift: meta.drift });
        }
    }
}

/// What a question needs of a partition.
#[derive(Debug, Clone, Copy)]
struct Needs {
    /// Everything that was appended before it.
    due: Timestamp,
    /// The first day that the speed layer answers for.
    first_live: Option<Day>,
    /// Late clicks that no night has taken in yet.
    late: bool,
}

/// The store as a whole is away when no partition could be read; one reason says it better than one for each.
fn all_unreachable(needed: &[(&Partition, Needs)]) -> Option<String> {
    let mut detail = None;
    for (partition, _) in needed {
        match &partition.status {
            Status::Missing(Missing::Unreachable(text)) => detail = detail.or(Some(text)),
            _ => return None,
        }
    }
    detail.cloned()
}

fn table_away(day: Day, detail: &str) -> Reason {
    Reason::TableAway { day, detail: detail.to_owned() }
}
