//! A request body cut into clicks. What it is, is told by its content: senders' content types are not to be trusted
//! (`navigator.sendBeacon` sends everything as `text/plain`).
//!
//! ```text
//! [ … ]          JSON array: each element keeps its bytes, and one bad element does not spoil the others
//! { … }          one JSON click
//! { … }\n{ … }   NDJSON: one click a line, blank lines ignored
//! ```

use serde::Deserializer;
use serde::de::{SeqAccess, Visitor};
use serde_json::value::RawValue;

use crate::item::trim;

/// How the clicks were sent, which is how they are answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    Single,
    Batch,
}

/// A body that holds no clicks to look at one by one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SplitError {
    #[error("the body holds no click; send one JSON object, a JSON array of them, or one a line")]
    Empty,
    #[error("the body is not a JSON array: {0}")]
    Malformed(String),
    #[error("the body holds more than {0} clicks; send it in parts")]
    TooMany(usize),
}

/// Cuts `body` into the bytes of at most `max` clicks. `lines` says that the sender declared NDJSON.
pub(crate) fn split(body: &[u8], lines: bool, max: usize) -> Result<(Form, Vec<&[u8]>), SplitError> {
    // Some editors begin every file with this mark; it means nothing.
    let body = trim(body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body));
    match body.first() {
        None => Err(SplitError::Empty),
        Some(b'[') => array(body, max).map(|items| (Form::Batch, items)),
        Some(_) if lines || looks_like_lines(body) => many_lines(body, max).map(|items| (Form::Batch, items)),
        Some(_) => Ok((Form::Single, vec![body])),
    }
}

fn many_lines(body: &[u8], max: usize) -> Result<Vec<&[u8]>, SplitError> {
    let items: Vec<_> = nonblank_lines(body).take(max.saturating_add(1)).collect();
    if items.len() > max { Err(SplitError::TooMany(max)) } else { Ok(items) }
}

fn nonblank_lines(body: &[u8]) -> impl Iterator<Item = &[u8]> {
    body.split(|byte| *byte == b'\n').map(trim).filter(|line| !line.is_empty())
}

/// Whether a body was certainly never one JSON object, because no object can be broken between its first two lines:
/// after a closing brace only `,` `}` `]` may follow, and an opening brace may stand only after `:` `,` `[`.
fn looks_like_lines(body: &[u8]) -> bool {
    let mut lines = nonblank_lines(body);
    let (Some(first), Some(second)) = (lines.next(), lines.next()) else { return false };
    match (first.last(), second.first()) {
        (Some(b'}'), Some(next)) => !b",}]".contains(next),
        (Some(last), Some(b'{')) => !b":,[".contains(last),
        _ => false,
    }
}

fn array(body: &[u8], max: usize) -> Result<Vec<&[u8]>, SplitError> {
    let text = std::str::from_utf8(body)
        .map_err(|e| SplitError::Malformed(format!("it is not UTF-8 (first bad byte at {})", e.valid_up_to())))?;
    let mut items = Vec::new();
    let mut reader = serde_json::Deserializer::from_str(text);
    let read = reader.deserialize_seq(Elements { items: &mut items, max });
    match read.and_then(|()| reader.end()) {
        _ if items.len() > max => Err(SplitError::TooMany(max)),
        Err(error) => Err(SplitError::Malformed(error.to_string())),
        Ok(()) if items.is_empty() => Err(SplitError::Empty),
        Ok(()) => Ok(items),
    }
}

/// Collects elements as they stand in the text. `RawValue` is skipped without recursion, so no nesting overflows the
/// stack; and the reading ends at the first element too many, so a megabyte of `1,1,1` costs no memory.
struct Elements<'a, 'i> {
    items: &'i mut Vec<&'a [u8]>,
    max: usize,
}

impl<'de> Visitor<'de> for Elements<'de, '_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON array")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(element) = seq.next_element::<&RawValue>()? {
            self.items.push(element.get().as_bytes());
            if self.items.len() > self.max {
                return Err(serde::de::Error::custom("too many elements"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn texts(body: &str, lines: bool) -> (Form, Vec<String>) {
        let (form, items) = split(body.as_bytes(), lines, 1_000).unwrap();
        (form, items.into_iter().map(|item| String::from_utf8(item.to_vec()).unwrap()).collect())
    }

    #[test]
    fn the_form_is_told_by_the_content() {
        let cases: [(&str, bool, Form, &[&str]); 13] = [
            (r#" {"a":1} "#, false, Form::Single, &[r#"{"a":1}"#]),
            (r#"{"a":1}"#, true, Form::Batch, &[r#"{"a":1}"#]),
            ("\u{feff}{\"a\":1}", false, Form::Single, &[r#"{"a":1}"#]),
            ("{\"a\":1}\n\r\n{\"b\":2}\r\n", false, Form::Batch, &[r#"{"a":1}"#, r#"{"b":2}"#]),
            ("{\"a\":1}\nnonsense\n{\"b\":2}", false, Form::Batch, &[r#"{"a":1}"#, "nonsense", r#"{"b":2}"#]),
            ("{\"a\":\n{\"b\":2}", false, Form::Single, &["{\"a\":\n{\"b\":2}"]),
            ("{\"a\n{\"b\":2}", false, Form::Batch, &["{\"a", r#"{"b":2}"#]),
            ("{\n\"a\":{}\n}", false, Form::Single, &["{\n\"a\":{}\n}"]),
            ("{\"a\":{}\n,\"b\":[\n{}]}", false, Form::Single, &["{\"a\":{}\n,\"b\":[\n{}]}"]),
            ("[ {\"a\": 1} ,\n 7,[[]] ]", false, Form::Batch, &["{\"a\": 1}", "7", "[[]]"]),
            ("[{}]", true, Form::Batch, &["{}"]),
            ("nonsense", false, Form::Single, &["nonsense"]),
            ("\n\nnonsense\n\n", true, Form::Batch, &["nonsense"]),
        ];
        for (body, lines, form, items) in cases {
            let want = (form, items.iter().map(|item| (*item).to_owned()).collect::<Vec<_>>());
            assert_eq!(texts(body, lines), want, "{body:?} {lines}");
        }
    }

    #[test]
    fn bodies_without_clicks_are_refused_as_a_whole() {
        for body in ["", " \r\n\t", "\u{feff}", "[]", "[ ]"] {
            assert_eq!(split(body.as_bytes(), false, 10), Err(SplitError::Empty), "{body:?}");
        }
        let open = "[".repeat(100_000);
        for body in [r#"[{"a":1}"#, "[1,]", "[1] x", "[1}", "[\"\u{0}\"]", &open] {
            let error = split(body.as_bytes(), false, 10);
            assert!(matches!(error, Err(SplitError::Malformed(_))), "{error:?}");
        }
        assert!(matches!(split(b"[\"\xff\"]", false, 10), Err(SplitError::Malformed(_))));
    }

    #[test]
    fn deep_nesting_costs_no_stack() {
        // A thread with a small stack: recursion of 100,000 levels would end the process.
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        std::thread::Builder::new()
            .stack_size(128 << 10)
            .spawn(move || {
                let (form, items) = split(deep.as_bytes(), false, 10).unwrap();
                assert_eq!((form, items.len(), items[0].len()), (Form::Batch, 1, 199_998));
            })
            .unwrap()
            .join()
            .unwrap();
    }

    #[test]
    fn the_count_is_bounded_while_reading() {
        for (body, lines) in [("[1,1,1]", false), ("1\n\n1\n1", true)] {
            assert_eq!(split(body.as_bytes(), lines, 3).unwrap().1.len(), 3);
            assert_eq!(split(body.as_bytes(), lines, 2), Err(SplitError::TooMany(2)));
        }
        // Unbounded reading would find that this is no array at all.
        let endless = "[1,1,1".to_owned() + &",1".repeat(100_000) + "}";
        assert_eq!(split(endless.as_bytes(), false, 2), Err(SplitError::TooMany(2)));
    }
}
