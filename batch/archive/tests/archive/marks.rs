//! Gaps, ends, bases and seals: what a chain is when not everything is there, and which set of keys means what.

use archive::chain::{
    BaseMark, Chain, ChainError, EndCause, EndMark, GapCause, GapMark, Mark, MarkError, VERSION, read_chain,
    read_chain_end, read_chain_from, record, seal,
};
use archive::codec::encode;
use bytes::Bytes;
use clicks::layout::{RawKey, marks_prefix};
use clicks::position::Offset;
use clicks::time::Timestamp;
use platform::objects::Objects;

use crate::support::{clicks_between, noon, partition, put_clicks};

fn gap(from: u64, to: u64) -> GapMark {
    GapMark {
        version: VERSION,
        partition: partition(),
        from: Offset::new(from),
        to: Offset::new(to),
        cause: GapCause::Retention,
        writer: "test".to_owned(),
        noticed_at: noon(),
        append_time_before: None,
    }
}

fn end(at: u64) -> EndMark {
    EndMark {
        version: VERSION,
        partition: partition(),
        end: Offset::new(at),
        cause: EndCause::Drained,
        writer: "test".to_owned(),
        noticed_at: noon(),
        append_time_before: None,
    }
}

fn base(at: u64) -> BaseMark {
    BaseMark {
        version: VERSION,
        partition: partition(),
        base: Offset::new(at),
        first_day: noon().day(),
        writer: "test".to_owned(),
        recorded_at: noon(),
        append_time_before: None,
    }
}

/// Objects and gaps in the order of offsets, as `object [0, 5)`, with what a chain says beside them.
fn shown(chain: &Chain) -> Vec<String> {
    let objects =
        chain.segments.iter().map(|s| (s.footer.start, s.end, if s.end < s.footer.end { "part" } else { "object" }));
    let gaps = chain.gaps.iter().map(|gap| (gap.from, gap.to, if gap.is_sealed { "sealed" } else { "gap" }));
    let mut pieces: Vec<_> = objects.chain(gaps).collect();
    pieces.sort_unstable();
    let mut shown: Vec<String> = pieces.into_iter().map(|(from, to, what)| format!("{what} [{from}, {to})")).collect();
    shown.extend(chain.end.as_ref().map(|end| format!("end {}", end.end)));
    shown.extend(chain.bridge().map(|bridge| format!("bridge {bridge}")));
    shown.extend(chain.late.iter().map(|key| format!("late {}", key.start)));
    shown
}

/// The chain of these objects and gaps; read at once, and continued from each shorter one, it is the same.
async fn chain_of(objects: &[(u64, u64)], gaps: &[(u64, u64)]) -> Result<Vec<String>, ChainError> {
    let store = Objects::memory();
    for (start, end) in objects {
        put_clicks(&store, *start, *end).await;
    }
    for (from, to) in gaps {
        record(&store, &gap(*from, *to)).await?;
    }
    let chain = read_chain(&store, &partition()).await?;
    for window in 1..=objects.len() {
        let part = read_chain_end(&store, &partition(), window).await?;
        assert_eq!((part.next_offset(), part.bridge()), (chain.next_offset(), chain.bridge()), "{window}");
        assert!(chain.segments.ends_with(&part.segments) && chain.gaps.ends_with(&part.gaps), "{window}");
        let mut known = chain.clone();
        known.segments.truncate(window);
        let last = known.segments[window - 1].clone();
        known.gaps.retain(|gap| gap.from < last.footer.start);
        assert_eq!(read_chain_from(&store, known).await?, chain, "{window}");
    }
    Ok(shown(&chain))
}

#[tokio::test]
async fn what_a_set_of_keys_means() {
    type Case<'a> = (&'a str, &'a [(u64, u64)], &'a [(u64, u64)], &'a [&'a str]);
    let cases: [Case<'_>; 13] = [
        ("a gap between", &[(0, 5), (9, 12)], &[(5, 9)], &["object [0, 5)", "gap [5, 9)", "object [9, 12)"]),
        ("a gap at the end", &[(0, 5)], &[(5, 9)], &["object [0, 5)", "gap [5, 9)"]),
        (
            "two archivers, one gap after the other",
            &[(0, 5), (12, 14)],
            &[(5, 9), (9, 12)],
            &["object [0, 5)", "gap [5, 9)", "gap [9, 12)", "object [12, 14)"],
        ),
        (
            "an object from where the gap begins",
            &[(0, 5), (5, 7), (9, 12)],
            &[(5, 9)],
            &["object [0, 5)", "object [5, 7)", "gap [7, 9)", "object [9, 12)"],
        ),
        (
            "an object within the gap",
            &[(0, 5), (6, 8), (9, 12)],
            &[(5, 9)],
            &["object [0, 5)", "gap [5, 6)", "object [6, 8)", "gap [8, 9)", "object [9, 12)"],
        ),
        (
            "an object that fills it",
            &[(0, 5), (5, 9), (9, 12)],
            &[(5, 9)],
            &["object [0, 5)", "object [5, 9)", "object [9, 12)"],
        ),
        (
            "an object that reaches over its end",
            &[(0, 5), (5, 11), (9, 14)],
            &[(5, 9)],
            &["object [0, 5)", "part [5, 9)", "object [9, 14)"],
        ),
        (
            "the same, and nothing follows",
            &[(0, 5), (5, 11)],
            &[(5, 9)],
            &["object [0, 5)", "object [5, 11)", "bridge 9"],
        ),
        (
            "the same, and its writer has gone on",
            &[(0, 5), (5, 11), (11, 14)],
            &[(5, 9)],
            &["object [0, 5)", "object [5, 11)", "object [11, 14)"],
        ),
        (
            "bridged: both ends are on the chain",
            &[(0, 5), (5, 11), (9, 11), (11, 14)],
            &[(5, 9)],
            &["object [0, 5)", "part [5, 9)", "object [9, 11)", "object [11, 14)"],
        ),
        (
            "a gap that was noticed too late",
            &[(0, 5), (5, 8), (8, 12)],
            &[(5, 7)],
            &["object [0, 5)", "object [5, 8)", "object [8, 12)"],
        ),
        ("nothing but a gap", &[], &[(4, 9)], &["gap [4, 9)"]),
        ("nothing", &[], &[], &[]),
    ];
    for (name, objects, gaps, expected) in cases {
        assert_eq!(chain_of(objects, gaps).await.unwrap(), expected, "{name}");
    }
}

#[tokio::test]
async fn what_is_neither_stored_nor_recorded_is_an_error() {
    let error = chain_of(&[(0, 5), (9, 12)], &[]).await.unwrap_err();
    assert!(matches!(error, ChainError::Hole { .. }), "{error}");
    let error = chain_of(&[(0, 5), (9, 12)], &[(5, 8)]).await.unwrap_err();
    assert!(matches!(error, ChainError::Hole { end, .. } if end.value() == 8), "{error}");
    let error = chain_of(&[(0, 5)], &[(7, 9)]).await.unwrap_err();
    assert!(matches!(error, ChainError::HoleBefore { end, .. } if end.value() == 5), "{error}");
    assert!(error.to_string().contains("00000000000000000007.gap.json"), "{error}");
    // An object that begins in another is where the chain goes on only if a gap ends there.
    let error = chain_of(&[(0, 5), (5, 11), (9, 14)], &[(5, 8)]).await.unwrap_err();
    assert!(matches!(error, ChainError::Overlap { .. }), "{error}");
}

#[tokio::test]
async fn a_chain_goes_on_behind_a_gap() {
    let objects = Objects::memory();
    put_clicks(&objects, 0, 5).await;
    let before = read_chain(&objects, &partition()).await.unwrap();
    record(&objects, &gap(5, 9)).await.unwrap();
    let mut chain = read_chain_from(&objects, before.clone()).await.unwrap();
    assert_eq!(chain.next_offset(), Some(Offset::new(9)));
    assert_eq!((chain.base(), chain.coverage()), (before.base(), before.coverage()), "a gap covers nothing");
    let (key, encoded) = put_clicks(&objects, 9, 12).await;
    let bytes = encoded.bytes.len() as u64;
    let segment = archive::chain::Segment::new(key, bytes, encoded.footer);
    chain.push(segment.clone()).unwrap();
    assert_eq!(chain, read_chain(&objects, &partition()).await.unwrap());
    assert!(chain.push(segment).is_err(), "once");
}

/// What an archive was begun without is where it begins, and no gap.
#[tokio::test]
async fn an_archive_that_was_begun_later_has_a_base() {
    let objects = Objects::memory();
    let begun = GapMark { cause: GapCause::Begin, ..gap(0, 5) };
    record(&objects, &begun).await.unwrap();
    let chain = read_chain(&objects, &partition()).await.unwrap();
    assert_eq!(
        (chain.base(), chain.next_offset(), chain.coverage()),
        (Some(Offset::new(5)), Some(Offset::new(5)), None)
    );
    put_clicks(&objects, 5, 9).await;
    let chain = read_chain(&objects, &partition()).await.unwrap();
    assert_eq!((chain.base(), shown(&chain)), (Some(Offset::new(5)), vec!["object [5, 9)".to_owned()]));
    let fresh = Objects::memory();
    record(&fresh, &begun).await.unwrap();
    put_clicks(&fresh, 7, 9).await;
    let error = read_chain(&fresh, &partition()).await.unwrap_err();
    assert!(matches!(error, ChainError::LostFront { .. }), "{error}");
}

/// The first one wins, and the other reads it: two archivers that notice different ends go on from the same one.
#[tokio::test]
async fn of_two_gaps_at_one_offset_one_is_recorded() {
    let objects = Objects::memory();
    put_clicks(&objects, 0, 5).await;
    assert_eq!(record(&objects, &gap(5, 9)).await.unwrap(), gap(5, 9));
    assert_eq!(record(&objects, &gap(5, 12)).await.unwrap(), gap(5, 9));
    assert_eq!(read_chain(&objects, &partition()).await.unwrap().next_offset(), Some(Offset::new(9)));
}

/// Once a night has used a gap, nothing that is stored later fills it; it is told, not used.
#[tokio::test]
async fn a_sealed_gap_stays_as_it_is() {
    let objects = Objects::memory();
    put_clicks(&objects, 0, 5).await;
    record(&objects, &gap(5, 9)).await.unwrap();
    put_clicks(&objects, 5, 6).await;
    let chain = read_chain(&objects, &partition()).await.unwrap();
    seal(&objects, &chain.gaps[0], "the night of 2026-03-01", noon()).await.unwrap();
    seal(&objects, &chain.gaps[0], "the same again", noon()).await.unwrap();
    let sealed = read_chain(&objects, &partition()).await.unwrap();
    assert_eq!(shown(&sealed), ["object [0, 5)", "object [5, 6)", "sealed [6, 9)"]);
    // From its start, over its end, from within it.
    for (start, end) in [(6, 8), (7, 12)] {
        put_clicks(&objects, start, end).await;
    }
    let expected = ["object [0, 5)", "object [5, 6)", "sealed [6, 9)", "late 6", "late 7"];
    assert_eq!(shown(&read_chain(&objects, &partition()).await.unwrap()), expected);
    put_clicks(&objects, 9, 12).await;
    let chain = read_chain(&objects, &partition()).await.unwrap();
    assert_eq!((&chain.gaps, chain.next_offset()), (&sealed.gaps, Some(Offset::new(12))));
    assert_eq!(read_chain_end(&objects, &partition(), 1).await.unwrap().next_offset(), Some(Offset::new(12)));
}

#[tokio::test]
async fn an_end_is_the_end_of_the_chain_or_nothing() {
    let objects = Objects::memory();
    record(&objects, &end(0)).await.unwrap();
    let chain = read_chain(&objects, &partition()).await.unwrap();
    assert_eq!((chain.next_offset(), chain.end), (None, Some(end(0))), "nothing was ever stored");
    put_clicks(&objects, 0, 5).await;
    assert_eq!(shown(&read_chain(&objects, &partition()).await.unwrap()), ["object [0, 5)"]);
    record(&objects, &end(5)).await.unwrap();
    let ended = read_chain(&objects, &partition()).await.unwrap();
    assert_eq!(shown(&ended), ["object [0, 5)", "end 5"]);
    assert_eq!(read_chain_end(&objects, &partition(), 1).await.unwrap().end, Some(end(5)));
    // It grew all the same: the life has not ended.
    put_clicks(&objects, 5, 7).await;
    let grown = read_chain_from(&objects, ended).await.unwrap();
    assert_eq!(shown(&grown), ["object [0, 5)", "object [5, 7)"]);
    record(&objects, &end(9)).await.unwrap();
    let error = read_chain(&objects, &partition()).await.unwrap_err();
    assert!(matches!(&error, ChainError::HoleBefore { end, .. } if end.value() == 7), "{error}");
}

#[tokio::test]
async fn a_chain_begins_at_its_recorded_base() {
    let objects = Objects::memory();
    let mut keys: Vec<RawKey> = Vec::new();
    for (start, end) in [(0, 5), (5, 9), (9, 12)] {
        keys.push(put_clicks(&objects, start, end).await.0);
    }
    record(&objects, &base(5)).await.unwrap();
    for _ in 0..2 {
        let chain = read_chain(&objects, &partition()).await.unwrap();
        assert_eq!(shown(&chain), ["object [5, 9)", "object [9, 12)"]);
        assert_eq!(chain.base(), Some(Offset::new(5)));
        objects.delete(&keys[0].to_string()).await.unwrap();
    }
    objects.delete(&keys[1].to_string()).await.unwrap();
    let error = read_chain(&objects, &partition()).await.unwrap_err();
    assert!(matches!(error, ChainError::LostFront { base, start, .. } if (base.value(), start.value()) == (5, 9)));
    // Everything of an ended life may be gone.
    record(&objects, &base(12)).await.unwrap();
    record(&objects, &end(12)).await.unwrap();
    objects.delete(&keys[2].to_string()).await.unwrap();
    let chain = read_chain(&objects, &partition()).await.unwrap();
    assert_eq!((chain.base(), chain.next_offset()), (Some(Offset::new(12)), Some(Offset::new(12))));
    assert_eq!(chain.end, Some(end(12)));
}

#[tokio::test]
async fn a_mark_that_cannot_be_read_is_an_error_that_names_it() {
    let own = gap(5, 9).key().to_string();
    let good = String::from_utf8(gap(5, 9).encode()).unwrap();
    for (key, bytes, expected) in [
        (own.clone(), good.replace(r#""version":1"#, r#""version":2"#), "newer release"),
        (own.clone(), "{".to_owned(), "cannot be read"),
        (own.clone(), good.replace(r#""from":5"#, r#""from":4"#), "contradicts itself"),
        (own.clone(), good.replace(r#""to":9"#, r#""to":5"#), "contradicts itself"),
        (own.clone(), good.replace("/3\"", "/4\""), "contradicts itself"),
        (own.replace(".gap.", ".hole."), good.clone(), "is not the key"),
        (format!("{}x", marks_prefix(&partition())), good.clone(), "is not the key"),
    ] {
        let objects = Objects::memory();
        put_clicks(&objects, 0, 5).await;
        objects.put(&key, Bytes::from(bytes)).await.unwrap();
        let error = read_chain(&objects, &partition()).await.unwrap_err().to_string();
        assert!(error.contains(expected) && error.contains(&key), "{error}");
    }
    let error = MarkError::Missing(own).to_string();
    assert!(error.contains("restore it"), "{error}");
}

/// A part of an object counts up to where the next one begins, also by its times, so that a chain can be halved by them.
#[tokio::test]
async fn the_times_of_a_part_do_not_reach_into_what_follows() {
    let objects = Objects::memory();
    put_clicks(&objects, 0, 11).await;
    record(&objects, &gap(0, 9)).await.unwrap();
    let encoded = encode(&partition(), "test", &clicks_between(9, 14)).unwrap();
    objects.put(&encoded.footer.key().to_string(), encoded.bytes).await.unwrap();
    let chain = read_chain(&objects, &partition()).await.unwrap();
    let times: Vec<Timestamp> = chain.segments.iter().map(|segment| segment.append_time_max).collect();
    assert_eq!(times, [chain.segments[1].footer.append_time_min, chain.segments[1].footer.append_time_max]);
    assert!(chain.segments[0].append_time_max < chain.segments[0].footer.append_time_max);
}
