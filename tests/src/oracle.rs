//! The definition of the live counts, as naive as it can be written: the whole log, every sighting remembered for ever,
//! nothing shared with the speed layer but the reading of a click and the rules.

use std::collections::{BTreeMap, HashMap};

use clicks::event::Class;
use clicks::id::{AdId, ClickId};
use clicks::live::{CountKey, LateKey, Meta, Totals};
use clicks::rules::RulesBook;
use clicks::time::Timestamp;
use clicks::window::Minute;
use clicks::wire;
use platform::log::LogRecord;
use platform::store::LiveSlice;

/// What must be stored of a partition.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Truth {
    pub counts: BTreeMap<CountKey, u64>,
    pub late: BTreeMap<LateKey, u64>,
    pub totals: Totals,
}

/// Counts `records`, which begin with the very first record of the log, for a generation with the base of `meta`.
pub fn truth(records: &[LogRecord], rules: &RulesBook, meta: &Meta) -> Truth {
    let mut truth = Truth::default();
    let mut sighted: HashMap<(AdId, ClickId), Timestamp> = HashMap::new();
    let mut now = Timestamp::MIN;
    for record in records {
        now = now.max(record.broker_time);
        let mut totals = Totals { seen: 1, ..Totals::default() };
        let mut count = None;
        match wire::decode(record.value.as_deref()) {
            _ if record.is_control() => totals.control = 1,
            Err(_) => totals.rejected = 1,
            Ok(click) => {
                let rules = rules.on(click.event_time.day());
                let (event, sighting) = (click.event_time, (click.ad_id.clone(), click.click_id));
                let key = CountKey { minute: Minute::of(event), class: Class::Valid, ad: click.ad_id };
                if event.since(now) > rules.ahead_max || now.since(event) > rules.age_max {
                    totals.rejected = 1;
                } else if sighted.insert(sighting, now).is_some_and(|last| now.since(last) < rules.live_horizon) {
                    totals.duplicate = 1;
                } else if now.since(event) > rules.lateness {
                    totals.late = 1;
                    count = Some(key);
                } else {
                    totals.counted = 1;
                    count = Some(key);
                }
            }
        }
        if let Some(key) = count {
            let night = rules.night_of(now);
            if totals.late == 1 && night >= meta.base_night {
                *truth.late.entry(LateKey { night, count: key }).or_default() += 1;
            } else if totals.late == 1 {
                totals.late_expired = 1;
            } else if key.minute.start() >= meta.base_day.start() {
                *truth.counts.entry(key).or_default() += 1;
            } else {
                totals.expired = 1;
            }
        }
        if record.offset >= meta.base_offset {
            add(&mut truth.totals, &totals);
        }
    }
    truth
}

/// Adds up totals of partitions, or of records.
pub fn add(sum: &mut Totals, one: &Totals) {
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
///
/// # Panics
/// At the first difference.
pub fn check(slice: &LiveSlice, records: &[LogRecord], rules: &RulesBook, what: &str) {
    let meta = &slice.meta;
    let truth = truth(records, rules, meta);
    let counts: BTreeMap<_, _> = slice.counts.iter().cloned().collect();
    let late: BTreeMap<_, _> = slice.late.iter().cloned().collect();
    // Totals first: that line is short.
    assert_eq!(meta.totals, truth.totals, "{what}: totals, {meta:?}");
    assert_eq!(counts, truth.counts, "{what}: counts, {meta:?}");
    assert_eq!(late, truth.late, "{what}: late counts, {meta:?}");
    assert_eq!(meta.totals.seen, meta.next_offset.distance_from(meta.base_offset), "{what}: {meta:?}");
    assert!(meta.dedup_evicted == 0 && !meta.is_rebuilding(), "{what}: {meta:?}");
}
