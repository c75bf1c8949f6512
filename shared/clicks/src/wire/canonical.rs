//! The fast path: a value in exactly the layout that [`super::encode`] writes is read without a JSON parser.
//!
//! ```text
//! {"click_id":"0190f5c4-7c1e-7a40-8000-0242ac120002","ad_id":"ad-1","user_id":"u-1","timestamp":"2026-03-01T12:00:00.000Z"}
//! ```
//!
//! It never refuses: whatever looks different in the least is left to the JSON parser. So both accept and reject the same
//! values as long as what is read here is read in the same way there, which a property test and a fuzzer hold.

use std::borrow::Cow;

use crate::id::{ClickId, NAME_LENGTH_MAX};
use crate::time::Timestamp;

use super::{Name, Read};

/// Where the click id stands.
pub(super) const CLICK_ID: std::ops::Range<usize> = 13..49;

/// Reads a canonical value; `None`: ask the JSON parser.
#[inline]
pub(super) fn read(value: &[u8]) -> Option<Read<'_>> {
    let rest = after(value, br#"{"click_id":""#)?;
    let (click_id, rest) = rest.split_first_chunk::<36>()?;
    let (ad_id, rest) = name(after(rest, br#"","ad_id":""#)?)?;
    let (user_id, rest) = name(after(rest, br#"","user_id":""#)?)?;
    let (timestamp, rest) = after(rest, br#"","timestamp":""#)?.split_first_chunk::<24>()?;
    if rest != br#""}"# {
        return None;
    }
    Some(Read { click_id: uuid(click_id)?, ad_id, user_id, event_time: time(timestamp)? })
}

/// What follows the text. Comparing arrays of a known length takes a few instructions, comparing slices a call.
#[inline]
fn after<'a, const N: usize>(value: &'a [u8], text: &[u8; N]) -> Option<&'a [u8]> {
    let (first, rest) = value.split_first_chunk::<N>()?;
    (first == text).then_some(rest)
}

/// An ad or user id up to its closing quote, which stays.
#[inline]
fn name(text: &[u8]) -> Option<(Name<'_>, &[u8])> {
    let mut length = 0;
    // Behind a name there is always more than a word, or the value is not canonical.
    while let Some(word) = text[length..].first_chunk::<8>() {
        let name_bytes = (!name_bytes(u64::from_le_bytes(*word)) & TOPS).trailing_zeros() / 8;
        length += name_bytes as usize;
        if name_bytes < 8 {
            let (name, rest) = text.split_at(length);
            return (0 < length && length <= NAME_LENGTH_MAX).then_some((Name(Cow::Borrowed(name)), rest));
        }
    }
    None
}

const ONES: u64 = 0x0101_0101_0101_0101;
const TOPS: u64 = 0x8080_8080_8080_8080;

/// The top bit of each byte tells whether a name may hold it: letters, digits, `-`, `.` and `_`.
#[inline]
const fn name_bytes(word: u64) -> u64 {
    // No byte carries into the next, as all are below 128.
    let low = word & !TOPS;
    let letters = within(low | (ONES * 0x20), b'a', b'z');
    let digits = within(low, b'-', b'9') & !within(low, b'/', b'/');
    (letters | digits | within(low, b'_', b'_')) & !word
}

/// The top bit of each byte tells whether it lies in `[first, last]`; all bytes are below 128.
#[inline]
const fn within(bytes: u64, first: u8, last: u8) -> u64 {
    (bytes + ONES * (0x80 - first as u64)) & !(bytes + ONES * (0x7f - last as u64)) & TOPS
}

/// A hyphenated UUID in either case. Loops of a fixed length over bytes, which the compiler turns into a few instructions
/// for all of them.
#[inline]
fn uuid(text: &[u8; 36]) -> Option<ClickId> {
    if [text[8], text[13], text[18], text[23]] != *b"----" {
        return None;
    }
    let mut digits = [0; 32];
    digits[..8].copy_from_slice(&text[..8]);
    digits[8..12].copy_from_slice(&text[9..13]);
    digits[12..16].copy_from_slice(&text[14..18]);
    digits[16..20].copy_from_slice(&text[19..23]);
    digits[20..].copy_from_slice(&text[24..]);
    let mut bad = 0;
    for digit in &mut digits {
        let (number, letter) = (digit.wrapping_sub(b'0'), (*digit | 0x20).wrapping_sub(b'a'));
        bad |= u8::from(number > 9) & u8::from(letter > 5);
        *digit = if number > 9 { letter.wrapping_add(10) } else { number };
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(digits.as_chunks::<2>().0) {
        *byte = pair[0] << 4 | pair[1];
    }
    (bad == 0).then(|| ClickId::from_bytes(bytes))
}

/// `YYYY-MM-DDTHH:MM:SS.mmmZ` from 1970 on. Leap seconds and other years are left to the parser.
#[inline]
fn time(text: &[u8; 24]) -> Option<Timestamp> {
    let [year_month, day_minute, second_millis] = *text.as_chunks::<8>().0 else { return None };
    const DATE: Pattern = Pattern::new(*b"0000-00-");
    const CLOCK: Pattern = Pattern::new(*b"00T00:00");
    const SECOND: Pattern = Pattern::new(*b":00.000Z");
    let date = Digits::of(year_month, &DATE)?;
    let clock = Digits::of(day_minute, &CLOCK)?;
    let second = Digits::of(second_millis, &SECOND)?;
    let year = date.pair(0) * 100 + date.pair(2);
    let (month, day) = (date.pair(5), clock.pair(0));
    let (hour, minute) = (clock.pair(3), clock.pair(6));
    let (second, millis) = (second.pair(1), second.pair(4) * 10 + second.pair(6) / 10);
    if year < 1970 || !(1..=12).contains(&month) || day == 0 || day > days_in(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds =
        i64::from(days_since_1970(year, month, day)) * 86_400 + i64::from(hour * 3_600 + minute * 60 + second);
    Some(Timestamp::from_millis(seconds * 1_000 + i64::from(millis)))
}

/// A digit wherever the text has a zero, and the same character everywhere else.
struct Pattern {
    text: u64,
    /// What each character may still grow by, once it is compared with the text, before its top bit is set.
    room: u64,
}

impl Pattern {
    const fn new(text: [u8; 8]) -> Self {
        let mut room = [0; 8];
        let mut at = 0;
        while at < 8 {
            room[at] = if text[at] == b'0' { 0x80 - 10 } else { 0x80 - 1 };
            at += 1;
        }
        Pattern { text: u64::from_le_bytes(text), room: u64::from_le_bytes(room) }
    }
}

/// Eight characters, judged and read together: each byte holds ten times its digit plus the next one.
#[derive(Clone, Copy)]
struct Digits(u64);

impl Digits {
    /// `None` unless the text fits the pattern.
    #[inline]
    fn of(text: [u8; 8], pattern: &Pattern) -> Option<Self> {
        // Digits become 0 to 9, other characters 0. What is added sets the top bit of every byte that is larger.
        let values = u64::from_le_bytes(text) ^ pattern.text;
        let over = (values | values.wrapping_add(pattern.room)) & 0x8080_8080_8080_8080;
        (over == 0).then(|| Digits(values * 10 + (values >> 8)))
    }

    /// The number that the digits at `at` and behind it are.
    #[inline]
    fn pair(self, at: u32) -> u32 {
        (self.0 >> (8 * at)) as u32 & 0xff
    }
}

const fn is_leap(year: u32) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

const fn days_in(year: u32, month: u32) -> u32 {
    match month {
        2 if is_leap(year) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days of the Gregorian calendar, counted in years that begin in March, so that the leap day is their last.
const fn days_since_1970(year: u32, month: u32, day: u32) -> u32 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_before_month = (153 * month + 2) / 5;
    year * 365 + year / 4 - year / 100 + year / 400 + days_before_month + day - 1 - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::is_name_byte;

    #[test]
    fn a_word_tells_which_of_its_bytes_a_name_may_hold() {
        for byte in 0..=255u8 {
            for at in 0..8 {
                let mut word = *b"aaaaaaaa";
                word[at] = byte;
                let mut wanted = [0x80; 8];
                wanted[at] = u8::from(is_name_byte(byte)) << 7;
                assert_eq!(name_bytes(u64::from_le_bytes(word)), u64::from_le_bytes(wanted), "{byte:#x} at {at}");
            }
        }
    }
}
