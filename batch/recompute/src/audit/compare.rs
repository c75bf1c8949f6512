//! What was counted again, held against the published tables row by row.

use std::collections::BTreeMap;

use clicks::books::Books;
use clicks::ledger::{DayRevision, Night, sha256};
use clicks::time::Day;
use clicks::window::Grain;
use platform::objects::Objects;

use super::{Break, Breaks, Counts, EntryAudit, Stopped, read_published};
use crate::Options;
use crate::counted::{Counted, DayCount};
use crate::rows::{Cell, Rows, join};
use crate::table::{AdjustmentRow, Sheet, decode, decode_adjustments, encode};

/// Every day of the night: new revisions, and those that it found unchanged.
pub(super) async fn days(
    options: &Options,
    objects: &Objects,
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
        day_tables(objects, revision, count, release, audit).await?;
    }
    for revision in night.days.iter().filter(|revision| !counted.days.contains_key(&revision.day)) {
        let reason = format!("revision {} is published, which was not the night's to compute", revision.revision);
        audit.breaks.push(Break::Day { day: revision.day, reason });
    }
    Ok(())
}

async fn day_tables(
    objects: &Objects,
    revision: &DayRevision,
    count: &DayCount,
    release: Option<&str>,
    audit: &mut EntryAudit,
) -> Result<(), Stopped> {
    let hours = count.rows.rolled_up(Grain::Hour);
    let days = hours.rolled_up(Grain::Day);
    for (grain, recomputed) in [(Grain::Minute, &count.rows), (Grain::Hour, &hours), (Grain::Day, &days)] {
        let file = revision.file(grain);
        let Some(bytes) = read_published(objects, file, &mut audit.breaks).await? else { continue };
        let published = decode(&file.key, bytes)?;
        audit.compared += published.len() as u64;
        let differ = compare(grain.name(), revision.day, published.added_up(), recomputed, &mut audit.breaks);
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
    let mut days: BTreeMap<Day, [Vec<AdjustmentRow>; 2]> = BTreeMap::new();
    for (side, rows) in [&published, &counted.adjustments].into_iter().enumerate() {
        for row in rows {
            days.entry(row.period_start.day()).or_default()[side].push(row.clone());
        }
    }
    for (day, [published, recomputed]) in days {
        let (published, recomputed) = (AdjustmentRow::rows(&published), AdjustmentRow::rows(&recomputed));
        compare("adjustments", day, published, &recomputed, &mut audit.breaks);
    }
    Ok(())
}

/// Tells whether there is a difference. A published row that stands twice would be billed twice, so it was added up.
fn compare(table: &'static str, day: Day, published: Rows, recomputed: &Rows, breaks: &mut Breaks) -> bool {
    let before = breaks.total;
    let counts = |cell: &Cell| Counts { clicks: cell.clicks, duplicates: cell.duplicates, late: cell.late };
    join(&published, recomputed, |period, ad, published, recomputed| {
        let (published, recomputed) = (published.map(counts), recomputed.map(counts));
        if published != recomputed {
            breaks.push(Break::Row { table, day, ad: ad.to_owned(), period, published, recomputed });
        }
    });
    breaks.total > before
}
