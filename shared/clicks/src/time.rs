//! Time in milliseconds since the UTC epoch, half-open intervals and UTC days.
//!
//! Everything that is compared or stored is UTC. Rounding is always towards the past (floor), also before 1970.

use std::fmt;
use std::ops::{Add, Sub};
use std::str::FromStr;

use chrono::{DateTime, Datelike, NaiveDate, SecondsFormat, Timelike, Utc};
use serde::{Deserialize, Serialize};

/// A point in time: milliseconds since 1970-01-01T00:00:00Z.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Timestamp(i64);

/// A length of time in milliseconds, never a point.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, Default)]
#[serde(transparent)]
pub struct Span(i64);

/// Half-open interval `[start, end)`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interval {
    pub start: Timestamp,
    pub end: Timestamp,
}

/// A UTC calendar day, the unit in which the batch publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(i32);

/// The same as the library, in a tenth of the time, for years of four digits: an answer holds hundreds of times.
fn spell(time: &DateTime<Utc>) -> Option<String> {
    let mut text = *b"0000-00-00T00:00:00.000Z";
    let year = u32::try_from(time.year()).ok().filter(|year| *year <= 9_999)?;
    let fields = [
        (0, 4, year),
        (5, 2, time.month()),
        (8, 2, time.day()),
        (11, 2, time.hour()),
        (14, 2, time.minute()),
        (17, 2, time.second()),
        (20, 3, time.timestamp_subsec_millis()),
    ];
    for (at, length, mut number) in fields {
        for digit in text[at..at + length].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    std::str::from_utf8(&text).ok().map(str::to_owned)
}

/// Why a text is no timestamp.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TimeError {
    #[error("`{0}` has no offset from UTC; append `Z` or `+hh:mm`")]
    NoOffset(String),
    #[error("`{0}` is not an RFC 3339 timestamp such as 2026-03-01T12:00:00.000Z")]
    NotRfc3339(String),
    #[error("`{0}` is not a day such as 2026-03-01")]
    NotADay(String),
}

const MILLIS_PER_DAY: i64 = 86_400_000;

impl Timestamp {
    pub const EPOCH: Timestamp = Timestamp(0);
    pub const MIN: Timestamp = Timestamp(i64::MIN);
    pub const MAX: Timestamp = Timestamp(i64::MAX);

    pub const fn from_millis(millis: i64) -> Self {
        Timestamp(millis)
    }

    pub const fn as_millis(self) -> i64 {
        self.0
    }

    /// Reads an RFC 3339 timestamp; fractions below a millisecond are floored, a leap second is the next second's start.
    ///
    /// ```
    /// use clicks::time::Timestamp;
    /// let t = Timestamp::parse_rfc3339("1970-01-01T01:00:01.0019+01:00").unwrap();
    /// assert_eq!(t.as_millis(), 1_001);
    /// ```
    pub fn parse_rfc3339(text: &str) -> Result<Self, TimeError> {
        match DateTime::parse_from_rfc3339(text) {
            Ok(time) => Ok(Timestamp(time.timestamp_millis())),
            Err(_) => Err(explain(text)),
        }
    }

    /// `2026-03-01T12:00:00.000Z`: always UTC, always milliseconds.
    pub fn to_rfc3339(self) -> String {
        match DateTime::from_timestamp_millis(self.0) {
            Some(time) => spell(&time).unwrap_or_else(|| time.to_rfc3339_opts(SecondsFormat::Millis, true)),
            None => format!("{}ms", self.0),
        }
    }

    /// The start of the window of the given width that holds this instant.
    pub const fn floor(self, width: Span) -> Self {
        Timestamp(self.0.saturating_sub(self.0.rem_euclid(width.0)))
    }

    pub const fn day(self) -> Day {
        Day(self.0.div_euclid(MILLIS_PER_DAY) as i32)
    }

    /// Time that has passed since `earlier`; negative when `earlier` is later.
    pub const fn since(self, earlier: Timestamp) -> Span {
        Span(self.0.saturating_sub(earlier.0))
    }
}

/// The parser's own reasons do not help the sender; the commonest mistake is a missing offset.
fn explain(text: &str) -> TimeError {
    let shown: String = text.chars().take(64).collect();
    let tail = text.get(19..).unwrap_or("");
    let local = text.len() >= 19 && !tail.contains(['Z', 'z', '+', '-']);
    if local && DateTime::parse_from_rfc3339(&format!("{text}Z")).is_ok() {
        TimeError::NoOffset(shown)
    } else {
        TimeError::NotRfc3339(shown)
    }
}

impl Span {
    pub const ZERO: Span = Span(0);

    pub const fn millis(millis: i64) -> Self {
        Span(millis)
    }
    pub const fn seconds(seconds: i64) -> Self {
        Span(seconds * 1_000)
    }
    pub const fn minutes(minutes: i64) -> Self {
        Span(minutes * 60_000)
    }
    pub const fn hours(hours: i64) -> Self {
        Span(hours * 3_600_000)
    }
    pub const fn days(days: i64) -> Self {
        Span(days * MILLIS_PER_DAY)
    }
    pub const fn as_millis(self) -> i64 {
        self.0
    }
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }
}

impl Add<Span> for Timestamp {
    type Output = Timestamp;
    fn add(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_add(span.0))
    }
}

impl Sub<Span> for Timestamp {
    type Output = Timestamp;
    fn sub(self, span: Span) -> Timestamp {
        Timestamp(self.0.saturating_sub(span.0))
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_rfc3339())
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sign, ms) = if self.0 < 0 { ("-", self.0.unsigned_abs()) } else { ("", self.0.unsigned_abs()) };
        match ms {
            0 => f.write_str("0s"),
            _ if ms.is_multiple_of(86_400_000) => write!(f, "{sign}{}d", ms / 86_400_000),
            _ if ms.is_multiple_of(3_600_000) => write!(f, "{sign}{}h", ms / 3_600_000),
            _ if ms.is_multiple_of(60_000) => write!(f, "{sign}{}min", ms / 60_000),
            _ if ms.is_multiple_of(1_000) => write!(f, "{sign}{}s", ms / 1_000),
            _ => write!(f, "{sign}{ms}ms"),
        }
    }
}

impl Interval {
    /// `[start, end)`; an end before the start is an empty interval.
    pub const fn new(start: Timestamp, end: Timestamp) -> Self {
        Interval { start, end }
    }

    pub const fn contains(&self, time: Timestamp) -> bool {
        self.start.0 <= time.0 && time.0 < self.end.0
    }

    pub const fn is_empty(&self) -> bool {
        self.end.0 <= self.start.0
    }
}

impl Day {
    /// Days since 1970-01-01.
    pub const fn from_number(days: i32) -> Self {
        Day(days)
    }
    pub const fn number(self) -> i32 {
        self.0
    }
    pub const fn start(self) -> Timestamp {
        Timestamp(self.0 as i64 * MILLIS_PER_DAY)
    }
    /// Exclusive.
    pub const fn end(self) -> Timestamp {
        self.next().start()
    }
    pub const fn interval(self) -> Interval {
        Interval { start: self.start(), end: self.end() }
    }
    pub const fn next(self) -> Day {
        self.plus(1)
    }
    pub const fn previous(self) -> Day {
        self.plus(-1)
    }
    pub const fn plus(self, days: i32) -> Day {
        Day(self.0.saturating_add(days))
    }
    /// Every day of `[self, end)`.
    pub fn until(self, end: Day) -> impl DoubleEndedIterator<Item = Day> + ExactSizeIterator + use<> {
        (self.0..end.0.max(self.0)).map(Day)
    }
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match DateTime::from_timestamp_millis(self.start().0) {
            Some(time) => write!(f, "{}", time.format("%Y-%m-%d")),
            None => write!(f, "day{}", self.0),
        }
    }
}

impl FromStr for Day {
    type Err = TimeError;
    fn from_str(text: &str) -> Result<Self, TimeError> {
        let wrong = || TimeError::NotADay(text.chars().take(32).collect());
        let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").map_err(|_| wrong())?;
        let days = date.signed_duration_since(NaiveDate::default()).num_days();
        let day = Day(i32::try_from(days).map_err(|_| wrong())?);
        // One spelling per day: these texts are parts of object keys.
        if day.to_string() == text { Ok(day) } else { Err(wrong()) }
    }
}

impl Serialize for Day {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Day {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_floored_and_say_what_is_wrong() {
        let ok = [
            ("1970-01-01T00:00:00Z", 0),
            ("1969-12-31T23:59:59.9999Z", -1),
            ("2026-03-01T12:00:00.123456+02:00", 1_772_359_200_123),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ];
        for (text, millis) in ok {
            assert_eq!(Timestamp::parse_rfc3339(text), Ok(Timestamp(millis)), "{text}");
        }
        let local = Timestamp::parse_rfc3339("2026-03-01T12:00:00");
        assert!(matches!(local, Err(TimeError::NoOffset(_))), "{local:?}");
        for text in ["", "1772359200123", "2026-02-30T00:00:00Z", "2026-03-01", "yesterday"] {
            assert!(matches!(Timestamp::parse_rfc3339(text), Err(TimeError::NotRfc3339(_))), "{text}");
        }
    }

    #[test]
    fn times_are_spelt_alike_in_every_year() {
        let mut millis = -99_999_999_999_999i64;
        while millis < 299_999_999_999_999 {
            let time = DateTime::from_timestamp_millis(millis).unwrap();
            assert_eq!(Timestamp(millis).to_rfc3339(), time.to_rfc3339_opts(SecondsFormat::Millis, true));
            millis += 9_876_543_211;
        }
    }

    #[test]
    fn days_round_trip_and_have_one_spelling() {
        for text in ["1970-01-01", "1969-12-31", "2026-11-24", "2024-02-29"] {
            assert_eq!(text.parse::<Day>().unwrap().to_string(), text);
        }
        for text in ["2026-1-1", "2026-02-30", "20260101", "", "2026-01-01 "] {
            assert!(text.parse::<Day>().is_err(), "{text}");
        }
        let day: Day = "2026-11-24".parse().unwrap();
        assert_eq!((day.end() - Span::millis(1)).day(), day);
        assert_eq!(day.end().day(), day.next());
    }
}
