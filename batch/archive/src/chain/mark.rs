//! Marks: what stands in a chain where no object can.
//!
//! ```json
//! {"version":1,"partition":"eu/0190f5c4-…/7","from":1900,"to":2400,"cause":"retention","writer":"archiver-a-1",…}
//! ```
//!
//! Each is created once under a key that is a function of its partition and of the offset at which it stands, and never
//! changed. Unknown fields are ignored, an unknown version is refused.

use clicks::layout::{MarkKey, MarkKind};
use clicks::position::{Offset, PartitionId};
use clicks::time::{Day, Timestamp};
use platform::objects::{Created, ObjectError, Objects};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Major version of the format of marks.
pub const VERSION: u32 = 1;

/// The records `[from, to)` were gone before they were stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapMark {
    pub version: u32,
    pub partition: PartitionId,
    pub from: Offset,
    /// The first offset that was still on the log when the gap was noticed.
    pub to: Offset,
    pub cause: GapCause,
    /// Who noticed it.
    pub writer: String,
    /// When it was noticed, by the clock of the one who did.
    pub noticed_at: Timestamp,
    /// Append time of the last record that is stored before it, if there is one: no lost record was appended earlier.
    pub append_time_before: Option<Timestamp>,
}

/// Why records are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapCause {
    /// The log's retention removed them before they were stored.
    Retention,
    /// The archive was begun on purpose when they were gone already.
    Begin,
}

/// The partition of a topic life that is over ends here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndMark {
    pub version: u32,
    pub partition: PartitionId,
    /// Exclusive: the next offset, which never came.
    pub end: Offset,
    pub cause: EndCause,
    pub writer: String,
    pub noticed_at: Timestamp,
    /// Append time of the last record that is stored, if there is one.
    pub append_time_before: Option<Timestamp>,
}

/// How it is known that a topic life is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndCause {
    /// Everything that its log held is stored, and nothing was appended for long.
    Drained,
    /// Its topic is gone from the log, and what was not stored with it.
    TopicGone,
}

/// The chain begins here; what was before it was deleted on purpose.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BaseMark {
    pub version: u32,
    pub partition: PartitionId,
    /// The first offset that is kept.
    pub base: Offset,
    /// Append days before this one were deleted.
    pub first_day: Day,
    pub writer: String,
    pub recorded_at: Timestamp,
    /// Append time of the last record before it.
    pub append_time_before: Option<Timestamp>,
}

/// Somebody counted on it that `[from, to)` is missing: from now on it is, whatever is stored there later.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealMark {
    pub version: u32,
    pub partition: PartitionId,
    pub from: Offset,
    pub to: Offset,
    /// What counted on it, for people.
    pub user: String,
    pub sealed_at: Timestamp,
}

/// A mark that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum MarkError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("the record `{key}` of a chain has version {found}, this release reads {VERSION}; use a newer release")]
    Version { key: String, found: u64 },
    #[error("the record `{key}` of a chain cannot be read: {source}; restore it")]
    Malformed { key: String, source: serde_json::Error },
    #[error("the record `{key}` of a chain contradicts itself: {reason}; it was not written by a sound archiver")]
    Inconsistent { key: String, reason: String },
    #[error("the record `{0}` of a chain was listed and is gone; restore it, records of chains are never deleted")]
    Missing(String),
}

/// What all marks have in common.
pub trait Mark: Clone + PartialEq + Serialize + DeserializeOwned + Send + Sync {
    /// The one key under which it may lie.
    fn key(&self) -> MarkKey;

    /// Why it cannot be true.
    fn refusal(&self) -> Option<String> {
        None
    }

    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a mark is plain data with text keys, which always serialises")
    }

    /// Reads a mark and holds it against the key under which it lies.
    ///
    /// # Errors
    /// [`MarkError`], naming the key.
    fn decode(key: &MarkKey, bytes: &[u8]) -> Result<Self, MarkError> {
        #[derive(Deserialize)]
        struct Head {
            version: u64,
        }
        let malformed = |source| MarkError::Malformed { key: key.to_string(), source };
        let Head { version } = serde_json::from_slice(bytes).map_err(malformed)?;
        if version != u64::from(VERSION) {
            return Err(MarkError::Version { key: key.to_string(), found: version });
        }
        let mark: Self = serde_json::from_slice(bytes).map_err(malformed)?;
        let own = mark.key();
        let reason = if own == *key { mark.refusal() } else { Some(format!("it calls itself `{own}`")) };
        match reason {
            Some(reason) => Err(MarkError::Inconsistent { key: key.to_string(), reason }),
            None => Ok(mark),
        }
    }
}

fn no_range(from: Offset, to: Offset) -> Option<String> {
    (to <= from).then(|| format!("[{from}, {to}) holds nothing"))
}

fn key(partition: &PartitionId, at: Offset, kind: MarkKind) -> MarkKey {
    MarkKey { partition: partition.clone(), at, kind }
}

impl Mark for GapMark {
    fn key(&self) -> MarkKey {
        key(&self.partition, self.from, MarkKind::Gap)
    }
    fn refusal(&self) -> Option<String> {
        no_range(self.from, self.to)
    }
}

impl Mark for EndMark {
    fn key(&self) -> MarkKey {
        key(&self.partition, self.end, MarkKind::End)
    }
}

impl Mark for BaseMark {
    fn key(&self) -> MarkKey {
        key(&self.partition, self.base, MarkKind::Base)
    }
}

impl Mark for SealMark {
    fn key(&self) -> MarkKey {
        key(&self.partition, self.from, MarkKind::Seal)
    }
    fn refusal(&self) -> Option<String> {
        no_range(self.from, self.to)
    }
}

/// Creates a mark and gives the one that stands: another writer's, if it came first.
///
/// # Errors
/// [`MarkError::Object`] when the outcome stays unknown; the others when what stands there cannot be read.
pub async fn record<M: Mark>(objects: &Objects, mark: &M) -> Result<M, MarkError> {
    let key = mark.key();
    match objects.create(&key.to_string(), mark.encode().into()).await? {
        Created::Ours => Ok(mark.clone()),
        Created::Taken(bytes) => M::decode(&key, &bytes),
    }
}

pub(super) async fn read<M: Mark>(objects: &Objects, key: &MarkKey) -> Result<M, MarkError> {
    let name = key.to_string();
    let bytes = objects.get(&name).await?.ok_or(MarkError::Missing(name))?;
    M::decode(key, &bytes)
}

#[cfg(test)]
mod tests {
    use clicks::id::{Region, TopicId};

    use super::*;

    fn partition() -> PartitionId {
        PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(7), number: 3 }
    }

    fn gap() -> GapMark {
        GapMark {
            version: VERSION,
            partition: partition(),
            from: Offset::new(1_900),
            to: Offset::new(2_400),
            cause: GapCause::Retention,
            writer: "archiver-1".to_owned(),
            noticed_at: Timestamp::from_millis(9_000),
            append_time_before: Some(Timestamp::from_millis(8_000)),
        }
    }

    fn pinned<M: Mark + std::fmt::Debug>(mark: &M, golden: &str) {
        assert_eq!(String::from_utf8(mark.encode()).unwrap(), golden);
        assert_eq!(M::decode(&mark.key(), golden.as_bytes()).unwrap(), *mark);
        let longer = golden.replacen('{', r#"{"later":[1],"#, 1);
        assert_eq!(M::decode(&mark.key(), longer.as_bytes()).unwrap(), *mark, "unknown fields are ignored");
        let newer = golden.replacen(r#""version":1"#, r#""version":2"#, 1);
        let error = M::decode(&mark.key(), newer.as_bytes()).unwrap_err();
        assert!(matches!(error, MarkError::Version { found: 2, .. }), "{error}");
        let elsewhere = MarkKey { at: mark.key().at.next(), ..mark.key() };
        let error = M::decode(&elsewhere, golden.as_bytes()).unwrap_err();
        assert!(matches!(error, MarkError::Inconsistent { .. }), "{error}");
        assert!(error.to_string().contains(&elsewhere.to_string()), "{error}");
    }

    #[test]
    fn the_bytes_are_pinned() {
        let head = r#"{"version":1,"partition":"eu/00000000-0000-0000-0000-000000000007/3","#;
        let rest = r#""from":1900,"to":2400,"cause":"retention","writer":"archiver-1","noticed_at":9000,"append_time_before":8000}"#;
        pinned(&gap(), &format!("{head}{rest}"));
        let begun = GapMark { cause: GapCause::Begin, append_time_before: None, ..gap() };
        pinned(&begun, &format!("{head}{}", rest.replace("retention", "begin").replace("8000", "null")));
        let GapMark { version, partition, writer, noticed_at, append_time_before, .. } = gap();
        let end = EndMark {
            version,
            partition,
            end: Offset::new(2_400),
            cause: EndCause::TopicGone,
            writer,
            noticed_at,
            append_time_before,
        };
        let rest =
            r#""end":2400,"cause":"topic_gone","writer":"archiver-1","noticed_at":9000,"append_time_before":8000}"#;
        pinned(&end, &format!("{head}{rest}"));
        let drained = EndMark { cause: EndCause::Drained, ..end };
        pinned(&drained, &format!("{head}{}", rest.replace("topic_gone", "drained")));
        let GapMark { version, partition, writer, noticed_at, append_time_before, .. } = gap();
        let base = BaseMark {
            version,
            partition,
            base: Offset::new(2_400),
            first_day: "2026-03-02".parse().unwrap(),
            writer,
            recorded_at: noticed_at,
            append_time_before,
        };
        let rest = concat!(
            r#""base":2400,"first_day":"2026-03-02","writer":"archiver-1","recorded_at":9000,"#,
            r#""append_time_before":8000}"#
        );
        pinned(&base, &format!("{head}{rest}"));
        let GapMark { version, partition, from, to, noticed_at, .. } = gap();
        let user = "the night of 2026-03-01".to_owned();
        let seal = SealMark { version, partition, from, to, user, sealed_at: noticed_at };
        let rest = r#""from":1900,"to":2400,"user":"the night of 2026-03-01","sealed_at":9000}"#;
        pinned(&seal, &format!("{head}{rest}"));
    }

    #[test]
    fn a_mark_that_cannot_be_true_is_refused() {
        let empty = GapMark { to: Offset::new(1_900), ..gap() };
        let error = GapMark::decode(&empty.key(), &empty.encode()).unwrap_err();
        assert!(matches!(error, MarkError::Inconsistent { .. }), "{error}");
        for bytes in [&b""[..], b"{", b"[]", br#"{"version":1}"#, br#"{"version":"1"}"#] {
            let error = GapMark::decode(&gap().key(), bytes).unwrap_err();
            assert!(matches!(error, MarkError::Malformed { .. }), "{error}");
            assert!(error.to_string().contains(".gap.json"), "{error}");
        }
    }
}
