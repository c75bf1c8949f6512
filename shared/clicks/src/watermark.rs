//! Progress of one partition: the append time that it has reached, and the watermark that follows from it.

use crate::rules::RulesBook;
use crate::time::Timestamp;

/// Append time of a partition: the running maximum of the broker's times. Brokers' clocks differ, so after a failover
/// the raw time may step back; the running maximum is what dedup, lateness, coverage and cuts are decided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendTime(Timestamp);

impl AppendTime {
    /// Continues from the append time of the last record that was read before; [`Timestamp::MIN`] at the very start.
    pub const fn resume(last: Timestamp) -> Self {
        AppendTime(last)
    }

    /// The append time of a record with this broker time.
    pub fn observe(&mut self, broker_time: Timestamp) -> Timestamp {
        self.0 = self.0.max(broker_time);
        self.0
    }

    pub const fn last(self) -> Timestamp {
        self.0
    }
}

/// No on-time click with an earlier event time is still to come when the partition has reached `append_time`.
///
/// Around a change of rules the larger lateness holds, so that the watermark waits instead of moving back.
pub fn watermark(rules: &RulesBook, append_time: Timestamp) -> Timestamp {
    let today = append_time.day();
    let lateness = [today.previous(), today, today.next()].map(|day| rules.on(day).lateness);
    append_time - lateness.into_iter().max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Rules;
    use crate::time::Span;

    /// Scenario 6: broker A at 11, failover, broker B's clock says 9.
    #[test]
    fn append_time_never_moves_back() {
        let at = Timestamp::from_millis;
        let mut append = AppendTime::resume(Timestamp::MIN);
        assert_eq!([0, 11, 9].map(|t| append.observe(at(t)).as_millis()), [0, 11, 11]);
    }

    /// Scenario 22: L grows from 10 to 60 minutes at midnight.
    #[test]
    fn the_watermark_waits_across_a_change_of_rules() {
        let day = "2026-03-02".parse::<crate::time::Day>().unwrap();
        let mut rules = RulesBook::new(Rules::default()).unwrap();
        rules.add(day, Rules { version: 2, lateness: Span::minutes(60), ..Rules::default() }).unwrap();
        let mut last = Timestamp::MIN;
        for minute in -3_000..3_000 {
            let mark = watermark(&rules, day.start() + Span::minutes(minute));
            // Waiting may hold it still or set it back in theory; what a partition keeps is the maximum it has reached.
            last = last.max(mark);
            let on_time = day.start() + Span::minutes(minute)
                - rules.on((day.start() + Span::minutes(minute - 60)).day()).lateness;
            assert!(mark <= on_time);
        }
    }
}
