//! Raw objects are a chain or an error that names the object.

use archive::chain::{Chain, ChainError, read_chain, read_chain_end, read_chain_from};
use archive::codec::{CodecError, decode, encode, verify};
use archive::footer::{Footer, FooterError};
use bytes::Bytes;
use clicks::layout::{RawKey, chain_prefix};
use clicks::position::{Offset, PartitionId};
use clicks::time::Span;
use platform::objects::Objects;

use crate::support::{clicks_between, noon, partition, put_clicks};

#[tokio::test]
async fn contiguous_objects_are_a_chain() {
    let objects = Objects::memory();
    let empty = read_chain(&objects, &partition()).await.unwrap();
    assert_eq!((empty.base(), empty.next_offset(), empty.coverage()), (None, None, None));
    for (start, end) in [(0, 100), (100, 190), (190, 200)] {
        put_clicks(&objects, start, end).await;
    }
    let chain = read_chain(&objects, &partition()).await.unwrap();
    let at = |offset: u64| noon() + Span::seconds(offset as i64);
    let ends = (chain.base(), chain.next_offset(), chain.coverage());
    assert_eq!(ends, (Some(Offset::ZERO), Some(Offset::new(200)), Some(at(199))));
    let listed = objects.list(&chain_prefix(&partition()), None).await.unwrap();
    let keys: Vec<String> = chain.segments.iter().map(|segment| segment.key.to_string()).collect();
    assert_eq!(keys, listed.iter().map(|object| object.key.clone()).collect::<Vec<_>>());
    assert!(chain.segments.iter().zip(&listed).all(|(segment, object)| segment.bytes == object.bytes));

    put_clicks(&objects, 200, 4_000).await;
    let longer = read_chain_from(&objects, chain.clone()).await.unwrap();
    assert_eq!(longer, read_chain(&objects, &partition()).await.unwrap());
    assert_eq!(longer.next_offset(), Some(Offset::new(4_000)));
    let end = read_chain_end(&objects, &partition(), 2).await.unwrap();
    assert_eq!(end.segments, longer.segments[2..]);
}

/// A partition with number 3 does not see those of number 33.
#[tokio::test]
async fn partitions_do_not_mix() {
    let objects = Objects::memory();
    put_clicks(&objects, 0, 10).await;
    let other = PartitionId { number: 33, ..partition() };
    let encoded = encode(&other, "test", &clicks_between(5, 10)).unwrap();
    objects.put(&encoded.footer.key().to_string(), encoded.bytes).await.unwrap();
    assert_eq!(read_chain(&objects, &partition()).await.unwrap().next_offset(), Some(Offset::new(10)));
    assert_eq!(read_chain(&objects, &other).await.unwrap().base(), Some(Offset::new(5)));
}

/// Scenario 11: objects start at 0, 100, 200; the middle one ends at 190. The listing alone looks gapless.
#[tokio::test]
async fn a_hole_is_found_by_the_footers() {
    let objects = Objects::memory();
    for (start, end) in [(0, 100), (100, 190), (200, 300)] {
        put_clicks(&objects, start, end).await;
    }
    let error = read_chain(&objects, &partition()).await.unwrap_err();
    let ChainError::Hole { before, end, after, start, .. } = &error else { panic!("{error}") };
    assert_eq!((before.start.value(), end.value(), after.start.value(), start.value()), (100, 190, 200, 200));
    assert!(error.to_string().contains("00000000000000000200.parquet"), "{error}");
    let known = Chain::empty(partition());
    assert!(matches!(read_chain_from(&objects, known).await, Err(ChainError::Hole { .. })));
}

/// Scenario 10: A pipelines two objects; its 1000 loses to B's [1000, 1200), its 1080 succeeds. This is what one put in
/// flight prevents, and what a reader must find should it ever happen.
#[tokio::test]
async fn an_overlap_is_found() {
    let objects = Objects::memory();
    for (start, end) in [(0, 1_000), (1_000, 1_200), (1_080, 1_160)] {
        put_clicks(&objects, start, end).await;
    }
    let error = read_chain(&objects, &partition()).await.unwrap_err();
    assert!(matches!(error, ChainError::Overlap { end, start, .. } if (end.value(), start.value()) == (1_200, 1_080)));
}

#[tokio::test]
async fn what_is_no_raw_object_is_an_error() {
    for name in ["day=2026-03-01/00000000000000000010.parquet.tmp", "day=2026-03-01/10.parquet", "_SUCCESS"] {
        let objects = Objects::memory();
        put_clicks(&objects, 0, 10).await;
        let key = format!("{}{name}", chain_prefix(&partition()));
        objects.put(&key, Bytes::from_static(b"x")).await.unwrap();
        let error = read_chain(&objects, &partition()).await.unwrap_err();
        assert!(matches!(&error, ChainError::Foreign(foreign) if foreign.0 == key), "{error}");
    }
}

/// An object under a key that is not its own: copied there by hand, or restored to the wrong place.
#[tokio::test]
async fn an_object_must_lie_under_its_own_key() {
    let objects = Objects::memory();
    let (own, encoded) = put_clicks(&objects, 0, 10).await;
    let later = RawKey { start: Offset::new(10), ..own.clone() };
    let wrong_day = RawKey { day: own.day.next(), start: Offset::new(10), ..own };
    for key in [later, wrong_day] {
        objects.put(&key.to_string(), encoded.bytes.clone()).await.unwrap();
        let error = read_chain(&objects, &partition()).await.unwrap_err();
        assert!(matches!(error, ChainError::Footer(FooterError::Inconsistent { .. })), "{error}");
        assert!(error.to_string().contains(&key.to_string()), "{error}");
        objects.delete(&key.to_string()).await.unwrap();
    }
}

#[tokio::test]
async fn append_times_never_go_back() {
    let objects = Objects::memory();
    put_clicks(&objects, 0, 10).await;
    let mut stored = clicks_between(10, 20);
    for (record, append_time) in &mut stored {
        *append_time = *append_time - Span::seconds(5);
        record.broker_time = *append_time;
    }
    let encoded = encode(&partition(), "test", &stored).unwrap();
    objects.put(&encoded.footer.key().to_string(), encoded.bytes).await.unwrap();
    let error = read_chain(&objects, &partition()).await.unwrap_err();
    assert!(matches!(error, ChainError::TimeWentBack { .. }), "{error}");
}

#[tokio::test]
async fn a_truncated_object_is_named() {
    let objects = Objects::memory();
    let (key, encoded) = put_clicks(&objects, 0, 1_000).await;
    let size = encoded.bytes.len();
    for left in [0, 1, 4, 8, 11, size / 2, size - 8, size - 1] {
        let cut = encoded.bytes.slice(..left);
        objects.put(&key.to_string(), cut.clone()).await.unwrap();
        let error = read_chain(&objects, &partition()).await.unwrap_err();
        assert!(
            matches!(&error, ChainError::Footer(FooterError::Damaged { key: named, .. }) if *named == key.to_string()),
            "{left}: {error}"
        );
        assert!(decode(cut).is_err());
    }
}

/// Every byte of an object is under one of its two hashes; a flipped one is found before it is used.
#[tokio::test]
async fn a_flipped_byte_is_found_wherever_it_is() {
    let objects = Objects::memory();
    let (key, encoded) = put_clicks(&objects, 0, 50).await;
    let content = encoded.footer.content_bytes as usize;
    for at in 0..encoded.bytes.len() {
        let mut bytes = encoded.bytes.to_vec();
        bytes[at] ^= 1 << (at % 8);
        let bytes = Bytes::from(bytes);
        let footer = Footer::of("x", &bytes);
        assert_eq!(footer.is_ok(), at < content, "byte {at}: {footer:?}");
        match verify("x", &bytes) {
            Err(CodecError::Damaged { .. }) => assert!(at < content, "byte {at}"),
            Err(CodecError::Footer(_)) => assert!(at >= content, "byte {at}"),
            other => panic!("byte {at}: {other:?}"),
        }
    }
    let mut bytes = encoded.bytes.to_vec();
    bytes[content + 10] ^= 1;
    objects.put(&key.to_string(), bytes.into()).await.unwrap();
    let error = read_chain(&objects, &partition()).await.unwrap_err();
    assert!(error.to_string().contains(&key.to_string()), "{error}");
}

/// A tail that is longer than what is read at first.
#[tokio::test]
async fn a_long_footer_is_read_in_further_steps() {
    let objects = Objects::memory();
    let writer = "w".repeat(300_000);
    let encoded = encode(&partition(), &writer, &clicks_between(0, 1_000)).unwrap();
    let key = encoded.footer.key();
    objects.put(&key.to_string(), encoded.bytes.clone()).await.unwrap();
    let footer = Footer::read(&objects, &key, encoded.bytes.len() as u64).await.unwrap();
    assert_eq!(footer, encoded.footer);
}
