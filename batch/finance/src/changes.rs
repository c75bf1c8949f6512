//! What has changed between two states of the truth: which entry of the ledger has changed which day, why, and by how much for
//! each ad. The changes of all entries add up to the difference.

use std::collections::{BTreeMap, BTreeSet};

use clicks::ads::AdsTable;
use clicks::books::Books;
use clicks::id::AdId;
use clicks::inputs::InputList;
use clicks::ledger::{Body, ChangeReason, Entry};
use clicks::tables::EntryNumber;
use clicks::time::{Day, Interval, Timestamp};
use clicks::zone::Zone;
use platform::ledger::{Ledger, LedgerError};
use platform::objects::Objects;
use rust_decimal::Decimal;
use serde::Serialize;

use crate::export::{ExportError, Form};
use crate::inputs::{InputsError, inputs, is_replayed};
use crate::lines::{Line, Period};
use crate::position::published_at;
use crate::statement::{By, Scope, StatementError, Step, days_of, is_closed, write};

/// What one entry has changed of one day.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayChange {
    /// UTC.
    pub day: Day,
    pub entry: EntryNumber,
    /// When it was published, where it says so.
    pub at: Option<Timestamp>,
    pub cause: ChangeCause,
    /// The entry that had published the revision before.
    pub entry_before: Option<EntryNumber>,
    pub revision_before: Option<u32>,
    pub revision_after: Option<u32>,
    /// By ad and currency; none where the entry moved clicks from adjustments into a revision and changed no number.
    pub ads: Vec<AdChange>,
}

/// Why an entry has changed a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeCause {
    /// The day was closed: nothing was billed of it before.
    Closed,
    /// Clicks came after the cut of the revision before.
    LateArrival,
    /// Clicks came after the day was final: they stand beside its revision.
    Adjustment,
    /// A person has reopened the day.
    Reopened,
    /// The day was counted by other rules than before.
    RuleChange,
    /// The day was counted from other raw objects than before, where both counts had read.
    ArchiveReplayed,
}

impl ChangeCause {
    pub const fn name(self) -> &'static str {
        match self {
            ChangeCause::Closed => "closed",
            ChangeCause::LateArrival => "late_arrival",
            ChangeCause::Adjustment => "adjustment",
            ChangeCause::Reopened => "reopened",
            ChangeCause::RuleChange => "rule_change",
            ChangeCause::ArchiveReplayed => "archive_replayed",
        }
    }
}

/// What has changed for one ad, adjustments included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdChange {
    pub ad: AdId,
    pub before: u64,
    pub after: u64,
    pub currency: Option<&'static str>,
    pub amount_before: Decimal,
    pub amount_after: Decimal,
}

/// Why the changes cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum ChangesError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Statement(#[from] StatementError),
    #[error(transparent)]
    Inputs(#[from] InputsError),
    #[error("the books at position {to} come before those at {from}: ask for the changes the other way round")]
    Backwards { from: EntryNumber, to: EntryNumber },
}

/// What has changed in a range of time from one position to another, in the order of entries and days.
///
/// # Errors
/// When the ledger or a table cannot be read, or `to` comes first.
pub async fn changes(
    ledger: &Ledger,
    objects: &Objects,
    ads: &AdsTable,
    range: Interval,
    from: Books,
    to: EntryNumber,
) -> Result<Vec<DayChange>, ChangesError> {
    let mut changes = Vec::new();
    let wanted = |_: &AdId| true;
    changes_of(ledger, objects, ads, &[range], from, to, &wanted, |_, change| changes.push(change)).await?;
    find_replays(ledger, objects, &mut changes).await?;
    Ok(changes)
}

/// Which ads.
type Wanted<'a> = &'a (dyn Fn(&AdId) -> bool + Sync);

/// The same of several ranges and of some ads, each change with the number of its range, one after the other: the ledger is read
/// once. What was counted from another archive is told as if it were from the same.
#[expect(clippy::too_many_arguments, reason = "what `changes` takes, and which of it")]
pub(crate) async fn changes_of(
    ledger: &Ledger,
    objects: &Objects,
    ads: &AdsTable,
    ranges: &[Interval],
    mut from: Books,
    to: EntryNumber,
    wanted: Wanted<'_>,
    mut take: impl FnMut(usize, DayChange),
) -> Result<(), ChangesError> {
    if to < from.head() {
        return Err(ChangesError::Backwards { from: from.head(), to });
    }
    while from.head() < to {
        let number = from.head() + 1;
        let missing = || LedgerError::NoEntry { url: ledger.url().to_owned(), number, head: from.head() };
        let bytes = ledger.entry_bytes(number).await?.ok_or_else(missing)?;
        let entry = Entry::decode(number, &bytes).map_err(LedgerError::from)?;
        let mut next = from.clone();
        ledger.read_on(&mut next, number).await?;
        let days = ranges.iter().enumerate().flat_map(|(n, range)| days_of(*range).map(move |day| (n, *range, day)));
        for (n, range, day) in days.filter(|(_, _, day)| is_other(&from, &next, *day)) {
            let part = Interval::new(range.start.max(day.start()), range.end.min(day.end()));
            let (before, after) = (
                sums(objects, &from, ads, day, part, wanted).await?,
                sums(objects, &next, ads, day, part, wanted).await?,
            );
            let revision = |books: &Books| books.day(day).map(|book| book.revision.revision);
            let change = DayChange {
                day,
                entry: number,
                at: published_at(&entry.body),
                cause: cause(&from, &entry, day),
                entry_before: from.day(day).map(|book| book.entry),
                revision_before: revision(&from),
                revision_after: revision(&next),
                ads: differences(&before, &after),
            };
            take(n, change);
        }
        from = next;
    }
    Ok(())
}

/// Whether an entry has changed what is billed of a day.
fn is_other(before: &Books, after: &Books, day: Day) -> bool {
    let key = |books: &Books| {
        let revision = books.day(day).map(|book| book.revision.revision);
        (revision, books.adjustments(day).iter().map(|adjustment| adjustment.night).collect::<Vec<_>>())
    };
    key(before) != key(after)
}

fn cause(before: &Books, entry: &Entry, day: Day) -> ChangeCause {
    let revision = match &entry.body {
        Body::Night(night) => night.days.iter().find(|revision| revision.day == day),
        Body::Recount(recount) => Some(&recount.day),
        Body::Genesis(_) | Body::Topic(_) | Body::Epoch(_) | Body::Rules(_) | Body::Period(_) => None,
    };
    let Some(revision) = revision else { return ChangeCause::Adjustment };
    let known = before.day(day).map(|book| book.revision.rules_version);
    match revision.change.as_ref().map(|change| change.reason) {
        None => ChangeCause::Closed,
        Some(_) if known.is_some_and(|version| version != revision.rules_version) => ChangeCause::RuleChange,
        Some(ChangeReason::LateArrival) => ChangeCause::LateArrival,
        Some(ChangeReason::Reopened) => ChangeCause::Reopened,
    }
}

/// Tells which of the further revisions were counted from another archive than the ones before them.
async fn find_replays(ledger: &Ledger, objects: &Objects, changes: &mut [DayChange]) -> Result<(), InputsError> {
    // Of the days of an entry one after the other: its list is read once.
    let mut last: Option<(EntryNumber, InputList)> = None;
    for change in changes {
        let counted = matches!(change.cause, ChangeCause::LateArrival | ChangeCause::Reopened);
        let Some(before) = change.entry_before.filter(|_| counted) else { continue };
        let after = match last.take() {
            Some((entry, list)) if entry == change.entry => list,
            _ => inputs(ledger, objects, change.entry).await?,
        };
        if is_replayed(&inputs(ledger, objects, before).await?, &after)? {
            change.cause = ChangeCause::ArchiveReplayed;
        }
        last = Some((change.entry, after));
    }
    Ok(())
}

type Sums = BTreeMap<(AdId, Option<&'static str>), (u64, Decimal)>;

/// What is billed of a part of a day, by ad and currency.
async fn sums(
    objects: &Objects,
    books: &Books,
    ads: &AdsTable,
    day: Day,
    part: Interval,
    wanted: Wanted<'_>,
) -> Result<Sums, StatementError> {
    if !is_closed(books.state(day)) {
        return Ok(Sums::new());
    }
    let scope = Scope { range: part, zone: Zone::UTC, step: Step::Whole, by: By::Ad, final_only: false };
    let mut gathered = Gathered { sums: Sums::new(), wanted };
    write(objects, books, ads, &scope, &mut gathered).await?;
    Ok(gathered.sums)
}

struct Gathered<'a> {
    sums: Sums,
    wanted: Wanted<'a>,
}

impl Form for Gathered<'_> {
    fn lines(&mut self, _: &Period, lines: &[Line<'_>]) -> Result<(), ExportError> {
        for line in lines {
            let Some(ad) = line.ad.filter(|ad| (self.wanted)(ad)) else { continue };
            let key = (ad.clone(), line.money.as_ref().map(|money| money.currency));
            let amount = line.money.as_ref().map(|money| money.amount).unwrap_or_default();
            self.sums.insert(key, (line.counts.total(), amount));
        }
        Ok(())
    }
}

fn differences(before: &Sums, after: &Sums) -> Vec<AdChange> {
    let keys: BTreeSet<_> = before.keys().chain(after.keys()).collect();
    let mut changes = Vec::new();
    for key in keys {
        let [(before, amount_before), (after, amount_after)] =
            [before, after].map(|sums| sums.get(key).copied().unwrap_or_default());
        if (before, amount_before) != (after, amount_after) {
            let (ad, currency) = key.clone();
            changes.push(AdChange { ad, before, after, currency, amount_before, amount_after });
        }
    }
    changes
}
