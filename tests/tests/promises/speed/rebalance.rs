//! Three `twofold speed` processes share a topic while clicks never stop: one leaves, one is killed, one is paused beyond
//! its session and goes on as a zombie. The counts stay exact (S1, S2), and what moves is handed over, not counted anew.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use counter::{Options, Partitions};
use platform::ledger::Ledger;
use platform::objects::Objects;
use promises::services::{Process, free_port, new_folder, shared};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use tokio::task::JoinHandle;

use super::{PARTITIONS, PATIENCE, Place, Sender};
use promises::binary::twofold;

/// The least that brokers allow.
const SESSION: Duration = Duration::from_secs(6);

/// One `twofold speed`.
struct Speed {
    process: Process,
    admin: u16,
}

impl Speed {
    fn start(config: &PathBuf, name: &str) -> Self {
        let admin = free_port().unwrap();
        let mut command = twofold();
        command.env("TWOFOLD__SPEED__ADMIN", format!("127.0.0.1:{admin}")).arg("--config").arg(config).arg("speed");
        Speed { process: Process::spawn(name, command).unwrap(), admin }
    }

    /// A metric, all its labels added up; `None` while the process does not answer.
    async fn metric(&self, name: &str) -> Option<f64> {
        let (mut sum, mut found) = (0.0, false);
        for line in self.metrics().await?.lines() {
            let rest = line.strip_prefix(name).filter(|rest| rest.starts_with(['{', ' ']));
            if let Some(value) = rest.and_then(|rest| rest.rsplit_once(' ')) {
                sum += value.1.parse::<f64>().unwrap();
                found = true;
            }
        }
        found.then_some(sum)
    }

    async fn metrics(&self) -> Option<String> {
        let client = reqwest::Client::builder().timeout(Duration::from_secs(2)).build().unwrap();
        let answer = client.get(format!("http://127.0.0.1:{}/metrics", self.admin)).send().await.ok()?;
        answer.text().await.ok()
    }

    async fn assigned(&self) -> u32 {
        self.metric("twofold_speed_partitions_assigned").await.unwrap_or(0.0) as u32
    }

    /// Partitions of which this process shows a lag.
    async fn shown(&self) -> Vec<u32> {
        let text = self.metrics().await.unwrap_or_default();
        let label = |line: &str| {
            let rest = line.strip_prefix("twofold_speed_lag_records{partition=\"")?;
            rest.split_once('"')?.0.parse().ok()
        };
        text.lines().filter_map(label).collect()
    }
}

/// Waits until the processes own these numbers of partitions.
async fn own(what: &str, processes: &mut [(&mut Speed, u32)]) {
    let began = Instant::now();
    loop {
        let mut owned = Vec::new();
        for (speed, _) in processes.iter_mut() {
            assert!(speed.process.exited().unwrap().is_none(), "{what}: {}", speed.process.log_tail());
            owned.push(speed.assigned().await);
        }
        let wanted: Vec<_> = processes.iter().map(|(_, wanted)| *wanted).collect();
        if owned == wanted {
            println!("{what}: {owned:?} after {:?}", began.elapsed());
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{what}: {owned:?} instead of {wanted:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Sends clicks until it is told to end; returns how many.
fn load(place: &Arc<Place>, end: &Arc<AtomicBool>) -> JoinHandle<u64> {
    let (place, end) = (place.clone(), end.clone());
    tokio::spawn(async move {
        let mut sender = Sender { random: SmallRng::seed_from_u64(17), sent: Vec::new(), day: place.began.day() };
        let mut sent = 0;
        while !end.load(Ordering::Relaxed) {
            sender.send(&place.log, 100).await;
            sent += 100;
            tokio::time::sleep(Duration::from_millis(40)).await;
        }
        sent
    })
}

async fn generations(place: &Place) -> Vec<String> {
    let mut generations = Vec::new();
    for number in 0..PARTITIONS {
        generations.push(place.stored(number).await.unwrap().generation.to_string());
    }
    generations
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_stay_exact_while_processes_join_leave_die_and_come_back() {
    let services = shared().await.unwrap();
    let folder = new_folder("rebalance").unwrap();
    let storage = folder.join("objects");
    std::fs::create_dir(&storage).unwrap();
    let ledger = Ledger::new(Objects::open_folder(storage.clone()).unwrap());
    let place = Arc::new(Place::with_ledger(&services.redis, ledger).await);
    let config = folder.join("twofold.toml");
    let settings = format!(
        "region = \"eu\"\n[kafka]\nbrokers = \"{}\"\ntopic = \"{}\"\n[kafka.client]\n\"session.timeout.ms\" = \"{}\"\n\
         [redis]\nurl = \"{}\"\n[storage]\nurl = \"file://{}\"\n",
        place.options.brokers,
        place.options.topic,
        SESSION.as_millis(),
        services.redis.url(),
        storage.display(),
    );
    std::fs::write(&config, settings).unwrap();

    let end = Arc::new(AtomicBool::new(false));
    let sending = load(&place, &end);
    let mut a = Speed::start(&config, "speed-a");
    own("one process", &mut [(&mut a, 4)]).await;
    place.settled().await;
    let before = generations(&place).await;

    let mut b = Speed::start(&config, "speed-b");
    own("another one joins", &mut [(&mut a, 2), (&mut b, 2)]).await;
    let mut c = Speed::start(&config, "speed-c");
    let began = Instant::now();
    while c.assigned().await != 1 || a.assigned().await + b.assigned().await != 3 {
        assert!(began.elapsed() < PATIENCE, "the third process gets nothing");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    assert!(c.process.terminate().await.unwrap().success(), "{}", c.process.log_tail());
    own("one leaves", &mut [(&mut a, 2), (&mut b, 2)]).await;
    b.process.kill().unwrap();
    own("one is killed", &mut [(&mut a, 4)]).await;

    let mut d = Speed::start(&config, "speed-d");
    own("one starts again", &mut [(&mut a, 2), (&mut d, 2)]).await;
    d.process.pause().unwrap();
    own("one is paused beyond its session", &mut [(&mut a, 4)]).await;
    // So that others have moved on when it does.
    tokio::time::sleep(Duration::from_secs(1)).await;
    d.process.resume().unwrap();
    own("it goes on", &mut [(&mut a, 2), (&mut d, 2)]).await;
    let log = d.process.log();
    assert!(log.contains("was_lost=true"), "it never learned that it was a zombie: {}", d.process.log_tail());

    end.store(true, Ordering::Relaxed);
    let sent = sending.await.unwrap();
    let totals = place.check().await;
    assert_eq!(totals.seen, sent);
    assert!(totals.duplicate > 50 && totals.late > 10, "{totals:?}: the clicks show nothing");
    assert_eq!(generations(&place).await, before, "what moved was handed over, not counted anew");
    println!("{totals:?}");

    for speed in [&a, &d] {
        let began = Instant::now();
        while speed.shown().await.len() != 2 {
            assert!(began.elapsed() < PATIENCE, "lag of partitions that another counts: {:?}", speed.shown().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        assert!(speed.metric("twofold_speed_rebalances_total").await.unwrap() >= 3.0);
        let records = speed.metric("twofold_log_group_records_total").await;
        assert_eq!(records, Some(0.0), "the group's consumer read records");
    }
    assert_eq!(committed(&place).await, vec![Offset::Invalid; PARTITIONS as usize], "nobody commits anything");
    for mut speed in [a, d] {
        assert!(speed.process.terminate().await.unwrap().success(), "{}", speed.process.log_tail());
    }
}

/// What the group has committed.
async fn committed(place: &Place) -> Vec<Offset> {
    let (brokers, topic) = (place.options.brokers.clone(), place.options.topic.clone());
    let ask = move || {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", brokers).set("group.id", format!("twofold-speed.{topic}"));
        let consumer: BaseConsumer = config.create().unwrap();
        let mut asked = TopicPartitionList::new();
        asked.add_partition_range(&topic, 0, PARTITIONS as i32 - 1);
        let found = consumer.committed_offsets(asked, PATIENCE).unwrap();
        found.elements().iter().map(|element| element.offset()).collect()
    };
    tokio::task::spawn_blocking(ask).await.unwrap()
}

fn grouped() -> Options {
    Options { partitions: Partitions::Group("rounds".to_owned()), ..Options::default() }
}

/// Rounds of arrivals, departures and crashes within one process, where they are quick.
#[tokio::test(flavor = "multi_thread")]
async fn counts_stay_exact_through_many_rebalances() {
    const ROUNDS: usize = 20;
    let seed = std::env::var("TWOFOLD_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(7);
    println!("TWOFOLD_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let place = Arc::new(Place::new(&shared().await.unwrap().redis).await);
    let end = Arc::new(AtomicBool::new(false));
    let sending = load(&place, &end);
    let mut runs = vec![place.start_with(grouped())];
    place.settled().await;
    let before = generations(&place).await;
    let (mut joined, mut left, mut crashed) = (0, 0, 0);
    for _ in 0..ROUNDS {
        match random.random_range(0..4) {
            0 | 1 if runs.len() < 4 => {
                runs.push(place.start_with(grouped()));
                joined += 1;
            }
            2 if runs.len() > 1 => {
                let (run, stop) = runs.swap_remove(random.random_range(0..runs.len()));
                stop.cancel();
                run.await.unwrap().unwrap();
                left += 1;
            }
            3 if runs.len() > 1 => {
                let (run, _) = runs.swap_remove(random.random_range(0..runs.len()));
                run.abort();
                assert!(run.await.unwrap_err().is_cancelled());
                crashed += 1;
            }
            _ => {}
        }
        // Shorter than a rebalance at times, so that they meet.
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1_500))).await;
        assert!(runs.iter().all(|(run, _)| !run.is_finished()), "seed {seed}: a process ended");
    }
    println!("{joined} joined, {left} left, {crashed} crashed");
    assert!(joined > 2 && left + crashed > 2, "seed {seed}: the rounds show nothing");
    end.store(true, Ordering::Relaxed);
    let sent = sending.await.unwrap();
    assert_eq!(place.check().await.seen, sent, "seed {seed}");
    assert_eq!(generations(&place).await, before, "seed {seed}: what moved was handed over, not counted anew");
    for (run, stop) in runs {
        stop.cancel();
        run.await.unwrap().unwrap();
    }
}
