//! Parquet: typed columns, and what the statement is of in the file's metadata.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, Decimal128Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use clicks::time::Timestamp;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use rust_decimal::Decimal;

use super::{ExportError, Form};
use crate::lines::{Column, Line, Period, Value};
use crate::statement::By;

/// Rows that are gathered before they are encoded.
const CHUNK: usize = 64 * 1024;
/// Decimals of prices, and so of amounts.
const SCALE: u32 = 6;
const DIGITS: u8 = 38;

/// A statement as Parquet.
#[derive(Debug)]
pub struct Parquet<W: Write + Send> {
    writer: ArrowWriter<W>,
    schema: SchemaRef,
    columns: Vec<(Column, Cells)>,
    rows: usize,
}

/// The cells of a column that are gathered.
#[derive(Debug)]
enum Cells {
    Texts(Vec<Option<String>>),
    Times(Vec<Timestamp>),
    Counts(Vec<u64>),
    Decimals(Vec<Option<i128>>),
    Revisions(Vec<Option<u32>>),
}

impl<W: Write + Send> Parquet<W> {
    /// # Errors
    /// When the file cannot be begun.
    pub fn new(to: W, by: By) -> Result<Self, ExportError> {
        let columns: Vec<(Column, Cells)> =
            Column::all(by).into_iter().map(|column| (column, Cells::of(column))).collect();
        let fields: Vec<Field> = columns.iter().map(|(column, cells)| cells.field(*column)).collect();
        let schema = Arc::new(Schema::new(fields));
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(3)?))
            .set_created_by(format!("twofold {}", env!("CARGO_PKG_VERSION")))
            .build();
        let writer = ArrowWriter::try_new(to, schema.clone(), Some(properties))?;
        Ok(Parquet { writer, schema, columns, rows: 0 })
    }

    /// Writes what the statement is of, and the end of the file.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn end(mut self, about: &[(String, String)]) -> Result<W, ExportError> {
        self.flush()?;
        for (name, value) in about {
            self.writer.append_key_value_metadata(KeyValue::new(format!("twofold.{name}"), value.clone()));
        }
        Ok(self.writer.into_inner()?)
    }

    fn flush(&mut self) -> Result<(), ExportError> {
        if self.rows == 0 {
            return Ok(());
        }
        let arrays = self.columns.iter_mut().map(|(_, cells)| cells.take()).collect::<Result<Vec<_>, _>>()?;
        self.writer.write(&RecordBatch::try_new(self.schema.clone(), arrays)?)?;
        self.rows = 0;
        Ok(())
    }
}

impl<W: Write + Send> Form for Parquet<W> {
    fn lines(&mut self, period: &Period, lines: &[Line<'_>]) -> Result<(), ExportError> {
        for line in lines {
            for (column, cells) in &mut self.columns {
                cells.push(column.of(period, line))?;
            }
            self.rows += 1;
            if self.rows == CHUNK {
                self.flush()?;
            }
        }
        Ok(())
    }
}

impl Cells {
    const fn of(column: Column) -> Self {
        match column {
            Column::Start | Column::End => Cells::Times(Vec::new()),
            Column::Clicks | Column::Adjustment | Column::Total => Cells::Counts(Vec::new()),
            Column::Price | Column::Amount => Cells::Decimals(Vec::new()),
            Column::Revision => Cells::Revisions(Vec::new()),
            Column::Ad | Column::Name | Column::Tenant | Column::Campaign | Column::Currency | Column::State => {
                Cells::Texts(Vec::new())
            }
        }
    }

    fn field(&self, column: Column) -> Field {
        let (kind, nullable) = match self {
            Cells::Texts(_) => (DataType::Utf8, !matches!(column, Column::Ad | Column::State)),
            Cells::Times(_) => (DataType::Timestamp(TimeUnit::Millisecond, Some("UTC".into())), false),
            Cells::Counts(_) => (DataType::Int64, false),
            Cells::Decimals(_) => (DataType::Decimal128(DIGITS, SCALE as i8), true),
            Cells::Revisions(_) => (DataType::Int32, true),
        };
        Field::new(column.name(), kind, nullable)
    }

    fn push(&mut self, value: Value<'_>) -> Result<(), ExportError> {
        match (self, value) {
            (Cells::Texts(cells), Value::Text(text)) => cells.push(Some(text.to_owned())),
            (Cells::Texts(cells), _) => cells.push(None),
            (Cells::Times(cells), Value::Time(time)) => cells.push(time),
            (Cells::Counts(cells), Value::Count(count)) => cells.push(count),
            (Cells::Decimals(cells), Value::Decimal(number)) => cells.push(Some(scaled(number)?)),
            (Cells::Decimals(cells), _) => cells.push(None),
            (Cells::Revisions(cells), Value::Count(number)) => cells.push(u32::try_from(number).ok()),
            (Cells::Revisions(cells), _) => cells.push(None),
            (Cells::Times(_) | Cells::Counts(_), _) => unreachable!("every line has its period and its clicks"),
        }
        Ok(())
    }

    fn take(&mut self) -> Result<ArrayRef, ExportError> {
        Ok(match self {
            Cells::Texts(cells) => Arc::new(StringArray::from_iter(cells.drain(..))),
            Cells::Times(cells) => {
                let millis = cells.drain(..).map(Timestamp::as_millis);
                Arc::new(TimestampMillisecondArray::from_iter_values(millis).with_timezone("UTC"))
            }
            Cells::Counts(cells) => Arc::new(Int64Array::from_iter_values(cells.drain(..).map(|count| count as i64))),
            Cells::Decimals(cells) => {
                Arc::new(Decimal128Array::from_iter(cells.drain(..)).with_precision_and_scale(DIGITS, SCALE as i8)?)
            }
            Cells::Revisions(cells) => {
                Arc::new(Int32Array::from_iter(cells.drain(..).map(|number| number.map(|number| number as i32))))
            }
        })
    }
}

/// In millionths.
fn scaled(number: Decimal) -> Result<i128, ExportError> {
    let mut millionths = number;
    millionths.rescale(SCALE);
    // What has no room for six decimals has fewer now.
    match millionths.scale() == SCALE && millionths == number {
        true => Ok(millionths.mantissa()),
        false => Err(ExportError::Amount(number)),
    }
}
