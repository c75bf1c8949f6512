//! Tumbling windows: half-open, aligned to the UTC epoch. The minute is counted, hours and days are sums of minutes.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::time::{Interval, Span, Timestamp};

/// Width of a tumbling window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grain {
    Minute,
    Hour,
    Day,
}

impl Grain {
    pub const ALL: [Grain; 3] = [Grain::Minute, Grain::Hour, Grain::Day];

    pub const fn width(self) -> Span {
        match self {
            Grain::Minute => Span::minutes(1),
            Grain::Hour => Span::hours(1),
            Grain::Day => Span::days(1),
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Grain::Minute => "minute",
            Grain::Hour => "hour",
            Grain::Day => "day",
        }
    }

    /// The window that holds `time`.
    ///
    /// ```
    /// use clicks::{time::Timestamp, window::Grain};
    /// let window = Grain::Minute.window(Timestamp::from_millis(-1));
    /// assert_eq!((window.start.as_millis(), window.end.as_millis()), (-60_000, 0));
    /// ```
    pub fn window(self, time: Timestamp) -> Interval {
        let start = time.floor(self.width());
        Interval::new(start, start + self.width())
    }
}

impl fmt::Display for Grain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A grain that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no granularity; use minute, hour or day")]
pub struct UnknownGrain(pub String);

impl FromStr for Grain {
    type Err = UnknownGrain;
    fn from_str(text: &str) -> Result<Self, UnknownGrain> {
        Grain::ALL.into_iter().find(|g| g.name() == text).ok_or_else(|| UnknownGrain(text.chars().take(32).collect()))
    }
}

/// A one-minute window, named by its number since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Minute(i64);

impl Minute {
    pub fn of(time: Timestamp) -> Self {
        Minute(time.as_millis().div_euclid(Grain::Minute.width().as_millis()))
    }
    pub const fn from_number(number: i64) -> Self {
        Minute(number)
    }
    pub const fn number(self) -> i64 {
        self.0
    }
    pub fn start(self) -> Timestamp {
        Timestamp::from_millis(self.0.saturating_mul(Grain::Minute.width().as_millis()))
    }
    pub fn hour(self) -> Hour {
        Hour(self.0.div_euclid(60))
    }
}

/// A one-hour window: the unit in which live minutes are stored together and expire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour(i64);

impl Hour {
    pub fn of(time: Timestamp) -> Self {
        Minute::of(time).hour()
    }
    pub const fn from_number(number: i64) -> Self {
        Hour(number)
    }
    pub const fn number(self) -> i64 {
        self.0
    }
    pub fn start(self) -> Timestamp {
        Timestamp::from_millis(self.0.saturating_mul(Grain::Hour.width().as_millis()))
    }
    /// The minute of this hour with the given number within it (0-59).
    pub const fn minute(self, within: i64) -> Minute {
        Minute(self.0 * 60 + within)
    }
    /// Every hour of `[start, end)` that the interval touches.
    pub fn touched_by(interval: Interval) -> impl Iterator<Item = Hour> + use<> {
        let last = if interval.is_empty() {
            Hour::of(interval.start).0 - 1
        } else {
            Hour::of(interval.end - Span::millis(1)).0
        };
        (Hour::of(interval.start).0..=last).map(Hour)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_instant_lies_in_exactly_one_aligned_window(millis in -4_000_000_000_000i64..4_000_000_000_000) {
            let time = Timestamp::from_millis(millis);
            for grain in Grain::ALL {
                let window = grain.window(time);
                prop_assert!(window.contains(time));
                prop_assert_eq!(window.start.as_millis().rem_euclid(grain.width().as_millis()), 0);
                prop_assert!(!window.contains(window.end));
                prop_assert_eq!(grain.window(window.end).start, window.end);
            }
            prop_assert_eq!(Minute::of(time).start(), Grain::Minute.window(time).start);
            prop_assert_eq!(Hour::of(time).start(), Grain::Hour.window(time).start);
        }
    }

    #[test]
    fn touched_hours_are_half_open() {
        let hours = |a, b| {
            Hour::touched_by(Interval::new(Timestamp::from_millis(a), Timestamp::from_millis(b)))
                .map(Hour::number)
                .collect::<Vec<_>>()
        };
        assert_eq!(hours(0, 3_600_000), [0]);
        assert_eq!(hours(0, 3_600_001), [0, 1]);
        assert_eq!(hours(5, 5), Vec::<i64>::new());
    }
}
