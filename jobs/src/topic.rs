//! `twofold topic`: the topic with the settings that the promises rest on, and the ledger's record of its life.

use anyhow::{Context, Result, bail};
use clicks::books::Books;
use clicks::ledger::{Body, Epoch, Genesis};
use clicks::rules::Rules;
use clicks::time::Day;
use platform::ledger::{Ledger, LedgerError, Published};
use platform::log::{KafkaLog, Severity, Topic, TopicReport, TopicSpec};
use platform::settings::Settings;
use serde_json::json;

use crate::cli::TopicCommand;
use crate::connect;
use crate::exit::{Exit, print, refuse};

pub async fn run(settings: &Settings, command: TopicCommand, as_json: bool) -> Result<Exit> {
    match command {
        TopicCommand::Create { first_day } => create(settings, first_day, as_json).await,
        TopicCommand::Check => {
            let report = KafkaLog::check_topic(&connect::kafka_options(settings)).await?;
            show(&report, as_json)
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
    let ledger = connect::ledger(settings)?;
    if let Some(other) = other_first_day(&ledger, first_day).await? {
        return refuse(&other);
    }
    let topic = KafkaLog::create_topic(&options, &spec).await?;
    let report = KafkaLog::check_topic(&options).await?;
    if show(&report, as_json)? != Exit::Done {
        return Ok(Exit::Usage);
    }
    let today = connect::clock(settings).now().day();
    let (books, recorded) = record(&ledger, &topic, first_day.unwrap_or(today)).await?;
    // Another process may have begun the ledger in between.
    if let Some(other) = differs(&books, first_day) {
        return refuse(&other);
    }
    if !as_json {
        print(&format!(
            "topic {} of region {}: id {}, {} partitions; {recorded}; the first day is {}",
            topic.name,
            topic.region,
            topic.id,
            topic.partitions,
            books.first_day()
        ))?;
    }
    Ok(Exit::Done)
}

/// Why a first day cannot be had, before anything is created.
async fn other_first_day(ledger: &Ledger, asked: Option<Day>) -> Result<Option<String>> {
    match ledger.read().await {
        Ok(books) => Ok(differs(&books, asked)),
        Err(LedgerError::Missing(_)) => Ok(None),
        Err(error) => Err(error).context("reading the ledger"),
    }
}

fn differs(books: &Books, asked: Option<Day>) -> Option<String> {
    let begun = books.first_day();
    let other = asked.filter(|asked| *asked != begun)?;
    Some(format!(
        "the first day cannot be {other}: the ledger began with {begun}, which never changes; leave --first-day out"
    ))
}

/// Begins the ledger if there is none, and records the topic's life if it is not known yet, or that it has grown.
async fn record(ledger: &Ledger, topic: &Topic, first_day: Day) -> Result<(Books, String)> {
    let mut books =
        ledger.begin(Genesis { first_day, rules: Rules::default() }).await.context("beginning the ledger")?;
    loop {
        let known = books.current_life(&topic.region).filter(|life| life.topic_id == topic.id);
        let (body, told) = match known.map(|life| life.partitions) {
            Some(partitions) if partitions == topic.partitions => {
                return Ok((books, "the ledger knows it already".to_owned()));
            }
            Some(partitions) if partitions > topic.partitions => bail!(
                "topic {} has {} partitions, the ledger knows {partitions}; Kafka takes none back, so this is another topic or \
                 the ledger of another installation",
                topic.name,
                topic.partitions
            ),
            // Keys lie elsewhere from now on. The batch looks for them on both sides.
            Some(partitions) => {
                let (region, topic_id) = (topic.region.clone(), topic.id);
                let epoch = Epoch { region, topic_id, partitions: topic.partitions };
                (
                    Body::Epoch(epoch),
                    format!("recorded in the ledger that it has grown from {partitions}; start all services again"),
                )
            }
            None => (Body::Topic(topic.life()), "recorded in the ledger".to_owned()),
        };
        match ledger.publish(&mut books, body).await? {
            Published::Ours => return Ok((books, told)),
            Published::Lost => ledger.catch_up(&mut books).await?,
        }
    }
}

/// Prints what was found; anything that must be mended first is an error of configuration.
pub fn show(report: &TopicReport, as_json: bool) -> Result<Exit> {
    let refused = report.findings.iter().any(|finding| finding.severity == Severity::Refuse);
    if as_json {
        let findings: Vec<_> = report
            .findings
            .iter()
            .map(|f| json!({"setting": f.setting, "found": f.found, "wanted": f.wanted, "refused": f.severity == Severity::Refuse, "mend": f.mend}))
            .collect();
        let Topic { name, id, partitions, .. } = &report.topic;
        print(&json!({"topic": name, "id": id, "partitions": partitions, "findings": findings}).to_string())?;
    } else {
        for finding in &report.findings {
            print(&finding.to_string())?;
        }
        if report.findings.is_empty() {
            print(&format!("topic {}: every setting is as it must be", report.topic.name))?;
        }
    }
    Ok(if refused { Exit::Usage } else { Exit::Done })
}

#[cfg(test)]
mod tests {
    use clicks::id::{Region, TopicId};
    use platform::objects::Objects;

    use super::*;

    #[tokio::test]
    async fn a_topic_that_has_grown_is_recorded_and_one_that_has_shrunk_refused() {
        let ledger = Ledger::new(Objects::memory());
        let first: Day = "2026-03-01".parse().unwrap();
        let region = Region::parse("eu").unwrap();
        let topic = |partitions| Topic {
            region: region.clone(),
            name: "clicks".to_owned(),
            id: TopicId::from_u128(7),
            partitions,
        };
        for (partitions, told) in [(8, "recorded in the ledger"), (8, "knows it already"), (16, "grown from 8")] {
            let (books, found) = record(&ledger, &topic(partitions), first).await.unwrap();
            assert!(found.contains(told), "{found}");
            assert_eq!(books.current_life(&region).unwrap().partitions, partitions);
        }
        let refused = record(&ledger, &topic(8), first).await.unwrap_err().to_string();
        assert!(refused.contains("has 8 partitions, the ledger knows 16"), "{refused}");
    }

    #[tokio::test]
    async fn a_first_day_is_not_ignored_in_silence() {
        let ledger = Ledger::new(Objects::memory());
        let (first, other): (Day, Day) = ("2026-03-01".parse().unwrap(), "2026-03-02".parse().unwrap());
        assert_eq!(other_first_day(&ledger, Some(other)).await.unwrap(), None, "there is no ledger yet");
        let region = Region::parse("eu").unwrap();
        let topic = Topic { region, name: "clicks".to_owned(), id: TopicId::from_u128(7), partitions: 4 };
        let (books, _) = record(&ledger, &topic, first).await.unwrap();
        assert_eq!(books.first_day(), first);
        let refused = other_first_day(&ledger, Some(other)).await.unwrap().unwrap();
        assert!(refused.contains("2026-03-01") && refused.contains("2026-03-02"), "{refused}");
        assert_eq!(other_first_day(&ledger, Some(first)).await.unwrap(), None);
        assert_eq!(other_first_day(&ledger, None).await.unwrap(), None);
        // Whoever comes second in a race is told so, too.
        let (books, _) = record(&ledger, &topic, other).await.unwrap();
        assert!(differs(&books, Some(other)).is_some());
    }
}
