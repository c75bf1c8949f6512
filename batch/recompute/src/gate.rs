//! What is checked before anything becomes visible. A result that fails is not published, however late it is.
//!
//! The grains are checked as they will be read: from the bytes of their files.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use clicks::ledger::{Balance, DayTotals};
use clicks::time::{Day, Timestamp};
use clicks::window::Grain;

use crate::error::TableError;
use crate::table::{Row, decode};
use crate::tally::Counted;

/// Why a night is not published. Each is a defect of this program or lost inputs, never a matter of the clicks.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GateFailure {
    #[error("{read} records were read where the inputs hold {held} before the cut")]
    Rows { read: u64, held: u64 },
    #[error(
        "{} records are not counted {} + duplicates {} + rejected {} + control {} + other days {}",
        .0.rows, .0.counted, .0.duplicates, .0.rejected, .0.control, .0.other_days
    )]
    Balance(Balance),
    #[error("the days and adjustments hold {published} clicks and duplicates, {counted} were counted")]
    Totals { published: u64, counted: u64 },
    #[error("{grain} of {day} is no sum of the minutes for ad `{ad}` at {period}")]
    Grain { day: Day, grain: Grain, ad: String, period: Timestamp },
    #[error("{grain} of {day} is not sorted or holds a period of another day at {period}")]
    Order { day: Day, grain: Grain, period: Timestamp },
    #[error(
        "{day} would lose clicks of ad `{ad}` at {period} against its published revision; a later cut only ever adds, so \
         raw objects are lost"
    )]
    Shrunk { day: Day, ad: String, period: Timestamp },
}

/// Rows in = counted + duplicates + rejected + control + other days, and everything counted is in a table.
pub(crate) fn check_balance(counted: &Counted, held: u64) -> Result<(), GateFailure> {
    let balance = counted.balance;
    if balance.rows != held {
        return Err(GateFailure::Rows { read: balance.rows, held });
    }
    if !balance.holds() {
        return Err(GateFailure::Balance(balance));
    }
    let of_days: u64 = counted.days.values().flat_map(|day| &day.rows).map(|row| row.clicks + row.duplicates).sum();
    let adjusted: u64 = counted.adjustments.iter().map(|row| row.clicks).sum();
    let of_totals: u64 = counted.days.values().map(|day| day.totals.clicks + day.totals.duplicates).sum();
    let expected = balance.counted + balance.duplicates;
    for published in [of_days + adjusted, of_totals + adjusted] {
        if published != expected {
            return Err(GateFailure::Totals { published, counted: expected });
        }
    }
    Ok(())
}

/// Minutes = hours = days, per ad, from the bytes of the three files.
pub(crate) fn check_grains(
    day: Day,
    totals: &DayTotals,
    files: &[(Grain, Bytes); 3],
) -> Result<Result<(), GateFailure>, TableError> {
    let mut minutes = Vec::new();
    for (grain, bytes) in files {
        let rows = decode(&format!("{grain} of {day}"), bytes.clone())?;
        if let Err(failure) = check_order(day, *grain, &rows) {
            return Ok(Err(failure));
        }
        if *grain == Grain::Minute {
            minutes = rows;
        } else if let Err(failure) = check_sums(day, *grain, &minutes, &rows) {
            return Ok(Err(failure));
        }
    }
    let published = minutes.iter().map(|row| row.clicks + row.duplicates).sum();
    let counted = totals.clicks + totals.duplicates;
    Ok(if published == counted { Ok(()) } else { Err(GateFailure::Totals { published, counted }) })
}

fn check_order(day: Day, grain: Grain, rows: &[Row]) -> Result<(), GateFailure> {
    let wrong = |row: &Row| Err(GateFailure::Order { day, grain, period: row.period_start });
    let key = |row: &Row| (row.period_start, row.ad.clone(), row.class);
    if let Some(pair) = rows.windows(2).find(|pair| key(&pair[0]) >= key(&pair[1])) {
        return wrong(&pair[1]);
    }
    match rows
        .iter()
        .find(|row| row.period_start.day() != day || row.period_start.floor(grain.width()) != row.period_start)
    {
        Some(row) => wrong(row),
        None => Ok(()),
    }
}

type Sums = BTreeMap<(Timestamp, Arc<str>), [u64; 3]>;

fn sums(rows: &[Row], grain: Grain) -> Sums {
    let mut sums = Sums::new();
    for row in rows {
        let sum = sums.entry((row.period_start.floor(grain.width()), row.ad.clone())).or_default();
        for (sum, count) in sum.iter_mut().zip([row.clicks, row.duplicates, row.late]) {
            *sum += count;
        }
    }
    sums
}

fn check_sums(day: Day, grain: Grain, minutes: &[Row], rows: &[Row]) -> Result<(), GateFailure> {
    let (expected, found) = (sums(minutes, grain), sums(rows, grain));
    let differs = expected.iter().find(|(key, sum)| found.get(*key) != Some(sum));
    match differs.or_else(|| found.iter().find(|(key, _)| !expected.contains_key(*key))) {
        Some(((period, ad), _)) => Err(GateFailure::Grain { day, grain, ad: ad.to_string(), period: *period }),
        None => Ok(()),
    }
}

/// A recount at a later cut only ever adds to what was published.
pub(crate) fn check_grown(day: Day, before: &[Row], after: &[Row]) -> Result<(), GateFailure> {
    let after = sums(after, Grain::Minute);
    for ((period, ad), was) in sums(before, Grain::Minute) {
        let is = after.get(&(period, ad.clone())).copied().unwrap_or_default();
        if is.iter().zip(was).any(|(is, was)| *is < was) {
            return Err(GateFailure::Shrunk { day, ad: ad.to_string(), period });
        }
    }
    Ok(())
}
