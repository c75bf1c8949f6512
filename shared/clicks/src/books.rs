//! The books: what the ledger says when all its entries are applied in order. The only source of what is closed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{Region, TopicId};
use crate::ledger::{Acceptance, Body, DayRevision, Entry, FileRef, Genesis, Objection, PeriodAction, TopicLife};
use crate::position::{Offset, PartitionId};
use crate::rules::{RulesBook, RulesError};
use crate::tables::EntryNumber;
use crate::time::{Day, Timestamp};

mod apply;

/// How far a period can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeriodState {
    /// Not closed: the speed layer answers.
    Live,
    /// Its night has come, but it was left out: nobody answers.
    Withheld,
    /// Published, may be restated by one of the next nights.
    Closed,
    /// Will not be restated; clicks found later become adjustments.
    Final,
    /// Final, and at least one adjustment was published.
    Adjusted,
    /// As before, and a person has permitted one more revision, which is not published yet.
    Reopened,
}

impl PeriodState {
    pub const ALL: [PeriodState; 6] = [
        PeriodState::Live,
        PeriodState::Withheld,
        PeriodState::Closed,
        PeriodState::Final,
        PeriodState::Adjusted,
        PeriodState::Reopened,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            PeriodState::Live => "live",
            PeriodState::Withheld => "withheld",
            PeriodState::Closed => "closed",
            PeriodState::Final => "final",
            PeriodState::Adjusted => "adjusted",
            PeriodState::Reopened => "reopened",
        }
    }

    /// How little a number of this state will change: a period of several days has the least of theirs.
    pub const fn settledness(self) -> u8 {
        match self {
            PeriodState::Live => 0,
            PeriodState::Withheld => 1,
            PeriodState::Reopened => 2,
            PeriodState::Closed => 3,
            PeriodState::Adjusted => 4,
            PeriodState::Final => 5,
        }
    }

    /// What is found of such a day is an adjustment: its revision does not change with the nights.
    pub const fn is_settled(self) -> bool {
        matches!(self, PeriodState::Final | PeriodState::Adjusted | PeriodState::Reopened)
    }
}

/// Adjustments of one night to one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayAdjustment {
    pub night: Day,
    pub clicks: u64,
    /// Rows of all days that the night adjusts.
    pub file: FileRef,
}

/// One closed day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayBook {
    pub revision: DayRevision,
    /// The entry that published the revision.
    pub entry: EntryNumber,
    pub is_final: bool,
    /// Does not become final by itself.
    pub is_held: bool,
    /// May be published once more.
    pub is_reopened: bool,
    pub adjustments: Vec<DayAdjustment>,
    /// Who published the day although checks spoke against it: for ever, whatever revision follows.
    pub accepted: Option<Acceptance>,
}

impl DayBook {
    pub fn state(&self) -> PeriodState {
        match (self.is_final, self.adjustments.is_empty()) {
            _ if self.is_reopened => PeriodState::Reopened,
            (false, _) => PeriodState::Closed,
            (true, true) => PeriodState::Final,
            (true, false) => PeriodState::Adjusted,
        }
    }
}

/// A day that its night has left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithheldDay {
    /// The entry of its night.
    pub entry: EntryNumber,
    pub objections: Vec<Objection>,
}

/// What a person has done to a day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    pub entry: EntryNumber,
    pub deed: Deed,
    pub actor: String,
    pub reason: String,
    /// Milliseconds when serialised.
    pub at: Timestamp,
}

/// See [`Note`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Deed {
    Approve,
    Hold,
    Reopen,
    /// Published over the objections of checks.
    Accept,
}

impl Deed {
    pub const fn name(self) -> &'static str {
        match self {
            Deed::Approve => PeriodAction::Approve.name(),
            Deed::Hold => PeriodAction::Hold.name(),
            Deed::Reopen => PeriodAction::Reopen.name(),
            Deed::Accept => "accept",
        }
    }
}

/// The fold of the ledger up to one position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Books {
    head: EntryNumber,
    head_hash: String,
    first_day: Day,
    rules: RulesBook,
    lives: Vec<TopicLife>,
    /// Partition counts that a topic life had before it grew, oldest first.
    grown: BTreeMap<(Region, TopicId), Vec<u32>>,
    /// Topic lives that were over before the cut of this night, see [`Books::last_day_of`].
    overtaken: BTreeMap<(Region, TopicId), Day>,
    cuts: BTreeMap<PartitionId, Offset>,
    /// The last night and its entry.
    last_night: Option<(Day, EntryNumber)>,
    days: BTreeMap<Day, DayBook>,
    withheld: BTreeMap<Day, WithheldDay>,
    notes: BTreeMap<Day, Vec<Note>>,
    /// Adjustments of days before the first day: those are final and empty, and have no revision.
    early: BTreeMap<Day, Vec<DayAdjustment>>,
}

/// A ledger that contradicts itself. Nothing is published or answered on top of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BooksError {
    #[error("ledger entry {found} follows entry {head}; entry {} is missing", head + 1)]
    NotConsecutive { head: EntryNumber, found: EntryNumber },
    #[error("ledger entry {0} does not hold the hash of the entry before it: one of the two was changed")]
    BrokenChain(EntryNumber),
    #[error("ledger entry {0} is of a kind that may only stand first, or the first entry is none of that kind")]
    Genesis(EntryNumber),
    #[error("ledger entry {entry} closes {found} where {expected} is next")]
    NightOutOfOrder { entry: EntryNumber, found: Day, expected: Day },
    #[error("ledger entry {entry}: revision {found} of {day} follows revision {before}")]
    Revision { entry: EntryNumber, day: Day, found: u32, before: u32 },
    #[error("ledger entry {entry}: the cut of {partition} goes back from {before} to {found}")]
    CutWentBack { entry: EntryNumber, partition: PartitionId, before: Offset, found: Offset },
    #[error("ledger entry {entry}: {day} is {state} and cannot change in this way")]
    WrongState { entry: EntryNumber, day: Day, state: &'static str },
    #[error("ledger entry {entry}: {day} is {}, it cannot {action}; {mend}", .state.name())]
    Period { entry: EntryNumber, day: Day, state: PeriodState, action: &'static str, mend: &'static str },
    #[error("ledger entry {entry}: {day} was counted at night {found}, the last night is {last:?}")]
    NotAtTheLastNight { entry: EntryNumber, day: Day, found: Day, last: Option<Day> },
    #[error("ledger entry {entry}: the recount of {day} does not name the nights whose adjustments it absorbs")]
    Absorbs { entry: EntryNumber, day: Day },
    #[error("ledger entry {entry}: topic {topic} is known already")]
    KnownTopic { entry: EntryNumber, topic: TopicId },
    #[error("ledger entry {entry}: no topic {topic} is being read, so its partitions cannot grow")]
    UnknownTopic { entry: EntryNumber, topic: TopicId },
    #[error("ledger entry {entry}: topic {topic} has {known} partitions; it can have more, not {found}")]
    Partitions { entry: EntryNumber, topic: TopicId, known: u32, found: u32 },
    #[error("ledger entry {entry}: {source}")]
    Rules { entry: EntryNumber, source: RulesError },
}

impl Books {
    /// Opens the books with entry 0; `hash` is that of its bytes.
    pub fn open(entry: &Entry, hash: String) -> Result<Self, BooksError> {
        let Body::Genesis(Genesis { first_day, rules }) = &entry.body else {
            return Err(BooksError::Genesis(entry.number));
        };
        if entry.number != 0 {
            return Err(BooksError::Genesis(entry.number));
        }
        let rules = RulesBook::new(rules.clone()).map_err(|source| BooksError::Rules { entry: 0, source })?;
        Ok(Books {
            head: 0,
            head_hash: hash,
            first_day: *first_day,
            rules: rules.with_first_night(*first_day),
            lives: Vec::new(),
            grown: BTreeMap::new(),
            overtaken: BTreeMap::new(),
            cuts: BTreeMap::new(),
            last_night: None,
            days: BTreeMap::new(),
            withheld: BTreeMap::new(),
            notes: BTreeMap::new(),
            early: BTreeMap::new(),
        })
    }

    /// Number of the last entry that was applied.
    pub fn head(&self) -> EntryNumber {
        self.head
    }
    pub fn head_hash(&self) -> &str {
        &self.head_hash
    }
    pub fn first_day(&self) -> Day {
        self.first_day
    }
    pub fn rules(&self) -> &RulesBook {
        &self.rules
    }
    pub fn last_night(&self) -> Option<Day> {
        self.last_night.map(|(night, _)| night)
    }
    /// The entry that has published the last night.
    pub fn last_night_entry(&self) -> Option<EntryNumber> {
        self.last_night.map(|(_, entry)| entry)
    }

    /// The night that must be published next; also the first day that is not closed.
    pub fn next_night(&self) -> Day {
        self.last_night().map_or(self.first_day, Day::next)
    }

    pub fn state(&self, day: Day) -> PeriodState {
        match self.days.get(&day) {
            Some(book) => book.state(),
            None if self.withheld.contains_key(&day) => PeriodState::Withheld,
            None if self.early.contains_key(&day) => PeriodState::Adjusted,
            None if day < self.first_day => PeriodState::Final,
            None => PeriodState::Live,
        }
    }

    pub fn day(&self, day: Day) -> Option<&DayBook> {
        self.days.get(&day)
    }
    pub fn days(&self) -> impl DoubleEndedIterator<Item = (Day, &DayBook)> {
        self.days.iter().map(|(day, book)| (*day, book))
    }
    /// Days that were left out by their night and not published since.
    pub fn withheld(&self) -> &BTreeMap<Day, WithheldDay> {
        &self.withheld
    }
    /// What people have done to a day, oldest first.
    pub fn notes(&self, day: Day) -> &[Note] {
        self.notes.get(&day).map_or(&[], Vec::as_slice)
    }
    /// Adjustments of a day, oldest first. A day before the first one has no [`DayBook`] but may have adjustments.
    pub fn adjustments(&self, day: Day) -> &[DayAdjustment] {
        let of_day = self.days.get(&day).map(|book| &book.adjustments).or_else(|| self.early.get(&day));
        of_day.map_or(&[], Vec::as_slice)
    }
    /// Days before the first one that have adjustments: final, empty, and adjusted.
    pub fn early_days(&self) -> impl Iterator<Item = Day> + '_ {
        self.early.keys().copied()
    }
    /// Days that are closed but not final: the next night re-checks them.
    pub fn open_days(&self) -> Vec<Day> {
        self.days.iter().filter(|(_, book)| !book.is_final).map(|(day, _)| *day).collect()
    }
    /// Days that night `night` makes final: open ones that lie at least their finality before it and are not held. The
    /// night checks them once more, at its own cut.
    pub fn finals_of(&self, night: Day) -> Vec<Day> {
        let settled = |day: &Day| night.number() - day.number() >= self.rules.on(*day).finality_days as i32;
        let held = |day: &Day| self.days.get(day).is_some_and(|book| book.is_held);
        self.open_days().into_iter().filter(|day| settled(day) && !held(day)).collect()
    }

    /// Exclusive offsets up to which every closed day's revision plus adjustments hold exactly its clicks: the cuts of
    /// the last night, because every night moves them for every closed day.
    pub fn through(&self) -> &BTreeMap<PartitionId, Offset> {
        &self.cuts
    }

    /// Every topic life, oldest first.
    pub fn lives(&self) -> &[TopicLife] {
        &self.lives
    }
    /// Every partition count that a life has had: keys lie by each of them.
    pub fn partition_counts(&self, life: &TopicLife) -> impl Iterator<Item = u32> + '_ {
        let before = self.grown.get(&(life.region.clone(), life.topic_id));
        before.into_iter().flatten().copied().chain([life.partitions])
    }
    /// The life that is being written in a region.
    pub fn current_life(&self, region: &Region) -> Option<&TopicLife> {
        self.lives.iter().rev().find(|life| life.region == *region)
    }
    pub fn has_ended(&self, life: &TopicLife) -> bool {
        self.current_life(&life.region).is_none_or(|current| current.topic_id != life.topic_id)
    }
    /// The last day that can hold live counts of a life that has ended; `None` while it has not, or while no night shows
    /// that it was over before the night's cut. From then on [`Books::through`] is the end of each of its partitions.
    pub fn last_day_of(&self, life: &TopicLife) -> Option<Day> {
        let night = self.overtaken.get(&(life.region.clone(), life.topic_id))?;
        let over = self.rules.cut_time(*night);
        let mut day = over.day();
        // Its last records were appended before the cut, their event times may lie ahead of that.
        while day.next().start() - self.rules.on(day.next()).ahead_max < over {
            day = day.next();
        }
        Some(day)
    }
    /// Every partition of every topic life.
    pub fn partitions(&self) -> Vec<PartitionId> {
        self.lives.iter().flat_map(partitions_of).collect()
    }
}

/// The partitions of one topic life.
pub fn partitions_of(life: &TopicLife) -> impl Iterator<Item = PartitionId> + '_ {
    (0..life.partitions).map(|number| PartitionId { region: life.region.clone(), topic: life.topic_id, number })
}

#[cfg(test)]
mod tests;
