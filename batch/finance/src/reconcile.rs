//! Our numbers beside somebody else's: every line in one of five buckets, and why, where the data show it.

mod causes;
mod slice;
mod terms;

use std::io::{Read, Seek};
use std::sync::Arc;

use clicks::ads::AdsTable;
use clicks::books::Books;
use clicks::id::{CampaignId, TenantId};
use clicks::time::Day;
use clicks::zone::Zone;
use hashbrown::HashMap;
use platform::ledger::Ledger;
use platform::objects::Objects;
use rust_decimal::Decimal;
use serde::Serialize;

pub use causes::Cause;
use slice::{Key, OfFile, Sides, Slice};
pub use terms::{Keys, KeysError, Terms, Tolerance, ToleranceError};

use crate::changes::ChangesError;
use crate::dates::Dates;
use crate::export::ExportError;
use crate::invoice::{Field, Invoice, InvoiceError};
use crate::provisional::Provisional;
use crate::statement::StatementError;

/// Where a line is sorted into.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bucket {
    Matched,
    WithinTolerance,
    Different,
    OnlyOurs,
    OnlyTheirs,
}

impl Bucket {
    pub const ALL: [Bucket; 5] =
        [Bucket::Matched, Bucket::WithinTolerance, Bucket::Different, Bucket::OnlyOurs, Bucket::OnlyTheirs];

    pub const fn name(self) -> &'static str {
        match self {
            Bucket::Matched => "matched",
            Bucket::WithinTolerance => "within_tolerance",
            Bucket::Different => "different",
            Bucket::OnlyOurs => "only_ours",
            Bucket::OnlyTheirs => "only_theirs",
        }
    }

    /// Somebody has to look at it.
    pub const fn is_break(self) -> bool {
        matches!(self, Bucket::Different | Bucket::OnlyOurs | Bucket::OnlyTheirs)
    }
}

/// One ad, campaign, advertiser or day on both sides.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// An ad, a campaign (with its advertiser before a slash, where the file names it) or an advertiser; empty where only days
    /// are compared, and for clicks of ads that the ads table does not know.
    pub who: Arc<str>,
    pub day: Option<Day>,
    /// What we bill.
    pub ours: u64,
    pub theirs: u64,
    /// The first line of the file that it is in, and how many there are.
    pub lines: Option<(u64, u32)>,
    pub bucket: Bucket,
    /// Only of breaks.
    pub cause: Option<Cause>,
    /// The difference times the price: the file's own, or ours.
    pub at_stake: Option<AtStake>,
}

/// An amount about which the two sides differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtStake {
    /// As the file writes it, or ours; `None`: that of the file, which does not name it.
    pub currency: Option<String>,
    pub amount: Decimal,
}

/// Why nothing is compared.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    #[error(transparent)]
    Invoice(#[from] InvoiceError),
    #[error(transparent)]
    Statement(#[from] StatementError),
    #[error(transparent)]
    Changes(#[from] ChangesError),
    #[error(
        "the campaign `{campaign}` is run by {first} and by {second}: give the file a column with the advertiser, or compare one of \
         them with `--advertiser`"
    )]
    SharedCampaign { campaign: CampaignId, first: TenantId, second: TenantId },
    #[error(transparent)]
    Report(#[from] ExportError),
    #[error("the ads table knows no advertiser `{0}`; `twofold ads show` lists them")]
    UnknownTenant(TenantId),
}

/// Where our numbers are from, and which.
#[derive(Debug, Clone, Copy)]
pub struct Mine<'a> {
    pub ledger: &'a Ledger,
    pub objects: &'a Objects,
    pub books: &'a Books,
    pub ads: &'a AdsTable,
    pub dates: Dates,
    pub zone: Zone,
    /// Only the ads of one advertiser.
    pub tenant: Option<&'a TenantId>,
    /// Live numbers of days that are not closed.
    pub provisional: &'a Provisional,
}

/// Compares every key of both sides, in the order of names and days, and hands each on. Tells which column of the file holds
/// what.
///
/// # Errors
/// When the file cannot be read, days of the period are not closed, a table cannot be read, campaigns cannot be told apart, or
/// `take` fails.
pub async fn reconcile<R: Read + Seek>(
    mine: &Mine<'_>,
    invoice: &mut Invoice<'_, R>,
    terms: Terms,
    mut take: impl FnMut(Compared) -> Result<(), ExportError>,
) -> Result<Vec<(Field, String)>, ReconcileError> {
    if let Some(tenant) = mine.tenant.filter(|tenant| !mine.ads.tenants().any(|known| known == *tenant)) {
        return Err(ReconcileError::UnknownTenant(tenant.clone()));
    }
    let (mut of_file, mut known, mut from) = (OfFile::default(), causes::Known::default(), Arc::from(""));
    loop {
        let mut slice = Slice::new(terms.keys, terms.keys_max, from);
        let columns = invoice.read(terms.keys, |line| {
            of_file.add(&line, terms.keys);
            slice.add_theirs(&line);
        })?;
        if terms.keys.who() == Some(Field::Campaign) && !of_file.has_tenants && mine.tenant.is_none() {
            check_campaigns(mine.ads)?;
        }
        slice.add_ours(mine, of_file.has_tenants).await?;
        let mut compared: Vec<(Key, Compared)> =
            slice.sums().map(|(key, sides)| (*key, compare(&slice, *key, sides, terms))).collect();
        compared.sort_unstable_by(|(_, a), (_, b)| (&a.who, a.day).cmp(&(&b.who, b.day)));
        known.find(mine, &of_file, &slice, terms.keys, &mut compared).await?;
        compared.into_iter().try_for_each(|(_, line)| take(line))?;
        match slice.until() {
            Some(until) => from = until.clone(),
            None => return Ok(columns),
        }
    }
}

/// A name of a campaign has to say which it is.
fn check_campaigns(ads: &AdsTable) -> Result<(), ReconcileError> {
    let mut tenants: HashMap<&CampaignId, &TenantId> = HashMap::new();
    for (tenant, campaign) in ads.campaigns() {
        if let Some(first) = tenants.insert(campaign, tenant) {
            let (campaign, first, second) = (campaign.clone(), first.clone(), tenant.clone());
            return Err(ReconcileError::SharedCampaign { campaign, first, second });
        }
    }
    Ok(())
}

fn compare(slice: &Slice, key: Key, sides: &Sides, terms: Terms) -> Compared {
    let Sides { ours: our, theirs: their } = sides;
    let (ours, theirs) = (our.counts.total(), their.clicks);
    let bucket = match (our.lines, their.lines) {
        _ if ours == theirs => Bucket::Matched,
        _ if terms.tolerance.lets(ours, theirs) => Bucket::WithinTolerance,
        (0, _) => Bucket::OnlyTheirs,
        (_, 0) => Bucket::OnlyOurs,
        _ => Bucket::Different,
    };
    let own = our.price.map(|(price, currency)| (price, Some(currency.to_owned())));
    let price = slice.price(their).or(own);
    let stake = |(price, currency)| AtStake { currency, amount: price * Decimal::from(ours.abs_diff(theirs)) };
    let at_stake = price.filter(|_| bucket.is_break()).map(stake);
    Compared {
        who: slice.name(key.0).clone(),
        day: terms.keys.by_day().then(|| Day::from_number(key.1)),
        ours,
        theirs,
        lines: (their.lines > 0).then_some((their.first_line, their.lines)),
        bucket,
        cause: None,
        at_stake,
    }
}
