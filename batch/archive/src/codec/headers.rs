//! Headers of a record: two of them are typed columns, all others are bytes.
//!
//! ```text
//! u32 length of the name | name | u32 length of the value (all ones: null) | value      big-endian, repeated
//! ```

use bytes::Bytes;
use clicks::time::Timestamp;
use clicks::wire::{HEADER_RECEIVED, HEADER_USER_AGENT};
use platform::log::{Header, LogRecord};

const NULL: u32 = u32::MAX;

/// The two headers that have columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Typed<'a> {
    pub received: Option<Timestamp>,
    pub user_agent: Option<&'a str>,
}

impl<'a> Typed<'a> {
    pub(super) fn of(record: &'a LogRecord) -> Self {
        let text = |name| record.header(name).and_then(|value| std::str::from_utf8(value).ok());
        Typed {
            received: text(HEADER_RECEIVED).and_then(|millis| millis.parse().ok()).map(Timestamp::from_millis),
            user_agent: text(HEADER_USER_AGENT),
        }
    }

    /// The headers that a record has which has no others: what the collector writes, in its order.
    pub(super) fn to_headers(self) -> Vec<Header> {
        let header = |name: &str, value: String| Header { name: name.to_owned(), value: Some(value.into()) };
        let received = self.received.map(|time| header(HEADER_RECEIVED, time.as_millis().to_string()));
        let user_agent = self.user_agent.map(|agent| header(HEADER_USER_AGENT, agent.to_owned()));
        received.into_iter().chain(user_agent).collect()
    }

    /// Whether [`Typed::to_headers`] gives exactly these.
    pub(super) fn gives(self, headers: &[Header]) -> bool {
        // A number has one spelling without a sign or zeros in front; whatever else was read is kept as it is.
        let decimal = |text: &[u8]| text.iter().all(u8::is_ascii_digit) && (text[0] != b'0' || text.len() == 1);
        let received = |header: &Header| header.name == HEADER_RECEIVED && header.value.as_deref().is_some_and(decimal);
        let agent = |header: &Header, agent: &str| {
            header.name == HEADER_USER_AGENT && header.value.as_deref() == Some(agent.as_bytes())
        };
        match (self.received, self.user_agent, headers) {
            (None, None, []) => true,
            (Some(_), None, [first]) => received(first),
            (None, Some(text), [first]) => agent(first, text),
            (Some(_), Some(text), [first, second]) => received(first) && agent(second, text),
            _ => false,
        }
    }
}

pub(super) fn write(headers: &[Header]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Header { name, value } in headers {
        put(&mut bytes, name.as_bytes());
        match value {
            Some(value) => put(&mut bytes, value),
            None => bytes.extend_from_slice(&NULL.to_be_bytes()),
        }
    }
    bytes
}

fn put(bytes: &mut Vec<u8>, part: &[u8]) {
    // Kafka's own lengths are signed 32 bits wide, so a longer part cannot come from it, and all ones is free for null.
    let length = u32::try_from(part.len()).expect("a header of a record is shorter than 4 GiB");
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(part);
}

pub(super) fn read(mut bytes: &[u8]) -> Option<Vec<Header>> {
    let mut headers = Vec::new();
    while !bytes.is_empty() {
        let name = take(&mut bytes)??;
        let name = String::from_utf8(name.to_vec()).ok()?;
        let value = take(&mut bytes)?.map(Bytes::copy_from_slice);
        headers.push(Header { name, value });
    }
    Some(headers)
}

/// The next part, `Some(None)` for a null.
fn take<'a>(bytes: &mut &'a [u8]) -> Option<Option<&'a [u8]>> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    let length = u32::from_be_bytes(*length);
    if length == NULL {
        *bytes = rest;
        return Some(None);
    }
    let (part, rest) = rest.split_at_checked(length as usize)?;
    *bytes = rest;
    Some(Some(part))
}
