//! Records into columns.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, FixedSizeBinaryBuilder, Int8Builder, Int64Builder, RecordBatch,
    StringBuilder, TimestampMillisecondBuilder,
};
use arrow::error::ArrowError;
use clicks::time::Timestamp;
use clicks::wire::Read;
use platform::log::LogRecord;

use super::Reading;
use super::headers::{self, Typed};
use crate::schema::{CLICK_ID_BYTES, UTC, schema};

/// The columns of the rows that are not written yet.
pub(super) struct Columns {
    rows: usize,
    /// Bytes in the columns that may hold long values.
    bytes: usize,
    offset: Int64Builder,
    append_time: TimestampMillisecondBuilder,
    broker_time: TimestampMillisecondBuilder,
    kind: Int8Builder,
    click_id: FixedSizeBinaryBuilder,
    ad_id: StringBuilder,
    user_id: StringBuilder,
    event_time: TimestampMillisecondBuilder,
    received_time: TimestampMillisecondBuilder,
    user_agent: StringBuilder,
    key: BinaryBuilder,
    key_absent: BooleanBuilder,
    raw: BinaryBuilder,
    headers: BinaryBuilder,
}

impl Columns {
    pub(super) fn new() -> Self {
        let time = || TimestampMillisecondBuilder::new().with_timezone(UTC);
        Columns {
            rows: 0,
            bytes: 0,
            offset: Int64Builder::new(),
            append_time: time(),
            broker_time: time(),
            kind: Int8Builder::new(),
            click_id: FixedSizeBinaryBuilder::new(CLICK_ID_BYTES),
            ad_id: StringBuilder::new(),
            user_id: StringBuilder::new(),
            event_time: time(),
            received_time: time(),
            user_agent: StringBuilder::new(),
            key: BinaryBuilder::new(),
            key_absent: BooleanBuilder::new(),
            raw: BinaryBuilder::new(),
            headers: BinaryBuilder::new(),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, record: &LogRecord, append_time: Timestamp, reading: &Reading<'_>) {
        self.rows += 1;
        // Offsets on a log are 63 bits wide; the column is signed because readers of Parquet expect it.
        self.offset.append_value(record.offset.value() as i64);
        self.append_time.append_value(append_time.as_millis());
        self.broker_time.append_value(record.broker_time.as_millis());
        self.kind.append_value(reading.kind as i8);
        self.push_click(reading.click.as_ref());
        self.push_key(record.key.as_deref(), reading.click.as_ref());
        self.bytes += reading.raw.map_or(0, <[u8]>::len);
        self.raw.append_option(reading.raw);
        self.push_headers(record);
    }

    fn push_click(&mut self, click: Option<&Read<'_>>) {
        match click {
            Some(click) => {
                self.click_id.append_value(click.click_id.to_bytes()).expect("a click id has the width of its column")
            }
            None => self.click_id.append_null(),
        }
        self.ad_id.append_option(click.map(|click| click.ad_id.as_str()));
        self.user_id.append_option(click.map(|click| click.user_id.as_str()));
        self.event_time.append_option(click.map(|click| click.event_time.as_millis()));
    }

    fn push_key(&mut self, key: Option<&[u8]>, click: Option<&Read<'_>>) {
        let ad_id = click.map(|click| click.ad_id.as_bytes());
        let other = key.filter(|_| key != ad_id);
        self.bytes += other.map_or(0, <[u8]>::len);
        self.key.append_option(other);
        self.key_absent.append_value(key.is_none());
    }

    fn push_headers(&mut self, record: &LogRecord) {
        let typed = Typed::of(record);
        let others = (!typed.gives(&record.headers)).then(|| headers::write(&record.headers));
        self.bytes += typed.user_agent.map_or(0, str::len) + others.as_ref().map_or(0, Vec::len);
        self.received_time.append_option(typed.received.map(Timestamp::as_millis));
        self.user_agent.append_option(typed.user_agent);
        self.headers.append_option(others);
    }

    /// The rows since the last call.
    pub(super) fn finish(&mut self) -> Result<RecordBatch, ArrowError> {
        (self.rows, self.bytes) = (0, 0);
        let columns: Vec<ArrayRef> = vec![
            Arc::new(self.offset.finish()),
            Arc::new(self.append_time.finish()),
            Arc::new(self.broker_time.finish()),
            Arc::new(self.kind.finish()),
            Arc::new(self.click_id.finish()),
            Arc::new(self.ad_id.finish()),
            Arc::new(self.user_id.finish()),
            Arc::new(self.event_time.finish()),
            Arc::new(self.received_time.finish()),
            Arc::new(self.user_agent.finish()),
            Arc::new(self.key.finish()),
            Arc::new(self.key_absent.finish()),
            Arc::new(self.raw.finish()),
            Arc::new(self.headers.finish()),
        ];
        RecordBatch::try_new(schema(), columns)
    }
}
