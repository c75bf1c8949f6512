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
    let forged = Entry::new(2, "other".to_owned(), Body::Night(Box::new(night(2, 20, vec![revision(2, 1)], vec![]))));
    assert_eq!(chain.books.apply(&forged, "h2".to_owned()), Err(BooksError::BrokenChain(2)));
    let jump = Entry::new(3, "h1".to_owned(), Body::Night(Box::new(night(2, 20, vec![revision(2, 1)], vec![]))));
    assert!(matches!(chain.books.apply(&jump, "h3".to_owned()), Err(BooksError::NotConsecutive { .. })), "scenario 28");
}

/// The ledger does not say where an ended topic life ends; the first cut that its successor has records below does.
#[test]
fn an_ended_life_is_over_once_a_night_finds_its_successor_at_work() {
    let life = |id: u128| TopicLife {
        region: partition().region,
        topic_id: TopicId::from_u128(id),
        name: "clicks".to_owned(),
        partitions: 1,
    };
    let mut chain = Chain::new();
    let cut = |id, offset| (PartitionId { topic: TopicId::from_u128(id), ..partition() }, Offset::new(offset));
    let close = |chain: &mut Chain, n, cuts: &[(PartitionId, Offset)]| {
        let cuts = cuts.iter().cloned().collect();
        chain.night(Night { cuts, ..night(n, 0, vec![revision(n, 1)], vec![]) }).unwrap();
    };
    chain.add(Body::Topic(life(1))).unwrap();
    close(&mut chain, 1, &[cut(1, 10)]);
    chain.add(Body::Topic(life(2))).unwrap();
    // A night of before the change that was run after it: the old life goes on behind its cut.
    close(&mut chain, 2, &[cut(1, 20), cut(2, 0)]);
    assert_eq!([1, 2].map(|id| chain.books.last_day_of(&life(id))), [None, None]);
    close(&mut chain, 3, &[cut(1, 25), cut(2, 7)]);
    // It may have ended within the lateness that the night waits, on day 4.
    assert_eq!([1, 2].map(|id| chain.books.last_day_of(&life(id))), [Some(day(4)), None]);
    // Two lives end at once, one of them without a record.
    chain.add(Body::Topic(life(3))).unwrap();
    chain.add(Body::Topic(life(4))).unwrap();
    close(&mut chain, 4, &[cut(1, 25), cut(2, 9), cut(3, 0), cut(4, 1)]);
    let lasts = [1, 2, 3, 4].map(|id| chain.books.last_day_of(&life(id)));
    assert_eq!(lasts, [Some(day(4)), Some(day(5)), Some(day(5)), None]);
}
