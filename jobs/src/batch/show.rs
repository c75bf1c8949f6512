//! A run as one line on standard output, or as JSON; everything else goes to stderr.

use std::fmt::Write;

use anyhow::Result;
use clicks::time::Day;
use recompute::{BatchError, Drift, NightReport, RecountReport};
use serde_json::{Value, json};

use super::range;
use super::run::{End, Outcome};
use crate::cli::RunHow;
use crate::exit::print;

const VERSION: u32 = 1;

pub(super) fn show(outcome: &Outcome, how: &RunHow, as_json: bool) -> Result<()> {
    // Where nobody reads it, the exit code still says what to do; but a result that is lost is told.
    let printed = match as_json {
        true => print(&document(outcome, how).to_string()),
        false => print(&summary(outcome, how)),
    };
    if how.verbose {
        eprint!("{}", outcome.nights.iter().map(|night| details(night, how.dry_run)).collect::<String>());
    }
    for night in outcome.nights.iter().filter(|night| !night.withheld.is_empty()) {
        eprintln!("twofold: {}", withheld(night));
    }
    if let Some(trouble) = trouble(&outcome.end) {
        eprintln!("twofold: {trouble}");
    }
    printed
}

/// One line: what is published, and what comes next.
pub(super) fn summary(outcome: &Outcome, how: &RunHow) -> String {
    let published = closed(&outcome.nights, how.dry_run);
    let end = match &outcome.end {
        End::Done => None,
        End::Recounted(report) => Some(recounted(report, how.dry_run)),
        End::AlreadyPublished { night, entry } => {
            Some(format!("the night of {night} is published already, by ledger entry {entry}; nothing changed"))
        }
        End::NothingDue { next, due, last_night: _ } if published.is_some() => {
            Some(format!("{next} is next, due at {due}"))
        }
        End::NothingDue { next, due, last_night } => {
            let last = last_night.map_or("no night is published yet".to_owned(), |last| format!("the last is {last}"));
            Some(format!("no night is due: {next} is next, due at {due}; {last}"))
        }
        End::Waits(incomplete) => Some(format!("{} waits for the archive", incomplete.night)),
        End::Held(held) => Some(format!("another run is at work: {}", held.holder)),
        End::Behind { nights, lookback, .. } => Some(format!("{nights} nights are due, --lookback allows {lookback}")),
        End::Failed(error) => Some(format!("a night failed ({}, exit code {})", error.code(), error.exit_code())),
    };
    let is_trouble = trouble(&outcome.end).is_some();
    match (published, end) {
        (Some(published), Some(end)) => format!("{published}; {end}"),
        (None, Some(end)) if is_trouble => format!("nothing published: {end}"),
        (published, end) => published.or(end).unwrap_or_default(),
    }
}

fn recounted(report: &RecountReport, is_rehearsal: bool) -> String {
    let RecountReport { day, entry, night, absorbs, accepted, .. } = report;
    let start = if is_rehearsal { "dry run, nothing is written; this would publish " } else { "published " };
    let mut text = format!(
        "{start}{}: revision {}, {} clicks at the cut of night {night}",
        day.day, day.revision, day.totals.clicks
    );
    if !absorbs.is_empty() {
        let _ = write!(text, ", adjustments of {} nights absorbed", absorbs.len());
    }
    if let Some(accepted) = accepted {
        let _ = write!(text, ", accepted by {}", accepted.actor);
    }
    let _ = write!(text, " (ledger entry {entry})");
    text
}

/// What nights have published; `None` for none.
fn closed(nights: &[NightReport], is_rehearsal: bool) -> Option<String> {
    let (first, last) = (nights.first()?, nights.last()?);
    let mut text = match is_rehearsal {
        true => "dry run, nothing is written; this would close ".to_owned(),
        false => "closed ".to_owned(),
    };
    let withheld: Vec<Day> =
        nights.iter().filter(|night| !night.withheld.is_empty()).map(|night| night.night).collect();
    if let ([only], [_]) = (nights, withheld.as_slice()) {
        let _ = write!(text, "the night of {}, but its own day is withheld", only.night);
    } else {
        if nights.len() > 1 {
            let _ = write!(text, "{} nights, ", nights.len());
        }
        let own = |night: &NightReport| night.days.iter().find(|day| day.day == night.night).map(|day| day.totals);
        let totals: Vec<_> = nights.iter().filter_map(own).collect();
        let sum = |of: fn(&clicks::ledger::DayTotals) -> u64| totals.iter().map(of).sum::<u64>();
        let _ = write!(
            text,
            "{}: {} clicks ({} of them late), {} duplicates",
            range(first.night, last.night),
            sum(|totals| totals.clicks),
            sum(|totals| totals.late),
            sum(|totals| totals.duplicates)
        );
        for day in withheld {
            let _ = write!(text, ", {day} withheld");
        }
    }
    let restated: usize =
        nights.iter().map(|night| night.days.iter().filter(|day| day.day != night.night).count()).sum();
    let finals: usize = nights.iter().map(|night| night.finals.len()).sum();
    let adjusted: u64 = nights.iter().flat_map(|night| night.adjustments.values()).sum();
    for (count, one, more) in [
        (restated as u64, "earlier day restated", "earlier days restated"),
        (finals as u64, "day final now", "days final now"),
        (adjusted, "click of a final day adjusted", "clicks of final days adjusted"),
    ] {
        if count > 0 {
            let _ = write!(text, ", {count} {}", if count == 1 { one } else { more });
        }
    }
    let (one, more) =
        (format!("ledger entry {}", first.entry), format!("ledger entries {} to {}", first.entry, last.entry));
    let _ = write!(text, " ({})", if nights.len() == 1 { one } else { more });
    Some(text)
}

/// What the end of a run asks of people.
fn trouble(end: &End) -> Option<String> {
    match end {
        End::Waits(incomplete) => Some(incomplete.to_string()),
        End::Failed(error) => Some(error.to_string()),
        End::Held(held) => Some(format!(
            "another run, {}, has held the lease since {} and holds it until {}; run again later, or let `--wait` wait for \
             it (the lease of a run that was killed ends by itself)",
            held.holder, held.since, held.until
        )),
        End::Behind { first, last, nights, lookback } => Some(format!(
            "{nights} nights are due, {}, and --lookback allows {lookback}. Nights publish in order and none is left out, \
             so nothing was published; run with --lookback {nights}, or without it",
            range(*first, *last)
        )),
        End::Done | End::Recounted(_) | End::AlreadyPublished { .. } | End::NothingDue { .. } => None,
    }
}

/// What a day that was left out asks of people.
fn withheld(report: &NightReport) -> String {
    BatchError::withheld(report.night, &report.withheld).to_string()
}

/// Why a run does not go on by itself, for whoever watches it wait.
pub(super) fn waits_for(end: &End) -> String {
    match end {
        End::NothingDue { next, due, .. } => format!("the night of {next} is due at {due}"),
        End::Held(held) => format!("{} holds the lease until {}", held.holder, held.until),
        other => trouble(other).unwrap_or_default(),
    }
}

/// A night line by line.
fn details(report: &NightReport, is_rehearsal: bool) -> String {
    let is = if is_rehearsal { "would be" } else { "is" };
    let mut text = format!("the night of {} {is} published by ledger entry {}\n", report.night, report.entry);
    for day in &report.days {
        let totals = day.totals;
        let _ = writeln!(
            text,
            "  {}  revision {}: {} clicks ({} of them late), {} duplicates ({} of them beyond the live horizon)",
            day.day, day.revision, totals.clicks, totals.late, totals.duplicates, totals.far_duplicates
        );
    }
    for objection in &report.withheld {
        let _ = writeln!(text, "  {}  withheld ({}): {}", report.night, objection.check.name(), objection.detail);
    }
    match &report.drift {
        Drift::NotCompared => {}
        Drift::Unknown(why) => {
            let _ = writeln!(text, "  {}  not compared with the live view: {why}", report.night);
        }
        Drift::Compared { live, exact, .. } => {
            let _ = writeln!(
                text,
                "  {}  on time by the live rule: {exact} clicks, the live view has {live}",
                report.night
            );
        }
    }
    for day in &report.confirmed {
        let _ = writeln!(text, "  {day}  checked again, unchanged");
    }
    for day in &report.finals {
        let _ = writeln!(text, "  {day}  is final now");
    }
    for (day, clicks) in &report.adjustments {
        let _ = writeln!(text, "  {day}  was final before: {clicks} clicks adjusted");
    }
    let _ = writeln!(text, "  {} records of {} raw objects", report.balance.rows, report.objects);
    text
}

/// The whole outcome. Times are milliseconds UTC.
pub(super) fn document(outcome: &Outcome, how: &RunHow) -> Value {
    let mut document = json!({
        "version": VERSION,
        "exit_code": outcome.exit() as u8,
        "dry_run": how.dry_run,
        "nights": outcome.nights,
    });
    let (name, value) = match &outcome.end {
        End::Done => return document,
        End::Recounted(report) => ("recounted", json!(report)),
        End::AlreadyPublished { night, entry } => ("already_published", json!({"night": night, "entry": entry})),
        End::NothingDue { next, due, last_night } => {
            ("nothing_due", json!({"next": next, "due": due, "last_night": last_night}))
        }
        End::Waits(incomplete) => ("waits", json!(incomplete)),
        End::Held(held) => ("held", json!({"holder": held.holder, "since": held.since, "until": held.until})),
        End::Behind { first, last, nights, lookback } => {
            ("behind", json!({"first": first, "last": last, "nights": nights, "lookback": lookback}))
        }
        End::Failed(error) => ("failed", json!({"code": error.code()})),
    };
    document[name] = value;
    if let Some(trouble) = trouble(&outcome.end) {
        document["error"] = json!(trouble);
    }
    document
}

#[cfg(test)]
mod tests;
