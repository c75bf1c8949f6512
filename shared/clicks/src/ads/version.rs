//! The record of one version of the table.

use serde::{Deserialize, Serialize};

use crate::id::AdId;
use crate::time::Timestamp;

/// Prefix of all versions.
pub const VERSIONS: &str = "ads/v1/";

/// Major version of the record.
const FORMAT: u32 = 1;

/// Who has loaded a version, when, and what it holds. Versions are numbered from 1 without a gap.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdsVersion {
    format: u32,
    pub number: u64,
    pub rows: RowsRef,
    pub loaded_at: Timestamp,
    pub actor: String,
    /// The name of the file that was loaded, for people.
    pub source: String,
    pub change: Change,
}

/// The object that holds a version's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RowsRef {
    pub key: String,
    /// Hexadecimal.
    pub sha256: String,
    pub bytes: u64,
    pub count: u64,
}

/// What a version has changed, in rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Change {
    pub added: u64,
    pub changed: u64,
    pub removed: u64,
    pub same: u64,
    /// Ads that belong to another tenant than before.
    pub moved: Vec<AdId>,
    /// Ads that are not there any more: the next one who loads them has them.
    pub gone: Vec<AdId>,
}

impl Change {
    /// The version before holds the same rows.
    pub fn is_nothing(&self) -> bool {
        self.added == 0 && self.changed == 0 && self.removed == 0
    }
}

#[derive(Deserialize)]
struct Head {
    format: u32,
}

/// A record that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum VersionError {
    #[error("the record of version {number} of the ads table cannot be read: {source}")]
    Json { number: u64, source: serde_json::Error },
    #[error("version {number} of the ads table has format {format}, this release reads {FORMAT}: update the release")]
    Format { number: u64, format: u32 },
    #[error("the record of version {number} of the ads table names version {found}")]
    Number { number: u64, found: u64 },
}

impl AdsVersion {
    pub fn new(
        number: u64,
        rows: RowsRef,
        loaded_at: Timestamp,
        actor: String,
        source: String,
        change: Change,
    ) -> Self {
        AdsVersion { format: FORMAT, number, rows, loaded_at, actor, source, change }
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = serde_json::to_vec_pretty(self).expect("a record is valid JSON");
        bytes.push(b'\n');
        bytes
    }

    /// Reads the record of version `number`.
    pub fn decode(number: u64, bytes: &[u8]) -> Result<Self, VersionError> {
        let json = |source| VersionError::Json { number, source };
        // First, because nothing else is known of another format.
        let Head { format } = serde_json::from_slice(bytes).map_err(json)?;
        if format != FORMAT {
            return Err(VersionError::Format { number, format });
        }
        let record: AdsVersion = serde_json::from_slice(bytes).map_err(json)?;
        match record.number == number {
            true => Ok(record),
            false => Err(VersionError::Number { number, found: record.number }),
        }
    }
}

/// Where a version's record is.
pub fn version_key(number: u64) -> String {
    format!("{VERSIONS}{number:020}.json")
}

/// The version that a key is the record of.
pub fn number_of(key: &str) -> Option<u64> {
    let digits = key.strip_prefix(VERSIONS)?.strip_suffix(".json")?;
    (digits.len() == 20).then(|| digits.parse().ok()).flatten()
}

/// Where rows with this hash are.
pub fn rows_key(sha256: &str) -> String {
    format!("{VERSIONS}rows/{sha256}.csv")
}
