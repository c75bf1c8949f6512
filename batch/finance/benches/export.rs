//! How long a month of many ads by hour takes to be exported, and how much memory.
//!
//! ```text
//! cargo bench -p finance --bench export -- [ADS] [DAYS]     100,000 ads, 31 days without an argument
//! ```
//!
//! The tables are made in a folder, then each form is written by a process of its own, whose peak of memory is that of the kernel.
#![allow(clippy::unwrap_used)]

use std::io::{BufWriter, Write};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Instant;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray};
use clicks::ads::AdsTable;
use clicks::ledger::{Balance, Body, DayRevision, DayTotals, FileRef, Genesis, Night, sha256};
use clicks::rules::Rules;
use clicks::tables::{columns, rev_key};
use clicks::time::{Day, Span};
use clicks::window::Grain;
use clicks::zone::Zone;
use finance::{By, Csv, CsvFlavor, Dates, Parquet, PointInTime, Scope, Step, books_at, write};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use platform::ledger::Ledger;
use platform::objects::Objects;

const MINUTE: i64 = 60_000;

fn first_day() -> Day {
    "2026-03-01".parse().unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if let ["write", folder, form, days] = arguments.as_slice() {
        export(Path::new(folder), form, days.parse().unwrap()).await;
        return;
    }
    let number = |place: usize, default: usize| arguments.get(place).map_or(default, |text| text.parse().unwrap());
    let (ads, days) = (number(0, 100_000), number(1, 31));
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    make(folder.path(), ads, days).await;
    println!("{days} days of {ads} ads by hour, made in {:.0} s", begun.elapsed().as_secs_f64());
    for form in ["csv", "parquet"] {
        let days = days.to_string();
        let child = Command::new(std::env::current_exe().unwrap())
            .args(["write", folder.path().to_str().unwrap(), form, &days])
            .output()
            .unwrap();
        assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
        print!("{}", String::from_utf8_lossy(&child.stdout));
    }
}

async fn export(folder: &Path, form: &str, days: i32) {
    let objects = Objects::open_folder(folder.to_path_buf()).unwrap();
    let books = books_at(&Ledger::new(objects.clone()), PointInTime::Now).await.unwrap();
    let dates = Dates { first: first_day(), end: first_day().plus(days) };
    let (zone, step) = (Zone::UTC, Step::Grain(Grain::Hour));
    let scope = Scope { range: dates.interval(zone), zone, step, by: By::Ad, final_only: false };
    let path = folder.join(form);
    let (begun, table) = (Instant::now(), AdsTable::default());
    let file = BufWriter::new(std::fs::File::create(&path).unwrap());
    let written = match form {
        "csv" => {
            let mut csv = Csv::new(file, CsvFlavor::Plain, zone, By::Ad);
            let written = write(&objects, &books, &table, &scope, &mut csv).await.unwrap();
            csv.end(scope.range, &written).unwrap().flush().unwrap();
            written
        }
        _ => {
            let mut columns = Parquet::new(file, By::Ad).unwrap();
            let written = write(&objects, &books, &table, &scope, &mut columns).await.unwrap();
            columns.end(&[]).unwrap().flush().unwrap();
            written
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    let (peak, bytes) = (peak.parse::<u64>().unwrap() / 1024, std::fs::metadata(&path).unwrap().len() >> 20);
    println!(
        "{form}: {} lines in {seconds:.0} s ({:.2} us a line), {bytes} MiB, at most {peak} MiB of memory",
        written.totals.lines,
        1e6 * seconds / written.totals.lines as f64
    );
}

/// Days on which every ad is clicked in every hour. Only their hours are written: nothing else is read.
async fn make(folder: &Path, ads: usize, days: usize) {
    let objects = Objects::open_folder(folder.to_path_buf()).unwrap();
    let ledger = Ledger::new(objects.clone());
    let mut books = ledger.begin(Genesis { first_day: first_day(), rules: Rules::default() }).await.unwrap();
    let mut names: Vec<String> = (0..ads).map(|n| format!("ad-{n}")).collect();
    names.sort_unstable();
    let no_file = FileRef { key: "none".to_owned(), sha256: String::new(), bytes: 0, rows: 0 };
    for _ in 0..days {
        let (day, entry) = (books.next_night(), books.head() + 1);
        let rows = 24 * ads;
        let starts = (0..rows).map(|row| day.start().as_millis() + (row / ads) as i64 * 60 * MINUTE);
        let all: Vec<(&str, ArrayRef)> = vec![
            (columns::PERIOD_START, Arc::new(TimestampMillisecondArray::from_iter_values(starts).with_timezone("UTC"))),
            (columns::AD_ID, Arc::new(StringArray::from_iter_values((0..rows).map(|row| &names[row % ads])))),
            (columns::CLASS, Arc::new(StringArray::from_iter_values((0..rows).map(|_| "valid")))),
            (columns::CLICKS, Arc::new(Int64Array::from_iter_values((0..rows).map(|row| 1 + row as i64 % 7)))),
            (columns::DUPLICATES, Arc::new(Int64Array::from_iter_values((0..rows).map(|row| row as i64 % 2)))),
        ];
        let batch =
            RecordBatch::try_from_iter_with_nullable(all.into_iter().map(|(name, it)| (name, it, false))).unwrap();
        let version = KeyValue::new("twofold.version".to_owned(), "1".to_owned());
        let properties = WriterProperties::builder()
            .set_key_value_metadata(Some(vec![version]))
            .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).unwrap()))
            .build();
        let mut bytes = Vec::new();
        let mut writer = ArrowWriter::try_new(&mut bytes, batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let hash = sha256(&bytes);
        let key = rev_key(entry, Grain::Hour, day, &hash);
        let hour = FileRef { key: key.clone(), sha256: hash, bytes: bytes.len() as u64, rows: rows as u64 };
        objects.create(&key, bytes.into()).await.unwrap();
        let revision = DayRevision {
            day,
            revision: 1,
            rules_version: 1,
            minute: no_file.clone(),
            hour,
            day_file: no_file.clone(),
            totals: DayTotals::default(),
            change: None,
        };
        let night = Night {
            night: day,
            published_at: day.end() + Span::minutes(11),
            release: "bench".to_owned(),
            cuts: std::collections::BTreeMap::new(),
            days: vec![revision],
            withheld: None,
            accepted: None,
            confirmed: Vec::new(),
            finals: books.finals_of(day),
            adjustments: None,
            inputs: no_file.clone(),
            balance: Balance::default(),
        };
        ledger.publish(&mut books, Body::Night(Box::new(night))).await.unwrap();
    }
}
