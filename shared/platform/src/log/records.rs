//! The records of one poll in memory that is used again: one buffer holds all keys and values, one after the other.
//!
//! ```text
//! bytes    key value key value value …
//! entries  offset, time, start, lengths   (one of each record, in order)
//! ```
//!
//! A record of its own costs an allocation for its key and one for its value, and as many to free: a third of what a
//! counter spends on a click. Whoever keeps records asks for [`LogRecord`]s.

use clicks::counter::Observed;
use clicks::position::Offset;
use clicks::time::Timestamp;

use super::LogRecord;

/// What is kept for the next poll; a batch of unusually large records does not hold its memory for ever.
const KEPT_BYTES_MAX: usize = 4 << 20;

/// Stands for a key or value that is not there. Real ones are at most [`super::RECORD_LENGTH_MAX`] bytes long.
const NONE: u32 = u32::MAX;

/// Records in the order of their offsets, without their headers.
#[derive(Debug, Default)]
pub struct Records {
    bytes: Vec<u8>,
    entries: Vec<Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    offset: Offset,
    broker_time: Timestamp,
    start: usize,
    key: u32,
    value: u32,
    is_control: bool,
}

impl Records {
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT_BYTES_MAX);
        self.entries.clear();
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Copies the record to the end.
    #[inline]
    pub fn push(&mut self, record: Observed<'_>) {
        let start = self.bytes.len();
        let (key, value) = (self.append(record.key), self.append(record.value));
        let Observed { offset, broker_time, control: is_control, .. } = record;
        self.entries.push(Entry { offset, broker_time, start, key, value, is_control });
    }

    #[inline]
    fn append(&mut self, part: Option<&[u8]>) -> u32 {
        let Some(part) = part else { return NONE };
        self.bytes.extend_from_slice(part);
        u32::try_from(part.len()).ok().filter(|length| *length != NONE).expect("no log takes a record of 4 GB")
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = Observed<'_>> + DoubleEndedIterator {
        self.entries.iter().map(|entry| {
            let value = entry.start + if entry.key == NONE { 0 } else { entry.key as usize };
            let part =
                |start: usize, length: u32| (length != NONE).then(|| &self.bytes[start..start + length as usize]);
            Observed {
                offset: entry.offset,
                broker_time: entry.broker_time,
                key: part(entry.start, entry.key),
                value: part(value, entry.value),
                control: entry.is_control,
            }
        })
    }
}

impl LogRecord {
    /// As a counter needs it.
    pub fn observed(&self) -> Observed<'_> {
        Observed {
            offset: self.offset,
            broker_time: self.broker_time,
            key: self.key.as_deref(),
            value: self.value.as_deref(),
            control: self.is_control(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(offset: u64, key: Option<&'static [u8]>, value: Option<&'static [u8]>) -> Observed<'static> {
        let broker_time = Timestamp::from_millis(offset as i64 * 7);
        Observed { offset: Offset::new(offset), broker_time, key, value, control: offset % 2 == 1 }
    }

    fn shown(records: &Records) -> Vec<String> {
        records.iter().map(|record| format!("{record:?}")).collect()
    }

    #[test]
    fn records_come_back_as_they_were() {
        let all = [
            record(3, Some(b"key"), Some(b"value")),
            record(4, None, Some(b"value alone")),
            record(5, Some(b"key alone"), None),
            record(6, None, None),
            record(7, Some(b""), Some(b"")),
            record(8, None, Some(&[0xff, 0])),
        ];
        let mut records = Records::default();
        for _ in 0..2 {
            records.clear();
            assert!(records.is_empty());
            all.iter().for_each(|record| records.push(*record));
            assert_eq!((records.len(), records.iter().len()), (6, 6));
            assert_eq!(shown(&records), all.map(|record| format!("{record:?}")));
        }
    }

    #[test]
    fn the_memory_of_large_records_is_given_back() {
        let large = vec![7; 3 * KEPT_BYTES_MAX];
        let mut records = Records::default();
        records.push(Observed { value: Some(&large), ..record(0, None, None) });
        assert!(records.bytes.capacity() >= large.len());
        records.clear();
        assert!(records.bytes.capacity() <= KEPT_BYTES_MAX);
        records.push(record(1, None, Some(b"small")));
        assert_eq!(records.iter().next().and_then(|record| record.value), Some(&b"small"[..]));
    }
}
