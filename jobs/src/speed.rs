//! `twofold speed status`: how far each partition is, from what is stored of it and from the log. It asks no process, so it
//! works for any number of them, also when none is left.

use std::fmt::Write;

use anyhow::{Context, Result};
use clicks::live::Meta;
use clicks::rules::RulesBook;
use clicks::time::{Interval, Timestamp};
use clicks::watermark::watermark;
use platform::log::{Bounds, Log, Topic};
use platform::settings::Settings;
use platform::store::{LiveQuery, LiveSlice, SpeedStore};
use serde::Serialize;

use crate::connect;
use crate::demo::proof::grouped;
use crate::exit::{Exit, print};

pub async fn status(settings: &Settings, as_json: bool) -> Result<Exit> {
    let (store, ledger, clock) = (connect::store(settings)?, connect::ledger(settings)?, connect::clock(settings));
    let log = connect::log(settings).await?;
    let topic = log.topic().await?;
    let books = ledger.read().await.context("reading the rules")?;
    let mut partitions = Vec::new();
    for number in 0..topic.partitions {
        let slice = store.read(&topic.partition(number), &LiveQuery::of_meta()).await;
        // Asked after the position, so that it is never beyond the end.
        let bounds = log.bounds(number).await;
        let found = slice.map_err(anyhow::Error::from).and_then(|slice| Ok((slice, bounds?)));
        partitions.push(match found {
            Ok((slice, bounds)) => Partition::of(number, slice.as_ref(), bounds, books.rules(), clock.now()),
            Err(error) => Partition { trouble: vec![format!("{error:#}")], ..Partition::unknown(number) },
        });
    }
    let is_known = partitions.iter().all(|partition| partition.end_offset.is_some());
    let status = Status { topic: topic.name.clone(), topic_id: topic.id.to_string(), partitions };
    print(&if as_json { serde_json::to_string(&status)? } else { describe(&status, &topic) })?;
    Ok(if is_known { Exit::Done } else { Exit::Failure })
}

#[derive(Debug, Serialize)]
struct Status {
    topic: String,
    topic_id: String,
    partitions: Vec<Partition>,
}

#[derive(Debug, Default, Serialize)]
struct Partition {
    partition: u32,
    /// End of the log; unknown when the log or the store could not be asked.
    end_offset: Option<u64>,
    lag_records: Option<u64>,
    /// How old what was counted last is; with nothing left to count, that is how long nothing came.
    freshness_seconds: Option<f64>,
    /// Zero when nothing is left to count.
    lag_seconds: Option<f64>,
    watermark: Option<String>,
    live: Option<Live>,
    /// What stands against the numbers, in words.
    trouble: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Live {
    generation: String,
    next_offset: u64,
    base_day: String,
    seen: u64,
    counted: u64,
    duplicate: u64,
    late: u64,
    rejected: u64,
    control: u64,
    lost: u64,
    dedup_evicted: u64,
    rollbacks: u64,
    rebuilds: u64,
    rebuilding: bool,
    in_doubt: bool,
}

impl Partition {
    fn unknown(partition: u32) -> Self {
        Partition { partition, ..Partition::default() }
    }

    fn of(number: u32, slice: Option<&LiveSlice>, log: Bounds, rules: &RulesBook, now: Timestamp) -> Self {
        let Some(slice) = slice else {
            let trouble = "no generation is live: nobody has begun to count it, or its counts were lost and no `twofold \
                           speed` is there to rebuild them";
            let lag = log.end.distance_from(log.first);
            return Partition {
                end_offset: Some(log.end.value()),
                lag_records: Some(lag),
                trouble: vec![trouble.to_owned()],
                ..Partition::unknown(number)
            };
        };
        let meta = &slice.meta;
        let lag = log.end.value().saturating_sub(meta.next_offset.value());
        let reached = Some(meta.append_time).filter(|time| *time > Timestamp::MIN);
        let age = reached.map(|time| now.since(time).as_millis().max(0) as f64 / 1_000.0);
        Partition {
            end_offset: Some(log.end.value()),
            lag_records: Some(lag),
            freshness_seconds: age,
            lag_seconds: if lag == 0 { Some(0.0) } else { age },
            watermark: reached.map(|time| watermark(rules, time).to_string()),
            live: Some(Live::of(slice)),
            trouble: trouble(slice, log),
            ..Partition::unknown(number)
        }
    }
}

impl Live {
    fn of(slice: &LiveSlice) -> Self {
        let Meta { totals, lost, dedup_evicted, rollbacks, rebuilds, .. } = &slice.meta;
        Live {
            generation: slice.generation.to_string(),
            next_offset: slice.meta.next_offset.value(),
            base_day: slice.meta.base_day.to_string(),
            seen: totals.seen,
            counted: totals.counted,
            duplicate: totals.duplicate,
            late: totals.late,
            rejected: totals.rejected,
            control: totals.control,
            lost: lost.records,
            dedup_evicted: *dedup_evicted,
            rollbacks: *rollbacks,
            rebuilds: *rebuilds,
            rebuilding: slice.meta.is_rebuilding(),
            in_doubt: slice.is_in_doubt,
        }
    }
}

fn trouble(slice: &LiveSlice, log: Bounds) -> Vec<String> {
    let meta = &slice.meta;
    let mut trouble = Vec::new();
    let span = |appended: Interval| format!("from {} to {}", appended.start, appended.end);
    if slice.is_in_doubt {
        trouble.push("in doubt: damage was found, and another generation is counted to take its place".to_owned());
    }
    if meta.is_rebuilding() {
        trouble.push(format!("rebuilding: {} of {}", meta.next_offset, meta.rebuilding_until));
    }
    if meta.lost.records > 0 {
        let (records, when) = (grouped(meta.lost.records), span(meta.lost.appended));
        trouble.push(format!("{records} records, appended {when}, fell off the log before they were counted"));
    }
    if !meta.drift.is_empty() {
        trouble.push(format!("duplicates that were appended {} may be counted", span(meta.drift)));
    }
    if meta.next_offset < log.first {
        trouble.push(format!("the log begins at {} only: records are being lost", log.first));
    }
    if meta.next_offset > log.end {
        trouble.push(format!("the log ends at {}: it lost records that were counted", log.end));
    }
    trouble
}

/// One line for each partition, and below it what stands against its numbers.
fn describe(status: &Status, topic: &Topic) -> String {
    let mut text = format!("topic {} of region {}, id {}\n", status.topic, topic.region, status.topic_id);
    let heads = ["position", "lag", "behind", "fresh", "counted", "duplicate", "late", "rejected", "roll/reb"];
    let _ = write!(text, "{:>4}", "part");
    heads.iter().for_each(|head| _ = write!(text, " {head:>12}"));
    let _ = write!(text, "  {:<24}  generation", "watermark");
    for partition in &status.partitions {
        let seconds = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.1} s"));
        let number = |value: Option<u64>| value.map_or("-".to_owned(), grouped);
        let of_live = |read: fn(&Live) -> u64| number(partition.live.as_ref().map(read));
        let history = partition.live.as_ref().map(|live| format!("{}/{}", live.rollbacks, live.rebuilds));
        let cells = [
            of_live(|live| live.next_offset),
            number(partition.lag_records),
            seconds(partition.lag_seconds),
            seconds(partition.freshness_seconds),
            of_live(|live| live.counted),
            of_live(|live| live.duplicate),
            of_live(|live| live.late),
            of_live(|live| live.rejected),
            history.unwrap_or("-".to_owned()),
        ];
        let _ = write!(text, "\n{:>4}", partition.partition);
        cells.iter().for_each(|cell| _ = write!(text, " {cell:>12}"));
        let generation = partition.live.as_ref().map_or("-", |live| &live.generation[..8]);
        let _ = write!(text, "  {:<24}  {generation}", partition.watermark.as_deref().unwrap_or("-"));
        partition.trouble.iter().for_each(|trouble| _ = write!(text, "\n     ! {trouble}"));
    }
    text
}

#[cfg(test)]
mod tests {
    use clicks::id::{Region, TopicId};
    use clicks::live::{Generation, Lost};
    use clicks::position::Offset;
    use clicks::rules::Rules;
    use clicks::time::{Day, Span};

    use super::*;

    fn slice() -> LiveSlice {
        let day: Day = "2026-03-10".parse().unwrap();
        let mut meta = Meta::new(Offset::ZERO, day, day, Offset::ZERO);
        meta.next_offset = Offset::new(1_500);
        meta.append_time = day.start() + Span::hours(12);
        meta.totals.counted = 1_400;
        let generation = Generation::from_u128(0xab << 120);
        LiveSlice { generation, meta, is_in_doubt: false, counts: Vec::new(), late: Vec::new() }
    }

    fn partition(slice: Option<&LiveSlice>, first: u64, end: u64) -> Partition {
        let rules = RulesBook::new(Rules::default()).unwrap();
        let now = slice.map_or(Timestamp::EPOCH, |slice| slice.meta.append_time + Span::millis(2_500));
        Partition::of(3, slice, Bounds { first: Offset::new(first), end: Offset::new(end) }, &rules, now)
    }

    #[test]
    fn a_partition_tells_how_far_it_is() {
        let behind = partition(Some(&slice()), 0, 1_700);
        assert_eq!(
            (behind.lag_records, behind.lag_seconds, behind.freshness_seconds),
            (Some(200), Some(2.5), Some(2.5))
        );
        assert_eq!(behind.watermark.as_deref(), Some("2026-03-10T11:50:00.000Z"));
        assert!(behind.trouble.is_empty(), "{behind:?}");
        let done = partition(Some(&slice()), 0, 1_500);
        assert_eq!((done.lag_records, done.lag_seconds, done.freshness_seconds), (Some(0), Some(0.0), Some(2.5)));
        let none = partition(None, 10, 50);
        assert_eq!((none.lag_records, none.lag_seconds, none.trouble.len()), (Some(40), None, 1));

        let topic = Topic {
            region: Region::parse("eu").unwrap(),
            name: "clicks".to_owned(),
            id: TopicId::from_u128(7),
            partitions: 3,
        };
        let status =
            Status { topic: "clicks".to_owned(), topic_id: topic.id.to_string(), partitions: vec![behind, none] };
        let text = describe(&status, &topic);
        let lines: Vec<_> = text.lines().collect();
        let words: Vec<_> = lines[2].split_whitespace().collect();
        assert_eq!(words[..9], ["3", "1,500", "200", "2.5", "s", "2.5", "s", "1,400", "0"], "{text}");
        assert!(lines[2].ends_with("  ab000000") && lines[4].starts_with("     ! no generation"), "{text}");
    }

    #[test]
    fn whatever_stands_against_the_numbers_is_said() {
        type Spoil = fn(&mut LiveSlice);
        let hour = |slice: &LiveSlice| Interval::new(slice.meta.append_time, slice.meta.append_time + Span::hours(1));
        let cases: [(Spoil, &str); 4] = [
            (|slice| slice.is_in_doubt = true, "in doubt"),
            (|slice| slice.meta.rebuilding_until = Offset::new(2_000), "rebuilding: 1500 of 2000"),
            (|slice| slice.meta.next_offset = Offset::new(5), "the log begins at 10"),
            (|slice| slice.meta.next_offset = Offset::new(1_701), "the log ends at 1700"),
        ];
        for (spoil, want) in cases {
            let mut spoilt = slice();
            spoil(&mut spoilt);
            let trouble = partition(Some(&spoilt), 10, 1_700).trouble;
            assert!(trouble.len() == 1 && trouble[0].contains(want), "{trouble:?}");
        }
        let mut spoilt = slice();
        spoilt.meta.lost = Lost { records: 1_234, appended: hour(&spoilt) };
        spoilt.meta.drift = hour(&spoilt);
        let trouble = partition(Some(&spoilt), 10, 1_700).trouble;
        assert!(trouble[0].starts_with("1,234 records, appended from 2026-03-10T12:00:00.000Z"), "{trouble:?}");
        assert!(trouble[1].contains("may be counted"), "{trouble:?}");
    }
}
