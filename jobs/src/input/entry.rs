//! A checked click as bytes: what the sorter holds in memory and on disk.
//!
//! ```text
//! 0        8        16       24       40   41   42
//! arrival  line     event    click id  |    |   ad ‖ user
//!                                   len ad len user            numbers big-endian
//! ```

use clicks::event::Click;
use clicks::id::{AdId, ClickId, NAME_LENGTH_MAX, UserId};
use clicks::time::Timestamp;

use super::InputClick;

const HEAD: usize = 42;

/// No entry has more bytes.
pub(super) const ENTRY_BYTES_MAX: usize = HEAD + 2 * NAME_LENGTH_MAX;

/// A checked click whose names still lie in the line they were read from; at most 64 bytes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    pub(super) arrival: Timestamp,
    pub(super) line: u64,
    pub(super) event_time: Timestamp,
    pub(super) click_id: ClickId,
    pub(super) ad: &'a str,
    pub(super) user: &'a str,
}

/// What clicks are sorted by. Line numbers are distinct, so there is exactly one order.
pub(super) type SortKey = (Timestamp, u64);

impl<'a> Entry<'a> {
    pub(super) fn len(&self) -> usize {
        HEAD + self.ad.len() + self.user.len()
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut head = [0; HEAD];
        head[..8].copy_from_slice(&self.arrival.as_millis().to_be_bytes());
        head[8..16].copy_from_slice(&self.line.to_be_bytes());
        head[16..24].copy_from_slice(&self.event_time.as_millis().to_be_bytes());
        head[24..40].copy_from_slice(&self.click_id.to_bytes());
        head[40] = self.ad.len() as u8;
        head[41] = self.user.len() as u8;
        out.extend_from_slice(&head);
        out.extend_from_slice(self.ad.as_bytes());
        out.extend_from_slice(self.user.as_bytes());
    }

    /// Reads the entry that `bytes` begin with; `None` when they do not hold a whole one.
    pub(super) fn read(bytes: &'a [u8]) -> Option<Self> {
        let head = bytes.first_chunk::<HEAD>()?;
        let (ad_len, user_len) = (usize::from(head[40]), usize::from(head[41]));
        let (ad, rest) = bytes[HEAD..].split_at_checked(ad_len)?;
        let mut click_id = [0; 16];
        click_id.copy_from_slice(&head[24..40]);
        Some(Entry {
            arrival: Timestamp::from_millis(number(head, 0)),
            line: number(head, 8) as u64,
            event_time: Timestamp::from_millis(number(head, 16)),
            click_id: ClickId::from_bytes(click_id),
            ad: std::str::from_utf8(ad).ok()?,
            user: std::str::from_utf8(rest.get(..user_len)?).ok()?,
        })
    }

    pub(super) fn key(&self) -> SortKey {
        (self.arrival, self.line)
    }

    /// `None` when the names are none, so the bytes are not those that were written.
    pub(super) fn to_click(self) -> Option<InputClick> {
        Some(InputClick {
            line: self.line,
            arrival: self.arrival,
            click: Click {
                click_id: self.click_id,
                ad_id: AdId::parse(self.ad).ok()?,
                user_id: UserId::parse(self.user).ok()?,
                event_time: self.event_time,
            },
        })
    }
}

fn number(head: &[u8; HEAD], at: usize) -> i64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&head[at..at + 8]);
    i64::from_be_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_round_trip_and_a_cut_one_is_none() {
        let long = "x".repeat(NAME_LENGTH_MAX);
        for (ad, user) in [("a", "u"), (long.as_str(), long.as_str())] {
            let entry = Entry {
                arrival: Timestamp::from_millis(-5),
                line: u64::MAX,
                event_time: Timestamp::from_millis(i64::MIN),
                click_id: ClickId::from_u128(u128::MAX - 1),
                ad,
                user,
            };
            let mut bytes = Vec::new();
            entry.write(&mut bytes);
            assert_eq!(bytes.len(), entry.len());
            assert!(bytes.len() <= ENTRY_BYTES_MAX);
            for cut in 0..bytes.len() {
                assert_eq!(Entry::read(&bytes[..cut]), None);
            }
            bytes.push(7);
            assert_eq!(Entry::read(&bytes), Some(entry));
        }
    }
}
