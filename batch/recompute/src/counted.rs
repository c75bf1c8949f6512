//! What one night's records come to, gathered from the results of an engine.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use clicks::ledger::{Balance, DayTotals};
use clicks::time::Day;
use clicks::window::Minute;
use datafusion::error::DataFusionError;

use crate::exact::{Kind, Tallies, TallyRow};
use crate::plan::Plan;
use crate::rows::{Cell, Numbers, Rows, common};
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

/// Results of one partition, or of several one after the other.
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

/// Cells hold the numbers of their ads.
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
        let mut rows = tallies.rows().peekable();
        while let Some(row) = rows.next() {
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
                Kind::Cell => {
                    let day = row.minute.start().day();
                    let own = self.days.entry(day).or_default();
                    let before = own.totals;
                    own.push(&row, ad);
                    // As they are sorted, the next ones are mostly of the same day.
                    let minutes = Minute::of(day.start())..Minute::of(day.end());
                    while let Some(row) = rows.next_if(|next| next.kind == Kind::Cell && minutes.contains(&next.minute))
                    {
                        own.push(&row, numbers[row.ad as usize]);
                    }
                    self.balance.counted += own.totals.clicks - before.clicks;
                    self.balance.duplicates += own.totals.duplicates - before.duplicates;
                }
                Kind::Adjustment => {
                    self.adjustments.push(cell(&row, ad));
                    self.balance.counted += row.clicks;
                }
            }
        }
        self.last = Some((words.clone(), numbers));
        Ok(())
    }
}

impl Counted {
    /// All results of a plan, in the order of the tables.
    pub(crate) fn of(plan: &Plan, mut gathered: Vec<Gathered>) -> Self {
        let (names, of_parts) = common(gathered.iter().map(|part| part.numbers.names()));
        let mut counted = Counted::default();
        for day in &plan.scope.days {
            let days = gathered.iter_mut().map(|part| part.days.remove(day).unwrap_or_default());
            let (runs, totals): (Vec<_>, Vec<_>) = days.map(|day| (day.cells, day.totals)).unzip();
            let rows = Rows::from_parts(names.clone(), merged(runs, &of_parts));
            counted.days.insert(*day, DayCount { rows, totals: totals.into_iter().fold(DayTotals::default(), sum) });
        }
        let adjustments = gathered.iter_mut().map(|part| std::mem::take(&mut part.adjustments)).collect();
        let adjustments = Rows::from_parts(names, merged(adjustments, &of_parts));
        let adjustments = adjustments.iter().map(|row| AdjustmentRow {
            period_start: row.period_start,
            ad: row.ad.into(),
            class: row.class,
            clicks: row.clicks,
            night: plan.night,
        });
        counted.adjustments = adjustments.collect();
        for part in gathered {
            let (own, more) = (&mut counted.balance, part.balance);
            own.rows += more.rows;
            own.counted += more.counted;
            own.duplicates += more.duplicates;
            own.rejected += more.rejected;
            own.control += more.control;
            own.other_days += more.other_days;
            for (code, count) in part.rejections {
                *counted.rejections.entry(code).or_default() += count;
            }
        }
        counted
    }
}

fn sum(a: DayTotals, b: DayTotals) -> DayTotals {
    DayTotals {
        clicks: a.clicks + b.clicks,
        late: a.late + b.late,
        duplicates: a.duplicates + b.duplicates,
        far_duplicates: a.far_duplicates + b.far_duplicates,
        late_duplicates: a.late_duplicates + b.late_duplicates,
    }
}

/// Cells of all parts by minute and name, each once; `places` are those of each part's names.
fn merged(mut runs: Vec<Vec<Cell>>, places: &[Vec<u32>]) -> Vec<Cell> {
    for (run, places) in runs.iter_mut().zip(places) {
        run.iter_mut().for_each(|cell| cell.ad = places[cell.ad as usize]);
        // The engines sort; an ad of two of the partitions that a part holds may still stand twice.
        if !run.is_sorted_by_key(Cell::key) {
            run.sort_by_key(Cell::key);
        }
    }
    let mut merged: Vec<Cell> = Vec::with_capacity(runs.iter().map(Vec::len).sum());
    let mut runs: Vec<_> = runs.iter().map(|run| run.iter()).collect();
    let mut heads: BinaryHeap<Reverse<((i32, u32), usize)>> = BinaryHeap::new();
    let mut nexts: Vec<Option<&Cell>> = runs.iter_mut().map(Iterator::next).collect();
    heads.extend(nexts.iter().enumerate().filter_map(|(run, next)| Some(Reverse((next.as_ref()?.key(), run)))));
    while let Some(mut head) = heads.peek_mut() {
        let Reverse((key, run)) = *head;
        let Some(cell) = std::mem::replace(&mut nexts[run], runs[run].next()) else { break };
        match merged.last_mut().filter(|last| last.key() == key) {
            Some(last) => last.add(cell),
            None => merged.push(*cell),
        }
        match nexts[run] {
            Some(next) => *head = Reverse((next.key(), run)),
            None => {
                std::collections::binary_heap::PeekMut::pop(head);
            }
        }
    }
    merged
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
