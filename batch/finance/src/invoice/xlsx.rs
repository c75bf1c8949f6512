//! XLSX: the first sheet that holds anything, whose first row that does names the columns.

use std::io::{Read, Seek};

use calamine::{Data, Reader, Xlsx};

use super::{InvoiceError, InvoiceLine, InvoiceOptions, Rows};
use crate::reconcile::Keys;

pub(super) fn read(
    from: impl Read + Seek,
    options: &InvoiceOptions,
    keys: Keys,
    take: impl FnMut(InvoiceLine),
) -> Result<(), InvoiceError> {
    let wrong = |error: calamine::XlsxError| InvoiceError::Xlsx(error.to_string());
    let mut book = Xlsx::new(from).map_err(wrong)?;
    for sheet in book.sheet_names() {
        let range = book.worksheet_range(&sheet).map_err(wrong)?;
        let mut lines = (range.start().map_or(1, |(row, _)| u64::from(row) + 1)..).zip(range.rows());
        let Some((_, head)) = lines.next() else { continue };
        let head = head.iter().map(|cell| text(cell).trim().to_owned()).collect();
        let mut rows = Rows::new(head, options, keys, take)?;
        for (line, cells) in lines {
            let texts: Vec<String> = cells.iter().map(text).collect();
            rows.row(&texts.iter().map(String::as_str).collect::<Vec<_>>(), line)?;
        }
        return Ok(());
    }
    Err(InvoiceError::Empty)
}

/// What a cell says, as it would stand in CSV.
fn text(cell: &Data) -> String {
    match cell {
        Data::Empty => String::new(),
        // Excel has no other numbers, and writes 1234 for 1234.0.
        Data::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => format!("{number:.0}"),
        // With so many decimals nobody takes the point for one between thousands.
        Data::Float(number) => format!("{number:.9}"),
        Data::DateTime(time) if time.is_datetime() => {
            let (year, month, day, hour, minute, second, _) = time.to_ymd_hms_milli();
            format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}")
        }
        other => other.to_string(),
    }
}
