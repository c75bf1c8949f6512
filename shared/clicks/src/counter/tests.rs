//! The live counter against small histories.

use super::*;
use crate::event::Click;
use crate::id::UserId;
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
        Generation::from_u128(1),
        meta,
        usize::MAX,
    )
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
    let loaded = Loaded { generation: flush.generation, meta: flush.meta, counts: flush.counts, late: flush.late };
    let mut second = LiveCounter::resume(RulesBook::new(Rules::default()).unwrap(), loaded, usize::MAX);
    observe(&mut second, Some(&value(500, start())), start());
    let flush = second.flush();
    assert_eq!(flush.counts.iter().map(|(_, n)| *n).collect::<Vec<_>>(), [501]);
    assert_eq!(flush.expected, Expected::At { generation: Generation::from_u128(1), next_offset: Offset::new(500) });
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
