//! What is read back, by the worker and by readers.

use clicks::live::{CountKey, Expected, FlushOutcome};
use clicks::position::{Offset, PartitionId};
use clicks::time::{Day, Interval, Timestamp};
use clicks::window::Minute;

use super::steps::{Writer, ad, all, count, day, generation, late, new_partition, time};
use super::{applied, flush, load, loaded, read, slice, sorted, works};
use crate::store::{Ads, LiveQuery, Part, SpeedStore};

pub(super) async fn nothing_is_stored_of_an_unknown_partition(store: &dyn SpeedStore) {
    let partition = new_partition();
    assert_eq!(load(store, &partition).await, None, "load of an unknown partition");
    assert_eq!(read(store, &partition, &all()).await, None, "read of an unknown partition");
    let mut writer = Writer::new(1, 0);
    writer.expected = Expected::At { generation: generation(1), next_offset: Offset::ZERO, lost: 0 };
    let step = writer.step(1, vec![(count("12:00", "a"), 1)]);
    let outcome = flush(store, &partition, &step).await;
    assert_eq!(outcome, FlushOutcome::Mismatch { found: None }, "a flush onto nothing");
    assert_eq!(load(store, &partition).await, None, "a mismatch stores nothing");
}

pub(super) async fn a_generation_without_a_record_is_readable(store: &dyn SpeedStore) {
    let partition = new_partition();
    let mut step = Writer::new(1, 7).step(0, vec![]);
    step.meta.append_time = Timestamp::MIN;
    step.meta.fingerprint = String::new();
    applied(store, &partition, &step).await;
    let loaded = loaded(store, &partition).await;
    assert_eq!((&loaded.meta, loaded.counts.len(), loaded.late.len()), (&step.meta, 0, 0), "load before any record");
    let slice = slice(store, &partition, &all()).await;
    assert_eq!((&slice.meta, slice.counts.len(), slice.late.len()), (&step.meta, 0, 0), "read before any record");
}

/// The watermark's own window is included: a click of 11:57:40 is on time at 12:07:30.
pub(super) async fn a_load_gives_what_may_still_change(store: &dyn SpeedStore) {
    let partition = new_partition();
    let mut writer = Writer::new(1, 0);
    let counts: Vec<_> = ["10:00", "11:56", "11:57", "12:07", "12:12"].map(|at| (count(at, "a"), 1)).into();
    let mut step = writer.step(8, counts.clone());
    step.meta.append_time = time("2026-03-10T12:07:30Z");
    step.late =
        ["2026-03-08", "2026-03-09", "2026-03-10"].map(|night| (late(night, "2026-03-07T00:00:00Z", "a"), 1)).into();
    applied(store, &partition, &step).await;
    let loaded_now = loaded(store, &partition).await;
    assert_eq!(sorted(loaded_now.counts), counts[2..], "windows from the one that holds the watermark");
    assert_eq!(loaded_now.late, step.late[2..], "late counts of the night that comes");
    assert_eq!(sorted(slice(store, &partition, &all()).await.counts), counts, "a read gives the closed windows too");

    let partition = new_partition();
    let mut writer = Writer::new(1, 0);
    let mut step = writer.step(3, vec![]);
    step.late = vec![
        (late("2026-03-08", "2026-03-07T00:00:00Z", "a"), 1),
        (late("2026-03-09", "2026-03-07T00:00:00Z", "a"), 2),
    ];
    for (append_time, want) in [("2026-03-10T00:09:59.999Z", 1), ("2026-03-10T00:10:00Z", 0)] {
        step.meta.append_time = time(append_time);
        applied(store, &partition, &step).await;
        let late = loaded(store, &partition).await.late;
        assert_eq!(late, step.late[2 - want..], "at {append_time}, the cut of the night before being at 00:10");
        step.expected = Expected::at(step.generation, &step.meta);
        step.meta.next_offset = step.meta.next_offset.next();
    }
}

/// Scenario 19.
pub(super) async fn late_counts_outlive_their_window(store: &dyn SpeedStore) {
    let partition = new_partition();
    let mut writer = Writer::new(1, 0);
    let mut step = writer.step(3, vec![]);
    step.late = vec![(late("2026-03-10", "2026-02-28T12:00:00Z", "a"), 3)];
    applied(store, &partition, &step).await;
    assert_eq!(loaded(store, &partition).await.late, step.late, "a click ten days late is still counted on");
}

pub(super) async fn an_expiry_drops_hours_and_nights(store: &dyn SpeedStore) {
    let partition = new_partition();
    let mut writer = Writer::new(1, 0);
    let old = CountKey { minute: Minute::of(time("2026-03-09T05:00:00Z")), ..count("12:00", "a") };
    let mut step = writer.step(12, vec![(old.clone(), 4), (count("00:00", "a"), 2), (count("12:00", "a"), 1)]);
    step.late = vec![
        (late("2026-03-08", "2026-03-07T00:00:00Z", "a"), 3),
        (late("2026-03-10", "2026-03-07T00:00:00Z", "a"), 2),
    ];
    applied(store, &partition, &step).await;
    let mut expiry = writer.step(0, vec![]);
    expiry.meta.base_day = day("2026-03-10");
    expiry.meta.base_night = day("2026-03-09");
    (expiry.meta.totals.expired, expiry.meta.totals.late_expired) = (4, 3);
    expiry.drop_hours = clicks::counter::hours_of(day("2026-03-09"), day("2026-03-10"));
    expiry.drop_nights = vec![day("2026-03-08")];
    // A lost reply: an expiry moves no offset, so its repetition is applied, and changes nothing.
    for _ in 0..2 {
        applied(store, &partition, &expiry).await;
        let slice = slice(store, &partition, &all()).await;
        assert_eq!(slice.meta, expiry.meta, "the base has moved");
        assert_eq!(sorted(slice.counts), [(count("00:00", "a"), 2), (count("12:00", "a"), 1)], "hours are dropped");
        assert_eq!(slice.late, step.late[1..], "nights are dropped");
    }
}

pub(super) async fn a_read_clips_and_filters(store: &dyn SpeedStore) {
    let partition = new_partition();
    let mut writer = Writer::new(1, 0);
    let times = ["10:00", "10:01", "10:59", "11:00", "11:30"];
    // Many ads, so that one ad is read by name and many are read whole.
    let ads: Vec<String> = (0..100).map(|n| format!("ad-{n:02}")).collect();
    let counts: Vec<_> = times.iter().flat_map(|at| ads.iter().map(|ad| (count(at, ad), 1))).collect();
    let mut step = writer.step(counts.len() as u64 + 4, counts.clone());
    let minutes = ["2026-03-09T10:00:00Z", "2026-03-10T10:01:00Z"];
    step.late = ["2026-03-08", "2026-03-10"]
        .into_iter()
        .flat_map(|night| minutes.map(|minute| (late(night, minute, "ad-01"), 1)))
        .collect();
    applied(store, &partition, &step).await;

    let every: Vec<&str> = ads.iter().map(String::as_str).collect();
    let cases: [(&str, &[&str], &str, &str); 9] = [
        ("everything", &every, "00:00", "23:00"),
        ("half-open at both ends", &every, "10:01", "11:00"),
        ("within a minute: windows are named by their begin", &["ad-01"], "10:00:01", "10:59:01"),
        ("an hour of which no window begins in the range", &["ad-01"], "10:59:30", "11:01"),
        ("one ad", &["ad-01"], "10:00", "11:01"),
        ("no ad", &[], "10:00", "12:00"),
        ("some ads", &["ad-01", "ad-02", "nobody"], "10:59", "12:00"),
        ("an unknown ad", &["nobody"], "00:00", "23:00"),
        ("an empty range", &every, "11:00", "11:00"),
    ];
    for (name, wanted, from, to) in cases {
        let at = |text: &str| time(&format!("2026-03-10T{text}{}Z", if text.len() == 5 { ":00" } else { "" }));
        let range = Interval::new(at(from), at(to));
        let query = LiveQuery {
            ads: Ads::Some(wanted.iter().map(|name| ad(name)).collect()),
            range,
            late_from: day("2026-03-01"),
        };
        let slice = slice(store, &partition, &query).await;
        let holds = |key: &CountKey| range.contains(key.minute.start()) && wanted.contains(&key.ad.as_str());
        let want = counts.iter().filter(|(key, _)| holds(key)).cloned().collect();
        assert_eq!(sorted(slice.counts), sorted(want), "{name}: counts");
        let want = step.late.iter().filter(|(key, _)| holds(&key.count)).cloned().collect();
        assert_eq!(sorted(slice.late), sorted(want), "{name}: late counts");
    }
    let nights = LiveQuery { late_from: day("2026-03-09"), ..all() };
    assert_eq!(sorted(slice(store, &partition, &nights).await.late), step.late[2..], "late counts of later nights");
    let mut moved = writer.step(0, vec![]);
    moved.meta.base_day = day("2026-03-11");
    applied(store, &partition, &moved).await;
    let slice = slice(store, &partition, &all()).await;
    assert_eq!(slice.counts, [], "nothing is read below the base day, dropped or not");
}

pub(super) async fn parts_add_up_to_the_whole(store: &dyn SpeedStore) {
    let partition = new_partition();
    let mut writer = Writer::new(1, 0);
    let minutes = ["00:00", "10:59", "11:00", "11:59", "12:00", "12:30"];
    let mut step = writer.step(7, minutes.map(|at| (count(at, "a"), 1)).into());
    let nights = ["2026-03-08", "2026-03-09", "2026-03-10"];
    step.late = nights.map(|night| (late(night, "2026-02-20T00:00:00Z", "a"), 1)).into();
    applied(store, &partition, &step).await;
    let at = |text: &str| time(&format!("2026-03-10T{text}:00Z"));
    let (first, last) = (Timestamp::MIN, Timestamp::MAX);
    let nobody = Interval::new(Timestamp::EPOCH, Timestamp::EPOCH);
    let (none, ever) = ((day("2026-03-09"), day("2026-03-09")), (Day::from_number(i32::MIN), day("2100-01-01")));
    let cases = [
        ("an hour", Interval::new(at("11:00"), at("12:00")), none, 2..4, 0..0),
        ("what follows", Interval::new(at("12:00"), last), none, 4..6, 0..0),
        ("a night", nobody, (day("2026-03-09"), day("2026-03-10")), 0..0, 1..2),
        ("what follows, of both", Interval::new(at("12:00"), last), (day("2026-03-09"), ever.1), 4..6, 1..3),
        ("everything", Interval::new(first, last), ever, 0..6, 0..3),
        ("nothing", nobody, none, 0..0, 0..0),
    ];
    for (name, windows, nights, counts, late) in cases {
        let part = works(store.read_part(&partition, &Part { windows, nights }).await, name).expect("it is live");
        assert_eq!((part.generation, &part.meta), (step.generation, &step.meta), "{name}");
        assert_eq!(sorted(part.counts), step.counts[counts], "{name}: counts");
        assert_eq!(sorted(part.late), step.late[late], "{name}: late counts");
    }
    let whole = Part { windows: Interval::new(first, last), nights: ever };
    assert_eq!(works(store.read_part(&new_partition(), &whole).await, "a part of an unknown partition"), None);
}

pub(super) async fn partitions_do_not_touch(store: &dyn SpeedStore) {
    let one = new_partition();
    let others = [
        PartitionId { number: one.number + 1, ..one.clone() },
        PartitionId { topic: new_partition().topic, ..one.clone() },
        PartitionId { region: clicks::id::Region::parse("us").expect("a region"), ..one.clone() },
    ];
    applied(store, &one, &Writer::new(1, 0).step(1, vec![(count("12:00", "a"), 1)])).await;
    for other in others {
        assert_eq!(load(store, &other).await, None, "{other} is another partition than {one}");
        applied(store, &other, &Writer::new(1, 0).step(9, vec![(count("12:00", "a"), 9)])).await;
    }
    assert_eq!(loaded(store, &one).await.counts, [(count("12:00", "a"), 1)]);
}
