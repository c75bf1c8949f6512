//! Counting a plan by one of two engines: the operator of [`crate::exact`], or plain SQL, which is slow and shares no
//! code with it but the proof of what is read.

use std::sync::Arc;

use datafusion::common::runtime::SpawnedTask;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::{StreamExt, TryStreamExt};
use platform::objects::Objects;

use crate::Options;
use crate::counted::{Counted, Gathered};
use crate::engine::Engine;
use crate::error::BatchError;
use crate::exact::{ExactCount, Work};
use crate::plan::Plan;
use crate::reference;
use crate::scan::{Hashes, Scan};

/// By what records are judged and counted. Both come to the same numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CountBy {
    #[default]
    Exact,
    /// SQL that spells out the rules: many times slower, for whoever doubts the other.
    Reference,
}

/// Reads, judges and counts everything that the plan names.
pub(crate) async fn count(
    engine: &Engine,
    objects: &Objects,
    plan: &Plan,
    hashes: &Hashes,
    options: &Options,
) -> Result<Counted, BatchError> {
    if plan.inputs.is_empty() {
        return Ok(Counted::of(plan, Vec::new()));
    }
    let scan = Scan::new(engine, objects, plan, hashes);
    let work = Work::of(plan);
    let counted: Arc<dyn ExecutionPlan> = match options.count_by {
        CountBy::Exact => Arc::new(ExactCount::new(scan.plan()?, Arc::new(work))?),
        CountBy::Reference => reference::plan(engine, &scan, &work).await?,
    };
    Ok(Counted::of(plan, gather(engine, counted, options.target_partitions).await?))
}

/// Runs at most `parallel` partitions of a plan at the same time: each holds the clicks of one horizon.
async fn gather(
    engine: &Engine,
    counted: Arc<dyn ExecutionPlan>,
    parallel: usize,
) -> Result<Vec<Gathered>, BatchError> {
    let run = |partition: usize| {
        let (counted, task) = (counted.clone(), engine.task());
        // Dropping the handle ends the task, so an error or a cancelled run leaves none behind.
        SpawnedTask::spawn(async move {
            let mut batches = counted.execute(partition, task)?;
            let mut gathered = Gathered::default();
            while let Some(batch) = batches.next().await {
                gathered.add(&batch?)?;
            }
            Ok::<_, DataFusionError>(gathered)
        })
    };
    let partitions = counted.output_partitioning().partition_count();
    let parts = futures::stream::iter((0..partitions).map(run)).buffered(parallel.max(1));
    parts.map(|gathered| Ok(gathered??)).try_collect().await
}
