//! The bytes of the tables.

use clicks::event::Class;
use clicks::ledger::sha256;
use clicks::window::Grain;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::world::{World, at, day, partition};
use crate::gate::{GateFailure, check_grains, check_grown};
use crate::rows::rows;
use crate::table::{AdjustmentRow, Sheet, decode, decode_adjustments, encode, encode_adjustments};
use clicks::ledger::DayTotals;
use clicks::time::Timestamp;

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
const GOLDEN_MINUTES: &str = "8623005edae3a1b3f8fa4e8a318d326903625a7eeb07bb7250cb081f86bd7318";
const GOLDEN_ADJUSTMENTS: &str = "561989f2d171fd17067bd98adee3854c08f17a21b5bb1634d7d716d812ee8a81";

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
