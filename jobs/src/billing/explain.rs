//! `twofold explain`: from a billed number to its raw clicks.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use anyhow::Result;
use clicks::ads::AdsTable;
use clicks::books::Books;
use clicks::time::Timestamp;
use finance::{
    By, Counts, Explained, ExportError, Fate, Form, Line, Period, PointInTime, ReadObject, Scope, Step, explain, write,
};
use platform::settings::Settings;
use serde_json::{Value, json};

use super::{Desk, csv_on_stdout, folder, grouped, refused};
use crate::cli::{ExplainArgs, name_of};
use crate::exit::{Exit, OutputError, print};

pub async fn run(settings: &Settings, args: ExplainArgs, as_json: bool) -> Result<Exit> {
    match explained(settings, &args, as_json).await {
        Ok(exit) => Ok(exit),
        Err(error) => refused(error, None),
    }
}

async fn explained(settings: &Settings, args: &ExplainArgs, as_json: bool) -> Result<Exit> {
    let desk = Desk::open(settings)?;
    let books = desk.books(PointInTime::Now).await?;
    let (range, zone) = (args.of.period.interval(args.of.tz), args.of.tz);
    // Days that are open are refused before anything is read.
    let scope = Scope { range, zone, step: Step::Whole, by: By::Ad, final_only: false };
    let mut published = Published { ad: args.ad.as_str(), counts: Counts::default() };
    write(&desk.objects, &books, &AdsTable::default(), &scope, &mut published).await?;
    let counts = published.counts;
    let found = explain(&desk.ledger, &desk.objects, &books, &args.ad, range, counts, args.all_partitions).await?;
    if args.clicks {
        clicks(args, &found).map_err(OutputError::new)?;
    } else {
        print(&match as_json {
            true => told(args, &books, &found, counts, desk.ledger.url()).to_string(),
            false => describe(args, &books, &found, counts, desk.ledger.url()),
        })?;
    }
    if found.agrees(counts) {
        return Ok(Exit::Done);
    }
    eprintln!(
        "twofold: {} is published with {} clicks and {} adjusted, and the raw clicks come to {} and {}: `twofold audit` says more",
        args.ad,
        counts.clicks,
        counts.adjustment,
        found.count("billed"),
        found.count("adjusted")
    );
    Ok(Exit::Breaks)
}

/// What is published of one ad.
struct Published<'a> {
    ad: &'a str,
    counts: Counts,
}

impl Form for Published<'_> {
    fn lines(&mut self, _: &Period, lines: &[Line<'_>]) -> Result<(), ExportError> {
        let own = lines.iter().filter(|line| line.ad.is_some_and(|ad| ad.as_str() == self.ad));
        own.for_each(|line| self.counts = line.counts);
        Ok(())
    }
}

const FATES: [&str; 5] = ["billed", "adjusted", "duplicate", "rejected", "not_yet"];

fn is_billed(fate: &Fate) -> bool {
    matches!(fate, Fate::Billed | Fate::Adjusted { .. })
}

fn describe(args: &ExplainArgs, books: &Books, found: &Explained, counts: Counts, root: &str) -> String {
    let all = grouped(found.clicks.len() as u64);
    let is_all = found.objects.len() == found.named;
    let among = if is_all { "among what the ledger names" } else { "in the partitions that it belongs to" };
    let mut text = format!(
        "{} in {} ({}): {} billed\n{all} clicks of it arrived {among}\n",
        args.ad,
        args.of.period,
        args.of.tz.name(),
        grouped(counts.total())
    );
    for fate in FATES {
        let count = found.count(fate);
        if count > 0 || fate == "billed" {
            let _ = writeln!(text, "  {:>12} {}", grouped(count), fate.replace('_', " "));
        }
    }
    let _ = writeln!(text, "billed by {}", name_of(args.grain));
    for (start, clicks) in periods(args, found) {
        // With its offset: in autumn an hour comes twice.
        let _ = writeln!(text, "  {} {:>12}", args.of.tz.rfc3339(start).replace(":00.000", ""), grouped(clicks));
    }
    text += "days of UTC, and the ledger entries that have published them\n";
    for (day, entries) in &found.entries {
        let entries: Vec<String> = entries.iter().map(ToString::to_string).collect();
        let entries = if entries.is_empty() { "none: before the first day".to_owned() } else { entries.join(", ") };
        let _ = writeln!(text, "  {day}  {}  {entries}", books.state(*day).name());
    }
    let (read, named) = (grouped(found.objects.len() as u64), grouped(found.named as u64));
    let _ = writeln!(text, "raw objects that hold some of it; {read} were read of {named} that the ledger names");
    for object in found.objects.iter().filter(|object| object.clicks > 0) {
        let ReadObject { key, from, to, clicks } = object;
        let _ = writeln!(text, "  {:>12}  {key}  offsets {from} to {to}", grouped(*clicks));
    }
    text += "the same in DuckDB\n";
    text + &found.duckdb(books, &folder(root))
}

/// When the periods begin in which clicks are billed, and how many are.
fn periods(args: &ExplainArgs, found: &Explained) -> BTreeMap<Timestamp, u64> {
    let mut periods = BTreeMap::new();
    for click in found.clicks.iter().filter(|click| is_billed(&click.fate)) {
        let start = match args.grain.step() {
            Step::Grain(grain) => args.of.tz.window(grain, click.event_time).start,
            Step::Whole => found.range.start,
        };
        *periods.entry(start).or_default() += 1;
    }
    periods
}

fn told(args: &ExplainArgs, books: &Books, found: &Explained, counts: Counts, root: &str) -> Value {
    let fates: serde_json::Map<String, Value> =
        FATES.iter().map(|fate| ((*fate).to_owned(), json!(found.count(fate)))).collect();
    let objects = found.objects.iter().filter(|object| object.clicks > 0).map(|object| {
        let ReadObject { key, from, to, clicks } = object;
        json!({"key": key, "from_offset": from, "to_offset": to, "clicks": clicks})
    });
    let periods = periods(args, found).into_iter();
    let periods = periods.map(|(start, clicks)| json!({"period_start": args.of.tz.rfc3339(start), "billed": clicks}));
    json!({
        "ad_id": args.ad,
        "period": args.of.period.to_string(),
        "time_zone": args.of.tz.name(),
        "ledger_position": books.head(),
        "published": {"clicks": counts.clicks, "adjustment": counts.adjustment, "total": counts.total()},
        "clicks": fates,
        "grain": name_of(args.grain),
        "periods": periods.collect::<Vec<_>>(),
        "objects_read": found.objects.len(),
        "objects_named": found.named,
        "objects": objects.collect::<Vec<_>>(),
        "duckdb": found.duckdb(books, &folder(root)),
    })
}

/// A line per click.
fn clicks(args: &ExplainArgs, found: &Explained) -> std::io::Result<()> {
    let mut writer = csv_on_stdout();
    writer.write_record([
        "event_time",
        "append_time",
        "click_id",
        "user_id",
        "verdict",
        "reason",
        "partition",
        "offset",
        "object",
        "time_zone",
    ])?;
    let zone = args.of.tz;
    for click in &found.clicks {
        writer.write_record([
            zone.rfc3339(click.event_time),
            zone.rfc3339(click.append_time),
            click.click_id.to_string(),
            click.user_id.to_string(),
            click.fate.name().to_owned(),
            click.fate.reason(),
            click.partition.to_string(),
            click.offset.to_string(),
            found.objects[click.object].key.clone(),
            zone.name().to_owned(),
        ])?;
    }
    writer.flush()
}
