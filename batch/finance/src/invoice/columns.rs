//! Which column holds what: found by its name, or named on purpose.

use std::fmt;
use std::str::FromStr;

use super::values::{Given, count, day, price, unquoted};
use super::{InvoiceError, InvoiceLine, InvoiceOptions};
use crate::reconcile::Keys;

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Field {
    Ad,
    Campaign,
    Tenant,
    Day,
    Clicks,
    /// What a click costs.
    Price,
    Currency,
    /// What a line is, in exports of our own.
    Line,
    /// In exports of our own, which say with `total` what is billed.
    Adjustment,
}

impl Field {
    /// Those that a mapping may name.
    pub const MAPPED: [Field; 7] =
        [Field::Ad, Field::Campaign, Field::Tenant, Field::Day, Field::Clicks, Field::Price, Field::Currency];

    pub const fn name(self) -> &'static str {
        match self {
            Field::Ad => "ad",
            Field::Campaign => "campaign",
            Field::Tenant => "advertiser",
            Field::Day => "day",
            Field::Clicks => "clicks",
            Field::Price => "price",
            Field::Currency => "currency",
            Field::Line => "line",
            Field::Adjustment => "adjustment",
        }
    }

    /// Names that its column has in most files, the likeliest first; compared without case, blanks and punctuation.
    const fn aliases(self) -> &'static [&'static str] {
        match self {
            Field::Ad => &["ad_id", "ad", "creative_id", "creative", "banner_id"],
            Field::Campaign => &["campaign", "campaign_id", "campaign_name"],
            Field::Tenant => &["advertiser", "tenant", "advertiser_id", "account", "customer"],
            Field::Day => &["day", "date", "period_start", "report_date"],
            Field::Clicks => &["clicks", "click_count", "billable_clicks", "billed_clicks", "quantity", "count"],
            Field::Price => &["price", "cpc", "unit_price", "rate"],
            Field::Currency => &["currency", "currency_code"],
            Field::Line => &["line"],
            Field::Adjustment => &["adjustment"],
        }
    }
}

/// Which columns were named on purpose: `ad=Creative,clicks=Billed clicks`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mapping(Vec<(Field, String)>);

/// Why a text is no mapping.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no mapping: write field=column, such as ad=Creative; the fields are ad, campaign, advertiser, day, clicks, \
     price and currency"
)]
pub struct MappingError(String);

impl FromStr for Mapping {
    type Err = MappingError;

    fn from_str(text: &str) -> Result<Self, MappingError> {
        let mut mapping = Mapping::default();
        for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
            let wrong = || MappingError(part.to_owned());
            let (field, column) = part.split_once('=').ok_or_else(wrong)?;
            let named = |known: &Field| known.name() == field.trim() || known.aliases().contains(&field.trim());
            let field = Field::MAPPED.into_iter().find(named).ok_or_else(wrong)?;
            if column.trim().is_empty() || mapping.0.iter().any(|(known, _)| *known == field) {
                return Err(wrong());
            }
            mapping.0.push((field, column.trim().to_owned()));
        }
        Ok(mapping)
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Where the fields are.
pub(super) struct Columns {
    pub(super) who: Option<usize>,
    pub(super) tenant: Option<usize>,
    pub(super) day: Option<usize>,
    pub(super) clicks: usize,
    pub(super) price: Option<usize>,
    pub(super) currency: Option<usize>,
    pub(super) line: Option<usize>,
    /// It is an export of our own.
    is_ours: bool,
}

/// Longest name: no id is longer than a third of it.
const NAME_MAX: usize = 200;

/// Without case, blanks and punctuation.
fn plain(name: &str) -> String {
    name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

impl Columns {
    pub(super) fn find(head: &[String], options: &InvoiceOptions, keys: Keys) -> Result<Self, InvoiceError> {
        let who = keys.who().map(|field| Self::needed(head, options, field)).transpose()?;
        let day = if keys.by_day() { Some(Self::needed(head, options, Field::Day)?) } else { None };
        let tenant = match keys.who() {
            Some(Field::Campaign) => Self::optional(head, options, Field::Tenant)?,
            _ => None,
        };
        // Ours says with `total` what is billed, which `clicks` lacks a part of; elsewhere a total is mostly of money.
        let is_named = options.mapping.0.iter().any(|(field, _)| *field == Field::Clicks);
        let is_ours = !is_named && Self::optional(head, options, Field::Adjustment)?.is_some();
        let total = head.iter().position(|name| name == "total").filter(|_| is_ours);
        Ok(Columns {
            who,
            tenant,
            day,
            clicks: total.map_or_else(|| Self::needed(head, options, Field::Clicks), Ok)?,
            price: Self::optional(head, options, Field::Price)?,
            currency: Self::optional(head, options, Field::Currency)?,
            line: head.iter().position(|name| name == "line"),
            is_ours: total.is_some(),
        })
    }

    fn needed(head: &[String], options: &InvoiceOptions, field: Field) -> Result<usize, InvoiceError> {
        let wanted = options.mapping.0.iter().find(|(mapped, _)| *mapped == field).map(|(_, name)| name.as_str());
        Self::optional(head, options, field)?.ok_or_else(|| {
            let names = wanted.into_iter().chain(field.aliases().iter().copied());
            let likeness = |column: &String| {
                let best = names.clone().map(|name| strsim::jaro_winkler(&plain(name), &plain(column)));
                best.fold(0.0, f64::max)
            };
            let nearest = head.iter().max_by(|a, b| likeness(a).total_cmp(&likeness(b)));
            let present = head.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
            InvoiceError::NoColumn { field: field.name(), present, nearest: nearest.cloned().unwrap_or_default() }
        })
    }

    fn optional(head: &[String], options: &InvoiceOptions, field: Field) -> Result<Option<usize>, InvoiceError> {
        let places = |name: &str| {
            let wanted = plain(name);
            head.iter().enumerate().filter(move |(_, column)| plain(column) == wanted)
        };
        if let Some((_, name)) = options.mapping.0.iter().find(|(mapped, _)| *mapped == field) {
            let exact: Vec<usize> =
                head.iter().enumerate().filter(|(_, it)| *it == name).map(|(place, _)| place).collect();
            return match *exact {
                [] => Ok(places(name).map(|(place, _)| place).next()),
                [place] => Ok(Some(place)),
                _ => Err(InvoiceError::Repeated(name.clone())),
            };
        }
        // The likeliest name that is there; a second column of the very same name is a mistake in the file.
        for alias in field.aliases() {
            let found: Vec<(usize, &String)> = places(alias).collect();
            match *found {
                [] => {}
                [(place, _)] => return Ok(Some(place)),
                [(_, first), (_, second), ..] if first == second => return Err(InvoiceError::Repeated(first.clone())),
                [(_, first), ..] => {
                    let columns = found.iter().map(|(_, name)| format!("`{name}`")).collect::<Vec<_>>().join(", ");
                    return Err(InvoiceError::Ambiguous { field: field.name(), columns, first: first.clone() });
                }
            }
        }
        Ok(None)
    }

    pub(super) fn line(
        &self,
        head: &[String],
        cells: &[Given<'_>],
        line: u64,
        options: &InvoiceOptions,
        keys: Keys,
    ) -> Result<InvoiceLine, InvoiceError> {
        let wrong = |place: usize, reason: String| InvoiceError::Value {
            line,
            column: head[place].clone(),
            value: cells[place].text().chars().filter(|c| !c.is_control()).take(60).collect(),
            reason,
        };
        let text = |place: usize| cells[place].text();
        // In an export of our own a point always begins the fraction.
        let number = |place: usize| match self.is_ours {
            true => Given::Number(cells[place].text()),
            false => cells[place],
        };
        let who = unquoted(self.who.map(text).unwrap_or_default());
        if let Some(place) = self.who.filter(|_| who.len() > NAME_MAX) {
            return Err(wrong(place, format!("is longer than any name, which have {NAME_MAX} characters at most")));
        }
        // Ours has lines of ads that belong to nobody.
        let may_be_empty = self.is_ours && keys.who() != Some(Field::Ad);
        if let Some(place) = self.who.filter(|_| who.is_empty() && !may_be_empty) {
            let name = keys.who().map_or("ad", Field::name);
            return Err(wrong(
                place,
                format!("names no {name}: fill cells that were merged, and delete lines that sum up"),
            ));
        }
        let day = self.day.map(|place| day(text(place), options.zone).map_err(|reason| wrong(place, reason)));
        let clicks = count(number(self.clicks), options.thousands).map_err(|reason| wrong(self.clicks, reason))?;
        let price = match self.price.filter(|place| !text(*place).is_empty()) {
            None => None,
            Some(place) => {
                let (price, beside) = price(number(place), options.thousands).map_err(|reason| wrong(place, reason))?;
                let own = self.currency.map(text).filter(|currency| !currency.is_empty());
                let currency = own.map(str::to_owned).or(beside);
                let is_none =
                    |currency: &String| currency.chars().count() > 8 || currency.chars().any(char::is_control);
                if currency.as_ref().is_some_and(is_none) {
                    let place = self.currency.filter(|_| own.is_some()).unwrap_or(place);
                    return Err(wrong(place, "has no currency in it: write it as EUR".to_owned()));
                }
                Some((price, currency))
            }
        };
        let tenant = self.tenant.map(text).filter(|tenant| !tenant.is_empty()).map(str::to_owned);
        Ok(InvoiceLine { line, who: who.to_owned(), tenant, day: day.transpose()?, clicks, price, hash: 0 })
    }
}
