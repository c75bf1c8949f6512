//! Reads one partition: a consumer of its own with a manual assignment, whose queue is drained in batches.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use clicks::counter::Observed;
use clicks::position::Offset;
use clicks::time::Timestamp;
use clicks::wire::HEADER_CONTROL;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::base_consumer::PartitionQueue;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode as Code};
use tokio::sync::Notify;

use super::super::{LogError, LogRecord, Reader, Records, deadline};
use super::batch::{Batches, Message, Taken};
use super::client::{Client, LastError, OffThread};
use super::errors::{Place, explain, passes};
use super::{KafkaOptions, Lookups, append_time, blocking, headers};

pub(super) struct KafkaReader {
    consumer: OffThread<Assigned>,
    lookups: Lookups,
    place: Place,
    next: Offset,
    /// Why nothing can be read any more; kept, so that no caller that gives up waiting misses it.
    end: Option<End>,
}

/// A consumer with one partition. Fields are dropped in this order: what uses the consumer before the consumer.
struct Assigned {
    batches: Batches,
    /// Tells when there is something in the queue.
    _queue: PartitionQueue<Client>,
    filled: Arc<Notify>,
    consumer: Arc<BaseConsumer<Client>>,
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
            Assigned::split(consumer, &topic, native).map(OffThread::new)
        })
        .await??;
        Ok(KafkaReader { consumer, lookups, place, next: from, end: None })
    }

    /// Waits until there are records, or the time is over, and adds those that are there, up to `max` and as far as there
    /// is room.
    async fn wait(&mut self, records: &mut impl Sink, max: usize, wait: Duration) -> Result<(), LogError> {
        let until = deadline(wait);
        // A record in hand is returned without a further await, so dropping this future cannot lose it.
        while self.end.is_none() {
            self.take(records, max);
            if records.count() > 0 {
                return Ok(());
            }
            let filled = self.consumer.filled.clone();
            if self.end.is_none() && tokio::time::timeout_at(until, filled.notified()).await.is_err() {
                return Ok(());
            }
        }
        Err(self.give_up().await)
    }

    /// What is there now, up to `max` records.
    fn take(&mut self, records: &mut impl Sink, max: usize) {
        let mut batch = Batch { records, next: self.next, place: &self.place };
        let taken = self.consumer.take(max, &mut batch);
        self.next = batch.next;
        self.end = taken.err();
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
}

impl Assigned {
    fn split(consumer: BaseConsumer<Client>, topic: &str, partition: i32) -> Result<Self, LogError> {
        let consumer = Arc::new(consumer);
        let none =
            || LogError::Failed(format!("the Kafka client gave no queue for partition {partition} of `{topic}`"));
        let mut queue = consumer.split_partition_queue(topic, partition).ok_or_else(none)?;
        let filled = Arc::new(Notify::new());
        let notify = filled.clone();
        queue.set_nonempty_callback(move || notify.notify_one());
        let batches = Batches::of(&consumer, topic, partition).ok_or_else(none)?;
        // It may have been filled before the callback was there.
        filled.notify_one();
        Ok(Assigned { batches, _queue: queue, filled, consumer })
    }

    fn take(&mut self, max: usize, batch: &mut Batch<'_, impl Sink>) -> Result<(), End> {
        // The consumer as a whole has events of its own; and messages that came before its queue was split are here,
        // ahead of all others.
        while batch.records.count() < max
            && batch.records.has_room()
            && let Some(event) = self.consumer.poll(Duration::ZERO)
        {
            match event {
                // It cannot be put back, so it is taken as it is.
                Ok(message) => batch.push(Message::borrowed(&message), Sink::put)?,
                Err(error) => batch.judge(error)?,
            };
        }
        let room = max - batch.records.count();
        self.batches.drain(room, |message| match message.error() {
            Some(code) => batch.judge(KafkaError::MessageConsumption(code)),
            None => batch.push(message, Sink::put_if_room),
        })
    }
}

/// Where records are put.
trait Sink {
    fn count(&self) -> usize;
    fn put(&mut self, offset: Offset, broker_time: Timestamp, message: Message<'_>) -> Result<Taken, LogError>;

    fn has_room(&self) -> bool {
        true
    }
    fn put_if_room(&mut self, offset: Offset, broker_time: Timestamp, message: Message<'_>) -> Result<Taken, LogError> {
        self.put(offset, broker_time, message)
    }
}

/// Records of up to so many bytes, or a single one of any length.
struct Bounded {
    records: Vec<LogRecord>,
    left: usize,
}

impl Bounded {
    fn new(bytes: usize) -> Self {
        Bounded { records: Vec::new(), left: bytes }
    }

    fn add(&mut self, record: LogRecord) -> Taken {
        self.left = self.left.saturating_sub(record.length());
        self.records.push(record);
        Taken::Whole
    }
}

impl Sink for Bounded {
    fn count(&self) -> usize {
        self.records.len()
    }
    fn has_room(&self) -> bool {
        self.left > 0
    }
    fn put(&mut self, offset: Offset, broker_time: Timestamp, message: Message<'_>) -> Result<Taken, LogError> {
        Ok(self.add(record(offset, broker_time, message)?))
    }
    fn put_if_room(&mut self, offset: Offset, broker_time: Timestamp, message: Message<'_>) -> Result<Taken, LogError> {
        let record = record(offset, broker_time, message)?;
        Ok(match record.length() > self.left && !self.records.is_empty() {
            true => Taken::NoRoom,
            false => self.add(record),
        })
    }
}

fn record(offset: Offset, broker_time: Timestamp, message: Message<'_>) -> Result<LogRecord, LogError> {
    let (key, value) = (message.key().map(Bytes::copy_from_slice), message.value().map(Bytes::copy_from_slice));
    Ok(LogRecord { offset, broker_time, key, value, headers: headers::decode(message)? })
}

impl Sink for Records {
    fn count(&self) -> usize {
        self.len()
    }
    fn put(&mut self, offset: Offset, broker_time: Timestamp, message: Message<'_>) -> Result<Taken, LogError> {
        let control = headers::has(message, HEADER_CONTROL)?;
        self.push(Observed { offset, broker_time, key: message.key(), value: message.value(), control });
        Ok(Taken::Whole)
    }
}

/// Records that were taken from the client, in order.
struct Batch<'a, S> {
    records: &'a mut S,
    next: Offset,
    place: &'a Place,
}

type Put<S> = fn(&mut S, Offset, Timestamp, Message<'_>) -> Result<Taken, LogError>;

impl<S: Sink> Batch<'_, S> {
    fn push(&mut self, message: Message<'_>, put: Put<S>) -> Result<Taken, End> {
        let offset = expect(self.next, message, self.place).map_err(End::Failed)?;
        let broker_time = append_time(message.time(), &self.place.topic).map_err(End::Failed)?;
        let taken = put(self.records, offset, broker_time, message).map_err(End::Failed)?;
        if taken == Taken::Whole {
            self.next = offset.next();
        }
        Ok(taken)
    }

    /// An error in the place of a message: one that passes, or the end.
    fn judge(&self, error: KafkaError) -> Result<Taken, End> {
        match error.rdkafka_error_code() {
            Some(Code::AutoOffsetReset | Code::OffsetOutOfRange) => {
                metrics::counter!("twofold_log_out_of_range_total").increment(1);
                Err(End::OutOfRange)
            }
            // Of the group that we never join; the assignment does not need it.
            Some(code) if passes(code) || code == Code::GroupAuthorizationFailed => {
                metrics::counter!("twofold_log_read_interruptions_total").increment(1);
                tracing::warn!(place = %self.place, next = %self.next, "reading is interrupted: {error}; the client reconnects");
                Ok(Taken::Whole)
            }
            _ => Err(End::Failed(explain(error, self.place))),
        }
    }
}

#[async_trait]
impl Reader for KafkaReader {
    async fn poll(&mut self, max: usize, wait: Duration) -> Result<Vec<LogRecord>, LogError> {
        self.poll_within(max, usize::MAX, wait).await
    }

    async fn poll_within(&mut self, max: usize, bytes: usize, wait: Duration) -> Result<Vec<LogRecord>, LogError> {
        let mut records = Bounded::new(bytes);
        self.wait(&mut records, max, wait).await?;
        Ok(records.records)
    }

    async fn fill(&mut self, records: &mut Records, max: usize, wait: Duration) -> Result<(), LogError> {
        records.clear();
        self.wait(records, max, wait).await
    }
}

impl fmt::Debug for KafkaReader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaReader").field("place", &self.place).field("next", &self.next).finish_non_exhaustive()
    }
}

/// The message's offset, which must be the next one.
fn expect(expected: Offset, message: Message<'_>, place: &Place) -> Result<Offset, LogError> {
    let offset = super::offset(message.offset(), place)?;
    if offset != expected {
        return Err(LogError::Failed(format!(
            "offset {offset} of {place} came where {expected} was next; offsets have holes when somebody writes \
             transactions, or the topic's `cleanup.policy` is not `delete`"
        )));
    }
    Ok(offset)
}
