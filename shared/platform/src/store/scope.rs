//! Which stored counts a read is about. Both implementations select by it, so they answer alike.

use std::collections::HashSet;

use clicks::id::AdId;
use clicks::live::{CountKey, LateKey, Meta};
use clicks::rules::{AHEAD_LIMIT, RulesBook};
use clicks::time::{Day, Interval, Timestamp};
use clicks::watermark::watermark;
use clicks::window::{Hour, Minute};

use super::{Ads, LiveQuery, Part};

/// Windows, late counts and ads of one read of one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Scope {
    /// Windows that begin in it.
    windows: Interval,
    /// Minutes of late counts.
    late: Interval,
    /// Nights `[from, to)` of late counts.
    nights: (Day, Day),
    /// `None` for all.
    ads: Option<HashSet<AdId>>,
}

impl Scope {
    /// Every count that may still change: windows from the one that holds the watermark, and late counts from the night
    /// whose cut is next. Late counts are kept whatever their window's age (scenario 19).
    pub(super) fn to_load(meta: &Meta, rules: &RulesBook) -> Self {
        if meta.append_time == Timestamp::MIN {
            return Self::nothing();
        }
        let night = rules.night_of(meta.append_time);
        Scope {
            windows: Interval::new(Minute::of(watermark(rules, meta.append_time)).start(), last_window_end(meta)),
            late: Interval::new(Timestamp::MIN, Timestamp::MAX),
            // The following one costs a look-up and stands for a reader whose rules are a day behind.
            nights: (night, night.plus(2)),
            ads: None,
        }
    }

    /// What a query asks for, as far as it can be stored.
    pub(super) fn to_read(meta: &Meta, query: &LiveQuery) -> Self {
        if meta.append_time == Timestamp::MIN {
            return Self::nothing();
        }
        let from = query.range.start.max(meta.base_day.start());
        let to = query.range.end.min(last_window_end(meta));
        Scope {
            windows: Interval::new(from, to),
            late: query.range,
            nights: (query.late_from.max(meta.base_night), nights_end(meta.append_time, meta.base_night)),
            ads: match &query.ads {
                Ads::All => None,
                Ads::Some(ads) => Some(ads.iter().cloned().collect()),
            },
        }
    }

    /// What a part asks for, as far as it can be stored.
    pub(super) fn to_part(meta: &Meta, part: &Part) -> Self {
        if meta.append_time == Timestamp::MIN {
            return Self::nothing();
        }
        let windows = part.windows;
        let (from, to) = part.nights;
        Scope {
            windows: Interval::new(windows.start.max(meta.base_day.start()), windows.end.min(last_window_end(meta))),
            late: Interval::new(Timestamp::MIN, Timestamp::MAX),
            nights: (from.max(meta.base_night), to.min(nights_end(meta.append_time, meta.base_night))),
            ads: None,
        }
    }

    /// Before the first record there is nothing to read, and no time to reckon from.
    fn nothing() -> Self {
        let empty = Interval::new(Timestamp::EPOCH, Timestamp::EPOCH);
        Scope { windows: empty, late: empty, nights: (Day::from_number(0), Day::from_number(0)), ads: None }
    }

    /// First hour and number of hours that it touches.
    fn hour_span(&self) -> (i64, i64) {
        if self.windows.is_empty() {
            return (0, 0);
        }
        let first = Hour::of(self.windows.start).number();
        let last = Hour::of(Timestamp::from_millis(self.windows.end.as_millis() - 1)).number();
        (first, last - first + 1)
    }

    fn night_span(&self) -> (i64, i64) {
        let (from, to) = (i64::from(self.nights.0.number()), i64::from(self.nights.1.number()));
        (from, to - from)
    }

    /// How many hours and nights it touches.
    pub(super) fn hashes(&self) -> i64 {
        self.hour_span().1 + self.night_span().1.max(0)
    }

    pub(super) fn hours(&self) -> impl Iterator<Item = Hour> + use<> {
        Hour::touched_by(self.windows)
    }

    pub(super) fn touches(&self, hour: Hour) -> bool {
        let (first, count) = self.hour_span();
        (first..first + count).contains(&hour.number())
    }

    pub(super) fn nights(&self) -> impl Iterator<Item = Day> + use<> {
        self.nights.0.until(self.nights.1)
    }

    /// True when every hour and night of `other` is one of its own.
    pub(super) fn covers(&self, other: &Scope) -> bool {
        let inside = |(first, count): (i64, i64), (other_first, other_count): (i64, i64)| {
            other_count <= 0 || (first <= other_first && other_first + other_count <= first + count)
        };
        inside(self.hour_span(), other.hour_span()) && inside(self.night_span(), other.night_span())
    }

    pub(super) fn ads(&self) -> Option<&HashSet<AdId>> {
        self.ads.as_ref()
    }

    pub(super) fn holds_minute(&self, minute: Minute) -> bool {
        self.windows.contains(minute.start())
    }

    pub(super) fn holds(&self, key: &CountKey) -> bool {
        self.holds_minute(key.minute) && self.wants(&key.ad)
    }

    pub(super) fn holds_late(&self, key: &LateKey) -> bool {
        (self.nights.0..self.nights.1).contains(&key.night)
            && self.late.contains(key.count.minute.start())
            && self.wants(&key.count.ad)
    }

    fn wants(&self, ad: &AdId) -> bool {
        self.ads.as_ref().is_none_or(|ads| ads.contains(ad))
    }
}

/// No stored window begins at or after it. A full hour, so that it moves once an hour and not with every flush.
fn last_window_end(meta: &Meta) -> Timestamp {
    Hour::from_number(Hour::of(meta.append_time + AHEAD_LIMIT).number() + 1).start()
}

/// No stored late count is of it or a later night: a record's night is at most its append day, whatever the rules, except
/// before the ledger's first day, when all belongs to the first night, the oldest that a generation holds.
pub(super) fn nights_end(append_time: Timestamp, base_night: Day) -> Day {
    append_time.day().max(base_night).next()
}

#[cfg(test)]
mod tests {
    use super::*;
    use clicks::position::Offset;
    use clicks::rules::Rules;

    fn meta(append_time: &str) -> Meta {
        let mut meta = Meta::new(Offset::ZERO, day("2026-03-09"), day("2026-03-08"), Offset::ZERO);
        meta.append_time = Timestamp::parse_rfc3339(append_time).unwrap();
        meta
    }

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    #[test]
    fn a_load_begins_with_the_window_that_holds_the_watermark() {
        let rules = RulesBook::new(Rules::default()).unwrap();
        let scope = Scope::to_load(&meta("2026-03-10T12:07:30Z"), &rules);
        let minute = |text: &str| Minute::of(Timestamp::parse_rfc3339(text).unwrap());
        assert!(!scope.holds_minute(minute("2026-03-10T11:56:59Z")));
        assert!(scope.holds_minute(minute("2026-03-10T11:57:00Z")));
        assert!(scope.holds_minute(minute("2026-03-10T12:12:00Z")));
        assert_eq!(scope.nights().collect::<Vec<_>>(), [day("2026-03-10"), day("2026-03-11")]);
        let before_cut = Scope::to_load(&meta("2026-03-10T00:09:59.999Z"), &rules);
        assert_eq!(before_cut.nights().next(), Some(day("2026-03-09")));
    }

    #[test]
    fn a_read_is_clipped_to_what_can_be_stored() {
        let all = LiveQuery {
            ads: Ads::All,
            range: Interval::new(Timestamp::MIN, Timestamp::MAX),
            late_from: Day::from_number(i32::MIN),
        };
        let scope = Scope::to_read(&meta("2026-03-10T12:07:30Z"), &all);
        // From the base day's start to the hour in which 1 h ahead lies.
        assert_eq!(scope.hours().count(), 24 + 13 + 1);
        assert_eq!(scope.nights().count(), 3);
        assert_eq!(scope.hashes(), 41);
        let beginning = Meta { append_time: Timestamp::MIN, ..meta("2026-03-10T12:07:30Z") };
        assert_eq!(Scope::to_read(&beginning, &all).hashes(), 0);
        assert_eq!(Scope::to_load(&beginning, &RulesBook::new(Rules::default()).unwrap()).hashes(), 0);
    }

    #[test]
    fn a_plan_serves_until_the_hour_changes_or_the_base_moves_back() {
        let query = |from, to| LiveQuery {
            ads: Ads::All,
            range: Interval::new(day(from).start(), day(to).start()),
            late_from: day("2026-03-01"),
        };
        let at = |time: &str| Scope::to_read(&meta(time), &query("2026-03-01", "2026-03-20"));
        let plan = at("2026-03-10T12:07:30Z");
        assert!(plan.covers(&at("2026-03-10T12:59:59.999Z")));
        assert!(!plan.covers(&at("2026-03-10T13:00:00Z")));
        let mut moved = meta("2026-03-10T12:07:30Z");
        moved.base_day = day("2026-03-10");
        moved.base_night = day("2026-03-10");
        let moved = Scope::to_read(&moved, &query("2026-03-01", "2026-03-20"));
        assert!(plan.covers(&moved) && !moved.covers(&plan));
        let past = Scope::to_read(&meta("2026-03-10T12:00:00Z"), &query("2026-03-01", "2026-03-05"));
        assert_eq!((past.hashes(), plan.covers(&past)), (3, true));
    }
}
