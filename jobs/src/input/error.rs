//! What makes the whole input unusable.

use std::io;

use super::gaps::Gap;

/// A mistake that concerns the file as a whole; bad lines are [`super::RejectedLine`]s instead.
#[derive(Debug, thiserror::Error)]
pub enum InputError {
    #[error("cannot open {file}: {source}")]
    Open { file: String, source: io::Error },
    #[error("cannot read {file} beyond line {line}: {source}")]
    Read { file: String, line: u64, source: io::Error },
    #[error("{file} holds no line that is not blank; it needs clicks as NDJSON, or as CSV with a header")]
    Empty { file: String },
    #[error("{file} is {kind}, not text in UTF-8; convert it first: `{command} | twofold demo --input -`")]
    NotText { file: String, kind: &'static str, command: String },
    #[error(
        "{file} is one JSON array; put each object on a line of its own: `jq -c '.[]' {file} | twofold demo --input -`"
    )]
    JsonArray { file: String },
    #[error(
        "`{delimiter}` cannot be a delimiter; give one ASCII character that stands in no name, such as `,` `;` `|` or a tab"
    )]
    Delimiter { delimiter: String },
    #[error("line {line} of {file} is no CSV header: {reason}")]
    Header { file: String, line: u64, reason: String },
    #[error("{missing} in line {line} of {file}; it has {present}. {mend}")]
    UnknownColumn { missing: String, file: String, line: u64, present: String, mend: String },
    #[error(
        "the header in line {line} of {file} names `{column}` twice; rename one of the two, so that it is clear which is meant"
    )]
    RepeatedColumn { file: String, line: u64, column: String },
    #[error(
        "time format `{format}`: {reason}; use `unix`, `unix_ms` or a strftime pattern such as `%d/%m/%Y %H:%M:%S`"
    )]
    TimeFormat { format: String, reason: String },
    #[error(
        "time format `{format}` carries no offset from UTC; name the zone of the timestamps, for instance `--tz Europe/Berlin`"
    )]
    NoZone { format: String },
    #[error("sorting {bytes} bytes of clicks on disk in {folder} failed: {source}; give another folder or more memory")]
    Spill { folder: String, bytes: u64, source: io::Error },
    #[error("{gap}{}; mend the line that is wrong, or add `--allow-gap` if all that time really lies between them", others(*more))]
    Gap { gap: Gap, more: usize },
}

impl InputError {
    /// Whether the command line is to be mended, not the file.
    pub fn is_usage(&self) -> bool {
        use InputError::{Delimiter, NoZone, Open, TimeFormat, UnknownColumn};
        matches!(self, Open { .. } | Delimiter { .. } | UnknownColumn { .. } | TimeFormat { .. } | NoZone { .. })
    }
}

fn others(more: usize) -> String {
    match more {
        0 => String::new(),
        1 => " (and there is one more such gap)".to_owned(),
        _ => format!(" (and there are {more} more such gaps)"),
    }
}
