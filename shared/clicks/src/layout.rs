//! Where raw objects and the records of their chain lie, and what their columns are.
//!
//! ```text
//! raw/v1/region=eu/topic=0190f5c4-…/part=7/day=2026-03-01/00000000000000001200.parquet
//! raw/v1/region=eu/topic=0190f5c4-…/part=7/chain/00000000000000001900.gap.json
//! ```
//!
//! One object is one contiguous offset range of one partition. Its whole key is a function of its *first* record: two
//! writers that disagree about the end still collide on the name, and a create-only put lets one of them win. A record
//! of the chain (a *mark*) says what no object can: that records are lost, that nothing follows, where the chain begins.
//! Its key is a function of the offset at which it stands, for the same reason.

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
#[error("`{0}` is not the key of a raw object, nor of a record of a chain")]
pub struct ForeignKey(pub String);

impl FromStr for RawKey {
    type Err = ForeignKey;
    fn from_str(text: &str) -> Result<Self, ForeignKey> {
        match text.parse()? {
            ChainKey::Object(key) => Ok(key),
            ChainKey::Mark(_) => Err(ForeignKey(text.to_owned())),
        }
    }
}

/// What a mark says; its name is part of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MarkKind {
    /// The chain begins here: what was before it was deleted on purpose.
    Base,
    /// The topic life ended: nothing follows.
    End,
    /// The records from here on, up to the offset that the mark names, were lost before they were stored.
    Gap,
    /// Somebody has counted on the gap that begins here; it is never filled again.
    Seal,
}

impl MarkKind {
    pub const ALL: [MarkKind; 4] = [MarkKind::Base, MarkKind::End, MarkKind::Gap, MarkKind::Seal];

    pub const fn name(self) -> &'static str {
        match self {
            MarkKind::Base => "base",
            MarkKind::End => "end",
            MarkKind::Gap => "gap",
            MarkKind::Seal => "seal",
        }
    }
}

/// Key of one mark.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MarkKey {
    pub partition: PartitionId,
    /// The offset at which it stands in the chain.
    pub at: Offset,
    pub kind: MarkKind,
}

/// Prefix under which the marks of one partition lie, within that of its chain.
pub fn marks_prefix(partition: &PartitionId) -> String {
    format!("{}{MARKS}/", chain_prefix(partition))
}

const MARKS: &str = "chain";

impl fmt::Display for MarkKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:020}.{}.json", marks_prefix(&self.partition), self.at.value(), self.kind.name())
    }
}

/// Any key that may lie among those of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainKey {
    Object(RawKey),
    Mark(MarkKey),
}

impl ChainKey {
    pub const fn partition(&self) -> &PartitionId {
        match self {
            ChainKey::Object(key) => &key.partition,
            ChainKey::Mark(key) => &key.partition,
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let parts: Vec<&str> = text.strip_prefix(RAW)?.split('/').collect();
        let [region, topic, part, folder, file] = parts.as_slice() else { return None };
        let partition = PartitionId {
            region: Region::parse(value(region, "region")?).ok()?,
            topic: TopicId::parse(value(topic, "topic")?).ok()?,
            number: value(part, "part")?.parse().ok()?,
        };
        if *folder == MARKS {
            let (at, kind) = file.strip_suffix(".json")?.split_once('.')?;
            let kind = MarkKind::ALL.into_iter().find(|known| known.name() == kind)?;
            return Some(ChainKey::Mark(MarkKey { partition, at: at.parse().ok().map(Offset::new)?, kind }));
        }
        let start = file.strip_suffix(".parquet")?.parse().ok().map(Offset::new)?;
        Some(ChainKey::Object(RawKey { partition, day: value(folder, "day")?.parse().ok()?, start }))
    }
}

fn value<'a>(part: &'a str, name: &str) -> Option<&'a str> {
    part.strip_prefix(name)?.strip_prefix('=')
}

impl fmt::Display for ChainKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ChainKey::Object(key) => key.fmt(f),
            ChainKey::Mark(key) => key.fmt(f),
        }
    }
}

impl FromStr for ChainKey {
    type Err = ForeignKey;
    fn from_str(text: &str) -> Result<Self, ForeignKey> {
        // One spelling per key: 19 digits or `part=07` would otherwise be a second object for the same records.
        ChainKey::parse(text).filter(|key| key.to_string() == text).ok_or_else(|| ForeignKey(text.to_owned()))
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

    #[test]
    fn the_key_of_a_mark_is_pinned_and_has_one_spelling() {
        let partition = PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(7), number: 7 };
        let key = MarkKey { partition, at: Offset::new(1900), kind: MarkKind::Gap };
        let text =
            "raw/v1/region=eu/topic=00000000-0000-0000-0000-000000000007/part=7/chain/00000000000000001900.gap.json";
        assert_eq!(key.to_string(), text);
        for kind in MarkKind::ALL {
            let key = MarkKey { kind, ..key.clone() };
            assert_eq!(key.to_string().parse(), Ok(ChainKey::Mark(key)));
        }
        assert!(text.starts_with(&marks_prefix(&key.partition)));
        assert!(text.parse::<RawKey>().is_err(), "a mark is no object");
        for (good, bad) in [
            ("part=7", "part=07"),
            ("chain/", "marks/"),
            ("chain/", "day=2026-03-01/"),
            ("00000000000000001900", "1900"),
            (".gap.", ".hole."),
            (".gap.json", ".gap"),
            (".gap.json", ".parquet"),
            (".gap.json", ".gap.json#1"),
        ] {
            assert!(text.replace(good, bad).parse::<ChainKey>().is_err(), "{bad}");
        }
    }
}
