//! The third pass: outcomes added up to cells, and all results as batches.

use std::sync::{Arc, LazyLock};

use arrow::array::{Array, AsArray};
use arrow::array::{ArrayRef, DictionaryArray, Int8Array, Int64Array, RecordBatch, StringArray, UInt32Array};
use arrow::datatypes::{DataType, Field, Int8Type, Int64Type, Schema, SchemaRef, UInt32Type};
use clicks::window::Minute;
use datafusion::error::{DataFusionError, Result};

use super::judge::Outcomes;
use super::read::Others;
use super::sighting::{Outcome, What};

/// What a row of the output tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub(crate) enum Kind {
    /// The counts of an ad in a minute of a computed day.
    Cell = 0,
    /// Clicks of an ad in a minute of a day that was final before.
    Adjustment = 1,
    /// Clicks that belong to another night.
    OtherDays = 2,
    Control = 3,
    /// Rejected records; in place of the ad stands the code of the reason.
    Rejected = 4,
    /// All records that were read.
    Read = 5,
}

impl Kind {
    const ALL: [Kind; 6] = [Kind::Cell, Kind::Adjustment, Kind::OtherDays, Kind::Control, Kind::Rejected, Kind::Read];
}

/// `kind` (Int8, see [`Kind`]), `minute` (Int64, minutes since the epoch), `ad_id` (dictionary of Utf8), and the counts
/// `clicks`, `late`, `duplicates`, `far_duplicates`, `late_duplicates` (Int64). What a kind of row has no use for is 0 or
/// empty. Nothing is null.
pub(crate) fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let ad = DataType::Dictionary(DataType::UInt32.into(), DataType::Utf8.into());
        let count = |name: &str| Field::new(name, DataType::Int64, false);
        Arc::new(Schema::new(vec![
            Field::new("kind", DataType::Int8, false),
            count("minute"),
            Field::new("ad_id", ad, false),
            count("clicks"),
            count("late"),
            count("duplicates"),
            count("far_duplicates"),
            count("late_duplicates"),
        ]))
    });
    SCHEMA.clone()
}

/// Everything as batches, made one by one: cells in the order of minutes and ads, adjustments likewise, then the rest.
pub(super) fn batches(outcomes: Outcomes) -> impl Iterator<Item = Result<RecordBatch>> {
    let Outcomes { mut slices, ads, others } = outcomes;
    let count = slices.count();
    let names: ArrayRef = Arc::new(StringArray::from_iter_values(ads.iter().map(|name| &**name)));
    let mut items = Vec::new();
    let cells = (0..count).map(move |slice| {
        slices.take(slice, &mut items)?;
        items.sort_unstable();
        let kind = if slice + 1 == count { Kind::Adjustment } else { Kind::Cell };
        let mut rows = Rows::default();
        for cell in items.chunk_by(|a, b| a.cell() == b.cell()) {
            let mut counts = [0; What::KINDS];
            for outcome in cell {
                counts[outcome.what()] += 1;
            }
            rows.push(kind, cell[0].cell(), counts);
        }
        rows.finish(names.clone())
    });
    cells.chain(std::iter::once_with(move || rest(&others)))
}

fn rest(others: &Others) -> Result<RecordBatch> {
    let mut rows = Rows::default();
    let mut names = vec![""];
    let mut push = |kind, ad: usize, count| {
        rows.kinds.push(kind as i8);
        rows.minutes.push(0);
        rows.ads.push(ad as u32);
        for (column, count) in rows.counts.iter_mut().zip([count, 0, 0, 0, 0]) {
            column.push(count as i64);
        }
    };
    push(Kind::Read, 0, others.rows);
    push(Kind::OtherDays, 0, others.other_days);
    push(Kind::Control, 0, others.control);
    for (code, count) in &others.rejected {
        names.push(code);
        push(Kind::Rejected, names.len() - 1, *count);
    }
    rows.finish(Arc::new(StringArray::from(names)))
}

/// Columns of a batch.
#[derive(Debug, Default)]
struct Rows {
    kinds: Vec<i8>,
    minutes: Vec<i64>,
    ads: Vec<u32>,
    counts: [Vec<i64>; 5],
}

impl Rows {
    #[inline]
    fn push(&mut self, kind: Kind, cell: u64, counts: [i64; What::KINDS]) {
        let [counted, late, duplicates, far, late_duplicates] = counts;
        self.kinds.push(kind as i8);
        self.minutes.push(Outcome::minute_of(cell).number());
        self.ads.push(Outcome::ad_of(cell));
        let counts = [counted + late, late, duplicates + far + late_duplicates, far, late_duplicates];
        for (column, count) in self.counts.iter_mut().zip(counts) {
            column.push(count);
        }
    }

    fn finish(self, names: ArrayRef) -> Result<RecordBatch> {
        let ads = DictionaryArray::<UInt32Type>::try_new(UInt32Array::from(self.ads), names)?;
        let kinds: ArrayRef = Arc::new(Int8Array::from(self.kinds));
        let minutes: ArrayRef = Arc::new(Int64Array::from(self.minutes));
        let counts = self.counts.into_iter().map(|column| Arc::new(Int64Array::from(column)) as ArrayRef);
        let columns = [kinds, minutes, Arc::new(ads)].into_iter().chain(counts).collect();
        Ok(RecordBatch::try_new(schema(), columns)?)
    }
}

/// One batch of results, typed.
#[derive(Debug)]
pub(crate) struct Tallies<'a> {
    kinds: &'a Int8Array,
    minutes: &'a Int64Array,
    ads: &'a DictionaryArray<UInt32Type>,
    names: &'a StringArray,
    counts: [&'a Int64Array; 5],
}

/// One row of results.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TallyRow {
    pub(crate) kind: Kind,
    pub(crate) minute: Minute,
    /// Place in [`Tallies::names`].
    pub(crate) ad: u32,
    pub(crate) clicks: u64,
    pub(crate) late: u64,
    pub(crate) duplicates: u64,
    pub(crate) far_duplicates: u64,
    pub(crate) late_duplicates: u64,
}

impl<'a> Tallies<'a> {
    /// # Errors
    /// The batch is not of [`schema`].
    pub(crate) fn of(batch: &'a RecordBatch) -> Result<Self> {
        let typed = || -> Option<Self> {
            let count = |column: usize| batch.column(column).as_primitive_opt::<Int64Type>();
            let ads = batch.column(2).as_dictionary_opt::<UInt32Type>()?;
            Some(Tallies {
                kinds: batch.column(0).as_primitive_opt::<Int8Type>()?,
                minutes: count(1)?,
                ads,
                names: ads.values().as_string_opt()?,
                counts: [count(3)?, count(4)?, count(5)?, count(6)?, count(7)?],
            })
        };
        let whole = batch.num_columns() == 8 && batch.columns().iter().all(|column| column.null_count() == 0);
        let known = |tallies: &Self| tallies.kinds.values().iter().all(|kind| Kind::ALL.get(*kind as usize).is_some());
        let wrong = || DataFusionError::Internal("results have other columns than they are documented with".to_owned());
        whole.then(typed).flatten().filter(known).ok_or_else(wrong)
    }

    pub(crate) fn names(&self) -> &'a StringArray {
        self.names
    }

    /// The names as they are shared by batches.
    pub(crate) fn words(&self) -> &'a ArrayRef {
        self.ads.values()
    }

    pub(crate) fn rows(&self) -> impl Iterator<Item = TallyRow> {
        (0..self.kinds.len()).map(|row| {
            let count = |column: usize| self.counts[column].value(row) as u64;
            TallyRow {
                kind: Kind::ALL[self.kinds.value(row) as usize],
                minute: Minute::from_number(self.minutes.value(row)),
                ad: self.ads.keys().value(row),
                clicks: count(0),
                late: count(1),
                duplicates: count(2),
                far_duplicates: count(3),
                late_duplicates: count(4),
            }
        })
    }
}
