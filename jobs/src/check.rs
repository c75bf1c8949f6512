//! `twofold check`: is everything reachable and set up as the promises need it?

use anyhow::{Context, Result, bail};
use clicks::ledger::TopicLife;
use platform::log::{KafkaLog, Severity, Topic};
use platform::objects::conformance;
use platform::settings::Settings;
use platform::store::SpeedStore;
use serde_json::json;

use crate::connect;
use crate::exit::{Exit, print};

pub async fn run(settings: &Settings, as_json: bool) -> Result<Exit> {
    let mut all = Vec::new();
    all.push(("kafka", kafka(settings).await));
    all.push(("redis", redis(settings).await));
    all.push(("storage", storage(settings).await));
    all.push(("ledger", ledger(settings).await));
    let failed = all.iter().any(|(_, outcome)| outcome.is_err());
    for (name, outcome) in &all {
        let (ok, text) = match outcome {
            Ok(text) => (true, text.clone()),
            Err(error) => (false, format!("{error:#}")),
        };
        if as_json {
            print(&json!({"check": name, "ok": ok, "detail": text}).to_string())?;
        } else {
            print(&format!("{:<8} {:<5} {text}", name, if ok { "ok" } else { "FAIL" }))?;
        }
    }
    Ok(if failed { Exit::Failure } else { Exit::Done })
}

async fn kafka(settings: &Settings) -> Result<String> {
    let report = KafkaLog::check_topic(&connect::kafka_options(settings)).await?;
    let listed = |severity| {
        let of_severity = report.findings.iter().filter(move |finding| finding.severity == severity);
        of_severity.map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let refused = listed(Severity::Refuse);
    if !refused.is_empty() {
        bail!("{refused}");
    }
    let topic = &report.topic;
    let missing = settings.speed.partitions.iter().flatten().find(|number| **number >= topic.partitions);
    if let Some(number) = missing {
        bail!("`speed.partitions` names {number}, but topic {} has only {} of them", topic.name, topic.partitions);
    }
    let warned = listed(Severity::Warn);
    let warned = if warned.is_empty() { warned } else { format!("; {warned}") };
    Ok(format!("topic {} has id {} and {} partitions{warned}", topic.name, topic.id, topic.partitions))
}

async fn redis(settings: &Settings) -> Result<String> {
    connect::store(settings)?.check().await?;
    Ok("reached, and it evicts nothing".to_owned())
}

async fn storage(settings: &Settings) -> Result<String> {
    let objects = connect::objects(settings)?;
    conformance::probe(&objects, &uuid::Uuid::new_v4().simple().to_string()).await?;
    Ok(format!("{} is writable and honours create-only puts", objects.url()))
}

async fn ledger(settings: &Settings) -> Result<String> {
    let books = connect::ledger(settings)?.read().await?;
    let life = books.current_life(&settings.region);
    let life = life.with_context(|| {
        format!("the ledger knows no topic of region {}; record it with `twofold topic create`", settings.region)
    })?;
    let topic = platform::log::Log::topic(&*connect::log(settings).await?).await?;
    compare(life, &topic)?;
    let last = books.last_night().map_or("none".to_owned(), |night| night.to_string());
    Ok(format!("entry {}, first day {}, last night {last}", books.head(), books.first_day()))
}

/// What every service compares when it starts.
fn compare(life: &TopicLife, topic: &Topic) -> Result<()> {
    if topic.id != life.topic_id {
        bail!(
            "the ledger knows topic {} as {}, the broker as {}: it was created again. `twofold topic create` records the new life",
            life.name,
            life.topic_id,
            topic.id
        );
    }
    if topic.partitions != life.partitions {
        bail!(
            "topic {} has {} partitions, the ledger knows {}: ads have moved between partitions. Run `twofold topic \
             create`, which records that, and start all services again",
            life.name,
            topic.partitions,
            life.partitions
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clicks::id::{Region, TopicId};

    use super::*;

    #[test]
    fn another_topic_and_another_partition_count_are_found() {
        let (region, name) = (Region::parse("eu").unwrap(), "clicks".to_owned());
        let topic = Topic { region: region.clone(), name: name.clone(), id: TopicId::from_u128(7), partitions: 4 };
        let life = TopicLife { region, topic_id: topic.id, name, partitions: 4 };
        compare(&life, &topic).unwrap();
        let grown = Topic { partitions: 5, ..topic.clone() };
        let error = compare(&life, &grown).unwrap_err().to_string();
        assert!(error.contains("5 partitions, the ledger knows 4"), "{error}");
        let other = Topic { id: TopicId::from_u128(8), ..topic };
        assert!(compare(&life, &other).unwrap_err().to_string().contains("created again"));
    }
}
