//! `twofold demo`: the whole system in one process, no service needed, and a proof of its numbers.

mod chaos;
mod client;
mod feed;
mod generator;
mod names;
pub(crate) mod proof;
mod rejections;
mod replay;
mod run;
mod show;
mod simulate;
mod system;
mod truth;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::Args;
use clicks::time::Day;

use crate::exit::Exit;
use client::Client;
use run::Run;
use show::{Output, Show};
use system::{Layout, System};

pub use generator::{Generator, Send, Shape, Shares};
pub use truth::{Cell, Truth};

/// The whole system in one process, with a proof of its numbers. Needs no service.
///
/// Without --input it simulates some days of clicks up to now, then goes on at real speed. With --input it replays your
/// own clicks.
#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  twofold demo                              simulate three days, then keep running
  twofold demo --once --seed 7 --days 5     end after the proof; exit code 0 only if every number is equal
  twofold demo --data ./out                 keep archive and tables on disk
  twofold demo --input clicks.csv --map ad_id=campaign,timestamp=click_time --tz Europe/Berlin

What a file holds, a click a line (CSV with a header, or NDJSON):
  ad_id      required, 1-64 of A-Z a-z 0-9 _ . - (no spaces: `Spring-Sale-1`)
  timestamp  required, RFC 3339 with an offset; otherwise say how it is written (--time-format) and in which zone (--tz)
  user_id    optional, as ad_id
  click_id   optional: a UUID; any other text becomes the UUID of that text, so the same text is the same click, which
             counts once per ad within 24 hours; an empty one is issued, so the line is a click of its own
Other columns are ignored. Each rejected line is named with its number and reason: the first 100 of each reason here, all
of them in DIR/rejected.ndjson with --data DIR.")]
pub struct DemoArgs {
    /// End after the proof; exit code 0 only if all numbers are equal.
    #[arg(long)]
    pub once: bool,
    /// Seed of the simulated clicks.
    #[arg(
        long,
        default_value_t = 42,
        allow_negative_numbers = true,
        conflicts_with = "input",
        help_heading = "Simulation"
    )]
    pub seed: u64,
    /// Simulated days that close, 1 to 365.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=365), allow_negative_numbers = true, conflicts_with = "input", help_heading = "Simulation")]
    pub days: u32,
    /// Ads that are clicked, 1 to 1,000,000.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=1_000_000), allow_negative_numbers = true, conflicts_with = "input", help_heading = "Simulation")]
    pub ads: u32,
    /// Clicks per minute, averaged over a day, 1 to 100,000.
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000), allow_negative_numbers = true, conflicts_with = "input", help_heading = "Simulation")]
    pub rate: u32,
    /// Kill the speed layer and the archiver every few simulated hours, and roll the live counts back or wipe them.
    #[arg(long, conflicts_with = "input", help_heading = "Simulation")]
    pub chaos: bool,
    /// Keep archive and tables in this folder; it must not hold any yet.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// Whose the ads are and what they are called: a CSV file as `twofold ads load` takes it. Simulated ads have names
    /// without it.
    #[arg(long, value_name = "FILE")]
    pub ads_table: Option<PathBuf>,
    /// Address of the page and the API.
    #[arg(long, default_value = "127.0.0.1:8081")]
    pub page: SocketAddr,
    /// Address of the collector.
    #[arg(long, default_value = "127.0.0.1:8080")]
    pub collector: SocketAddr,
    #[command(flatten)]
    pub input: feed::InputArgs,
}

/// Runs the demo.
pub async fn run(args: DemoArgs, json: bool) -> Result<Exit> {
    let output = if json { Output::Json } else { Output::Text };
    match &args.input.input {
        Some(_) => feed::run(&args, output).await,
        None => simulate::run(&args, output).await,
    }
}

/// Starts the embedded system and tells where it is.
async fn start(args: &DemoArgs, output: Output, first_day: Day, length: u64) -> Result<(System, Run)> {
    let ads = match (&args.ads_table, &args.input.input) {
        (Some(file), _) => Some(names::read(file)?),
        (None, None) => Some(names::simulated(args.ads, first_day)?),
        (None, Some(_)) => None,
    };
    let layout = Layout {
        ads,
        start: first_day.start(),
        first_day,
        data: args.data.clone(),
        collector: args.collector,
        page: args.page,
    };
    let system = System::start(layout).await?;
    let client = Client::new(system.collector, system.page)?;
    let show = Show::new(length, output);
    show.result(&format!("The page with live counts:  http://{}/", system.page))?;
    show.result(&format!("The collector:              http://{}/v1/clicks", system.collector))?;
    let run = Run::new(system.handles(), client, show, first_day);
    Ok((system, run))
}

/// How to read what was kept on disk with a tool that knows nothing of Twofold.
fn show_query(run: &Run, args: &DemoArgs) -> Result<()> {
    let Some(folder) = &args.data else { return Ok(()) };
    let folder = folder.canonicalize().with_context(|| format!("opening {}", folder.display()))?;
    run.show.result(&format!("\nThe same numbers with DuckDB:\n  duckdb -c \"{}\"", query(&folder)))
}

/// SQL within double quotes of a shell; the folder's name may hold quotes of either kind.
fn query(folder: &Path) -> String {
    let folder = folder.display().to_string().replace('\'', "''");
    let folder: String = folder.chars().fold(String::new(), |mut text, c| {
        text.extend(matches!(c, '"' | '\\' | '$' | '`').then_some('\\'));
        text.push(c);
        text
    });
    format!(
        "SELECT day, sum(clicks + adjustment) AS clicks FROM \
         read_parquet('{folder}/tables/current/minute/*/data.parquet', hive_partitioning = true) GROUP BY day ORDER BY day"
    )
}

fn verdict(holds: bool) -> Exit {
    if holds { Exit::Done } else { Exit::Failure }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_query_survives_a_folder_with_quotes() {
        let text = query(Path::new("/tmp/it's $5 \"net\""));
        assert!(text.contains(r#"read_parquet('/tmp/it''s \$5 \"net\"/tables/current"#), "{text}");
    }
}
