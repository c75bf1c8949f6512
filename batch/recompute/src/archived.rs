//! What the archive holds, held against what the books know: coverage, cuts, and whatever would be left out in silence.

use std::collections::{BTreeMap, BTreeSet};

use archive::chain::{Chain, Gap, GapCause, Segment, read_chain, seal};
use archive::schema::schema;
use arrow::array::AsArray;
use arrow::datatypes::TimestampMillisecondType;
use clicks::books::Books;
use clicks::id::{Region, TopicId};
use clicks::layout::{RAW, columns};
use clicks::position::{Offset, PartitionId};
use clicks::time::{Day, Timestamp};
use futures::{StreamExt, TryStreamExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use platform::clock::Clock;
use platform::objects::{ObjectError, Objects};

use crate::error::{BatchError, Incomplete, InputError, Lag};
use crate::input::read_verified;

/// Chains that are read at the same time.
const CHAINS_MAX: usize = 8;

/// The chains of all partitions that the books know.
#[derive(Debug)]
pub(crate) struct Archived {
    pub(crate) chains: BTreeMap<PartitionId, Chain>,
    /// Partitions of topic lives that are over: their last record is their end.
    ended: BTreeSet<PartitionId>,
}

impl Archived {
    /// Reads and proves the chains.
    pub(crate) async fn read(objects: &Objects, books: &Books) -> Result<Self, BatchError> {
        let chains = futures::stream::iter(books.partitions())
            .map(|partition| async move { read_chain(objects, &partition).await.map(|chain| (partition, chain)) })
            .buffered(CHAINS_MAX)
            .try_collect()
            .await?;
        Ok(Self::of_chains(chains, books))
    }

    /// Chains that are proven already.
    pub(crate) fn of_chains(chains: BTreeMap<PartitionId, Chain>, books: &Books) -> Self {
        let ended = books.lives().iter().filter(|life| books.has_ended(life));
        let ended = ended.flat_map(clicks::books::partitions_of).collect();
        Archived { chains, ended }
    }

    pub(crate) fn has_ended(&self, partition: &PartitionId) -> bool {
        self.ended.contains(partition)
    }

    /// An ended life of which nothing is held any more: its raw objects are older than what is kept of the archive.
    fn has_expired(&self, chain: &Chain) -> bool {
        self.has_ended(&chain.partition) && chain.segments.is_empty()
    }

    /// Partitions whose coverage does not reach the cut of `night`.
    pub(crate) fn lagging(&self, books: &Books, night: Day) -> Option<Incomplete> {
        let needed = books.rules().cut_time(night);
        let lags = |chain: &&Chain| !self.has_ended(&chain.partition) && chain.coverage().is_none_or(|at| at < needed);
        let lag = |chain: &Chain| Lag { partition: chain.partition.clone(), coverage: chain.coverage(), needed };
        let lagging: Vec<Lag> = self.chains.values().filter(lags).map(lag).collect();
        // Without any partition there is nothing that could prove that nothing happened.
        (!lagging.is_empty() || self.chains.is_empty()).then_some(Incomplete { night, lagging })
    }

    /// Refuses what would silently be left out: partitions that heartbeats know and the books do not, and raw objects
    /// of partitions that are none of ours.
    pub(crate) async fn check_known(&self, objects: &Objects, books: &Books, night: Day) -> Result<(), BatchError> {
        for life in books.lives() {
            let own = |chain: &&Chain| chain.partition.topic == life.topic_id && chain.partition.region == life.region;
            let counts = self.chains.values().filter(own).flat_map(|chain| &chain.segments);
            let found = counts.filter_map(|segment| segment.footer.partitions).max().unwrap_or(0);
            if found > life.partitions && books.has_ended(life) {
                // The operator has begun another topic, which is the mend of the error below, and knows what it leaves out.
                tracing::warn!(topic = %life.topic_id, known = life.partitions, found, "not all partitions are archived");
            } else if found > life.partitions {
                let (region, topic, known) = (life.region.clone(), life.topic_id, life.partitions);
                return Err(BatchError::MorePartitions { night, region, topic, known, found });
            }
        }
        for prefix in stored_partitions(objects).await? {
            if !parse(&prefix).is_some_and(|partition| self.chains.contains_key(&partition)) {
                return Err(BatchError::UnknownPartition { night, prefix });
            }
        }
        Ok(())
    }

    /// Refuses an archive that has lost what was published from it: every chain must still reach from where it must
    /// begin to what the last night has used.
    ///
    /// Of a life that has ended nothing may be left, once it is older than anything that a night reads. Whether a night
    /// still reads it is for [`crate::previous`] to say, which knows what the last one has read.
    pub(crate) fn check_held(&self, books: &Books) -> Result<(), InputError> {
        for (partition, through) in books.through() {
            let chain = self.chains.get(partition);
            if chain.is_some_and(|chain| self.has_expired(chain)) {
                continue;
            }
            let base = chain.and_then(Chain::base).unwrap_or_default();
            let end = chain.and_then(Chain::next_offset).unwrap_or_default();
            if base > *through || end < *through {
                return Err(InputError::Lost {
                    partition: partition.clone(),
                    held: format!("[{base}, {end})"),
                    needed: format!("up to {through}"),
                });
            }
        }
        Ok(())
    }

    /// Seals every gap that the night passes by: it counts on it that nothing is there, so from now on nothing is. Gives the
    /// archive as it is then.
    pub(crate) async fn sealed(
        self,
        objects: &Objects,
        books: &Books,
        night: Day,
        clock: &dyn Clock,
    ) -> Result<Self, BatchError> {
        let cut = books.rules().cut_time(night);
        let gaps = self.chains.values().flat_map(|chain| &chain.gaps);
        let open: Vec<_> = gaps.filter(|gap| !gap.is_sealed && lost_from(gap) < cut).collect();
        if open.is_empty() {
            return Ok(self);
        }
        for gap in open {
            tracing::error!(partition = %gap.mark.partition, from = %gap.from, to = %gap.to, %night, "records are lost, the night goes on without them");
            metrics::counter!("twofold_batch_sealed_gaps_total").increment(1);
            seal(objects, gap, &format!("night {night}"), clock.now()).await?;
        }
        Archived::read(objects, books).await
    }

    /// Losses that on-time clicks of `day` may be among, in words.
    pub(crate) fn losses(&self, books: &Books, day: Day) -> Vec<String> {
        let begin = day.start() - books.rules().on(day).ahead_max;
        let cut = books.rules().cut_time(day);
        let mut losses = Vec::new();
        for chain in self.chains.values() {
            // Who has begun the archive on purpose where the log began has decided on what was before it.
            for gap in chain.gaps.iter().filter(|gap| gap.mark.cause != GapCause::Begin) {
                let after = chain.segments.iter().find(|segment| segment.footer.start >= gap.to);
                let until = after.map_or(Timestamp::MAX, |segment| segment.footer.append_time_min);
                if lost_from(gap) >= cut || until < begin {
                    continue;
                }
                let (partition, from, to) = (&chain.partition, gap.from, gap.to);
                let records = to.distance_from(from);
                let since = gap.mark.append_time_before.map_or_else(String::new, |time| format!(" from {time}"));
                losses.push(format!(
                    "the {records} records [{from}, {to}) of partition {partition}, appended{since} up to {until}, were lost \
                     before they were archived"
                ));
            }
        }
        losses
    }

    /// cut(night): per partition the first offset with append time at or after the cut time; the chain's end in a life
    /// that is over and has no such record; where it was, when nothing of that life is held any more. A function of the
    /// log: a rerun finds the same.
    pub(crate) async fn cuts(
        &self,
        objects: &Objects,
        books: &Books,
        night: Day,
    ) -> Result<BTreeMap<PartitionId, Offset>, BatchError> {
        let time = books.rules().cut_time(night);
        futures::stream::iter(self.chains.values())
            .map(|chain| async move {
                let cut = match self.has_expired(chain) {
                    true => books.through().get(&chain.partition).copied().unwrap_or_default(),
                    false => cut(objects, chain, time).await?,
                };
                Ok((chain.partition.clone(), cut))
            })
            .buffered(CHAINS_MAX)
            .try_collect()
            .await
    }
}

/// No record of the gap was appended earlier.
fn lost_from(gap: &Gap) -> Timestamp {
    gap.mark.append_time_before.unwrap_or(Timestamp::MIN)
}

async fn cut(objects: &Objects, chain: &Chain, time: Timestamp) -> Result<Offset, BatchError> {
    // Append time never goes back along a chain, so the segment can be found by halving.
    let at = chain.segments.partition_point(|segment| segment.append_time_max < time);
    match chain.segments.get(at) {
        None => Ok(chain.next_offset().unwrap_or_default()),
        Some(segment) if segment.footer.append_time_min >= time => Ok(segment.footer.start),
        Some(segment) => Ok(cut_within(objects, segment, time).await?),
    }
}

/// The exact offset inside an object, from its append times.
async fn cut_within(objects: &Objects, segment: &Segment, time: Timestamp) -> Result<Offset, InputError> {
    let (bytes, _) = read_verified(objects, segment).await?;
    let damaged = |reason: String| InputError::damaged(&segment.key, reason);
    let builder = ParquetRecordBatchReaderBuilder::try_new(bytes).map_err(|e| damaged(e.to_string()))?;
    let column = schema().index_of(columns::APPEND_TIME).map_err(|e| damaged(e.to_string()))?;
    let only = ProjectionMask::roots(builder.parquet_schema(), [column]);
    let mut before = 0;
    for batch in builder.with_projection(only).build().map_err(|e| damaged(e.to_string()))? {
        let batch = batch.map_err(|e| damaged(e.to_string()))?;
        let times = batch.column(0).as_primitive_opt::<TimestampMillisecondType>();
        let times = times.ok_or_else(|| damaged("its append times are of another type".to_owned()))?;
        let within = times.values().partition_point(|at| *at < time.as_millis());
        before += within as u64;
        if within < times.len() {
            return Ok(segment.footer.start.plus(before));
        }
    }
    Err(damaged(format!("by its footer it reaches {time}, its records do not")))
}

/// `region=…/topic=…/part=…` of everything that lies below `raw/v1/`, from three levels of folders, not from a listing.
async fn stored_partitions(objects: &Objects) -> Result<Vec<String>, ObjectError> {
    let store = objects.store();
    let mut level = vec![objects.path(RAW)];
    for _ in 0..3 {
        let mut next = Vec::new();
        for folder in level {
            let found = store.list_with_delimiter(Some(&folder)).await;
            let found = found.map_err(|source| ObjectError::Store { key: folder.to_string(), source })?;
            next.extend(found.common_prefixes);
        }
        level = next;
    }
    let root = format!("{}/", objects.path(RAW));
    Ok(level.iter().map(|path| path.as_ref().strip_prefix(&root).unwrap_or(path.as_ref()).to_owned()).collect())
}

fn parse(prefix: &str) -> Option<PartitionId> {
    let mut parts = prefix.split('/');
    let mut value = |name: &str| parts.next()?.strip_prefix(name)?.strip_prefix('=');
    Some(PartitionId {
        region: Region::parse(value("region")?).ok()?,
        topic: TopicId::parse(value("topic")?).ok()?,
        number: value("part")?.parse().ok()?,
    })
}
