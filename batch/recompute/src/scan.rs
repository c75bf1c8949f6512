//! Reading a partition's inputs through DataFusion: an explicit list of objects, one after the other, in offset order.
//!
//! The reader below the engine hands out the bytes of an object only after it has hashed all of them, so what is counted
//! is what the list of inputs names. Above the engine every record is held against the footers: offsets without a gap,
//! append times that never go back, as many clicks as the footer says.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use archive::chain::Segment;
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use bytes::Bytes;
use clicks::position::Offset;
use clicks::time::Timestamp;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::arrow::{ARROW_SCHEMA_META_KEY, encode_arrow_schema, parquet_to_arrow_schema};
use parquet::errors::ParquetError;
use parquet::file::metadata::{FileMetaData, KeyValue, ParquetMetaData, ParquetMetaDataBuilder, ParquetMetaDataReader};
use platform::objects::Objects;

use crate::engine::Engine;
use crate::error::InputError;
use crate::input::{Input, read_verified};
use crate::plan::Plan;
use crate::record::{Columns, NEEDED_SCHEMA, PROJECTION, READ_SCHEMA, ads_as_words};

/// SHA-256 of the objects that were read, by key.
#[derive(Debug, Clone, Default)]
pub(crate) struct Hashes(Arc<Mutex<BTreeMap<String, String>>>);

impl Hashes {
    fn insert(&self, key: String, sha256: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(key, sha256);
    }

    pub(crate) fn get(&self, key: &str) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
    }
}

/// The records of all partitions up to their cuts, in the order of the partitions, as a table that DataFusion streams.
#[derive(Debug)]
pub(crate) struct Scan {
    partitions: Vec<Arc<dyn PartitionStream>>,
}

impl Scan {
    /// The inputs of one partition follow each other without a gap, but for recorded ones.
    pub(crate) fn new(engine: &Engine, objects: &Objects, plan: &Plan, hashes: &Hashes) -> Self {
        let partition = |inputs: &Vec<Input>| {
            let (store, objects, inputs, hashes) = (engine.store(), objects.clone(), inputs.clone(), hashes.clone());
            Arc::new(ProvenPartition { store, objects, inputs, hashes }) as Arc<dyn PartitionStream>
        };
        Scan { partitions: plan.inputs.values().map(partition).collect() }
    }

    /// All partitions as an input of an operator.
    pub(crate) fn plan(&self) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let schema = NEEDED_SCHEMA.clone();
        Ok(Arc::new(StreamingTableExec::try_new(schema, self.partitions.clone(), None, [], false, None)?))
    }

    /// Each partition as a table.
    pub(crate) fn tables(&self) -> Result<Vec<StreamingTable>, DataFusionError> {
        let table = |partition: &Arc<dyn PartitionStream>| {
            StreamingTable::try_new(NEEDED_SCHEMA.clone(), vec![partition.clone()])
        };
        self.partitions.iter().map(table).collect()
    }
}

/// One partition, proven while it is read.
#[derive(Debug)]
struct ProvenPartition {
    store: ObjectStoreUrl,
    objects: Objects,
    inputs: Vec<Input>,
    hashes: Hashes,
}

impl PartitionStream for ProvenPartition {
    fn schema(&self) -> &SchemaRef {
        &NEEDED_SCHEMA
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let batches = match self.open(context) {
            Ok(batches) => batches,
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        };
        let proof = Proof::new(self.inputs.clone());
        let proven = futures::stream::try_unfold((batches, proof), |(mut batches, mut proof)| async {
            while let Some(batch) = batches.next().await {
                let batch = batch?;
                let used = proof.check(&batch).map_err(external)?;
                if used > 0 {
                    return Ok(Some((batch.slice(0, used), (batches, proof))));
                }
            }
            proof.finish().map_err(external)?;
            Ok(None)
        });
        Box::pin(RecordBatchStreamAdapter::new(NEEDED_SCHEMA.clone(), proven))
    }
}

fn external(error: InputError) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}

impl ProvenPartition {
    fn open(&self, context: Arc<TaskContext>) -> Result<BatchStream, DataFusionError> {
        let path = |segment: &Segment| self.objects.path(&segment.key.to_string());
        let files = self.inputs.iter().map(|input| PartitionedFile::new(path(&input.segment), input.segment.bytes));
        let files: Vec<_> = files.collect();
        let segments = self.inputs.iter().map(|input| (path(&input.segment).to_string(), input.segment.clone()));
        let (objects, hashes) = (self.objects.clone(), self.hashes.clone());
        let readers = VerifiedReaders { objects, segments: segments.collect(), hashes };
        let source = ParquetSource::new(READ_SCHEMA.clone()).with_parquet_file_reader_factory(Arc::new(readers));
        // One group, order kept: the engine may neither split nor reorder the objects of a log.
        let config = FileScanConfigBuilder::new(self.store.clone(), Arc::new(source))
            .with_projection_indices(Some(PROJECTION.clone()))?
            .with_file_group(FileGroup::new(files))
            .with_preserve_order(true)
            .build();
        Ok(DataSourceExec::from_data_source(config).execute(0, context)?.boxed())
    }
}

type BatchStream = BoxStream<'static, Result<RecordBatch, DataFusionError>>;

/// Holds the records of one partition, batch after batch, against the footers of its objects.
#[derive(Debug)]
struct Proof {
    /// Inputs that are not read to their end yet.
    left: VecDeque<Input>,
    next: Offset,
    append_time: Timestamp,
    /// Clicks of the object at the front so far.
    clicks: u64,
}

impl Proof {
    fn new(inputs: Vec<Input>) -> Self {
        let next = inputs.first().map(|input| input.segment.footer.start).unwrap_or_default();
        Proof { left: inputs.into(), next, append_time: Timestamp::MIN, clicks: 0 }
    }

    /// After the last batch.
    fn finish(&self) -> Result<(), InputError> {
        match self.left.is_empty() {
            true => Ok(()),
            false => Err(self.damaged(format!("its records end at offset {}", self.next))),
        }
    }

    /// Holds every record against its footer and tells how many lie before the cut.
    fn check(&mut self, batch: &RecordBatch) -> Result<usize, InputError> {
        let columns = Columns::of(batch).ok_or_else(|| self.damaged("its columns are of other types".to_owned()))?;
        let (mut used, mut row) = (0, 0);
        while row < columns.len() {
            let sound = self.sound_run(&columns, row);
            if let Some(run) = sound {
                used += self.pass(&columns, row..row + run)?;
                row += run;
                continue;
            }
            // Something is wrong with one of the next rows: which, and what.
            let Some(input) = self.left.front() else {
                return Err(self.damaged("it has more records than its footer says".to_owned()));
            };
            let footer = &input.segment.footer;
            let (offset, append_time) = (columns.offset(row), columns.append_time(row));
            if offset != self.next {
                return Err(self.damaged(format!("offset {offset} stands where {} is next", self.next)));
            }
            let first = offset == footer.start && append_time != footer.append_time_min;
            if append_time < self.append_time || first || append_time > footer.append_time_max {
                return Err(self.damaged(format!("the append time {append_time} of offset {offset} is out of order")));
            }
            if !columns.are_records(row..row + 1) {
                let reason = "is a record of unknown kind or a click without its id, ad or time";
                return Err(InputError::at(&input.segment.key, offset, reason));
            }
            used += self.pass(&columns, row..row + 1)?;
            row += 1;
        }
        Ok(used)
    }

    /// How many rows from `row` on are the next ones of the object at the front, as a whole: all that the batch has of it.
    /// `None` when any of them is not sound.
    fn sound_run(&self, columns: &Columns, row: usize) -> Option<usize> {
        let footer = &self.left.front()?.segment.footer;
        let run = (footer.end.distance_from(self.next) as usize).min(columns.len() - row);
        let (offsets, times) = (columns.offsets(row..row + run), columns.append_times(row..row + run));
        let next = self.next.value() as i64;
        let (first, last) = (Timestamp::from_millis(*times.first()?), Timestamp::from_millis(*times.last()?));
        let sound = offsets.iter().zip(next..).all(|(offset, next)| *offset == next)
            && times.is_sorted()
            && first >= self.append_time
            && (self.next != footer.start || first == footer.append_time_min)
            && last <= footer.append_time_max
            && columns.are_records(row..row + run);
        sound.then_some(run)
    }

    /// Rows of the object at the front that are sound; tells how many lie before its cut.
    fn pass(&mut self, columns: &Columns, rows: Range<usize>) -> Result<usize, InputError> {
        let Some(input) = self.left.front() else { return Ok(0) };
        let used = input.to.distance_from(self.next.min(input.to)).min(rows.len() as u64);
        let end = input.segment.footer.end;
        self.clicks += columns.clicks(rows.clone());
        self.next = columns.offset(rows.end - 1).next();
        self.append_time = columns.append_time(rows.end - 1);
        if self.next == end {
            self.end_object()?;
        }
        Ok(used as usize)
    }

    fn end_object(&mut self) -> Result<(), InputError> {
        let Some(input) = self.left.front() else { return Ok(()) };
        let footer = &input.segment.footer;
        if self.clicks != footer.clicks || self.append_time != footer.append_time_max {
            let reason = format!("it has {} clicks up to {}, its footer says otherwise", self.clicks, self.append_time);
            return Err(self.damaged(reason));
        }
        self.clicks = 0;
        // Where an object reaches over the end of a gap, what lies behind is in the next one again.
        self.append_time = self.append_time.min(input.segment.append_time_max);
        self.left.pop_front();
        // Between two objects records may be missing by a recorded gap: the chain has proven which.
        self.next = self.left.front().map_or(self.next, |input| input.segment.footer.start);
        Ok(())
    }

    fn damaged(&self, reason: String) -> InputError {
        let key =
            self.left.front().map_or_else(|| "after the last one".to_owned(), |input| input.segment.key.to_string());
        InputError::damaged(key, reason)
    }
}

/// Readers of whole, verified objects.
#[derive(Debug)]
struct VerifiedReaders {
    objects: Objects,
    /// By path in the store.
    segments: HashMap<String, Segment>,
    hashes: Hashes,
}

impl ParquetFileReaderFactory for VerifiedReaders {
    fn create_reader(
        &self,
        _partition_index: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        _metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>, DataFusionError> {
        let path = file.path().as_ref();
        let segment = self.segments.get(path).cloned();
        let segment = segment.ok_or_else(|| DataFusionError::Internal(format!("`{path}` was not asked for")))?;
        Ok(Box::new(VerifiedReader {
            objects: self.objects.clone(),
            segment,
            hashes: self.hashes.clone(),
            bytes: None,
        }))
    }
}

/// The same metadata with a hint at another Arrow schema: names of ads come as the dictionaries that the file holds, not
/// spelled out row by row, which would take a third of the count.
fn with_words(metadata: ParquetMetaData) -> Result<ParquetMetaData, ParquetError> {
    let file = metadata.file_metadata();
    let schema = parquet_to_arrow_schema(file.schema_descr(), file.key_value_metadata())?;
    let hint = KeyValue::new(ARROW_SCHEMA_META_KEY.to_owned(), encode_arrow_schema(&ads_as_words(&schema)));
    let others = file.key_value_metadata().into_iter().flatten().filter(|pair| pair.key != ARROW_SCHEMA_META_KEY);
    let file = FileMetaData::new(
        file.version(),
        file.num_rows(),
        file.created_by().map(str::to_owned),
        Some(others.cloned().chain([hint]).collect()),
        file.schema_descr_ptr(),
        file.column_orders().cloned(),
    );
    let pages = (metadata.column_index().cloned(), metadata.offset_index().cloned());
    Ok(ParquetMetaDataBuilder::new(file)
        .set_row_groups(metadata.row_groups().to_vec())
        .set_column_index(pages.0)
        .set_offset_index(pages.1)
        .build())
}

/// Reads one object as a whole at the first use, and frees it when it is dropped.
struct VerifiedReader {
    objects: Objects,
    segment: Segment,
    hashes: Hashes,
    bytes: Option<Bytes>,
}

impl VerifiedReader {
    async fn load(&mut self) -> Result<Bytes, ParquetError> {
        if let Some(bytes) = &self.bytes {
            return Ok(bytes.clone());
        }
        let read = read_verified(&self.objects, &self.segment).await;
        let (bytes, sha256) = read.map_err(|error| ParquetError::External(Box::new(error)))?;
        self.hashes.insert(self.segment.key.to_string(), sha256);
        self.bytes = Some(bytes.clone());
        Ok(bytes)
    }

    fn damaged(&self, reason: impl ToString) -> ParquetError {
        ParquetError::External(Box::new(InputError::damaged(&self.segment.key, reason)))
    }
}

impl AsyncFileReader for VerifiedReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes, ParquetError>> {
        async move {
            let bytes = self.load().await?;
            if range.start > range.end || range.end > bytes.len() as u64 {
                return Err(self.damaged(format!("its footer points to the bytes {range:?}, which it has not")));
            }
            Ok(bytes.slice(range.start as usize..range.end as usize))
        }
        .boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>, ParquetError>> {
        async move {
            let bytes = self.load().await?;
            let mut reader = ParquetMetaDataReader::new();
            if let Some(options) = options {
                reader = reader
                    .with_column_index_policy(options.column_index_policy())
                    .with_offset_index_policy(options.offset_index_policy());
            }
            let metadata = reader.parse_and_finish(&bytes).map_err(|error| self.damaged(error))?;
            with_words(metadata).map(Arc::new).map_err(|error| self.damaged(error))
        }
        .boxed()
    }
}
