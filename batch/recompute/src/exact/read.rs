//! The first pass: what each record is by itself, and the clicks in buckets by key.

use std::collections::BTreeMap;

use clicks::position::Offset;
use clicks::window::Minute;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use futures::StreamExt;

use super::ads::Ads;
use super::buckets::Buckets;
use super::sighting::{Owner, Sighting};
use super::work::{OfDay, Work};
use crate::record::{Columns, Record, What};

/// About so many clicks are in a bucket, so that its table fits into a processor's own cache.
const CLICKS_PER_BUCKET: u64 = 32 * 1024;
/// More buckets than this are slow to fill.
const BUCKETS_MAX: u64 = 1024;

/// What was read, but for the clicks that this night owns.
#[derive(Debug, Default)]
pub(super) struct Others {
    /// All records.
    pub(super) rows: u64,
    pub(super) control: u64,
    pub(super) rejected: BTreeMap<&'static str, u64>,
    /// Clicks that belong to another night.
    pub(super) other_days: u64,
}

/// What was read.
#[derive(Debug)]
pub(super) struct Clicks {
    pub(super) buckets: Buckets<Sighting>,
    pub(super) count: usize,
    pub(super) ads: Ads,
    pub(super) others: Others,
    pub(super) rows: u64,
}

/// Reads partitions one after the other, each with its rank.
pub(super) async fn read(
    work: &Work,
    inputs: Vec<(usize, SendableRecordBatchStream)>,
    context: &TaskContext,
) -> Result<Clicks> {
    let ranks: Vec<usize> = inputs.iter().map(|(rank, _)| *rank).collect();
    let rows = work.rows(&ranks);
    let count = (rows / CLICKS_PER_BUCKET).clamp(1, BUCKETS_MAX).next_power_of_two();
    let buckets = Buckets::new("sightings of clicks", count as usize, context);
    let mut clicks = Clicks {
        buckets,
        count: count as usize,
        ads: Ads::new(work.scope.keys.clone()),
        others: Others::default(),
        rows,
    };
    let mut of_day = OfDay::new(&work.scope);
    for (rank, mut input) in inputs {
        let through = work.through(rank);
        while let Some(batch) = input.next().await {
            let columns = Columns::of(&batch?).ok_or_else(|| wrong("the columns of its input are of other types"))?;
            for row in 0..columns.len() {
                let record = columns.record(row).ok_or_else(|| wrong("a record of its input is of no known kind"))?;
                clicks.take(&mut of_day, rank, through, &record)?;
            }
            // Decoding and counting never wait by themselves once an object is in memory.
            tokio::task::yield_now().await;
        }
    }
    Ok(clicks)
}

fn wrong(what: &str) -> DataFusionError {
    DataFusionError::Execution(what.to_owned())
}

impl Clicks {
    #[inline]
    fn take(&mut self, of_day: &mut OfDay<'_>, rank: usize, through: Offset, record: &Record<'_>) -> Result<()> {
        self.others.rows += 1;
        let (ad, id, event_time) = match record.what {
            What::Click { ad, id, event_time } => (ad, id, event_time),
            What::Control => {
                self.others.control += 1;
                return Ok(());
            }
            What::Rejected(code) => {
                *self.others.rejected.entry(code).or_default() += 1;
                return Ok(());
            }
        };
        let OfDay { rules, owner, .. } = *of_day.at(event_time);
        let late = match clicks::verdict::is_late(rules, event_time, record.append_time) {
            Ok(late) => late,
            Err(rejection) => {
                *self.others.rejected.entry(rejection.code()).or_default() += 1;
                return Ok(());
            }
        };
        let owner = if owner == Owner::Adjustment && record.offset < through { Owner::AnotherNight } else { owner };
        let (number, ad_key) = self.ads.number(ad);
        let key = ad_key.click(id);
        // The upper half of the key chooses the bucket; the table of a bucket goes by the lower one.
        let bucket = ((key.as_u128() >> 64) as usize) & (self.count - 1);
        let sighting = Sighting::new(key, record.append_time, rank, Minute::of(event_time), number, late, owner)
            .ok_or_else(|| wrong("a record was appended before 1970 or after 2527, or its event lies as far away"))?;
        self.buckets.push(bucket, sighting)
    }
}
