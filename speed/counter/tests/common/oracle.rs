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

/// What becomes of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Control,
    Rejected,
    Duplicate,
    Late,
    Counted,
}

/// A record of the log, judged.
#[derive(Debug, Clone)]
pub(crate) struct Judged {
    pub(crate) offset: Offset,
    /// The running maximum.
    pub(crate) append_time: Timestamp,
    /// The last record so far that the broker gave it to.
    pub(crate) time_from: Offset,
    pub(crate) fate: Fate,
    /// What would become of it if its key had not been sighted before; where it would count, if it can be read; and in
    /// which night.
    pub(crate) unsighted: Fate,
    pub(crate) count: Option<CountKey>,
    pub(crate) night: Day,
    /// The last sighting of its key.
    pub(crate) sighted: Option<Offset>,
    pub(crate) fingerprint: String,
}

/// Judges one record after the other, from the very first record of the log on.
#[derive(Debug, Default)]
pub(crate) struct Oracle {
    pub(crate) judged: Vec<Judged>,
    sightings: HashMap<(AdId, ClickId), (Timestamp, Offset)>,
    now: Option<(Timestamp, Offset)>,
}

impl Oracle {
    pub(crate) fn of(records: &[LogRecord], rules: &RulesBook) -> Self {
        let mut oracle = Oracle::default();
        records.iter().for_each(|record| oracle.observe(record, rules));
        oracle
    }

    pub(crate) fn observe(&mut self, record: &LogRecord, rules: &RulesBook) {
        let here = (record.broker_time, record.offset);
        let (now, time_from) = self.now.filter(|(now, _)| *now > record.broker_time).unwrap_or(here);
        self.now = Some((now, time_from));
        let mut judged = Judged {
            offset: record.offset,
            append_time: now,
            time_from,
            fate: Fate::Control,
            unsighted: Fate::Control,
            count: None,
            night: rules.night_of(now),
            sighted: None,
            fingerprint: wire::fingerprint(record.key.as_deref(), record.value.as_deref(), record.broker_time),
        };
        match wire::decode(record.value.as_deref()) {
            _ if record.is_control() => {}
            Err(_) => judged.fate = Fate::Rejected,
            Ok(click) => {
                let rules = rules.on(click.event_time.day());
                let (event, key) = (click.event_time, (click.ad_id.clone(), click.click_id));
                judged.count = Some(CountKey { minute: Minute::of(event), class: Class::Valid, ad: click.ad_id });
                if event.since(now) > rules.ahead_max || now.since(event) > rules.age_max {
                    (judged.fate, judged.unsighted) = (Fate::Rejected, Fate::Rejected);
                } else {
                    let last = self.sightings.insert(key, (now, record.offset));
                    let is_late = now.since(event) > rules.lateness;
                    judged.unsighted = if is_late { Fate::Late } else { Fate::Counted };
                    judged.fate = judged.unsighted;
                    if let Some((_, offset)) = last.filter(|(time, _)| now.since(*time) < rules.live_horizon) {
                        (judged.fate, judged.sighted) = (Fate::Duplicate, Some(offset));
                    }
                }
            }
        }
        self.judged.push(judged);
    }
}

/// What a generation with this base must hold after these records, the whole log from its very first one on.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Truth {
    pub(crate) counts: BTreeMap<CountKey, u64>,
    pub(crate) late: BTreeMap<LateKey, u64>,
    pub(crate) totals: Totals,
}

pub(crate) fn truth(records: &[Judged], base: Offset, base_day: Day, base_night: Day) -> Truth {
    let mut truth = Truth::default();
    // A generation holds what lies at or after its base.
    for record in records.iter().filter(|record| record.offset >= base) {
        let totals = &mut truth.totals;
        totals.seen += 1;
        match record.fate {
            Fate::Control => totals.control += 1,
            Fate::Rejected => totals.rejected += 1,
            Fate::Duplicate => totals.duplicate += 1,
            Fate::Late => totals.late += 1,
            Fate::Counted => totals.counted += 1,
        }
        let Some(key) = record.count.clone() else { continue };
        match record.fate {
            Fate::Late if record.night >= base_night => {
                *truth.late.entry(LateKey { night: record.night, count: key }).or_default() += 1;
            }
            Fate::Late => totals.late_expired += 1,
            Fate::Counted if key.minute.start() >= base_day.start() => *truth.counts.entry(key).or_default() += 1,
            Fate::Counted => totals.expired += 1,
            _ => {}
        }
    }
    truth
}

/// Is the slice, which must be of everything, the truth about these records?
///
/// # Errors
/// What is different.
pub(crate) fn compare(slice: &LiveSlice, records: &[Judged]) -> Result<(), String> {
    let meta = &slice.meta;
    let truth = truth(records, meta.base_offset, meta.base_day, meta.base_night);
    let counts: BTreeMap<_, _> = slice.counts.iter().cloned().collect();
    let late: BTreeMap<_, _> = slice.late.iter().cloned().collect();
    let sums =
        (counts.values().sum::<u64>() + meta.totals.expired, late.values().sum::<u64>() + meta.totals.late_expired);
    equal("counts", &counts, &truth.counts)?;
    equal("late counts", &late, &truth.late)?;
    equal("totals", &meta.totals, &truth.totals)?;
    equal("records lost", &meta.lost, &Lost::NONE)?;
    equal("balance", &meta.is_balanced(), &true)?;
    equal("double entry", &(meta.totals.counted, meta.totals.late), &sums)?;
    equal("evictions", &meta.dedup_evicted, &0)?;
    same_last_record(slice, records)
}

/// The fingerprint is that of the record before the position.
pub(crate) fn same_last_record(slice: &LiveSlice, records: &[Judged]) -> Result<(), String> {
    let meta = &slice.meta;
    match records.iter().rfind(|record| record.offset.next() == meta.next_offset) {
        // There is none where that record was lost.
        Some(last)
            if meta.next_offset > meta.base_offset && !(meta.lost.records > 0 && meta.fingerprint.is_empty()) =>
        {
            equal("fingerprint", &meta.fingerprint, &last.fingerprint)
        }
        _ => Ok(()),
    }
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, stored: &T, truth: &T) -> Result<(), String> {
    if stored == truth { Ok(()) } else { Err(format!("{what}:\n  stored {stored:?}\n  truth  {truth:?}")) }
}

/// Panics unless the slice, which must be of everything, is the truth about `records`.
pub(crate) fn check(slice: &LiveSlice, records: &[LogRecord], rules: &RulesBook, what: &str) {
    let judged = Oracle::of(records, rules).judged;
    if let Err(difference) = compare(slice, &judged) {
        panic!("{what}: {difference}\n  {:?}", slice.meta);
    }
    assert!(!slice.meta.is_rebuilding(), "{what}: {:?}", slice.meta);
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
    let click = |id: u128, event: Timestamp| crate::making::click("a", id, event);
    let late = noon - clicks::time::Span::minutes(11);
    let records = [
        record(0, click(1, noon)),
        record(1, click(1, noon)),
        record(2, click(2, late)),
        record(3, "no click".to_owned()),
    ];
    let rules = RulesBook::new(clicks::rules::Rules::default()).unwrap();
    let judged = Oracle::of(&records, &rules).judged;
    let truth = truth(&judged, Offset::ZERO, day, day);
    assert_eq!((truth.counts.len(), truth.late.len()), (1, 1));
    let totals = Totals { seen: 4, rejected: 1, duplicate: 1, late: 1, counted: 1, ..Totals::default() };
    assert_eq!(truth.totals, totals);
}
