//! `twofold audit`: a published day, counted again.

use std::fmt::Write;

use anyhow::Result;
use clicks::time::Day;
use platform::settings::Settings;
use recompute::{Audit, EntryAudit};
use serde_json::{Value, json};

use super::Desk;
use crate::cli::Engine;
use crate::exit::{Exit, print};

/// Differences that are shown; JSON holds more of them.
const SHOWN: usize = 20;
/// Of the JSON.
const VERSION: u32 = 1;

pub async fn run(settings: &Settings, day: Day, engine: Engine, as_json: bool) -> Result<Exit> {
    let desk = Desk::open(settings)?.counting_by(engine);
    let audit = match recompute::audit(&desk.options, &desk.objects, &desk.ledger, day).await {
        Ok(audit) => audit,
        Err(error) => {
            if as_json {
                print(
                    &json!({"version": VERSION, "error": error.to_string(), "exit_code": error.exit_code()})
                        .to_string(),
                )?;
            }
            eprintln!("twofold: {error}");
            return Ok(Exit::of_code(error.exit_code()));
        }
    };
    let exit = if audit.breaks() == 0 { Exit::Done } else { Exit::Breaks };
    for entry in &audit.entries {
        eprint!("{}", details(entry));
    }
    let text = if as_json { document(&audit, exit)?.to_string() } else { summary(&audit) };
    print(&text)?;
    Ok(exit)
}

fn document(audit: &Audit, exit: Exit) -> Result<Value> {
    let mut document = serde_json::to_value(audit)?;
    document["version"] = json!(VERSION);
    document["breaks"] = json!(audit.breaks());
    document["exit_code"] = json!(exit as u8);
    // As text too: whoever shows them need not know every kind.
    for (entry, found) in audit.entries.iter().enumerate() {
        for (n, found) in found.breaks.first.iter().enumerate() {
            document["entries"][entry]["breaks"]["first"][n]["text"] = json!(found.to_string());
        }
    }
    Ok(document)
}

fn summary(audit: &Audit) -> String {
    let entries = audit.entries.iter().map(|entry| entry.entry.to_string()).collect::<Vec<_>>().join(", ");
    let of = if audit.entries.len() == 1 { "entry" } else { "entries" };
    let sum = |count: fn(&EntryAudit) -> u64| audit.entries.iter().map(count).sum::<u64>();
    let read = format!("{} records of {} raw objects", sum(|entry| entry.rows), sum(|entry| entry.objects));
    match audit.breaks() {
        0 => format!(
            "{} holds: {read} come to the {} rows that ledger {of} {entries} published",
            audit.day,
            sum(|entry| entry.compared)
        ),
        breaks => format!("{} does not hold: {breaks} differences in ledger {of} {entries} ({read})", audit.day),
    }
}

fn details(entry: &EntryAudit) -> String {
    let mut text = String::new();
    for found in entry.breaks.first.iter().take(SHOWN) {
        let _ = writeln!(text, "ledger entry {}: {found}", entry.entry);
    }
    let more = entry.breaks.total.saturating_sub(SHOWN as u64);
    if more > 0 {
        let _ = writeln!(text, "ledger entry {}: {more} differences more", entry.entry);
    }
    for note in &entry.notes {
        let _ = writeln!(text, "ledger entry {}, note: {note}", entry.entry);
    }
    text
}
