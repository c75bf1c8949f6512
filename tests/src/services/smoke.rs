//! The services start, behave as their handles say, and leave nothing behind.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use futures::TryStreamExt;
use object_store::aws::AmazonS3Builder;
use object_store::{ObjectStore, ObjectStoreExt, PutMode};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::producer::{FutureProducer, FutureRecord};
use rdkafka::{ClientConfig, Timestamp};

use super::{Kafka, KafkaOptions, PageView, Process, Redis, duckdb, new_folder, open_page, shared};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Sends one record to a topic that stamps append times and returns its time, in milliseconds.
async fn append_time(kafka: &Kafka, topic: &str) -> Result<i64> {
    let producer: FutureProducer = client(kafka).set("acks", "all").create()?;
    let record = FutureRecord::<str, str>::to(topic).payload("click");
    let delivery = producer.send(record, Duration::from_secs(30)).await.map_err(|(error, _)| error)?;
    match delivery.timestamp {
        Timestamp::LogAppendTime(time) | Timestamp::CreateTime(time) => Ok(time),
        Timestamp::NotAvailable => anyhow::bail!("no append time in {delivery:?}"),
    }
}

async fn create_topic(kafka: &Kafka, topic: &str, replicas: i32, in_sync: &str) -> Result<()> {
    let admin: AdminClient<_> = client(kafka).create()?;
    let new = NewTopic::new(topic, 1, TopicReplication::Fixed(replicas))
        .set("message.timestamp.type", "LogAppendTime")
        .set("min.insync.replicas", in_sync);
    for created in admin.create_topics([&new], &AdminOptions::new()).await? {
        created.map_err(|(topic, code)| anyhow::anyhow!("create {topic}: {code}"))?;
    }
    Ok(())
}

fn client(kafka: &Kafka) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.brokers()).set("message.timeout.ms", "30000");
    config
}

fn real_time() -> Result<i64> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis().try_into()?)
}

#[tokio::test]
async fn shared_services_answer() -> Result<()> {
    let began = Instant::now();
    let services = shared().await?;
    println!("all three were up after {:?}", began.elapsed());

    create_topic(&services.kafka, "smoke", 1, "1").await?;
    let difference = append_time(&services.kafka, "smoke").await? - real_time()?;
    assert!(difference.abs() < 5_000, "an unshifted clock is off by {difference} ms");
    let refused = services.kafka.shift_clock(DAY).await;
    assert!(refused.is_err(), "the shared clock may be moved");

    assert_eq!(services.redis.cli(&["PING"]).await?, "PONG");
    assert_eq!(services.redis.cli(&["CONFIG", "GET", "maxmemory-policy"]).await?, "maxmemory-policy\nnoeviction");
    assert!(services.redis.cli(&["INCR"]).await.is_err(), "an error of Redis is taken for an answer");

    services.s3.create_bucket("smoke")?;
    let bucket = AmazonS3Builder::new()
        .with_endpoint(services.s3.endpoint())
        .with_access_key_id(services.s3.access_key())
        .with_secret_access_key(services.s3.secret_key())
        .with_region(services.s3.region())
        .with_bucket_name("smoke")
        .with_allow_http(true)
        .build()?;
    let path = object_store::path::Path::from("a/b");
    bucket.put_opts(&path, "first".into(), PutMode::Create.into()).await?;
    let second = bucket.put_opts(&path, "second".into(), PutMode::Create.into()).await;
    assert!(matches!(second, Err(object_store::Error::AlreadyExists { .. })), "{second:?}");
    assert_eq!(bucket.get(&path).await?.bytes().await?, "first");
    assert_eq!(bucket.list(None).try_collect::<Vec<_>>().await?.len(), 1);
    assert_eq!(std::fs::read(services.s3.root().join("smoke/a/b"))?, b"first");
    Ok(())
}

#[test]
fn shared_services_outlive_a_runtime() -> Result<()> {
    for _ in 0..2 {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        assert_eq!(runtime.block_on(async { shared().await?.redis.cli(&["PING"]).await })?, "PONG");
    }
    Ok(())
}

#[tokio::test]
async fn a_shifted_clock_moves_append_times() -> Result<()> {
    let mut kafka = Kafka::start(KafkaOptions { shifted_clock: true, ..KafkaOptions::default() }).await?;
    create_topic(&kafka, "shifted", 1, "1").await?;
    let mut ahead = Duration::ZERO;
    for shift in [Duration::from_secs(75), DAY, DAY] {
        ahead += shift;
        assert_eq!(kafka.shift_clock(shift).await?, ahead);
        let difference = append_time(&kafka, "shifted").await? - real_time()? - ahead.as_millis() as i64;
        assert!(difference.abs() < 5_000, "{ahead:?} ahead, the append time is off by {difference} ms");
    }
    assert_eq!(std::fs::read_to_string(kafka.clock_file())?, ahead.as_millis().to_string());

    kafka.kill(1)?;
    kafka.restart(1).await?;
    let difference = append_time(&kafka, "shifted").await? - real_time()? - ahead.as_millis() as i64;
    assert!(difference.abs() < 5_000, "after a restart the append time is off by {difference} ms");
    kafka.stop().await
}

#[tokio::test]
async fn three_brokers_do_without_one() -> Result<()> {
    let began = Instant::now();
    let mut kafka = Kafka::start(KafkaOptions { brokers: 3, shifted_clock: false }).await?;
    println!("three brokers were up after {:?}", began.elapsed());
    create_topic(&kafka, "replicated", 3, "2").await?;
    append_time(&kafka, "replicated").await?;
    kafka.kill(2)?;
    append_time(&kafka, "replicated").await.context("with two of three brokers")?;
    kafka.restart(2).await?;
    assert!(kafka.log(2).contains("Kafka Server started"));
    append_time(&kafka, "replicated").await.context("with three brokers again")?;
    Ok(())
}

#[tokio::test]
async fn redis_comes_back_with_its_data() -> Result<()> {
    let mut redis = Redis::start_with_password("secret").await?;
    assert!(redis.url().starts_with("redis://:secret@127.0.0.1:"));
    redis.cli(&["SET", "k", "v"]).await?;
    redis.kill()?;
    assert!(redis.cli(&["PING"]).await.is_err());
    redis.restart().await?;
    assert_eq!(redis.cli(&["GET", "k"]).await?, "v");
    Ok(())
}

#[tokio::test]
async fn duckdb_answers() -> Result<()> {
    let rows = duckdb("SELECT 1, NULL, TIMESTAMPTZ '2026-01-01 01:00:00+01', 'a b'").await?;
    assert_eq!(rows, [["1", "NULL", "2026-01-01 00:00:00+00", "a b"]]);
    let error = duckdb("SELECT nothing").await.map_err(|error| format!("{error:#}"));
    assert!(error.as_ref().is_err_and(|error| error.contains("Binder Error")), "{error:?}");
    Ok(())
}

#[tokio::test]
async fn a_page_is_seen() -> Result<()> {
    let folder = new_folder("page")?;
    let html = "<title>Clicks</title><p>one</p><script>
        setTimeout(() => { document.body.innerHTML += '<p id=late>two</p>'; console.error('oh') }, 200)</script>";
    std::fs::write(folder.join("page.html"), html)?;
    let url = format!("file://{}", folder.join("page.html").display());
    let picture = folder.join("page.png");
    let page = open_page(&url, &picture, PageView { wait: Some("#late"), width: 400 }).await?;
    assert_eq!((page.title.as_str(), page.text.as_str()), ("Clicks", "one\n\ntwo"));
    assert_eq!(page.errors, ["oh"]);
    assert!(std::fs::metadata(picture)?.len() > 1_000);
    Ok(())
}

#[tokio::test]
async fn a_process_ends_as_told() -> Result<()> {
    let shell = |script: &str| {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Process::spawn("shell", command)
    };
    let gone = |id: u32| !Path::new(&format!("/proc/{id}")).exists();

    let mut polite = shell("trap 'echo bye; exit 3' TERM; echo up; while :; do sleep 0.01; done")?;
    polite.wait_for_log("up", Duration::from_secs(5)).await?;
    assert_eq!(polite.terminate().await?.code(), Some(3));
    assert!(polite.log().contains("bye"));

    let mut killed = shell("sleep 100")?;
    assert!(killed.wait(Duration::from_millis(50)).await.is_err());
    killed.kill()?;
    assert!(killed.exited()?.is_some_and(|status| !status.success()));

    let mut early = shell("echo broken; exit 1")?;
    let error = early.wait_for_log("up", Duration::from_secs(5)).await.map_err(|error| error.to_string());
    assert!(error.as_ref().is_err_and(|error| error.contains("broken")), "{error:?}");

    let mut paused = shell("sleep 100")?;
    paused.pause()?;
    let stubborn = shell("trap '' TERM; echo up; while :; do sleep 0.01; done")?;
    let (paused_id, stubborn_id) = (paused.id(), stubborn.id());
    drop((paused, stubborn));
    assert!(gone(paused_id) && gone(stubborn_id));
    Ok(())
}
