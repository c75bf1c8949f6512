//! The log is slow, away or broken: clients hear so in time, memory stays bounded, and what they need for a retry is in
//! the answer.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clicks::ledger::TopicLife;
use serde_json::json;

use super::support::*;
use crate::{CollectorError, Options};

#[tokio::test]
async fn a_log_that_hangs_is_answered_within_the_timeout() {
    let log = TestLog::new(Mood::Hangs);
    let app = app(options(), &log);
    let began = Instant::now();
    let reply = post(&app, ANONYMOUS).await;
    // The machine may be slow, but not so slow that a forgotten timeout would pass.
    assert!(began.elapsed() >= options().append_timeout && began.elapsed() < Duration::from_secs(10));
    assert_eq!((reply.status, reply.problem().as_str()), (503, "not_acknowledged"));
    assert_eq!(reply.header("retry-after"), "2");
    let json = reply.json();
    assert!(json["detail"].as_str().unwrap().contains("with the click ids of this answer"), "{json}");
    assert_eq!(json["results"][0]["acknowledged"], false);

    // The retry carries the id that was issued, and the first attempt may still come through: one id, twice on the log.
    let issued = json["results"][0]["click_id"].as_str().unwrap().to_owned();
    log.turn(Mood::Well);
    let again = ANONYMOUS.replacen('{', &format!(r#"{{"click_id":"{issued}","#), 1);
    assert_eq!(post(&app, again.clone()).await.json(), json!({"click_id": issued}));
    until("the first attempt lands", || metric("twofold_collector_late_acknowledgements_total") >= 1.0).await;
    assert_eq!(log.values().await, [again.clone(), again]);
}

#[tokio::test]
async fn a_batch_that_is_taken_in_part_tells_which_part() {
    let log = TestLog::new(Mood::HangsFor("ad-2"));
    let app = app(options(), &log);
    let reply = post(&app, format!("[{},{},{{}},{}]", click(1), click(2), click(3))).await;
    assert_eq!(reply.problem(), "not_acknowledged");
    let id = |number: u64| format!("00000000-0000-0000-0000-00000000000{number}");
    assert_eq!(
        reply.json()["results"],
        json!([
            {"index": 0, "click_id": id(1), "acknowledged": true},
            {"index": 1, "click_id": id(2), "acknowledged": false},
            {"index": 2, "error": {"code": "missing_field", "field": "ad_id", "detail": "`ad_id` is missing"}},
            {"index": 3, "click_id": id(3), "acknowledged": true},
        ])
    );
    assert_eq!(log.values().await, [click(1), click(3)]);
}

#[tokio::test]
async fn a_log_that_is_away_or_has_lost_its_topic_is_answered_at_once() {
    for mood in [Mood::Away, Mood::NoTopic] {
        let log = TestLog::new(mood);
        let app = app(patient(), &log);
        let before = metric(r#"twofold_collector_clicks_total{result="unavailable"}"#);
        let reply = post(&app, click(1)).await;
        assert_eq!((reply.status, reply.problem().as_str()), (503, "not_acknowledged"), "{mood:?}");
        assert!(metric(r#"twofold_collector_clicks_total{result="unavailable"}"#) >= before + 1.0);
    }
}

#[tokio::test]
async fn a_click_that_the_broker_finds_too_large_is_refused() {
    let log = TestLog::new(Mood::TooLarge);
    let app = app(patient(), &log);
    let reply = post(&app, click(1)).await;
    assert_eq!((reply.status, reply.problem().as_str()), (413, "click_too_large"));
    let reply = post(&app, format!("[{}]", click(1))).await;
    assert_eq!((reply.status, reply.problem().as_str()), (422, "no_click_accepted"));
}

#[tokio::test]
async fn records_that_wait_are_bounded() {
    let log = TestLog::new(Mood::Hangs);
    let app = app(Options { batch_max: 3, in_flight_max: 5, ..options() }, &log);
    let batch = |from: u64| format!("[{},{},{}]", click(from), click(from + 1), click(from + 2));
    assert_eq!(post(&app, batch(0)).await.problem(), "not_acknowledged");
    // Three of five places stay taken as long as the log holds their records, though their client was answered.
    for _ in 0..3 {
        let reply = post(&app, batch(3)).await;
        assert_eq!((reply.status, reply.problem().as_str()), (503, "overloaded"));
        assert_eq!(reply.header("retry-after"), "2");
        assert_eq!(reply.json()["results"][2]["click_id"], "00000000-0000-0000-0000-000000000005");
    }
    assert_eq!(post(&app, format!("[{},{}]", click(6), click(7))).await.problem(), "not_acknowledged");
    assert_eq!(log.begun.load(Ordering::SeqCst), 5);
    log.turn(Mood::Well);
    until("the places are free", || log.written.load(Ordering::SeqCst) == 5).await;
    assert_eq!(post(&app, batch(3)).await.status, 202);
    assert_eq!(log.records().await.len(), 8);
}

#[tokio::test]
async fn bodies_in_memory_are_bounded() {
    let log = TestLog::new(Mood::Hangs);
    let app = app(Options { body_limit_bytes: 1_000, bodies_limit_bytes: 1_000, ..options() }, &log);
    let padded = |number: u64| click(number) + &" ".repeat(600 - click(number).len());
    assert_eq!(post(&app, padded(1)).await.problem(), "not_acknowledged");
    let reply = post(&app, padded(2)).await;
    assert_eq!((reply.status, reply.problem().as_str()), (503, "overloaded"));
    log.turn(Mood::Well);
    until("the room is free", || log.written.load(Ordering::SeqCst) == 1).await;
    assert_eq!(post(&app, padded(2)).await.status, 202);
}

#[tokio::test]
async fn readiness_follows_the_log() {
    let log = TestLog::new(Mood::Away);
    let running = run(options(), &log).await;
    let status = async |wanted: u16| {
        for _ in 0..2_000 {
            let head = sockets_get(running.address, "/readyz").await;
            if head.starts_with(&format!("HTTP/1.1 {wanted}")) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("readiness never became {wanted}");
    };
    status(503).await;
    log.turn(Mood::Well);
    status(200).await;
    log.turn(Mood::NoTopic);
    assert!(super::sockets::post(running.address, &click(1)).await.starts_with("HTTP/1.1 503"));
    status(503).await;
    log.turn(Mood::Well);
    status(200).await;
    running.stop.cancel();
    running.run.await.unwrap().unwrap();
}

async fn sockets_get(address: std::net::SocketAddr, path: &str) -> String {
    super::sockets::exchange(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).await
}

#[tokio::test]
async fn a_topic_that_is_missing_at_the_start_ends_it_with_the_mend() {
    let running = run(options(), &TestLog::new(Mood::NoTopic)).await;
    let error = running.run.await.unwrap().unwrap_err().to_string();
    assert_eq!(error, "topic `clicks` does not exist; create it with `twofold topic create`");
}

#[tokio::test]
async fn an_error_that_is_not_understood_answers_and_ends_the_collector() {
    let log = TestLog::new(Mood::Well);
    let running = run(options(), &log).await;
    assert!(super::sockets::post(running.address, &click(1)).await.starts_with("HTTP/1.1 202"));
    log.turn(Mood::Broken);
    let reply = super::sockets::post(running.address, &click(2)).await;
    assert!(reply.starts_with("HTTP/1.1 503"), "{reply}");
    let error = running.run.await.unwrap().unwrap_err();
    assert!(matches!(error, CollectorError::Log(_)), "{error:?}");
    assert!(error.to_string().contains("fenced"), "{error}");
}

/// Clicks in a topic that neither layer reads would be acknowledged and lost.
#[tokio::test]
async fn a_topic_that_is_not_the_one_of_the_ledger_ends_it() {
    let log = TestLog::new(Mood::Well);
    let life = log.life().await;
    let known = Options { life: Some(life.clone()), ..options() };
    let more = TopicLife { partitions: life.partitions - 1, ..life.clone() };
    let running = run(Options { life: Some(more), ..options() }, &log).await;
    let error = running.run.await.unwrap().unwrap_err().to_string();
    assert!(error.contains(&format!("with {} partitions, but the ledger knows", life.partitions)), "{error}");

    // And while it runs: nobody's append fails, so it has to ask.
    let running = run(known, &log).await;
    assert!(super::sockets::post(running.address, &click(1)).await.starts_with("HTTP/1.1 202"));
    log.recreate();
    let ended = tokio::time::timeout(Duration::from_secs(20), running.run).await.expect("it asks by itself");
    let error = ended.unwrap().unwrap_err();
    assert!(matches!(error, CollectorError::ForeignTopic { .. }), "{error:?}");
}
