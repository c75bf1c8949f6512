//! A history as it is planned: named steps, all drawn from one seed before the first is taken.

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

/// Most processes at once.
pub(crate) const PROCESSES: usize = 3;

/// Spans are in milliseconds. Numbers of things that may not be there (a click, a count) are taken modulo what is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// A click that nobody sent before; a negative age is an event time ahead.
    Click {
        partition: u32,
        ad: u8,
        age: i64,
    },
    Clicks {
        partition: u32,
        number: u8,
    },
    /// The same key again, with the event time of now; 0 is the click that was sent last.
    Again {
        back: u8,
    },
    /// Again, this long after one live horizon after its last sighting.
    AgainAtTheEdge {
        back: u8,
        after: i64,
    },
    /// Another click of the same window, at the end of the allowed lateness or so much after it.
    SameWindow {
        back: u8,
        after: i64,
    },
    Garbage {
        partition: u32,
        kind: u8,
    },
    Heartbeat {
        partition: u32,
    },
    Heartbeats,
    Pass {
        span: i64,
    },
    /// From now on the time of the partition's broker is this much behind.
    FailOver {
        partition: u32,
        behind: i64,
    },
    /// The clock of a process jumps. It is never far behind: on a log that holds nothing it tells what was lost.
    LocalClock {
        process: usize,
        ahead: i64,
    },
    CloseDay,
    /// Time passes until the day is over and then some, and it is closed.
    Night,
    NewRules {
        lateness: i64,
        horizon: i64,
    },
    /// The processes run for so many milliseconds, or turns of the scheduler.
    Run {
        millis: u16,
    },
    Turns {
        number: u8,
    },
    /// As SIGKILL does, and the process starts again at once or not.
    Kill {
        process: usize,
        again: bool,
    },
    /// It dies at one of its next calls of the store, which is carried out or not.
    CrashAt {
        process: usize,
        call: u8,
        applied: bool,
    },
    Stop {
        process: usize,
        again: bool,
    },
    Start {
        process: usize,
        partitions: u8,
    },
    /// All that run stop or die, and others take their partitions over.
    Rebalance {
        kill: bool,
        first: u8,
        second: u8,
    },
    /// The group takes the process that came first for dead.
    EndSession,
    Pause {
        process: usize,
    },
    Continue {
        process: usize,
    },
    LoseReply,
    FailNext {
        operations: u8,
    },
    StoreAway,
    StoreBack,
    Rollback {
        partition: u32,
        flushes: u8,
    },
    FlushAll,
    DeleteCount {
        partition: u32,
        number: u8,
    },
    DeleteHour {
        partition: u32,
        number: u8,
    },
    DeleteMeta {
        partition: u32,
    },
    Backup,
    Restore,
    RecreateTopic,
    /// Retention up to so many records beyond the stored position.
    Retention {
        partition: u32,
        beyond: i8,
    },
    /// All processes are down, the log loses its last records, and others take their offsets.
    UncleanElection {
        partition: u32,
        lost: u8,
        fresh: u8,
    },
    Settle,
}

/// A history: what the processes are like, and what happens to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) partitions: u32,
    pub(crate) poll_max: usize,
    pub(crate) flush_millis: u64,
    pub(crate) keep_closed_hours: i64,
    pub(crate) sightings_max: usize,
    /// The processes share the partitions as members of a group.
    pub(crate) in_group: bool,
    /// Processes go on when the store goes back behind the beginning of the log.
    pub(crate) lets_lost_be_counted: bool,
    pub(crate) steps: Vec<Step>,
}

impl Plan {
    pub(crate) fn draw(seed: u64) -> Self {
        let mut random = SmallRng::seed_from_u64(seed);
        let partitions = pick(&mut random, &[1, 1, 1, 2, 2, 3]);
        let length = random.random_range(8..100);
        // Some histories are about one kind of accident only, so that it is not always drowned by others.
        let kind = pick(&mut random, &[Kind::Calm, Kind::Zombies, Kind::All, Kind::All, Kind::All]);
        Plan {
            seed,
            partitions,
            poll_max: pick(&mut random, &[1, 2, 5, 100]),
            flush_millis: pick(&mut random, &[0, 2, 10]),
            keep_closed_hours: pick(&mut random, &[0, 0, 6]),
            sightings_max: if random.random_bool(0.1) { 4 } else { usize::MAX },
            in_group: random.random_bool(0.2),
            lets_lost_be_counted: false,
            steps: (0..length).map(|_| step(&mut random, partitions, kind)).collect(),
        }
    }
}

fn pick<T: Copy>(random: &mut SmallRng, all: &[T]) -> T {
    all[random.random_range(0..all.len())]
}

const MINUTE: i64 = 60_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// What a history is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Clicks alone.
    Calm,
    /// Several processes count the same partitions, while days expire and the store goes back.
    Zombies,
    All,
}

fn zombie_step(random: &mut SmallRng, partitions: u32) -> Step {
    let partition = random.random_range(0..partitions);
    let process = random.random_range(0..2);
    match random.random_range(0..20) {
        0..4 => Step::Clicks { partition, number: random.random_range(1..3) },
        4 => Step::Again { back: random.random_range(0..12) },
        5 => Step::Pass { span: random.random_range(1..10 * MINUTE) },
        6 => Step::Pass { span: DAY },
        7 => Step::CloseDay,
        8..10 => Step::Turns { number: random.random_range(1..20) },
        10..13 => Step::Run { millis: random.random_range(0..60) },
        13 => Step::Start { process, partitions: u8::MAX },
        14 => Step::Pause { process },
        15 => Step::Continue { process },
        16..18 => Step::Rollback { partition, flushes: random.random_range(1..3) },
        18 => Step::LoseReply,
        _ => Step::Continue { process },
    }
}

fn step(random: &mut SmallRng, partitions: u32, kind: Kind) -> Step {
    if kind == Kind::Zombies {
        return zombie_step(random, partitions);
    }

    let partition = random.random_range(0..partitions);
    let process = random.random_range(0..PROCESSES);
    match random.random_range(0..if kind == Kind::Calm { 70 } else { 130 }) {
        0..8 => Step::Clicks { partition, number: random.random_range(1..6) },
        8..14 => Step::Click { partition, ad: random.random_range(0..3), age: age(random) },
        14..18 => Step::Again { back: random.random_range(0..12) },
        18..20 => Step::SameWindow { back: random.random_range(0..12), after: pick(random, &[-30_000, -1, 0, 1]) },
        20..22 => Step::AgainAtTheEdge { back: random.random_range(0..6), after: random.random_range(-1..2) },
        22..24 => Step::Garbage { partition, kind: random.random_range(0..4) },
        24..26 => Step::Heartbeat { partition },
        26..28 => Step::Heartbeats,
        28..34 => Step::Pass { span: random.random_range(1..10 * MINUTE) },
        34..36 => Step::Pass { span: random.random_range(10 * MINUTE..5 * HOUR) },
        36 => Step::Pass { span: random.random_range(5 * HOUR..25 * HOUR) },
        37 => Step::CloseDay,
        38 => Step::Night,
        39..56 => Step::Run { millis: random.random_range(0..30) },
        56..60 => Step::Turns { number: random.random_range(1..40) },
        60..62 => Step::Settle,
        62..70 => Step::Turns { number: random.random_range(1..20) },
        70..72 => Step::FailOver { partition, behind: random.random_range(0..20_000) },
        72 => Step::LocalClock { process, ahead: pick(random, &[-10_000, 0, MINUTE, HOUR, 30 * HOUR]) },
        73..75 => Step::NewRules { lateness: pick(random, &[5, 10, 30, 60]), horizon: pick(random, &[5, 10, 30, 60]) },
        75..80 => Step::Kill { process, again: random.random() },
        80..86 => Step::CrashAt { process, call: random.random_range(0..12), applied: random.random() },
        86..88 => Step::Stop { process, again: random.random() },
        88..94 => Step::Start { process, partitions: random.random_range(1..4) },
        94..96 => Step::Rebalance {
            kill: random.random(),
            first: random.random_range(1..4),
            second: random.random_range(1..4),
        },
        96..98 => Step::Pause { process },
        98..100 => Step::Continue { process },
        100..104 => Step::LoseReply,
        104..106 => Step::FailNext { operations: random.random_range(1..5) },
        106 => Step::StoreAway,
        107..109 => Step::StoreBack,
        109..112 => Step::Rollback { partition, flushes: random.random_range(1..10) },
        112 => Step::FlushAll,
        113 => Step::DeleteCount { partition, number: random.random() },
        114 => Step::DeleteHour { partition, number: random.random() },
        115 => Step::DeleteMeta { partition },
        116..118 => Step::Backup,
        118..120 => Step::Restore,
        120 => Step::RecreateTopic,
        121..125 => Step::Retention { partition, beyond: random.random_range(-8..5) },
        125..127 => {
            Step::UncleanElection { partition, lost: random.random_range(1..6), fresh: random.random_range(0..9) }
        }
        127..129 => Step::Night,
        129 => Step::EndSession,
        _ => Step::Continue { process },
    }
}

/// Ages at which a verdict changes, to the millisecond.
fn age(random: &mut SmallRng) -> i64 {
    let edges = [0, 5 * MINUTE, 10 * MINUTE, 30 * MINUTE, 60 * MINUTE, 35 * DAY, -5 * MINUTE];
    let ages = [MINUTE, 9 * MINUTE, 11 * MINUTE, 14 * MINUTE, DAY, 10 * DAY, 36 * DAY, -2 * MINUTE, -HOUR];
    if random.random() { pick(random, &edges) + random.random_range(-1..2) } else { pick(random, &ages) }
}
