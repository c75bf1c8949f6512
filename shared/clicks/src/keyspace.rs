//! The key space of Redis.
//!
//! ```text
//! tf1:{eu.0190f5c4-….p7}:live                 string  the generation that readers see, 32 hex digits
//! tf1:{eu.0190f5c4-….p7}:building             string  the generation that is counted to take its place, while there is one
//! tf1:{eu.0190f5c4-….p7}:retired              set     generations that were replaced and whose keys are not all deleted yet
//! tf1:{eu.0190f5c4-….p7}:<generation>:meta    hash    the meta record, see `meta_fields`
//! tf1:{eu.0190f5c4-….p7}:<generation>:h:<hour number since the epoch>      hash   `<minute 00-59>:<class>:<ad>` -> clicks
//! tf1:{eu.0190f5c4-….p7}:<generation>:l:<night, YYYY-MM-DD>                hash   `<minute number>:<class>:<ad>` -> late clicks
//! tf1:{eu.0190f5c4-….p7}:<generation>:changes stream  what the last flushes wrote, see `change_name`; each ends with `at` -> `<next offset>:<lost>`
//! ```
//!
//! All keys of a partition share the hash tag, so they lie in one slot, on one master, in one replication stream: any
//! loss of a suffix takes counts and offset back together. Every key can be named from the meta record alone.

use std::str::FromStr;

use crate::event::Class;
use crate::id::AdId;
use crate::live::{CountKey, Generation, LateKey, Lost, Meta, Totals};
use crate::position::{Offset, PartitionId};
use crate::time::{Day, Interval, Timestamp};
use crate::window::{Hour, Minute};

/// Major version of the key space. Another one is another prefix, so two releases never share a key.
pub const PREFIX: &str = "tf1";

/// The keys of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionKeys {
    tag: String,
}

impl PartitionKeys {
    pub fn new(partition: &PartitionId) -> Self {
        // Regions hold no brace, so the tag cannot be closed early.
        PartitionKeys { tag: format!("{PREFIX}:{{{}.{}.p{}}}", partition.region, partition.topic, partition.number) }
    }

    pub fn live(&self) -> String {
        format!("{}:live", self.tag)
    }
    pub fn building(&self) -> String {
        format!("{}:building", self.tag)
    }
    pub fn retired(&self) -> String {
        format!("{}:retired", self.tag)
    }
    pub fn meta(&self, generation: Generation) -> String {
        format!("{}:{generation}:meta", self.tag)
    }
    pub fn hour(&self, generation: Generation, hour: Hour) -> String {
        format!("{}:{generation}:h:{}", self.tag, hour.number())
    }
    pub fn night(&self, generation: Generation, night: Day) -> String {
        format!("{}:{generation}:l:{night}", self.tag)
    }
    pub fn changes(&self, generation: Generation) -> String {
        format!("{}:{generation}:changes", self.tag)
    }
}

/// Stored content that this release cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyspaceError {
    #[error("meta field `{0}` is missing")]
    MissingField(&'static str),
    #[error("meta field `{field}` is `{value}`, which is no {wanted}")]
    BadField { field: &'static str, value: String, wanted: &'static str },
    #[error("meta version is `{0}`; this release reads version {META_VERSION}")]
    Version(String),
    #[error("count field `{0}` is not of the form minute:class:ad")]
    BadCountField(String),
    #[error("count `{0}` is no number")]
    BadCount(String),
    #[error("`{0}` is no change of counts")]
    BadChange(String),
    #[error("{0}")]
    ForeignKey(String),
}

impl KeyspaceError {
    /// Nothing is damaged: a later release wrote it, and this one must leave it alone.
    pub fn is_of_a_later_release(&self) -> bool {
        let version = |text: &str| text.parse::<u64>().ok();
        matches!(self, KeyspaceError::Version(found) if version(found) > version(META_VERSION))
    }
}

/// Field of an hour hash.
pub fn hour_field(key: &CountKey) -> String {
    let mut field = String::new();
    write_hour_field(&mut field, key);
    field
}

/// Adds the field of an hour hash to `text`. Each flush writes thousands.
pub fn write_hour_field(text: &mut String, key: &CountKey) {
    let within = key.minute.number().rem_euclid(60) as u8;
    text.extend([b'0' + within / 10, b'0' + within % 10].map(char::from));
    text.extend([':', key.class.code(), ':']);
    text.push_str(key.ad.as_str());
}

pub fn parse_hour_field(hour: Hour, field: &str) -> Result<CountKey, KeyspaceError> {
    let (minute, class, ad) = split(field)?;
    match minute.parse::<i64>() {
        Ok(within @ 0..60) => Ok(CountKey { minute: hour.minute(within), class, ad }),
        _ => Err(KeyspaceError::BadCountField(field.to_owned())),
    }
}

/// Field of a night hash.
pub fn late_field(key: &LateKey) -> String {
    format!("{}:{}:{}", key.count.minute.number(), key.count.class.code(), key.count.ad)
}

pub fn parse_late_field(night: Day, field: &str) -> Result<LateKey, KeyspaceError> {
    let (minute, class, ad) = split(field)?;
    let number = minute.parse().map_err(|_| KeyspaceError::BadCountField(field.to_owned()))?;
    Ok(LateKey { night, count: CountKey { minute: Minute::from_number(number), class, ad } })
}

/// What an hour or night is called in the stream of changes, `h:492324`: the end of its key.
pub fn change_name(key: &str) -> &str {
    key.rmatch_indices(':').nth(1).map_or(key, |(at, _)| &key[at + 1..])
}

/// What the last entry of a flush is called in the stream of changes. It holds the position that the flush has reached.
pub const CHANGES_END: &str = "at";

/// Furthest hour that is believed to be one, from the epoch: a hundred million years.
const HOUR_LIMIT: u64 = 1 << 40;

/// Reads one entry of the stream of changes: the name of a key, and the fields and counts that were written to it, with
/// blanks between.
pub fn parse_change(
    name: &str,
    text: &str,
    counts: &mut Vec<(CountKey, u64)>,
    late: &mut Vec<(LateKey, u64)>,
) -> Result<(), KeyspaceError> {
    let wrong = |text: &str| KeyspaceError::BadChange(text.chars().take(128).collect());
    let mut texts = text.split(' ');
    let mut pairs = std::iter::from_fn(|| Some((texts.next()?, texts.next().unwrap_or_default())));
    match name.split_once(':') {
        Some(("h", hour)) => {
            let number = hour.parse::<i64>().ok().filter(|number| number.unsigned_abs() < HOUR_LIMIT);
            let hour = Hour::from_number(number.ok_or_else(|| wrong(name))?);
            pairs.try_for_each(|(field, clicks)| {
                counts.push((parse_hour_field(hour, field)?, parse_count(clicks)?));
                Ok(())
            })
        }
        Some(("l", night)) => {
            let night = night.parse().map_err(|_| wrong(name))?;
            pairs.try_for_each(|(field, clicks)| {
                late.push((parse_late_field(night, field)?, parse_count(clicks)?));
                Ok(())
            })
        }
        _ => Err(wrong(name)),
    }
}

/// The value of a field of an hour or night.
pub fn parse_count(text: &str) -> Result<u64, KeyspaceError> {
    text.parse().map_err(|_| KeyspaceError::BadCount(text.chars().take(64).collect()))
}

fn split(field: &str) -> Result<(&str, Class, AdId), KeyspaceError> {
    let wrong = || KeyspaceError::BadCountField(field.chars().take(128).collect());
    let mut parts = field.splitn(3, ':');
    let (Some(minute), Some(class), Some(ad)) = (parts.next(), parts.next(), parts.next()) else { return Err(wrong()) };
    let mut code = class.chars();
    let class = code.next().filter(|_| code.as_str().is_empty()).and_then(Class::from_code).ok_or_else(wrong)?;
    Ok((minute, class, AdId::parse(ad).map_err(|_| wrong())?))
}

const META_VERSION: &str = "1";

/// The meta record as field-value pairs, in a fixed order.
pub fn meta_fields(meta: &Meta) -> Vec<(&'static str, String)> {
    let t = &meta.totals;
    vec![
        ("version", META_VERSION.to_owned()),
        ("next_offset", meta.next_offset.to_string()),
        ("append_time", meta.append_time.as_millis().to_string()),
        ("fingerprint", meta.fingerprint.clone()),
        ("base_offset", meta.base_offset.to_string()),
        ("base_day", meta.base_day.to_string()),
        ("base_night", meta.base_night.to_string()),
        ("seen", t.seen.to_string()),
        ("control", t.control.to_string()),
        ("rejected", t.rejected.to_string()),
        ("duplicate", t.duplicate.to_string()),
        ("late", t.late.to_string()),
        ("counted", t.counted.to_string()),
        ("expired", t.expired.to_string()),
        ("late_expired", t.late_expired.to_string()),
        ("dedup_evicted", meta.dedup_evicted.to_string()),
        ("drift_start", meta.drift.start.as_millis().to_string()),
        ("drift_end", meta.drift.end.as_millis().to_string()),
        ("lost", meta.lost.records.to_string()),
        ("lost_start", meta.lost.appended.start.as_millis().to_string()),
        ("lost_end", meta.lost.appended.end.as_millis().to_string()),
        ("rollbacks", meta.rollbacks.to_string()),
        ("rebuilds", meta.rebuilds.to_string()),
        ("rebuilding_until", meta.rebuilding_until.to_string()),
    ]
}

/// Reads a meta record; unknown fields are ignored.
pub fn parse_meta<'a>(field: impl Fn(&str) -> Option<&'a str>) -> Result<Meta, KeyspaceError> {
    let text = |name: &'static str| field(name).ok_or(KeyspaceError::MissingField(name));
    let version = text("version")?;
    if version != META_VERSION {
        return Err(KeyspaceError::Version(version.to_owned()));
    }
    fn read<T: FromStr>(field: &'static str, value: &str, wanted: &'static str) -> Result<T, KeyspaceError> {
        value.parse().map_err(|_| KeyspaceError::BadField { field, value: value.to_owned(), wanted })
    }
    let number = |name| text(name).and_then(|value| read::<u64>(name, value, "number"));
    let time =
        |name| text(name).and_then(|value| read(name, value, "time in milliseconds")).map(Timestamp::from_millis);
    let day = |name| text(name).and_then(|value| read::<Day>(name, value, "day"));
    Ok(Meta {
        next_offset: Offset::new(number("next_offset")?),
        append_time: time("append_time")?,
        fingerprint: text("fingerprint")?.to_owned(),
        base_offset: Offset::new(number("base_offset")?),
        base_day: day("base_day")?,
        base_night: day("base_night")?,
        totals: Totals {
            seen: number("seen")?,
            control: number("control")?,
            rejected: number("rejected")?,
            duplicate: number("duplicate")?,
            late: number("late")?,
            counted: number("counted")?,
            expired: number("expired")?,
            late_expired: number("late_expired")?,
        },
        dedup_evicted: number("dedup_evicted")?,
        drift: Interval::new(time("drift_start")?, time("drift_end")?),
        lost: Lost { records: number("lost")?, appended: Interval::new(time("lost_start")?, time("lost_end")?) },
        rollbacks: number("rollbacks")?,
        rebuilds: number("rebuilds")?,
        rebuilding_until: Offset::new(number("rebuilding_until")?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{Region, TopicId};

    #[test]
    fn keys_and_fields_are_pinned() {
        let partition = PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(7), number: 3 };
        let keys = PartitionKeys::new(&partition);
        let generation = Generation::from_u128(0xabc);
        let tag = "tf1:{eu.00000000-0000-0000-0000-000000000007.p3}";
        assert_eq!(keys.live(), format!("{tag}:live"));
        assert_eq!(keys.building(), format!("{tag}:building"));
        assert_eq!(keys.retired(), format!("{tag}:retired"));
        assert_eq!(keys.meta(generation), format!("{tag}:00000000000000000000000000000abc:meta"));
        let minute = Minute::of(Timestamp::parse_rfc3339("2026-03-01T12:07:59Z").unwrap());
        let key = CountKey { minute, class: Class::Valid, ad: AdId::parse("ad-1").unwrap() };
        assert_eq!(keys.hour(generation, minute.hour()), format!("{tag}:00000000000000000000000000000abc:h:492324"));
        assert_eq!(hour_field(&key), "07:v:ad-1");
        assert_eq!(parse_hour_field(minute.hour(), "07:v:ad-1").as_ref(), Ok(&key));
        let night = "2026-03-01".parse().unwrap();
        let late = LateKey { night, count: key };
        assert_eq!(keys.night(generation, night), format!("{tag}:00000000000000000000000000000abc:l:2026-03-01"));
        assert_eq!(late_field(&late), "29539447:v:ad-1");
        assert_eq!(parse_late_field(night, "29539447:v:ad-1"), Ok(late.clone()));
        assert_eq!(keys.changes(generation), format!("{tag}:00000000000000000000000000000abc:changes"));
        assert_eq!(change_name(&keys.hour(generation, minute.hour())), "h:492324");
        assert_eq!(change_name(&keys.night(generation, night)), "l:2026-03-01");
        let (mut counts, mut lates) = (Vec::new(), Vec::new());
        parse_change("h:492324", "07:v:ad-1 5 07:v:ad-2 18446744073709551615", &mut counts, &mut lates).unwrap();
        parse_change("l:2026-03-01", "29539447:v:ad-1 2", &mut counts, &mut lates).unwrap();
        assert_eq!((&counts[0], counts[1].1, &lates[..]), (&(late.count.clone(), 5), u64::MAX, &[(late, 2)][..]));
    }

    #[test]
    fn meta_round_trips_and_refuses_what_it_cannot_read() {
        let mut meta =
            Meta::new(Offset::new(5), "2026-03-01".parse().unwrap(), "2026-02-28".parse().unwrap(), Offset::new(9));
        meta.fingerprint = "ab".to_owned();
        meta.totals.counted = 3;
        let fields = meta_fields(&meta);
        let get = |fields: &[(&'static str, String)], name: &str| {
            fields.iter().find(|(f, _)| *f == name).map(|(_, v)| v.clone())
        };
        let leaked: Vec<(&'static str, &'static str)> = fields.iter().map(|(f, v)| (*f, &*v.clone().leak())).collect();
        let lookup = |name: &str| leaked.iter().find(|(f, _)| *f == name).map(|(_, v)| *v);
        assert_eq!(parse_meta(lookup), Ok(meta));
        assert_eq!(get(&fields, "version").as_deref(), Some("1"));
        for (field, bad) in [("next_offset", "-1"), ("next_offset", "x"), ("base_day", "1"), ("version", "2")] {
            assert!(parse_meta(|name| if name == field { Some(bad) } else { lookup(name) }).is_err(), "{field}={bad}");
        }
        assert!(parse_meta(|name| lookup(name).filter(|_| name != "seen")).is_err());
        for (version, want) in [("2", true), ("10", true), ("0", false), ("", false), ("x", false)] {
            let error = parse_meta(|name| if name == "version" { Some(version) } else { lookup(name) }).unwrap_err();
            assert_eq!(error.is_of_a_later_release(), want, "version `{version}`");
        }
        assert!(!KeyspaceError::MissingField("version").is_of_a_later_release());
    }

    #[test]
    fn foreign_fields_are_refused() {
        for field in ["", "07", "07:v", "60:v:a", "-1:v:a", "07:x:a", "07:vv:a", "07:v:", "07:v:a/b"] {
            assert!(parse_hour_field(Hour::from_number(1), field).is_err(), "{field}");
        }
        for (name, text) in [
            ("h:1", ""),
            ("h:1", "07:v:a"),
            ("h:1", "07:v:a 1 "),
            ("h:1", "07:v:a -1"),
            ("h:x", "07:v:a 1"),
            ("h:9223372036854775807", "07:v:a 1"),
            ("l:2026-3-1", "7:v:a 1"),
            ("l:2026-03-01", "7:v:a x"),
            ("x:1", "07:v:a 1"),
            ("", ""),
        ] {
            assert!(parse_change(name, text, &mut Vec::new(), &mut Vec::new()).is_err(), "{name} {text}");
        }
    }
}
