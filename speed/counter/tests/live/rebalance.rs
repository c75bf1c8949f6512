//! Processes that share the partitions: they join, leave, die and come back as zombies while clicks come in. Every
//! partition is counted by somebody, exactly (S1, S2), and one that moves goes on with the generation that it had (S4).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use clicks::live::Generation;
use clicks::position::Offset;
use clicks::time::{Span, Timestamp};
use counter::{CounterError, Options, Partitions};
use platform::log::{
    Appended, Assignment, Bounds, Log, LogError, Membership, MemoryLog, NewRecord, Reader, Target, Topic,
};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::{mpsc, watch};

use crate::world::{Run, World, click};

const GROUP: &str = "speed";
const PARTITIONS: u32 = 6;

fn grouped() -> Options {
    Options { partitions: Partitions::Group(GROUP.to_owned()), ..World::options() }
}

type News = Result<Assignment, LogError>;

/// The log as one process sees it; the test sees what its group gives it, and can keep the news from it.
#[derive(Debug)]
struct Seen {
    inner: Arc<MemoryLog>,
    owned: Arc<Mutex<Assignment>>,
    is_deaf: watch::Receiver<bool>,
    /// What the group says instead of the real one.
    script: Mutex<Option<mpsc::UnboundedReceiver<News>>>,
}

#[derive(Debug)]
struct SeenMembership {
    inner: Box<dyn Membership>,
    owned: Arc<Mutex<Assignment>>,
    is_deaf: watch::Receiver<bool>,
}

#[async_trait]
impl Log for Seen {
    async fn topic(&self) -> Result<Topic, LogError> {
        self.inner.topic().await
    }
    async fn append(&self, target: Target, record: NewRecord) -> Result<Appended, LogError> {
        self.inner.append(target, record).await
    }
    async fn bounds(&self, partition: u32) -> Result<Bounds, LogError> {
        self.inner.bounds(partition).await
    }
    async fn offset_at(&self, partition: u32, time: Timestamp) -> Result<Option<Offset>, LogError> {
        self.inner.offset_at(partition, time).await
    }
    async fn open(&self, partition: u32, from: Offset) -> Result<Box<dyn Reader>, LogError> {
        self.inner.open(partition, from).await
    }
    async fn join(&self, group: &str) -> Result<Box<dyn Membership>, LogError> {
        if let Some(script) = self.script.lock().unwrap().take() {
            return Ok(Box::new(Scripted(script)));
        }
        let (owned, is_deaf) = (self.owned.clone(), self.is_deaf.clone());
        Ok(Box::new(SeenMembership { inner: self.inner.join(group).await?, owned, is_deaf }))
    }
}

#[async_trait]
impl Membership for SeenMembership {
    async fn next(&mut self) -> Result<Assignment, LogError> {
        // The sender is there as long as the test's process.
        let _ = self.is_deaf.wait_for(|is_deaf| !is_deaf).await;
        let owned = self.inner.next().await?;
        *self.owned.lock().unwrap() = owned.clone();
        Ok(owned)
    }
    async fn leave(self: Box<Self>) {
        self.inner.leave().await;
    }
}

struct Process {
    run: Run,
    owned: Arc<Mutex<Assignment>>,
    is_deaf: watch::Sender<bool>,
}

impl Process {
    fn start(world: &World) -> Self {
        Self::start_with(world, None)
    }

    fn start_with(world: &World, script: Option<mpsc::UnboundedReceiver<News>>) -> Self {
        let (is_deaf, owned, script) = (watch::Sender::new(false), Arc::default(), Mutex::new(script));
        let log = Seen { inner: world.log.clone(), owned: Arc::clone(&owned), is_deaf: is_deaf.subscribe(), script };
        Process { run: world.start_on(Arc::new(log), grouped()), owned, is_deaf }
    }

    fn owned(&self) -> Assignment {
        self.owned.lock().unwrap().clone()
    }
}

/// Waits until the processes own all partitions, each one once and each process its even share.
async fn shared(world: &World, processes: &[Process]) {
    let even = PARTITIONS as usize / processes.len();
    world
        .until("the partitions are shared", async || {
            let owned: Vec<_> = processes.iter().map(Process::owned).collect();
            let all: Assignment = owned.iter().flatten().copied().collect();
            all.into_iter().eq(0..PARTITIONS) && owned.iter().all(|owned| owned.len() == even)
        })
        .await;
}

async fn load(world: &mut World) {
    for number in 0..world.topic.partitions {
        world.clicks(number, "a", 3).await;
        let id = world.click(number, "b", world.now() - Span::minutes(2)).await;
        world.append(number, Some(click("b", id, world.now()))).await;
    }
}

async fn generations(world: &World) -> BTreeMap<u32, Generation> {
    let mut generations = BTreeMap::new();
    for number in 0..PARTITIONS {
        generations.insert(number, world.generation(number).await);
    }
    generations
}

#[tokio::test]
async fn processes_that_come_and_go_hand_their_partitions_over() {
    let mut world = World::new(PARTITIONS).await;
    let mut processes = vec![Process::start(&world)];
    load(&mut world).await;
    shared(&world, &processes).await;
    world.check("one process counts them all").await;
    let before = generations(&world).await;

    processes.push(Process::start(&world));
    load(&mut world).await;
    shared(&world, &processes).await;
    load(&mut world).await;
    world.check("two processes share them").await;

    processes.push(Process::start(&world));
    load(&mut world).await;
    shared(&world, &processes).await;
    processes.remove(0).run.stop().await;
    load(&mut world).await;
    shared(&world, &processes).await;
    world.check("the first one has left").await;
    assert_eq!(generations(&world).await, before, "they were handed over and not counted anew");
    for process in processes {
        process.run.stop().await;
    }
}

#[tokio::test]
async fn partitions_of_a_dead_process_wait_for_the_end_of_its_session_and_go_on() {
    let mut world = World::new(PARTITIONS).await;
    world.log.let_the_dead_linger();
    let dies = Process::start(&world);
    load(&mut world).await;
    shared(&world, std::slice::from_ref(&dies)).await;
    world.check("one process").await;
    let before = generations(&world).await;
    let other = Process::start(&world);
    world.until("the other one has its share", async || other.owned().len() == 3).await;
    let orphans = dies.owned();
    assert_eq!(orphans.len(), 3);
    dies.run.kill().await;
    let mut stands = BTreeMap::new();
    for number in orphans {
        stands.insert(number, world.stored(number).await.unwrap().meta.next_offset);
    }
    load(&mut world).await;
    for number in other.owned() {
        let end = world.log.bounds(number).await.unwrap().end;
        world.until("the living goes on", async || world.stored(number).await.unwrap().meta.next_offset >= end).await;
    }
    for (number, stood) in stands {
        assert_eq!(world.stored(number).await.unwrap().meta.next_offset, stood, "nobody counts partition {number}");
    }
    world.log.end_sessions();
    world.check("taken over").await;
    assert_eq!(other.owned().len(), PARTITIONS as usize);
    assert_eq!(generations(&world).await, before);
    other.run.stop().await;
}

#[tokio::test]
async fn a_zombie_that_counts_on_changes_nothing() {
    let mut world = World::new(PARTITIONS).await;
    let zombie = Process::start(&world);
    load(&mut world).await;
    shared(&world, std::slice::from_ref(&zombie)).await;
    world.check("one process").await;
    let before = generations(&world).await;
    zombie.is_deaf.send_replace(true);
    // It is already asking, and hears the next thing that happens; so that is nothing that counts.
    let other = Process::start(&world);
    world.until("the other one has its share", async || other.owned().len() == 3).await;
    world.until("the zombie heard the last thing", async || zombie.owned().len() == 3).await;
    world.log.end_oldest_session(GROUP);
    world.until("the other one has all", async || other.owned().len() == 6).await;
    assert_eq!(zombie.owned().len(), 3, "and the zombie does not know");
    for _ in 0..20 {
        load(&mut world).await;
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    world.check("two owners").await;
    assert!(zombie.run.is_running());
    zombie.is_deaf.send_replace(false);
    let both = [zombie, other];
    shared(&world, &both).await;
    load(&mut world).await;
    world.check("it came back").await;
    assert_eq!(generations(&world).await, before);
    for process in both {
        process.run.stop().await;
    }
}

/// Rounds of arrivals, departures, deaths and zombies; clicks never stop.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counts_stay_exact_while_members_come_and_go_under_load() {
    const ROUNDS: u32 = 150;
    let seed = std::env::var("TWOFOLD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(11);
    println!("TWOFOLD_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut world = World::new(PARTITIONS).await;
    world.log.let_the_dead_linger();
    let mut processes = vec![Process::start(&world)];
    load(&mut world).await;
    world.check("at first").await;
    let before = generations(&world).await;
    let (mut joined, mut left, mut died, mut lost, mut moved) = (0, 0, 0, 0, 0);
    let mut owners: BTreeMap<u32, usize> = BTreeMap::new();
    for round in 0..ROUNDS {
        match random.random_range(0..10) {
            0..4 if processes.len() < 5 => {
                processes.push(Process::start(&world));
                joined += 1;
            }
            4 | 5 if !processes.is_empty() => {
                let process = processes.swap_remove(random.random_range(0..processes.len()));
                process.is_deaf.send_replace(false);
                process.run.stop().await;
                left += 1;
            }
            6 | 7 if !processes.is_empty() => {
                processes.swap_remove(random.random_range(0..processes.len())).run.kill().await;
                died += 1;
            }
            8 => world.log.end_sessions(),
            9 if !processes.is_empty() => {
                let process = &processes[random.random_range(0..processes.len())];
                process.is_deaf.send_modify(|is_deaf| *is_deaf = !*is_deaf);
                world.log.end_oldest_session(GROUP);
                lost += 1;
            }
            _ => {}
        }
        load(&mut world).await;
        tokio::time::sleep(Duration::from_millis(random.random_range(0..8))).await;
        for process in &processes {
            assert!(process.run.is_running(), "seed {seed}, round {round}: a process ended");
            for number in process.owned() {
                let owner = Arc::as_ptr(&process.owned) as usize;
                moved += usize::from(owners.insert(number, owner).is_some_and(|before| before != owner));
            }
        }
        if round % 25 == 24 {
            world.log.end_sessions();
            if processes.is_empty() {
                processes.push(Process::start(&world));
            }
            for process in &processes {
                process.is_deaf.send_replace(false);
            }
            world.check(&format!("seed {seed}, round {round}")).await;
        }
    }
    println!("{joined} joined, {left} left, {died} died, {lost} lost their session, partitions moved {moved} times");
    assert!(joined > 10 && left > 5 && died > 5 && lost > 5 && moved > 50, "the rounds show nothing");
    assert_eq!(generations(&world).await, before, "seed {seed}: a partition that moves is not counted anew");
    for process in processes {
        process.is_deaf.send_replace(false);
        process.run.stop().await;
    }
}

/// Membership of a group that does what the test says.
#[derive(Debug)]
struct Scripted(mpsc::UnboundedReceiver<News>);

#[async_trait]
impl Membership for Scripted {
    async fn next(&mut self) -> News {
        match self.0.recv().await {
            Some(news) => news,
            None => std::future::pending().await,
        }
    }
    async fn leave(self: Box<Self>) {}
}

fn scripted(world: &World) -> (Run, mpsc::UnboundedSender<News>) {
    let (sender, news) = mpsc::unbounded_channel();
    (Process::start_with(world, Some(news)).run, sender)
}

/// Taken away and given back before the worker has ended, again and again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_comes_back_at_once_is_counted_on() {
    let mut world = World::new(PARTITIONS).await;
    let (run, news) = scripted(&world);
    let mut random = SmallRng::seed_from_u64(5);
    for _ in 0..100 {
        let owned: Assignment = (0..PARTITIONS).filter(|_| random.random_bool(0.6)).collect();
        news.send(Ok(owned)).unwrap();
        if random.random_bool(0.5) {
            load(&mut world).await;
        }
        tokio::task::yield_now().await;
    }
    assert!(run.is_running());
    news.send(Ok((0..PARTITIONS).collect())).unwrap();
    world.check("all came back").await;
    let before = generations(&world).await;
    news.send(Ok(Assignment::new())).unwrap();
    news.send(Ok((0..PARTITIONS).collect())).unwrap();
    load(&mut world).await;
    world.check("and once more").await;
    assert_eq!(generations(&world).await, before);
    run.stop().await;
}

/// Whoever goes on with a partition that is another's does no harm, but has no business there.
#[tokio::test]
async fn a_partition_that_was_taken_away_is_counted_no_more() {
    let mut world = World::new(2).await;
    let (run, news) = scripted(&world);
    news.send(Ok([0, 1].into())).unwrap();
    load(&mut world).await;
    world.check("both are its own").await;
    news.send(Ok([0].into())).unwrap();
    let is_behind =
        async |world: &World| world.stored(1).await.unwrap().meta.next_offset < world.log.bounds(1).await.unwrap().end;
    // Until its worker has ended it may still count some.
    let mut rounds = 0;
    while !is_behind(&world).await {
        assert!(rounds < 500, "it goes on with a partition that was taken away");
        load(&mut world).await;
        tokio::time::sleep(Duration::from_millis(20)).await;
        rounds += 1;
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(is_behind(&world).await, "it was slow, and not stopped");
    let end = world.log.bounds(0).await.unwrap().end;
    world.until("the other one goes on", async || world.stored(0).await.unwrap().meta.next_offset >= end).await;
    news.send(Ok([1].into())).unwrap();
    let end = world.log.bounds(1).await.unwrap().end;
    world.until("it came back", async || world.stored(1).await.unwrap().meta.next_offset >= end).await;
    world.check("and nothing was lost").await;
    run.stop().await;
}

#[tokio::test]
async fn a_process_without_partitions_stops_when_it_is_told() {
    let world = World::new(1).await;
    let first = Process::start(&world);
    world.until("it owns the only one", async || first.owned().len() == 1).await;
    let idle = Process::start(&world);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(idle.run.is_running() && idle.owned().is_empty());
    idle.run.stop().await;
    first.run.stop().await;
}

#[tokio::test]
async fn a_group_that_fails_ends_the_process() {
    let world = World::new(1).await;
    let (run, news) = scripted(&world);
    news.send(Ok([0].into())).unwrap();
    world.settled().await;
    news.send(Err(LogError::Failed("no right to the group".to_owned()))).unwrap();
    let error = run.ends().await;
    assert!(matches!(&error, CounterError::Group { name, .. } if name == GROUP), "{error}");
    assert!(error.to_string().contains("no right to the group"), "{error}");
}
