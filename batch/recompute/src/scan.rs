//! Reading a partition's inputs through DataFusion: an explicit list of objects, one after the other, in offset order.
//!
//! The reader below the engine hands out the bytes of an object only after it has hashed all of them, so what is counted
//! is what the list of inputs names. Above the engine every record is held against the footers: offsets without a gap,
//! append times that never go back, as many clicks as the footer says.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

use archive::chain::Segment;
use archive::schema::schema;
use bytes::Bytes;
use clicks::position::Offset;
use clicks::time::Timestamp;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{
    FileGroup, FileScanConfigBuilder, ParquetFileReaderFactory, ParquetSource,
};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use platform::objects::Objects;

use crate::engine::Engine;
use crate::error::{BatchError, InputError};
use crate::input::{Input, read_verified};
use crate::record::{Columns, PROJECTION, What};

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

/// The records of one partition up to its cut, in offset order.
pub(crate) struct Scan {
    stream: SendableRecordBatchStream,
    /// Inputs that are not read to their end yet.
    left: VecDeque<Input>,
    next: Offset,
    append_time: Timestamp,
    /// Clicks of the object at the front so far.
    clicks: u64,
}

impl Scan {
    /// Opens the inputs of one partition, which follow each other without a gap.
    pub(crate) fn open(
        engine: &Engine,
        objects: &Objects,
        inputs: Vec<Input>,
        hashes: Hashes,
    ) -> Result<Self, DataFusionError> {
        let path = |segment: &Segment| objects.path(&segment.key.to_string());
        let files = inputs.iter().map(|input| PartitionedFile::new(path(&input.segment), input.segment.bytes));
        let files: Vec<_> = files.collect();
        let segments = inputs.iter().map(|input| (path(&input.segment).to_string(), input.segment.clone())).collect();
        let readers = VerifiedReaders { objects: objects.clone(), segments, hashes };
        let source = ParquetSource::new(schema()).with_parquet_file_reader_factory(Arc::new(readers));
        // One group, order kept: the engine may neither split nor reorder the objects of a log.
        let config = FileScanConfigBuilder::new(engine.store(), Arc::new(source))
            .with_projection_indices(Some(PROJECTION.clone()))?
            .with_file_group(FileGroup::new(files))
            .with_preserve_order(true)
            .build();
        let stream = DataSourceExec::from_data_source(config).execute(0, engine.task())?;
        let next = inputs.first().map(|input| input.segment.footer.start).unwrap_or_default();
        Ok(Scan { stream, left: inputs.into(), next, append_time: Timestamp::MIN, clicks: 0 })
    }

    /// The next batch and how many of its first rows lie before the cut; `None` after the last one.
    pub(crate) async fn next(&mut self) -> Result<Option<(Columns, usize)>, BatchError> {
        while let Some(batch) = self.stream.next().await {
            let batch = batch?;
            let columns =
                Columns::of(&batch).ok_or_else(|| self.damaged("its columns are of other types".to_owned()))?;
            let used = self.check(&columns)?;
            if used > 0 {
                return Ok(Some((columns, used)));
            }
        }
        match self.left.front() {
            None => Ok(None),
            Some(_) => Err(self.damaged(format!("its records end at offset {}", self.next)).into()),
        }
    }

    /// Holds every record against its footer and tells how many lie before the cut.
    fn check(&mut self, columns: &Columns) -> Result<usize, InputError> {
        let mut used = 0;
        for row in 0..columns.len() {
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
            let Some(record) = columns.record(row) else {
                return Err(InputError::at(
                    &input.segment.key,
                    offset,
                    "is a record of unknown kind or a click without its id, ad or time",
                ));
            };
            used += usize::from(offset < input.to);
            self.clicks += u64::from(matches!(record.what, What::Click { .. }));
            (self.next, self.append_time) = (offset.next(), append_time);
            if self.next == footer.end {
                self.end_object()?;
            }
        }
        Ok(used)
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

impl std::fmt::Debug for Scan {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scan").field("next", &self.next).field("left", &self.left.len()).finish_non_exhaustive()
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
            reader.parse_and_finish(&bytes).map(Arc::new).map_err(|error| self.damaged(error))
        }
        .boxed()
    }
}
