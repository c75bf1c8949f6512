//! The stored format, pinned. When one of these fails, stored data changes: readers of old objects come first.

use archive::codec::{decode, encode};
use archive::schema::schema;
use clicks::control::Heartbeat;
use clicks::time::Span;
use clicks::wire::HEADER_CONTROL;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::support::{Stored, clicks_between, header, partition, with_append_time};

/// One record of every kind, and one of every deviation that is kept beside the typed columns.
fn records() -> Vec<Stored> {
    let mut records: Vec<_> = clicks_between(1_200, 1_208).into_iter().map(|(record, _)| record).collect();
    let spaced = String::from_utf8(records[1].value.clone().unwrap().to_vec()).unwrap().replace(',', ", ");
    records[1].value = Some(spaced.into());
    records[2].key = None;
    records[3].key = Some("other".into());
    records[4].headers.push(header("trace", None));
    records[5].headers = vec![header(HEADER_CONTROL, Some("heartbeat"))];
    records[5].key = None;
    records[5].value = Some(Heartbeat::new(partition().topic, 16, "archiver-1".to_owned()).encode().into());
    records[6].value = Some("no json".into());
    // The broker's clock steps back at the last record.
    records[7].broker_time = records[7].broker_time - Span::minutes(1);
    records[7].value = None;
    records[7].key = None;
    records[7].headers.clear();
    with_append_time(records)
}

#[test]
fn the_schema_is_pinned() {
    let schema = schema();
    let columns: Vec<String> = schema
        .fields()
        .iter()
        .map(|field| format!("{} {}{}", field.name(), field.data_type(), if field.is_nullable() { "?" } else { "" }))
        .collect();
    let expected = [
        "offset Int64",
        "append_time Timestamp(ms, \"UTC\")",
        "broker_time Timestamp(ms, \"UTC\")",
        "kind Int8",
        "click_id FixedSizeBinary(16)?",
        "ad_id Utf8?",
        "user_id Utf8?",
        "event_time Timestamp(ms, \"UTC\")?",
        "received_time Timestamp(ms, \"UTC\")?",
        "user_agent Utf8?",
        "key Binary?",
        "key_absent Boolean",
        "raw Binary?",
        "headers Binary?",
    ];
    assert_eq!(columns, expected);
}

#[test]
fn the_object_is_pinned() {
    let stored = records();
    let encoded = encode(&partition(), "archiver-1", &stored).unwrap();
    assert_eq!(
        encoded.footer.key().to_string(),
        "raw/v1/region=eu/topic=00000000-0000-0000-0000-000000000007/part=3/day=2026-03-01/00000000000000001200.parquet"
    );
    let file = ParquetRecordBatchReaderBuilder::try_new(encoded.bytes.clone()).unwrap();
    let metadata = file.metadata();
    let pairs: Vec<String> = metadata
        .file_metadata()
        .key_value_metadata()
        .unwrap()
        .iter()
        .filter(|pair| pair.key.starts_with("twofold."))
        .map(|pair| format!("{}={}", pair.key, pair.value.as_deref().unwrap()))
        .collect();
    let [fixed @ .., content, writer, partitions, tail] = pairs.as_slice() else { panic!("{pairs:?}") };
    assert_eq!(
        fixed,
        [
            "twofold.version=1",
            "twofold.partition=eu/00000000-0000-0000-0000-000000000007/3",
            "twofold.start_offset=1200",
            "twofold.end_offset=1208",
            "twofold.append_time_min=1772367600000",
            "twofold.append_time_max=1772367606000",
            "twofold.clicks=5",
        ]
    );
    assert_eq!([writer, partitions], ["twofold.writer=archiver-1", "twofold.partitions=16"]);
    assert_eq!(*content, format!("twofold.content_sha256={}", encoded.footer.content_sha256));
    assert!(tail.starts_with(&format!("twofold.tail={:020}:", encoded.footer.content_bytes)), "{tail}");

    let [group] = metadata.row_groups() else { panic!("{} row groups", metadata.num_row_groups()) };
    assert!(group.sorting_columns().is_none(), "the engine is slower with them");
    let encodings: Vec<String> = group
        .columns()
        .iter()
        .map(|column| {
            let encodings: Vec<String> = column.encodings().map(|encoding| format!("{encoding:?}")).collect();
            assert!(column.offset_index_offset().is_some(), "every column can be read by page");
            let pruned = if column.column_index_offset().is_some() { "" } else { " (no page statistics)" };
            format!("{} {}{pruned}", column.column_path().string(), encodings.join("+"))
        })
        .collect();
    assert_eq!(encodings, ENCODINGS);
    assert!(decode(encoded.bytes.clone()).unwrap() == stored);

    // The bytes are a function of the records *and* of the release of the parquet crate. When only this line fails after
    // an update of it, and objects of the old release still decode, pin the new hash.
    assert_eq!(clicks::ledger::sha256(&encoded.bytes), SHA256);
}

const ENCODINGS: [&str; 14] = [
    "offset RLE+DELTA_BINARY_PACKED",
    "append_time RLE+DELTA_BINARY_PACKED",
    "broker_time RLE+DELTA_BINARY_PACKED (no page statistics)",
    "kind RLE+DELTA_BINARY_PACKED (no page statistics)",
    "click_id PLAIN+RLE (no page statistics)",
    "ad_id PLAIN+RLE+RLE_DICTIONARY (no page statistics)",
    "user_id RLE+DELTA_BYTE_ARRAY (no page statistics)",
    "event_time RLE+DELTA_BINARY_PACKED",
    "received_time RLE+DELTA_BINARY_PACKED (no page statistics)",
    "user_agent PLAIN+RLE+RLE_DICTIONARY (no page statistics)",
    "key PLAIN+RLE+RLE_DICTIONARY (no page statistics)",
    "key_absent PLAIN+RLE (no page statistics)",
    "raw PLAIN+RLE (no page statistics)",
    "headers PLAIN+RLE+RLE_DICTIONARY (no page statistics)",
];
const SHA256: &str = "17cd0fae7a0f4a142f3ec77865eb67d6a9a6a1450444d356eb2efd7e33ea49d6";
