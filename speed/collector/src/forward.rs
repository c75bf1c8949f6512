//! The value that is written to the log for an accepted click.
//!
//! ```text
//! {"ad_id":"a","user_id":"u","timestamp":"…+01:00"}          -> the canonical value of `clicks::wire::encode`
//! {"ad_id":"a",…,"campaign":{"x":1}}                         -> the same bytes
//! the same without a click id                                -> {"click_id":"<issued>","ad_id":"a",…,"campaign":{"x":1}}
//! ```
//!
//! An object with fields of its own keeps its bytes: number spellings, order and white space are the sender's.

use bytes::Bytes;
use clicks::event::Click;
use clicks::wire::{VALUE_LENGTH_MAX, encode};
use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::refusal::Refusal;

/// Deepest nesting of brackets that is forwarded. Our own reader skips any depth, but whoever reads the archive later
/// may not: many JSON readers recurse, and serde_json's own values end at 128.
const DEPTH_MAX: usize = 100;

/// The bytes to append for `click`, which was read from `text`, an object without white space around it.
pub(crate) fn value(text: &str, click: &Click, origin: Origin) -> Result<Bytes, Refusal> {
    let canonical = encode(click);
    if text == canonical {
        return Ok(canonical.into());
    }
    let shape = Shape::read(text).map_err(|e| Refusal::whole("not_json", e.to_string()))?;
    if !shape.has_unknown_fields {
        return Ok(canonical.into());
    }
    let value = match (origin, shape.click_id) {
        (Origin::Client, _) => Bytes::copy_from_slice(text.as_bytes()),
        // `"click_id":null` is no id; a second field of that name would make the record unreadable, so the null gives way.
        (Origin::Issued, Some(null)) => {
            let start = null.get().as_ptr() as usize - text.as_ptr() as usize;
            let (before, after) = (&text[..start], &text[start + null.get().len()..]);
            format!("{before}\"{}\"{after}", click.click_id).into()
        }
        // An accepted object has fields, so there is one for the comma to stand before.
        (Origin::Issued, None) => format!("{{\"click_id\":\"{}\",{}", click.click_id, &text[1..]).into(),
    };
    if value.len() > VALUE_LENGTH_MAX {
        let detail =
            format!("the click takes {} bytes; at most {VALUE_LENGTH_MAX} are taken, send less beside it", value.len());
        return Err(Refusal::whole(Refusal::TOO_LARGE, detail));
    }
    let depth = depth(text);
    if depth > DEPTH_MAX {
        let detail = format!("the click is nested {depth} deep; at most {DEPTH_MAX} is taken, flatten it");
        return Err(Refusal::whole(Refusal::TOO_DEEP, detail));
    }
    Ok(value)
}

/// Who gave the click id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Client,
    Issued,
}

/// What [`clicks::wire::Fields`] does not tell about an object: its unknown fields, and where a known one is wrong.
#[derive(Debug, Default)]
pub(crate) struct Shape<'a> {
    has_unknown_fields: bool,
    click_id: Option<&'a RawValue>,
    /// The first known field that is neither a string nor null, with its text.
    pub(crate) wrong_type: Option<(&'static str, &'a str)>,
    /// The first known field that occurs twice.
    pub(crate) repeated: Option<&'static str>,
}

impl<'a> Shape<'a> {
    /// Reads any JSON object, to whatever depth, without recursion.
    pub(crate) fn read(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Name {
    ClickId,
    AdId,
    UserId,
    Timestamp,
    #[serde(other)]
    Unknown,
}

impl<'de: 'a, 'a> Deserialize<'de> for Shape<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Walk;
        impl<'de> Visitor<'de> for Walk {
            type Value = Shape<'de>;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("one JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape<'de>, A::Error> {
                let mut shape = Shape::default();
                let mut seen = [false; 4];
                while let Some(name) = map.next_key()? {
                    let (index, field) = match name {
                        Name::ClickId => (0, "click_id"),
                        Name::AdId => (1, "ad_id"),
                        Name::UserId => (2, "user_id"),
                        Name::Timestamp => (3, "timestamp"),
                        Name::Unknown => {
                            shape.has_unknown_fields = true;
                            map.next_value::<IgnoredAny>()?;
                            continue;
                        }
                    };
                    let value: &RawValue = map.next_value()?;
                    if !value.get().starts_with(['"', 'n']) {
                        shape.wrong_type.get_or_insert((field, value.get()));
                    }
                    if std::mem::replace(&mut seen[index], true) {
                        shape.repeated.get_or_insert(field);
                    }
                    if index == 0 {
                        shape.click_id = Some(value);
                    }
                }
                Ok(shape)
            }
        }
        deserializer.deserialize_map(Walk)
    }
}

/// Deepest nesting of brackets of a valid JSON text.
fn depth(text: &str) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0usize, 0, false, false);
    for byte in text.bytes() {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_strings_are_no_nesting() {
        let cases = [("{}", 1), (r#"{"a":[{"b":1}],"c":[]}"#, 3), (r#"{"a\"[[":"]}[[\\","b":[1]}"#, 2)];
        for (text, want) in cases {
            assert_eq!(depth(text), want, "{text}");
        }
    }

    #[test]
    fn a_shape_tells_what_is_wrong_with_a_known_field() {
        let shape = Shape::read(r#"{"x":1,"ad_id":"a","user_id":[1],"\u0061d_id":"b","timestamp":7}"#).unwrap();
        assert!(shape.has_unknown_fields);
        assert_eq!(shape.wrong_type, Some(("user_id", "[1]")));
        assert_eq!(shape.repeated, Some("ad_id"));
        for text in ["", "7", "[]", "{", "{} x", r#"{"a":}"#] {
            assert!(Shape::read(text).is_err(), "{text}");
        }
    }
}
