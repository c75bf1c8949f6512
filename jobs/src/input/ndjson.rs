//! One JSON object a line. Fields that no column names are passed over, as in the wire format.

use std::borrow::Cow;
use std::io::Read;

use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::check::Texts;
use super::columns::Columns;
use super::error::InputError;
use super::lines::{Line, Lines};
use super::mapping::Field;
use super::report::Reason;
use super::sink::Sink;

/// Deepest nesting of lists and objects, anywhere in a line. It is serde_json's own limit, which it does not apply to
/// values that are passed over.
const DEPTH_MAX: usize = 128;

/// Readable objects after which a required field that none of them had is called missing from the file.
const OBJECTS_UNTIL_UNKNOWN: u64 = 1_000;

pub(super) fn read<R: Read>(lines: &mut Lines<R>, columns: &Columns, sink: &mut Sink<'_>) -> Result<(), InputError> {
    let mut line = Line::default();
    let mut seen = Seen::default();
    while lines.next(&mut line)? {
        if line.is_blank() {
            sink.blank(line.number);
            continue;
        }
        match texts(&line, columns) {
            Ok(texts) => {
                seen.add(&line, &texts, columns)?;
                sink.take(line.number, &line.bytes, &texts)?;
            }
            Err(reason) => sink.reject(line.number, &line.bytes, reason),
        }
    }
    seen.finish(columns)
}

/// Takes one line apart.
fn texts<'l>(line: &'l Line, columns: &Columns) -> Result<Texts<'l>, Reason> {
    if line.too_long {
        return Err(Reason::too_long());
    }
    let text = std::str::from_utf8(&line.bytes).map_err(|error| Reason::not_utf8(error.valid_up_to()))?;
    if !is_shallow(text) {
        return Err(Reason::new("not_json", format!("lists and objects are nested deeper than {DEPTH_MAX}")));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    let object = ObjectOf(columns).deserialize(&mut json).and_then(|object| json.end().map(|()| object));
    let raw = object.map_err(|error| not_json(&error))?;
    let mut texts = Texts::default();
    for field in Field::ALL {
        if let Some(raw) = raw[field as usize] {
            texts.set(field, text_of(raw.get(), columns.label(field))?);
        }
    }
    Ok(texts)
}

/// The text of a string or number; null is an empty one. A number keeps its spelling: 1e400 is not for us to judge.
fn text_of<'r>(raw: &'r str, label: &str) -> Result<Cow<'r, str>, Reason> {
    let kind = match raw.as_bytes() {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => return Ok(Cow::Borrowed(&raw[1..raw.len() - 1])),
        // Escapes are checked only here: half of a character passes as a raw value.
        [b'"', ..] => return serde_json::from_str(raw).map(Cow::Owned).map_err(|error| not_json(&error)),
        [b'n', ..] => return Ok(Cow::Borrowed("")),
        [b'[', ..] => "a list",
        [b'{', ..] => "an object",
        [b't' | b'f', ..] => "true or false",
        _ => return Ok(Cow::Borrowed(raw)),
    };
    Err(Reason::new("wrong_type", format!("{label} is {kind}, where a text or a number is needed")))
}

/// The parser counts lines in the text it was given, which is always one.
fn not_json(error: &serde_json::Error) -> Reason {
    let message = error.to_string();
    let message = message.split(" at line ").next().unwrap_or_default();
    Reason::new("not_json", format!("the line is no JSON object: {message} at character {}", error.column()))
}

/// Whether nesting stays within the limit. Looks only at lines that have brackets enough to break it.
fn is_shallow(text: &str) -> bool {
    let opens = |byte: &&u8| matches!(byte, b'[' | b'{');
    if text.len() <= DEPTH_MAX || text.as_bytes().iter().filter(opens).count() <= DEPTH_MAX {
        return true;
    }
    let (mut depth, mut in_text, mut is_escaped) = (0usize, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_text => is_escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEPTH_MAX {
            return false;
        }
    }
    true
}

/// Reads an object and keeps the raw values of the columns that are asked for.
struct ObjectOf<'c>(&'c Columns);

impl<'de> DeserializeSeed<'de> for ObjectOf<'_> {
    type Value = [Option<&'de RawValue>; 5];
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'de> Visitor<'de> for ObjectOf<'_> {
    type Value = [Option<&'de RawValue>; 5];

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("one object `{…}` a line")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut values = [None; 5];
        while let Some(Key(key)) = map.next_key()? {
            let mut fields = self.0.fields_of(&key).peekable();
            if fields.peek().is_none() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            let value = map.next_value()?;
            for field in fields {
                if values[field as usize].replace(value).is_some() {
                    return Err(A::Error::custom(format_args!("`{}` stands in it twice", super::report::clean(&key))));
                }
            }
        }
        Ok(values)
    }
}

#[derive(Deserialize)]
#[serde(transparent)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

/// Which fields any line had. There is no header that would show a wrong mapping at once.
#[derive(Debug, Default)]
struct Seen {
    objects: u64,
    fields: [bool; 5],
    /// The first readable line, for the message.
    first: Line,
}

impl Seen {
    fn add(&mut self, line: &Line, texts: &Texts<'_>, columns: &Columns) -> Result<(), InputError> {
        if self.objects == 0 {
            self.first = Line { number: line.number, bytes: line.bytes.clone(), too_long: false };
        }
        self.objects += 1;
        for field in Field::ALL {
            self.fields[field as usize] |= texts.has(field);
        }
        if self.objects == OBJECTS_UNTIL_UNKNOWN {
            return self.expect(columns, |field| columns.is_required(field));
        }
        Ok(())
    }

    fn finish(&self, columns: &Columns) -> Result<(), InputError> {
        match self.objects {
            0 => Ok(()),
            _ => self.expect(columns, |field| columns.must_exist(field)),
        }
    }

    fn expect(&self, columns: &Columns, is_needed: impl Fn(Field) -> bool) -> Result<(), InputError> {
        match Field::ALL.into_iter().find(|field| is_needed(*field) && !self.fields[*field as usize]) {
            Some(field) => Err(columns.unknown(field, self.first.number, &keys(&self.first.bytes))),
            None => Ok(()),
        }
    }
}

/// The keys of an object that was readable before.
fn keys(line: &[u8]) -> Vec<String> {
    let object: Option<std::collections::BTreeMap<String, IgnoredAny>> = serde_json::from_slice(line).ok();
    object.unwrap_or_default().into_keys().collect()
}
