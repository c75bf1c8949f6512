//! The command line of the people who bill.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use clicks::id::{AdId, TenantId};
use clicks::window::Grain;
use clicks::zone::Zone;
use finance::{Dates, Keys, Mapping, PointInTime, Tolerance};
use platform::settings::Time;

/// Of which time.
#[derive(Debug, Clone, Args)]
pub struct Of {
    /// A month as 2026-03, a day as 2026-03-15, a year as 2026, or the first day and the one after the last as
    /// 2026-03-01..2026-03-15.
    #[arg(long, value_name = "PERIOD")]
    pub period: Dates,
    /// The zone by whose clocks the period begins and ends, of the IANA list.
    #[arg(long, value_name = "ZONE", default_value = "UTC")]
    pub tz: Zone,
}

/// As it was known when.
#[derive(Debug, Clone, Copy, Args)]
pub struct Known {
    /// As it was billed then: a ledger position as 31, a day as 2026-04-03 (what was published by its end, UTC), an instant, or now.
    #[arg(long, value_name = "WHEN", default_value = "now")]
    pub as_of: PointInTime,
    #[command(flatten)]
    pub priced: Priced,
}

/// Prices and names are those of one version of the ads table.
#[derive(Debug, Clone, Copy, Args)]
pub struct Priced {
    /// A version of the ads table; when absent the last one, or the last that was loaded by the time of --as-of (or --to).
    /// `twofold ads history` lists them.
    #[arg(long, value_name = "NUMBER")]
    pub ads_version: Option<u64>,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  twofold export --period 2026-03 --tz Europe/Berlin --by campaign --output march.xlsx
  twofold export --period 2026-03 --grain hour --output march.parquet
  twofold export --period 2026-03 --as-of 2026-04-03 > as-billed-then.csv

A file is written as a whole or not at all, and FILE.sha256 beside it is for `sha256sum --check`. The same period, ledger position
and version of the ads table give the same bytes, for ever. In CSV the last lines, of which the first column says `total`, add up
the others by currency. Exit code 10: days of the period are not closed yet.")]
pub struct ExportArgs {
    #[command(flatten)]
    pub of: Of,
    /// How long the periods of the lines are.
    #[arg(long, value_enum, default_value_t = StepName::Day)]
    pub grain: StepName,
    /// What has lines of its own.
    #[arg(long, value_enum, default_value_t = ByName::Ad)]
    pub by: ByName,
    /// By the ending of the output when absent, or CSV.
    #[arg(long, value_enum)]
    pub format: Option<FormName>,
    /// The file; standard output when absent, for CSV.
    #[arg(long, short, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// CSV that Excel opens as it is: with a byte order mark, times that it knows, and no text that it takes for a formula.
    #[arg(long)]
    pub excel: bool,
    /// Only periods whose days are all final.
    #[arg(long)]
    pub final_only: bool,
    #[command(flatten)]
    pub known: Known,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  twofold diff --period 2026-03 --from 2026-04-03            what has changed of March since it was billed on April 3
  twofold diff --period 2026-03 --from 31 --to 47 --csv > corrections.csv

Every change is given with the ledger entry that made it and its reason: `closed` (the day was published), `late_arrival` (clicks
came after the cut of a day that was not final), `adjustment` (clicks came after the day was final), `reopened` (a person had it
counted again), `rule_change` (it was counted by other rules), `archive_replayed` (it was counted from other raw objects than before,
where both counts had read). The changes of all entries add up to the difference. Amounts are by one version of the ads table on both sides: a new
price is no change of this list.")]
pub struct DiffArgs {
    #[command(flatten)]
    pub of: Of,
    /// The earlier state: a ledger position as 31, a day as 2026-04-03 (what was published by its end, UTC), or an instant.
    #[arg(long, value_name = "WHEN")]
    pub from: PointInTime,
    /// The later state.
    #[arg(long, value_name = "WHEN", default_value = "now")]
    pub to: PointInTime,
    /// A line of CSV for each ad of each change.
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    #[command(flatten)]
    pub priced: Priced,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "Example:
  twofold reconcile --file invoice.csv --period 2026-03 --tz Europe/Berlin --by ad,day --tolerance 0.1% --report march.html

The file is CSV (with any delimiter, in UTF-8), XLSX (its first sheet) or Parquet, by its ending. Its columns are found by their
names (ad_id, creative; campaign; advertiser, tenant; day, date; clicks, billed clicks, quantity; price, cpc), or named with --map.
Every line is matched, within tolerance, different, only ours or only theirs; for breaks the cause is told where the data show it.
Exit code 14: there are breaks. 10: days of the period are not closed yet, and --include-provisional was not given.")]
pub struct ReconcileArgs {
    /// Somebody else's numbers.
    #[arg(long, value_name = "FILE")]
    pub file: PathBuf,
    #[command(flatten)]
    pub of: Of,
    /// What is compared: advertiser, campaign, ad or day, or one of the first three with the day.
    #[arg(long, value_name = "KEYS", default_value = "ad,day")]
    pub by: Keys,
    /// By how much two numbers may differ: 0.1% of the larger, or 5 clicks.
    #[arg(long, value_name = "TOLERANCE", default_value = "0")]
    pub tolerance: Tolerance,
    /// Only the ads of this advertiser (tenant) of the ads table.
    #[arg(long, value_name = "NAME")]
    pub advertiser: Option<TenantId>,
    /// Which columns hold what, as in ad=Creative,clicks=Billed.
    #[arg(long, value_name = "FIELD=COLUMN,…", default_value = "", hide_default_value = true)]
    pub map: Mapping,
    /// What stands between thousands in the file's numbers.
    #[arg(long, value_name = "CHARACTER")]
    pub thousands: Option<char>,
    /// Compares days that are not closed by their live numbers, as they are now, late clicks included; they are no part of the
    /// books, and every break of such a day says so.
    #[arg(long)]
    pub include_provisional: bool,
    /// A report of all lines: .csv, .xlsx, or .html for one page that needs nothing else.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
    #[command(flatten)]
    pub known: Known,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  twofold explain --ad ad-7 --period 2026-03-15
  twofold explain --ad ad-7 --period 2026-03-15 --tz Europe/Berlin --clicks > rows.csv

Every click of the ad whose time lies in the period is read from the raw objects that the ledger names, and judged again: billed,
adjusted (found after its day was final), duplicate, rejected, or not yet published. The billed and adjusted ones must be the number
that is published (exit code 14 when they are not), and the printed query finds the same in DuckDB. Objects of partitions that the ad
does not belong to are read only if the others do not come to that number, if nothing is published, or with --all-partitions.")]
pub struct ExplainArgs {
    /// The ad.
    #[arg(long, value_name = "ID")]
    pub ad: AdId,
    #[command(flatten)]
    pub of: Of,
    /// How long the parts are into which the number is taken.
    #[arg(long, value_enum, default_value_t = StepName::Hour, conflicts_with = "clicks")]
    pub grain: StepName,
    /// Reads the partitions too that the ad does not belong to. Clicks that are rejected there change no number, so nothing else tells
    /// of them.
    #[arg(long)]
    pub all_partitions: bool,
    /// Each click as a line of CSV, with what became of it and why.
    #[arg(long, conflicts_with = "json")]
    pub clicks: bool,
}

#[derive(Debug, Clone, Args)]
#[command(after_help = "Examples:
  twofold sql \"SELECT day, state, sum(total) AS billed FROM clicks_day GROUP BY day, state ORDER BY day\"
  twofold sql --csv --file month.sql > month.csv
  twofold sql --as-of 2026-04-03 \"SELECT sum(total) FROM clicks_day WHERE day >= DATE '2026-03-01'\"
  twofold sql --tables

Tables are those of one ledger position and one version of the ads table, and nothing can be written. `DESCRIBE clicks_day` shows
columns. What is billed is `total`: the clicks of the revision and what was found after the day was final. A day of a zone is
date_trunc('day', period_start AT TIME ZONE 'Europe/Berlin'), and an amount total * price, joined with ads ON clicks_day.ad_id =
ads.ad_id AND day >= valid_from AND (valid_to IS NULL OR day < valid_to). Exit code 2: the question is none.")]
pub struct SqlArgs {
    /// The question; standard input when it is absent and no terminal.
    #[arg(value_name = "SELECT …", conflicts_with = "file")]
    pub question: Option<String>,
    /// A file with the question, or `-` for standard input.
    #[arg(long, short, value_name = "FILE")]
    pub file: Option<PathBuf>,
    /// As CSV, written while it is computed.
    #[arg(long, conflicts_with = "json")]
    pub csv: bool,
    /// An answer with more rows is an error; 1,000 for a table when absent.
    #[arg(long, value_name = "NUMBER")]
    pub max_rows: Option<u64>,
    /// How long it may take; `sql.timeout` of the settings when absent.
    #[arg(long, value_name = "TIME")]
    pub timeout: Option<Time>,
    #[command(flatten)]
    pub known: Known,
    /// Lists the tables.
    #[arg(long, conflicts_with_all = ["question", "file"])]
    pub tables: bool,
    /// Statements that make the same tables in DuckDB, over this store.
    #[arg(long, conflicts_with_all = ["question", "file", "tables"])]
    pub duckdb_views: bool,
}

#[derive(Debug, Clone, Subcommand)]
pub enum AdjustmentsCommand {
    /// The adjustments that stand, by day and night.
    List(AdjustmentsOf),
    /// A line of CSV for each ad and minute, with its amount, on standard output.
    Export(AdjustmentsOf),
}

/// Which adjustments.
#[derive(Debug, Clone, Args)]
pub struct AdjustmentsOf {
    #[command(flatten)]
    pub of: Of,
    #[command(flatten)]
    pub known: Known,
}

/// See [`finance::Step`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum StepName {
    Minute,
    Hour,
    Day,
    /// All of the period in one line.
    Period,
}

/// See [`finance::By`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ByName {
    Ad,
    Campaign,
    /// The advertiser.
    Tenant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FormName {
    Csv,
    Xlsx,
    Parquet,
}

impl StepName {
    pub const fn step(self) -> finance::Step {
        match self {
            StepName::Minute => finance::Step::Grain(Grain::Minute),
            StepName::Hour => finance::Step::Grain(Grain::Hour),
            StepName::Day => finance::Step::Grain(Grain::Day),
            StepName::Period => finance::Step::Whole,
        }
    }
}

impl ByName {
    pub const fn by(self) -> finance::By {
        match self {
            ByName::Ad => finance::By::Ad,
            ByName::Campaign => finance::By::Campaign,
            ByName::Tenant => finance::By::Tenant,
        }
    }
}

/// The name under which a value is given.
pub fn name_of(value: impl ValueEnum) -> String {
    value.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}
