//! Counting a plan by one of two engines: the operator of [`crate::exact`], or plain SQL, which is slow and shares no
//! code with it but the proof of what is read.

use std::sync::Arc;

use datafusion::physical_plan::{ExecutionPlan, ExecutionPlanProperties};
use futures::StreamExt;
use platform::objects::Objects;
use tokio::task::JoinSet;

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
    let scan = Scan::new(engine, objects, plan, hashes);
    let work = Work::of(plan);
    let mut gathered = Gathered::default();
    if !plan.inputs.is_empty() {
        match options.count_by {
            CountBy::Exact => {
                let counted = ExactCount::new(scan.plan()?, Arc::new(work))?;
                gather(engine, Arc::new(counted), options.target_partitions, &mut gathered).await?;
            }
            CountBy::Reference => {
                let counted = reference::plan(engine, &scan, &work).await?;
                gather(engine, counted, options.target_partitions, &mut gathered).await?;
            }
        }
    }
    Ok(gathered.finish(plan))
}

/// Runs at most `parallel` partitions of a plan at the same time: each holds the clicks of one horizon.
async fn gather(
    engine: &Engine,
    counted: Arc<dyn ExecutionPlan>,
    parallel: usize,
    gathered: &mut Gathered,
) -> Result<(), BatchError> {
    // Dropping the set ends the workers, so an error or a cancelled run leaves none behind.
    let mut workers = JoinSet::new();
    for partition in 0..counted.output_partitioning().partition_count() {
        if workers.len() >= parallel.max(1) {
            gathered.absorb_next(&mut workers).await?;
        }
        let mut batches = counted.execute(partition, engine.task())?;
        workers.spawn(async move {
            let mut gathered = Gathered::default();
            while let Some(batch) = batches.next().await {
                gathered.add(&batch?)?;
            }
            Ok(gathered)
        });
    }
    while !workers.is_empty() {
        gathered.absorb_next(&mut workers).await?;
    }
    Ok(())
}

impl Gathered {
    async fn absorb_next(&mut self, workers: &mut JoinSet<Result<Gathered, BatchError>>) -> Result<(), BatchError> {
        if let Some(gathered) = workers.join_next().await {
            self.absorb(gathered??);
        }
        Ok(())
    }
}
