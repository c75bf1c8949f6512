//! The command line. Every subcommand is thin: read settings, build, run.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clicks::time::Day;
use platform::settings::Time;

use crate::demo::DemoArgs;

mod access;
mod finance;
mod period;

pub use access::{AdsCommand, KeyCommand, KeyScope, Lifetime, NewKeyArgs, Whose};
pub use finance::{
    AdjustmentsCommand, AdjustmentsOf, ByName, DiffArgs, ExplainArgs, ExportArgs, FormName, Known, Of, Priced,
    ReconcileArgs, SqlArgs, StepName, name_of,
};
pub use period::{Actor, Decision, PeriodCommand, one_line};

/// Counts ad clicks twice and answers once.
#[derive(Debug, Parser)]
#[command(name = "twofold", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done or already done, 1 failure, 2 usage or configuration, 10 input incomplete (try \
later), 11 another run published or is at work, 12 quality gate failed or day withheld, 13 period final, 14 an audit or a reconciliation found differences.\nSettings: flags > environment (TWOFOLD__KAFKA__BROKERS) > twofold.toml > defaults."
)]
pub struct Cli {
    /// Settings file; twofold.toml in this folder if it is there.
    #[arg(long, short, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Results as JSON on stdout.
    #[arg(long, global = true)]
    pub json: bool,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    Demo(Box<DemoArgs>),
    /// The click collector: HTTP in, Kafka out.
    Collect,
    /// The speed layer: Kafka to live counts in Redis. Without a subcommand it counts until it is stopped.
    Speed {
        #[command(subcommand)]
        command: Option<SpeedCommand>,
    },
    /// The archiver: Kafka to raw Parquet. Without a subcommand it archives until it is stopped.
    Archive {
        #[command(subcommand)]
        command: Option<ArchiveCommand>,
    },
    /// The merged answer: API and page.
    Serve {
        /// Serves the tables of `twofold sql` over PostgreSQL's protocol, too, at this address, as in 127.0.0.1:5432.
        #[arg(long, value_name = "ADDRESS")]
        pgwire: Option<SocketAddr>,
    },
    /// All four services in one process.
    Up,
    /// The nightly recount.
    #[command(subcommand)]
    Batch(BatchCommand),
    /// Closed days: how far each can be trusted, and what people decide about it.
    #[command(subcommand)]
    Period(PeriodCommand),
    /// Ads have names: the table of whose they are, what they are called and what a click costs.
    #[command(subcommand)]
    Ads(AdsCommand),
    /// Keys of the API: who may ask, and about whose ads.
    #[command(subcommand)]
    Key(KeyCommand),
    /// What is billed, as a file for a spreadsheet, a program or an invoice.
    Export(Box<ExportArgs>),
    /// Our numbers beside somebody else's: what matches, what does not, and why.
    Reconcile(Box<ReconcileArgs>),
    /// What has changed of a period between two states of the books, per ad, why, and by which ledger entry.
    Diff(Box<DiffArgs>),
    /// From a billed number of one ad to its raw clicks, and what became of each.
    Explain(Box<ExplainArgs>),
    /// Clicks that were found after their day was final: corrections, as lines.
    #[command(subcommand)]
    Adjustments(Box<AdjustmentsCommand>),
    /// The books as tables: read-only SQL at one position of the ledger.
    Sql(Box<SqlArgs>),
    /// Counts a published day again from the raw objects that its ledger entry names, and compares every row.
    Audit {
        /// The day, UTC.
        #[arg(long)]
        date: Day,
        /// By what it is counted again.
        #[arg(long, value_enum, default_value_t)]
        engine: Engine,
    },
    /// The topic and the ledger's record of it.
    #[command(subcommand)]
    Topic(TopicCommand),
    /// Reaches every dependency and checks its settings, each failure with its mend.
    Check,
    /// The effective settings.
    #[command(subcommand)]
    Config(ConfigCommand),
}

#[derive(Debug, Subcommand)]
pub enum BatchCommand {
    /// Closes one day: the next one in order, or the one named. Running it twice changes nothing.
    Run {
        /// The day to close, UTC.
        #[arg(long, conflicts_with = "catch_up")]
        date: Option<Day>,
        /// Closes every day that is due, in order.
        #[arg(long)]
        catch_up: bool,
        /// Refuses to begin when more nights than this are due: none is ever left out, so a long outage is then closed by
        /// a run without this flag.
        #[arg(long, value_name = "NIGHTS", requires = "catch_up", value_parser = nights)]
        lookback: Option<u32>,
        /// Publishes the day of --date although checks speak against it (records were lost, an odd volume). The reason is
        /// written into the ledger, with who gave it.
        #[arg(long, value_name = "REASON", requires = "date", conflicts_with = "catch_up", value_parser = one_line)]
        accept: Option<String>,
        #[command(flatten)]
        actor: Actor,
        #[command(flatten)]
        how: RunHow,
    },
    /// The same as `run --catch-up`.
    CatchUp {
        /// Refuses to begin when more nights than this are due.
        #[arg(long, value_name = "NIGHTS", value_parser = nights)]
        lookback: Option<u32>,
        #[command(flatten)]
        how: RunHow,
    },
    /// What is closed, what comes next, and what it waits for.
    Status,
    /// Deletes files of killed runs: those below tables/rev/ that no ledger entry names and none will ever name.
    Gc {
        /// Only files that were written longer ago than this.
        #[arg(long, value_name = "TIME", default_value = "7d")]
        older_than: Time,
        /// Names them and deletes nothing.
        #[arg(long)]
        dry_run: bool,
    },
}

/// How nights are run, and who is told about it.
#[derive(Debug, Clone, Default, Args)]
pub struct RunHow {
    /// Waits this long for the archive, for a night that becomes due, or for another run, and then ends with exit code 10
    /// or 11.
    #[arg(long, value_name = "TIME")]
    pub wait: Option<Time>,
    /// Computes and checks everything and writes nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// By what records are judged and counted; both publish the same bytes.
    #[arg(long, value_enum, default_value_t)]
    pub engine: Engine,
    /// What was published day by day, on stderr.
    #[arg(long, short)]
    pub verbose: bool,
    /// A dead-man service: GET URL/start at the start, URL after exit code 0, URL/fail after a failure.
    #[arg(long, value_name = "URL")]
    pub ping_url: Option<String>,
    /// Metrics of this run for the textfile collector of node_exporter; its name ends in .prom.
    #[arg(long, value_name = "FILE")]
    pub metrics_file: Option<PathBuf>,
}

/// By what the batch counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum Engine {
    /// Our own operator.
    #[default]
    Exact,
    /// Plain SQL that spells out the rules: many times slower, for whoever doubts the other.
    Reference,
}

impl From<Engine> for recompute::CountBy {
    fn from(engine: Engine) -> Self {
        match engine {
            Engine::Exact => recompute::CountBy::Exact,
            Engine::Reference => recompute::CountBy::Reference,
        }
    }
}

/// `3` or `3d`.
fn nights(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix('d').unwrap_or(text).parse::<u32>().ok().filter(|nights| *nights > 0);
    number.ok_or_else(|| "give a number of nights, 1 or more".to_owned())
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum ArchiveCommand {
    /// Deletes raw objects of old days, never what a night may still read.
    Prune {
        /// How long an append day is kept after its end, as in `400d`.
        #[arg(long, default_value = "400d", value_parser = humantime::parse_duration)]
        keep: std::time::Duration,
        /// Only tells what would be deleted.
        #[arg(long)]
        dry_run: bool,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Subcommand)]
pub enum SpeedCommand {
    /// How far each partition is, how far behind, and what stands against its numbers.
    Status,
}

#[derive(Debug, Subcommand)]
pub enum TopicCommand {
    /// Creates the topic (or checks it, when it is there) and records its life in the ledger, also that of a topic that
    /// was created again.
    #[command(visible_alias = "migrate")]
    Create {
        /// First day that is counted, UTC; today otherwise. Earlier days are final and empty. It never changes: another one
        /// than the ledger's is refused.
        #[arg(long)]
        first_day: Option<Day>,
    },
    /// Checks the topic's settings.
    Check,
}

#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Prints the effective settings, secrets hidden.
    Show,
    /// Reads the settings and says whether they are valid.
    Validate,
}

#[cfg(test)]
mod tests;
