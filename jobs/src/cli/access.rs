//! The command line of who may see what: ads and keys.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use clicks::id::TenantId;
use platform::keys::{KeyId, Scope};
use platform::settings::Time;

use super::{Actor, one_line};

#[derive(Debug, Subcommand)]
pub enum AdsCommand {
    /// Loads ads from a CSV file with the columns ad_id,tenant,campaign,name,price,currency,valid_from, and publishes a new
    /// version of the table. Rows are added, or take the place of those of the same ad and day; the others stay.
    Load {
        /// The file; - for standard input.
        file: PathBuf,
        /// The file holds all ads: rows that it does not have are taken away.
        #[arg(long)]
        replace: bool,
        /// Lets ads go to another tenant, who then sees all of their past, or away altogether.
        #[arg(long)]
        allow_moves: bool,
        /// Says what would change, and changes nothing.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        actor: Actor,
    },
    /// Prints the table as the CSV file that it can be loaded from.
    Show {
        /// The number of an earlier version.
        number: Option<u64>,
    },
    /// Who has loaded which version, when, and what it has changed.
    History,
}

#[derive(Debug, Subcommand)]
pub enum KeyCommand {
    /// Makes a key for the API and shows it, once.
    Create(NewKeyArgs),
    /// All keys, and what each may see.
    List,
    /// Ends a key: within a minute it opens nothing any more.
    Revoke {
        /// The first part of the key, after `tfk_`.
        id: KeyId,
        /// Why: for whoever reads the list later.
        #[arg(long, value_parser = one_line)]
        reason: String,
        #[command(flatten)]
        actor: Actor,
    },
}

#[derive(Debug, Args)]
pub struct NewKeyArgs {
    /// What it is for.
    #[arg(long, value_parser = one_line)]
    pub name: String,
    #[command(flatten)]
    pub whose: Whose,
    /// What it may ask for; may be repeated.
    #[arg(long, value_enum, default_value = "read")]
    pub scope: Vec<KeyScope>,
    /// How long it opens anything, as in `90d`, or `never`.
    #[arg(long, value_name = "TIME", value_parser = lifetime)]
    pub expires: Lifetime,
    #[command(flatten)]
    pub actor: Actor,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Whose {
    /// It sees the ads of this tenant of the ads table, and nothing else.
    #[arg(long)]
    pub tenant: Option<TenantId>,
    /// It sees all ads.
    #[arg(long)]
    pub all_tenants: bool,
}

/// How long a key lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    For(Time),
    Never,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum KeyScope {
    /// Numbers of the ads that it may see.
    Read,
    /// How the installation is doing: nights, partitions, lag.
    Operate,
    /// Every table by SQL over PostgreSQL's protocol, raw clicks with their users among them.
    Sql,
}

impl From<KeyScope> for Scope {
    fn from(scope: KeyScope) -> Self {
        match scope {
            KeyScope::Read => Scope::Read,
            KeyScope::Operate => Scope::Operate,
            KeyScope::Sql => Scope::Sql,
        }
    }
}

const LIFETIME_MAX: std::time::Duration = std::time::Duration::from_secs(100 * 365 * 86_400);

fn lifetime(text: &str) -> Result<Lifetime, String> {
    match text {
        "never" => Ok(Lifetime::Never),
        text => match text.parse::<Time>()? {
            Time(time) if time.is_zero() => Err("such a key would open nothing".to_owned()),
            Time(time) if time > LIFETIME_MAX => Err("that is more than a hundred years; write `never`".to_owned()),
            time => Ok(Lifetime::For(time)),
        },
    }
}
