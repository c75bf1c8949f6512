//! What was on the log comes back byte for byte, whatever it was.

use archive::codec::{CodecError, Reading, decode, encode, verify};
use bytes::Bytes;
use clicks::control::Heartbeat;
use clicks::event::Click;
use clicks::id::{AdId, ClickId, TopicId, UserId};
use clicks::layout::Kind;
use clicks::position::Offset;
use clicks::time::{Span, Timestamp};
use clicks::wire::{HEADER_CONTROL, HEADER_RECEIVED, HEADER_USER_AGENT};
use platform::log::{Header, LogRecord};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

use crate::support::{clicks_between, header, partition, with_append_time};

fn any_click() -> impl Strategy<Value = Click> {
    (any::<u128>(), "[A-Za-z0-9_.-]{1,64}", "[A-Za-z0-9_.-]{1,8}", -1_000i64..253_402_300_800_000).prop_map(
        |(id, ad, user, millis)| Click {
            click_id: ClickId::from_u128(id),
            ad_id: AdId::parse(&ad).unwrap(),
            user_id: UserId::parse(&user).unwrap(),
            event_time: Timestamp::from_millis(millis),
        },
    )
}

/// Values: clicks as we write them, clicks in the spellings of others, records of our own, and anything.
fn any_value() -> impl Strategy<Value = Option<Bytes>> {
    let spellings: [fn(String) -> String; 6] = [
        |json| json,
        |json| {
            json.to_uppercase()
                .replace("CLICK_ID", "click_id")
                .replace("AD_ID", "ad_id")
                .replace("USER_ID", "user_id")
                .replace("TIMESTAMP", "timestamp")
        },
        |json| json.replace(':', ": ").replace("\": ", "\" : "),
        |json| json.replace('}', r#","campaign":{"x":[1,2,"}"]}}"#),
        |json| format!(" {json}\n"),
        |json| json.replace("ad_id", "\\u0061d_id").replace('Z', "+00:00"),
    ];
    let click = (any_click(), 0..spellings.len())
        .prop_map(move |(click, spelling)| Some(spellings[spelling](clicks::wire::encode(&click)).into()));
    let beat = (any::<u128>(), any::<u32>()).prop_map(|(topic, count)| {
        Some(Heartbeat::new(TopicId::from_u128(topic), count, "w".to_owned()).encode().into())
    });
    prop_oneof![
        6 => click,
        1 => beat,
        1 => Just(None),
        1 => Just(Some(Bytes::new())),
        2 => vec(any::<u8>(), 0..200).prop_map(|bytes| Some(bytes.into())),
    ]
}

fn any_header() -> impl Strategy<Value = Header> {
    let name = prop_oneof![
        3 => Just(HEADER_RECEIVED.to_owned()),
        3 => Just(HEADER_USER_AGENT.to_owned()),
        1 => Just(HEADER_CONTROL.to_owned()),
        1 => ".{0,5}",
    ];
    let value = prop_oneof![
        3 => any::<i64>().prop_map(|number| Some(number.to_string().into())),
        1 => Just(Some(Bytes::from_static(b"+007"))),
        1 => Just(None),
        2 => vec(any::<u8>(), 0..20).prop_map(|bytes| Some(Bytes::from(bytes))),
        2 => ".{0,20}".prop_map(|text| Some(text.into())),
    ];
    (name, value).prop_map(|(name, value)| Header { name, value })
}

fn any_record() -> impl Strategy<Value = LogRecord> {
    let key = option::of(vec(any::<u8>(), 0..12).prop_map(Bytes::from));
    // Mostly the ad itself, as the collector writes it.
    let record = (any_value(), key, any::<bool>(), vec(any_header(), 0..4), -5_000i64..60_000);
    record.prop_map(|(value, key, keyed_by_ad, headers, step)| {
        let mut record =
            LogRecord { offset: Offset::ZERO, broker_time: Timestamp::from_millis(step), key, value, headers };
        let ad = Reading::of(&record).click.map(|click| Bytes::copy_from_slice(click.ad_id.as_bytes()));
        if keyed_by_ad && ad.is_some() {
            record.key = ad;
        }
        record
    })
}

/// Records of a log: contiguous, the broker's time stepping forward and sometimes back.
fn any_log() -> impl Strategy<Value = Vec<LogRecord>> {
    (vec(any_record(), 1..40), 0u64..(1 << 62), 0i64..4_000_000_000_000).prop_map(|(mut records, start, mut time)| {
        for (offset, record) in (start..).zip(&mut records) {
            time += record.broker_time.as_millis();
            record.offset = Offset::new(offset);
            record.broker_time = Timestamp::from_millis(time);
        }
        records
    })
}

proptest! {
    #[test]
    fn decode_gives_back_the_exact_log(records in any_log()) {
        let stored = with_append_time(records);
        let encoded = encode(&partition(), "test", &stored).unwrap();
        prop_assert_eq!(&verify("x", &encoded.bytes).unwrap(), &encoded.footer);
        let again = encode(&partition(), "test", &stored).unwrap();
        prop_assert_eq!(&again.bytes, &encoded.bytes, "the bytes are a function of the records");
        let decoded = decode(encoded.bytes).unwrap();
        prop_assert_eq!(&decoded, &stored);
    }
}

#[test]
fn kinds_are_told_apart_and_counted() {
    let mut records: Vec<LogRecord> = clicks_between(10, 14).into_iter().map(|(record, _)| record).collect();
    records[1].headers = vec![header(HEADER_CONTROL, Some("heartbeat"))];
    records[1].value = Some(Heartbeat::new(partition().topic, 16, "w".to_owned()).encode().into());
    records[2].value = Some(Bytes::from_static(b"no json"));
    records[3].value = None;
    let kinds: Vec<Kind> = records.iter().map(|record| Reading::of(record).kind).collect();
    assert_eq!(kinds, [Kind::Click, Kind::Control, Kind::Unreadable, Kind::Empty]);
    let encoded = encode(&partition(), "test", &with_append_time(records)).unwrap();
    assert_eq!(encoded.kinds, [1, 1, 1, 1]);
    let footer = encoded.footer;
    assert_eq!((footer.clicks, footer.rows, footer.partitions), (1, 4, Some(16)));
    assert_eq!((footer.start, footer.end), (Offset::new(10), Offset::new(14)));
}

/// A heartbeat of another topic life (a zombie writes to the re-created topic) and one that the partition itself
/// disproves say nothing about the number of partitions.
#[test]
fn only_heartbeats_of_this_life_name_the_partition_count() {
    let beats = [(partition().topic, 8), (TopicId::from_u128(99), 32), (partition().topic, 2), (partition().topic, 16)];
    let named = |count: usize| {
        let mut records: Vec<LogRecord> =
            clicks_between(0, count as u64).into_iter().map(|(record, _)| record).collect();
        for (record, (topic, partitions)) in records.iter_mut().zip(beats) {
            record.headers = vec![header(HEADER_CONTROL, Some("heartbeat"))];
            record.value = Some(Heartbeat::new(topic, partitions, "w".to_owned()).encode().into());
        }
        encode(&partition(), "test", &with_append_time(records)).unwrap().footer.partitions
    };
    assert_eq!([1, 2, 3, 4].map(named), [Some(8), Some(8), Some(8), Some(16)]);
}

#[test]
fn values_of_many_megabytes_are_kept() {
    let mut records: Vec<LogRecord> = clicks_between(0, 5).into_iter().map(|(record, _)| record).collect();
    records[1].value = Some(vec![b'x'; 20 << 20].into());
    records[2].value = Some(vec![0xff; 20 << 20].into());
    records[3].key = Some(vec![b'k'; 1 << 20].into());
    records[4].headers = vec![header("h", Some(&"y".repeat(1 << 20)))];
    let stored = with_append_time(records);
    let encoded = encode(&partition(), "test", &stored).unwrap();
    assert!(encoded.bytes.len() < 1 << 20, "{} bytes: nothing incompressible was in there", encoded.bytes.len());
    assert!(decode(encoded.bytes).unwrap() == stored, "(not printed, it is long)");
}

#[test]
fn what_is_no_object_is_refused() {
    let stored = clicks_between(0, 4);
    assert!(matches!(encode(&partition(), "w", &[]), Err(CodecError::Empty)));
    let mut gap = stored.clone();
    gap.remove(2);
    assert!(matches!(encode(&partition(), "w", &gap), Err(CodecError::NotContiguous { .. })));
    let mut back = stored.clone();
    back[3].1 = back[2].1 - Span::millis(1);
    back[3].0.broker_time = back[3].1;
    assert!(matches!(encode(&partition(), "w", &back), Err(CodecError::AppendTime { .. })));
    let mut below = stored;
    below[0].1 = below[0].0.broker_time - Span::millis(1);
    assert!(matches!(encode(&partition(), "w", &below), Err(CodecError::AppendTime { .. })));
}

/// Two row groups and many batches, and the size that the choice of encodings promises.
#[test]
fn many_clicks_take_few_bytes() {
    let stored = clicks_between(0, 3_000).into_iter().cycle();
    let mut records: Vec<LogRecord> = stored.take(140_000).map(|(record, _)| record).collect();
    for (offset, record) in (0..).zip(&mut records) {
        record.offset = Offset::new(offset);
    }
    let stored = with_append_time(records);
    let encoded = encode(&partition(), "test", &stored).unwrap();
    let each = encoded.bytes.len() as f64 / stored.len() as f64;
    assert!(each < 16.0, "{each} bytes a click");
    assert!(decode(encoded.bytes).unwrap() == stored, "(not printed, it is long)");
}
