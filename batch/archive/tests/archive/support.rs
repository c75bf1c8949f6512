//! Records, objects and the worlds that the tests put them into.

use archive::codec::{Encoded, encode};
use bytes::Bytes;
use clicks::event::Click;
use clicks::id::{AdId, ClickId, Region, TopicId, UserId};
use clicks::layout::RawKey;
use clicks::position::{Offset, PartitionId};
use clicks::time::{Span, Timestamp};
use clicks::watermark::AppendTime;
use clicks::wire::{HEADER_RECEIVED, HEADER_USER_AGENT};
use platform::log::{Header, LogRecord};
use platform::objects::Objects;

pub type Stored = (LogRecord, Timestamp);

pub fn noon() -> Timestamp {
    Timestamp::parse_rfc3339("2026-03-01T12:00:00Z").unwrap()
}

pub fn partition() -> PartitionId {
    PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(7), number: 3 }
}

pub fn header(name: &str, value: Option<&str>) -> Header {
    Header { name: name.to_owned(), value: value.map(|value| Bytes::copy_from_slice(value.as_bytes())) }
}

pub fn click(number: u64, event_time: Timestamp) -> Click {
    Click {
        click_id: ClickId::from_u128(u128::from(number)),
        ad_id: AdId::parse(&format!("ad-{}", number % 5)).unwrap(),
        user_id: UserId::parse(&format!("user-{}", number % 11)).unwrap(),
        event_time,
    }
}

/// A click as the collector writes it, on the log at `offset`.
pub fn click_record(offset: u64, broker_time: Timestamp) -> LogRecord {
    let click = click(offset, broker_time - Span::seconds(1));
    let received = (broker_time - Span::millis(2)).as_millis().to_string();
    LogRecord {
        offset: Offset::new(offset),
        broker_time,
        key: Some(Bytes::copy_from_slice(click.ad_id.as_str().as_bytes())),
        value: Some(clicks::wire::encode(&click).into()),
        headers: vec![header(HEADER_RECEIVED, Some(&received)), header(HEADER_USER_AGENT, Some("Mozilla/5.0"))],
    }
}

/// Each record with the running maximum of the broker times.
pub fn with_append_time(records: Vec<LogRecord>) -> Vec<Stored> {
    let mut append_time = AppendTime::resume(Timestamp::MIN);
    records.into_iter().map(|record| (record.clone(), append_time.observe(record.broker_time))).collect()
}

/// Clicks at the offsets `[start, end)`, a second apart.
pub fn clicks_between(start: u64, end: u64) -> Vec<Stored> {
    let at = |offset: u64| noon() + Span::seconds(offset as i64);
    with_append_time((start..end).map(|offset| click_record(offset, at(offset))).collect())
}

/// Stores an object of clicks under its own key.
pub async fn put_clicks(objects: &Objects, start: u64, end: u64) -> (RawKey, Encoded) {
    let encoded = encode(&partition(), "test", &clicks_between(start, end)).unwrap();
    let key = encoded.footer.key();
    objects.put(&key.to_string(), encoded.bytes.clone()).await.unwrap();
    (key, encoded)
}
