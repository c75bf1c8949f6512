//! All of a small scope: every log of up to six records, every call of the store at which a writer dies, loses the reply or
//! stands still, and a second writer that takes over or runs beside it.
//!
//! ```text
//! writer 1   load  flush  flush ✗                          dies, loses a reply, or stands still at its call k
//! writer 2                        load … flush             takes over, or comes between
//! writer 1                                       flush …   goes on, if it only stood still
//! ```
//!
//! A log is spelled by its records: `A` is a click that is sent again and again, `B` a click of its own in the same window,
//! `L` a late click that is sent again and again, `C` a heartbeat.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use clicks::bugs::{self, Bug};
use clicks::id::{Region, TopicId};
use clicks::ledger::{Body, Genesis};
use clicks::position::PartitionId;
use clicks::rules::{Rules, RulesBook};
use clicks::time::Span;
use clicks::wire;
use counter::{CounterError, Generations, Options, Retry};
use platform::clock::{Clock, SimulatedClock};
use platform::ledger::Ledger;
use platform::log::{Header, Log, LogRecord, MemoryLog, NewRecord, Target};
use platform::objects::Objects;
use platform::store::{MemoryStore, SpeedStore};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::control::{Control, Fault};
use crate::making::{self, first_day};
use crate::oracle::{Oracle, compare};
use crate::ports::{ProcessLog, ProcessStore};
use crate::trace::Trace;

/// Calls of a writer, at the very most.
const CALLS_MAX: u8 = 40;

/// A log and how it is read.
#[derive(Debug, Clone)]
struct Scope {
    spelling: Vec<u8>,
    /// Between two records.
    pause: Span,
    /// Records of one poll, and so of one flush.
    poll_max: usize,
}

/// What happens to a writer at one call.
#[derive(Debug, Clone, Copy)]
struct At {
    fault: Fault,
    call: u8,
    is_applied: bool,
}

struct Small {
    clock: Arc<SimulatedClock>,
    log: MemoryLog,
    store: Arc<MemoryStore>,
    ledger: Ledger,
    partition: PartitionId,
    oracle: Oracle,
    rules: RulesBook,
    poll_max: usize,
    trace: Trace,
    generations: Arc<AtomicU64>,
}

struct Writer {
    task: JoinHandle<Result<(), CounterError>>,
    control: Arc<Control>,
}

async fn ledger() -> Ledger {
    let ledger = Ledger::new(Objects::memory());
    let mut books = ledger.begin(Genesis { first_day: first_day(), rules: Rules::default() }).await.unwrap();
    let topic = log(Arc::new(SimulatedClock::new(first_day().start()))).topic().await.unwrap();
    ledger.publish(&mut books, Body::Topic(making::life(&topic))).await.unwrap();
    ledger
}

fn log(clock: Arc<SimulatedClock>) -> MemoryLog {
    MemoryLog::with_id(Region::parse("eu").unwrap(), "clicks", 1, clock, TopicId::from_u128(1))
}

impl Small {
    async fn new(scope: &Scope, ledger: &Ledger) -> Self {
        let clock = Arc::new(SimulatedClock::new(first_day().start() + Span::minutes(30)));
        let log = log(clock.clone());
        let partition = log.topic().await.unwrap().partition(0);
        let mut small = Small {
            clock,
            log,
            store: Arc::new(MemoryStore::new()),
            ledger: ledger.clone(),
            partition,
            oracle: Oracle::default(),
            rules: RulesBook::new(Rules::default()).unwrap(),
            poll_max: scope.poll_max,
            trace: Trace::begin(false),
            generations: Arc::new(AtomicU64::new(1)),
        };
        for kind in &scope.spelling {
            small.append(*kind).await;
            small.clock.advance_to(small.clock.now() + scope.pause);
        }
        small
    }

    async fn append(&mut self, kind: u8) {
        let (now, fresh) = (self.clock.now(), 1_000 + self.oracle.judged.len() as u128);
        let (value, headers) = match kind {
            b'A' => (making::click("a", 1, now), Vec::new()),
            b'B' => (making::click("a", fresh, now), Vec::new()),
            b'L' => (making::click("l", 2, now - Span::minutes(11)), Vec::new()),
            _ => ("{}".to_owned(), vec![Header { name: wire::HEADER_CONTROL.to_owned(), value: None }]),
        };
        let record = NewRecord { key: None, value: Some(value.into()), headers };
        let appended = self.log.append(Target::Partition(0), record.clone()).await.unwrap();
        let NewRecord { key, value, headers } = record;
        let record = LogRecord { offset: appended.offset, broker_time: appended.broker_time, key, value, headers };
        self.oracle.observe(&record, &self.rules);
    }

    fn write(&self, at: Option<At>) -> Writer {
        let control = Control::prompt(self.clock.clone(), self.trace.clone());
        if let Some(At { fault, call, is_applied }) = at {
            control.plan(fault, call, is_applied);
        }
        let log = ProcessLog { inner: self.log.clone(), control: control.clone(), first_answer: Default::default() };
        let store = ProcessStore { inner: self.store.clone(), control: control.clone() };
        let options = Options {
            flush_interval: Duration::ZERO,
            poll_max: self.poll_max,
            store_retry: Retry { first: Duration::from_millis(1), max: Duration::from_millis(1) },
            generations: Generations::Numbered(self.generations.clone()),
            ..Options::default()
        };
        let (ledger, clock) = (self.ledger.clone(), self.clock.clone());
        let run = counter::run(options, Arc::new(log), Arc::new(store), ledger, clock, CancellationToken::new());
        Writer { task: tokio::spawn(run), control }
    }

    /// Until nobody has anything to do any more. Simulated time passes only when all is quiet.
    async fn quiet(&self) {
        tokio::time::sleep(Duration::from_millis(4)).await;
    }

    async fn check(&self) -> Result<(), String> {
        for _ in 0..50 {
            let slice = self.store.read(&self.partition, &making::all()).await.map_err(|error| error.to_string())?;
            let Some(slice) = slice else { continue };
            if slice.meta.next_offset.value() == self.oracle.judged.len() as u64 {
                return compare(&slice, &self.oracle.judged);
            }
            self.quiet().await;
        }
        Err("it does not come to rest".to_owned())
    }
}

impl Writer {
    async fn die(self) {
        self.task.abort();
        let _ = self.task.await;
        tokio::task::yield_now().await;
        bugs::crash();
    }

    fn is_well(&self) -> Result<(), String> {
        if self.task.is_finished() { Err("a writer ended by itself".to_owned()) } else { Ok(()) }
    }
}

/// One writer meets `first`, another one comes, and meets `second` if that is planned. False when the first writer had
/// come to rest before, or the second one: there are no further calls.
async fn play(scope: &Scope, ledger: &Ledger, first: At, second: Option<At>) -> Result<bool, String> {
    let mut small = Small::new(scope, ledger).await;
    let one = small.write(Some(first));
    small.quiet().await;
    if !one.control.has_met_it() {
        one.die().await;
        return Ok(false);
    }
    let mut writers = Vec::new();
    let mut was_met = true;
    match first.fault {
        Fault::Die => one.die().await,
        Fault::NoReply => writers.push(one),
        Fault::Pause => {
            let two = small.write(second);
            small.quiet().await;
            match second {
                None => small.check().await?,
                Some(_) => was_met = two.control.has_met_it(),
            }
            one.control.pause(false);
            small.quiet().await;
            if second.is_some_and(|second| second.fault == Fault::Die) {
                two.die().await;
            } else {
                two.control.pause(false);
                writers.push(two);
            }
            writers.push(one);
        }
    }
    if writers.is_empty() {
        writers.push(small.write(None));
    }
    small.quiet().await;
    small.check().await?;
    // And on, with all that are left.
    small.append(b'A').await;
    small.append(b'B').await;
    small.quiet().await;
    small.check().await?;
    for writer in writers {
        writer.is_well()?;
        writer.die().await;
    }
    Ok(was_met)
}

/// All spellings of this length.
fn spellings(letters: &[u8], length: usize) -> Vec<Vec<u8>> {
    (0..length).fold(vec![Vec::new()], |before, _| {
        let longer = |spelling: &Vec<u8>| {
            let spelling = spelling.clone();
            letters.iter().map(move |letter| [&spelling[..], &[*letter]].concat())
        };
        before.iter().flat_map(longer).collect()
    })
}

/// Each spelling, with every one of the pauses and of the lengths of a poll.
fn scopes(spellings: impl IntoIterator<Item = Vec<u8>>, pauses: &[i64], polls: &[usize]) -> Vec<Scope> {
    let mut scopes = Vec::new();
    for spelling in spellings {
        for pause in pauses {
            // A poll of twice as many records as there are is no other than one of half of that.
            for poll_max in polls.iter().filter(|poll_max| **poll_max < 2 * spelling.len()) {
                let (spelling, pause) = (spelling.clone(), Span::minutes(*pause));
                scopes.push(Scope { spelling, pause, poll_max: *poll_max });
            }
        }
    }
    scopes
}

const FAULTS: [(Fault, bool); 6] = [
    (Fault::Die, false),
    (Fault::Die, true),
    (Fault::NoReply, false),
    (Fault::NoReply, true),
    (Fault::Pause, false),
    (Fault::Pause, true),
];

fn every_call(faults: &[(Fault, bool)]) -> Vec<Vec<At>> {
    let at = |(fault, is_applied): &(Fault, bool)| {
        (0..CALLS_MAX).map(|call| At { fault: *fault, call, is_applied: *is_applied }).collect()
    };
    faults.iter().map(at).collect()
}

/// Plays all cases with one fault, or with a second one of the other writer; returns how many there were.
async fn exhaust(scopes: &[Scope], with_second: bool) -> Result<u64, String> {
    let ledger = ledger().await;
    let mut cases = 0;
    let told = |scope: &Scope, first: At, second: Option<At>, why: String| {
        let spelling = String::from_utf8_lossy(&scope.spelling).into_owned();
        format!("{spelling}, pause {}, polls of {}, {first:?}, {second:?}: {why}", scope.pause, scope.poll_max)
    };
    for scope in scopes {
        for calls in every_call(if with_second { &FAULTS[4..] } else { &FAULTS }) {
            'calls: for first in calls {
                if !with_second {
                    match play(scope, &ledger, first, None).await {
                        Ok(false) => break 'calls,
                        Ok(true) => cases += 1,
                        Err(why) => return Err(told(scope, first, None, why)),
                    }
                    continue;
                }
                for seconds in every_call(&FAULTS) {
                    for second in seconds {
                        match play(scope, &ledger, first, Some(second)).await {
                            Ok(false) if second.call == 0 => break 'calls,
                            Ok(false) => break,
                            Ok(true) => cases += 1,
                            Err(why) => return Err(told(scope, first, Some(second), why)),
                        }
                    }
                }
            }
        }
    }
    Ok(cases)
}

fn run(scopes: &[Scope], with_second: bool, bug: Option<Bug>) -> Result<u64, String> {
    bugs::switch(bug);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    let cases = runtime.block_on(exhaust(scopes, with_second));
    drop(runtime);
    bugs::crash();
    bugs::switch(None);
    cases
}

#[test]
fn every_crash_and_every_lost_reply_of_a_small_log() {
    let began = Instant::now();
    let short = (1..=3).flat_map(|length| spellings(b"ABLC", length)).chain(spellings(b"ABL", 4));
    // What begins otherwise is hardly more than a shorter one; and some records of it must be sealed, and some not.
    let long = (5..=6).flat_map(|length| spellings(b"ABL", length)).filter(|spelling| spelling[0] == b'A');
    let scopes = [scopes(short, &[0, 6], &[1, 2, 3, 6]), scopes(long, &[6], &[1, 3])].concat();
    let cases = run(&scopes, false, None).unwrap();
    println!("{cases} cases of {} logs in {:.1} s", scopes.len(), began.elapsed().as_secs_f64());
}

#[test]
fn every_interleaving_of_two_writers_that_stand_still_once_each() {
    let began = Instant::now();
    let scopes = scopes((1..=3).flat_map(|length| spellings(b"ABL", length)), &[6], &[1, 2]);
    let cases = run(&scopes, true, None).unwrap();
    println!("{cases} cases of {} logs in {:.1} s", scopes.len(), began.elapsed().as_secs_f64());
}

#[test]
fn the_small_scope_is_large_enough_for_these_bugs() {
    let scopes = scopes((1..=4).flat_map(|length| spellings(b"ABL", length)), &[0, 6], &[1, 2]);
    for bug in [Bug::NoLookBack, Bug::IgnoresExpected, Bug::FirstSighting] {
        let red = run(&scopes, false, Some(bug)).expect_err("it goes red");
        println!("{bug:?}: {}", red.lines().next().unwrap_or_default());
    }
}
