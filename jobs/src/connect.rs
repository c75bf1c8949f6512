//! From settings to the ports of an installation.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use platform::clock::{Clock, ShiftedClock, SystemClock};
use platform::ledger::Ledger;
use platform::log::{KafkaLog, KafkaOptions};
use platform::objects::{Objects, S3Options};
use platform::settings::{Secret, Settings};
use platform::store::{RedisOptions, RedisStore};

pub fn kafka_options(settings: &Settings) -> KafkaOptions {
    let kafka = &settings.kafka;
    let client: BTreeMap<String, String> = kafka.client.clone();
    // An append must have failed for good before its client is told to try again.
    let request_timeout = settings.collector.append_timeout.0.saturating_sub(Duration::from_millis(500));
    KafkaOptions {
        client,
        request_timeout: request_timeout.max(Duration::from_secs(1)),
        ..KafkaOptions::new(&kafka.brokers, &kafka.topic, settings.region.clone())
    }
}

pub async fn log(settings: &Settings) -> Result<Arc<KafkaLog>> {
    let log = KafkaLog::connect(kafka_options(settings)).await;
    log.map(Arc::new).with_context(|| format!("Kafka at {}", settings.kafka.brokers))
}

pub fn store(settings: &Settings) -> Result<Arc<RedisStore>> {
    let options = RedisOptions {
        password: settings.redis_password()?.map(|secret| secret.reveal().to_owned()),
        cluster: settings.redis.cluster,
        ..RedisOptions::new(settings.redis.url.reveal())
    };
    let shown = serde_json::to_string(&settings.redis.url).unwrap_or_default();
    RedisStore::connect(&options).map(Arc::new).with_context(|| format!("Redis at {shown}"))
}

pub fn objects(settings: &Settings) -> Result<Objects> {
    let storage = &settings.storage;
    let options = S3Options {
        endpoint: storage.endpoint.clone(),
        region: storage.region.clone(),
        access_key: storage.access_key.clone(),
        secret_key: settings.storage_secret_key()?.as_ref().map(Secret::reveal).map(str::to_owned),
    };
    Ok(Objects::open(&storage.url, &options)?)
}

pub fn ledger(settings: &Settings) -> Result<Ledger> {
    Ok(Ledger::new(objects(settings)?))
}

pub fn clock(settings: &Settings) -> Arc<dyn Clock> {
    match &settings.clock.offset_file {
        Some(file) => Arc::new(ShiftedClock::new(file.clone())),
        None => Arc::new(SystemClock),
    }
}
