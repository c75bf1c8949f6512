//! The hash of an object's tail: everything behind its row groups.
//!
//! ```text
//! … 0x18 12 "twofold.tail" 0x18 85 "00000000000000123456:4f7c…" …      Thrift's compact form of one key-value pair
//!                                   └ row-group bytes ┘ └ hash, computed with 64 zeros in its place
//! ```
//!
//! The pair is found by its name, from the end, without parsing. What stands before it may hold any bytes (minima and
//! maxima of columns are the clients'), what stands after it is written by the Parquet writer alone.

use clicks::layout::footer::TAIL;
use sha2::{Digest, Sha256};

const MAGIC: &[u8] = b"PAR1";
/// Length of the metadata, magic.
const END_BYTES: usize = 8;
const DIGITS: usize = 20;
const HASH: usize = 64;
/// Bytes between the pair's name and its value: the value's field header and its length.
const BETWEEN: usize = 2;

/// Where an object's tail lies in the bytes that were read of its end.
pub(super) enum Tail<'a> {
    /// The tail is whole and has its hash.
    Whole { metadata: &'a [u8], content_bytes: u64 },
    /// It begins earlier, at this position of the object.
    From(u64),
}

/// The value of the pair before the hash is known; one of the same length, so that [`seal`] moves nothing.
pub(crate) fn placeholder(content_bytes: u64) -> String {
    format!("{content_bytes:0DIGITS$}:{}", "0".repeat(HASH))
}

/// Puts the hash into a finished object that was written with the [`placeholder`].
pub(crate) fn seal(object: &mut [u8], content_bytes: u64) {
    let at = find(object).expect("the writer was given the placeholder as metadata") + DIGITS + 1;
    let hash = clicks::hex(&Sha256::digest(&object[content_bytes as usize..]));
    object[at..at + HASH].copy_from_slice(hash.as_bytes());
}

/// Finds and checks the tail; `bytes` begin at position `from` of the object and go to its end.
pub(super) fn locate(bytes: &[u8], from: u64) -> Result<Tail<'_>, String> {
    let size = from + bytes.len() as u64;
    let Some((before, end)) = bytes.split_last_chunk::<END_BYTES>().filter(|(before, _)| !before.is_empty()) else {
        return Err(format!("it has only {size} bytes"));
    };
    let (length, magic) = end.split_at(END_BYTES - MAGIC.len());
    if magic != MAGIC {
        return Err("it does not end as a Parquet file does, so it is truncated or no such file".to_owned());
    }
    let length = u64::from(u32::from_le_bytes(length.try_into().expect("four bytes are left of eight")));
    let start = size - END_BYTES as u64;
    let Some(start) = start.checked_sub(length).filter(|start| *start >= MAGIC.len() as u64) else {
        return Err(format!("its metadata is said to have {length} bytes, it has {size} in all"));
    };
    if start < from {
        return Ok(Tail::From(start));
    }
    let metadata = &before[(start - from) as usize..];
    let at = find(metadata).ok_or_else(|| format!("`{TAIL}` is missing or misshapen in its footer"))?;
    let (digits, hash) = (&metadata[at..at + DIGITS], &metadata[at + DIGITS + 1..at + DIGITS + 1 + HASH]);
    let content_bytes = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok());
    let Some(content_bytes) = content_bytes.filter(|bytes| (MAGIC.len() as u64..=start).contains(bytes)) else {
        return Err(format!("`{TAIL}` does not lie within the object"));
    };
    if content_bytes < from {
        return Ok(Tail::From(content_bytes));
    }
    let hash_at = (start - from) as usize + at + DIGITS + 1;
    let mut own = Sha256::new();
    own.update(&bytes[(content_bytes - from) as usize..hash_at]);
    own.update([b'0'; HASH]);
    own.update(&bytes[hash_at + HASH..]);
    if clicks::hex(&own.finalize()).as_bytes() != hash {
        return Err(format!("its footer does not have the hash that `{TAIL}` names"));
    }
    Ok(Tail::Whole { metadata, content_bytes })
}

/// Position of the pair's value.
fn find(bytes: &[u8]) -> Option<usize> {
    let name = TAIL.as_bytes();
    let at = bytes.windows(name.len()).rposition(|window| window == name)? + name.len() + BETWEEN;
    let value = bytes.get(at..at + DIGITS + 1 + HASH)?;
    (value[DIGITS] == b':').then_some(at)
}
