//! Time zones: which hours and days there are in a place.
//!
//! What is stored and closed is UTC. A zone only says which minutes a reader wants added up, so it can be any of the IANA
//! list, with every change of its offset:
//!
//! * a **minute** is the same everywhere: offsets count in whole minutes (the seconds of the 19th century are left out);
//! * an **hour** ends where the local hour does, or where the offset changes. So an hour that comes twice in autumn is two
//!   periods, and where the clock moves by half an hour one period has only half;
//! * a **day** begins with the first instant that bears its date, and ends where the next one begins: it has 23 or 25
//!   hours where the clock moves, and none where the date is skipped.

use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Offset as _, TimeZone as _};
use chrono_tz::Tz;

use crate::time::{Day, Interval, Span, Timestamp};
use crate::window::Grain;

/// A zone of the IANA list.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Zone(Tz);

/// No zone has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no zone of that name; write it as in the IANA list, such as Europe/Berlin or UTC (nearest: {nearest})")]
pub struct UnknownZone {
    pub nearest: &'static str,
}

const MINUTE: i64 = 60_000;
/// Further from UTC than any clock, in milliseconds.
const OFFSET_MAX: i64 = 16 * 60 * MINUTE;

impl Zone {
    pub const UTC: Zone = Zone(Tz::UTC);

    pub fn name(self) -> &'static str {
        self.0.name()
    }

    /// The zone in the terms of `chrono-tz`.
    pub fn tz(self) -> Tz {
        self.0
    }

    /// The period of this grain that holds `time`; the next one begins where it ends.
    ///
    /// ```
    /// use clicks::{time::Timestamp, window::Grain, zone::Zone};
    /// let noon = Timestamp::parse_rfc3339("2026-03-29T12:00:00Z").unwrap();
    /// let day = "Europe/Berlin".parse::<Zone>().unwrap().window(Grain::Day, noon);
    /// assert_eq!(day.start.to_rfc3339(), "2026-03-28T23:00:00.000Z");
    /// assert_eq!(day.end.to_rfc3339(), "2026-03-29T22:00:00.000Z");
    /// ```
    pub fn window(self, grain: Grain, time: Timestamp) -> Interval {
        match grain {
            _ if self == Zone::UTC => grain.window(time),
            Grain::Minute => grain.window(time),
            Grain::Hour => self.hour(time),
            Grain::Day => self.day(time),
        }
    }

    /// The date in this zone.
    pub fn date(self, time: Timestamp) -> Day {
        Timestamp::from_millis(self.local(time)).day()
    }

    /// Where a date begins: the first instant that bears it or, where it is skipped, a later one.
    pub fn start_of(self, date: Day) -> Timestamp {
        let midnight = date.start().as_millis();
        let [early, late] = [-OFFSET_MAX, OFFSET_MAX].map(|ahead| Timestamp::from_millis(midnight + ahead));
        let (before, after) = (self.offset(early), self.offset(late));
        let by_the_old = Timestamp::from_millis(midnight - before);
        if before == after {
            return by_the_old;
        }
        let change = self.change(early, late);
        if by_the_old < change { by_the_old } else { change.max(Timestamp::from_millis(midnight - after)) }
    }

    /// The period that begins `count` periods before `end`, which ends one.
    pub fn back(self, grain: Grain, end: Timestamp, count: i64) -> Timestamp {
        match grain {
            Grain::Minute | Grain::Hour => {
                let back = Span::millis(grain.width().as_millis() * count);
                self.window(grain, end - back).start
            }
            Grain::Day => {
                let last = self.date(end - Span::millis(1));
                self.start_of(last.plus(1 - i32::try_from(count).unwrap_or(i32::MAX)))
            }
        }
    }

    /// `2026-03-01T13:00:00.000+01:00`; in UTC `2026-03-01T12:00:00.000Z`.
    pub fn rfc3339(self, time: Timestamp) -> String {
        if self == Zone::UTC {
            return time.to_rfc3339();
        }
        let offset = self.offset(time) / MINUTE;
        let local = Timestamp::from_millis(self.local(time)).to_rfc3339();
        let (sign, minutes) = if offset < 0 { ('-', -offset) } else { ('+', offset) };
        format!("{}{sign}{:02}:{:02}", local.trim_end_matches('Z'), minutes / 60, minutes % 60)
    }

    fn hour(self, time: Timestamp) -> Interval {
        let into = self.local(time).rem_euclid(60 * MINUTE);
        let whole = Interval::new(time - Span::millis(into), time + Span::millis(60 * MINUTE - into));
        let (offset, last) = (self.offset(time), whole.end - Span::millis(MINUTE));
        let start = if self.offset(whole.start) == offset { whole.start } else { self.change(whole.start, time) };
        let end = if self.offset(last) == offset { whole.end } else { self.change(time, last) };
        Interval::new(start, end)
    }

    fn day(self, time: Timestamp) -> Interval {
        let mut date = self.date(time);
        let mut window = Interval::new(self.start_of(date), self.start_of(date.next()));
        // The clock was set back over midnight: the day that had begun goes on. Or a date was skipped.
        while window.end <= time {
            date = date.next();
            window = Interval::new(window.end, self.start_of(date.next()));
        }
        window
    }

    /// Milliseconds ahead of UTC, whole minutes, and the same for a whole minute.
    fn offset(self, time: Timestamp) -> i64 {
        let minute = Grain::Minute.window(time).start;
        let Some(utc) = DateTime::from_timestamp_millis(minute.as_millis()) else { return 0 };
        let seconds = self.0.offset_from_utc_datetime(&utc.naive_utc()).fix().local_minus_utc();
        i64::from(seconds).div_euclid(60) * MINUTE
    }

    /// What the clocks of the zone show, in milliseconds as if it were UTC.
    fn local(self, time: Timestamp) -> i64 {
        time.as_millis().saturating_add(self.offset(time))
    }

    /// The first minute after `early` with another offset; there is one, up to `late`.
    fn change(self, early: Timestamp, late: Timestamp) -> Timestamp {
        let offset = self.offset(early);
        let [mut same, mut other] = [early, late].map(|time| time.as_millis().div_euclid(MINUTE));
        while other - same > 1 {
            let middle = same + (other - same) / 2;
            if self.offset(Timestamp::from_millis(middle * MINUTE)) == offset { same = middle } else { other = middle }
        }
        Timestamp::from_millis(other * MINUTE)
    }
}

impl fmt::Display for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Debug for Zone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Zone {
    type Err = UnknownZone;
    fn from_str(text: &str) -> Result<Self, UnknownZone> {
        text.parse().map(Zone).map_err(|_| {
            let wanted: String = text.to_lowercase().chars().take(64).collect();
            // Many know the city, and not what stands before it.
            let likeness = |zone: &Tz| {
                let name = zone.name().to_lowercase();
                let city = name.rsplit('/').next().unwrap_or(&name);
                strsim::jaro_winkler(&wanted, &name).max(strsim::jaro_winkler(&wanted, city))
            };
            let nearest = chrono_tz::TZ_VARIANTS.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
            UnknownZone { nearest: nearest.map_or("UTC", |zone| zone.name()) }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn zone(name: &str) -> Zone {
        name.parse().unwrap()
    }

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(text).unwrap()
    }

    /// The periods of a range, as their starts in local time and their minutes.
    fn periods(name: &str, grain: Grain, from: &str, to: &str) -> Vec<(String, i64)> {
        let (zone, mut next, end) = (zone(name), at(from), at(to));
        let mut found = Vec::new();
        while next < end {
            let window = zone.window(grain, next);
            assert_eq!(window.start, next, "{name} {grain}");
            let start = zone.rfc3339(window.start).replace(":00.000", "");
            found.push((start, window.end.since(window.start).as_millis() / MINUTE));
            next = window.end;
        }
        found
    }

    fn told(periods: &[(String, i64)]) -> Vec<(&str, i64)> {
        periods.iter().map(|(start, minutes)| (start.as_str(), *minutes)).collect()
    }

    #[test]
    fn a_day_has_23_or_25_hours_where_the_clock_moves() {
        let spring = periods("Europe/Berlin", Grain::Day, "2026-03-27T23:00:00Z", "2026-03-30T22:00:00Z");
        let want =
            [("2026-03-28T00:00+01:00", 1_440), ("2026-03-29T00:00+01:00", 1_380), ("2026-03-30T00:00+02:00", 1_440)];
        assert_eq!(told(&spring), want);
        let autumn = periods("America/New_York", Grain::Day, "2026-11-01T04:00:00Z", "2026-11-02T05:00:00Z");
        assert_eq!(told(&autumn), [("2026-11-01T00:00-04:00", 1_500)]);
    }

    #[test]
    fn an_hour_that_comes_twice_is_two_periods_and_one_that_is_skipped_none() {
        let autumn = periods("Europe/Berlin", Grain::Hour, "2026-10-25T00:00:00Z", "2026-10-25T02:00:00Z");
        assert_eq!(told(&autumn), [("2026-10-25T02:00+02:00", 60), ("2026-10-25T02:00+01:00", 60)]);
        let spring = periods("Europe/Berlin", Grain::Hour, "2026-03-29T00:00:00Z", "2026-03-29T02:00:00Z");
        assert_eq!(told(&spring), [("2026-03-29T01:00+01:00", 60), ("2026-03-29T03:00+02:00", 60)]);
    }

    /// Lord Howe moves its clocks by half an hour.
    #[test]
    fn an_hour_ends_where_the_offset_changes() {
        let autumn = periods("Australia/Lord_Howe", Grain::Hour, "2026-04-04T14:00:00Z", "2026-04-04T16:30:00Z");
        let want = [("2026-04-05T01:00+11:00", 60), ("2026-04-05T01:30+10:30", 30), ("2026-04-05T02:00+10:30", 60)];
        assert_eq!(told(&autumn), want);
        let spring = periods("Australia/Lord_Howe", Grain::Hour, "2026-10-03T14:30:00Z", "2026-10-03T17:00:00Z");
        let want = [("2026-10-04T01:00+10:30", 60), ("2026-10-04T02:30+11:00", 30), ("2026-10-04T03:00+11:00", 60)];
        assert_eq!(told(&spring), want);
    }

    #[test]
    fn a_quarter_of_an_hour_is_no_obstacle() {
        let days = periods("Asia/Kathmandu", Grain::Day, "2026-02-28T18:15:00Z", "2026-03-02T18:15:00Z");
        assert_eq!(told(&days), [("2026-03-01T00:00+05:45", 1_440), ("2026-03-02T00:00+05:45", 1_440)]);
        let hours = periods("Asia/Kathmandu", Grain::Hour, "2026-02-28T18:15:00Z", "2026-02-28T20:15:00Z");
        assert_eq!(told(&hours), [("2026-03-01T00:00+05:45", 60), ("2026-03-01T01:00+05:45", 60)]);
    }

    #[test]
    fn midnight_may_be_missing_twice_or_a_whole_day_away() {
        // São Paulo's summer time began at midnight: the first instant of the day is one o'clock.
        let days = periods("America/Sao_Paulo", Grain::Day, "2018-11-03T03:00:00Z", "2018-11-05T02:00:00Z");
        assert_eq!(told(&days), [("2018-11-03T00:00-03:00", 1_440), ("2018-11-04T01:00-02:00", 1_380)]);
        // St. John's set its clocks back at one past midnight: the day that had begun goes on.
        let days = periods("America/St_Johns", Grain::Day, "2010-11-06T02:30:00Z", "2010-11-08T03:30:00Z");
        assert_eq!(told(&days), [("2010-11-06T00:00-02:30", 1_440), ("2010-11-07T00:00-02:30", 1_500)]);
        // Samoa had no 30th of December.
        let days = periods("Pacific/Apia", Grain::Day, "2011-12-29T10:00:00Z", "2011-12-31T10:00:00Z");
        assert_eq!(told(&days), [("2011-12-29T00:00-10:00", 1_440), ("2011-12-31T00:00+14:00", 1_440)]);
    }

    #[test]
    fn an_unknown_zone_is_answered_with_one_that_is_known() {
        for (text, nearest) in [
            ("europe/berln", "Europe/Berlin"),
            ("Berlin", "Europe/Berlin"),
            ("New York", "America/New_York"),
            ("kathmandu", "Asia/Kathmandu"),
        ] {
            assert_eq!(text.parse::<Zone>().unwrap_err().nearest, nearest);
        }
        assert!("".parse::<Zone>().is_err());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(4_096))]

        /// Of every zone, at any time since 1970: periods follow one another and hold what they are asked for, days are made
        /// of hours and hours of minutes.
        #[test]
        fn periods_follow_one_another(
            zone in prop::sample::select(&chrono_tz::TZ_VARIANTS[..]).prop_map(Zone),
            millis in 0i64..2_200_000_000_000,
        ) {
            let time = Timestamp::from_millis(millis);
            for grain in Grain::ALL {
                let window = zone.window(grain, time);
                prop_assert!(window.contains(time), "{zone} {grain} {time} {window:?}");
                prop_assert_eq!(zone.window(grain, window.start), window);
                prop_assert_eq!(zone.window(grain, window.end - Span::millis(1)), window);
                prop_assert_eq!(zone.window(grain, window.end).start, window.end);
                prop_assert_eq!(window.start.as_millis() % MINUTE, 0);
                prop_assert_eq!(zone.back(grain, window.end, 1), window.start);
                prop_assert_eq!(Timestamp::parse_rfc3339(&zone.rfc3339(time)), Ok(time));
            }
            let (hour, day) = (zone.window(Grain::Hour, time), zone.window(Grain::Day, time));
            prop_assert!(day.start <= hour.start && hour.end <= day.end, "{zone} {time} {hour:?} {day:?}");
            prop_assert_eq!(zone.start_of(zone.date(day.end - Span::millis(1))), day.start);
        }
    }
}
