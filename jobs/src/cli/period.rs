//! The command line of what people decide about closed days.

use clap::{Args, Subcommand};
use clicks::time::Day;
use clicks::zone::Zone;
use finance::Dates;

#[derive(Debug, Subcommand)]
pub enum PeriodCommand {
    /// The days that are not final or that people have decided about; of one day everything; of a month every day, and what
    /// still stands before its close (exit code 10 while something does).
    #[command(after_help = "Examples:
  twofold period status --date 2026-03-15
  twofold period status --month 2026-03 --tz Europe/Berlin && twofold export --period 2026-03 --tz Europe/Berlin -o march.xlsx")]
    Status {
        /// Only this day, UTC.
        #[arg(long)]
        date: Option<Day>,
        /// The month as 2026-03, or any other period: final when every day of UTC that it touches is.
        #[arg(long, value_name = "PERIOD", conflicts_with = "date")]
        month: Option<Dates>,
        /// The zone by whose clocks the month begins and ends, of the IANA list.
        #[arg(long, value_name = "ZONE", default_value = "UTC", requires = "month")]
        tz: Zone,
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
#[derive(Debug, Clone, Default, Args)]
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
        self.actor.clone().or_else(user).ok_or("who decides this? Give --actor NAME; it is kept with what is decided")
    }
}

/// Longest text of a decision.
const TEXT_MAX: usize = 500;

/// A text of one line that the ledger keeps.
pub fn one_line(text: &str) -> Result<String, String> {
    let text = text.trim();
    match text.chars().count() {
        0 => Err("it is empty".to_owned()),
        length if length > TEXT_MAX => Err(format!("it has {length} characters, at most {TEXT_MAX} are kept")),
        _ if text.chars().any(char::is_control) => Err("it has more than one line, or control characters".to_owned()),
        _ => Ok(text.to_owned()),
    }
}
