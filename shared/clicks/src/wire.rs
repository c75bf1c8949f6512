//! The wire format of a click, version 1: one JSON object as the value of a Kafka record.
//!
//! ```json
//! {"click_id":"0190f5c4-7c1e-7a40-8000-0242ac120002","ad_id":"ad-1","user_id":"u-1","timestamp":"2026-03-01T12:00:00.000Z"}
//! ```
//!
//! Unknown fields are allowed and kept. The key of the record is the ad id, so that an ad stays in one partition.

mod canonical;

use std::borrow::Cow;
use std::fmt::Write;

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::event::Click;
use crate::id::{AdId, ClickId, IdError, UserId, check_name};
use crate::time::{TimeError, Timestamp};

/// Header with the collector's receive time, decimal milliseconds since the epoch.
pub const HEADER_RECEIVED: &str = "tf-received";
/// Header with the client's user agent, as it sent it.
pub const HEADER_USER_AGENT: &str = "user-agent";
/// Header that marks a record of our own; the collector never writes it, so a client cannot forge one.
pub const HEADER_CONTROL: &str = "tf-control";

/// Longest value that the collector forwards, in bytes. Longer records on the topic are still archived.
pub const VALUE_LENGTH_MAX: usize = 16 * 1024;

/// Why a record is not counted although it is no control record. A refusal is data: it has a code and a counter.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejection {
    #[error("the record has no value")]
    NoValue,
    #[error("the value is not UTF-8 (first bad byte at {0})")]
    NotUtf8(usize),
    #[error("the value is not a JSON click: {0}")]
    NotJson(String),
    #[error("`{0}` is missing")]
    Missing(&'static str),
    #[error("`click_id` {0}")]
    BadClickId(IdError),
    #[error("`ad_id` {0}")]
    BadAdId(IdError),
    #[error("`user_id` {0}")]
    BadUserId(IdError),
    #[error("`timestamp` {0}")]
    BadTimestamp(TimeError),
    #[error("`timestamp` is {0} ahead of the time at which the click was appended")]
    TooFarAhead(crate::time::Span),
    #[error("`timestamp` is {0} older than the time at which the click was appended")]
    TooOld(crate::time::Span),
}

impl Rejection {
    /// Every code, for counters that start at zero.
    pub const CODES: [&'static str; 10] = [
        "no_value",
        "not_utf8",
        "not_json",
        "missing_field",
        "bad_click_id",
        "bad_ad_id",
        "bad_user_id",
        "bad_timestamp",
        "too_far_ahead",
        "too_old",
    ];

    /// Stable name of the reason, for counters and for the API.
    pub const fn code(&self) -> &'static str {
        match self {
            Rejection::NoValue => "no_value",
            Rejection::NotUtf8(_) => "not_utf8",
            Rejection::NotJson(_) => "not_json",
            Rejection::Missing(_) => "missing_field",
            Rejection::BadClickId(_) => "bad_click_id",
            Rejection::BadAdId(_) => "bad_ad_id",
            Rejection::BadUserId(_) => "bad_user_id",
            Rejection::BadTimestamp(_) => "bad_timestamp",
            Rejection::TooFarAhead(_) => "too_far_ahead",
            Rejection::TooOld(_) => "too_old",
        }
    }

    /// The field to mend, where the reason lies in one.
    pub const fn field(&self) -> Option<&'static str> {
        match self {
            Rejection::NoValue | Rejection::NotUtf8(_) | Rejection::NotJson(_) => None,
            Rejection::Missing(field) => Some(field),
            Rejection::BadClickId(_) => Some("click_id"),
            Rejection::BadAdId(_) => Some("ad_id"),
            Rejection::BadUserId(_) => Some("user_id"),
            Rejection::BadTimestamp(_) | Rejection::TooFarAhead(_) | Rejection::TooOld(_) => Some("timestamp"),
        }
    }
}

/// The fields of the wire format before they are checked; also what a client may send to the collector.
#[derive(Debug, Deserialize)]
pub struct Fields<'a> {
    #[serde(borrow, default)]
    pub click_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub ad_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub user_id: Option<Cow<'a, str>>,
    #[serde(borrow, default)]
    pub timestamp: Option<Cow<'a, str>>,
}

impl<'a> Fields<'a> {
    /// Reads the JSON object. Trailing data, duplicate known fields, wrong types and deep nesting are refused.
    pub fn read(value: &'a [u8]) -> Result<Self, Rejection> {
        // Validating once and parsing a `str` is twice as fast as `from_slice`, and finds bad bytes in unknown fields.
        let text = std::str::from_utf8(value).map_err(|e| Rejection::NotUtf8(e.valid_up_to()))?;
        // A JSON array would fill the fields by position, which nobody means.
        if !text.trim_start_matches([' ', '\t', '\r', '\n']).starts_with('{') {
            return Err(Rejection::NotJson("expected one JSON object `{…}`".to_owned()));
        }
        serde_json::from_str(text).map_err(|e| Rejection::NotJson(e.to_string()))
    }

    /// Checks every field; `issue` supplies the click id where the client gave none.
    pub fn check(self, issue: impl FnOnce() -> Option<ClickId>) -> Result<Read<'a>, Rejection> {
        let click_id = match &self.click_id {
            Some(text) => ClickId::parse(text).map_err(Rejection::BadClickId)?,
            None => issue().ok_or(Rejection::Missing("click_id"))?,
        };
        let ad_id = self.ad_id.ok_or(Rejection::Missing("ad_id"))?;
        let user_id = self.user_id.ok_or(Rejection::Missing("user_id"))?;
        let timestamp = self.timestamp.ok_or(Rejection::Missing("timestamp"))?;
        check_name(&ad_id).map_err(Rejection::BadAdId)?;
        check_name(&user_id).map_err(Rejection::BadUserId)?;
        let event_time = Timestamp::parse_rfc3339(&timestamp).map_err(Rejection::BadTimestamp)?;
        Ok(Read { click_id, ad_id: Name::of(ad_id), user_id: Name::of(user_id), event_time })
    }
}

/// A click as it stands in a record, every field checked: [`Click`] without the cost of owning its names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read<'a> {
    pub click_id: ClickId,
    pub ad_id: Name<'a>,
    pub user_id: Name<'a>,
    pub event_time: Timestamp,
}

impl Read<'_> {
    pub fn to_click(&self) -> Click {
        Click {
            click_id: self.click_id,
            ad_id: AdId::parse(self.ad_id.as_str()).expect("it was checked"),
            user_id: UserId::parse(self.user_id.as_str()).expect("it was checked"),
            event_time: self.event_time,
        }
    }
}

/// A name that was checked. Most need no text, only bytes to compare, so it is not made before it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Name<'a>(Cow<'a, [u8]>);

impl<'a> Name<'a> {
    fn of(text: Cow<'a, str>) -> Self {
        Name(match text {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        })
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).expect("a checked name is ASCII")
    }
}

/// Reads the value of a record that is no control record. Time limits are not checked here: they need an append time.
#[inline]
pub fn read(value: Option<&[u8]>) -> Result<Read<'_>, Rejection> {
    let value = value.ok_or(Rejection::NoValue)?;
    canonical::read(value).map_or_else(|| read_json(value), Ok)
}

/// The definition of what is a click: [`read`] without its fast path.
///
/// # Errors
/// The [`Rejection`] that says what is wrong.
pub fn read_json(value: &[u8]) -> Result<Read<'_>, Rejection> {
    Fields::read(value)?.check(|| None)
}

/// Reads a value that is spelled exactly as [`encode`] would spell it. `None` says nothing: others are left to
/// [`read_json`], and a few that `encode` writes too.
#[inline]
pub fn read_canonical(value: &[u8]) -> Option<Read<'_>> {
    // Of what the fast path takes only ids in upper case are spelled otherwise.
    canonical::read(value).filter(|_| !value[canonical::CLICK_ID].iter().any(u8::is_ascii_uppercase))
}

/// [`read`], owned.
pub fn decode(value: Option<&[u8]>) -> Result<Click, Rejection> {
    read(value).map(|read| read.to_click())
}

/// The canonical value: fields in this order, no white space, UTC with milliseconds.
pub fn encode(click: &Click) -> String {
    let mut text = String::with_capacity(160);
    // Ids hold no character that JSON would escape, so plain formatting is exact.
    let _ = write!(
        text,
        r#"{{"click_id":"{}","ad_id":"{}","user_id":"{}","timestamp":"{}"}}"#,
        click.click_id, click.ad_id, click.user_id, click.event_time
    );
    text
}

/// Identity of one record's content, kept beside a stored position so that a re-created or truncated log is noticed.
/// The first 16 bytes of SHA-256 over key, value and the broker's time, in hexadecimal.
pub fn fingerprint(key: Option<&[u8]>, value: Option<&[u8]>, broker_time: Timestamp) -> String {
    let mut hash = Sha256::new();
    for part in [key, value] {
        // The length keeps ("ab", "c") and ("a", "bc") apart, the marker an absent part from an empty one.
        hash.update([part.is_some() as u8]);
        hash.update((part.map_or(0, <[u8]>::len) as u64).to_be_bytes());
        hash.update(part.unwrap_or_default());
    }
    hash.update(broker_time.as_millis().to_be_bytes());
    crate::hex(&hash.finalize()[..16])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const GOLDEN: &str = r#"{"click_id":"0190f5c4-7c1e-7a40-8000-0242ac120002","ad_id":"ad-1","user_id":"u-1","timestamp":"2026-03-01T12:00:00.000Z"}"#;

    #[test]
    fn the_canonical_bytes_are_pinned() {
        let click = decode(Some(GOLDEN.as_bytes())).unwrap();
        assert_eq!(encode(&click), GOLDEN);
    }

    #[test]
    fn every_refusal_names_its_reason() {
        let deep = format!(r#"{{"x":{}"#, "[".repeat(100_000));
        let cases: [(&[u8], &str); 15] = [
            (b"", "not_json"),
            (b"null", "not_json"),
            (b"[\"a\",\"b\",\"c\",\"d\"]", "not_json"),
            (b"{}", "missing_field"),
            (deep.as_bytes(), "not_json"),
            (b"{\"ad_id\":\"\xff\"}", "not_utf8"),
            (br#"{"ad_id":"a","ad_id":"b"}"#, "not_json"),
            (br#"{"ad_id":7}"#, "not_json"),
            (br#"{"click_id":"7","ad_id":"a","user_id":"u","timestamp":"2026-03-01T12:00:00Z"}"#, "bad_click_id"),
            (br#"{"click_id":"0190f5c4-7c1e-7a40-8000-0242ac120002","ad_id":"a/b","user_id":"u","timestamp":"2026-03-01T12:00:00Z"}"#, "bad_ad_id"),
            (br#"{"click_id":"0190f5c4-7c1e-7a40-8000-0242ac120002","ad_id":"{p3}","user_id":"u","timestamp":"2026-03-01T12:00:00Z"}"#, "bad_ad_id"),
            (br#"{"click_id":"0190f5c4-7c1e-7a40-8000-0242ac120002","ad_id":"a","user_id":"","timestamp":"2026-03-01T12:00:00Z"}"#, "bad_user_id"),
            (br#"{"click_id":"0190f5c4-7c1e-7a40-8000-0242ac120002","ad_id":"a","user_id":"u","timestamp":"2026-03-01T12:00:00"}"#, "bad_timestamp"),
            (br#"{"click_id":"0190f5c4-7c1e-7a40-8000-0242ac120002","ad_id":"a","user_id":"u"}"#, "missing_field"),
            (br#"{"ad_id":"a"} x"#, "not_json"),
        ];
        for (value, code) in cases {
            let rejection = decode(Some(value)).unwrap_err();
            assert_eq!(
                rejection.code(),
                code,
                "{:?}: {rejection}",
                String::from_utf8_lossy(&value[..value.len().min(60)])
            );
            assert!(Rejection::CODES.contains(&code));
        }
        assert_eq!(decode(None), Err(Rejection::NoValue));
    }

    #[test]
    fn unknown_fields_are_allowed() {
        let value = GOLDEN.replace('}', r#","campaign":{"x":[1,2]}}"#);
        assert!(decode(Some(value.as_bytes())).is_ok());
    }

    #[test]
    fn fingerprints_tell_parts_apart() {
        let t = Timestamp::EPOCH;
        let all = [
            fingerprint(Some(b"ab"), Some(b"c"), t),
            fingerprint(Some(b"a"), Some(b"bc"), t),
            fingerprint(None, Some(b"abc"), t),
            fingerprint(Some(b""), Some(b"abc"), t),
            fingerprint(Some(b"ab"), Some(b"c"), Timestamp::from_millis(1)),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        assert_eq!(all[0].len(), 32);
    }

    /// Bytes that turn one field into another, or one spelling into another.
    fn edited_byte() -> impl Strategy<Value = u8> {
        prop_oneof![any::<u8>(), prop::sample::select(b"\"\\,:{} 09afAFgGZz-_.T+/\x10\x19\xc3".to_vec())]
    }

    fn is_canonical(value: &[u8]) -> bool {
        read_json(value).is_ok_and(|read| encode(&read.to_click()).as_bytes() == value)
    }

    proptest! {
        #[test]
        fn encode_and_decode_agree(id: u128, ad in "[A-Za-z0-9_.-]{1,64}", user in "[A-Za-z0-9_.-]{1,64}", ms in 0i64..4_000_000_000_000) {
            let click = Click {
                click_id: ClickId::from_u128(id),
                ad_id: AdId::parse(&ad).unwrap(),
                user_id: UserId::parse(&user).unwrap(),
                event_time: Timestamp::from_millis(ms),
            };
            prop_assert_eq!(decode(Some(encode(&click).as_bytes())), Ok(click));
        }

        #[test]
        fn no_input_panics(value: Vec<u8>) {
            let _ = decode(Some(&value));
        }

        /// The fast path reads what the JSON parser reads, or nothing: canonical values with some bytes replaced,
        /// removed or repeated.
        #[test]
        fn both_paths_agree(
            edits in prop::collection::vec((any::<prop::sample::Index>(), 0u8..3, edited_byte()), 0..4),
            ad in "[A-Za-z0-9_.-]{1,66}", year in 1965u32..2110, month in 0u32..14, day in 0u32..33, hour in 0u32..26,
            minute in 0u32..62, second in 0u32..62, id: u128, upper: bool,
        ) {
            let uuid = uuid::Uuid::from_u128(id).as_hyphenated().to_string();
            let uuid = if upper { uuid.to_uppercase() } else { uuid };
            let mut value = format!(
                r#"{{"click_id":"{uuid}","ad_id":"{ad}","user_id":"u","timestamp":"{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z"}}"#,
                id % 1_000,
            ).into_bytes();
            for (at, kind, byte) in edits {
                let at = at.index(value.len());
                match kind {
                    0 => value[at] = byte,
                    1 => { value.remove(at); }
                    _ => value.insert(at, byte),
                }
            }
            prop_assert!(read_canonical(&value).is_none() || is_canonical(&value));
            match (canonical::read(&value), read_json(&value)) {
                (Some(fast), slow) => prop_assert_eq!(Ok(fast), slow),
                (None, slow) => prop_assert!(slow.is_err() || second == 60 || year < 1970 || !is_canonical(&value), "not taken: {}", String::from_utf8_lossy(&value)),
            }
        }

        /// Every date from 1970 to 9999 is read as the parser reads it.
        #[test]
        fn both_paths_agree_on_times(ms in 0i64..253_402_300_800_000) {
            let text = GOLDEN.replace("2026-03-01T12:00:00.000Z", &Timestamp::from_millis(ms).to_rfc3339());
            let read = read_canonical(text.as_bytes()).expect("canonical");
            prop_assert_eq!(read.event_time.as_millis(), ms);
            prop_assert_eq!(Ok(read), read_json(text.as_bytes()));
        }
    }
}
