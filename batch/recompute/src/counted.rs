//! What one night's records come to, gathered from the results of an engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use clicks::ledger::{Balance, DayTotals};
use clicks::time::Day;
use datafusion::error::DataFusionError;

use crate::exact::{Kind, Tallies, TallyRow};
use crate::plan::Plan;
use crate::rows::{Cell, Numbers, Rows};
use crate::table::AdjustmentRow;

/// What a night's records come to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Counted {
    /// Every day that is computed, also one without clicks.
    pub(crate) days: BTreeMap<Day, DayCount>,
    /// Sorted by minute, then ad.
    pub(crate) adjustments: Vec<AdjustmentRow>,
    pub(crate) balance: Balance,
    /// By the code of the reason.
    pub(crate) rejections: BTreeMap<String, u64>,
}

impl Counted {
    /// Leaves a day out: nothing of it is published with the rest.
    pub(crate) fn leave_out(&mut self, day: Day) {
        let Some(DayCount { totals, .. }) = self.days.remove(&day) else { return };
        self.balance.counted -= totals.clicks;
        self.balance.duplicates -= totals.duplicates;
        self.balance.other_days += totals.clicks + totals.duplicates;
    }
}

/// One day.
#[derive(Debug, Clone, Default)]
pub(crate) struct DayCount {
    /// Sorted by minute, then ad.
    pub(crate) rows: Rows,
    pub(crate) totals: DayTotals,
}

/// Results of some partitions.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    numbers: Numbers,
    /// The dictionary of the last batch and the numbers of its names: batches of a partition share one.
    last: Option<(ArrayRef, Vec<u32>)>,
    days: BTreeMap<Day, GatheredDay>,
    adjustments: Vec<Cell>,
    balance: Balance,
    /// By the code of the reason.
    rejections: BTreeMap<String, u64>,
}

/// Cells hold the numbers of their ads, and come in runs that are sorted.
#[derive(Debug, Default)]
struct GatheredDay {
    cells: Vec<Cell>,
    totals: DayTotals,
}

impl Gathered {
    /// Adds one batch of results.
    pub(crate) fn add(&mut self, batch: &RecordBatch) -> Result<(), DataFusionError> {
        let tallies = Tallies::of(batch)?;
        let words = tallies.words();
        let numbers = match self.last.take() {
            Some((last, numbers)) if Arc::ptr_eq(&last, words) => numbers,
            _ => tallies.names().iter().flatten().map(|name| self.numbers.of(name)).collect(),
        };
        for row in tallies.rows() {
            let ad = numbers[row.ad as usize];
            match row.kind {
                Kind::Read => self.balance.rows += row.clicks,
                Kind::Control => self.balance.control += row.clicks,
                Kind::OtherDays => self.balance.other_days += row.clicks,
                Kind::Rejected => {
                    self.balance.rejected += row.clicks;
                    let code = self.numbers.names()[ad as usize].to_string();
                    *self.rejections.entry(code).or_default() += row.clicks;
                }
                Kind::Cell => self.day(row.minute.start().day()).push(&row, ad),
                Kind::Adjustment => self.adjustments.push(cell(&row, ad)),
            }
            if matches!(row.kind, Kind::Cell | Kind::Adjustment) {
                self.balance.counted += row.clicks;
                self.balance.duplicates += row.duplicates;
            }
        }
        self.last = Some((words.clone(), numbers));
        Ok(())
    }

    fn day(&mut self, day: Day) -> &mut GatheredDay {
        self.days.entry(day).or_default()
    }

    /// Adds what was gathered elsewhere.
    pub(crate) fn absorb(&mut self, other: Gathered) {
        let numbers: Vec<u32> = other.numbers.names().iter().map(|name| self.numbers.of(name)).collect();
        let renumbered = |cell: Cell| Cell { ad: numbers[cell.ad as usize], ..cell };
        self.adjustments.extend(other.adjustments.into_iter().map(renumbered));
        for (day, GatheredDay { cells, totals }) in other.days {
            let own = self.days.entry(day).or_default();
            own.cells.extend(cells.into_iter().map(renumbered));
            own.totals.clicks += totals.clicks;
            own.totals.late += totals.late;
            own.totals.duplicates += totals.duplicates;
            own.totals.far_duplicates += totals.far_duplicates;
            own.totals.late_duplicates += totals.late_duplicates;
        }
        let (own, more) = (&mut self.balance, other.balance);
        own.rows += more.rows;
        own.counted += more.counted;
        own.duplicates += more.duplicates;
        own.rejected += more.rejected;
        own.control += more.control;
        own.other_days += more.other_days;
        for (code, count) in other.rejections {
            *self.rejections.entry(code).or_default() += count;
        }
    }

    /// Everything in the order of the tables.
    pub(crate) fn finish(mut self, plan: &Plan) -> Counted {
        for day in &plan.scope.days {
            self.day(*day);
        }
        let (names, places) = self.numbers.sorted();
        let table = |mut cells: Vec<Cell>| {
            cells.iter_mut().for_each(|cell| cell.ad = places[cell.ad as usize]);
            Rows::from_parts(names.clone(), cells).added_up()
        };
        let days = self.days.into_iter().map(|(day, GatheredDay { cells, totals })| {
            let rows = table(cells);
            (day, DayCount { rows, totals })
        });
        let days = days.collect();
        let adjustments = table(self.adjustments);
        let adjustments = adjustments.iter().map(|row| AdjustmentRow {
            period_start: row.period_start,
            ad: row.ad.into(),
            class: row.class,
            clicks: row.clicks,
            night: plan.night,
        });
        let adjustments = adjustments.collect();
        Counted { days, adjustments, balance: self.balance, rejections: self.rejections }
    }
}

impl GatheredDay {
    #[inline]
    fn push(&mut self, row: &TallyRow, ad: u32) {
        self.cells.push(cell(row, ad));
        self.totals.clicks += row.clicks;
        self.totals.late += row.late;
        self.totals.duplicates += row.duplicates;
        self.totals.far_duplicates += row.far_duplicates;
        self.totals.late_duplicates += row.late_duplicates;
    }
}

#[inline]
fn cell(row: &TallyRow, ad: u32) -> Cell {
    let &TallyRow { minute, clicks, duplicates, late, .. } = row;
    Cell { start: minute.number() as i32, ad, clicks, duplicates, late }
}
