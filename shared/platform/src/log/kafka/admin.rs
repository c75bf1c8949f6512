//! Creating a topic with the right settings, and checking one that is there.

use std::collections::BTreeMap;
use std::time::Duration;

use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, ResourceSpecifier, TopicReplication};
use rdkafka::consumer::Consumer;
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::super::topic::{Facts, judge};
use super::super::{Log, LogError, Topic, TopicError, TopicReport, TopicSpec, deadline};
use super::client::{Client, LastError, OffThread};
use super::errors::{Place, explain};
use super::{KafkaLog, KafkaOptions, blocking};

/// Between two looks at whether a new topic is there.
const LOOK: Duration = Duration::from_millis(20);

impl KafkaLog {
    /// Creates the topic, or checks it when it is there, and returns when it can be used.
    ///
    /// # Errors
    /// [`TopicError::Unfit`] or [`TopicError::Partitions`] when the topic that is there is not as it must be; nothing
    /// is changed then.
    pub async fn create_topic(options: &KafkaOptions, spec: &TopicSpec) -> Result<Topic, TopicError> {
        spec.validate()?;
        let last_error = LastError::default();
        let admin = OffThread::new(options.admin(Client::new("admin", &last_error))?);
        let settings = spec.settings();
        let (partitions, replicas) = (spec.partitions as i32, spec.replication_factor as i32);
        let mut new = NewTopic::new(&options.topic, partitions, TopicReplication::Fixed(replicas));
        for (name, value) in &settings {
            new = new.set(name, value);
        }
        let place = Place::topic(&options.topic);
        let answers = admin.create_topics([&new], &admin_options(options)).await;
        let answers = answers.map_err(|error| last_error.add_to(explain(error, &place)))?;
        match answers.into_iter().next() {
            Some(Ok(_)) => Ok(settled(options, spec).await?),
            Some(Err((_, Code::TopicAlreadyExists))) => existing(options, spec).await,
            Some(Err((_, code))) => Err(refused(code, &place)),
            None => Err(LogError::Failed(format!("the brokers answered nothing about {place}")).into()),
        }
    }

    /// Judges the settings of the topic that is there.
    ///
    /// # Errors
    /// Only when the topic cannot be looked at; what is wrong with it is in the report.
    pub async fn check_topic(options: &KafkaOptions) -> Result<TopicReport, TopicError> {
        let log = KafkaLog::connect(options.clone()).await?;
        let found = log.describe().await?;
        let admin = OffThread::new(options.admin(Client::new("admin", &log.last_error))?);
        let settings = settings(&admin, options, ResourceSpecifier::Topic(&options.topic)).await?;
        let brokers = brokers(&log).await?;
        // Reading a broker's settings takes rights on the cluster that a service need not have.
        let auto_create = match brokers.first() {
            Some(broker) => settings_of_broker(&admin, options, *broker).await,
            None => None,
        };
        let facts = Facts {
            bootstrap: &options.brokers,
            topic: &options.topic,
            settings: &settings,
            replicas: found.replicas,
            brokers: brokers.len() as u32,
            auto_create,
        };
        Ok(TopicReport {
            findings: judge(&facts),
            topic: Topic {
                region: options.region.clone(),
                name: options.topic.clone(),
                id: found.id,
                partitions: found.partitions,
            },
            replication_factor: found.replicas,
            brokers: facts.brokers,
        })
    }
}

fn admin_options(options: &KafkaOptions) -> AdminOptions {
    let timeout = Some(options.request_timeout);
    AdminOptions::new().request_timeout(timeout).operation_timeout(timeout)
}

fn refused(code: Code, place: &Place) -> TopicError {
    let mend = match code {
        Code::InvalidReplicationFactor => "there are fewer brokers than replicas: ask for a lower replication factor",
        Code::InvalidTopic => "choose a name of 1 to 249 letters, digits, `.`, `_` and `-`",
        Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed => {
            "grant the user CREATE, DESCRIBE and DESCRIBE_CONFIGS on the topic"
        }
        Code::PolicyViolation => "the cluster has a policy for new topics: ask who runs it",
        _ => "see the brokers' log",
    };
    match explain(KafkaError::AdminOp(code), place) {
        error @ LogError::Unavailable(_) => error.into(),
        _ => TopicError::Creation { topic: place.topic.clone(), reason: code.to_string(), mend },
    }
}

/// Waits until the new topic is known, with a leader for each of its partitions.
async fn settled(options: &KafkaOptions, spec: &TopicSpec) -> Result<Topic, LogError> {
    let log = KafkaLog::clients(options.clone())?;
    let until = deadline(options.request_timeout);
    loop {
        let seen = log.describe().await;
        let late = tokio::time::Instant::now() >= until;
        match seen {
            Ok(found) if found.led == spec.partitions => return log.topic().await,
            Ok(_) if late => {
                let what = format!("topic `{}` was created but has no leaders yet; check it again", options.topic);
                return Err(LogError::Unavailable(what));
            }
            Ok(_) => tokio::time::sleep(LOOK).await,
            Err(LogError::NoTopic(_)) if !late => tokio::time::sleep(LOOK).await,
            Err(error) => return Err(error),
        }
    }
}

async fn existing(options: &KafkaOptions, spec: &TopicSpec) -> Result<Topic, TopicError> {
    let report = KafkaLog::check_topic(options).await?;
    if !report.is_fit() {
        return Err(TopicError::Unfit(Box::new(report)));
    }
    let (found, wanted) = (report.topic.partitions, spec.partitions);
    match found == wanted {
        true => Ok(report.topic),
        false => Err(TopicError::Partitions { topic: options.topic.clone(), found, wanted }),
    }
}

async fn settings(
    admin: &AdminClient<Client>,
    options: &KafkaOptions,
    of: ResourceSpecifier<'_>,
) -> Result<BTreeMap<String, String>, LogError> {
    let place = Place::topic(&options.topic);
    let answers = admin.describe_configs([&of], &admin_options(options)).await;
    let answer = answers.map_err(|error| explain(error, &place))?.into_iter().next();
    let Some(answer) = answer else {
        return Err(LogError::Failed(format!("the brokers answered nothing about the settings of {place}")));
    };
    let resource = answer.map_err(|code| explain(KafkaError::AdminOp(code), &place))?;
    Ok(resource.entries.into_iter().filter_map(|entry| Some((entry.name, entry.value?))).collect())
}

async fn settings_of_broker(admin: &AdminClient<Client>, options: &KafkaOptions, broker: i32) -> Option<bool> {
    match settings(admin, options, ResourceSpecifier::Broker(broker)).await {
        Ok(settings) => settings.get("auto.create.topics.enable").map(|value| value == "true"),
        Err(error) => {
            tracing::info!(broker, "the broker's own settings are not checked: {error}");
            None
        }
    }
}

/// Ids of the brokers that are up.
async fn brokers(log: &KafkaLog) -> Result<Vec<i32>, LogError> {
    let (lookups, place) = (log.lookups.clone(), Place::topic(&log.options.topic));
    blocking(move || {
        let metadata = lookups.consumer.fetch_metadata(Some(&lookups.topic), lookups.timeout);
        let metadata = metadata.map_err(|error| explain(error, &place))?;
        Ok(metadata.brokers().iter().map(|broker| broker.id()).collect())
    })
    .await?
}
