//! How Kafka is reached, and the properties of each of our clients.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use clicks::id::Region;
use rdkafka::admin::AdminClient;
use rdkafka::config::{FromClientConfigAndContext, RDKafkaLogLevel};
use rdkafka::consumer::BaseConsumer;
use rdkafka::error::KafkaError;
use rdkafka::producer::FutureProducer;
use rdkafka::{ClientConfig, ClientContext};

use super::super::{LogError, RECORD_LENGTH_MAX};
use super::client::Client;
use super::membership::Member;

/// How a topic of Kafka is reached.
#[derive(Clone, PartialEq, Eq)]
pub struct KafkaOptions {
    /// `host:port`, comma-separated.
    pub brokers: String,
    pub topic: String,
    /// The region whose cluster this is.
    pub region: Region,
    /// Further properties of librdkafka, such as TLS, SASL and compression; those that our promises rest on are refused.
    pub client: BTreeMap<String, String>,
    /// How long a request may take, an append with all its retries included. Shorter than what the caller waits.
    pub request_timeout: Duration,
}

impl KafkaOptions {
    pub fn new(brokers: &str, topic: &str, region: Region) -> Self {
        KafkaOptions {
            brokers: brokers.to_owned(),
            topic: topic.to_owned(),
            region,
            client: BTreeMap::new(),
            request_timeout: Duration::from_secs(10),
        }
    }
}

/// Values may be secrets: only the names of the properties are shown.
impl fmt::Debug for KafkaOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaOptions")
            .field("brokers", &self.brokers)
            .field("topic", &self.topic)
            .field("region", &self.region)
            .field("client", &self.client.keys().collect::<Vec<_>>())
            .field("request_timeout", &self.request_timeout)
            .finish()
    }
}

/// Properties that are Twofold's own, each with the reason; aliases of librdkafka included.
const OWNED: [(&str, &str); 24] = [
    ("bootstrap.servers", "use `kafka.brokers`"),
    ("metadata.broker.list", "use `kafka.brokers`"),
    ("group.id", "use `speed.group`"),
    ("group.instance.id", "processes with the same settings would push each other out of the group"),
    ("group.protocol", "all members of a group must use the same"),
    ("partition.assignment.strategy", "all members of a group must use the same"),
    ("enable.auto.commit", "positions never come from a group"),
    ("enable.auto.offset.store", "positions never come from a group"),
    ("auto.offset.reset", "a position that is gone must be an error, not a skip"),
    ("check.crcs", "damaged records must be seen"),
    ("isolation.level", "aborted records must not be read"),
    ("enable.partition.eof", "the end of a partition is no event for our readers"),
    ("allow.auto.create.topics", "a topic comes from `twofold topic create` with the right settings"),
    ("enable.idempotence", "retries must neither double nor reorder records"),
    ("acks", "a click is acknowledged only when all replicas in sync have it"),
    ("request.required.acks", "a click is acknowledged only when all replicas in sync have it"),
    ("transactional.id", "transactions leave holes in the offsets"),
    ("partitioner", "an ad must stay in the partition of its murmur2"),
    ("message.max.bytes", "the topic's `max.message.bytes` is checked against it"),
    ("message.timeout.ms", "use `kafka.request_timeout`"),
    ("delivery.timeout.ms", "use `kafka.request_timeout`"),
    ("dr_cb", "every append waits for its acknowledgement"),
    ("delivery.report.only.error", "every append waits for its acknowledgement"),
    ("statistics.interval.ms", "waking up readers is unreliable with it (rust-rdkafka #638)"),
];

/// What concerns members of groups alone; other clients would warn of them, or refuse them.
const OF_GROUPS: [&str; 3] = ["session.timeout.ms", "heartbeat.interval.ms", "max.poll.interval.ms"];

/// Names the group of consumers that never join it: librdkafka assigns partitions only to a consumer that has one.
const GROUP: &str = "twofold-no-group";

impl KafkaOptions {
    /// Refuses client properties that are not the operator's to choose.
    ///
    /// # Errors
    /// [`LogError::Setting`] with the property and the reason.
    pub fn validate(&self) -> Result<(), LogError> {
        for name in self.client.keys() {
            if let Some((owned, reason)) = OWNED.iter().find(|(owned, _)| owned == name) {
                let reason = format!("Twofold sets it itself ({reason}); remove it from `[kafka.client]`");
                return Err(LogError::Setting { name: (*owned).to_owned(), reason });
            }
        }
        let empty = [("kafka.brokers", &self.brokers), ("kafka.topic", &self.topic)]
            .into_iter()
            .find(|(_, value)| value.trim().is_empty());
        match empty {
            Some((name, _)) => {
                Err(LogError::Setting { name: name.to_owned(), reason: "it is empty; set it".to_owned() })
            }
            None => Ok(()),
        }
    }

    /// What all clients share. Defaults first, so that the operator's properties win; then what is ours.
    fn config(&self) -> Result<ClientConfig, LogError> {
        self.validate()?;
        let mut config = ClientConfig::new();
        config.set("client.id", "twofold");
        // After an outage the next attempt comes within a second, not ten.
        config.set("reconnect.backoff.max.ms", "1000");
        // New leaders and partitions are seen within half a minute, not five.
        config.set("topic.metadata.refresh.interval.ms", "30000");
        for (name, value) in self.client.iter().filter(|(name, _)| !OF_GROUPS.contains(&name.as_str())) {
            config.set(name, value);
        }
        config.set("bootstrap.servers", &self.brokers);
        config.set_log_level(RDKafkaLogLevel::Info);
        Ok(config)
    }

    pub(super) fn producer(&self, context: Client) -> Result<FutureProducer<Client>, LogError> {
        let mut config = self.config()?;
        config.set("enable.idempotence", "true");
        config.set("acks", "all");
        config.set("partitioner", "murmur2_random");
        config.set("message.max.bytes", RECORD_LENGTH_MAX.to_string());
        config.set("message.timeout.ms", millis(self.request_timeout));
        self.default_to(&mut config, &["linger.ms", "queue.buffering.max.ms"], "5");
        create(&config, context)
    }

    pub(super) fn admin(&self, context: Client) -> Result<AdminClient<Client>, LogError> {
        create(&self.config()?, context)
    }

    pub(super) fn lookup_consumer(&self, context: Client) -> Result<BaseConsumer<Client>, LogError> {
        let mut config = self.config()?;
        config.set("isolation.level", "read_committed");
        config.set("allow.auto.create.topics", "false");
        create(&config, context)
    }

    pub(super) fn reading_consumer(&self, context: Client) -> Result<BaseConsumer<Client>, LogError> {
        let mut config = self.config()?;
        config.set("group.id", GROUP);
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        config.set("auto.offset.reset", "error");
        config.set("check.crcs", "true");
        config.set("isolation.level", "read_committed");
        config.set("enable.partition.eof", "false");
        config.set("allow.auto.create.topics", "false");
        // Per reader, and there is one for every partition.
        self.default_to(&mut config, &["queued.max.messages.kbytes"], "4096");
        // A full queue must not stall a fast reader for a second.
        self.default_to(&mut config, &["fetch.queue.backoff.ms"], "10");
        self.default_to(&mut config, &["fetch.wait.max.ms"], "100");
        create(&config, context)
    }

    /// Takes part in a group, and reads nothing.
    pub(super) fn group_consumer(&self, group: &str, context: Member) -> Result<BaseConsumer<Member>, LogError> {
        let mut config = self.config()?;
        // A group of one topic alone: members that read others would be disturbed for nothing.
        config.set("group.id", format!("{group}.{}", self.topic));
        config.set("partition.assignment.strategy", "cooperative-sticky");
        config.set("enable.auto.commit", "false");
        config.set("enable.auto.offset.store", "false");
        config.set("allow.auto.create.topics", "false");
        // Who died is missed within ten seconds, not 45; brokers allow no less than six.
        config.set("session.timeout.ms", "10000");
        // Members learn of a change by their heartbeats, and nobody reads a partition that is on its way.
        config.set("heartbeat.interval.ms", "500");
        config.set("max.poll.interval.ms", "60000");
        for (name, value) in self.client.iter().filter(|(name, _)| OF_GROUPS.contains(&name.as_str())) {
            config.set(name, value);
        }
        create(&config, context)
    }

    /// Sets the first of these names of one property, unless the operator chose a value under any of them.
    fn default_to(&self, config: &mut ClientConfig, names: &[&str], value: &str) {
        if !names.iter().any(|name| self.client.contains_key(*name)) {
            config.set(names[0], value);
        }
    }
}

fn millis(time: Duration) -> String {
    // Zero would mean "without end".
    time.as_millis().clamp(1, i32::MAX as u128).to_string()
}

fn create<C: ClientContext, T: FromClientConfigAndContext<C>>(
    config: &ClientConfig,
    context: C,
) -> Result<T, LogError> {
    T::from_config_and_context(config, context).map_err(|error| match error {
        // The value may be a secret, so it is left out.
        KafkaError::ClientConfig(_, reason, name, _) => LogError::Setting { name, reason },
        other => LogError::Setting { name: "kafka.client".to_owned(), reason: other.to_string() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(properties: &[(&str, &str)]) -> KafkaOptions {
        let mut options = KafkaOptions::new("127.0.0.1:1", "clicks", Region::parse("eu").unwrap());
        options.client = properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        options
    }

    fn refused(properties: &[(&str, &str)]) -> String {
        let context = Client::new("test", &Default::default());
        match options(properties).producer(context) {
            Ok(_) => panic!("{properties:?} was taken"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn properties_that_promises_rest_on_are_refused_by_name() {
        for (name, _) in OWNED {
            let error = refused(&[(name, "x")]);
            assert!(error.contains(&format!("`{name}`")), "{error}");
        }
        let error = refused(&[("acks", "1")]);
        assert!(error.contains("[kafka.client]") && error.contains("remove"), "{error}");
    }

    #[test]
    fn unknown_properties_are_named_and_values_are_not_shown() {
        let error = refused(&[("sasl.pasword", "hunter2")]);
        assert!(error.contains("sasl.pasword") && !error.contains("hunter2"), "{error}");
        let error = refused(&[("linger.ms", "hunter2")]);
        assert!(error.contains("linger.ms"), "{error}");
        let shown = format!("{:?}", options(&[("sasl.password", "hunter2")]));
        assert!(shown.contains("sasl.password") && !shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn empty_settings_are_refused() {
        let mut nothing = options(&[]);
        nothing.topic = " ".to_owned();
        let error = nothing.validate().unwrap_err().to_string();
        assert!(error.contains("kafka.topic"), "{error}");
    }

    #[test]
    fn other_properties_win_over_our_defaults() {
        let chosen = options(&[("linger.ms", "50"), ("client.id", "me")]).config().unwrap();
        assert_eq!(chosen.get("client.id"), Some("me"));
        assert!(
            options(&[("queue.buffering.max.ms", "50")]).producer(Client::new("test", &Default::default())).is_ok()
        );
    }
}
