//! The definition of the live counts, as naive as it can be written: the whole log, every sighting remembered for ever,
//! nothing shared with the counter but the reading of a click and the rules.

use std::collections::{BTreeMap, HashMap};

use clicks::event::Class;
use clicks::id::{AdId, ClickId};
use clicks::live::{CountKey, LateKey, Lost, Totals};
use clicks::position::Offset;
use clicks::rules::RulesBook;
use clicks::time::{Day, Timestamp};
use clicks::window::Minute;
use clicks::wire;
use platform::log::LogRecord;
use platform::store::LiveSlice;

/// What a generation with this base must hold after all records of the log.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Truth {
    pub(crate) counts: BTreeMap<CountKey, u64>,
    pub(crate) late: BTreeMap<LateKey, u64>,
    pub(crate) totals: Totals,
}

/// Counts `records`, the whole log from its very first record on.
pub(crate) fn truth(records: &[LogRecord], rules: &RulesBook, base: Offset, base_day: Day, base_night: Day) -> Truth {
    let mut truth = Truth::default();
    let mut sighted: HashMap<(AdId, ClickId), Timestamp> = HashMap::new();
    let mut now = Timestamp::MIN;
    for record in records {
        now = now.max(record.broker_time);
        let totals = &mut Totals::default();
        let mut count = None;
        totals.seen = 1;
        match wire::decode(record.value.as_deref()) {
            _ if record.is_control() => totals.control = 1,
            Err(_) => totals.rejected = 1,
            Ok(click) => {
                let rules = rules.on(click.event_time.day());
                let (event, key) = (click.event_time, (click.ad_id.clone(), click.click_id));
                let count_key = CountKey { minute: Minute::of(event), class: Class::Valid, ad: click.ad_id };
                if event.since(now) > rules.ahead_max || now.since(event) > rules.age_max {
                    totals.rejected = 1;
                } else if sighted.insert(key, now).is_some_and(|last| now.since(last) < rules.live_horizon) {
                    totals.duplicate = 1;
                } else if now.since(event) > rules.lateness {
                    totals.late = 1;
                    count = Some(count_key);
                } else {
                    totals.counted = 1;
                    count = Some(count_key);
                }
            }
        }
        if let Some(key) = count {
            let night = rules.night_of(now);
            if totals.late == 1 && night >= base_night {
                *truth.late.entry(LateKey { night, count: key }).or_default() += 1;
            } else if totals.late == 1 {
                totals.late_expired = 1;
            } else if key.minute.start() >= base_day.start() {
                *truth.counts.entry(key).or_default() += 1;
            } else {
                totals.expired = 1;
            }
        }
        if record.offset >= base {
            add(&mut truth.totals, totals);
        }
    }
    truth
}

fn add(sum: &mut Totals, one: &Totals) {
    sum.seen += one.seen;
    sum.control += one.control;
    sum.rejected += one.rejected;
    sum.duplicate += one.duplicate;
    sum.late += one.late;
    sum.counted += one.counted;
    sum.expired += one.expired;
    sum.late_expired += one.late_expired;
}

/// Panics unless the slice, which must be of everything, is the truth about `records`.
pub(crate) fn check(slice: &LiveSlice, records: &[LogRecord], rules: &RulesBook, what: &str) {
    let meta = &slice.meta;
    let truth = truth(records, rules, meta.base_offset, meta.base_day, meta.base_night);
    let counts: BTreeMap<_, _> = slice.counts.iter().cloned().collect();
    let late: BTreeMap<_, _> = slice.late.iter().cloned().collect();
    assert_eq!(counts, truth.counts, "{what}: counts, {meta:?}");
    assert_eq!(late, truth.late, "{what}: late counts, {meta:?}");
    assert_eq!(meta.totals, truth.totals, "{what}: totals, {meta:?}");
    assert!(meta.is_balanced() && meta.lost == Lost::NONE, "{what}: {meta:?}");
    assert_eq!(meta.totals.counted, counts.values().sum::<u64>() + meta.totals.expired, "{what}: double entry");
    assert_eq!(meta.totals.late, late.values().sum::<u64>() + meta.totals.late_expired, "{what}: double entry of late");
    assert!(meta.dedup_evicted == 0 && !meta.is_rebuilding(), "{what}: {meta:?}");
    let last = records.iter().rfind(|record| record.offset.next() == meta.next_offset);
    if let Some(last) = last.filter(|_| meta.next_offset > meta.base_offset) {
        let fingerprint = wire::fingerprint(last.key.as_deref(), last.value.as_deref(), last.broker_time);
        assert_eq!(meta.fingerprint, fingerprint, "{what}");
    }
}

#[test]
fn the_oracle_itself_counts_a_small_log() {
    let day: Day = "2026-03-01".parse().unwrap();
    let noon = day.start() + clicks::time::Span::hours(12);
    let record = |offset: u64, value: String| LogRecord {
        offset: Offset::new(offset),
        broker_time: noon,
        key: None,
        value: Some(value.into()),
        headers: Vec::new(),
    };
    let click = |id: u128, event: Timestamp| crate::world::click("a", id, event);
    let late = noon - clicks::time::Span::minutes(11);
    let records = [
        record(0, click(1, noon)),
        record(1, click(1, noon)),
        record(2, click(2, late)),
        record(3, "no click".to_owned()),
    ];
    let rules = RulesBook::new(clicks::rules::Rules::default()).unwrap();
    let truth = truth(&records, &rules, Offset::ZERO, day, day);
    assert_eq!((truth.counts.len(), truth.late.len()), (1, 1));
    let totals = Totals { seen: 4, rejected: 1, duplicate: 1, late: 1, counted: 1, ..Totals::default() };
    assert_eq!(truth.totals, totals);
}
