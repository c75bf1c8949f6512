//! Periods as people of finance write them.

use std::fmt;
use std::str::FromStr;

use clicks::time::{Day, Interval};
use clicks::zone::Zone;

/// Dates of a zone, one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dates {
    pub first: Day,
    /// Exclusive.
    pub end: Day,
}

/// A text that names no dates.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DatesError {
    #[error(
        "`{0}` is no period: write a month as 2026-03, a day as 2026-03-15, a year as 2026, or the first day and the one after the \
         last as 2026-03-01..2026-03-15"
    )]
    Form(String),
    #[error("`{0}` ends before it begins: the day after the last comes second")]
    Empty(String),
    #[error("`{0}` lies outside of the years 1900 to 2999")]
    Far(String),
}

impl Dates {
    /// From the first instant of the first date to that of the date after the last.
    pub fn interval(self, zone: Zone) -> Interval {
        Interval::new(zone.start_of(self.first), zone.start_of(self.end))
    }
}

/// The first day of a month and of the next one.
fn month(year: &str, month: &str) -> Option<Dates> {
    let (number, of_year) = (month.parse::<u32>().ok()?, year.parse::<u32>().ok()?);
    let first = format!("{year}-{month}-01").parse().ok()?;
    let next = if number == 12 { (of_year + 1, 1) } else { (of_year, number + 1) };
    Some(Dates { first, end: format!("{:04}-{:02}-01", next.0, next.1).parse().ok()? })
}

impl FromStr for Dates {
    type Err = DatesError;

    fn from_str(text: &str) -> Result<Self, DatesError> {
        let form = || DatesError::Form(text.to_owned());
        let day = |text: &str| text.parse::<Day>().map_err(|_| form());
        let dates = if let Some((first, end)) = text.split_once("..") {
            Dates { first: day(first)?, end: day(end)? }
        } else {
            match *text.split('-').collect::<Vec<_>>() {
                [year] if year.len() == 4 => {
                    let [first, last] = ["01", "12"].map(|number| month(year, number).ok_or_else(form));
                    Dates { first: first?.first, end: last?.end }
                }
                [year, number] if (year.len(), number.len()) == (4, 2) => month(year, number).ok_or_else(form)?,
                _ => {
                    let first = day(text)?;
                    Dates { first, end: first.next() }
                }
            }
        };
        if dates.end <= dates.first {
            return Err(DatesError::Empty(text.to_owned()));
        }
        let is_near = |day: Day| (1900..3000).contains(&day.to_string()[..4].parse().unwrap_or(0));
        match is_near(dates.first) && is_near(dates.end.previous()) && day(&dates.first.to_string()).is_ok() {
            true => Ok(dates),
            false => Err(DatesError::Far(text.to_owned())),
        }
    }
}

/// In the shortest form.
impl fmt::Display for Dates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let first = self.first.to_string();
        let short = [&first[..4], &first[..7], &first];
        match short.into_iter().find(|text| text.parse() == Ok(*self)) {
            Some(short) => f.write_str(short),
            None => write!(f, "{}..{}", self.first, self.end),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn months_days_years_and_ranges() {
        for (text, first, end, shortest) in [
            ("2026-03", "2026-03-01", "2026-04-01", "2026-03"),
            ("2026-12", "2026-12-01", "2027-01-01", "2026-12"),
            ("2024-02", "2024-02-01", "2024-03-01", "2024-02"),
            ("2026", "2026-01-01", "2027-01-01", "2026"),
            ("2026-03-15", "2026-03-15", "2026-03-16", "2026-03-15"),
            ("2026-03-01..2026-03-15", "2026-03-01", "2026-03-15", "2026-03-01..2026-03-15"),
            ("2026-03-01..2026-04-01", "2026-03-01", "2026-04-01", "2026-03"),
            ("2026-03-31..2026-04-01", "2026-03-31", "2026-04-01", "2026-03-31"),
        ] {
            let dates: Dates = text.parse().unwrap();
            assert_eq!((dates.first.to_string(), dates.end.to_string()), (first.to_owned(), end.to_owned()), "{text}");
            assert_eq!(dates.to_string(), shortest, "{text}");
        }
    }

    #[test]
    fn what_is_no_period_is_told() {
        let error = |text: &str| text.parse::<Dates>().unwrap_err();
        for text in
            ["", "march", "2026-3", "2026-13", "2026-00", "2026-02-30", "20260301", "2026-03-01...2026-03-02", "-"]
        {
            assert!(matches!(error(text), DatesError::Form(_)), "{text}: {:?}", error(text));
        }
        assert!(matches!(error("2026-03-02..2026-03-02"), DatesError::Empty(_)));
        assert!(matches!(error("2026-03-02..2026-03-01"), DatesError::Empty(_)));
        assert!(matches!(error("1899"), DatesError::Far(_)));
        assert!(matches!(error("2999-01-01..3001-01-01"), DatesError::Far(_)));
    }

    #[test]
    fn a_month_of_a_zone_begins_and_ends_by_its_clock() {
        let of = |zone: &str| "2026-03".parse::<Dates>().unwrap().interval(zone.parse().unwrap());
        assert_eq!(of("Europe/Berlin").start.to_rfc3339(), "2026-02-28T23:00:00.000Z");
        assert_eq!(of("Europe/Berlin").end.to_rfc3339(), "2026-03-31T22:00:00.000Z");
        assert_eq!(of("Asia/Kathmandu").end.to_rfc3339(), "2026-03-31T18:15:00.000Z");
    }
}
