//! `twofold reconcile`: our numbers beside somebody else's.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufWriter, IsTerminal};

use anyhow::{Context, Result};
use finance::{
    Bucket, Compared, InvoiceForm, InvoiceOptions, Mine, Provisional, ReconcileError, Report, Summary, Theirs,
    read_invoice, reconcile, stakes,
};
use indicatif::{ProgressBar, ProgressBarIter, ProgressFinish, ProgressStyle};
use platform::settings::Settings;
use serde_json::{Value, json};

use super::file::Partial;
use super::{Desk, grouped, provisional, refused};
use crate::cli::ReconcileArgs;
use crate::connect;
use crate::exit::{Exit, print, refuse};

/// A shorter one is read at once.
const LONG_FILE: u64 = 10 << 20;
/// Breaks that are shown; a report lists all.
const SHOWN_MAX: usize = 20;

pub async fn run(settings: &Settings, args: ReconcileArgs, as_json: bool) -> Result<Exit> {
    let ending = |path: &std::path::Path| path.extension().map(|ending| ending.to_string_lossy().to_lowercase());
    let form = match ending(&args.file).as_deref() {
        Some("xlsx") => InvoiceForm::Xlsx,
        Some("parquet") => InvoiceForm::Parquet,
        _ => InvoiceForm::Csv,
    };
    let report = match args.report.as_deref().map(ending) {
        None => None,
        Some(Some(ending)) if ["csv", "xlsx", "html"].contains(&&*ending) => Some(ending),
        Some(_) => return refuse("a report is CSV, XLSX or HTML: end its name in .csv, .xlsx or .html"),
    };
    let name = args.file.display().to_string();
    let mut theirs = Theirs::new(args.by);
    let options = InvoiceOptions { zone: args.of.tz, mapping: args.map.clone(), thousands: args.thousands };
    let same = |report: &std::path::Path| {
        report.canonicalize().is_ok_and(|path| args.file.canonicalize().is_ok_and(|file| file == path))
    };
    if args.report.as_deref().is_some_and(same) {
        return refuse("the report would take the place of the file that is compared: give it another name");
    }
    let file = match File::open(&args.file) {
        Ok(file) => file,
        Err(error) => return refuse(&format!("{name} cannot be read: {error}")),
    };
    let columns = match read_invoice(shown(file), form, &options, args.by, |line| theirs.add(&line)) {
        Ok(columns) => columns.iter().map(|(field, column)| format!("{field}={column}")).collect::<Vec<_>>().join(", "),
        Err(error) => return refuse(&format!("{name}: nothing was compared. {error}")),
    };
    match compare(settings, &args, theirs, columns, report.as_deref(), as_json).await {
        Ok(exit) => Ok(exit),
        Err(error) => match error.downcast::<ReconcileError>() {
            Ok(ReconcileError::Statement(error)) => refused(error.into()),
            Ok(error @ (ReconcileError::SharedCampaign { .. } | ReconcileError::UnknownTenant(_))) => {
                refuse(&error.to_string())
            }
            Ok(error) => Err(error.into()),
            Err(error) => refused(error),
        },
    }
}

/// On a terminal a bar shows how much of a long file is read.
fn shown(file: File) -> ProgressBarIter<File> {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let bar = match length >= LONG_FILE && std::io::stderr().is_terminal() {
        true => ProgressBar::new(length),
        false => ProgressBar::hidden(),
    };
    let style = ProgressStyle::with_template("{bar:40} {percent:>3}%  {bytes} of {total_bytes} read, {eta} left");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_finish(ProgressFinish::AndClear)
        .wrap_read(file)
}

async fn compare(
    settings: &Settings,
    args: &ReconcileArgs,
    theirs: Theirs,
    columns: String,
    report: Option<&str>,
    as_json: bool,
) -> Result<Exit> {
    let desk = Desk::open(settings)?;
    let books = desk.books(args.known.as_of).await?;
    let catalog = desk.catalog(args.known.priced, args.known.as_of).await?;
    let mut provisional = Provisional::default();
    if args.include_provisional {
        let store = connect::store(settings)?;
        let range = args.of.period.interval(args.of.tz);
        let (found, reasons) = provisional::provisional(&*store, &books, range, connect::clock(settings).now()).await?;
        for reason in reasons {
            eprintln!("twofold: live numbers are not complete: {reason}");
        }
        provisional = found;
    }
    let mine = Mine {
        ledger: &desk.ledger,
        objects: &desk.objects,
        books: &books,
        ads: &catalog.table,
        dates: args.of.period,
        zone: args.of.tz,
        tenant: args.advertiser.as_ref(),
        provisional: &provisional,
    };
    let compared = reconcile(&mine, theirs, args.tolerance).await?;
    let summary = Summary::of(&compared);
    let about: Vec<(String, String)> = [
        ("file", args.file.display().to_string()),
        ("columns", columns.clone()),
        ("period", args.of.period.to_string()),
        ("time zone", args.of.tz.name().to_owned()),
        ("by", args.by.to_string()),
        ("advertiser", args.advertiser.as_ref().map_or("all".to_owned(), ToString::to_string)),
        ("ledger position", books.head().to_string()),
        ("ads table version", catalog.version.to_string()),
        ("provisional days", provisional.days().map(|day| day.to_string()).collect::<Vec<_>>().join(", ")),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into();
    if let (Some(path), Some(ending)) = (&args.report, report) {
        let written = Report { keys: args.by, compared: &compared, about: &about };
        let partial = Partial::create(path).with_context(|| format!("{} cannot be written", path.display()))?;
        let file = BufWriter::new(partial.clone_file()?);
        match ending {
            "csv" => written.write_csv(file)?,
            "xlsx" => written.write_xlsx(file)?,
            _ => written.write_html(file)?,
        }
        partial.finish(path).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    print(&match as_json {
        true => told(&about, &summary, &compared).to_string(),
        false => describe(args, &columns, &summary, &compared),
    })?;
    Ok(if summary.breaks() > 0 { Exit::Breaks } else { Exit::Done })
}

fn describe(args: &ReconcileArgs, columns: &str, summary: &Summary, compared: &[Compared]) -> String {
    let mut text = format!(
        "{} against {} in {}, by {}: {} lines, breaks: {}\nread as {columns}\n",
        args.file.display(),
        args.of.period,
        args.of.tz.name(),
        args.by,
        grouped(compared.len() as u64),
        grouped(summary.breaks())
    );
    for bucket in Bucket::ALL {
        let sum = summary.buckets.get(&bucket).cloned().unwrap_or_default();
        let stakes = stakes(&sum);
        let stakes = if stakes.is_empty() { stakes } else { format!("  {stakes} at stake") };
        let name = bucket.name().replace('_', " ");
        let (lines, ours, theirs) = (grouped(sum.lines), grouped(sum.ours), grouped(sum.theirs));
        let _ = writeln!(text, "  {name:<17} {lines:>9} lines  ours {ours:>14}  theirs {theirs:>14}{stakes}");
    }
    for (cause, lines) in &summary.causes {
        let cause = cause.map_or("nothing in the data explains it".to_owned(), |cause| cause.replace('_', " "));
        let _ = writeln!(text, "  breaks {:>9}: {cause}", grouped(*lines));
    }
    let mut breaks: Vec<&Compared> = compared.iter().filter(|line| line.bucket.is_break()).collect();
    breaks.sort_by_key(|line| std::cmp::Reverse(line.ours.abs_diff(line.theirs)));
    for line in breaks.iter().take(SHOWN_MAX) {
        let who = if line.who.is_empty() && args.by.who().is_some() { "(not in the ads table)" } else { &line.who };
        let day = line.day.map(|day| day.to_string()).unwrap_or_default();
        let place = line.lines.map(|(first, _)| format!(" (line {first})")).unwrap_or_default();
        let (ours, theirs) = (grouped(line.ours), grouped(line.theirs));
        // A name of the file may be anything, and a terminal obeys.
        let who: String = who.chars().filter(|c| !c.is_control()).collect();
        let name = [who.as_str(), &day].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        let cause = line.cause.as_ref().map(|cause| format!(": {}", cause.describe())).unwrap_or_default();
        let _ = writeln!(text, "{name}  ours {ours}, theirs {theirs}{place}{cause}");
    }
    if breaks.len() > SHOWN_MAX {
        let _ = writeln!(text, "and {} more: --report FILE.csv, .xlsx or .html lists all", breaks.len() - SHOWN_MAX);
    }
    text.truncate(text.trim_end().len());
    text
}

fn told(about: &[(String, String)], summary: &Summary, compared: &[Compared]) -> Value {
    let sums = |sum: &finance::BucketSum| {
        let stakes =
            sum.at_stake.iter().map(|(currency, amount)| json!({"currency": currency, "amount": amount.to_string()}));
        json!({"lines": sum.lines, "ours": sum.ours, "theirs": sum.theirs, "at_stake": stakes.collect::<Vec<_>>()})
    };
    let line = |line: &Compared| {
        json!({
            "who": &*line.who, "day": line.day, "bucket": line.bucket, "ours": line.ours, "theirs": line.theirs,
            "line": line.lines.map(|(first, _)| first), "lines": line.lines.map(|(_, lines)| lines), "cause": line.cause,
            "explanation": line.cause.as_ref().map(finance::Cause::describe),
            "at_stake": line.at_stake.as_ref().map(|stake| json!({"currency": stake.currency, "amount": stake.amount.to_string()})),
        })
    };
    let about: serde_json::Map<String, Value> =
        about.iter().map(|(name, value)| (name.replace(' ', "_"), Value::from(value.as_str()))).collect();
    json!({
        "about": about,
        "buckets": Bucket::ALL.map(|bucket| (bucket.name(), summary.buckets.get(&bucket).map(sums)))
            .into_iter().filter_map(|(name, sum)| Some((name.to_owned(), sum?))).collect::<serde_json::Map<_, _>>(),
        "causes": summary.causes.iter().map(|(cause, lines)| (cause.unwrap_or("unexplained").to_owned(), json!(lines)))
            .collect::<serde_json::Map<_, _>>(),
        "breaks": compared.iter().filter(|line| line.bucket.is_break()).map(line).collect::<Vec<_>>(),
    })
}
