//! An invoice that is made of our numbers, with breaks of every kind in it: each is found, in its bucket, with its cause, and
//! nothing else is.
#![allow(clippy::unwrap_used)]

mod world;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use clicks::books::{Books, PeriodState};
use clicks::id::TenantId;
use clicks::time::{Day, Timestamp};
use clicks::zone::Zone;
use finance::{
    Bucket, Cause, Compared, Dates, Invoice, InvoiceForm, InvoiceOptions, Keys, Mapping, Mine, PointInTime,
    Provisional, ReconcileError, StatementError, Terms, Tolerance, books_at, reconcile,
};
use parquet::arrow::ArrowWriter;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use world::{Truth, World, ads, duplicates};

/// What we say of one ad on one day.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Sum {
    clicks: u64,
    adjustment: u64,
    duplicates: u64,
}

type Sums = BTreeMap<(String, Day), Sum>;

fn sums(truth: &Truth, dates: Dates, zone: Zone) -> Sums {
    let mut sums = Sums::new();
    let mut add = |time: Timestamp, ad: &str, sum: Sum| {
        let day = zone.date(time);
        if (dates.first..dates.end).contains(&day) {
            let of_day = sums.entry((ad.to_owned(), day)).or_default();
            of_day.clicks += sum.clicks;
            of_day.adjustment += sum.adjustment;
            of_day.duplicates += sum.duplicates;
        }
    };
    for ((time, ad), clicks) in &truth.clicks {
        add(*time, ad, Sum { clicks: *clicks, adjustment: 0, duplicates: duplicates(*clicks) });
    }
    for ((time, ad), clicks) in &truth.adjustments {
        add(*time, ad, Sum { adjustment: *clicks, ..Sum::default() });
    }
    sums
}

struct Desk {
    world: World,
    books: Books,
    dates: Dates,
    zone: Zone,
    provisional: Provisional,
    keys_max: usize,
    /// How often the last file was read.
    readings: Cell<u32>,
}

/// Counts how often it is read.
struct Counted<'a>(std::io::Cursor<Vec<u8>>, &'a Cell<u32>);

impl std::io::Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl std::io::Seek for Counted<'_> {
    fn seek(&mut self, to: std::io::SeekFrom) -> std::io::Result<u64> {
        self.0.seek(to)
    }

    fn rewind(&mut self) -> std::io::Result<()> {
        self.1.set(self.1.get() + 1);
        self.0.rewind()
    }
}

impl Desk {
    async fn new(seed: u64, zone: &str) -> Self {
        let world = World::random(seed, 8).await;
        let books = books_at(&world.ledger, PointInTime::Now).await.unwrap();
        let dates = Dates { first: world.first_day.next(), end: world.first_day.plus(6) };
        Desk {
            world,
            books,
            dates,
            zone: zone.parse().unwrap(),
            provisional: Provisional::default(),
            keys_max: Terms::KEYS_MAX,
            readings: Cell::new(0),
        }
    }

    fn ours(&self) -> Sums {
        sums(self.world.truths.values().next_back().unwrap(), self.dates, self.zone)
    }

    async fn compare(&self, text: &str, keys: &str, tolerance: &str) -> Result<Vec<Compared>, ReconcileError> {
        self.compare_one(text, keys, tolerance, None).await
    }

    async fn compare_one(
        &self,
        text: &str,
        keys: &str,
        tolerance: &str,
        tenant: Option<&TenantId>,
    ) -> Result<Vec<Compared>, ReconcileError> {
        self.compare_as(InvoiceForm::Csv, text.as_bytes().to_vec(), keys, tolerance, tenant).await
    }

    async fn compare_as(
        &self,
        form: InvoiceForm,
        bytes: Vec<u8>,
        keys: &str,
        tolerance: &str,
        tenant: Option<&TenantId>,
    ) -> Result<Vec<Compared>, ReconcileError> {
        let keys = keys.parse().unwrap();
        let options = InvoiceOptions { zone: self.zone, mapping: Mapping::default(), thousands: None };
        let mut invoice = Invoice::new(Counted(std::io::Cursor::new(bytes), &self.readings), form, &options);
        let terms = Terms { keys, tolerance: tolerance.parse().unwrap(), keys_max: self.keys_max };
        let (ledger, objects, ads) = (&self.world.ledger, &self.world.objects, ads());
        let Desk { books, dates, zone, provisional, .. } = self;
        let mine = Mine { ledger, objects, books, ads: &ads, dates: *dates, zone: *zone, tenant, provisional };
        let mut compared = Vec::new();
        let take = |line| {
            compared.push(line);
            Ok(())
        };
        reconcile(&mine, &mut invoice, terms, take).await?;
        Ok(compared)
    }
}

/// The advertiser and the campaign of an ad.
fn home(ad: &str) -> Option<(&'static str, &'static str)> {
    match ad {
        "a" | "new" => Some(("acme", "spring")),
        "b" => Some(("acme", "summer")),
        "dear" | "free" => Some(("globex", "spring")),
        _ => None,
    }
}

/// As a partner writes it.
fn invoice(lines: &BTreeMap<(String, Day), u64>) -> String {
    let lines = lines.iter().map(|((ad, day), clicks)| format!("{ad};{day};{clicks}\n"));
    "Creative;Date;Billed Clicks\n".to_owned() + &lines.collect::<String>()
}

fn billed(sums: &Sums) -> BTreeMap<(String, Day), u64> {
    sums.iter().map(|(key, sum)| (key.clone(), sum.clicks + sum.adjustment)).collect()
}

fn breaks(compared: &[Compared]) -> BTreeMap<(String, Option<Day>), (Bucket, Option<Cause>)> {
    let breaks = compared.iter().filter(|line| line.bucket.is_break());
    breaks.map(|line| ((line.who.to_string(), line.day), (line.bucket, line.cause.clone()))).collect()
}

#[tokio::test]
async fn our_own_numbers_match_in_every_zone_and_by_every_key() {
    for zone in ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/New_York"] {
        let desk = Desk::new(3, zone).await;
        let ours = desk.ours();
        let compared = desk.compare(&invoice(&billed(&ours)), "ad,day", "0").await.unwrap();
        assert_eq!(compared.len(), ours.len(), "{zone}");
        assert!(compared.iter().all(|line| line.bucket == Bucket::Matched && line.cause.is_none()), "{zone}");
        let (mut by_ad, mut by_day) = (BTreeMap::new(), BTreeMap::new());
        for ((ad, day), clicks) in billed(&ours) {
            *by_ad.entry(ad).or_insert(0) += clicks;
            *by_day.entry(day).or_insert(0) += clicks;
        }
        let text = |head: &str, sums: Vec<(String, u64)>| {
            head.to_owned() + &sums.iter().map(|(name, clicks)| format!("{name},{clicks}\n")).collect::<String>()
        };
        let by_day: Vec<_> = by_day.into_iter().map(|(day, clicks)| (day.to_string(), clicks)).collect();
        for (text, keys) in
            [(text("ad,clicks\n", by_ad.into_iter().collect()), "ad"), (text("day,clicks\n", by_day), "day")]
        {
            let compared = desk.compare(&text, keys, "0").await.unwrap();
            assert!(
                !compared.is_empty() && compared.iter().all(|line| line.bucket == Bucket::Matched),
                "{zone} {keys}"
            );
        }
    }
}

#[tokio::test]
async fn every_break_is_found_with_its_cause_and_nothing_else_is() {
    let mut seen = BTreeMap::new();
    for seed in 1..25 {
        let mut desk = Desk::new(seed, "UTC").await;
        desk.keys_max = [Terms::KEYS_MAX, 1, 7][seed as usize % 3];
        let ours = desk.ours();
        let mut theirs = billed(&ours);
        let mut want = BTreeMap::new();
        let is_final = |day: Day| matches!(desk.books.state(day).name(), "final" | "adjusted");
        // A day that they lack altogether.
        let missing = desk.dates.first;
        for key in ours.keys().filter(|(_, day)| *day == missing) {
            theirs.remove(key);
            want.insert(key.clone(), (Bucket::OnlyOurs, Some(Cause::MissingDay)));
        }
        let mut used = 0;
        let mut repeated = String::new();
        for (key, sum) in ours.iter().filter(|((_, day), _)| *day != missing && is_final(*day)) {
            let total = sum.clicks + sum.adjustment;
            let positions = desk.world.truths.iter().rev().skip(1);
            let before = positions.map(|(position, truth)| (*position, sums(truth, desk.dates, desk.zone)));
            let earlier: Vec<(u64, u64)> = before
                .filter_map(|(position, sums)| sums.get(key).map(|sum| (position, sum.clicks + sum.adjustment)))
                .filter(|(_, clicks)| *clicks != total)
                .collect();
            let (says, bucket, cause) = match used % 5 {
                0 if sum.adjustment > 0 => {
                    let cause = Cause::WithoutAdjustments { adjustment: sum.adjustment };
                    (sum.clicks, Bucket::Different, Some(cause))
                }
                1 if sum.duplicates > 0 => {
                    let cause = Cause::WithDuplicates { duplicates: sum.duplicates };
                    (total + sum.duplicates, Bucket::Different, Some(cause))
                }
                2 if sum.adjustment == 0 && !earlier.is_empty() => {
                    // The last entry at which it was so, which is the first in this list.
                    let (position, clicks) = earlier[0];
                    let is_gross = clicks == total + sum.duplicates;
                    if is_gross {
                        continue;
                    }
                    let bucket = if clicks == 0 { Bucket::OnlyOurs } else { Bucket::Different };
                    (clicks, bucket, Some(Cause::EarlierState { entry: position }))
                }
                3 => {
                    repeated += &format!("{};{};{total}\n", key.0, key.1);
                    (total, Bucket::Different, Some(Cause::RepeatedLine))
                }
                // The last line of a day stays: without it the day would be missing.
                4 if theirs.keys().filter(|(_, day)| *day == key.1).count() > 1 => {
                    theirs.remove(key);
                    want.insert(key.clone(), (Bucket::OnlyOurs, None));
                    used += 1;
                    continue;
                }
                _ => continue,
            };
            used += 1;
            theirs.insert(key.clone(), says);
            want.insert(key.clone(), (bucket, cause));
        }
        let (unlike, outside) = (("stary".to_owned(), missing.next()), ("a".to_owned(), desk.dates.end.plus(40)));
        theirs.insert(unlike.clone(), 7);
        want.insert(unlike, (Bucket::OnlyTheirs, Some(Cause::UnknownName { nearest: Some("stray".to_owned()) })));
        theirs.insert(outside.clone(), 7);
        want.insert(outside, (Bucket::OnlyTheirs, Some(Cause::OutsideOfPeriod)));
        let compared = desk.compare(&(invoice(&theirs) + &repeated), "ad,day", "0").await.unwrap();
        let want: BTreeMap<_, _> = want.into_iter().map(|((ad, day), found)| ((ad, Some(day)), found)).collect();
        let found = breaks(&compared);
        for (key, found) in &found {
            let wanted =
                want.get(key).unwrap_or_else(|| panic!("seed {seed}: {key:?} is {found:?}, and nothing is wrong"));
            let (mut found, mut wanted) = (found.clone(), wanted.clone());
            // What the ledger says between two entries that change this ad is the same.
            if let (Some(Cause::EarlierState { entry: a }), Some(Cause::EarlierState { entry: b })) =
                (&mut found.1, &mut wanted.1)
            {
                assert!(a <= b, "seed {seed}: {key:?}: position {a} is later than {b}");
                *a = *b;
            }
            assert_eq!(found, wanted, "seed {seed}: {key:?}");
            *seen.entry(found.1.map_or("none", |cause| cause.name())).or_insert(0) += 1;
        }
        assert_eq!(found.len(), want.len(), "seed {seed}");
    }
    let kinds = [
        "earlier_state",
        "missing_day",
        "none",
        "outside_of_period",
        "repeated_line",
        "unknown_name",
        "with_duplicates",
        "without_adjustments",
    ];
    assert_eq!(seen.keys().copied().collect::<Vec<_>>(), kinds, "every kind was there: {seen:?}");
}

/// However few keys are held at a time, what is found is the same, in the same order.
#[tokio::test]
async fn what_does_not_fit_at_once_is_compared_name_by_name() {
    let mut rng = SmallRng::seed_from_u64(7);
    let mut slices = 0;
    for seed in 1..16 {
        let mut desk = Desk::new(seed, "Europe/Berlin").await;
        let mut lines = Vec::new();
        for ((ad, day), clicks) in billed(&desk.ours()) {
            // Most lines are right; the others are odd, there again, of two prices, elsewhere, or gone.
            let tenant = ["acme", "globex", ""][rng.random_range(0..3)];
            let price = rng.random_range(1..3);
            let line = |clicks: u64| format!("{tenant},{ad},{day},{clicks},{price},EUR\n");
            match rng.random_range(0..12) {
                0 => lines.push(line(clicks + rng.random_range(1..4))),
                1 => lines.extend([line(clicks), line(clicks)]),
                2 => lines.extend([line(clicks), line(1), line(1), line(2)]),
                3 => lines.push(line(clicks).replace(&*ad, &format!("{ad}x"))),
                4 => {}
                _ => lines.push(line(clicks)),
            }
        }
        rand::seq::SliceRandom::shuffle(&mut *lines, &mut rng);
        let lines: String = lines.concat();
        let of_ads = "-,ad,day,clicks,cpc,currency\n".to_owned() + &lines;
        let campaign = |line: &str| {
            let mut parts = line.splitn(3, ',');
            let (ad, rest) = (parts.nth(1).unwrap(), parts.next().unwrap());
            match home(ad) {
                Some((tenant, campaign)) => format!("{tenant},{campaign},{rest}\n"),
                None => format!(",{ad},{rest}\n"),
            }
        };
        let of_campaigns: String = lines.lines().map(campaign).collect();
        let of_campaigns = "advertiser,campaign,day,clicks,cpc,currency\n".to_owned() + &of_campaigns;
        for (text, keys) in [(&of_ads, "ad,day"), (&of_ads, "ad"), (&of_ads, "day"), (&of_campaigns, "campaign,day")] {
            desk.keys_max = Terms::KEYS_MAX;
            let whole = desk.compare(text, keys, "1").await.unwrap();
            for keys_max in [1, 3, 8, 21] {
                desk.keys_max = keys_max;
                desk.readings.set(0);
                let compared = desk.compare(text, keys, "1").await.unwrap();
                assert_eq!(compared, whole, "seed {seed}, by {keys}, {keys_max} keys at a time");
                let mut names: BTreeMap<&str, usize> = BTreeMap::new();
                whole.iter().for_each(|line| *names.entry(&line.who).or_default() += 1);
                // No part is larger than it may be, unless it is of one name.
                let most = names.values().copied().max().unwrap_or(1).max(keys_max);
                let readings = desk.readings.get() as usize;
                assert!((whole.len().div_ceil(most)..=names.len() + 1).contains(&readings), "{readings}");
                slices += readings - 1;
            }
        }
    }
    assert!(slices > 100, "{slices}");
}

/// All forms can be read again and again.
#[tokio::test]
async fn a_workbook_and_a_parquet_file_are_read_name_by_name_too() {
    let mut desk = Desk::new(3, "UTC").await;
    let lines = billed(&desk.ours());
    let mut book = rust_xlsxwriter::Workbook::new();
    let sheet = book.add_worksheet();
    for (name, place) in ["ad", "day", "clicks"].into_iter().zip(0..) {
        sheet.write_string(0, place, name).unwrap();
    }
    for (((ad, day), clicks), row) in lines.iter().zip(1..) {
        sheet.write_string(row, 0, ad).unwrap().write_string(row, 1, day.to_string()).unwrap();
        sheet.write_number(row, 2, *clicks as f64).unwrap();
    }
    let texts = |column: Vec<String>| Arc::new(StringArray::from(column)) as ArrayRef;
    let columns = [
        ("ad", texts(lines.keys().map(|(ad, _)| ad.clone()).collect())),
        ("day", texts(lines.keys().map(|(_, day)| day.to_string()).collect())),
        ("clicks", Arc::new(UInt64Array::from_iter_values(lines.values().copied()))),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut parquet = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut parquet, batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    desk.keys_max = 7;
    for (form, bytes) in [(InvoiceForm::Xlsx, book.save_to_buffer().unwrap()), (InvoiceForm::Parquet, parquet)] {
        desk.readings.set(0);
        let compared = desk.compare_as(form, bytes, "ad,day", "0", None).await.unwrap();
        assert!(desk.readings.get() > 2, "{form:?}");
        assert_eq!(compared.len(), lines.len(), "{form:?}");
        assert!(compared.iter().all(|line| line.bucket == Bucket::Matched), "{form:?}");
    }
}

#[tokio::test]
async fn another_zone_is_recognised() {
    let (mut seen, mut parted) = (0, (0, 0));
    for seed in 1..12 {
        let mut desk = Desk::new(seed, "UTC").await;
        let kathmandu =
            sums(desk.world.truths.values().next_back().unwrap(), desk.dates, "Asia/Kathmandu".parse().unwrap());
        let is_parted = seed % 2 == 1;
        desk.keys_max = if is_parted { desk.ours().len() * 2 / 3 } else { Terms::KEYS_MAX };
        let compared = desk.compare(&invoice(&billed(&kathmandu)), "ad,day", "0").await.unwrap();
        let breaks: Vec<_> = compared.iter().filter(|line| line.bucket.is_break()).collect();
        let zone = Some(Cause::OtherZone { zone: "Asia/Kathmandu" });
        let by_zone = breaks.iter().filter(|line| line.cause == zone).count();
        // A part of a dozen lines may suit another zone as well, or none.
        match is_parted {
            true => (parted.0, parted.1) = (parted.0 + by_zone, parted.1 + breaks.len()),
            false => assert_eq!(by_zone, breaks.len(), "seed {seed}: {breaks:#?}"),
        }
        seen += by_zone;
    }
    assert!(parted.0 * 4 > parted.1 * 3, "{parted:?}");
    assert!(seen > 50, "{seen}");
}

/// A day that is open is compared by its live numbers when that is asked for, and then every break of it says so.
#[tokio::test]
async fn an_open_day_is_compared_only_on_purpose() {
    for seed in 1..6 {
        let mut desk = Desk::new(seed, "UTC").await;
        let open = desk.books.next_night();
        desk.dates.end = open.next();
        let mut theirs = billed(&desk.ours());
        let closed = theirs.len();
        theirs.insert(("a".to_owned(), open), 7);
        theirs.insert(("b".to_owned(), open), 3);
        let error = desk.compare(&invoice(&theirs), "ad,day", "0").await.unwrap_err().to_string();
        assert!(error.contains(&format!("{open} (live)")), "{error}");
        let ad = |name: &str| clicks::id::AdId::parse(name).unwrap();
        desk.provisional.open(open);
        for (minute, name, clicks) in [(0, "a", 4), (1_439, "a", 3), (60, "b", 2), (60, "stray", 1)] {
            desk.provisional.add(open.start() + clicks::time::Span::minutes(minute), &ad(name), clicks);
        }
        let compared = desk.compare(&invoice(&theirs), "ad,day", "0").await.unwrap();
        assert_eq!(compared.iter().filter(|line| line.bucket == Bucket::Matched).count(), closed + 1, "seed {seed}");
        let not_final = Some(Cause::NotFinal { day: open, state: PeriodState::Live });
        let want = BTreeMap::from([
            (("b".to_owned(), Some(open)), (Bucket::Different, not_final.clone())),
            (("stray".to_owned(), Some(open)), (Bucket::OnlyOurs, not_final)),
        ]);
        assert_eq!(breaks(&compared), want, "seed {seed}");
    }
}

/// Two lines that are wrong by a click are not the doing of clocks, whatever zone they happen to fit.
#[tokio::test]
async fn a_few_odd_lines_are_no_zone() {
    for seed in 1..12 {
        let desk = Desk::new(seed, "UTC").await;
        let mut theirs = billed(&desk.ours());
        let odd: Vec<_> = theirs.keys().step_by(5).cloned().collect();
        odd.iter().for_each(|key| *theirs.get_mut(key).unwrap() += 1);
        let compared = desk.compare(&invoice(&theirs), "ad,day", "0").await.unwrap();
        let found = breaks(&compared);
        assert_eq!(found.len(), odd.len());
        let is_zone = |(_, cause): &(Bucket, Option<Cause>)| matches!(cause, Some(Cause::OtherZone { .. }));
        assert!(!found.values().any(is_zone), "seed {seed}: {found:?}");
    }
}

/// A partner of New York sends a month whose last day is not over for us.
#[tokio::test]
async fn another_zone_is_recognised_although_its_last_day_is_open() {
    let desk = Desk::new(4, "UTC").await;
    let desk = Desk { dates: Dates { end: desk.world.first_day.plus(8), ..desk.dates }, ..desk };
    let truth = desk.world.truths.values().next_back().unwrap();
    let mut york = billed(&sums(truth, desk.dates, "America/New_York".parse().unwrap()));
    york.retain(|(_, day), _| day.next() < desk.dates.end);
    let compared = desk.compare(&invoice(&york), "ad,day", "0").await.unwrap();
    let causes: Vec<_> = breaks(&compared).into_iter().map(|((_, day), (_, cause))| (day.unwrap(), cause)).collect();
    assert!(causes.len() > 10);
    for (day, cause) in causes {
        let want = match day.next() < desk.dates.end {
            true => Cause::OtherZone { zone: "America/New_York" },
            false => Cause::MissingDay,
        };
        assert_eq!(cause, Some(want), "{day}");
    }
}

/// An amount at stake has one price and one currency, or there is none.
#[tokio::test]
async fn what_is_at_stake_is_never_of_two_currencies() {
    let desk = Desk::new(2, "UTC").await;
    let day = desk.dates.first;
    let text = format!(
        "ad,day,clicks,cpc,currency\nx,{day},10,2,EUR\ny,{day},10,3,JPY\nz,{day},5,1,EUR\nz,{day},5,9,EUR\nw,{day},1,$4,\n"
    );
    let compared = desk.compare(&text, "ad,day", "0").await.unwrap();
    let stake = |ad: &str| {
        let line = compared.iter().find(|line| *line.who == *ad).unwrap();
        line.at_stake.as_ref().map(|stake| (stake.currency.clone().unwrap(), stake.amount.to_string()))
    };
    let some = |currency: &str, amount: &str| Some((currency.to_owned(), amount.to_owned()));
    assert_eq!(
        [stake("x"), stake("y"), stake("z"), stake("w")],
        [some("EUR", "20"), some("JPY", "30"), None, some("$", "4")]
    );
    let mut summary = finance::Summary::default();
    compared.iter().for_each(|line| summary.add(line));
    let sums = &summary.buckets[&Bucket::OnlyTheirs].at_stake;
    assert_eq!(sums.keys().flatten().collect::<Vec<_>>(), ["$", "EUR", "JPY"]);
}

#[tokio::test]
async fn tolerance_tenants_campaigns_and_days_that_are_open() {
    let desk = Desk::new(2, "UTC").await;
    let ours = billed(&desk.ours());
    let (key, clicks) = ours.iter().max_by_key(|(_, clicks)| **clicks).unwrap();
    let mut theirs = ours.clone();
    theirs.insert(key.clone(), clicks + 1);
    for (tolerance, bucket) in [
        ("0", Bucket::Different),
        ("1", Bucket::WithinTolerance),
        ("0.01%", Bucket::Different),
        ("50%", Bucket::WithinTolerance),
    ] {
        let compared = desk.compare(&invoice(&theirs), "ad,day", tolerance).await.unwrap();
        let odd: Vec<_> = compared.iter().filter(|line| line.bucket != Bucket::Matched).collect();
        assert_eq!((odd.len(), odd[0].bucket), (1, bucket), "{tolerance}");
        assert_eq!((&*odd[0].who, odd[0].day, odd[0].ours, odd[0].theirs), (&*key.0, Some(key.1), *clicks, clicks + 1));
    }
    for text in ["", "5.5", "-1", "100%", "x%"] {
        assert!(text.parse::<Tolerance>().is_err(), "{text}");
    }
    for text in ["", "ad,ad", "day,day", "ad,campaign", "hour"] {
        assert!(text.parse::<Keys>().is_err(), "{text}");
    }

    // Two advertisers have a campaign of the same name.
    let mut campaigns: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for ((ad, _), clicks) in &ours {
        let Some(home) = home(ad) else { continue };
        *campaigns.entry(home).or_default() += clicks;
    }
    let lines = |with_tenant: bool, of: Option<&str>| {
        let lines = campaigns.iter().filter(|((tenant, _), _)| of.is_none_or(|of| of == *tenant));
        let line = |((tenant, campaign), clicks): (&(&str, &str), &u64)| match with_tenant {
            true => format!("{tenant},{campaign},{clicks}\n"),
            false => format!("{campaign},{clicks}\n"),
        };
        let head = if with_tenant { "Advertiser,Campaign,Clicks\n" } else { "Campaign,Clicks\n" };
        head.to_owned() + &lines.map(line).collect::<String>()
    };
    let shared = desk.compare(&lines(false, None), "campaign", "0").await.unwrap_err();
    assert!(
        matches!(shared, ReconcileError::SharedCampaign { .. }) && shared.to_string().contains("`spring`"),
        "{shared}"
    );
    let compared = desk.compare(&lines(true, None), "campaign", "0").await.unwrap();
    let odd: Vec<_> = compared.iter().filter(|line| line.bucket != Bucket::Matched).collect();
    // Clicks on an ad that the table does not know belong to nobody.
    assert!(odd.len() == 1 && odd[0].who.is_empty() && odd[0].bucket == Bucket::OnlyOurs, "{odd:?}");
    let acme = TenantId::parse("acme").unwrap();
    let compared = desk.compare_one(&lines(false, Some("acme")), "campaign", "0", Some(&acme)).await.unwrap();
    assert!(compared.len() == 2 && compared.iter().all(|line| line.bucket == Bucket::Matched), "{compared:?}");
    // Lines of others are none that we lack.
    let compared = desk.compare_one(&lines(true, None), "campaign", "0", Some(&acme)).await.unwrap();
    let found = breaks(&compared);
    let other = Cause::OtherAdvertiser { advertiser: "globex".to_owned() };
    assert_eq!(found, BTreeMap::from([(("globex/spring".to_owned(), None), (Bucket::OnlyTheirs, Some(other)))]));
    let nobody = TenantId::parse("nobody").unwrap();
    let unknown = desk.compare_one(&lines(false, None), "campaign", "0", Some(&nobody)).await.unwrap_err();
    assert!(matches!(unknown, ReconcileError::UnknownTenant(_)), "{unknown}");

    // A day that is not final may still change; one that is not closed is not compared.
    let last = |n| desk.world.first_day.plus(n);
    let is_clicked = |n: &i32| {
        !sums(
            &desk.world.truths.values().next_back().unwrap().clone(),
            Dates { first: last(*n), end: last(n + 1) },
            desk.zone,
        )
        .is_empty()
    };
    let n = (5..8).rev().find(is_clicked).unwrap();
    let late = Desk { dates: Dates { first: last(n), end: last(n + 1) }, ..desk };
    let mut theirs = billed(&late.ours());
    let key = theirs.keys().next().unwrap().clone();
    *theirs.get_mut(&key).unwrap() += 1_000;
    let compared = late.compare(&invoice(&theirs), "ad,day", "0").await.unwrap();
    let found = breaks(&compared);
    assert_eq!(found.len(), 1);
    assert!(matches!(found[&(key.0, Some(key.1))].1, Some(Cause::NotFinal { .. })), "{found:?}");
    let open = Desk { dates: Dates { end: late.world.first_day.plus(9), ..late.dates }, ..late };
    let error = open.compare(&invoice(&theirs), "ad,day", "0").await.unwrap_err();
    assert!(matches!(error, ReconcileError::Statement(StatementError::Open(_))), "{error}");
}
