//! Published tables in memory.
//!
//! A day's table is kept by ad, since most questions are about few of them, and its sums over all ads beside it, so that
//! the total of a day costs one number per period, however many ads there are.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Int64Type, TimeUnit, TimestampMillisecondType};
use arrow::error::ArrowError;
use bytes::Bytes;
use clicks::event::Class;
use clicks::id::AdId;
use clicks::ledger::{FileRef, sha256};
use clicks::tables::columns;
use clicks::time::Timestamp;
use clicks::view::{Asked, Cell};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::errors::ParquetError;

/// Major version of the tables, and its name in their footers.
const VERSION: &str = "1";
const META_VERSION: &str = "twofold.version";

/// A published file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TableError {
    #[error("`{0}` is not there, though the ledger names it")]
    Missing(String),
    #[error("`{key}` does not hold what the ledger says ({what}); restore the file from a copy or recompute the day")]
    Changed { key: String, what: &'static str },
    #[error("`{key}` is no Parquet file that can be read: {source}")]
    Parquet { key: String, source: ParquetError },
    #[error("`{key}` cannot be read: {source}")]
    Arrow { key: String, source: ArrowError },
    #[error("`{key}`: {what}; update the release")]
    Content { key: String, what: String },
    #[error("{0}")]
    Fetch(#[from] platform::objects::ObjectError),
    #[error("no answer from the object store within {0:?}")]
    Timeout(std::time::Duration),
}

/// Clicks of one file: of a day's revision, or of a night's adjustments.
#[derive(Debug)]
pub(crate) struct Table {
    /// Sorted.
    ads: Vec<AdId>,
    /// Where the cells of each ad begin; one more than there are ads.
    begins: Vec<usize>,
    /// By ad, then by time.
    cells: Vec<(Timestamp, u64)>,
    /// Of the clicks of each cell.
    late: Vec<u32>,
    /// Clicks over all ads, and how many of them came late, by time.
    totals: Vec<(Timestamp, u64, u64)>,
}

impl Table {
    /// Reads a file, once it is shown to be what the ledger names.
    pub(crate) fn read(file: &FileRef, bytes: Bytes) -> Result<Self, TableError> {
        let changed = |what| TableError::Changed { key: file.key.clone(), what };
        if bytes.len() as u64 != file.bytes {
            return Err(changed("another size"));
        }
        if sha256(&bytes) != file.sha256 {
            return Err(changed("another hash"));
        }
        let mut rows = rows(&file.key, bytes)?;
        if rows.len() as u64 != file.rows {
            return Err(changed("another number of rows"));
        }
        rows.sort_unstable_by(|a, b| (&a.ad, a.start).cmp(&(&b.ad, b.start)));
        Ok(Self::of(rows))
    }

    fn of(rows: Vec<Row>) -> Self {
        let (cells, late) = (Vec::with_capacity(rows.len()), Vec::with_capacity(rows.len()));
        let mut table = Table { ads: Vec::new(), begins: Vec::new(), cells, late, totals: Vec::new() };
        let mut totals = std::collections::BTreeMap::<Timestamp, (u64, u64)>::new();
        for row in rows {
            let total = totals.entry(row.start).or_default();
            *total = (total.0 + row.clicks, total.1 + u64::from(row.late));
            if table.ads.last() != Some(&row.ad) {
                table.ads.push(row.ad);
                table.begins.push(table.cells.len());
            }
            table.cells.push((row.start, row.clicks));
            table.late.push(row.late);
        }
        table.begins.push(table.cells.len());
        table.totals = totals.into_iter().map(|(start, (clicks, late))| (start, clicks, late)).collect();
        table
    }

    pub(crate) fn bytes(&self) -> usize {
        bytes_of(self.cells.len(), self.totals.len(), self.ads.len())
    }

    /// The cells that a question is about. One after the other: a list of them would be larger than the table.
    pub(crate) fn cells<'a>(&'a self, asked: &'a Asked) -> Box<dyn Iterator<Item = Cell<'a>> + Send + 'a> {
        match asked {
            Asked::Total => {
                let totals = self.totals.iter();
                Box::new(totals.map(|(start, clicks, late)| Cell {
                    start: *start,
                    ad: None,
                    clicks: *clicks,
                    late: *late,
                }))
            }
            Asked::Ads(ads) | Asked::EachOf(ads) => Box::new(self.of_ads(ads)),
            Asked::Groups(groups) if let Some(ads) = groups.few() => Box::new(self.of_ads(ads)),
            Asked::Groups(_) | Asked::EachAd => Box::new((0..self.ads.len()).flat_map(|n| self.of_ad(n))),
        }
    }

    fn of_ads<'a>(&'a self, ads: &'a [AdId]) -> impl Iterator<Item = Cell<'a>> {
        ads.iter().filter_map(|ad| self.ads.binary_search(ad).ok()).flat_map(|n| self.of_ad(n))
    }

    fn of_ad(&self, n: usize) -> impl Iterator<Item = Cell<'_>> {
        let (ad, range) = (Some(&self.ads[n]), self.begins[n]..self.begins[n + 1]);
        self.cells[range.clone()].iter().zip(&self.late[range]).map(move |((start, clicks), late)| Cell {
            start: *start,
            ad,
            clicks: *clicks,
            late: u64::from(*late),
        })
    }
}

/// About what a table takes in memory.
pub(crate) fn bytes_of(cells: usize, periods: usize, ads: usize) -> usize {
    20 * cells + 24 * periods + 96 * ads
}

struct Row {
    start: Timestamp,
    ad: AdId,
    clicks: u64,
    late: u32,
}

fn rows(key: &str, bytes: Bytes) -> Result<Vec<Row>, TableError> {
    let parquet = |source| TableError::Parquet { key: key.to_owned(), source };
    // The types that the file's own schema has, not those that its writer happened to hold in memory.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, options).map_err(parquet)?;
    let meta = builder.metadata().file_metadata().key_value_metadata();
    let version =
        meta.into_iter().flatten().find(|pair| pair.key == META_VERSION).and_then(|pair| pair.value.as_deref());
    if version != Some(VERSION) {
        let what = format!("its version is {}, this release reads version {VERSION}", version.unwrap_or("missing"));
        return Err(TableError::Content { key: key.to_owned(), what });
    }
    let wanted = [columns::PERIOD_START, columns::AD_ID, columns::CLASS, columns::CLICKS, columns::LATE];
    let mask = ProjectionMask::columns(builder.parquet_schema(), wanted);
    let reader = builder.with_projection(mask).with_batch_size(8_192).build().map_err(parquet)?;
    let mut rows = Vec::new();
    for batch in reader {
        let batch = batch.map_err(|source| TableError::Arrow { key: key.to_owned(), source })?;
        read_batch(key, &batch, &mut rows)?;
    }
    Ok(rows)
}

fn read_batch(key: &str, batch: &RecordBatch, rows: &mut Vec<Row>) -> Result<(), TableError> {
    let wrong = |what: String| TableError::Content { key: key.to_owned(), what };
    let column = |name: &str, wanted: &DataType| {
        let found = batch.column_by_name(name).ok_or_else(|| wrong(format!("it has no column `{name}`")))?;
        if found.null_count() > 0 {
            return Err(wrong(format!("column `{name}` holds nulls")));
        }
        cast(found, wanted).map_err(|source| TableError::Arrow { key: key.to_owned(), source })
    };
    let starts = column(columns::PERIOD_START, &DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())))?;
    let ads = column(columns::AD_ID, &DataType::Utf8)?;
    let classes = column(columns::CLASS, &DataType::Utf8)?;
    let clicks = column(columns::CLICKS, &DataType::Int64)?;
    // Clicks that were found later have no such column: all of them are adjustments.
    let late = batch.column_by_name(columns::LATE).map(|_| column(columns::LATE, &DataType::Int64)).transpose()?;
    let late = late.as_ref().map(|late| late.as_primitive::<Int64Type>());
    let (starts, clicks) = (starts.as_primitive::<TimestampMillisecondType>(), clicks.as_primitive::<Int64Type>());
    let (ads, classes) = (ads.as_string::<i32>(), classes.as_string::<i32>());
    for n in 0..batch.num_rows() {
        // Adding up a class that is not known here could show invalid traffic as billed.
        if Class::from_name(classes.value(n)).is_none() {
            return Err(wrong(format!("class `{}` is not known", classes.value(n))));
        }
        // Rows of one ad follow one another in coarse grains: the name is shared, not copied.
        let ad = match rows.last() {
            Some(last) if last.ad.as_str() == ads.value(n) => last.ad.clone(),
            _ => AdId::parse(ads.value(n)).map_err(|error| wrong(format!("an ad id {error}")))?,
        };
        let clicks = u64::try_from(clicks.value(n)).map_err(|_| wrong(format!("{} clicks", clicks.value(n))))?;
        let late = late.map_or(0, |late| late.value(n));
        let late = u32::try_from(late).map_err(|_| wrong(format!("{late} late clicks")))?;
        rows.push(Row { start: Timestamp::from_millis(starts.value(n)), ad, clicks, late });
    }
    Ok(())
}
