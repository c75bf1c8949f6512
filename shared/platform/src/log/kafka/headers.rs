//! Headers to and from librdkafka.
//!
//! They are read by hand, because rdkafka panics at a name that is not UTF-8, and anybody who may write to the topic may
//! write one: a service would die of it at every start. Such a name is read with U+FFFD in the place of bad bytes, which
//! no name of our own has.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::ptr;
use std::slice;

use bytes::Bytes;
use rdkafka::bindings as native;
use rdkafka::error::RDKafkaErrorCode;
use rdkafka::message::OwnedHeaders;
use rdkafka::types::RDKafkaRespErr;

use super::super::{Header, LogError};
use super::batch::Message;

/// `None` when there are none.
pub(super) fn encode(headers: &[Header]) -> Result<Option<OwnedHeaders>, LogError> {
    if headers.is_empty() {
        return Ok(None);
    }
    let mut encoded = OwnedHeaders::new_with_capacity(headers.len());
    for Header { name, value } in headers {
        if name.contains('\0') {
            return Err(LogError::Failed(format!("the header name {name:?} has a zero byte, which Kafka clients cut")));
        }
        encoded = encoded.insert(rdkafka::message::Header { key: name, value: value.as_deref() });
    }
    Ok(Some(encoded))
}

/// The headers of a message that was read, in order.
pub(super) fn decode(message: Message<'_>) -> Result<Vec<Header>, LogError> {
    let mut decoded = Vec::new();
    each(message, |name, value| {
        let name = name.to_string_lossy().into_owned();
        decoded.push(Header { name, value: value.map(Bytes::copy_from_slice) });
    })?;
    Ok(decoded)
}

/// A message that was read has a header of this name.
pub(super) fn has(message: Message<'_>, wanted: &str) -> Result<bool, LogError> {
    let mut found = false;
    each(message, |name, _| found |= name.to_bytes() == wanted.as_bytes())?;
    Ok(found)
}

fn each(message: Message<'_>, mut take: impl FnMut(&CStr, Option<&[u8]>)) -> Result<(), LogError> {
    let mut headers = ptr::null_mut();
    // SAFETY: the pointer is that of a message which is borrowed for the whole of this function; the headers, parsed at
    // the first call, belong to it.
    match unsafe { native::rd_kafka_message_headers(message.native(), &mut headers) } {
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR => {}
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__NOENT => return Ok(()),
        error => {
            let code = RDKafkaErrorCode::from(error);
            return Err(LogError::Failed(format!("the headers of a record cannot be read: {code}")));
        }
    }
    // SAFETY: the headers live as long as the message.
    let count = unsafe { native::rd_kafka_header_cnt(headers) };
    for index in 0..count {
        let (mut name, mut value, mut length) = (ptr::null(), ptr::null(), 0);
        // SAFETY: the headers live as long as the message, and the index is below their count. On success the name
        // is a string that ends with a zero byte, and the value is null or has that length.
        unsafe {
            let got = native::rd_kafka_header_get_all(headers, index, &mut name, &mut value, &mut length);
            if got != RDKafkaRespErr::RD_KAFKA_RESP_ERR_NO_ERROR {
                let code = RDKafkaErrorCode::from(got);
                return Err(LogError::Failed(format!("header {index} of a record cannot be read: {code}")));
            }
            let value = (!value.is_null()).then(|| slice::from_raw_parts(value.cast::<u8>(), length));
            take(CStr::from_ptr(name), value);
        }
    }
    Ok(())
}
