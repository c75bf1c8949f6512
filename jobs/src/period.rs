//! `twofold period`: how far a day can be trusted, and what people decide about it.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use clicks::books::{Books, Note, PeriodState};
use clicks::ledger::{Acceptance, Change, Objection, PeriodAction};
use clicks::tables::EntryNumber;
use clicks::time::Day;
use platform::settings::Settings;
use serde::Serialize;
use serde_json::json;

use crate::billing::month;
use crate::cli::{Decision, PeriodCommand};
use crate::connect;
use crate::exit::{Exit, print, refuse};

pub async fn run(settings: &Settings, command: PeriodCommand, as_json: bool) -> Result<Exit> {
    match command {
        PeriodCommand::Status { month: Some(month), tz, .. } => month::status(settings, month, tz, as_json).await,
        PeriodCommand::Status { date, .. } => status(settings, date, as_json).await,
        PeriodCommand::Approve(decision) => decide(settings, PeriodAction::Approve, decision, as_json).await,
        PeriodCommand::Hold(decision) => decide(settings, PeriodAction::Hold, decision, as_json).await,
        PeriodCommand::Reopen(decision) => decide(settings, PeriodAction::Reopen, decision, as_json).await,
    }
}

async fn decide(settings: &Settings, action: PeriodAction, decision: Decision, as_json: bool) -> Result<Exit> {
    let Decision { date, reason, actor } = decision;
    let actor = match actor.name() {
        Ok(actor) => actor,
        Err(question) => return refuse(question),
    };
    let (objects, ledger, clock) = (connect::objects(settings)?, connect::ledger(settings)?, connect::clock(settings));
    match recompute::change_period(&objects, &ledger, &*clock, date, action, &actor, &reason).await {
        Ok(entry) => {
            let text = match as_json {
                true => {
                    json!({"day": date, "action": action, "actor": actor, "reason": reason, "entry": entry}).to_string()
                }
                false => format!("{date} {}, by ledger entry {entry}{}", done(action), next_step(action, date)),
            };
            print(&text)?;
            Ok(Exit::Done)
        }
        Err(error) => {
            if as_json {
                print(&json!({"error": error.to_string(), "exit_code": error.exit_code()}).to_string())?;
            }
            eprintln!("twofold: {error}");
            Ok(Exit::of_code(error.exit_code()))
        }
    }
}

const fn done(action: PeriodAction) -> &'static str {
    match action {
        PeriodAction::Approve => "is final now",
        PeriodAction::Hold => "is held: it does not become final until it is approved",
        PeriodAction::Reopen => "is reopened: it goes on serving its revision and adjustments",
    }
}

fn next_step(action: PeriodAction, day: Day) -> String {
    match action {
        PeriodAction::Approve | PeriodAction::Hold => String::new(),
        PeriodAction::Reopen => format!("; `twofold batch run --date {day}` publishes the next revision"),
    }
}

/// One day of the books, for people and for programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct PeriodStatus {
    day: Day,
    state: PeriodState,
    /// Does not become final by itself.
    held: bool,
    /// `None` while nothing is published of it.
    revision: Option<u32>,
    /// The entry that has published the revision, or withheld the day.
    entry: Option<EntryNumber>,
    clicks: Option<u64>,
    /// Clicks that came after the day was final, by night.
    adjustments: BTreeMap<Day, u64>,
    /// What the last revision has changed.
    change: Option<Change>,
    /// Why it is withheld.
    objections: Vec<Objection>,
    accepted: Option<Acceptance>,
    notes: Vec<Note>,
}

impl PeriodStatus {
    fn of(books: &Books, day: Day) -> Self {
        let book = books.day(day);
        let withheld = books.withheld().get(&day);
        let mut adjustments = BTreeMap::new();
        for adjustment in books.adjustments(day) {
            *adjustments.entry(adjustment.night).or_default() += adjustment.clicks;
        }
        PeriodStatus {
            day,
            state: books.state(day),
            held: book.is_some_and(|book| book.is_held),
            revision: book.map(|book| book.revision.revision),
            entry: book.map(|book| book.entry).or(withheld.map(|withheld| withheld.entry)),
            clicks: book.map(|book| book.revision.totals.clicks),
            adjustments,
            change: book.and_then(|book| book.revision.change.clone()),
            objections: withheld.map(|withheld| withheld.objections.clone()).unwrap_or_default(),
            accepted: book.and_then(|book| book.accepted.clone()),
            notes: books.notes(day).to_vec(),
        }
    }

    fn describe(&self) -> String {
        let mut text = format!("{}  {}", self.day, self.state.name());
        if self.held {
            text += ", held";
        }
        if let (Some(revision), Some(entry), Some(clicks)) = (self.revision, self.entry, self.clicks) {
            let _ = write!(text, "  revision {revision} of entry {entry}: {clicks} clicks");
        }
        let adjusted: u64 = self.adjustments.values().sum();
        if adjusted > 0 {
            let _ = write!(text, " + {adjusted} adjusted");
        }
        text.push('\n');
        if let Some(change) = &self.change {
            let (name, clicks, ads) = (change.reason.name(), change.clicks, change.file.rows);
            let _ = writeln!(
                text,
                "    {clicks:+} clicks of {ads} ads against the revision before ({name}): {}",
                change.file.key
            );
        }
        for (night, clicks) in &self.adjustments {
            let _ = writeln!(text, "    night {night} found {clicks} clicks more");
        }
        for objection in &self.objections {
            let _ = writeln!(text, "    {}: {}", objection.check.name(), objection.detail);
        }
        for note in &self.notes {
            let Note { entry, deed, actor, reason, at } = note;
            let _ = writeln!(text, "    {} by {actor} at {at} (entry {entry}): {reason}", deed.name());
        }
        for objection in self.accepted.iter().flat_map(|accepted| &accepted.objections) {
            let _ = writeln!(text, "    accepted although {}: {}", objection.check.name(), objection.detail);
        }
        text
    }
}

async fn status(settings: &Settings, day: Option<Day>, as_json: bool) -> Result<Exit> {
    let books = connect::ledger(settings)?.read().await?;
    let days: Vec<Day> = match day {
        Some(day) => vec![day],
        None => noteworthy(&books),
    };
    let found: Vec<PeriodStatus> = days.into_iter().map(|day| PeriodStatus::of(&books, day)).collect();
    let text = match as_json {
        true => serde_json::to_string(&found)?,
        false if found.is_empty() => "every closed day is final, and nobody has decided anything".to_owned(),
        false => found.iter().map(PeriodStatus::describe).collect(),
    };
    print(text.trim_end())?;
    Ok(Exit::Done)
}

/// Days that are not settled for good, and those that people have decided about, in order.
fn noteworthy(books: &Books) -> Vec<Day> {
    let closed = books.days().map(|(day, _)| day).chain(books.withheld().keys().copied());
    let settled = |day: &Day| matches!(books.state(*day), PeriodState::Final | PeriodState::Adjusted);
    let mut days: Vec<Day> = closed.filter(|day| !settled(day) || !books.notes(*day).is_empty()).collect();
    days.sort_unstable();
    days
}
