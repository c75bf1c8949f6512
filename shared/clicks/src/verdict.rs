//! What becomes of a record, decided in a fixed order: control, rejected, duplicate, late, counted.
//!
//! The order matters. Deciding lateness before duplicates would let a late first sighting be followed by an on-time
//! retry that counts again; letting rejected records into dedup would drop their valid retry. Rejected records never
//! enter dedup, late ones do.
//!
//! One rule, two horizons: both layers call [`judge`] and differ only in the horizon that they look at, so
//! `exact = live + late - far duplicates` holds in every window.

use crate::dedup::{DedupKey, SlidingDedup};
use crate::rules::Rules;
use crate::time::{Span, Timestamp};
use crate::wire::Rejection;

/// What becomes of one record in one layer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// A record of our own.
    Control,
    Rejected(Rejection),
    Duplicate,
    /// Not in the live view, counted apart; the batch counts it.
    Late,
    Counted,
}

/// What is decided for a readable click once its time limits are met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Judgement {
    /// Append time since the last sighting of the same key, if any is remembered.
    pub sighted: Option<Span>,
    /// Append time minus event time is more than the allowed lateness.
    pub late: bool,
}

impl Judgement {
    /// The verdict of a layer with this dedup horizon.
    pub fn within(&self, horizon: Span) -> Verdict {
        match self.sighted {
            Some(age) if age < horizon => Verdict::Duplicate,
            _ if self.late => Verdict::Late,
            _ => Verdict::Counted,
        }
    }
}

/// Judges one readable click. `append_time` is the running maximum of its partition, `rules` are those of its event day.
///
/// # Errors
/// The [`Rejection`] when the event time lies too far ahead of or behind the append time; the key is not remembered then.
#[inline]
pub fn judge(
    rules: &Rules,
    dedup: &mut SlidingDedup,
    key: DedupKey,
    event_time: Timestamp,
    append_time: Timestamp,
) -> Result<Judgement, Rejection> {
    let late = is_late(rules, event_time, append_time)?;
    Ok(Judgement { sighted: dedup.sight(key, append_time), late })
}

/// The part of the judgement that needs no other click: whether this one is late.
///
/// # Errors
/// As [`judge`].
#[inline]
pub fn is_late(rules: &Rules, event_time: Timestamp, append_time: Timestamp) -> Result<bool, Rejection> {
    let age = append_time.since(event_time);
    if Span::ZERO > age && event_time.since(append_time) > rules.ahead_max {
        return Err(Rejection::TooFarAhead(event_time.since(append_time)));
    }
    if age > rules.age_max {
        return Err(Rejection::TooOld(age));
    }
    Ok(age > rules.lateness)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Span;

    fn at(minutes: i64) -> Timestamp {
        Timestamp::EPOCH + Span::days(100) + Span::minutes(minutes)
    }

    fn live(dedup: &mut SlidingDedup, key: u128, event: Timestamp, append: Timestamp) -> Verdict {
        let rules = Rules::default();
        match judge(&rules, dedup, DedupKey::from_u128(key), event, append) {
            Ok(judgement) => judgement.within(rules.live_horizon),
            Err(rejection) => Verdict::Rejected(rejection),
        }
    }

    #[test]
    fn bounds_are_exact_to_the_millisecond() {
        let rules = Rules::default();
        let ms = Span::millis(1);
        let cases = [
            (at(0), at(0), "counted"),
            (at(0) - rules.lateness, at(0), "counted"),
            (at(0) - rules.lateness - ms, at(0), "late"),
            (at(0) + rules.ahead_max, at(0), "counted"),
            (at(0) + rules.ahead_max + ms, at(0), "too_far_ahead"),
            (at(0) - rules.age_max, at(0), "late"),
            (at(0) - rules.age_max - ms, at(0), "too_old"),
        ];
        for (event, append, want) in cases {
            let got = match live(&mut SlidingDedup::new(rules.live_horizon, usize::MAX), 1, event, append) {
                Verdict::Counted => "counted",
                Verdict::Late => "late",
                Verdict::Rejected(rejection) => rejection.code(),
                other => panic!("{other:?}"),
            };
            assert_eq!(got, want, "event {event} append {append}");
        }
    }

    /// Scenario 5: the first sighting is late, the re-stamped retry on time; and a rejected record, then its valid retry.
    #[test]
    fn late_sightings_shadow_their_retry_and_rejected_ones_do_not() {
        let mut dedup = SlidingDedup::new(Rules::default().live_horizon, usize::MAX);
        assert_eq!(live(&mut dedup, 1, at(-20), at(0)), Verdict::Late);
        assert_eq!(live(&mut dedup, 1, at(1), at(1)), Verdict::Duplicate);
        assert!(matches!(live(&mut dedup, 2, at(20), at(2)), Verdict::Rejected(Rejection::TooFarAhead(_))));
        assert_eq!(live(&mut dedup, 2, at(3), at(3)), Verdict::Counted);
    }

    #[test]
    fn the_two_horizons_differ_only_in_far_duplicates() {
        let rules = Rules::default();
        let mut dedup = SlidingDedup::new(rules.batch_horizon, usize::MAX);
        judge(&rules, &mut dedup, DedupKey::from_u128(1), at(0), at(0)).unwrap();
        let again = judge(&rules, &mut dedup, DedupKey::from_u128(1), at(16), at(16)).unwrap();
        assert_eq!(again.within(rules.live_horizon), Verdict::Counted);
        assert_eq!(again.within(rules.batch_horizon), Verdict::Duplicate);
    }
}
