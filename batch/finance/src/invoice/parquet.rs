//! Parquet: every column as text, as it would stand in CSV.

use arrow::array::AsArray;
use arrow::compute::cast;
use arrow::datatypes::DataType;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::{InvoiceError, InvoiceLine, InvoiceOptions, Rows};
use crate::reconcile::Keys;

pub(super) fn read(
    bytes: Bytes,
    options: &InvoiceOptions,
    keys: Keys,
    take: impl FnMut(InvoiceLine),
) -> Result<(), InvoiceError> {
    let wrong = |error: String| InvoiceError::Parquet(error);
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| wrong(error.to_string()))?;
    let head = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
    let zone = zone_of(builder.metadata().file_metadata().key_value_metadata());
    let mut rows = Rows::new(head, options, keys, take)?;
    // As in the other forms: the head is line 1.
    let mut line = 1;
    for batch in builder.build().map_err(|error| wrong(error.to_string()))? {
        let batch = batch.map_err(|error| wrong(error.to_string()))?;
        let mut texts = Vec::with_capacity(batch.num_columns());
        for column in batch.columns() {
            let kind = match (column.data_type(), &zone) {
                // An export of our own has the days of a zone, and instants of UTC.
                (DataType::Timestamp(unit, Some(_)), Some(zone)) => {
                    DataType::Timestamp(*unit, Some(zone.as_str().into()))
                }
                // With so many decimals nobody takes the point for one between thousands.
                (kind, _) if kind.is_floating() || kind.is_decimal() => DataType::Decimal128(38, 9),
                (kind, _) => kind.clone(),
            };
            let text = cast(column, &kind).and_then(|column| cast(&column, &DataType::Utf8));
            texts.push(text.map_err(|error| wrong(error.to_string()))?);
        }
        for row in 0..batch.num_rows() {
            line += 1;
            let texts = texts.iter().map(|column| column.as_string::<i32>());
            let cells: Vec<&str> = texts
                .map(|column| if arrow::array::Array::is_null(column, row) { "" } else { column.value(row) })
                .collect();
            rows.row(&cells, line)?;
        }
    }
    Ok(())
}

/// The zone of an export of our own.
fn zone_of(pairs: Option<&Vec<parquet::file::metadata::KeyValue>>) -> Option<String> {
    pairs?.iter().find(|pair| pair.key == "twofold.time_zone")?.value.clone()
}
