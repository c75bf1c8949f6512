use super::*;
use crate::ledger::{Adjustments, Balance, Check, DayTotals, Epoch, Night, PeriodChange, Recount, Withheld};
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
        change: None,
    }
}

fn night(n: i32, cut: u64, days: Vec<DayRevision>, finals: Vec<Day>) -> Night {
    Night {
        night: day(n),
        published_at: Timestamp::EPOCH,
        release: "test".to_owned(),
        cuts: BTreeMap::from([(partition(), Offset::new(cut))]),
        days,
        withheld: None,
        accepted: None,
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
    fn period(&mut self, n: i32, action: PeriodAction) -> Result<(), BooksError> {
        let (actor, reason) = ("ann".to_owned(), "because".to_owned());
        self.add(Body::Period(PeriodChange { day: day(n), action, actor, reason, at: Timestamp::EPOCH }))
    }
    fn recount(&mut self, n: i32, number: u32, at: i32, absorbs: &[i32]) -> Result<(), BooksError> {
        self.add(Body::Recount(Box::new(Recount {
            day: revision(n, number),
            night: day(at),
            published_at: Timestamp::EPOCH,
            release: "test".to_owned(),
            absorbs: absorbs.iter().map(|n| day(*n)).collect(),
            accepted: None,
            inputs: file(),
            balance: Balance::default(),
        })))
    }
    fn states(&self, days: std::ops::RangeInclusive<i32>) -> Vec<&'static str> {
        days.map(|n| self.books.state(day(n)).name()).collect()
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

fn objection(check: Check) -> Objection {
    Objection { check, detail: "odd".to_owned() }
}

#[test]
fn a_person_brings_final_forward_delays_it_and_permits_one_more_revision() {
    use PeriodAction::{Approve, Hold, Reopen};
    let mut chain = Chain::new();
    assert!(chain.period(1, Hold).is_err(), "a live day has nothing to hold");
    chain.night(night(1, 10, vec![revision(1, 1)], vec![])).unwrap();
    chain.night(night(2, 20, vec![revision(2, 1)], vec![])).unwrap();
    chain.period(1, Hold).unwrap();
    chain.period(2, Approve).unwrap();
    assert_eq!(chain.states(0..=3), ["final", "closed", "final", "live"]);
    for (n, action) in [(0, Reopen), (1, Hold), (1, Reopen), (2, Approve), (2, Hold), (3, Approve)] {
        let before = chain.books.clone();
        assert!(matches!(chain.period(n, action), Err(BooksError::Period { .. })), "{action:?} of day {n}");
        assert_eq!(chain.books, before);
    }
    for n in 3..=6 {
        assert!(!chain.books.finals_of(day(n)).contains(&day(1)), "it is held");
        let refused = chain.night(night(n, 10 * n as u64, vec![revision(n, 1)], vec![day(1)]));
        assert!(refused.is_err(), "a night cannot end what a person holds");
        // A further revision does not end it either.
        let days = vec![revision(1, n as u32 - 1), revision(n, 1)];
        chain.night(night(n, 10 * n as u64, days, vec![])).unwrap();
    }
    chain.period(1, Approve).unwrap();
    let mut seventh = night(7, 70, vec![revision(7, 1)], vec![]);
    seventh.adjustments = Some(Adjustments { file: file(), clicks: BTreeMap::from([(day(1), 3), (day(2), 1)]) });
    chain.night(seventh).unwrap();
    assert_eq!(chain.states(1..=2), ["adjusted", "adjusted"]);
    assert!(chain.recount(1, 6, 7, &[7]).is_err(), "it is not reopened");
    chain.period(1, Reopen).unwrap();
    assert!(chain.period(1, Reopen).is_err(), "once is enough");
    // It goes on as it was until the recount, adjustments included.
    let mut eighth = night(8, 80, vec![revision(8, 1)], vec![]);
    eighth.adjustments = Some(Adjustments { file: file(), clicks: BTreeMap::from([(day(1), 2)]) });
    chain.night(eighth).unwrap();
    assert_eq!((chain.books.state(day(1)), chain.books.adjustments(day(1)).len()), (PeriodState::Reopened, 2));
    for (number, at, absorbs) in [(5, 8, vec![7, 8]), (6, 7, vec![7, 8]), (6, 8, vec![7]), (6, 8, vec![])] {
        assert!(chain.recount(1, number, at, &absorbs).is_err(), "revision {number} at {at}, absorbing {absorbs:?}");
    }
    chain.recount(1, 6, 8, &[7, 8]).unwrap();
    assert_eq!((chain.books.state(day(1)), chain.books.adjustments(day(1)).len()), (PeriodState::Final, 0));
    let deeds: Vec<_> = chain.books.notes(day(1)).iter().map(|note| note.deed.name()).collect();
    assert_eq!(deeds, ["hold", "approve", "reopen"]);
}

#[test]
fn a_withheld_day_is_nobodys_until_it_is_recounted_and_becomes_final_only_after_another_night() {
    let mut chain = Chain::new();
    chain.night(night(1, 10, vec![revision(1, 1)], vec![])).unwrap();
    let withheld = Some(Withheld { objections: vec![objection(Check::Gap)] });
    let both = Night { withheld: withheld.clone(), ..night(2, 20, vec![revision(2, 1)], vec![]) };
    assert!(chain.night(both).is_err());
    chain.night(Night { withheld, ..night(2, 20, vec![], vec![]) }).unwrap();
    assert_eq!((chain.states(1..=3), chain.books.next_night()), (vec!["closed", "withheld", "live"], day(3)));
    for n in 3..=6 {
        let mut next = night(n, 10 * n as u64, vec![revision(n, 1)], vec![]);
        assert!(!chain.books.open_days().contains(&day(2)));
        next.adjustments = Some(Adjustments { file: file(), clicks: BTreeMap::from([(day(2), 1)]) });
        assert!(chain.night(next.clone()).is_err(), "its late clicks are nobody's before the recount");
        chain.night(Night { adjustments: None, ..next }).unwrap();
    }
    assert!(chain.period(2, PeriodAction::Approve).is_err());
    assert!(chain.recount(2, 2, 6, &[]).is_err(), "its first revision is the first");
    chain.recount(2, 1, 6, &[]).unwrap();
    assert_eq!(chain.books.state(day(2)), PeriodState::Closed);
    assert!(chain.books.finals_of(day(7)).contains(&day(2)));
    assert!(chain.books.withheld().is_empty());
}

#[test]
fn who_accepted_a_day_stays_with_it_whatever_revision_follows() {
    let mut chain = Chain::new();
    let objections = vec![objection(Check::Gap)];
    let accepted = Acceptance { actor: "ann".to_owned(), reason: "gone for ever".to_owned(), objections };
    chain.night(Night { accepted: Some(accepted.clone()), ..night(1, 10, vec![revision(1, 1)], vec![]) }).unwrap();
    chain.night(night(2, 20, vec![revision(1, 2), revision(2, 1)], vec![])).unwrap();
    assert_eq!(chain.books.day(day(1)).unwrap().accepted, Some(accepted));
    assert_eq!(chain.books.day(day(2)).unwrap().accepted, None);
    let notes = chain.books.notes(day(1));
    assert_eq!((notes.len(), notes[0].deed, notes[0].entry), (1, Deed::Accept, 1));
}

/// Scenario 23: partitions grow from 8 to 16 while running.
#[test]
fn a_topic_life_grows_on_purpose_only_and_keys_are_looked_for_by_each_count() {
    let partitions = |n: u32| Epoch { region: partition().region, topic_id: TopicId::from_u128(1), partitions: n };
    let mut chain = Chain::new();
    assert!(matches!(chain.add(Body::Epoch(partitions(16))), Err(BooksError::UnknownTopic { .. })));
    let life = TopicLife {
        region: partition().region,
        topic_id: TopicId::from_u128(1),
        name: "clicks".to_owned(),
        partitions: 8,
    };
    chain.add(Body::Topic(life.clone())).unwrap();
    for n in [4, 8] {
        assert!(matches!(chain.add(Body::Epoch(partitions(n))), Err(BooksError::Partitions { .. })));
    }
    chain.add(Body::Epoch(partitions(16))).unwrap();
    let grown = chain.books.current_life(&life.region).unwrap().clone();
    assert_eq!(chain.books.partition_counts(&grown).collect::<Vec<_>>(), [8, 16]);
    assert_eq!(chain.books.partitions().len(), 16);
    // Of a life that has ended nothing grows any more.
    chain.add(Body::Topic(TopicLife { topic_id: TopicId::from_u128(2), ..life })).unwrap();
    assert!(chain.add(Body::Epoch(partitions(32))).is_err());
}
