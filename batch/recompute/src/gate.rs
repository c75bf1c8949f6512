//! What is checked before anything becomes visible. A result that fails is not published, however late it is.
//!
//! The grains are checked as they will be read: from the bytes of their files.

use std::collections::HashMap;

use bytes::Bytes;
use clicks::ledger::{Balance, DayTotals};
use clicks::time::{Day, Timestamp};
use clicks::window::Grain;

use crate::counted::Counted;
use crate::error::TableError;
use crate::rows::{Cell, Rows, join};
use crate::table::decode;

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
    let of_days: u64 =
        counted.days.values().flat_map(|day| day.rows.cells()).map(|row| row.clicks + row.duplicates).sum();
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

/// Minutes = hours = days, per ad, from the bytes of the three files, the finest first.
pub(crate) fn check_grains(
    day: Day,
    totals: &DayTotals,
    files: &[(Grain, Bytes); 3],
) -> Result<Result<(), GateFailure>, TableError> {
    let counted = totals.clicks + totals.duplicates;
    let mut finer: Option<Rows> = None;
    for (grain, bytes) in files {
        let rows = decode(&format!("{grain} of {day}"), bytes.clone())?;
        let checked = check_order(day, *grain, &rows).and_then(|()| match &finer {
            Some(finer) => check_sums(day, *grain, finer, &rows),
            None => {
                let published = rows.cells().iter().map(|row| row.clicks + row.duplicates).sum();
                if published == counted { Ok(()) } else { Err(GateFailure::Totals { published, counted }) }
            }
        });
        if checked.is_err() {
            return Ok(checked);
        }
        finer = Some(rows);
    }
    Ok(Ok(()))
}

fn check_order(day: Day, grain: Grain, rows: &Rows) -> Result<(), GateFailure> {
    let wrong = |cell: &Cell| Err(GateFailure::Order { day, grain, period: cell.period_start() });
    if let Some(pair) = rows.cells().windows(2).find(|pair| pair[0].key() >= pair[1].key()) {
        return wrong(&pair[1]);
    }
    let misplaced = |cell: &&Cell| {
        let start = cell.period_start();
        start.day() != day || start.floor(grain.width()) != start
    };
    match rows.cells().iter().find(misplaced) {
        Some(cell) => wrong(cell),
        None => Ok(()),
    }
}

/// Holds each row against the sum of the finer rows, period by period; both are sorted.
fn check_sums(day: Day, grain: Grain, finer: &Rows, rows: &Rows) -> Result<(), GateFailure> {
    let wrong = |period, ad: &str| Err(GateFailure::Grain { day, grain, ad: ad.to_owned(), period });
    let numbers: HashMap<&str, usize> = finer.names().iter().map(|name| &**name).zip(0..).collect();
    let places: Vec<Option<usize>> = rows.names().iter().map(|name| numbers.get(&**name).copied()).collect();
    let period_of = |cell: &Cell| cell.period_start().floor(grain.width());
    // Of each ad, the sum of the period at hand; nothing was seen of it while there is none.
    let mut sums: Vec<Option<[u64; 3]>> = vec![None; finer.names().len()];
    let mut rows_left = rows.cells();
    for parts in finer.cells().chunk_by(|a, b| period_of(a) == period_of(b)) {
        let period = period_of(&parts[0]);
        for cell in parts {
            let sum = sums[cell.ad as usize].get_or_insert_default();
            sum.iter_mut().zip(cell.counts()).for_each(|(sum, count)| *sum += count);
        }
        let here = rows_left.partition_point(|row| row.period_start() <= period);
        let (of_period, rest) = rows_left.split_at(here);
        rows_left = rest;
        for row in of_period {
            let sum = places[row.ad as usize].and_then(|place| sums[place].take());
            if row.period_start() != period || sum != Some(row.counts()) {
                return wrong(row.period_start(), rows.name(row));
            }
        }
        if let Some(cell) = parts.iter().find(|cell| sums[cell.ad as usize].is_some()) {
            return wrong(period, finer.name(cell));
        }
    }
    match rows_left.first() {
        Some(row) => wrong(row.period_start(), rows.name(row)),
        None => Ok(()),
    }
}

/// A recount at a later cut only ever adds to what was published.
pub(crate) fn check_grown(day: Day, before: &Rows, after: &Rows) -> Result<(), GateFailure> {
    let mut shrunk = None;
    join(before, after, |period, ad, was, is| {
        let (was, is) = (was.map_or([0; 3], Cell::counts), is.map_or([0; 3], Cell::counts));
        if shrunk.is_none() && is.iter().zip(was).any(|(is, was)| *is < was) {
            shrunk = Some(GateFailure::Shrunk { day, ad: ad.to_owned(), period });
        }
    });
    shrunk.map_or(Ok(()), Err)
}
