//! Timestamps as users write them: RFC 3339, numbers since the epoch, patterns of `strftime`; with an offset, or in a
//! zone that the user names.

use std::fmt::Write;

use chrono::format::{Item, Parsed, StrftimeItems};
use chrono::{FixedOffset, MappedLocalTime, NaiveDateTime, TimeZone};
use chrono_tz::Tz;
use clicks::time::{TimeError, Timestamp};

use super::error::InputError;

/// 0000-01-01T00:00:00Z and 9999-12-31T23:59:59.999Z: what RFC 3339 can write.
const MILLIS_MIN: i64 = -62_167_219_200_000;
const MILLIS_MAX: i64 = 253_402_300_799_999;

/// Digits of a number, left and right of the point, that are read; far beyond any time.
const DIGITS_MAX: usize = 18;

/// Reads all timestamps of one file.
#[derive(Debug, Clone)]
pub(super) struct TimeReader {
    shape: Shape,
    zone: Option<Tz>,
}

#[derive(Debug, Clone)]
enum Shape {
    Rfc3339,
    UnixSeconds,
    UnixMillis,
    Pattern { format: String, items: Vec<Item<'static>>, has_offset: bool },
}

/// A timestamp that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) time: Timestamp,
    /// The local time occurs twice; this is the earlier one.
    pub(super) is_folded: bool,
}

/// Why a text is no timestamp; to be put behind the name of the column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TimeFault {
    #[error("{0}; or name the zone of such times with `--tz`")]
    NoOffset(TimeError),
    #[error("{error}{}", hint(.text))]
    NotRfc3339 { error: TimeError, text: String },
    #[error("`{0}` is not a number of {1} since 1970")]
    NotANumber(String, &'static str),
    #[error("`{0}` does not fit the time format `{1}`: {2}")]
    NotThePattern(String, String, chrono::ParseError),
    #[error("`{text}` does not exist in {zone}: the clocks go forward over it")]
    Skipped { text: String, zone: Tz },
    #[error("`{0}` lies outside of the years 0 to 9999; is the time format right?")]
    OutOfRange(String),
}

impl TimeFault {
    pub(super) fn is_skipped(&self) -> bool {
        matches!(self, TimeFault::Skipped { .. })
    }
}

impl TimeReader {
    pub(super) fn new(format: Option<&str>, zone: Option<Tz>) -> Result<Self, InputError> {
        let shape = match format {
            None => Shape::Rfc3339,
            Some("unix") => Shape::UnixSeconds,
            Some("unix_ms") => Shape::UnixMillis,
            Some(format) => pattern(format, zone)?,
        };
        Ok(TimeReader { shape, zone })
    }

    pub(super) fn read(&self, text: &str) -> Result<Reading, TimeFault> {
        let text = text.trim_ascii();
        let reading = match &self.shape {
            Shape::Rfc3339 => self.rfc3339(text)?,
            Shape::UnixSeconds => number(text, 3).ok_or_else(|| TimeFault::NotANumber(shown(text), "seconds"))?,
            Shape::UnixMillis => number(text, 0).ok_or_else(|| TimeFault::NotANumber(shown(text), "milliseconds"))?,
            Shape::Pattern { format, items, has_offset } => {
                let misfit = |error| TimeFault::NotThePattern(shown(text), format.clone(), error);
                let mut parsed = Parsed::new();
                chrono::format::parse(&mut parsed, text, items.iter()).map_err(misfit)?;
                if *has_offset {
                    absolute(parsed.to_datetime().map_err(misfit)?.timestamp_millis())
                } else {
                    self.local(text, parsed.to_naive_datetime_with_offset(0).map_err(misfit)?)?
                }
            }
        };
        match reading.time.as_millis() {
            MILLIS_MIN..=MILLIS_MAX => Ok(reading),
            _ => Err(TimeFault::OutOfRange(shown(text))),
        }
    }

    fn rfc3339(&self, text: &str) -> Result<Reading, TimeFault> {
        if self.zone.is_some()
            && let Some(local) = local_rfc3339(text)
        {
            return self.local(text, local);
        }
        match Timestamp::parse_rfc3339(text) {
            Ok(time) => Ok(Reading { time, is_folded: false }),
            Err(error @ TimeError::NoOffset(_)) => Err(TimeFault::NoOffset(error)),
            Err(error) => Err(TimeFault::NotRfc3339 { error, text: text.to_owned() }),
        }
    }

    fn local(&self, text: &str, local: NaiveDateTime) -> Result<Reading, TimeFault> {
        // `new` refuses a pattern without an offset when there is no zone.
        let zone = self.zone.unwrap_or(Tz::UTC);
        match zone.from_local_datetime(&local) {
            MappedLocalTime::Single(time) => Ok(absolute(time.timestamp_millis())),
            MappedLocalTime::Ambiguous(one, other) => {
                let time = Timestamp::from_millis(one.timestamp_millis().min(other.timestamp_millis()));
                Ok(Reading { time, is_folded: true })
            }
            MappedLocalTime::None => Err(TimeFault::Skipped { text: shown(text), zone }),
        }
    }
}

fn absolute(millis: i64) -> Reading {
    Reading { time: Timestamp::from_millis(millis), is_folded: false }
}

/// RFC 3339 without its offset, with `T` or a space between date and time.
fn local_rfc3339(text: &str) -> Option<NaiveDateTime> {
    let format = match text.as_bytes().get(10)? {
        b' ' => "%Y-%m-%d %H:%M:%S%.f",
        _ => "%Y-%m-%dT%H:%M:%S%.f",
    };
    // Four-digit years only, as in RFC 3339; the pattern alone would read others.
    let four_digits = text.as_bytes()[..4].iter().all(u8::is_ascii_digit);
    NaiveDateTime::parse_from_str(text, format).ok().filter(|_| four_digits)
}

/// A decimal number without an exponent, in units of 10^`scale` milliseconds, floored to milliseconds.
fn number(text: &str, scale: usize) -> Option<Reading> {
    let (is_negative, digits) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let is_digits =
        |part: &str| (1..=DIGITS_MAX).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    if !is_digits(whole) || !is_digits(fraction) {
        return None;
    }
    let mut millis: i64 = whole.parse().ok()?;
    let mut fraction = fraction.bytes();
    for _ in 0..scale {
        let digit = fraction.next().map_or(0, |byte| i64::from(byte - b'0'));
        millis = millis.saturating_mul(10).saturating_add(digit);
    }
    let has_rest = fraction.any(|byte| byte != b'0');
    Some(absolute(if is_negative { -millis - i64::from(has_rest) } else { millis }))
}

/// Takes the pattern apart once, and refuses one by which no line could be read.
fn pattern(format: &str, zone: Option<Tz>) -> Result<Shape, InputError> {
    let wrong = |reason: String| InputError::TimeFormat { format: format.to_owned(), reason };
    let items = |format: &str| {
        let unknown = |_| wrong("a `%` stands before something that means nothing".to_owned());
        StrftimeItems::new(format).parse_to_owned().map_err(unknown)
    };
    // What the pattern writes it must be able to read; one that lacks the year or the hour cannot. `%#z` is the one
    // item that can be read only.
    let sample_items = items(&format.replace("%#z", "%z"))?;
    let sample = FixedOffset::east_opt(0).and_then(|utc| utc.with_ymd_and_hms(2026, 11, 24, 13, 14, 15).single());
    let mut text = String::new();
    let written = sample.map(|sample| write!(text, "{}", sample.format_with_items(sample_items.iter())));
    let mut parsed = Parsed::new();
    let is_read = chrono::format::parse(&mut parsed, &text, sample_items.iter()).is_ok();
    let has_offset = parsed.offset().is_some() || parsed.timestamp().is_some();
    let is_full = match has_offset {
        true => parsed.to_datetime().is_ok(),
        false => parsed.to_naive_datetime_with_offset(0).is_ok(),
    };
    if !matches!(written, Some(Ok(()))) || !is_read || !is_full {
        return Err(wrong(format!("it does not tell a full date and time; it would write `{text}`")));
    }
    if !has_offset && zone.is_none() {
        return Err(InputError::NoZone { format: format.to_owned() });
    }
    Ok(Shape::Pattern { format: format.to_owned(), items: items(format)?, has_offset })
}

fn shown(text: &str) -> String {
    text.chars().take(64).collect()
}

/// A number where RFC 3339 is expected has one likely meaning.
fn hint(text: &str) -> &'static str {
    match text.len() {
        10 if number(text, 0).is_some() => "; if it is a number of seconds, add `--time-format unix`",
        13 if number(text, 0).is_some() => "; if it is a number of milliseconds, add `--time-format unix_ms`",
        _ => "; other formats are read with `--time-format`",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BERLIN: Option<Tz> = Some(Tz::Europe__Berlin);
    const KATHMANDU: Option<Tz> = Some(Tz::Asia__Kathmandu);

    #[test]
    fn every_format_reads_the_instant_that_it_means() {
        let cases: [(Option<&str>, Option<Tz>, &str, &str); 27] = [
            (None, None, "2026-03-01T12:00:00.1239+01:00", "2026-03-01T11:00:00.123Z"),
            (None, None, " 2026-03-01T12:00:00Z ", "2026-03-01T12:00:00.000Z"),
            (None, BERLIN, "2026-03-01T12:00:00Z", "2026-03-01T12:00:00.000Z"),
            (None, BERLIN, "2026-03-01T12:00:00+05:45", "2026-03-01T06:15:00.000Z"),
            (None, BERLIN, "2026-03-01T12:00:00", "2026-03-01T11:00:00.000Z"),
            (None, BERLIN, "2026-07-01 12:00:00.5", "2026-07-01T10:00:00.500Z"),
            (None, KATHMANDU, "2026-07-01 12:00:00", "2026-07-01T06:15:00.000Z"),
            (Some("unix"), None, "1772359200", "2026-03-01T10:00:00.000Z"),
            (Some("unix"), BERLIN, "1772359200.1239", "2026-03-01T10:00:00.123Z"),
            (Some("unix"), None, "1772359200.5", "2026-03-01T10:00:00.500Z"),
            (Some("unix"), None, "-0.0001", "1969-12-31T23:59:59.999Z"),
            (Some("unix"), None, "-1.000", "1969-12-31T23:59:59.000Z"),
            (Some("unix_ms"), None, "1772359200123", "2026-03-01T10:00:00.123Z"),
            (Some("unix_ms"), None, "1772359200123.9", "2026-03-01T10:00:00.123Z"),
            (Some("unix_ms"), None, "-1", "1969-12-31T23:59:59.999Z"),
            (Some("%d/%m/%Y %H:%M:%S"), BERLIN, "01/07/2026 12:00:00", "2026-07-01T10:00:00.000Z"),
            (Some("%d/%m/%Y %H:%M"), KATHMANDU, "01/03/2026 12:00", "2026-03-01T06:15:00.000Z"),
            (Some("%m/%d/%y %I:%M %p"), BERLIN, "03/01/26 01:05 PM", "2026-03-01T12:05:00.000Z"),
            (Some("%d/%b/%Y:%H:%M:%S %z"), None, "01/Mar/2026:12:00:00 +0100", "2026-03-01T11:00:00.000Z"),
            (Some("%d/%b/%Y:%H:%M:%S %z"), BERLIN, "01/Mar/2026:12:00:00 +0545", "2026-03-01T06:15:00.000Z"),
            (Some("%Y%m%dT%H%M%S%#z"), None, "20260301T120000+01", "2026-03-01T11:00:00.000Z"),
            (Some("%Y-%m-%dT%H:%M:%S%.f"), BERLIN, "2026-03-01T12:00:00.123456", "2026-03-01T11:00:00.123Z"),
            (Some("%s"), None, "1772359200", "2026-03-01T10:00:00.000Z"),
            (Some("%s"), BERLIN, "1772359200", "2026-03-01T10:00:00.000Z"),
            (Some("%a, %d %b %Y %T %z"), None, "Sun, 01 Mar 2026 12:00:00 +0000", "2026-03-01T12:00:00.000Z"),
            // The last second before the clocks go back the second time, and the first instant after a gap.
            (None, BERLIN, "2026-10-25T03:00:00", "2026-10-25T02:00:00.000Z"),
            (None, BERLIN, "2026-03-29T03:00:00", "2026-03-29T01:00:00.000Z"),
        ];
        for (format, zone, text, expected) in cases {
            let reading = TimeReader::new(format, zone).unwrap().read(text);
            let expected = Timestamp::parse_rfc3339(expected).unwrap();
            assert_eq!(reading, Ok(Reading { time: expected, is_folded: false }), "{format:?} {zone:?} {text}");
        }
    }

    #[test]
    fn a_local_time_that_occurs_twice_is_the_earlier_one() {
        let cases = [
            (BERLIN, "2026-10-25T02:00:00", "2026-10-25T00:00:00Z"),
            (BERLIN, "2026-10-25T02:59:59", "2026-10-25T00:59:59Z"),
            (Some(Tz::America__New_York), "2026-11-01T01:30:00", "2026-11-01T05:30:00Z"),
        ];
        for (zone, text, expected) in cases {
            for (format, text) in [(None, text.to_owned()), (Some("%Y %m %d %T"), text.replace(['-', 'T'], " "))] {
                let reading = TimeReader::new(format, zone).unwrap().read(&text).unwrap();
                assert_eq!(reading.time, Timestamp::parse_rfc3339(expected).unwrap(), "{text}");
                assert!(reading.is_folded, "{text}");
            }
        }
    }

    #[test]
    fn a_local_time_that_is_skipped_is_refused_by_name() {
        // Kathmandu went from +05:30 to +05:45 at the start of 1986.
        let cases = [
            (BERLIN, "2026-03-29T02:00:00", "Europe/Berlin"),
            (BERLIN, "2026-03-29T02:59:59.999", "Europe/Berlin"),
            (KATHMANDU, "1986-01-01T00:05:00", "Asia/Kathmandu"),
        ];
        for (zone, text, name) in cases {
            let fault = TimeReader::new(None, zone).unwrap().read(text).unwrap_err();
            assert!(fault.is_skipped());
            let expected = format!("`{text}` does not exist in {name}: the clocks go forward over it");
            assert_eq!(fault.to_string(), expected);
        }
        assert!(TimeReader::new(None, KATHMANDU).unwrap().read("1986-01-01T00:15:00").is_ok());
    }

    #[test]
    fn faults_name_the_text_and_the_mend() {
        let cases: [(Option<&str>, Option<Tz>, &str, &str); 14] = [
            (
                None,
                None,
                "2026-03-01T12:00:00",
                "`2026-03-01T12:00:00` has no offset from UTC; append `Z` or `+hh:mm`; or name the zone of such times with `--tz`",
            ),
            (
                None,
                None,
                "1772359200",
                "`1772359200` is not an RFC 3339 timestamp such as 2026-03-01T12:00:00.000Z; if it is a number of seconds, add `--time-format unix`",
            ),
            (
                None,
                BERLIN,
                "1772359200123",
                "`1772359200123` is not an RFC 3339 timestamp such as 2026-03-01T12:00:00.000Z; if it is a number of milliseconds, add `--time-format unix_ms`",
            ),
            (
                None,
                BERLIN,
                "01.03.2026",
                "`01.03.2026` is not an RFC 3339 timestamp such as 2026-03-01T12:00:00.000Z; other formats are read with `--time-format`",
            ),
            (None, BERLIN, "2026-02-30T12:00:00", "`2026-02-30T12:00:00` is not an RFC 3339"),
            (None, BERLIN, "20226-02-03T12:00:00", "`20226-02-03T12:00:00` is not an RFC 3339"),
            (None, BERLIN, "äöü-äöü-äöü", "`äöü-äöü-äöü` is not an RFC 3339"),
            (Some("unix"), None, "1e9", "`1e9` is not a number of seconds since 1970"),
            (
                Some("unix"),
                None,
                "1772359200123",
                "`1772359200123` lies outside of the years 0 to 9999; is the time format right?",
            ),
            (Some("unix"), None, "999999999999999999", "`999999999999999999` lies outside"),
            (Some("unix"), None, "-999999999999999999.1", "`-999999999999999999.1` lies outside"),
            (Some("unix_ms"), None, "1 000", "`1 000` is not a number of milliseconds since 1970"),
            (
                Some("%d/%m/%Y %H:%M"),
                BERLIN,
                "31/02/2026 12:00",
                "`31/02/2026 12:00` does not fit the time format `%d/%m/%Y %H:%M`: ",
            ),
            (
                Some("%d/%m/%Y %H:%M"),
                BERLIN,
                "01/03/2026 12:00 x",
                "`01/03/2026 12:00 x` does not fit the time format `%d/%m/%Y %H:%M`: trailing input",
            ),
        ];
        for (format, zone, text, expected) in cases {
            let fault = TimeReader::new(format, zone).unwrap().read(text).unwrap_err().to_string();
            assert!(fault.starts_with(expected), "{format:?} {text}: {fault}");
        }
        for text in ["", "-", ".", "1.", ".5", "--1", "+1", "NaN", "inf", "0x10", "1_000"] {
            assert!(TimeReader::new(Some("unix"), None).unwrap().read(text).is_err(), "{text}");
        }
    }

    #[test]
    fn patterns_that_can_read_nothing_are_refused_before_the_first_line() {
        let cases = [
            ("%Q", BERLIN, "time format `%Q`: a `%` stands before something that means nothing"),
            ("%H:%M", BERLIN, "time format `%H:%M`: it does not tell a full date and time; it would write `13:14`"),
            ("%Y-%m-%d", BERLIN, "time format `%Y-%m-%d`: it does not tell a full date and time"),
            ("", BERLIN, "time format ``: it does not tell a full date and time"),
            ("%Y-%m-%d %z", None, "time format `%Y-%m-%d %z`: it does not tell a full date and time"),
            ("%d/%m/%Y %H:%M", None, "time format `%d/%m/%Y %H:%M` carries no offset from UTC; name the zone"),
        ];
        for (format, zone, expected) in cases {
            let error = TimeReader::new(Some(format), zone).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
