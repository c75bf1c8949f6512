//! `twofold reconcile`: our numbers beside somebody else's.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{IsTerminal, Seek, Write};

use anyhow::Result;
use finance::{
    Bucket, Compared, ExportError, Invoice, InvoiceForm, InvoiceOptions, Largest, Mine, Provisional, ReconcileError,
    Report, ReportForm, Summary, Terms, reconcile, stakes,
};
use indicatif::{ProgressBar, ProgressBarIter, ProgressFinish, ProgressStyle};
use platform::settings::Settings;
use serde_json::{Map, Value, json};

use super::file::{Partial, temporary};
use super::{Desk, grouped, provisional, refused};
use crate::cli::ReconcileArgs;
use crate::connect;
use crate::exit::{Exit, OutputError, print, refuse};

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
        Some(Some(ending)) if ending == "csv" => Some(ReportForm::Csv),
        Some(Some(ending)) if ending == "xlsx" => Some(ReportForm::Xlsx),
        Some(Some(ending)) if ending == "html" => Some(ReportForm::Html),
        Some(_) => return refuse("a report is CSV, XLSX or HTML: end its name in .csv, .xlsx or .html"),
    };
    let name = args.file.display().to_string();
    let same = |report: &std::path::Path| {
        report.canonicalize().is_ok_and(|path| args.file.canonicalize().is_ok_and(|file| file == path))
    };
    if args.report.as_deref().is_some_and(same) {
        return refuse("the report would take the place of the file that is compared: give it another name");
    }
    let file = match File::open(&args.file).and_then(|file| if is_file(&file) { Ok(file) } else { spooled(file) }) {
        Ok(file) => file,
        Err(error) => return refuse(&format!("{name} cannot be read: {error}")),
    };
    match compare(settings, &args, file, form, report, as_json).await {
        Ok(exit) => Ok(exit),
        Err(error) => match error.downcast::<ReconcileError>() {
            Ok(ReconcileError::Invoice(error)) => refuse(&format!("{name}: nothing was compared. {error}")),
            Ok(ReconcileError::Report(error @ ExportError::ReportTooLong { .. })) => refuse(&error.to_string()),
            Ok(ReconcileError::Statement(error)) => {
                refused(error.into(), Some("--include-provisional compares with live numbers"))
            }
            Ok(error @ (ReconcileError::SharedCampaign { .. } | ReconcileError::UnknownTenant(_))) => {
                refuse(&error.to_string())
            }
            Ok(error) => Err(error.into()),
            Err(error) => refused(error, None),
        },
    }
}

fn is_file(file: &File) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file())
}

/// What can be read only once, as a pipe can, in a file that can be read again.
fn spooled(mut from: File) -> std::io::Result<File> {
    let mut to = tempfile::tempfile()?;
    std::io::copy(&mut from, &mut to)?;
    Ok(to)
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
    file: File,
    form: InvoiceForm,
    report: Option<ReportForm>,
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
    let options = InvoiceOptions { zone: args.of.tz, mapping: args.map.clone(), thousands: args.thousands };
    let mut invoice = Invoice::new(shown(file), form, &options);
    let terms = Terms { keys: args.by, tolerance: args.tolerance, keys_max: Terms::KEYS_MAX };
    let mut report = match args.report.as_deref().zip(report) {
        Some((path, form)) => {
            let partial = Partial::create(path)?;
            let written = Report::new(form, args.by, partial.writer()?)?;
            Some((partial, written))
        }
        None => None,
    };
    let (mut summary, mut largest) = (Summary::default(), Largest::new(SHOWN_MAX));
    let mut breaks = as_json.then(temporary).transpose()?;
    let columns = reconcile(&mine, &mut invoice, terms, |line| {
        if let Some(breaks) = breaks.as_mut().filter(|_| line.bucket.is_break()) {
            let comma = if summary.breaks() > 0 { "," } else { "" };
            write!(breaks, "{comma}{}", told(&line))?;
        }
        summary.add(&line);
        largest.add(&line);
        report.as_mut().map_or(Ok(()), |(_, report)| report.line(&line))
    })
    .await?;
    // And the bar with it.
    drop(invoice);
    let columns = columns.iter().map(|(field, column)| format!("{field}={column}")).collect::<Vec<_>>().join(", ");
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
    if let Some((partial, written)) = report {
        written.end(&about, &summary)?;
        partial.finish()?;
    }
    match breaks {
        Some(breaks) => tell(&about, &summary, breaks.into_inner()?.into_file()).map_err(OutputError::new)?,
        None => print(&describe(args, &columns, &summary, &largest))?,
    }
    Ok(if summary.breaks() > 0 { Exit::Breaks } else { Exit::Done })
}

fn describe(args: &ReconcileArgs, columns: &str, summary: &Summary, largest: &Largest) -> String {
    let mut text = format!(
        "{} against {} in {}, by {}: {} lines, breaks: {}\nread as {columns}\n",
        args.file.display(),
        args.of.period,
        args.of.tz.name(),
        args.by,
        grouped(summary.lines()),
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
    for line in largest.lines() {
        let who = if line.who.is_empty() && args.by.who().is_some() { "(not in the ads table)" } else { &line.who };
        let day = line.day.map(|day| day.to_string()).unwrap_or_default();
        let place = line.lines.map(|(first, _)| format!(" (line {first})")).unwrap_or_default();
        let (ours, theirs) = (grouped(line.ours), grouped(line.theirs));
        let name = [who, &day].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" ");
        let cause = line.cause.as_ref().map(|cause| format!(": {}", cause.describe())).unwrap_or_default();
        let _ = writeln!(text, "{name}  ours {ours}, theirs {theirs}{place}{cause}");
    }
    if largest.left_out() > 0 {
        let _ = writeln!(text, "and {} more: --report FILE.csv lists all", grouped(largest.left_out()));
    }
    // What the file says may be anything, and a terminal obeys.
    text.trim_end().chars().filter(|c| *c == '\n' || !c.is_control()).collect()
}

/// One break.
fn told(line: &Compared) -> Value {
    json!({
        "who": &*line.who, "day": line.day, "bucket": line.bucket, "ours": line.ours, "theirs": line.theirs,
        "line": line.lines.map(|(first, _)| first), "lines": line.lines.map(|(_, lines)| lines), "cause": line.cause,
        "explanation": line.cause.as_ref().map(finance::Cause::describe),
        "at_stake": line.at_stake.as_ref().map(|stake| json!({"currency": stake.currency, "amount": stake.amount.to_string()})),
    })
}

/// All of it. `breaks`: one after the other, with commas between them.
fn tell(about: &[(String, String)], summary: &Summary, mut breaks: File) -> std::io::Result<()> {
    let sums = |sum: &finance::BucketSum| {
        let stakes =
            sum.at_stake.iter().map(|(currency, amount)| json!({"currency": currency, "amount": amount.to_string()}));
        json!({"lines": sum.lines, "ours": sum.ours, "theirs": sum.theirs, "at_stake": stakes.collect::<Vec<_>>()})
    };
    let about: Map<String, Value> =
        about.iter().map(|(name, value)| (name.replace(' ', "_"), Value::from(value.as_str()))).collect();
    let buckets: Map<String, Value> =
        summary.buckets.iter().map(|(bucket, sum)| (bucket.name().to_owned(), sums(sum))).collect();
    let causes: Map<String, Value> =
        summary.causes.iter().map(|(cause, lines)| (cause.unwrap_or("unexplained").to_owned(), json!(lines))).collect();
    let mut to = std::io::stdout().lock();
    write!(to, "{{\"about\":{},\"breaks\":[", Value::from(about))?;
    breaks.rewind()?;
    std::io::copy(&mut breaks, &mut to)?;
    writeln!(to, "],\"buckets\":{},\"causes\":{}}}", Value::from(buckets), Value::from(causes))?;
    to.flush()
}
