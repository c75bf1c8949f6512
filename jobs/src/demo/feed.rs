//! `--input`: the user's own clicks, pushed through the same way, each appended at the time at which it arrived.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use clicks::event::Click;
use clicks::rules::{COLLECTOR_AHEAD_MAX, Rules, RulesBook};
use clicks::time::{Span, Timestamp};
use clicks::wire::{self, Rejection};
use clicks::zone::{UnknownZone, Zone};

use super::client::BATCH_MAX;
use super::proof::grouped;
use super::rejections::Rejections;
use super::run::Run;
use super::show::Output;
use super::system::check_empty;
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
    #[arg(long, requires = "input", value_name = "ZONE", value_parser = zone)]
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

pub async fn run(args: &DemoArgs, output: Output) -> Result<Exit> {
    let stop = exit::on_signal();
    let options = options(&args.input)?;
    if let Some(folder) = &args.data {
        check_empty(folder)?;
    }
    let mut rejections = Rejections::new(args.data.as_deref());
    let reading = tokio::task::spawn_blocking(move || read(&options, &mut rejections).map(|read| (read, rejections)));
    let (sorted, mut rejections) = tokio::select! {
        read = reading => read??,
        // The reading itself cannot be interrupted; the process ends without it.
        () = stop.cancelled() => return Ok(Exit::Failure),
    };
    let Some((first, last)) = sorted.summary.arrivals() else {
        rejections.rest()?.iter().for_each(|line| say(line));
        bail!(
            "no line of the input is a click{}",
            if rejections.total() > 0 { "; see the reasons above" } else { "; it holds no line but its header" }
        );
    };
    let rules = RulesBook::new(Rules::default())?;
    let first_day = first.day();
    let days = last.day().number() - first_day.number();
    ensure!(
        days <= DAYS_MAX,
        "the clicks span {days} days, from {first} to {last}; every day between is closed by its own night, so at most \
         {DAYS_MAX} are replayed: take out the lines that do not belong there"
    );
    let (mut system, mut run) = start(args, output, first_day, sorted.summary.accepted).await?;
    let told = async {
        let fed = feed(&mut run, sorted, &mut rejections, &rules, last).await;
        run.show.done();
        fed?;
        rejections.rest()?.iter().for_each(|line| run.show.note(line));
        run.rejected = rejections.total();
        let proof = run.show_proof().await?;
        run.show_top_ads(first_day).await?;
        Ok(proof)
    };
    let Some(proof) = system.watch_until(&stop, told).await? else {
        run.show.done();
        system.stop().await?;
        return Ok(Exit::Failure);
    };
    show_query(&run, args)?;
    run.show.json(&proof.json())?;
    if !args.once && proof.holds() {
        // The page's clock stands behind the last day.
        let range = if days < 6 { "week" } else { "month" };
        let lack = if days < 29 { "" } else { " (the last 30 days; the API answers for all of them)" };
        run.show.result(&format!("\nThe page stays open: {}?range={range}{lack}", run.client.page_url()))?;
        run.show.result("Ctrl-C ends the demo.")?;
        system.watch_until(&stop, std::future::pending::<Result<()>>()).await?;
    }
    system.stop().await?;
    Ok(verdict(proof.holds()))
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
fn read(options: &InputOptions, rejections: &mut Rejections) -> Result<Sorted> {
    let mut unwritten = None;
    let mut report = |line: RejectedLine| match rejections.add(line.number, line.code, &line.reason, &line.excerpt) {
        Ok(shown) => shown.iter().for_each(|text| say(text)),
        Err(error) => unwritten = Some(error),
    };
    let progress = |lines| {
        if std::io::stderr().is_terminal() {
            let _ = write!(std::io::stderr(), "\r{} lines read", grouped(lines));
        }
    };
    let read = input::read(options, &mut report, &progress);
    if std::io::stderr().is_terminal() {
        say("");
    }
    let sorted = read?;
    if let Some(error) = unwritten {
        return Err(error);
    }
    let summary = &sorted.summary;
    let (lines, accepted, rejected) = (summary.lines, summary.accepted, summary.rejected());
    say(&format!("{} lines: {} clicks, {} rejected", grouped(lines), grouped(accepted), grouped(rejected)));
    for (code, count) in &summary.rejected_by_code {
        say(&format!("  {count:>8} {code}"));
    }
    let notes = [
        (summary.issued_click_ids, "clicks without a click_id got one"),
        (
            summary.derived_click_ids,
            "clicks have a click_id that is no UUID; each got the UUID of its text, so the same text is the same click",
        ),
        (summary.unknown_users, "clicks name no user; they are those of the user `unknown`"),
        (
            summary.folded_times,
            "clicks have a local time that occurs twice, as the clocks go back; it was read as the earlier",
        ),
    ];
    for (count, note) in notes.into_iter().filter(|(count, _)| *count > 0) {
        say(&format!("  {} {note}", grouped(count)));
    }
    Ok(sorted)
}

/// Nobody may be listening any more.
fn say(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

async fn feed(
    run: &mut Run,
    sorted: Sorted,
    rejections: &mut Rejections,
    rules: &RulesBook,
    last: Timestamp,
) -> Result<()> {
    let last_day = last.day();
    let mut batch: Vec<InputClick> = Vec::with_capacity(BATCH_MAX);
    for click in sorted {
        let click = click?;
        if let Some(rejection) = refuse(rules, &click) {
            let (code, reason) = (rejection.code(), explain(&rejection));
            let shown = rejections.add(click.line, code, &reason, &wire::encode(&click.click))?;
            shown.iter().for_each(|text| run.show.note(text));
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

/// The refusal in units that people read.
fn explain(rejection: &Rejection) -> String {
    match rejection {
        Rejection::TooFarAhead(span) => format!(
            "it happened {} after it arrived; at most {} are accepted, so that a wrong clock cannot move the future",
            human(*span),
            human(COLLECTOR_AHEAD_MAX)
        ),
        Rejection::TooOld(span) => {
            format!(
                "it arrived {} after it happened; at most {} are accepted",
                human(*span),
                human(Rules::default().age_max)
            )
        }
        other => other.to_string(),
    }
}

/// The two largest units.
fn human(span: Span) -> String {
    let seconds = span.as_millis() / 1_000;
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{} s", span.as_millis() as f64 / 1_000.0),
        (0, 0, minutes) => format!("{minutes} min {} s", seconds % 60),
        (0, hours, minutes) => format!("{hours} h {minutes} min"),
        (days, hours, _) => format!("{} days {hours} h", grouped(days.unsigned_abs())),
    }
    .replace(" 0 s", "")
    .replace(" 0 min", "")
    .replace(" 0 h", "")
}

fn zone(text: &str) -> Result<chrono_tz::Tz, UnknownZone> {
    text.parse().map(Zone::tz)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_units_of_people() {
        let cases = [
            (Span::millis(1_500), "1.5 s"),
            (Span::seconds(65), "1 min 5 s"),
            (Span::minutes(4), "4 min"),
            (Span::minutes(61), "1 h 1 min"),
            (Span::days(35), "35 days"),
            (Span::hours(20_781 * 24 + 3), "20,781 days 3 h"),
        ];
        for (span, text) in cases {
            assert_eq!(human(span), text);
        }
    }
}
