//! Columns back into records.

use arrow::array::{
    Array, ArrowPrimitiveType, AsArray, BinaryArray, BooleanArray, FixedSizeBinaryArray, PrimitiveArray, RecordBatch,
    StringArray,
};
use arrow::datatypes::{Int8Type, Int64Type, TimestampMillisecondType};
use bytes::Bytes;
use clicks::event::Click;
use clicks::id::{AdId, ClickId, UserId};
use clicks::layout::{Kind, columns as names};
use clicks::position::Offset;
use clicks::time::Timestamp;
use platform::log::{Header, LogRecord};

use super::headers::{self, Typed};

/// Appends the records of one batch; columns are found by name, further ones are ignored.
pub(super) fn read(batch: &RecordBatch, records: &mut Vec<(LogRecord, Timestamp)>) -> Result<(), String> {
    let rows = Rows {
        offset: primitive(batch, names::OFFSET)?,
        append_time: primitive(batch, names::APPEND_TIME)?,
        broker_time: primitive(batch, names::BROKER_TIME)?,
        kind: primitive(batch, names::KIND)?,
        click_id: column(batch, names::CLICK_ID, |array| array.as_fixed_size_binary_opt())?,
        ad_id: column(batch, names::AD_ID, |array| array.as_string_opt())?,
        user_id: column(batch, names::USER_ID, |array| array.as_string_opt())?,
        event_time: primitive(batch, names::EVENT_TIME)?,
        received_time: primitive(batch, names::RECEIVED_TIME)?,
        user_agent: column(batch, names::USER_AGENT, |array| array.as_string_opt())?,
        key: column(batch, names::KEY, |array| array.as_binary_opt())?,
        key_absent: column(batch, names::KEY_ABSENT, |array| array.as_boolean_opt())?,
        raw: column(batch, names::RAW, |array| array.as_binary_opt())?,
        headers: column(batch, names::HEADERS, |array| array.as_binary_opt())?,
    };
    for row in 0..batch.num_rows() {
        records.push(rows.record(row).map_err(|reason| format!("row {row} of a batch: {reason}"))?);
    }
    Ok(())
}

struct Rows<'a> {
    offset: &'a PrimitiveArray<Int64Type>,
    append_time: &'a PrimitiveArray<TimestampMillisecondType>,
    broker_time: &'a PrimitiveArray<TimestampMillisecondType>,
    kind: &'a PrimitiveArray<Int8Type>,
    click_id: &'a FixedSizeBinaryArray,
    ad_id: &'a StringArray,
    user_id: &'a StringArray,
    event_time: &'a PrimitiveArray<TimestampMillisecondType>,
    received_time: &'a PrimitiveArray<TimestampMillisecondType>,
    user_agent: &'a StringArray,
    key: &'a BinaryArray,
    key_absent: &'a BooleanArray,
    raw: &'a BinaryArray,
    headers: &'a BinaryArray,
}

impl Rows<'_> {
    fn record(&self, row: usize) -> Result<(LogRecord, Timestamp), String> {
        let offset = u64::try_from(self.offset.value(row)).map_err(|_| "its offset is negative".to_owned())?;
        let kind = self.kind.value(row);
        let kind =
            Kind::from_code(kind).ok_or_else(|| format!("its kind is {kind}, which this release does not know"))?;
        let record = LogRecord {
            offset: Offset::new(offset),
            broker_time: Timestamp::from_millis(self.broker_time.value(row)),
            key: self.key(row)?,
            value: self.value(row, kind)?,
            headers: self.headers(row)?,
        };
        Ok((record, Timestamp::from_millis(self.append_time.value(row))))
    }

    fn key(&self, row: usize) -> Result<Option<Bytes>, String> {
        match (self.key_absent.value(row), self.key.is_valid(row), self.ad_id.is_valid(row)) {
            (true, _, _) => Ok(None),
            (false, true, _) => Ok(Some(Bytes::copy_from_slice(self.key.value(row)))),
            (false, false, true) => Ok(Some(Bytes::copy_from_slice(self.ad_id.value(row).as_bytes()))),
            (false, false, false) => Err("it has a key, but neither that nor an ad is stored".to_owned()),
        }
    }

    fn value(&self, row: usize, kind: Kind) -> Result<Option<Bytes>, String> {
        if self.raw.is_valid(row) {
            return Ok(Some(Bytes::copy_from_slice(self.raw.value(row))));
        }
        match kind {
            Kind::Click => Ok(Some(clicks::wire::encode(&self.click(row)?).into())),
            Kind::Control | Kind::Empty => Ok(None),
            Kind::Unreadable => Err("it is unreadable and has no raw bytes".to_owned()),
        }
    }

    fn click(&self, row: usize) -> Result<Click, String> {
        let columns: [&dyn Array; 4] = [self.click_id, self.ad_id, self.user_id, self.event_time];
        if columns.iter().any(|column| column.is_null(row)) {
            return Err("it is a click with a column that is null".to_owned());
        }
        let click_id = self.click_id.value(row).try_into().map_err(|_| "its click id has no 16 bytes".to_owned())?;
        Ok(Click {
            click_id: ClickId::from_bytes(click_id),
            ad_id: AdId::parse(self.ad_id.value(row)).map_err(|error| format!("its ad {error}"))?,
            user_id: UserId::parse(self.user_id.value(row)).map_err(|error| format!("its user {error}"))?,
            event_time: Timestamp::from_millis(self.event_time.value(row)),
        })
    }

    fn headers(&self, row: usize) -> Result<Vec<Header>, String> {
        if self.headers.is_valid(row) {
            return headers::read(self.headers.value(row)).ok_or_else(|| "its headers are cut off".to_owned());
        }
        let received = self.received_time.is_valid(row).then(|| Timestamp::from_millis(self.received_time.value(row)));
        let user_agent = self.user_agent.is_valid(row).then(|| self.user_agent.value(row));
        Ok(Typed { received, user_agent }.to_headers())
    }
}

fn primitive<'a, T: ArrowPrimitiveType>(batch: &'a RecordBatch, name: &str) -> Result<&'a PrimitiveArray<T>, String> {
    column(batch, name, |array| array.as_primitive_opt::<T>())
}

fn column<'a, T>(
    batch: &'a RecordBatch,
    name: &str,
    typed: impl FnOnce(&'a dyn Array) -> Option<&'a T>,
) -> Result<&'a T, String> {
    let array = batch.column_by_name(name).ok_or_else(|| format!("it has no column `{name}`"))?;
    typed(array.as_ref()).ok_or_else(|| format!("its column `{name}` is of type {}", array.data_type()))
}
