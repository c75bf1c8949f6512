//! Reading Parquet files that somebody else has listed.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, TimestampMillisecondArray};
use arrow::datatypes::{FieldRef, SchemaRef};
use clicks::time::Interval;
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::{Column, ScalarValue, ToDFSchema};
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::datasource::table_schema::TableSchema;
use datafusion::error::DataFusionError;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use platform::objects::Objects;

use crate::session::STORE;

/// Files of one schema. Each has values of its own besides, the same for all of its rows.
#[derive(Debug)]
pub(super) struct Files {
    schema: TableSchema,
    /// The column whose values lie within [`File::span`].
    time: &'static str,
}

/// One of them.
#[derive(Debug, Clone)]
pub(super) struct File {
    pub(super) key: String,
    pub(super) bytes: u64,
    pub(super) span: Interval,
    pub(super) values: Vec<ScalarValue>,
}

impl Files {
    pub(super) fn new(stored: SchemaRef, values: Vec<FieldRef>, time: &'static str) -> Self {
        Files { schema: TableSchema::builder(stored).with_table_partition_cols(values).build(), time }
    }

    /// The stored columns, then the values of the files.
    pub(super) fn schema(&self) -> &SchemaRef {
        self.schema.table_schema()
    }

    /// Those that may have a row which the filters let through.
    pub(super) fn pruned(
        &self,
        state: &dyn Session,
        files: Vec<File>,
        filters: &[Expr],
    ) -> Result<Vec<File>, DataFusionError> {
        let Some(filter) = conjunction(filters.iter().cloned()) else { return Ok(files) };
        let filter = state.create_physical_expr(filter, &self.schema().clone().to_dfschema()?)?;
        let predicate = PruningPredicateBuilder::new().with_file_schema(self.schema().clone()).build(filter);
        // A filter that no bound can be held against lets all through.
        let Some(predicate) = predicate else { return Ok(files) };
        let keep = predicate.prune(&Bounds { time: self.time, schema: self.schema(), files: &files })?;
        Ok(files.into_iter().zip(keep).filter_map(|(file, keep)| keep.then_some(file)).collect())
    }

    /// A plan that reads them, some at a time.
    pub(super) fn scan(
        &self,
        objects: &Objects,
        files: &[File],
        projection: Option<&Vec<usize>>,
        partitions: usize,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        if files.is_empty() {
            let schema = match projection {
                Some(columns) => Arc::new(self.schema().project(columns)?),
                None => self.schema().clone(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        let files = files.iter().map(|file| {
            let mut listed = PartitionedFile::new(objects.path(&file.key), file.bytes);
            listed.partition_values.clone_from(&file.values);
            listed
        });
        let source = ParquetSource::new(self.schema.clone()).with_pushdown_filters(true);
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::parse(STORE)?, Arc::new(source))
            .with_projection_indices(projection.cloned())?
            .with_file_groups(FileGroup::new(files.collect()).split_files(partitions))
            .build();
        Ok(DataSourceExec::from_data_source(config))
    }
}

/// Between which values the rows of each file lie.
struct Bounds<'a> {
    time: &'static str,
    schema: &'a SchemaRef,
    files: &'a [File],
}

impl Bounds<'_> {
    fn of(&self, column: &Column, bound: fn(Interval) -> i64) -> Option<ArrayRef> {
        if column.name() == self.time {
            let bounds = TimestampMillisecondArray::from_iter_values(self.files.iter().map(|file| bound(file.span)));
            return Some(Arc::new(bounds.with_timezone("UTC")));
        }
        let index = self.schema.index_of(column.name()).ok()?;
        let values = self.files.first()?.values.len();
        let place = index.checked_sub(self.schema.fields().len() - values)?;
        ScalarValue::iter_to_array(self.files.iter().map(|file| file.values[place].clone())).ok()
    }
}

impl PruningStatistics for Bounds<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column, |span| span.start.as_millis())
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.of(column, |span| span.end.as_millis() - 1)
    }

    fn num_containers(&self) -> usize {
        self.files.len()
    }

    fn null_counts(&self, _: &Column) -> Option<ArrayRef> {
        None
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        None
    }

    fn contained(&self, _: &Column, _: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
