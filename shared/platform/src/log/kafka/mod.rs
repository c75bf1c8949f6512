//! The log on Apache Kafka, by librdkafka.
//!
//! One [`KafkaLog`] holds one idempotent producer, which also answers who the topic is, and one consumer without a group
//! for look-ups. Every reader is a consumer of its own with a manual assignment: the position comes from whoever opens
//! it, never from a group, and the broker is never asked to choose another one. Who takes part in a group does it with
//! one more consumer, which reads nothing.
//!
//! Every call of librdkafka that waits runs on a blocking thread, and is bounded by the request timeout.

mod admin;
mod batch;
mod client;
mod describe;
mod errors;
mod headers;
mod membership;
mod options;
mod reader;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use clicks::id::TopicId;
use clicks::position::Offset;
use clicks::time::Timestamp;
use rdkafka::TopicPartitionList;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaResult;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};

use super::{Appended, Bounds, Log, LogError, Membership, NewRecord, Reader, Target, Topic};
use client::{Client, LastError, OffThread};
use errors::{Place, explain};

pub use options::KafkaOptions;

/// One topic of one Kafka cluster.
pub struct KafkaLog {
    options: KafkaOptions,
    producer: OffThread<FutureProducer<Client>>,
    lookups: Lookups,
    last_error: LastError,
}

impl KafkaLog {
    /// Makes the clients, reaches the cluster and sees that the topic is there. Its settings are another matter, see
    /// [`KafkaLog::check_topic`].
    ///
    /// # Errors
    /// [`LogError::Setting`] for a client property that is not ours to take or that librdkafka does not know,
    /// [`LogError::NoTopic`], and [`LogError::Unavailable`] when no broker answers within the request timeout.
    pub async fn connect(options: KafkaOptions) -> Result<KafkaLog, LogError> {
        let log = KafkaLog::clients(options)?;
        log.topic().await?;
        Ok(log)
    }

    /// The clients alone, which reach nothing yet.
    fn clients(options: KafkaOptions) -> Result<KafkaLog, LogError> {
        let last_error = LastError::default();
        let producer = options.producer(Client::new("producer", &last_error))?;
        let lookups = Lookups::new(&options, &last_error)?;
        Ok(KafkaLog { options, producer: OffThread::new(producer), lookups, last_error })
    }

    pub fn options(&self) -> &KafkaOptions {
        &self.options
    }

    async fn describe(&self) -> Result<describe::Description, LogError> {
        let (producer, topic, timeout) =
            (self.producer.clone(), self.options.topic.clone(), self.options.request_timeout);
        let described = blocking(move || describe::describe(producer.client(), &topic, timeout)).await?;
        described.map_err(|error| self.last_error.add_to(explain(error, &Place::topic(&self.options.topic))))
    }
}

impl fmt::Debug for KafkaLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaLog").field("options", &self.options).finish_non_exhaustive()
    }
}

#[async_trait]
impl Log for KafkaLog {
    async fn topic(&self) -> Result<Topic, LogError> {
        let found = self.describe().await?;
        Ok(Topic {
            region: self.options.region.clone(),
            name: self.options.topic.clone(),
            id: found.id,
            partitions: found.partitions,
        })
    }

    async fn find(&self, name: &str) -> Result<Option<TopicId>, LogError> {
        let (producer, topic, timeout) = (self.producer.clone(), name.to_owned(), self.options.request_timeout);
        let found = blocking(move || describe::ask(producer.client(), &topic, timeout)).await?;
        match found.map_err(|error| explain(error, &Place::topic(name))) {
            Ok(found) => Ok(Some(found.id)),
            Err(LogError::NoTopic(_)) => Ok(None),
            Err(error) => Err(self.last_error.add_to(error)),
        }
    }

    async fn append(&self, target: Target, record: NewRecord) -> Result<Appended, LogError> {
        match self.deliver(target, record).await {
            Ok(appended) => Ok(appended),
            Err(error) => {
                let error = self.name_the_cause(error).await;
                metrics::counter!("twofold_log_append_failures_total", "reason" => errors::reason(&error)).increment(1);
                Err(error)
            }
        }
    }

    async fn bounds(&self, partition: u32) -> Result<Bounds, LogError> {
        match self.lookups.bounds(partition).await {
            Err(error) => Err(self.name_the_cause(error).await),
            bounds => bounds,
        }
    }

    async fn offset_at(&self, partition: u32, time: Timestamp) -> Result<Option<Offset>, LogError> {
        match self.lookups.offset_at(partition, time).await {
            Err(error) => Err(self.name_the_cause(error).await),
            offset => offset,
        }
    }

    async fn open(&self, partition: u32, from: Offset) -> Result<Box<dyn Reader>, LogError> {
        let available = self.bounds(partition).await?;
        if from < available.first || from > available.end {
            metrics::counter!("twofold_log_out_of_range_total").increment(1);
            return Err(LogError::OutOfRange { partition, requested: from, available });
        }
        Ok(Box::new(reader::KafkaReader::open(&self.options, self.lookups.clone(), partition, from).await?))
    }

    async fn join(&self, group: &str) -> Result<Box<dyn Membership>, LogError> {
        Ok(Box::new(membership::KafkaMembership::join(&self.options, group).await?))
    }
}

impl KafkaLog {
    /// Says more about an error: brokers name only "topic or partition", and librdkafka only that time ran out.
    async fn name_the_cause(&self, error: LogError) -> LogError {
        match self.last_error.add_to(error) {
            error @ LogError::NoPartition { .. } => match self.topic().await {
                Err(missing @ LogError::NoTopic(_)) => missing,
                _ => error,
            },
            error => error,
        }
    }

    async fn deliver(&self, target: Target, record: NewRecord) -> Result<Appended, LogError> {
        let mut place = Place::topic(&self.options.topic);
        let partition = match target {
            // librdkafka's `murmur2_random` chooses; a missing key would make it random.
            Target::Key if record.key.is_none() => return Err(LogError::NoKey),
            Target::Key => None,
            Target::Partition(number) => {
                place.partition = Some(number);
                Some(place.native_partition()?)
            }
        };
        let new = FutureRecord::<[u8], [u8]> {
            topic: &self.options.topic,
            partition,
            payload: record.value.as_deref(),
            key: record.key.as_deref(),
            timestamp: None,
            headers: headers::encode(&record.headers)?,
        };
        let queued = self.producer.send_result(new).map_err(|(error, _)| explain(error, &place))?;
        let delivery = match queued.await {
            Ok(delivered) => delivered.map_err(|(error, _)| explain(error, &place))?,
            Err(_) => return Err(LogError::Unavailable("the producer was stopped before it knew".to_owned())),
        };
        let partition = u32::try_from(delivery.partition);
        let offset = u64::try_from(delivery.offset);
        let (Ok(partition), Ok(offset)) = (partition, offset) else {
            return Err(LogError::Failed(format!("the broker acknowledged a record without its place: {delivery:?}")));
        };
        let broker_time = append_time(delivery.timestamp, &self.options.topic)?;
        Ok(Appended { partition, offset: Offset::new(offset), broker_time })
    }
}

/// The broker's time of a record. A time of the client's is refused: it would move watermarks and cuts at its will.
fn append_time(time: rdkafka::Timestamp, topic: &str) -> Result<Timestamp, LogError> {
    match time {
        rdkafka::Timestamp::LogAppendTime(millis) => Ok(Timestamp::from_millis(millis)),
        rdkafka::Timestamp::CreateTime(_) | rdkafka::Timestamp::NotAvailable => Err(LogError::Failed(format!(
            "a record of topic `{topic}` carries no append time; set its `message.timestamp.type` to LogAppendTime \
             (`twofold topic check` shows how), and begin a new topic if it holds older records"
        ))),
    }
}

/// Between two tries of one question.
const AGAIN: Duration = Duration::from_millis(50);

/// What is asked about partitions, on a consumer that belongs to no group and reads nothing.
#[derive(Clone)]
struct Lookups {
    consumer: Arc<OffThread<BaseConsumer<Client>>>,
    topic: Arc<str>,
    timeout: Duration,
}

impl Lookups {
    fn new(options: &KafkaOptions, last_error: &LastError) -> Result<Self, LogError> {
        let consumer = options.lookup_consumer(Client::new("lookup", last_error))?;
        Ok(Lookups {
            consumer: Arc::new(OffThread::new(consumer)),
            topic: options.topic.as_str().into(),
            timeout: options.request_timeout,
        })
    }

    async fn bounds(&self, partition: u32) -> Result<Bounds, LogError> {
        let (this, place) = (self.clone(), Place::partition(&self.topic, partition));
        blocking(move || {
            let number = place.native_partition()?;
            let (first, end) = this.ask(&place, |left| this.consumer.fetch_watermarks(&this.topic, number, left))?;
            Ok(Bounds { first: offset(first, &place)?, end: offset(end, &place)? })
        })
        .await?
    }

    async fn offset_at(&self, partition: u32, time: Timestamp) -> Result<Option<Offset>, LogError> {
        let (this, place) = (self.clone(), Place::partition(&self.topic, partition));
        blocking(move || {
            let number = place.native_partition()?;
            // Negative times have meanings of their own in the protocol (-1 is the end), and no record is that old.
            let millis = rdkafka::Offset::Offset(time.as_millis().max(0));
            let found = this.ask(&place, |left| {
                let mut asked = TopicPartitionList::new();
                asked.add_partition_offset(&this.topic, number, millis)?;
                let found = this.consumer.offsets_for_times(asked, left)?;
                let element = found.find_partition(&this.topic, number);
                element.map(|element| element.error().map(|()| element.offset())).transpose()
            })?;
            match found {
                Some(rdkafka::Offset::Offset(value)) => Ok(Some(offset(value, &place)?)),
                Some(rdkafka::Offset::End) => Ok(None),
                other => Err(LogError::Failed(format!("the broker answered {other:?} to a time on {place}"))),
            }
        })
        .await?
    }

    /// Asks again while the cluster is in a state that passes, as just after a topic's creation or a failover: a
    /// question changes nothing. Each try is given the time that is left.
    fn ask<T>(&self, place: &Place, question: impl Fn(Duration) -> KafkaResult<T>) -> Result<T, LogError> {
        self.serve_events();
        let until = Instant::now() + self.timeout;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match question(left) {
                Err(error) if errors::code(&error).is_some_and(errors::passes) && left > AGAIN => {
                    tracing::debug!(%place, %error, "asking again");
                    std::thread::sleep(AGAIN);
                }
                answer => return answer.map_err(|error| explain(error, place)),
            }
        }
    }

    /// Takes what gathered in the consumer's queue, where nothing but notices of lost connections can be.
    fn serve_events(&self) {
        while self.consumer.poll(Duration::ZERO).is_some() {}
    }
}

fn offset(value: i64, place: &Place) -> Result<Offset, LogError> {
    let value = u64::try_from(value);
    value.map(Offset::new).map_err(|_| LogError::Failed(format!("the broker gave a negative offset for {place}")))
}

/// Runs what waits for the network where waiting does no harm.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, LogError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| LogError::Failed(format!("a call of the Kafka client broke off: {error}")))
}
