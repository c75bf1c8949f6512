//! Both halves of the nightly job by the CPU time of this process, on an archive that it makes first. `tests/bench recount`
//! runs it beside its peers.
//!
//! ```text
//! recount make FOLDER CLICKS      a day of so many clicks, 5 % of them twice, in eight partitions of a local archive
//! recount count FOLDER [MB]       counts the day, in so much memory before it spills
//! recount night FOLDER [MB]       runs the whole night: footers, both hashes, count, checks, files, entry, copies
//! ```

#[path = "../../../shared/clicks/benches/measure/mod.rs"]
mod measure;

use std::time::Instant;

use archive::codec::encode;
use clicks::event::Click;
use clicks::id::{AdId, ClickId, Region, TopicId, UserId};
use clicks::ledger::{Body, Genesis, TopicLife};
use clicks::partitioner::partition_of;
use clicks::position::{Offset, PartitionId};
use clicks::rules::Rules;
use clicks::time::{Day, Span, Timestamp};
use clicks::wire;
use measure::{Random, peak_memory, process_cpu};
use platform::clock::SimulatedClock;
use platform::ledger::Ledger;
use platform::log::LogRecord;
use platform::objects::Objects;
use recompute::measure::count_next;
use recompute::{NightOutcome, Options, run_night};

const PARTITIONS: u32 = 8;
/// Ad `n` has about one n-th of the clicks of the first one.
const ADS: f64 = 100_000.0;
/// Records of one object: those of an hour at 20 million a day and eight partitions.
const OBJECT: usize = 100_000;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let number = |place: usize| arguments.get(place).map(|text| text.parse::<usize>().expect("a number"));
    let (Some(what), Some(folder)) = (arguments.first(), arguments.get(1)) else {
        eprintln!("recount make FOLDER CLICKS | recount count FOLDER [MB] | recount night FOLDER [MB]");
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("threads");
    let mut options = Options { target_partitions: 2, volume_factor: 0, ..Options::default() };
    if let Some(megabytes) = number(2).filter(|_| what != "make") {
        options.memory_limit_bytes = megabytes << 20;
    }
    runtime.block_on(async {
        match what.as_str() {
            "make" => make(&open(folder), number(2).expect("how many clicks")).await,
            "count" => count(&options, &open(folder)).await,
            "night" => night(&options, &open(folder)).await,
            other => panic!("`{other}` is neither make nor count nor night"),
        }
    });
}

fn open(folder: &str) -> Objects {
    Objects::open_folder(std::path::absolute(folder).expect("a folder has a path")).expect("a folder can be opened")
}

fn day() -> Day {
    "2026-03-01".parse().expect("a day")
}

fn life() -> TopicLife {
    let region = Region::parse("eu").expect("a region");
    TopicLife { region, topic_id: TopicId::from_u128(1), name: "clicks".to_owned(), partitions: PARTITIONS }
}

/// One partition while it is written.
struct Log {
    partition: PartitionId,
    next: u64,
    records: Vec<(LogRecord, Timestamp)>,
}

impl Log {
    fn push(&mut self, at: Timestamp, click: &Click) {
        let value = Some(wire::encode(click).into_bytes().into());
        let key = Some(click.ad_id.as_str().as_bytes().to_vec().into());
        let offset = Offset::new(self.next);
        self.records.push((LogRecord { offset, broker_time: at, key, value, headers: Vec::new() }, at));
        self.next += 1;
    }

    async fn store(&mut self, objects: &Objects) {
        let object = encode(&self.partition, "bench", &self.records).expect("records of one partition");
        objects.create(&object.footer.key().to_string(), object.bytes).await.expect("a folder takes files");
        self.records.clear();
    }
}

async fn make(objects: &Objects, clicks: usize) {
    let ledger = Ledger::new(objects.clone());
    ledger.begin(Genesis { first_day: day(), rules: Rules::default() }).await.expect("a new folder");
    let mut books = ledger.read().await.expect("a ledger");
    ledger.publish(&mut books, Body::Topic(life())).await.expect("a new ledger");
    let partition = |number| PartitionId { region: life().region, topic: life().topic_id, number };
    let mut logs: Vec<Log> =
        (0..PARTITIONS).map(|number| Log { partition: partition(number), next: 0, records: Vec::new() }).collect();
    let mut random = Random::new(1);
    let user = UserId::parse("u").expect("a user");
    // Retries come within ten minutes, and are appended in their turn.
    let mut retries = std::collections::VecDeque::new();
    for n in 0..clicks {
        let at = day().start() + Span::millis((n as f64 / clicks as f64 * 86_400_000.0) as i64);
        let ad = AdId::parse(&format!("ad-{}", ADS.powf(random.unit()) as u32)).expect("an ad");
        let click_id = ClickId::from_u128(random.bits());
        let click = Click { click_id, ad_id: ad, user_id: user.clone(), event_time: at };
        while retries.front().is_some_and(|(due, _)| *due <= n) {
            let (_, again) = retries.pop_front().expect("it was there");
            append(&mut logs, objects, at, &again).await;
        }
        append(&mut logs, objects, at, &click).await;
        if random.below(20) == 0 {
            retries.push_back((n + clicks / 288, click));
        }
    }
    // The last ones come before the cut, and behind it one that shows that the archive has got there.
    let cut = day().end() + Span::minutes(10);
    for (_, click) in retries {
        append(&mut logs, objects, cut - Span::millis(1), &click).await;
    }
    for log in &mut logs {
        log.store(objects).await;
        let click_id = ClickId::from_u128(random.bits());
        let ad_id = AdId::parse("after").expect("an ad");
        log.push(cut, &Click { click_id, ad_id, user_id: user.clone(), event_time: cut });
        log.store(objects).await;
    }
}

async fn append(logs: &mut [Log], objects: &Objects, at: Timestamp, click: &Click) {
    let log = &mut logs[partition_of(click.ad_id.as_str().as_bytes(), PARTITIONS) as usize];
    log.push(at, click);
    if log.records.len() == OBJECT {
        log.store(objects).await;
    }
}

async fn count(options: &Options, objects: &Objects) {
    let books = Ledger::new(objects.clone()).read().await.expect("a ledger");
    let began = (Instant::now(), process_cpu());
    let sums = count_next(options, objects, &books).await.expect("a sound archive");
    report(began, sums.rows, &format!("{} {} {}", sums.clicks, sums.cells, sums.check));
}

async fn night(options: &Options, objects: &Objects) {
    let clock = SimulatedClock::new(day().end() + Span::hours(1));
    let began = (Instant::now(), process_cpu());
    let outcome = run_night(options, objects, &Ledger::new(objects.clone()), &clock, None).await;
    match outcome.expect("a sound archive") {
        NightOutcome::Published(night) => {
            let seconds = options.stages.seconds();
            eprintln!(
                "{}",
                seconds.iter().map(|(stage, s)| format!("{stage:?} {s:.2} s")).collect::<Vec<_>>().join(", ")
            );
            report(began, night.balance.rows, &night.days[0].totals.clicks.to_string());
        }
        other => panic!("the night was run before: {other:?}"),
    }
}

/// One line: CPU seconds, wall seconds, most memory in bytes, records, sums.
fn report((began, cpu): (Instant, f64), rows: u64, sums: &str) {
    println!("{:.3} {:.3} {} {rows} {sums}", process_cpu() - cpu, began.elapsed().as_secs_f64(), peak_memory());
}
