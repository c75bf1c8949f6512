//! One click of a request: read, checked against the rules, and turned into what is appended.

use bytes::Bytes;
use clicks::event::Click;
use clicks::id::ClickId;
use clicks::rules::{COLLECTOR_AHEAD_MAX, Rules, RulesBook};
use clicks::time::{Span, Timestamp};
use clicks::wire::{Fields, Rejection};

use crate::forward::{Origin, Shape, value};
use crate::refusal::Refusal;

/// A click that may be appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) click: Click,
    /// What is written to the log; it decodes to `click`.
    pub(crate) value: Bytes,
}

impl Item {
    /// Reads one click from the bytes that the client sent for it, white space around it included.
    pub(crate) fn read(bytes: &[u8], now: Timestamp, rules: &RulesBook) -> Result<Self, Refusal> {
        let bytes = trim(bytes);
        let text = std::str::from_utf8(bytes).map_err(|e| Rejection::NotUtf8(e.valid_up_to()))?;
        let fields = Fields::read(bytes).map_err(|rejection| explain(text, rejection))?;
        let origin = if fields.click_id.is_some() { Origin::Client } else { Origin::Issued };
        let click = fields.check(|| Some(issue(now)))?.to_click();
        check_time(click.event_time, now, rules.on(click.event_time.day()))?;
        let value = value(text, &click, origin)?;
        Ok(Item { click, value })
    }
}

/// White space as JSON knows it.
pub(crate) fn trim(bytes: &[u8]) -> &[u8] {
    let is_space = |b: &u8| matches!(b, b' ' | b'\t' | b'\r' | b'\n');
    let Some(start) = bytes.iter().position(|b| !is_space(b)) else { return &[] };
    let end = bytes.iter().rposition(|b| !is_space(b)).map_or(start, |last| last + 1);
    &bytes[start..end]
}

/// A click id of the collector's own: a UUID of version 7, its time from the clock port, the rest random.
fn issue(now: Timestamp) -> ClickId {
    let millis = u64::try_from(now.as_millis()).unwrap_or(0);
    ClickId::from_u128(uuid::Builder::from_unix_timestamp_millis(millis, &rand::random()).into_uuid().as_u128())
}

/// The reader of the core stops at the first thing that does not fit its types; the sender wants to know the field.
fn explain(text: &str, rejection: Rejection) -> Refusal {
    let Ok(shape) = Shape::read(text) else { return rejection.into() };
    if let Some(field) = shape.repeated {
        let detail = format!("`{field}` occurs more than once; which one is meant cannot be known");
        return Refusal::in_field(Refusal::DUPLICATE_FIELD, field, detail);
    }
    if let Some((field, value)) = shape.wrong_type {
        let shown: String = value.chars().take(32).collect();
        let detail = format!("`{field}` is {shown}; it must be a string in double quotes");
        return Refusal::in_field(Refusal::WRONG_TYPE, field, detail);
    }
    rejection.into()
}

/// What may pass between this check and the append, clock differences included. The counters judge by append time, so
/// the collector's bounds are narrower than theirs by this much: nothing that it acknowledged is rejected later.
const MARGIN: Span = Span::minutes(1);

const _: () = assert!(COLLECTOR_AHEAD_MAX.as_millis() + MARGIN.as_millis() <= Span::minutes(5).as_millis());

fn check_time(event_time: Timestamp, now: Timestamp, rules: &Rules) -> Result<(), Refusal> {
    let narrower = |bound: Span| Span::millis((bound.as_millis() - MARGIN.as_millis()).max(0));
    let ahead_max = COLLECTOR_AHEAD_MAX.min(narrower(rules.ahead_max));
    let age_max = narrower(rules.age_max);
    let (age, ahead) = (now.since(event_time), event_time.since(now));
    if ahead > ahead_max {
        let detail = format!(
            "`timestamp` {event_time} is {ahead} ahead of the collector's clock ({now}); at most {ahead_max} is taken"
        );
        return Err(Refusal { detail, ..Rejection::TooFarAhead(ahead).into() });
    }
    if age > age_max {
        let detail = format!(
            "`timestamp` {event_time} is {age} older than the collector's clock ({now}); at most {age_max} is taken"
        );
        return Err(Refusal { detail, ..Rejection::TooOld(age).into() });
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use clicks::wire::{VALUE_LENGTH_MAX, decode};
    use proptest::prelude::*;

    const ID: &str = "0190f5c4-7c1e-7a40-8000-0242ac120002";

    fn now() -> Timestamp {
        Timestamp::parse_rfc3339("2026-03-01T12:00:00Z").unwrap()
    }

    fn read(text: &str) -> Result<Item, Refusal> {
        Item::read(text.as_bytes(), now(), &RulesBook::new(Rules::default()).unwrap())
    }

    fn value_of(text: &str) -> String {
        let item = read(text).unwrap();
        assert_eq!(decode(Some(&item.value)).as_ref(), Ok(&item.click), "{text}");
        String::from_utf8(item.value.to_vec()).unwrap()
    }

    #[test]
    fn known_fields_alone_become_the_canonical_value() {
        let canonical =
            format!(r#"{{"click_id":"{ID}","ad_id":"a","user_id":"u","timestamp":"2026-03-01T12:00:00.000Z"}}"#);
        let spellings = [
            canonical.clone(),
            format!(
                r#" {{ "timestamp":"2026-03-01T13:00:00+01:00", "user_id":"u","ad_id":"a","click_id":"{}"}}"#,
                ID.to_uppercase()
            ) + "\r\n",
            format!(r#"{{"click_id":"{ID}","ad_id":"\u0061","user_id":"u","timestamp":"2026-03-01T12:00:00Z"}}"#),
        ];
        for text in spellings {
            assert_eq!(value_of(&text), canonical, "{text}");
        }
    }

    #[test]
    fn an_object_with_fields_of_its_own_keeps_its_bytes() {
        let rest =
            r#""ad_id":"a","user_id":"u" , "timestamp":"2026-03-01T12:00:00Z","n":1.50e0,"x":{"click_id":null}}"#;
        let whole = format!(r#"{{"click_id":"{ID}",{rest}"#);
        assert_eq!(value_of(&format!("\t{whole}\n")), whole);

        // Issued ids stand in front, or take the place of a null.
        for head in ["{", "{ ", "{\n\t"] {
            let value = value_of(&format!("{head}{rest}"));
            let id = &value[13..49];
            assert_eq!(value, format!(r#"{{"click_id":"{id}",{}{rest}"#, &head[1..]));
            assert_eq!(uuid::Uuid::parse_str(id).unwrap().get_version_num(), 7);
        }
        let value = value_of(&format!(r#"{{"click_\u0069d": null ,{rest}"#));
        let id = &value[19..55];
        assert_eq!(value, format!(r#"{{"click_\u0069d": "{id}" ,{rest}"#));
    }

    #[test]
    fn issued_ids_carry_the_clock_s_time_and_differ() {
        let (a, b) = (issue(now()), issue(now()));
        assert_ne!(a, b);
        for id in [a, b] {
            assert_eq!(id.as_u128() >> 80, now().as_millis() as u128);
        }
        assert_eq!(issue(Timestamp::from_millis(-1)).as_u128() >> 80, 0);
    }

    #[test]
    fn every_refusal_names_its_code_and_its_field() {
        let with = |field: &str, value: &str| {
            let mut fields = [
                ("click_id", format!("\"{ID}\"")),
                ("ad_id", "\"a\"".to_owned()),
                ("user_id", "\"u\"".to_owned()),
                ("timestamp", "\"2026-03-01T12:00:00Z\"".to_owned()),
            ];
            match fields.iter_mut().find(|(name, _)| *name == field) {
                Some((_, old)) => *old = value.to_owned(),
                None => panic!("{field}"),
            }
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", fields.join(","))
        };
        let nested = |depth: usize| with("ad_id", &format!("\"a\",\"x\":{}{}", "[".repeat(depth), "]".repeat(depth)));
        let long = |length: usize| with("ad_id", &format!("\"a\",\"x\":\"{}\"", "y".repeat(length)));
        let cases = [
            ("null".to_owned(), "not_json", None),
            ("7".to_owned(), "not_json", None),
            (r#"["a"]"#.to_owned(), "not_json", None),
            (with("ad_id", "\"a"), "not_json", None),
            ("{}".to_owned(), "missing_field", Some("ad_id")),
            (with("ad_id", "null"), "missing_field", Some("ad_id")),
            (with("ad_id", "7"), "wrong_type", Some("ad_id")),
            (with("timestamp", "1772366400000"), "wrong_type", Some("timestamp")),
            (with("click_id", "true"), "wrong_type", Some("click_id")),
            (with("user_id", "\"u\",\"user_id\":\"v\""), "duplicate_field", Some("user_id")),
            (with("ad_id", "\"a/b\""), "bad_ad_id", Some("ad_id")),
            (with("ad_id", "\"{p3}\""), "bad_ad_id", Some("ad_id")),
            (with("user_id", "\"\""), "bad_user_id", Some("user_id")),
            (with("click_id", "\"7\""), "bad_click_id", Some("click_id")),
            (with("click_id", "\"\""), "bad_click_id", Some("click_id")),
            (with("timestamp", "\"1772366400000\""), "bad_timestamp", Some("timestamp")),
            (with("timestamp", "\"2026-03-01T12:00:00\""), "bad_timestamp", Some("timestamp")),
            (with("timestamp", "\"2026-03-01T12:04:00.001Z\""), "too_far_ahead", Some("timestamp")),
            (with("timestamp", "\"9999-12-31T23:59:59Z\""), "too_far_ahead", Some("timestamp")),
            (with("timestamp", "\"1970-01-01T00:00:00Z\""), "too_old", Some("timestamp")),
            (with("timestamp", "\"2026-01-25T12:00:59.999Z\""), "too_old", Some("timestamp")),
            (nested(DEPTH - 1), "", None),
            (nested(DEPTH), "too_deep", None),
            (long(VALUE_LENGTH_MAX), "too_large", None),
            (with("timestamp", "\"2026-03-01T12:04:00Z\""), "", None),
            (with("timestamp", "\"2026-01-25T12:01:00Z\""), "", None),
        ];
        const DEPTH: usize = 100;
        for (text, code, field) in cases {
            let got = read(&text).err().map_or(("", None), |refusal| (refusal.code, refusal.field));
            assert_eq!(got, (code, field), "{}", &text[..text.len().min(200)]);
        }
        let bytes = b"{\"x\":\"\xff\"}";
        assert_eq!(Item::read(bytes, now(), &RulesBook::new(Rules::default()).unwrap()).unwrap_err().code, "not_utf8");
    }

    #[test]
    fn the_size_limit_is_that_of_the_forwarded_value() {
        // White space that is not forwarded costs nothing; an issued id counts.
        let tail = r#""ad_id":"a","user_id":"u","timestamp":"2026-03-01T12:00:00Z""#;
        assert!(read(&format!("{{{}{tail}}}", " ".repeat(VALUE_LENGTH_MAX))).is_ok());
        let issued = r#""click_id":"","#.len() + ID.len();
        let fill = VALUE_LENGTH_MAX - issued - format!(r#"{{{tail},"x":""}}"#).len();
        let of = |fill: usize| read(&format!(r#"{{{tail},"x":"{}"}}"#, "y".repeat(fill)));
        assert_eq!(of(fill).unwrap().value.len(), VALUE_LENGTH_MAX);
        assert_eq!(of(fill + 1).unwrap_err().code, "too_large");
    }

    #[test]
    fn narrow_rules_narrow_the_collector() {
        let rules = Rules { ahead_max: Span::minutes(2), age_max: Span::minutes(10), ..Rules::default() };
        let cases = [(1, true), (2, false), (-9, true), (-10, false)];
        for (minutes, taken) in cases {
            let event_time = now() + Span::minutes(minutes);
            assert_eq!(check_time(event_time, now(), &rules).is_ok(), taken, "{minutes}");
        }
    }

    proptest! {
        /// The promise of a 202: whatever was accepted is readable, and says the same click.
        #[test]
        fn what_is_accepted_decodes_to_the_same_click(
            id in prop_oneof![Just("absent".to_owned()), Just("null".to_owned()), Just(format!("\"{ID}\""))],
            extra in prop::collection::vec(("[a-z\"\\\\{}]{0,4}", "[ -~]{0,8}"), 0..3),
            order in any::<prop::sample::Index>(),
            space in "[ \t\r\n]{0,3}",
        ) {
            let mut fields = vec![
                r#""ad_id":"a""#.to_owned(),
                r#""user_id":"u""#.to_owned(),
                r#""timestamp":"2026-03-01T12:00:00.1+00:00""#.to_owned(),
            ];
            fields.extend(extra.iter().map(|(name, value)| {
                // A leading underscore keeps the names apart from the known ones.
                format!("{}:{}", serde_json::json!(format!("_{name}")), serde_json::json!(value))
            }));
            if id != "absent" {
                fields.push(format!("\"click_id\":{space}{id}"));
            }
            let turn = order.index(fields.len());
            fields.rotate_left(turn);
            let text = format!("{space}{{{space}{}{space}}}", fields.join(&format!("{space},{space}")));
            let item = read(&text).unwrap();
            prop_assert_eq!(decode(Some(&item.value)), Ok(item.click));
        }

        #[test]
        fn no_bytes_panic(bytes: Vec<u8>) {
            let _ = Item::read(&bytes, now(), &RulesBook::new(Rules::default()).unwrap());
        }
    }
}
