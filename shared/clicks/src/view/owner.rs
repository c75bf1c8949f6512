//! Which periods a question asks for, and who owns each.

use super::{Question, QuestionError, Segment, Source};
use crate::books::{Books, PeriodState};
use crate::time::{Interval, Timestamp};

/// A period and its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    pub period: Interval,
    pub source: Source,
    pub state: PeriodState,
    pub revision: Option<u32>,
}

/// The range without the periods that begin after `now`.
pub(super) fn clip(question: &Question, now: Timestamp) -> Result<Interval, QuestionError> {
    let Question { range, grain, .. } = question;
    if range.is_empty() {
        return Err(QuestionError::Empty(*range));
    }
    for time in [range.start, range.end] {
        if grain.window(time).start != time {
            return Err(QuestionError::NotAligned { time, grain: *grain });
        }
    }
    if range.start > now {
        return Err(QuestionError::Future { start: range.start, now });
    }
    Ok(Interval::new(range.start, range.end.min(grain.window(now).end)))
}

/// The periods of a range that [`clip`] has accepted.
pub(super) fn slots(books: &Books, question: &Question, range: Interval) -> Vec<Slot> {
    let mut slots = Vec::new();
    let mut start = range.start;
    while start < range.end {
        let period = question.grain.window(start);
        slots.push(owned(books, period));
        start = period.end;
    }
    slots
}

fn owned(books: &Books, period: Interval) -> Slot {
    let day = period.start.day();
    let (source, revision) = match books.day(day) {
        Some(book) => (Source::Batch, Some(book.revision.revision)),
        None if day >= books.first_day() => (Source::Speed, None),
        None if books.adjustments(day).is_empty() => (Source::None, None),
        None => (Source::Batch, None),
    };
    Slot { period, source, state: books.state(day), revision }
}

/// Runs of periods with the same owner, state and revision.
pub(super) fn segments(slots: &[Slot]) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for slot in slots {
        match segments.last_mut() {
            Some(last) if (last.source, last.state, last.revision) == (slot.source, slot.state, slot.revision) => {
                last.end = slot.period.end;
            }
            _ => segments.push(Segment {
                start: slot.period.start,
                end: slot.period.end,
                source: slot.source,
                state: slot.state,
                revision: slot.revision,
            }),
        }
    }
    segments
}
