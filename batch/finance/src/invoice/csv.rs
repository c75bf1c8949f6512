//! CSV with any delimiter, in UTF-8.

use std::cell::Cell;
use std::io::Read;

use csv::{ByteRecord, ReaderBuilder, Terminator};

use super::values::Given;
use super::{Field, InvoiceError, InvoiceLine, Rows, Rules};

pub(super) fn read(
    mut from: impl Read,
    rules: Rules<'_>,
    take: impl FnMut(InvoiceLine),
) -> Result<Vec<(Field, String)>, InvoiceError> {
    // Long enough for any head; what follows is read on.
    let mut front = vec![0; 1 << 16];
    let mut filled = 0;
    while filled < front.len() {
        match from.read(&mut front[filled..])? {
            0 => break,
            count => filled += count,
        }
    }
    front.truncate(filled);
    if front.starts_with(&[0xff, 0xfe]) || front.starts_with(&[0xfe, 0xff]) {
        return Err(InvoiceError::Utf16);
    }
    if front.starts_with("\u{feff}".as_bytes()) {
        front.drain(..3);
    }
    let delimiter = delimiter(&front);
    let (quotes, room) = (Cell::new(0), Cell::new(LINE_MAX));
    let whole = Quotes { from: std::io::Cursor::new(front).chain(from), count: &quotes, room: &room };
    // A carriage return before the line feed is trimmed with the field: as part of the end it would shift the line numbers.
    let mut reader = ReaderBuilder::new();
    reader.delimiter(delimiter).terminator(Terminator::Any(b'\n')).has_headers(false).flexible(true);
    let mut reader = reader.from_reader(whole);
    let mut record = ByteRecord::new();
    if !next(&mut reader, &mut record, &room)? {
        return Err(InvoiceError::Empty);
    }
    let head: Vec<String> = texts(&record, 1)?.into_iter().map(|text| text.trim().to_owned()).collect();
    let width = head.len();
    let mut rows = Rows::new(head, rules, take)?;
    let mut last = (1, false);
    while next(&mut reader, &mut record, &room)? {
        let line = record.position().map_or(0, csv::Position::line);
        last = (line, record.iter().any(|field| field.contains(&b'\n')));
        if record.len() == 1 && record[0].trim_ascii().is_empty() {
            continue;
        }
        if record.len() != width {
            return Err(InvoiceError::Ragged { line, found: record.len() as u64, head: width as u64 });
        }
        let cells: Vec<Given<'_>> = texts(&record, line)?.into_iter().map(Given::Text).collect();
        rows.row(&cells, line)?;
    }
    match last {
        // It would end at the end of the file, and nobody would miss the lines in it.
        (line, true) if quotes.get() % 2 == 1 => Err(InvoiceError::OpenQuote(line)),
        _ => Ok(rows.told()),
    }
}

/// Most bytes of a line. Behind a quote that is not closed all of the file would be one.
const LINE_MAX: usize = 16 << 20;

/// Counts quotes: where each is closed there is an even number. Gives no more than there is room for.
struct Quotes<'a, R> {
    from: R,
    count: &'a Cell<u64>,
    room: &'a Cell<usize>,
}

impl<R: Read> Read for Quotes<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.from.read(buffer)?;
        let left = self.room.get().saturating_sub(read);
        self.room.set(left);
        if left == 0 {
            return Err(std::io::ErrorKind::FileTooLarge.into());
        }
        let found = buffer[..read].iter().filter(|byte| **byte == b'"').count() as u64;
        self.count.set(self.count.get() + found);
        Ok(read)
    }
}

fn next<R: Read>(
    reader: &mut csv::Reader<R>,
    record: &mut ByteRecord,
    room: &Cell<usize>,
) -> Result<bool, InvoiceError> {
    room.set(LINE_MAX);
    let begins = reader.position().line();
    reader.read_byte_record(record).map_err(|error| {
        let line = error.position().map_or(0, csv::Position::line);
        match error.into_kind() {
            csv::ErrorKind::Io(_) if room.get() == 0 => InvoiceError::LongLine { line: begins, max: LINE_MAX >> 20 },
            csv::ErrorKind::Io(error) => InvoiceError::Io(error),
            kind => InvoiceError::Line { line, reason: format!("{kind:?}") },
        }
    })
}

fn texts(record: &ByteRecord, line: u64) -> Result<Vec<&str>, InvoiceError> {
    let mut before = 0;
    let text = |field: &'_ [u8]| {
        let found = std::str::from_utf8(field);
        let at = before + found.err().map_or(0, |error| error.valid_up_to());
        before += field.len() + 1;
        (found.is_ok(), at)
    };
    let wrong = record.iter().map(text).find(|(is_text, _)| !is_text);
    if let Some((_, at)) = wrong {
        return Err(InvoiceError::NotUtf8 { line, at });
    }
    Ok(record.iter().map(|field| std::str::from_utf8(field).unwrap_or_default()).collect())
}

/// What separates the fields of the first line, outside of quotes.
fn delimiter(front: &[u8]) -> u8 {
    let mut in_quotes = false;
    let mut counts = [(b',', 0), (b';', 0), (b'\t', 0), (b'|', 0)];
    for byte in front {
        if *byte == b'\n' && !in_quotes {
            break;
        }
        in_quotes ^= *byte == b'"';
        for (delimiter, count) in counts.iter_mut().filter(|_| !in_quotes) {
            *count += u32::from(byte == delimiter);
        }
    }
    // Of equal counts the first.
    counts.into_iter().rev().max_by_key(|(_, count)| *count).map_or(b',', |(delimiter, _)| delimiter)
}
