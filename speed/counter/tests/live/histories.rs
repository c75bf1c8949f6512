//! Random histories of clicks and accidents: at the end the store equals the oracle, key for key.
//!
//! Each history is a list of named operations drawn from a seed, which is printed when it fails; `TWOFOLD_SEED=n` runs
//! that one alone. The seed fixes the operations, not how the workers' tasks interleave with them.

use std::time::Duration;

use clicks::rules::Rules;
use clicks::time::Span;
use counter::Options;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use crate::world::{Run, World, click};

const PARTITIONS: u32 = 3;

#[derive(Debug, Clone, Copy)]
enum Step {
    Clicks {
        number: usize,
    },
    /// An event time this long ago, or ahead where it is negative.
    Aged {
        age: Span,
    },
    /// A click that was sent before, again, with the event time of now.
    Again,
    Garbage,
    Heartbeats,
    Pass {
        span: Span,
    },
    FailOver {
        behind: Span,
    },
    CloseDay,
    NewRules,
    Kill,
    Stop,
    Zombie,
    LoseReply,
    FailNext {
        operations: usize,
    },
    StoreAway,
    StoreBack,
    Rollback {
        flushes: usize,
    },
    FlushAll,
    DeleteCount,
    DeleteHour,
    DeleteMeta,
    Settle,
}

fn draw(random: &mut SmallRng) -> Step {
    let ages = [1, 9, 10, 11, 14, 16, 60, 60 * 24, 60 * 24 * 10, 60 * 24 * 35, 60 * 24 * 36, -2, -5, -6, -60];
    match random.random_range(0..100) {
        0..22 => Step::Clicks { number: random.random_range(1..6) },
        22..36 => Step::Aged { age: Span::minutes(ages[random.random_range(0..ages.len())]) },
        36..44 => Step::Again,
        44..47 => Step::Garbage,
        47..51 => Step::Heartbeats,
        51..60 => Step::Pass { span: Span::seconds(random.random_range(1..600)) },
        60..65 => Step::Pass { span: Span::minutes(random.random_range(10..300)) },
        65..67 => Step::Pass { span: Span::hours(random.random_range(5..25)) },
        67..69 => Step::FailOver { behind: Span::seconds(random.random_range(0..20)) },
        69..73 => Step::CloseDay,
        73 => Step::NewRules,
        74..79 => Step::Kill,
        79 => Step::Stop,
        80..82 => Step::Zombie,
        82..86 => Step::LoseReply,
        86..88 => Step::FailNext { operations: random.random_range(1..4) },
        88 => Step::StoreAway,
        89..92 => Step::StoreBack,
        92..95 => Step::Rollback { flushes: random.random_range(1..10) },
        95 => Step::FlushAll,
        96 => match random.random_range(0..3) {
            0 => Step::DeleteCount,
            1 => Step::DeleteHour,
            _ => Step::DeleteMeta,
        },
        _ => Step::Settle,
    }
}

struct History {
    world: World,
    random: SmallRng,
    run: Option<Run>,
    zombies: Vec<Run>,
    /// Partition, ad and id of clicks that were sent.
    sent: Vec<(u32, String, u128)>,
    is_away: bool,
}

impl History {
    fn options() -> Options {
        // Scrubs are under way all the time, so that what is lost is found in time for the comparison.
        Options { keep_closed: Span::hours(6), scrub_interval: Duration::from_millis(5), ..World::options() }
    }

    fn start(&self) -> Run {
        self.world.start_on(self.world.log.clone(), Self::options())
    }

    async fn send(&mut self, age: Span) {
        let partition = self.random.random_range(0..PARTITIONS);
        let ad = format!("ad-{partition}-{}", self.random.random_range(0..3));
        let event = self.world.now() - age;
        let id = self.world.click(partition, &ad, event).await;
        self.sent.push((partition, ad, id));
    }

    async fn apply(&mut self, step: Step) {
        match step {
            Step::Clicks { number } => {
                for _ in 0..number {
                    self.send(Span::ZERO).await;
                }
            }
            Step::Aged { age } => self.send(age).await,
            Step::Again if self.sent.is_empty() => {}
            Step::Again => {
                let recent = self.sent.len().saturating_sub(30);
                let (partition, ad, id) = self.sent[self.random.random_range(recent..self.sent.len())].clone();
                self.world.append(partition, Some(click(&ad, id, self.world.now()))).await;
            }
            Step::Garbage => {
                let partition = self.random.random_range(0..PARTITIONS);
                let value = [None, Some("{"), Some("{}"), Some("[1]")][self.random.random_range(0..4)];
                self.world.append(partition, value.map(str::to_owned)).await;
            }
            Step::Heartbeats => {
                for partition in 0..PARTITIONS {
                    self.world.heartbeat(partition).await;
                }
            }
            Step::Pass { span } => self.world.pass(span),
            Step::FailOver { behind } => {
                self.world.fail_over(self.random.random_range(0..PARTITIONS), behind);
            }
            Step::CloseDay => {
                let books = self.world.ledger.read().await.unwrap();
                if books.rules().cut_time(books.next_night()) + Span::minutes(30) < self.world.now() {
                    self.world.close_next_day().await;
                }
            }
            Step::NewRules => self.new_rules().await,
            Step::Kill => {
                if let Some(run) = self.run.take() {
                    run.kill().await;
                }
                self.run = Some(self.start());
            }
            Step::Stop if self.is_away => {}
            Step::Stop => {
                if let Some(run) = self.run.take() {
                    run.stop().await;
                }
                self.run = Some(self.start());
            }
            Step::Zombie => match self.zombies.pop() {
                Some(zombie) => zombie.kill().await,
                None => self.zombies.push(self.start()),
            },
            Step::LoseReply => self.world.store.lose_next_reply(),
            Step::FailNext { operations } => self.world.store.fail_next(operations),
            Step::StoreAway | Step::StoreBack => {
                self.is_away = matches!(step, Step::StoreAway);
                self.world.store.go_away(self.is_away);
            }
            Step::Rollback { flushes } => {
                let partition = self.random.random_range(0..PARTITIONS);
                self.world.store.rollback(&self.world.partition(partition), flushes);
            }
            Step::FlushAll => self.world.store.flush_all(),
            Step::DeleteCount | Step::DeleteHour => {
                let number = self.random.random_range(0..PARTITIONS);
                let Some(slice) = self.world.stored(number).await else { return };
                if slice.counts.is_empty() {
                    return;
                }
                let (key, partition) = (&slice.counts[0].0, self.world.partition(number));
                match step {
                    Step::DeleteCount => self.world.store.delete_count(&partition, key),
                    _ => self.world.store.delete_hour(&partition, key.minute.hour()),
                };
            }
            Step::DeleteMeta => {
                let partition = self.random.random_range(0..PARTITIONS);
                self.world.store.delete_meta(&self.world.partition(partition));
            }
            Step::Settle if self.is_away => {}
            Step::Settle => self.world.settled().await,
        }
    }

    /// They take effect a day after tomorrow at the earliest, so that no process is behind.
    async fn new_rules(&mut self) {
        let book = self.world.rules().await;
        let effective = self.world.now().day().plus(3);
        let spans = [5, 10, 30, 60].map(Span::minutes);
        let rules = Rules {
            version: book.last().version + 1,
            lateness: spans[self.random.random_range(0..4)],
            live_horizon: spans[self.random.random_range(0..4)],
            ..Rules::default()
        };
        if book.on(effective.previous()).version == book.last().version && book.last().version < 3 {
            self.world.change_rules(effective, rules).await;
        }
    }
}

async fn play(seed: u64, steps: usize) {
    let mut random = SmallRng::seed_from_u64(seed);
    let plan: Vec<Step> = (0..steps).map(|_| draw(&mut random)).collect();
    let world = World::new(PARTITIONS).await;
    let mut history = History { world, random, run: None, zombies: Vec::new(), sent: Vec::new(), is_away: false };
    history.run = Some(history.start());
    for (number, step) in plan.iter().enumerate() {
        history.apply(*step).await;
        for run in history.run.iter().chain(&history.zombies) {
            assert!(run.is_running(), "seed {seed}: it ended at step {number} of {plan:?}");
        }
        if history.random.random_bool(0.4) {
            tokio::time::sleep(Duration::from_micros(history.random.random_range(0..3_000))).await;
        }
    }
    history.apply(Step::StoreBack).await;
    history.world.store.fail_next(0);
    for zombie in history.zombies.drain(..) {
        zombie.kill().await;
    }
    history.apply(Step::Heartbeats).await;
    for number in 0..PARTITIONS {
        history.world.whole(number).await;
    }
    history.world.check(&format!("seed {seed}")).await;
    history.run.take().unwrap().stop().await;
    history.world.check(&format!("seed {seed}, stopped")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_happens_the_store_equals_the_oracle() {
    if let Ok(seed) = std::env::var("TWOFOLD_SEED") {
        return play(seed.parse().expect("TWOFOLD_SEED is a number"), 120).await;
    }
    let first: u64 = rand::random();
    for seed in (0..24).chain((0..24).map(|n| first.wrapping_add(n))) {
        println!("seed {seed}");
        play(seed, 120).await;
    }
}
