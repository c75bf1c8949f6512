//! A published night against its own inputs: what holds, and that nothing that was changed afterwards does.

use archive::codec::{decode, encode};
use bytes::Bytes;
use clicks::ledger::{Body, Entry, Night, entry_key, sha256};
use clicks::window::Grain;

use super::world::{World, at, day, partition};
use crate::rows::{Row, Rows};
use crate::table::{self, Sheet};
use crate::{Audit, AuditError, Break, Counts, audit};

/// Five nights: late clicks restate days 1 to 4, night 5 adjusts day 1 and a day before the first.
async fn eventful() -> World {
    let mut world = World::new(2).await;
    world.object_rows = 3;
    for n in 1..=5 {
        for (number, ad) in [(0, "a"), (1, "b")] {
            let p = partition(1, number);
            world.click(&p, at(n, 1, 0), at(n - 1, 22, 0), ad, n as u128);
            world.click(&p, at(n, 12, 0), at(n, 12, 0), ad, 100 + n as u128);
            world.click(&p, at(n, 12, 30), at(n, 12, 30), ad, 100 + n as u128);
            world.click(&p, at(n, 13, 0), at(n - 4, 12, 0), ad, 200 + n as u128);
            world.junk(&p, at(n, 14, 0), Some(b"no json"));
        }
        world.publish(n).await;
    }
    world
}

async fn run(world: &World, n: i32) -> Audit {
    audit(&world.options, &world.objects, &world.ledger, day(n)).await.unwrap()
}

fn first(audit: &Audit) -> Vec<Break> {
    audit.entries.iter().flat_map(|entry| entry.breaks.first.clone()).collect()
}

/// Changes what the last entry says. Nothing follows on it, so the chain of hashes holds.
async fn rewrite(world: &World, change: impl FnOnce(&mut Night)) {
    let head = world.books().await.head();
    let bytes = world.objects.get(&entry_key(head)).await.unwrap().unwrap();
    let mut entry = Entry::decode(head, &bytes).unwrap();
    let Body::Night(night) = &mut entry.body else { panic!("{entry:?}") };
    change(night);
    world.objects.put(&entry_key(head), entry.encode().into()).await.unwrap();
}

async fn last_night(world: &World) -> Night {
    let head = world.books().await.head();
    let bytes = world.objects.get(&entry_key(head)).await.unwrap().unwrap();
    match Entry::decode(head, &bytes).unwrap().body {
        Body::Night(night) => *night,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn every_published_day_holds_and_nothing_is_written() {
    let mut world = eventful().await;
    // What comes after a night, the tail of its last object too, is no matter of its audit.
    world.click(&partition(1, 0), at(6, 12, 0), at(6, 12, 0), "a", 999);
    world.store().await;
    let before = world.everything().await;
    for n in 1..=5 {
        let audit = run(&world, n).await;
        assert_eq!((audit.breaks(), first(&audit)), (0, vec![]), "day {n}");
        let entry = &audit.entries[0];
        assert!(entry.compared > 0 && entry.rows > 0 && entry.objects > 2 && entry.notes.is_empty(), "{entry:?}");
    }
    let adjusted = run(&world, 1).await;
    let nights: Vec<_> = adjusted.entries.iter().map(|entry| entry.night).collect();
    assert_eq!(nights, [day(2), day(5)], "its last revision, then the night with adjustments of it");
    let early = run(&world, -1).await;
    assert_eq!((early.breaks(), early.entries.len()), (0, 1), "a day before the first one has adjustments alone");
    assert_eq!(world.everything().await, before);
}

#[tokio::test]
async fn a_topic_that_was_migrated_and_its_late_tail_are_audited_like_any_other() {
    let mut world = World::new(1).await;
    let old = partition(1, 0);
    world.click(&old, at(1, 12, 0), at(1, 12, 0), "a", 1);
    world.publish(1).await;
    world.click(&old, at(2, 11, 50), at(2, 11, 50), "a", 2);
    world.store().await;
    world.begin_life(2, 2).await;
    world.click(&partition(2, 0), at(2, 12, 1), at(2, 12, 1), "a", 2);
    world.cover_life(2, 2).await;
    world.published(2).await;
    world.click(&old, at(2, 11, 55), at(2, 11, 55), "a", 3);
    world.store().await;
    world.cover_life(2, 3).await;
    let report = world.published(3).await;
    assert_eq!(report.days.len(), 2, "the tail is in the next night");
    let before_the_tail = audit(&world.options, &world.objects, &world.ledger, day(1)).await.unwrap();
    assert_eq!(first(&before_the_tail), []);
    for n in 2..=3 {
        assert_eq!(first(&run(&world, n).await), [], "day {n}");
    }
}

#[tokio::test]
async fn a_row_that_was_published_wrong_is_named_with_both_numbers() {
    let world = eventful().await;
    let night = last_night(&world).await;
    let revision = night.days.iter().find(|revision| revision.day == day(5)).unwrap().clone();
    let published = world.read(&revision.minute).await;
    let counts = |row: &Row<'_>| Counts { clicks: row.clicks, duplicates: row.duplicates, late: row.late };
    let (first_row, lost) = (published.iter().next().unwrap(), published.iter().last().unwrap());
    let (at_noon, ad, true_counts) = (first_row.period_start, first_row.ad.to_owned(), counts(&first_row));
    let mut cells = published.cells().to_vec();
    cells[0].clicks += 4;
    cells.pop();
    let rows = Rows::from_parts(published.names().clone(), cells);
    let sheet = Sheet { grain: Grain::Minute, revision: revision.revision, rules_version: 1 };
    let bytes = table::encode(&rows, sheet, "test").unwrap();
    let key = "tables/rev/00000000000000000006/minute-wrong.parquet".to_owned();
    world.objects.put(&key, bytes.clone()).await.unwrap();
    rewrite(&world, |night| {
        let wrong = night.days.iter_mut().find(|revision| revision.day == day(5)).unwrap();
        wrong.minute.key = key;
        wrong.minute.sha256 = sha256(&bytes);
    })
    .await;
    let audit = run(&world, 5).await;
    assert_eq!(audit.breaks(), 2, "hours and days are as they were: {:?}", first(&audit));
    let row = |ad: String, period, published, recomputed| Break::Row {
        table: "minute",
        day: day(5),
        ad,
        period,
        published,
        recomputed,
    };
    let more = Counts { clicks: true_counts.clicks + 4, ..true_counts };
    let expected = [
        row(ad, at_noon, Some(more), Some(true_counts)),
        row(lost.ad.to_owned(), lost.period_start, None, Some(counts(&lost))),
    ];
    assert_eq!(first(&audit), expected);
    let text = expected[0].to_string();
    assert!(text.contains("published 5 clicks") && text.contains("recomputed 1 clicks"), "{text}");
}

#[tokio::test]
async fn totals_sums_adjustments_and_cuts_of_an_entry_are_recomputed_too() {
    type Change = fn(&mut Night);
    type Found = fn(&Break) -> bool;
    let cases: [(Change, Found); 6] = [
        (|night| night.days[0].totals.far_duplicates += 1, |found| matches!(found, Break::Totals { .. })),
        (|night| night.balance.other_days -= 1, |found| matches!(found, Break::Balance { .. })),
        (
            |night| *night.adjustments.as_mut().unwrap().clicks.values_mut().next().unwrap() += 1,
            |found| matches!(found, Break::Day { .. }),
        ),
        (|night| night.adjustments = None, |found| matches!(found, Break::Row { table: "adjustments", .. })),
        (
            |night| *night.cuts.values_mut().next().unwrap() = night.cuts.values().next().unwrap().next(),
            |found| matches!(found, Break::Inputs { .. }),
        ),
        (|night| night.confirmed.clear(), |found| matches!(found, Break::Day { .. })),
    ];
    for (n, (change, expected)) in cases.into_iter().enumerate() {
        let world = eventful().await;
        if n == 5 {
            assert!(!last_night(&world).await.confirmed.is_empty(), "night 5 confirms days");
        }
        rewrite(&world, change).await;
        let found = first(&run(&world, 5).await);
        assert!(found.iter().any(expected), "case {n}: {found:?}");
    }
}

#[tokio::test]
async fn a_published_file_with_other_bytes_is_a_difference() {
    let world = eventful().await;
    let key = last_night(&world).await.days.last().unwrap().hour.key.clone();
    let mut bytes = world.objects.get(&key).await.unwrap().unwrap().to_vec();
    bytes[8] ^= 1;
    world.objects.put(&key, bytes.into()).await.unwrap();
    let found = first(&run(&world, 5).await);
    assert!(matches!(&found[..], [Break::File { key: named, .. }] if *named == key), "{found:?}");
}

/// Raw objects that the last night has read, in the order of its list.
async fn listed(world: &World) -> Vec<String> {
    let inputs = last_night(world).await.inputs;
    let bytes = world.objects.get(&inputs.key).await.unwrap().unwrap();
    let list = clicks::inputs::InputList::decode(&bytes).unwrap();
    list.objects.into_iter().map(|object| object.key).collect()
}

#[tokio::test]
async fn changed_raw_objects_are_all_named() {
    let world = eventful().await;
    let keys = listed(&world).await;
    for key in [&keys[1], &keys[3]] {
        let mut bytes = world.objects.get(key).await.unwrap().unwrap().to_vec();
        bytes[10] ^= 0x10;
        world.objects.put(key, bytes.into()).await.unwrap();
    }
    let audit = run(&world, 5).await;
    let found = first(&audit);
    let key_of = |found: &Break| match found {
        Break::Object { key, .. } => Some(key.clone()),
        _ => None,
    };
    let named: Vec<String> = found.iter().filter_map(key_of).collect();
    assert_eq!(named, [keys[1].clone(), keys[3].clone()], "{found:?}");
    assert_eq!(audit.entries[0].rows, 0, "nothing was counted, so no row is said to differ");
}

/// A forger who knows the format: footers and hashes of the object are sound, its size is what it was, a click is not.
#[tokio::test]
async fn a_forged_raw_object_shows_by_its_hash_and_by_the_rows_that_it_changes() {
    let world = eventful().await;
    let keys = listed(&world).await;
    let p = partition(1, 0);
    let mut forged = None;
    for key in keys.iter().filter(|key| key.contains("part=0/day=2026-03-05")) {
        let bytes = world.objects.get(key).await.unwrap().unwrap();
        let mut rows = decode(bytes).unwrap();
        let click = rows.iter_mut().find(|(record, _)| {
            record
                .value
                .as_ref()
                .is_some_and(|value| value.starts_with(b"{") && value.windows(5).any(|w| w == b"T12:0"))
        });
        if let Some((record, _)) = click {
            let text = String::from_utf8(record.value.as_ref().unwrap().to_vec()).unwrap();
            record.value = Some(Bytes::from(text.replace("T12:00", "T12:04")));
            let object = encode(&p, "test", &rows).unwrap();
            world.objects.put(key, object.bytes).await.unwrap();
            forged = Some(key.clone());
            break;
        }
    }
    let forged = forged.expect("an object of day 5 has a click at noon");
    let found = first(&run(&world, 5).await);
    assert!(found.iter().any(|f| matches!(f, Break::Object { key, .. } if *key == forged)), "{found:?}");
    assert!(
        found.iter().any(|f| matches!(f, Break::Row { period, published: None, .. } if *period == at(5, 12, 4))),
        "{found:?}"
    );
}

#[tokio::test]
async fn raw_objects_that_are_gone_are_an_error_that_names_them() {
    let world = eventful().await;
    let keys = listed(&world).await;
    for key in &keys[1..6] {
        world.objects.delete(key).await.unwrap();
    }
    let error = audit(&world.options, &world.objects, &world.ledger, day(5)).await.unwrap_err();
    let AuditError::Gone { keys: gone, entry, .. } = &error else { panic!("{error}") };
    assert_eq!((gone, *entry), (&keys[1..6].to_vec(), 6));
    let text = error.to_string();
    assert!(text.contains(&keys[1]) && text.contains("2 more") && text.contains("restore them"), "{text}");
    assert_eq!(error.exit_code(), 1);
}

/// A list that lacks what the look-back needs would make duplicates look like first sightings.
#[tokio::test]
async fn a_list_of_inputs_that_lacks_an_object_is_a_difference() {
    for lacking in [0, 2] {
        let world = eventful().await;
        let inputs = last_night(&world).await.inputs;
        let bytes = world.objects.get(&inputs.key).await.unwrap().unwrap();
        let mut list = clicks::inputs::InputList::decode(&bytes).unwrap();
        let gone = list.objects.remove(lacking);
        let text = list.encode();
        let key = "tables/rev/00000000000000000006/inputs-wrong.json".to_owned();
        world.objects.put(&key, text.clone().into()).await.unwrap();
        rewrite(&world, |night| (night.inputs.key, night.inputs.sha256) = (key, sha256(&text))).await;
        let found = first(&run(&world, 5).await);
        let named = |found: &Break| matches!(found, Break::Inputs { reason } if reason.contains(&gone.key) || reason.contains("hole"));
        assert!(found.iter().any(named), "without object {lacking}: {found:?}");
    }
}

#[tokio::test]
async fn what_lay_before_the_inputs_may_be_gone_and_is_told() {
    let mut world = World::new(1).await;
    world.object_rows = 1;
    for n in 1..=6 {
        world.click(&partition(1, 0), at(n, 12, 0), at(n, 12, 0), "a", n as u128);
        world.publish(n).await;
    }
    let keys = listed(&world).await;
    let raw = world.objects.list("raw/", None).await.unwrap();
    for object in raw.iter().filter(|object| object.key < keys[0]) {
        world.objects.delete(&object.key).await.unwrap();
    }
    let audit = run(&world, 6).await;
    assert_eq!(audit.breaks(), 0, "{:?}", first(&audit));
    assert!(audit.entries[0].notes[0].contains("is gone"), "{:?}", audit.entries[0].notes);
}

#[tokio::test]
async fn a_day_of_which_nothing_is_published_says_so() {
    let mut world = World::new(1).await;
    world.publish(1).await;
    let open = audit(&world.options, &world.objects, &world.ledger, day(2)).await.unwrap_err();
    assert!(matches!(open, AuditError::NotClosed { .. }) && open.exit_code() == 10, "{open}");
    let early = audit(&world.options, &world.objects, &world.ledger, day(-3)).await.unwrap_err();
    assert!(matches!(early, AuditError::Empty { .. }) && early.exit_code() == 2, "{early}");
    assert!(world.ledger.read_at(9).await.unwrap_err().to_string().contains("its last one is 2"));
    let before = world.ledger.read_at(1).await.unwrap();
    assert_eq!((before.head(), before.last_night()), (1, None));
}
