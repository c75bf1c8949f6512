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

use super::{Name, Read};

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
    while length < text.len() && IS_NAME[text[length] as usize] {
        length += 1;
    }
    let (name, rest) = text.split_at(length);
    (0 < length && length <= NAME_LENGTH_MAX).then_some((Name(Cow::Borrowed(name)), rest))
}

/// A hyphenated UUID in either case.
#[inline]
fn uuid(text: &[u8; 36]) -> Option<ClickId> {
    if [text[8], text[13], text[18], text[23]] != *b"----" {
        return None;
    }
    let four = |at: usize| u64::from(u32::from_be_bytes([text[at], text[at + 1], text[at + 2], text[at + 3]]));
    let eight = |a: usize, b: usize| eight_digits(four(a) << 32 | four(b));
    let (a, b, c, d) = (eight(0, 4)?, eight(9, 14)?, eight(19, 24)?, eight(28, 32)?);
    let join = |high: u32, low: u32| u64::from(high) << 32 | u64::from(low);
    Some(ClickId::from_u128(u128::from(join(a, b)) << 64 | u128::from(join(c, d))))
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
    let letters = within(text | (ONES * 0x20), b'a', b'f');
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
