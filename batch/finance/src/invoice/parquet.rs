//! Parquet: every column as text, as it would stand in CSV.

use arrow::array::{Array, AsArray, StringArray};
use arrow::compute::cast;
use arrow::datatypes::DataType;
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::values::Given;
use super::{Field, InvoiceError, InvoiceLine, Rows, Rules};

pub(super) fn read(
    bytes: Bytes,
    rules: Rules<'_>,
    take: impl FnMut(InvoiceLine),
) -> Result<Vec<(Field, String)>, InvoiceError> {
    let wrong = |error: String| InvoiceError::Parquet(error);
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|error| wrong(error.to_string()))?;
    let head: Vec<String> = builder.schema().fields().iter().map(|field| field.name().clone()).collect();
    let zone = zone_of(builder.metadata().file_metadata().key_value_metadata());
    let mut rows = Rows::new(head, rules, take)?;
    // As in the other forms: the head is line 1.
    let mut line = 1;
    for batch in builder.build().map_err(|error| wrong(error.to_string()))? {
        let batch = batch.map_err(|error| wrong(error.to_string()))?;
        let mut texts = Vec::with_capacity(batch.num_columns());
        for (place, column) in batch.columns().iter().enumerate() {
            // What is not read may be of any type.
            if !rows.needs(place) {
                texts.push((StringArray::new_null(batch.num_rows()), false));
                continue;
            }
            let (kind, is_number) = match (column.data_type(), &zone) {
                // An export of our own has the days of a zone, and instants of UTC.
                (DataType::Timestamp(unit, Some(_)), Some(zone)) => {
                    (DataType::Timestamp(*unit, Some(zone.as_str().into())), false)
                }
                (kind, _) if kind.is_floating() || kind.is_decimal() => (DataType::Decimal128(38, 9), true),
                (kind, _) => (kind.clone(), kind.is_integer()),
            };
            let text = cast(column, &kind).and_then(|column| cast(&column, &DataType::Utf8));
            let text = text.map_err(|error| wrong(format!("column `{}`: {error}", rows.head[place])))?;
            texts.push((text.as_string::<i32>().clone(), is_number));
        }
        for row in 0..batch.num_rows() {
            line += 1;
            let cells = texts.iter().map(|(column, is_number)| match (column.is_null(row), is_number) {
                (true, _) => Given::Text(""),
                (false, true) => Given::Number(column.value(row)),
                (false, false) => Given::Text(column.value(row)),
            });
            rows.row(&cells.collect::<Vec<_>>(), line)?;
        }
    }
    Ok(rows.told())
}

/// The zone of an export of our own.
fn zone_of(pairs: Option<&Vec<parquet::file::metadata::KeyValue>>) -> Option<String> {
    pairs?.iter().find(|pair| pair.key == "twofold.time_zone")?.value.clone()
}
