//! Asks the broker for the identity of a topic life: librdkafka's `DescribeTopics`, which rdkafka does not wrap.
#![allow(unsafe_code)]

use std::ffi::{CString, c_char, c_int};
use std::ptr;
use std::time::Duration;

use clicks::id::TopicId;
use rdkafka::ClientContext;
use rdkafka::bindings as native;
use rdkafka::client::Client;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::types::RDKafkaRespErr;

/// A topic as the cluster describes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Description {
    pub(super) id: TopicId,
    pub(super) partitions: u32,
    /// Fewest replicas of any partition.
    pub(super) replicas: u32,
    /// Partitions that have a leader now.
    pub(super) led: u32,
}

/// Something of librdkafka's that is destroyed when it goes out of scope.
struct Owned<T> {
    pointer: *mut T,
    destroy: unsafe extern "C" fn(*mut T),
}

impl<T> Owned<T> {
    fn new(pointer: *mut T, destroy: unsafe extern "C" fn(*mut T), what: &str) -> Result<Self, KafkaError> {
        match pointer.is_null() {
            true => Err(KafkaError::AdminOpCreation(format!("librdkafka gave no {what}"))),
            false => Ok(Owned { pointer, destroy }),
        }
    }
}

impl<T> Drop for Owned<T> {
    fn drop(&mut self) {
        // SAFETY: `new` took the sole ownership of a pointer that is not null, from the function that pairs with `destroy`.
        unsafe { (self.destroy)(self.pointer) }
    }
}

/// How long the cluster is asked which of its brokers answer such questions now.
const REFRESH: Duration = Duration::from_secs(1);

/// Waits for the answer, so it belongs on a blocking thread. A topic that does not exist is an error of its code.
///
/// librdkafka asks the broker that the last metadata named as the controller, and when that one is down, waits for it
/// until the metadata are read again, half a minute later. So after a failure they are read at once, for the next try.
pub(super) fn describe<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Description, KafkaError> {
    let described = ask(client, topic, timeout);
    if described.is_err() {
        // Whether that succeeds is seen at the next try.
        let _ = client.fetch_metadata(Some(topic), REFRESH);
    }
    described
}

/// Asks once. Unlike reading metadata it never makes a broker create the topic.
pub(super) fn ask<C: ClientContext>(
    client: &Client<C>,
    topic: &str,
    timeout: Duration,
) -> Result<Description, KafkaError> {
    let name = CString::new(topic)?;
    let timeout_millis = c_int::try_from(timeout.as_millis()).unwrap_or(c_int::MAX);
    let handle = client.native_ptr();
    let mut names: [*const c_char; 1] = [name.as_ptr()];

    // SAFETY: the handle is valid as long as `client` is borrowed; names are copied by librdkafka, and `name` outlives
    // the call; each result is owned by us and destroyed by its own function, before `client` can go.
    let (topics, options, queue) = unsafe {
        let topics = native::rd_kafka_TopicCollection_of_topic_names(names.as_mut_ptr(), names.len());
        let operation = native::rd_kafka_admin_op_t::RD_KAFKA_ADMIN_OP_DESCRIBETOPICS;
        let options = native::rd_kafka_AdminOptions_new(handle, operation);
        let queue = native::rd_kafka_queue_new(handle);
        (
            Owned::new(topics, native::rd_kafka_TopicCollection_destroy, "topic collection"),
            Owned::new(options, native::rd_kafka_AdminOptions_destroy, "options"),
            Owned::new(queue, native::rd_kafka_queue_destroy, "queue"),
        )
    };
    let (topics, options, queue) = (topics?, options?, queue?);

    // SAFETY: all pointers are alive, and a null error buffer of size 0 is allowed. The request copies what it needs;
    // its answer comes to `queue`, which is ours alone.
    let event = unsafe {
        let set =
            native::rd_kafka_AdminOptions_set_request_timeout(options.pointer, timeout_millis, ptr::null_mut(), 0);
        check(set)?;
        native::rd_kafka_DescribeTopics(handle, topics.pointer, options.pointer, queue.pointer);
        // librdkafka itself answers at the timeout; the margin lets its own reason arrive.
        native::rd_kafka_queue_poll(queue.pointer, timeout_millis.saturating_add(1_000))
    };
    if event.is_null() {
        return Err(KafkaError::AdminOp(RDKafkaErrorCode::OperationTimedOut));
    }
    let event = Owned::new(event, native::rd_kafka_event_destroy, "event")?;

    // SAFETY: the event is alive; everything reached from it belongs to it and is only read while it is. A pointer that
    // librdkafka may leave null is looked at before it is followed.
    unsafe {
        check(native::rd_kafka_event_error(event.pointer))?;
        let result = native::rd_kafka_event_DescribeTopics_result(event.pointer);
        if result.is_null() {
            return Err(KafkaError::AdminOpCreation("librdkafka answered something else".to_owned()));
        }
        let mut count = 0;
        let found = native::rd_kafka_DescribeTopics_result_topics(result, &mut count);
        if found.is_null() || count != 1 {
            return Err(KafkaError::AdminOpCreation(format!("{count} topics were described instead of one")));
        }
        read(*found)
    }
}

/// # Safety
/// `topic` is a description whose event is alive.
unsafe fn read(topic: *const native::rd_kafka_TopicDescription_t) -> Result<Description, KafkaError> {
    // SAFETY: as the caller promises; results belong to the description.
    unsafe {
        let error = native::rd_kafka_TopicDescription_error(topic);
        if !error.is_null() {
            check(native::rd_kafka_error_code(error))?;
        }
        let id = native::rd_kafka_TopicDescription_topic_id(topic);
        let high = native::rd_kafka_Uuid_most_significant_bits(id) as u64;
        let low = native::rd_kafka_Uuid_least_significant_bits(id) as u64;
        let id = u128::from(high) << 64 | u128::from(low);
        if id == 0 {
            return Err(KafkaError::AdminOpCreation("the brokers give topics no ids; Kafka 3.0 or newer does".into()));
        }
        let mut count = 0;
        let partitions = native::rd_kafka_TopicDescription_partitions(topic, &mut count);
        let (mut fewest, mut led) = (None, 0);
        for index in 0..count {
            let partition = *partitions.add(index);
            let mut replicas = 0;
            native::rd_kafka_TopicPartitionInfo_replicas(partition, &mut replicas);
            fewest = Some(fewest.map_or(replicas, |fewest: usize| fewest.min(replicas)));
            if !native::rd_kafka_TopicPartitionInfo_leader(partition).is_null() {
                led += 1;
            }
        }
        Ok(Description {
            id: TopicId::from_u128(id),
            partitions: u32::try_from(count).unwrap_or(u32::MAX),
            replicas: u32::try_from(fewest.unwrap_or_default()).unwrap_or(u32::MAX),
            led,
        })
    }
}

fn check(code: RDKafkaRespErr) -> Result<(), KafkaError> {
    match code {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => Ok(()),
        error => Err(KafkaError::AdminOp(error.into())),
    }
}
