//! What both sides say of a range of names: as many as may be held at a time.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::num::NonZeroU32;
use std::sync::Arc;

use clicks::id::{AdId, CampaignId, TenantId};
use clicks::time::Day;
use clicks::window::Grain;
use clicks::zone::Zone;
use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashSet};
use rust_decimal::Decimal;

use super::Mine;
use super::terms::Keys;
use crate::export::{ExportError, Form};
use crate::invoice::{Field, InvoiceLine};
use crate::lines::{Line, Period};
use crate::money::{Counts, Money};
use crate::statement::{By, Scope, StatementError, Step, write_with};

/// Number of a name, and of a day; 0 where days are not told apart.
pub(super) type Key = (u32, i32);

/// What the lines of a file say together.
#[derive(Debug, Default)]
pub(super) struct OfFile {
    /// Some of them name the advertiser.
    pub(super) has_tenants: bool,
    /// There are lines of them, where days are told apart.
    pub(super) days: BTreeSet<i32>,
}

impl OfFile {
    pub(super) fn add(&mut self, line: &InvoiceLine, keys: Keys) {
        self.has_tenants |= line.tenant.is_some();
        if let Some(day) = line.day.filter(|_| keys.by_day()) {
            self.days.insert(day.number());
        }
    }
}

/// Both sides of one key.
#[derive(Debug, Default, Clone)]
pub(super) struct Sides {
    pub(super) ours: Our,
    pub(super) theirs: Their,
}

/// What we say.
#[derive(Debug, Default, Clone)]
pub(super) struct Our {
    pub(super) counts: Counts,
    /// One price, or none.
    pub(super) price: Option<(Decimal, &'static str)>,
    pub(super) lines: u32,
}

/// What the file says.
#[derive(Debug, Default, Clone)]
pub(super) struct Their {
    pub(super) clicks: u64,
    pub(super) first_line: u64,
    pub(super) lines: u32,
    /// Of lines that were there before, word for word.
    pub(super) repeated: u64,
    /// Of its first line.
    hash: u64,
    /// The price of all of its lines, if it is one.
    price: Option<PriceNumber>,
}

/// The names from one on, up to where no more of them can be held.
#[derive(Debug)]
pub(super) struct Slice {
    keys: Keys,
    keys_max: usize,
    from: Arc<str>,
    /// Names from here on are left to the next slice.
    until: Option<Arc<str>>,
    names: Names,
    sums: HashMap<Key, Sides, RandomState>,
    /// Lines of keys that have several, by their names and hashes: a line that is there again is of the same key.
    seen: HashSet<(u32, u64), RandomState>,
    prices: Prices,
}

/// So many hashes of lines take the room of one key.
const HASHES_PER_KEY: usize = 16;

impl Slice {
    pub(super) fn new(keys: Keys, keys_max: usize, from: Arc<str>) -> Self {
        Slice {
            keys,
            keys_max,
            from,
            until: None,
            names: Names::default(),
            sums: HashMap::default(),
            seen: HashSet::default(),
            prices: Prices::default(),
        }
    }

    /// Where the next one begins.
    pub(super) fn until(&self) -> Option<&Arc<str>> {
        self.until.as_ref()
    }

    /// Whether it is all there is, or large enough for what most of its lines say to be no chance.
    pub(super) fn may_tell(&self) -> bool {
        self.from.is_empty() || self.sums.len() >= self.keys_max / 2
    }

    pub(super) fn sums(&self) -> impl Iterator<Item = (&Key, &Sides)> {
        self.sums.iter()
    }

    pub(super) fn get(&self, key: Key) -> &Sides {
        &self.sums[&key]
    }

    pub(super) fn name(&self, number: u32) -> &Arc<str> {
        &self.names.names[number as usize]
    }

    /// Only of a name that has a number.
    pub(super) fn number(&self, name: &str) -> Option<u32> {
        self.names.numbers.get(name).copied()
    }

    pub(super) fn price(&self, their: &Their) -> Option<Price> {
        their.price.map(|number| self.prices.get(number).clone())
    }

    fn holds(&self, name: &str) -> bool {
        *self.from <= *name && self.until.as_ref().is_none_or(|until| *name < **until)
    }

    /// Adds a line of the file, if its name is one of the slice.
    pub(super) fn add_theirs(&mut self, line: &InvoiceLine) {
        let name: Cow<'_, str> = match &line.tenant {
            Some(tenant) => format!("{tenant}/{}", line.who).into(),
            None => line.who.as_str().into(),
        };
        if !self.holds(&name) {
            return;
        }
        let day = line.day.filter(|_| self.keys.by_day()).map_or(0, Day::number);
        let number = self.names.number(&name);
        let their = &mut self.sums.entry((number, day)).or_default().theirs;
        let is_first = their.lines == 0;
        if is_first {
            let price = line.price.as_ref().map(|price| self.prices.number(price));
            (their.first_line, their.price, their.hash) = (line.line, price, line.hash);
        } else if their.price.map(|number| self.prices.get(number)) != line.price.as_ref() {
            their.price = None;
        }
        their.clicks += line.clicks;
        their.lines += 1;
        if !is_first && (line.hash == their.hash || !self.seen.insert((number, line.hash))) {
            their.repeated += line.clicks;
        }
        self.keep_to_bound();
    }

    /// Adds what we bill by the clocks of the zone of `mine`.
    pub(super) async fn add_ours(&mut self, mine: &Mine<'_>, with_tenants: bool) -> Result<(), StatementError> {
        let keys = self.keys;
        ours(mine, mine.zone, keys, with_tenants, |name, day, line| {
            if !self.holds(name) {
                return;
            }
            let number = self.names.number(name);
            let our = &mut self.sums.entry((number, day)).or_default().ours;
            our.counts.add(line.counts);
            let price = line.price.zip(line.money.as_ref().map(|money: &Money| money.currency));
            if our.lines == 0 {
                our.price = price;
            } else if our.price != price {
                our.price = None;
            }
            our.lines += 1;
            self.keep_to_bound();
        })
        .await
    }

    fn is_full(&self) -> bool {
        self.sums.len() + self.seen.len() / HASHES_PER_KEY > self.keys_max
    }

    /// Leaves the last names to the next slice when there are too many. What belongs to one name stays together.
    fn keep_to_bound(&mut self) {
        if !self.is_full() || self.names.names.len() == 1 {
            return;
        }
        let mut weights = vec![0; self.names.names.len()];
        self.sums.keys().for_each(|(number, _)| weights[*number as usize] += 1);
        let mut order: Vec<u32> = (0..).take(weights.len()).collect();
        order.sort_unstable_by(|a, b| self.name(*a).cmp(self.name(*b)));
        // A part that is large enough for it to be seldom, and small enough for slices to be large.
        let most = self.sums.len() - self.sums.len() / 4;
        let mut kept = 0;
        let first_left = order.iter().position(|number| {
            kept += weights[*number as usize];
            kept > most
        });
        let first_left = first_left.unwrap_or(order.len() - 1).max(1);
        let mut smaller = Slice::new(self.keys, self.keys_max, self.from.clone());
        smaller.until = Some(self.name(order[first_left]).clone());
        let numbers: HashMap<u32, u32, RandomState> =
            order[..first_left].iter().map(|number| (*number, smaller.names.number(self.name(*number)))).collect();
        for ((number, day), sides) in &self.sums {
            let Some(number) = numbers.get(number) else { continue };
            let mut sides = sides.clone();
            sides.theirs.price = self.price(&sides.theirs).map(|price| smaller.prices.number(&price));
            smaller.sums.insert((*number, *day), sides);
        }
        let seen = self.seen.iter().filter_map(|(number, hash)| Some((*numbers.get(number)?, *hash)));
        smaller.seen = seen.collect();
        if smaller.is_full() && first_left == 1 {
            // There is no room beside the first name, so no other is to come again and again.
            smaller.until = Some(format!("{}\0", self.name(order[0])).into());
        }
        *self = smaller;
    }
}

/// What a click costs by the file, and in which currency where it says so.
pub(super) type Price = (Decimal, Option<String>);
/// The place of a price, from 1 on.
type PriceNumber = NonZeroU32;

/// Each price of the file once: there are few.
#[derive(Debug, Default)]
struct Prices {
    numbers: HashMap<Price, PriceNumber, RandomState>,
    prices: Vec<Price>,
}

impl Prices {
    fn get(&self, number: PriceNumber) -> &Price {
        &self.prices[number.get() as usize - 1]
    }

    fn number(&mut self, price: &Price) -> PriceNumber {
        if let Some(number) = self.numbers.get(price) {
            return *number;
        }
        self.prices.push(price.clone());
        let number = u32::try_from(self.prices.len()).ok().and_then(NonZeroU32::new);
        let number = number.expect("four billion prices do not fit in memory");
        self.numbers.insert(price.clone(), number);
        number
    }
}

/// Each name once.
#[derive(Debug, Default)]
struct Names {
    numbers: HashMap<Arc<str>, u32, RandomState>,
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

/// What we bill by the clocks of a zone: a name, a day and a line at a time.
pub(super) async fn ours(
    mine: &Mine<'_>,
    zone: Zone,
    keys: Keys,
    with_tenants: bool,
    take: impl FnMut(&str, i32, &Line<'_>),
) -> Result<(), StatementError> {
    let by = match keys.who() {
        Some(Field::Ad) => By::Ad,
        Some(Field::Campaign) => By::Campaign,
        _ => By::Tenant,
    };
    let step = if keys.by_day() { Step::Grain(Grain::Day) } else { Step::Whole };
    let scope = Scope { range: mine.dates.interval(zone), zone, step, by, final_only: false };
    let mut named = Named { tenant: mine.tenant, zone, keys, with_tenants, take };
    write_with(mine.objects, mine.books, mine.ads, &scope, mine.provisional, &mut named).await?;
    Ok(())
}

/// Names the lines of a statement as the file does.
struct Named<'a, T> {
    tenant: Option<&'a TenantId>,
    zone: Zone,
    keys: Keys,
    with_tenants: bool,
    take: T,
}

impl<T: FnMut(&str, i32, &Line<'_>)> Form for Named<'_, T> {
    fn lines(&mut self, period: &Period, lines: &[Line<'_>]) -> Result<(), ExportError> {
        let day = if self.keys.by_day() { self.zone.date(period.interval.start).number() } else { 0 };
        for line in lines {
            if self.tenant.is_some_and(|tenant| line.tenant != Some(tenant)) {
                continue;
            }
            let ad = line.ad.map_or("", AdId::as_str);
            (self.take)(&name_of(self.keys, self.with_tenants, ad, line.tenant, line.campaign), day, line);
        }
        Ok(())
    }
}

/// What the numbers of an ad are compared under, whosever it is.
pub(super) fn name_of<'a>(
    keys: Keys,
    with_tenants: bool,
    ad: &'a str,
    tenant: Option<&'a TenantId>,
    campaign: Option<&'a CampaignId>,
) -> Cow<'a, str> {
    match (keys.who(), tenant, campaign) {
        (Some(Field::Ad), ..) => ad.into(),
        (Some(Field::Campaign), Some(tenant), Some(campaign)) if with_tenants => format!("{tenant}/{campaign}").into(),
        (Some(Field::Campaign), _, campaign) => campaign.map_or("", CampaignId::as_str).into(),
        (Some(_), tenant, _) => tenant.map_or("", TenantId::as_str).into(),
        (None, ..) => "".into(),
    }
}
