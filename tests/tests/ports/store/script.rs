//! The flush script, argument for argument; flushes go by it on a cluster.

use clicks::live::FlushOutcome;
use clicks::position::PartitionId;
use platform::store::{FLUSH_SCRIPT, RedisOptions, RedisStore, SpeedStore, StoreError, conformance, flush_arguments};
use promises::services::{Redis, RedisCluster, shared};

use super::connect;
use super::worker::{Worker, new_partition, query, scrub};

/// Name and content of every key of a partition, as Redis would move them to another server.
pub(super) async fn dump(redis: &Redis, partition: &PartitionId) -> String {
    let script = "local keys = redis.call('KEYS', ARGV[1]) table.sort(keys) local out = {}
        for _, key in ipairs(keys) do out[#out + 1] = key .. ' ' .. redis.sha1hex(redis.call('DUMP', key)) end
        return table.concat(out, '\\n')";
    redis.cli(&["EVAL", script, "0", &format!("tf1:{{{}.{}.*", partition.region, partition.topic)]).await.unwrap()
}

async fn eval(redis: &Redis, keys: &[String], arguments: &[String]) -> anyhow::Result<String> {
    let size = keys.len().to_string();
    let mut words = vec!["EVAL", FLUSH_SCRIPT, &size];
    words.extend(keys.iter().chain(arguments).map(String::as_str));
    redis.cli(&words).await
}

/// Whatever is wrong, and wherever: refused, and nothing is half-written. What a count and its field hold is the one thing
/// that the script does not look at, see below.
#[tokio::test(flavor = "multi_thread")]
async fn every_argument_invalid_in_turn_changes_nothing() {
    let redis = &shared().await.unwrap().redis;
    let store = connect(redis);
    let partition = new_partition();
    let mut worker = Worker::begin(1);
    worker.observe(300);
    worker.flush(&store, &partition).await.unwrap();
    worker.observe(120);
    let mut step = worker.step();
    // Few of each, and something to drop.
    step.counts.truncate(3);
    step.late.truncate(1);
    step.drop_hours = vec![clicks::window::Hour::from_number(1)];
    step.drop_nights = vec!["2020-01-01".parse().unwrap()];
    assert!(!step.late.is_empty() && step.counts.len() == 3);
    let (keys, arguments) = flush_arguments(&partition, &step);
    let before = dump(redis, &partition).await;
    assert_eq!(before.lines().count(), 5, "live, meta, an hour, a night, the changes:\n{before}");

    let refused = async |what: &str, keys: &[String], arguments: &[String]| match eval(redis, keys, arguments).await {
        Ok(answer) => assert_eq!(answer.lines().next(), Some("0"), "{what}: {answer}"),
        Err(error) => assert!(format!("{error:#}").contains("TFREFUSED"), "{what}: {error:#}"),
    };
    let counts = arguments.len() - 2 * (step.counts.len() + step.late.len()) - 2;
    let is_looked_at = |position| position < counts || [counts, counts + 1 + 2 * step.counts.len()].contains(&position);
    let mut tried = 0;
    for position in 0..arguments.len() {
        let field = if position > 7 { arguments[position - 1].as_str() } else { "" };
        for bad in ["", "x/ y", "-1", "1.5", "4611686018427387904"] {
            let valid = match field {
                "fingerprint" => bad.is_empty() || bad == "4611686018427387904",
                "append_time" | "drift_start" | "drift_end" | "lost_start" | "lost_end" => {
                    matches!(bad, "-1" | "4611686018427387904")
                }
                _ => false,
            };
            if !valid && is_looked_at(position) {
                let mut spoilt = arguments.clone();
                spoilt[position] = bad.to_owned();
                refused(&format!("argument {} = `{bad}`", position + 1), &keys, &spoilt).await;
                tried += 1;
            }
        }
        let mut shorter = arguments.clone();
        shorter.remove(position);
        refused(&format!("without argument {}", position + 1), &keys, &shorter).await;
        let mut longer = arguments.clone();
        longer.insert(position, arguments[position].clone());
        refused(&format!("argument {} twice", position + 1), &keys, &longer).await;
        assert_eq!(dump(redis, &partition).await, before, "argument {}", position + 1);
    }
    for position in 0..keys.len() {
        let mut spoilt = keys.clone();
        spoilt[position] = keys[position].replace("tf1:", "tf0:");
        refused(&format!("key {} foreign", position + 1), &spoilt, &arguments).await;
        spoilt.remove(position);
        refused(&format!("without key {}", position + 1), &spoilt, &arguments).await;
        assert_eq!(dump(redis, &partition).await, before, "key {}", position + 1);
    }
    assert!(tried > 250, "{tried}");
    assert_eq!(store.flush(&partition, &step).await.unwrap(), FlushOutcome::Applied, "it was a good flush");
    assert_ne!(dump(redis, &partition).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_of_another_type_is_refused_before_anything_is_written() {
    let redis = &shared().await.unwrap().redis;
    let store = connect(redis);
    for position in 0..8 {
        let partition = new_partition();
        let mut worker = Worker::begin(1);
        worker.observe(150);
        worker.flush(&store, &partition).await.unwrap();
        worker.observe(150);
        let (keys, arguments) = flush_arguments(&partition, &worker.step());
        let Some(key) = keys.get(position) else { break };
        redis.cli(&["DEL", key]).await.unwrap();
        redis.cli(&["LPUSH", key, "x"]).await.unwrap();
        // What a sweep could delete, and what readers could spare themselves, is not worth a flush.
        if key.ends_with(":retired") || key.ends_with(":changes") {
            assert_eq!(worker.flush(&store, &partition).await.unwrap(), FlushOutcome::Applied, "{key}");
            continue;
        }
        let before = dump(redis, &partition).await;
        let of_script = format!("{:#}", eval(redis, &keys, &arguments).await.unwrap_err());
        let refusal = worker.flush(&store, &partition).await.unwrap_err().to_string();
        for refusal in [&refusal, &of_script] {
            assert!(refusal.contains(key.as_str()) && refusal.contains("list"), "{refusal}");
        }
        assert!(refusal.contains(&partition.to_string()), "{refusal}");
        assert_eq!(dump(redis, &partition).await, before, "key {}", position + 1);
    }
}

/// Readers that follow the changes are told when some writer does not tell of them, or somebody else writes there.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_with_the_changes_is_seen_by_readers_and_hinders_no_flush() {
    let redis = &shared().await.unwrap().redis;
    let store = connect(redis);
    type Spoil = &'static [&'static str];
    let cases: [(&str, Spoil); 6] = [
        ("an end is missing", &["XTRIM", "KEY", "MAXLEN", "0"]),
        ("all of it is missing", &["DEL", "KEY"]),
        ("it is something else", &["SET", "KEY", "x"]),
        ("a foreign entry", &["XADD", "KEY", "*", "h:1", "x"]),
        ("a foreign end", &["XADD", "KEY", "*", "at", "1:0"]),
        ("the last id of all", &["XADD", "KEY", "18446744073709551615-18446744073709551615", "at", "1:0"]),
    ];
    for (name, spoil) in cases {
        let partition = new_partition();
        let mut worker = Worker::begin(1);
        worker.observe(50);
        worker.flush(&store, &partition).await.unwrap();
        let mark = store.read_changes(&partition, None).await.unwrap().unwrap().mark;
        worker.observe(50);
        let (keys, _) = flush_arguments(&partition, &worker.step());
        worker.flush(&store, &partition).await.unwrap();
        assert!(store.read_changes(&partition, Some(&mark)).await.unwrap().is_some(), "{name}: nothing is wrong yet");
        let spoil: Vec<&str> = spoil.iter().map(|word| if *word == "KEY" { keys[5].as_str() } else { word }).collect();
        redis.cli(&["DEL", &keys[5]]).await.unwrap();
        redis.cli(&spoil).await.unwrap();
        for since in [None, Some(&mark)] {
            let found = store.read_changes(&partition, since).await;
            assert!(matches!(found, Ok(None) | Err(StoreError::Content { .. })), "{name}: {found:?}");
        }
        let before = store.read(&partition, &query()).await.unwrap().unwrap();
        worker.observe(50);
        assert_eq!(worker.flush(&store, &partition).await.unwrap(), FlushOutcome::Applied, "{name}");
        let after = store.read(&partition, &query()).await.unwrap().unwrap();
        assert!(after.meta.next_offset > before.meta.next_offset, "{name}");
        scrub(&after);
        // A mark of before never passes for one of now.
        let found = store.read_changes(&partition, Some(&mark)).await;
        assert!(matches!(found, Ok(None) | Err(StoreError::Content { .. })), "{name}: {found:?}");
    }
}

/// An HSET cannot fail on what a field holds: the flush is applied as a whole, and what is no count is never read as one.
#[tokio::test(flavor = "multi_thread")]
async fn a_count_that_is_none_leaves_no_half_of_a_flush() {
    let redis = &shared().await.unwrap().redis;
    let store = connect(redis);
    for bad in ["", "x/ y", "-1", "99999999999999999999"] {
        for position in [0, 1, 2, 3] {
            let partition = new_partition();
            let mut worker = Worker::begin(1);
            worker.observe(10);
            worker.flush(&store, &partition).await.unwrap();
            worker.observe(2);
            let step = worker.step();
            let (keys, mut arguments) = flush_arguments(&partition, &step);
            let first = arguments.len() - 2 * step.counts.len();
            arguments[first + position] = bad.to_owned();
            assert_eq!(eval(redis, &keys, &arguments).await.unwrap(), "1", "`{bad}`");
            let stored = redis.cli(&["HMGET", &keys[6], &arguments[first], &arguments[first + 2]]).await.unwrap();
            let written = format!("{}\n{}", arguments[first + 1], arguments[first + 3]);
            assert_eq!(stored, written.trim_end_matches('\n'), "`{bad}`");
            assert_eq!(redis.cli(&["HGET", &keys[3], "next_offset"]).await.unwrap(), "12");
            let read = store.read(&partition, &query()).await;
            assert!(matches!(read, Err(StoreError::Content { .. })), "`{bad}`: {read:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_script_conforms_and_a_lost_one_is_loaded_again() {
    let cluster = RedisCluster::start().await.unwrap();
    let options = RedisOptions { cluster: true, ..RedisOptions::new(cluster.url()) };
    let store = RedisStore::connect(&options).unwrap();
    conformance::suite(&store).await;
    let partition = new_partition();
    let mut worker = Worker::begin(1);
    for _ in 0..5 {
        for node in cluster.masters().await.unwrap() {
            cluster.cli(node, &["SCRIPT", "FLUSH"]).await.unwrap();
        }
        worker.observe(50);
        assert_eq!(worker.flush(&store, &partition).await.unwrap(), FlushOutcome::Applied);
    }
    scrub(&store.read(&partition, &query()).await.unwrap().unwrap());
}
