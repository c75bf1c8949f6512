//! Records that are not stored yet, and when they become an object.
//!
//! Where objects end is decided by the records as far as possible, so that two archivers, or one before and after a
//! crash, mostly cut alike. It need not be so for correctness: an object's key does not depend on its end.
//!
//! | cut | rule |
//! |---|---|
//! | hour | a record of another append hour is never in the same object |
//! | bytes, records | the object is full |
//! | edge | the first record of the partition at or past a day's cut time is the last one of its object |
//! | age | only by the clock: the object has been open for too long |
//! | memory | all partitions together hold as much as they may |
//! | gap | what follows is lost |
//!
//! The edge: night N may run once coverage has reached end of day N + L, and coverage moves only with what is stored. An
//! object that is open since 00:00 would be stored at 00:15 by its age, so every night would wait for five minutes for
//! nothing, and under a simulated clock for ever. Ending it *with* the first record past the edge stores just what is
//! needed, and that record is in the object because it is the proof that everything before the edge is.

use clicks::rules::RulesBook;
use clicks::time::{Span, Timestamp};
use platform::log::LogRecord;

/// Limits of one object.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    pub bytes_max: u64,
    pub records_max: u64,
    pub age_max: Span,
}

/// Why an object ends where it does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Cut {
    Hour,
    Bytes,
    Records,
    Edge,
    Age,
    Memory,
    Gap,
    /// The part of an object behind the end of a gap, see [`crate::chain`].
    Bridge,
    /// Somebody asked for it, or the archiver stops.
    Asked,
}

impl Cut {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Cut::Hour => "hour",
            Cut::Bytes => "bytes",
            Cut::Records => "records",
            Cut::Edge => "edge",
            Cut::Age => "age",
            Cut::Memory => "memory",
            Cut::Gap => "gap",
            Cut::Bridge => "bridge",
            Cut::Asked => "asked",
        }
    }
}

/// The records of the object that comes next.
#[derive(Debug)]
pub(crate) struct Buffer {
    limits: Limits,
    records: Vec<(LogRecord, Timestamp)>,
    bytes: u64,
    /// Clock time at which the first record came.
    since: Timestamp,
    /// The next cut time of a day that no record of the partition has reached.
    edge: Timestamp,
}

/// What a record costs in memory besides its bytes.
const RECORD_BYTES: u64 = 96;
const HOUR: Span = Span::hours(1);

impl Buffer {
    /// An empty one; `edge` is the next that is not passed yet.
    pub(crate) fn new(limits: Limits, edge: Timestamp) -> Self {
        Buffer { limits, records: Vec::new(), bytes: 0, since: Timestamp::MIN, edge }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Bytes of its records in memory.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Whether a record appended at this time must not be in the same object.
    pub(crate) fn ends_before(&self, append_time: Timestamp) -> Option<Cut> {
        let (_, first) = self.records.first()?;
        (first.floor(HOUR) != append_time.floor(HOUR)).then_some(Cut::Hour)
    }

    /// Takes the next record; tells whether the object ends with it. `now` is the clock's.
    pub(crate) fn push(
        &mut self,
        record: LogRecord,
        append_time: Timestamp,
        rules: &RulesBook,
        now: Timestamp,
    ) -> Option<Cut> {
        debug_assert!(self.ends_before(append_time).is_none(), "the caller stores what is here first");
        if self.records.is_empty() {
            self.since = now;
        }
        self.bytes += size(&record);
        self.records.push((record, append_time));
        if append_time >= self.edge {
            self.edge = edge_after(rules, append_time);
            return Some(Cut::Edge);
        }
        match () {
            () if self.bytes >= self.limits.bytes_max => Some(Cut::Bytes),
            () if self.records.len() as u64 >= self.limits.records_max => Some(Cut::Records),
            () => None,
        }
    }

    /// The clock time at which the object ends by its age.
    pub(crate) fn due(&self) -> Option<Timestamp> {
        (!self.is_empty()).then(|| self.since + self.limits.age_max)
    }

    pub(crate) fn take(&mut self) -> Vec<(LogRecord, Timestamp)> {
        self.bytes = 0;
        std::mem::take(&mut self.records)
    }
}

/// The cut time of the night that a record of this append time belongs to: the first edge that it does not pass.
pub(crate) fn edge_after(rules: &RulesBook, append_time: Timestamp) -> Timestamp {
    rules.cut_time(rules.night_of(append_time))
}

/// Bytes of a record in memory.
pub(crate) fn size(record: &LogRecord) -> u64 {
    let length = |part: &Option<bytes::Bytes>| part.as_ref().map_or(0, |part| part.len() as u64);
    let headers = record.headers.iter().map(|header| 64 + header.name.len() as u64 + length(&header.value));
    RECORD_BYTES + length(&record.key) + length(&record.value) + headers.sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use clicks::position::Offset;
    use clicks::rules::Rules;
    use platform::log::Header;

    const LIMITS: Limits = Limits { bytes_max: 10_000, records_max: 5, age_max: Span::minutes(15) };

    fn at(text: &str) -> Timestamp {
        Timestamp::parse_rfc3339(&format!("2026-03-{text}Z")).unwrap()
    }

    fn record(bytes: usize) -> LogRecord {
        LogRecord {
            offset: Offset::ZERO,
            broker_time: Timestamp::EPOCH,
            key: None,
            value: Some(Bytes::from(vec![0; bytes])),
            headers: Vec::new(),
        }
    }

    /// Pushes records of these append times and sizes; gives where which cut was made, `-` for none.
    fn cuts(records: &[(&str, usize)]) -> Vec<&'static str> {
        let rules = RulesBook::new(Rules::default()).unwrap();
        let mut buffer = Buffer::new(LIMITS, edge_after(&rules, at("01T00:10:00")));
        let mut cuts = Vec::new();
        for (time, bytes) in records {
            let before = buffer.ends_before(at(time));
            if before.is_some() {
                buffer.take();
            }
            let after = buffer.push(record(*bytes), at(time), &rules, Timestamp::EPOCH);
            if after.is_some() {
                buffer.take();
            }
            cuts.push(match (before, after) {
                (None, None) => "-",
                (Some(Cut::Hour), Some(Cut::Edge)) => "hour+edge",
                (Some(cut), None) | (None, Some(cut)) => cut.name(),
                other => panic!("{other:?}"),
            });
        }
        cuts
    }

    #[test]
    fn records_decide_where_objects_end() {
        let small = |times: &[&'static str]| times.iter().map(|time| (*time, 10)).collect::<Vec<_>>();
        let cases = [
            (small(&["01T12:00:00", "01T12:59:59.999", "01T13:00:00"]), vec!["-", "-", "hour"]),
            (small(&["01T12:00:00"; 6]), vec!["-", "-", "-", "-", "records", "-"]),
            (
                vec![("01T12:00:00", 4_000), ("01T12:00:00", 9_000), ("01T12:00:00", 20_000)],
                vec!["-", "bytes", "bytes"],
            ),
            // The first record at or past the edge ends its object; the next object is not cut by that edge again.
            (small(&["02T00:09:59.999", "02T00:10:00", "02T00:10:00", "02T00:30:00"]), vec!["-", "edge", "-", "-"]),
            // Also when it is the first of its object, and when several edges are passed at once.
            (small(&["02T00:10:00", "02T00:10:00"]), vec!["edge", "-"]),
            (small(&["05T12:00:00", "05T12:30:00", "06T00:10:00"]), vec!["edge", "-", "hour+edge"]),
            (small(&["01T12:00:00", "02T12:00:00", "02T12:30:00"]), vec!["-", "hour+edge", "-"]),
        ];
        for (records, expected) in cases {
            assert_eq!(cuts(&records), expected, "{records:?}");
        }
    }

    #[test]
    fn age_is_counted_from_the_first_record_by_the_clock() {
        let rules = RulesBook::new(Rules::default()).unwrap();
        let mut buffer = Buffer::new(LIMITS, Timestamp::MAX);
        assert_eq!(buffer.due(), None);
        for minute in [0, 7] {
            let now = at("05T08:00:00") + Span::minutes(minute);
            assert_eq!(buffer.push(record(1), at("01T12:00:00"), &rules, now), None);
            assert_eq!(buffer.due(), Some(at("05T08:15:00")));
        }
        assert_eq!(buffer.take().len(), 2);
        assert_eq!(buffer.due(), None);
    }

    /// A click as the collector writes it: 500 bytes in memory.
    fn click_record() -> LogRecord {
        let header = |name: &str, bytes: usize| Header { name: name.to_owned(), value: Some(vec![b'x'; bytes].into()) };
        LogRecord {
            key: Some(Bytes::from_static(b"summer-sales")),
            headers: vec![header("tf-received", 13), header("user-agent", 80)],
            ..record(150)
        }
    }

    fn default_limits() -> Limits {
        crate::Options::default().limits()
    }

    /// Objects of one of 16 partitions in a day with one click a second in all of them, and heartbeats.
    fn objects_of_a_slow_day() -> u64 {
        let (rules, midnight) = (RulesBook::new(Rules::default()).unwrap(), at("02T00:00:00"));
        let mut buffer = Buffer::new(default_limits(), midnight + Span::minutes(10));
        let mut objects = 0;
        let mut end = |buffer: &mut Buffer| objects += u64::from(!buffer.take().is_empty());
        for second in 0..86_400 {
            let now = midnight + Span::seconds(second);
            if buffer.due().is_some_and(|due| now >= due) {
                end(&mut buffer);
            }
            for _ in 0..i32::from(second % 5 == 0) + i32::from(second % 16 == 3) {
                if buffer.ends_before(now).is_some() {
                    end(&mut buffer);
                }
                if buffer.push(click_record(), now, &rules, now).is_some() {
                    end(&mut buffer);
                }
            }
        }
        end(&mut buffer);
        objects
    }

    /// The same with 100,000 clicks a second: objects are full long before they are old.
    fn objects_of_a_fast_day() -> u64 {
        let (rules, noon) = (RulesBook::new(Rules::default()).unwrap(), at("02T12:00:00"));
        let mut buffer = Buffer::new(default_limits(), Timestamp::MAX);
        let full = (1..).find(|_| buffer.push(click_record(), noon, &rules, noon).is_some()).unwrap();
        let seconds = |seconds: u64| (seconds * 100_000 / 16).div_ceil(full);
        // The edge cuts the first hour in two.
        seconds(600) + seconds(3_000) + 23 * seconds(3_600)
    }

    #[test]
    fn the_readme_says_how_many_objects_there_are() {
        let readme = include_str!("../../../README.md");
        let said = format!(
            "{} objects per partition and day at 1 click a second, {} at 100,000",
            objects_of_a_slow_day(),
            objects_of_a_fast_day()
        );
        assert!(readme.contains(&said), "{said}");
    }
}
