//! The command line. Every subcommand is thin: read settings, build, run.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use clicks::time::Day;

use crate::demo::DemoArgs;

/// Counts ad clicks twice and answers once.
#[derive(Debug, Parser)]
#[command(name = "twofold", version, propagate_version = true, arg_required_else_help = true)]
#[command(
    after_help = "Exit codes: 0 done or already done, 1 failure, 2 usage or configuration, 10 input incomplete (try \
later), 11 another run published, 12 quality gate failed.\nSettings: flags > environment (TWOFOLD__KAFKA__BROKERS) > twofold.toml > defaults."
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
    Serve,
    /// All four services in one process.
    Up,
    /// The nightly recount.
    #[command(subcommand)]
    Batch(BatchCommand),
    /// Closed days: how far each can be trusted, and what people decide about it.
    #[command(subcommand)]
    Period(PeriodCommand),
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
        #[arg(long)]
        date: Option<Day>,
    },
    /// Closes every day that can be closed, in order.
    CatchUp,
    /// What is closed, what comes next, and what it waits for.
    Status,
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

#[derive(Debug, Subcommand)]
pub enum PeriodCommand {
    /// The days that are not final or that people have decided about; of one day everything.
    Status {
        /// Only this day, UTC.
        #[arg(long)]
        date: Option<Day>,
    },
    /// Makes a closed day final now, without waiting for the checks of further nights.
    Approve(Decision),
    /// Keeps a closed day from becoming final until it is approved; every night goes on checking it.
    Hold(Decision),
    /// Permits one more revision of a final day; `twofold batch run --date DAY` publishes it.
    Reopen(Decision),
}

/// What a person decides about one day. All of it is written into the ledger.
#[derive(Debug, Args)]
pub struct Decision {
    /// The day, UTC.
    #[arg(long)]
    pub date: Day,
    /// Why: for whoever reads the books later.
    #[arg(long, value_parser = one_line)]
    pub reason: String,
    #[command(flatten)]
    pub actor: Actor,
}

/// Who decides.
#[derive(Debug, Args)]
pub struct Actor {
    /// Who decides; the name of the user who runs this when absent.
    #[arg(long, env = "TWOFOLD_ACTOR", value_parser = one_line)]
    pub actor: Option<String>,
}

impl Actor {
    /// # Errors
    /// When there is neither a name nor a user.
    pub fn name(&self) -> Result<String, &'static str> {
        let user = || std::env::var("USER").or_else(|_| std::env::var("LOGNAME")).ok().filter(|user| !user.is_empty());
        self.actor.clone().or_else(user).ok_or("who decides this? Give --actor NAME; it is written into the ledger")
    }
}

/// Longest text of a decision.
const TEXT_MAX: usize = 500;

fn one_line(text: &str) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() {
        0 => Err("it is empty".to_owned()),
        length if length > TEXT_MAX => Err(format!("it has {length} characters, at most {TEXT_MAX} are kept")),
        _ if text.chars().any(char::is_control) => Err("it has more than one line, or control characters".to_owned()),
        _ => Ok(text.to_owned()),
    }
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
