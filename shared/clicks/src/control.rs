//! Control records: what Twofold itself writes to the topic. Archived like everything else, never counted.

use serde::{Deserialize, Serialize};

use crate::id::TopicId;

/// Value of the `tf-control` header of a heartbeat.
pub const HEARTBEAT: &str = "heartbeat";

/// Written to every partition every few seconds, so that coverage and watermark move without clicks. It carries what a
/// reader of the archive cannot know otherwise: how many partitions the topic life has, so that an empty one is missed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    pub version: u32,
    pub topic_id: TopicId,
    pub partitions: u32,
    /// Who wrote it, for operators.
    pub writer: String,
}

impl Heartbeat {
    pub const VERSION: u32 = 1;

    pub fn new(topic_id: TopicId, partitions: u32, writer: String) -> Self {
        Heartbeat { version: Self::VERSION, topic_id, partitions, writer }
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a heartbeat is plain data, which always serialises")
    }

    /// `None` when the value is no heartbeat that this release can read; the record is a control record all the same.
    pub fn decode(value: &[u8]) -> Option<Self> {
        serde_json::from_slice(value).ok().filter(|beat: &Heartbeat| beat.version == Self::VERSION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_pinned() {
        let beat = Heartbeat::new(TopicId::from_u128(7), 16, "archiver-1".to_owned());
        let golden =
            r#"{"version":1,"topic_id":"00000000-0000-0000-0000-000000000007","partitions":16,"writer":"archiver-1"}"#;
        assert_eq!(String::from_utf8(beat.encode()).unwrap(), golden);
        assert_eq!(Heartbeat::decode(golden.as_bytes()), Some(beat));
        assert_eq!(Heartbeat::decode(br#"{"version":2}"#), None);
    }
}
