//! The merge: it says which sources a question needs, takes what they hold, and gives the answer.

use std::collections::BTreeMap;

use super::columns::Columns;
use super::owner::{Slot, clip, segments, slots};
use super::partitions::{Partition, Status, partitions};
use super::pieces::whole;
use super::reason::Missing;
use super::sums::{Numbers, Sums};
use super::{Answer, PeriodAnswer, Question, QuestionError, Series, Source, Split};
use crate::books::Books;
use crate::id::AdId;
use crate::ledger::{Check, Objection};
use crate::live::{CountKey, LateKey, Meta};
use crate::position::PartitionId;
use crate::time::{Day, Interval, Span, Timestamp};
use crate::window::Grain;
use crate::zone::Zone;

/// Clicks of a published table or of adjustments, in any period that lies within one of the question's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell<'a> {
    pub start: Timestamp,
    /// `None`: of all ads together, which only answers [`Asked::Total`].
    pub ad: Option<&'a AdId>,
    pub clicks: u64,
    /// Those of them that came late.
    pub late: u64,
}

/// One atomic read of a partition's live counts: see the speed store.
#[derive(Debug, Clone, Copy)]
pub struct Live<'a> {
    pub meta: &'a Meta,
    /// Another generation is counted to take its place.
    pub is_in_doubt: bool,
    pub counts: &'a [(CountKey, u64)],
    pub late: &'a [(LateKey, u64)],
}

/// The same of counts that are held in memory.
#[derive(Debug, Clone, Copy)]
pub struct Held<'a> {
    pub meta: &'a Meta,
    pub is_in_doubt: bool,
    /// At least those of [`Merge::range`] that are stored.
    pub columns: &'a Columns,
}

/// Which number of a period a live count is added to.
type Field = fn(&mut Numbers) -> &mut u64;

/// The answer to one question at one position of the books, under way.
#[derive(Debug)]
pub struct Merge {
    pub(super) range: Interval,
    /// That of every slot, where all have the same.
    slot_width: Option<Span>,
    pub(super) clipped_at: Option<Timestamp>,
    pub(super) now: Timestamp,
    pub(super) lag_max: Span,
    pub(super) next_night: Day,
    pub(super) closed_through: Option<Day>,
    pub(super) last_cut: Option<Timestamp>,
    /// What is asked for, each with the number of its slots.
    periods: Vec<(Interval, usize)>,
    pub(super) slots: Vec<Slot>,
    /// Closed days of the range, and whether their numbers were handed over.
    pub(super) days: BTreeMap<Day, Handed>,
    /// Closed days of the range that were published although records of them were lost, and what was lost.
    pub(super) lossy: BTreeMap<Day, String>,
    pub(super) partitions: Vec<Partition>,
    /// See [`Merge::published`].
    pub(super) asks_live: bool,
    /// Days up to this one have live counts in topic lives that are not asked any more.
    pub(super) not_asked_through: Option<Day>,
    pub(super) sums: Sums,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Handed {
    NotYet,
    Given,
    Missing(String),
    /// Its night left it out, for these reasons.
    Withheld(String),
}

impl Merge {
    /// Begins an answer. `lag_max` is how far a partition may lie behind `now` before its live periods count as
    /// incomplete.
    pub fn new(books: &Books, question: Question, now: Timestamp, lag_max: Span) -> Result<Self, QuestionError> {
        let range = clip(&question, now)?;
        let (periods, slots) = slots(books, &question, range);
        let by_utc = question.zone == Zone::UTC || question.grain == Grain::Minute;
        let is_even = by_utc && !question.asked.is_ranked();
        let closed = slots.iter().filter(|slot| slot.source == Source::Batch);
        let days: BTreeMap<Day, Handed> = closed
            .map(|slot| {
                let day = slot.period.start.day();
                let withheld = books.withheld().get(&day).map(|day| Objection::list(&day.objections));
                (day, withheld.map_or(Handed::NotYet, Handed::Withheld))
            })
            .collect();
        let lossy = days.keys().filter_map(|day| Some((*day, lost(books, *day)?))).collect();
        let sums = Sums::new(&question.asked, slots.len());
        let over = books.lives().iter().filter_map(|life| books.last_day_of(life));
        Ok(Merge {
            partitions: partitions(books, &question.asked),
            asks_live: true,
            not_asked_through: over.filter(|last_day| *last_day < books.next_night()).max(),
            range,
            slot_width: is_even.then(|| question.grain.width()),
            clipped_at: (range.end < question.range.end).then_some(range.end),
            now,
            lag_max,
            next_night: books.next_night(),
            closed_through: books.last_night(),
            last_cut: books.last_night().map(|night| books.rules().cut_time(night)),
            periods,
            slots,
            days,
            lossy,
            sums,
        })
    }

    /// Leaves the live counts out: the answer is what was published at this position, whatever has come since. Late clicks
    /// are unknown then, and that is no reason against it.
    ///
    /// # Errors
    /// The first day that was not closed.
    pub fn published(mut self) -> Result<Self, Day> {
        if let Some(slot) = self.slots.iter().find(|slot| slot.source == Source::Speed) {
            return Err(slot.period.start.day());
        }
        (self.partitions, self.asks_live) = (Vec::new(), false);
        Ok(self)
    }

    /// The range that is answered.
    pub fn range(&self) -> Interval {
        self.range
    }

    /// The coarsest table of a day whose periods lie within the pieces of it that are asked for.
    pub fn table_grain(&self, day: Day) -> Grain {
        let first = self.slots.partition_point(|slot| slot.period.start < day.start());
        let of_day = self.slots[first..].iter().take_while(|slot| slot.period.start < day.end());
        let begins = |grain: Grain, time: Timestamp| grain.window(time).start == time;
        let fits = |grain: &Grain| {
            of_day.clone().all(|slot| begins(*grain, slot.period.start) && begins(*grain, slot.period.end))
        };
        [Grain::Day, Grain::Hour].into_iter().find(fits).unwrap_or(Grain::Minute)
    }

    /// Days whose table (where there is a revision) and adjustments are needed.
    pub fn closed_days(&self) -> impl Iterator<Item = Day> + '_ {
        self.days.iter().filter(|(_, handed)| !matches!(handed, Handed::Withheld(_))).map(|(day, _)| *day)
    }

    /// Partitions whose live counts and late counts of [`Merge::range`] are needed.
    pub fn partitions(&self) -> impl Iterator<Item = &PartitionId> {
        self.partitions.iter().map(|partition| &partition.id)
    }

    /// Late counts of this night and later ones are needed.
    pub fn late_from(&self) -> Day {
        // Where the allowed lateness becomes shorter at midnight, a late click of the first open day can lie before the
        // cut of the night before it; and a click is at most a few minutes ahead of its append time.
        self.next_night.plus(-2)
    }

    /// Hands over all that is published of a closed day: its revision's rows, and the rows of its adjustments.
    pub fn give_day<'a>(
        &mut self,
        day: Day,
        revision: impl IntoIterator<Item = Cell<'a>>,
        adjustments: impl IntoIterator<Item = Cell<'a>>,
    ) {
        for cell in revision {
            if let Some(numbers) = self.closed(day, &cell) {
                numbers.clicks += cell.clicks;
                numbers.late += cell.late;
            }
        }
        for cell in adjustments {
            if let Some(numbers) = self.closed(day, &cell) {
                numbers.adjustment += cell.clicks;
            }
        }
        if let Some(handed) = self.days.get_mut(&day) {
            *handed = Handed::Given;
        }
    }

    /// A closed day cannot be read; `detail` is for people.
    pub fn miss_day(&mut self, day: Day, detail: String) {
        if let Some(handed) = self.days.get_mut(&day) {
            *handed = Handed::Missing(detail);
        }
    }

    /// Hands over a partition's live counts. Those of days that batch owns are only compared with.
    pub fn give_live(&mut self, partition: &PartitionId, live: Live<'_>) {
        if !self.knows(partition, live.meta, live.is_in_doubt) {
            return;
        }
        for (key, clicks) in live.counts {
            let Some((slot, into)) = self.takes(key.minute.start(), live.meta) else { continue };
            if let Some(numbers) = self.sums.of(Some(&key.ad), slot) {
                *into(numbers) += clicks;
            }
        }
        for (key, clicks) in live.late {
            let Some(slot) = self.takes_late(key.count.minute.start(), key.night) else { continue };
            if let Some(numbers) = self.sums.of(Some(&key.count.ad), slot) {
                numbers.late_pending += clicks;
            }
        }
    }

    /// The same of counts that are held in memory.
    pub fn give_held(&mut self, partition: &PartitionId, Held { meta, is_in_doubt, columns }: Held<'_>) {
        if !self.knows(partition, meta, is_in_doubt) {
            return;
        }
        let mut targets = self.sums.targets(columns);
        for (start, column) in columns.live(self.range) {
            if let Some((slot, into)) = self.takes(start, meta) {
                self.sums.add(column, columns, &mut targets, slot, into);
            }
        }
        for (night, start, column) in columns.late(self.range) {
            if let Some(slot) = self.takes_late(start, night) {
                self.sums.add(column, columns, &mut targets, slot, |numbers| &mut numbers.late_pending);
            }
        }
    }

    /// Notes where a partition stands, if it was asked for.
    fn knows(&mut self, partition: &PartitionId, meta: &Meta, is_in_doubt: bool) -> bool {
        let found = self.partitions.iter_mut().find(|found| found.id == *partition);
        let known = found.map(|found| {
            found.status = Status::Known(Box::new(meta.clone()));
            found.is_in_doubt = is_in_doubt;
        });
        known.is_some()
    }

    /// Where the live counts of a minute belong, if anywhere.
    fn takes(&self, start: Timestamp, meta: &Meta) -> Option<(usize, Field)> {
        let slot = self.slot(start)?;
        // What is left below the base day is not all of it.
        let whole = start.day() >= meta.base_day;
        match self.slots[slot].source {
            Source::Speed if whole => Some((slot, |numbers| &mut numbers.clicks)),
            Source::Batch if whole && !self.sums.ranked => Some((slot, |numbers| &mut numbers.last_live)),
            Source::Batch | Source::Speed | Source::None | Source::Mixed => None,
        }
    }

    /// Where the late counts of a minute and a night belong, if they are pending.
    fn takes_late(&self, start: Timestamp, night: Day) -> Option<usize> {
        let slot = self.slot(start)?;
        let pending = match self.slots[slot].source {
            // Every night moves the cut of every closed day, changed or not; what is late for a day before the first one
            // becomes an adjustment.
            Source::Batch | Source::None => night >= self.next_night,
            Source::Speed | Source::Mixed => true,
        };
        pending.then_some(slot)
    }

    /// A partition gave no live counts.
    pub fn miss_live(&mut self, partition: &PartitionId, missing: Missing) {
        if let Some(found) = self.partitions.iter_mut().find(|p| p.id == *partition) {
            found.status = Status::Missing(missing);
        }
    }

    /// The answer by period.
    pub fn answer(self) -> Answer {
        let pieces: Vec<Vec<PeriodAnswer>> = (0..self.sums.names.len()).map(|n| self.pieces(n)).collect();
        let mut standing = self.standing();
        let mut at = 0;
        for (segment, (_, slots)) in standing.segments.iter_mut().zip(segments(&self.slots)) {
            segment.split = Some(Split::of(pieces.iter().flat_map(|pieces| &pieces[at..at + slots])));
            at += slots;
        }
        let series = self.sums.names.iter().zip(pieces);
        let series = series.map(|(ad, pieces)| Series { ad: ad.clone(), periods: self.periods(pieces) }).collect();
        Answer { standing, series }
    }

    fn closed(&mut self, day: Day, cell: &Cell<'_>) -> Option<&mut Numbers> {
        let slot = self.slot(cell.start)?;
        // A night's adjustments hold rows of other days, too.
        (cell.start.day() == day && self.slots[slot].source == Source::Batch).then_some(())?;
        self.sums.of(cell.ad, slot)
    }

    fn slot(&self, time: Timestamp) -> Option<usize> {
        if !self.range.contains(time) {
            return None;
        }
        match self.slot_width {
            Some(width) => Some((time.since(self.range.start).as_millis() / width.as_millis()) as usize),
            None => self.slots.partition_point(|slot| slot.period.start <= time).checked_sub(1),
        }
    }

    /// Periods out of their pieces.
    fn periods(&self, pieces: Vec<PeriodAnswer>) -> Vec<PeriodAnswer> {
        // Most often each is a period.
        if pieces.len() == self.periods.len() {
            return pieces;
        }
        let mut rest = &pieces[..];
        let periods = self.periods.iter().map(|(period, count)| {
            let these;
            (these, rest) = rest.split_at(*count);
            whole(*period, these)
        });
        periods.collect()
    }

    fn pieces(&self, series: usize) -> Vec<PeriodAnswer> {
        let numbers = &self.sums.numbers[series * self.sums.width..][..self.slots.len()];
        self.slots.iter().zip(numbers).map(|(slot, numbers)| self.piece(series, slot, *numbers)).collect()
    }

    fn piece(&self, series: usize, slot: &Slot, numbers: Numbers) -> PeriodAnswer {
        let late_known = self.late_known(Some(series), std::slice::from_ref(slot));
        let (known, complete) = match slot.source {
            Source::None | Source::Mixed => (true, true),
            Source::Batch => {
                let day = slot.period.start.day();
                let given = self.days.get(&day) == Some(&Handed::Given);
                (given, given && !self.lossy.contains_key(&day))
            }
            Source::Speed => self.live_standing(series, slot),
        };
        let all_live = slot.source == Source::Batch && self.all_stored(series, slot);
        PeriodAnswer {
            start: slot.period.start,
            end: slot.period.end,
            clicks: known.then_some(numbers.clicks),
            adjustment: known.then_some(numbers.adjustment),
            total: known.then_some(numbers.clicks + numbers.adjustment),
            late_pending: late_known.then_some(numbers.late_pending),
            last_live: all_live.then_some(numbers.last_live),
            late: (known && slot.source == Source::Batch).then_some(numbers.late),
            source: slot.source,
            state: slot.state,
            revision: slot.revision,
            complete,
        }
    }
}

/// What was lost of a closed day before it was archived, if it was published all the same.
fn lost(books: &Books, day: Day) -> Option<String> {
    let objections = &books.day(day)?.accepted.as_ref()?.objections;
    let gaps: Vec<_> = objections.iter().filter(|objection| objection.check == Check::Gap).cloned().collect();
    (!gaps.is_empty()).then(|| Objection::list(&gaps))
}
