//! What only shows on a connection: slow clients, early answers, keep-alive, a taken port.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::support::*;
use crate::{Collector, CollectorError, Options, serve};

/// Sends bytes on a connection of its own and returns all that comes back until the server closes it.
pub(super) async fn exchange(address: SocketAddr, bytes: &str) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes.as_bytes()).await.unwrap();
    let mut reply = Vec::new();
    // A server that closes with bytes unread resets; what came before it is the reply.
    let _ = stream.read_to_end(&mut reply).await;
    String::from_utf8(reply).unwrap()
}

pub(super) fn request(body: &str) -> String {
    format!("POST /v1/clicks HTTP/1.1\r\nhost: x\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}", body.len())
}

pub(super) async fn post(address: SocketAddr, body: &str) -> String {
    exchange(address, &request(body)).await
}

#[tokio::test]
async fn a_taken_port_is_named_with_the_mend() {
    let log = TestLog::new(Mood::Well);
    let first = Collector::bind(options(), log.clone(), clock()).await.unwrap();
    assert_ne!(first.address().port(), 0);
    let taken = Options { listen: first.address(), ..options() };
    let error = serve(taken, log, clock(), CancellationToken::new()).await.unwrap_err();
    assert!(matches!(error, CollectorError::Bind { .. }));
    let want = format!("the collector cannot listen on {}: Address already in use", first.address());
    let message = error.to_string();
    assert!(message.starts_with(&want) && message.ends_with("choose another port (`listen`)"), "{message}");
}

#[tokio::test]
async fn requests_wait_for_a_collector_that_is_bound_and_not_yet_running() {
    let log = TestLog::new(Mood::Well);
    let collector = Collector::bind(patient(), log.clone(), clock()).await.unwrap();
    let waiting = tokio::spawn({
        let address = collector.address();
        async move { post(address, &click(1)).await }
    });
    tokio::time::sleep(Duration::from_millis(20)).await;
    let stop = CancellationToken::new();
    let run = tokio::spawn(collector.run(stop.clone()));
    assert!(waiting.await.unwrap().starts_with("HTTP/1.1 202"));
    stop.cancel();
    run.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_body_that_drips_ends_with_408() {
    let log = TestLog::new(Mood::Well);
    let running = run(options(), &log).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(b"POST /v1/clicks HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n").await.unwrap();
    let (mut read, mut write) = stream.into_split();
    let dripping = tokio::spawn(async move {
        // One byte before each timeout could pass: only a limit on the whole ends this.
        for _ in 0..90 {
            if write.write_all(b" ").await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    let mut reply = Vec::new();
    let _ = read.read_to_end(&mut reply).await;
    let reply = String::from_utf8(reply).unwrap();
    assert!(reply.starts_with("HTTP/1.1 408") && reply.contains("connection: close"), "{reply}");
    assert!(reply.contains("urn:twofold:problem:slow_body"), "{reply}");
    dripping.abort();
}

#[tokio::test]
async fn a_head_that_drips_ends_the_connection() {
    let running = run(options(), &TestLog::new(Mood::Well)).await;
    let reading = exchange(running.address, "POST /v1/clicks HTTP/1.1\r\nhost: x\r\n");
    let reply = tokio::time::timeout(Duration::from_secs(10), reading).await.unwrap();
    assert!(!reply.starts_with("HTTP/1.1 2"), "{reply}");
}

#[tokio::test]
async fn a_long_body_still_hears_its_refusal() {
    let running = run(Options { body_limit_bytes: 1_000, ..patient() }, &TestLog::new(Mood::Well)).await;
    let long = " ".repeat(2 << 20);
    let reply = post(running.address, &long).await;
    assert!(reply.starts_with("HTTP/1.1 413"), "{reply}");
    // Whoever asks first hears the answer without sending, and is not told to go on.
    let head = "POST /v1/clicks HTTP/1.1\r\nhost: x\r\ncontent-length: 2000000\r\nexpect: 100-continue\r\n\r\n";
    let reply = exchange(running.address, head).await;
    assert!(reply.starts_with("HTTP/1.1 413"), "{reply}");
}

#[tokio::test]
async fn a_connection_serves_one_request_after_the_other() {
    let log = TestLog::new(Mood::Well);
    let running = run(patient(), &log).await;
    // Pipelined: three at once on one connection, one of them refused.
    let keep = |body: &str| request(body).replace("connection: close\r\n", "");
    let all = keep(&click(1)) + &keep("{}") + &request(&click(2));
    let reply = exchange(running.address, &all).await;
    let answers: Vec<_> = reply.matches("HTTP/1.1 ").collect();
    assert_eq!(answers.len(), 3, "{reply}");
    assert_eq!(log.values().await, [click(1), click(2)]);
}

#[tokio::test]
async fn a_client_that_goes_away_takes_nothing_back() {
    let log = TestLog::new(Mood::Hangs);
    let running = run(patient(), &log).await;
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(request(&click(1)).as_bytes()).await.unwrap();
    until("the append has begun", || log.begun.load(Ordering::SeqCst) == 1).await;
    drop(stream);
    tokio::time::sleep(Duration::from_millis(20)).await;
    log.turn(Mood::Well);
    until("the record is there", || log.written.load(Ordering::SeqCst) == 1).await;
    assert_eq!(log.values().await, [click(1)]);
    running.stop.cancel();
    running.run.await.unwrap().unwrap();
}

#[tokio::test]
async fn connections_beyond_the_limit_wait() {
    let log = TestLog::new(Mood::Well);
    let running = run(Options { connections_max: 1, ..patient() }, &log).await;
    let first = TcpStream::connect(running.address).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut second = tokio::spawn({
        let address = running.address;
        async move { post(address, &click(1)).await }
    });
    assert!(tokio::time::timeout(Duration::from_millis(100), &mut second).await.is_err());
    drop(first);
    assert!(second.await.unwrap().starts_with("HTTP/1.1 202"));
}
