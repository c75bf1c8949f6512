//! What the collector acknowledged is on Kafka, and what Kafka did not acknowledge is never called accepted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clicks::id::Region;
use clicks::partitioner::partition_of;
use clicks::wire::decode;
use collector::{Collector, Options};
use platform::clock::{Clock, SystemClock};
use platform::log::{KafkaLog, KafkaOptions, Log, TopicSpec};
use promises::services::{self, Kafka};
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::{ClientConfig, Offset, Timestamp, TopicPartitionList};
use serde_json::{Value, json};

const PARTITIONS: u32 = 3;

/// A record as any other client of Kafka sees it.
#[derive(Debug)]
struct Seen {
    partition: i32,
    key: Vec<u8>,
    value: Vec<u8>,
    headers: BTreeMap<String, Vec<u8>>,
    timestamp: Timestamp,
}

async fn topic(kafka: &Kafka, name: &str) -> Result<Arc<dyn Log>> {
    let mut options = KafkaOptions::new(&kafka.brokers(), name, Region::parse("eu")?);
    options.request_timeout = Duration::from_secs(4);
    let spec = TopicSpec { partitions: PARTITIONS, replication_factor: 1, ..TopicSpec::default() };
    KafkaLog::create_topic(&options, &spec).await?;
    Ok(Arc::new(KafkaLog::connect(options).await?))
}

/// Everything on a topic, read with a plain consumer that knows nothing of Twofold.
fn read_all(kafka: &Kafka, topic: &str) -> Result<Vec<Seen>> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", kafka.brokers()).set("group.id", "nobody").set("enable.auto.commit", "false");
    let consumer: BaseConsumer = config.create()?;
    let (mut assigned, mut left) = (TopicPartitionList::new(), 0);
    for partition in 0..PARTITIONS as i32 {
        let (first, end) = consumer.fetch_watermarks(topic, partition, Duration::from_secs(30))?;
        left += end - first;
        assigned.add_partition_offset(topic, partition, Offset::Beginning)?;
    }
    consumer.assign(&assigned)?;
    let mut seen = Vec::new();
    while (seen.len() as i64) < left {
        let record = consumer.poll(Duration::from_secs(30)).context("a record did not come")??;
        let headers = record
            .headers()
            .map(|headers| headers.iter().map(|h| (h.key.to_owned(), h.value.unwrap_or_default().to_vec())).collect());
        seen.push(Seen {
            partition: record.partition(),
            key: record.key().unwrap_or_default().to_vec(),
            value: record.payload().unwrap_or_default().to_vec(),
            headers: headers.unwrap_or_default(),
            timestamp: record.timestamp(),
        });
    }
    Ok(seen)
}

fn options() -> Options {
    Options { listen: ([127, 0, 0, 1], 0).into(), ..Options::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_clicks_are_on_the_topic() -> Result<()> {
    let kafka = &services::shared().await?.kafka;
    let log = topic(kafka, "collector").await?;
    let collector = Collector::bind(options(), log, Arc::new(SystemClock)).await?;
    let url = format!("http://{}/v1/clicks", collector.address());
    let stop = Default::default();
    let run = tokio::spawn(collector.run(Clone::clone(&stop)));
    let http = reqwest::Client::builder().user_agent("promises/1").build()?;

    let began = SystemClock.now();
    let own = |number: u32| {
        let id = uuid::Uuid::from_u128(number.into());
        format!(r#"{{"click_id":"{id}","ad_id":"ad-{number}","user_id":"u","timestamp":"{began}"}}"#)
    };
    let with_more = format!(r#"{{"ad_id":"ad-more","user_id":"u", "timestamp":"{began}","campaign":{{"x":1.0}}}}"#);
    let bodies = [
        own(1),
        with_more.clone(),
        format!("[{},{}]", own(2), own(3)),
        (4..1_000).map(|number| own(number) + "\n").collect::<String>() + "nonsense\n",
    ];
    let mut acknowledged = Vec::new();
    for body in bodies {
        let reply = http.post(&url).body(body).send().await?;
        assert_eq!(reply.status(), 202);
        let answer: Value = serde_json::from_slice(&reply.bytes().await?)?;
        let results = answer["results"].as_array().cloned().unwrap_or_else(|| vec![answer.clone()]);
        acknowledged.extend(results.iter().filter_map(|result| Some(result["click_id"].as_str()?.to_owned())));
    }
    assert_eq!(acknowledged.len(), 1_000);
    let ended = SystemClock.now();
    stop.cancel();
    run.await??;

    let seen = tokio::task::block_in_place(|| read_all(kafka, "collector"))?;
    let mut on_topic = Vec::new();
    for record in &seen {
        let click = decode(Some(&record.value))?;
        on_topic.push(click.click_id.to_string());
        assert_eq!(record.key, click.ad_id.as_str().as_bytes());
        assert_eq!(record.partition as u32, partition_of(&record.key, PARTITIONS));
        let Timestamp::LogAppendTime(append_time) = record.timestamp else { panic!("{record:?}") };
        // Another process, the same machine's clock.
        let slack = 5_000;
        assert!((began.as_millis() - slack..=ended.as_millis() + slack).contains(&append_time), "{record:?}");
        let received: i64 = String::from_utf8(record.headers["tf-received"].clone())?.parse()?;
        assert!((began.as_millis()..=ended.as_millis()).contains(&received), "{record:?}");
        assert_eq!(record.headers["user-agent"], b"promises/1");
        assert_eq!(record.headers.len(), 2, "{record:?}");
    }
    acknowledged.sort();
    on_topic.sort();
    assert_eq!(on_topic, acknowledged);
    let own_bytes = seen.iter().find(|record| record.key == b"ad-more").context("the click with fields of its own")?;
    let value = String::from_utf8(own_bytes.value.clone())?;
    assert!(value.starts_with(r#"{"click_id":""#) && value.ends_with(&with_more[1..]), "{value}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_broker_nothing_is_called_accepted() -> Result<()> {
    let mut kafka = Kafka::start(services::KafkaOptions::default()).await?;
    let log = topic(&kafka, "outage").await?;
    let options = Options { append_timeout: Duration::from_secs(2), ..options() };
    let collector = Collector::bind(options, log, Arc::new(SystemClock)).await?;
    let base = format!("http://{}", collector.address());
    let stop = Default::default();
    let run = tokio::spawn(collector.run(Clone::clone(&stop)));
    let http = reqwest::Client::new();
    let click = json!({"ad_id": "ad-1", "user_id": "u", "timestamp": SystemClock.now().to_string()});
    let post = |click: &Value| http.post(format!("{base}/v1/clicks")).body(click.to_string()).send();
    assert_eq!(post(&click).await?.status(), 202);

    kafka.kill(1)?;
    let asked = Instant::now();
    let reply = post(&click).await?;
    assert!(asked.elapsed() < Duration::from_secs(10), "the answer took {:?}", asked.elapsed());
    assert_eq!(reply.status(), 503);
    assert!(reply.headers().contains_key("retry-after"));
    let problem: Value = serde_json::from_slice(&reply.bytes().await?)?;
    assert_eq!(problem["results"][0]["acknowledged"], false);
    let issued = problem["results"][0]["click_id"].clone();
    assert_eq!(http.get(format!("{base}/readyz")).send().await?.status(), 503);

    kafka.restart(1).await?;
    let mut again = click.clone();
    again["click_id"] = issued.clone();
    let came_back = Instant::now();
    loop {
        let reply = post(&again).await?;
        if reply.status() == 202 {
            let answer: Value = serde_json::from_slice(&reply.bytes().await?)?;
            assert_eq!(answer["click_id"], issued);
            break;
        }
        assert_eq!(reply.status(), 503);
        assert!(came_back.elapsed() < Duration::from_secs(60), "the collector does not find the broker again");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    stop.cancel();
    run.await??;
    // At least once, under one id: dedup makes it one click.
    let seen = tokio::task::block_in_place(|| read_all(&kafka, "outage"))?;
    let ids: Vec<_> = seen.iter().filter_map(|record| Some(decode(Some(&record.value)).ok()?.click_id)).collect();
    assert!(ids.iter().any(|id| json!(id.to_string()) == issued), "{issued} is not among {ids:?}");
    assert!(ids.len() >= 2);
    Ok(())
}
