//! Sliding deduplication by append time.
//!
//! A key sighted within the last H of append time is a duplicate; *every* sighting refreshes it, counted or not. So the
//! state is a pure function of the last H of the log, and a restart rebuilds it by reading just that much. (Remembering
//! only counted sightings cannot be rebuilt from any bounded look-back.)

use std::collections::VecDeque;
use std::hash::Hash;

use hashbrown::HashMap;

use crate::time::{Span, Timestamp};

/// Last sightings of keys within a horizon.
///
/// ```
/// use clicks::dedup::SlidingDedup;
/// use clicks::time::{Span, Timestamp};
/// let at = Timestamp::from_millis;
/// let mut dedup = SlidingDedup::new(Span::millis(10), usize::MAX);
/// assert_eq!(dedup.sight("k", at(0)), None);
/// assert_eq!(dedup.sight("k", at(9)), Some(Span::millis(9)));   // a duplicate, and it refreshes
/// assert_eq!(dedup.sight("k", at(18)), Some(Span::millis(9)));
/// assert_eq!(dedup.sight("k", at(28)), None);                   // exactly H later it is new again
/// ```
#[derive(Debug)]
pub struct SlidingDedup<K> {
    horizon: Span,
    sightings_max: usize,
    last: HashMap<K, Sighting, foldhash::fast::RandomState>,
    /// Sightings in append order; an entry is stale when its key was sighted again later.
    order: VecDeque<(Timestamp, K)>,
    /// Number of the sighting at the front of `order`.
    front: u64,
    evicted: u64,
}

#[derive(Debug, Clone, Copy)]
struct Sighting {
    time: Timestamp,
    number: u64,
}

impl<K: Hash + Eq + Clone> SlidingDedup<K> {
    /// Remembers `horizon` of append time, and at most `sightings_max` sightings of it.
    pub fn new(horizon: Span, sightings_max: usize) -> Self {
        SlidingDedup { horizon, sightings_max, last: HashMap::default(), order: VecDeque::new(), front: 0, evicted: 0 }
    }

    /// Records a sighting and tells how long ago the key was last sighted, if that is less than the horizon.
    /// `append_time` is a running maximum: it never moves back.
    pub fn sight(&mut self, key: K, append_time: Timestamp) -> Option<Span> {
        self.forget_before(append_time);
        let sighting = Sighting { time: append_time, number: self.front + self.order.len() as u64 };
        let previous = self.last.insert(key.clone(), sighting);
        self.order.push_back((append_time, key));
        if self.order.len() > self.sightings_max {
            self.evict_oldest();
        }
        previous.map(|sighting| append_time.since(sighting.time))
    }

    /// Sightings that were forgotten for want of memory before their time: from the first one on, a duplicate may have
    /// been missed, and the drift is a term of its own.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }

    /// Keys that are remembered.
    pub fn len(&self) -> usize {
        self.last.len()
    }

    pub fn is_empty(&self) -> bool {
        self.last.is_empty()
    }

    fn forget_before(&mut self, now: Timestamp) {
        while let Some((time, _)) = self.order.front() {
            if now.since(*time) < self.horizon {
                break;
            }
            self.drop_front();
        }
    }

    fn evict_oldest(&mut self) {
        if self.drop_front() {
            self.evicted += 1;
        }
    }

    /// True when the dropped sighting was the last one of its key.
    fn drop_front(&mut self) -> bool {
        let Some((_, key)) = self.order.pop_front() else { return false };
        let number = self.front;
        self.front += 1;
        let newest = self.last.get(&key).is_some_and(|sighting| sighting.number == number);
        if newest {
            self.last.remove(&key);
        }
        newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    /// The definition, word for word: sighted within the last H of append time.
    fn oracle(log: &[(u8, i64)], i: usize, horizon: i64) -> Option<i64> {
        log[..i]
            .iter()
            .rev()
            .find(|(key, _)| *key == log[i].0)
            .map(|(_, time)| log[i].1 - time)
            .filter(|age| *age < horizon)
    }

    proptest! {
        #[test]
        fn agrees_with_the_definition_and_rebuilds_from_the_last_horizon(
            steps in prop::collection::vec((0u8..6, 0i64..6), 1..120), crash in 0usize..120,
        ) {
            let horizon = 10;
            let mut time = 0;
            let log: Vec<(u8, i64)> = steps.into_iter().map(|(key, step)| { time += step; (key, time) }).collect();
            let crash = crash.min(log.len());
            let mut dedup = SlidingDedup::new(Span::millis(horizon), usize::MAX);
            for (i, (key, time)) in log.iter().enumerate() {
                if i == crash {
                    // A restart knows nothing but the last H of the log.
                    dedup = SlidingDedup::new(Span::millis(horizon), usize::MAX);
                    let now = log[..i].last().map_or(0, |(_, t)| *t);
                    for (key, time) in log[..i].iter().filter(|(_, t)| now - t < horizon) {
                        dedup.sight(*key, at(*time));
                    }
                }
                let got = dedup.sight(*key, at(*time)).map(Span::as_millis);
                prop_assert_eq!(got, oracle(&log, i, horizon), "at {} of {:?}", i, log);
            }
        }
    }

    #[test]
    fn beyond_its_bound_it_forgets_the_oldest_and_says_so() {
        let mut dedup = SlidingDedup::new(Span::minutes(15), 3);
        for key in 0..3 {
            dedup.sight(key, at(key));
        }
        assert_eq!(dedup.evicted(), 0);
        dedup.sight(3, at(3));
        assert_eq!((dedup.evicted(), dedup.len()), (1, 3));
        assert_eq!(dedup.sight(0, at(4)), None, "forgotten, and flagged above");
    }
}
