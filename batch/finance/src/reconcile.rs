//! Our numbers beside somebody else's: every line in one of five buckets, and why, where the data show it.

mod causes;

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;
use std::sync::Arc;

use clicks::ads::AdsTable;
use clicks::books::Books;
use clicks::id::{AdId, CampaignId, TenantId};
use clicks::time::Day;
use clicks::zone::Zone;
use hashbrown::{HashMap, HashSet};
use platform::ledger::Ledger;
use platform::objects::Objects;
use rust_decimal::Decimal;
use serde::Serialize;

pub use causes::Cause;

use crate::changes::ChangesError;
use crate::dates::Dates;
use crate::export::{ExportError, Form};
use crate::invoice::{Field, InvoiceLine};
use crate::lines::{Line, Period};
use crate::money::{Counts, Money};
use crate::provisional::Provisional;
use crate::statement::{By, Scope, StatementError, Step, write_with};

/// What has one number on each side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Keys {
    who: Option<Field>,
    by_day: bool,
}

/// A text that names no keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` cannot be compared: use advertiser, campaign, ad or day, or one of the first three with the day, as in ad,day"
)]
pub struct KeysError(String);

impl Keys {
    pub const AD_DAY: Keys = Keys { who: Some(Field::Ad), by_day: true };

    /// Whose clicks are told apart; `None`: all together.
    pub const fn who(self) -> Option<Field> {
        self.who
    }

    pub const fn by_day(self) -> bool {
        self.by_day
    }
}

impl FromStr for Keys {
    type Err = KeysError;

    fn from_str(text: &str) -> Result<Self, KeysError> {
        let mut keys = Keys { who: None, by_day: false };
        for part in text.split(',').map(str::trim) {
            match part {
                "day" if !keys.by_day => keys.by_day = true,
                "ad" | "campaign" | "advertiser" | "tenant" if keys.who.is_none() => {
                    keys.who = Some(match part {
                        "ad" => Field::Ad,
                        "campaign" => Field::Campaign,
                        _ => Field::Tenant,
                    });
                }
                _ => return Err(KeysError(text.to_owned())),
            }
        }
        Ok(keys)
    }
}

impl fmt::Display for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let who = self.who.map(Field::name);
        let parts: Vec<&str> = who.into_iter().chain(self.by_day.then_some("day")).collect();
        f.write_str(&parts.join(","))
    }
}

/// By how much two numbers may differ and still pass.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub enum Tolerance {
    #[default]
    None,
    /// Of the larger of the two.
    Percent(Decimal),
    Clicks(u64),
}

/// A text that is no tolerance.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no tolerance: write 0.1% of the larger number, or 5 clicks")]
pub struct ToleranceError(String);

impl FromStr for Tolerance {
    type Err = ToleranceError;

    fn from_str(text: &str) -> Result<Self, ToleranceError> {
        let wrong = || ToleranceError(text.to_owned());
        match text.strip_suffix('%') {
            Some(percent) => {
                let percent = Decimal::from_str_exact(percent.trim()).map_err(|_| wrong())?;
                let is_share = !percent.is_sign_negative() && percent < Decimal::ONE_HUNDRED;
                if is_share { Ok(Tolerance::Percent(percent)) } else { Err(wrong()) }
            }
            None => text.trim().trim_end_matches("clicks").trim().parse().map(Tolerance::Clicks).map_err(|_| wrong()),
        }
    }
}

impl Tolerance {
    fn lets(self, ours: u64, theirs: u64) -> bool {
        let difference = ours.abs_diff(theirs);
        match self {
            Tolerance::None => difference == 0,
            Tolerance::Clicks(most) => difference <= most,
            Tolerance::Percent(percent) => {
                Decimal::from(difference) * Decimal::ONE_HUNDRED <= percent * Decimal::from(ours.max(theirs))
            }
        }
    }
}

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
    Statement(#[from] StatementError),
    #[error(transparent)]
    Changes(#[from] ChangesError),
    #[error(
        "the campaign `{campaign}` is run by {first} and by {second}: give the file a column with the advertiser, or compare one of \
         them with `--advertiser`"
    )]
    SharedCampaign { campaign: CampaignId, first: TenantId, second: TenantId },
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

/// Number of a name, and of a day; 0 where days are not told apart.
type Key = (u32, i32);
type Sums<T> = HashMap<Key, T, foldhash::fast::RandomState>;

/// Each name once.
#[derive(Debug, Default)]
struct Names {
    numbers: HashMap<Arc<str>, u32, foldhash::fast::RandomState>,
    names: Vec<Arc<str>>,
}

impl Names {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = u32::try_from(self.names.len()).expect("four billion names do not fit in memory");
        let name: Arc<str> = name.into();
        self.numbers.insert(name.clone(), number);
        self.names.push(name);
        number
    }
}

/// Their numbers, line by line.
#[derive(Debug)]
pub struct Theirs {
    keys: Keys,
    names: Names,
    sums: Sums<Their>,
    /// Lines of keys that have several, by their hashes. A line that is there again is of the same key.
    seen: HashSet<(Key, u64), foldhash::fast::RandomState>,
    /// Each price of the file once: there are few.
    prices: Vec<Price>,
    places: HashMap<Price, NonZeroU32, foldhash::fast::RandomState>,
    has_tenants: bool,
}

/// What a click costs by the file, and in which currency where it says so.
type Price = (Decimal, Option<String>);

/// What the file says of one key.
#[derive(Debug, Default, Clone)]
struct Their {
    clicks: u64,
    first_line: u64,
    lines: u32,
    /// Of lines that were there before, word for word.
    repeated: u64,
    /// Of its first line.
    hash: u64,
    /// The price of all of its lines, if it is one: the place after that of [`Theirs::prices`].
    price: Option<NonZeroU32>,
}

impl Theirs {
    pub fn new(keys: Keys) -> Self {
        Theirs {
            keys,
            names: Names::default(),
            sums: Sums::default(),
            seen: HashSet::default(),
            prices: Vec::new(),
            places: HashMap::default(),
            has_tenants: false,
        }
    }

    pub fn add(&mut self, line: &InvoiceLine) {
        self.has_tenants |= line.tenant.is_some();
        let number = match &line.tenant {
            Some(tenant) => self.names.number(&format!("{tenant}/{}", line.who)),
            None => self.names.number(&line.who),
        };
        let day = line.day.filter(|_| self.keys.by_day).map_or(0, Day::number);
        let (key, price) = ((number, day), line.price.as_ref().map(|price| self.price(price)));
        let their = self.sums.entry(key).or_default();
        let is_first = their.lines == 0;
        if is_first {
            (their.first_line, their.price, their.hash) = (line.line, price, line.hash);
        } else if their.price != price {
            their.price = None;
        }
        their.clicks += line.clicks;
        their.lines += 1;
        if !is_first && (line.hash == their.hash || !self.seen.insert((key, line.hash))) {
            their.repeated += line.clicks;
        }
    }

    fn price(&mut self, price: &Price) -> NonZeroU32 {
        if let Some(place) = self.places.get(price) {
            return *place;
        }
        self.prices.push(price.clone());
        let place = u32::try_from(self.prices.len()).ok().and_then(NonZeroU32::new);
        let place = place.expect("four billion prices do not fit in memory");
        self.places.insert(price.clone(), place);
        place
    }

    fn price_of(&self, their: &Their) -> Option<Price> {
        Some(self.prices[their.price?.get() as usize - 1].clone())
    }
}

/// What we say of one key.
#[derive(Debug, Default, Clone)]
struct Our {
    counts: Counts,
    price: Option<Decimal>,
    currency: Option<&'static str>,
    lines: u32,
}

/// Compares every key of both sides, sorted by name and day.
///
/// # Errors
/// When days of the period are not closed, a table cannot be read, or campaigns cannot be told apart.
pub async fn reconcile(
    mine: &Mine<'_>,
    mut theirs: Theirs,
    tolerance: Tolerance,
) -> Result<Vec<Compared>, ReconcileError> {
    if let Some(tenant) = mine.tenant.filter(|tenant| !mine.ads.tenants().any(|known| known == *tenant)) {
        return Err(ReconcileError::UnknownTenant(tenant.clone()));
    }
    if theirs.keys.who == Some(Field::Campaign) && !theirs.has_tenants && mine.tenant.is_none() {
        check_campaigns(mine.ads)?;
    }
    let ours = ours(mine, mine.zone, theirs.keys, theirs.has_tenants, &mut theirs.names).await?;
    let keys: HashSet<Key> = ours.keys().chain(theirs.sums.keys()).copied().collect();
    let mut compared: Vec<(Key, Compared)> = keys
        .into_iter()
        .map(|key| {
            let (our, their) = (ours.get(&key), theirs.sums.get(&key));
            (key, compare(&theirs, key, our, their, tolerance))
        })
        .collect();
    compared.sort_unstable_by(|(_, a), (_, b)| (&a.who, a.day).cmp(&(&b.who, b.day)));
    causes::find(mine, &mut theirs, &ours, &mut compared).await?;
    Ok(compared.into_iter().map(|(_, compared)| compared).collect())
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

fn compare(theirs: &Theirs, key: Key, our: Option<&Our>, their: Option<&Their>, tolerance: Tolerance) -> Compared {
    let (ours, says) = (our.map_or(0, |our| our.counts.total()), their.map_or(0, |their| their.clicks));
    let bucket = match (our, their) {
        _ if ours == says => Bucket::Matched,
        _ if tolerance.lets(ours, says) => Bucket::WithinTolerance,
        (Some(_), Some(_)) => Bucket::Different,
        (Some(_), None) => Bucket::OnlyOurs,
        (None, _) => Bucket::OnlyTheirs,
    };
    let own = || our.and_then(|our| Some((our.price?, our.currency.map(str::to_owned))));
    let price = their.and_then(|their| theirs.price_of(their)).or_else(own);
    let stake = |(price, currency)| AtStake { currency, amount: price * Decimal::from(ours.abs_diff(says)) };
    let at_stake = price.filter(|_| bucket.is_break()).map(stake);
    Compared {
        who: theirs.names.names[key.0 as usize].clone(),
        day: theirs.keys.by_day.then(|| Day::from_number(key.1)),
        ours,
        theirs: says,
        lines: their.map(|their| (their.first_line, their.lines)),
        bucket,
        cause: None,
        at_stake,
    }
}

/// What we bill, by the clocks of a zone.
async fn ours(
    mine: &Mine<'_>,
    zone: Zone,
    keys: Keys,
    with_tenants: bool,
    names: &mut Names,
) -> Result<Sums<Our>, StatementError> {
    let by = match keys.who {
        Some(Field::Ad) => By::Ad,
        Some(Field::Campaign) => By::Campaign,
        _ => By::Tenant,
    };
    let step = if keys.by_day { Step::Grain(clicks::window::Grain::Day) } else { Step::Whole };
    let scope = Scope { range: mine.dates.interval(zone), zone, step, by, final_only: false };
    let mut gathered = Gathered { tenant: mine.tenant, zone, keys, with_tenants, names, sums: Sums::default() };
    write_with(mine.objects, mine.books, mine.ads, &scope, mine.provisional, &mut gathered).await?;
    Ok(gathered.sums)
}

struct Gathered<'a> {
    tenant: Option<&'a TenantId>,
    zone: Zone,
    keys: Keys,
    with_tenants: bool,
    names: &'a mut Names,
    sums: Sums<Our>,
}

impl Form for Gathered<'_> {
    fn lines(&mut self, period: &Period, lines: &[Line<'_>]) -> Result<(), ExportError> {
        let day = if self.keys.by_day { self.zone.date(period.interval.start).number() } else { 0 };
        for line in lines {
            if self.tenant.is_some_and(|tenant| line.tenant != Some(tenant)) {
                continue;
            }
            let ad = line.ad.map_or("", AdId::as_str);
            let name = name_of(self.keys, self.with_tenants, ad, line.tenant, line.campaign);
            let our = self.sums.entry((self.names.number(&name), day)).or_default();
            our.counts.add(line.counts);
            // One price, or none.
            let price = line.price.zip(line.money.as_ref().map(|money: &Money| money.currency));
            if our.lines == 0 {
                (our.price, our.currency) = (price.map(|it| it.0), price.map(|it| it.1));
            } else if our.price.zip(our.currency) != price {
                (our.price, our.currency) = (None, None);
            }
            our.lines += 1;
        }
        Ok(())
    }
}

/// What the numbers of an ad are compared under, whosever it is.
fn name_of<'a>(
    keys: Keys,
    with_tenants: bool,
    ad: &'a str,
    tenant: Option<&'a TenantId>,
    campaign: Option<&'a CampaignId>,
) -> Cow<'a, str> {
    match (keys.who, tenant, campaign) {
        (Some(Field::Ad), ..) => ad.into(),
        (Some(Field::Campaign), Some(tenant), Some(campaign)) if with_tenants => format!("{tenant}/{campaign}").into(),
        (Some(Field::Campaign), _, campaign) => campaign.map_or("", CampaignId::as_str).into(),
        (Some(_), tenant, _) => tenant.map_or("", TenantId::as_str).into(),
        (None, ..) => "".into(),
    }
}

/// The days that the file has lines of.
fn days_of_file(theirs: &Theirs) -> BTreeSet<i32> {
    theirs.sums.keys().map(|(_, day)| *day).collect()
}
