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
use crate::window::Grain;

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

/// What an entry says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    Genesis(Genesis),
    Topic(TopicLife),
    Epoch(Epoch),
    Rules(RulesChange),
    Night(Box<Night>),
    Period(PeriodChange),
    Recount(Box<Recount>),
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

/// A topic life has more partitions from now on, so that keys lie elsewhere. Recorded on purpose, by whoever added them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Epoch {
    pub region: Region,
    pub topic_id: TopicId,
    /// More than before.
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
    /// New revisions: the night's own day unless it is withheld, and each open day that changed.
    pub days: Vec<DayRevision>,
    /// Why the night's own day is not published with the rest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub withheld: Option<Withheld>,
    /// Who published the night's own day although checks spoke against it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Acceptance>,
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
    /// What it changes; `None` in a first revision.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change: Option<Change>,
}

impl DayRevision {
    /// The table of one grain.
    pub const fn file(&self, grain: Grain) -> &FileRef {
        match grain {
            Grain::Minute => &self.minute,
            Grain::Hour => &self.hour,
            Grain::Day => &self.day_file,
        }
    }
}

/// The difference between a revision and what was billed before it: its predecessor and the adjustments that it absorbs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    pub reason: ChangeReason,
    /// One row per ad that has changed, with its clicks before and after.
    pub file: FileRef,
    /// Clicks after minus clicks before.
    pub clicks: i64,
}

/// Why a day has a further revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeReason {
    /// Clicks came after the cut of the revision before.
    LateArrival,
    /// The day was reopened.
    Reopened,
}

impl ChangeReason {
    pub const fn name(self) -> &'static str {
        match self {
            ChangeReason::LateArrival => "late_arrival",
            ChangeReason::Reopened => "reopened",
        }
    }
}

/// A check that speaks against publishing a day, and that a person may overrule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objection {
    pub check: Check,
    /// For people.
    pub detail: String,
}

/// What such a check looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Check {
    /// Records that may belong to the day were lost before they were archived.
    Gap,
    /// Far more or fewer clicks than on the days before.
    Volume,
    /// Another number of clicks than the live view has counted, where nothing excuses it.
    Drift,
}

impl Check {
    pub const fn name(self) -> &'static str {
        match self {
            Check::Gap => "gap",
            Check::Volume => "volume",
            Check::Drift => "drift",
        }
    }
}

/// A night's own day is left out. It is published by a [`Recount`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    /// At least one.
    pub objections: Vec<Objection>,
}

/// A person has overruled objections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    pub actor: String,
    pub reason: String,
    /// At least one.
    pub objections: Vec<Objection>,
}

/// A person changes the state of a closed day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeriodChange {
    pub day: Day,
    pub action: PeriodAction,
    pub actor: String,
    pub reason: String,
    /// When: for people, never for a decision.
    pub at: Timestamp,
}

/// What is done to a closed day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeriodAction {
    /// It becomes final now, without waiting for further nights.
    Approve,
    /// It does not become final until it is approved.
    Hold,
    /// It is final and may be published once more, by a [`Recount`].
    Reopen,
}

impl PeriodAction {
    pub const fn name(self) -> &'static str {
        match self {
            PeriodAction::Approve => "approve",
            PeriodAction::Hold => "hold",
            PeriodAction::Reopen => "reopen",
        }
    }

    /// As in "it cannot be …".
    pub const fn done(self) -> &'static str {
        match self {
            PeriodAction::Approve => "be approved",
            PeriodAction::Hold => "be held",
            PeriodAction::Reopen => "be reopened",
        }
    }
}

/// One day is published by itself, as it is at the cuts of the last night: one that was withheld, which is open from
/// then on, or one that was reopened, which is final again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recount {
    pub day: DayRevision,
    /// The last night, at whose cuts it is counted.
    pub night: Day,
    /// When it was published: for people, never for a decision.
    pub published_at: Timestamp,
    /// Release that computed it.
    pub release: String,
    /// Nights whose adjustments of this day are in the revision: all of them.
    pub absorbs: Vec<Day>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Acceptance>,
    pub inputs: FileRef,
    pub balance: Balance,
}

impl Objection {
    /// Objections as one line of text.
    pub fn list(objections: &[Objection]) -> String {
        objections.iter().map(|objection| objection.detail.as_str()).collect::<Vec<_>>().join("; ")
    }
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
mod tests;
