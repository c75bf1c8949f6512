//! Random ledgers with their published tables, written by hand beside the truth that they must say: nights, restatements of
//! open days, clicks that are found after a day is final, a day that is reopened.
#![allow(dead_code, clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, Date32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use clicks::ads::{AdsTable, parse};
use clicks::inputs::{InputList, InputObject};
use clicks::ledger::{
    Adjustments, Balance, Body, Change, ChangeReason, DayRevision, DayTotals, FileRef, Genesis, Night, PeriodAction,
    PeriodChange, Recount, sha256,
};
use clicks::position::Offset;
use clicks::rules::Rules;
use clicks::tables::{EntryNumber, adjustments_key, columns, inputs_key, rev_key};
use clicks::time::{Day, Span, Timestamp};
use clicks::window::Grain;
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use platform::ledger::{Ledger, Published};
use platform::objects::Objects;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Clicks by minute and ad.
pub type Counts = BTreeMap<(Timestamp, &'static str), u64>;

/// What is billed: of revisions, and what was found later.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    pub clicks: Counts,
    pub adjustments: Counts,
}

#[derive(Debug)]
pub struct World {
    pub objects: Objects,
    pub ledger: Ledger,
    pub first_day: Day,
    /// The truth at each position of the ledger.
    pub truths: BTreeMap<EntryNumber, Truth>,
    truth: Truth,
    random: SmallRng,
    /// Of the one raw object, which is replaced now and then, and of the rules.
    archive: u32,
    rules_version: u32,
    /// Decides about those two.
    changes: SmallRng,
}

/// Ads of the table; `free` has no price, `new` has one from a later day on, and nobody knows `stray`.
pub const ADS: [&str; 6] = ["a", "b", "dear", "free", "new", "stray"];
pub const TABLE: &str = "\
ad_id,tenant,campaign,name,price,currency,valid_from
a,acme,spring,Red shoes,0.25,EUR,2026-03-01
a,acme,spring,\"Red shoes, reduced\",0.2,EUR,2026-03-29
b,acme,summer,Hats,0.000001,EUR,2026-03-01
dear,globex,spring,Rockets,1000000,USD,2026-03-01
dear,globex,spring,Rockets,999999.999999,EUR,2026-03-30
free,globex,spring,Leaflet,,,2026-03-01
new,acme,spring,Socks,3,EUR,2026-03-28
";

pub fn ads() -> AdsTable {
    AdsTable::new(parse(TABLE.as_bytes()).unwrap()).unwrap()
}

impl World {
    /// `nights` nights from the first day on. The clocks of Europe go forward on 2026-03-29.
    pub async fn random(seed: u64, nights: usize) -> Self {
        let first_day: Day = "2026-03-27".parse().unwrap();
        let objects = Objects::memory();
        let ledger = Ledger::new(objects.clone());
        ledger.begin(Genesis { first_day, rules: Rules::default() }).await.unwrap();
        let (truth, random) = (Truth::default(), SmallRng::seed_from_u64(seed));
        let changes = SmallRng::seed_from_u64(!seed);
        let truths = [(0, truth.clone())].into();
        let mut world =
            World { objects, ledger, first_day, truths, truth, random, archive: 1, rules_version: 1, changes };
        for _ in 0..nights {
            world.night().await;
            if world.random.random_bool(0.3) {
                world.reopen().await;
            }
        }
        world
    }

    fn some_clicks(&mut self, day: Day, most: usize) -> Counts {
        let mut counts = Counts::new();
        for _ in 0..self.random.random_range(0..=most) {
            // Often at the very ends of hours and days, where zones cut.
            let minute = match self.random.random_range(0..4) {
                0 => *[0, 1_439, 719, 720, 1_095, 1_094, 60, 59].get(self.random.random_range(0..8)).unwrap(),
                _ => self.random.random_range(0..1_440),
            };
            let ad = ADS[self.random.random_range(0..ADS.len())];
            *counts.entry((day.start() + Span::minutes(minute), ad)).or_default() += self.random.random_range(1..9);
        }
        counts
    }

    async fn night(&mut self) {
        self.archive += u32::from(self.changes.random_bool(0.2));
        self.rules_version += u32::from(self.changes.random_bool(0.1));
        let mut books = self.ledger.read().await.unwrap();
        let (night, number) = (books.next_night(), books.head() + 1);
        let mut days = Vec::new();
        for day in books.open_days() {
            let found = self.some_clicks(day, 3);
            if !found.is_empty() && self.random.random_bool(0.5) {
                add(&mut self.truth.clicks, &found);
                let revision = books.day(day).unwrap().revision.revision + 1;
                days.push(self.revision(number, day, revision, Some(ChangeReason::LateArrival)).await);
            }
        }
        let clicks = self.some_clicks(night, 40);
        add(&mut self.truth.clicks, &clicks);
        days.push(self.revision(number, night, 1, None).await);
        let mut found = Counts::new();
        let settled = books.days().filter(|(_, book)| book.is_final).map(|(day, _)| day);
        for day in settled.chain([self.first_day.previous()]).collect::<Vec<_>>() {
            if self.random.random_bool(0.3) {
                found.extend(self.some_clicks(day, 4));
            }
        }
        let adjustments = match found.is_empty() {
            true => None,
            false => {
                let mut clicks = BTreeMap::new();
                found.iter().for_each(|((time, _), count)| *clicks.entry(time.day()).or_default() += count);
                let file = adjustment_table(&found, night);
                let key = adjustments_key(number, &sha256(&file));
                add(&mut self.truth.adjustments, &found);
                Some(Adjustments { file: self.put(key, file, found.len()).await, clicks })
            }
        };
        let body = Night {
            night,
            published_at: night.next().start() + Span::minutes(11),
            release: "test".to_owned(),
            cuts: BTreeMap::new(),
            days,
            withheld: None,
            accepted: None,
            confirmed: Vec::new(),
            finals: books.finals_of(night),
            adjustments,
            inputs: self.archived(number, night).await,
            balance: Balance::default(),
        };
        assert_eq!(self.ledger.publish(&mut books, Body::Night(Box::new(body))).await.unwrap(), Published::Ours);
        self.truths.insert(books.head(), self.truth.clone());
    }

    /// A final day is published once more: with all that was found of it, and perhaps fewer clicks than before.
    async fn reopen(&mut self) {
        let mut books = self.ledger.read().await.unwrap();
        let finals: Vec<Day> = books.days().filter(|(_, book)| book.is_final).map(|(day, _)| day).collect();
        let Some(day) = finals.get(self.random.random_range(0..finals.len().max(1))).copied() else { return };
        let (actor, reason) = ("ann".to_owned(), "a partner was wrong".to_owned());
        let at = books.next_night().start() + Span::hours(2);
        let change = PeriodChange { day, action: PeriodAction::Reopen, actor, reason, at };
        self.ledger.publish(&mut books, Body::Period(change)).await.unwrap();
        self.truths.insert(books.head(), self.truth.clone());
        if self.random.random_bool(0.2) {
            return;
        }
        let book = books.day(day).unwrap().clone();
        let absorbed: Vec<_> = self.truth.adjustments.keys().filter(|(time, _)| time.day() == day).copied().collect();
        for key in absorbed {
            let clicks = self.truth.adjustments.remove(&key).unwrap();
            *self.truth.clicks.entry(key).or_default() += clicks;
        }
        if self.random.random_bool(0.5)
            && let Some(key) = self.truth.clicks.keys().find(|(time, _)| time.day() == day).copied()
        {
            self.truth.clicks.remove(&key);
        }
        let number = books.head() + 1;
        let revision = self.revision(number, day, book.revision.revision + 1, Some(ChangeReason::Reopened)).await;
        let recount = Recount {
            day: revision,
            night: books.last_night().unwrap(),
            published_at: at + Span::hours(1),
            release: "test".to_owned(),
            absorbs: book.adjustments.iter().map(|adjustment| adjustment.night).collect(),
            accepted: None,
            inputs: self.archived(number, day).await,
            balance: Balance::default(),
        };
        self.ledger.publish(&mut books, Body::Recount(Box::new(recount))).await.unwrap();
        self.truths.insert(books.head(), self.truth.clone());
    }

    async fn revision(
        &mut self,
        entry: EntryNumber,
        day: Day,
        revision: u32,
        reason: Option<ChangeReason>,
    ) -> DayRevision {
        let of_day = self.truth.clicks.iter().filter(|((time, _), _)| time.day() == day);
        let of_day: Counts = of_day.map(|(key, count)| (*key, *count)).collect();
        let mut files = Vec::new();
        for grain in Grain::ALL {
            let (mut counts, mut dropped) = (Counts::new(), Counts::new());
            for ((time, ad), count) in &of_day {
                let key = (grain.window(*time).start, *ad);
                *counts.entry(key).or_default() += count;
                *dropped.entry(key).or_default() += duplicates(*count);
            }
            let bytes = table(&counts, &dropped);
            files.push(self.put(rev_key(entry, grain, day, &sha256(&bytes)), bytes, counts.len()).await);
        }
        let [minute, hour, day_file] = files.try_into().unwrap();
        let totals = DayTotals { clicks: of_day.values().sum(), ..DayTotals::default() };
        let change = reason.map(|reason| Change { reason, file: no_file(), clicks: 0 });
        DayRevision { day, revision, rules_version: self.rules_version, minute, hour, day_file, totals, change }
    }

    /// A list of raw objects as it is now. It is there to be compared with others: these counts come from nowhere.
    async fn archived(&self, number: EntryNumber, night: Day) -> FileRef {
        let object = InputObject {
            key: "raw/v1/region=eu/topic=00000000-0000-0000-0000-000000000001/part=0/day=2026-03-27/00000000000000000000.parquet".to_owned(),
            sha256: self.archive.to_string(),
            bytes: 1,
            from: Offset::ZERO,
            to: Offset::new(number),
        };
        let list = InputList { version: InputList::VERSION, night, objects: vec![object] }.encode();
        self.put(inputs_key(number, &sha256(&list)), list, 1).await
    }

    async fn put(&self, key: String, bytes: Vec<u8>, rows: usize) -> FileRef {
        let file = FileRef { key: key.clone(), sha256: sha256(&bytes), bytes: bytes.len() as u64, rows: rows as u64 };
        self.objects.create(&key, bytes.into()).await.unwrap();
        file
    }
}

fn no_file() -> FileRef {
    FileRef { key: "none".to_owned(), sha256: String::new(), bytes: 0, rows: 0 }
}

fn add(to: &mut Counts, found: &Counts) {
    found.iter().for_each(|(key, count)| *to.entry(*key).or_default() += count);
}

/// Of the clicks of an ad in a minute, how many came twice.
pub const fn duplicates(clicks: u64) -> u64 {
    clicks % 3
}

fn table(counts: &Counts, dropped: &Counts) -> Vec<u8> {
    let dropped = Int64Array::from_iter_values(dropped.values().map(|count| *count as i64));
    bytes(counts, vec![(columns::DUPLICATES, Arc::new(dropped))])
}

fn adjustment_table(counts: &Counts, night: Day) -> Vec<u8> {
    bytes(counts, vec![(columns::NIGHT, Arc::new(Date32Array::from_value(night.number(), counts.len())))])
}

fn bytes(counts: &Counts, more: Vec<(&'static str, ArrayRef)>) -> Vec<u8> {
    let starts = TimestampMillisecondArray::from_iter_values(counts.keys().map(|(time, _)| time.as_millis()));
    let mut all: Vec<(&'static str, ArrayRef)> = vec![
        (columns::PERIOD_START, Arc::new(starts.with_timezone("UTC"))),
        (columns::AD_ID, Arc::new(StringArray::from_iter_values(counts.keys().map(|(_, ad)| ad)))),
        (columns::CLASS, Arc::new(StringArray::from_iter_values(counts.keys().map(|_| "valid")))),
        (columns::CLICKS, Arc::new(Int64Array::from_iter_values(counts.values().map(|count| *count as i64)))),
    ];
    all.extend(more);
    let batch = RecordBatch::try_from_iter_with_nullable(all.into_iter().map(|(name, column)| (name, column, false)));
    let batch = batch.unwrap();
    let version = KeyValue::new("twofold.version".to_owned(), "1".to_owned());
    let properties = WriterProperties::builder().set_key_value_metadata(Some(vec![version])).build();
    let mut bytes = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    bytes
}
