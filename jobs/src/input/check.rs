//! From the texts of a line to a click, by the rules of the wire format.

use std::borrow::Cow;

use clicks::id::{ClickId, IdError, check_name};
use clicks::time::Timestamp;
use sha2::{Digest, Sha256};

use super::columns::Columns;
use super::entry::Entry;
use super::mapping::Field;
use super::report::Reason;
use super::time::{Reading, TimeReader};

/// The user of clicks that name none.
const UNKNOWN_USER: &str = "unknown";

/// What a line says, before it is checked.
#[derive(Debug, Default)]
pub(super) struct Texts<'a>([Option<Cow<'a, str>>; 5]);

impl<'a> Texts<'a> {
    pub(super) fn set(&mut self, field: Field, text: Cow<'a, str>) {
        self.0[field as usize] = Some(text);
    }

    pub(super) fn has(&self, field: Field) -> bool {
        self.0[field as usize].is_some()
    }

    /// An empty text says nothing.
    pub(super) fn get(&self, field: Field) -> Option<&str> {
        self.0[field as usize].as_deref().filter(|text| !text.is_empty())
    }
}

/// A click, and what had to be decided on the way.
#[derive(Debug)]
pub(super) struct Checked<'a> {
    pub(super) entry: Entry<'a>,
    pub(super) is_issued: bool,
    pub(super) is_derived: bool,
    pub(super) is_unknown_user: bool,
    pub(super) is_folded: bool,
}

/// Checks the lines of one file.
#[derive(Debug)]
pub(super) struct Checker<'c> {
    columns: &'c Columns,
    times: TimeReader,
}

impl<'c> Checker<'c> {
    pub(super) fn new(columns: &'c Columns, times: TimeReader) -> Self {
        Checker { columns, times }
    }

    /// In the order of the wire format: ad, user, time. The first fault is the reason; any text is a click id.
    pub(super) fn check<'t>(&self, line: u64, texts: &'t Texts<'_>) -> Result<Checked<'t>, Reason> {
        let text = texts.get(Field::ClickId);
        let uuid = text.and_then(|text| ClickId::parse(text).ok());
        let given = uuid.or_else(|| text.map(derive));
        let ad = self.required(texts, Field::AdId)?;
        check_name(ad).map_err(|error| self.bad_id("bad_ad_id", Field::AdId, ad, error))?;
        let named = texts.get(Field::UserId);
        let user = named.unwrap_or(UNKNOWN_USER);
        check_name(user).map_err(|error| self.bad_id("bad_user_id", Field::UserId, user, error))?;
        let event = self.time(texts, Field::Timestamp, "bad_timestamp")?;
        let arrival = match self.columns.is_asked(Field::Arrival) {
            true => self.time(texts, Field::Arrival, "bad_arrival")?,
            false => event,
        };
        let click_id = given.unwrap_or_else(|| issue(line, ad, user, event.time));
        Ok(Checked {
            entry: Entry { arrival: arrival.time, line, event_time: event.time, click_id, ad, user },
            is_issued: given.is_none(),
            is_derived: given.is_some() && uuid.is_none(),
            is_unknown_user: named.is_none(),
            is_folded: event.is_folded || arrival.is_folded,
        })
    }

    fn required<'t>(&self, texts: &'t Texts<'_>, field: Field) -> Result<&'t str, Reason> {
        let missing = || Reason::new("missing_field", format!("{} is missing or empty", self.columns.label(field)));
        texts.get(field).ok_or_else(missing)
    }

    fn time(&self, texts: &Texts<'_>, field: Field, code: &'static str) -> Result<Reading, Reason> {
        self.times.read(self.required(texts, field)?).map_err(|fault| {
            let code = if fault.is_skipped() { "skipped_local_time" } else { code };
            Reason::new(code, format!("{} {fault}", self.columns.label(field)))
        })
    }

    fn bad_id(&self, code: &'static str, field: Field, text: &str, error: IdError) -> Reason {
        let mend = match error {
            IdError::BadCharacter(_) => match near_name(text) {
                Some(name) => format!("; write it as `{name}`, for instance"),
                None => String::new(),
            },
            _ => String::new(),
        };
        Reason::new(code, format!("{} {error}{mend}", self.columns.label(field)))
    }
}

/// A name that says the same: `Spring Sale 1` as `Spring-Sale-1`.
fn near_name(text: &str) -> Option<String> {
    let name: String =
        text.chars().map(|c| if check_name(c.encode_utf8(&mut [0; 4])).is_ok() { c } else { '-' }).collect();
    (check_name(&name).is_ok() && name.chars().any(|c| c != '-')).then_some(name)
}

/// A click id for a line that has none: UUID version 8 over SHA-256, so that every run issues the same one. The line
/// number is part of it: nobody can say of two identical lines that they are one click seen twice.
fn issue(line: u64, ad: &str, user: &str, event_time: Timestamp) -> ClickId {
    let mut hash = Sha256::new();
    hash.update(b"twofold input click id 1\0");
    hash.update(line.to_be_bytes());
    hash.update(event_time.as_millis().to_be_bytes());
    // Names hold no byte 0, so it separates them.
    for part in [ad.as_bytes(), b"\0", user.as_bytes()] {
        hash.update(part);
    }
    id_of(hash)
}

/// The click id of a text that is no UUID, such as `evt-1`: UUID version 8 over SHA-256. The same text is the same click.
fn derive(text: &str) -> ClickId {
    let mut hash = Sha256::new();
    hash.update(b"twofold input click id of text 1\0");
    hash.update(text.as_bytes());
    id_of(hash)
}

fn id_of(hash: Sha256) -> ClickId {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hash.finalize()[..16]);
    ClickId::from_bytes(uuid::Builder::from_custom_bytes(bytes).into_uuid().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn issued_ids_are_pinned_and_differ_in_every_part() {
        let time = Timestamp::from_millis(1_772_359_200_123);
        let all = [
            issue(7, "ad-1", "u-1", time),
            issue(8, "ad-1", "u-1", time),
            issue(7, "ad-1u", "-1", time),
            issue(7, "ad-2", "u-1", time),
            issue(7, "ad-1", "u-1", Timestamp::EPOCH),
        ];
        let distinct: std::collections::BTreeSet<_> = all.iter().collect();
        assert_eq!(distinct.len(), all.len());
        for id in all {
            let uuid = uuid::Uuid::from_u128(id.as_u128());
            assert_eq!((uuid.get_version_num(), uuid.get_variant()), (8, uuid::Variant::RFC4122));
        }
        assert_eq!(all[0].to_string(), "8b928acb-d44b-8b91-9047-7499c5eb6f53");
        let derived = uuid::Uuid::from_u128(derive("evt-1").as_u128());
        assert_eq!((derived.get_version_num(), derive("evt-1") == derive("evt-2")), (8, false));
        assert_eq!(derived.to_string(), "cc2dfb82-1f5b-8001-9185-69d2b03bd843");
    }
}
