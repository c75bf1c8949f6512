//! Raw objects as inputs: what is read, and the proof that it is what was archived.

use archive::chain::Segment;
use archive::footer::Footer;
use bytes::Bytes;
use clicks::position::Offset;
use platform::objects::Objects;
use sha2::{Digest, Sha256};

use crate::error::InputError;

/// One raw object, of which the records `[start, to)` are used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Input {
    pub(crate) segment: Segment,
    /// Exclusive; the object's end unless the cut lies in it.
    pub(crate) to: Offset,
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
