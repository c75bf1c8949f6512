//! Beginning a generation: where it begins to count, and which days and nights it may vouch for.
//!
//! A click of day D is never appended before `base_time(D)`, the start of D minus what an event time may lie ahead. So
//! counting from the first record at or after the base time of the oldest day that the ledger leaves open gives that day
//! and all later ones completely; everything earlier is the batch layer's.
//!
//! Unless the log no longer reaches back that far. What is gone was appended at or before A, the append time of the first
//! record that is left (on a log that holds nothing at all: at or before now), and two things are missing: clicks of any
//! day with a base time up to A, and sightings without which dedup counts a retry up to the live horizon H after A. A
//! generation must not show such a day as complete, so its base day is the first one whose base time lies after A + H,
//! and its base night the first one all of whose records come after A + H. The days between are missing in the live view,
//! are served as incomplete, and get their numbers from the batch.

use clicks::books::Books;
use clicks::counter::LiveCounter;
use clicks::live::{Expected, Meta, Stage};
use clicks::position::Offset;
use clicks::rules::RulesBook;
use clicks::time::{Day, Interval, Timestamp};
use metrics::counter;
use platform::log::{Bounds, LogError};
use platform::store::{LiveQuery, LiveSlice, StoreError};
use std::time::Duration;

use crate::doubt::Break;
use crate::resume::Reason;
use crate::worker::{Held, Worker};

/// How long the first record of the log is waited for.
const FIRST_RECORD: Duration = Duration::from_secs(5);

/// No click of `day` or a later day is appended earlier.
pub(crate) fn base_time(rules: &RulesBook, day: Day) -> Timestamp {
    let ahead = rules.on(day).ahead_max.max(rules.on(day.next()).ahead_max);
    day.start() - ahead
}

/// Where a generation begins.
#[derive(Debug, PartialEq, Eq)]
struct Base {
    offset: Offset,
    day: Day,
    night: Day,
    /// End of the log at this moment.
    end: Offset,
    /// Append times of retries whose first sighting may have fallen off the log.
    unseen: Option<Interval>,
}

impl Worker {
    /// Begins a generation that replaces what is stored.
    pub(crate) async fn begin(&self, books: &Books, replaces: Expected, reason: Reason) -> Result<Held, Break> {
        let rules = books.rules();
        let base = self.base(books).await?;
        let (stage, rollbacks, rebuilds) = self.stage().await?;
        let generation = self.shared.options.generations.next();
        let meta = Meta { rollbacks, rebuilds, ..Meta::new(base.offset, base.day, base.night, base.end) };
        let mut live =
            LiveCounter::begin(rules.clone(), replaces, (generation, stage), meta, self.shared.options.sightings_max);
        if let Some(retries) = base.unseen {
            live.own_up(retries);
        }
        let back = base_time(rules, books.next_night()) - rules.live_horizon_max();
        let from = self.offset_at(back).await?.unwrap_or(base.offset).min(base.offset);
        let (reader, _) = self.look_back(&mut live, from).await?;
        counter!("twofold_speed_generations_total", "reason" => reason.code()).increment(1);
        tracing::info!(
            partition = %self.partition, %generation, ?stage, reason = reason.code(), base = %base.offset, base_day = %base.day,
            base_night = %base.night, until = %base.end, look_back = %from, "began a generation"
        );
        Ok(Held::new(live, reader))
    }

    /// As long as readers can see the live generation, another one is counted beside it: its counts are in doubt, but a
    /// number that begins at zero would tell less. The numbers are of rollbacks and rebuilds up to now.
    async fn stage(&self) -> Result<(Stage, u64, u64), Break> {
        match self.shared.store.read(&self.partition, &LiveQuery::of_meta()).await {
            Ok(Some(LiveSlice { meta, .. })) => Ok((Stage::Beside, meta.rollbacks, meta.rebuilds + 1)),
            Ok(None) => Ok((Stage::Live, 0, 0)),
            Err(StoreError::Content { .. }) => Ok((Stage::Live, 0, 1)),
            Err(source) => Err(Break::store(&self.partition, source)),
        }
    }

    async fn base(&self, books: &Books) -> Result<Base, Break> {
        let (rules, open) = (books.rules(), books.next_night());
        // The end is asked first: what is appended meanwhile lies behind it, and is counted. The beginning is asked last:
        // what falls off meanwhile makes the answer more careful, never less.
        let end = self.bounds().await?.end;
        let base_time = base_time(rules, open);
        let back = self.offset_at(base_time - rules.live_horizon_max()).await?.unwrap_or(end);
        let offset = self.offset_at(base_time).await?.unwrap_or(end);
        let first = self.bounds().await?.first;
        if first == Offset::ZERO || back > first {
            return Ok(Base { offset, day: open, night: open, end, unseen: None });
        }
        let left = self.first_append_time(Bounds { first, end }).await?;
        let whole_from = left + rules.live_horizon_max();
        if offset > first {
            // Every click of the open days is there, but not every sighting of the look-back.
            let unseen = Some(Interval::new(base_time, whole_from));
            return Ok(Base { offset, day: open, night: open, end, unseen });
        }
        let base = Base {
            offset: first,
            day: first_whole_day(rules, whole_from).max(open),
            night: rules.night_of(whole_from).next().max(open),
            end: end.max(first),
            unseen: None,
        };
        counter!("twofold_speed_short_logs_total").increment(1);
        tracing::error!(
            partition = %self.partition, first = %first, since = %left, open = %open, base_day = %base.day,
            "the log no longer reaches back to the oldest open day; live days before the base day are missing"
        );
        Ok(base)
    }

    /// Time of the first record on the log; now, when there is none.
    pub(crate) async fn first_append_time(&self, log: Bounds) -> Result<Timestamp, Break> {
        if log.first >= log.end {
            return Ok(self.shared.clock.now());
        }
        let mut reader = self.open(log.first).await?;
        let records = reader.poll(1, FIRST_RECORD).await.map_err(|source| Break::log(&self.partition, source))?;
        records.first().map(|record| record.broker_time).ok_or_else(|| {
            let silent = LogError::Unavailable(format!("no record at {}, which lies before its end", log.first));
            Break::log(&self.partition, silent)
        })
    }
}

/// The first day all of whose clicks were appended after `time`.
fn first_whole_day(rules: &RulesBook, time: Timestamp) -> Day {
    let mut day = time.day();
    while base_time(rules, day) <= time {
        day = day.next();
    }
    day
}

#[cfg(test)]
mod tests {
    use super::*;
    use clicks::rules::Rules;
    use clicks::time::Span;

    #[test]
    fn a_day_is_whole_only_when_none_of_its_clicks_can_be_gone() {
        let rules = RulesBook::new(Rules::default()).unwrap();
        let day: Day = "2026-03-02".parse().unwrap();
        let base = day.start() - Span::minutes(5);
        let cases = [
            (day.previous().start(), day),
            (base - Span::millis(1), day),
            (base, day.next()),
            (day.start(), day.next()),
            (day.end() - Span::minutes(5), day.next().next()),
        ];
        for (time, want) in cases {
            assert_eq!(first_whole_day(&rules, time), want, "{time}");
        }
    }
}
