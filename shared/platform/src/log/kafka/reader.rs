//! Reads one partition: a consumer of its own with a manual assignment.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use clicks::position::Offset;
use futures::{FutureExt, StreamExt};
use rdkafka::Message;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use rdkafka::message::BorrowedMessage;

use super::super::{LogError, LogRecord, Reader, deadline};
use super::client::{Client, LastError, OffThread};
use super::errors::{Place, code, explain, passes};
use super::{KafkaOptions, Lookups, append_time, blocking, headers};

pub(super) struct KafkaReader {
    consumer: OffThread<StreamConsumer<Client>>,
    lookups: Lookups,
    place: Place,
    next: Offset,
    /// Why nothing can be read any more; kept, so that no caller that gives up waiting misses it.
    end: Option<End>,
}

enum End {
    OutOfRange,
    Failed(LogError),
}

impl KafkaReader {
    pub(super) async fn open(
        options: &KafkaOptions,
        lookups: Lookups,
        partition: u32,
        from: Offset,
    ) -> Result<Self, LogError> {
        let place = Place::partition(&options.topic, partition);
        let native = place.native_partition()?;
        let start = i64::try_from(from.value())
            .map_err(|_| LogError::Failed(format!("offset {from} is beyond what Kafka can count")))?;
        let (options, topic, about) = (options.clone(), options.topic.clone(), place.clone());
        let consumer = blocking(move || {
            let consumer = options.reading_consumer(Client::new("reader", &LastError::default()))?;
            let mut assignment = TopicPartitionList::new();
            assignment
                .add_partition_offset(&topic, native, rdkafka::Offset::Offset(start))
                .and_then(|()| consumer.assign(&assignment))
                .map_err(|error| explain(error, &about))?;
            Ok::<_, LogError>(OffThread::new(consumer))
        })
        .await??;
        Ok(KafkaReader { consumer, lookups, place, next: from, end: None })
    }

    /// What is left to say after the last record. Awaits, so `end` stays until it is said.
    async fn give_up(&mut self) -> LogError {
        let partition = self.place.partition.unwrap_or_default();
        match self.end.take() {
            Some(End::Failed(error)) => error,
            Some(End::OutOfRange) | None => {
                self.end = Some(End::OutOfRange);
                match self.lookups.bounds(partition).await {
                    Ok(available) => LogError::OutOfRange { partition, requested: self.next, available },
                    Err(error) => error,
                }
            }
        }
    }

    fn ended_by(&self, error: KafkaError) -> Option<End> {
        match code(&error) {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                metrics::counter!("twofold_log_out_of_range_total").increment(1);
                Some(End::OutOfRange)
            }
            // Of the group that we never join; the assignment does not need it.
            Some(code) if passes(code) || code == Code::GroupAuthorizationFailed => {
                metrics::counter!("twofold_log_read_interruptions_total").increment(1);
                tracing::warn!(place = %self.place, next = %self.next, "reading is interrupted: {error}; the client reconnects");
                None
            }
            _ => Some(End::Failed(explain(error, &self.place))),
        }
    }
}

#[async_trait]
impl Reader for KafkaReader {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Vec<LogRecord>, LogError> {
        let until = deadline(wait);
        let mut records: Vec<LogRecord> = Vec::new();
        let mut messages = self.consumer.stream();
        while self.end.is_none() && records.len() < max {
            // Once a record is in hand there is no await any more, so dropping this future cannot lose it.
            let message = match records.is_empty() {
                true => match tokio::time::timeout_at(until, messages.next()).await {
                    Ok(message) => message,
                    Err(_) => break,
                },
                false => match messages.next().now_or_never() {
                    Some(message) => message,
                    None => break,
                },
            };
            match message {
                Some(Ok(message)) => match read(&message, self.next, &self.place) {
                    Ok(record) => {
                        self.next = self.next.next();
                        records.push(record);
                    }
                    Err(error) => self.end = Some(End::Failed(error)),
                },
                Some(Err(error)) => self.end = self.ended_by(error),
                None => self.end = Some(End::Failed(LogError::Failed(format!("the stream of {} ended", self.place)))),
            }
        }
        drop(messages);
        match records.is_empty() && self.end.is_some() {
            true => Err(self.give_up().await),
            false => Ok(records),
        }
    }
}

impl fmt::Debug for KafkaReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaReader").field("place", &self.place).field("next", &self.next).finish_non_exhaustive()
    }
}

fn read(message: &BorrowedMessage<'_>, expected: Offset, place: &Place) -> Result<LogRecord, LogError> {
    let offset = super::offset(message.offset(), place)?;
    if offset != expected {
        return Err(LogError::Failed(format!(
            "offset {offset} of {place} came where {expected} was next; offsets have holes when somebody writes \
             transactions, or the topic's `cleanup.policy` is not `delete`"
        )));
    }
    Ok(LogRecord {
        offset,
        broker_time: append_time(message.timestamp(), &place.topic)?,
        key: message.key().map(Bytes::copy_from_slice),
        value: message.payload().map(Bytes::copy_from_slice),
        headers: headers::decode(message)?,
    })
}
