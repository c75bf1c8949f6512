//! Which pieces of time a question asks for, and who owns each.

use super::{Asked, Question, QuestionError, Segment, Source};
use crate::books::{Books, PeriodState};
use crate::live::Meta;
use crate::time::{Interval, Timestamp};

/// A piece of a period, or all of it, and its owner. It lies within one day of UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub period: Interval,
    pub source: Source,
    pub state: PeriodState,
    pub revision: Option<u32>,
    /// None of its clicks is appended earlier.
    pub begins_at: Timestamp,
    /// None of its late clicks is appended earlier.
    pub late_from: Timestamp,
    /// Every on-time click of it is appended earlier.
    pub settled_at: Timestamp,
    /// Every click of it that is not rejected for its age is appended earlier.
    pub too_old_at: Timestamp,
}

impl Slot {
    /// Some of its on-time clicks may have been appended in the interval.
    fn may_lie_in(&self, appended: Interval) -> bool {
        !appended.is_empty() && appended.start < self.settled_at && self.begins_at < appended.end
    }

    /// Some of its late clicks may have been appended in the interval.
    pub fn may_be_late_in(&self, appended: Interval) -> bool {
        !appended.is_empty() && appended.start < self.too_old_at && self.late_from < appended.end
    }

    /// One of its on-time clicks may be a duplicate that was counted, as dedup lacked sightings.
    pub fn may_hold_duplicates(&self, meta: &Meta) -> bool {
        self.may_lie_in(meta.drift)
    }

    /// One of its on-time clicks may have fallen off the log before it was counted.
    pub fn may_lack_clicks(&self, meta: &Meta) -> bool {
        self.may_lie_in(meta.lost.appended)
    }

    /// Neither of the two: what is counted of it is what there is.
    pub fn is_counted_exactly(&self, meta: &Meta) -> bool {
        !self.may_hold_duplicates(meta) && !self.may_lack_clicks(meta)
    }
}

/// The range without the periods that begin after `now`.
pub(super) fn clip(question: &Question, now: Timestamp) -> Result<Interval, QuestionError> {
    let Question { range, grain, zone, .. } = question;
    if range.is_empty() {
        return Err(QuestionError::Empty(*range));
    }
    for time in [range.start, range.end] {
        if zone.window(*grain, time).start != time {
            return Err(QuestionError::NotAligned { time, grain: *grain, zone: *zone });
        }
    }
    if range.start > now {
        return Err(QuestionError::Future { start: range.start, now });
    }
    Ok(Interval::new(range.start, range.end.min(zone.window(*grain, now).end)))
}

/// The periods of a range that [`clip`] has accepted, each with the number of its pieces, and all the pieces.
pub(super) fn slots(books: &Books, question: &Question, range: Interval) -> (Vec<(Interval, usize)>, Vec<Slot>) {
    let (mut periods, mut slots) = (Vec::new(), Vec::new());
    let mut next = range.start;
    while next < range.end {
        let period = match question.asked {
            // A ranking has one number for all of the range.
            Asked::EachAd | Asked::EachOf(_) => range,
            Asked::Total | Asked::Ads(_) | Asked::Groups(_) => question.zone.window(question.grain, next),
        };
        let before = slots.len();
        while next < period.end {
            let piece = Interval::new(next, period.end.min(next.day().end()));
            slots.push(owned(books, piece));
            next = piece.end;
        }
        periods.push((period, slots.len() - before));
    }
    (periods, slots)
}

fn owned(books: &Books, period: Interval) -> Slot {
    let day = period.start.day();
    let (source, revision) = match books.day(day) {
        Some(book) => (Source::Batch, Some(book.revision.revision)),
        None if books.withheld().contains_key(&day) => (Source::Batch, None),
        None if day >= books.first_day() => (Source::Speed, None),
        None if books.adjustments(day).is_empty() => (Source::None, None),
        None => (Source::Batch, None),
    };
    // A record is judged by the rules of its event day, and a period lies within one day.
    let rules = books.rules().on(day);
    Slot {
        period,
        source,
        state: books.state(day),
        revision,
        begins_at: period.start - rules.ahead_max,
        late_from: period.start + rules.lateness,
        settled_at: period.end + rules.lateness,
        too_old_at: period.end + rules.age_max,
    }
}

/// Runs of slots with the same owner, state and revision, each with the number of its slots.
pub(super) fn segments(slots: &[Slot]) -> impl Iterator<Item = (Segment, usize)> {
    let runs = slots.chunk_by(|a, b| (a.source, a.state, a.revision) == (b.source, b.state, b.revision));
    runs.map(|run| {
        let Slot { period, source, state, revision, .. } = run[0];
        let end = run[run.len() - 1].period.end;
        (Segment { start: period.start, end, source, state, revision, split: None }, run.len())
    })
}
