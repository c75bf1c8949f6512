//! Nights are published while many ask: each answer is of one position, and positions only go forward.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use clicks::ledger::DayTotals;
use clicks::time::Day;
use serde_json::Value;
use support::{Row, System, at, day, get};
use tokio::task::JoinHandle;

const DAYS: i32 = 8;
const CLIENTS: usize = 8;

fn first() -> Day {
    day("2026-03-01")
}

/// What the live view says of every day, and what its night publishes: they differ, so that a mixture shows.
fn live(n: i32) -> [Row; 2] {
    [(at(first().plus(n), 1, 0), "a", 7), (at(first().plus(n), 23, 59), "b", 3)]
}
fn exact(n: i32) -> [Row; 2] {
    [(at(first().plus(n), 1, 0), "a", 100 + n as u64), (at(first().plus(n), 23, 59), "b", 50)]
}

/// The day's clicks when so many days are closed.
fn wanted(n: i32, closed: i32) -> u64 {
    let rows = if n < closed { exact(n) } else { live(n) };
    rows.iter().map(|row| row.2).sum()
}

/// What the clients and who publishes know of each other.
#[derive(Debug, Default)]
struct Shared {
    end: AtomicBool,
    answers: [AtomicUsize; CLIENTS],
}

/// Asks one question over and over; every answer must be that of one position. Gives at how many positions it was answered.
async fn ask(address: SocketAddr, client: usize, path: String, per_day: usize, shared: Arc<Shared>) -> usize {
    let (mut positions, mut last) = (0, 0);
    while !shared.end.load(Ordering::Relaxed) {
        let answer = get(address, &path).await;
        assert_eq!(answer.status, 200, "{path}: {}", answer.body);
        let body: Value = answer.json();
        assert_eq!(body["meta"]["complete"], true, "{path}: {}", body["meta"]);
        let position = body["meta"]["ledger_position"].as_i64().unwrap() as i32;
        assert!(position >= last, "{path}: from position {last} back to {position}");
        // Entry 0 begins the ledger, entry 1 names the topic.
        let closed = position - 1;
        let totals: Vec<u64> =
            body["data"].as_array().unwrap().iter().map(|row| row["total"].as_u64().unwrap()).collect();
        let found: Vec<u64> = totals.chunks(per_day).map(|of_day| of_day.iter().sum()).collect();
        let want: Vec<u64> = match per_day {
            0 => unreachable!("a day has periods"),
            // The two ads of a ranking, over all days.
            2 => vec![(0..DAYS).map(|n| wanted(n, closed)).sum()],
            _ => (0..DAYS).map(|n| wanted(n, closed)).collect(),
        };
        assert_eq!(found, want, "{path} at position {position}");
        (positions, last) = (positions + usize::from(position > last), position);
        shared.answers[client].fetch_add(1, Ordering::Relaxed);
    }
    positions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_answer_mixes_two_positions_while_nights_are_published() {
    let now = at(first().plus(DAYS - 1), 23, 59);
    let mut system = System::new(first(), now).await;
    let counts: Vec<Row> = (0..DAYS).flat_map(live).collect();
    system.count(first(), now, &counts, &[]).await;
    let running = system.serve().await;
    let shared = Arc::new(Shared::default());
    let (from, to) = (first(), first().plus(DAYS));
    let asked = (0..CLIENTS).map(|n| {
        let (path, per_day) = match n % 4 {
            0 => (format!("/v1/clicks?from={from}&to={to}&granularity=day"), 1),
            1 => (format!("/v1/clicks?from={from}&to={to}&granularity=hour"), 24),
            2 => (format!("/v1/clicks?from={from}&to={to}&granularity=minute"), 1_440),
            _ => (format!("/v1/ads?from={from}&to={to}"), 2),
        };
        tokio::spawn(ask(running.address, n, path, per_day, shared.clone()))
    });
    let asked: Vec<_> = asked.collect();
    for n in 0..DAYS - 1 {
        system.close(&exact(n), DayTotals::default(), &[], &[]).await;
        // Until everybody has asked and been answered since.
        let counts = || shared.answers.each_ref().map(|answers| answers.load(Ordering::Relaxed));
        let before = counts();
        while counts().iter().zip(before).any(|(now, before)| *now < before + 2) {
            assert!(!asked.iter().any(JoinHandle::is_finished), "a client has ended");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    shared.end.store(true, Ordering::Relaxed);
    for client in asked {
        let positions = client.await.unwrap();
        assert!(positions >= DAYS as usize / 2, "one question was answered at {positions} positions only");
    }
}
