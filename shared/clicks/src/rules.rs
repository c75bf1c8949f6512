//! What changes the meaning of a count. These values are published in the ledger; what only tunes a process is a setting.

use serde::{Deserialize, Serialize};

use crate::dedup::HORIZON_LIMIT;
use crate::time::{Day, Span, Timestamp};

/// One set of rules. A record is judged by the rules of its *event* day, always, in both layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules {
    /// Counts up with every change; a column of the published tables.
    pub version: u32,
    /// Allowed lateness L: a click appended more than this after its event time is late.
    #[serde(rename = "lateness_ms")]
    pub lateness: Span,
    /// Dedup horizon of the live view.
    #[serde(rename = "live_horizon_ms")]
    pub live_horizon: Span,
    /// Dedup horizon of the batch: what billing promises.
    #[serde(rename = "batch_horizon_ms")]
    pub batch_horizon: Span,
    /// A click older than this when appended is rejected.
    #[serde(rename = "age_max_ms")]
    pub age_max: Span,
    /// A click whose event time is further ahead of its append time than this is rejected.
    #[serde(rename = "ahead_max_ms")]
    pub ahead_max: Span,
    /// Night N makes day N - finality_days final.
    pub finality_days: u32,
}

/// No rules may allow event times further ahead of the append time than this: a reader that has no rules at hand knows
/// where the youngest stored window can lie, and a copy of the ledger that is 23 hours old knows the rules of every event
/// day that it can meet, because new ones take effect at least 24 hours later.
pub const AHEAD_LIMIT: Span = Span::hours(1);

/// Longest lateness: a record is judged by the rules of its event day, and the watermark and the night of a record look
/// at the days beside its own only.
pub const LATENESS_LIMIT: Span = Span::hours(12);

/// The collector refuses earlier than the counters do, so that nothing it acknowledged is rejected later only because
/// its own clock runs a little ahead of the broker's.
pub const COLLECTOR_AHEAD_MAX: Span = Span::minutes(4);

impl Default for Rules {
    fn default() -> Self {
        Rules {
            version: 1,
            lateness: Span::minutes(10),
            live_horizon: Span::minutes(15),
            batch_horizon: Span::hours(24),
            age_max: Span::days(35),
            ahead_max: Span::minutes(5),
            finality_days: 3,
        }
    }
}

// A click within the collector's bound must still be within the counters' bound.
const _: () = assert!(COLLECTOR_AHEAD_MAX.as_millis() < Span::minutes(5).as_millis());

/// Rules that cannot be followed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    #[error(
        "rules {0}: the live dedup horizon must not be longer than the batch horizon, or live would drop what batch counts"
    )]
    LiveHorizonTooLong(u32),
    #[error("rules {0}: every span must be positive")]
    NotPositive(u32),
    #[error("rules {version}: `ahead_max_ms` allows {found} ahead; at most {AHEAD_LIMIT} are allowed")]
    TooFarAhead { version: u32, found: Span },
    #[error("rules {version}: `lateness_ms` is {found}; at most {LATENESS_LIMIT} are allowed")]
    TooLate { version: u32, found: Span },
    #[error("rules {version}: `batch_horizon_ms` is {found}; at most {HORIZON_LIMIT} are allowed")]
    HorizonTooLong { version: u32, found: Span },
    #[error("rules {given} follow rules {last}; the next version is {}", last + 1)]
    NotTheNextVersion { given: u32, last: u32 },
    #[error("rules {version} take effect on {effective}, which is not after {last}, the day of the rules before")]
    NotLater { version: u32, effective: Day, last: Day },
}

impl Rules {
    pub fn check(&self) -> Result<(), RulesError> {
        let spans = [self.lateness, self.live_horizon, self.batch_horizon, self.age_max, self.ahead_max];
        if spans.iter().any(|span| *span <= Span::ZERO) {
            return Err(RulesError::NotPositive(self.version));
        }
        if self.ahead_max > AHEAD_LIMIT {
            return Err(RulesError::TooFarAhead { version: self.version, found: self.ahead_max });
        }
        if self.lateness > LATENESS_LIMIT {
            return Err(RulesError::TooLate { version: self.version, found: self.lateness });
        }
        if self.live_horizon > self.batch_horizon {
            return Err(RulesError::LiveHorizonTooLong(self.version));
        }
        if self.batch_horizon > HORIZON_LIMIT {
            return Err(RulesError::HorizonTooLong { version: self.version, found: self.batch_horizon });
        }
        Ok(())
    }
}

/// All rules that were ever in force, by the first event day that they judge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesBook {
    first: Rules,
    later: Vec<(Day, Rules)>,
    /// The ledger's first night, which takes in everything that was appended before its cut.
    first_night: Option<Day>,
}

impl RulesBook {
    pub fn new(first: Rules) -> Result<Self, RulesError> {
        first.check()?;
        Ok(RulesBook { first, later: Vec::new(), first_night: None })
    }

    /// The same rules in a ledger whose first night is `first_night`.
    pub fn with_first_night(self, first_night: Day) -> Self {
        RulesBook { first_night: Some(first_night), ..self }
    }

    /// Adds the next rules, in force for event days from `effective` on.
    pub fn add(&mut self, effective: Day, rules: Rules) -> Result<(), RulesError> {
        rules.check()?;
        let last = self.last().version;
        if rules.version != last + 1 {
            return Err(RulesError::NotTheNextVersion { given: rules.version, last });
        }
        if let Some((day, _)) = self.later.last().filter(|(day, _)| *day >= effective) {
            return Err(RulesError::NotLater { version: rules.version, effective, last: *day });
        }
        self.later.push((effective, rules));
        Ok(())
    }

    /// The first rules, and all later ones with the first event day that they judge.
    pub fn parts(&self) -> (&Rules, &[(Day, Rules)]) {
        (&self.first, &self.later)
    }

    /// The rules that judge events of `day`.
    pub fn on(&self, day: Day) -> &Rules {
        self.later.iter().rev().find(|(from, _)| *from <= day).map_or(&self.first, |(_, rules)| rules)
    }

    pub fn last(&self) -> &Rules {
        self.later.last().map_or(&self.first, |(_, rules)| rules)
    }

    /// Dedup must remember this long, so that every record finds all sightings that its own rules look back to.
    pub fn live_horizon_max(&self) -> Span {
        self.all().map(|rules| rules.live_horizon).max().unwrap_or(Span::ZERO)
    }

    pub fn batch_horizon_max(&self) -> Span {
        self.all().map(|rules| rules.batch_horizon).max().unwrap_or(Span::ZERO)
    }

    /// No click that is older than this when it is appended is kept, whatever rules judge it.
    pub fn age_max(&self) -> Span {
        self.all().map(|rules| rules.age_max).max().unwrap_or(Span::ZERO)
    }

    /// The first instant that night `day` must not read any more: its cut is the first record appended at or after it.
    pub fn cut_time(&self, day: Day) -> Timestamp {
        day.end() + self.on(day).lateness
    }

    /// The night that takes in a record appended at `append_time`: the first whose cut lies after it.
    pub fn night_of(&self, append_time: Timestamp) -> Day {
        let mut night = append_time.day().plus(-2);
        while self.cut_time(night) <= append_time {
            night = night.next();
        }
        self.first_night.map_or(night, |first| night.max(first))
    }

    fn all(&self) -> impl Iterator<Item = &Rules> {
        std::iter::once(&self.first).chain(self.later.iter().map(|(_, rules)| rules))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    #[test]
    fn a_record_belongs_to_the_first_night_whose_cut_lies_after_it() {
        let book = RulesBook::new(Rules::default()).unwrap();
        let cut = day("2026-03-02").start() + Span::minutes(10);
        assert_eq!(book.cut_time(day("2026-03-01")), cut);
        assert_eq!(book.night_of(cut - Span::millis(1)), day("2026-03-01"));
        assert_eq!(book.night_of(cut), day("2026-03-02"));
    }

    #[test]
    fn the_first_night_takes_in_everything_before_its_cut() {
        let book = RulesBook::new(Rules::default()).unwrap().with_first_night(day("2026-03-02"));
        for (time, night) in [
            ("2026-02-20T12:00:00Z", "2026-03-02"),
            ("2026-03-02T00:05:00Z", "2026-03-02"),
            ("2026-03-03T00:09:59.999Z", "2026-03-02"),
            ("2026-03-03T00:10:00Z", "2026-03-03"),
        ] {
            assert_eq!(book.night_of(Timestamp::parse_rfc3339(time).unwrap()), day(night), "{time}");
        }
    }

    #[test]
    fn rules_look_no_further_ahead_than_readers_do() {
        let ahead = |ahead_max| Rules { ahead_max, ..Rules::default() }.check();
        assert_eq!(ahead(AHEAD_LIMIT), Ok(()));
        let found = Span::millis(AHEAD_LIMIT.as_millis() + 1);
        assert_eq!(ahead(found), Err(RulesError::TooFarAhead { version: 1, found }));
    }

    #[test]
    fn rules_change_by_event_day_and_only_forward() {
        let mut book = RulesBook::new(Rules::default()).unwrap();
        let second = Rules { version: 2, lateness: Span::minutes(60), ..Rules::default() };
        book.add(day("2026-03-02"), second.clone()).unwrap();
        assert_eq!(book.on(day("2026-03-01")).version, 1);
        assert_eq!(book.on(day("2026-03-02")).version, 2);
        assert!(book.add(day("2026-03-03"), second).is_err());
        assert!(book.add(day("2026-03-02"), Rules { version: 3, ..Rules::default() }).is_err());
    }
}
