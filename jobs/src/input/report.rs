//! What becomes of the lines: the rejected ones one by one, all of them in sums.

use std::collections::BTreeMap;

use clicks::time::Timestamp;

use super::gaps::Gap;

/// Characters of a rejected line that are shown.
const EXCERPT_CHARS: usize = 120;

/// A line that is no click.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedLine {
    /// Counted from 1; of a CSV record that spans lines, the one where it begins.
    pub number: u64,
    /// What is wrong and, where there is one, the mend. One line, safe to print.
    pub reason: String,
    /// Stable name of the reason, as in the wire format where the reason is the same.
    pub code: &'static str,
    /// How the line begins. One line, safe to print.
    pub excerpt: String,
}

/// Why a line is rejected, before the line itself is known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reason {
    pub(super) code: &'static str,
    pub(super) text: String,
}

impl Reason {
    pub(super) fn new(code: &'static str, text: impl Into<String>) -> Self {
        Reason { code, text: text.into() }
    }

    pub(super) fn not_utf8(bytes_good: usize) -> Self {
        Reason::new("not_utf8", format!("the line is not UTF-8 (first bad byte is number {})", bytes_good + 1))
    }

    pub(super) fn too_long() -> Self {
        Reason::new("line_too_long", format!("the line is longer than {} bytes", super::LINE_BYTES_MAX))
    }

    pub(super) fn of_line(self, number: u64, line: &[u8]) -> RejectedLine {
        // Four bytes a character at most, so this much is enough and a long line costs no more than a short one.
        let start = &line[..line.len().min(4 * (EXCERPT_CHARS + 1))];
        let text = String::from_utf8_lossy(start);
        let mut excerpt: String = text.chars().take(EXCERPT_CHARS).collect();
        if excerpt.len() < text.len() {
            excerpt.push('…');
        }
        RejectedLine { number, reason: clean(&self.text), code: self.code, excerpt: clean(&excerpt) }
    }
}

/// Control characters replaced: the text comes from a file, and a terminal would obey it.
pub(super) fn clean(text: &str) -> String {
    text.chars()
        .map(|c| {
            if c == '\t' {
                ' '
            } else if c.is_control() {
                '\u{fffd}'
            } else {
                c
            }
        })
        .collect()
}

/// The whole input in numbers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// Lines of the file.
    pub lines: u64,
    /// Lines of a CSV header: 1, or 0 in NDJSON.
    pub header: u64,
    /// Lines with nothing on them.
    pub blank: u64,
    /// Second and further lines of CSV records with line ends inside of quotes; the record is counted at its first.
    pub continuation: u64,
    pub accepted: u64,
    pub rejected_by_code: BTreeMap<&'static str, u64>,
    /// Accepted lines whose click id was missing or empty.
    pub issued_click_ids: u64,
    /// Accepted lines whose click id was no UUID; theirs is derived from its text, so the same text is the same click.
    pub derived_click_ids: u64,
    /// Accepted lines whose user id was missing or empty; they all belong to the user `unknown`.
    pub unknown_users: u64,
    /// Accepted lines with a local time that occurs twice because the clocks go back; the earlier one was taken.
    pub folded_times: u64,
    pub first_event_time: Option<Timestamp>,
    pub last_event_time: Option<Timestamp>,
    pub first_arrival: Option<Timestamp>,
    pub last_arrival: Option<Timestamp>,
    /// Every gap above the allowed size, in order; empty unless gaps are allowed.
    pub gaps: Vec<Gap>,
}

impl Summary {
    pub fn rejected(&self) -> u64 {
        self.rejected_by_code.values().sum()
    }

    /// The first and the last arrival; `None` when no line was accepted.
    pub fn arrivals(&self) -> Option<(Timestamp, Timestamp)> {
        Some((self.first_arrival?, self.last_arrival?))
    }

    /// Whether every line is accounted for.
    pub fn balances(&self) -> bool {
        self.lines == self.header + self.blank + self.continuation + self.accepted + self.rejected()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpts_are_short_and_cannot_drive_a_terminal() {
        let line = Reason::new("x", "bad \u{1b}[2J").of_line(7, b"a\t\x1b[31m\xff");
        assert_eq!((line.reason.as_str(), line.excerpt.as_str()), ("bad \u{fffd}[2J", "a \u{fffd}[31m\u{fffd}"));
        let long = Reason::new("x", "").of_line(1, "ä".repeat(1_000_000).as_bytes());
        assert_eq!(long.excerpt, "ä".repeat(EXCERPT_CHARS) + "…");
        let fits = Reason::new("x", "").of_line(1, "ä".repeat(EXCERPT_CHARS).as_bytes());
        assert_eq!(fits.excerpt, "ä".repeat(EXCERPT_CHARS));
    }
}
