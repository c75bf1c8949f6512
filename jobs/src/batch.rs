//! `twofold batch`: what a scheduler starts. Its exit code says what to do next.

use std::fmt::Write;

use anyhow::Result;
use clicks::time::Day;
use platform::settings::Settings;
use recompute::{BatchError, Interrupted, NightOutcome, NightReport, RecountReport, Status};
use serde_json::{Value, json};

use crate::cli::BatchCommand;
use crate::connect;
use crate::exit::{Exit, print};

pub async fn run(settings: &Settings, command: BatchCommand, as_json: bool) -> Result<Exit> {
    let options = recompute::Options {
        memory_limit_bytes: settings.batch.memory_bytes,
        target_partitions: settings.batch.target_partitions,
        ..recompute::Options::default()
    };
    match command {
        BatchCommand::Run { date } => night(settings, &options, date, as_json).await,
        BatchCommand::CatchUp => catch_up(settings, &options, as_json).await,
        BatchCommand::Status => status(settings, as_json).await,
    }
}

async fn night(settings: &Settings, options: &recompute::Options, date: Option<Day>, as_json: bool) -> Result<Exit> {
    let (objects, ledger, clock) = (connect::objects(settings)?, connect::ledger(settings)?, connect::clock(settings));
    match recompute::run_night(options, &objects, &ledger, &*clock, date).await {
        Ok(outcome) => {
            show(&outcome, as_json)?;
            Ok(exit_of(&outcome))
        }
        Err(error) => Ok(refuse(&error, &[], as_json)),
    }
}

/// Whoever asks for one night and gets none, neither now nor before, is told to come again. `catch-up` asks for what is
/// due, and to it nothing due is all done.
fn exit_of(outcome: &NightOutcome) -> Exit {
    match outcome {
        NightOutcome::NothingDue { last_night: None, .. } => Exit::Incomplete,
        NightOutcome::Published(report) if !report.withheld.is_empty() => Exit::Gate,
        NightOutcome::NothingDue { .. }
        | NightOutcome::Published(_)
        | NightOutcome::Recounted(_)
        | NightOutcome::AlreadyPublished { .. } => Exit::Done,
    }
}

async fn catch_up(settings: &Settings, options: &recompute::Options, as_json: bool) -> Result<Exit> {
    let (objects, ledger, clock) = (connect::objects(settings)?, connect::ledger(settings)?, connect::clock(settings));
    let caught_up = match recompute::catch_up(options, &objects, &ledger, &*clock).await {
        Ok(caught_up) => caught_up,
        Err(Interrupted { nights, error }) => {
            if !as_json && !nights.is_empty() {
                print(describe_nights(&nights).trim_end())?;
            }
            return Ok(refuse(&error, &nights, as_json));
        }
    };
    let text = if as_json { serde_json::to_string(&caught_up)? } else { describe_nights(&caught_up.nights) };
    print(text.trim_end())?;
    match caught_up.waits {
        None => Ok(Exit::Done),
        Some(incomplete) => {
            eprintln!("twofold: {incomplete}");
            Ok(Exit::Incomplete)
        }
    }
}

async fn status(settings: &Settings, as_json: bool) -> Result<Exit> {
    let (objects, ledger, clock) = (connect::objects(settings)?, connect::ledger(settings)?, connect::clock(settings));
    let status = recompute::status(&objects, &ledger, &*clock).await?;
    let text = if as_json { serde_json::to_string(&status)? } else { describe_status(&status) };
    print(text.trim_end())?;
    Ok(Exit::Done)
}

fn show(outcome: &NightOutcome, as_json: bool) -> Result<()> {
    let text = if as_json { serde_json::to_string(outcome)? } else { describe(outcome) };
    print(text.trim_end())
}

fn describe(outcome: &NightOutcome) -> String {
    match outcome {
        NightOutcome::AlreadyPublished { night, entry } => {
            format!("the night of {night} is published already, by ledger entry {entry}; nothing changed\n")
        }
        NightOutcome::NothingDue { next, due, last_night } => {
            let last = last_night.map_or("no night is published yet".to_owned(), |last| format!("the last is {last}"));
            format!("no night is due: that of {next} can run from {due} on; {last}\n")
        }
        NightOutcome::Published(report) => describe_night(report),
        NightOutcome::Recounted(report) => describe_recount(report),
    }
}

fn describe_recount(report: &RecountReport) -> String {
    let RecountReport { day, entry, night, absorbs, .. } = report;
    let clicks = day.totals.clicks;
    let absorbed = match absorbs.len() {
        0 => String::new(),
        nights => format!(", adjustments of {nights} nights are in it"),
    };
    format!(
        "{} is counted again at the cut of night {night}: revision {}, {clicks} clicks{absorbed}; ledger entry {entry}\n",
        day.day, day.revision
    )
}

fn describe_nights(nights: &[NightReport]) -> String {
    let reports: String = nights.iter().map(describe_night).collect();
    format!("{reports}{} nights published\n", nights.len())
}

fn describe_night(report: &NightReport) -> String {
    let mut text = format!("the night of {} is published by ledger entry {}\n", report.night, report.entry);
    for day in &report.days {
        let totals = day.totals;
        let _ = writeln!(
            text,
            "  {}  revision {}: {} clicks ({} of them late), {} duplicates ({} of them beyond the live horizon)",
            day.day, day.revision, totals.clicks, totals.late, totals.duplicates, totals.far_duplicates
        );
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

fn describe_status(status: &Status) -> String {
    let mut text = String::new();
    let last = status.last_night.map_or("none".to_owned(), |night| night.to_string());
    let _ = writeln!(text, "ledger entry {}, first day {}, last night {last}", status.head, status.first_day);
    let waits = match (&status.waits, &status.obstacle) {
        (_, Some(obstacle)) => obstacle.clone(),
        (Some(incomplete), None) => incomplete.to_string(),
        (None, None) => "it can run now".to_owned(),
    };
    let _ = writeln!(text, "next night {}, needs records appended up to {}: {waits}", status.next_night, status.needed);
    for partition in &status.partitions {
        let coverage = partition.coverage.map_or("nothing stored".to_owned(), |time| format!("stored up to {time}"));
        let ended = if partition.ended { ", ended" } else { "" };
        let _ = writeln!(text, "  {}  {coverage}{ended}", partition.partition);
    }
    for day in &status.days {
        let adjusted = if day.adjustment > 0 { format!(" + {} adjusted", day.adjustment) } else { String::new() };
        let _ = writeln!(
            text,
            "  {}  {} revision {}: {} clicks{adjusted}",
            day.day,
            day.state.name(),
            day.revision,
            day.clicks
        );
    }
    text
}

/// Says why a night was not published, and what a scheduler should do about it. `nights` were published before it.
fn refuse(error: &BatchError, nights: &[NightReport], as_json: bool) -> Exit {
    if as_json {
        // Where nobody reads it, the exit code still says what to do.
        let _ = print(&refusal(error, nights).to_string());
    }
    eprintln!("twofold: {error}");
    Exit::of_code(error.exit_code())
}

fn refusal(error: &BatchError, nights: &[NightReport]) -> Value {
    let mut refusal = json!({"error": error.to_string(), "exit_code": error.exit_code()});
    if !nights.is_empty() {
        refusal["nights"] = json!(nights);
    }
    refusal
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use clicks::ledger::Balance;
    use clicks::time::Timestamp;

    use super::*;

    fn day(text: &str) -> Day {
        text.parse().unwrap()
    }

    #[test]
    fn only_a_single_night_on_a_new_installation_waits() {
        let nothing =
            |last_night| NightOutcome::NothingDue { next: day("2026-03-02"), due: Timestamp::EPOCH, last_night };
        assert_eq!(exit_of(&nothing(None)), Exit::Incomplete);
        assert_eq!(exit_of(&nothing(Some(day("2026-03-01")))), Exit::Done);
        let text = describe(&nothing(Some(day("2026-03-01"))));
        assert!(text.contains("2026-03-02") && text.contains("the last is 2026-03-01"), "{text}");
    }

    #[test]
    fn nights_before_the_one_that_fails_are_reported() {
        let report = NightReport {
            night: day("2026-03-01"),
            entry: 2,
            days: Vec::new(),
            withheld: Vec::new(),
            accepted: None,
            confirmed: Vec::new(),
            finals: Vec::new(),
            adjustments: BTreeMap::new(),
            balance: Balance::default(),
            objects: 3,
        };
        let error = BatchError::Lost { night: day("2026-03-02"), entry: 3 };
        let shown = refusal(&error, std::slice::from_ref(&report));
        assert_eq!((&shown["nights"][0]["night"], &shown["exit_code"]), (&json!("2026-03-01"), &json!(11)));
        assert!(describe_nights(&[report]).ends_with("1 nights published\n"));
        assert_eq!(refusal(&error, &[]).get("nights"), None);
    }
}
