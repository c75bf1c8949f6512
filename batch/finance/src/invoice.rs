//! Somebody else's numbers: a table of any shape, with a column for whose clicks they are, one for how many, and one for the day.

mod csv;
mod parquet;
mod values;
mod xlsx;

use std::fmt;
use std::hash::BuildHasher;
use std::io::{Read, Seek};
use std::str::FromStr;

use clicks::time::Day;
use clicks::zone::Zone;
use rust_decimal::Decimal;

use crate::reconcile::Keys;
use values::{Given, count, day, price, unquoted};

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

/// How an invoice is read.
#[derive(Debug, Clone)]
pub struct InvoiceOptions {
    /// Instants that are midnights of this zone stand for its days.
    pub zone: Zone,
    pub mapping: Mapping,
    /// What stands between thousands in numbers, if anything does.
    pub thousands: Option<char>,
}

/// One line of an invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceLine {
    /// In the file; the head is line 1.
    pub line: u64,
    /// Whose clicks: an ad, a campaign or an advertiser; empty where only days are compared.
    pub who: String,
    /// Of a campaign, where there is a column for it.
    pub tenant: Option<String>,
    pub day: Option<Day>,
    pub clicks: u64,
    /// What a click costs, and in which currency where the file says so.
    pub price: Option<(Decimal, Option<String>)>,
    /// Of the whole line, to tell whether it is there again.
    pub hash: u64,
}

/// Why an invoice cannot be read. Nothing of it is compared then.
#[derive(Debug, thiserror::Error)]
pub enum InvoiceError {
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("it is empty: its first line has to name the columns")]
    Empty,
    #[error("it is written in UTF-16: save it as CSV UTF-8")]
    Utf16,
    #[error("line {line}, byte {at} of it is no UTF-8: save the file as CSV UTF-8")]
    NotUtf8 { line: u64, at: usize },
    #[error(
        "no column tells the {field}: there are {present}. Name the one that does, as in `--map {field}={nearest}`"
    )]
    NoColumn { field: &'static str, present: String, nearest: String },
    #[error("the columns {columns} could all tell the {field}: say which one does, as in `--map {field}={first}`")]
    Ambiguous { field: &'static str, columns: String, first: String },
    #[error("the column `{0}` is there more than once: give one of them another name")]
    Repeated(String),
    #[error("line {line} has {found} fields, and the head has {head}: is a text with a delimiter in it not quoted?")]
    Ragged { line: u64, found: u64, head: u64 },
    #[error("line {line}, column `{column}`: `{value}` {reason}")]
    Value { line: u64, column: String, value: String, reason: String },
    #[error("a quote is opened on line {0} and never closed: everything behind it would be one text")]
    OpenQuote(u64),
    #[error("line {line} cannot be read: {reason}")]
    Line { line: u64, reason: String },
    #[error("it is no XLSX that can be read: {0}")]
    Xlsx(String),
    #[error("it is no Parquet that can be read: {0}")]
    Parquet(String),
}

/// The form of an invoice, by the ending of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvoiceForm {
    Csv,
    /// The first sheet that is not empty.
    Xlsx,
    Parquet,
}

/// Reads the lines of an invoice, and hands each on. Tells which column holds what.
///
/// # Errors
/// The first thing that is wrong, with its line and column.
pub fn read_invoice(
    mut from: impl Read + Seek,
    form: InvoiceForm,
    options: &InvoiceOptions,
    keys: Keys,
    take: impl FnMut(InvoiceLine),
) -> Result<Vec<(Field, String)>, InvoiceError> {
    match form {
        InvoiceForm::Csv => csv::read(from, options, keys, take),
        InvoiceForm::Xlsx => xlsx::read(from, options, keys, take),
        InvoiceForm::Parquet => {
            let mut bytes = Vec::new();
            from.read_to_end(&mut bytes)?;
            parquet::read(bytes.into(), options, keys, take)
        }
    }
}

/// Makes lines of rows, whatever they are read from.
struct Rows<'a, F> {
    head: Vec<String>,
    columns: Columns,
    options: &'a InvoiceOptions,
    keys: Keys,
    hasher: foldhash::quality::RandomState,
    take: F,
}

impl<'a, F: FnMut(InvoiceLine)> Rows<'a, F> {
    fn new(head: Vec<String>, options: &'a InvoiceOptions, keys: Keys, take: F) -> Result<Self, InvoiceError> {
        let columns = Columns::find(&head, options, keys)?;
        Ok(Rows { head, columns, options, keys, hasher: foldhash::quality::RandomState::default(), take })
    }

    /// `line`: its number in the file.
    fn row(&mut self, cells: &[Given<'_>], line: u64) -> Result<(), InvoiceError> {
        if cells.iter().all(|cell| cell.text().is_empty()) {
            return Ok(());
        }
        if self.columns.line.is_some_and(|place| matches!(cells[place].text(), "total" | "left_out")) {
            return Ok(());
        }
        let hash = self.hasher.hash_one(cells.iter().map(|cell| cell.text()).collect::<Vec<_>>());
        let read = self.columns.line(&self.head, cells, line, self.options, self.keys)?;
        (self.take)(InvoiceLine { hash, ..read });
        Ok(())
    }

    /// Which column holds what.
    fn told(self) -> Vec<(Field, String)> {
        let Columns { who, tenant, day, clicks, price, currency, line: _, is_ours: _ } = self.columns;
        let all = [
            (self.keys.who().unwrap_or(Field::Ad), who),
            (Field::Tenant, tenant),
            (Field::Day, day),
            (Field::Clicks, Some(clicks)),
            (Field::Price, price),
            (Field::Currency, currency),
        ];
        all.into_iter().filter_map(|(field, place)| Some((field, self.head[place?].clone()))).collect()
    }

    /// Whether the column is one that is read.
    fn needs(&self, column: usize) -> bool {
        let Columns { who, tenant, day, clicks, price, currency, line, is_ours: _ } = &self.columns;
        [*who, *tenant, *day, Some(*clicks), *price, *currency, *line].contains(&Some(column))
    }
}

/// Where the fields are.
struct Columns {
    who: Option<usize>,
    tenant: Option<usize>,
    day: Option<usize>,
    clicks: usize,
    price: Option<usize>,
    currency: Option<usize>,
    line: Option<usize>,
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
    fn find(head: &[String], options: &InvoiceOptions, keys: Keys) -> Result<Self, InvoiceError> {
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

    fn line(
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
                Some((price, own.map(str::to_owned).or(beside)))
            }
        };
        let tenant = self.tenant.map(text).filter(|tenant| !tenant.is_empty()).map(str::to_owned);
        Ok(InvoiceLine { line, who: who.to_owned(), tenant, day: day.transpose()?, clicks, price, hash: 0 })
    }
}

impl fmt::Display for Field {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, options: &InvoiceOptions, keys: Keys) -> Result<Vec<InvoiceLine>, String> {
        let mut lines = Vec::new();
        csv::read(text.as_bytes(), options, keys, |line| lines.push(InvoiceLine { hash: 0, ..line }))
            .map_err(|error| error.to_string())?;
        Ok(lines)
    }

    fn plain_options() -> InvoiceOptions {
        InvoiceOptions { zone: Zone::UTC, mapping: Mapping::default(), thousands: None }
    }

    fn plainly(text: &str) -> Result<Vec<InvoiceLine>, String> {
        read(text, &plain_options(), Keys::AD_DAY)
    }

    #[test]
    fn files_as_they_come() {
        let want = InvoiceLine {
            line: 2,
            who: "a".to_owned(),
            tenant: None,
            day: Some("2026-03-15".parse().unwrap()),
            clicks: 1_234,
            price: None,
            hash: 0,
        };
        for text in [
            "ad_id,day,clicks\na,2026-03-15,1234\n",
            "\u{feff}Ad ID;Date;Clicks\r\na;15.03.2026;1234\r\n",
            "CLICKS\tAD\tREPORT_DATE\n1234\ta\t20260315",
            "ad,day,clicks,note\na,2026/3/15,1234.00,\"x, y\"\n\n",
            "ad|day|clicks\n'a| 2026-03-15 00:00:00 | 1 234 \n",
            "ad,day,clicks,total\na,2026-03-15T00:00:00+01:00,1234,99.50\n",
            "ad,day,clicks\na,2026-03-14T23:00:00-01:00,1234\n",
            "ad,day,clicks,inches\na,2026-03-15,1234,12\" banner\n",
            "line,period_start,ad_id,clicks,adjustment,total\nline,2026-03-15T00:00:00.000+05:45,a,1000,234,1234\nleft_out,2026-03-16,,,,\ntotal,2026-03-01,,1000,234,1234\n",
        ] {
            assert_eq!(plainly(text), Ok(vec![want.clone()]), "{text}");
        }
        let options =
            InvoiceOptions { zone: Zone::UTC, mapping: "ad=Wer,clicks=Klicks".parse().unwrap(), thousands: Some('.') };
        let text = "Wer;day;Klicks;Price\na;2026-03-15;1.234;0,25 €\n";
        let priced = InvoiceLine { price: Some((Decimal::new(25, 2), Some("€".to_owned()))), ..want };
        assert_eq!(read(text, &options, Keys::AD_DAY), Ok(vec![priced]));
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_column() {
        for (text, part) in [
            ("", "it is empty"),
            (
                "ad,day\na,2026-03-15\n",
                "no column tells the clicks: there are `ad`, `day`. Name the one that does, as in `--map clicks=",
            ),
            ("ad,day,klicks\na,2026-03-15,1\n", "`--map clicks=klicks`"),
            ("ad,clicks\na,1\n", "no column tells the day"),
            ("ad,ad,day,clicks\na,a,2026-03-15,1\n", "the column `ad` is there more than once"),
            ("ad,day,clicks\na,2026-03-15\n", "line 2 has 2 fields, and the head has 3"),
            ("ad,day,clicks\na,2026-03-15,1\nb,2026-03-15,-2\n", "line 3, column `clicks`: `-2` is negative"),
            ("ad,day,clicks\na,2026-03-15,1.5\n", "line 2, column `clicks`: `1.5` is no whole number"),
            ("ad,day,clicks\na,2026-03-15,1.234\n", "can be read in two ways: say `--thousands .`"),
            ("ad;day;clicks\na;2026-03-15;1.234.567\n", "more than one separator"),
            ("ad,day,clicks\na,2026-03-15,many\n", "`many` is no number"),
            (
                "ad,day,clicks\na,03/04/2026,1\n",
                "line 2, column `day`: `03/04/2026` is no day that can be read in one way only",
            ),
            ("ad,day,clicks\na,2026-02-30,1\n", "`2026-02-30` is no day"),
            ("ad,day,clicks\n,2026-03-15,1\n", "line 2, column `ad`: `` names no ad: fill cells that were merged"),
            ("ad,day,clicks\na,2026-03-15T23:30:00-08:00,1\n", "is an instant and no midnight"),
            ("ad,day,clicks\na,2026-03-15,9223372036854775808\n", "which nobody clicks"),
            ("ad,day,clicks,cpc\na,2026-03-15,1,79228162514264337593543950335\n", "for a click"),
            (
                "ad,day,clicks,note\na,2026-03-15,1,\"12 inch\nb,2026-03-15,2,x\n",
                "a quote is opened on line 2 and never closed",
            ),
            ("ad,day,clicks\na,2026-03-15,1 2 3\n", "is not grouped by thousands"),
            ("ad,day,total\na,2026-03-15,19666\n", "no column tells the clicks"),
            ("ad,day,clicks,Clicks\na,2026-03-15,1,2\n", "the columns `clicks`, `Clicks` could all tell the clicks"),
        ] {
            let error = plainly(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
        let bytes = b"ad,day,clicks\nM\xfcller,2026-03-15,1\n";
        let error = csv::read(&bytes[..], &plain_options(), Keys::AD_DAY, |_| {}).unwrap_err();
        assert!(matches!(error, InvoiceError::NotUtf8 { line: 2, at: 1 }), "{error}");
        let error = csv::read(&b"\xff\xfea\0"[..], &plain_options(), Keys::AD_DAY, |_| {}).unwrap_err();
        assert!(matches!(error, InvoiceError::Utf16), "{error}");
        for text in ["ad", "ad=", "x=y", "ad=a,ad=b"] {
            assert!(text.parse::<Mapping>().is_err(), "{text}");
        }
    }
}
