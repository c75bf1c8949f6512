//! A flush as keys and values of Redis, and as the keys and arguments of the flush script.

use std::collections::BTreeMap;

use clicks::keyspace::{PartitionKeys, late_field, meta_fields, write_hour_field};
use clicks::live::{Expected, Flush, Stage};
use clicks::position::{Offset, PartitionId};
use clicks::time::Day;
use clicks::window::Hour;

use super::texts::Texts;

/// The script; its head says what the keys and arguments are.
pub const FLUSH_SCRIPT: &str = include_str!("flush.lua");

/// What the script calls a current generation that is none.
pub(super) const NO_GENERATION: &str = "?";

/// `KEYS` and `ARGV` of [`FLUSH_SCRIPT`] for one flush.
pub fn flush_arguments(partition: &PartitionId, flush: &Flush) -> (Vec<String>, Vec<String>) {
    Command::new(partition, flush).into_script()
}

/// A flush in the words of Redis.
#[derive(Debug)]
pub(super) struct Command {
    /// Every key that it depends on or writes, all in one slot of a cluster: [`HEAD`] keys, then the hours and nights that
    /// are written, then those that are dropped.
    pub(super) keys: Vec<String>,
    /// Empty: there may be none; [`NO_GENERATION`]: one that is none.
    pub(super) expected: String,
    /// Next offset and lost records, with a colon between. Empty: whatever is left of the expected generation is replaced by
    /// another one.
    pub(super) expected_position: String,
    pub(super) generation: String,
    pub(super) stage: Stage,
    pub(super) meta: Vec<(&'static str, String)>,
    /// Next offset and lost records afterwards, as above.
    pub(super) reached: String,
    /// Field, count, field, count, ... of each hour and night that is written.
    pub(super) hashes: Vec<Texts>,
    /// How many of the hashes are hours.
    hours: usize,
}

/// Places of the first keys.
pub(super) const LIVE: usize = 0;
pub(super) const BUILDING: usize = 1;
pub(super) const EXPECTED_META: usize = 2;
pub(super) const META: usize = 3;
pub(super) const RETIRED: usize = 4;
pub(super) const CHANGES: usize = 5;
/// How many they are.
pub(super) const HEAD: usize = 6;

/// Next offset and lost records, as they are compared and remembered.
fn position(next_offset: Offset, lost: u64) -> String {
    format!("{next_offset}:{lost}")
}

impl Command {
    pub(super) fn new(partition: &PartitionId, flush: &Flush) -> Self {
        let names = PartitionKeys::new(partition);
        let generation = flush.generation;
        let (expected_meta, expected, expected_position) = match flush.expected {
            Expected::Nothing => (generation, String::new(), String::new()),
            Expected::At { generation, next_offset, lost } => {
                (generation, generation.to_string(), position(next_offset, lost))
            }
            Expected::Damaged { generation: Some(damaged) } => (damaged, damaged.to_string(), String::new()),
            Expected::Damaged { generation: None } => (generation, NO_GENERATION.to_owned(), String::new()),
        };
        let mut hours: BTreeMap<Hour, Texts> = BTreeMap::new();
        for (key, count) in &flush.counts {
            let counts = hours.entry(key.minute.hour()).or_default();
            counts.push(|text| write_hour_field(text, key));
            counts.push_number(*count);
        }
        let mut nights: BTreeMap<Day, Texts> = BTreeMap::new();
        for (key, count) in &flush.late {
            let counts = nights.entry(key.night).or_default();
            counts.push(|text| text.push_str(&late_field(key)));
            counts.push_number(*count);
        }

        // In the order of their places above.
        let (expected_meta, meta) = (names.meta(expected_meta), names.meta(generation));
        let changes = names.changes(generation);
        let mut keys = vec![names.live(), names.building(), expected_meta, meta, names.retired(), changes];
        keys.extend(hours.keys().map(|hour| names.hour(generation, *hour)));
        keys.extend(nights.keys().map(|night| names.night(generation, *night)));
        keys.extend(flush.drop_hours.iter().map(|hour| names.hour(generation, *hour)));
        keys.extend(flush.drop_nights.iter().map(|night| names.night(generation, *night)));
        Command {
            keys,
            expected,
            expected_position,
            generation: generation.to_string(),
            stage: flush.stage,
            meta: meta_fields(&flush.meta),
            reached: position(flush.meta.next_offset, flush.meta.lost.records),
            hours: hours.len(),
            hashes: hours.into_values().chain(nights.into_values()).collect(),
        }
    }

    pub(super) fn dropped(&self) -> &[String] {
        &self.keys[HEAD + self.hashes.len()..]
    }

    /// Keys and arguments, as the head of the script describes them.
    pub(super) fn into_script(self) -> (Vec<String>, Vec<String>) {
        let stage = match self.stage {
            Stage::Live => "live",
            Stage::Beside => "beside",
        };
        let sizes = [self.meta.len(), self.hours, self.hashes.len() - self.hours, self.dropped().len()];
        let mut arguments = vec![self.expected, self.expected_position, self.generation, stage.to_owned()];
        arguments.extend(sizes.map(|size| size.to_string()));
        arguments.extend(self.meta.into_iter().flat_map(|(field, value)| [field.to_owned(), value]));
        for counts in self.hashes {
            arguments.push((counts.len() / 2).to_string());
            arguments.extend(counts.iter().map(str::to_owned));
        }
        (self.keys, arguments)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clicks::event::Class;
    use clicks::id::{AdId, Region, TopicId};
    use clicks::live::{CountKey, Generation, LateKey, Meta, Totals};
    use clicks::time::Timestamp;
    use clicks::window::Minute;

    #[test]
    fn keys_and_arguments_of_a_flush_are_pinned() {
        let day = |text: &str| text.parse::<Day>().unwrap();
        let key = |time: &str, ad: &str| CountKey {
            minute: Minute::of(Timestamp::parse_rfc3339(time).unwrap()),
            class: Class::Valid,
            ad: AdId::parse(ad).unwrap(),
        };
        let mut meta = Meta::new(Offset::new(100), day("2026-03-01"), day("2026-02-28"), Offset::new(120));
        meta.next_offset = Offset::new(110);
        meta.append_time = Timestamp::parse_rfc3339("2026-03-01T13:01:00Z").unwrap();
        meta.fingerprint = "00ff".to_owned();
        meta.totals = Totals {
            seen: 10,
            control: 1,
            rejected: 1,
            duplicate: 1,
            late: 2,
            counted: 5,
            expired: 0,
            late_expired: 0,
        };
        let flush = Flush {
            expected: Expected::At { generation: Generation::from_u128(0xa), next_offset: Offset::new(105), lost: 3 },
            generation: Generation::from_u128(0xb),
            stage: Stage::Live,
            meta,
            counts: vec![
                (key("2026-03-01T12:59:00Z", "a"), 2),
                (key("2026-03-01T13:00:00Z", "a"), 1),
                (key("2026-03-01T13:00:00Z", "b-1"), 2),
            ],
            late: vec![(LateKey { night: day("2026-03-01"), count: key("2026-02-20T00:00:00Z", "a") }, 2)],
            drop_hours: vec![Hour::from_number(1)],
            drop_nights: vec![day("2026-02-27")],
        };
        let partition = PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(7), number: 3 };
        let (keys, arguments) = flush_arguments(&partition, &flush);

        let tag = "tf1:{eu.00000000-0000-0000-0000-000000000007.p3}";
        let (a, b) = ("0000000000000000000000000000000a", "0000000000000000000000000000000b");
        let want = [
            format!("{tag}:live"),
            format!("{tag}:building"),
            format!("{tag}:{a}:meta"),
            format!("{tag}:{b}:meta"),
            format!("{tag}:retired"),
            format!("{tag}:{b}:changes"),
            format!("{tag}:{b}:h:492324"),
            format!("{tag}:{b}:h:492325"),
            format!("{tag}:{b}:l:2026-03-01"),
            format!("{tag}:{b}:h:1"),
            format!("{tag}:{b}:l:2026-02-27"),
        ];
        assert_eq!(keys, want);
        let none = i64::MIN;
        let want = format!(
            "{a} 105:3 {b} live 24 2 1 2 version 1 next_offset 110 append_time 1772370060000 fingerprint 00ff base_offset 100 \
             base_day 2026-03-01 base_night 2026-02-28 seen 10 control 1 rejected 1 duplicate 1 late 2 counted 5 expired 0 \
             late_expired 0 dedup_evicted 0 drift_start {none} drift_end {none} lost 0 lost_start {none} lost_end {none} rollbacks 0 rebuilds 0 rebuilding_until 120 1 59:v:a 2 2 00:v:a 1 00:v:b-1 2 1 29525760:v:a 2"
        );
        assert_eq!(arguments.join(" "), want);
    }

    #[test]
    fn a_damaged_generation_is_named_without_an_offset() {
        let day = Day::from_number(20_000);
        let (a, b) = (Generation::from_u128(0xa), Generation::from_u128(0xb));
        let partition = PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(7), number: 3 };
        for (damaged, key, argument) in [(Some(a), a, a.to_string()), (None, b, "?".to_owned())] {
            let flush = Flush {
                expected: Expected::Damaged { generation: damaged },
                generation: b,
                stage: Stage::Beside,
                meta: Meta::new(Offset::ZERO, day, day, Offset::ZERO),
                counts: Vec::new(),
                late: Vec::new(),
                drop_hours: Vec::new(),
                drop_nights: Vec::new(),
            };
            let (keys, arguments) = flush_arguments(&partition, &flush);
            assert!(keys[2].ends_with(&format!(":{key}:meta")) && keys.len() == 6, "{keys:?}");
            assert_eq!(arguments[..4], [argument, String::new(), b.to_string(), "beside".to_owned()]);
        }
    }

    #[test]
    fn a_first_flush_expects_nothing_and_names_its_own_meta_twice() {
        let day = Day::from_number(20_000);
        let flush = Flush {
            expected: Expected::Nothing,
            generation: Generation::from_u128(0xb),
            stage: Stage::Live,
            meta: Meta::new(Offset::ZERO, day, day, Offset::ZERO),
            counts: Vec::new(),
            late: Vec::new(),
            drop_hours: Vec::new(),
            drop_nights: Vec::new(),
        };
        let partition = PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(7), number: 3 };
        let (keys, arguments) = flush_arguments(&partition, &flush);
        assert_eq!((keys.len(), &keys[2]), (6, &keys[3]));
        assert_eq!(arguments[..2], ["", ""]);
    }
}
