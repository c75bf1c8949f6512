//! A3: whatever a put to S3 comes to, landed or not, the archive and the ledger end up the same.

use std::collections::BTreeMap;

use archive::chain::read_chain;
use archive::{Handle, Options};
use clicks::id::TopicId;
use clicks::ledger::Genesis;
use clicks::position::Offset;
use clicks::rules::Rules;
use clicks::time::Span;
use futures::future::join_all;
use platform::ledger::Ledger;
use platform::log::{Log, MemoryLog};

use crate::s3::{Fault, Outcome, S3};
use crate::support::noon;
use crate::world::{World, soon};

type Stored = BTreeMap<String, Vec<u8>>;

/// A ledger, objects, a gap, an object behind it, another life, and the end of the first. Gives everything that is stored.
async fn history(fault: Option<Fault>) -> Stored {
    let (server, objects) = S3::start(fault).await;
    let ledger = Ledger::new(objects.clone());
    let world = World { objects, ledger, ..World::new(noon(), 1).await };
    world.ledger.begin(Genesis { first_day: noon().day(), rules: Rules::default() }).await.unwrap();
    world.record_life().await;
    let options = || Options { heartbeat_interval: Span::days(9), handle: Handle::default(), ..Options::default() };
    // Each archiver adds one heartbeat, so the same records are there every time.
    for (clicks, lost) in [(10, 0), (10, 16)] {
        for number in 0..clicks {
            world.click(0, number).await;
        }
        let end = world.log_end(0).await.next();
        world.log.delete_records(0, Offset::new(lost)).unwrap();
        let archiver = world.start(options());
        let beaten = async {
            while world.log_end(0).await < end {
                tokio::time::sleep(std::time::Duration::from_millis(1)).await;
            }
        };
        soon(beaten).await;
        soon(archiver.handle.cut_now()).await.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
        archiver.stop().await.unwrap();
    }
    let old = world.partition(0).await;
    let region = world.log.topic().await.unwrap().region;
    let log = MemoryLog::with_id(region, "clicks-2", 1, world.clock.clone(), TopicId::from_u128(99));
    World { log, ..world.clone() }.record_life().await;
    let archiver = world.start(options());
    let ended = async {
        while read_chain(&world.objects, &old).await.unwrap().end.is_none() {
            world.advance(Span::minutes(20));
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    };
    soon(ended).await;
    archiver.stop().await.unwrap();
    let mut stored = server.objects();
    stored.retain(|key, _| key.starts_with("raw/") || key.starts_with("ledger/"));
    // When the end was noticed depends on how fast the test was.
    for (_, mark) in stored.iter_mut().filter(|(key, _)| key.ends_with(".end.json")) {
        let mut value: serde_json::Value = serde_json::from_slice(mark).unwrap();
        value.as_object_mut().unwrap().remove("noticed_at");
        *mark = value.to_string().into_bytes();
    }
    assert!(fault.is_none() || !server.is_sound(), "{fault:?} never happened");
    stored
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_outcome_of_a_put_leads_to_the_same_archive() {
    let sound = history(None).await;
    let names: Vec<&str> = sound.keys().map(|key| key.rsplit('/').next().unwrap()).collect();
    let expected = [
        "00000000000000000000.json",
        "00000000000000000001.json",
        "00000000000000000002.json",
        "00000000000000000011.gap.json",
        "00000000000000000022.end.json",
        "00000000000000000000.parquet",
        "00000000000000000001.parquet",
        "00000000000000000016.parquet",
    ];
    assert_eq!(names, expected);
    let outcomes = [
        Outcome::Status(500),
        Outcome::Status(409),
        Outcome::Status(412),
        Outcome::Status(503),
        Outcome::Timeout,
        Outcome::Reset,
        Outcome::TruncatedBody,
        Outcome::LostReply,
    ];
    let mut faults = Vec::new();
    for key in expected {
        for outcome in outcomes {
            // A 200 for what is not there is no outcome but a broken store, which nothing can make good.
            let never = outcome == Outcome::TruncatedBody;
            faults.extend([Some(true), (!never).then_some(false)].into_iter().flatten().map(|landed| Fault {
                method: "PUT",
                key,
                outcome,
                landed,
            }));
        }
    }
    for some in faults.chunks(20) {
        let ended = join_all(some.iter().map(|fault| tokio::spawn(history(Some(*fault))))).await;
        for (fault, stored) in some.iter().zip(ended) {
            let stored = stored.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
            assert!(stored == sound, "{fault:?}: {:?}", stored.keys());
        }
    }
}
