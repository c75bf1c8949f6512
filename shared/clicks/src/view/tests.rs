//! Every boundary by hand.

mod oracle;
mod people;

use std::collections::BTreeMap;

use super::*;
use crate::books::Books;
use crate::event::Class;
use crate::id::{Region, TopicId};
use crate::ledger::{
    Adjustments, Balance, Body, DayRevision, DayTotals, Entry, FileRef, Genesis, Night, RulesChange, TopicLife,
};
use crate::live::{CountKey, LateKey, Meta};
use crate::partitioner::partition_of;
use crate::position::{Offset, PartitionId};
use crate::rules::{Rules, RulesBook};
use crate::window::Minute;
use crate::zone::Zone;

const PARTITIONS: u32 = 2;
const LAG_MAX: Span = Span::seconds(30);

/// Days are numbered from the first day on, which is day 1.
fn day(n: i32) -> Day {
    "2026-03-01".parse::<Day>().unwrap().plus(n - 1)
}

fn at(n: i32, hours: i64, minutes: i64) -> Timestamp {
    day(n).start() + Span::hours(hours) + Span::minutes(minutes)
}

fn range(start: Timestamp, end: Timestamp) -> Interval {
    Interval::new(start, end)
}

fn ad(name: &str) -> AdId {
    AdId::parse(name).unwrap()
}

fn file() -> FileRef {
    FileRef { key: "k".to_owned(), sha256: "h".to_owned(), bytes: 1, rows: 1 }
}

fn partition(number: u32) -> PartitionId {
    partition_of_life(1, number)
}

fn partition_of_life(id: u128, number: u32) -> PartitionId {
    PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(id), number }
}

fn home(ad: &AdId) -> u32 {
    partition_of(ad.as_str().as_bytes(), PARTITIONS)
}

/// Books with one topic life, `nights` closed days; the first `finals` of them final, the first adjusted if asked for.
fn books(nights: i32, finals: i32, adjusted: bool) -> Books {
    books_adjusting(nights, finals, adjusted.then(|| day(1)))
}

fn books_adjusting(nights: i32, finals: i32, adjusted: Option<Day>) -> Books {
    let mut chain = Chain::new(Rules::default());
    chain.life(1);
    for n in 1..=nights + i32::from(adjusted.is_some()) {
        let finals = if n == nights { (1..=finals.min(n - 1)).map(day).collect() } else { Vec::new() };
        let adjusted = adjusted.filter(|_| n > nights);
        let adjustments = adjusted.map(|day| Adjustments { file: file(), clicks: BTreeMap::from([(day, 2)]) });
        chain.night(Night { finals, adjustments, ..chain.next_night(&[]) });
    }
    chain.0
}

/// Books, entry by entry.
struct Chain(Books);

impl Chain {
    fn new(rules: Rules) -> Self {
        let genesis = Body::Genesis(Genesis { first_day: day(1), rules });
        Chain(Books::open(&Entry::new(0, String::new(), genesis), "h0".to_owned()).unwrap())
    }
    fn add(&mut self, body: Body) {
        let entry = Entry::new(self.0.head() + 1, self.0.head_hash().to_owned(), body);
        self.0.apply(&entry, format!("h{}", entry.number)).unwrap();
    }
    fn life(&mut self, id: u128) {
        let (region, topic_id) = (partition(0).region, TopicId::from_u128(id));
        self.add(Body::Topic(TopicLife { region, topic_id, name: "clicks".to_owned(), partitions: PARTITIONS }));
    }
    fn rules(&mut self, effective: Day, rules: Rules) {
        self.add(Body::Rules(RulesChange { effective, rules }));
    }
    /// The next night, each partition of these lives cut at the offset beside it.
    fn next_night(&self, cuts: &[(u128, u64)]) -> Night {
        let night = self.0.next_night();
        let revision = DayRevision {
            day: night,
            revision: 1,
            rules_version: 1,
            minute: file(),
            hour: file(),
            day_file: file(),
            totals: DayTotals::default(),
            change: None,
        };
        let partitions = cuts.iter().flat_map(|cut| (0..PARTITIONS).map(move |number| (number, cut)));
        Night {
            night,
            published_at: Timestamp::EPOCH,
            release: "test".to_owned(),
            cuts: partitions.map(|(number, (id, cut))| (partition_of_life(*id, number), Offset::new(*cut))).collect(),
            days: vec![revision],
            withheld: None,
            accepted: None,
            confirmed: Vec::new(),
            finals: Vec::new(),
            adjustments: None,
            inputs: file(),
            balance: Balance::default(),
        }
    }
    fn night(&mut self, night: Night) {
        self.add(Body::Night(Box::new(night)));
    }
}

/// All that both layers hold.
#[derive(Debug, Clone, Default)]
struct World {
    /// What is published, by closed day.
    rows: Vec<(Minute, AdId, u64)>,
    adjustments: Vec<(Minute, AdId, u64)>,
    counts: Vec<(CountKey, u64)>,
    late: Vec<(LateKey, u64)>,
    /// What became of each partition; the meta record of one that answers.
    metas: Vec<Result<Meta, Missing>>,
    in_doubt: Option<u32>,
    missing_days: Vec<Day>,
}

impl World {
    fn new(base_day: Day, append_time: Timestamp) -> Self {
        let meta = Meta { append_time, ..Meta::new(Offset::ZERO, base_day, day(-9), Offset::ZERO) };
        World { metas: vec![Ok(meta); PARTITIONS as usize], ..World::default() }
    }
    fn meta(&mut self, number: usize) -> &mut Meta {
        self.metas[number].as_mut().unwrap()
    }
    fn row(mut self, time: Timestamp, name: &str, clicks: u64) -> Self {
        self.rows.push((Minute::of(time), ad(name), clicks));
        self
    }
    fn live(mut self, time: Timestamp, name: &str, clicks: u64) -> Self {
        self.counts.push((CountKey { minute: Minute::of(time), class: Class::Valid, ad: ad(name) }, clicks));
        self
    }
    fn late(mut self, night: Day, time: Timestamp, name: &str, clicks: u64) -> Self {
        let count = CountKey { minute: Minute::of(time), class: Class::Valid, ad: ad(name) };
        self.late.push((LateKey { night, count }, clicks));
        self
    }

    fn merge(&self, books: &Books, question: Question, now: Timestamp) -> Merge {
        let mut merge = Merge::new(books, question, now, LAG_MAX).unwrap();
        for day in merge.closed_days().collect::<Vec<_>>() {
            if self.missing_days.contains(&day) {
                merge.miss_day(day, "gone".to_owned());
                continue;
            }
            let rows = self.rows.iter().filter(|row| row.0.start().day() == day).map(cell);
            merge.give_day(day, rows, self.adjustments.iter().map(cell));
        }
        for id in merge.partitions().cloned().collect::<Vec<_>>() {
            match &self.metas[id.number as usize] {
                Err(missing) => merge.miss_live(&id, missing.clone()),
                Ok(meta) => {
                    let here = |ad: &AdId| home(ad) == id.number;
                    let counts: Vec<_> = self.counts.iter().filter(|(key, _)| here(&key.ad)).cloned().collect();
                    let late: Vec<_> = self.late.iter().filter(|(key, _)| here(&key.count.ad)).cloned().collect();
                    let is_in_doubt = self.in_doubt == Some(id.number);
                    // What is read, and what is held in memory, are answered from alike.
                    if id.number % 2 == 0 {
                        merge.give_live(&id, Live { meta, is_in_doubt, counts: &counts, late: &late });
                    } else {
                        let columns = &held(&counts, &late);
                        merge.give_held(&id, Held { meta, is_in_doubt, columns });
                    }
                }
            }
        }
        merge
    }

    fn total(&self, books: &Books, range: Interval, grain: Grain, now: Timestamp) -> Answer {
        self.merge(books, Question { asked: Asked::Total, range, grain, zone: Zone::UTC }, now).answer()
    }
}

/// As they are after a while in which they grew.
fn held(counts: &[(CountKey, u64)], late: &[(LateKey, u64)]) -> Columns {
    let mut columns = Columns::default();
    for part in 1..=2 {
        let (mut now, mut late_now) = (BTreeMap::new(), BTreeMap::new());
        counts.iter().for_each(|(key, clicks)| *now.entry(key.clone()).or_default() += clicks * part / 2);
        late.iter().for_each(|(key, clicks)| *late_now.entry(key.clone()).or_default() += clicks * part / 2);
        columns.write(&Vec::from_iter(now), &Vec::from_iter(late_now));
    }
    columns
}

fn cell((minute, ad, clicks): &(Minute, AdId, u64)) -> Cell<'_> {
    Cell { start: minute.start(), ad: Some(ad), clicks: *clicks, late: *clicks / 2 }
}

fn clicks(answer: &Answer) -> Vec<Option<u64>> {
    answer.series[0].periods.iter().map(|period| period.total).collect()
}

#[test]
fn midnight_between_a_closed_and_a_live_day_has_no_overlap_and_no_hole() {
    let now = at(2, 0, 11);
    let world = World::new(day(1), now)
        .row(at(1, 23, 59), "a", 100)
        .live(at(1, 23, 59), "a", 97)
        .live(at(2, 0, 0), "a", 5)
        .row(at(2, 0, 0), "a", 1_000);
    let answer = world.total(&books(1, 0, false), range(at(1, 23, 58), at(2, 0, 2)), Grain::Minute, now);
    assert_eq!(clicks(&answer), [Some(0), Some(100), Some(5), Some(0)]);
    let periods = &answer.series[0].periods;
    assert_eq!(periods[1].last_live, Some(97));
    assert_eq!((periods[1].state, periods[1].revision), (PeriodState::Closed, Some(1)));
    assert_eq!((periods[2].state, periods[2].revision), (PeriodState::Live, None));
    assert!(answer.standing.complete, "{:?}", answer.standing.reasons);
    let segments: Vec<_> = answer.standing.segments.iter().map(|s| (s.source, s.start, s.end)).collect();
    assert_eq!(segments, [(Source::Batch, at(1, 23, 58), at(2, 0, 0)), (Source::Speed, at(2, 0, 0), at(2, 0, 2))]);
}

#[test]
fn before_the_first_day_nothing_was_and_that_is_final() {
    let now = at(1, 0, 1);
    let world = World::new(day(1), now).live(at(0, 23, 59), "a", 7).live(at(1, 0, 0), "a", 2);
    let answer = world.total(&books(0, 0, false), range(at(0, 23, 59), at(1, 0, 1)), Grain::Minute, now);
    let first = answer.series[0].periods[0];
    assert_eq!((first.total, first.late_pending, first.source), (Some(0), Some(0), Source::None));
    assert_eq!((first.state, first.complete), (PeriodState::Final, true));
    assert_eq!(answer.series[0].periods[1].total, Some(2));
}

/// Scenario 21: a day that was never opened gets a click.
#[test]
fn a_click_of_a_day_before_the_first_one_is_an_adjustment_of_nothing() {
    let now = at(3, 0, 1);
    let mut world = World::new(day(2), now).late(day(2), at(-3, 1, 0), "a", 4);
    world.adjustments = vec![(Minute::of(at(-3, 1, 0)), ad("a"), 2)];
    let books = books_adjusting(0, 0, Some(day(-3)));
    let answer = world.total(&books, range(at(-4, 0, 0), at(-2, 0, 0)), Grain::Day, now);
    let [untouched, adjusted] = answer.series[0].periods[..] else { panic!() };
    assert_eq!((untouched.total, untouched.state, untouched.source), (Some(0), PeriodState::Final, Source::None));
    assert_eq!((adjusted.clicks, adjusted.adjustment, adjusted.total), (Some(0), Some(2), Some(2)));
    assert_eq!((adjusted.state, adjusted.source, adjusted.revision), (PeriodState::Adjusted, Source::Batch, None));
    assert_eq!(adjusted.late_pending, Some(4));
}

/// Scenario 18: one late click lies inside revision 1, one came after its cut.
#[test]
fn late_clicks_that_the_revision_holds_are_not_pending() {
    let now = at(2, 10, 0);
    let world = World::new(day(2), now).late(day(1), at(1, 23, 50), "a", 1).late(day(2), at(1, 12, 0), "a", 1);
    let answer = world.total(&books(1, 0, false), day(1).interval(), Grain::Day, now);
    assert_eq!(answer.series[0].periods[0].late_pending, Some(1));
    let live = world.late(day(2), at(2, 1, 0), "a", 3);
    let answer = live.total(&books(1, 0, false), day(2).interval(), Grain::Day, now);
    assert_eq!(answer.series[0].periods[0].late_pending, Some(3));
}

/// Scenario 20: these books say that day 1 is live; the speed layer has dropped it, because it is closed by now.
#[test]
fn an_older_position_than_the_live_base_day_is_never_partial_numbers_called_live() {
    let now = at(2, 1, 0);
    let world = World::new(day(2), now).live(at(1, 23, 59), "a", 1).live(at(2, 0, 30), "a", 4);
    let answer = world.total(&books(0, 0, false), range(at(1, 0, 0), at(3, 0, 0)), Grain::Day, now);
    let periods = &answer.series[0].periods;
    assert_eq!((periods[0].total, periods[0].complete), (None, false));
    assert_eq!((periods[1].total, periods[1].complete), (Some(4), true));
    assert_eq!(answer.standing.reasons.len(), 2);
    assert!(answer.standing.reasons.iter().all(Reason::may_be_an_old_position));
    let newer = world.total(&books(1, 0, false), range(at(2, 0, 0), at(3, 0, 0)), Grain::Day, now);
    assert!(newer.standing.complete);
}

#[test]
fn every_lack_is_named_and_none_is_called_complete() {
    let now = at(2, 12, 0);
    let asked = range(at(2, 11, 0), at(2, 13, 0));
    let [first, second] = [0, 1].map(|number| {
        let name = ["a", "b", "c", "d", "e", "f", "g", "h"].into_iter().find(|name| home(&ad(name)) == number);
        name.expect("eight ads lie in two partitions")
    });
    let full = World::new(day(2), now).live(at(2, 11, 30), first, 7).live(at(2, 11, 30), second, 5);
    type Break = fn(&mut World);
    let lacks: [(&str, Break); 9] = [
        ("no_generation", |w| w.metas[0] = Err(Missing::NoGeneration)),
        ("partition_away", |w| w.metas[0] = Err(Missing::Unreachable("timeout".to_owned()))),
        ("base_day", |w| w.meta(0).base_day = day(3)),
        ("base_night", |w| w.meta(0).base_night = day(3)),
        ("rebuilding", |w| w.meta(0).rebuilding_until = Offset::new(9)),
        ("in_doubt", |w| w.in_doubt = Some(0)),
        ("behind", |w| w.meta(0).append_time = at(2, 11, 58)),
        ("dedup_drift", |w| w.meta(0).drift = range(at(2, 11, 50), at(2, 12, 5))),
        ("lost_records", |w| w.meta(0).lost.appended = range(at(2, 11, 50), at(2, 12, 5))),
    ];
    let whole = full.total(&books(1, 0, false), asked, Grain::Hour, now);
    assert_eq!(clicks(&whole), [Some(12), Some(0)]);
    assert!(whole.standing.complete && whole.series[0].periods.iter().all(|p| p.complete));
    for (code, lack) in lacks {
        let mut world = full.clone();
        lack(&mut world);
        let answer = world.total(&books(1, 0, false), asked, Grain::Hour, now);
        assert!(!answer.standing.complete, "{code}");
        assert_eq!(answer.standing.reasons.iter().map(Reason::code).collect::<Vec<_>>(), [code]);
        assert_eq!(answer.standing.reasons[0].partition(), Some(&partition(0)));
        assert!(answer.standing.reasons[0].to_string().contains(&partition(0).to_string()));
        // The lack of late clicks leaves the number whole.
        assert_eq!(answer.series[0].periods[1].complete, code == "base_night", "{code}");
        // An ad of the other partition is none the worse for it.
        let question =
            Question { asked: Asked::Ads(vec![ad(second)]), range: asked, grain: Grain::Hour, zone: Zone::UTC };
        assert!(world.merge(&books(1, 0, false), question, now).answer().standing.complete, "{code}");
    }
}

#[test]
fn with_the_store_away_closed_days_are_still_answered_and_live_ones_are_unknown() {
    let now = at(2, 12, 0);
    let mut world = World::new(day(2), now).row(at(1, 3, 0), "a", 9).live(at(2, 1, 0), "a", 3);
    world.metas = vec![Err(Missing::Unreachable("connection refused".to_owned())); 2];
    let answer = world.total(&books(1, 0, false), range(at(1, 0, 0), at(3, 0, 0)), Grain::Day, now);
    assert_eq!(clicks(&answer), [Some(9), None]);
    let [closed, live] = answer.series[0].periods[..] else { panic!() };
    assert_eq!((closed.complete, closed.late_pending, closed.last_live), (true, None, None));
    assert_eq!((live.complete, live.adjustment), (false, None));
    assert_eq!(answer.standing.reasons.iter().map(Reason::code).collect::<Vec<_>>(), ["speed_away"]);
    assert_eq!(answer.standing.as_of, None);
}

#[test]
fn a_table_that_is_away_is_unknown_and_a_source_that_was_forgotten_too() {
    let now = at(2, 12, 0);
    let mut world = World::new(day(2), now).row(at(1, 3, 0), "a", 9);
    world.missing_days = vec![day(1)];
    let answer = world.total(&books(1, 0, false), day(1).interval(), Grain::Day, now);
    assert_eq!(clicks(&answer), [None]);
    assert_eq!(answer.standing.reasons[0].day(), Some(day(1)));
    let question =
        Question { asked: Asked::Total, range: range(at(1, 0, 0), at(3, 0, 0)), grain: Grain::Day, zone: Zone::UTC };
    let forgotten = Merge::new(&books(1, 0, false), question, now, LAG_MAX).unwrap().answer();
    assert_eq!(clicks(&forgotten), [None, None]);
    assert_eq!(forgotten.standing.reasons.len(), 3);
}

#[test]
fn a_worker_that_stopped_does_not_read_as_zero_clicks() {
    let now = at(1, 12, 0);
    let world = World::new(day(1), at(1, 11, 20)).live(at(1, 11, 9), "a", 3).live(at(1, 11, 10), "a", 4);
    let answer = world.total(&books(0, 0, false), range(at(1, 11, 0), at(1, 12, 0)), Grain::Minute, now);
    let periods = &answer.series[0].periods;
    // On-time clicks of a minute arrive until the allowed lateness has passed.
    assert_eq!((periods[9].total, periods[9].complete), (Some(3), true));
    assert_eq!((periods[10].total, periods[10].complete), (Some(4), false));
    assert_eq!((periods[20].total, periods[20].complete), (Some(0), false));
    assert_eq!((periods[21].total, periods[21].complete), (None, false));
    assert_eq!(answer.standing.freshness, Some(Span::minutes(40)));
}

/// The worker died at midnight and nobody came; the night has not run yet.
#[test]
fn the_lag_that_is_allowed_excuses_nobody_for_ever() {
    let (asked, day_one) = (range(at(1, 23, 59), at(2, 0, 0)), range(at(1, 0, 0), at(2, 0, 0)));
    let stopped = |append| World::new(day(1), append).live(at(1, 23, 59), "a", 3);
    let complete = |append, now| {
        let answer = stopped(append).total(&books(0, 0, false), asked, Grain::Minute, now);
        (answer.series[0].periods[0].complete, answer.standing.complete)
    };
    let (midnight, settled) = (at(2, 0, 0), at(2, 0, 10));
    assert_eq!(complete(midnight, midnight + LAG_MAX), (true, true));
    assert_eq!(complete(midnight, midnight + LAG_MAX + Span::millis(1)), (false, false));
    assert_eq!(complete(settled - Span::millis(1), at(2, 3, 0)), (false, false));
    // The number is whole now, but late clicks may have come for three hours.
    assert_eq!(complete(settled, at(2, 3, 0)), (true, false));
    let answer = stopped(settled).total(&books(0, 0, false), day_one, Grain::Day, at(2, 3, 0));
    assert_eq!((answer.series[0].periods[0].complete, answer.series[0].periods[0].late_pending), (true, None));
    assert_eq!(answer.standing.reasons.iter().map(Reason::code).collect::<Vec<_>>(), ["behind", "behind"]);
}

/// Scenario 22: the earlier day waits an hour, the later one ten minutes.
#[test]
fn where_the_lateness_becomes_shorter_the_earlier_day_waits_longer() {
    let mut chain = Chain::new(Rules { lateness: Span::minutes(60), ..Rules::default() });
    chain.life(1);
    chain.rules(day(2), Rules { version: 2, ..Rules::default() });
    let (asked, now) = (range(at(1, 23, 59), at(2, 0, 1)), at(2, 3, 0));
    let complete = |append| {
        let answer = World::new(day(1), append).total(&chain.0, asked, Grain::Minute, now);
        assert!(!answer.standing.complete, "late clicks may have come since");
        answer.series[0].periods.iter().map(|period| period.complete).collect::<Vec<_>>()
    };
    assert_eq!(complete(at(2, 0, 10)), [false, false]);
    assert_eq!(complete(at(2, 0, 11)), [false, true]);
    assert_eq!(complete(at(2, 1, 0)), [true, true]);
}

#[test]
fn with_a_dead_worker_late_clicks_of_closed_days_are_unknown_until_they_would_be_too_old() {
    let now = at(40, 12, 0);
    let world = World::new(day(39), at(40, 6, 0)).row(at(39, 1, 0), "a", 9).late(day(40), at(39, 1, 0), "a", 2);
    let books = books(39, 0, false);
    let of = |n| world.total(&books, day(n).interval(), Grain::Day, now);
    let answer = of(39);
    let period = answer.series[0].periods[0];
    assert_eq!((period.total, period.complete, period.late_pending), (Some(9), true, None));
    assert_eq!(answer.standing.reasons.iter().map(Reason::code).collect::<Vec<_>>(), ["behind", "behind"]);
    // What is more than the maximum age old is rejected, so the last night has taken in all there was: nothing is asked of
    // the speed layer.
    let away = World { metas: vec![Err(Missing::NoGeneration); 2], ..World::default() };
    let answer = away.total(&books, day(4).interval(), Grain::Day, now);
    assert_eq!((answer.series[0].periods[0].late_pending, answer.standing.complete), (Some(0), true));
    assert_eq!(of(5).series[0].periods[0].late_pending, None);
}

/// A difference between the layers must mean something, so the live number has to be whole.
#[test]
fn the_last_live_number_is_unknown_unless_all_of_it_was_counted_once() {
    // The night has just been published: the lag that is allowed reaches back before the cut.
    let now = at(2, 0, 10) + Span::seconds(1);
    let last_live = |world: &World| {
        let answer = world.total(&books(1, 0, false), day(1).interval(), Grain::Day, now);
        answer.series[0].periods[0].last_live
    };
    let whole = World::new(day(1), at(2, 0, 10)).live(at(1, 3, 0), "a", 7);
    assert_eq!(last_live(&whole), Some(7));
    type Break = fn(&mut World);
    let lacks: [(&str, Break); 7] = [
        ("not settled", |w| w.meta(0).append_time = at(2, 0, 10) - Span::millis(1)),
        ("drift", |w| w.meta(0).drift = range(at(2, 0, 9), at(2, 0, 24))),
        ("fell off the log", |w| w.meta(0).lost.appended = range(at(2, 0, 9), at(2, 0, 24))),
        ("dropped", |w| w.meta(0).base_day = day(2)),
        ("rebuilding", |w| w.meta(0).rebuilding_until = Offset::new(9)),
        ("in doubt", |w| w.in_doubt = Some(0)),
        ("lost", |w| w.metas[0] = Err(Missing::NoGeneration)),
    ];
    for (name, lack) in lacks {
        let mut world = whole.clone();
        lack(&mut world);
        assert_eq!(last_live(&world), None, "{name}");
    }
}

/// What was appended at 11:30 may be of any minute from 11:20 on, at 11:44:59.999 of any up to 11:49.
#[test]
fn a_lack_flags_the_minutes_that_its_clicks_can_lie_in_and_no_others() {
    type Lack = fn(&mut Meta, Interval);
    let lacks: [(&str, Lack); 2] = [
        ("dedup_drift", |meta, appended| meta.drift = appended),
        ("lost_records", |meta, appended| meta.lost.appended = appended),
    ];
    for (code, lack) in lacks {
        let mut world = World::new(day(1), at(1, 13, 0));
        lack(world.meta(1), range(at(1, 11, 30), at(1, 11, 45)));
        let ask = |from, to| world.total(&books(0, 0, false), range(from, to), Grain::Minute, at(1, 13, 0));
        let answer = ask(at(1, 11, 0), at(1, 12, 0));
        let flagged: Vec<_> = (0..60).filter(|n| !answer.series[0].periods[*n].complete).collect();
        assert_eq!(flagged, (20..50).collect::<Vec<_>>(), "{code}");
        assert_eq!(answer.standing.reasons.iter().map(Reason::code).collect::<Vec<_>>(), [code]);
        assert!(ask(at(1, 11, 50), at(1, 12, 0)).standing.complete, "{code}");
        // Late clicks of any earlier minute may be among the lost records.
        let early = ask(at(1, 11, 0), at(1, 11, 20));
        let late: Vec<_> = early.series[0].periods.iter().map(|period| period.late_pending).collect();
        let is_lost = code == "lost_records";
        assert_eq!((early.standing.complete, late), (!is_lost, vec![(!is_lost).then_some(0); 20]), "{code}");
        assert!(early.series[0].periods.iter().all(|period| period.complete), "{code}");
    }
}

/// What is asked of an old topic life that ended on day 3, at offset 30, while its successor begins at once.
#[test]
fn an_ended_life_is_asked_until_its_days_are_closed_and_missed_only_as_long() {
    let now = at(3, 12, 0);
    let mut chain = Chain::new(Rules::default());
    chain.life(1);
    chain.night(chain.next_night(&[(1, 10)]));
    chain.night(chain.next_night(&[(1, 20)]));
    chain.life(2);
    let codes = |answer: &Answer| answer.standing.reasons.iter().map(Reason::code).collect::<Vec<_>>();
    let ask = |books: &Books, old: &Result<Meta, Missing>, asked: Interval, now| {
        let question = Question { asked: Asked::Total, range: asked, grain: Grain::Hour, zone: Zone::UTC };
        let mut merge = Merge::new(books, question, now, LAG_MAX).unwrap();
        merge.closed_days().collect::<Vec<_>>().into_iter().for_each(|day| merge.give_day(day, [], []));
        for id in merge.partitions().cloned().collect::<Vec<_>>() {
            let current = Meta { append_time: now, ..Meta::new(Offset::ZERO, day(3), day(3), Offset::ZERO) };
            match old {
                Err(missing) if id.topic == partition(0).topic => merge.miss_live(&id, missing.clone()),
                Ok(meta) if id.topic == partition(0).topic => {
                    merge.give_live(&id, Live { meta, is_in_doubt: false, counts: &[], late: &[] });
                }
                _ => merge.give_live(&id, Live { meta: &current, is_in_doubt: false, counts: &[], late: &[] }),
            }
        }
        merge.answer()
    };
    let counted = |next_offset, append_time| {
        let meta = Meta::new(Offset::ZERO, day(3), day(3), Offset::ZERO);
        Ok(Meta { next_offset: Offset::new(next_offset), append_time, ..meta })
    };
    let (all, stopped, lost) = (counted(30, at(3, 9, 0)), counted(25, at(3, 8, 0)), Err(Missing::NoGeneration));
    let (early, noon) = (range(at(3, 7, 0), at(3, 8, 0)), range(at(3, 11, 0), at(3, 12, 0)));

    // Nobody knows yet whether its counts go on to its end: what was settled before is whole, late clicks are unknown.
    let answer = ask(&chain.0, &all, early, now);
    let period = answer.series[0].periods[0];
    assert_eq!((period.complete, period.late_pending, codes(&answer)), (true, None, vec!["life_ended"; 2]));
    let answer = ask(&chain.0, &all, noon, now);
    assert_eq!((answer.series[0].periods[0].complete, codes(&answer)), (false, vec!["life_ended"; 2]));
    assert_eq!(codes(&ask(&chain.0, &lost, day(2).interval(), now)), ["life_ended"; 2]);

    // The night finds the end. It may lie after midnight, so day 4 needs it still; closed days do not.
    chain.night(chain.next_night(&[(1, 30), (2, 5)]));
    let (now, noon) = (at(4, 12, 0), range(at(4, 11, 0), at(4, 12, 0)));
    assert!(ask(&chain.0, &all, noon, now).standing.complete);
    for old in [&stopped, &lost] {
        let answer = ask(&chain.0, old, noon, now);
        assert_eq!((answer.series[0].periods[0].complete, codes(&answer)), (false, vec!["life_ended"; 2]));
        let closed = ask(&chain.0, old, day(3).interval(), now);
        assert_eq!((closed.standing.complete, closed.series[0].periods[0].late_pending), (true, Some(0)));
        assert_eq!(closed.series[0].periods[23].last_live, None);
    }
    assert_eq!(ask(&chain.0, &all, day(3).interval(), now).series[0].periods[23].last_live, Some(0));

    // All of its days are closed: it is not asked any more, and the days that it had live counts of are not compared.
    chain.night(chain.next_night(&[(1, 30), (2, 9)]));
    let answer = ask(&chain.0, &lost, range(at(1, 0, 0), at(6, 0, 0)), at(5, 12, 0));
    assert!(answer.standing.complete, "{:?}", answer.standing.reasons);
    assert!(answer.series[0].periods.iter().all(|period| period.last_live.is_none()));
    let question = Question { asked: Asked::Total, range: day(5).interval(), grain: Grain::Day, zone: Zone::UTC };
    let merge = Merge::new(&chain.0, question, at(5, 12, 0), LAG_MAX).unwrap();
    assert!(merge.partitions().all(|id| id.topic == TopicId::from_u128(2)));
}

#[test]
fn the_future_is_left_out_and_said_so() {
    let now = at(1, 12, 0) + Span::millis(1);
    let world = World::new(day(1), now);
    let answer = world.total(&books(0, 0, false), range(at(1, 11, 59), at(1, 13, 0)), Grain::Minute, now);
    assert_eq!(answer.series[0].periods.len(), 2);
    assert_eq!(answer.standing.clipped_at, Some(at(1, 12, 1)));
    assert!(answer.standing.complete);
    let ask = |start, end, grain| {
        let question = Question { asked: Asked::Total, range: range(start, end), grain, zone: Zone::UTC };
        Merge::new(&books(0, 0, false), question, now, LAG_MAX).map(|_| ()).unwrap_err()
    };
    assert!(matches!(ask(at(1, 12, 1), at(1, 13, 0), Grain::Minute), QuestionError::Future { .. }));
    assert!(matches!(ask(at(1, 12, 1), at(1, 13, 0), Grain::Hour), QuestionError::NotAligned { .. }));
    assert!(matches!(ask(at(1, 12, 0), at(1, 12, 0), Grain::Hour), QuestionError::Empty(_)));
}

#[test]
fn adjustments_stand_beside_the_clicks_of_their_own_day() {
    let now = at(5, 12, 0);
    let mut world = World::new(day(4), now).row(at(1, 3, 0), "a", 100).row(at(2, 3, 0), "a", 50);
    // One file of a night holds rows of several days.
    world.adjustments = vec![(Minute::of(at(1, 3, 0)), ad("a"), 2), (Minute::of(at(2, 3, 0)), ad("a"), 9)];
    let books = books(3, 1, true);
    let answer = world.total(&books, range(at(1, 0, 0), at(2, 0, 0)), Grain::Hour, now);
    let third = answer.series[0].periods[3];
    assert_eq!((third.clicks, third.adjustment, third.total), (Some(100), Some(2), Some(102)));
    assert_eq!(third.state, PeriodState::Adjusted);
    assert_eq!(answer.series[0].periods.iter().filter_map(|p| p.total).sum::<u64>(), 102);
}

#[test]
fn a_ranking_sums_the_range_by_ad() {
    let now = at(2, 12, 0);
    let world = World::new(day(2), now)
        .row(at(1, 3, 0), "a", 9)
        .row(at(1, 4, 0), "b", 9)
        .live(at(2, 1, 0), "b", 1)
        .live(at(2, 1, 0), "c", 2)
        .live(at(1, 3, 0), "a", 50)
        .late(day(2), at(1, 3, 0), "a", 4);
    let question =
        Question { asked: Asked::EachAd, range: range(at(1, 0, 0), at(3, 0, 0)), grain: Grain::Day, zone: Zone::UTC };
    let ranking = world.merge(&books(1, 0, false), question, now).ranking(2, |_| true);
    let top: Vec<_> = ranking.ranked.iter().map(|ad| (ad.key.as_str(), ad.total, ad.late_pending)).collect();
    assert_eq!(top, [("b", 10, Some(0)), ("a", 9, Some(4))]);
    assert_eq!(ranking.count, 3);
    assert!(ranking.standing.complete);
}

/// A day of New York lies in two days of UTC: the first is closed, the second is not.
#[test]
fn a_day_of_another_zone_is_the_sum_of_its_pieces() {
    let (now, new_york) = (at(2, 6, 0), "America/New_York".parse::<Zone>().unwrap());
    let world = World::new(day(2), now)
        .row(at(1, 4, 59), "a", 1)
        .row(at(1, 5, 0), "a", 10)
        .row(at(1, 23, 59), "a", 20)
        .live(at(2, 0, 0), "a", 300)
        .live(at(2, 4, 59), "a", 400)
        .live(at(2, 5, 0), "a", 5_000)
        .late(day(2), at(1, 12, 0), "a", 7)
        .late(day(2), at(2, 1, 0), "a", 8);
    let asked = range(at(0, 5, 0), at(3, 5, 0));
    let question = Question { asked: Asked::Total, range: asked, grain: Grain::Day, zone: new_york };
    let merge = world.merge(&books(1, 0, false), question, now);
    assert_eq!(merge.table_grain(day(1)), Grain::Hour);
    let answer = merge.answer();
    assert_eq!(clicks(&answer), [Some(1), Some(730), Some(5_000)]);
    let [before, split, today] = answer.series[0].periods[..] else { panic!() };
    assert_eq!((split.start, split.end), (at(1, 5, 0), at(2, 5, 0)));
    assert_eq!((split.source, split.state, split.revision), (Source::Mixed, PeriodState::Live, None));
    assert_eq!((split.late_pending, split.last_live, split.complete), (Some(15), None, true));
    // Before the first day there was nothing: the closed piece speaks for the period.
    assert_eq!((before.source, before.state, before.revision), (Source::Batch, PeriodState::Closed, Some(1)));
    assert_eq!((today.source, today.state), (Source::Speed, PeriodState::Live));
    let splits: Vec<_> = answer.standing.segments.iter().map(|s| (s.source, s.end, s.split.unwrap().total)).collect();
    let want = [
        (Source::None, at(1, 0, 0), Some(0)),
        (Source::Batch, at(2, 0, 0), Some(31)),
        (Source::Speed, at(3, 5, 0), Some(5_700)),
    ];
    assert_eq!(splits, want);

    // With the speed layer away the closed piece is still known, and no more than that is said.
    let mut away = world.clone();
    away.metas = vec![Err(Missing::Unreachable("x".to_owned())); PARTITIONS as usize];
    let question = Question { asked: Asked::Total, range: asked, grain: Grain::Day, zone: new_york };
    let answer = away.merge(&books(1, 0, false), question, now).answer();
    assert_eq!(clicks(&answer), [Some(1), Some(30), None]);
    let complete: Vec<bool> = answer.series[0].periods.iter().map(|period| period.complete).collect();
    assert_eq!(complete, [true, false, false]);
}

#[test]
fn tables_are_as_coarse_as_the_pieces_allow() {
    let (now, books) = (at(2, 6, 0), books(1, 0, false));
    let of_day = |asked, zone: &str, grain, from: Timestamp, to: Timestamp| {
        let question = Question { asked, range: range(from, to), grain, zone: zone.parse().unwrap() };
        Merge::new(&books, question, now, LAG_MAX).unwrap().table_grain(day(1))
    };
    let grain = |zone: &str, grain, from, to| of_day(Asked::Total, zone, grain, from, to);
    // A ranking takes days whole, whatever they are called elsewhere.
    let katmandu = |from, to| of_day(Asked::EachAd, "Asia/Kathmandu", Grain::Day, from, to);
    assert_eq!(katmandu(at(-3, 18, 15), at(2, 18, 15)), Grain::Day);
    assert_eq!(katmandu(at(0, 18, 15), at(1, 18, 15)), Grain::Minute);
    assert_eq!(grain("UTC", Grain::Day, at(1, 0, 0), at(2, 0, 0)), Grain::Day);
    assert_eq!(grain("Europe/Berlin", Grain::Day, at(0, 23, 0), at(1, 23, 0)), Grain::Hour);
    assert_eq!(grain("Asia/Kathmandu", Grain::Day, at(0, 18, 15), at(1, 18, 15)), Grain::Minute);
    assert_eq!(grain("Asia/Kathmandu", Grain::Hour, at(1, 0, 15), at(1, 1, 15)), Grain::Minute);
}

#[test]
fn what_was_published_is_answered_without_the_live_view_and_nothing_else_is() {
    let now = at(2, 6, 0);
    let mut world = World::new(day(2), now).row(at(1, 1, 0), "a", 5).late(day(2), at(1, 1, 0), "a", 2);
    world.metas = vec![Err(Missing::Unreachable("x".to_owned())); PARTITIONS as usize];
    let books = books(1, 0, false);
    let question = |range| Question { asked: Asked::Total, range, grain: Grain::Day, zone: Zone::UTC };
    let merge = Merge::new(&books, question(day(1).interval()), now, LAG_MAX).unwrap();
    let mut merge = merge.published().unwrap();
    assert_eq!(merge.partitions().count(), 0);
    merge.give_day(day(1), world.rows.iter().map(cell), []);
    let answer = merge.answer();
    let period = answer.series[0].periods[0];
    assert_eq!((period.total, period.complete, period.late_pending, period.last_live), (Some(5), true, None, None));
    assert!(answer.standing.complete, "{:?}", answer.standing.reasons);
    let merge = Merge::new(&books, question(range(at(1, 0, 0), at(3, 0, 0))), now, LAG_MAX).unwrap();
    assert_eq!(merge.published().unwrap_err(), day(2));
}
