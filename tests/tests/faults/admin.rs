//! What an operator, or nobody at all, does to the topic.

use std::time::Duration;

use clicks::position::Offset;
use platform::log::{KafkaLog, Log};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::{ClientConfig, TopicPartitionList};

use crate::place::{PATIENCE, Place};

/// Deletes the topic and creates it again, with as many partitions. Returns the log of the new life.
pub(crate) async fn recreate(place: &Place) -> KafkaLog {
    for deleted in admin(place).delete_topics(&[&place.options.topic], &patient()).await.unwrap() {
        deleted.unwrap();
    }
    // The brokers take a moment to forget the old life.
    let mut tries = tokio::time::interval(Duration::from_millis(2));
    let again = async {
        loop {
            tries.tick().await;
            match KafkaLog::create_topic(&place.options, &place.spec()).await {
                Ok(topic) if topic.id != place.topic.id => return,
                _ => {}
            }
        }
    };
    tokio::time::timeout(PATIENCE, again).await.expect("the topic is created again");
    KafkaLog::connect(place.options.clone()).await.unwrap()
}

/// Deletes the records of a partition before an offset, as retention would.
pub(crate) async fn delete_records(place: &Place, partition: u32, before: Offset) {
    let mut list = TopicPartitionList::new();
    let offset = rdkafka::Offset::Offset(before.value() as i64);
    list.add_partition_offset(&place.options.topic, partition as i32, offset).unwrap();
    let done = admin(place).delete_records(&list, &patient()).await.unwrap();
    done.elements()[0].error().unwrap();
    assert_eq!(place.log.bounds(partition).await.unwrap().first, before);
}

/// The broker that leads a partition, and how many replicas are in sync.
pub(crate) fn leader_of(place: &Place, partition: u32) -> (i32, usize) {
    let client: BaseConsumer = ClientConfig::new().set("bootstrap.servers", &place.options.brokers).create().unwrap();
    let metadata = client.fetch_metadata(Some(&place.options.topic), PATIENCE).unwrap();
    let partition = metadata.topics()[0].partitions().iter().find(|found| found.id() == partition as i32).unwrap();
    (partition.leader(), partition.isr().len())
}

fn admin(place: &Place) -> AdminClient<DefaultClientContext> {
    ClientConfig::new().set("bootstrap.servers", &place.options.brokers).create().unwrap()
}

fn patient() -> AdminOptions {
    AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)))
}
