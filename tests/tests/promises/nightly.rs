//! The nights' tables, read by an engine that is not ours: DuckDB sums the published copies, and recounts a day from the
//! raw objects that its inputs name.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use archive::codec::encode;
use clicks::event::Click;
use clicks::id::{AdId, ClickId, Region, TopicId, UserId};
use clicks::ledger::{Body, Genesis, TopicLife};
use clicks::partitioner::partition_of;
use clicks::position::{Offset, PartitionId};
use clicks::rules::Rules;
use clicks::time::{Day, Span, Timestamp};
use clicks::wire;
use platform::clock::{Clock, SimulatedClock, SystemClock};
use platform::ledger::Ledger;
use platform::log::{Header, LogRecord};
use platform::objects::Objects;
use promises::binary::twofold;
use promises::services::{duckdb, new_folder};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use recompute::{NightOutcome, Options, catch_up, run_night};

const SEED: u64 = 7;
const PARTITIONS: u32 = 2;
pub(crate) const NIGHTS: i32 = 6;
const CLICKS_PER_DAY: i64 = 3_000;
/// An ad whose clicks do not lie in the partition that its key belongs to.
pub(crate) const ASTRAY: &str = "ad-5";
/// Another one, whose clicks are all from too far ahead to count.
pub(crate) const GHOST: &str = "ghost";
pub(crate) const GHOSTS: u64 = 3;

/// The day on which the books begin, unless a test begins them on another one.
pub(crate) fn first_day() -> Day {
    "2026-03-01".parse().unwrap()
}

pub(crate) fn day(n: i32) -> Day {
    first_day().plus(n - 1)
}

/// The end of the last night's day.
fn end_of(first: Day) -> Timestamp {
    first.plus(NIGHTS - 1).end()
}

fn partition(number: u32) -> PartitionId {
    PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(1), number }
}

pub(crate) struct Sent {
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

/// Clicks of [`NIGHTS`] days, in append order: near and far duplicates, late by minutes and by days, some ahead.
pub(crate) fn generate(first: Day) -> Vec<Sent> {
    let mut random = SmallRng::seed_from_u64(SEED);
    let mut sent: Vec<Sent> = Vec::new();
    let step = 86_400_000 / CLICKS_PER_DAY;
    for i in 0..CLICKS_PER_DAY * i64::from(NIGHTS) {
        let append = first.start().as_millis() + i * step + random.random_range(0..step);
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
    let append = end_of(first).as_millis() - 12 * 3_600_000;
    let place = sent.partition_point(|sent| sent.append < append);
    let ghosts = (0..GHOSTS.into()).map(|id| Sent { ad: GHOST.to_owned(), id, event: append + 400_000, append });
    sent.splice(place..place, ghosts);
    sent
}

fn record(offset: u64, append: i64, value: Option<Vec<u8>>, headers: Vec<Header>) -> (LogRecord, Timestamp) {
    let (offset, broker_time) = (Offset::new(offset), Timestamp::from_millis(append));
    (LogRecord { offset, broker_time, key: None, value: value.map(Into::into), headers }, broker_time)
}

/// Lays the log out as the archiver would: objects of one append hour, a heartbeat at the end of each.
pub(crate) async fn archive(objects: &Objects, first: Day, sent: &[Sent]) {
    for number in 0..PARTITIONS {
        let mut by_hour: BTreeMap<i64, Vec<(i64, Option<&Sent>)>> = BTreeMap::new();
        // Who sends the clicks of one ad goes by a partitioner of his own.
        let is_astray = |ad: &str| [ASTRAY, GHOST].contains(&ad);
        let home = |ad: &str| partition_of(ad.as_bytes(), PARTITIONS) + u32::from(is_astray(ad));
        let own = |ad: &str| home(ad) % PARTITIONS == number;
        for click in sent.iter().filter(|click| own(&click.ad)) {
            by_hour.entry(click.append.div_euclid(3_600_000)).or_default().push((click.append, Some(click)));
        }
        let covered = end_of(first).as_millis() + 600_000;
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

pub(crate) async fn begin(objects: &Objects, first_day: Day) -> Ledger {
    let ledger = Ledger::new(objects.clone());
    let mut books = ledger.begin(Genesis { first_day, rules: Rules::default() }).await.unwrap();
    let life = TopicLife {
        region: Region::parse("eu").unwrap(),
        topic_id: TopicId::from_u128(1),
        name: "clicks".to_owned(),
        partitions: PARTITIONS,
    };
    ledger.publish(&mut books, Body::Topic(life)).await.unwrap();
    ledger
}

/// Settings of an installation in a folder, whose clock stands ten minutes past the last night's midnight.
pub(crate) fn settle(folder: &Path, first: Day) -> PathBuf {
    let millis = (end_of(first) + Span::minutes(10)).since(SystemClock.now()).as_millis() + 1_000;
    std::fs::write(folder.join("shift"), millis.to_string()).unwrap();
    let settings = folder.join("t.toml");
    let text = "[storage]\nurl = \"file://FOLDER/store\"\n[clock]\noffset_file = \"FOLDER/shift\"\n\
                [batch]\nmetrics_file = \"FOLDER/twofold.prom\"\n";
    std::fs::write(&settings, text.replace("FOLDER", &folder.display().to_string())).unwrap();
    settings
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
    let sent = generate(first_day());
    let ledger = begin(&objects, first_day()).await;
    archive(&objects, first_day(), &sent).await;
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

/// The statements of the README for one day of one installation: what an auditor would paste.
fn readme_sql(folder: &Path, day: Day) -> String {
    let readme = include_str!("../../../README.md");
    let (_, block) = readme.split_once("```sql\n").expect("the README has a block of SQL");
    let (sql, _) = block.split_once("```").expect("the block ends");
    let line = |line: &str| match line.split_once(" = ").map(|(name, _)| name) {
        Some("SET VARIABLE root") => format!("SET VARIABLE root = '{}';\n", folder.display()),
        Some("SET VARIABLE day") => format!("SET VARIABLE day = '{day}';\n"),
        _ => format!("{line}\n"),
    };
    sql.lines().map(line).collect()
}

/// Minutes, clicks, differences, raw objects, changed files.
async fn audited(folder: &Path, n: i32) -> Vec<u64> {
    let row = duckdb(&readme_sql(folder, day(n))).await.unwrap().remove(0);
    row.iter().map(|value| value.parse().unwrap()).collect()
}

/// Promise 2: whoever holds the raw objects that a night names recomputes its day row for row, with plain SQL; and what
/// was changed since shows.
async fn a_day_is_recounted_from_its_inputs(folder: &Path, objects: &Objects, ledger: &Ledger) {
    let books = ledger.read().await.unwrap();
    let revision = &books.day(day(2)).unwrap().revision;
    let whole = audited(folder, 2).await;
    assert_eq!((whole[0], whole[1]), (revision.minute.rows, revision.totals.clicks));
    assert!(whole[0] > 1_000 && whole[3] > 50, "{whole:?}");
    assert_eq!((whole[2], whole[4]), (0, 0), "no row differs, no file was changed");

    // Noon of the day, in an object that is sound by itself and lacks a click.
    let listed = objects.list("raw/", None).await.unwrap();
    let noon = listed.iter().filter(|object| object.key.contains(&format!("part=0/day={}", day(2)))).nth(12).unwrap();
    let sound = objects.get(&noon.key).await.unwrap().unwrap();
    let mut rows = archive::codec::decode(sound.clone()).unwrap();
    let again = rows[rows.len() - 2].0.value.clone();
    rows.last_mut().unwrap().0.value = again;
    let forged = encode(&partition(0), "test", &rows).unwrap();
    objects.put(&noon.key, forged.bytes).await.unwrap();
    let spoilt = audited(folder, 2).await;
    assert!(spoilt[2] > 0 && spoilt[4] == 1, "{spoilt:?}");
    objects.put(&noon.key, sound).await.unwrap();
    assert_eq!(audited(folder, 2).await, whole);
}

/// What cron and an auditor see of an installation in a folder, by the binary alone.
#[tokio::test]
async fn the_binary_rehearses_closes_audits_and_cleans() {
    let folder = new_folder("nightly-cron").unwrap();
    let objects = Objects::open_folder(folder.join("store")).unwrap();
    begin(&objects, first_day()).await;
    archive(&objects, first_day(), &generate(first_day())).await;
    let (settings, metrics) = (settle(&folder, first_day()), folder.join("twofold.prom"));
    let run = async |line: &str| {
        let mut command = tokio::process::Command::from(twofold());
        command.arg("--config").arg(&settings).args(line.split(' ')).kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(120), command.output()).await.unwrap().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    };
    let stored = async || objects.list("", None).await.unwrap();

    let before = stored().await;
    let (code, stdout, _) = run("batch run --catch-up --dry-run").await;
    assert_eq!(code, Some(0), "{stdout}");
    assert!(stdout.starts_with("dry run") && stdout.contains("6 nights") && stdout.lines().count() == 1, "{stdout}");
    assert_eq!(stored().await, before, "a rehearsal writes nothing");
    assert!(!metrics.exists(), "and is told to nobody");
    let (code, _, stderr) = run("batch run --catch-up --lookback 2").await;
    assert!(code == Some(2) && stderr.contains("--lookback 6"), "{stderr}");
    let (code, stdout, _) = run("batch run --catch-up").await;
    assert!(code == Some(0) && stdout.starts_with("closed 6 nights") && stdout.lines().count() == 1, "{stdout}");
    let closed = format!("twofold_batch_closed_until_seconds {}", day(NIGHTS).end().as_millis() / 1000);
    let told = std::fs::read_to_string(&metrics).unwrap();
    assert!(told.lines().any(|line| line == closed), "{told}");
    let published = stored().await;
    let (code, stdout, _) = run("batch run --catch-up").await;
    assert!(code == Some(0) && stdout.starts_with("no night is due"), "{stdout}");
    assert_eq!(stored().await, published, "running again changes nothing, and leaves no lease");

    for audit in ["audit --date 2026-03-02", "audit --date 2026-03-02 --engine reference"] {
        let (code, stdout, stderr) = run(audit).await;
        assert!(code == Some(0) && stdout.starts_with("2026-03-02 holds"), "{audit}: {stdout}{stderr}");
    }
    let minute = Ledger::new(objects.clone()).read().await.unwrap().day(day(2)).unwrap().revision.minute.key.clone();
    let sound = objects.get(&minute).await.unwrap().unwrap();
    objects.put(&minute, "PAR1".into()).await.unwrap();
    let (code, stdout, stderr) = run("audit --date 2026-03-02").await;
    assert!(code == Some(14) && stdout.contains("does not hold") && stderr.contains(&minute), "{stdout}{stderr}");
    objects.put(&minute, sound).await.unwrap();

    // A file of a killed run, eight days old by the clock of this installation.
    let orphan = folder.join("store/tables/rev/00000000000000000003/minute-2026-03-02-0000.parquet");
    std::fs::write(&orphan, "left").unwrap();
    let written =
        std::time::UNIX_EPOCH + Duration::from_millis((day(NIGHTS).start() - Span::days(8)).as_millis() as u64);
    std::fs::File::options().write(true).open(&orphan).unwrap().set_modified(written).unwrap();
    let (code, stdout, _) = run("batch gc --dry-run").await;
    assert!(code == Some(0) && stdout.starts_with("would delete 1 files") && orphan.exists(), "{stdout}");
    let (code, stdout, stderr) = run("batch gc").await;
    assert!(code == Some(0) && stdout.starts_with("deleted 1 files") && stderr.contains("minute-2026-03-02-0000"));
    assert_eq!(stored().await, published, "nothing but the orphan is gone");
}
