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
        self.last_night = Some(night.night);
        Ok(())
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
mod tests {
    use super::*;
    use crate::ledger::{Adjustments, Balance, DayTotals};
    use crate::rules::Rules;
    use crate::time::Timestamp;

    fn day(n: i32) -> Day {
        "2026-03-01".parse::<Day>().unwrap().plus(n - 1)
    }

    fn file() -> FileRef {
        FileRef { key: "k".to_owned(), sha256: "h".to_owned(), bytes: 1, rows: 1 }
    }

    fn partition() -> PartitionId {
        PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(1), number: 0 }
    }

    fn revision(n: i32, revision: u32) -> DayRevision {
        DayRevision {
            day: day(n),
            revision,
            rules_version: 1,
            minute: file(),
            hour: file(),
            day_file: file(),
            totals: DayTotals::default(),
        }
    }

    fn night(n: i32, cut: u64, days: Vec<DayRevision>, finals: Vec<Day>) -> Night {
        Night {
            night: day(n),
            published_at: Timestamp::EPOCH,
            release: "test".to_owned(),
            cuts: BTreeMap::from([(partition(), Offset::new(cut))]),
            days,
            confirmed: Vec::new(),
            finals,
            adjustments: None,
            inputs: file(),
            balance: Balance::default(),
        }
    }

    struct Chain {
        books: Books,
    }

    impl Chain {
        fn new() -> Self {
            let genesis =
                Entry::new(0, String::new(), Body::Genesis(Genesis { first_day: day(1), rules: Rules::default() }));
            Chain { books: Books::open(&genesis, "h0".to_owned()).unwrap() }
        }
        fn add(&mut self, body: Body) -> Result<(), BooksError> {
            let entry = Entry::new(self.books.head() + 1, self.books.head_hash().to_owned(), body);
            self.books.apply(&entry, format!("h{}", entry.number))
        }
        fn night(&mut self, night: Night) -> Result<(), BooksError> {
            self.add(Body::Night(Box::new(night)))
        }
    }

    #[test]
    fn a_day_lives_closes_becomes_final_and_is_adjusted() {
        let mut chain = Chain::new();
        assert_eq!(chain.books.state(day(0)), PeriodState::Final, "before the first day");
        assert_eq!(chain.books.state(day(1)), PeriodState::Live);
        chain.night(night(1, 10, vec![revision(1, 1)], vec![])).unwrap();
        assert_eq!(chain.books.state(day(1)), PeriodState::Closed);
        chain.night(night(2, 20, vec![revision(1, 2), revision(2, 1)], vec![])).unwrap();
        chain.night(night(3, 30, vec![revision(3, 1)], vec![])).unwrap();
        assert_eq!(chain.books.finals_of(day(4)), [day(1)]);
        chain.night(night(4, 40, vec![revision(4, 1)], vec![day(1)])).unwrap();
        assert_eq!(chain.books.state(day(1)), PeriodState::Final);
        assert_eq!(chain.books.open_days(), [day(2), day(3), day(4)]);
        let mut fifth = night(5, 50, vec![revision(5, 1)], vec![day(2)]);
        fifth.adjustments = Some(Adjustments { file: file(), clicks: BTreeMap::from([(day(1), 3)]) });
        chain.night(fifth).unwrap();
        assert_eq!(chain.books.state(day(1)), PeriodState::Adjusted);
        assert_eq!(chain.books.through()[&partition()], Offset::new(50));
    }

    /// Scenario 21: the first archived day holds a click of five days before.
    #[test]
    fn a_click_from_before_the_first_day_adjusts_a_day_that_is_final_and_empty() {
        let mut chain = Chain::new();
        let mut first = night(1, 10, vec![revision(1, 1)], vec![]);
        first.adjustments = Some(Adjustments { file: file(), clicks: BTreeMap::from([(day(-4), 1)]) });
        chain.night(first).unwrap();
        assert_eq!(chain.books.state(day(-4)), PeriodState::Adjusted);
        assert_eq!(chain.books.state(day(-3)), PeriodState::Final);
        assert!(chain.books.day(day(-4)).is_none(), "it was never opened");
        assert_eq!(chain.books.adjustments(day(-4)).iter().map(|a| a.clicks).collect::<Vec<_>>(), [1]);
        assert_eq!(chain.books.early_days().collect::<Vec<_>>(), [day(-4)]);
        assert_eq!(chain.books.open_days(), [day(1)]);
        let mut second = night(2, 20, vec![revision(2, 1)], vec![]);
        second.adjustments = Some(Adjustments { file: file(), clicks: BTreeMap::from([(day(1), 1)]) });
        assert!(chain.night(second).is_err(), "day 1 is open: its late clicks belong into its next revision");
    }

    #[test]
    fn what_contradicts_the_books_is_refused_and_changes_nothing() {
        let mut chain = Chain::new();
        chain.night(night(1, 10, vec![revision(1, 1)], vec![])).unwrap();
        let before = chain.books.clone();
        let out_of_order = night(3, 20, vec![revision(3, 1)], vec![]);
        let cut_back = night(2, 9, vec![revision(2, 1)], vec![]);
        let skipped = night(2, 20, vec![revision(2, 1), revision(1, 3)], vec![]);
        let not_itself = night(2, 20, vec![revision(1, 2)], vec![]);
        let mut adjusts_open = night(2, 20, vec![revision(2, 1)], vec![]);
        adjusts_open.adjustments = Some(Adjustments { file: file(), clicks: BTreeMap::from([(day(1), 3)]) });
        for bad in [out_of_order, cut_back, skipped, not_itself, adjusts_open] {
            assert!(chain.night(bad.clone()).is_err(), "{bad:?}");
            assert_eq!(chain.books, before);
        }
        let forged =
            Entry::new(2, "other".to_owned(), Body::Night(Box::new(night(2, 20, vec![revision(2, 1)], vec![]))));
        assert_eq!(chain.books.apply(&forged, "h2".to_owned()), Err(BooksError::BrokenChain(2)));
        let jump = Entry::new(3, "h1".to_owned(), Body::Night(Box::new(night(2, 20, vec![revision(2, 1)], vec![]))));
        assert!(
            matches!(chain.books.apply(&jump, "h3".to_owned()), Err(BooksError::NotConsecutive { .. })),
            "scenario 28"
        );
    }
}
