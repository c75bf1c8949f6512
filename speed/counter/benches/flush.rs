//! What a flush costs the Redis server, beside the flush script (which a cluster gets), beside pipelined HINCRBY of the same
//! changes, and beside plain HSET, which compares nothing and is the limit. And how long a flush takes, which is two round
//! trips, of the script one. `cargo bench -p counter --bench flush [-- CHANGES]`, 1,000 changed counts per flush by
//! default. The runs are interleaved, the stored counts are compared before a time counts. With few ads most changes are
//! of counts that are there, with many most are of new ones.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, clippy::disallowed_macros)]

mod measure;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use clicks::event::Class;
use clicks::id::{AdId, Region, TopicId};
use clicks::keyspace::{PartitionKeys, hour_field};
use clicks::live::{CountKey, Expected, Flush, FlushOutcome, Generation, Meta, Stage};
use clicks::position::{Offset, PartitionId};
use clicks::time::{Day, Span};
use clicks::window::Minute;
use measure::{argument, cpu_of, median};
use platform::store::{FLUSH_SCRIPT, RedisOptions, RedisStore, SpeedStore, flush_arguments};
use promises::services::Redis;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

const ROUNDS: u64 = 5;
/// Of one round: a minute of flushes, a new minute every twenty of them.
const FLUSHES: usize = 200;
const ADS: [u32; 2] = [1_500, 20_000];

/// Clicks that are new with each flush.
type Changes = Vec<BTreeMap<CountKey, u64>>;
type Totals = BTreeMap<String, u64>;

fn day() -> Day {
    "2026-03-01".parse().unwrap()
}

fn changes(seed: u64, per_flush: usize, ads: u32) -> Changes {
    let mut random = SmallRng::seed_from_u64(seed);
    let noon = Minute::of(day().start() + Span::hours(12));
    let flush = |n: usize| {
        let minute = Minute::from_number(noon.number() + (n / 20) as i64);
        let mut changed = BTreeMap::new();
        while changed.len() < per_flush {
            let ad = AdId::parse(&format!("ad-{}", random.random_range(0..ads))).unwrap();
            changed.insert(CountKey { minute, class: Class::Valid, ad }, random.random_range(1..4));
        }
        changed
    };
    (0..FLUSHES).map(flush).collect()
}

fn partition(seed: u64) -> PartitionId {
    PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(u128::from(seed)), number: 0 }
}

/// Every flush as the worker makes it: absolute values, compared and set in one step.
fn steps(changes: &Changes) -> Vec<Flush> {
    let generation = Generation::from_u128(1);
    let mut meta = Meta::new(Offset::ZERO, day(), day(), Offset::ZERO);
    let (mut expected, mut sums) = (Expected::Nothing, BTreeMap::<CountKey, u64>::new());
    let step = |changed: &BTreeMap<CountKey, u64>| {
        let mut counts = Vec::with_capacity(changed.len());
        for (key, clicks) in changed {
            let sum = sums.entry(key.clone()).or_default();
            *sum += clicks;
            counts.push((key.clone(), *sum));
        }
        let seen: u64 = changed.values().sum();
        meta.next_offset = meta.next_offset.plus(seen);
        meta.append_time = counts[0].0.minute.start();
        meta.totals.seen += seen;
        meta.totals.counted += seen;
        let step = Flush {
            expected,
            generation,
            stage: Stage::Live,
            meta: meta.clone(),
            counts,
            late: Vec::new(),
            drop_hours: Vec::new(),
            drop_nights: Vec::new(),
        };
        expected = Expected::at(generation, &meta);
        step
    };
    changes.iter().map(step).collect()
}

/// How long each of them took.
async fn twofold(store: &RedisStore, partition: &PartitionId, steps: &[Flush]) -> Vec<Duration> {
    let mut took = Vec::with_capacity(steps.len());
    for step in steps {
        let began = Instant::now();
        assert_eq!(store.flush(partition, step).await.unwrap(), FlushOutcome::Applied);
        took.push(began.elapsed());
    }
    took
}

async fn by_script(
    link: &mut redis::aio::MultiplexedConnection,
    partition: &PartitionId,
    steps: &[Flush],
) -> Vec<Duration> {
    let script = redis::Script::new(FLUSH_SCRIPT);
    let mut took = Vec::with_capacity(steps.len());
    for step in steps {
        let began = Instant::now();
        let (keys, arguments) = flush_arguments(partition, step);
        let mut call = script.prepare_invoke();
        keys.iter().for_each(|key| _ = call.key(key));
        arguments.iter().for_each(|argument| _ = call.arg(argument));
        let answer: Vec<u64> = call.invoke_async(link).await.unwrap();
        assert_eq!(answer, [1]);
        took.push(began.elapsed());
    }
    took
}

async fn run(command: &redis::Pipeline, link: &mut redis::aio::MultiplexedConnection) {
    command.exec_async(link).await.unwrap();
}

/// As most streaming jobs do it: one increment per change, and the offset beside them.
async fn hincrby(link: &mut redis::aio::MultiplexedConnection, hash: &str, changes: &Changes) {
    for changed in changes {
        let mut pipeline = redis::pipe();
        for (key, clicks) in changed {
            pipeline.hincr(hash, hour_field(key), *clicks).ignore();
        }
        pipeline.hincr(format!("{hash}:offset"), "next", changed.values().sum::<u64>()).ignore();
        run(&pipeline, link).await;
    }
}

/// The least that Redis can do to store as many fields: nothing is read or compared.
async fn hset(link: &mut redis::aio::MultiplexedConnection, hash: &str, changes: &Changes) {
    let mut sums = BTreeMap::<&CountKey, u64>::new();
    for changed in changes {
        let mut pipeline = redis::pipe();
        let mut fields = Vec::with_capacity(changed.len());
        for (key, clicks) in changed {
            let sum = sums.entry(key).or_default();
            *sum += clicks;
            fields.push((hour_field(key), *sum));
        }
        pipeline.hset_multiple(hash, &fields).ignore();
        run(&pipeline, link).await;
    }
}

async fn stored(link: &mut redis::aio::MultiplexedConnection, hash: &str) -> Totals {
    redis::cmd("HGETALL").arg(hash).query_async(link).await.unwrap()
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let per_flush = argument().unwrap_or(1_000);
    let server = Redis::start().await.unwrap();
    let process = server.process_id().unwrap();
    let store = RedisStore::connect(&RedisOptions::new(server.url())).unwrap();
    let patient = redis::AsyncConnectionConfig::new().set_response_timeout(Some(Duration::from_secs(60)));
    let client = redis::Client::open(server.url()).unwrap();
    let mut link = client.get_multiplexed_async_connection_with_config(&patient).await.unwrap();
    let fields = (FLUSHES * per_flush) as f64;
    println!("{FLUSHES} flushes of {per_flush} changed counts a round; CPU of the Redis server per count");
    for (number, ads) in ADS.into_iter().enumerate() {
        let mut rows = Vec::new();
        let (mut took, mut took_by_script) = (Vec::new(), Vec::new());
        for round in 1..=ROUNDS {
            let seed = number as u64 * ROUNDS + round;
            let (ours, scripts) = (partition(2 * seed), partition(2 * seed + 1));
            let changes = changes(seed, per_flush, ads);
            let steps = steps(&changes);
            let mut spent = Vec::new();
            for peer in 0..4 {
                let before = cpu_of(process);
                match peer {
                    0 => took.extend(twofold(&store, &ours, &steps).await),
                    1 => took_by_script.extend(by_script(&mut link, &scripts, &steps).await),
                    2 => hincrby(&mut link, "peer", &changes).await,
                    _ => hset(&mut link, "limit", &changes).await,
                }
                spent.push((cpu_of(process) - before).as_nanos() as f64 / fields / 1_000.0);
            }
            let hour = Minute::of(day().start() + Span::hours(12)).hour();
            let hash = |partition: &PartitionId| PartitionKeys::new(partition).hour(Generation::from_u128(1), hour);
            let want = stored(&mut link, &hash(&ours)).await;
            assert_eq!(want.values().sum::<u64>(), changes.iter().flat_map(BTreeMap::values).sum::<u64>());
            for other in [&hash(&scripts), "peer", "limit"] {
                assert!(stored(&mut link, other).await == want, "the answers differ: no time counts");
            }
            let _: () = redis::cmd("FLUSHALL").query_async(&mut link).await.unwrap();
            let [flush, script, peer, limit] = spent[..] else { unreachable!("four were measured") };
            println!(
                "{ads} ads, round {round}: twofold {flush:.2} us, script {script:.2} us, HINCRBY {peer:.2} us, HSET {limit:.2} us"
            );
            rows.push(spent);
        }
        let ratio = |over: usize| median(rows.iter().map(|spent| spent[over] / spent[0]).collect());
        println!(
            "{ads} ads: pipelined HINCRBY / flush {:.2}, script / flush {:.2}, plain HSET / flush {:.2} (medians)",
            ratio(2),
            ratio(1),
            ratio(3)
        );
        let millis = |took: Vec<Duration>| median(took.iter().map(|time| time.as_secs_f64() * 1_000.0).collect());
        println!("{ads} ads: one flush takes {:.2} ms, by the script {:.2} ms", millis(took), millis(took_by_script));
    }
}
