//! Stores that answer wrongly: whatever the answer, [`Objects::create`] tells what is there.

use std::collections::VecDeque;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use bytes::Bytes;
use futures::future::join_all;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{
    CopyOptions, Error, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, ObjectStoreExt,
    PutMode, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result,
};

use super::probe;
use crate::objects::{ATTEMPTS_MAX, Created, ObjectError, Objects};

/// What becomes of one put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Put {
    /// As the store would.
    Honest,
    /// The object is written, and the answer is this one.
    Landed(Answer),
    /// Nothing is written.
    NotLanded(Answer),
    /// A rival's object is written instead.
    Rival(Answer),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    /// 412, or what the client makes of a 409.
    AlreadyExists,
    /// 500 after all retries, a lost reply, a timeout.
    Failure,
}

#[derive(Debug)]
struct Faulty {
    store: InMemory,
    puts: Mutex<VecDeque<Put>>,
    /// Gets that fail, from the next one on.
    gets: Mutex<VecDeque<bool>>,
    create_only: bool,
}

const OURS: &[u8] = b"ours";
const RIVAL: &[u8] = b"a rival's";

impl Faulty {
    fn new(puts: &[Put], failing_gets: &[bool]) -> Arc<Self> {
        Arc::new(Faulty {
            store: InMemory::new(),
            puts: Mutex::new(puts.iter().copied().collect()),
            gets: Mutex::new(failing_gets.iter().copied().collect()),
            create_only: true,
        })
    }

    async fn landed(&self) -> Option<Bytes> {
        match self.store.get(&Path::from("k")).await {
            Ok(found) => Some(found.bytes().await.unwrap()),
            Err(_) => None,
        }
    }
}

fn answer(answer: Answer) -> Error {
    match answer {
        Answer::AlreadyExists => Error::AlreadyExists { path: "k".to_owned(), source: "scripted".into() },
        Answer::Failure => Error::Generic { store: "faulty", source: "scripted".into() },
    }
}

#[async_trait]
impl ObjectStore for Faulty {
    async fn put_opts(&self, location: &Path, payload: PutPayload, mut options: PutOptions) -> Result<PutResult> {
        let script = self.puts.lock().unwrap().pop_front().unwrap_or(Put::Honest);
        if !self.create_only {
            options.mode = PutMode::Overwrite;
        }
        match script {
            Put::Honest => self.store.put_opts(location, payload, options).await,
            Put::Landed(wrong) => {
                self.store.put_opts(location, payload, options).await?;
                Err(answer(wrong))
            }
            Put::NotLanded(wrong) => Err(answer(wrong)),
            Put::Rival(wrong) => {
                self.store.put_opts(location, Bytes::from_static(RIVAL).into(), options).await?;
                Err(answer(wrong))
            }
        }
    }

    async fn get_opts(&self, location: &Path, options: GetOptions) -> Result<GetResult> {
        let fails = self.gets.lock().unwrap().pop_front().unwrap_or(false);
        if fails { Err(answer(Answer::Failure)) } else { self.store.get_opts(location, options).await }
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Err(Error::NotImplemented { operation: "put_multipart".to_owned(), implementer: self.to_string() })
    }

    async fn get_ranges(&self, location: &Path, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        self.store.get_ranges(location, ranges).await
    }

    fn delete_stream(&self, locations: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        self.store.delete_stream(locations)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Result<ListResult> {
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, options: CopyOptions) -> Result<()> {
        self.store.copy_opts(from, to, options).await
    }
}

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("faulty")
    }
}

/// What `create` says, and what the store holds afterwards.
async fn create(puts: &[Put], failing_gets: &[bool]) -> (std::result::Result<Created, ObjectError>, Option<Bytes>) {
    let store = Faulty::new(puts, failing_gets);
    let outcome = Objects::over(store.clone(), "faulty:///").create("k", Bytes::from_static(OURS)).await;
    (outcome, store.landed().await)
}

/// Name, what becomes of the puts, which gets fail, and whose bytes are there in the end.
type Case = (&'static str, &'static [Put], &'static [bool], &'static [u8]);

#[tokio::test]
async fn whatever_the_answer_the_outcome_is_what_is_there() {
    use Answer::{AlreadyExists, Failure};
    use Put::{Honest, Landed, NotLanded, Rival};
    let cases: [Case; 13] = [
        ("honest", &[Honest], &[], OURS),
        ("500 after the commit, then 412 of the client's own retry", &[Landed(AlreadyExists)], &[], OURS),
        ("409 with nothing written", &[NotLanded(AlreadyExists)], &[], OURS),
        ("409 with nothing written, twice", &[NotLanded(AlreadyExists); 2], &[], OURS),
        ("a lost reply", &[Landed(Failure)], &[], OURS),
        ("an error with nothing written", &[NotLanded(Failure)], &[], OURS),
        ("another writer came first", &[Rival(AlreadyExists)], &[], RIVAL),
        ("another writer came first, and the reply is lost", &[Rival(Failure)], &[], RIVAL),
        (
            "409, and another writer comes before the next attempt",
            &[NotLanded(AlreadyExists), Rival(Failure)],
            &[],
            RIVAL,
        ),
        ("a lost reply that cannot be read back at once", &[Landed(Failure)], &[true], OURS),
        ("a lost reply that cannot be read back twice", &[Landed(Failure)], &[true, true], OURS),
        ("a rival that cannot be read back at once", &[Rival(AlreadyExists)], &[true], RIVAL),
        ("three failures", &[NotLanded(Failure), NotLanded(AlreadyExists), NotLanded(Failure)], &[true], OURS),
    ];
    // All at once, because they wait between attempts.
    let outcomes = join_all(cases.iter().map(|(_, puts, failing_gets, _)| create(puts, failing_gets))).await;
    for ((name, _, _, want), (outcome, landed)) in cases.into_iter().zip(outcomes) {
        let expected = if want == OURS { Created::Ours } else { Created::Taken(Bytes::from_static(want)) };
        assert_eq!(outcome.ok(), Some(expected), "{name}");
        assert_eq!(landed, Some(Bytes::from_static(want)), "{name}");
    }
}

#[tokio::test]
async fn an_outcome_that_stays_unknown_is_said_to_be_unknown() {
    let attempts = ATTEMPTS_MAX as usize;
    for script in [Put::NotLanded(Answer::Failure), Put::NotLanded(Answer::AlreadyExists)] {
        let (outcome, landed) = create(&vec![script; attempts], &[]).await;
        assert!(matches!(outcome, Err(ObjectError::Unknown { attempts: ATTEMPTS_MAX, .. })), "{outcome:?}");
        assert_eq!(landed, None);
    }
    let (outcome, landed) = create(&[Put::Landed(Answer::Failure)], &vec![true; attempts]).await;
    assert!(matches!(outcome, Err(ObjectError::Unknown { .. })), "never a guess: {outcome:?}");
    assert_eq!(landed, Some(Bytes::from_static(OURS)));
}

/// Every script of three puts of two racing writers: never both, and what is told is what is there.
#[tokio::test]
async fn two_writers_never_both_succeed() {
    use Answer::{AlreadyExists, Failure};
    let scripts = [
        Put::Honest,
        Put::Landed(AlreadyExists),
        Put::Landed(Failure),
        Put::NotLanded(AlreadyExists),
        Put::NotLanded(Failure),
    ];
    let race = async |script: [Put; 3]| {
        let store = Faulty::new(&script, &[]);
        let objects = Objects::over(store.clone(), "faulty:///");
        let bytes = [Bytes::from_static(b"one"), Bytes::from_static(b"two")];
        let (one, two) = futures::join!(objects.create("k", bytes[0].clone()), objects.create("k", bytes[1].clone()));
        let landed = store.landed().await;
        for (outcome, own) in [(one.unwrap(), &bytes[0]), (two.unwrap(), &bytes[1])] {
            match outcome {
                Created::Ours => assert_eq!(landed.as_ref(), Some(own), "{script:?}"),
                Created::Taken(winner) => {
                    assert_eq!(landed.as_ref(), Some(&winner), "{script:?}");
                    assert_ne!(&winner, own, "{script:?}");
                }
            }
        }
    };
    let second = |first| scripts.map(|second| [first, second]);
    let third = |[first, second]: [Put; 2]| scripts.map(|third| [first, second, third]);
    join_all(scripts.into_iter().flat_map(second).flat_map(third).map(race)).await;
}

#[tokio::test]
async fn a_store_that_overwrites_is_refused() {
    let store = Faulty { create_only: false, ..Arc::into_inner(Faulty::new(&[], &[])).unwrap() };
    let objects = Objects::over(Arc::new(store), "faulty:///");
    let refusal = probe(&objects, "x").await.unwrap_err();
    assert!(matches!(refusal, ObjectError::NotCreateOnly(_)), "{refusal}");
    assert_eq!(objects.list("", None).await.unwrap(), [], "the probe cleans up");
    let honest = Objects::over(
        Faulty::new(&[Put::NotLanded(Answer::AlreadyExists), Put::Landed(Answer::Failure)], &[]),
        "faulty:///",
    );
    probe(&honest, "x").await.unwrap();
    assert_eq!(honest.list("", None).await.unwrap(), []);
}
