//! Statements and changes against an oracle that adds up minutes, over random ledgers, zones, periods and prices.
#![allow(clippy::unwrap_used)]

mod world;

use std::collections::BTreeMap;

use clicks::ads::AdsTable;
use clicks::books::{Books, PeriodState};
use clicks::id::AdId;
use clicks::time::{Day, Interval, Span, Timestamp};
use clicks::window::Grain;
use clicks::zone::Zone;
use finance::{
    By, Close, Dates, ExportError, Form, Line, Period, PointInTime, Scope, StatementError, Step, adjustments_of,
    books_at, changes, write,
};
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};
use rust_decimal::Decimal;
use world::{Truth, World, ads};

/// Of a line: when its period begins, whose it is, its currency.
type Key = (Timestamp, String, Option<&'static str>);
/// Clicks, adjustment, amount.
type Sum = (u64, u64, Decimal);

#[derive(Default)]
struct Gathered {
    lines: BTreeMap<Key, Sum>,
    periods: Vec<Period>,
    /// What a line says beside its numbers.
    names: BTreeMap<Key, (Option<String>, Option<Decimal>)>,
}

impl Form for Gathered {
    fn lines(&mut self, period: &Period, lines: &[Line<'_>]) -> Result<(), ExportError> {
        assert!(!lines.is_empty());
        assert!(self.periods.last().is_none_or(|last| last.interval.end <= period.interval.start), "{period:?}");
        self.periods.push(*period);
        let mut last = None;
        for line in lines {
            let (ad, tenant) = (line.ad.map(AdId::as_str), line.tenant.map(|it| it.as_str()));
            let campaign = line.campaign.map(|it| it.as_str());
            let whose = match ad {
                Some(ad) => ad.to_owned(),
                None => format!("{}/{}", tenant.unwrap_or_default(), campaign.unwrap_or_default()),
            };
            let key = (period.interval.start, whose, line.money.as_ref().map(|money| money.currency));
            assert!(last.replace(key.clone()) < Some(key.clone()), "lines are sorted: {key:?}");
            let amount = line.money.as_ref().map(|money| money.amount).unwrap_or_default();
            self.names.insert(key.clone(), (line.name.map(str::to_owned), line.price));
            assert_eq!(self.lines.insert(key, (line.counts.clicks, line.counts.adjustment, amount)), None);
        }
        Ok(())
    }
}

const ZONES: [&str; 6] =
    ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/New_York", "Australia/Lord_Howe", "Pacific/Kiritimati"];
const STEPS: [Step; 4] = [Step::Grain(Grain::Minute), Step::Grain(Grain::Hour), Step::Grain(Grain::Day), Step::Whole];

fn windows(scope: &Scope) -> Vec<Interval> {
    let Step::Grain(grain) = scope.step else { return vec![scope.range] };
    let (mut windows, mut start) = (Vec::new(), scope.range.start);
    while start < scope.range.end {
        windows.push(scope.zone.window(grain, start));
        start = windows[windows.len() - 1].end;
    }
    windows
}

fn days(interval: Interval) -> impl Iterator<Item = Day> {
    interval.start.day().until((interval.end - Span::millis(1)).day().next())
}

fn is_final(books: &Books, interval: Interval) -> bool {
    days(interval).all(|day| matches!(books.state(day), PeriodState::Final | PeriodState::Adjusted))
}

/// What is billed, minute by minute.
fn oracle(truth: &Truth, books: &Books, ads: &AdsTable, scope: &Scope) -> BTreeMap<Key, Sum> {
    let mut sums: BTreeMap<Key, Sum> = BTreeMap::new();
    let windows = windows(scope);
    let adjustments = truth.adjustments.iter().map(|(key, count)| (key, 0, *count));
    for ((time, ad), clicks, adjustment) in truth.clicks.iter().map(|(key, count)| (key, *count, 0)).chain(adjustments)
    {
        let Some(window) = windows.iter().find(|window| window.contains(*time)) else { continue };
        if scope.final_only && !is_final(books, *window) {
            continue;
        }
        let ad = AdId::parse(ad).unwrap();
        let rows = ads.rows_of(&ad);
        let price = rows.iter().rfind(|row| row.valid_from <= time.day()).and_then(|row| row.price);
        let whose = match (scope.by, rows.first()) {
            (By::Ad, _) => ad.to_string(),
            (_, None) => "/".to_owned(),
            (By::Campaign, Some(row)) => format!("{}/{}", row.tenant, row.campaign),
            (By::Tenant, Some(row)) => format!("{}/", row.tenant),
        };
        let sum = sums.entry((window.start, whose, price.map(|price| price.currency.code()))).or_default();
        let amount = price.map_or(Decimal::ZERO, |price| price.amount * Decimal::from(clicks + adjustment));
        *sum = (sum.0 + clicks, sum.1 + adjustment, sum.2 + amount);
    }
    sums
}

fn seed() -> u64 {
    std::env::var("TWOFOLD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1)
}

#[tokio::test]
async fn a_statement_is_what_its_minutes_add_up_to() {
    let ads = ads();
    for seed in seed()..seed() + 8 {
        let world = World::random(seed, 7).await;
        let mut random = SmallRng::seed_from_u64(seed);
        let (mut given, mut refused) = (0, 0);
        for _ in 0..150 {
            let position = *world.truths.keys().collect::<Vec<_>>().choose(&mut random).unwrap();
            let books = books_at(&world.ledger, PointInTime::Entry(*position)).await.unwrap();
            let zone: Zone = ZONES.choose(&mut random).unwrap().parse().unwrap();
            let first = world.first_day.plus(random.random_range(-2..6));
            let dates = Dates { first, end: first.plus(random.random_range(1..5)) };
            let scope = Scope {
                range: dates.interval(zone),
                zone,
                step: *STEPS.choose(&mut random).unwrap(),
                by: *[By::Ad, By::Campaign, By::Tenant].choose(&mut random).unwrap(),
                final_only: random.random_bool(0.5),
            };
            let mut gathered = Gathered::default();
            let written = write(&world.objects, &books, &ads, &scope, &mut gathered).await;
            let is_open = days(scope.range).any(|day| books.state(day) == PeriodState::Live);
            if is_open && !scope.final_only {
                assert!(matches!(written, Err(StatementError::Open(_))), "{written:?}");
                refused += 1;
                continue;
            }
            let (written, what) = (written.unwrap(), format!("seed {seed}, position {position}, {dates} {scope:?}"));
            assert_eq!(gathered.lines, oracle(&world.truths[position], &books, &ads, &scope), "{what}");
            let sum = |of: fn(&Sum) -> u64| gathered.lines.values().map(of).sum::<u64>();
            let totals = &written.totals;
            assert_eq!((totals.clicks(), totals.adjustment()), (sum(|it| it.0), sum(|it| it.1)), "{what}");
            assert_eq!(totals.lines, gathered.lines.len() as u64);
            for (currency, total) in &totals.by_currency {
                let of = gathered.lines.iter().filter(|((_, _, other), _)| other == currency);
                assert_eq!(total.amount, of.map(|(_, sum)| sum.2).sum::<Decimal>(), "{what}");
            }
            for period in &gathered.periods {
                let states = days(period.interval).map(|day| books.state(day));
                assert_eq!(Some(period.state), states.min_by_key(|state| state.settledness()), "{what}");
                assert!(!scope.final_only || is_final(&books, period.interval), "{what}");
                let one = days(period.interval).count() == 1;
                let revision = books.day(period.interval.start.day()).map(|book| book.revision.revision);
                assert_eq!(period.revision, revision.filter(|_| one), "{what}");
            }
            let close = Close::of(&books, scope.range);
            assert_eq!(
                (close.is_final, close.blocked() == 0),
                (is_final(&books, scope.range), close.is_final),
                "{what}"
            );
            assert_eq!(written.left_out.len(), if scope.final_only { close.blocked() } else { 0 }, "{what}");
            given += gathered.lines.len();
        }
        assert!(given > 300 && refused > 0, "{given} lines, {refused} refused");
    }
}

#[tokio::test]
async fn changes_add_up_to_the_difference() {
    let ads = ads();
    let mut seen = BTreeMap::new();
    for seed in seed()..seed() + 8 {
        let world = World::random(seed, 7).await;
        let mut random = SmallRng::seed_from_u64(seed);
        let head = *world.truths.keys().next_back().unwrap();
        for _ in 0..20 {
            let (a, b) = (random.random_range(0..=head), random.random_range(0..=head));
            let zone: Zone = ZONES.choose(&mut random).unwrap().parse().unwrap();
            let first = world.first_day.plus(random.random_range(-1..6));
            let range = Dates { first, end: first.plus(random.random_range(1..5)) }.interval(zone);
            let from = books_at(&world.ledger, PointInTime::Entry(a)).await.unwrap();
            let found = changes(&world.ledger, &world.objects, &ads, range, from, b).await;
            if b < a {
                assert!(found.unwrap_err().to_string().contains("the other way round"));
                continue;
            }
            let mut difference: BTreeMap<(String, Option<&str>), (i64, Decimal)> = BTreeMap::new();
            for change in found.unwrap() {
                *seen.entry(change.cause).or_insert(0) += change.ads.len();
                assert!(a < change.entry && change.entry <= b);
                for ad in change.ads {
                    let entry = difference.entry((ad.ad.to_string(), ad.currency)).or_default();
                    entry.0 += ad.after as i64 - ad.before as i64;
                    entry.1 += ad.amount_after - ad.amount_before;
                }
            }
            difference.retain(|_, change| *change != Default::default());
            let mut want: BTreeMap<(String, Option<&str>), (i64, Decimal)> = BTreeMap::new();
            for (position, sign) in [(a, -1), (b, 1)] {
                let books = books_at(&world.ledger, PointInTime::Entry(position)).await.unwrap();
                let scope = Scope { range, zone, step: Step::Whole, by: By::Ad, final_only: false };
                for ((_, ad, currency), sum) in oracle(&world.truths[&position], &books, &ads, &scope) {
                    let entry = want.entry((ad, currency)).or_default();
                    entry.0 += sign * (sum.0 + sum.1) as i64;
                    entry.1 += Decimal::from(sign) * sum.2;
                }
            }
            want.retain(|_, change| *change != Default::default());
            assert_eq!(difference, want, "seed {seed}, from {a} to {b}, {range:?}");
        }
    }
    assert!(seen.len() == 6 && seen.values().all(|ads| *ads > 0), "every cause was seen: {seen:?}");
}

#[tokio::test]
async fn adjustments_are_listed_as_they_stand() {
    for seed in seed()..seed() + 8 {
        let world = World::random(seed, 7).await;
        let range = Interval::new(world.first_day.previous().start(), world.first_day.plus(7).start());
        for (position, truth) in &world.truths {
            let books = books_at(&world.ledger, PointInTime::Entry(*position)).await.unwrap();
            let mut found = BTreeMap::new();
            for row in adjustments_of(&world.objects, &books, range).await.unwrap() {
                *found.entry((row.period_start, row.ad.to_string())).or_insert(0) += row.clicks;
            }
            let want: BTreeMap<_, _> =
                truth.adjustments.iter().map(|((time, ad), count)| ((*time, (*ad).to_owned()), *count)).collect();
            assert_eq!(found, want, "seed {seed}, position {position}");
        }
    }
}

#[tokio::test]
async fn the_books_of_a_date_are_those_that_were_published_by_its_end() {
    let world = World::random(seed(), 7).await;
    let second = world.first_day.next();
    // The night of the first day is published eleven minutes into the second one.
    for (point, night) in [
        (PointInTime::Before(second.start()), None),
        (PointInTime::Before(second.start() + Span::minutes(11)), None),
        (PointInTime::Before(second.start() + Span::minutes(12)), Some(world.first_day)),
        (second.to_string().parse().unwrap(), Some(world.first_day)),
        (PointInTime::Now, Some(world.first_day.plus(6))),
    ] {
        assert_eq!(books_at(&world.ledger, point).await.unwrap().last_night(), night, "{point:?}");
    }
}
