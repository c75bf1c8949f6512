//! The proof: per day the generator's truth, what the live view showed, what the batch published, and the difference.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::{Context, Result, ensure};
use arrow::array::{Array, AsArray};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use clicks::books::PeriodState;
use clicks::id::AdId;
use clicks::tables::{columns, current_key};
use clicks::time::{Day, Timestamp};
use clicks::window::{Grain, Minute};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use platform::objects::Objects;
use serde_json::{Value, json};

use super::truth::{Cell, Truth};

/// One day of the proof.
#[derive(Debug, Clone)]
pub struct DayProof {
    pub day: Day,
    /// What the generator says, as of the last night's cut.
    pub truth: Cell,
    /// What the merged view said while the day was live, just before its night.
    pub live: Option<u64>,
    /// What the merged view says now that the day is closed.
    pub exact: Option<u64>,
    pub late: u64,
    pub far_duplicates: u64,
    pub revision: u32,
    pub state: PeriodState,
    /// (ad, minute) cells of the published table that differ from the truth.
    pub cells_wrong: usize,
    pub cells: usize,
}

impl DayProof {
    /// exact - (live + late - far duplicates): zero, or the system is wrong.
    pub fn unexplained(&self) -> Option<i64> {
        let (live, exact) = (self.live? as i64, self.exact? as i64);
        Some(exact - (live + self.late as i64 - self.far_duplicates as i64))
    }

    pub fn holds(&self) -> bool {
        self.unexplained() == Some(0)
            && self.exact == Some(self.truth.exact)
            && self.live == Some(self.truth.live)
            && self.late == self.truth.late
            && self.far_duplicates == self.truth.far_duplicates
            && self.cells_wrong == 0
    }
}

/// The proof of a whole run.
#[derive(Debug)]
pub struct Proof {
    pub days: Vec<DayProof>,
    /// Clicks that the collector acknowledged, and what was refused with a reason, by it or before it.
    pub accepted: u64,
    pub rejected: u64,
}

impl Proof {
    pub fn holds(&self) -> bool {
        !self.days.is_empty() && self.days.iter().all(DayProof::holds)
    }

    pub fn json(&self) -> Value {
        let day = |day: &DayProof| {
            json!({
                "day": day.day.to_string(),
                "truth": day.truth.exact,
                "live": day.live,
                "exact": day.exact,
                "late": day.late,
                "far_duplicates": day.far_duplicates,
                "unexplained": day.unexplained(),
                "ad_minutes": day.cells,
                "ad_minutes_wrong": day.cells_wrong,
                "revision": day.revision,
                "state": day.state.name(),
                "holds": day.holds(),
            })
        };
        let days: Vec<Value> = self.days.iter().map(day).collect();
        json!({ "holds": self.holds(), "accepted": self.accepted, "rejected": self.rejected, "days": days })
    }
}

/// Compares a day's published minute table, cell for cell, with the truth; gives the cells that differ and all cells.
pub async fn compare_cells(objects: &Objects, truth: &Truth, day: Day) -> Result<(usize, usize)> {
    let published = read_minutes(objects, day).await?;
    let wanted: BTreeMap<(AdId, Minute), u64> = truth
        .cells_of(day)
        .filter(|(_, _, cell)| cell.exact > 0)
        .map(|(ad, minute, cell)| ((ad.clone(), minute), cell.exact))
        .collect();
    let missing = wanted.iter().filter(|(key, clicks)| published.get(*key) != Some(*clicks)).count();
    let extra = published.keys().filter(|key| !wanted.contains_key(*key)).count();
    Ok((missing + extra, wanted.len()))
}

/// Clicks plus adjustments per ad and minute, read from the table as any other tool would.
async fn read_minutes(objects: &Objects, day: Day) -> Result<BTreeMap<(AdId, Minute), u64>> {
    let key = current_key(Grain::Minute, day);
    let bytes = objects.get(&key).await?.with_context(|| format!("{key} is missing"))?;
    let mut cells = BTreeMap::new();
    for batch in ParquetRecordBatchReaderBuilder::try_new(bytes)?.build()? {
        let batch = batch?;
        let column = |name: &str| batch.column_by_name(name).with_context(|| format!("{key} has no column {name}"));
        let starts = column(columns::PERIOD_START)?.as_primitive::<TimestampMillisecondType>();
        let ads = arrow::compute::cast(column(columns::AD_ID)?, &arrow::datatypes::DataType::Utf8)?;
        let ads = ads.as_string::<i32>();
        let clicks = column(columns::CLICKS)?.as_primitive::<Int64Type>();
        let adjustments = column(columns::ADJUSTMENT)?.as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            ensure!(!ads.is_null(row) && !clicks.is_null(row), "{key} holds a null in row {row}");
            let minute = Minute::of(Timestamp::from_millis(starts.value(row)));
            let total = clicks.value(row) + adjustments.value(row);
            if total > 0 {
                *cells.entry((AdId::parse(ads.value(row))?, minute)).or_default() += total as u64;
            }
        }
    }
    Ok(cells)
}

/// The table that the user sees.
pub fn render(days: &[DayProof]) -> String {
    let mut text = String::new();
    let head = ["day", "truth", "live", "exact", "late", "far dup.", "unexplained", "ad-minutes", "rev", "state"];
    let _ = writeln!(
        text,
        "{:<11}{:>11}{:>11}{:>11}{:>9}{:>10}{:>13}{:>26}{:>5}  {}",
        head[0], head[1], head[2], head[3], head[4], head[5], head[6], head[7], head[8], head[9]
    );
    let or_dash = |value: Option<String>| value.unwrap_or_else(|| "-".to_owned());
    for day in days {
        let cells = format!("{} equal, {} wrong", grouped(day.cells as u64), day.cells_wrong);
        let _ = writeln!(
            text,
            "{:<11}{:>11}{:>11}{:>11}{:>9}{:>10}{:>13}{:>26}{:>5}  {}{}",
            day.day,
            grouped(day.truth.exact),
            or_dash(day.live.map(grouped)),
            or_dash(day.exact.map(grouped)),
            day.late,
            day.far_duplicates,
            or_dash(day.unexplained().map(|n| n.to_string())),
            cells,
            day.revision,
            day.state.name(),
            if day.holds() { "" } else { "   <- WRONG" },
        );
    }
    text
}

/// 1234567 as 1,234,567.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proof() -> DayProof {
        let truth = Cell { exact: 102, live: 100, late: 3, far_duplicates: 1 };
        DayProof {
            day: Day::from_number(20_000),
            truth,
            live: Some(100),
            exact: Some(102),
            late: 3,
            far_duplicates: 1,
            revision: 1,
            state: PeriodState::Closed,
            cells_wrong: 0,
            cells: 7,
        }
    }

    #[test]
    fn a_proof_holds_only_when_every_term_is_equal() {
        assert!(proof().holds());
        let spoiled: [fn(&mut DayProof); 7] = [
            |p| p.live = None,
            |p| p.live = Some(99),
            |p| p.exact = Some(103),
            |p| p.late = 2,
            |p| p.far_duplicates = 0,
            |p| p.cells_wrong = 1,
            |p| p.truth.exact = 101,
        ];
        for (case, spoil) in spoiled.iter().enumerate() {
            let mut proof = proof();
            spoil(&mut proof);
            assert!(!proof.holds(), "case {case}");
        }
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }
}
