//! The keys and arguments of the flush script.

use std::collections::BTreeMap;

use clicks::keyspace::{PartitionKeys, hour_field, late_field, meta_fields};
use clicks::live::{Expected, Flush, Stage};
use clicks::position::PartitionId;
use clicks::time::Day;
use clicks::window::Hour;

/// The script; its head says what the keys and arguments are.
pub const FLUSH_SCRIPT: &str = include_str!("flush.lua");

/// What the script calls a current generation that is none.
const NO_GENERATION: &str = "?";

/// `KEYS` and `ARGV` of [`FLUSH_SCRIPT`] for one flush. Every key that the script touches is among them, and all lie in
/// one slot of a cluster.
pub fn flush_arguments(partition: &PartitionId, flush: &Flush) -> (Vec<String>, Vec<String>) {
    let names = PartitionKeys::new(partition);
    let generation = flush.generation;
    let (expected, expected_generation, expected_offset) = match flush.expected {
        Expected::Nothing => (generation, String::new(), String::new()),
        Expected::At { generation, next_offset } => (generation, generation.to_string(), next_offset.to_string()),
        Expected::Damaged { generation: Some(damaged) } => (damaged, damaged.to_string(), String::new()),
        Expected::Damaged { generation: None } => (generation, NO_GENERATION.to_owned(), String::new()),
    };
    let mut hours: BTreeMap<Hour, Vec<String>> = BTreeMap::new();
    for (key, count) in &flush.counts {
        hours.entry(key.minute.hour()).or_default().extend([hour_field(key), count.to_string()]);
    }
    let mut nights: BTreeMap<Day, Vec<String>> = BTreeMap::new();
    for (key, count) in &flush.late {
        nights.entry(key.night).or_default().extend([late_field(key), count.to_string()]);
    }

    let mut keys = vec![names.live(), names.building(), names.meta(expected), names.meta(generation), names.retired()];
    keys.extend(hours.keys().map(|hour| names.hour(generation, *hour)));
    keys.extend(nights.keys().map(|night| names.night(generation, *night)));
    keys.extend(flush.drop_hours.iter().map(|hour| names.hour(generation, *hour)));
    keys.extend(flush.drop_nights.iter().map(|night| names.night(generation, *night)));

    let meta = meta_fields(&flush.meta);
    let dropped = flush.drop_hours.len() + flush.drop_nights.len();
    let stage = match flush.stage {
        Stage::Live => "live",
        Stage::Beside => "beside",
    };
    let mut arguments = vec![expected_generation, expected_offset, generation.to_string(), stage.to_owned()];
    arguments.extend([meta.len(), hours.len(), nights.len(), dropped].map(|size| size.to_string()));
    arguments.extend(meta.into_iter().flat_map(|(field, value)| [field.to_owned(), value]));
    for counts in hours.into_values().chain(nights.into_values()) {
        arguments.push((counts.len() / 2).to_string());
        arguments.extend(counts);
    }
    (keys, arguments)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clicks::event::Class;
    use clicks::id::{AdId, Region, TopicId};
    use clicks::live::{CountKey, Generation, LateKey, Meta, Totals};
    use clicks::position::Offset;
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
            expected: Expected::At { generation: Generation::from_u128(0xa), next_offset: Offset::new(105) },
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
            format!("{tag}:{b}:h:492324"),
            format!("{tag}:{b}:h:492325"),
            format!("{tag}:{b}:l:2026-03-01"),
            format!("{tag}:{b}:h:1"),
            format!("{tag}:{b}:l:2026-02-27"),
        ];
        assert_eq!(keys, want);
        let none = i64::MIN;
        let want = format!(
            "{a} 105 {b} live 24 2 1 2 version 1 next_offset 110 append_time 1772370060000 fingerprint 00ff base_offset 100 \
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
            assert!(keys[2].ends_with(&format!(":{key}:meta")) && keys.len() == 5, "{keys:?}");
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
        assert_eq!((keys.len(), &keys[2]), (5, &keys[3]));
        assert_eq!(arguments[..2], ["", ""]);
    }
}
