//! The count of a night alone, for benchmarks: what a run does between its plan and its checks.

use clicks::books::Books;
use platform::objects::Objects;

use crate::Options;
use crate::archived::Archived;
use crate::count::count;
use crate::engine::Engine;
use crate::error::BatchError;
use crate::plan::Plan;
use crate::scan::Hashes;

/// What a count came to, comparable with what others count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sums {
    /// Records that were read.
    pub rows: u64,
    pub clicks: u64,
    /// Rows of (minute, ad).
    pub cells: u64,
    /// Sum over the cells of clicks x clicks x (minute of the day + 1).
    pub check: u64,
}

/// Counts the next night and publishes nothing.
///
/// # Errors
/// As [`crate::run_night`] before anything is published.
pub async fn count_next(options: &Options, objects: &Objects, books: &Books) -> Result<Sums, BatchError> {
    let night = books.next_night();
    let archived = Archived::read(objects, books).await?;
    let plan = Plan::new(books, &archived, night, archived.cuts(objects, books, night).await?);
    let engine = Engine::new(options, objects)?;
    let counted = count(&engine, objects, &plan, &Hashes::default(), options).await?;
    let mut sums = Sums { rows: counted.balance.rows, clicks: 0, cells: 0, check: 0 };
    for (day, count) in &counted.days {
        for row in count.rows.iter() {
            let minute = row.period_start.since(day.start()).as_millis() as u64 / 60_000;
            sums.clicks += row.clicks;
            sums.cells += 1;
            sums.check += row.clicks * row.clicks * (minute + 1);
        }
    }
    Ok(sums)
}
