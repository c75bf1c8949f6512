//! The first pass: what each record is by itself, and the clicks in buckets by key.

use std::collections::BTreeMap;

use arrow::array::{Array, StringArray};
use clicks::dedup::AdKey;
use clicks::layout::Kind;
use clicks::position::Offset;
use clicks::window::Minute;
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use futures::StreamExt;

use super::ads::Ads;
use super::buckets::Buckets;
use super::sighting::{Owner, Sighting};
use super::work::{OfDay, Work};
use crate::record::{Columns, same_words};

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
    let mut clicks = Clicks { buckets, ads: Ads::new(work.scope.keys.clone()), others: Others::default(), rows };
    let mut of_day = OfDay::new(&work.scope);
    let mut words = Words::default();
    for (rank, mut input) in inputs {
        let through = work.through(rank);
        while let Some(batch) = input.next().await {
            let columns = Columns::of(&batch?).ok_or_else(|| wrong("the columns of its input are of other types"))?;
            words.enter(columns.words(), &mut clicks.ads);
            if !columns.are_records(0..columns.len()) {
                return Err(wrong("a record of its input is of unknown kind or a click without its id, ad or time"));
            }
            clicks.take(&columns, &words, &mut of_day, rank, through)?;
            // Decoding and counting never wait by themselves once an object is in memory.
            tokio::task::yield_now().await;
        }
    }
    Ok(clicks)
}

/// The ads of a batch's words.
#[derive(Debug, Default)]
struct Words {
    words: Option<StringArray>,
    ads: Vec<(u32, AdKey)>,
}

impl Words {
    fn enter(&mut self, words: &StringArray, ads: &mut Ads) {
        if self.words.as_ref().is_some_and(|last| same_words(last, words)) {
            return;
        }
        self.ads.clear();
        self.ads.extend((0..words.len()).map(|word| ads.number(words.value(word))));
        self.words = Some(words.clone());
    }
}

fn wrong(what: &str) -> DataFusionError {
    DataFusionError::Execution(what.to_owned())
}

impl Clicks {
    fn take(
        &mut self,
        columns: &Columns,
        words: &Words,
        of_day: &mut OfDay<'_>,
        rank: usize,
        through: Offset,
    ) -> Result<()> {
        self.others.rows += columns.len() as u64;
        let mask = self.buckets.count() - 1;
        for row in 0..columns.len() {
            match columns.kind(row) {
                Some(Kind::Click) => {}
                Some(Kind::Control) => {
                    self.others.control += 1;
                    continue;
                }
                Some(Kind::Empty) => {
                    self.reject("no_value");
                    continue;
                }
                Some(Kind::Unreadable) | None => {
                    self.reject("unreadable");
                    continue;
                }
            }
            let (event_time, append_time) = (columns.event_time(row), columns.append_time(row));
            let OfDay { rules, owner, .. } = *of_day.at(event_time);
            let late = match clicks::verdict::is_late(rules, event_time, append_time) {
                Ok(late) => late,
                Err(rejection) => {
                    self.reject(rejection.code());
                    continue;
                }
            };
            let is_old = owner == Owner::Adjustment && columns.offset(row) < through;
            let owner = if is_old { Owner::AnotherNight } else { owner };
            let (ad, ad_key) = words.ads[columns.ad(row)];
            let key = ad_key.click(columns.click_id(row));
            // The upper half of the key chooses the bucket; the table of a bucket goes by the lower one.
            let bucket = ((key.as_u128() >> 64) as usize) & mask;
            let sighting = Sighting::new(key, append_time, rank, Minute::of(event_time), ad, late, owner);
            let far = || wrong("a record was appended before 1970 or after 2527, or its event lies as far away");
            self.buckets.push(bucket, sighting.ok_or_else(far)?)?;
        }
        Ok(())
    }

    #[cold]
    fn reject(&mut self, code: &'static str) {
        *self.others.rejected.entry(code).or_default() += 1;
    }
}
