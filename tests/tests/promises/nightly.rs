//! The nights' tables, read by an engine that is not ours: DuckDB sums the published copies, and recounts a day from the
//! raw objects that its inputs name.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use archive::codec::encode;
use clicks::books::Books;
use clicks::event::Click;
use clicks::id::{AdId, ClickId, Region, TopicId, UserId};
use clicks::ledger::{Body, Entry, Genesis, Night, TopicLife, entry_key};
use clicks::position::{Offset, PartitionId};
use clicks::rules::Rules;
use clicks::time::{Day, Span, Timestamp};
use clicks::wire;
use platform::clock::SimulatedClock;
use platform::ledger::Ledger;
use platform::log::{Header, LogRecord};
use platform::objects::Objects;
use promises::services::{duckdb, new_folder};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use recompute::{NightOutcome, Options, catch_up, run_night};

const SEED: u64 = 7;
const PARTITIONS: u32 = 2;
const NIGHTS: i32 = 6;
const CLICKS_PER_DAY: i64 = 3_000;

fn day(n: i32) -> Day {
    "2026-03-01".parse::<Day>().unwrap().plus(n - 1)
}

fn partition(number: u32) -> PartitionId {
    PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(1), number }
}

struct Sent {
    ad: String,
    id: u128,
    event: i64,
    append: i64,
}

/// What one ad has in one minute: clicks, duplicates, late.
type Truth = BTreeMap<(i64, String), (u64, u64, u64)>;

/// The words of the rules, one record after the other.
fn truth(sent: &[Sent]) -> Truth {
    let (mut last, mut truth) = (HashMap::new(), Truth::new());
    for click in sent {
        if click.event - click.append > 300_000 || click.append - click.event > 35 * 86_400_000 {
            continue;
        }
        let before = last.insert((&click.ad, click.id), click.append);
        let duplicate = before.is_some_and(|then| click.append - then < 86_400_000);
        let cell = truth.entry((click.event - click.event.rem_euclid(60_000), click.ad.clone())).or_default();
        cell.0 += u64::from(!duplicate);
        cell.1 += u64::from(duplicate);
        cell.2 += u64::from(!duplicate && click.append - click.event > 600_000);
    }
    truth
}

/// Clicks of days 1 to [`NIGHTS`], in append order: near and far duplicates, late by minutes and by days, some ahead.
fn generate() -> Vec<Sent> {
    let mut random = SmallRng::seed_from_u64(SEED);
    let mut sent: Vec<Sent> = Vec::new();
    let step = 86_400_000 / CLICKS_PER_DAY;
    for i in 0..CLICKS_PER_DAY * i64::from(NIGHTS) {
        let append = day(1).start().as_millis() + i * step + random.random_range(0..step);
        let delay = match random.random_range(0..100) {
            0 => random.random_range(-310_000..0),
            1..4 => random.random_range(600_000..6 * 3_600_000),
            4 => random.random_range(0..6 * 86_400_000),
            _ => random.random_range(0..600_000),
        };
        let (ad, id) = match random.random_range(0..20) {
            0 if !sent.is_empty() => {
                let again = &sent[sent.len() - 1 - random.random_range(0..sent.len().min(4_000))];
                (again.ad.clone(), again.id)
            }
            _ => (format!("ad-{}", random.random_range(0..10)), random.random()),
        };
        sent.push(Sent { ad, id, event: append - delay, append });
    }
    sent
}

fn record(offset: u64, append: i64, value: Option<Vec<u8>>, headers: Vec<Header>) -> (LogRecord, Timestamp) {
    let (offset, broker_time) = (Offset::new(offset), Timestamp::from_millis(append));
    (LogRecord { offset, broker_time, key: None, value: value.map(Into::into), headers }, broker_time)
}

/// Lays the log out as the archiver would: objects of one append hour, a heartbeat at the end of each.
async fn archive(objects: &Objects, sent: &[Sent]) {
    for number in 0..PARTITIONS {
        let mut by_hour: BTreeMap<i64, Vec<(i64, Option<&Sent>)>> = BTreeMap::new();
        let own = |ad: &str| ad.bytes().map(u32::from).sum::<u32>() % PARTITIONS == number;
        for click in sent.iter().filter(|click| own(&click.ad)) {
            by_hour.entry(click.append.div_euclid(3_600_000)).or_default().push((click.append, Some(click)));
        }
        let covered = day(NIGHTS).end().as_millis() + 600_000;
        by_hour.entry(covered.div_euclid(3_600_000)).or_default().push((covered, None));
        let mut offset = 0;
        for records in by_hour.into_values() {
            let rows: Vec<_> = records
                .into_iter()
                .map(|(append, click)| {
                    let row = match click {
                        Some(click) => record(offset, append, Some(value(click)), Vec::new()),
                        None => {
                            let name = wire::HEADER_CONTROL.to_owned();
                            record(offset, append, None, vec![Header { name, value: Some("heartbeat".into()) }])
                        }
                    };
                    offset += 1;
                    row
                })
                .collect();
            let object = encode(&partition(number), "test", &rows).unwrap();
            objects.create(&object.footer.key().to_string(), object.bytes).await.unwrap();
        }
    }
}

fn value(click: &Sent) -> Vec<u8> {
    wire::encode(&Click {
        click_id: ClickId::from_u128(click.id),
        ad_id: AdId::parse(&click.ad).unwrap(),
        user_id: UserId::parse("u").unwrap(),
        event_time: Timestamp::from_millis(click.event),
    })
    .into_bytes()
}

async fn begin(objects: &Objects) -> Ledger {
    let ledger = Ledger::new(objects.clone());
    let mut books = ledger.begin(Genesis { first_day: day(1), rules: Rules::default() }).await.unwrap();
    let life = TopicLife {
        region: Region::parse("eu").unwrap(),
        topic_id: TopicId::from_u128(1),
        name: "clicks".to_owned(),
        partitions: PARTITIONS,
    };
    ledger.publish(&mut books, Body::Topic(life)).await.unwrap();
    ledger
}

async fn night(objects: &Objects, books: &Books, n: i32) -> Night {
    for number in 1..=books.head() {
        let bytes = objects.get(&entry_key(number)).await.unwrap().unwrap();
        match Entry::decode(number, &bytes).unwrap().body {
            Body::Night(night) if night.night == day(n) => return *night,
            _ => {}
        }
    }
    panic!("night {n} is not published");
}

fn cells(rows: Vec<Vec<String>>) -> Truth {
    let number = |text: &str| text.parse::<u64>().unwrap();
    let cell = |row: Vec<String>| {
        ((row[0].parse().unwrap(), row[1].clone()), (number(&row[2]), number(&row[3]), number(&row[4])))
    };
    rows.into_iter().map(cell).collect()
}

#[tokio::test]
async fn a_stranger_reads_and_recounts_the_published_tables() {
    let folder = new_folder("nightly").unwrap();
    let objects = Objects::open_folder(folder.clone()).unwrap();
    let sent = generate();
    let ledger = begin(&objects).await;
    archive(&objects, &sent).await;
    let clock = SimulatedClock::new(day(NIGHTS).end() + Span::minutes(10));
    let caught = catch_up(&Options::default(), &objects, &ledger, &clock).await.unwrap();
    assert_eq!((caught.nights.len(), caught.waits), (NIGHTS as usize, None));
    assert!(caught.nights.iter().any(|night| !night.adjustments.is_empty()), "some clicks came after finality");

    everything_is_counted_once(&folder, &sent).await;
    hours_and_days_are_sums_of_minutes(&folder).await;
    a_day_is_recounted_from_its_inputs(&folder, &objects, &ledger).await;

    let again = run_night(&Options::default(), &objects, &ledger, &clock, Some(day(3))).await.unwrap();
    assert!(matches!(again, NightOutcome::AlreadyPublished { .. }));
    everything_is_counted_once(&folder, &sent).await;
}

/// Every click up to the last cut is in exactly one place: a revision or an adjustment.
async fn everything_is_counted_once(folder: &Path, sent: &[Sent]) {
    let sql = format!(
        "SELECT epoch_ms(period_start), ad_id, sum(clicks) + sum(adjustment), 0, 0 \
         FROM read_parquet('{}/tables/current/minute/*/data.parquet') GROUP BY ALL",
        folder.display()
    );
    let mut found = cells(duckdb(&sql).await.unwrap());
    found.retain(|_, cell| cell.0 > 0);
    let published = |(start, _): &(i64, String)| Timestamp::from_millis(*start).day() <= day(NIGHTS);
    let clicks = truth(sent).into_iter().filter(|(key, cell)| published(key) && cell.0 > 0);
    let expected: Truth = clicks.map(|(key, cell)| (key, (cell.0, 0, 0))).collect();
    assert_eq!(found.len(), expected.len());
    assert_eq!(found, expected);
}

async fn hours_and_days_are_sums_of_minutes(folder: &Path) {
    for (grain, width) in [("hour", 3_600_000), ("day", 86_400_000)] {
        let of = |grain: &str| {
            format!(
                "SELECT epoch_ms(period_start) // {width} AS period, ad_id, class, sum(clicks) AS clicks, \
                 sum(duplicates) AS duplicates, sum(late) AS late, sum(adjustment) AS adjustment, \
                 any_value(revision) AS revision \
                 FROM read_parquet('{}/tables/current/{grain}/*/data.parquet') GROUP BY ALL",
                folder.display()
            )
        };
        let (minutes, rolled) = (of("minute"), of(grain));
        let sql = format!(
            "SELECT (SELECT count(*) FROM ({rolled})), \
             (SELECT count(*) FROM (({minutes}) EXCEPT ({rolled}))), \
             (SELECT count(*) FROM (({rolled}) EXCEPT ({minutes})))"
        );
        let row = duckdb(&sql).await.unwrap().remove(0);
        assert_ne!(row[0], "0");
        assert_eq!(row[1..], ["0", "0"], "{grain}");
    }
}

/// Promise 2: whoever holds the raw objects that a night names recomputes its day row for row, with plain SQL.
async fn a_day_is_recounted_from_its_inputs(folder: &Path, objects: &Objects, ledger: &Ledger) {
    let books = ledger.read().await.unwrap();
    let night = night(objects, &books, 2).await;
    let revision = night.days.iter().find(|revision| revision.day == day(2)).unwrap();
    let at = |key: &str| format!("{}/{key}", folder.display());
    let (inputs, table) = (at(&night.inputs.key), at(&revision.minute.key));
    let files = duckdb(&format!("SELECT unnest(objects).key FROM read_json('{inputs}')")).await.unwrap();
    let files: Vec<String> = files.iter().map(|row| format!("'{}'", at(&row[0]))).collect();
    let cut = |number: u32| night.cuts[&partition(number)];
    let (start, end) = (day(2).start().as_millis(), day(2).end().as_millis());
    let sql = format!(
        "WITH clicks AS ( \
           SELECT ad_id, epoch_ms(event_time) AS event, epoch_ms(append_time) AS append, \
                  lag(epoch_ms(append_time)) OVER (PARTITION BY ad_id, click_id ORDER BY \"offset\") AS before \
           FROM read_parquet([{}], hive_partitioning = true) \
           WHERE kind = 0 AND \"offset\" < CASE part WHEN 0 THEN {} ELSE {} END \
             AND epoch_ms(event_time) - epoch_ms(append_time) <= 300000 \
             AND epoch_ms(append_time) - epoch_ms(event_time) <= 35 * 86400000::BIGINT) \
         SELECT event // 60000 * 60000 AS minute, ad_id, \
                count(*) FILTER (before IS NULL OR append - before >= 86400000), \
                count(*) FILTER (append - before < 86400000), \
                count(*) FILTER ((before IS NULL OR append - before >= 86400000) AND append - event > 600000) \
         FROM clicks WHERE event >= {start} AND event < {end} GROUP BY ALL",
        files.join(","),
        cut(0),
        cut(1),
    );
    let recounted = cells(duckdb(&sql).await.unwrap());
    let sql = format!("SELECT epoch_ms(period_start), ad_id, clicks, duplicates, late FROM read_parquet('{table}')");
    let published = cells(duckdb(&sql).await.unwrap());
    assert!(published.len() > 1_000);
    assert_eq!(recounted, published);
}
