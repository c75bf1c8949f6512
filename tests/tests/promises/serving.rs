//! The page in a browser: what a person reads there is what the API says, and that is the truth; with Redis killed, closed
//! days are still there and nothing that is unknown reads as a number.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use archive::codec::encode;
use clicks::ads::{self, AdsTable};
use clicks::counter::{LiveCounter, Observed};
use clicks::event::Click;
use clicks::id::{AdId, ClickId, Region, TenantId, TopicId, UserId};
use clicks::ledger::{Body, Genesis, TopicLife};
use clicks::live::{Expected, FlushOutcome, Generation, Meta, Stage};
use clicks::partitioner::partition_of;
use clicks::position::{Offset, PartitionId};
use clicks::rules::{Rules, RulesBook};
use clicks::time::{Day, Span, Timestamp};
use clicks::wire;
use platform::ads::{Ads, Load};
use platform::clock::SimulatedClock;
use platform::keys::{Keys, NewKey, Scope};
use platform::ledger::Ledger;
use platform::log::{Header, LogRecord};
use platform::objects::Objects;
use platform::store::{RedisOptions, RedisStore, SpeedStore};
use promises::services::{Page, PageView, Redis, check_api, new_folder, open_page, use_keys, walk_page};
use serde_json::Value;
use serving::{Access, Options, Server, ServingError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PARTITIONS: u32 = 2;
const ADS: [&str; 3] = ["summer-sale", "ad-17", "x1"];

fn day(n: i32) -> Day {
    "2026-03-01".parse::<Day>().unwrap().plus(n - 1)
}

fn partition(number: u32, topic: TopicId) -> PartitionId {
    PartitionId { region: Region::parse("eu").unwrap(), topic, number }
}

/// A click a minute and ad, and one more of the first ad every third minute; every seventh is sent twice.
fn records(number: u32, until: Timestamp) -> Vec<(LogRecord, Timestamp)> {
    let mut values: Vec<(Timestamp, Option<String>)> = Vec::new();
    let minutes = until.since(day(1).start()).as_millis() / 60_000;
    for minute in 0..minutes {
        let time = day(1).start() + Span::minutes(minute);
        for (n, ad) in ADS.iter().enumerate().filter(|(_, ad)| partition_of(ad.as_bytes(), PARTITIONS) == number) {
            let clicks = if n == 0 && minute % 3 == 0 { 2 } else { 1 };
            for click in 0..clicks {
                let value = wire::encode(&Click {
                    click_id: ClickId::from_u128((minute as u128) << 8 | (n as u128) << 4 | click),
                    ad_id: AdId::parse(ad).unwrap(),
                    user_id: UserId::parse("u").unwrap(),
                    event_time: time,
                });
                let times = if minute % 7 == 0 { 2 } else { 1 };
                values.extend((0..times).map(|_| (time + Span::seconds(1), Some(value.clone()))));
            }
        }
    }
    values.push((until, None));
    values.into_iter().enumerate().map(|(offset, (append, value))| record(offset, append, value)).collect()
}

/// Without a value it is a heartbeat.
fn record(offset: usize, append: Timestamp, value: Option<String>) -> (LogRecord, Timestamp) {
    let control = Header { name: wire::HEADER_CONTROL.to_owned(), value: Some("heartbeat".into()) };
    let headers = if value.is_none() { vec![control] } else { Vec::new() };
    let (offset, value) = (Offset::new(offset as u64), value.map(Into::into));
    (LogRecord { offset, broker_time: append, key: None, value, headers }, append)
}

/// Distinct clicks of an ad up to a minute.
fn truth(ad: usize, minutes: i64) -> u64 {
    let extra = if ad == 0 { (minutes + 2) / 3 } else { 0 };
    (minutes + extra) as u64
}

async fn archive(objects: &Objects, id: &PartitionId, records: &[(LogRecord, Timestamp)]) {
    let mut by_hour = BTreeMap::<i64, Vec<(LogRecord, Timestamp)>>::new();
    for record in records {
        by_hour.entry(record.1.as_millis().div_euclid(3_600_000)).or_default().push(record.clone());
    }
    for rows in by_hour.values() {
        let object = encode(id, "test", rows).unwrap();
        objects.create(&object.footer.key().to_string(), object.bytes).await.unwrap();
    }
}

async fn count(store: &RedisStore, id: &PartitionId, records: &[(LogRecord, Timestamp)]) {
    let rules = RulesBook::new(Rules::default()).unwrap();
    let meta = Meta::new(Offset::ZERO, day(1), day(0), Offset::ZERO);
    let generation = Generation::from_u128(u128::from(id.number) + 1);
    let mut counter = LiveCounter::begin(rules, Expected::Nothing, (generation, Stage::Live), meta, usize::MAX);
    for (n, (record, _)) in records.iter().enumerate() {
        let value = record.value.as_deref();
        let (offset, broker_time) = (record.offset, record.broker_time);
        counter.observe(&Observed { offset, broker_time, key: None, value, control: value.is_none() }).unwrap();
        if n % 500 == 0 || n + 1 == records.len() {
            let flush = counter.flush();
            assert_eq!(store.flush(id, &flush).await.unwrap(), FlushOutcome::Applied);
            counter.stored();
        }
    }
}

async fn ask(address: SocketAddr, path: &str) -> Value {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let text = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{path}: {text}");
    serde_json::from_str(body).unwrap()
}

async fn look(address: SocketAddr, query: &str, wait: &str, width: u32) -> Page {
    let picture = new_folder("page").unwrap().join("page.png");
    let url = format!("http://{address}/{query}");
    let page = open_page(&url, &picture, PageView { wait: Some(wait), width }).await.unwrap();
    assert_eq!(page.errors, Vec::<String>::new());
    page
}

/// The words of the line of a table that begins with this word.
fn line<'a>(page: &'a Page, first: &str) -> Vec<&'a str> {
    let lines = page.text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    lines.into_iter().find(|words| words.first() == Some(&first)).unwrap_or_else(|| panic!("no {first}: {}", page.text))
}

/// `1,234`, as the page writes it.
fn grouped(number: &Value) -> String {
    let digits = number.as_u64().unwrap().to_string();
    let reversed: Vec<char> = digits.chars().rev().collect();
    let groups: Vec<String> = reversed.chunks(3).map(|group| group.iter().collect()).collect();
    groups.join(",").chars().rev().collect()
}

/// A server over a closed day and half a live one.
struct Served {
    address: SocketAddr,
    objects: Objects,
    running: JoinHandle<Result<(), ServingError>>,
    stop: CancellationToken,
}

impl Served {
    async fn end(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }
}

/// Of one of the ads nobody knows whose it is.
const NAMES: &str = "ad_id,tenant,campaign,name,price,currency,valid_from
summer-sale,acme,summer,Summer sale,0.25,EUR,2026-03-01
ad-17,globex,launch,Launch of the year,,,2026-03-01
";

async fn serve(redis: &Redis, access: Access) -> Served {
    let now = day(2).start() + Span::hours(12);
    let (objects, topic) = (Objects::memory(), TopicId::from_u128(uuid::Uuid::new_v4().as_u128()));
    let ledger = Ledger::new(objects.clone());
    let mut books = ledger.begin(Genesis { first_day: day(1), rules: Rules::default() }).await.unwrap();
    let region = Region::parse("eu").unwrap();
    let life = TopicLife { region, topic_id: topic, name: "clicks".to_owned(), partitions: PARTITIONS };
    ledger.publish(&mut books, Body::Topic(life)).await.unwrap();
    let store = Arc::new(RedisStore::connect(&RedisOptions::new(redis.url())).unwrap());
    for number in 0..PARTITIONS {
        let (id, records) = (partition(number, topic), records(number, now));
        archive(&objects, &id, &records).await;
        count(&store, &id, &records).await;
    }
    let clock = Arc::new(SimulatedClock::new(now + Span::seconds(1)));
    recompute::run_night(&recompute::Options::default(), &objects, &ledger, &*clock, Some(day(1))).await.unwrap();
    let table = AdsTable::new(ads::parse(NAMES.as_bytes()).unwrap()).unwrap();
    let load = Load { actor: "ann".to_owned(), source: "ads.csv".to_owned(), at: now };
    Ads::new(objects.clone()).publish((0, &AdsTable::default()), &table, load).await.unwrap();
    let options = Options { listen: ([127, 0, 0, 1], 0).into(), access, ..Options::default() };
    let server = Server::bind(options, objects.clone(), ledger, store, None, clock).await.unwrap();
    let (address, stop) = (server.address(), CancellationToken::new());
    Served { address, objects, running: tokio::spawn(server.run(stop.clone())), stop }
}

#[tokio::test]
async fn the_page_says_what_the_api_says_and_closed_days_outlive_redis() {
    let mut redis = Redis::start().await.unwrap();
    let served = serve(&redis, Access::Open).await;
    let address = served.address;

    let page = look(address, "?range=week", "body[data-state=live][data-ready=week]", 1280).await;
    let (days, ads) = (ask(address, "/v1/days").await, ask(address, "/v1/ads?from=2026-02-24&to=2026-03-03").await);
    let rows = days["data"].as_array().unwrap();
    assert_eq!(rows.len(), 2);
    for (row, minutes) in rows.iter().rev().zip([1_440, 2_160]) {
        let before = if minutes == 1_440 { 0 } else { 1_440 };
        let exact: u64 = (0..ADS.len()).map(|ad| truth(ad, minutes) - truth(ad, before)).sum();
        assert_eq!(row["total"], exact, "{row}");
        let words = line(&page, row["day"].as_str().unwrap());
        assert_eq!(words[1..3], [row["state"].as_str().unwrap(), &grouped(&row["total"])], "{words:?}");
    }
    // Both layers counted the closed day, independently of each other.
    assert_eq!((&rows[1]["state"], &rows[1]["unexplained"]), (&Value::from("closed"), &Value::from(0)));
    for (n, row) in ads["data"].as_array().unwrap().iter().enumerate() {
        let ad = row["ad_id"].as_str().unwrap();
        let place = ADS.iter().position(|known| *known == ad).unwrap();
        assert_eq!((n == 0, &row["total"]), (place == 0, &Value::from(truth(place, 2_160))));
        // Its campaign and tenant stand between, and the bar splits the line.
        let words: Vec<_> = page.text.split_whitespace().collect();
        let named = words.iter().rposition(|word| *word == ad).unwrap();
        assert!(words[named + 1..].iter().take(6).any(|word| *word == grouped(&row["total"])), "{}", page.text);
    }
    let all: u64 = (0..ADS.len()).map(|ad| truth(ad, 2_160)).sum();
    assert!(page.text.contains(&grouped(&Value::from(all))), "{}", page.text);
    assert!(page.text.contains("closed through 2026-03-01 · complete"), "{}", page.text);

    let phone = look(address, "?range=week&ad=ad-17", "body[data-state=live][data-ready=week]", 390).await;
    assert!(phone.text.contains("Clicks on ad-17"), "{}", phone.text);
    assert!(phone.text.contains(&grouped(&Value::from(truth(1, 2_160)))), "{}", phone.text);

    redis.kill().unwrap();
    let away = look(address, "?range=week", "body[data-state=away][data-ready=week]", 1280).await;
    assert!(away.text.contains("speed layer away") && away.text.contains("left out, not zero"), "{}", away.text);
    assert_eq!(line(&away, "2026-03-01")[1..3], ["closed", &grouped(&rows[1]["total"])]);
    assert_eq!(line(&away, "2026-03-02")[1..3], ["live", "unknown"]);
    assert_eq!(ask(address, "/v1/days").await["meta"]["complete"], false);
    let operators = look(address, "status", "body[data-state=wrong][data-ready]", 1280).await;
    assert!(
        operators.text.contains("the speed store is away") && operators.text.contains("twofold check"),
        "{}",
        operators.text
    );

    served.end().await;
}

/// The API is what its description says, whatever it is asked. `TWOFOLD_SEED=2` asks other things.
#[tokio::test]
async fn the_api_is_as_it_is_described() {
    let redis = Redis::start().await.unwrap();
    let served = serve(&redis, Access::Open).await;
    let seed = std::env::var("TWOFOLD_SEED").map_or(1, |seed| seed.parse().expect("TWOFOLD_SEED is a number"));
    let description = format!("http://{}/v1/openapi.json", served.address);
    let told = check_api(&description, "/v1/stream", seed).await.unwrap();
    assert!(told.contains("Tested: 8"), "{told}");
    served.end().await;
}

/// By mouse and by keyboard, on a desk and on a phone, in light and dark; axe finds nothing that is in anybody's way.
#[tokio::test]
async fn people_find_their_way_around_the_page() {
    let redis = Redis::start().await.unwrap();
    let served = serve(&redis, Access::Open).await;
    let folder = new_folder("walk").unwrap();
    let found = walk_page(&format!("http://{}/", served.address), &folder).await.unwrap();
    // What was downloaded is what the API says, and that is the truth.
    let rows: Vec<BTreeMap<String, String>> =
        csv::Reader::from_reader(found["csv"].as_str().unwrap().as_bytes()).deserialize().map(Result::unwrap).collect();
    let path = found["href"].as_str().unwrap().replace("&format=csv", "");
    let body = ask(served.address, &path).await;
    let told: Vec<_> =
        body["data"].as_array().unwrap().iter().map(|row| (&row["period_start"], &row["total"])).collect();
    let downloaded: Vec<_> = rows
        .iter()
        .map(|row| (Value::from(&*row["period_start"]), Value::from(row["total"].parse::<u64>().unwrap())))
        .collect();
    assert_eq!(downloaded.iter().map(|(start, total)| (start, total)).collect::<Vec<_>>(), told);
    let all: u64 = (0..ADS.len()).map(|ad| truth(ad, 2_160)).sum();
    assert_eq!(downloaded.iter().filter_map(|(_, total)| total.as_u64()).sum::<u64>(), all);
    served.end().await;
}

/// With a key the page shows what the key was made for, and without one it asks for it.
#[tokio::test]
async fn people_open_the_page_with_a_key() {
    let redis = Redis::start().await.unwrap();
    let served = serve(&redis, Access::Keys).await;
    let keys = Keys::new(served.objects.clone());
    let make = async |tenant: Option<&str>, scopes: &[Scope]| {
        let new = NewKey {
            name: "the dashboard".to_owned(),
            tenant: tenant.map(|name| TenantId::parse(name).unwrap()),
            scopes: scopes.to_vec(),
            created_at: Timestamp::EPOCH,
            created_by: "ann".to_owned(),
            expires_at: None,
        };
        keys.create(new).await.unwrap().1
    };
    let (acme, all) = (make(Some("acme"), &[Scope::Read]).await, make(None, &Scope::ALL).await);
    let (url, folder) = (format!("http://{}/", served.address), new_folder("keys").unwrap());
    let found = use_keys(&url, &folder, acme.reveal(), all.reveal()).await.unwrap();
    let csv = csv::Reader::from_reader(found["csv"].as_str().unwrap().as_bytes()).into_deserialize();
    let totals = csv.map(|row: Result<BTreeMap<String, String>, _>| row.unwrap()["total"].parse::<u64>().unwrap());
    assert_eq!(totals.sum::<u64>(), truth(0, 2_160), "all clicks of acme's one ad, and of no other");
    served.end().await;
}
