//! The lines of a file, numbered from 1, each bounded in length, with the possibility to hand some back.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};

use super::error::InputError;

/// Longest line, in bytes. A longer one is rejected; the rest of it is skipped, never held.
pub const LINE_BYTES_MAX: usize = 1 << 20;

/// How much of a line that is too long is kept, for the excerpt.
const KEPT_OF_TOO_LONG: usize = 4096;

/// One line without its line end (`\n` or `\r\n`), and without a byte order mark.
#[derive(Debug, Default)]
pub(super) struct Line {
    pub(super) number: u64,
    pub(super) bytes: Vec<u8>,
    /// Only the start of it is here.
    pub(super) too_long: bool,
}

impl Line {
    pub(super) fn is_blank(&self) -> bool {
        !self.too_long && self.bytes.iter().all(u8::is_ascii_whitespace)
    }

    /// What the file is, if its first line shows that it is no text, and the command that makes text of `FILE`.
    pub(super) fn binary_kind(&self) -> Option<(&'static str, &'static str)> {
        match self.bytes.as_slice() {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some(("UTF-16", "iconv -f UTF-16 -t UTF-8 FILE")),
            [0x1f, 0x8b, ..] => Some(("compressed with gzip", "gzip -dc FILE")),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Some(("compressed with zstd", "zstd -dc FILE")),
            [b'P', b'A', b'R', b'1', ..] => Some(("a Parquet file", "duckdb -csv -c \"from 'FILE'\"")),
            _ => None,
        }
    }
}

/// Reads lines one by one into a buffer of the caller's.
#[derive(Debug)]
pub(super) struct Lines<R> {
    file: String,
    input: BufReader<R>,
    /// Lines read from the input.
    count: u64,
    returned: VecDeque<Line>,
}

impl<R: Read> Lines<R> {
    pub(super) fn new(input: R, file: String) -> Self {
        Lines { file, input: BufReader::with_capacity(256 << 10, input), count: 0, returned: VecDeque::new() }
    }

    /// Lines read from the input so far.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Hands a line back: it comes next.
    pub(super) fn give_back(&mut self, line: Line) {
        self.returned.push_front(line);
    }

    /// Reads the next line; `false` at the end.
    pub(super) fn next(&mut self, line: &mut Line) -> Result<bool, InputError> {
        if let Some(returned) = self.returned.pop_front() {
            *line = returned;
            return Ok(true);
        }
        self.fill(line).map_err(|source| InputError::Read { file: self.file.clone(), line: self.count, source })
    }

    fn fill(&mut self, line: &mut Line) -> std::io::Result<bool> {
        line.bytes.clear();
        line.too_long = false;
        // Room for the line end and a byte order mark, which are no part of the line.
        let limit = LINE_BYTES_MAX + 5;
        (&mut self.input).take(limit as u64).read_until(b'\n', &mut line.bytes)?;
        if line.bytes.is_empty() {
            return Ok(false);
        }
        self.count += 1;
        line.number = self.count;
        if line.bytes.last() == Some(&b'\n') {
            line.bytes.pop();
        } else if line.bytes.len() == limit {
            self.input.skip_until(b'\n')?;
        }
        if line.bytes.last() == Some(&b'\r') {
            line.bytes.pop();
        }
        if line.number == 1 && line.bytes.starts_with(b"\xef\xbb\xbf") {
            line.bytes.drain(..3);
        }
        if line.bytes.len() > LINE_BYTES_MAX {
            line.too_long = true;
            line.bytes.truncate(KEPT_OF_TOO_LONG);
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(input: &[u8]) -> Vec<(u64, String, bool)> {
        let mut lines = Lines::new(input, "test".to_owned());
        let mut line = Line::default();
        let mut found = Vec::new();
        while lines.next(&mut line).unwrap() {
            found.push((line.number, String::from_utf8_lossy(&line.bytes).into_owned(), line.too_long));
        }
        assert_eq!(lines.count(), found.len() as u64);
        found
    }

    fn line(number: u64, text: &str) -> (u64, String, bool) {
        (number, text.to_owned(), false)
    }

    #[test]
    fn line_ends_and_byte_order_marks_are_no_part_of_a_line() {
        assert_eq!(all(b""), []);
        assert_eq!(all(b"a"), [line(1, "a")]);
        assert_eq!(all(b"\n\n"), [line(1, ""), line(2, "")]);
        assert_eq!(all(b"a\r\nb\r\n"), [line(1, "a"), line(2, "b")]);
        assert_eq!(all(b"\xef\xbb\xbfa\n\xef\xbb\xbfb"), [line(1, "a"), line(2, "\u{feff}b")]);
    }

    #[test]
    fn a_line_at_the_limit_is_whole_and_one_above_is_cut_without_touching_the_next() {
        for (length, too_long) in [(LINE_BYTES_MAX, false), (LINE_BYTES_MAX + 1, true), (3 * LINE_BYTES_MAX, true)] {
            let mut input = vec![b'x'; length];
            input.extend(b"\r\nnext\n");
            let found = all(&input);
            assert_eq!((found.len(), found[0].2, &found[1]), (2, too_long, &line(2, "next")), "{length}");
            assert_eq!(found[0].1.len(), if too_long { KEPT_OF_TOO_LONG } else { length });
        }
    }

    #[test]
    fn lines_that_are_handed_back_come_again_in_order_and_are_counted_once() {
        let mut lines = Lines::new(&b"a\nb\nc\n"[..], "test".to_owned());
        let mut taken = Vec::new();
        for _ in 0..2 {
            let mut line = Line::default();
            assert!(lines.next(&mut line).unwrap());
            taken.push(line);
        }
        taken.into_iter().rev().for_each(|line| lines.give_back(line));
        let mut line = Line::default();
        let mut found = String::new();
        while lines.next(&mut line).unwrap() {
            found += &format!("{}{} ", line.number, String::from_utf8_lossy(&line.bytes));
        }
        assert_eq!((found.as_str(), lines.count()), ("1a 2b 3c ", 3));
    }
}
