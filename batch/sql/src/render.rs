//! Answers as text.

use std::collections::HashSet;
use std::io::{self, Write};

use arrow::array::{Array, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_options;
use serde_json::Value;

/// How cells are written: nothing for NULL, times as RFC 3339.
fn options() -> FormatOptions<'static> {
    FormatOptions::new().with_display_error(false)
}

fn failed(error: ArrowError) -> io::Error {
    io::Error::other(error)
}

/// As it was before the writer wrapped it: a reader that has gone away is to be known.
fn io_error(error: csv::Error) -> io::Error {
    match error.into_kind() {
        csv::ErrorKind::Io(error) => error,
        other => io::Error::other(format!("{other:?}")),
    }
}

/// A table with lines around it.
///
/// # Errors
/// When a value cannot be written as text.
pub fn table(schema: &SchemaRef, batches: &[RecordBatch]) -> io::Result<String> {
    let empty = RecordBatch::new_empty(schema.clone());
    let batches = if batches.is_empty() { std::slice::from_ref(&empty) } else { batches };
    Ok(pretty_format_batches_with_options(batches, &options().with_null("NULL")).map_err(failed)?.to_string())
}

/// Writes an answer while it comes.
pub trait Rows {
    /// # Errors
    /// When it cannot be written.
    fn batch(&mut self, batch: &RecordBatch) -> io::Result<()>;

    /// # Errors
    /// When it cannot be written.
    fn end(self) -> io::Result<()>;
}

/// Comma-separated values (RFC 4180), a line for the names of the columns first.
#[derive(Debug)]
pub struct Csv<W: Write>(csv::Writer<W>);

impl<W: Write> Csv<W> {
    /// # Errors
    /// When it cannot be written.
    pub fn new(to: W, schema: &SchemaRef) -> io::Result<Self> {
        let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(to);
        writer.write_record(schema.fields().iter().map(|field| field.name())).map_err(io_error)?;
        Ok(Csv(writer))
    }
}

impl<W: Write> Rows for Csv<W> {
    fn batch(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let options = options();
        let columns = formatters(batch, &options)?;
        for row in 0..batch.num_rows() {
            for column in &columns {
                self.0.write_field(column.value(row).try_to_string().map_err(failed)?).map_err(io_error)?;
            }
            self.0.write_record(None::<&[u8]>).map_err(io_error)?;
        }
        Ok(())
    }

    fn end(mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// `{…,"rows":[{"column":value,…},…]}`: whole numbers as such, however long, and what JSON has no type for as text.
#[derive(Debug)]
pub struct Json<W: Write> {
    to: W,
    /// Names of the columns, as they are written.
    names: Vec<String>,
    rows: u64,
}

impl<W: Write> Json<W> {
    /// `about`: an object, of which the rows become the last member.
    ///
    /// # Errors
    /// When two columns have one name, or it cannot be written.
    pub fn new(mut to: W, schema: &SchemaRef, about: &Value) -> io::Result<Self> {
        let mut seen = HashSet::new();
        if let Some(twice) = schema.fields().iter().find(|field| !seen.insert(field.name())) {
            let message = format!("two columns are called `{}`: give one of them another name with AS", twice.name());
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let names = schema.fields().iter().map(|field| Value::from(field.name().as_str()).to_string()).collect();
        let about = about.to_string();
        let open = about.strip_suffix('}').unwrap_or(&about);
        write!(to, "{open},\"rows\":[")?;
        Ok(Json { to, names, rows: 0 })
    }
}

impl<W: Write> Rows for Json<W> {
    fn batch(&mut self, batch: &RecordBatch) -> io::Result<()> {
        let options = options();
        let columns = formatters(batch, &options)?;
        for row in 0..batch.num_rows() {
            let comma = if self.rows == 0 { "" } else { "," };
            self.rows += 1;
            write!(self.to, "{comma}\n{{")?;
            for (place, (name, column)) in self.names.iter().zip(&columns).enumerate() {
                let comma = if place == 0 { "" } else { "," };
                let array = batch.column(place);
                let text = || column.value(row).try_to_string().map_err(failed);
                let value = match array.data_type() {
                    _ if array.is_null(row) => "null".to_owned(),
                    DataType::Boolean => text()?,
                    kind if kind.is_integer() => text()?,
                    kind if kind.is_floating() => number(&text()?),
                    _ => Value::from(text()?).to_string(),
                };
                write!(self.to, "{comma}{name}:{value}")?;
            }
            self.to.write_all(b"}")?;
        }
        Ok(())
    }

    fn end(mut self) -> io::Result<()> {
        writeln!(self.to, "]}}")?;
        self.to.flush()
    }
}

/// JSON has no infinity and no "not a number".
fn number(text: &str) -> String {
    match text.parse::<f64>() {
        Ok(number) if number.is_finite() => Value::from(number).to_string(),
        _ => Value::from(text).to_string(),
    }
}

fn formatters<'a>(batch: &'a RecordBatch, options: &'a FormatOptions<'a>) -> io::Result<Vec<ArrayFormatter<'a>>> {
    batch.columns().iter().map(|column| ArrayFormatter::try_new(column.as_ref(), options).map_err(failed)).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Date32Array, Decimal128Array, Float64Array, Int64Array, StringArray, TimestampMillisecondArray,
    };
    use serde_json::json;

    use super::*;

    fn batch() -> RecordBatch {
        RecordBatch::try_from_iter_with_nullable([
            ("day", Arc::new(Date32Array::from(vec![0, 1])) as arrow::array::ArrayRef, false),
            ("at", Arc::new(TimestampMillisecondArray::from(vec![0, 1_500]).with_timezone("UTC")), false),
            ("ad", Arc::new(StringArray::from(vec![Some("a,\"b\""), None])), true),
            ("clicks", Arc::new(Int64Array::from(vec![Some(i64::MAX), None])), true),
            ("share", Arc::new(Float64Array::from(vec![0.5, f64::NAN])), false),
            (
                "amount",
                Arc::new(Decimal128Array::from(vec![12_500_000, -1]).with_precision_and_scale(38, 6).unwrap()),
                false,
            ),
        ])
        .unwrap()
    }

    #[test]
    fn csv_is_as_the_standard_has_it() {
        let mut bytes = Vec::new();
        let mut csv = Csv::new(&mut bytes, &batch().schema()).unwrap();
        csv.batch(&batch()).unwrap();
        csv.end().unwrap();
        let text = String::from_utf8(bytes).unwrap();
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert_eq!(
            lines,
            [
                "day,at,ad,clicks,share,amount",
                "1970-01-01,1970-01-01T00:00:00Z,\"a,\"\"b\"\"\",9223372036854775807,0.5,12.500000",
                "1970-01-02,1970-01-01T00:00:01.500Z,,,NaN,-0.000001",
                ""
            ]
        );
    }

    #[test]
    fn json_loses_no_digit() {
        let mut bytes = Vec::new();
        let mut writer = Json::new(&mut bytes, &batch().schema(), &json!({"ledger_position": 3})).unwrap();
        writer.batch(&batch()).unwrap();
        writer.end().unwrap();
        let read: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(read["ledger_position"], 3);
        assert_eq!(read["rows"][0]["clicks"], i64::MAX);
        assert_eq!(read["rows"][0]["amount"], "12.500000");
        assert_eq!(read["rows"][0]["ad"], "a,\"b\"");
        assert_eq!(read["rows"][1]["share"], "NaN");
        assert!(read["rows"][1]["ad"].is_null() && read["rows"][1]["clicks"].is_null());
        let twice = batch().project(&[0, 0]).unwrap();
        let error = Json::new(Vec::new(), &twice.schema(), &json!({})).unwrap_err().to_string();
        assert!(error.contains("two columns are called `day`"), "{error}");
        let none = RecordBatch::new_empty(batch().schema());
        let mut bytes = Vec::new();
        Json::new(&mut bytes, &none.schema(), &json!({"a": 1})).unwrap().end().unwrap();
        assert_eq!(serde_json::from_slice::<Value>(&bytes).unwrap(), json!({"a": 1, "rows": []}));
    }

    #[test]
    fn a_table_of_nothing_has_its_head() {
        let text = table(&batch().schema(), &[]).unwrap();
        assert!(text.contains("| day | at | ad | clicks |"), "{text}");
        assert!(table(&batch().schema(), &[batch()]).unwrap().contains("NULL"));
    }
}
