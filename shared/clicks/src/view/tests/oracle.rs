//! All of it at random, against an oracle that looks at each minute by itself.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::ads::{AdRow, AdsTable, GroupBy, Groups, Selection};
use crate::id::{CampaignId, TenantId};

const NAMES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

/// A row of the ads table.
fn known(name: &str, tenant: &str, campaign: &str) -> AdRow {
    let (tenant, campaign) = (TenantId::parse(tenant).unwrap(), CampaignId::parse(campaign).unwrap());
    AdRow { ad: ad(name), tenant, campaign, name: name.into(), price: None, valid_from: day(1) }
}

fn any_count(days: std::ops::Range<i32>) -> impl Strategy<Value = (Timestamp, &'static str, u64)> {
    let minute = prop_oneof![Just(0i64), Just(1), Just(59), Just(60), Just(719), Just(1_438), Just(1_439), 0i64..1_440];
    (days, minute, 0..NAMES.len(), 1u64..100)
        .prop_map(|(n, minute, name, clicks)| (at(n, 0, minute), NAMES[name], clicks))
}

/// Minutes since the start: anywhere, and where it matters.
fn any_progress() -> impl Strategy<Value = i64> {
    let edge = (1..6i64, prop::sample::select(&[-1, 0, 1, 9, 10, 11, 59, 60, 61][..])).prop_map(|(n, m)| n * 1_440 + m);
    prop_oneof![2 => 0..(5 * 1_440i64), 1 => edge, 2 => (4 * 1_440)..(5 * 1_440i64 + 1)]
}

/// Mostly none.
fn any_drift() -> impl Strategy<Value = Interval> {
    let some = (any_progress(), 1..90i64).prop_map(|(from, minutes)| range(at(0, 0, from), at(0, 0, from + minutes)));
    prop_oneof![4 => Just(range(Timestamp::MIN, Timestamp::MIN)), 1 => some]
}

fn any_partition() -> impl Strategy<Value = Result<(i32, i64, i32, bool, Interval), bool>> {
    prop_oneof![
        5 => (0..5i32, any_progress(), 0..5i32, prop::bool::weighted(0.1), any_drift()).prop_map(Ok),
        1 => any::<bool>().prop_map(Err),
    ]
}

prop_compose! {
    fn any_world()(
        rows in prop::collection::vec(any_count(1..4), 0..40),
        counts in prop::collection::vec(any_count(0..5), 0..60),
        late in prop::collection::vec((0..5i32, any_count(0..5)), 0..20),
        partitions in prop::collection::vec(any_partition(), PARTITIONS as usize),
        missing_days in prop::collection::vec((1..4i32).prop_map(day), 0..2),
    ) -> World {
        let mut world = World { missing_days, ..World::default() };
        for (time, name, clicks) in rows {
            world = world.row(time, name, clicks);
        }
        for (time, name, clicks) in counts {
            world = world.live(time, name, clicks);
        }
        for (night, (time, name, clicks)) in late {
            world = world.late(day(night), time, name, clicks);
        }
        let meta = |(base_day, append, base_night, rebuilding, drift)| Meta {
            append_time: at(0, 0, append),
            drift,
            ..Meta::new(Offset::ZERO, day(base_day), day(base_night), Offset::new(u64::from(rebuilding)))
        };
        let missing = |away| if away { Missing::Unreachable("x".to_owned()) } else { Missing::NoGeneration };
        world.metas = partitions.into_iter().map(|p| p.map(meta).map_err(missing)).collect();
        world
    }
}

/// Books whose rules may change at midnight, and whose maximum age is short enough to matter.
fn books_by(nights: i32, lateness_minutes: [i64; 2], age_days: i64, change: i32) -> Books {
    let rules = |version, minutes| {
        let (lateness, age_max) = (Span::minutes(minutes), Span::days(age_days));
        Rules { version, lateness, age_max, ..Rules::default() }
    };
    let mut chain = Chain::new(rules(1, lateness_minutes[0]));
    chain.life(1);
    chain.rules(day(change), rules(2, lateness_minutes[1]));
    (0..nights).for_each(|_| chain.night(chain.next_night(&[])));
    chain.0
}

/// Total, complete, late pending, last live.
type Told = (Option<u64>, bool, Option<u64>, Option<u64>);

/// The oracle: one period of one ad, from nothing but the rules of the module's doc, one minute after the other.
fn oracle(world: &World, nights: i32, rules: &RulesBook, ad: &AdId, period: Interval, now: Timestamp) -> Told {
    let n = period.start.day().number() - day(1).number() + 1;
    let meta = world.metas[home(ad) as usize].as_ref().ok();
    let whole = meta.filter(|m| !m.is_rebuilding());
    let judged_by = rules.on(day(n));
    // The last instants at which a click of the period may be appended: on time, and at all.
    let last_click = period.end - Span::millis(1);
    let (last_on_time, last_of_all) = (last_click + judged_by.lateness, last_click + judged_by.age_max);
    // Records of the very append time that was reached may follow.
    let counted = |m: &Meta, last: Timestamp| m.append_time > last;
    let is_young = |m: &Meta| m.append_time + LAG_MAX >= now;
    // A record that the last night has read is not pending.
    let may_be_pending = nights == 0 || last_of_all >= rules.cut_time(day(nights));
    let late_whole = whole.filter(|m| m.base_night <= day(nights + 1) && (counted(m, last_of_all) || is_young(m)));
    let late_known = late_whole.is_some() || !may_be_pending;
    let (mut published, mut live, mut late) = (0, 0, 0);
    let mut minute = Minute::of(period.start);
    while minute.start() < period.end {
        published += world.rows.iter().filter(|r| r.0 == minute && r.1 == *ad).map(|r| r.2).sum::<u64>();
        live += world.counts.iter().filter(|c| c.0.minute == minute && c.0.ad == *ad).map(|c| c.1).sum::<u64>();
        let of_minute = world.late.iter().filter(|l| l.0.count.minute == minute && l.0.count.ad == *ad);
        late += of_minute.filter(|l| n > nights || l.0.night > day(nights)).map(|l| l.1).sum::<u64>();
        minute = Minute::from_number(minute.number() + 1);
    }
    // Where nothing can be pending, a partition that is not asked has none.
    let late = late_known.then_some(if meta.is_some() { late } else { 0 });
    let stored = |m: &&Meta| m.base_day <= day(n);
    // The first instant at which a click of the period may be appended, if its clock is ahead.
    let first = period.start - judged_by.ahead_max;
    let duplicates = |drift: Interval| !drift.is_empty() && drift.start <= last_on_time && drift.end > first;
    let exact = |m: &&Meta| stored(m) && !duplicates(m.drift);
    match n {
        ..=0 => (Some(0), true, late, None),
        n if n <= nights => {
            let given = !world.missing_days.contains(&day(n));
            let last_live = whole.filter(exact).filter(|m| counted(m, last_on_time)).map(|_| live);
            (given.then_some(published), given, late, last_live)
        }
        _ => {
            let reached = |m: &&Meta| counted(m, last_on_time) || is_young(m);
            let known = meta.filter(stored).filter(|m| m.append_time >= period.start || reached(m));
            (known.map(|_| live), whole.filter(exact).is_some_and(|m| reached(&m)), late, None)
        }
    }
}

/// The same for a period of any zone: the sum over the days of UTC that it touches. Before the first day nothing was.
fn oracle_of_days(world: &World, nights: i32, rules: &RulesBook, ad: &AdId, period: Interval, now: Timestamp) -> Told {
    let days = period.start.day().until((period.end - Span::millis(1)).day().next());
    let pieces = days.map(|day| range(period.start.max(day.start()), period.end.min(day.end())));
    let told: Vec<(Interval, Told)> =
        pieces.map(|piece| (piece, oracle(world, nights, rules, ad, piece, now))).collect();
    let known: Vec<u64> = told.iter().filter_map(|(_, told)| told.0).collect();
    let counted: Vec<_> = told.iter().filter(|(piece, _)| piece.start >= day(1).start()).collect();
    (
        (!known.is_empty()).then(|| known.iter().sum()),
        told.iter().all(|(_, told)| told.1),
        told.iter().map(|(_, told)| told.2).sum(),
        counted.iter().map(|(_, told)| told.3).sum::<Option<u64>>().filter(|_| !counted.is_empty()),
    )
}

fn any_zone() -> impl Strategy<Value = Zone> {
    let names =
        ["UTC", "Asia/Kathmandu", "America/New_York", "Pacific/Kiritimati", "Europe/Berlin", "Australia/Adelaide"];
    prop::sample::select(names.to_vec()).prop_map(|name| name.parse().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn the_merge_agrees_with_the_oracle(
        world in any_world(),
        nights in 0..4i32,
        grain in prop::sample::select(&Grain::ALL[..]),
        zone in any_zone(),
        from in 0..(5 * 24i64),
        hours in 1..72i64,
        now in (4 * 1_440)..(5 * 1_440i64),
        lateness in prop::sample::select(&[[10, 10], [10, 60], [60, 10]][..]),
        age_days in prop::sample::select(&[1, 2, 35][..]),
        change in 1..5i32,
    ) {
        let now = at(0, 0, now);
        let books = books_by(nights, lateness, age_days, change);
        let start = zone.window(grain, at(0, from, 0)).start;
        let asked = range(start, zone.window(grain, (start + Span::hours(hours)).max(start + grain.width())).start);
        prop_assume!(start <= now);
        let ads: Vec<AdId> = NAMES.into_iter().map(ad).collect();
        let question = |asked_for| Question { asked: asked_for, range: asked, grain, zone };
        let answer = world.merge(&books, question(Asked::Ads(ads.clone())), now).answer();
        for series in &answer.series {
            let name = series.ad.clone().unwrap();
            let mut next = asked.start;
            for period in &series.periods {
                prop_assert_eq!(period.start, next);
                next = period.end;
                let want = oracle_of_days(&world, nights, books.rules(), &name, range(period.start, period.end), now);
                let found = (period.total, period.complete, period.late_pending, period.last_live);
                prop_assert_eq!(found, want, "{} {:?}", name, period);
                // What came late is known of what is closed, and of that alone.
                let within = range(period.start, period.end);
                let rows = world.rows.iter().filter(|row| row.1 == name && within.contains(row.0.start()));
                let is_closed = period.source == Source::Batch && period.complete;
                prop_assert!(period.late.is_some() || !is_closed, "{:?}", period);
                if period.late.is_some() {
                    prop_assert_eq!(period.source, Source::Batch);
                    prop_assert_eq!(period.late, Some(rows.map(|row| row.2 / 2).sum()));
                }
            }
            prop_assert!(next == answer.standing.range.end && next <= asked.end);
        }

        // The total is the sum of the ads, and is only as complete as all of them.
        let total = world.merge(&books, question(Asked::Total), now).answer();
        for (n, period) in total.series[0].periods.iter().enumerate() {
            let of_ads: Vec<_> = answer.series.iter().map(|series| series.periods[n]).collect();
            let known: Vec<u64> = of_ads.iter().filter_map(|p| p.total).collect();
            let of_known = known.iter().sum::<u64>();
            prop_assert!(period.total.unwrap_or(0) >= of_known);
            prop_assert!(!period.complete || period.total == Some(of_known));
            prop_assert!(!period.complete || of_ads.iter().all(|p| p.complete));
        }

        // Groups are the total in parts, each as complete as all of it: any partition can hold clicks of any group.
        let table = Arc::new(AdsTable::new(vec![known("a", "s", "x"), known("b", "t", "x"), known("c", "t", "y")]).unwrap());
        for by in [GroupBy::All, GroupBy::Tenant, GroupBy::Campaign] {
            let groups = Groups::new(table.clone(), &Selection::default(), by);
            let parts = world.merge(&books, question(Asked::Groups(groups.clone())), now).answer();
            prop_assert_eq!(parts.series.len(), groups.names().len());
            for (n, period) in total.series[0].periods.iter().enumerate() {
                let of_groups: Vec<_> = parts.series.iter().map(|series| series.periods[n]).collect();
                let sum = |number: fn(&PeriodAnswer) -> Option<u64>| of_groups.iter().map(number).sum::<Option<u64>>();
                prop_assert_eq!(sum(|p| p.total), period.total);
                prop_assert_eq!(sum(|p| p.late_pending), period.late_pending);
                prop_assert_eq!(sum(|p| p.last_live), period.last_live);
                prop_assert!(of_groups.iter().all(|p| (p.complete, p.source) == (period.complete, period.source)));
                for (group, part) in of_groups.iter().enumerate().filter(|(_, part)| part.complete) {
                    let mine = answer.series.iter().filter(|series| groups.of(series.ad.as_ref().unwrap()) == Some(group));
                    let of_ads = mine.map(|series| series.periods[n].total).sum::<Option<u64>>();
                    prop_assert_eq!(part.total, of_ads);
                }
            }
            // A ranking of the groups has the sums of their periods.
            let ranking = world.merge(&books, question(Asked::EachAd), now).ranking_of(9, &groups);
            for ranked in ranking.ranked.iter().filter(|_| ranking.standing.complete) {
                let known = parts.series[ranked.key].periods.iter().filter_map(|p| p.total).sum::<u64>();
                prop_assert_eq!(ranked.total, known);
            }
        }

        // Of some ads alone it is the same, as far as they are concerned.
        let of_all = world.merge(&books, question(Asked::EachAd), now).ranking(9, |_| true);
        let two = vec![ads[1].clone(), ads[2].clone()];
        let of_two = world.merge(&books, question(Asked::EachOf(two.clone())), now).ranking(9, |_| true);
        let wanted: Vec<_> = of_all.ranked.iter().filter(|ad| two.contains(&ad.key)).map(|ad| (&ad.key, ad.total)).collect();
        let found: Vec<_> = of_two.ranked.iter().map(|ad| (&ad.key, ad.total)).collect();
        prop_assert!(wanted.iter().all(|ad| found.contains(ad)) && found.iter().all(|ad| ad.1 == 0 || wanted.contains(ad)));

        // Few ads that are asked for together are as complete as each of them is.
        let selection = Selection { tenants: vec![TenantId::parse("t").unwrap()], ..Selection::default() };
        let groups = Groups::new(table, &selection, GroupBy::All);
        let together = world.merge(&books, question(Asked::Groups(groups)), now).answer();
        for (n, period) in together.series[0].periods.iter().enumerate() {
            let [b, c] = [1, 2].map(|ad| answer.series[ad].periods[n]);
            prop_assert_eq!(period.complete, b.complete && c.complete);
            if period.complete {
                prop_assert_eq!(period.total, b.total.zip(c.total).map(|(b, c)| b + c));
                prop_assert_eq!(period.last_live, b.last_live.zip(c.last_live).map(|(b, c)| b + c));
            }
            prop_assert_eq!(period.late_pending, b.late_pending.zip(c.late_pending).map(|(b, c)| b + c));
        }

        // Whatever is not whole is named; what has no reason against it is whole.
        for answer in [&answer, &total] {
            let periods = || answer.series.iter().flat_map(|series| &series.periods);
            prop_assert_eq!(answer.standing.complete, answer.standing.reasons.is_empty());
            if answer.standing.complete {
                prop_assert!(periods().all(|p| p.complete && p.total.is_some() && p.late_pending.is_some()));
            }
            prop_assert!(periods().all(|p| p.total.is_some() || !p.complete));
        }

        // Segments cover the range once, and split what there is.
        for answer in [&answer, &total] {
            let mut next = answer.standing.range.start;
            for segment in &answer.standing.segments {
                prop_assert_eq!(segment.start, next);
                next = segment.end;
            }
            prop_assert_eq!(next, answer.standing.range.end);
            let known: u64 = answer.series.iter().flat_map(|series| &series.periods).filter_map(|p| p.total).sum();
            let splits = || answer.standing.segments.iter().filter_map(|segment| segment.split);
            prop_assert_eq!(splits().filter_map(|split| split.total).sum::<u64>(), known);
            let complete = answer.series.iter().flat_map(|series| &series.periods).all(|p| p.complete);
            prop_assert_eq!(splits().all(|split| split.complete), complete);
        }
    }

    #[test]
    fn hours_and_days_are_sums_of_minutes(world in any_world(), nights in 0..4i32, zone in any_zone()) {
        let now = at(5, 0, 0) - Span::millis(1);
        let books = books(nights, 0, false);
        let asked = range(zone.start_of(day(0)), zone.start_of(day(5)));
        let [minutes, hours, days] = Grain::ALL.map(|grain| {
            world.merge(&books, Question { asked: Asked::Total, range: asked, grain, zone }, now).answer()
        });
        let sums = |answer: &Answer, within: Interval| {
            answer.series[0].periods.iter().filter(|p| within.contains(p.start)).filter_map(|p| p.total).sum::<u64>()
        };
        for day in days.series[0].periods.iter().filter(|day| day.total.is_some()) {
            let within = range(day.start, day.end);
            // A coarser period that is known in part may know minutes that a finer one calls unknown, never fewer.
            if day.complete {
                prop_assert_eq!((sums(&hours, within), sums(&minutes, within)), (day.total.unwrap(), day.total.unwrap()));
            }
        }
    }
}
