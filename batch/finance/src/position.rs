//! Points in time of the ledger: what was billed then.

use std::str::FromStr;

use clicks::books::Books;
use clicks::ledger::{Body, Entry};
use clicks::tables::EntryNumber;
use clicks::time::{Day, Timestamp};
use platform::ledger::{Ledger, LedgerError};

/// A state of the truth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PointInTime {
    Now,
    /// When this entry was the last one.
    Entry(EntryNumber),
    /// What was published before this instant.
    Before(Timestamp),
}

/// A text that names no state of the truth.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no state of the books: write `now`, a ledger position as 31, a day as 2026-04-03 (what was published by the end of \
     it, UTC), or an instant as 2026-04-03T12:00:00Z"
)]
pub struct PointParseError(String);

impl FromStr for PointInTime {
    type Err = PointParseError;

    fn from_str(text: &str) -> Result<Self, PointParseError> {
        if text == "now" {
            return Ok(PointInTime::Now);
        }
        if let Ok(number) = text.parse() {
            return Ok(PointInTime::Entry(number));
        }
        if let Ok(day) = text.parse::<Day>() {
            return Ok(PointInTime::Before(day.end()));
        }
        Timestamp::parse_rfc3339(text).map(PointInTime::Before).map_err(|_| PointParseError(text.to_owned()))
    }
}

/// The books as they were at that point. Instants are those that the entries name, for people: none decides anything but
/// which entry a person means.
///
/// # Errors
/// When the ledger cannot be read, or does not reach so far.
pub async fn books_at(ledger: &Ledger, point: PointInTime) -> Result<Books, LedgerError> {
    let before = match point {
        PointInTime::Now => return ledger.read().await,
        PointInTime::Entry(number) => return ledger.read_at(number).await,
        PointInTime::Before(before) => before,
    };
    let mut books = ledger.read_at(0).await?;
    while let Some(bytes) = ledger.entry_bytes(books.head() + 1).await? {
        let entry = Entry::decode(books.head() + 1, &bytes)?;
        if published_at(&entry.body).is_some_and(|at| at >= before) {
            break;
        }
        ledger.read_on(&mut books, entry.number).await?;
    }
    Ok(books)
}

/// When an entry was published, where it says so.
pub fn published_at(body: &Body) -> Option<Timestamp> {
    match body {
        Body::Night(night) => Some(night.published_at),
        Body::Period(change) => Some(change.at),
        Body::Recount(recount) => Some(recount.published_at),
        Body::Genesis(_) | Body::Topic(_) | Body::Epoch(_) | Body::Rules(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_as_they_are_written() {
        let at = |text: &str| text.parse::<PointInTime>();
        assert_eq!(at("now"), Ok(PointInTime::Now));
        assert_eq!(at("31"), Ok(PointInTime::Entry(31)));
        let midnight = Timestamp::parse_rfc3339("2026-04-04T00:00:00Z").unwrap();
        assert_eq!(at("2026-04-03"), Ok(PointInTime::Before(midnight)));
        assert_eq!(at("2026-04-04T02:00:00+02:00"), Ok(PointInTime::Before(midnight)));
        for text in ["", "yesterday", "-1", "2026-04", "2026-04-03T12:00:00"] {
            assert!(at(text).unwrap_err().to_string().contains("no state of the books"), "{text}");
        }
    }
}
