//! What a flush must be like. Both implementations ask here before they change anything, or send anything.

use clicks::live::{Flush, Meta};
use clicks::position::PartitionId;
use clicks::time::Day;

use super::StoreError;

/// Numbers in a flush are below it, so that no sum of two of them overflows anywhere.
const NUMBER_LIMIT: u64 = 1 << 62;

const FINGERPRINT_MAX: usize = 64;

/// # Errors
/// [`StoreError::Failed`] with what is wrong.
pub(super) fn validate(partition: &PartitionId, flush: &Flush) -> Result<(), StoreError> {
    check(flush).map_err(|what| refused(partition, &what))
}

pub(super) fn refused(partition: &PartitionId, what: &str) -> StoreError {
    StoreError::Failed(format!("the flush of partition {partition} was refused and changed nothing: {what}"))
}

fn check(flush: &Flush) -> Result<(), String> {
    let meta = &flush.meta;
    let counts = flush.counts.iter().map(|(_, count)| *count);
    let late = flush.late.iter().map(|(_, count)| *count);
    if let Some(number) = numbers(meta).into_iter().chain(counts).chain(late).find(|number| *number >= NUMBER_LIMIT) {
        return Err(format!("{number} is no number below 2^62"));
    }
    if let Some(day) = [meta.base_day, meta.base_night].into_iter().find(|day| !is_plain(*day)) {
        return Err(format!("{day} is no day of four digits"));
    }
    if meta.fingerprint.len() > FINGERPRINT_MAX || !meta.fingerprint.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("`{}` is no fingerprint", meta.fingerprint));
    }
    let is_dropped = |hour| !flush.drop_hours.is_empty() && flush.drop_hours.contains(&hour);
    if let Some((key, _)) = flush.counts.iter().find(|(key, _)| is_dropped(key.minute.hour())) {
        return Err(format!("hour {} is both written and dropped", key.minute.hour().number()));
    }
    if let Some((key, _)) = flush.late.iter().find(|(key, _)| flush.drop_nights.contains(&key.night)) {
        return Err(format!("night {} is both written and dropped", key.night));
    }
    Ok(())
}

fn numbers(meta: &Meta) -> Vec<u64> {
    let totals = &meta.totals;
    let mut numbers = vec![meta.next_offset.value(), meta.base_offset.value(), meta.rebuilding_until.value()];
    numbers.extend([meta.dedup_evicted, meta.lost.records, meta.rollbacks, meta.rebuilds]);
    numbers.extend([totals.seen, totals.control, totals.rejected, totals.duplicate]);
    numbers.extend([totals.late, totals.counted, totals.expired, totals.late_expired]);
    numbers
}

/// Days are compared as text where they are stored.
fn is_plain(day: Day) -> bool {
    day.to_string().len() == "2026-03-01".len()
}
