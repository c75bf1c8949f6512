//! The stream core beside an idiomatic loop and the physical limit, on the same bytes: JSON values in memory, parsed,
//! deduplicated, judged and counted per (ad, minute), on one thread.
//!
//! `cargo bench -p clicks --bench stream_core [-- EVENTS]`. The runs are interleaved, the answers are compared before a
//! time counts, and times are CPU time of this thread. Canonical values with 100,000 ads (log-uniform), 5 % retries and
//! 1 % late clicks, appended at 20,000 a second.
//!
//! `-- EVENTS --write FILE` writes such events, but no late ones, as NDJSON; `-- --count FILE [ANSWER]` counts such a file
//! in a process of its own, and writes the counts as CSV. With these two `tests/bench flink` compares.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros)]

mod measure;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};

use clicks::counter::{LiveCounter, Observed};
use clicks::event::Click;
use clicks::id::{AdId, ClickId, UserId};
use clicks::live::{Expected, Generation, Meta, Stage};
use clicks::position::Offset;
use clicks::rules::{Rules, RulesBook};
use clicks::time::{Span, Timestamp};
use clicks::wire;
use measure::{Random, cpu_nanos, median};

const ROUNDS: usize = 5;
/// What one poll of a partition returns.
const BATCH: usize = 1_000;
/// 2026-03-01T12:00:00Z.
const START: Timestamp = Timestamp::from_millis(1_772_366_400_000);

struct Event {
    at: usize,
    end: usize,
    /// In the whole log.
    number: usize,
}

#[derive(Default)]
struct Log {
    bytes: Vec<u8>,
    events: Vec<Event>,
}

type Answer = BTreeMap<(String, i64), u64>;

fn append_time(number: usize) -> Timestamp {
    START + Span::millis(number as i64 / 20)
}

fn generate(number: usize, late_percent: u64) -> Log {
    let mut random = Random::new(7);
    let mut log = Log { bytes: Vec::with_capacity(number * 128), events: Vec::with_capacity(number) };
    let mut recent: Vec<Click> = Vec::new();
    for n in 0..number {
        if random.below(100) < 5 && !recent.is_empty() {
            log.push(n, &recent[random.below(recent.len() as u64) as usize]);
            continue;
        }
        let (id, ad) = (random.bits(), 100_000f64.powf(random.unit()) as u32);
        let is_late = random.below(100) < late_percent;
        let late = if is_late { Span::minutes(30) } else { Span::millis(random.below(20_000) as i64) };
        let click = Click {
            click_id: ClickId::from_u128(id),
            ad_id: AdId::parse(&format!("ad-{ad}")).unwrap(),
            user_id: UserId::parse(&format!("u{}", random.below(1_000_000))).unwrap(),
            event_time: append_time(n) - late,
        };
        log.push(n, &click);
        match recent.len() < 50_000 {
            true => recent.push(click),
            false => recent[n % 50_000] = click,
        }
    }
    log
}

impl Log {
    fn push(&mut self, number: usize, click: &Click) {
        let at = self.bytes.len();
        self.bytes.extend_from_slice(wire::encode(click).as_bytes());
        self.events.push(Event { at, end: self.bytes.len(), number });
    }
    fn observed(&self, n: usize) -> Observed<'_> {
        let event = &self.events[n];
        Observed {
            offset: Offset::new(event.number as u64),
            broker_time: append_time(event.number),
            key: None,
            value: Some(&self.bytes[event.at..event.end]),
            control: false,
        }
    }
}

fn counter() -> LiveCounter {
    let day = START.day();
    let meta = Meta::new(Offset::ZERO, day, day.previous(), Offset::ZERO);
    let rules = RulesBook::new(Rules::default()).unwrap();
    LiveCounter::begin(rules, Expected::Nothing, (Generation::from_u128(1), Stage::Live), meta, usize::MAX)
}

/// Ours; with `flush_every` also what a flush costs before it leaves for the store.
fn twofold(log: &Log, flush_every: usize) -> (u64, Answer) {
    let mut counter = counter();
    let mut answer = Answer::new();
    let mut batch = Vec::with_capacity(BATCH);
    let (began, mut since) = (cpu_nanos(), 0);
    for from in (0..log.events.len()).step_by(BATCH) {
        batch.clear();
        batch.extend((from..log.events.len().min(from + BATCH)).map(|n| log.observed(n)));
        let done = counter.observe_all(&batch, usize::MAX).unwrap();
        assert!(done.observed == batch.len() && done.rejected.is_empty());
        since += done.observed;
        if since >= flush_every {
            since = 0;
            std::hint::black_box(counter.flush());
            counter.stored();
        }
    }
    let nanos = cpu_nanos() - began;
    // With flushes, sealed windows are gone from memory by now: only the whole answer is compared.
    for (key, clicks) in counter.flush().counts {
        answer.insert((key.ad.as_str().to_owned(), key.minute.number()), clicks);
    }
    (nanos, answer)
}

fn write_events(log: &Log, path: &str) {
    let mut file = BufWriter::new(File::create(path).unwrap());
    for event in &log.events {
        file.write_all(&log.bytes[event.at..event.end]).unwrap();
        file.write_all(b"\n").unwrap();
    }
    file.flush().unwrap();
}

/// Ours over a file of events, read batch by batch; the counts are taken out as for the one flush.
fn count_file(path: &str, answer: Option<&str>) {
    let mut file = BufReader::with_capacity(1 << 20, File::open(path).unwrap());
    let (mut counter, mut log, mut number) = (counter(), Log::default(), 0);
    loop {
        log.bytes.clear();
        log.events.clear();
        while log.events.len() < BATCH {
            let at = log.bytes.len();
            if file.read_until(b'\n', &mut log.bytes).unwrap() == 0 {
                break;
            }
            log.events.push(Event { at, end: log.bytes.len() - 1, number });
            number += 1;
        }
        let batch: Vec<Observed<'_>> = (0..log.events.len()).map(|n| log.observed(n)).collect();
        if batch.is_empty() {
            break;
        }
        let done = counter.observe_all(&batch, usize::MAX).unwrap();
        assert!(done.observed == batch.len() && done.rejected.is_empty());
    }
    let counts = std::hint::black_box(counter.flush()).counts;
    let Some(answer) = answer else { return };
    let mut file = BufWriter::new(File::create(answer).unwrap());
    for (key, clicks) in counts {
        writeln!(file, "{},{},{clicks}", key.ad.as_str(), key.minute.number()).unwrap();
    }
    file.flush().unwrap();
}

/// As one would write it without thinking about cost.
fn idiomatic(log: &Log) -> (u64, Answer) {
    #[derive(serde::Deserialize)]
    struct Fields {
        click_id: String,
        ad_id: String,
        #[allow(dead_code)]
        user_id: String,
        timestamp: String,
    }
    let began = cpu_nanos();
    let mut seen: HashSet<(String, String)> = HashSet::new();
    let mut counts: HashMap<(String, i64), u64> = HashMap::new();
    for event in &log.events {
        let fields: Fields = serde_json::from_slice(&log.bytes[event.at..event.end]).unwrap();
        let time = chrono::DateTime::parse_from_rfc3339(&fields.timestamp).unwrap().timestamp_millis();
        if !seen.insert((fields.ad_id.clone(), fields.click_id)) {
            continue;
        }
        if append_time(event.number).as_millis() - time <= 600_000 {
            *counts.entry((fields.ad_id, time.div_euclid(60_000))).or_default() += 1;
        }
    }
    (cpu_nanos() - began, counts.into_iter().collect())
}

/// No program that looks at every byte is faster.
fn memory(log: &Log) -> u64 {
    let began = cpu_nanos();
    let sum = log.bytes.as_chunks::<8>().0.iter().fold(0u64, |sum, word| sum ^ u64::from_ne_bytes(*word));
    std::hint::black_box(sum);
    cpu_nanos() - began
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    let after = |flag: &str| arguments.iter().position(|argument| argument == flag).map(|at| &arguments[at + 1..]);
    if let Some(rest) = after("--count") {
        return count_file(&rest[0], rest.get(1).map(String::as_str));
    }
    let number = measure::argument().unwrap_or(2_000_000);
    if let Some(rest) = after("--write") {
        return write_events(&generate(number, 0), &rest[0]);
    }
    let log = generate(number, 1);
    println!("{number} events of {} bytes", log.bytes.len() / number);
    let per_event = |nanos: u64| nanos as f64 / number as f64;
    let (mut ours, mut flushed, mut plain, mut limit) = (vec![], vec![], vec![], vec![]);
    for round in 1..=ROUNDS {
        let (nanos, answer) = twofold(&log, usize::MAX);
        ours.push(per_event(nanos));
        flushed.push(per_event(twofold(&log, 1_000).0));
        let (nanos, wanted) = idiomatic(&log);
        plain.push(per_event(nanos));
        limit.push(per_event(memory(&log)));
        assert!(answer == wanted, "the answers differ");
        println!(
            "round {round}: twofold {:.0} ns, with a flush every 50 ms {:.0} ns, idiomatic {:.0} ns, reading memory {:.1} ns per event",
            ours[round - 1],
            flushed[round - 1],
            plain[round - 1],
            limit[round - 1]
        );
    }
    let (ours, flushed, plain, limit) = (median(ours), median(flushed), median(plain), median(limit));
    println!(
        "median: twofold {ours:.0} ns per event on one core ({:.1} M/s), {flushed:.0} ns with flushes",
        1_000.0 / ours
    );
    println!("idiomatic serde_json + HashSet<String> / twofold: {:.1}", plain / ours);
    println!("twofold / reading the bytes: {:.1}", ours / limit);
}
