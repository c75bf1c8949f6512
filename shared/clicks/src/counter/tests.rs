//! The live counter against small histories.

use super::*;
use crate::event::Click;
use crate::id::{AdId, ClickId, UserId};
use crate::rules::Rules;
use crate::time::Span;

fn start() -> Timestamp {
    "2026-03-01".parse::<Day>().unwrap().start() + Span::hours(12)
}

fn value(id: u128, event: Timestamp) -> Vec<u8> {
    let click = Click {
        click_id: ClickId::from_u128(id),
        ad_id: AdId::parse("a").unwrap(),
        user_id: UserId::parse("u").unwrap(),
        event_time: event,
    };
    wire::encode(&click).into_bytes()
}

fn counter() -> LiveCounter {
    let day = start().day();
    let meta = Meta::new(Offset::ZERO, day, day.previous(), Offset::ZERO);
    LiveCounter::begin(
        RulesBook::new(Rules::default()).unwrap(),
        Expected::Nothing,
        (Generation::from_u128(1), Stage::Live),
        meta,
        usize::MAX,
    )
}

/// What a store gives back of a first flush.
fn loaded(flush: Flush) -> Loaded {
    let Flush { generation, stage, meta, counts, late, .. } = flush;
    Loaded { generation, stage, meta, counts, late }
}

fn observe(counter: &mut LiveCounter, value: Option<&[u8]>, at: Timestamp) -> Verdict {
    let offset = counter.meta().next_offset;
    counter.observe(&Observed { offset, broker_time: at, key: None, value, control: false }).unwrap()
}

/// Scenario 1: 500 are stored, the worker is killed, one more click arrives.
#[test]
fn a_resumed_counter_writes_the_whole_count() {
    let mut first = counter();
    for id in 0..500 {
        observe(&mut first, Some(&value(id, start())), start());
    }
    let flush = first.flush();
    let loaded = loaded(flush);
    let mut second = LiveCounter::resume(RulesBook::new(Rules::default()).unwrap(), loaded, usize::MAX);
    observe(&mut second, Some(&value(500, start())), start());
    let flush = second.flush();
    assert_eq!(flush.counts.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [501]);
    assert_eq!(
        flush.expected,
        Expected::At { generation: Generation::from_u128(1), next_offset: Offset::new(500), lost: 0 }
    );
}

/// Beyond its bound dedup forgets a slice as a whole, also what is sighted in the rest of it: the drift holds their retries.
#[test]
fn the_drift_covers_the_rest_of_a_forgotten_slice() {
    let day = start().day();
    let meta = Meta::new(Offset::ZERO, day, day.previous(), Offset::ZERO);
    let rules = RulesBook::new(Rules::default()).unwrap();
    let horizon = rules.live_horizon_max();
    let mut counter = LiveCounter::begin(rules, Expected::Nothing, (Generation::from_u128(1), Stage::Live), meta, 4);
    let at = |millis| start() + Span::millis(millis);
    for id in 0..7 {
        observe(&mut counter, Some(&value(id as u128, at(id))), at(id));
    }
    assert!(counter.meta().dedup_evicted > 0);
    let retry = at(6) + horizon - Span::millis(1);
    assert_eq!(observe(&mut counter, Some(&value(6, retry)), retry), Verdict::Counted, "it was forgotten");
    assert!(counter.meta().drift.contains(retry), "{:?}", counter.meta().drift);
}

#[test]
fn totals_balance_whatever_arrives() {
    let mut counter = counter();
    observe(&mut counter, None, start());
    observe(&mut counter, Some(b"no json"), start());
    observe(&mut counter, Some(&value(1, start())), start());
    observe(&mut counter, Some(&value(1, start())), start());
    observe(&mut counter, Some(&value(2, start() - Span::minutes(11))), start());
    observe(&mut counter, Some(&value(3, start() - Span::days(36))), start());
    let record = Observed {
        offset: counter.meta().next_offset,
        broker_time: start(),
        key: None,
        value: Some(b"x"),
        control: true,
    };
    counter.observe(&record).unwrap();
    let totals = counter.meta().totals;
    assert!(totals.balance());
    assert_eq!(
        (totals.seen, totals.control, totals.rejected, totals.duplicate, totals.late, totals.counted),
        (7, 1, 3, 1, 1, 1)
    );
}

#[test]
fn a_gap_is_refused_and_changes_nothing() {
    let mut counter = counter();
    let record = Observed { offset: Offset::new(5), broker_time: start(), key: None, value: None, control: false };
    assert_eq!(counter.observe(&record), Err(Gap { expected: Offset::ZERO, found: Offset::new(5) }));
    assert!(counter.has_news(), "a generation that is not stored yet is news");
    assert_eq!(counter.meta().totals.seen, 0);
}

#[test]
fn windows_before_the_base_day_are_expired_at_once() {
    let mut counter = counter();
    let midnight = start().day().start();
    observe(&mut counter, Some(&value(1, midnight - Span::minutes(2))), midnight + Span::minutes(1));
    let totals = counter.meta().totals;
    assert_eq!((totals.counted, totals.expired, counter.changes()), (1, 1, 0));
}

#[test]
fn a_late_click_of_the_first_minutes_waits_for_the_first_night() {
    let midnight = start().day().start();
    let rules = RulesBook::new(Rules::default()).unwrap().with_first_night(start().day());
    let meta = Meta::new(Offset::ZERO, start().day(), start().day(), Offset::ZERO);
    let begun = (Generation::from_u128(1), Stage::Live);
    let mut counter = LiveCounter::begin(rules, Expected::Nothing, begun, meta, usize::MAX);
    observe(&mut counter, Some(&value(1, midnight - Span::minutes(20))), midnight + Span::minutes(1));
    let flush = counter.flush();
    assert_eq!((counter.meta().totals.late, counter.meta().totals.late_expired), (1, 0));
    assert_eq!(flush.late.iter().map(|(key, _)| key.night).collect::<Vec<_>>(), [start().day()]);
}

fn resumed(flush: &Flush) -> LiveCounter {
    let loaded = loaded(flush.clone());
    LiveCounter::resume(RulesBook::new(Rules::default()).unwrap(), loaded, usize::MAX)
}

#[test]
fn an_expiry_rides_on_a_flush_that_moves_the_position() {
    let mut counter = counter();
    let day = start().day();
    observe(&mut counter, Some(&value(1, start())), start());
    let midnight = day.end() + Span::minutes(10);
    let try_expire = |counter: &mut LiveCounter, days| counter.expire(day.plus(days), day.previous().plus(days), 1, 0);
    counter.flush();
    counter.stored();
    assert_eq!(try_expire(&mut counter, 1), None, "nothing was observed since");
    observe(&mut counter, None, midnight - Span::millis(1));
    assert_eq!(try_expire(&mut counter, 1), None, "the watermark has not passed the day");
    observe(&mut counter, None, midnight);
    assert_eq!(try_expire(&mut counter, 0), None, "nothing moves");
    assert_eq!(try_expire(&mut counter, 2), None, "nor has it passed the next");
    let stored_at = counter.stored_at();
    let step = try_expire(&mut counter, 1).unwrap();
    assert_eq!((step.expected, step.meta.next_offset), (stored_at, Offset::new(3)));
    assert_eq!((step.drop_hours.len(), step.drop_nights.len()), (24, 1));
    assert_eq!((step.meta.base_day, step.meta.base_night), (day.next(), day));
    assert_eq!(step.meta.totals.expired, 1);
}

#[test]
fn without_a_record_there_is_no_progress_to_expire_by() {
    let mut counter = counter();
    let day = start().day();
    assert!(counter.has_news() && !counter.has_passed(day.next(), day));
    assert_eq!(counter.expire(day.next(), day, 0, 0), None);
}

#[test]
fn a_generation_takes_over_the_append_time_of_its_look_back() {
    let mut counter = counter();
    let record = Observed { offset: Offset::ZERO, broker_time: start(), key: None, value: None, control: false };
    counter.remember(&[record], &mut AppendTime::resume(Timestamp::MIN));
    assert_eq!(counter.meta().append_time, start(), "or a restart before the first record looks back for ever");
    let resumed = resumed(&counter.flush());
    assert_eq!(resumed.look_back_from(), start() - Span::minutes(15));
}

#[test]
fn evictions_are_neither_forgotten_nor_counted_twice_over_a_restart() {
    let meta = counter().meta().clone();
    let rules = || RulesBook::new(Rules::default()).unwrap();
    let mut first = LiveCounter::begin(rules(), Expected::Nothing, (Generation::from_u128(1), Stage::Live), meta, 3);
    let values: Vec<_> = (0..6).map(|id| value(id, start())).collect();
    // Apart, so that each is the oldest in its turn.
    let at = |n: usize| start() + Span::seconds(n as i64);
    for (n, value) in values[..5].iter().enumerate() {
        observe(&mut first, Some(value), at(n));
    }
    let flush = first.flush();
    assert_eq!(flush.meta.dedup_evicted, 2);
    let loaded = loaded(flush);
    let mut second = LiveCounter::resume(rules(), loaded, 3);
    let record = |n: usize| {
        let offset = Offset::new(n as u64);
        Observed { offset, broker_time: at(n), key: None, value: Some(&values[n][..]), control: false }
    };
    second.remember(&[0, 1, 2, 3, 4].map(record), &mut AppendTime::resume(Timestamp::MIN));
    assert_eq!(second.meta().dedup_evicted, 2, "the look-back repeats what is known");
    observe(&mut second, Some(&values[5]), at(5));
    assert_eq!(second.meta().dedup_evicted, 3);
}

/// What [`LiveCounter::observe_all`] makes of a log is what one record at a time makes of it, at any limit of changes.
#[test]
fn many_at_once_are_as_one_by_one() {
    let logs: Vec<(Option<Vec<u8>>, Timestamp)> = (0..500u32)
        .map(|n| {
            let at = start() + Span::seconds(i64::from(n) * 7);
            let event = at - Span::seconds([0, 30, 599, 601, 3_000, -299, -301][n as usize % 7]);
            let value = match n % 11 {
                3 => None,
                5 => Some(b"{".to_vec()),
                _ => Some(value(u128::from(n * n % 101), event)),
            };
            (value, at)
        })
        .collect();
    let record = |n: usize| Observed {
        offset: Offset::new(n as u64),
        broker_time: logs[n].1,
        key: None,
        value: logs[n].0.as_deref(),
        control: n.is_multiple_of(13),
    };
    for changes_max in [1, 7, 64, usize::MAX] {
        let (mut one, mut all) = (counter(), counter());
        let mut rejected = Vec::new();
        let mut at = 0;
        while at < logs.len() {
            let records: Vec<_> = (at..logs.len().min(at + 90)).map(record).collect();
            let done = all.observe_all(&records, changes_max).unwrap();
            assert!(done.observed > 0);
            for record in &records[..done.observed] {
                if let Verdict::Rejected(rejection) = one.observe(record).unwrap() {
                    rejected.push(rejection.code());
                }
            }
            assert_eq!(rejected.split_off(0), done.rejected);
            at += done.observed;
            assert_eq!(one.flush(), all.flush(), "at {at}");
            if all.changes() >= changes_max {
                one.stored();
                all.stored();
            }
        }
        assert!(all.meta().totals.balance() && all.meta().totals.late > 0 && all.meta().totals.duplicate > 0);
    }
}

#[test]
fn a_flood_of_made_up_ads_does_not_stay() {
    let mut counter = counter();
    let ads = ADS_KEPT as u64 + 10;
    for n in 0..ads {
        let text = String::from_utf8(value(n.into(), start()))
            .unwrap()
            .replace("\"ad_id\":\"a\"", &format!("\"ad_id\":\"a{n}\""));
        observe(&mut counter, Some(text.as_bytes()), start());
    }
    counter.flush();
    counter.stored();
    // The window seals, and one ad goes on.
    let later = start() + Span::minutes(12);
    let kept = value(u128::MAX, later);
    observe(&mut counter, Some(&kept), later);
    counter.flush();
    counter.stored();
    assert_eq!(counter.ads.len(), 1);
    observe(&mut counter, Some(&kept), later);
    assert_eq!(counter.meta().totals.duplicate, 1, "its key is the same");
    observe(&mut counter, Some(&value(1, later)), later);
    assert_eq!(counter.flush().counts[0].1, 2, "and so is its count");
}

#[test]
fn a_count_that_is_stored_otherwise_than_it_is_held_is_named() {
    let mut counter = counter();
    observe(&mut counter, Some(&value(1, start())), start());
    let now = start() + Span::minutes(15);
    for (id, event) in [(2, now), (3, now), (4, now - Span::minutes(1)), (5, now - Span::minutes(11))] {
        observe(&mut counter, Some(&value(id, event)), now);
    }
    let Flush { counts, late, .. } = counter.flush();
    counter.stored();
    assert_eq!(counter.difference(&counts, &late), None, "as it was written, sealed windows included");
    assert_eq!(counter.difference(&counts[1..], &late), None, "sealed windows are not held");
    let found = counter.difference(&counts[..2], &late).unwrap();
    assert_eq!((found.held, found.stored, found.count), (Some(2), None, counts[2].0.clone()));
    let mut wrong = counts.clone();
    wrong[1].1 = 9;
    let found = counter.difference(&wrong, &late).unwrap();
    assert_eq!(found.to_string(), "ad a at 2026-03-01T12:14:00.000Z: 9 stored, 1 held");
    let mut more = counts.clone();
    more.push((CountKey { ad: AdId::parse("b").unwrap(), ..counts[2].0.clone() }, 1));
    assert_eq!(counter.difference(&more, &late).unwrap().held, None);
    assert_eq!(counter.difference(&counts, &[]).unwrap().stored, None, "late counts as well");
}

/// Counted beside the live generation until it has caught up, and live from then on.
#[test]
fn the_flush_that_ends_a_rebuild_puts_the_generation_in_its_place() {
    let (day, rebuilt) = (start().day(), Generation::from_u128(2));
    let replaces = Expected::At { generation: Generation::from_u128(1), next_offset: Offset::new(9), lost: 0 };
    let meta = Meta::new(Offset::ZERO, day, day.previous(), Offset::new(3));
    let rules = RulesBook::new(Rules::default()).unwrap();
    let mut counter = LiveCounter::begin(rules, replaces, (rebuilt, Stage::Beside), meta, usize::MAX);
    for (id, want) in [(1, Stage::Beside), (2, Stage::Beside), (3, Stage::Live), (4, Stage::Live)] {
        observe(&mut counter, Some(&value(id, start())), start());
        let flush = counter.flush();
        assert_eq!((flush.stage, flush.generation), (want, rebuilt), "flush {id}");
        assert_eq!(flush.expected == replaces, id == 1);
        counter.stored();
        assert_eq!(counter.stage(), want);
    }
}

/// A retry of a lost record, or of one before it, counts; the totals and the drift say so.
#[test]
fn lost_records_are_in_the_books() {
    let mut counter = counter();
    observe(&mut counter, Some(&value(1, start())), start());
    let gap = Interval::new(start(), start() + Span::minutes(2));
    counter.lose(Offset::new(5), gap);
    assert!(counter.has_news(), "to be stored at once");
    assert_eq!(counter.flush().meta.fingerprint, "", "of no record that is known");
    observe(&mut counter, Some(&value(2, start())), start() + Span::minutes(3));
    counter.lose(Offset::new(9), Interval::new(start() + Span::minutes(3), start() + Span::minutes(4)));
    let meta = counter.flush().meta;
    assert_eq!((meta.lost.records, meta.totals.seen, meta.next_offset), (7, 2, Offset::new(9)));
    assert_eq!(meta.lost.appended, Interval::new(start(), start() + Span::minutes(4)));
    assert_eq!(meta.drift, Interval::new(start(), start() + Span::minutes(4) + Rules::default().live_horizon));
    assert!(meta.is_balanced());
}
