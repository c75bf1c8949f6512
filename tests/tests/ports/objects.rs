//! The object store port on a real S3 server and on a real disk.

use bytes::Bytes;
use platform::objects::{Created, Objects, S3Options, conformance};
use promises::services::{S3, new_folder, shared};

fn options(s3: &S3) -> S3Options {
    S3Options {
        endpoint: Some(s3.endpoint()),
        region: Some(s3.region().to_owned()),
        access_key: Some(s3.access_key().to_owned()),
        secret_key: Some(s3.secret_key().to_owned()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_conforms() {
    let s3 = &shared().await.unwrap().s3;
    s3.create_bucket("objects-suite").unwrap();
    conformance::suite(&Objects::open("s3://objects-suite", &options(s3)).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prefix_in_a_bucket_conforms_and_shows_nothing_else() {
    let s3 = &shared().await.unwrap().s3;
    s3.create_bucket("objects-prefix").unwrap();
    let whole = Objects::open("s3://objects-prefix", &options(s3)).unwrap();
    for key in ["other/x", "team/clicksandmore/x", "team/x"] {
        whole.put(key, Bytes::from_static(b"not ours")).await.unwrap();
    }
    let ours = Objects::open("s3://objects-prefix/team/clicks", &options(s3)).unwrap();
    conformance::suite(&ours).await;
    assert_eq!(ours.list("", None).await.unwrap(), []);
    ours.create("a/b", Bytes::from_static(b"1")).await.unwrap();
    assert_eq!(ours.list("", None).await.unwrap()[0].key, "a/b");
    assert_eq!(whole.get("team/clicks/a/b").await.unwrap(), Some(Bytes::from_static(b"1")));
    assert_eq!(ours.list("a/", Some("a/a")).await.unwrap().len(), 1);
    assert_eq!(ours.list("a/", Some("a/b")).await.unwrap(), []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_folder_conforms() {
    let folder = new_folder("objects").unwrap();
    conformance::suite(&Objects::open_folder(folder).unwrap()).await;
}

/// More objects than S3 lists in one page.
#[tokio::test(flavor = "multi_thread")]
async fn a_listing_of_many_pages_is_complete() {
    let s3 = &shared().await.unwrap().s3;
    s3.create_bucket("objects-pages").unwrap();
    let objects = Objects::open("s3://objects-pages", &options(s3)).unwrap();
    let key = |n: usize| format!("raw/part=1/{n:020}.parquet");
    let numbers: Vec<usize> = (0..2_100).collect();
    for chunk in numbers.chunks(50) {
        let created = chunk.iter().map(|n| async { objects.create(&key(*n), Bytes::from_static(b"x")).await });
        for outcome in futures::future::join_all(created).await {
            assert_eq!(outcome.unwrap(), Created::Ours);
        }
    }
    for (after, left) in [(None, 2_100), (Some(key(999)), 1_100), (Some(key(2_098)), 1), (Some(key(2_099)), 0)] {
        let listed = objects.list("raw/part=1/", after.as_deref()).await.unwrap();
        let want: Vec<String> = (2_100 - left..2_100).map(key).collect();
        assert_eq!(listed.into_iter().map(|object| object.key).collect::<Vec<_>>(), want);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_reached_is_an_error_and_never_empty() {
    let s3 = &shared().await.unwrap().s3;
    let missing = Objects::open("s3://objects-nobody-made", &options(s3)).unwrap();
    assert!(missing.list("", None).await.is_err(), "a bucket that is missing is not an empty one");
    assert!(missing.create("a", Bytes::from_static(b"x")).await.is_err());
    assert!(missing.put("a", Bytes::from_static(b"x")).await.is_err());
    assert!(conformance::probe(&missing, "x").await.is_err());
    s3.create_bucket("objects-denied").unwrap();
    let denied = S3Options { secret_key: Some("wrong".to_owned()), ..options(s3) };
    let denied = Objects::open("s3://objects-denied", &denied).unwrap();
    let refusal = denied.list("", None).await.unwrap_err();
    assert!(!format!("{refusal} {refusal:?}").contains("wrong\""), "{refusal:?}");
    assert!(denied.get("a").await.is_err(), "what may not be read is not missing");
}
