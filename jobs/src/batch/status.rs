//! Where the batch stands.

use std::fmt::Write;

use anyhow::Result;
use recompute::Status;

use super::Desk;
use crate::exit::{Exit, print};

pub(super) async fn run(desk: &Desk, as_json: bool) -> Result<Exit> {
    let status = recompute::status(&desk.objects, &desk.ledger, &*desk.clock).await?;
    let text = if as_json { serde_json::to_string(&status)? } else { describe(&status) };
    print(text.trim_end())?;
    Ok(Exit::Done)
}

fn describe(status: &Status) -> String {
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
