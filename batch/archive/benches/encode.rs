//! Clicks as JSON into Parquet by the CPU time of this process: the archive's encoder, and `arrow-json` with the Parquet
//! writer of arrow-rs, from the same file. `tests/bench archive` runs them beside DuckDB and Polars.
//!
//! ```text
//! encode make FILE CLICKS VERSION    NDJSON of so many clicks of an hour, whose ids are UUIDs of this version
//! encode twofold FILE FOLDER         each line as the value of a record; objects as large as the archiver's
//! encode collected FILE FOLDER       the same with the headers that the collector writes
//! encode arrow FILE FOLDER           strings, zstd, nothing else
//! ```

#[path = "../../../shared/clicks/benches/measure/mod.rs"]
mod measure;

use std::io::{BufWriter, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use archive::codec::encode;
use arrow::datatypes::{DataType, Field, Schema};
use bytes::Bytes;
use clicks::event::Click;
use clicks::id::{AdId, ClickId, Region, TopicId, UserId};
use clicks::position::{Offset, PartitionId};
use clicks::time::{Span, Timestamp};
use clicks::wire;
use measure::{Random, peak_memory, process_cpu};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use platform::log::{Header, LogRecord};

/// Ad `n` has about one n-th of the clicks of the first one.
const ADS: f64 = 100_000.0;
const USERS: u64 = 1 << 23;
/// Records of one object: what fits into 64 MiB of the archiver's memory.
const OBJECT: usize = 250_000;
/// Rows that the JSON reader gives at once.
const BATCH: usize = 8 * 1024;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match *arguments.as_slice() {
        ["make", file, clicks, version] => make(file, clicks.parse().expect("a number"), version == "7"),
        ["twofold", file, folder] => twofold(file, folder, false),
        ["collected", file, folder] => twofold(file, folder, true),
        ["arrow", file, folder] => arrow(file, folder),
        _ => eprintln!("encode make FILE CLICKS VERSION | encode twofold|collected|arrow FILE FOLDER"),
    }
}

fn noon() -> Timestamp {
    Timestamp::parse_rfc3339("2026-03-01T12:00:00Z").expect("a time")
}

fn make(file: &str, clicks: usize, is_ordered: bool) {
    let mut random = Random::new(1);
    let mut lines = BufWriter::new(std::fs::File::create(file).expect("a file"));
    for n in 0..clicks {
        let event_time = noon() + Span::millis((n as f64 / clicks as f64 * 3_600_000.0) as i64);
        let bits = random.bits();
        let click_id = match is_ordered {
            true => uuid::Builder::from_unix_timestamp_millis(
                event_time.as_millis() as u64,
                bits.to_le_bytes().first_chunk().expect("ten of sixteen bytes"),
            ),
            false => uuid::Builder::from_random_bytes(bits.to_le_bytes()),
        };
        let click = Click {
            click_id: ClickId::from_u128(click_id.into_uuid().as_u128()),
            ad_id: AdId::parse(&format!("ad-{}", ADS.powf(random.unit()) as u32)).expect("an ad"),
            user_id: UserId::parse(&format!("u-{}", random.below(USERS))).expect("a user"),
            event_time,
        };
        writeln!(lines, "{}", wire::encode(&click)).expect("room on the disk");
    }
    lines.flush().expect("room on the disk");
}

fn twofold(file: &str, folder: &str, is_collected: bool) {
    let partition =
        PartitionId { region: Region::parse("eu").expect("a region"), topic: TopicId::from_u128(1), number: 0 };
    let text = Bytes::from(std::fs::read(file).expect("the file was made"));
    let records: Vec<(LogRecord, Timestamp)> = lines(&text)
        .zip(0..)
        .map(|(value, offset)| {
            let click = wire::decode(Some(&value)).expect("the file holds clicks");
            let at = click.event_time + Span::millis(20);
            let header = |name: &str, text: String| Header { name: name.to_owned(), value: Some(text.into()) };
            let headers = match is_collected {
                true => vec![
                    header(wire::HEADER_RECEIVED, at.as_millis().to_string()),
                    header(wire::HEADER_USER_AGENT, AGENTS[offset as usize % AGENTS.len()].to_owned()),
                ],
                false => Vec::new(),
            };
            let key = Some(Bytes::copy_from_slice(click.ad_id.as_str().as_bytes()));
            let record = LogRecord { offset: Offset::new(offset), broker_time: at, key, value: Some(value), headers };
            (record, at)
        })
        .collect();
    let began = (Instant::now(), process_cpu());
    let objects: Vec<_> =
        records.chunks(OBJECT).map(|records| encode(&partition, "bench", records).expect("records")).collect();
    report(began, records.len(), objects.iter().map(|object| object.bytes.len()).sum());
    for (n, object) in objects.into_iter().enumerate() {
        store(folder, n, &object.bytes);
    }
}

/// What browsers call themselves.
const AGENTS: [&str; 3] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.6 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
];

fn lines(text: &Bytes) -> impl Iterator<Item = Bytes> {
    // A copy of each, as the client of Kafka hands it out.
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(Bytes::copy_from_slice)
}

fn arrow(file: &str, folder: &str) {
    let text = std::fs::read(file).expect("the file was made");
    let fields = ["click_id", "ad_id", "user_id"].map(|name| Field::new(name, DataType::Utf8, false));
    let time = DataType::Timestamp(arrow::datatypes::TimeUnit::Millisecond, Some("+00:00".into()));
    let schema = Arc::new(Schema::new([fields.to_vec(), vec![Field::new("timestamp", time, false)]].concat()));
    let zstd = Compression::ZSTD(ZstdLevel::try_new(1).expect("a level"));
    let properties = WriterProperties::builder().set_compression(zstd).build();
    let began = (Instant::now(), process_cpu());
    let mut object = Vec::new();
    let mut writer = ArrowWriter::try_new(&mut object, schema.clone(), Some(properties)).expect("a writer");
    let mut rows = 0;
    let reader = arrow_json::ReaderBuilder::new(schema).with_batch_size(BATCH).build(text.as_slice());
    for batch in reader.expect("a reader") {
        let batch = batch.expect("the file holds clicks");
        rows += batch.num_rows();
        writer.write(&batch).expect("memory takes it");
    }
    writer.close().expect("memory takes it");
    report(began, rows, object.len());
    store(folder, 0, &object);
}

fn store(folder: &str, n: usize, object: &[u8]) {
    std::fs::write(Path::new(folder).join(format!("{n:04}.parquet")), object).expect("room on the disk");
}

/// One line: CPU seconds, wall seconds, most memory in bytes, records, bytes.
fn report((began, cpu): (Instant, f64), rows: usize, bytes: usize) {
    println!("{:.3} {:.3} {} {rows} {bytes}", process_cpu() - cpu, began.elapsed().as_secs_f64(), peak_memory());
}
