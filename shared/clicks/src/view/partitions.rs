//! The partitions that can hold an answer, and where each of them ends.

use std::collections::BTreeSet;

use super::{Asked, Missing};
use crate::books::{Books, partitions_of};
use crate::id::AdId;
use crate::live::Meta;
use crate::partitioner::partition_of;
use crate::position::{Offset, PartitionId};
use crate::time::{Day, Timestamp};

#[derive(Debug)]
pub(super) struct Partition {
    pub id: PartitionId,
    pub end: End,
    /// Which series it can hold clicks of; all when empty.
    pub series: BTreeSet<usize>,
    pub status: Status,
    /// See [`super::Live::is_in_doubt`].
    pub is_in_doubt: bool,
}

impl Partition {
    /// Its counts are about to be others.
    pub fn is_recounted(&self, meta: &Meta) -> bool {
        self.is_in_doubt || meta.is_rebuilding()
    }
}

/// Where a partition ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It is being written.
    Open,
    /// Its topic life is over, but where is not known until a night shows it: see [`Books::last_day_of`].
    Unknown,
    /// At this offset, and it holds live counts up to this day. The nights have taken in all of it.
    Known { offset: Offset, last_day: Day },
}

#[derive(Debug)]
pub(super) enum Status {
    NotYet,
    Missing(Missing),
    Known(Box<Meta>),
}

impl End {
    /// Live counts of the day can lie in it.
    pub fn reaches(self, day: Day) -> bool {
        match self {
            End::Open | End::Unknown => true,
            End::Known { last_day, .. } => day <= last_day,
        }
    }

    /// Late clicks can lie in it that no night has taken in.
    pub fn has_pending(self) -> bool {
        !matches!(self, End::Known { .. })
    }
}

pub(super) fn has_counted(partition: &Partition, meta: &Meta, before: Timestamp) -> bool {
    let all = matches!(partition.end, End::Known { offset, .. } if meta.next_offset >= offset);
    all || meta.append_time >= before
}

/// Every partition that can hold an answer: of all topic lives, because readers sum lives. One that ended before the first
/// open day holds nothing that the batch has not: nobody would ever restore its live counts, and nobody misses them.
pub(super) fn partitions(books: &Books, asked: &Asked) -> Vec<Partition> {
    let named: Option<Vec<(&AdId, usize)>> = match asked {
        Asked::Total | Asked::EachAd => None,
        Asked::Ads(ads) | Asked::EachOf(ads) => Some(ads.iter().zip(0..).collect()),
        Asked::Groups(groups) => {
            groups.few().map(|ads| ads.iter().filter_map(|ad| Some((ad, groups.of(ad)?))).collect())
        }
    };
    let mut found = Vec::new();
    for life in books.lives() {
        let last_day = books.last_day_of(life);
        if last_day.is_some_and(|last_day| last_day < books.next_night()) {
            continue;
        }
        for id in partitions_of(life) {
            let at = |ad: &AdId, count| partition_of(ad.as_str().as_bytes(), count) == id.number;
            let holds = |ad: &AdId| books.partition_counts(life).any(|count| at(ad, count));
            let here = named.iter().flatten().filter(|(ad, _)| holds(ad)).map(|(_, series)| *series);
            let series: BTreeSet<usize> = here.collect();
            if series.is_empty() && named.is_some() {
                continue;
            }
            let end = match last_day {
                Some(last_day) => match books.through().get(&id) {
                    Some(offset) if *offset > Offset::ZERO => End::Known { offset: *offset, last_day },
                    // It ended before anything was written to it.
                    _ => continue,
                },
                None if books.has_ended(life) => End::Unknown,
                None => End::Open,
            };
            found.push(Partition { id, end, series, status: Status::NotYet, is_in_doubt: false });
        }
    }
    found
}
