//! The books: what the ledger says when all its entries are applied in order. The only source of what is closed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::id::{Region, TopicId};
use crate::ledger::{Body, DayRevision, Entry, FileRef, Genesis, Night, TopicLife};
use crate::position::{Offset, PartitionId};
use crate::rules::{RulesBook, RulesError};
use crate::tables::EntryNumber;
use crate::time::Day;

/// How far a period can be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PeriodState {
    /// Not closed: the speed layer answers.
    Live,
    /// Published, may be restated by one of the next nights.
    Closed,
    /// Will not be restated; clicks found later become adjustments.
    Final,
    /// Final, and at least one adjustment was published.
    Adjusted,
}

impl PeriodState {
    pub const fn name(self) -> &'static str {
        match self {
            PeriodState::Live => "live",
            PeriodState::Closed => "closed",
            PeriodState::Final => "final",
            PeriodState::Adjusted => "adjusted",
        }
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
    pub adjustments: Vec<DayAdjustment>,
}

impl DayBook {
    pub fn state(&self) -> PeriodState {
        match (self.is_final, self.adjustments.is_empty()) {
            (false, _) => PeriodState::Closed,
            (true, true) => PeriodState::Final,
            (true, false) => PeriodState::Adjusted,
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
    /// Topic lives that were over before the cut of this night, see [`Books::last_day_of`].
    overtaken: BTreeMap<(Region, TopicId), Day>,
    cuts: BTreeMap<PartitionId, Offset>,
    last_night: Option<Day>,
    days: BTreeMap<Day, DayBook>,
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
    #[error("ledger entry {entry}: topic {topic} is known already")]
    KnownTopic { entry: EntryNumber, topic: TopicId },
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
        Ok(Books {
            head: 0,
            head_hash: hash,
            first_day: *first_day,
            rules: RulesBook::new(rules.clone()).map_err(|source| BooksError::Rules { entry: 0, source })?,
            lives: Vec::new(),
            overtaken: BTreeMap::new(),
            cuts: BTreeMap::new(),
            last_night: None,
            days: BTreeMap::new(),
            early: BTreeMap::new(),
        })
    }

    /// Applies the next entry, or refuses it and changes nothing.
    pub fn apply(&mut self, entry: &Entry, hash: String) -> Result<(), BooksError> {
        if entry.number != self.head + 1 {
            return Err(BooksError::NotConsecutive { head: self.head, found: entry.number });
        }
        if entry.previous != self.head_hash {
            return Err(BooksError::BrokenChain(entry.number));
        }
        match &entry.body {
            Body::Genesis(_) => return Err(BooksError::Genesis(entry.number)),
            Body::Topic(life) => self.apply_topic(entry.number, life)?,
            Body::Rules(change) => {
                self.rules
                    .add(change.effective, change.rules.clone())
                    .map_err(|source| BooksError::Rules { entry: entry.number, source })?;
            }
            Body::Night(night) => self.apply_night(entry.number, night)?,
        }
        self.head = entry.number;
        self.head_hash = hash;
        Ok(())
    }

    fn apply_topic(&mut self, entry: EntryNumber, life: &TopicLife) -> Result<(), BooksError> {
        let known = |other: &&TopicLife| other.region == life.region && other.topic_id == life.topic_id;
        if self.lives.iter().find(known).is_some() {
            return Err(BooksError::KnownTopic { entry, topic: life.topic_id });
        }
        self.lives.push(life.clone());
        Ok(())
    }

    fn apply_night(&mut self, entry: EntryNumber, night: &Night) -> Result<(), BooksError> {
        self.check_night(entry, night)?;
        for revision in &night.days {
            let book = DayBook { revision: revision.clone(), entry, is_final: false, adjustments: Vec::new() };
            self.days.insert(revision.day, book);
        }
        for day in &night.finals {
            if let Some(book) = self.days.get_mut(day) {
                book.is_final = true;
            }
        }
        if let Some(adjustments) = &night.adjustments {
            for (day, clicks) in &adjustments.clicks {
                let of_day = match self.days.get_mut(day) {
                    Some(book) => &mut book.adjustments,
                    None => self.early.entry(*day).or_default(),
                };
                of_day.push(DayAdjustment { night: night.night, clicks: *clicks, file: adjustments.file.clone() });
            }
        }
        self.cuts.extend(night.cuts.iter().map(|(partition, cut)| (partition.clone(), *cut)));
        self.note_overtaken(night.night);
        self.last_night = Some(night.night);
        Ok(())
    }

    /// A life in use has a record in every partition within seconds: heartbeats. Where a later life has some before the
    /// night's cut, the ones before it were over by then.
    fn note_overtaken(&mut self, night: Day) {
        let begun =
            |life: &TopicLife| partitions_of(life).all(|id| self.cuts.get(&id).is_some_and(|cut| *cut > Offset::ZERO));
        for (n, life) in self.lives.iter().enumerate() {
            if self.lives[n + 1..].iter().any(|later| later.region == life.region && begun(later)) {
                self.overtaken.entry((life.region.clone(), life.topic_id)).or_insert(night);
            }
        }
    }

    fn check_night(&self, entry: EntryNumber, night: &Night) -> Result<(), BooksError> {
        if night.night != self.next_night() {
            return Err(BooksError::NightOutOfOrder { entry, found: night.night, expected: self.next_night() });
        }
        for (partition, before) in &self.cuts {
            match night.cuts.get(partition) {
                Some(found) if found >= before => {}
                found => {
                    let found = found.copied().unwrap_or_default();
                    return Err(BooksError::CutWentBack {
                        entry,
                        partition: partition.clone(),
                        before: *before,
                        found,
                    });
                }
            }
        }
        for revision in &night.days {
            let before = self.days.get(&revision.day).map_or(0, |book| book.revision.revision);
            if revision.revision != before + 1 {
                return Err(BooksError::Revision { entry, day: revision.day, found: revision.revision, before });
            }
            let state = self.state(revision.day);
            if !(state == PeriodState::Closed || revision.day == night.night) {
                return Err(BooksError::WrongState { entry, day: revision.day, state: state.name() });
            }
        }
        let closes_itself = night.days.iter().any(|revision| revision.day == night.night);
        if !closes_itself {
            return Err(BooksError::WrongState { entry, day: night.night, state: "left out" });
        }
        let adjusted = night.adjustments.iter().flat_map(|a| a.clicks.keys());
        for day in adjusted {
            if !matches!(self.state(*day), PeriodState::Final | PeriodState::Adjusted) {
                return Err(BooksError::WrongState { entry, day: *day, state: self.state(*day).name() });
            }
        }
        for day in &night.finals {
            if self.state(*day) != PeriodState::Closed {
                return Err(BooksError::WrongState { entry, day: *day, state: self.state(*day).name() });
            }
        }
        Ok(())
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
        self.last_night
    }

    /// The night that must be published next; also the first day that is not closed.
    pub fn next_night(&self) -> Day {
        self.last_night.map_or(self.first_day, Day::next)
    }

    pub fn state(&self, day: Day) -> PeriodState {
        match self.days.get(&day) {
            Some(book) => book.state(),
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
    /// Days that night `night` makes final: closed at least its finality before.
    pub fn finals_of(&self, night: Day) -> Vec<Day> {
        let settled = |day: &Day| night.number() - day.number() >= self.rules.on(*day).finality_days as i32;
        self.open_days().into_iter().filter(settled).collect()
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
