//! The log on Apache Kafka.
#[derive(Debug)]
pub struct KafkaLog;
#[derive(Debug)]
pub struct KafkaOptions;
