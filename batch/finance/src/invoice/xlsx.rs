//! XLSX: the first sheet that holds anything, whose first row that does names the columns. Rows are read one after the other: a
//! cell far out costs nothing.

use std::io::{Read, Seek};

use calamine::{Data, Reader, Xlsx, XlsxError};

use super::values::Given;
use super::{Field, InvoiceError, InvoiceLine, Rows, Rules};

pub(super) fn read(
    from: impl Read + Seek,
    rules: Rules<'_>,
    mut take: impl FnMut(InvoiceLine),
) -> Result<Vec<(Field, String)>, InvoiceError> {
    let wrong = |error: XlsxError| InvoiceError::Xlsx(error.to_string());
    let mut book = Xlsx::new(from).map_err(wrong)?;
    for sheet in book.sheet_names() {
        let mut cells = match book.worksheet_cells_reader(&sheet) {
            Ok(cells) => cells,
            Err(XlsxError::NotAWorksheet(_)) => continue,
            Err(error) => return Err(wrong(error)),
        };
        // The row that is gathered: where it begins, and its cells.
        let (mut number, mut row) = (0, Vec::<Data>::new());
        let mut rows: Option<Rows<'_, _>> = None;
        loop {
            let cell = cells.next_cell().map_err(wrong)?;
            let (at, place) =
                cell.as_ref().map_or((u32::MAX, 0), |cell| (cell.get_position().0, cell.get_position().1 as usize));
            if at != number && !row.is_empty() {
                let gathered = std::mem::take(&mut row);
                match &mut rows {
                    None if gathered.iter().all(|cell| *cell == Data::Empty) => {}
                    None => {
                        let head = gathered.iter().map(|cell| text(cell).0.trim().to_owned()).collect();
                        rows = Some(Rows::new(head, rules, &mut take)?);
                    }
                    Some(rows) => give(rows, gathered, u64::from(number) + 1)?,
                }
            }
            number = at;
            let Some(cell) = cell else { break };
            // Behind the last named column nothing is read.
            if rows.as_ref().is_none_or(|rows| place < rows.head.len()) {
                row.resize(row.len().max(place + 1), Data::Empty);
                row[place] = cell.get_value().clone().into();
            }
        }
        if let Some(rows) = rows {
            return Ok(rows.told());
        }
    }
    Err(InvoiceError::Empty)
}

fn give<F: FnMut(InvoiceLine)>(rows: &mut Rows<'_, F>, mut row: Vec<Data>, line: u64) -> Result<(), InvoiceError> {
    row.resize(rows.head.len(), Data::Empty);
    let texts: Vec<(String, bool)> = row.iter().map(text).collect();
    let given = texts.iter().map(|(text, is_number)| if *is_number { Given::Number(text) } else { Given::Text(text) });
    rows.row(&given.collect::<Vec<_>>(), line)
}

/// What a cell says, and whether it is a number.
fn text(cell: &Data) -> (String, bool) {
    match cell {
        Data::Empty => (String::new(), false),
        // An id that looks like a number is one to Excel, which writes 1234 for 1234.0.
        Data::Float(number) if number.fract() == 0.0 && number.abs() < 1e15 => (format!("{number:.0}"), true),
        Data::Float(number) => (format!("{number:.9}"), true),
        Data::Int(number) => (number.to_string(), true),
        Data::DateTime(time) if time.is_datetime() => {
            let (year, month, day, hour, minute, second, _) = time.to_ymd_hms_milli();
            (format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02}"), false)
        }
        other => (other.to_string(), false),
    }
}
