//! Counting a plan: partition-wise and in parallel within one topic life, as one merged log across several.

use std::sync::Arc;

use clicks::position::PartitionId;
use platform::objects::Objects;
use tokio::task::JoinSet;

use crate::engine::Engine;
use crate::error::BatchError;
use crate::input::Input;
use crate::merge::Merge;
use crate::plan::{Plan, Scope};
use crate::scan::{Hashes, Scan};
use crate::tally::{Counted, Place, Sightings, Tally};

/// Reads, judges and counts everything that the plan names. `parallel` partitions are counted at the same time.
pub(crate) async fn count(
    engine: &Engine,
    objects: &Objects,
    plan: &Plan,
    hashes: &Hashes,
    parallel: usize,
) -> Result<Counted, BatchError> {
    let scope = Arc::new(plan.scope.clone());
    let tally = match plan.keys_move {
        true => as_one_log(engine, objects, plan, scope, hashes).await?,
        // A key never leaves its partition within one topic life, so partitions need not know of each other.
        false => by_partition(engine, objects, plan, scope, hashes, parallel).await?,
    };
    Ok(tally.finish(plan.night))
}

async fn by_partition(
    engine: &Engine,
    objects: &Objects,
    plan: &Plan,
    scope: Arc<Scope>,
    hashes: &Hashes,
    parallel: usize,
) -> Result<Tally, BatchError> {
    let mut total = Tally::new(scope.clone());
    // Dropping the set ends the workers, so an error or a cancelled run leaves none behind.
    let mut workers = JoinSet::new();
    for (partition, inputs) in &plan.inputs {
        while workers.len() >= parallel.max(1) {
            absorb_next(&mut workers, &mut total).await?;
        }
        let scan = Scan::open(engine, objects, inputs.clone(), hashes.clone())?;
        workers.spawn(count_partition(scan, place(&scope, partition, 0), scope.clone()));
    }
    while !workers.is_empty() {
        absorb_next(&mut workers, &mut total).await?;
    }
    Ok(total)
}

async fn absorb_next(workers: &mut JoinSet<Result<Tally, BatchError>>, total: &mut Tally) -> Result<(), BatchError> {
    if let Some(tally) = workers.join_next().await {
        total.absorb(tally??);
    }
    Ok(())
}

async fn count_partition(mut scan: Scan, place: Place, scope: Arc<Scope>) -> Result<Tally, BatchError> {
    let mut sightings = Sightings::of_partition(&scope);
    let mut tally = Tally::new(scope);
    while let Some((columns, used)) = scan.next().await? {
        for row in 0..used {
            let record = columns.record(row).expect("the scan has checked every record of a batch that it hands out");
            tally.count(&mut sightings, place, &record);
        }
        // Decoding and counting never wait by themselves once an object is in memory.
        tokio::task::yield_now().await;
    }
    Ok(tally)
}

async fn as_one_log(
    engine: &Engine,
    objects: &Objects,
    plan: &Plan,
    scope: Arc<Scope>,
    hashes: &Hashes,
) -> Result<Tally, BatchError> {
    let open = |inputs: &Vec<Input>| Scan::open(engine, objects, inputs.clone(), hashes.clone());
    let scans = plan.inputs.values().map(open).collect::<Result<Vec<_>, _>>()?;
    let places: Vec<Place> =
        plan.inputs.keys().enumerate().map(|(rank, partition)| place(&scope, partition, rank)).collect();
    let mut sightings = Sightings::of_log(&scope, places.len());
    let mut tally = Tally::new(scope);
    let merge = Merge::open(scans).await?;
    merge.run(|rank, record| tally.count(&mut sightings, places[rank], record)).await?;
    Ok(tally)
}

fn place(scope: &Scope, partition: &PartitionId, rank: usize) -> Place {
    Place { rank, through: scope.through.get(partition).copied().unwrap_or_default() }
}
