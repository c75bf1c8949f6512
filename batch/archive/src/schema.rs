//! The columns of a raw object. Their meaning is documented in [`clicks::layout::columns`].

use std::sync::{Arc, LazyLock};

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use clicks::layout::columns::*;

/// Bytes of a click id.
pub(crate) const CLICK_ID_BYTES: i32 = 16;
/// The time zone of every time column.
pub(crate) const UTC: &str = "UTC";

/// Schema of a raw object, columns in the order in which they are stored.
pub fn schema() -> SchemaRef {
    static SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| {
        let time = || DataType::Timestamp(TimeUnit::Millisecond, Some(UTC.into()));
        Arc::new(Schema::new(vec![
            Field::new(OFFSET, DataType::Int64, false),
            Field::new(APPEND_TIME, time(), false),
            Field::new(BROKER_TIME, time(), false),
            Field::new(KIND, DataType::Int8, false),
            Field::new(CLICK_ID, DataType::FixedSizeBinary(CLICK_ID_BYTES), true),
            Field::new(AD_ID, DataType::Utf8, true),
            Field::new(USER_ID, DataType::Utf8, true),
            Field::new(EVENT_TIME, time(), true),
            Field::new(RECEIVED_TIME, time(), true),
            Field::new(USER_AGENT, DataType::Utf8, true),
            Field::new(KEY, DataType::Binary, true),
            Field::new(KEY_ABSENT, DataType::Boolean, false),
            Field::new(RAW, DataType::Binary, true),
            Field::new(HEADERS, DataType::Binary, true),
        ]))
    });
    SCHEMA.clone()
}
