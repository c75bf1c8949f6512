//! What librdkafka's errors mean to a caller of the log.

use std::fmt;

use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};

use super::super::LogError;

/// What an error is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) topic: String,
    pub(super) partition: Option<u32>,
}

impl Place {
    pub(super) fn topic(topic: &str) -> Self {
        Place { topic: topic.to_owned(), partition: None }
    }

    pub(super) fn partition(topic: &str, partition: u32) -> Self {
        Place { topic: topic.to_owned(), partition: Some(partition) }
    }

    /// Kafka counts partitions in 31 bits.
    pub(super) fn native_partition(&self) -> Result<i32, LogError> {
        i32::try_from(self.partition.unwrap_or_default()).map_err(|_| self.no_partition())
    }

    fn no_partition(&self) -> LogError {
        match self.partition {
            Some(partition) => LogError::NoPartition { topic: self.topic.clone(), partition },
            None => LogError::NoTopic(self.topic.clone()),
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.partition {
            Some(partition) => write!(f, "partition {partition} of topic `{}`", self.topic),
            None => write!(f, "topic `{}`", self.topic),
        }
    }
}

/// The code inside an error; rdkafka does not give that of an administrative request.
pub(super) fn code(error: &KafkaError) -> Option<Code> {
    match error {
        KafkaError::AdminOp(code) => Some(*code),
        other => other.rdkafka_error_code(),
    }
}

/// The error of the port that an error of a request is.
pub(super) fn explain(error: KafkaError, place: &Place) -> LogError {
    let what = format!("{place}: {error}");
    match code(&error) {
        Some(Code::UnknownTopic) => LogError::NoTopic(place.topic.clone()),
        // Of a partition that is asked for, brokers say only "topic or partition".
        Some(Code::UnknownPartition | Code::UnknownTopicOrPartition) => place.no_partition(),
        Some(Code::MessageSizeTooLarge | Code::MessageBatchTooLarge | Code::InvalidMessageSize) => {
            LogError::TooLarge(what)
        }
        Some(code) if passes(code) => LogError::Unavailable(what),
        Some(Code::TopicAuthorizationFailed | Code::ClusterAuthorizationFailed) => {
            LogError::Failed(format!("{what}; grant the user READ, WRITE, DESCRIBE and DESCRIBE_CONFIGS on the topic"))
        }
        _ => LogError::Failed(what),
    }
}

/// The state of the cluster that passes by itself or with its mending; another try is worth it.
pub(super) fn passes(code: Code) -> bool {
    matches!(
        code,
        Code::AllBrokersDown
            | Code::BrokerDestroy
            | Code::BrokerNotAvailable
            | Code::BrokerTransportFailure
            | Code::CoordinatorLoadInProgress
            | Code::CoordinatorNotAvailable
            | Code::DestroyBroker
            | Code::FencedLeaderEpoch
            | Code::KafkaStorageError
            | Code::LeaderNotAvailable
            | Code::MessageTimedOut
            | Code::NetworkException
            | Code::NotCoordinator
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::NotLeaderForPartition
            | Code::OffsetNotAvailable
            | Code::OperationTimedOut
            | Code::QueueFull
            | Code::ReplicaNotAvailable
            | Code::RequestTimedOut
            | Code::Resolve
            | Code::Retry
            | Code::ThrottlingQuotaExceeded
            | Code::TimedOutQueue
            | Code::UnknownLeaderEpoch
            | Code::WaitingForCoordinator
    )
}

/// The label of an error in counters.
pub(super) fn reason(error: &LogError) -> &'static str {
    match error {
        LogError::NoTopic(_) => "no_topic",
        LogError::NoPartition { .. } => "no_partition",
        LogError::OutOfRange { .. } => "out_of_range",
        LogError::NoKey => "no_key",
        LogError::TooLarge(_) => "too_large",
        LogError::Setting { .. } => "setting",
        LogError::Unavailable(_) => "unavailable",
        LogError::Failed(_) => "failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_mean_what_the_port_promises() {
        let (topic, partition) = (Place::topic("clicks"), Place::partition("clicks", 3));
        let cases = [
            (KafkaError::MessageProduction(Code::QueueFull), &topic, "unavailable"),
            (KafkaError::MessageProduction(Code::MessageTimedOut), &topic, "unavailable"),
            (KafkaError::MessageProduction(Code::NotEnoughReplicas), &topic, "unavailable"),
            (KafkaError::MessageProduction(Code::MessageSizeTooLarge), &topic, "too_large"),
            (KafkaError::MessageProduction(Code::UnknownPartition), &partition, "no_partition"),
            (KafkaError::MessageProduction(Code::Fatal), &topic, "failed"),
            (KafkaError::MetadataFetch(Code::UnknownTopicOrPartition), &topic, "no_topic"),
            (KafkaError::MetadataFetch(Code::UnknownTopicOrPartition), &partition, "no_partition"),
            (KafkaError::AdminOp(Code::OperationTimedOut), &topic, "unavailable"),
            (KafkaError::MetadataFetch(Code::TopicAuthorizationFailed), &topic, "failed"),
            (KafkaError::Canceled, &topic, "failed"),
        ];
        for (error, place, want) in cases {
            let shown = error.to_string();
            assert_eq!(reason(&explain(error, place)), want, "{shown}");
        }
    }
}
