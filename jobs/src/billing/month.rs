//! `twofold period status --month`: what still stands before a close.

use std::fmt::Write;

use anyhow::Result;
use clicks::zone::Zone;
use finance::{Close, Dates};
use platform::settings::Settings;
use serde_json::json;

use super::grouped;
use crate::connect;
use crate::exit::{Exit, print};

pub async fn status(settings: &Settings, period: Dates, zone: Zone, as_json: bool) -> Result<Exit> {
    let books = connect::ledger(settings)?.read().await?;
    let close = Close::of(&books, period.interval(zone));
    let text = match as_json {
        true => json!({
            "period": period.to_string(),
            "time_zone": zone.name(),
            "is_final": close.is_final,
            "ledger_position": books.head(),
            "days": close.days,
        })
        .to_string(),
        false => describe(&close, period, zone),
    };
    print(&text)?;
    Ok(if close.is_final { Exit::Done } else { Exit::Incomplete })
}

fn describe(close: &Close, period: Dates, zone: Zone) -> String {
    let mut text = String::new();
    for day in &close.days {
        let revision = day.revision.map_or("–".to_owned(), |revision| revision.to_string());
        let clicks = day.clicks.map_or("no".to_owned(), grouped);
        let adjusted =
            if day.adjustment > 0 { format!(" + {} adjusted", grouped(day.adjustment)) } else { String::new() };
        let _ =
            write!(text, "{}  {:<9}  revision {revision:<3} {clicks:>15} clicks{adjusted}", day.day, day.state.name());
        if let Some(blocker) = &day.blocker {
            let _ = write!(text, "  {blocker}");
        }
        text.push('\n');
    }
    let (all, blocked) = (close.days.len(), close.blocked());
    let days = if zone == Zone::UTC { "days" } else { "days of UTC that it touches" };
    let _ = match blocked {
        0 => write!(text, "{period} in {} is final: all {all} {days} are", zone.name()),
        _ => write!(text, "{period} in {} is not final: {blocked} of the {all} {days} are not", zone.name()),
    };
    text
}
