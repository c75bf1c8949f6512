//! Is what is stored the truth? To the last key; and where sightings were lost, within what the meta record owns up to.

use std::collections::BTreeMap;

use clicks::live::{CountKey, LateKey, Meta};
use clicks::position::Offset;
use clicks::time::{Interval, Span};
use platform::store::LiveSlice;

use crate::oracle::{Fate, Judged, compare, same_last_record, truth};
use crate::world::Partition;

/// The slice, which must be of everything, holds the records before its position.
///
/// # Errors
/// What is different.
pub(crate) fn verify(slice: &LiveSlice, partition: &Partition) -> Result<(), String> {
    let meta = &slice.meta;
    let judged = &partition.oracle.judged;
    let end = meta.next_offset.value() as usize;
    if end > judged.len() {
        return Err(format!("the position is {end}, but the log ends at {}", judged.len()));
    }
    let judged = &judged[..end];
    let Err(difference) = compare(slice, judged) else { return Ok(()) };
    let is_lossy = meta.dedup_evicted > 0 || partition.deleted_to.value() > 0;
    if !is_lossy {
        return Err(difference);
    }
    within_doubt(slice, judged, partition).map_err(|more| format!("{more}; {difference}"))
}

/// How far the clocks of brokers differ.
const SKEW_MAX: Span = Span::seconds(20);

/// Counts that a record may or may not be in.
#[derive(Default)]
struct Doubtful {
    counts: Around<CountKey>,
    late: Around<LateKey>,
    records: u64,
}

/// By how much counts may be below and above the truth.
struct Around<K>(BTreeMap<K, (u64, u64)>);

impl<K> Default for Around<K> {
    fn default() -> Self {
        Around(BTreeMap::new())
    }
}

impl Doubtful {
    /// It may be missing where it counts, and where it would count as if its key was new it may count.
    fn add(&mut self, record: &Judged, may_be_missing: bool, may_count: &[Fate]) {
        let Some(count) = record.count.clone() else { return };
        let late = LateKey { night: record.night, count: count.clone() };
        for fate in may_count {
            match fate {
                Fate::Late => self.late.0.entry(late.clone()).or_default().1 += 1,
                Fate::Counted => self.counts.0.entry(count.clone()).or_default().1 += 1,
                _ => {}
            }
        }
        match record.fate {
            Fate::Late if may_be_missing => self.late.0.entry(late).or_default().0 += 1,
            Fate::Counted if may_be_missing => self.counts.0.entry(count).or_default().0 += 1,
            _ => {}
        }
    }
}

/// Where records fell off the log, or sightings were forgotten, the meta record says which records may be judged
/// otherwise: those that were appended within the interval of the lost ones may be missing, and a duplicate that was
/// appended within the drift may count as if its key was new. The append time of what follows lost records is not known
/// better than the clocks of brokers agree. What lies before the base days is shown to nobody.
fn within_doubt(slice: &LiveSlice, judged: &[Judged], partition: &Partition) -> Result<(), String> {
    let meta = &slice.meta;
    let truth = truth(judged, meta.base_offset, meta.base_day, meta.base_night);
    let lost_in = match meta.lost.records {
        0 => meta.lost.appended,
        _ => Interval::new(meta.lost.appended.start - SKEW_MAX, meta.lost.appended.end + SKEW_MAX),
    };
    let (mut doubtful, mut lost) = (Doubtful::default(), 0);
    for record in judged.iter().filter(|record| record.offset >= meta.base_offset) {
        let is_gone = |offset: Offset| offset < partition.deleted_to;
        let is_timeless = partition.is_timeless(record);
        let sighting_is_timeless =
            record.sighted.is_some_and(|sighting| partition.is_timeless(&judged[sighting.value() as usize]));
        let drifts =
            record.fate == Fate::Duplicate && (sighting_is_timeless || meta.drift.contains(record.append_time));
        let shows = record.night >= meta.base_night
            || record.count.as_ref().is_some_and(|count| count.minute.start() >= meta.base_day.start());
        // The interval says nothing about times at which nothing is shown.
        let may_be_lost =
            is_gone(record.offset) && meta.lost.records > 0 && (!shows || lost_in.contains(record.append_time));
        lost += u64::from(may_be_lost);
        if may_be_lost || drifts || is_timeless || !shows && partition.deleted_to > Offset::ZERO {
            doubtful.records += 1;
        }
        if drifts {
            doubtful.add(record, false, &[record.unsighted]);
        }
        if is_timeless {
            doubtful.add(record, true, &[Fate::Late, Fate::Counted]);
        } else if may_be_lost {
            doubtful.add(record, true, &[]);
        }
    }
    around("counts", &slice.counts, &truth.counts, &doubtful.counts)?;
    around("late counts", &slice.late, &truth.late, &doubtful.late)?;
    balanced(meta, slice, judged)?;
    if meta.lost.records > lost {
        return Err(format!("{} records are lost, at most {lost} were appended in {:?}", meta.lost.records, meta.lost));
    }
    let (stored, exact) = (&meta.totals, &truth.totals);
    let pairs = [
        (stored.control, exact.control),
        (stored.rejected, exact.rejected),
        (stored.duplicate, exact.duplicate),
        (stored.late, exact.late),
        (stored.counted, exact.counted),
    ];
    // Each record that is judged otherwise is one more here and one less there.
    let moved: u64 = pairs.iter().map(|(stored, exact)| stored.abs_diff(*exact)).sum();
    if stored.seen + meta.lost.records != exact.seen || moved > 2 * doubtful.records {
        return Err(format!(
            "totals {stored:?}, the truth is {exact:?} with at most {} judged otherwise",
            doubtful.records
        ));
    }
    Ok(())
}

/// Each count is the true one, or as much below or above it as may be.
fn around<K: Ord + Clone + std::fmt::Debug>(
    what: &str,
    stored: &[(K, u64)],
    truth: &BTreeMap<K, u64>,
    doubtful: &Around<K>,
) -> Result<(), String> {
    let stored: BTreeMap<_, _> = stored.iter().cloned().collect();
    for key in stored.keys().chain(truth.keys()) {
        let of = |counts: &BTreeMap<K, u64>| counts.get(key).copied().unwrap_or(0);
        let (below, above) = doubtful.0.get(key).copied().unwrap_or_default();
        let (least, most) = (of(truth).saturating_sub(below), of(truth) + above);
        if !(least..=most).contains(&of(&stored)) {
            return Err(format!("{what}: {key:?} is {}, the truth lies in {least}..={most}", of(&stored)));
        }
    }
    Ok(())
}

fn balanced(meta: &Meta, slice: &LiveSlice, judged: &[Judged]) -> Result<(), String> {
    let sum = crate::making::sum(&slice.counts) + meta.totals.expired;
    let late = crate::making::sum(&slice.late) + meta.totals.late_expired;
    if !meta.totals.balance() || (sum, late) != (meta.totals.counted, meta.totals.late) {
        return Err(format!("no double entry: windows {sum}, late {late}, {:?}", meta.totals));
    }
    if !meta.is_balanced() {
        return Err(format!("records are missing: {meta:?}"));
    }
    same_last_record(slice, judged)
}
