//! A stop: every request that was begun is answered, and what is on the log was answered as such.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clicks::wire::decode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::sockets::{exchange, post, request};
use super::support::*;
use crate::Options;

#[tokio::test]
async fn requests_in_progress_are_answered_before_it_ends() {
    let log = TestLog::new(Mood::Hangs);
    let running = run(patient(), &log).await;
    let address = running.address;
    let clients: Vec<_> =
        (0..50).map(|number| tokio::spawn(async move { post(address, &click(number)).await })).collect();
    until("all appends have begun", || log.begun.load(Ordering::SeqCst) == 50).await;
    running.stop.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!running.run.is_finished(), "it ended with requests in progress");
    assert!(TcpStream::connect(address).await.is_err(), "it still accepts connections");
    log.turn(Mood::Well);
    for client in clients {
        let reply = client.await.unwrap();
        assert!(reply.starts_with("HTTP/1.1 202"), "{reply}");
    }
    running.run.await.unwrap().unwrap();
    assert_eq!(log.values().await.len(), 50);
}

/// Clients that send as fast as they can are stopped in full flight. A connection may be closed before its request was
/// read, as HTTP allows; but no click may be on the log whose client did not hear so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_load_nothing_is_on_the_log_that_was_not_answered() {
    let log = TestLog::new(Mood::Well);
    let running = run(patient(), &log).await;
    let address = running.address;
    let clients: Vec<_> = (0..8u64)
        .map(|client| {
            tokio::spawn(async move {
                let mut answered = Vec::new();
                let Ok(mut stream) = TcpStream::connect(address).await else { return answered };
                for number in 0.. {
                    let number = client << 32 | number;
                    let bytes = request(&click(number)).replace("connection: close\r\n", "");
                    if stream.write_all(bytes.as_bytes()).await.is_err() {
                        return answered;
                    }
                    let mut reply = [0; 1024];
                    match stream.read(&mut reply).await {
                        Ok(length) if reply[..length].starts_with(b"HTTP/1.1 202") => answered.push(number),
                        _ => return answered,
                    }
                }
                answered
            })
        })
        .collect();
    until("the load is on", || log.begun.load(Ordering::SeqCst) > 500).await;
    running.stop.cancel();
    let mut answered = BTreeSet::new();
    for client in clients {
        answered.extend(client.await.unwrap());
    }
    running.run.await.unwrap().unwrap();
    let records = log.records().await;
    let written: BTreeSet<_> =
        records.iter().map(|record| decode(record.value.as_deref()).unwrap().click_id.as_u128() as u64).collect();
    assert!(answered.len() > 400, "{}", answered.len());
    assert_eq!(written, answered);
}

#[tokio::test]
async fn a_log_that_hangs_does_not_hold_it_longer_than_the_drain() {
    let log = TestLog::new(Mood::Hangs);
    let drain = Duration::from_millis(500);
    let running = run(Options { drain, ..patient() }, &log).await;
    let address = running.address;
    let waiting = tokio::spawn(async move { post(address, &click(1)).await });
    // One whose body never ends, and one that is idle.
    let half = "POST /v1/clicks HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{";
    let unfinished = tokio::spawn(async move { exchange(address, half).await });
    let idle = tokio::spawn(async move { exchange(address, "").await });
    until("the append has begun", || log.begun.load(Ordering::SeqCst) == 1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;

    let began = Instant::now();
    running.stop.cancel();
    running.run.await.unwrap().unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let reply = waiting.await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 503") && reply.contains("not_acknowledged"), "{reply}");
    let reply = unfinished.await.unwrap();
    assert!(reply.starts_with("HTTP/1.1 503") && reply.contains("stopping"), "{reply}");
    assert_eq!(idle.await.unwrap(), "");
}

#[tokio::test]
async fn a_collector_that_is_dropped_lets_go_of_everything() {
    let log = TestLog::new(Mood::Hangs);
    let running = run(patient(), &log).await;
    let address = running.address;
    let waiting = tokio::spawn(async move { post(address, &click(1)).await });
    until("the append has begun", || log.begun.load(Ordering::SeqCst) == 1).await;
    running.run.abort();
    assert_eq!(waiting.await.unwrap(), "", "the connection ends without an answer");
    // The test holds the one handle that is left: no task is waiting for the log any more.
    until("nothing holds the log", || Arc::strong_count(&log) == 1).await;
}
