//! What was counted again, held against the published tables row by row.

use std::collections::BTreeMap;
use std::sync::Arc;

use clicks::books::Books;
use clicks::event::Class;
use clicks::ledger::{DayRevision, FileRef, Night, sha256};
use clicks::time::{Day, Timestamp};
use clicks::window::Grain;
use platform::objects::Objects;

use super::{Break, Breaks, Counts, EntryAudit, Stopped, read_published};
use crate::Options;
use crate::engine::Engine;
use crate::rollup::roll_up;
use crate::table::{AdjustmentRow, Row, Sheet, decode, decode_adjustments, encode};
use crate::tally::{Counted, DayCount};

/// Every day of the night: new revisions, and those that it found unchanged.
pub(super) async fn days(
    options: &Options,
    objects: &Objects,
    engine: &Engine,
    before: &Books,
    night: &Night,
    counted: &Counted,
    audit: &mut EntryAudit,
) -> Result<(), Stopped> {
    for (day, count) in &counted.days {
        let new = night.days.iter().find(|revision| revision.day == *day);
        let confirmed = night.confirmed.contains(day).then(|| before.day(*day).map(|book| &book.revision)).flatten();
        let Some(revision) = new.or(confirmed) else {
            let reason = "the night had to publish or confirm it, and did neither".to_owned();
            audit.breaks.push(Break::Day { day: *day, reason });
            continue;
        };
        if revision.totals != count.totals {
            audit.breaks.push(Break::Totals { day: *day, published: revision.totals, recomputed: count.totals });
        }
        // Only what this entry published has bytes that this night made.
        let release = new.is_some().then_some(night.release.as_str()).filter(|release| *release == options.release);
        day_tables(objects, engine, revision, count, release, audit).await?;
    }
    for revision in night.days.iter().filter(|revision| !counted.days.contains_key(&revision.day)) {
        let reason = format!("revision {} is published, which was not the night's to compute", revision.revision);
        audit.breaks.push(Break::Day { day: revision.day, reason });
    }
    Ok(())
}

async fn day_tables(
    objects: &Objects,
    engine: &Engine,
    revision: &DayRevision,
    count: &DayCount,
    release: Option<&str>,
    audit: &mut EntryAudit,
) -> Result<(), Stopped> {
    let hours = roll_up(engine, &count.rows, Grain::Hour).await?;
    let days = roll_up(engine, &count.rows, Grain::Day).await?;
    let tables: [(Grain, &FileRef, &[Row]); 3] = [
        (Grain::Minute, &revision.minute, &count.rows),
        (Grain::Hour, &revision.hour, &hours),
        (Grain::Day, &revision.day_file, &days),
    ];
    for (grain, file, recomputed) in tables {
        let Some(bytes) = read_published(objects, file, &mut audit.breaks).await? else { continue };
        let published = decode(&file.key, bytes)?;
        audit.compared += published.len() as u64;
        let differ = compare(grain.name(), revision.day, cells(&published), cells(recomputed), &mut audit.breaks);
        if let Some(release) = release.filter(|_| !differ) {
            let sheet = Sheet { grain, revision: revision.revision, rules_version: revision.rules_version };
            if sha256(&encode(recomputed, sheet, release)?) != file.sha256 {
                let note =
                    format!("`{}` has the same rows, but this build of release {release} writes other bytes", file.key);
                audit.notes.push(note);
            }
        }
    }
    Ok(())
}

/// The night's adjustments of days that were final before.
pub(super) async fn adjustments(
    objects: &Objects,
    night: &Night,
    counted: &Counted,
    audit: &mut EntryAudit,
) -> Result<(), Stopped> {
    let mut published = Vec::new();
    if let Some(adjustments) = &night.adjustments {
        let Some(bytes) = read_published(objects, &adjustments.file, &mut audit.breaks).await? else { return Ok(()) };
        published = decode_adjustments(&adjustments.file.key, bytes)?;
        for (day, clicks) in &adjustments.clicks {
            let found = counted.adjustments.iter().filter(|row| row.period_start.day() == *day);
            let found: u64 = found.map(|row| row.clicks).sum();
            if found != *clicks {
                let reason = format!("the entry says {clicks} adjusted clicks, recomputed {found}");
                audit.breaks.push(Break::Day { day: *day, reason });
            }
        }
    }
    audit.compared += published.len() as u64;
    let by_day = |rows: &[AdjustmentRow]| {
        let mut days: BTreeMap<Day, Cells> = BTreeMap::new();
        for AdjustmentRow { period_start, ad, class, clicks, .. } in rows {
            let cell = days.entry(period_start.day()).or_default().entry((*period_start, ad.clone(), *class));
            cell.or_default().clicks += clicks;
        }
        days
    };
    let (mut published, mut recomputed) = (by_day(&published), by_day(&counted.adjustments));
    let days: std::collections::BTreeSet<Day> = published.keys().chain(recomputed.keys()).copied().collect();
    for day in days {
        let (published, recomputed) = (published.remove(&day), recomputed.remove(&day));
        let (published, recomputed) = (published.unwrap_or_default(), recomputed.unwrap_or_default());
        compare("adjustments", day, published, recomputed, &mut audit.breaks);
    }
    Ok(())
}

type Cells = BTreeMap<(Timestamp, Arc<str>, Class), Counts>;

fn cells(rows: &[Row]) -> Cells {
    let mut cells = Cells::new();
    for Row { period_start, ad, class, clicks, duplicates, late } in rows {
        // A row that stands twice would be billed twice, so it counts twice.
        let cell = cells.entry((*period_start, ad.clone(), *class)).or_default();
        cell.clicks += clicks;
        cell.duplicates += duplicates;
        cell.late += late;
    }
    cells
}

/// Tells whether there is a difference.
fn compare(table: &'static str, day: Day, published: Cells, mut recomputed: Cells, breaks: &mut Breaks) -> bool {
    let before = breaks.total;
    let mut differ = |(period, ad, _): (Timestamp, Arc<str>, Class), published, recomputed| {
        breaks.push(Break::Row { table, day, ad: ad.to_string(), period, published, recomputed });
    };
    for (at, published) in published {
        let found = recomputed.remove(&at);
        if found != Some(published) {
            differ(at, Some(published), found);
        }
    }
    for (at, found) in recomputed {
        differ(at, None, Some(found));
    }
    breaks.total > before
}
