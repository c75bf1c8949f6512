//! Days, numbers and prices as people write them. What can be read in two ways is not read at all.

use clicks::time::{Day, Timestamp};
use clicks::zone::Zone;
use rust_decimal::Decimal;

/// What stands in a cell.
#[derive(Debug, Clone, Copy)]
pub(super) enum Given<'a> {
    Text(&'a str),
    /// A number of the file's own type, with a point before its fraction.
    Number(&'a str),
}

impl<'a> Given<'a> {
    pub(super) fn text(self) -> &'a str {
        match self {
            Given::Text(text) | Given::Number(text) => text.trim(),
        }
    }
}

/// Most clicks of a line.
const CLICKS_MAX: u64 = 1_000_000_000_000;
/// Highest price: that of the ads table.
const PRICE_MAX: u32 = 1_000_000;

/// Spreadsheets mark texts that look like numbers with an apostrophe.
pub(super) fn unquoted(text: &str) -> &str {
    text.strip_prefix('\'').unwrap_or(text)
}

/// A day as it is written. An instant of a zone stands for one only if it is a midnight: by its own clock, or by those of `zone`.
pub(super) fn day(text: &str, zone: Zone) -> Result<Day, String> {
    let (date, time) = text.split_once(['T', ' ']).unwrap_or((text, ""));
    let parts: Vec<&str> = date.split(['-', '/', '.']).collect();
    let iso = match *parts {
        [year, month, day] if year.len() == 4 => Some(format!("{year}-{month:0>2}-{day:0>2}")),
        [day, month, year] if year.len() == 4 && date.contains('.') => Some(format!("{year}-{month:0>2}-{day:0>2}")),
        [all] if all.len() == 8 && all.is_ascii() => Some(format!("{}-{}-{}", &all[..4], &all[4..6], &all[6..])),
        _ => None,
    };
    let day: Day = iso
        .and_then(|iso| iso.parse().ok())
        .ok_or("is no day that can be read in one way only: write it as 2026-03-15 or 15.03.2026")?;
    let clock = time.trim_end_matches(['Z', 'z']).split(['+', '-']).next().unwrap_or_default();
    let is_midnight = clock.chars().all(|c| matches!(c, '0' | ':' | '.'));
    if clock.len() == time.len() || is_midnight {
        return Ok(day);
    }
    let instant = Timestamp::parse_rfc3339(&text.replace(' ', "T")).ok();
    let own = instant.map(|instant| (zone.date(instant), zone.start_of(zone.date(instant)) == instant));
    match own {
        Some((day, true)) => Ok(day),
        _ => Err(format!("is an instant and no midnight, of its own clock or of {}: write the day", zone.name())),
    }
}

/// A whole number that is not negative, perhaps with a fraction of noughts.
pub(super) fn count(given: Given<'_>, thousands: Option<char>) -> Result<u64, String> {
    let number = decimal(given, thousands)?;
    if number.is_sign_negative() && !number.is_zero() {
        return Err("is negative: nobody clicks less than not at all; corrections are no clicks".to_owned());
    }
    if !number.fract().is_zero() {
        return Err("is no whole number, and clicks are".to_owned());
    }
    let count = u64::try_from(number.trunc()).ok().filter(|count| *count <= CLICKS_MAX);
    count.ok_or_else(|| format!("is more than {CLICKS_MAX}, which nobody clicks"))
}

/// A price, and its currency where that stands beside it.
pub(super) fn price(given: Given<'_>, thousands: Option<char>) -> Result<(Decimal, Option<String>), String> {
    let is_mark = |c: char| c.is_alphabetic() || "€$£¥".contains(c);
    let text = given.text();
    let number = text.trim_matches(|c: char| is_mark(c) || c.is_whitespace());
    let currency: String = text.chars().filter(|c| is_mark(*c)).collect();
    let price = decimal(if let Given::Number(_) = given { given } else { Given::Text(number) }, thousands)?;
    if price.is_sign_negative() {
        return Err("is negative".to_owned());
    }
    if price > Decimal::from(PRICE_MAX) {
        return Err(format!("is more than {PRICE_MAX} for a click"));
    }
    Ok((price.normalize(), Some(currency).filter(|currency| !currency.is_empty())))
}

fn decimal(given: Given<'_>, thousands: Option<char>) -> Result<Decimal, String> {
    let parsed =
        |text: &str| Decimal::from_str_exact(text.trim_start_matches('+')).map_err(|_| "is no number".to_owned());
    let text = match given {
        Given::Number(text) => return parsed(text.trim()),
        Given::Text(text) => text.trim(),
    };
    let digits = text.trim_start_matches(['-', '+']);
    let blanks = ['\u{a0}', '\u{202f}', ' '];
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit())
        && digits
            .chars()
            .all(|c| c.is_ascii_digit() || ".,'".contains(c) || blanks.contains(&c) || Some(c) == thousands);
    if !is_number {
        return Err("is no number".to_owned());
    }
    // Blanks and apostrophes never begin a fraction.
    let mark = thousands.or_else(|| digits.chars().find(|c| *c == '\'' || blanks.contains(c)));
    let fraction_at = digits.find(|c| matches!(c, '.' | ',') && Some(c) != mark);
    let (whole, fraction) = match fraction_at {
        Some(at) => (&digits[..at], Some(&digits[at + 1..])),
        None => (digits, None),
    };
    if fraction.is_some_and(|fraction| fraction.is_empty() || !fraction.chars().all(|c| c.is_ascii_digit())) {
        return Err(
            "has more than one separator: say which one stands between thousands, as in `--thousands ,`".to_owned()
        );
    }
    let groups: Vec<&str> = mark.map_or_else(|| vec![whole], |mark| whole.split(mark).collect());
    let is_grouped = groups.len() == 1 || (groups[0].len() <= 3 && groups[1..].iter().all(|group| group.len() == 3));
    if !is_grouped || groups.iter().any(|group| group.is_empty() || !group.chars().all(|c| c.is_ascii_digit())) {
        return Err("is not grouped by thousands".to_owned());
    }
    // 1.234 is a thousand and more in one country, and one and a bit in another; 0.125 and 1234.567 are the same in both.
    if let Some((at, fraction)) = fraction_at.zip(fraction)
        && fraction.len() == 3
        && groups.len() == 1
        && thousands.is_none()
        && whole.len() <= 3
        && whole != "0"
    {
        let (mark, other) = if digits[at..].starts_with('.') { ('.', ',') } else { (',', '.') };
        return Err(format!(
            "can be read in two ways: say `--thousands {mark}` if `{mark}` stands between thousands, or `--thousands {other}` if \
             it begins the fraction"
        ));
    }
    let sign = if text.starts_with('-') { "-" } else { "" };
    parsed(&format!("{sign}{}{}", groups.concat(), fraction.map(|fraction| format!(".{fraction}")).unwrap_or_default()))
}
