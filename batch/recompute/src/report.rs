//! The report of a run, beside the entry that it published: how long what took, what was checked, what has changed.
//!
//! It is for people. No number and no decision rests on it, it holds wall times, and it is written after the entry: a run
//! that ends in between leaves none, and nobody writes it later.

use std::collections::BTreeMap;

use clicks::books::Books;
use clicks::ledger::{Balance, DayTotals, Night};
use clicks::tables::{EntryNumber, report_key};
use clicks::time::{Day, Timestamp};
use platform::objects::Objects;
use serde::Serialize;

use crate::Options;
use crate::drift::Drift;
use crate::stages::Stage;

const VERSION: u32 = 1;

/// Times are milliseconds UTC.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Report {
    version: u32,
    entry: EntryNumber,
    night: Day,
    release: String,
    /// Which process ran, see [`Options::runner`].
    runner: String,
    began_at: Timestamp,
    published_at: Timestamp,
    ended_at: Timestamp,
    stages: Vec<StageSeconds>,
    /// Raw objects that were read.
    objects: u64,
    balance: Balance,
    checks: Vec<Check>,
    /// How the day of the run compares with the live view of it.
    drift: Drift,
    days: Vec<DayChange>,
    confirmed: Vec<Day>,
    finals: Vec<Day>,
    /// Clicks per day that was final before.
    adjustments: BTreeMap<Day, u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
struct StageSeconds {
    stage: Stage,
    seconds: f64,
}

/// Two ways to one number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Check {
    check: &'static str,
    left: u64,
    right: u64,
    holds: bool,
}

/// What a day has now and had before.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct DayChange {
    day: Day,
    revision: u32,
    totals: DayTotals,
    /// What the live view shows of it by its own rule: clicks - late + far duplicates.
    live: u64,
    /// Absent for a day that was not published before.
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<DayTotals>,
    /// Clicks more than before.
    delta: i64,
}

impl Report {
    /// The report of a night, or of a recount as one, that is about to be published on top of `books`.
    pub(crate) fn draft(books: &Books, night: &Night, drift: &Drift, options: &Options, began_at: Timestamp) -> Self {
        let adjustments = night.adjustments.as_ref().map(|a| a.clicks.clone()).unwrap_or_default();
        let change = |revision: &clicks::ledger::DayRevision| {
            let before = books.day(revision.day).map(|book| book.revision.totals);
            let delta = revision.totals.clicks as i64 - before.map_or(0, |before| before.clicks as i64);
            let (day, totals) = (revision.day, revision.totals);
            DayChange { day, revision: revision.revision, totals, live: totals.live(), before, delta }
        };
        Report {
            version: VERSION,
            entry: books.head() + 1,
            night: night.night,
            release: night.release.clone(),
            runner: options.runner.clone(),
            began_at,
            published_at: night.published_at,
            ended_at: night.published_at,
            stages: Vec::new(),
            objects: night.inputs.rows,
            balance: night.balance,
            checks: checks(books, night),
            drift: drift.clone(),
            days: night.days.iter().map(change).collect(),
            confirmed: night.confirmed.clone(),
            finals: night.finals.clone(),
            adjustments,
        }
    }

    /// Completes the report and writes it. What it reports of is published, so a failure is only said.
    pub(crate) async fn write(mut self, objects: &Objects, options: &Options, ended_at: Timestamp) {
        self.ended_at = ended_at;
        let stages = options.stages.seconds().into_iter();
        self.stages = stages.map(|(stage, seconds)| StageSeconds { stage, seconds }).collect();
        let text = serde_json::to_vec(&self).expect("a report is plain data with text keys, which always serialises");
        if let Err(error) = objects.put(&report_key(self.entry), text.into()).await {
            tracing::warn!(entry = self.entry, "the entry is published, the report of its run is not written: {error}");
        }
    }
}

/// The sums of the gate once more, from what the entry says.
fn checks(books: &Books, night: &Night) -> Vec<Check> {
    let Balance { rows, counted, duplicates, rejected, control, other_days } = night.balance;
    let confirmed = night.confirmed.iter().filter_map(|day| books.day(*day)).map(|book| book.revision.totals);
    let days: Vec<DayTotals> = night.days.iter().map(|revision| revision.totals).chain(confirmed).collect();
    let adjusted: u64 = night.adjustments.iter().flat_map(|a| a.clicks.values()).sum();
    let clicks = days.iter().map(|day| day.clicks).sum::<u64>() + adjusted;
    let dropped = days.iter().map(|day| day.duplicates).sum();
    let check = |check, left, right| Check { check, left, right, holds: left == right };
    vec![
        check(
            "rows = counted + duplicates + rejected + control + other days",
            rows,
            counted + duplicates + rejected + control + other_days,
        ),
        check("clicks of days and adjustments = counted", clicks, counted),
        check("duplicates of days = duplicates", dropped, duplicates),
    ]
}
