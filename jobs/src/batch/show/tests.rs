use std::collections::BTreeMap;

use clicks::ledger::{Balance, Check, DayRevision, DayTotals, FileRef, Objection};
use clicks::time::{Day, Timestamp};
use recompute::{BatchError, Incomplete};

use super::*;
use crate::batch::run::Asked;

fn day(text: &str) -> Day {
    text.parse().unwrap()
}

fn revision(text: &str, revision: u32, clicks: u64) -> DayRevision {
    let file = || FileRef { key: "k".to_owned(), sha256: "ab".to_owned(), bytes: 1, rows: 1 };
    let totals = DayTotals { clicks, late: 2, duplicates: 3, ..DayTotals::default() };
    let (minute, hour, day_file) = (file(), file(), file());
    DayRevision { day: day(text), revision, rules_version: 1, minute, hour, day_file, totals, change: None }
}

fn report(text: &str, entry: u64) -> NightReport {
    NightReport {
        night: day(text),
        entry,
        days: vec![revision(text, 1, 100)],
        withheld: Vec::new(),
        accepted: None,
        confirmed: Vec::new(),
        finals: Vec::new(),
        adjustments: BTreeMap::new(),
        drift: Drift::NotCompared,
        balance: Balance::default(),
        objects: 3,
    }
}

fn outcome(nights: Vec<NightReport>, end: End) -> Outcome {
    Outcome { asked: Asked::AllDue { lookback: None }, nights, end }
}

fn nothing_due(last_night: Option<Day>) -> End {
    End::NothingDue { next: day("2026-03-03"), due: Timestamp::EPOCH, last_night }
}

#[test]
fn every_outcome_is_one_line() {
    let mut busy = report("2026-03-02", 3);
    busy.days.push(revision("2026-03-01", 2, 101));
    busy.finals.push(day("2026-02-27"));
    busy.adjustments.insert(day("2026-02-20"), 5);
    let lost = || BatchError::Lost { night: day("2026-03-02"), entry: 3 };
    let waits = || Incomplete { night: day("2026-03-02"), lagging: Vec::new() };
    let cases = [
        (
            outcome(vec![report("2026-03-01", 2)], End::Done),
            "closed 2026-03-01: 100 clicks (2 of them late), 3 duplicates (ledger entry 2)",
        ),
        (
            outcome(vec![report("2026-03-01", 2), busy], nothing_due(Some(day("2026-03-02")))),
            "closed 2 nights, 2026-03-01 to 2026-03-02: 200 clicks (4 of them late), 6 duplicates, 1 earlier day restated, \
             1 day final now, 5 clicks of final days adjusted (ledger entries 2 to 3); 2026-03-03 is next, due at \
             1970-01-01T00:00:00.000Z",
        ),
        (
            outcome(Vec::new(), nothing_due(Some(day("2026-03-02")))),
            "no night is due: 2026-03-03 is next, due at 1970-01-01T00:00:00.000Z; the last is 2026-03-02",
        ),
        (
            outcome(Vec::new(), End::AlreadyPublished { night: day("2026-03-01"), entry: 2 }),
            "the night of 2026-03-01 is published already, by ledger entry 2; nothing changed",
        ),
        (outcome(Vec::new(), End::Waits(waits())), "nothing published: 2026-03-02 waits for the archive"),
        (
            outcome(vec![report("2026-03-01", 2)], End::Failed(lost())),
            "closed 2026-03-01: 100 clicks (2 of them late), 3 duplicates (ledger entry 2); a night failed (lost, exit code \
             11)",
        ),
        (
            outcome(
                Vec::new(),
                End::Behind { first: day("2026-03-01"), last: day("2026-03-05"), nights: 5, lookback: 3 },
            ),
            "nothing published: 5 nights are due, --lookback allows 3",
        ),
    ];
    for (outcome, expected) in &cases {
        let line = summary(outcome, &RunHow::default());
        assert_eq!(&line, expected);
        assert!(!line.contains('\n'));
    }
    let dry = RunHow { dry_run: true, ..RunHow::default() };
    let line = summary(&cases[0].0, &dry);
    assert!(line.starts_with("dry run, nothing is written; this would close 2026-03-01: 100 clicks"), "{line}");
    assert!(details(&cases[0].0.nights[0], true).contains("would be published"));
}

#[test]
fn a_withheld_day_is_told_and_its_exit_code_is_that_of_a_gate() {
    let mut odd = report("2026-03-02", 3);
    odd.days = vec![revision("2026-03-01", 2, 101)];
    odd.withheld = vec![Objection { check: Check::Volume, detail: "2026-03-02 has 3 clicks".to_owned() }];
    for (nights, end, expected) in [
        (
            vec![odd.clone()],
            End::Done,
            "closed the night of 2026-03-02, but its own day is withheld, 1 earlier day restated (ledger entry 3)",
        ),
        (
            vec![report("2026-03-01", 2), odd.clone()],
            nothing_due(None),
            "closed 2 nights, 2026-03-01 to 2026-03-02: 100 clicks (2 of them late), 3 duplicates, 2026-03-02 withheld, 1 \
             earlier day restated (ledger entries 2 to 3); 2026-03-03 is next, due at 1970-01-01T00:00:00.000Z",
        ),
    ] {
        let outcome = outcome(nights, end);
        assert_eq!(summary(&outcome, &RunHow::default()), expected);
        assert_eq!(outcome.exit(), crate::exit::Exit::Gate);
        assert!(details(outcome.nights.last().unwrap(), false).contains("withheld (volume): 2026-03-02 has 3 clicks"));
    }
    let told = withheld(&odd);
    assert!(told.contains("has 3 clicks") && told.contains("--date 2026-03-02 --accept REASON"), "{told}");
}

#[test]
fn how_a_day_compares_with_the_live_view_is_a_detail() {
    let mut night = report("2026-03-02", 3);
    assert!(!details(&night, false).contains("live view"));
    night.drift = Drift::Compared { live: 98, exact: 98, live_late: Some(2), exact_late: 2 };
    assert!(details(&night, false).contains("2026-03-02  on time by the live rule: 98 clicks, the live view has 98"));
    night.drift = Drift::Unknown("partition 3 has fallen behind".to_owned());
    let text = details(&night, false);
    assert!(text.contains("not compared with the live view: partition 3 has fallen behind"), "{text}");
}

#[test]
fn nights_before_the_one_that_fails_are_in_the_document() {
    let error = BatchError::Lost { night: day("2026-03-02"), entry: 3 };
    let failed = outcome(vec![report("2026-03-01", 2)], End::Failed(error));
    let shown = document(&failed, &RunHow::default());
    assert_eq!((&shown["nights"][0]["night"], &shown["exit_code"]), (&json!("2026-03-01"), &json!(11)));
    assert_eq!(shown["failed"]["code"], json!("lost"));
    assert!(shown["error"].as_str().unwrap().contains("run again"), "{shown}");
    let done = document(&outcome(Vec::new(), nothing_due(None)), &RunHow::default());
    assert_eq!((done.get("error"), &done["nothing_due"]["next"]), (None, &json!("2026-03-03")));
}

#[test]
fn a_run_that_is_too_far_behind_is_told_what_to_do() {
    let end = End::Behind { first: day("2026-03-01"), last: day("2026-03-05"), nights: 5, lookback: 3 };
    let text = trouble(&end).unwrap();
    assert!(text.contains("2026-03-01 to 2026-03-05") && text.contains("--lookback 5"), "{text}");
}
