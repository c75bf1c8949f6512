//! The exact count as an operator of DataFusion: verdict and count of every record, per (minute, ad).
//!
//! ```text
//! records, in log order ── read ──► 32 bytes a click, in buckets by key
//!                                     └─ judge ──► 8 bytes an owned click, in buckets by minutes
//!                                                    └─ add up ──► cells, sorted by minute and ad
//! ```
//!
//! Each pass reads and writes in sequence, and what it looks up fits into the processor's cache. A bucket holds all
//! sightings of its keys in log order, so it is judged by itself, by the rules that the live layer goes by. What does not
//! fit into the pool lies in files.
//!
//! Records of a partition come in offset order, with append times that never go back. Each input partition is counted
//! by itself, or all as one log where keys move between them ([`Work::keys_move`]).

mod ads;
mod buckets;
mod judge;
mod output;
mod read;
mod sighting;
mod sightings;
mod work;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::{EquivalenceProperties, Partitioning, PhysicalExpr};
use datafusion::physical_plan::execution_plan::{Boundedness, EmissionType};
use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricBuilder, MetricsSet};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayAs, DisplayFormatType, ExecutionPlan, ExecutionPlanProperties, PlanProperties};
use futures::{StreamExt, TryStreamExt};

pub(crate) use output::{Kind, Tallies, TallyRow, schema};
pub(crate) use work::Work;

/// Judges and counts the records of its input.
///
/// Input: the columns of [`crate::record::NEEDED`], one partition per partition of the log. Output: [`output::schema`].
#[derive(Debug)]
pub(crate) struct ExactCount {
    input: Arc<dyn ExecutionPlan>,
    work: Arc<Work>,
    properties: Arc<PlanProperties>,
    metrics: ExecutionPlanMetricsSet,
}

impl ExactCount {
    /// # Errors
    /// The input has other partitions than the work names, or more than can be ranked.
    pub(crate) fn new(input: Arc<dyn ExecutionPlan>, work: Arc<Work>) -> Result<Self> {
        let partitions = input.output_partitioning().partition_count();
        if partitions != work.partitions.len() || partitions > sighting::RANKS {
            let named = work.partitions.len();
            return Err(DataFusionError::Plan(format!("{partitions} partitions come in, the work names {named}")));
        }
        let partitioning = Partitioning::UnknownPartitioning(if work.keys_move { 1 } else { partitions });
        let equivalence = EquivalenceProperties::new(schema());
        let properties =
            PlanProperties::new(equivalence, partitioning, EmissionType::Final, Boundedness::Bounded).into();
        Ok(ExactCount { input, work, properties, metrics: ExecutionPlanMetricsSet::new() })
    }

    /// What a codec needs besides the input.
    #[cfg(test)]
    pub(crate) fn work(&self) -> &Work {
        &self.work
    }
}

impl DisplayAs for ExactCount {
    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (partitions, days) = (self.work.partitions.len(), &self.work.scope.days);
        write!(f, "ExactCount: partitions={partitions}, keys_move={}, days={days:?}", self.work.keys_move)
    }
}

impl ExecutionPlan for ExactCount {
    fn name(&self) -> &str {
        "ExactCount"
    }

    fn properties(&self) -> &Arc<PlanProperties> {
        &self.properties
    }

    fn children(&self) -> Vec<&Arc<dyn ExecutionPlan>> {
        vec![&self.input]
    }

    fn benefits_from_input_partitioning(&self) -> Vec<bool> {
        // The order of the log is the meaning of its partitions.
        vec![false]
    }

    fn apply_expressions(
        &self,
        _: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        Ok(TreeNodeRecursion::Continue)
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn ExecutionPlan>>) -> Result<Arc<dyn ExecutionPlan>> {
        match <[_; 1]>::try_from(children) {
            Ok([input]) => Ok(Arc::new(ExactCount::new(input, self.work.clone())?)),
            Err(children) => Err(DataFusionError::Internal(format!("one input is counted, not {}", children.len()))),
        }
    }

    fn execute(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let ranks = if self.work.keys_move { (0..self.work.partitions.len()).collect() } else { vec![partition] };
        let inputs = ranks.iter().map(|rank| Ok((*rank, self.input.execute(*rank, context.clone())?)));
        let inputs = inputs.collect::<Result<Vec<_>>>()?;
        let spills = MetricBuilder::new(&self.metrics).spill_count(partition);
        let spilled = MetricBuilder::new(&self.metrics).spilled_bytes(partition);
        let work = self.work.clone();
        let counted = async move {
            let clicks = read::read(&work, inputs, &context).await?;
            spills.add(clicks.buckets.spills());
            spilled.add(clicks.buckets.spilled_bytes() as usize);
            let outcomes = judge::judge(&work, clicks, &context).await?;
            Ok::<_, DataFusionError>(futures::stream::iter(output::batches(outcomes)))
        };
        let stream = futures::stream::once(counted).try_flatten().boxed();
        Ok(Box::pin(RecordBatchStreamAdapter::new(schema(), stream)))
    }

    fn metrics(&self) -> Option<MetricsSet> {
        Some(self.metrics.clone_inner())
    }
}
