//! Where raw objects lie and what their columns are.
//!
//! ```text
//! raw/v1/region=eu/topic=0190f5c4-…/part=7/day=2026-03-01/00000000000000001200.parquet
//! ```
//!
//! One object is one contiguous offset range of one partition. Its whole key is a function of its *first* record: two
//! writers that disagree about the end still collide on the name, and a create-only put lets one of them win.

use std::fmt;
use std::str::FromStr;

use crate::id::{Region, TopicId};
use crate::position::{Offset, PartitionId};
use crate::time::Day;

/// Prefix of all raw objects of this format version.
pub const RAW: &str = "raw/v1/";

/// Columns of a raw object, in order. Types are Arrow's names.
pub mod columns {
    /// Int64, not null: position in the partition.
    pub const OFFSET: &str = "offset";
    /// Timestamp(ms, UTC), not null: running maximum of `broker_time`.
    pub const APPEND_TIME: &str = "append_time";
    /// Timestamp(ms, UTC), not null: LogAppendTime as the broker wrote it.
    pub const BROKER_TIME: &str = "broker_time";
    /// Int8, not null: see [`super::Kind`].
    pub const KIND: &str = "kind";
    /// FixedSizeBinary(16), null unless the record is a click.
    pub const CLICK_ID: &str = "click_id";
    /// Utf8, null unless the record is a click.
    pub const AD_ID: &str = "ad_id";
    /// Utf8, null unless the record is a click.
    pub const USER_ID: &str = "user_id";
    /// Timestamp(ms, UTC), null unless the record is a click.
    pub const EVENT_TIME: &str = "event_time";
    /// Timestamp(ms, UTC): the collector's `tf-received` header, null when it had none.
    pub const RECEIVED_TIME: &str = "received_time";
    /// Utf8: the `user-agent` header, null when it had none.
    pub const USER_AGENT: &str = "user_agent";
    /// Binary: the record's key; null when it equals `ad_id`. `key_absent` tells a missing key.
    pub const KEY: &str = "key";
    /// Boolean, not null: the record had no key.
    pub const KEY_ABSENT: &str = "key_absent";
    /// Binary: the record's value; null when encoding the typed columns gives the same bytes, or it had none.
    pub const RAW: &str = "raw";
    /// Binary: all headers; null when the typed columns give the same headers. Each header is its name's length (u32,
    /// big-endian), name, value's length (u32; all ones for a null value), value.
    pub const HEADERS: &str = "headers";
}

/// Key-value metadata in the Parquet footer of a raw object.
pub mod footer {
    /// Format version, `1`.
    pub const VERSION: &str = "twofold.version";
    /// The partition, `region/topic-id/number`.
    pub const PARTITION: &str = "twofold.partition";
    /// Offset of the first record.
    pub const START_OFFSET: &str = "twofold.start_offset";
    /// Offset after the last record.
    pub const END_OFFSET: &str = "twofold.end_offset";
    /// Append time of the first record, milliseconds.
    pub const APPEND_TIME_MIN: &str = "twofold.append_time_min";
    /// Append time of the last record, milliseconds.
    pub const APPEND_TIME_MAX: &str = "twofold.append_time_max";
    /// Clicks among the records.
    pub const CLICKS: &str = "twofold.clicks";
    /// Partition count that the newest heartbeat in the object names; absent without one.
    pub const PARTITIONS: &str = "twofold.partitions";
    /// SHA-256 of the row-group bytes (everything before the footer), hexadecimal.
    pub const CONTENT_SHA256: &str = "twofold.content_sha256";
    /// Who wrote the object, for operators.
    pub const WRITER: &str = "twofold.writer";
    /// How many row-group bytes there are, as 20 digits, a colon, and the SHA-256 of everything behind them (page index
    /// and footer) in hexadecimal, computed with zeros in place of its own 64 digits. So a flipped bit that the content
    /// hash does not see, in a statistic that a reader prunes by, is found by whoever reads the footer.
    pub const TAIL: &str = "twofold.tail";
}

/// What a raw record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum Kind {
    /// A readable click; the time limits of the rules are not judged here.
    Click = 0,
    /// A record of our own (heartbeat).
    Control = 1,
    /// Anything else: kept in `raw`, never counted.
    Unreadable = 2,
    /// A record without a value.
    Empty = 3,
}

impl Kind {
    pub const ALL: [Kind; 4] = [Kind::Click, Kind::Control, Kind::Unreadable, Kind::Empty];

    /// As it stands in metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Click => "click",
            Kind::Control => "control",
            Kind::Unreadable => "unreadable",
            Kind::Empty => "empty",
        }
    }

    pub const fn from_code(code: i8) -> Option<Self> {
        match code {
            0 => Some(Kind::Click),
            1 => Some(Kind::Control),
            2 => Some(Kind::Unreadable),
            3 => Some(Kind::Empty),
            _ => None,
        }
    }
}

/// Key of one raw object.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RawKey {
    pub partition: PartitionId,
    /// UTC day of the first record's append time.
    pub day: Day,
    /// Offset of the first record.
    pub start: Offset,
}

/// Prefix under which the chain of one partition lies.
pub fn chain_prefix(partition: &PartitionId) -> String {
    format!("{RAW}region={}/topic={}/part={}/", partition.region, partition.topic, partition.number)
}

impl fmt::Display for RawKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}day={}/{:020}.parquet", chain_prefix(&self.partition), self.day, self.start.value())
    }
}

/// A key below `raw/` that is none of ours. It is never skipped in silence: a foreign object may be a lost one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not the key of a raw object")]
pub struct ForeignKey(pub String);

impl FromStr for RawKey {
    type Err = ForeignKey;
    fn from_str(text: &str) -> Result<Self, ForeignKey> {
        let wrong = || ForeignKey(text.to_owned());
        let parts: Vec<&str> = text.strip_prefix(RAW).ok_or_else(wrong)?.split('/').collect();
        let [region, topic, part, day, file] = parts.as_slice() else { return Err(wrong()) };
        let value =
            |part: &str, name: &str| part.strip_prefix(name).and_then(|p| p.strip_prefix('=')).map(str::to_owned);
        let key = RawKey {
            partition: PartitionId {
                region: value(region, "region").and_then(|v| Region::parse(&v).ok()).ok_or_else(wrong)?,
                topic: value(topic, "topic").and_then(|v| TopicId::parse(&v).ok()).ok_or_else(wrong)?,
                number: value(part, "part").and_then(|v| v.parse().ok()).ok_or_else(wrong)?,
            },
            day: value(day, "day").and_then(|v| v.parse().ok()).ok_or_else(wrong)?,
            start: file.strip_suffix(".parquet").and_then(|v| v.parse().ok()).map(Offset::new).ok_or_else(wrong)?,
        };
        // One spelling per key: 19 digits or `part=07` would otherwise be a second object for the same records.
        if key.to_string() == text { Ok(key) } else { Err(wrong()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_pinned_and_has_one_spelling() {
        let partition = PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(7), number: 7 };
        let key = RawKey { partition, day: "2026-03-01".parse().unwrap(), start: Offset::new(1200) };
        let text = "raw/v1/region=eu/topic=00000000-0000-0000-0000-000000000007/part=7/day=2026-03-01/00000000000000001200.parquet";
        assert_eq!(key.to_string(), text);
        assert_eq!(text.parse(), Ok(key));
        for bad in
            ["part=07", "day=2026-3-1", "0000000000000001200.parquet", "00000000000000001200.parquet#1", "region=e/u"]
        {
            let name = bad.split_once('=').map_or("0", |(name, _)| name);
            let spoiled = match name {
                "part" => text.replace("part=7", bad),
                "day" => text.replace("day=2026-03-01", bad),
                "region" => text.replace("region=eu", bad),
                _ => text.replace("00000000000000001200.parquet", bad),
            };
            assert!(spoiled.parse::<RawKey>().is_err(), "{spoiled}");
        }
    }
}
