//! CSV: one header, then a record a line; a record goes on in the next line only inside of quotes.
//!
//! A quote that is opened by mistake costs the line that it stands on and no other: when the lines behind it do not make
//! a right record of it, it is rejected alone, and reading goes on at its next line.

use std::io::Read;

use super::check::Texts;
use super::columns::Columns;
use super::error::InputError;
use super::lines::{LINE_BYTES_MAX, Line, Lines};
use super::mapping::Field;
use super::record::{Fault, split};
use super::report::{self, Reason};
use super::sink::Sink;

/// Delimiters that are recognised, the likeliest first.
const DELIMITERS: [u8; 3] = [b',', b';', b'\t'];

/// Most lines that one record may span by line ends inside of quotes.
const RECORD_LINES_MAX: usize = 1_000;

pub(super) fn read<R: Read>(
    lines: &mut Lines<R>,
    delimiter: Option<u8>,
    columns: &Columns,
    sink: &mut Sink<'_>,
) -> Result<(), InputError> {
    if let Some(byte) = delimiter.filter(|byte| !is_delimiter(*byte)) {
        return Err(InputError::Delimiter { delimiter: byte.escape_ascii().to_string() });
    }
    let mut line = Line::default();
    if !lines.next(&mut line)? {
        return Ok(());
    }
    let header = Header::read(&line, lines, delimiter, columns, sink)?;
    while lines.next(&mut line)? {
        if line.is_blank() {
            sink.blank(line.number);
            continue;
        }
        let joined;
        let texts = match header.texts(&line) {
            Err(Fault::OpenQuote(_)) => match join(&line, lines, |record| header.texts(record).map(drop))? {
                Ok(whole) => {
                    joined = whole;
                    sink.continuation(joined.further_lines);
                    header.texts(&joined.record).map_err(Reason::from)
                }
                Err(reason) => Err(reason),
            },
            texts => texts.map_err(Reason::from),
        };
        match texts {
            Ok(texts) => sink.take(line.number, &line.bytes, &texts)?,
            Err(reason) => sink.reject(line.number, &line.bytes, reason),
        }
    }
    Ok(())
}

/// Where the fields are.
#[derive(Debug)]
struct Header {
    delimiter: u8,
    width: usize,
    /// The column of every field.
    places: [Option<usize>; 5],
}

impl Header {
    fn read<R: Read>(
        line: &Line,
        lines: &mut Lines<R>,
        delimiter: Option<u8>,
        columns: &Columns,
        sink: &mut Sink<'_>,
    ) -> Result<Self, InputError> {
        let delimiter = delimiter.unwrap_or_else(|| commonest_delimiter(&line.bytes));
        let names = match names(line, delimiter) {
            Err(Fault::OpenQuote(_)) => match join(line, lines, |record| names(record, delimiter).map(drop))? {
                Ok(joined) => {
                    sink.continuation(joined.further_lines);
                    names(&joined.record, delimiter).map_err(Reason::from)
                }
                Err(reason) => Err(reason),
            },
            names => names.map_err(Reason::from),
        };
        let (file, number) = (columns.file(), line.number);
        let names = names.map_err(|reason| InputError::Header {
            file: file.to_owned(),
            line: number,
            reason: report::clean(&reason.text)
                + if line.bytes.trim_ascii().starts_with(b"{") { "; it looks like NDJSON" } else { "" },
        })?;
        sink.header();
        let mut places = [None; 5];
        for field in Field::ALL {
            let Some(wanted) = columns.name(field) else { continue };
            let mut found = names.iter().enumerate().filter(|(_, name)| *name == wanted).map(|(place, _)| place);
            places[field as usize] = found.next();
            if found.next().is_some() {
                let column = report::clean(wanted);
                return Err(InputError::RepeatedColumn { file: file.to_owned(), line: number, column });
            }
            if places[field as usize].is_none() && columns.must_exist(field) {
                return Err(columns.unknown(field, number, &names));
            }
        }
        Ok(Header { delimiter, width: names.len(), places })
    }

    /// The fields of one record.
    fn texts<'l>(&self, record: &'l Line) -> Result<Texts<'l>, Fault> {
        let mut texts = Texts::default();
        let found = split(text_of(record)?, self.delimiter, |place, text| {
            for field in Field::ALL {
                if self.places[field as usize] == Some(place) {
                    texts.set(field, text.clone());
                }
            }
        })?;
        if found == self.width { Ok(texts) } else { Err(Fault::Ragged { found, header: self.width }) }
    }
}

fn names(record: &Line, delimiter: u8) -> Result<Vec<String>, Fault> {
    let mut names = Vec::new();
    split(text_of(record)?, delimiter, |_, name| names.push(name.into_owned()))?;
    Ok(names)
}

fn is_delimiter(byte: u8) -> bool {
    byte == b'\t' || (byte.is_ascii_punctuation() && !matches!(byte, b'"' | b'_' | b'.' | b'-'))
}

fn commonest_delimiter(header: &[u8]) -> u8 {
    let mut counts = [0u32; DELIMITERS.len()];
    let mut in_quotes = false;
    for byte in header {
        in_quotes ^= *byte == b'"';
        if !in_quotes && let Some(place) = DELIMITERS.iter().position(|delimiter| delimiter == byte) {
            counts[place] += 1;
        }
    }
    // Of equal counts the last is the maximum, so the likeliest has to come last.
    let best = (0..DELIMITERS.len()).rev().max_by_key(|place| counts[*place]);
    best.map_or(DELIMITERS[0], |place| DELIMITERS[place])
}

/// A record that spans lines, as one.
struct Joined {
    record: Line,
    further_lines: u64,
}

/// Adds lines to a record that ends inside of quotes until it comes out right, or hands them all back.
fn join<R: Read>(
    first: &Line,
    lines: &mut Lines<R>,
    attempt: impl Fn(&Line) -> Result<(), Fault>,
) -> Result<Result<Joined, Reason>, InputError> {
    let mut record = Line { number: first.number, bytes: first.bytes.clone(), too_long: false };
    let mut further = Vec::new();
    let mut fault = None;
    while further.len() + 1 < RECORD_LINES_MAX {
        let mut line = Line::default();
        if !lines.next(&mut line)? {
            break;
        }
        let is_too_much = line.too_long || record.bytes.len() + line.bytes.len() >= LINE_BYTES_MAX;
        let may_close = line.bytes.contains(&b'"');
        record.bytes.push(b'\n');
        record.bytes.extend_from_slice(&line.bytes);
        further.push(line);
        if is_too_much {
            break;
        }
        match if may_close { attempt(&record) } else { continue } {
            Ok(()) => return Ok(Ok(Joined { record, further_lines: further.len() as u64 })),
            Err(Fault::OpenQuote(_)) => {}
            Err(other) => {
                fault = Some(other);
                break;
            }
        }
    }
    let last = further.last().map_or(first.number, |line| line.number);
    further.into_iter().rev().for_each(|line| lines.give_back(line));
    Ok(Err(match fault.map(Reason::from) {
        Some(Reason { code, text }) => Reason::new(
            code,
            format!("a quote is opened and not closed on this line; together with the lines up to {last}, {text}"),
        ),
        None => Reason::new("bad_quote", format!("a quote is opened and not closed on this line, nor by line {last}")),
    }))
}

fn text_of(record: &Line) -> Result<&str, Fault> {
    if record.too_long {
        return Err(Fault::TooLong);
    }
    std::str::from_utf8(&record.bytes).map_err(|error| Fault::NotUtf8(error.valid_up_to()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_commonest_delimiter_outside_of_quotes_wins() {
        for (header, delimiter) in [
            ("a", b','),
            ("a,b", b','),
            ("a;b", b';'),
            ("a\tb\tc,d", b'\t'),
            ("\"a,b,c\";d", b';'),
            ("a,b;c", b','),
            ("a\tb;c", b';'),
        ] {
            assert_eq!(commonest_delimiter(header.as_bytes()), delimiter, "{header:?}");
        }
    }
}
