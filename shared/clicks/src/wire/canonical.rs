//! The fast path: a value in exactly the layout that [`super::encode`] writes is read without a JSON parser.
//!
//! ```text
//! {"click_id":"0190f5c4-7c1e-7a40-8000-0242ac120002","ad_id":"ad-1","user_id":"u-1","timestamp":"2026-03-01T12:00:00.000Z"}
//! ```
//!
//! It never refuses: whatever looks different in the least is left to the JSON parser. So both accept and reject the same
//! values as long as what is read here is read in the same way there, which a property test and a fuzzer hold.

use std::borrow::Cow;

use crate::id::{ClickId, NAME_LENGTH_MAX, is_name_byte};
use crate::time::Timestamp;

use super::Read;

/// Which bytes a name may hold.
static IS_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_name_byte(byte as u8);
        byte += 1;
    }
    table
};

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
    Some(Read {
        click_id: uuid(click_id)?,
        ad_id: Cow::Borrowed(ad_id),
        user_id: Cow::Borrowed(user_id),
        event_time: time(timestamp)?,
    })
}

/// What follows the text. Comparing arrays of a known length takes a few instructions, comparing slices a call.
#[inline]
fn after<'a, const N: usize>(value: &'a [u8], text: &[u8; N]) -> Option<&'a [u8]> {
    let (first, rest) = value.split_first_chunk::<N>()?;
    (first == text).then_some(rest)
}

/// An ad or user id up to its closing quote, which stays.
#[inline]
fn name(text: &[u8]) -> Option<(&str, &[u8])> {
    let length = text.iter().take(NAME_LENGTH_MAX + 1).position(|byte| !IS_NAME[*byte as usize])?;
    let (name, rest) = text.split_at(length);
    // Names are ASCII, so this cannot fail; it costs less than it looks.
    (length > 0).then_some((std::str::from_utf8(name).ok()?, rest))
}

/// A hyphenated UUID in either case.
#[inline]
fn uuid(text: &[u8; 36]) -> Option<ClickId> {
    if [text[8], text[13], text[18], text[23]] != *b"----" {
        return None;
    }
    let word = |a: usize, b: usize| -> Option<u64> {
        let mut eight = [0; 8];
        eight[..4].copy_from_slice(&text[a..a + 4]);
        eight[4..].copy_from_slice(&text[b..b + 4]);
        eight_digits(u64::from_be_bytes(eight)).map(u64::from)
    };
    let high = word(0, 4)? << 32 | word(9, 14)?;
    let low = word(19, 24)? << 32 | word(28, 32)?;
    Some(ClickId::from_u128(u128::from(high) << 64 | u128::from(low)))
}

/// Eight hexadecimal digits, the first in the highest byte, all at once.
#[inline]
fn eight_digits(text: u64) -> Option<u32> {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = 0x8080_8080_8080_8080;
    if text & TOPS != 0 {
        return None;
    }
    // The top bit of each byte tells whether it lies in [low, high]; no byte carries into the next, as all are below 128.
    let within = |bytes: u64, low: u8, high: u8| {
        (bytes + ONES * u64::from(0x80 - low)) & !(bytes + ONES * u64::from(0x7f - high)) & TOPS
    };
    let letters = within(text | ONES * 0x20, b'a', b'f');
    if within(text, b'0', b'9') | letters != TOPS {
        return None;
    }
    let mut digits = (text & (ONES * 0x0f)) + (letters >> 7) * 9;
    digits = (digits | digits >> 4) & 0x00ff_00ff_00ff_00ff;
    digits = (digits | digits >> 8) & 0x0000_ffff_0000_ffff;
    Some((digits | digits >> 16) as u32)
}

/// `YYYY-MM-DDTHH:MM:SS.mmmZ` from 1970 on. Leap seconds and other years are left to the parser.
#[inline]
fn time(text: &[u8; 24]) -> Option<Timestamp> {
    let marks = [text[4], text[7], text[10], text[13], text[16], text[19], text[23]];
    if marks != *b"--T::.Z" {
        return None;
    }
    // Bytes that are no digits give numbers above 9, which the last comparison sees.
    let digit = |at: usize| u32::from(text[at].wrapping_sub(b'0'));
    let digits = [0, 1, 2, 3, 5, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20, 21, 22].map(digit);
    // No branch per digit: a value above 9 leaves a bit.
    if digits.iter().fold(0, |over, digit| over | (9u32.wrapping_sub(*digit) >> 31)) != 0 {
        return None;
    }
    let [y0, y1, y2, y3, o0, o1, d0, d1, h0, h1, m0, m1, s0, s1, f0, f1, f2] = digits;
    let year = y0 * 1_000 + y1 * 100 + y2 * 10 + y3;
    let (month, day) = (o0 * 10 + o1, d0 * 10 + d1);
    let (hour, minute, second) = (h0 * 10 + h1, m0 * 10 + m1, s0 * 10 + s1);
    if year < 1970 || !(1..=12).contains(&month) || day == 0 || day > days_in(year, month) {
        return None;
    }
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let seconds =
        i64::from(days_since_1970(year, month, day)) * 86_400 + i64::from(hour * 3_600 + minute * 60 + second);
    Some(Timestamp::from_millis(seconds * 1_000 + i64::from(f0 * 100 + f1 * 10 + f2)))
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
