//! The published tables as rows and as Parquet bytes. The columns are documented in [`clicks::tables::columns`].
//!
//! The bytes are a function of the rows, the revision and the release: no wall time, no random name, no thread count.

mod read;

use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use bytes::Bytes;
use clicks::event::Class;
use clicks::ledger::ChangeReason;
use clicks::tables::columns::*;
use clicks::time::{Day, Timestamp};
use clicks::window::{Grain, Minute};
use parquet::arrow::{ArrowSchemaConverter, ArrowWriter, add_encoded_arrow_schema_to_metadata};
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::{DataType as ParquetType, Int32Type as ParquetInt32, Int64Type as ParquetInt64};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, PageIndexPolicy, ParquetMetaDataReader};
use parquet::file::properties::{WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::{SerializedFileWriter, SerializedRowGroupWriter};
use parquet::schema::types::ColumnPath;

use crate::error::TableError;
use crate::rows::{Cell, Numbers, Rows};
use crate::words::encode_words;
use read::check_version;

pub use read::{TableBatch, TableRow, TableRows};
pub(crate) use read::{decode, decode_adjustments};

/// Rows of a row group.
const GROUP_ROWS: usize = 1 << 20;

/// Major version of the tables, in their footers under [`META_VERSION`].
const VERSION: &str = "1";
const META_VERSION: &str = "twofold.version";

/// Clicks of one ad and minute that were found after their day was final.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct AdjustmentRow {
    pub period_start: Timestamp,
    pub ad: Arc<str>,
    pub class: Class,
    pub clicks: u64,
    /// The night that has found them.
    pub night: Day,
}

impl AdjustmentRow {
    /// Adjustments as rows by minute, sorted, whichever night has found them.
    pub(crate) fn rows(adjustments: &[AdjustmentRow]) -> Rows {
        let mut numbers = Numbers::default();
        let cell = |row: &AdjustmentRow| {
            let start = Minute::of(row.period_start).number() as i32;
            Cell { start, ad: numbers.of(&row.ad), clicks: row.clicks, ..Cell::default() }
        };
        let cells = adjustments.iter().map(cell).collect();
        Rows::of(numbers, cells).added_up()
    }
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
pub fn schema(adjusted: bool) -> SchemaRef {
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
pub(crate) fn encode(rows: &Rows, sheet: Sheet, release: &str) -> Result<Bytes, TableError> {
    write_rows(rows, None, sheet, release, None)
}

/// The convenience copy of a table: each row with its adjustments; `mark` is what the copy was made from.
pub(crate) fn encode_current(
    rows: &Rows,
    adjustments: &[u64],
    sheet: Sheet,
    release: &str,
    mark: KeyValue,
) -> Result<Bytes, TableError> {
    write_rows(rows, Some(adjustments), sheet, release, Some(mark))
}

/// The convenience copy of a published table without adjustments: the columns as they are encoded already, and one of
/// zeros.
pub(crate) fn copy_unadjusted(key: &str, table: &Bytes, release: &str, mark: KeyValue) -> Result<Bytes, TableError> {
    let wrong = |error: ParquetError| TableError::format(key, error);
    let reader = ParquetMetaDataReader::new().with_page_index_policy(PageIndexPolicy::Optional);
    let metadata = reader.parse_and_finish(table).map_err(wrong)?;
    check_version(key, metadata.file_metadata())?;
    let schema = schema(true);
    let mut bytes = Vec::with_capacity(table.len());
    let mut writer = file_writer(&mut bytes, &schema, release, Some(mark)).map_err(wrong)?;
    for (group, rows) in metadata.row_groups().iter().enumerate() {
        let mut copy = writer.next_row_group().map_err(wrong)?;
        for (column, chunk) in rows.columns().iter().enumerate() {
            let encoded = ColumnCloseResult {
                bytes_written: chunk.compressed_size() as u64,
                rows_written: rows.num_rows() as u64,
                metadata: chunk.clone(),
                bloom_filter: None,
                column_index: metadata.column_index().map(|index| index[group][column].clone()),
                offset_index: metadata.offset_index().map(|index| index[group][column].clone()),
            };
            copy.append_column(table, encoded).map_err(wrong)?;
        }
        longs(&mut copy, (0..rows.num_rows()).map(|_| 0)).map_err(wrong)?;
        copy.close().map_err(wrong)?;
    }
    writer.close().map_err(wrong)?;
    Ok(bytes.into())
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
    write(adjustments_schema(), columns, release)
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
    write(Arc::new(Schema::new(fields)), columns, release)
}

/// The rows of a table, each with its adjustment if there are any.
fn write_rows(
    rows: &Rows,
    adjustments: Option<&[u64]>,
    sheet: Sheet,
    release: &str,
    mark: Option<KeyValue>,
) -> Result<Bytes, TableError> {
    let wrong = |error: ParquetError| TableError::format("to publish", error);
    let schema = schema(adjustments.is_some());
    let mut bytes = Vec::new();
    let mut writer = file_writer(&mut bytes, &schema, release, mark).map_err(wrong)?;
    for (group, cells) in rows.cells().chunks(GROUP_ROWS).enumerate() {
        let adjustments = adjustments.map(|all| &all[group * GROUP_ROWS..][..cells.len()]);
        write_group(&mut writer, rows.names(), cells, adjustments, sheet).map_err(wrong)?;
    }
    writer.close().map_err(wrong)?;
    Ok(bytes.into())
}

fn write_group(
    writer: &mut SerializedFileWriter<&mut Vec<u8>>,
    names: &[Arc<str>],
    cells: &[Cell],
    adjustments: Option<&[u64]>,
    sheet: Sheet,
) -> Result<(), ParquetError> {
    let schema = writer.schema_descr().clone();
    let mut group = writer.next_row_group()?;
    let width = sheet.grain.width();
    longs(&mut group, cells.iter().map(|cell| cell.period_start().as_millis()))?;
    longs(&mut group, cells.iter().map(|cell| (cell.period_start() + width).as_millis()))?;
    let ads: Vec<u32> = cells.iter().map(|cell| cell.ad).collect();
    let (ads, close) = encode_words(schema.column(2), names, &ads, zstd_level())?;
    group.append_column(&ads, close)?;
    let (classes, close) =
        encode_words(schema.column(3), &[Class::Valid.name().into()], &vec![0; cells.len()], zstd_level())?;
    group.append_column(&classes, close)?;
    longs(&mut group, cells.iter().map(|cell| cell.clicks as i64))?;
    longs(&mut group, cells.iter().map(|cell| cell.duplicates as i64))?;
    longs(&mut group, cells.iter().map(|cell| cell.late as i64))?;
    for value in [sheet.revision, sheet.rules_version] {
        column::<ParquetInt32>(&mut group, &vec![value as i32; cells.len()])?;
    }
    if let Some(adjustments) = adjustments {
        longs(&mut group, adjustments.iter().map(|clicks| *clicks as i64))?;
    }
    group.close()?;
    Ok(())
}

type Group<'a, 'b> = SerializedRowGroupWriter<'a, &'b mut Vec<u8>>;

fn longs(group: &mut Group<'_, '_>, values: impl Iterator<Item = i64>) -> Result<(), ParquetError> {
    column::<ParquetInt64>(group, &values.collect::<Vec<_>>())
}

fn column<T: ParquetType>(group: &mut Group<'_, '_>, values: &[T::T]) -> Result<(), ParquetError> {
    let next = group.next_column()?;
    let mut column = next.ok_or_else(|| ParquetError::General("there is a column too many".to_owned()))?;
    column.typed::<T>().write_batch(values, None, None)?;
    column.close()
}

/// A file of this schema, which readers of Arrow find in it again.
fn file_writer<'a>(
    bytes: &'a mut Vec<u8>,
    schema: &Schema,
    release: &str,
    mark: Option<KeyValue>,
) -> Result<SerializedFileWriter<&'a mut Vec<u8>>, ParquetError> {
    let mut properties = properties(release, mark).build();
    add_encoded_arrow_schema_to_metadata(schema, &mut properties);
    let columns = ArrowSchemaConverter::new().convert(schema)?;
    SerializedFileWriter::new(bytes, columns.root_schema_ptr(), Arc::new(properties))
}

fn times(values: impl Iterator<Item = Timestamp>) -> ArrayRef {
    let millis = TimestampMillisecondArray::from_iter_values(values.map(Timestamp::as_millis));
    Arc::new(millis.with_timezone("UTC"))
}

fn counts(values: impl Iterator<Item = u64>) -> ArrayRef {
    Arc::new(Int64Array::from_iter_values(values.map(|count| count as i64)))
}

fn zstd_level() -> ZstdLevel {
    ZstdLevel::try_new(3).expect("3 is a level of zstd")
}

/// How all tables are encoded. What is written is a function of the rows alone.
fn properties(release: &str, mark: Option<KeyValue>) -> WriterPropertiesBuilder {
    let meta = [KeyValue::new(META_VERSION.to_owned(), VERSION.to_owned())].into_iter().chain(mark).collect();
    // No sorting columns are declared: DataFusion groups several times slower over rows that it believes sorted.
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(zstd_level()))
        .set_created_by(format!("twofold {release}"))
        .set_key_value_metadata(Some(meta));
    // Small differences, or none: packed they are as small as through a dictionary, in a fraction of the time.
    let numbers = [PERIOD_START, PERIOD_END, CLICKS, DUPLICATES, LATE, REVISION, RULES_VERSION, ADJUSTMENT];
    numbers.into_iter().fold(properties, |properties, column| {
        let column = ColumnPath::from(column);
        properties
            .set_column_dictionary_enabled(column.clone(), false)
            .set_column_encoding(column, Encoding::DELTA_BINARY_PACKED)
    })
}

/// A small table.
fn write(schema: SchemaRef, columns: Vec<ArrayRef>, release: &str) -> Result<Bytes, TableError> {
    let wrong = |error: String| TableError::format("to publish", error);
    let mut bytes = Vec::new();
    let properties = properties(release, None).build();
    let writer = ArrowWriter::try_new(&mut bytes, schema.clone(), Some(properties));
    let mut writer = writer.map_err(|e| wrong(e.to_string()))?;
    let batch = RecordBatch::try_new(schema, columns).map_err(|e| wrong(e.to_string()))?;
    writer.write(&batch).map_err(|e| wrong(e.to_string()))?;
    writer.close().map_err(|e| wrong(e.to_string()))?;
    Ok(bytes.into())
}
