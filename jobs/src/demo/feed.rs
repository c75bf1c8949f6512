//! `--input`: the user's own clicks, pushed through the same way, each appended at the time at which it arrived.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use clap::Args;
use clicks::event::Click;
use clicks::rules::{COLLECTOR_AHEAD_MAX, Rules, RulesBook};
use clicks::time::{Span, Timestamp};
use clicks::wire::{self, Rejection};

use super::client::BATCH_MAX;
use super::proof::grouped;
use super::run::Run;
use super::{DemoArgs, show_query, start, verdict};
use crate::exit::{self, Exit};
use crate::input::{self, Format, InputClick, InputFile, InputOptions, Mapping, RejectedLine, Sorted};

/// Clicks of the user's own.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Your own clicks")]
pub struct InputArgs {
    /// NDJSON or CSV with clicks, in any order; `-` reads standard input.
    #[arg(long, value_name = "FILE")]
    pub input: Option<PathBuf>,
    /// csv or ndjson; by the file's ending or first character otherwise.
    #[arg(long, requires = "input", value_name = "FORMAT")]
    pub format: Option<Format>,
    /// Which of your columns or fields is which: ad_id=campaign,timestamp=click_time,user_id=visitor,click_id=event_id.
    #[arg(long, requires = "input", default_value = "", value_name = "OURS=YOURS,...")]
    pub map: Mapping,
    /// How timestamps are written, when not RFC 3339: a strftime pattern, `unix` or `unix_ms`.
    #[arg(long, requires = "input", value_name = "PATTERN")]
    pub time_format: Option<String>,
    /// Zone of timestamps that carry none, such as Europe/Berlin.
    #[arg(long, requires = "input", value_name = "ZONE")]
    pub tz: Option<chrono_tz::Tz>,
    /// Column or field that tells when each click arrived; its event time otherwise.
    #[arg(long, requires = "input", value_name = "COLUMN")]
    pub arrival: Option<String>,
    /// Accept neighbouring clicks more than 31 days apart.
    #[arg(long, requires = "input")]
    pub allow_gap: bool,
}

/// Longest span of arrivals in one request. The clock jumps to its end, so that no service idles through it.
const SPAN_MAX: Span = Span::hours(1);
/// Longest span of a file; a night takes some hundredths of a second even when its day is empty.
const DAYS_MAX: i32 = 3_660;

pub async fn run(args: &DemoArgs) -> Result<Exit> {
    let stop = exit::on_signal();
    let options = options(&args.input)?;
    let reading = tokio::task::spawn_blocking(move || read(&options));
    let sorted = tokio::select! {
        sorted = reading => sorted??,
        // The reading itself cannot be interrupted; the process ends without it.
        () = stop.cancelled() => return Ok(Exit::Failure),
    };
    let Some((first, last)) = sorted.summary.arrivals() else {
        anyhow::bail!("no line of the input is a click; see the reasons above");
    };
    let rules = RulesBook::new(Rules::default())?;
    let first_day = first.day();
    let days = last.day().number() - first_day.number();
    ensure!(
        days <= DAYS_MAX,
        "the clicks span {days} days, from {first} to {last}; every day between is closed by its own night, so at most \
         {DAYS_MAX} are replayed: take out the lines that do not belong there"
    );
    let (mut system, mut run) = start(args, first_day, sorted.summary.accepted).await?;
    let told = async {
        let fed = feed(&mut run, sorted, &rules, last).await;
        run.show.done();
        fed?;
        let holds = run.show_proof().await?;
        run.show_top_ads(first_day).await?;
        Ok(holds)
    };
    let Some(holds) = system.watch_until(&stop, told).await? else {
        run.show.done();
        system.stop().await?;
        return Ok(Exit::Failure);
    };
    show_query(&run, args);
    if !args.once && holds {
        run.show.result("\nThe page stays open; Ctrl-C ends the demo.");
        system.watch_until(&stop, std::future::pending::<Result<()>>()).await?;
    }
    system.stop().await?;
    Ok(verdict(holds))
}

fn options(args: &InputArgs) -> Result<InputOptions> {
    let path = args.input.clone().context("--input is missing")?;
    let file = if path.as_os_str() == "-" { InputFile::Stdin } else { InputFile::Path(path) };
    Ok(InputOptions {
        format: args.format,
        map: args.map.clone(),
        time_format: args.time_format.clone(),
        tz: args.tz,
        arrival: args.arrival.clone(),
        allow_gap: args.allow_gap,
        ..InputOptions::new(file)
    })
}

/// Reads and sorts everything, and reports each rejected line.
fn read(options: &InputOptions) -> Result<Sorted> {
    let mut report = |line: RejectedLine| eprintln!("line {}: {} ({})", line.number, line.reason, line.code);
    let progress = |lines| {
        if std::io::stderr().is_terminal() {
            eprint!("\r{} lines read", grouped(lines));
        }
    };
    let sorted = input::read(options, &mut report, &progress)?;
    let summary = &sorted.summary;
    eprintln!(
        "{} lines: {} clicks, {} rejected",
        grouped(summary.lines),
        grouped(summary.accepted),
        grouped(summary.rejected())
    );
    for (code, count) in &summary.rejected_by_code {
        eprintln!("  {count:>8} {code}");
    }
    if summary.issued_click_ids > 0 {
        eprintln!("  {} clicks without a click_id got one", grouped(summary.issued_click_ids));
    }
    Ok(sorted)
}

async fn feed(run: &mut Run, sorted: Sorted, rules: &RulesBook, last: Timestamp) -> Result<()> {
    let last_day = last.day();
    let mut batch: Vec<InputClick> = Vec::with_capacity(BATCH_MAX);
    for click in sorted {
        let click = click?;
        if let Some(rejection) = refuse(rules, &click) {
            run.show.note(&format!("line {}: {rejection} ({})", click.line, rejection.code()));
            run.rejected += 1;
            continue;
        }
        let start = batch.first().map_or(click.arrival, |first| first.arrival);
        let cut = rules.cut_time(run.next_night());
        let full = batch.len() == BATCH_MAX || click.arrival.since(start) > SPAN_MAX;
        let alone = nearly_too_old(rules, &click);
        if full || alone || click.arrival >= cut {
            send(run, &mut batch).await?;
        }
        close_days(run, rules, click.arrival).await?;
        batch.push(click);
        if alone {
            send(run, &mut batch).await?;
        }
    }
    send(run, &mut batch).await?;
    // Nothing more comes, so the last day can close as soon as the clock has passed its cut.
    close_days(run, rules, rules.cut_time(last_day)).await
}

/// What the collector would refuse at the time of arrival.
fn refuse(rules: &RulesBook, click: &InputClick) -> Option<Rejection> {
    let event_time = click.click.event_time;
    let ahead = event_time.since(click.arrival);
    if ahead > COLLECTOR_AHEAD_MAX {
        return Some(Rejection::TooFarAhead(ahead));
    }
    let age = click.arrival.since(event_time);
    (age > rules.on(event_time.day()).age_max).then_some(Rejection::TooOld(age))
}

/// The collector's clock stands at the end of a batch while it is sent; a click that would be too old by then goes alone.
fn nearly_too_old(rules: &RulesBook, click: &InputClick) -> bool {
    let event_time = click.click.event_time;
    (click.arrival + SPAN_MAX).since(event_time) > rules.on(event_time.day()).age_max
}

async fn close_days(run: &mut Run, rules: &RulesBook, now: Timestamp) -> Result<()> {
    while now >= rules.cut_time(run.next_night()) {
        run.system.clock.advance_to(rules.cut_time(run.next_night()));
        run.close_day().await?;
    }
    Ok(())
}

async fn send(run: &mut Run, batch: &mut Vec<InputClick>) -> Result<()> {
    let Some(end) = batch.last().map(|click| click.arrival) else { return Ok(()) };
    run.system.log.hold(batch.iter().map(|click| (click.click.click_id, click.arrival)));
    run.system.clock.advance_to(end);
    let lines: String = batch.iter().flat_map(|click| [wire::encode(&click.click), "\n".to_owned()]).collect();
    let answer = run.client.send(lines).await?;
    run.system.log.release();
    ensure!(
        answer.accepted == batch.len() as u64,
        "of {} clicks the collector accepted {}",
        batch.len(),
        answer.accepted
    );
    let sent: Vec<(&Click, Timestamp)> = batch.iter().map(|click| (&click.click, click.arrival)).collect();
    run.sent(&sent, answer);
    run.show.progress(run.accepted, end, run.accepted);
    batch.clear();
    Ok(())
}
