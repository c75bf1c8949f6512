//! Drains the queue of one partition with librdkafka's batch call, which rdkafka does not wrap. Polled one by one, a
//! message costs an event and a lock of its own: three times the CPU of a batch.
#![allow(unsafe_code)]

use std::collections::VecDeque;
use std::ffi::CString;
use std::slice;

use rdkafka::bindings as native;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::BorrowedMessage;
use rdkafka::types::RDKafkaRespErr;

use super::client::Client;

/// The queue of an assigned partition. It must be dropped before its consumer.
pub(super) struct Batches {
    queue: *mut native::rd_kafka_queue_t,
    /// Room for what a call gives.
    fetched: Vec<*mut native::rd_kafka_message_t>,
    /// What is fetched and not taken yet.
    waiting: VecDeque<*mut native::rd_kafka_message_t>,
}

// SAFETY: librdkafka's queues and messages may be used from any thread, and those that wait are ours alone.
unsafe impl Send for Batches {}

/// What whoever is handed a message does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    Whole,
    /// Not at all: it comes again at the next call.
    NoRoom,
}

impl Batches {
    /// `None` when librdkafka does not know the partition.
    pub(super) fn of(consumer: &BaseConsumer<Client>, topic: &str, partition: i32) -> Option<Self> {
        let topic = CString::new(topic).ok()?;
        // SAFETY: the handle is valid while the consumer is borrowed; the name is copied. The result is ours to destroy.
        let queue =
            unsafe { native::rd_kafka_queue_get_partition(consumer.client().native_ptr(), topic.as_ptr(), partition) };
        (!queue.is_null()).then(|| Batches { queue, fetched: Vec::new(), waiting: VecDeque::new() })
    }

    /// Hands up to `max` messages that are there to `take`, in order, without waiting, until there is no room. What comes
    /// after an error that `take` returns is dropped: whoever gets one reads no further.
    pub(super) fn drain<E>(
        &mut self,
        max: usize,
        mut take: impl FnMut(Message<'_>) -> Result<Taken, E>,
    ) -> Result<(), E> {
        let missing = max.saturating_sub(self.waiting.len());
        self.fetched.resize(missing, std::ptr::null_mut());
        // SAFETY: the queue is alive, and there is room for as many pointers.
        let count = unsafe { native::rd_kafka_consume_batch_queue(self.queue, 0, self.fetched.as_mut_ptr(), missing) };
        // It fails only for arguments that these are not.
        self.fetched.truncate(usize::try_from(count).unwrap_or_default());
        self.waiting.extend(self.fetched.drain(..));
        for _ in 0..max {
            let Some(message) = self.waiting.front() else { break };
            // SAFETY: the message is alive until it is destroyed below, and nothing borrows it longer.
            match take(Message(unsafe { &**message })) {
                Ok(Taken::Whole) => self.destroy_front(),
                Ok(Taken::NoRoom) => break,
                Err(error) => {
                    self.destroy_all();
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    fn destroy_front(&mut self) {
        if let Some(message) = self.waiting.pop_front() {
            // SAFETY: librdkafka gave it to us, it is in nobody else's hands, and it is destroyed only here, once.
            unsafe { native::rd_kafka_message_destroy(message) };
        }
    }

    fn destroy_all(&mut self) {
        while !self.waiting.is_empty() {
            self.destroy_front();
        }
    }
}

impl Drop for Batches {
    fn drop(&mut self) {
        self.destroy_all();
        // SAFETY: `of` took the ownership of this handle, and its consumer is still there.
        unsafe { native::rd_kafka_queue_destroy(self.queue) }
    }
}

/// A message, or the error that stands in its place, as long as it is borrowed.
#[derive(Clone, Copy)]
pub(super) struct Message<'a>(&'a native::rd_kafka_message_t);

impl<'a> Message<'a> {
    pub(super) fn borrowed(message: &'a BorrowedMessage<'_>) -> Self {
        // SAFETY: the message is borrowed for as long as the result.
        Message(unsafe { &*message.ptr() })
    }

    pub(super) fn error(&self) -> Option<RDKafkaErrorCode> {
        match self.0.err {
            RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => None,
            error => Some(error.into()),
        }
    }

    pub(super) fn offset(&self) -> i64 {
        self.0.offset
    }

    pub(super) fn key(&self) -> Option<&'a [u8]> {
        // SAFETY: librdkafka's own description of a message: a key of that length, or null.
        unsafe { bytes(self.0.key, self.0.key_len) }
    }

    pub(super) fn value(&self) -> Option<&'a [u8]> {
        // SAFETY: as for the key.
        unsafe { bytes(self.0.payload, self.0.len) }
    }

    pub(super) fn time(&self) -> rdkafka::Timestamp {
        let mut kind = native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_NOT_AVAILABLE;
        // SAFETY: the message is alive, and only read.
        let millis = unsafe { native::rd_kafka_message_timestamp(self.0, &mut kind) };
        match kind {
            native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME if millis != -1 => {
                rdkafka::Timestamp::LogAppendTime(millis)
            }
            native::rd_kafka_timestamp_type_t::RD_KAFKA_TIMESTAMP_CREATE_TIME if millis != -1 => {
                rdkafka::Timestamp::CreateTime(millis)
            }
            _ => rdkafka::Timestamp::NotAvailable,
        }
    }

    pub(super) fn native(&self) -> *const native::rd_kafka_message_t {
        self.0
    }
}

/// # Safety
/// `start` is null, or points at `length` bytes that live for `'a`.
unsafe fn bytes<'a>(start: *const std::ffi::c_void, length: usize) -> Option<&'a [u8]> {
    // SAFETY: as the caller promises.
    (!start.is_null()).then(|| unsafe { slice::from_raw_parts(start.cast(), length) })
}
