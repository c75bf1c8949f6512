//! Random histories of nights: on time, missed, refused, run twice, two at once, withheld, held, approved, reopened.
//!
//! At every position of the ledger each click that lies below the last cut is in exactly one place: an open day's
//! revision, a settled day's revision, an adjustment, or a withheld day.

use std::collections::BTreeMap;

use clicks::books::PeriodState;
use clicks::ledger::PeriodAction;
use clicks::time::Span;
use futures::future::join;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::oracle::{of_day, truth};
use super::world::{World, at, day, partition};
use crate::{NightOutcome, Options};

const DAYS: i32 = 9;

/// Clicks of a day on the log: on time, late by hours and by days, duplicates near and far.
fn fill(world: &mut World, random: &mut SmallRng, n: i32, seen: &mut Vec<(String, u128)>) {
    // Few clicks on some days, so that their volume is odd.
    let clicks = if n > 3 && random.random_bool(0.15) { 30 } else { random.random_range(350..450) };
    let mut times: Vec<i64> = (0..clicks).map(|_| random.random_range(0..86_400_000)).collect();
    times.sort_unstable();
    for time in times {
        let append = at(n, 0, 0) + Span::millis(time);
        let (ad, id) = match random.random_range(0..12) {
            0 if !seen.is_empty() => seen[random.random_range(0..seen.len())].clone(),
            _ => (format!("ad-{}", random.random_range(0..3)), random.random()),
        };
        let delay = match random.random_range(0..12) {
            0 => random.random_range(0..7 * 86_400_000),
            1 => random.random_range(600_000..86_400_000),
            _ => random.random_range(0..600_000),
        };
        let p = partition(1, u32::from(ad == "ad-1"));
        world.click(&p, append, append - Span::millis(delay), &ad, id);
        seen.push((ad, id));
    }
}

/// Every click in one place, at the head of the ledger.
async fn check_places(world: &World, seed: u64) {
    let books = world.books().await;
    let Some(last) = books.last_night() else { return };
    let last = last.number() - day(0).number();
    let now = truth(world, last);
    for n in -8..=last {
        let mut found: BTreeMap<(i64, String), u64> = BTreeMap::new();
        let mut add = |start: clicks::time::Timestamp, ad: &str, clicks: u64| {
            *found.entry((start.as_millis(), ad.to_owned())).or_default() += clicks;
        };
        if let Some(book) = books.day(day(n)) {
            world.read(&book.revision.minute).await.iter().for_each(|row| add(row.period_start, row.ad, row.clicks));
        }
        world.adjustments(day(n)).await.iter().for_each(|row| add(row.period_start, &row.ad, row.clicks));
        found.retain(|_, clicks| *clicks > 0);
        let state = books.state(day(n));
        let expected: BTreeMap<_, _> = match state {
            PeriodState::Withheld => BTreeMap::new(),
            _ => {
                of_day(&now, day(n)).into_iter().map(|(key, cell)| (key, cell.clicks)).filter(|(_, c)| *c > 0).collect()
            }
        };
        assert_eq!(found, expected, "seed {seed}: day {n}, {state:?}, after night {last}");
    }
}

async fn history(seed: u64) -> BTreeMap<&'static str, u32> {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut world = World::new(2).await;
    world.object_rows = random.random_range(20..200);
    world.options = Options { volume_factor: 2, ..world.options };
    let (mut seen, mut happened) = (Vec::new(), BTreeMap::new());
    let mut covered = 0;
    for n in 1..=DAYS {
        fill(&mut world, &mut random, n, &mut seen);
        // A missed night is caught up by a later one.
        if n < DAYS && random.random_bool(0.3) {
            *happened.entry("missed").or_default() += 1;
            continue;
        }
        // A refused one is covered too late.
        if random.random_bool(0.2) {
            assert!(world.run(Some(covered + 1)).await.is_err(), "seed {seed}: nothing covers it");
            *happened.entry("refused").or_default() += 1;
        }
        world.cover(n).await;
        while covered < n {
            covered += 1;
            let outcomes = match random.random_bool(0.3) {
                true => {
                    *happened.entry("two at once").or_default() += 1;
                    let (a, b) = join(world.run(Some(covered)), world.run(Some(covered))).await;
                    vec![a, b]
                }
                false => vec![world.run(Some(covered)).await],
            };
            let published = outcomes.iter().filter(|o| matches!(o, Ok(NightOutcome::Published(_)))).count();
            // Two that write the same bytes cannot be told apart, and need not be.
            assert!(published >= 1, "seed {seed}: {outcomes:?}");
            check_places(&world, seed).await;
            let again = world.run(Some(covered)).await;
            assert!(!matches!(again, Ok(NightOutcome::Published(_) | NightOutcome::Recounted(_))), "{again:?}");
        }
        people(&world, &mut random, n, &mut happened, seed).await;
    }
    happened
}

/// Up to three decisions of people, wise or not.
async fn people(
    world: &World,
    random: &mut SmallRng,
    last: i32,
    happened: &mut BTreeMap<&'static str, u32>,
    seed: u64,
) {
    for _ in 0..3 {
        let n = random.random_range(0..=last);
        let (name, done) = match random.random_range(0..4) {
            0 => ("approved", world.period(n, PeriodAction::Approve).await.is_ok()),
            1 => ("held", world.period(n, PeriodAction::Hold).await.is_ok()),
            2 => ("reopened", world.period(n, PeriodAction::Reopen).await.is_ok()),
            _ => ("recounted", matches!(world.accept(n).await, Ok(NightOutcome::Recounted(_)))),
        };
        if done {
            *happened.entry(name).or_default() += 1;
            check_places(world, seed).await;
        }
    }
}

#[tokio::test]
async fn every_click_is_in_exactly_one_place_at_every_position_of_the_ledger() {
    let mut happened: BTreeMap<&'static str, u32> = BTreeMap::new();
    for seed in 0..8 {
        for (what, times) in history(seed).await {
            *happened.entry(what).or_default() += times;
        }
    }
    // A history without them would prove nothing.
    for what in ["missed", "refused", "two at once", "approved", "held", "reopened", "recounted"] {
        assert!(happened.get(what).is_some_and(|times| *times > 0), "{what} never happened: {happened:?}");
    }
}
