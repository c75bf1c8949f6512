//! Archived records as the count needs them, straight from the columns of a batch.

use std::ops::Range;
use std::sync::{Arc, LazyLock};

use archive::schema::schema;
use arrow::array::TimestampMillisecondArray;
use arrow::array::{Array, AsArray, FixedSizeBinaryArray, Int8Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Int8Type, Int32Type, Int64Type, Schema, SchemaRef, TimestampMillisecondType};
use clicks::id::ClickId;
use clicks::layout::{Kind, columns};
use clicks::position::Offset;
use clicks::time::Timestamp;

/// The columns that the count reads, in the order in which [`Columns`] takes them.
pub(crate) const NEEDED: [&str; 6] =
    [columns::OFFSET, columns::APPEND_TIME, columns::KIND, columns::CLICK_ID, columns::AD_ID, columns::EVENT_TIME];

/// The archive's schema, as it is read: names of ads in dictionaries, as the files hold them.
pub(crate) static READ_SCHEMA: LazyLock<SchemaRef> = LazyLock::new(|| Arc::new(ads_as_words(&schema())));

/// The same schema, but for names of ads, which stand in dictionaries.
pub(crate) fn ads_as_words(schema: &Schema) -> Schema {
    let fields = schema.fields().iter().map(|field| match (field.name().as_str(), field.data_type()) {
        (columns::AD_ID, DataType::Utf8) => {
            let words = DataType::Dictionary(DataType::Int32.into(), DataType::Utf8.into());
            Arc::new(Field::new(columns::AD_ID, words, field.is_nullable()))
        }
        _ => field.clone(),
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// The schema of what [`crate::scan`] gives and both engines take.
pub(crate) static NEEDED_SCHEMA: LazyLock<SchemaRef> =
    LazyLock::new(|| Arc::new(READ_SCHEMA.project(&PROJECTION).expect("the projection is made from the schema")));

/// Indices of the needed columns in the archive's schema.
pub(crate) static PROJECTION: LazyLock<Vec<usize>> = LazyLock::new(|| {
    let schema = schema();
    NEEDED
        .iter()
        .map(|name| schema.index_of(name).expect("the archive's schema has the columns of its layout"))
        .collect()
});

/// Whether these are the same words in the same memory: batches of a row group share theirs. `last` is held meanwhile, so
/// nothing else can lie where it lies.
pub(crate) fn same_words(last: &StringArray, words: &StringArray) -> bool {
    let place = |words: &StringArray| (words.value_offsets().as_ptr_range(), words.value_data().as_ptr());
    place(last) == place(words)
}

/// The needed columns of one batch.
#[derive(Debug, Clone)]
pub(crate) struct Columns {
    offset: Int64Array,
    append_time: TimestampMillisecondArray,
    kind: Int8Array,
    click_id: FixedSizeBinaryArray,
    ad: Int32Array,
    words: StringArray,
    event_time: TimestampMillisecondArray,
}

impl Columns {
    /// Takes a batch with the columns of [`NEEDED`]; `None` when one has another type or holds nulls that it must not.
    pub(crate) fn of(batch: &RecordBatch) -> Option<Self> {
        let ads = batch.column(4).as_dictionary_opt::<Int32Type>()?;
        let columns = Columns {
            offset: batch.column(0).as_primitive_opt::<Int64Type>()?.clone(),
            append_time: batch.column(1).as_primitive_opt::<TimestampMillisecondType>()?.clone(),
            kind: batch.column(2).as_primitive_opt::<Int8Type>()?.clone(),
            click_id: batch.column(3).as_fixed_size_binary_opt()?.clone(),
            ad: ads.keys().clone(),
            words: ads.values().as_string_opt()?.clone(),
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

    /// Names of ads; batches of one object mostly share them.
    pub(crate) fn words(&self) -> &StringArray {
        &self.words
    }

    pub(crate) fn offsets(&self, rows: Range<usize>) -> &[i64] {
        &self.offset.values()[rows]
    }

    /// In milliseconds.
    pub(crate) fn append_times(&self, rows: Range<usize>) -> &[i64] {
        &self.append_time.values()[rows]
    }

    /// `None` when the kind is unknown.
    #[inline]
    pub(crate) fn kind(&self, row: usize) -> Option<Kind> {
        Kind::from_code(self.kind.value(row))
    }

    /// Of a click: the place of its ad among [`Columns::words`].
    #[inline]
    pub(crate) fn ad(&self, row: usize) -> usize {
        self.ad.value(row) as usize
    }

    #[inline]
    pub(crate) fn click_id(&self, row: usize) -> ClickId {
        ClickId::from_bytes(self.click_id.value_data().as_chunks().0[row])
    }

    #[inline]
    pub(crate) fn event_time(&self, row: usize) -> Timestamp {
        Timestamp::from_millis(self.event_time.value(row))
    }

    /// Whether all of these rows are of a known kind, and clicks have all that they need.
    pub(crate) fn are_records(&self, mut rows: Range<usize>) -> bool {
        let whole = self.click_id.null_count() + self.ad.null_count() + self.event_time.null_count() == 0;
        rows.all(|row| match self.kind(row) {
            Some(Kind::Click) => whole || self.is_whole(row),
            Some(_) => true,
            None => false,
        })
    }

    pub(crate) fn clicks(&self, rows: Range<usize>) -> u64 {
        self.kind.values()[rows].iter().filter(|kind| **kind == Kind::Click as i8).count() as u64
    }

    #[inline]
    fn is_whole(&self, row: usize) -> bool {
        self.click_id.is_valid(row) && self.ad.is_valid(row) && self.event_time.is_valid(row)
    }
}
