//! What a raw object says about itself, read from its last bytes alone.
//!
//! ```text
//! PAR1 | row groups          | page index | metadata, ours among it | length | PAR1
//!        content_sha256 ─────┘ └────── twofold.tail: hash of all this ────────────┘
//! ```
//!
//! The tail hash is checked before anything is parsed, so no damaged byte ever reaches the Parquet reader, and no
//! statistic that a query prunes by can be wrong unnoticed. The row groups have a hash of their own, which
//! [`crate::codec::verify`] and [`crate::codec::decode`] check.

mod tail;

use std::collections::HashMap;

use bytes::Bytes;
use clicks::layout::{RawKey, footer as names};
use clicks::position::{Offset, PartitionId};
use clicks::time::Timestamp;
use parquet::file::metadata::{KeyValue, ParquetMetaDataReader};
use platform::objects::{ObjectError, Objects};

use tail::{Tail, locate};
pub(crate) use tail::{placeholder, seal};

/// Major version of the format of raw objects.
pub const VERSION: u32 = 1;

/// Read from the end of an object at first: footers and page indexes of common objects are smaller.
const TAIL_BYTES: u64 = 64 * 1024;

/// What a raw object says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Footer {
    /// Major version of the format.
    pub version: u32,
    pub partition: PartitionId,
    /// Offset of the first record.
    pub start: Offset,
    /// Offset after the last record.
    pub end: Offset,
    /// Append time of the first record.
    pub append_time_min: Timestamp,
    /// Append time of the last record.
    pub append_time_max: Timestamp,
    /// Clicks among the records.
    pub clicks: u64,
    /// Records: `end - start`.
    pub rows: u64,
    /// Partition count of the topic life that the newest heartbeat in the object names; `None` without one.
    pub partitions: Option<u32>,
    /// SHA-256 of the row-group bytes in hexadecimal.
    pub content_sha256: String,
    /// Length of the row-group bytes, counted from the start of the object.
    pub content_bytes: u64,
    /// Who wrote the object.
    pub writer: String,
}

/// A raw object whose footer cannot be believed.
#[derive(Debug, thiserror::Error)]
pub enum FooterError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("object `{key}` is damaged or none of ours: {reason}; restore it, its records are not readable from here")]
    Damaged { key: String, reason: String },
    #[error("object `{key}` has format version {found}, this release reads {VERSION}; use a newer release")]
    Version { key: String, found: String },
    #[error("object `{key}` contradicts itself: {reason}; it was not written by a sound archiver and cannot be used")]
    Inconsistent { key: String, reason: String },
}

enum Parsed {
    Whole(Footer),
    /// More of the object is needed, from this position on.
    From(u64),
}

impl Footer {
    /// Reads the footer of the object `key`, which has `size` bytes, and checks it against its key.
    ///
    /// # Errors
    /// [`FooterError::Damaged`] for truncated or changed bytes, [`FooterError::Version`] for an unknown major version,
    /// [`FooterError::Inconsistent`] when the values contradict each other or the key.
    pub async fn read(objects: &Objects, key: &RawKey, size: u64) -> Result<Footer, FooterError> {
        let name = key.to_string();
        let mut from = size.saturating_sub(TAIL_BYTES);
        let footer = loop {
            let bytes = match size {
                0 => Bytes::new(),
                _ => objects.get_range(&name, from..size).await?,
            };
            if bytes.len() as u64 != size - from {
                let reason = format!("bytes [{from}, {size}) were asked for, {} came", bytes.len());
                return Err(FooterError::Damaged { key: name, reason });
            }
            match parse(&name, &bytes, from)? {
                Parsed::Whole(footer) => break footer,
                // Strictly smaller than before, so this ends.
                Parsed::From(earlier) => from = earlier,
            }
        };
        footer.check_key(key)?;
        Ok(footer)
    }

    /// The footer of an object that is at hand as a whole; `name` is for error messages.
    pub fn of(name: &str, object: &[u8]) -> Result<Footer, FooterError> {
        match parse(name, object, 0)? {
            Parsed::Whole(footer) => Ok(footer),
            Parsed::From(_) => Err(damaged(name, "its parts overlap")),
        }
    }

    /// The one key under which this object may lie.
    pub fn key(&self) -> RawKey {
        RawKey { partition: self.partition.clone(), day: self.append_time_min.day(), start: self.start }
    }

    fn check_key(&self, key: &RawKey) -> Result<(), FooterError> {
        let own = self.key();
        if own == *key {
            return Ok(());
        }
        Err(FooterError::Inconsistent { key: key.to_string(), reason: format!("by its footer it is `{own}`") })
    }

    /// Key-value metadata of the Parquet file, without [`names::TAIL`].
    pub(crate) fn metadata(&self) -> Vec<KeyValue> {
        let mut pairs = vec![
            (names::VERSION, self.version.to_string()),
            (names::PARTITION, self.partition.to_string()),
            (names::START_OFFSET, self.start.to_string()),
            (names::END_OFFSET, self.end.to_string()),
            (names::APPEND_TIME_MIN, self.append_time_min.as_millis().to_string()),
            (names::APPEND_TIME_MAX, self.append_time_max.as_millis().to_string()),
            (names::CLICKS, self.clicks.to_string()),
            (names::CONTENT_SHA256, self.content_sha256.clone()),
            (names::WRITER, self.writer.clone()),
        ];
        pairs.extend(self.partitions.map(|count| (names::PARTITIONS, count.to_string())));
        pairs.into_iter().map(|(name, value)| KeyValue::new(name.to_owned(), value)).collect()
    }

    /// Refuses values that cannot all be true.
    fn check(&self, name: &str) -> Result<(), FooterError> {
        let wrong = |reason: String| Err(FooterError::Inconsistent { key: name.to_owned(), reason });
        let Footer { start, end, rows, clicks, .. } = self;
        if end <= start || end.distance_from(*start) != *rows {
            return wrong(format!("it has {rows} rows for the offsets [{start}, {end})"));
        }
        if clicks > rows {
            return wrong(format!("it has {clicks} clicks in {rows} rows"));
        }
        if self.append_time_max < self.append_time_min {
            return wrong(format!("its append times go from {} to {}", self.append_time_min, self.append_time_max));
        }
        if self.partitions.is_some_and(|count| count <= self.partition.number) {
            return wrong(format!("it is of {} of {:?} partitions", self.partition, self.partitions));
        }
        Ok(())
    }
}

fn damaged(name: &str, reason: impl ToString) -> FooterError {
    FooterError::Damaged { key: name.to_owned(), reason: reason.to_string() }
}

/// Parses the end of an object; `bytes` begin at position `from` of it.
fn parse(name: &str, bytes: &[u8], from: u64) -> Result<Parsed, FooterError> {
    let (metadata, tail) = match locate(bytes, from).map_err(|reason| damaged(name, reason))? {
        Tail::From(earlier) => return Ok(Parsed::From(earlier)),
        Tail::Whole { metadata, content_bytes } => (metadata, content_bytes),
    };
    let parsed = ParquetMetaDataReader::decode_metadata(metadata).map_err(|error| damaged(name, error))?;
    let file = parsed.file_metadata();
    let values: HashMap<&str, &str> = file
        .key_value_metadata()
        .into_iter()
        .flatten()
        .filter_map(|pair| Some((pair.key.as_str(), pair.value.as_deref()?)))
        .collect();
    let version = text(name, &values, names::VERSION)?;
    // A minor version, should one ever come, may add what older readers may ignore.
    if version.split('.').next() != Some(VERSION.to_string().as_str()) {
        return Err(FooterError::Version { key: name.to_owned(), found: version.to_owned() });
    }
    let footer = Footer {
        version: VERSION,
        partition: value(name, &values, names::PARTITION)?,
        start: Offset::new(value(name, &values, names::START_OFFSET)?),
        end: Offset::new(value(name, &values, names::END_OFFSET)?),
        append_time_min: Timestamp::from_millis(value(name, &values, names::APPEND_TIME_MIN)?),
        append_time_max: Timestamp::from_millis(value(name, &values, names::APPEND_TIME_MAX)?),
        clicks: value(name, &values, names::CLICKS)?,
        rows: u64::try_from(file.num_rows()).map_err(|error| damaged(name, error))?,
        partitions: match values.contains_key(names::PARTITIONS) {
            true => Some(value(name, &values, names::PARTITIONS)?),
            false => None,
        },
        content_sha256: text(name, &values, names::CONTENT_SHA256)?.to_owned(),
        content_bytes: tail,
        writer: text(name, &values, names::WRITER)?.to_owned(),
    };
    footer.check(name)?;
    Ok(Parsed::Whole(footer))
}

fn text<'a>(name: &str, values: &HashMap<&str, &'a str>, key: &str) -> Result<&'a str, FooterError> {
    values.get(key).copied().ok_or_else(|| damaged(name, format!("`{key}` is missing in its footer")))
}

fn value<T: std::str::FromStr>(name: &str, values: &HashMap<&str, &str>, key: &str) -> Result<T, FooterError> {
    let text = text(name, values, key)?;
    text.parse().map_err(|_| damaged(name, format!("`{key}` cannot be `{text}`")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec::encode;
    use clicks::id::{Region, TopicId};
    use platform::log::LogRecord;

    fn object() -> Vec<u8> {
        let partition = PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(7), number: 3 };
        let record = |offset: u64| {
            let broker_time = Timestamp::from_millis(1_000 + offset as i64);
            let (key, value, headers) = (None, None, Vec::new());
            (LogRecord { offset: Offset::new(offset), broker_time, key, value, headers }, broker_time)
        };
        encode(&partition, "w", &[record(10), record(11), record(12)]).unwrap().bytes.to_vec()
    }

    /// The object with another value, of the same length, of one pair, as an unsound writer would have written it.
    fn with(name: &str, value: &str) -> Vec<u8> {
        let mut object = object();
        let content_bytes = Footer::of("x", &object).unwrap().content_bytes;
        let find = |object: &[u8], name: &str| object.windows(name.len()).rposition(|w| w == name.as_bytes()).unwrap();
        let at = find(&object, name) + name.len() + 2;
        object[at..at + value.len()].copy_from_slice(value.as_bytes());
        let tail = find(&object, names::TAIL) + names::TAIL.len() + 2;
        let blank = placeholder(content_bytes);
        object[tail..tail + blank.len()].copy_from_slice(blank.as_bytes());
        seal(&mut object, content_bytes);
        object
    }

    #[test]
    fn what_cannot_be_read_or_cannot_be_true_is_refused() {
        assert!(Footer::of("x", &with(names::WRITER, "v")).is_ok(), "a sealed object is read");
        let cases = [
            (names::VERSION, "2", "version"),
            (names::VERSION, "x", "version"),
            (names::END_OFFSET, "14", "inconsistent"),
            (names::END_OFFSET, "12", "inconsistent"),
            (names::START_OFFSET, "13", "inconsistent"),
            (names::START_OFFSET, "-1", "damaged"),
            (names::CLICKS, "4", "inconsistent"),
            (names::APPEND_TIME_MIN, "1013", "inconsistent"),
            (names::PARTITION, "eu/00000000-0000-0000-0000-00000000000x", "damaged"),
        ];
        for (name, value, expected) in cases {
            let error = Footer::of("the-key", &with(name, value)).unwrap_err();
            let found = match &error {
                FooterError::Version { .. } => "version",
                FooterError::Inconsistent { .. } => "inconsistent",
                FooterError::Damaged { .. } => "damaged",
                FooterError::Object(_) => "object",
            };
            assert_eq!(found, expected, "{name}={value}: {error}");
            assert!(error.to_string().contains("the-key"), "{error}");
        }
    }
}
