//! The conformance suite of the object store port, and the probe that `twofold check` and the archiver's start use.

use std::collections::BTreeMap;

use bytes::Bytes;
use futures::future::join_all;

use super::{Created, ObjectError, ObjectInfo, Objects};

/// Creates one key twice with different bytes, below `probe/`. `unique` names the attempt, so that two processes may probe
/// at the same time; the object is deleted afterwards.
///
/// # Errors
/// [`ObjectError::NotCreateOnly`] when the store lets the second writer overwrite the first.
pub async fn probe(objects: &Objects, unique: &str) -> Result<(), ObjectError> {
    let key = format!("probe/{unique}");
    let (first, second) = (Bytes::from_static(b"first"), Bytes::from_static(b"second"));
    let outcomes = [objects.create(&key, first.clone()).await?, objects.create(&key, second).await?];
    let found = objects.get(&key).await?;
    objects.delete(&key).await?;
    match outcomes {
        [Created::Ours, Created::Taken(winner)] if winner == first && found == Some(first) => Ok(()),
        [Created::Taken(_), _] => Err(ObjectError::NotCreateOnly(format!(
            "`{key}` was there before it was created; probe under another name"
        ))),
        [Created::Ours, Created::Ours] => Err(ObjectError::NotCreateOnly(format!(
            "of two creates of `{key}` with different bytes both succeeded; use a store that honours `If-None-Match: *`"
        ))),
        [Created::Ours, Created::Taken(_)] => Err(ObjectError::NotCreateOnly(format!(
            "`{key}` does not hold the bytes of the create that succeeded; use a store that honours `If-None-Match: *`"
        ))),
    }
}

/// Runs every part, below folders of its own under a random name, which it leaves empty.
///
/// # Panics
/// When the store breaks the contract, or does not answer.
pub async fn suite(objects: &Objects) {
    let root = format!("conformance-{}", uuid::Uuid::new_v4());
    probe(objects, &root).await.unwrap_or_else(|error| panic!("probe: {error}"));
    of_racing_creates_one_wins(objects, &root).await;
    the_same_bytes_may_be_created_twice(objects, &root).await;
    a_put_replaces(objects, &root).await;
    what_is_missing_is_no_error(objects, &root).await;
    ranges_are_half_open(objects, &root).await;
    keys_come_back_as_they_were_given(objects, &root).await;
    a_listing_is_complete_and_sorted(objects, &root).await;
    let left = list(objects, "", None).await.into_iter().filter(|object| object.key.contains(&root));
    assert_eq!(left.collect::<Vec<_>>(), [], "every object was deleted, and nothing else is listed");
}

async fn of_racing_creates_one_wins(objects: &Objects, root: &str) {
    for round in 0..20 {
        let key = format!("{root}/race/{round}");
        // Of different lengths, so that a mixture would be seen.
        let bytes = |writer: usize| Bytes::from(format!("writer {writer} ").repeat(1 + 500 * writer));
        let outcomes = join_all((0..16).map(|writer| objects.create(&key, bytes(writer)))).await;
        let outcomes: Vec<Created> = outcomes.into_iter().map(|outcome| works(outcome, "create")).collect();
        let winners: Vec<usize> = (0..16).filter(|writer| outcomes[*writer] == Created::Ours).collect();
        let [winner] = winners[..] else { panic!("{key}: exactly one of 16 writers wins, not {winners:?}") };
        for (writer, outcome) in outcomes.into_iter().enumerate().filter(|(writer, _)| *writer != winner) {
            assert_eq!(outcome, Created::Taken(bytes(winner)), "{key}: writer {writer} is told what the winner wrote");
        }
        assert_eq!(get(objects, &key).await, Some(bytes(winner)), "{key}: the winner's bytes stand");
        delete(objects, &key).await;
    }
}

async fn the_same_bytes_may_be_created_twice(objects: &Objects, root: &str) {
    let key = format!("{root}/same");
    for _ in 0..2 {
        assert_eq!(works(objects.create(&key, Bytes::from_static(b"same")).await, "create"), Created::Ours);
    }
    let longer = works(objects.create(&key, Bytes::from_static(b"same and more")).await, "create");
    assert_eq!(longer, Created::Taken(Bytes::from_static(b"same")), "a prefix is not the same");
    delete(objects, &key).await;
    let empty = format!("{root}/empty");
    assert_eq!(works(objects.create(&empty, Bytes::new()).await, "create"), Created::Ours, "an empty object");
    assert_eq!(get(objects, &empty).await, Some(Bytes::new()), "an empty object is there");
    delete(objects, &empty).await;
}

async fn a_put_replaces(objects: &Objects, root: &str) {
    let key = format!("{root}/put");
    for text in ["a long one", "short", ""] {
        works(objects.put(&key, Bytes::from_static(text.as_bytes())).await, "put");
        assert_eq!(get(objects, &key).await, Some(Bytes::from_static(text.as_bytes())), "a put replaces all");
    }
    let taken = works(objects.create(&key, Bytes::from_static(b"x")).await, "create");
    assert_eq!(taken, Created::Taken(Bytes::new()), "a create does not replace what was put");
    delete(objects, &key).await;
}

async fn what_is_missing_is_no_error(objects: &Objects, root: &str) {
    let key = format!("{root}/missing/object");
    assert_eq!(get(objects, &key).await, None, "get of a missing object");
    assert_eq!(list(objects, &format!("{root}/missing/"), None).await, [], "listing of a missing folder");
    assert!(objects.get_range(&key, 0..1).await.is_err(), "a range of a missing object has no bytes");
    works(objects.create(&key, Bytes::from_static(b"x")).await, "create");
    delete(objects, &key).await;
    delete(objects, &key).await;
    assert_eq!(get(objects, &key).await, None, "get of a deleted object");
    assert_eq!(works(objects.create(&key, Bytes::from_static(b"y")).await, "create"), Created::Ours, "free again");
    delete(objects, &key).await;
}

async fn ranges_are_half_open(objects: &Objects, root: &str) {
    let key = format!("{root}/range");
    works(objects.create(&key, Bytes::from_static(b"0123456789")).await, "create");
    for (range, want) in [(0..1, "0"), (3..7, "3456"), (9..10, "9"), (0..10, "0123456789")] {
        let found = works(objects.get_range(&key, range.clone()).await, "get_range");
        assert_eq!(found, want, "bytes [{}, {})", range.start, range.end);
    }
    delete(objects, &key).await;
}

async fn keys_come_back_as_they_were_given(objects: &Objects, root: &str) {
    let keys = [
        "raw/v1/region=eu/topic=0190f5c4-7c1e-7a40-8000-0242ac120002/part=7/day=2026-03-01/00000000000000001200.parquet",
        "ledger/00000000000000000000.json",
        "tables/current/minute/day=2026-03-01/data.parquet",
        "A.B_c-d/e=1",
    ];
    let folder = format!("{root}/keys/");
    for key in keys {
        let key = format!("{folder}{key}");
        works(objects.create(&key, Bytes::from(key.clone())).await, "create");
        assert_eq!(get(objects, &key).await, Some(Bytes::from(key.clone())));
    }
    let mut want: Vec<ObjectInfo> = keys.iter().map(|key| info(&format!("{folder}{key}"), None)).collect();
    want.sort_by(|a, b| a.key.cmp(&b.key));
    assert_eq!(list(objects, &folder, None).await, want, "a listing gives keys and sizes");
    for object in want {
        delete(objects, &object.key).await;
    }
}

async fn a_listing_is_complete_and_sorted(objects: &Objects, root: &str) {
    let folder = format!("{root}/list");
    // Written in an order of its own; more than one page of S3 would take too long here.
    let names = (0..60).map(|n| format!("a/{:020}", (n * 37) % 60 * 1_000));
    let names: Vec<String> = names.chain(["a/b/c", "ab/x", "a.b/x", "a-/x", "b"].map(str::to_owned)).collect();
    let written = names.iter().map(async |name| {
        let key = format!("{folder}/{name}");
        objects.create(&key, Bytes::from_static(b"12345")).await
    });
    for created in join_all(written).await {
        assert_eq!(works(created, "create"), Created::Ours);
    }
    let want = |wanted: &dyn Fn(&str) -> bool| {
        let keys = names.iter().filter(|name| wanted(name)).map(|name| (format!("{folder}/{name}"), 5));
        keys.collect::<BTreeMap<_, _>>().into_iter().map(|(key, bytes)| info(&key, Some(bytes))).collect::<Vec<_>>()
    };
    let listed = list(objects, &format!("{folder}/"), None).await;
    assert_eq!(listed, want(&|_| true), "all, sorted");
    let listed = list(objects, &format!("{folder}/a/"), None).await;
    assert_eq!(listed, want(&|name| name.starts_with("a/")), "a prefix is a folder: `a/` holds nothing of `ab/`");
    for after in ["a/00000000000000030000", "a/00000000000000030001", "a/", "a/b/c"] {
        let listed = list(objects, &format!("{folder}/a/"), Some(&format!("{folder}/{after}"))).await;
        let want = want(&|name| name.starts_with("a/") && name > after);
        assert_eq!(listed, want, "what comes after `{after}`, which is not among it");
    }
    for name in &names {
        delete(objects, &format!("{folder}/{name}")).await;
    }
}

/// What a listing says of an object that holds its own key, or so many bytes.
fn info(key: &str, bytes: Option<u64>) -> ObjectInfo {
    ObjectInfo { key: key.to_owned(), bytes: bytes.unwrap_or(key.len() as u64) }
}

async fn get(objects: &Objects, key: &str) -> Option<Bytes> {
    works(objects.get(key).await, "get")
}

async fn list(objects: &Objects, prefix: &str, after: Option<&str>) -> Vec<ObjectInfo> {
    works(objects.list(prefix, after).await, "list")
}

async fn delete(objects: &Objects, key: &str) {
    works(objects.delete(key).await, "delete");
}

fn works<T>(result: Result<T, ObjectError>, what: &str) -> T {
    result.unwrap_or_else(|error| panic!("{what}: {error}"))
}

#[cfg(test)]
mod faults;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn memory_conforms() {
        suite(&Objects::memory()).await;
    }

    #[tokio::test]
    async fn a_local_folder_conforms_and_shows_no_staging_files() {
        let folder = tempfile::tempdir().unwrap();
        let objects = Objects::open_folder(folder.path().join("new/deeper")).unwrap();
        suite(&objects).await;
        // What a crash in the middle of a write leaves behind.
        let staging = folder.path().join("new/deeper/.staging");
        assert_eq!(std::fs::read_dir(&staging).unwrap().count(), 0, "nothing is left in staging");
        std::fs::write(staging.join("left-by-a-crash"), b"half").unwrap();
        assert_eq!(objects.list("", None).await.unwrap(), []);
    }

    #[tokio::test]
    async fn reopened_folders_hold_what_was_written() {
        let folder = tempfile::tempdir().unwrap();
        let open = || Objects::open_folder(folder.path().to_owned()).unwrap();
        open().create("a/b", Bytes::from_static(b"1")).await.unwrap();
        open().put("a/c", Bytes::from_static(b"2")).await.unwrap();
        assert_eq!(open().list("a/", None).await.unwrap().len(), 2);
        let second = open().create("a/b", Bytes::from_static(b"x")).await.unwrap();
        assert_eq!(second, Created::Taken(Bytes::from_static(b"1")));
    }
}
