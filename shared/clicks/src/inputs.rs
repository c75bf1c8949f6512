//! The published list of raw objects that a night was counted from.
//!
//! ```json
//! {"version":1,"night":"2026-03-01","objects":[{"key":"raw/v1/…","sha256":"…","bytes":1234,"from":0,"to":600}]}
//! ```
//!
//! It is published with the night: whoever holds the raw files can recompute the night from it alone.

use serde::{Deserialize, Serialize};

use crate::position::Offset;
use crate::time::Day;

/// The published list of inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputList {
    pub version: u32,
    pub night: Day,
    /// In the order of partitions, then of offsets.
    pub objects: Vec<InputObject>,
}

/// A file that is no list of inputs which this release reads.
#[derive(Debug, thiserror::Error)]
pub enum InputListError {
    #[error("it is no list of inputs: {0}")]
    Json(#[from] serde_json::Error),
    #[error("its version {0} is unknown; update the release")]
    Version(u32),
}

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InputObject {
    pub key: String,
    /// SHA-256 of the whole object in hexadecimal.
    pub sha256: String,
    pub bytes: u64,
    /// First offset that was used.
    pub from: Offset,
    /// Offset after the last one that was used.
    pub to: Offset,
}

impl InputList {
    pub const VERSION: u32 = 1;

    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a list of inputs is plain data, which always serialises")
    }

    /// # Errors
    /// The bytes are no list, or one of another version.
    pub fn decode(bytes: &[u8]) -> Result<Self, InputListError> {
        let list: InputList = serde_json::from_slice(bytes)?;
        match list.version {
            Self::VERSION => Ok(list),
            other => Err(InputListError::Version(other)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_pinned() {
        let list = InputList {
            version: InputList::VERSION,
            night: "2026-03-01".parse().unwrap(),
            objects: vec![InputObject {
                key: "raw/v1/x.parquet".to_owned(),
                sha256: "ab".to_owned(),
                bytes: 1234,
                from: Offset::new(5),
                to: Offset::new(600),
            }],
        };
        let golden = concat!(
            r#"{"version":1,"night":"2026-03-01","objects":"#,
            r#"[{"key":"raw/v1/x.parquet","sha256":"ab","bytes":1234,"from":5,"to":600}]}"#
        );
        assert_eq!(String::from_utf8(list.encode()).unwrap(), golden);
        assert_eq!(InputList::decode(golden.as_bytes()).unwrap(), list);
        let newer = golden.replacen("1", "2", 1);
        assert!(matches!(InputList::decode(newer.as_bytes()), Err(InputListError::Version(2))));
        assert!(matches!(InputList::decode(b"{}"), Err(InputListError::Json(_))));
    }
}
