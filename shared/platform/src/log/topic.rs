//! What a topic must be like, and what is wrong with one that is not.
//!
//! The judgement is here, free of any broker; [`super::KafkaLog`] brings what it judges.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::Serialize;

use super::{LogError, RECORD_LENGTH_MAX, Topic};

/// Shortest time that records must stay: several nights may fail before the archive would miss one.
pub(super) const RETENTION_MIN: Duration = Duration::from_secs(7 * 24 * 60 * 60);

/// Replicas that a topic should have, where there are brokers enough.
const REPLICAS: u32 = 3;
/// Replicas that must have a record before it is acknowledged, where there are as many.
const IN_SYNC: u32 = 2;

/// A topic to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicSpec {
    pub partitions: u32,
    pub replication_factor: u32,
    /// At least seven days.
    pub retention: Duration,
}

impl Default for TopicSpec {
    fn default() -> Self {
        TopicSpec { partitions: 16, replication_factor: REPLICAS, retention: RETENTION_MIN }
    }
}

impl TopicSpec {
    /// # Errors
    /// [`TopicError::Spec`] for what no topic of ours may be.
    pub fn validate(&self) -> Result<(), TopicError> {
        let wrong = |what: String| Err(TopicError::Spec(what));
        if self.partitions == 0 || self.partitions > 10_000 {
            return wrong(format!("{} partitions; 1 to 10000 are possible", self.partitions));
        }
        if self.replication_factor == 0 || self.replication_factor > 100 {
            return wrong(format!("a replication factor of {}; 3 is right for production", self.replication_factor));
        }
        if self.retention < RETENTION_MIN {
            return wrong(format!("a retention of {:?}; at least seven days are needed", self.retention));
        }
        Ok(())
    }

    /// The topic's settings, as Kafka names them.
    pub fn settings(&self) -> BTreeMap<&'static str, String> {
        let in_sync = self.replication_factor.min(IN_SYNC);
        BTreeMap::from([
            ("cleanup.policy", "delete".to_owned()),
            ("max.message.bytes", MESSAGE_BYTES.to_string()),
            ("message.timestamp.type", "LogAppendTime".to_owned()),
            ("min.insync.replicas", in_sync.to_string()),
            ("retention.bytes", "-1".to_owned()),
            ("retention.ms", self.retention.as_millis().to_string()),
            ("unclean.leader.election.enable", "false".to_owned()),
        ])
    }
}

/// Kafka's own default, which is enough for a batch of ours with its frame.
const MESSAGE_BYTES: usize = 1_048_588;
const _: () = assert!(MESSAGE_BYTES > RECORD_LENGTH_MAX);

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Works, with less safety than production needs.
    Warn,
    /// A promise would not hold: no service starts on such a topic.
    Refuse,
}

/// A setting that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// As Kafka names it.
    pub setting: String,
    pub found: String,
    pub wanted: String,
    pub severity: Severity,
    /// What goes wrong otherwise.
    pub reason: String,
    /// A command to paste.
    pub mend: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Finding { setting, found, wanted, reason, mend, .. } = self;
        write!(f, "`{setting}` is `{found}` but should be {wanted}: {reason}; mend it with: {mend}")
    }
}

/// A topic and what is wrong with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicReport {
    pub topic: Topic,
    pub replication_factor: u32,
    pub brokers: u32,
    /// Refusals first.
    pub findings: Vec<Finding>,
}

impl TopicReport {
    /// Services may start on it; warnings do not count.
    pub fn is_fit(&self) -> bool {
        self.findings.iter().all(|finding| finding.severity == Severity::Warn)
    }
}

/// What can go wrong with creating or checking a topic.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    #[error(transparent)]
    Log(#[from] LogError),
    #[error("no topic can have {0}")]
    Spec(String),
    #[error("topic `{topic}` could not be created: {reason}; {mend}")]
    Creation { topic: String, reason: String, mend: &'static str },
    #[error(
        "topic `{topic}` exists with {found} partitions, {wanted} were asked for; \
         ask for {found} (`kafka.partitions`). Keys would move if the count changed, so another count needs a new topic: \
         give `kafka.topic` another name"
    )]
    Partitions { topic: String, found: u32, wanted: u32 },
    #[error("topic `{}` cannot be used: {}", .0.topic.name, list(&.0.findings))]
    Unfit(Box<TopicReport>),
}

fn list(findings: &[Finding]) -> String {
    let refused = findings.iter().filter(|finding| finding.severity == Severity::Refuse);
    refused.map(Finding::to_string).collect::<Vec<_>>().join(". ")
}

/// What is known of a topic when it is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    /// As commands need it.
    pub(super) bootstrap: &'a str,
    pub(super) topic: &'a str,
    pub(super) settings: &'a BTreeMap<String, String>,
    pub(super) replicas: u32,
    pub(super) brokers: u32,
    /// `auto.create.topics.enable` of the brokers, where we may read it.
    pub(super) auto_create: Option<bool>,
}

/// Everything that is not as it should be, refusals first.
pub(super) fn judge(facts: &Facts<'_>) -> Vec<Finding> {
    use Severity::{Refuse, Warn};
    // A test or a laptop has one broker; less safety is all that it can have.
    let safety = if facts.brokers == 1 { Warn } else { Refuse };
    let mut findings: Vec<Finding> = [
        facts.setting(
            "message.timestamp.type",
            "LogAppendTime",
            Refuse,
            |found| found == "LogAppendTime",
            "append times would be the clients' own, and late or future clicks could not be told",
        ),
        facts.setting(
            "cleanup.policy",
            "delete",
            Refuse,
            |found| found == "delete",
            "compaction removes clicks from the middle of the log",
        ),
        facts.setting(
            "retention.ms",
            &RETENTION_MIN.as_millis().to_string(),
            Refuse,
            retained,
            "records would be gone before a few failed nights are caught up",
        ),
        facts.setting(
            "retention.bytes",
            "-1",
            Refuse,
            |found| found == "-1",
            "records would be gone at a size, whatever their age",
        ),
        facts.setting(
            "max.message.bytes",
            &MESSAGE_BYTES.to_string(),
            Refuse,
            holds_a_batch,
            "batches of clicks would be refused as too large",
        ),
        facts.setting(
            "unclean.leader.election.enable",
            "false",
            safety,
            |found| found == "false",
            "a failover could lose acknowledged clicks",
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    findings.extend(facts.replicas(safety));
    findings.extend(facts.in_sync(safety));
    findings.extend(facts.auto_create());
    findings.sort_by_key(|finding| std::cmp::Reverse(finding.severity));
    findings
}

/// Kafka writes "for ever" as -1.
fn retained(found: &str) -> bool {
    found.parse::<i128>().is_ok_and(|millis| millis == -1 || millis >= RETENTION_MIN.as_millis() as i128)
}

fn holds_a_batch(found: &str) -> bool {
    found.parse::<usize>().is_ok_and(|bytes| bytes >= RECORD_LENGTH_MAX)
}

impl Facts<'_> {
    fn found(&self, setting: &str) -> &str {
        self.settings.get(setting).map_or("not told by the broker", String::as_str)
    }

    fn mend(&self, setting: &str, wanted: &str) -> String {
        format!(
            "kafka-configs.sh --bootstrap-server {} --alter --entity-type topics --entity-name {} \
             --add-config {setting}={wanted}",
            self.bootstrap, self.topic
        )
    }

    fn setting(
        &self,
        setting: &str,
        wanted: &str,
        severity: Severity,
        fits: fn(&str) -> bool,
        reason: &str,
    ) -> Option<Finding> {
        let found = self.found(setting);
        (!fits(found)).then(|| Finding {
            setting: setting.to_owned(),
            found: found.to_owned(),
            wanted: format!("`{wanted}`"),
            severity,
            reason: reason.to_owned(),
            mend: self.mend(setting, wanted),
        })
    }

    fn replicas(&self, severity: Severity) -> Option<Finding> {
        // Two brokers cannot do better than two.
        let (wanted, severity) = match self.brokers {
            brokers if brokers < REPLICAS && self.replicas >= brokers => (REPLICAS, Severity::Warn),
            brokers => (brokers.min(REPLICAS), severity),
        };
        (self.replicas < wanted).then(|| Finding {
            setting: "replication.factor".to_owned(),
            found: self.replicas.to_string(),
            wanted: format!("`{REPLICAS}`"),
            severity,
            reason: "a broken disk could lose acknowledged clicks".to_owned(),
            mend: format!(
                "kafka-reassign-partitions.sh --bootstrap-server {} --execute --reassignment-json-file FILE, where FILE \
                 names {REPLICAS} brokers for each partition of {}",
                self.bootstrap, self.topic
            ),
        })
    }

    fn in_sync(&self, severity: Severity) -> Option<Finding> {
        let setting = "min.insync.replicas";
        let command = self.mend(setting, &IN_SYNC.to_string());
        let (severity, reason, mend) = match self.found(setting).parse::<u32>().ok() {
            None => (Severity::Refuse, "clicks could be acknowledged that only one broker has", command),
            Some(found) if found < IN_SYNC && self.replicas < IN_SYNC => {
                let first = format!("raise the replication factor first, then: {command}");
                (severity, "a click is acknowledged that only one broker has", first)
            }
            Some(found) if found < IN_SYNC => {
                (severity, "a click could be acknowledged that only one broker has", command)
            }
            // Kafka 4.1 takes the number of replicas then (seen); older releases acknowledge nothing.
            Some(found) if found > self.replicas => {
                (Severity::Warn, "there are fewer replicas, so some releases of Kafka take no click at all", command)
            }
            Some(found) if found == self.replicas && found > IN_SYNC => {
                (Severity::Warn, "one broker that is down stops all clicks", command)
            }
            Some(_) => return None,
        };
        Some(Finding {
            setting: setting.to_owned(),
            found: self.found(setting).to_owned(),
            wanted: format!("`{IN_SYNC}`"),
            severity,
            reason: reason.to_owned(),
            mend,
        })
    }

    fn auto_create(&self) -> Option<Finding> {
        (self.auto_create == Some(true)).then(|| Finding {
            setting: "auto.create.topics.enable".to_owned(),
            found: "true".to_owned(),
            wanted: "`false`".to_owned(),
            severity: Severity::Warn,
            reason: "a topic that is deleted by mistake comes back with the wrong settings".to_owned(),
            mend: "set auto.create.topics.enable=false in the brokers' server.properties and restart them one by one"
                .to_owned(),
        })
    }
}

#[cfg(test)]
mod tests;
