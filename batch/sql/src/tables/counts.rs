//! The published counts of one grain, a row per ad and period, with what was found after their day was final.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, AsArray, Date32Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMillisecondArray,
};
use arrow::datatypes::{DataType, Field, SchemaRef, TimestampMillisecondType};
use async_trait::async_trait;
use clicks::books::PeriodState;
use clicks::tables::columns::{AD_ID, ADJUSTMENT, CLASS, PERIOD_START};
use clicks::time::{Day, Timestamp};
use clicks::window::Grain;
use clicks::zone::Zone;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::union::UnionExec;
use futures::{StreamExt, TryStreamExt};
use recompute::published;

use super::files::{File, Files};
use crate::error::SqlError;
use crate::snapshot::{Pin, Snapshot};

/// Values of a day that its file does not hold.
pub(super) const DAY: &str = "day";
pub(super) const STATE: &str = "state";

/// The table of a grain, at the position of its pin.
#[derive(Debug)]
pub(super) struct Counts {
    grain: Grain,
    pin: Pin,
    files: Files,
}

impl Counts {
    pub(super) fn new(grain: Grain, pin: Pin) -> Self {
        let field = |name: &str, data_type| Arc::new(Field::new(name, data_type, false));
        let values =
            vec![field(DAY, DataType::Date32), field(STATE, DataType::Utf8), field(ADJUSTMENT, DataType::Int64)];
        Counts { grain, pin, files: Files::new(published::schema(false), values, PERIOD_START) }
    }
}

/// A day's file; a name without one where it was before the first day. `adjustment` is that of all of its rows, if it is one.
fn listed(snapshot: &Snapshot, grain: Grain, day: Day, adjustment: Option<i64>) -> File {
    let file = snapshot.books.day(day).map(|book| book.revision.file(grain));
    let state = snapshot.books.state(day).name();
    let values = vec![
        ScalarValue::Date32(Some(day.number())),
        ScalarValue::Utf8(Some(state.to_owned())),
        ScalarValue::Int64(adjustment),
    ];
    let (key, bytes) = file.map_or_else(Default::default, |file| (file.key.clone(), file.bytes));
    File { key, bytes, span: day.interval(), values }
}

#[async_trait]
impl TableProvider for Counts {
    fn schema(&self) -> SchemaRef {
        self.files.schema().clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
        let snapshot = self.pin.get()?;
        let partitions = state.config().target_partitions();
        let plain = snapshot.books.days().filter(|(day, _)| snapshot.books.adjustments(*day).is_empty());
        let plain = plain.map(|(day, _)| listed(&snapshot, self.grain, day, Some(0))).collect();
        let plain = self.files.pruned(state, plain, filters)?;
        let plain = self.files.scan(snapshot.objects(), &plain, projection, partitions)?;
        let early = snapshot.books.early_days();
        let adjusted = early.chain(snapshot.books.days().map(|(day, _)| day));
        let adjusted = adjusted.filter(|day| !snapshot.books.adjustments(*day).is_empty());
        let adjusted = adjusted.map(|day| listed(&snapshot, self.grain, day, None)).collect();
        let days = self.files.pruned(state, adjusted, filters)?.into_iter().map(|file| {
            let file = Arc::new(AdjustedDay::new(&self.files, self.grain, &snapshot, file.span.start.day())?);
            Ok(file as Arc<dyn PartitionStream>)
        });
        let days = days.collect::<Result<Vec<_>, DataFusionError>>()?;
        if days.is_empty() {
            return Ok(plain);
        }
        let days = StreamingTableExec::try_new(self.schema(), days, projection, [], false, None)?;
        UnionExec::try_new(vec![plain, Arc::new(days)])
    }

    fn supports_filters_pushdown(
        &self,
        filters: &[&Expr],
    ) -> Result<Vec<TableProviderFilterPushDown>, DataFusionError> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }
}

/// A day of which clicks were found after it was final: its table, each row with its adjustment, and then what has no row.
#[derive(Debug)]
struct AdjustedDay {
    schema: SchemaRef,
    grain: Grain,
    day: Day,
    snapshot: Arc<Snapshot>,
    /// `None`: it has no table, because it was before the first day.
    table: Option<Arc<dyn ExecutionPlan>>,
}

/// Adjusted clicks by period and class, then by ad.
type Adjustments = HashMap<(i64, String), HashMap<Arc<str>, i64>>;

impl AdjustedDay {
    fn new(files: &Files, grain: Grain, snapshot: &Arc<Snapshot>, day: Day) -> Result<Self, DataFusionError> {
        // Each row gets its own when it is read.
        let file = listed(snapshot, grain, day, Some(0));
        let table = match snapshot.books.day(day) {
            Some(_) => Some(files.scan(snapshot.objects(), &[file], None, 1)?),
            None => None,
        };
        Ok(AdjustedDay { schema: files.schema().clone(), grain, day, snapshot: snapshot.clone(), table })
    }

    async fn adjustments(snapshot: &Snapshot, grain: Grain, day: Day) -> Result<Adjustments, SqlError> {
        let mut found = Adjustments::default();
        for adjustment in snapshot.books.adjustments(day) {
            let rows = published::adjustments(snapshot.objects(), &adjustment.file).await?;
            for row in rows.into_iter().filter(|row| row.period_start.day() == day) {
                let start = Zone::UTC.window(grain, row.period_start).start.as_millis();
                let of_period = found.entry((start, row.class.name().to_owned())).or_default();
                *of_period.entry(row.ad).or_default() += row.clicks as i64;
            }
        }
        Ok(found)
    }
}

impl PartitionStream for AdjustedDay {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let (snapshot, grain, day, table) = (self.snapshot.clone(), self.grain, self.day, self.table.clone());
        let schema = self.schema.clone();
        let batches = async move {
            let left = Self::adjustments(&snapshot, grain, day).await?;
            let batches = match table {
                Some(table) => table.execute(0, context)?,
                None => Box::pin(RecordBatchStreamAdapter::new(schema.clone(), futures::stream::empty())),
            };
            let book = snapshot.books.day(day);
            let revision = book.map_or(0, |book| book.revision.revision) as i32;
            let rules = book.map_or_else(|| snapshot.books.rules().on(day).version, |book| book.revision.rules_version);
            let rest =
                Rest { schema, grain, day, state: snapshot.books.state(day), revision, rules_version: rules as i32 };
            Ok::<_, DataFusionError>(futures::stream::try_unfold(Some((batches, left, rest)), |state| async {
                let Some((mut batches, mut left, rest)) = state else { return Ok(None) };
                match batches.next().await {
                    Some(batch) => Ok(Some((adjusted(&batch?, &mut left)?, Some((batches, left, rest))))),
                    None if left.values().all(HashMap::is_empty) => Ok(None),
                    None => Ok(Some((rest.rows(left)?, None))),
                }
            }))
        };
        let batches = futures::stream::once(batches).try_flatten();
        Box::pin(RecordBatchStreamAdapter::new(self.schema.clone(), batches))
    }
}

/// The rows of a table with their adjustments, which are taken out of those that are `left`.
fn adjusted(batch: &RecordBatch, left: &mut Adjustments) -> Result<RecordBatch, DataFusionError> {
    let column = |name: &str| -> Result<&ArrayRef, DataFusionError> {
        batch.column_by_name(name).ok_or_else(|| DataFusionError::Internal(format!("a table has no column `{name}`")))
    };
    let starts = column(PERIOD_START)?.as_primitive::<TimestampMillisecondType>();
    let (ads, classes) = (column(AD_ID)?.as_string::<i32>(), column(CLASS)?.as_string::<i32>());
    let mut found = Vec::with_capacity(batch.num_rows());
    let mut last: Option<(i64, &str)> = None;
    let mut of_period = None;
    for row in 0..batch.num_rows() {
        // Rows of a period follow one another.
        let period = (starts.value(row), classes.value(row));
        if last.replace(period) != Some(period) {
            of_period = left.get_mut(&(period.0, period.1.to_owned()));
        }
        found.push(of_period.as_mut().and_then(|ads_of| ads_of.remove(ads.value(row))).unwrap_or(0));
    }
    let place = batch.schema().index_of(ADJUSTMENT)?;
    let mut columns = batch.columns().to_vec();
    columns[place] = Arc::new(Int64Array::from(found));
    Ok(RecordBatch::try_new(batch.schema(), columns)?)
}

/// What the rows have in common that were only adjusted.
#[derive(Debug)]
struct Rest {
    schema: SchemaRef,
    grain: Grain,
    day: Day,
    state: PeriodState,
    revision: i32,
    rules_version: i32,
}

impl Rest {
    fn rows(&self, left: Adjustments) -> Result<RecordBatch, DataFusionError> {
        let rows = left.iter().flat_map(|((start, class), ads)| {
            ads.iter().map(move |(ad, clicks)| (*start, ad.as_ref(), class.as_str(), *clicks))
        });
        let mut rows: Vec<(i64, &str, &str, i64)> = rows.collect();
        rows.sort_unstable();
        let count = rows.len();
        let times = |of: fn(Grain, i64) -> i64| -> ArrayRef {
            let times = rows.iter().map(|(start, ..)| of(self.grain, *start));
            Arc::new(TimestampMillisecondArray::from_iter_values(times).with_timezone("UTC"))
        };
        let zeros = || -> ArrayRef { Arc::new(Int64Array::from(vec![0; count])) };
        let columns: Vec<ArrayRef> = vec![
            times(|_, start| start),
            times(|grain, start| (Timestamp::from_millis(start) + grain.width()).as_millis()),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, ad, ..)| ad))),
            Arc::new(StringArray::from_iter_values(rows.iter().map(|(_, _, class, _)| class))),
            zeros(),
            zeros(),
            zeros(),
            Arc::new(Int32Array::from(vec![self.revision; count])),
            Arc::new(Int32Array::from(vec![self.rules_version; count])),
            Arc::new(Date32Array::from(vec![self.day.number(); count])),
            Arc::new(StringArray::from(vec![self.state.name(); count])),
            Arc::new(Int64Array::from_iter_values(rows.iter().map(|(.., clicks)| *clicks))),
        ];
        Ok(RecordBatch::try_new(self.schema.clone(), columns)?)
    }
}
