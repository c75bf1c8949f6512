//! Gaps between neighbouring arrivals. A wrong year in one line would otherwise make all other clicks late and close
//! millions of empty days.
//!
//! Two neighbours that lie more than a day apart are the last arrival of one day and the first of the next day that has
//! any. So two points per occupied day are enough, and no second pass over the sorted clicks.

use std::collections::BTreeMap;
use std::fmt;

use clicks::time::{Day, Span, Timestamp};

/// A line and when it arrives.
type Point = (Timestamp, u64);

/// Two neighbouring arrivals that lie too far apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    pub line_before: u64,
    pub before: Timestamp,
    pub line_after: u64,
    pub after: Timestamp,
    /// The largest distance that is not a gap.
    pub max: Span,
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Gap { line_before, before, line_after, after, max } = self;
        let days = after.since(*before).as_millis() / Span::days(1).as_millis();
        write!(
            f,
            "no click arrives for {days} days, between line {line_before} at {before} and line {line_after} at {after}; \
             at most {max} are allowed"
        )
    }
}

/// The first and last arrival of every day that has one.
#[derive(Debug, Default)]
pub(super) struct Arrivals {
    days: BTreeMap<Day, (Point, Point)>,
}

impl Arrivals {
    pub(super) fn add(&mut self, arrival: Timestamp, line: u64) {
        let point = (arrival, line);
        let (first, last) = self.days.entry(arrival.day()).or_insert((point, point));
        *first = point.min(*first);
        *last = point.max(*last);
    }

    /// The first and the last arrival.
    pub(super) fn ends(&self) -> Option<(Timestamp, Timestamp)> {
        let ((first, _), (_, last)) = (self.days.values().next()?, self.days.values().next_back()?);
        Some((first.0, last.0))
    }

    /// Every gap of more than `max`, which is a day or longer.
    pub(super) fn gaps(&self, max: Span) -> Vec<Gap> {
        let firsts = self.days.values().skip(1).map(|(first, _)| first);
        let lasts = self.days.values().map(|(_, last)| last);
        let pairs = lasts.zip(firsts).filter(|(last, first)| first.0.since(last.0) > max);
        pairs
            .map(|((before, line_before), (after, line_after))| Gap {
                line_before: *line_before,
                before: *before,
                line_after: *line_after,
                after: *after,
                max,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    #[test]
    fn the_points_of_days_find_the_gaps_that_a_sorted_list_shows() {
        let mut random = SmallRng::seed_from_u64(3);
        for _ in 0..200 {
            let mut arrivals = Arrivals::default();
            let mut points: Vec<Point> = (1..random.random_range(2..40))
                .map(|line| {
                    // Few distinct times, around the epoch, so that equal arrivals and exact distances occur.
                    let hours = random.random_range(-2_000i64..2_000) * random.random_range(1..3);
                    (Timestamp::from_millis(hours * 3_600_000), line)
                })
                .collect();
            points.iter().for_each(|(arrival, line)| arrivals.add(*arrival, *line));
            points.sort_unstable();
            assert_eq!(arrivals.ends(), points.first().zip(points.last()).map(|(first, last)| (first.0, last.0)));
            for max in [Span::days(1), Span::days(7), Span::days(31)] {
                let expected: Vec<_> = points
                    .windows(2)
                    .filter(|pair| pair[1].0.since(pair[0].0) > max)
                    .map(|pair| (pair[0].1, pair[1].1))
                    .collect();
                let found: Vec<_> = arrivals.gaps(max).iter().map(|gap| (gap.line_before, gap.line_after)).collect();
                assert_eq!(found, expected);
            }
        }
    }
}
