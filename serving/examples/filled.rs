//! A server over a filled system in memory, to look at the page: `cargo run -p serving --example filled [PORT]`.
//!
//! Five closed days and a live one that goes on. On Enter the speed store goes away, and comes back on the next.
#![allow(clippy::unwrap_used)]

#[path = "../tests/support/mod.rs"]
mod support;

use clicks::ledger::DayTotals;
use clicks::time::{Day, Span, Timestamp};
use platform::clock::{Clock, SystemClock};
use platform::store::SpeedStore;
use serving::Options;
use support::{Row, System};

const ADS: [&str; 7] = ["summer-sale", "newsletter.2026", "ad-17", "brand_video", "app-install", "retarget-eu", "x1"];

/// Clicks of an ad in a minute: busier by day, a little noisy, the same whenever it is asked for.
fn clicks(minute: Timestamp, ad: usize) -> u64 {
    let number = minute.as_millis() / 60_000;
    let daily = 1.0 + 0.7 * ((number % 1_440) as f64 / 1_440.0 * std::f64::consts::TAU - 2.0).sin();
    let hash = (number as u64 ^ (ad as u64 * 977)).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56;
    (daily * (160 / (ad + 1)) as f64 * (0.8 + hash as f64 / 600.0)) as u64
}

fn rows(from: Timestamp, to: Timestamp) -> Vec<Row> {
    let minutes = (to.since(from).as_millis() + 59_999) / 60_000;
    let times = (0..minutes).map(|n| from + Span::minutes(n));
    times.flat_map(|time| (0..ADS.len()).map(move |ad| (time, ADS[ad], clicks(time, ad)))).collect()
}

/// Of the minute that is running, as much as has passed of it.
fn live(today: Day, now: Timestamp) -> Vec<Row> {
    let minute = now.floor(Span::minutes(1));
    let mut counts = rows(today.previous().start(), minute + Span::minutes(1));
    let passed = now.since(minute).as_millis() as u64;
    for row in counts.iter_mut().rev().take(ADS.len()) {
        row.2 = row.2 * passed / 60_000;
    }
    counts
}

#[tokio::main]
async fn main() {
    let port = std::env::args().nth(1).map_or(8080, |port| port.parse().unwrap());
    let now = SystemClock.now();
    let today = now.day();
    let first = today.plus(-5);
    let mut system = System::new(first, now).await;
    system.clock.let_go();
    for day in first.until(today) {
        let rows = rows(day.start(), day.end());
        let finals: &[Day] = if day == today.plus(-2) { &[first] } else { &[] };
        let found = [(first.start() + Span::hours(9), ADS[0], 41)];
        let adjustments = if day == today.previous() { &found[..] } else { &[] };
        let totals = DayTotals { late: 120, duplicates: 900, far_duplicates: 120, ..DayTotals::default() };
        system.close(&rows, totals, finals, adjustments).await;
    }
    let options = Options { listen: ([127, 0, 0, 1], port).into(), ..Options::default() };
    let late =
        [(today, (today.start() - Span::hours(2), ADS[1], 12)), (today, (today.start() + Span::minutes(1), ADS[2], 7))];
    system.count(today.previous(), now, &live(today, now), &late).await;
    let running = system.start(options).await.unwrap();
    println!("http://{}", running.address);
    let store = system.store.clone();
    std::thread::spawn(move || {
        let mut away = false;
        while std::io::stdin().read_line(&mut String::new()).is_ok_and(|read| read > 0) {
            away = !away;
            store.go_away(away);
            println!("the speed store is {}", if away { "away" } else { "back" });
        }
    });
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        let now = SystemClock.now();
        if let Ok(counts) = tokio::task::spawn_blocking(move || live(today, now)).await
            && !running.task.is_finished()
        {
            let recent = counts.len().saturating_sub(2 * ADS.len());
            // An outage that is being played refuses the flush as well.
            if system.store.check().await.is_ok() {
                system.count(today.previous(), now, &counts[recent..], &[]).await;
            }
        }
    }
}
