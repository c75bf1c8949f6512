//! `twofold batch`: what a scheduler starts. Its exit code says what to do next.

use std::fmt::Write;

use anyhow::Result;
use clicks::time::Day;
use platform::settings::Settings;
use recompute::{BatchError, NightOutcome, NightReport, Status};
use serde_json::json;

use crate::cli::BatchCommand;
use crate::connect;
use crate::exit::Exit;

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
            show(&outcome, as_json);
            Ok(Exit::Done)
        }
        Err(error) => Ok(refuse(&error, as_json)),
    }
}

async fn catch_up(settings: &Settings, options: &recompute::Options, as_json: bool) -> Result<Exit> {
    let (objects, ledger, clock) = (connect::objects(settings)?, connect::ledger(settings)?, connect::clock(settings));
    let caught_up = match recompute::catch_up(options, &objects, &ledger, &*clock).await {
        Ok(caught_up) => caught_up,
        Err(error) => return Ok(refuse(&error, as_json)),
    };
    if as_json {
        println!("{}", serde_json::to_string(&caught_up)?);
    } else {
        for report in &caught_up.nights {
            print!("{}", describe_night(report));
        }
        println!("{} nights published", caught_up.nights.len());
    }
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
    if as_json {
        println!("{}", serde_json::to_string(&status)?);
    } else {
        print!("{}", describe_status(&status));
    }
    Ok(Exit::Done)
}

fn show(outcome: &NightOutcome, as_json: bool) {
    if as_json {
        println!("{}", serde_json::to_string(outcome).expect("an outcome is plain data, which always serialises"));
    } else {
        print!("{}", describe(outcome));
    }
}

fn describe(outcome: &NightOutcome) -> String {
    match outcome {
        NightOutcome::AlreadyPublished { night, entry } => {
            format!("the night of {night} is published already, by ledger entry {entry}; nothing changed\n")
        }
        NightOutcome::Published(report) => describe_night(report),
    }
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

/// Says why nothing was published, and what a scheduler should do about it.
fn refuse(error: &BatchError, as_json: bool) -> Exit {
    if as_json {
        println!("{}", json!({"error": error.to_string(), "exit_code": error.exit_code()}));
    }
    eprintln!("twofold: {error}");
    Exit::of_code(error.exit_code())
}
