//! Archived records as the count needs them, straight from the columns of a batch.

use std::sync::{Arc, LazyLock};

use archive::schema::schema;
use arrow::array::TimestampMillisecondArray;
use arrow::array::{Array, AsArray, FixedSizeBinaryArray, Int8Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Int8Type, Int64Type, SchemaRef, TimestampMillisecondType};
use clicks::id::ClickId;
use clicks::layout::{Kind, columns};
use clicks::position::Offset;
use clicks::time::Timestamp;

/// The columns that the count reads, in the order in which [`Columns`] takes them.
pub(crate) const NEEDED: [&str; 6] =
    [columns::OFFSET, columns::APPEND_TIME, columns::KIND, columns::CLICK_ID, columns::AD_ID, columns::EVENT_TIME];

/// The schema of what [`crate::scan`] gives and both engines take.
pub(crate) static NEEDED_SCHEMA: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(schema().project(&PROJECTION).expect("the projection is made from the schema")));

/// Indices of the needed columns in the archive's schema.
pub(crate) static PROJECTION: LazyLock<Vec<usize>> = LazyLock::new(|| {
    let schema = schema();
    NEEDED
        .iter()
        .map(|name| schema.index_of(name).expect("the archive's schema has the columns of its layout"))
        .collect()
});

/// One archived record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Record<'a> {
    pub(crate) offset: Offset,
    pub(crate) append_time: Timestamp,
    pub(crate) what: What<'a>,
}

/// What a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What<'a> {
    Control,
    /// Not a click; the code of the reason.
    Rejected(&'static str),
    Click {
        ad: &'a str,
        id: ClickId,
        event_time: Timestamp,
    },
}

/// The needed columns of one batch.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    offset: Int64Array,
    append_time: TimestampMillisecondArray,
    kind: Int8Array,
    click_id: FixedSizeBinaryArray,
    ad: StringArray,
    event_time: TimestampMillisecondArray,
}

impl Columns {
    /// Takes a batch with the columns of [`NEEDED`]; `None` when one has another type or holds nulls that it must not.
    pub(crate) fn of(batch: &RecordBatch) -> Option<Self> {
        let columns = Columns {
            offset: batch.column(0).as_primitive_opt::<Int64Type>()?.clone(),
            append_time: batch.column(1).as_primitive_opt::<TimestampMillisecondType>()?.clone(),
            kind: batch.column(2).as_primitive_opt::<Int8Type>()?.clone(),
            click_id: batch.column(3).as_fixed_size_binary_opt()?.clone(),
            ad: batch.column(4).as_string_opt()?.clone(),
            event_time: batch.column(5).as_primitive_opt::<TimestampMillisecondType>()?.clone(),
        };
        let nulls = columns.offset.null_count() + columns.append_time.null_count() + columns.kind.null_count();
        (nulls == 0 && columns.click_id.value_length() == 16).then_some(columns)
    }

    pub(crate) fn len(&self) -> usize {
        self.offset.len()
    }

    pub(crate) fn append_time(&self, row: usize) -> Timestamp {
        Timestamp::from_millis(self.append_time.value(row))
    }

    pub(crate) fn offset(&self, row: usize) -> Offset {
        Offset::new(self.offset.value(row) as u64)
    }

    /// The record of a row; `None` when its kind is unknown, or it is a click without its columns.
    pub(crate) fn record(&self, row: usize) -> Option<Record<'_>> {
        let what = match Kind::from_code(self.kind.value(row))? {
            Kind::Control => What::Control,
            Kind::Unreadable => What::Rejected("unreadable"),
            Kind::Empty => What::Rejected("no_value"),
            Kind::Click => {
                let whole = self.click_id.is_valid(row) && self.ad.is_valid(row) && self.event_time.is_valid(row);
                if !whole {
                    return None;
                }
                What::Click {
                    ad: self.ad.value(row),
                    id: ClickId::from_bytes(self.click_id.value(row).try_into().ok()?),
                    event_time: Timestamp::from_millis(self.event_time.value(row)),
                }
            }
        };
        Some(Record { offset: self.offset(row), append_time: self.append_time(row), what })
    }
}
