//! A published day, counted again from what its ledger entries name.
//!
//! ```text
//! entry E of the day's revision, and each later entry with adjustments of the day:
//!   books as of E-1, the list of inputs  ->  every object re-read: size, footer, SHA-256, chain, look-back, cut
//!                                        ->  the same plan and the same count as in the night  ->  every row compared
//! ```
//!
//! Nothing but the ledger is believed: neither the listing, nor the names, nor `tables/current`. What is compared is all
//! that the entry says, so an audit of a day audits the whole night that published it.

mod compare;
mod inputs;

use clicks::books::{Books, PeriodState};
use clicks::ledger::{Balance, Body, DayTotals, Entry, Night, Recount};
use clicks::tables::EntryNumber;
use clicks::time::{Day, Timestamp};
use platform::ledger::{Ledger, LedgerError};
use platform::objects::Objects;
use serde::Serialize;

use crate::Options;
use crate::count::count;
use crate::engine::Engine;
use crate::error::{BatchError, InputError, TableError};
use crate::gate::check_balance;
use crate::recount::as_night;
use crate::scan::Hashes;

/// Differences that are kept; more are only counted.
const BREAKS_KEPT: usize = 10_000;

/// What an audit found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audit {
    pub day: Day,
    /// The revision first, then adjustments in the order of their nights.
    pub entries: Vec<EntryAudit>,
}

impl Audit {
    /// Differences of all entries.
    pub fn breaks(&self) -> u64 {
        self.entries.iter().map(|entry| entry.breaks.total).sum()
    }
}

/// One entry, counted again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EntryAudit {
    pub entry: EntryNumber,
    pub night: Day,
    /// Release that published it.
    pub release: String,
    /// Raw objects that were read, and their bytes.
    pub objects: u64,
    pub bytes: u64,
    /// Records that were judged; 0 when the inputs are not what was published, so that nothing was counted.
    pub rows: u64,
    /// Rows of tables that were compared.
    pub compared: u64,
    pub breaks: Breaks,
    /// What could not be shown, and what differs without being wrong.
    pub notes: Vec<String>,
}

/// Differences, the first [`BREAKS_KEPT`] of them kept.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Breaks {
    pub total: u64,
    pub first: Vec<Break>,
}

impl Breaks {
    fn push(&mut self, found: Break) {
        self.total += 1;
        if self.first.len() < BREAKS_KEPT {
            self.first.push(found);
        }
    }
}

/// Clicks, duplicates and late clicks of one ad in one period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    pub clicks: u64,
    pub duplicates: u64,
    pub late: u64,
}

/// One difference between what is published and what its inputs come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Break {
    #[error("raw object `{key}` is not what was counted: {reason}")]
    Object { key: String, reason: String },
    #[error("the list of inputs is not what the night must read: {reason}")]
    Inputs { reason: String },
    #[error("published file `{key}` is not what the ledger names: {reason}")]
    File { key: String, reason: String },
    #[error("{table} of {day}, ad `{ad}`, {period}: published {}, recomputed {}", shown(.published), shown(.recomputed))]
    Row {
        table: &'static str,
        day: Day,
        ad: String,
        /// Start of the period; milliseconds when serialised.
        period: Timestamp,
        published: Option<Counts>,
        recomputed: Option<Counts>,
    },
    #[error("totals of {day}: published {published:?}, recomputed {recomputed:?}")]
    Totals { day: Day, published: DayTotals, recomputed: DayTotals },
    #[error("{day}: {reason}")]
    Day { day: Day, reason: String },
    #[error("sums of the night: published {published:?}, recomputed {recomputed:?}")]
    Balance { published: Balance, recomputed: Balance },
    #[error("the recount contradicts itself: {reason}")]
    Recount { reason: String },
}

fn shown(counts: &Option<Counts>) -> String {
    match counts {
        None => "nothing".to_owned(),
        Some(Counts { clicks, duplicates, late }) => format!("{clicks} clicks ({late} late), {duplicates} duplicates"),
    }
}

/// Why nothing can be said about a day.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("{day} is withheld: nothing is published of it that could be audited")]
    Withheld { day: Day },
    #[error("{day} is not closed: {next} is the next night; there is nothing published that could be audited")]
    NotClosed { day: Day, next: Day },
    #[error("the ledger begins with {first}: {day} is final and empty, nothing was published of it")]
    Empty { day: Day, first: Day },
    #[error("ledger entry {entry} is no night; this release cannot recompute what it publishes: update the release")]
    Kind { entry: EntryNumber },
    #[error(
        "{} of the {listed} raw objects that ledger entry {entry} was counted from are gone ({}); restore them, the day \
         cannot be recomputed without them",
        keys.len(), first_of(keys)
    )]
    Gone { entry: EntryNumber, listed: usize, keys: Vec<String> },
    #[error(transparent)]
    Batch(#[from] BatchError),
}

/// Keys for a message that stays readable.
fn first_of(keys: &[String]) -> String {
    const SHOWN: usize = 3;
    let shown = keys.iter().take(SHOWN).map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    if keys.len() > SHOWN { format!("{shown} and {} more", keys.len() - SHOWN) } else { shown }
}

impl AuditError {
    /// The exit code of a command that ends with this error.
    pub const fn exit_code(&self) -> u8 {
        match self {
            AuditError::NotClosed { .. } => 10,
            AuditError::Withheld { .. } => 12,
            AuditError::Empty { .. } => 2,
            AuditError::Kind { .. } | AuditError::Gone { .. } => 1,
            AuditError::Batch(error) => error.exit_code(),
        }
    }
}

impl<E: Into<BatchError>> From<E> for Stopped {
    fn from(error: E) -> Self {
        Stopped(AuditError::Batch(error.into()))
    }
}

/// Ends the audit of an entry: lets `?` turn every error of the crate into the one that is told.
struct Stopped(AuditError);

/// Counts a published day again and compares every row. Writes nothing.
///
/// # Errors
/// Every [`AuditError`]; a difference is none, but is in the [`Audit`].
pub async fn audit(options: &Options, objects: &Objects, ledger: &Ledger, day: Day) -> Result<Audit, AuditError> {
    run(options, objects, ledger, day).await.map_err(|Stopped(error)| error)
}

async fn run(options: &Options, objects: &Objects, ledger: &Ledger, day: Day) -> Result<Audit, Stopped> {
    let books = ledger.read().await?;
    let mut entries = Vec::new();
    for (number, computed) in entries_of(ledger, &books, day).await? {
        let before = ledger.read_at(number - 1).await?;
        let (night, alone) = match computed {
            Computed::Night(night) => (*night, None),
            Computed::Recount(recount) => (as_night(&before, *recount), Some(day)),
        };
        entries.push(audit_entry(options, objects, &before, number, night, alone).await?);
    }
    Ok(Audit { day, entries })
}

/// An entry that has computed something.
enum Computed {
    Night(Box<Night>),
    Recount(Box<Recount>),
}

/// The entry of the day's revision, and those with adjustments of it.
async fn entries_of(ledger: &Ledger, books: &Books, day: Day) -> Result<Vec<(EntryNumber, Computed)>, Stopped> {
    let revision = books.day(day).map(|book| book.entry);
    let adjusted: Vec<Day> = books.adjustments(day).iter().map(|adjustment| adjustment.night).collect();
    if revision.is_none() && adjusted.is_empty() {
        let (first, next) = (books.first_day(), books.next_night());
        return Err(Stopped(match books.state(day) {
            PeriodState::Withheld => AuditError::Withheld { day },
            _ if day < first => AuditError::Empty { day, first },
            _ => AuditError::NotClosed { day, next },
        }));
    }
    let mut found = Vec::new();
    for number in 1..=books.head() {
        let missing = || LedgerError::NoEntry { url: ledger.url().to_owned(), number, head: number - 1 };
        let bytes = ledger.entry_bytes(number).await?.ok_or_else(missing)?;
        match Entry::decode(number, &bytes).map_err(LedgerError::from)?.body {
            Body::Night(night) if Some(number) == revision || adjusted.contains(&night.night) => {
                found.push((number, Computed::Night(night)));
            }
            Body::Recount(recount) if Some(number) == revision => found.push((number, Computed::Recount(recount))),
            Body::Night(_) => {}
            _ if Some(number) == revision => return Err(Stopped(AuditError::Kind { entry: number })),
            _ => {}
        }
    }
    // A revision that was published after adjustments of the day has taken them in, so it comes first either way.
    found.sort_by_key(|(number, _)| (Some(*number) != revision, *number));
    Ok(found)
}

async fn audit_entry(
    options: &Options,
    objects: &Objects,
    before: &Books,
    entry: EntryNumber,
    night: Night,
    alone: Option<Day>,
) -> Result<EntryAudit, Stopped> {
    let mut audit = EntryAudit {
        entry,
        night: night.night,
        release: night.release.clone(),
        objects: 0,
        bytes: 0,
        rows: 0,
        compared: 0,
        breaks: Breaks::default(),
        notes: Vec::new(),
    };
    let Some(list) = inputs::read_list(objects, &night.inputs, &mut audit.breaks).await? else { return Ok(audit) };
    audit.objects = list.objects.len() as u64;
    audit.bytes = list.objects.iter().map(|object| object.bytes).sum();
    let Some(plan) = inputs::plan(objects, before, entry, &night, alone, &list, &mut audit).await? else {
        return Ok(audit);
    };
    let (engine, hashes) = (Engine::new(options, objects)?, Hashes::default());
    let mut counted = match count(&engine, objects, &plan, &hashes, options).await {
        Ok(counted) => counted,
        // The first object that is damaged ended the count; all of them are to be named.
        Err(BatchError::Input(error @ (InputError::Damaged { .. } | InputError::Footer(_)))) => {
            inputs::name_changed(objects, &list, &error, &mut audit.breaks).await?;
            return Ok(audit);
        }
        Err(error) => return Err(error.into()),
    };
    inputs::compare_hashes(&list, &hashes, &mut audit.breaks);
    audit.rows = counted.balance.rows;
    if let Err(failure) = check_balance(&counted, plan.rows()) {
        audit.breaks.push(Break::Recount { reason: failure.to_string() });
    }
    if night.withheld.is_some() {
        counted.leave_out(night.night);
    }
    if counted.balance != night.balance {
        audit.breaks.push(Break::Balance { published: night.balance, recomputed: counted.balance });
    }
    compare::days(options, objects, before, &night, &counted, &mut audit).await?;
    compare::adjustments(objects, &night, &counted, &mut audit).await?;
    Ok(audit)
}

/// Reads a published file. One that is changed is a difference; one that is gone is an error.
async fn read_published(
    objects: &Objects,
    file: &clicks::ledger::FileRef,
    breaks: &mut Breaks,
) -> Result<Option<bytes::Bytes>, TableError> {
    match crate::publish::read_file(objects, file).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(TableError::Changed { key }) => {
            let reason = "its bytes have another SHA-256".to_owned();
            breaks.push(Break::File { key, reason });
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
