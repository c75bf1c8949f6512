//! From settings to the ports of an installation. What fails because of the settings alone, before anything is reached,
//! is told apart: another try would fail in the same way.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Error, Result};
use platform::clock::{Clock, ShiftedClock, SystemClock};
use platform::ledger::Ledger;
use platform::log::{KafkaLog, KafkaOptions, LogError, Severity, TopicError};
use platform::objects::{Objects, S3Options};
use platform::settings::{Secret, Settings};
use platform::store::{RedisOptions, RedisStore};
use tracing::warn;

use crate::exit::Misconfigured;

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

/// The topic, if its settings are such that the promises hold on it; what is only less safe is logged.
pub async fn fit_log(settings: &Settings) -> Result<Arc<KafkaLog>> {
    let log = log(settings).await?;
    let report = KafkaLog::check_topic(&kafka_options(settings)).await?;
    for finding in report.findings.iter().filter(|finding| finding.severity == Severity::Warn) {
        warn!(topic = report.topic.name, "{finding}");
    }
    if !report.is_fit() {
        return Err(TopicError::Unfit(Box::new(report)).into());
    }
    Ok(log)
}

pub async fn log(settings: &Settings) -> Result<Arc<KafkaLog>> {
    let log = KafkaLog::connect(kafka_options(settings)).await;
    let log = log.map_err(|error| match error {
        LogError::Setting { .. } => Misconfigured::new(error).into(),
        error => Error::from(error),
    });
    log.map(Arc::new).with_context(|| format!("Kafka at {}", settings.kafka.brokers))
}

pub fn store(settings: &Settings) -> Result<Arc<RedisStore>> {
    let options = RedisOptions {
        password: settings.redis_password().map_err(Misconfigured::new)?.map(|secret| secret.reveal().to_owned()),
        cluster: settings.redis.cluster,
        ..RedisOptions::new(settings.redis.url.reveal())
    };
    let shown = serde_json::to_string(&settings.redis.url).unwrap_or_default();
    // It connects at the first use.
    let store = RedisStore::connect(&options).map_err(Misconfigured::new);
    store.map(Arc::new).with_context(|| format!("Redis at {shown}"))
}

pub fn objects(settings: &Settings) -> Result<Objects> {
    let storage = &settings.storage;
    let options = S3Options {
        endpoint: storage.endpoint.clone(),
        region: storage.region.clone(),
        access_key: storage.access_key.clone(),
        secret_key: settings
            .storage_secret_key()
            .map_err(Misconfigured::new)?
            .as_ref()
            .map(Secret::reveal)
            .map(str::to_owned),
    };
    // It reaches nothing yet; a folder is created.
    Ok(Objects::open(&storage.url, &options).map_err(Misconfigured::new)?)
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[tokio::test]
    async fn settings_that_cannot_be_used_are_told_apart_from_what_is_away() {
        type Opening = fn(&Settings) -> Result<()>;
        let cases: [(&str, Opening, &str); 4] = [
            ("[storage]\nurl = \"ftp://x\"", |settings| ledger(settings).map(drop), "s3://bucket/prefix"),
            ("[storage]\nsecret_key_file = \"/no/such\"", |settings| objects(settings).map(drop), "/no/such"),
            ("[redis]\nurl = \"http://x\"", |settings| store(settings).map(drop), "redis.url"),
            ("[redis]\npassword_file = \"/no/such\"", |settings| store(settings).map(drop), "/no/such"),
        ];
        for (text, open, named) in cases {
            let error = open(&Settings::from_toml(text).unwrap()).unwrap_err();
            assert_eq!(Exit::of_error(&error), Exit::Usage, "{text}: {error:#}");
            assert!(format!("{error:#}").contains(named), "{text}: {error:#}");
        }
        let owned = Settings::from_toml("[kafka.client]\nacks = \"1\"").unwrap();
        assert_eq!(Exit::of_error(&log(&owned).await.unwrap_err()), Exit::Usage);
    }
}
