//! Reading published tables back.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{Date32Type, Int32Type, Int64Type, TimestampMillisecondType};
use bytes::Bytes;
use clicks::event::Class;
use clicks::tables::columns::*;
use clicks::time::{Day, Timestamp};
use clicks::window::Minute;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder,
};
use parquet::file::metadata::FileMetaData;

use super::{AdjustmentRow, META_VERSION, VERSION};
use crate::error::TableError;
use crate::record::{ads_as_words, same_words};
use crate::rows::{Cell, Numbers, Rows};

/// Rows that are read at a time.
const CHUNK_ROWS: usize = 64 * 1024;

/// Reads a published table, in the order of its rows.
pub(crate) fn decode(key: &str, bytes: Bytes) -> Result<Rows, TableError> {
    let mut numbers = Numbers::default();
    let mut cells = Vec::new();
    let mut last: Option<(StringArray, Vec<u32>)> = None;
    for batch in read(key, bytes, Words::AsDictionaries)? {
        let batch = batch.map_err(|e| TableError::format(key, e))?;
        let view = View { key, batch: &batch };
        let (start, class) = (view.times(PERIOD_START)?, view.text(CLASS)?);
        let (clicks, duplicates, late) = (view.counts(CLICKS)?, view.counts(DUPLICATES)?, view.counts(LATE)?);
        let ads = view.column(AD_ID)?.as_dictionary_opt::<Int32Type>().ok_or_else(|| view.wrong(AD_ID))?;
        // The batches of a row group share a dictionary.
        let words: &StringArray = ads.values().as_string_opt().ok_or_else(|| view.wrong(AD_ID))?;
        let of_words = match last.take() {
            Some((last, places)) if same_words(&last, words) => places,
            _ => (0..words.len()).map(|word| numbers.of(words.value(word))).collect(),
        };
        for i in 0..batch.num_rows() {
            view.class(class.value(i))?;
            let start = Timestamp::from_millis(start.value(i));
            let minute = Minute::of(start);
            let number = i32::try_from(minute.number()).ok().filter(|_| minute.start() == start);
            cells.push(Cell {
                start: number
                    .ok_or_else(|| TableError::format(key, format!("a period begins within a minute, at {start}")))?,
                ad: of_words[ads.keys().value(i) as usize],
                clicks: clicks.value(i) as u64,
                duplicates: duplicates.value(i) as u64,
                late: late.value(i) as u64,
            });
        }
        last = Some((words.clone(), of_words));
    }
    Ok(Rows::of(numbers, cells))
}

/// The rows of a published table, as they lie in its file: by period, then by ad.
#[derive(Debug)]
pub struct TableRows {
    key: String,
    reader: ParquetRecordBatchReader,
}

/// Some rows of a table, one after the other.
#[derive(Debug)]
pub struct TableBatch {
    start: TimestampMillisecondArray,
    ad: StringArray,
    clicks: Int64Array,
    duplicates: Int64Array,
}

/// A row of a published table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableRow<'a> {
    pub start: Timestamp,
    pub ad: &'a str,
    /// What is billed, adjustments not included.
    pub clicks: u64,
    /// What was dropped besides.
    pub duplicates: u64,
}

impl TableRows {
    pub(crate) fn read(key: &str, bytes: Bytes) -> Result<Self, TableError> {
        Ok(TableRows { key: key.to_owned(), reader: read(key, bytes, Words::AsTheyAre)? })
    }

    /// The next rows; `None` at the end.
    ///
    /// # Errors
    /// When the file is not what a release like this one writes.
    pub fn next_batch(&mut self) -> Result<Option<TableBatch>, TableError> {
        let Some(batch) = self.reader.next() else { return Ok(None) };
        let batch = batch.map_err(|e| TableError::format(&self.key, e))?;
        let view = View { key: &self.key, batch: &batch };
        for class in view.text(CLASS)?.iter().flatten() {
            view.class(class)?;
        }
        let (start, ad) = (view.times(PERIOD_START)?.clone(), view.text(AD_ID)?.clone());
        let (clicks, duplicates) = (view.counts(CLICKS)?.clone(), view.counts(DUPLICATES)?.clone());
        Ok(Some(TableBatch { start, ad, clicks, duplicates }))
    }
}

impl TableBatch {
    pub fn rows(&self) -> impl Iterator<Item = TableRow<'_>> {
        (0..self.start.len()).map(|n| TableRow {
            start: Timestamp::from_millis(self.start.value(n)),
            ad: self.ad.value(n),
            clicks: self.clicks.value(n) as u64,
            duplicates: self.duplicates.value(n) as u64,
        })
    }
}

/// Reads the adjustments of a night.
pub(crate) fn decode_adjustments(key: &str, bytes: Bytes) -> Result<Vec<AdjustmentRow>, TableError> {
    let mut names = Numbers::default();
    let mut rows = Vec::new();
    for batch in read(key, bytes, Words::AsTheyAre)? {
        let batch = batch.map_err(|e| TableError::format(key, e))?;
        let view = View { key, batch: &batch };
        let (start, ad, class) = (view.times(PERIOD_START)?, view.text(AD_ID)?, view.text(CLASS)?);
        let (clicks, night) = (view.counts(CLICKS)?, view.column(NIGHT)?.as_primitive_opt::<Date32Type>());
        let night = night.ok_or_else(|| view.wrong(NIGHT))?;
        for i in 0..batch.num_rows() {
            rows.push(AdjustmentRow {
                period_start: Timestamp::from_millis(start.value(i)),
                ad: names.shared(ad.value(i)),
                class: view.class(class.value(i))?,
                clicks: clicks.value(i) as u64,
                night: Day::from_number(night.value(i)),
            });
        }
    }
    Ok(rows)
}

/// How the names of ads are read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Words {
    AsTheyAre,
    /// Each once per row group.
    AsDictionaries,
}

pub(super) fn check_version(key: &str, metadata: &FileMetaData) -> Result<(), TableError> {
    let pairs = metadata.key_value_metadata().into_iter().flatten();
    let version =
        pairs.filter(|pair| pair.key == META_VERSION).find_map(|pair| pair.value.as_deref()).unwrap_or("none");
    match version {
        VERSION => Ok(()),
        _ => {
            let reason = format!("it has format version {version}; this release reads {VERSION}: update the release");
            Err(TableError::format(key, reason))
        }
    }
}

fn read(key: &str, bytes: Bytes, words: Words) -> Result<ParquetRecordBatchReader, TableError> {
    let wrong = |error: String| TableError::format(key, error);
    let options = ArrowReaderOptions::new();
    let mut metadata = ArrowReaderMetadata::load(&bytes, options.clone()).map_err(|e| wrong(e.to_string()))?;
    check_version(key, metadata.metadata().file_metadata())?;
    if words == Words::AsDictionaries {
        let options = options.with_schema(Arc::new(ads_as_words(metadata.schema())));
        let parsed = metadata.metadata().clone();
        metadata = ArrowReaderMetadata::try_new(parsed, options).map_err(|e| wrong(e.to_string()))?;
    }
    let builder = ParquetRecordBatchReaderBuilder::new_with_metadata(bytes, metadata).with_batch_size(CHUNK_ROWS);
    builder.build().map_err(|e| wrong(e.to_string()))
}

/// Columns of a batch by name: readers ignore columns that they do not know.
struct View<'a> {
    key: &'a str,
    batch: &'a RecordBatch,
}

impl<'a> View<'a> {
    fn wrong(&self, column: &str) -> TableError {
        TableError::format(self.key, format!("its column `{column}` is missing or of another type"))
    }
    fn column(&self, name: &str) -> Result<&'a ArrayRef, TableError> {
        self.batch.column_by_name(name).filter(|c| c.null_count() == 0).ok_or_else(|| self.wrong(name))
    }
    fn times(&self, name: &str) -> Result<&'a TimestampMillisecondArray, TableError> {
        self.column(name)?.as_primitive_opt::<TimestampMillisecondType>().ok_or_else(|| self.wrong(name))
    }
    fn counts(&self, name: &str) -> Result<&'a Int64Array, TableError> {
        self.column(name)?.as_primitive_opt::<Int64Type>().ok_or_else(|| self.wrong(name))
    }
    fn text(&self, name: &str) -> Result<&'a StringArray, TableError> {
        self.column(name)?.as_string_opt().ok_or_else(|| self.wrong(name))
    }
    fn class(&self, name: &str) -> Result<Class, TableError> {
        let unknown = || TableError::format(self.key, format!("class `{name}` is unknown; update the release"));
        Class::from_name(name).ok_or_else(unknown)
    }
}
