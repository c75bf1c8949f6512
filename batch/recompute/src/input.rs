//! Raw objects as inputs: what is read, and the proof that it is what was archived.
//!
//! ```json
//! {"version":1,"night":"2026-03-01","objects":[{"key":"raw/v1/…","sha256":"…","bytes":1234,"from":0,"to":600}]}
//! ```
//!
//! The list is published with the night: whoever holds the raw files can recompute the night from it alone.

use archive::chain::Segment;
use archive::footer::Footer;
use bytes::Bytes;
use clicks::position::Offset;
use clicks::time::Day;
use platform::objects::Objects;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::InputError;

/// One raw object, of which the records `[start, to)` are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) segment: Segment,
    /// Exclusive; the object's end unless the cut lies in it.
    pub(crate) to: Offset,
}

/// The published list of inputs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InputList {
    pub(crate) version: u32,
    pub(crate) night: Day,
    /// In the order of partitions, then of offsets.
    pub(crate) objects: Vec<InputObject>,
}

/// One line of the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InputObject {
    pub(crate) key: String,
    /// SHA-256 of the whole object in hexadecimal.
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
    /// First offset that was used.
    pub(crate) from: Offset,
    /// Offset after the last one that was used.
    pub(crate) to: Offset,
}

impl InputList {
    pub(crate) const VERSION: u32 = 1;

    pub(crate) fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a list of inputs is plain data, which always serialises")
    }
}

/// Reads a whole raw object and proves that its bytes are those that were archived.
///
/// Gives the bytes and their SHA-256 in hexadecimal.
pub(crate) async fn read_verified(objects: &Objects, segment: &Segment) -> Result<(Bytes, String), InputError> {
    let key = segment.key.to_string();
    let bytes = objects.get(&key).await?.ok_or_else(|| InputError::Missing { key: key.clone() })?;
    let sha256 = verify(&key, &bytes, &segment.footer)?;
    Ok((bytes, sha256))
}

/// Both hashes in one pass: that of the row groups, which the footer holds, and that of the whole object.
fn verify(key: &str, bytes: &Bytes, expected: &Footer) -> Result<String, InputError> {
    let footer = Footer::of(key, bytes)?;
    if footer != *expected {
        return Err(InputError::damaged(key, "its footer is not the one that was read when the chain was proven"));
    }
    let content = usize::try_from(footer.content_bytes).ok().filter(|end| *end <= bytes.len());
    let content = content.ok_or_else(|| InputError::damaged(key, "it is shorter than its footer says"))?;
    let mut hash = Sha256::new();
    hash.update(&bytes[..content]);
    if clicks::hex(&hash.clone().finalize()) != footer.content_sha256 {
        return Err(InputError::damaged(key, "its row groups have another hash than its footer holds"));
    }
    hash.update(&bytes[content..]);
    Ok(clicks::hex(&hash.finalize()))
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
        assert_eq!(serde_json::from_str::<InputList>(golden).unwrap(), list);
    }
}
