//! The CSV file that ads are loaded from and stored in.
//!
//! ```text
//! ad_id,tenant,campaign,name,price,currency,valid_from
//! ad-1,acme,spring,"Red shoes, large",0.25,EUR,2026-03-01
//! ```

use std::fmt;

use csv::{ReaderBuilder, StringRecord, Trim, WriterBuilder};
use iso_currency::Currency;
use rust_decimal::Decimal;

use super::{AdRow, NAME_MAX, Price, ROWS_MAX};
use crate::id::{AdId, CampaignId, IdError, TenantId};
use crate::time::Day;

/// The columns, in the order in which they are stored. A file may have them in any order, but has to have all of them.
pub const COLUMNS: [&str; 7] = ["ad_id", "tenant", "campaign", "name", "price", "currency", "valid_from"];

/// Most decimals of a price: a millionth of a euro for a click.
const DECIMALS_MAX: u32 = 6;

/// Highest price: times any number of clicks it is still an amount.
const PRICE_MAX: u32 = 1_000_000;

/// Most lines that are named in one error.
const TOLD_MAX: usize = 10;

/// Why a file cannot be loaded. Nothing of it is, then.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FileError {
    #[error("the first line has to name the columns {}: {reason}", COLUMNS.join(","))]
    Columns { reason: String },
    #[error("the file holds no ads: its first line is followed by none")]
    Empty,
    /// The first of them, and how many there are.
    #[error("{}", Lines(.0, *.1))]
    Lines(Vec<LineError>, usize),
}

/// A line that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {reason}")]
pub struct LineError {
    /// Counted from 1, the columns' names included.
    pub line: u64,
    pub reason: String,
}

struct Lines<'a>(&'a [LineError], usize);

impl fmt::Display for Lines<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&lines.join("\n"))?;
        match self.1 - self.0.len() {
            0 => Ok(()),
            more => write!(f, "\nand {more} lines more"),
        }
    }
}

/// Reads the rows of a file, in its order.
///
/// # Errors
/// With every line that cannot be used, up to a few: people mend a file at once and not line by line.
pub fn parse(bytes: &[u8]) -> Result<Vec<AdRow>, FileError> {
    // Spreadsheets put a mark in front.
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(bytes);
    let named = reader.headers().map_err(|error| FileError::Columns { reason: error.to_string() })?.clone();
    let columns = columns(&named)?;
    let (mut rows, mut errors, mut count) = (Vec::new(), Vec::new(), 0);
    let mut record = StringRecord::new();
    loop {
        let begin = reader.position().clone();
        let row = match reader.read_record(&mut record) {
            Ok(false) => break,
            Ok(true) => row(&columns.map(|at| &record[at])),
            Err(error) => Err(reason(&error)),
        };
        match row {
            // As good as any number above it, and not all of them have to be held.
            Ok(_) if rows.len() > ROWS_MAX => break,
            Ok(row) => rows.push(row),
            Err(reason) => {
                count += 1;
                if errors.len() < TOLD_MAX {
                    errors.push(LineError { line: line_from(bytes, &begin), reason });
                }
            }
        }
    }
    match (rows.is_empty(), errors.is_empty()) {
        (_, false) => Err(FileError::Lines(errors, count)),
        (true, true) => Err(FileError::Empty),
        (false, true) => Ok(rows),
    }
}

/// The line of the record that is read from a position: blank lines are passed over.
fn line_from(bytes: &[u8], begin: &csv::Position) -> u64 {
    let blank = bytes[begin.byte() as usize..].iter().take_while(|byte| matches!(byte, b'\n' | b'\r'));
    begin.line() + blank.filter(|byte| **byte == b'\n').count() as u64
}

/// Where each of our columns stands in the file.
fn columns(named: &StringRecord) -> Result<[usize; COLUMNS.len()], FileError> {
    let wrong = |what: String| Err(FileError::Columns { reason: what });
    if let Some(unknown) = named.iter().find(|name| !COLUMNS.contains(name)) {
        return wrong(format!("`{}` is none of them", unknown.chars().take(40).collect::<String>()));
    }
    let mut at = [0; COLUMNS.len()];
    for (at, column) in at.iter_mut().zip(COLUMNS) {
        let mut places = named.iter().enumerate().filter(|(_, name)| *name == column);
        match (places.next(), places.next()) {
            (Some((place, _)), None) => *at = place,
            (None, _) => return wrong(format!("`{column}` is missing")),
            (Some(_), Some(_)) => return wrong(format!("`{column}` is there twice")),
        }
    }
    Ok(at)
}

fn reason(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!(
                "it has {len} values, and there are {expected_len} columns; put a value that holds a comma in quotes"
            )
        }
        csv::ErrorKind::Utf8 { .. } => "it is not UTF-8; save the file in that encoding".to_owned(),
        _ => error.to_string(),
    }
}

fn row(values: &[&str; COLUMNS.len()]) -> Result<AdRow, String> {
    let [ad, tenant, campaign, name, price, currency, valid_from] = *values;
    let wrong = |column: &str, text: &str, reason: &dyn fmt::Display| {
        format!("`{column}`: `{}` {reason}", text.chars().take(80).collect::<String>())
    };
    let id = |column, text| move |error: IdError| wrong(column, text, &error);
    let day = valid_from.parse::<Day>();
    Ok(AdRow {
        ad: AdId::parse(ad).map_err(id("ad_id", ad))?,
        tenant: TenantId::parse(tenant).map_err(id("tenant", tenant))?,
        campaign: CampaignId::parse(campaign).map_err(id("campaign", campaign))?,
        name: name_of(name).map_err(|reason| wrong("name", name, &reason))?.into(),
        price: price_of(price, currency)?,
        valid_from: day.map_err(|_| wrong("valid_from", valid_from, &"is not a day such as 2026-03-01"))?,
    })
}

fn name_of(text: &str) -> Result<&str, String> {
    match text.chars().count() {
        0 => Err("is empty; give the ad a name".to_owned()),
        length if length > NAME_MAX => Err(format!("has {length} characters; at most {NAME_MAX} are kept")),
        _ if text.chars().any(|c| c.is_control() || is_hidden(c)) => {
            Err("has a line break or another control character".to_owned())
        }
        // At the door, because it goes out by every export.
        _ if text.starts_with(['=', '+', '-', '@', '＝', '＋', '－', '＠']) => {
            Err("begins with =, +, - or @, which spreadsheets take for a formula; begin with a letter or a digit"
                .to_owned())
        }
        _ => Ok(text),
    }
}

/// It breaks the line, is not seen, or changes the direction of what is written beside the name.
fn is_hidden(c: char) -> bool {
    matches!(c, '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

fn price_of(amount: &str, currency: &str) -> Result<Option<Price>, String> {
    let (amount, currency) = match (amount, currency) {
        ("", "") => return Ok(None),
        ("", _) => return Err(format!("`price` is empty, and `currency` is `{currency}`; give both or neither")),
        (_, "") => return Err(format!("`currency` is empty, and `price` is `{amount}`; give both or neither")),
        both => both,
    };
    let wrong = |reason: &str| format!("`price`: `{amount}` {reason}");
    let plain = amount.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let price = Decimal::from_str_exact(amount).ok().filter(|_| plain);
    let price = price.ok_or_else(|| wrong("is no amount such as 0.25, without a sign or a currency"))?.normalize();
    if price.scale() > DECIMALS_MAX {
        return Err(wrong(&format!("has more than {DECIMALS_MAX} decimals")));
    }
    if price > Decimal::from(PRICE_MAX) {
        return Err(wrong(&format!("is more than {PRICE_MAX}, which is the most")));
    }
    let unknown = || format!("`currency`: `{currency}` is no currency of ISO 4217 such as EUR");
    let currency = Currency::from_code(currency).ok_or_else(unknown)?;
    Ok(Some(Price { amount: price, currency }))
}

/// The file that these rows are read from.
pub fn to_csv(rows: &[AdRow]) -> Vec<u8> {
    let mut csv = WriterBuilder::new().from_writer(Vec::new());
    let mut write = |values: [&str; COLUMNS.len()]| csv.write_record(values).expect("memory can be written to");
    write(COLUMNS);
    for row in rows {
        let (amount, currency) = match &row.price {
            Some(price) => (price.amount.to_string(), price.currency.code().to_owned()),
            None => Default::default(),
        };
        let day = row.valid_from.to_string();
        let (ad, tenant, campaign) = (row.ad.as_str(), row.tenant.as_str(), row.campaign.as_str());
        write([ad, tenant, campaign, &row.name, &amount, &currency, &day]);
    }
    csv.into_inner().expect("memory can be written to")
}
