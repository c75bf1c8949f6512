//! Positions in a log: partitions of a topic life and offsets in them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{Region, TopicId};
use crate::time::Timestamp;

/// Position in one partition of one topic life. Where a variable is called *next offset* it is always the next one to
/// read, never the last one read; ranges are half-open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Offset(u64);

impl Offset {
    pub const ZERO: Offset = Offset(0);

    pub const fn new(value: u64) -> Self {
        Offset(value)
    }
    pub const fn value(self) -> u64 {
        self.0
    }
    /// The offset that follows without a gap.
    pub const fn next(self) -> Self {
        Offset(self.0 + 1)
    }
    /// Records in `[earlier, self)`; 0 when `earlier` is not earlier.
    pub const fn distance_from(self, earlier: Offset) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
    pub const fn plus(self, records: u64) -> Self {
        Offset(self.0 + records)
    }
    pub const fn minus(self, records: u64) -> Self {
        Offset(self.0.saturating_sub(records))
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

/// One partition: always region, topic life and number, so that regions and re-created topics never mix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PartitionId {
    pub region: Region,
    pub topic: TopicId,
    pub number: u32,
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.region, self.topic, self.number)
    }
}

/// A text that is no partition.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no partition; it should read region/topic-id/number")]
pub struct NotAPartition(String);

impl FromStr for PartitionId {
    type Err = NotAPartition;
    fn from_str(text: &str) -> Result<Self, NotAPartition> {
        let wrong = || NotAPartition(text.chars().take(128).collect());
        let mut parts = text.splitn(3, '/');
        let (Some(region), Some(topic), Some(number)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong());
        };
        Ok(PartitionId {
            region: Region::parse(region).map_err(|_| wrong())?,
            topic: TopicId::parse(topic).map_err(|_| wrong())?,
            number: number.parse().map_err(|_| wrong())?,
        })
    }
}

impl Serialize for PartitionId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for PartitionId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// Log order: the one total order in which "the first sighting wins" is decided, also across partitions, topic lives
/// and regions. Within a partition it is simply the offset.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogOrder {
    pub append_time: Timestamp,
    pub partition: PartitionId,
    pub offset: Offset,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_round_trip_as_text() {
        let id = PartitionId { region: Region::parse("eu-1").unwrap(), topic: TopicId::from_u128(7), number: 12 };
        assert_eq!(id.to_string(), "eu-1/00000000-0000-0000-0000-000000000007/12");
        assert_eq!(id.to_string().parse::<PartitionId>().unwrap(), id);
        for bad in [
            "",
            "eu",
            "eu/7/1",
            "eu/00000000-0000-0000-0000-000000000007/x",
            "eu/00000000-0000-0000-0000-000000000007/1/2",
        ] {
            assert!(bad.parse::<PartitionId>().is_err(), "{bad}");
        }
    }
}
