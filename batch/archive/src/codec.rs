//! Records of the log as a raw object, and back: byte-equal keys, values, headers, times and offsets.
//!
//! Clicks become typed columns. What encoding the columns would not give back (a value in another spelling, a key that
//! is not the ad, headers of others) is kept beside them as bytes, so everything is recoverable and common records cost
//! nothing extra.
//!
//! The bytes are a function of partition, records and writer: no clock, no random name. Encoding again after a crash
//! gives the same object, so a put whose answer was lost is recognised.

mod columns;
mod headers;
mod rows;

use std::collections::HashSet;

use bytes::Bytes;
use clicks::control::Heartbeat;
use clicks::layout::{Kind, columns as names, footer::TAIL};
use clicks::position::{Offset, PartitionId};
use clicks::time::Timestamp;
use clicks::wire::{self, Read};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;
use platform::log::LogRecord;
use sha2::{Digest, Sha256};

use crate::footer::{self, Footer, FooterError};
use crate::schema::schema;
use columns::Columns;

/// Rows of a row group: what a reader holds at once. Smaller groups cost size, larger ones memory (measured: 1.5 % more
/// bytes than 1 Mi rows, 8 MB instead of 20).
const GROUP_ROWS: usize = 128 * 1024;
/// Rows and bytes that are handed to the Parquet writer at once; offsets within a column of bytes are 32 bits wide.
const BATCH_ROWS: usize = 8 * 1024;
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// Distinct ads of a row group fit, so that the dictionary does not fall back (100 k names of 12 bytes and more).
const DICTIONARY_BYTES: usize = 4 * 1024 * 1024;
/// Level 3 makes objects of ordered ids (UUIDs of version 7) a twentieth smaller, others not at all, in twice the time.
const ZSTD_LEVEL: i32 = 1;

/// A raw object that is not stored yet.
#[derive(Debug, Clone)]
pub struct Encoded {
    /// The whole object.
    pub bytes: Bytes,
    /// What its footer says.
    pub footer: Footer,
    /// Records of each kind, in the order of [`Kind::ALL`].
    pub kinds: [u64; Kind::ALL.len()],
}

/// Records that cannot be encoded, or an object that cannot be decoded.
#[derive(Debug, thiserror::Error)]
pub enum CodecError {
    #[error("an object of no records cannot be")]
    Empty,
    #[error("record {found} follows where {expected} is next; an object holds a contiguous range")]
    NotContiguous { expected: Offset, found: Offset },
    #[error("the append time of record {offset} is {found}, less than {least}; it is a running maximum")]
    AppendTime { offset: Offset, found: Timestamp, least: Timestamp },
    #[error("Parquet: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
    #[error("Arrow: {0}")]
    Arrow(#[from] arrow::error::ArrowError),
    #[error(transparent)]
    Footer(#[from] FooterError),
    #[error("object `{key}` is damaged: {reason}; restore it, nothing of it was used")]
    Damaged { key: String, reason: String },
}

/// A record as the archive takes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reading<'a> {
    pub kind: Kind,
    /// Of a readable click. Time limits are no matter of the archive.
    pub click: Option<Read<'a>>,
    /// The value, unless encoding the click gives it back.
    pub raw: Option<&'a [u8]>,
}

impl<'a> Reading<'a> {
    pub fn of(record: &'a LogRecord) -> Self {
        let Some(value) = record.value.as_deref().filter(|_| !record.is_control()) else {
            let kind = if record.is_control() { Kind::Control } else { Kind::Empty };
            return Reading { kind, click: None, raw: record.value.as_deref() };
        };
        if let Some(click) = wire::read_canonical(value) {
            return Reading { kind: Kind::Click, click: Some(click), raw: None };
        }
        match wire::read_json(value) {
            Ok(click) => {
                let raw = (wire::encode(&click.to_click()).as_bytes() != value).then_some(value);
                Reading { kind: Kind::Click, click: Some(click), raw }
            }
            Err(_) => Reading { kind: Kind::Unreadable, click: None, raw: Some(value) },
        }
    }
}

/// Encodes records, each with its append time, as one raw object.
///
/// # Errors
/// When there are none, their offsets are not contiguous, or an append time is no running maximum of the broker times.
pub fn encode(
    partition: &PartitionId,
    writer: &str,
    records: &[(LogRecord, Timestamp)],
) -> Result<Encoded, CodecError> {
    let [(first, append_time_min), ..] = records else { return Err(CodecError::Empty) };
    let mut footer = Footer {
        version: footer::VERSION,
        partition: partition.clone(),
        start: first.offset,
        end: first.offset,
        append_time_min: *append_time_min,
        append_time_max: *append_time_min,
        clicks: 0,
        rows: records.len() as u64,
        partitions: None,
        content_sha256: String::new(),
        content_bytes: 0,
        writer: writer.to_owned(),
    };
    let mut kinds = [0; Kind::ALL.len()];
    let mut object = Vec::new();
    let mut parquet = ArrowWriter::try_new(&mut object, schema(), Some(properties(records)))?;
    let mut columns = Columns::new(records.len().min(BATCH_ROWS));
    for (record, append_time) in records {
        let reading = Reading::of(record);
        footer.add(record, *append_time, reading.kind)?;
        kinds[reading.kind as usize] += 1;
        columns.push(record, *append_time, &reading);
        if columns.rows() >= BATCH_ROWS || columns.bytes() >= BATCH_BYTES {
            parquet.write(&columns.finish()?)?;
        }
    }
    parquet.write(&columns.finish()?)?;
    // The last row group is closed and everything pushed through the writer's own buffer, so that the content is whole.
    parquet.flush()?;
    parquet.sync().map_err(parquet::errors::ParquetError::from)?;
    let content = parquet.inner().as_slice();
    footer.content_sha256 = clicks::hex(&Sha256::digest(content));
    footer.content_bytes = content.len() as u64;
    for pair in footer.metadata() {
        parquet.append_key_value_metadata(pair);
    }
    // Last, because it is looked for from the end.
    parquet.append_key_value_metadata(KeyValue::new(TAIL.to_owned(), footer::placeholder(footer.content_bytes)));
    parquet.close()?;
    footer::seal(&mut object, footer.content_bytes);
    Ok(Encoded { bytes: object.into(), footer, kinds })
}

/// Checks both hashes of a whole object and gives its footer; `name` is for error messages.
pub fn verify(name: &str, object: &Bytes) -> Result<Footer, CodecError> {
    let footer = Footer::of(name, object)?;
    let content = &object[..footer.content_bytes as usize];
    if clicks::hex(&Sha256::digest(content)) != footer.content_sha256 {
        let reason = "its row groups do not have the hash that its footer names".to_owned();
        return Err(CodecError::Damaged { key: name.to_owned(), reason });
    }
    Ok(footer)
}

/// Gives back the exact log: every record with its append time. Both hashes are checked first.
///
/// # Errors
/// [`CodecError::Damaged`] or [`CodecError::Footer`] when the object is not what an archiver wrote.
pub fn decode(object: Bytes) -> Result<Vec<(LogRecord, Timestamp)>, CodecError> {
    let footer = verify("(in memory)", &object)?;
    let key = footer.key().to_string();
    let damaged = |reason: String| CodecError::Damaged { key: key.clone(), reason };
    let mut records = Vec::with_capacity(footer.rows as usize);
    for batch in ParquetRecordBatchReaderBuilder::try_new(object)?.build()? {
        rows::read(&batch?, &mut records).map_err(damaged)?;
    }
    let expected = (footer.start.value()..footer.end.value()).map(Offset::new);
    match records.iter().map(|(record, _)| record.offset).eq(expected) {
        true => Ok(records),
        false => Err(damaged(format!("its offsets are not those of [{}, {})", footer.start, footer.end))),
    }
}

impl Footer {
    /// Takes the next record into account.
    fn add(&mut self, record: &LogRecord, append_time: Timestamp, kind: Kind) -> Result<(), CodecError> {
        if record.offset != self.end {
            return Err(CodecError::NotContiguous { expected: self.end, found: record.offset });
        }
        let least = self.append_time_max.max(record.broker_time);
        if append_time < least {
            return Err(CodecError::AppendTime { offset: record.offset, found: append_time, least });
        }
        self.end = self.end.next();
        self.append_time_max = append_time;
        match kind {
            Kind::Click => self.clicks += 1,
            Kind::Control => self.partitions = partitions(&self.partition, record).or(self.partitions),
            Kind::Unreadable | Kind::Empty => {}
        }
        Ok(())
    }
}

/// The partition count that a heartbeat names. One of another topic life, or with a count that this very partition
/// disproves, says nothing.
fn partitions(partition: &PartitionId, record: &LogRecord) -> Option<u32> {
    let beat = Heartbeat::decode(record.value.as_deref()?)?;
    (beat.topic_id == partition.topic && beat.partitions > partition.number).then_some(beat.partitions)
}

/// How the columns are stored.
fn properties(records: &[(LogRecord, Timestamp)]) -> WriterProperties {
    let sample = Sample::of(records);
    let path = |name: &str| ColumnPath::from(name);
    let zstd = ZstdLevel::try_new(ZSTD_LEVEL).expect("1 is a level of zstd");
    // No sorting columns are declared: the engine plans slower with them, and readers know the order anyway.
    let mut properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(zstd))
        .set_statistics_enabled(EnabledStatistics::None)
        .set_max_row_group_row_count(Some(GROUP_ROWS))
        .set_dictionary_page_size_limit(DICTIONARY_BYTES);
    let numbers =
        [names::OFFSET, names::APPEND_TIME, names::BROKER_TIME, names::KIND, names::EVENT_TIME, names::RECEIVED_TIME];
    for name in numbers {
        properties = properties
            .set_column_dictionary_enabled(path(name), false)
            .set_column_encoding(path(name), Encoding::DELTA_BINARY_PACKED);
    }
    // Readers prune by these alone: ids and names spread over every page, and the longest would stand in the footer.
    for name in [names::OFFSET, names::APPEND_TIME, names::EVENT_TIME] {
        properties = properties.set_column_statistics_enabled(path(name), EnabledStatistics::Page);
    }
    if sample.ids_are_random {
        properties = properties.set_column_compression(path(names::CLICK_ID), Compression::UNCOMPRESSED);
    }
    if !sample.users_recur {
        properties = properties
            .set_column_dictionary_enabled(path(names::USER_ID), false)
            .set_column_encoding(path(names::USER_ID), Encoding::DELTA_BYTE_ARRAY);
    }
    properties
        .set_column_dictionary_enabled(path(names::CLICK_ID), false)
        .set_column_encoding(path(names::CLICK_ID), CLICK_ID_ENCODING)
        .set_column_dictionary_enabled(path(names::RAW), false)
        .build()
}

/// What some thousand of an object's records tell of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sample {
    /// Most click ids are random bits or hashes (UUIDs of versions 3 to 5), which do not compress and cost a compressor as
    /// much as everything else together. Others begin with a time or a number.
    ids_are_random: bool,
    /// Most users click again within the object, so that a dictionary of them is smaller than their names.
    users_recur: bool,
}

impl Sample {
    /// Users that come back within so many clicks are worth a dictionary.
    const RECORDS: usize = 8 * 1024;

    fn of(records: &[(LogRecord, Timestamp)]) -> Self {
        let (mut clicks, mut random) = (0, 0);
        let mut users = HashSet::new();
        for (record, _) in records.iter().step_by(records.len().div_ceil(Self::RECORDS)) {
            let Some(click) = record.value.as_deref().and_then(wire::read_canonical) else { continue };
            clicks += 1;
            random += usize::from(matches!(click.click_id.to_bytes()[6] >> 4, 3..=5));
            users.insert(click.user_id.as_bytes().to_vec());
        }
        Sample { ids_are_random: 2 * random > clicks, users_recur: 2 * users.len() < clicks }
    }
}

/// `BYTE_STREAM_SPLIT` saves another 0.9 bytes a click, but DuckDB 2.0 does not read it in this type, and raw files are
/// there to be read with any tool.
const CLICK_ID_ENCODING: Encoding = Encoding::PLAIN;
