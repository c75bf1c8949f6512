//! What the people who bill ask for: exports, corrections, the close of a month.

pub mod adjustments;
pub mod ask;
pub mod diff;
pub mod explain;
pub mod export;
mod file;
pub mod month;
mod provisional;
pub mod reconcile;

use anyhow::Result;
use clicks::ads::AdsTable;
use clicks::books::Books;
use clicks::ledger::Entry;
use clicks::time::Timestamp;
use finance::{PointInTime, StatementError, Totals, books_at, published_at};
use platform::ads::{Ads, AdsError};
use platform::ledger::{Ledger, LedgerError};
use platform::objects::Objects;
use platform::settings::Settings;

use crate::cli::Priced;
use crate::connect;
use crate::exit::Exit;

/// What every number is read from.
struct Desk {
    objects: Objects,
    ledger: Ledger,
}

/// A version of the ads table.
struct Catalog {
    version: u64,
    table: AdsTable,
}

impl Desk {
    fn open(settings: &Settings) -> Result<Self> {
        Ok(Desk { objects: connect::objects(settings)?, ledger: connect::ledger(settings)? })
    }

    async fn books(&self, point: PointInTime) -> Result<Books, LedgerError> {
        books_at(&self.ledger, point).await
    }

    /// The version that is named, or the last one that was loaded by that time.
    async fn catalog(&self, priced: Priced, point: PointInTime) -> Result<Catalog> {
        let ads = Ads::new(self.objects.clone());
        let version = match priced.ads_version {
            Some(version) => version,
            None => {
                let mut version = ads.last(0).await?;
                if let Some(time) = self.time_of(point).await? {
                    while version > 0 && ads.record(version).await?.loaded_at >= time {
                        version -= 1;
                    }
                }
                version
            }
        };
        Ok(Catalog { version, table: ads.read(version).await? })
    }

    /// When a state of the books was followed by another one; `None`: it has not been.
    async fn time_of(&self, point: PointInTime) -> Result<Option<Timestamp>> {
        let mut number = match point {
            PointInTime::Now => return Ok(None),
            PointInTime::Before(time) => return Ok(Some(time)),
            PointInTime::Entry(number) => number + 1,
        };
        while let Some(bytes) = self.ledger.entry_bytes(number).await? {
            if let Some(time) = published_at(&Entry::decode(number, &bytes)?.body) {
                return Ok(Some(time));
            }
            number += 1;
        }
        Ok(None)
    }
}

/// Says why there is no answer, and how that ends. What was asked for wrongly is no failure, and neither are days that are
/// still open: `open` is what the command offers then.
fn refused(error: anyhow::Error, open: Option<&str>) -> Result<Exit> {
    let (exit, offer) = if let Some(StatementError::Open(_)) = error.downcast_ref() {
        (Exit::Incomplete, open)
    } else if matches!(error.downcast_ref(), Some(LedgerError::NoEntry { .. }))
        || matches!(error.downcast_ref(), Some(AdsError::NoVersion { .. }))
    {
        (Exit::Usage, None)
    } else {
        return Err(error);
    };
    eprintln!("twofold: {error}{}", offer.map(|offer| format!("; {offer}")).unwrap_or_default());
    Ok(exit)
}

/// RFC 4180, as every table here.
fn csv_on_stdout() -> csv::Writer<std::io::Stdout> {
    csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(std::io::stdout())
}

/// A store as DuckDB knows it: a folder, or a bucket by the name that it has.
fn folder(url: &str) -> String {
    url.strip_prefix("file://").unwrap_or(url).trim_end_matches('/').to_owned()
}

/// `1,234,567`.
fn grouped(number: impl Into<i128>) -> String {
    let number: i128 = number.into();
    let digits = number.unsigned_abs().to_string();
    let places = digits.len();
    let mut text = if number < 0 { "-".to_owned() } else { String::new() };
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (places - n).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `EUR 12.5, USD 3`; nothing where no click has a price.
fn amounts(totals: &Totals) -> String {
    let priced = totals.by_currency.iter().filter_map(|(currency, total)| Some((currency.as_ref()?, total)));
    priced.map(|(currency, total)| format!("{currency} {}", total.amount)).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_numbers_are_grouped() {
        for (number, text) in
            [(0_i64, "0"), (999, "999"), (1_000, "1,000"), (-1_234_567, "-1,234,567"), (100_000, "100,000")]
        {
            assert_eq!(grouped(number), text);
        }
    }
}
