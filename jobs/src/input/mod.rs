//! Reading the clicks of a user: NDJSON or CSV, in any order and with errors in it; mapped, checked and sorted by
//! arrival, so that they can be pushed through the system as if they came in now.
//!
//! ```text
//! file -> lines -> fields (ndjson | delimited) -> checked click -> sorter (memory, then disk) -> clicks by (arrival, line)
//!           |              |                          |
//!           +--------------+--------------------------+--> rejected lines: number, reason, code, excerpt
//! ```
//!
//! What holds for every input:
//! - Every line is accounted: `lines = header + blank + continuation + accepted + rejected` ([`Summary::balances`]).
//! - A bad line never ends the reading and never takes a good line with it: a quote that is not closed costs its own
//!   line only. What ends it is a mistake that concerns the whole file ([`InputError`]).
//! - The rules for ids are those of the wire format, by the same code.
//! - Memory is bounded: a line by [`LINE_BYTES_MAX`], the sorting by [`InputOptions::memory_limit`].
//! - The same bytes with the same options give the same clicks with the same ids in the same order.

mod check;
mod columns;
mod delimited;
mod entry;
mod error;
mod gaps;
mod lines;
mod mapping;
mod ndjson;
mod record;
mod report;
mod sink;
mod sort;
mod time;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::Read;
use std::path::PathBuf;

use clicks::event::Click;
use clicks::time::{Span, Timestamp};

pub use error::InputError;
pub use gaps::Gap;
pub use lines::LINE_BYTES_MAX;
pub use mapping::{Field, Mapping, MappingError};
pub use report::{RejectedLine, Summary};
pub use sort::Sorted;

/// Where the clicks lie.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum InputFile {
    Path(PathBuf),
    Stdin,
}

impl InputFile {
    /// `-` is standard input, as everywhere.
    pub fn parse(text: &str) -> Self {
        if text == "-" { InputFile::Stdin } else { InputFile::Path(text.into()) }
    }
}

impl std::fmt::Display for InputFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            InputFile::Path(path) => write!(f, "{}", path.display()),
            InputFile::Stdin => f.write_str("standard input"),
        }
    }
}

/// How the lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// One header line, then a record a line; fields may be quoted as RFC 4180 says.
    Csv,
    /// One JSON object a line.
    Ndjson,
}

/// What to read, and how.
#[derive(Debug, Clone)]
pub struct InputOptions {
    pub file: InputFile,
    /// `None`: by the file's extension, else by the first byte that is not blank (`{` means NDJSON).
    pub format: Option<Format>,
    /// CSV only. `None`: whichever of `,` `;` and tab is commonest in the header.
    pub delimiter: Option<u8>,
    pub map: Mapping,
    /// `unix` (seconds), `unix_ms`, or a pattern of `strftime`; `None` is RFC 3339.
    pub time_format: Option<String>,
    /// The zone of timestamps that carry no offset. Of a local time that occurs twice, the earlier one is taken and
    /// counted; one that is skipped when the clocks go forward is a rejected line.
    pub tz: Option<chrono_tz::Tz>,
    /// The column that says when a click arrived, in the format of the timestamps; `None`: at its event time.
    pub arrival: Option<String>,
    /// Accept neighbouring arrivals that lie further apart than `max_gap`.
    pub allow_gap: bool,
    pub max_gap: Span,
    /// Bytes that sorting may hold in memory; beyond that it goes to disk.
    pub memory_limit: usize,
    /// Where sorting puts its one file, which has no name and vanishes with the process; `None` is the system's place.
    pub temp_folder: Option<PathBuf>,
}

impl InputOptions {
    /// The defaults: everything found out from the file, RFC 3339, gaps up to 31 days, 256 MiB for sorting.
    pub fn new(file: InputFile) -> Self {
        InputOptions {
            file,
            format: None,
            delimiter: None,
            map: Mapping::default(),
            time_format: None,
            tz: None,
            arrival: None,
            allow_gap: false,
            max_gap: Span::days(31),
            memory_limit: 256 << 20,
            temp_folder: None,
        }
    }
}

/// One accepted line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputClick {
    /// Where it stands in the file, counted from 1.
    pub line: u64,
    /// When it arrives: its append time.
    pub arrival: Timestamp,
    pub click: Click,
}

/// Reads the whole input and sorts it.
///
/// `rejected` is called for every rejected line, in the order of the file; `progress` now and then, with the number of
/// lines read so far. A missing or empty click id is issued from a hash of the line number and the click, so that a
/// second run issues the same one; as the number is part of it, two identical lines without an id are two clicks. An id that is no UUID is turned into one
/// by a hash of its text alone, so the same text is the same click.
///
/// # Errors
/// What concerns the file as a whole: it cannot be read, is no text, lacks a column, or holds a gap in time.
pub fn read(
    options: &InputOptions,
    rejected: &mut dyn FnMut(RejectedLine),
    progress: &dyn Fn(u64),
) -> Result<Sorted, InputError> {
    match &options.file {
        InputFile::Stdin => read_from(std::io::stdin().lock(), options, rejected, progress),
        InputFile::Path(path) => {
            let open = |source| InputError::Open { file: options.file.to_string(), source };
            // A folder can be opened, but not read; saying so here beats the reason that reading it would give.
            if path.is_dir() {
                return Err(open(std::io::ErrorKind::IsADirectory.into()));
            }
            read_from(File::open(path).map_err(open)?, options, rejected, progress)
        }
    }
}

fn read_from(
    input: impl Read,
    options: &InputOptions,
    rejected: &mut dyn FnMut(RejectedLine),
    progress: &dyn Fn(u64),
) -> Result<Sorted, InputError> {
    let columns = columns::Columns::new(options);
    let times = time::TimeReader::new(options.time_format.as_deref(), options.tz)?;
    let mut lines = lines::Lines::new(input, options.file.to_string());
    let mut sink = sink::Sink::new(options, check::Checker::new(&columns, times), rejected, progress);
    match format(options, &mut lines, &mut sink)? {
        Format::Ndjson => ndjson::read(&mut lines, &columns, &mut sink)?,
        Format::Csv => delimited::read(&mut lines, options.delimiter, &columns, &mut sink)?,
    }
    sink.finish(lines.count())
}

/// Finds the format, skipping blank lines at the top.
fn format<R: Read>(
    options: &InputOptions,
    lines: &mut lines::Lines<R>,
    sink: &mut sink::Sink<'_>,
) -> Result<Format, InputError> {
    let file = || options.file.to_string();
    let mut first = lines::Line::default();
    loop {
        if !lines.next(&mut first)? {
            return Err(InputError::Empty { file: file() });
        }
        if !first.is_blank() {
            break;
        }
        sink.blank(first.number);
    }
    if let Some((kind, command)) = first.binary_kind() {
        return Err(InputError::NotText { file: file(), kind, command: command.replace("FILE", &file()) });
    }
    let start = first.bytes.iter().find(|byte| !byte.is_ascii_whitespace()).copied();
    lines.give_back(std::mem::take(&mut first));
    let extension = match &options.file {
        InputFile::Path(path) => path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase(),
        InputFile::Stdin => String::new(),
    };
    let format = options.format.unwrap_or(match (extension.as_str(), start) {
        ("csv" | "tsv", _) => Format::Csv,
        ("ndjson" | "jsonl" | "json", _) => Format::Ndjson,
        (_, Some(b'{' | b'[')) => Format::Ndjson,
        _ => Format::Csv,
    });
    match (format, start) {
        (Format::Ndjson, Some(b'[')) => Err(InputError::JsonArray { file: file() }),
        _ => Ok(format),
    }
}
