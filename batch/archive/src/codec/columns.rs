//! Records into columns.

use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, FixedSizeBinaryBuilder, GenericByteBuilder, Int8Builder,
    Int64Builder, RecordBatch, StringArray, StringBuilder, TimestampMillisecondBuilder,
};
use arrow::datatypes::ByteArrayType;
use arrow::error::ArrowError;
use clicks::time::Timestamp;
use clicks::wire::Read;
use platform::log::LogRecord;

use super::Reading;
use super::headers::{self, Typed};
use crate::schema::{CLICK_ID_BYTES, UTC, schema};

/// Bytes of a name, as far as room is made beforehand.
const NAME_BYTES: usize = 12;

/// The columns of the rows that are not written yet.
pub(super) struct Columns {
    capacity: usize,
    rows: usize,
    /// Bytes in the columns that may hold long values.
    bytes: usize,
    offset: Int64Builder,
    append_time: TimestampMillisecondBuilder,
    broker_time: TimestampMillisecondBuilder,
    kind: Int8Builder,
    click_id: FixedSizeBinaryBuilder,
    /// Text that is checked as a whole.
    ad_id: BinaryBuilder,
    user_id: BinaryBuilder,
    event_time: TimestampMillisecondBuilder,
    key_absent: BooleanBuilder,
    /// Most records have none of these: what is missing at their ends is null.
    received_time: TimestampMillisecondBuilder,
    user_agent: StringBuilder,
    key: BinaryBuilder,
    raw: BinaryBuilder,
    headers: BinaryBuilder,
}

impl Columns {
    /// With room for so many rows.
    pub(super) fn new(rows: usize) -> Self {
        let time = || TimestampMillisecondBuilder::with_capacity(rows).with_timezone(UTC);
        let text = || BinaryBuilder::with_capacity(rows, rows * NAME_BYTES);
        let none = || BinaryBuilder::with_capacity(rows, 0);
        Columns {
            capacity: rows,
            rows: 0,
            bytes: 0,
            offset: Int64Builder::with_capacity(rows),
            append_time: time(),
            broker_time: time(),
            kind: Int8Builder::with_capacity(rows),
            click_id: FixedSizeBinaryBuilder::with_capacity(rows, CLICK_ID_BYTES),
            ad_id: text(),
            user_id: text(),
            event_time: time(),
            key_absent: BooleanBuilder::with_capacity(rows),
            received_time: time(),
            user_agent: StringBuilder::with_capacity(rows, 0),
            key: none(),
            raw: none(),
            headers: none(),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, record: &LogRecord, append_time: Timestamp, reading: &Reading<'_>) {
        // Offsets on a log are 63 bits wide; the column is signed because readers of Parquet expect it.
        self.offset.append_value(record.offset.value() as i64);
        self.append_time.append_value(append_time.as_millis());
        self.broker_time.append_value(record.broker_time.as_millis());
        self.kind.append_value(reading.kind as i8);
        self.push_click(reading.click.as_ref());
        self.push_key(record.key.as_deref(), reading.click.as_ref());
        self.bytes += reading.raw.map_or(0, <[u8]>::len);
        if let Some(raw) = reading.raw {
            filled(&mut self.raw, self.rows).append_value(raw);
        }
        self.push_headers(record);
        self.rows += 1;
    }

    fn push_click(&mut self, click: Option<&Read<'_>>) {
        match click {
            Some(click) => {
                self.click_id.append_value(click.click_id.to_bytes()).expect("a click id has the width of its column")
            }
            None => self.click_id.append_null(),
        }
        self.ad_id.append_option(click.map(|click| click.ad_id.as_bytes()));
        self.user_id.append_option(click.map(|click| click.user_id.as_bytes()));
        self.event_time.append_option(click.map(|click| click.event_time.as_millis()));
    }

    fn push_key(&mut self, key: Option<&[u8]>, click: Option<&Read<'_>>) {
        let ad_id = click.map(|click| click.ad_id.as_bytes());
        if let Some(other) = key.filter(|_| key != ad_id) {
            self.bytes += other.len();
            filled(&mut self.key, self.rows).append_value(other);
        }
        self.key_absent.append_value(key.is_none());
    }

    fn push_headers(&mut self, record: &LogRecord) {
        let typed = Typed::of(record);
        if let Some(received) = typed.received {
            self.received_time.append_nulls(self.rows - self.received_time.len());
            self.received_time.append_value(received.as_millis());
        }
        if let Some(agent) = typed.user_agent {
            self.bytes += agent.len();
            filled(&mut self.user_agent, self.rows).append_value(agent);
        }
        if !typed.gives(&record.headers) {
            let all = headers::write(&record.headers);
            self.bytes += all.len();
            filled(&mut self.headers, self.rows).append_value(all);
        }
    }

    /// The rows since the last call.
    pub(super) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        let mut full = std::mem::replace(self, Columns::new(self.capacity));
        full.received_time.append_nulls(full.rows - full.received_time.len());
        let text = |mut names: BinaryBuilder| StringArray::try_from_binary(names.finish());
        let columns: Vec<ArrayRef> = vec![
            Arc::new(full.offset.finish()),
            Arc::new(full.append_time.finish()),
            Arc::new(full.broker_time.finish()),
            Arc::new(full.kind.finish()),
            Arc::new(full.click_id.finish()),
            Arc::new(text(full.ad_id)?),
            Arc::new(text(full.user_id)?),
            Arc::new(full.event_time.finish()),
            Arc::new(full.received_time.finish()),
            Arc::new(filled(&mut full.user_agent, full.rows).finish()),
            Arc::new(filled(&mut full.key, full.rows).finish()),
            Arc::new(full.key_absent.finish()),
            Arc::new(filled(&mut full.raw, full.rows).finish()),
            Arc::new(filled(&mut full.headers, full.rows).finish()),
        ];
        RecordBatch::try_new(schema(), columns)
    }
}

/// A column with nulls up to so many rows.
fn filled<T: ByteArrayType>(column: &mut GenericByteBuilder<T>, rows: usize) -> &mut GenericByteBuilder<T> {
    column.append_nulls(rows - column.len());
    column
}
