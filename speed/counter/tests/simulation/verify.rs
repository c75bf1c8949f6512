//! Is what is stored the truth? To the last key; and where sightings were lost, within what the meta record owns up to.

use std::collections::BTreeMap;
use std::hash::Hash;

use clicks::live::{CountKey, LateKey, Meta};
use clicks::position::Offset;
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
    within_drift(slice, judged, partition).map_err(|more| format!("{more}; {difference}"))
}

/// A duplicate may be counted as if its key was new if it was appended within the drift. Where it does not show, a record
/// may be judged otherwise if others fell off the log: the append time so far was one of theirs, or its last sighting.
fn within_drift(slice: &LiveSlice, judged: &[Judged], partition: &Partition) -> Result<(), String> {
    let meta = &slice.meta;
    let truth = truth(judged, meta.base_offset, meta.base_day, meta.base_night);
    let (mut counts, mut late): (BTreeMap<CountKey, u64>, BTreeMap<LateKey, u64>) = Default::default();
    let mut others = 0;
    for record in judged.iter().filter(|record| record.offset >= meta.base_offset) {
        let is_duplicate = record.fate == Fate::Duplicate;
        if is_duplicate && meta.drift.contains(record.append_time) {
            let count = record.count.clone().expect("a duplicate is a click");
            match record.unsighted {
                Fate::Late => *late.entry(LateKey { night: record.night, count }).or_default() += 1,
                _ => *counts.entry(count).or_default() += 1,
            }
            others += 1;
        }
        let shows = record.night >= meta.base_night
            || record.count.as_ref().is_some_and(|count| count.minute.start() >= meta.base_day.start());
        if !shows && partition.deleted_to > Offset::ZERO {
            others += 1;
        }
    }
    bounded("counts", &slice.counts, &truth.counts, &counts)?;
    bounded("late counts", &slice.late, &truth.late, &late)?;
    balanced(meta, slice, judged)?;
    let (stored, exact) = (&meta.totals, &truth.totals);
    let pairs = [
        (stored.rejected, exact.rejected),
        (stored.duplicate, exact.duplicate),
        (stored.late, exact.late),
        (stored.counted, exact.counted),
    ];
    // Each record that is judged otherwise is one more here and one less there.
    let moved: u64 = pairs.iter().map(|(stored, exact)| stored.abs_diff(*exact)).sum();
    if (stored.seen, stored.control) != (exact.seen, exact.control) || moved > 2 * others {
        return Err(format!("totals {stored:?}, the truth is {exact:?} with at most {others} judged otherwise"));
    }
    Ok(())
}

/// Each count is the true one, or larger by some of the duplicates that may have passed.
fn bounded<K: Ord + Hash + Clone + std::fmt::Debug>(
    what: &str,
    stored: &[(K, u64)],
    truth: &BTreeMap<K, u64>,
    passed: &BTreeMap<K, u64>,
) -> Result<(), String> {
    let stored: BTreeMap<_, _> = stored.iter().cloned().collect();
    for key in stored.keys().chain(truth.keys()) {
        let of = |counts: &BTreeMap<K, u64>| counts.get(key).copied().unwrap_or(0);
        let (least, most) = (of(truth), of(truth) + of(passed));
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
    if meta.totals.seen != meta.next_offset.distance_from(meta.base_offset) {
        return Err(format!("records are missing: {meta:?}"));
    }
    same_last_record(slice, judged)
}
