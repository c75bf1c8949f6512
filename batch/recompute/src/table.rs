//! The published tables as rows and as Parquet bytes. The columns are documented in [`clicks::tables::columns`].
//!
//! The bytes are a function of the rows, the revision and the release: no wall time, no random name, no thread count.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::array::{Date32Array, Int32Array, Int64Array};
use arrow::datatypes::{DataType, Date32Type, Field, Int64Type, Schema, SchemaRef, TimeUnit, TimestampMillisecondType};
use bytes::Bytes;
use clicks::event::Class;
use clicks::ledger::ChangeReason;
use clicks::tables::columns::*;
use clicks::time::{Day, Timestamp};
use clicks::window::Grain;
use hashbrown::HashSet;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;

use crate::error::TableError;

/// Major version of the tables, in their footers under [`META_VERSION`].
const VERSION: &str = "1";
const META_VERSION: &str = "twofold.version";

/// One row of a grain's table, without what is the same in all rows of the file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) period_start: Timestamp,
    pub(crate) ad: Arc<str>,
    pub(crate) class: Class,
    pub(crate) clicks: u64,
    pub(crate) duplicates: u64,
    pub(crate) late: u64,
}

/// Clicks of one ad and minute that were found after their day was final.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct AdjustmentRow {
    pub(crate) period_start: Timestamp,
    pub(crate) ad: Arc<str>,
    pub(crate) class: Class,
    pub(crate) clicks: u64,
    pub(crate) night: Day,
}

/// What a further revision has changed for one ad on its day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChangeRow {
    pub(crate) ad: Arc<str>,
    pub(crate) class: Class,
    /// Clicks that were billed before, and that are billed now.
    pub(crate) before: u64,
    pub(crate) after: u64,
}

/// What all rows of a file share.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sheet {
    pub(crate) grain: Grain,
    pub(crate) revision: u32,
    pub(crate) rules_version: u32,
}

fn time() -> DataType {
    DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into()))
}

/// Schema of a published table; of its convenience copy with the column `adjustment`.
fn schema(adjusted: bool) -> SchemaRef {
    let mut fields = vec![
        Field::new(PERIOD_START, time(), false),
        Field::new(PERIOD_END, time(), false),
        Field::new(AD_ID, DataType::Utf8, false),
        Field::new(CLASS, DataType::Utf8, false),
        Field::new(CLICKS, DataType::Int64, false),
        Field::new(DUPLICATES, DataType::Int64, false),
        Field::new(LATE, DataType::Int64, false),
        Field::new(REVISION, DataType::Int32, false),
        Field::new(RULES_VERSION, DataType::Int32, false),
    ];
    if adjusted {
        fields.push(Field::new(ADJUSTMENT, DataType::Int64, false));
    }
    Arc::new(Schema::new(fields))
}

fn adjustments_schema() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new(PERIOD_START, time(), false),
        Field::new(AD_ID, DataType::Utf8, false),
        Field::new(CLASS, DataType::Utf8, false),
        Field::new(CLICKS, DataType::Int64, false),
        Field::new(NIGHT, DataType::Date32, false),
    ]))
}

/// A published table. `rows` are sorted.
pub(crate) fn encode(rows: &[Row], sheet: Sheet, release: &str) -> Result<Bytes, TableError> {
    write(schema(false), columns(rows, sheet), release, None)
}

/// The convenience copy of a table: each row with its adjustments; `mark` is what the copy was made from.
pub(crate) fn encode_current(
    rows: &[(Row, u64)],
    sheet: Sheet,
    release: &str,
    mark: KeyValue,
) -> Result<Bytes, TableError> {
    let plain: Vec<Row> = rows.iter().map(|(row, _)| row.clone()).collect();
    let mut columns = columns(&plain, sheet);
    columns.push(counts(rows.iter().map(|(_, adjustment)| *adjustment)));
    write(schema(true), columns, release, Some(mark))
}

/// Adjustments of one night. `rows` are sorted.
pub(crate) fn encode_adjustments(rows: &[AdjustmentRow], release: &str) -> Result<Bytes, TableError> {
    let columns: Vec<ArrayRef> = vec![
        times(rows.iter().map(|row| row.period_start)),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &*row.ad))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.class.name()))),
        counts(rows.iter().map(|row| row.clicks)),
        Arc::new(Date32Array::from_iter_values(rows.iter().map(|row| row.night.number()))),
    ];
    write(adjustments_schema(), columns, release, None)
}

/// What a revision has changed. `rows` are sorted.
pub(crate) fn encode_changes(rows: &[ChangeRow], reason: ChangeReason, release: &str) -> Result<Bytes, TableError> {
    let fields = vec![
        Field::new(AD_ID, DataType::Utf8, false),
        Field::new(CLASS, DataType::Utf8, false),
        Field::new(CLICKS_BEFORE, DataType::Int64, false),
        Field::new(CLICKS_AFTER, DataType::Int64, false),
        Field::new(REASON, DataType::Utf8, false),
    ];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &*row.ad))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.class.name()))),
        counts(rows.iter().map(|row| row.before)),
        counts(rows.iter().map(|row| row.after)),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|_| reason.name()))),
    ];
    write(Arc::new(Schema::new(fields)), columns, release, None)
}

/// The rows as a batch for queries: `period_start` (milliseconds), `ad_id`, `class` and the three counts.
pub(crate) fn query_batch(rows: &[Row]) -> Result<RecordBatch, TableError> {
    let fields = vec![
        Field::new(PERIOD_START, DataType::Int64, false),
        Field::new(AD_ID, DataType::Utf8, false),
        Field::new(CLASS, DataType::Utf8, false),
        Field::new(CLICKS, DataType::Int64, false),
        Field::new(DUPLICATES, DataType::Int64, false),
        Field::new(LATE, DataType::Int64, false),
    ];
    let columns: Vec<ArrayRef> = vec![
        Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.period_start.as_millis()))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &*row.ad))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.class.name()))),
        counts(rows.iter().map(|row| row.clicks)),
        counts(rows.iter().map(|row| row.duplicates)),
        counts(rows.iter().map(|row| row.late)),
    ];
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(|e| TableError::format("minutes", e))
}

fn columns(rows: &[Row], sheet: Sheet) -> Vec<ArrayRef> {
    let width = sheet.grain.width();
    let same = |value: u32| Arc::new(Int32Array::from_value(value as i32, rows.len()));
    vec![
        times(rows.iter().map(|row| row.period_start)),
        times(rows.iter().map(|row| row.period_start + width)),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &*row.ad))),
        Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.class.name()))),
        counts(rows.iter().map(|row| row.clicks)),
        counts(rows.iter().map(|row| row.duplicates)),
        counts(rows.iter().map(|row| row.late)),
        same(sheet.revision),
        same(sheet.rules_version),
    ]
}

fn times(values: impl Iterator<Item = Timestamp>) -> ArrayRef {
    let millis = TimestampMillisecondArray::from_iter_values(values.map(Timestamp::as_millis));
    Arc::new(millis.with_timezone("UTC"))
}

fn counts(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values.map(|count| count as i64)))
}

fn write(
    schema: SchemaRef,
    columns: Vec<ArrayRef>,
    release: &str,
    mark: Option<KeyValue>,
) -> Result<Bytes, TableError> {
    let wrong = |error: String| TableError::format("to publish", error);
    let batch = RecordBatch::try_new(schema.clone(), columns).map_err(|e| wrong(e.to_string()))?;
    let meta = [KeyValue::new(META_VERSION.to_owned(), VERSION.to_owned())].into_iter().chain(mark).collect();
    let level = ZstdLevel::try_new(3).expect("3 is a level of zstd");
    // No sorting columns are declared: DataFusion groups several times slower over rows that it believes sorted.
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_created_by(format!("twofold {release}"))
        .set_key_value_metadata(Some(meta))
        .build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, schema, Some(properties)).map_err(|e| wrong(e.to_string()))?;
    writer.write(&batch).map_err(|e| wrong(e.to_string()))?;
    writer.close().map_err(|e| wrong(e.to_string()))?;
    Ok(bytes.into())
}

/// Reads a published table.
pub(crate) fn decode(key: &str, bytes: Bytes) -> Result<Vec<Row>, TableError> {
    let mut names = Names::default();
    let mut rows = Vec::new();
    for batch in read(key, bytes)? {
        let view = View { key, batch: &batch };
        view.append_rows(view.times(PERIOD_START)?.values(), &mut names, &mut rows)?;
    }
    Ok(rows)
}

/// Reads the adjustments of a night.
pub(crate) fn decode_adjustments(key: &str, bytes: Bytes) -> Result<Vec<AdjustmentRow>, TableError> {
    let mut names = Names::default();
    let mut rows = Vec::new();
    for batch in read(key, bytes)? {
        let view = View { key, batch: &batch };
        let (start, ad, class) = (view.times(PERIOD_START)?, view.text(AD_ID)?, view.text(CLASS)?);
        let (clicks, night) = (view.counts(CLICKS)?, view.column(NIGHT)?.as_primitive_opt::<Date32Type>());
        let night = night.ok_or_else(|| view.wrong(NIGHT))?;
        for i in 0..batch.num_rows() {
            rows.push(AdjustmentRow {
                period_start: Timestamp::from_millis(start.value(i)),
                ad: names.get(ad.value(i)),
                class: view.class(class.value(i))?,
                clicks: clicks.value(i) as u64,
                night: Day::from_number(night.value(i)),
            });
        }
    }
    Ok(rows)
}

/// Rows of the result of a query over [`query_batch`], with the same columns.
pub(crate) fn rows_of_query(batches: &[RecordBatch]) -> Result<Vec<Row>, TableError> {
    let mut names = Names::default();
    let mut rows = Vec::new();
    for batch in batches {
        let view = View { key: "rolled up", batch };
        view.append_rows(view.counts(PERIOD_START)?.values(), &mut names, &mut rows)?;
    }
    Ok(rows)
}

fn read(key: &str, bytes: Bytes) -> Result<Vec<RecordBatch>, TableError> {
    let wrong = |error: String| TableError::format(key, error);
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| wrong(e.to_string()))?;
    let pairs = builder.metadata().file_metadata().key_value_metadata();
    let version = pairs.into_iter().flatten().find(|pair| pair.key == META_VERSION);
    let version = version.and_then(|pair| pair.value.as_deref()).unwrap_or("none");
    if version != VERSION {
        return Err(wrong(format!(
            "it has format version {version}; this release reads {VERSION}: update the release"
        )));
    }
    let reader = builder.build().map_err(|e| wrong(e.to_string()))?;
    reader.collect::<Result<_, _>>().map_err(|e| wrong(e.to_string()))
}

/// Columns of a batch by name: readers ignore columns that they do not know.
struct View<'a> {
    key: &'a str,
    batch: &'a RecordBatch,
}

impl<'a> View<'a> {
    /// Appends the rows of a grain's table; their period starts in milliseconds are given apart, as a query and a file
    /// hold them in different types.
    fn append_rows(&self, starts: &[i64], names: &mut Names, rows: &mut Vec<Row>) -> Result<(), TableError> {
        let (ad, class) = (self.text(AD_ID)?, self.text(CLASS)?);
        let (clicks, duplicates, late) = (self.counts(CLICKS)?, self.counts(DUPLICATES)?, self.counts(LATE)?);
        for (i, start) in starts.iter().enumerate() {
            rows.push(Row {
                period_start: Timestamp::from_millis(*start),
                ad: names.get(ad.value(i)),
                class: self.class(class.value(i))?,
                clicks: clicks.value(i) as u64,
                duplicates: duplicates.value(i) as u64,
                late: late.value(i) as u64,
            });
        }
        Ok(())
    }
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

/// One shared text per ad.
#[derive(Default)]
struct Names(HashSet<Arc<str>, foldhash::fast::RandomState>);

impl Names {
    fn get(&mut self, name: &str) -> Arc<str> {
        self.0.get_or_insert_with(name, |name| Arc::from(name)).clone()
    }
}
