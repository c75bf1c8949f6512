//! The ledger: the chain of create-only entries by which everything is published.
//!
//! ```text
//! ledger/00000000000000000000.json    {"version":1,"number":0,"previous":"","genesis":{…}}
//! ledger/00000000000000000001.json    {"version":1,"number":1,"previous":"<SHA-256 of entry 0's bytes>","topic":{…}}
//! ```
//!
//! Numbers are consecutive and each entry holds its predecessor's hash; a reader fetches the next number until there is
//! none, because a listing may lack one. Unknown fields are ignored, an unknown version or kind is refused.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::id::{Region, TopicId};
use crate::position::{Offset, PartitionId};
use crate::rules::Rules;
use crate::tables::EntryNumber;
use crate::time::{Day, Timestamp};

/// Prefix of all entries.
pub const LEDGER: &str = "ledger/";
/// Major version of the entry format.
pub const VERSION: u32 = 1;

/// Key of an entry.
pub fn entry_key(number: EntryNumber) -> String {
    format!("{LEDGER}{number:020}.json")
}

/// One entry of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub version: u32,
    pub number: EntryNumber,
    /// SHA-256 of the predecessor's bytes in hexadecimal; empty for entry 0.
    pub previous: String,
    #[serde(flatten)]
    pub body: Body,
}

/// What an entry says. (Reopened and withheld days, changed rules: further kinds of the same format.)
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    Genesis(Genesis),
    Topic(TopicLife),
    Rules(RulesChange),
    Night(Box<Night>),
}

/// Entry 0.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// Earlier days are final and empty.
    pub first_day: Day,
    pub rules: Rules,
}

/// A topic life begins to be read. Within a region it ends the lives before it: their cut is their end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicLife {
    pub region: Region,
    pub topic_id: TopicId,
    pub name: String,
    pub partitions: u32,
}

/// New rules for event days from `effective` on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesChange {
    pub effective: Day,
    pub rules: Rules,
}

/// What one night publishes, all at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Night {
    /// The day that this night closes. Nights publish strictly in order.
    pub night: Day,
    /// When it was published: for people, never for a decision.
    pub published_at: Timestamp,
    /// Release that computed it.
    pub release: String,
    /// cut(N): per partition the first offset that was not read. A function of the log.
    pub cuts: BTreeMap<PartitionId, Offset>,
    /// New revisions: the night's own day, and each open day that changed.
    pub days: Vec<DayRevision>,
    /// Open days that were checked again and had not changed.
    pub confirmed: Vec<Day>,
    /// Days that become final.
    pub finals: Vec<Day>,
    /// Clicks of days that were final before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adjustments: Option<Adjustments>,
    /// The explicit list of raw objects with their hashes, and how many there are.
    pub inputs: FileRef,
    pub balance: Balance,
}

/// One revision of one day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DayRevision {
    pub day: Day,
    /// Counts up from 1 per day.
    pub revision: u32,
    pub rules_version: u32,
    pub minute: FileRef,
    pub hour: FileRef,
    pub day_file: FileRef,
    pub totals: DayTotals,
}

/// A file that the ledger names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileRef {
    pub key: String,
    /// SHA-256 of the bytes in hexadecimal.
    pub sha256: String,
    pub bytes: u64,
    pub rows: u64,
}

/// Adjustments of one night.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adjustments {
    pub file: FileRef,
    /// Clicks per final day.
    pub clicks: BTreeMap<Day, u64>,
}

/// Totals of a day, and its drift against the live rule, explained row by row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct DayTotals {
    /// What is billed.
    pub clicks: u64,
    /// Those of `clicks` that the live rule calls late.
    pub late: u64,
    /// Duplicates that were dropped.
    pub duplicates: u64,
    /// Those of `duplicates` that lie beyond the live horizon, so that the live view counted them.
    pub far_duplicates: u64,
    /// Those of `duplicates` that lie beyond the live horizon and were late besides: live they stand among the late
    /// counts, the batch has them nowhere.
    #[serde(default)]
    pub late_duplicates: u64,
}

impl DayTotals {
    /// What the live view counts for this day by its own rule: exact = live + late - far duplicates.
    pub const fn live(&self) -> u64 {
        self.clicks + self.far_duplicates - self.late
    }

    /// What the live layer holds among its late counts for this day.
    pub const fn live_late(&self) -> u64 {
        self.late + self.late_duplicates
    }
}

/// Rows in = counted (of which late) + duplicates + rejected + control + other days. Checked before publishing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Balance {
    pub rows: u64,
    pub counted: u64,
    pub duplicates: u64,
    pub rejected: u64,
    pub control: u64,
    /// Clicks of days that this night does not touch, and rows that were read only to find duplicates.
    pub other_days: u64,
}

impl Balance {
    pub const fn holds(&self) -> bool {
        self.rows == self.counted + self.duplicates + self.rejected + self.control + self.other_days
    }
}

/// An entry that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    #[error("ledger entry {number} has version {version}; this release reads version {VERSION}: update the release")]
    Version { number: EntryNumber, version: u64 },
    #[error("ledger entry {number} cannot be read: {source}")]
    Malformed { number: EntryNumber, source: serde_json::Error },
    #[error("ledger entry {number} calls itself number {found}")]
    WrongNumber { number: EntryNumber, found: EntryNumber },
}

impl Entry {
    pub fn new(number: EntryNumber, previous: String, body: Body) -> Self {
        Entry { version: VERSION, number, previous, body }
    }

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("an entry is plain data with text keys, which always serialises")
    }

    pub fn decode(number: EntryNumber, bytes: &[u8]) -> Result<Self, EntryError> {
        #[derive(Deserialize)]
        struct Head {
            version: u64,
        }
        let malformed = |source| EntryError::Malformed { number, source };
        let head: Head = serde_json::from_slice(bytes).map_err(malformed)?;
        if head.version != u64::from(VERSION) {
            return Err(EntryError::Version { number, version: head.version });
        }
        let entry: Entry = serde_json::from_slice(bytes).map_err(malformed)?;
        if entry.number != number {
            return Err(EntryError::WrongNumber { number, found: entry.number });
        }
        Ok(entry)
    }
}

/// SHA-256 in hexadecimal: what an entry holds of its predecessor, and of every file that it names.
pub fn sha256(bytes: &[u8]) -> String {
    crate::hex(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_are_pinned() {
        let entry = Entry::new(
            0,
            String::new(),
            Body::Genesis(Genesis { first_day: "2026-03-01".parse().unwrap(), rules: Rules::default() }),
        );
        let golden = concat!(
            r#"{"version":1,"number":0,"previous":"","genesis":{"first_day":"2026-03-01","rules":{"version":1,"lateness_ms":600000,"#,
            r#""live_horizon_ms":900000,"batch_horizon_ms":86400000,"age_max_ms":3024000000,"ahead_max_ms":300000,"finality_days":3}}}"#
        );
        assert_eq!(String::from_utf8(entry.encode()).unwrap(), golden);
        assert_eq!(Entry::decode(0, golden.as_bytes()).unwrap(), entry);
        assert_eq!(entry_key(12), "ledger/00000000000000000012.json");
    }

    #[test]
    fn the_bytes_of_a_night_are_pinned() {
        let file = |key: &str| FileRef { key: key.to_owned(), sha256: "ab".to_owned(), bytes: 2, rows: 1 };
        let day: Day = "2026-03-01".parse().unwrap();
        let totals = DayTotals { clicks: 9, late: 2, duplicates: 3, far_duplicates: 1, ..DayTotals::default() };
        let partition: PartitionId = "eu/00000000-0000-0000-0000-000000000007/0".parse().unwrap();
        let night = Night {
            night: day,
            published_at: Timestamp::from_millis(5),
            release: "0.1.0".to_owned(),
            cuts: BTreeMap::from([(partition, Offset::new(12))]),
            days: vec![DayRevision {
                day,
                revision: 1,
                rules_version: 1,
                minute: file("m"),
                hour: file("h"),
                day_file: file("d"),
                totals,
            }],
            confirmed: vec![day.previous()],
            finals: vec![day.plus(-3)],
            adjustments: Some(Adjustments { file: file("a"), clicks: BTreeMap::from([(day.plus(-5), 1)]) }),
            inputs: file("i"),
            balance: Balance { rows: 14, counted: 9, duplicates: 3, rejected: 1, control: 1, other_days: 0 },
        };
        let entry = Entry::new(7, "cd".to_owned(), Body::Night(Box::new(night)));
        let reference = |key: &str| format!(r#"{{"key":"{key}","sha256":"ab","bytes":2,"rows":1}}"#);
        let golden = [
            r#"{"version":1,"number":7,"previous":"cd","night":{"night":"2026-03-01","published_at":5,"release":"0.1.0","#,
            r#""cuts":{"eu/00000000-0000-0000-0000-000000000007/0":12},"#,
            r#""days":[{"day":"2026-03-01","revision":1,"rules_version":1,"minute":"#,
            &reference("m"),
            r#","hour":"#,
            &reference("h"),
            r#","day_file":"#,
            &reference("d"),
            r#","totals":{"clicks":9,"late":2,"duplicates":3,"far_duplicates":1,"late_duplicates":0}}],"#,
            r#""confirmed":["2026-02-28"],"finals":["2026-02-26"],"adjustments":{"file":"#,
            &reference("a"),
            r#","clicks":{"2026-02-24":1}},"inputs":"#,
            &reference("i"),
            r#","balance":{"rows":14,"counted":9,"duplicates":3,"rejected":1,"control":1,"other_days":0}}}"#,
        ]
        .concat();
        assert_eq!(String::from_utf8(entry.encode()).unwrap(), golden);
        assert_eq!(Entry::decode(7, golden.as_bytes()).unwrap(), entry);
    }

    #[test]
    fn readers_ignore_unknown_fields_and_refuse_unknown_versions_and_kinds() {
        let with = |head: &str, body: &str| format!(r#"{{{head},"number":1,"previous":"x",{body}}}"#);
        let topic = r#""topic":{"region":"eu","topic_id":"00000000-0000-0000-0000-000000000007","name":"clicks","partitions":4,"new":null}"#;
        assert!(Entry::decode(1, with(r#""version":1"#, topic).as_bytes()).is_ok());
        assert!(matches!(
            Entry::decode(1, with(r#""version":2"#, topic).as_bytes()),
            Err(EntryError::Version { version: 2, .. })
        ));
        assert!(matches!(
            Entry::decode(1, with(r#""version":1"#, r#""later":{}"#).as_bytes()),
            Err(EntryError::Malformed { .. })
        ));
        assert!(matches!(
            Entry::decode(2, with(r#""version":1"#, topic).as_bytes()),
            Err(EntryError::WrongNumber { .. })
        ));
    }
}
