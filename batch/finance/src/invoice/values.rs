//! Days, numbers and prices as people write them. What can be read in two ways is not read at all.

use clicks::time::Day;
use rust_decimal::Decimal;

/// Spreadsheets mark texts that look like numbers with an apostrophe.
pub(super) fn unquoted(text: &str) -> &str {
    text.strip_prefix('\'').unwrap_or(text)
}

pub(super) fn day(text: &str) -> Result<Day, String> {
    let date = text.split(['T', ' ']).next().unwrap_or_default();
    let parts: Vec<&str> = date.split(['-', '/', '.']).collect();
    let iso = match *parts {
        [year, month, day] if year.len() == 4 => Some(format!("{year}-{month:0>2}-{day:0>2}")),
        [day, month, year] if year.len() == 4 && date.contains('.') => Some(format!("{year}-{month:0>2}-{day:0>2}")),
        [all] if all.len() == 8 && all.is_ascii() => Some(format!("{}-{}-{}", &all[..4], &all[4..6], &all[6..])),
        _ => None,
    };
    let day = iso.and_then(|iso| iso.parse().ok());
    day.ok_or_else(|| "is no day that can be read in one way only: write it as 2026-03-15 or 15.03.2026".to_owned())
}

/// A whole number that is not negative, perhaps with a fraction of noughts.
pub(super) fn count(text: &str, thousands: Option<char>) -> Result<u64, String> {
    let number = decimal(text, thousands)?;
    if number.is_sign_negative() && !number.is_zero() {
        return Err("is negative: nobody clicks less than not at all; corrections are no clicks".to_owned());
    }
    if !number.fract().is_zero() {
        return Err("is no whole number, and clicks are".to_owned());
    }
    u64::try_from(number.trunc()).map_err(|_| "is too large".to_owned())
}

pub(super) fn price(text: &str, thousands: Option<char>) -> Result<Decimal, String> {
    let number =
        decimal(text.trim_matches(|c: char| c.is_alphabetic() || c.is_whitespace() || "€$£¥".contains(c)), thousands)?;
    if number.is_sign_negative() { Err("is negative".to_owned()) } else { Ok(number) }
}

fn decimal(text: &str, thousands: Option<char>) -> Result<Decimal, String> {
    let plain: String = text.chars().filter(|c| Some(*c) != thousands && !c.is_whitespace()).collect();
    let separators: Vec<(usize, char)> = plain.char_indices().filter(|(_, c)| matches!(c, '.' | ',')).collect();
    let is_number = !plain.is_empty()
        && plain.trim_start_matches(['-', '+']).chars().all(|c| c.is_ascii_digit() || ".,".contains(c));
    let no_number = || Err("is no number".to_owned());
    match *separators {
        _ if !is_number => no_number(),
        [] => plain.parse().map_err(|_| "is no number".to_owned()),
        // 1.234 is a thousand and more in one country, and one and a bit in another.
        [(at, mark)] if thousands.is_none() && plain.len() - at == 4 => Err(format!(
            "can be read in two ways: say `--thousands {mark}` if `{mark}` stands between thousands, or write it without"
        )),
        [(_, _)] => plain.replace(',', ".").parse().map_err(|_| "is no number".to_owned()),
        _ => {
            Err("has more than one separator: say which one stands between thousands, as in `--thousands ,`".to_owned())
        }
    }
}
