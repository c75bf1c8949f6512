//! How many questions a second one core answers, and how soon: the server over a real Redis and a folder, beside an axum
//! handler that does nothing and one that asks Redis for sixty fields. `tests/bench answers` starts them and the load, each on
//! a core of its own.
//!
//! ```text
//! answers noop BYTES                     a handler that says so many bytes, always the same
//! answers hmget REDIS                    HMGET of sixty fields, as JSON
//! answers twofold REDIS FOLDER           the server: 30 closed days of 5,000 ads, a live hour of 100,000
//! answers publish FOLDER                  publishes another day to the server's folder
//! answers cold ENDPOINT BUCKET            how soon a day is answered that was not read before, from S3
//! answers load CONNECTIONS SECONDS RATE HOST:PORT PATH...
//!     asks the paths one after the other, those that begin with `gzip:` for compressed answers; RATE 0: each connection as fast as it is answered, otherwise so many a second
//!     whether or not they are answered in time. Prints the answers a second and their latencies in microseconds, the 99th
//!     percentile also second by second.
//! ```
#![allow(clippy::unwrap_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clicks::ledger::DayTotals;
use clicks::live::{Expected, Flush, FlushOutcome, Generation, Meta, Stage};
use clicks::position::Offset;
use clicks::time::{Day, Span};
use platform::objects::{Objects, S3Options};
use platform::store::{RedisOptions, RedisStore, SpeedStore};
use serving::{Access, Options, Server};
use support::{PARTITIONS, Row, System, at, home, key, partition};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const CLOSED_DAYS: i32 = 30;
const CLOSED_ADS: usize = 5_000;
const LIVE_ADS: usize = 100_000;
/// Clicked minutes of an ad in the live hour.
const LIVE_MINUTES: usize = 5;

/// One thread: a core is what is measured.
#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["noop", bytes] => {
            let body = axum::body::Bytes::from(vec![b'x'; bytes.parse().expect("a number of bytes")]);
            listen(axum::Router::new().route("/", axum::routing::get(|| async { body }))).await;
        }
        ["hmget", redis] => hmget(redis).await,
        ["twofold", redis, folder] => twofold(redis, folder).await,
        ["publish", folder] => {
            let system = System::of(Objects::open_folder(folder.into()).unwrap(), at(first_day(), 0, 0));
            let day = system.ledger.read().await.unwrap().next_night();
            close(&system, day, &names(CLOSED_ADS)).await;
        }
        ["cold", endpoint, bucket] => cold(endpoint, bucket).await,
        ["load", connections, seconds, rate, address, paths @ ..] => {
            let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
            let rate: f64 = rate.parse().expect("a rate");
            let seconds = Duration::from_secs(seconds.parse().expect("a number of seconds"));
            load(connections.parse().expect("a number"), seconds, rate, address.parse().expect("an address"), paths)
                .await;
        }
        _ => eprintln!(
            "answers noop BYTES | hmget REDIS | twofold REDIS FOLDER | publish FOLDER | cold ENDPOINT BUCKET | load CONNECTIONS SECONDS RATE HOST:PORT PATH..."
        ),
    }
}

async fn listen(router: axum::Router) {
    let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    println!("{}", listener.local_addr().unwrap());
    axum::serve(listener, router).await.unwrap();
}

async fn hmget(url: &str) {
    let client = redis::Client::open(url).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let fields: Vec<String> = (0..60).map(|minute| minute.to_string()).collect();
    let mut fill = redis::cmd("HSET");
    fill.arg("hour");
    for field in &fields {
        fill.arg(field).arg(7);
    }
    fill.query_async::<()>(&mut connection.clone()).await.unwrap();
    let asked = Arc::new(fields);
    let handler = move || {
        let (mut connection, asked) = (connection.clone(), asked.clone());
        async move {
            let mut command = redis::cmd("HMGET");
            command.arg("hour").arg(&*asked);
            axum::Json(command.query_async::<Vec<Option<u64>>>(&mut connection).await.unwrap())
        }
    };
    listen(axum::Router::new().route("/", axum::routing::get(handler))).await;
}

fn first_day() -> Day {
    "2026-02-01".parse().unwrap()
}

fn names(ads: usize) -> Vec<&'static str> {
    (0..ads).map(|n| &*format!("ad-{n}").leak()).collect()
}

/// Publishes a day on which each ad is clicked in every hour.
async fn close(system: &System, day: Day, ads: &[&'static str]) {
    let clicked = ads.iter().flat_map(|ad| (0..24).map(move |hour| (at(day, hour, 7), *ad, 3)));
    let rows: Vec<Row> = clicked.collect();
    system.close(&rows, DayTotals::default(), &[], &[]).await;
}

/// Milliseconds until the first answer about each of ten closed days, and until the second.
async fn cold(endpoint: &str, bucket: &str) {
    platform::telemetry::metrics();
    let some = |text: &str| Some(text.to_owned());
    let (access_key, secret_key) = (some("twofold"), some("twofold-secret"));
    let s3 = S3Options { endpoint: some(endpoint), region: some("us-east-1"), access_key, secret_key };
    let objects = Objects::open(&format!("s3://{bucket}"), &s3).unwrap();
    let (first, ads) = (first_day(), names(CLOSED_ADS));
    let system = System::over(objects, first, at(first.plus(10), 12, 0)).await;
    for day in first.until(first.plus(10)) {
        close(&system, day, &ads).await;
    }
    let running = system.serve().await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut buffer, mut times) = (vec![0; 1 << 20], [Vec::new(), Vec::new()]);
    for times in &mut times {
        for day in first.until(first.plus(10)) {
            let path = format!("/v1/clicks?granularity=hour&ad_id=ad-7&from={day}&to={}", day.next());
            let begun = Instant::now();
            stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes()).await.unwrap();
            read(&mut stream, &mut buffer, &path).await;
            times.push(begun.elapsed().as_millis() as u64);
        }
        times.sort_unstable();
    }
    let [cold, warm] = times.map(|times| (times[times.len() / 2], times[times.len() - 1]));
    println!(
        "{{\"cold\":{{\"p50\":{},\"max\":{}}},\"warm\":{{\"p50\":{},\"max\":{}}}}}",
        cold.0, cold.1, warm.0, warm.1
    );
}

async fn twofold(redis: &str, folder: &str) {
    platform::telemetry::metrics();
    let first = first_day();
    let live = first.plus(CLOSED_DAYS);
    let objects = Objects::open_folder(folder.into()).unwrap();
    let names = names(LIVE_ADS);
    let system = System::over(objects, first, at(live, 12, 30)).await;
    for day in first.until(live) {
        close(&system, day, &names[..CLOSED_ADS]).await;
    }
    let store = Arc::new(RedisStore::connect(&RedisOptions::new(redis)).unwrap());
    let now = at(live, 12, 30);
    for number in 0..PARTITIONS {
        let here = names.iter().filter(|ad| home(ad) == number).enumerate();
        let minutes = |n: usize| (0..LIVE_MINUTES).map(move |k| Span::minutes(((n + 11 * k) % 60) as i64));
        // A few have most of the clicks, and many have the same number of them.
        let clicks = |n: usize| 2 + 1_000 / (n as u64 + 1);
        let counts =
            here.flat_map(|(n, ad)| minutes(n).map(move |minute| (key(now - Span::hours(1) + minute, ad), clicks(n))));
        let counts: Vec<_> = counts.collect();
        let generation = Generation::from_u128(u128::from(number) + 1);
        let mut expected = Expected::Nothing;
        for (n, counts) in counts.chunks(store.max_changes()).enumerate() {
            let next_offset = Offset::new(n as u64 + 1);
            let meta = Meta::new(Offset::ZERO, live, live.previous(), Offset::ZERO);
            let meta = Meta { append_time: now, next_offset, fingerprint: "f".to_owned(), ..meta };
            let flush = Flush {
                expected,
                generation,
                stage: Stage::Live,
                meta,
                counts: counts.to_vec(),
                late: Vec::new(),
                drop_hours: Vec::new(),
                drop_nights: Vec::new(),
            };
            assert_eq!(store.flush(&partition(number), &flush).await.unwrap(), FlushOutcome::Applied);
            expected = Expected::At { generation, next_offset, lost: 0 };
        }
    }
    let options = Options { listen: support::listen(), access: Access::Open, ..Options::default() };
    let clock = system.clock.clone();
    let server = Server::bind(options, system.objects, system.ledger, store, None, clock).await.unwrap();
    let address = server.address();
    let running = tokio::spawn(server.run(CancellationToken::new()));
    support::until_ready(address).await;
    println!("{address}");
    running.await.unwrap().unwrap();
}

/// What one connection has measured: the second in which a question was due, and microseconds until it was answered.
type Latencies = Vec<(u64, u64)>;

async fn load(connections: usize, time: Duration, rate: f64, address: SocketAddr, paths: Vec<String>) {
    let (begun, paths) = (Instant::now() + Duration::from_millis(100), Arc::new(paths));
    let tasks = (0..connections).map(|n| tokio::spawn(ask(n, connections, begun, time, rate, address, paths.clone())));
    let mut all = Latencies::new();
    for task in tasks.collect::<Vec<_>>() {
        all.extend(task.await.unwrap());
    }
    all.sort_unstable();
    let p99 = |some: &[u64]| some[(some.len() - 1) * 99 / 100];
    let by_second =
        all.chunk_by(|a, b| a.0 == b.0).map(|second| p99(&second.iter().map(|one| one.1).collect::<Vec<_>>()));
    let by_second: Vec<u64> = by_second.collect();
    let mut all: Vec<u64> = all.into_iter().map(|one| one.1).collect();
    all.sort_unstable();
    let (per_second, p50, last) = (all.len() as f64 / time.as_secs_f64(), all[all.len() / 2], all[all.len() - 1]);
    println!(
        "{{\"per_second\":{per_second:.0},\"p50\":{p50},\"p99\":{},\"max\":{last},\"by_second\":{by_second:?}}}",
        p99(&all)
    );
}

async fn ask(
    first: usize,
    step: usize,
    begun: Instant,
    time: Duration,
    rate: f64,
    address: SocketAddr,
    paths: Arc<Vec<String>>,
) -> Latencies {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut latencies, mut answer) = (Latencies::new(), vec![0; 1 << 20]);
    tokio::time::sleep_until(begun).await;
    for n in (first..).step_by(step) {
        // By the plan, not by when it could be sent: what a slow answer holds up counts, too.
        let due = if rate > 0.0 { begun + Duration::from_secs_f64(n as f64 / rate) } else { Instant::now() };
        if due >= begun + time {
            break;
        }
        tokio::time::sleep_until(due).await;
        let path = &paths[n % paths.len()];
        let (encoding, address) = path.strip_prefix("gzip:").map_or(("identity", path.as_str()), |rest| ("gzip", rest));
        let request = format!("GET {address} HTTP/1.1\r\nHost: bench\r\nAccept-Encoding: {encoding}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        read(&mut stream, &mut answer, path).await;
        latencies.push((due.duration_since(begun).as_secs(), due.elapsed().as_micros() as u64));
    }
    latencies
}

/// Reads one answer to its end; it has to be 200.
async fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>, path: &str) {
    let (mut filled, mut whole) = (0, None);
    while whole.is_none_or(|whole| filled < whole) {
        if filled == buffer.len() {
            buffer.resize(2 * filled, 0);
        }
        let count = stream.read(&mut buffer[filled..]).await.unwrap();
        assert!(count > 0, "{path}: the connection was closed");
        filled += count;
        if whole.is_none()
            && let Some(head) = buffer[..filled].windows(4).position(|bytes| bytes == b"\r\n\r\n")
        {
            let text = std::str::from_utf8(&buffer[..head]).unwrap();
            assert!(text.starts_with("HTTP/1.1 200"), "{path}: {text}");
            let length = text
                .lines()
                .find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            whole = Some(head + 4 + length.expect("a length").parse::<usize>().unwrap());
        }
    }
}
