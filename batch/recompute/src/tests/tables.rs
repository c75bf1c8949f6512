//! The bytes of the tables.

use clicks::event::Class;
use clicks::ledger::sha256;
use clicks::window::{Grain, Minute};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::world::{World, at, day, partition};
use crate::gate::{GateFailure, check_grains, check_grown};
use crate::rows::{Cell, Rows, rows};
use crate::table::{AdjustmentRow, Sheet, copy_unadjusted, decode, decode_adjustments, encode};
use crate::table::{encode_adjustments, encode_current};
use clicks::ledger::DayTotals;
use clicks::time::Timestamp;
use parquet::file::metadata::KeyValue;

type Row = (Timestamp, &'static str, u64, u64, u64);

fn row(minute: i64, ad: &'static str, clicks: u64) -> Row {
    (at(1, 12, minute), ad, clicks, 1, 0)
}

fn sheet(grain: Grain) -> Sheet {
    Sheet { grain, revision: 2, rules_version: 1 }
}

#[test]
fn rows_round_trip_and_the_bytes_are_pinned() {
    let rows = rows(&[row(0, "a", 3), row(0, "b", 1), row(1, "a", 0)]);
    let bytes = encode(&rows, sheet(Grain::Minute), "test").unwrap();
    assert_eq!(decode("t", bytes.clone()).unwrap(), rows);
    assert_eq!(bytes, encode(&rows, sheet(Grain::Minute), "test").unwrap(), "same rows, same bytes");
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
    let fields = reader.schema().fields().iter().map(|f| format!("{} {}", f.name(), f.data_type()));
    let columns = [
        "period_start Timestamp(ms, \"UTC\")",
        "period_end Timestamp(ms, \"UTC\")",
        "ad_id Utf8",
        "class Utf8",
        "clicks Int64",
        "duplicates Int64",
        "late Int64",
        "revision Int32",
        "rules_version Int32",
    ];
    assert_eq!(fields.collect::<Vec<_>>(), columns);
    assert_eq!(reader.metadata().file_metadata().created_by(), Some("twofold test"));
    assert_eq!(sha256(&bytes), GOLDEN_MINUTES);

    let adjustments = vec![AdjustmentRow {
        period_start: at(1, 12, 0),
        ad: "a".into(),
        class: Class::Valid,
        clicks: 5,
        night: day(9),
    }];
    let bytes = encode_adjustments(&adjustments, "test").unwrap();
    assert_eq!(decode_adjustments("t", bytes.clone()).unwrap(), adjustments);
    assert_eq!(sha256(&bytes), GOLDEN_ADJUSTMENTS);
}

/// Of the bytes that this release writes. They may change with the Parquet library; then the release changes too.
const GOLDEN_MINUTES: &str = "7dbd4fe4de5834e8b0c7c00bc94ee2a529a05c6d64c9889ec6c1ca7872b1d559";
const GOLDEN_ADJUSTMENTS: &str = "fdb25e2925e59115945eeb4bab9e9c37fc6d71ddc08b072cee4f8d39758f2c88";

/// Numbers of one bit and of many, in whole groups of eight and not, on one page and several.
#[test]
fn names_are_read_back_however_many_there_are() {
    for names in [1, 2, 3, 256, 257, 70_000_u32] {
        let all: Vec<std::sync::Arc<str>> = (0..names).map(|n| format!("ad-{n:05}").into()).collect();
        for count in [1, 7, 8, 9, 16 * 1024, 16 * 1024 + 1, 40_003_u32] {
            // Some names have no row.
            let ad = |n: u32| (n.wrapping_mul(2_654_435_761) >> 7) % names;
            let minute = |n: u32| Minute::of(at(1, 0, 0)).number() as i32 + n as i32;
            let cell = |n| Cell { start: minute(n), ad: ad(n), clicks: 1, ..Cell::default() };
            let rows = Rows::from_parts(all.clone().into(), (0..count).map(cell).collect());
            let bytes = encode(&rows, sheet(Grain::Minute), "test").unwrap();
            assert!(decode("t", bytes.clone()).unwrap().iter().eq(rows.iter()), "{names} names, {count} rows");
            let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).unwrap();
            let statistics = reader.metadata().row_group(0).column(2).statistics().unwrap().clone();
            let name = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap().to_vec()).unwrap();
            let found = || rows.iter().map(|row| row.ad.to_owned());
            assert_eq!(Some(name(statistics.min_bytes_opt())), found().min());
            assert_eq!(Some(name(statistics.max_bytes_opt())), found().max());
        }
    }
}

/// Without adjustments the columns are copied as they are encoded; readers see no difference.
#[test]
fn a_copied_table_reads_like_an_encoded_one() {
    // More than one row group, and a dictionary that grows.
    let names: Vec<String> = (0..1_100).map(|ad| format!("ad-{ad}")).collect();
    let rows: Vec<_> = (0..1_000_i64)
        .flat_map(|minute| names.iter().map(move |ad| (at(1, 0, minute), ad.as_str(), 1 + minute as u64 % 7, 2, 1)))
        .collect();
    let rows = self::rows(&rows).added_up();
    let table = encode(&rows, sheet(Grain::Minute), "test").unwrap();
    let mark = KeyValue::new("mark".to_owned(), "of the copy".to_owned());
    let copied = copy_unadjusted("t", &table, "test", mark.clone()).unwrap();
    let encoded = encode_current(&rows, &vec![0; rows.len()], sheet(Grain::Minute), "test", mark).unwrap();
    let reader = |bytes: &bytes::Bytes| ParquetRecordBatchReaderBuilder::try_new(bytes.clone()).unwrap();
    let (ours, theirs) = (reader(&copied), reader(&encoded));
    assert!(ours.metadata().num_row_groups() > 1);
    assert_eq!(ours.schema(), theirs.schema());
    let pairs = |reader: &ParquetRecordBatchReaderBuilder<bytes::Bytes>| {
        let mut pairs = reader.metadata().file_metadata().key_value_metadata().unwrap().clone();
        pairs.sort_by(|a, b| a.key.cmp(&b.key));
        pairs
    };
    assert_eq!(pairs(&ours), pairs(&theirs));
    let batches = |reader: ParquetRecordBatchReaderBuilder<bytes::Bytes>| reader.build().unwrap().map(Result::unwrap);
    assert!(batches(ours).eq(batches(theirs)));
    assert_eq!(decode("t", copied).unwrap(), rows);
    assert!(
        copy_unadjusted("t", &bytes::Bytes::from_static(b"no parquet"), "test", KeyValue::new("a".to_owned(), None))
            .is_err()
    );
}

#[test]
fn the_gate_refuses_grains_that_are_no_sums_of_each_other() {
    let minutes = [row(0, "a", 3), row(1, "a", 1)];
    let sum = |clicks| (at(1, 12, 0), "a", clicks, 2, 0);
    let day_row = |clicks| (day(1).start(), "a", clicks, 2, 0);
    let totals = DayTotals { clicks: 4, duplicates: 2, ..DayTotals::default() };
    let check = |minutes: &[Row], hours: &[Row], days: &[Row], totals: &DayTotals| {
        let file = |grain, rows: &[Row]| (grain, encode(&self::rows(rows), sheet(grain), "test").unwrap());
        let files = [file(Grain::Minute, minutes), file(Grain::Hour, hours), file(Grain::Day, days)];
        check_grains(day(1), totals, &files).unwrap()
    };
    assert_eq!(check(&minutes, &[sum(4)], &[day_row(4)], &totals), Ok(()));
    assert!(matches!(check(&minutes, &[sum(5)], &[day_row(4)], &totals), Err(GateFailure::Grain { .. })));
    assert!(matches!(check(&minutes, &[sum(4)], &[day_row(3)], &totals), Err(GateFailure::Grain { .. })));
    assert!(matches!(check(&minutes, &[sum(4)], &[], &totals), Err(GateFailure::Grain { .. })));
    let other = (at(1, 12, 0), "b", 4, 2, 0);
    assert!(matches!(check(&minutes, &[other], &[day_row(4)], &totals), Err(GateFailure::Grain { .. })));
    let unsorted = [row(1, "a", 1), row(0, "a", 3)];
    assert!(matches!(check(&unsorted, &[sum(4)], &[day_row(4)], &totals), Err(GateFailure::Order { .. })));
    let twice = [row(0, "a", 3), row(0, "a", 1)];
    assert!(matches!(check(&twice, &[sum(4)], &[day_row(4)], &totals), Err(GateFailure::Order { .. })));
    let more = DayTotals { clicks: 5, ..totals };
    assert!(matches!(check(&minutes, &[sum(4)], &[day_row(4)], &more), Err(GateFailure::Totals { .. })));
    assert_eq!(check_grown(day(1), &rows(&minutes[..1]), &rows(&minutes)), Ok(()));
    assert!(matches!(check_grown(day(1), &rows(&minutes), &rows(&minutes[..1])), Err(GateFailure::Shrunk { .. })));
}

#[tokio::test]
async fn every_published_file_is_named_by_its_content_and_the_inputs_name_every_object() {
    let mut world = World::new(2).await;
    world.object_rows = 3;
    for id in 0..10 {
        world.click(&partition(1, 0), at(1, 12, id as i64), at(1, 12, id as i64), "a", id);
    }
    world.publish(1).await;
    let everything = world.everything().await;
    for (key, bytes) in everything.iter().filter(|(key, _)| key.starts_with("tables/rev/")) {
        assert!(key.contains(&sha256(bytes)[..32]), "{key}");
    }
    let inputs = everything.iter().find(|(key, _)| key.contains("/inputs-")).unwrap().1;
    let list = clicks::inputs::InputList::decode(inputs).unwrap();
    let raw: Vec<_> = everything.iter().filter(|(key, _)| key.starts_with("raw/")).collect();
    // The last object of each partition begins at the cut.
    assert_eq!(list.objects.len(), raw.len() - 2);
    for object in &list.objects {
        assert_eq!(object.sha256, sha256(&everything[&object.key]));
    }
    assert_eq!(list.objects.iter().map(|o| o.to.distance_from(o.from)).sum::<u64>(), 10);
}
