//! Many short texts in one buffer: a flush has thousands of fields and counts, and none of them needs memory of its own.

use std::fmt::Write;
use std::ops::Range;

use ::redis::{RedisWrite, ToRedisArgs};

/// Texts in order.
#[derive(Debug, Default)]
pub(super) struct Texts {
    all: String,
    /// Where each ends.
    ends: Vec<usize>,
}

/// Some of them, as arguments of a command.
#[derive(Debug)]
pub(super) struct Few<'a> {
    texts: &'a Texts,
    range: Range<usize>,
}

impl Texts {
    /// Adds what `write` writes.
    pub(super) fn push(&mut self, write: impl FnOnce(&mut String)) {
        write(&mut self.all);
        self.ends.push(self.all.len());
    }

    pub(super) fn push_number(&mut self, number: u64) {
        self.push(|text| match u8::try_from(number) {
            // Most counts of a minute.
            Ok(digit @ 0..10) => text.push(char::from(b'0' + digit)),
            _ => _ = write!(text, "{number}"),
        });
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    fn get(&self, place: usize) -> &str {
        let start = if place == 0 { 0 } else { self.ends[place - 1] };
        &self.all[start..self.ends[place]]
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        (0..self.len()).map(|place| self.get(place))
    }

    /// All of them in one, with blanks between.
    pub(super) fn joined(&self) -> String {
        let mut text = String::with_capacity(self.all.len() + self.len());
        for (place, piece) in self.iter().enumerate() {
            if place > 0 {
                text.push(' ');
            }
            text.push_str(piece);
        }
        text
    }

    /// All of them, in lists of up to `size`.
    pub(super) fn chunks(&self, size: usize) -> impl Iterator<Item = Few<'_>> {
        (0..self.len()).step_by(size).map(move |start| Few { texts: self, range: start..self.len().min(start + size) })
    }
}

impl ToRedisArgs for Few<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        self.range.clone().for_each(|place| out.write_arg(self.texts.get(place).as_bytes()));
    }

    fn num_of_args(&self) -> usize {
        self.range.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_come_back_in_lists() {
        let mut texts = Texts::default();
        for number in [0, 9, 10, u64::MAX] {
            texts.push(|text| text.push('a'));
            texts.push_number(number);
        }
        texts.push(|_| {});
        let all = ["a", "0", "a", "9", "a", "10", "a", "18446744073709551615", ""];
        assert_eq!((texts.len(), texts.iter().collect::<Vec<_>>()), (9, all.to_vec()));
        assert_eq!(texts.joined(), all.join(" "));
        for size in 1..=10 {
            let lists: Vec<_> = texts.chunks(size).map(|few| few.to_redis_args()).collect();
            assert_eq!(
                lists,
                all.chunks(size)
                    .map(|few| few.iter().map(|text| text.as_bytes().to_vec()).collect::<Vec<_>>())
                    .collect::<Vec<_>>()
            );
            assert!(texts.chunks(size).zip(&lists).all(|(few, list)| few.num_of_args() == list.len()));
        }
        assert_eq!(Texts::default().chunks(2).count(), 0);
    }
}
