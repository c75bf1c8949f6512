//! How long the speed layer takes to count again after a kill, and to count anew after its store was emptied. `cargo bench -p
//! counter --bench recovery [-- RECORDS]`: one partition, whose records (4 million, or so many) all lie within the live
//! horizon. The counts are compared with what was produced before a time counts.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros)]

mod layer;
mod measure;

use std::time::Instant;

use layer::Layer;
use measure::argument;

/// What a worker at 20,000 clicks a second must look back on: 15 minutes.
const LOOK_BACK: f64 = 18e6;
/// Clicks of an open day.
const DAY: f64 = 100e6;

async fn measure(records: usize) {
    let layer = Layer::start("recovery").await;
    let mut distinct = layer.produce(records);
    let mut process = layer.spawn();
    let before = layer.until(&mut process, |meta| meta.next_offset.value() == records as u64).await;
    assert_eq!(before.totals.counted, distinct);

    process.kill().unwrap();
    distinct += layer.produce(1);
    let (all, began) = (records as u64 + 1, Instant::now());
    let mut process = layer.spawn();
    let resumed = layer.until(&mut process, |meta| meta.next_offset.value() == all).await;
    let took = began.elapsed().as_secs_f64();
    assert_eq!((resumed.totals.counted, resumed.totals.seen), (distinct, all));
    assert_eq!(resumed.rebuilds, before.rebuilds, "it looked back, and counted nothing anew");
    println!(
        "killed and started again: a click is counted after {took:.1} s, {records} records of look-back at {:.0} a second; \
         {LOOK_BACK:.0} take {:.0} s",
        records as f64 / took,
        LOOK_BACK / records as f64 * took
    );

    layer.redis.cli(&["FLUSHALL"]).await.unwrap();
    let began = Instant::now();
    let anew = layer.until(&mut process, |meta| meta.next_offset.value() == all && !meta.is_rebuilding()).await;
    let took = began.elapsed().as_secs_f64();
    assert_eq!((anew.totals.counted, anew.totals.seen), (distinct, all));
    println!(
        "store emptied: counted anew after {took:.1} s, {:.0} records a second; {DAY:.0} take {:.1} minutes",
        records as f64 / took,
        DAY / records as f64 * took / 60.0
    );
    process.kill().unwrap();
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[1..] {
        ["--count", brokers, redis, folder] => layer::count(brokers, redis, folder),
        _ => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(measure(argument().unwrap_or(4_000_000)));
        }
    }
}
