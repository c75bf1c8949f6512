//! The truth about a log: naive, single-threaded, by the words of the rules. It shares no code with what it judges.

use std::collections::{BTreeMap, HashMap};

use clicks::position::PartitionId;
use clicks::time::{Day, Timestamp};

use super::world::{World, cut_time, day};
use crate::rows::Row;

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// What is true of one ad in one minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Cell {
    pub(super) clicks: u64,
    pub(super) late: u64,
    pub(super) duplicates: u64,
    /// What the live layer counts in time and late.
    pub(super) live: u64,
    pub(super) live_late: u64,
}

/// Cells by (start of minute, ad).
pub(super) type Truth = BTreeMap<(i64, String), Cell>;

/// What is true of all records appended before the cut of night `n`.
pub(super) fn truth(world: &World, n: i32) -> Truth {
    let mut log: Vec<(Timestamp, &PartitionId, usize)> = Vec::new();
    for (partition, records) in &world.logs {
        log.extend(records.iter().enumerate().map(|(offset, record)| (record.append_time, partition, offset)));
    }
    log.sort();
    let (mut last, mut last_of_partition) = (HashMap::new(), HashMap::new());
    let mut truth = Truth::new();
    for (append, partition, offset) in log.into_iter().filter(|(append, ..)| *append < cut_time(n)) {
        let Some((ad, id, event)) = world.logs[partition][offset].what.clone() else { continue };
        let (append, event) = (append.as_millis(), event.as_millis());
        if event - append > 5 * MINUTE || append - event > 35 * DAY {
            continue;
        }
        let key = (ad.clone(), id);
        let before = last.insert(key.clone(), append);
        let before_here = last_of_partition.insert((partition, key), append);
        let within = |before: Option<i64>, horizon: i64| before.is_some_and(|then| append - then < horizon);
        let late = append - event > 10 * MINUTE;
        let cell = truth.entry((event - event.rem_euclid(MINUTE), ad)).or_default();
        let duplicate = within(before, DAY);
        cell.clicks += u64::from(!duplicate);
        cell.late += u64::from(!duplicate && late);
        cell.duplicates += u64::from(duplicate);
        let seen_live = within(before_here, 15 * MINUTE);
        cell.live += u64::from(!seen_live && !late);
        cell.live_late += u64::from(!seen_live && late);
    }
    truth
}

/// The cells of one day.
pub(super) fn of_day(truth: &Truth, of: Day) -> Truth {
    let within = |(start, _): &(i64, String)| Timestamp::from_millis(*start).day() == of;
    truth.iter().filter(|(key, _)| within(key)).map(|(key, cell)| (key.clone(), *cell)).collect()
}

/// The night whose recount of day `n` is the last one, when nights up to `last` have run.
fn settled(n: i32, last: i32) -> i32 {
    last.min(n + 3)
}

/// Holds everything that is published against the truth, after nights 1 to `last`.
pub(super) async fn check(world: &World, last: i32, earliest: i32) {
    let now = truth(world, last);
    for n in earliest..=last {
        let then = if n < 1 { Truth::new() } else { of_day(&truth(world, settled(n, last)), day(n)) };
        if n >= 1 {
            check_revision(world, n, &then).await;
        }
        // What came after the last recount is in the adjustments, each click once.
        let mut adjusted: BTreeMap<(i64, String), u64> = BTreeMap::new();
        for row in world.adjustments(day(n)).await {
            *adjusted.entry((row.period_start.as_millis(), row.ad.to_string())).or_default() += row.clicks;
        }
        let later = |(key, cell): (&(i64, String), &Cell)| {
            let more = cell.clicks - then.get(key).map_or(0, |cell| cell.clicks);
            (more > 0).then(|| (key.clone(), more))
        };
        let expected: BTreeMap<_, _> = of_day(&now, day(n)).iter().filter_map(later).collect();
        assert_eq!(adjusted, expected, "adjustments of day {n}");
    }
}

async fn check_revision(world: &World, n: i32, then: &Truth) {
    let rows = world.minutes(n).await;
    let counts = |row: Row<'_>| (row.clicks, row.duplicates, row.late);
    let found: BTreeMap<_, _> =
        rows.iter().map(|row| ((row.period_start.as_millis(), row.ad.to_owned()), counts(row))).collect();
    assert_eq!(found.len(), rows.len(), "a key stands twice");
    let visible = then.iter().filter(|(_, cell)| cell.clicks + cell.duplicates > 0);
    let expected: BTreeMap<_, _> = visible.map(|(key, c)| (key.clone(), (c.clicks, c.duplicates, c.late))).collect();
    assert_eq!(found, expected, "minutes of day {n}");
    // exact = live + late - far duplicates, against a live layer that was counted for itself.
    let totals = world.books().await.day(day(n)).unwrap().revision.totals;
    let sum = |of: fn(&Cell) -> u64| then.values().map(of).sum::<u64>();
    assert_eq!(totals.clicks, sum(|cell| cell.clicks), "clicks of day {n}");
    assert_eq!(totals.duplicates, sum(|cell| cell.duplicates), "duplicates of day {n}");
    assert_eq!(totals.live(), sum(|cell| cell.live), "live of day {n}");
    assert_eq!(totals.live_late(), sum(|cell| cell.live_late), "live late of day {n}");
}
