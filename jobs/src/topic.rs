//! `twofold topic`: the topic with the settings that the promises rest on, and the ledger's record of its life.

use anyhow::{Context, Result, bail};
use clicks::ledger::{Body, Genesis, TopicLife};
use clicks::rules::Rules;
use clicks::time::Day;
use platform::ledger::Published;
use platform::log::{KafkaLog, Severity, Topic, TopicReport, TopicSpec};
use platform::settings::Settings;
use serde_json::json;

use crate::cli::TopicCommand;
use crate::connect;
use crate::exit::Exit;

pub async fn run(settings: &Settings, command: TopicCommand, as_json: bool) -> Result<Exit> {
    match command {
        TopicCommand::Create { first_day } => create(settings, first_day, as_json).await,
        TopicCommand::Check => {
            let report = KafkaLog::check_topic(&connect::kafka_options(settings)).await?;
            Ok(show(&report, as_json))
        }
    }
}

async fn create(settings: &Settings, first_day: Option<Day>, as_json: bool) -> Result<Exit> {
    let options = connect::kafka_options(settings);
    let spec = TopicSpec {
        partitions: settings.kafka.partitions,
        replication_factor: settings.kafka.replication_factor,
        retention: settings.kafka.retention.0,
    };
    let topic = KafkaLog::create_topic(&options, &spec).await?;
    let report = KafkaLog::check_topic(&options).await?;
    if show(&report, as_json) != Exit::Done {
        return Ok(Exit::Usage);
    }
    let first_day = first_day.unwrap_or_else(|| connect::clock(settings).now().day());
    let recorded = record(settings, &topic, first_day).await?;
    if !as_json {
        println!(
            "topic {} of region {}: id {}, {} partitions; {recorded}",
            topic.name, topic.region, topic.id, topic.partitions
        );
    }
    Ok(Exit::Done)
}

/// Begins the ledger if there is none, and records the topic's life if it is not known yet.
async fn record(settings: &Settings, topic: &Topic, first_day: Day) -> Result<&'static str> {
    let ledger = connect::ledger(settings)?;
    let mut books =
        ledger.begin(Genesis { first_day, rules: Rules::default() }).await.context("beginning the ledger")?;
    loop {
        if let Some(life) = books.current_life(&topic.region).filter(|life| life.topic_id == topic.id) {
            if life.partitions != topic.partitions {
                bail!(
                    "topic {} has {} partitions, the ledger knows {}: ads have moved between partitions. A change of the \
                     partition count needs a new topic",
                    topic.name,
                    topic.partitions,
                    life.partitions
                );
            }
            return Ok("the ledger knows it already");
        }
        let life = TopicLife {
            region: topic.region.clone(),
            topic_id: topic.id,
            name: topic.name.clone(),
            partitions: topic.partitions,
        };
        match ledger.publish(&mut books, Body::Topic(life)).await? {
            Published::Ours => return Ok("recorded in the ledger"),
            Published::Lost => ledger.catch_up(&mut books).await?,
        }
    }
}

/// Prints what was found; anything that must be mended first is an error of configuration.
pub fn show(report: &TopicReport, as_json: bool) -> Exit {
    let refused = report.findings.iter().any(|finding| finding.severity == Severity::Refuse);
    if as_json {
        let findings: Vec<_> = report
            .findings
            .iter()
            .map(|f| json!({"setting": f.setting, "found": f.found, "wanted": f.wanted, "refused": f.severity == Severity::Refuse, "mend": f.mend}))
            .collect();
        println!(
            "{}",
            json!({"topic": report.topic.name, "id": report.topic.id, "partitions": report.topic.partitions, "findings": findings})
        );
    } else {
        for finding in &report.findings {
            println!("{finding}");
        }
        if report.findings.is_empty() {
            println!("topic {}: every setting is as it must be", report.topic.name);
        }
    }
    if refused { Exit::Usage } else { Exit::Done }
}
