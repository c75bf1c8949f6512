//! Reading the speed store: all partitions at once, each within a deadline, and no more often than the numbers change.
//!
//! The live counts of the recent hours are kept in memory, so most questions ask the store only for what has changed, if for
//! anything. What is not in memory is read.

mod kept;

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use clicks::position::PartitionId;
use clicks::time::{Interval, Span};
use clicks::view::{Merge, Missing};
use futures::future::join_all;
use platform::store::{Ads, LiveQuery, LiveSlice, SpeedStore};
use tokio::sync::OnceCell;

pub(crate) use self::kept::Kept;

/// What each partition answered.
pub(crate) type LiveRead = Vec<(PartitionId, Result<LiveSlice, Missing>)>;

/// A question about all ads is a wide one when its range is longer. What a page asks every second is not.
const NARROW_MAX: Span = Span::hours(2);

/// Whether the answer holds all ads' live counts of hours.
pub(crate) fn is_wide(ads: &Ads, range: Interval) -> bool {
    *ads == Ads::All && range.end.since(range.start) > NARROW_MAX
}

/// How long a partition that nobody asks for is kept in memory.
const IDLE_MAX: Duration = Duration::from_secs(600);

/// The shortest time between two rounds in the background.
const ROUND_MIN: Duration = Duration::from_millis(10);

/// Different questions that are remembered at a time.
const RECENT_MAX: usize = 64;

/// Readers that ask the same thing at the same time share one reading. Wide questions take turns, so a partition that did
/// not answer one of them in time is not asked by the next ones for as long: a store that hangs would otherwise hold up
/// all of them, closed days included.
#[derive(Debug)]
pub(crate) struct LiveReader {
    store: Arc<dyn SpeedStore>,
    refresh: Duration,
    deadline: Duration,
    /// Memory for live counts.
    bytes_max: usize,
    kept: Mutex<HashMap<PartitionId, Arc<Kept>>>,
    recent: Mutex<Vec<Recent>>,
    /// When a partition that hung may be asked by wide questions again.
    hung: Mutex<HashMap<PartitionId, Instant>>,
}

#[derive(Debug)]
struct Recent {
    partitions: Vec<PartitionId>,
    query: LiveQuery,
    begun: Instant,
    read: Arc<OnceCell<Arc<LiveRead>>>,
}

impl LiveReader {
    pub(crate) fn new(store: Arc<dyn SpeedStore>, refresh: Duration, deadline: Duration, bytes_max: usize) -> Self {
        let (kept, recent, hung) = (Mutex::default(), Mutex::default(), Mutex::default());
        LiveReader { store, refresh, deadline, bytes_max, kept, recent, hung }
    }

    /// What is kept of the partitions, as they are now, or were less than the refresh interval ago.
    pub(crate) async fn catch_up(&self, partitions: impl Iterator<Item = &PartitionId>) -> Vec<Arc<Kept>> {
        let kept = self.kept_of(partitions);
        join_all(kept.iter().map(|kept| kept.catch_up(&*self.store, self.refresh, self.deadline))).await;
        kept
    }

    /// Gives a question what is kept, and returns the partitions that it has to read, and since when the rest was read.
    pub(crate) fn give(kept: &[Arc<Kept>], merge: &mut Merge) -> (Vec<PartitionId>, Instant) {
        let (mut to_read, mut oldest) = (Vec::new(), Instant::now());
        for kept in kept {
            match kept.give(merge) {
                Some(read) => oldest = oldest.min(read),
                None => to_read.push(kept.partition().clone()),
            }
        }
        (to_read, oldest)
    }

    /// In the background: keeps what is asked for in memory.
    pub(crate) async fn keep(&self) -> Infallible {
        let mut round = 0usize;
        loop {
            let kept: Vec<Arc<Kept>> = {
                let mut kept = self.kept();
                kept.retain(|_, kept| kept.idle() < IDLE_MAX);
                kept.values().cloned().collect()
            };
            let bytes_max = self.bytes_max / kept.len().max(1);
            // One at a time reads what is older, so that the store has time for others.
            let turn = round % kept.len().max(1);
            round += 1;
            let all = kept.iter().enumerate();
            join_all(all.map(|(n, kept)| kept.keep(&*self.store, bytes_max, self.deadline, n == turn))).await;
            let bytes: usize = kept.iter().map(|kept| kept.bytes()).sum();
            metrics::gauge!("twofold_serving_live_bytes").set(bytes as f64);
            // Twice as often as needs be, so that questions seldom have to wait for the store.
            tokio::time::sleep((self.refresh / 2).max(ROUND_MIN)).await;
        }
    }

    fn kept_of<'a>(&self, partitions: impl Iterator<Item = &'a PartitionId>) -> Vec<Arc<Kept>> {
        let mut kept = self.kept();
        let of_one = |partition: &PartitionId| match kept.get(partition) {
            Some(found) => found.clone(),
            None => kept.entry(partition.clone()).or_insert(Arc::new(Kept::new(partition.clone()))).clone(),
        };
        partitions.map(of_one).collect()
    }

    fn kept(&self) -> MutexGuard<'_, HashMap<PartitionId, Arc<Kept>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the partitions now, or shares a reading that began less than the refresh interval ago. Tells when it began.
    pub(crate) async fn read(&self, partitions: Vec<PartitionId>, query: LiveQuery) -> (Arc<LiveRead>, Instant) {
        let (begun, read) = self.recent(&partitions, &query);
        (read.get_or_init(|| self.fetch(partitions, query)).await.clone(), begun)
    }

    fn recent(&self, partitions: &[PartitionId], query: &LiveQuery) -> (Instant, Arc<OnceCell<Arc<LiveRead>>>) {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|entry| entry.begun.elapsed() < self.refresh);
        let same = |entry: &&Recent| entry.query == *query && entry.partitions == partitions;
        if let Some(entry) = recent.iter().find(same) {
            return (entry.begun, entry.read.clone());
        }
        if recent.len() == RECENT_MAX {
            recent.remove(0);
        }
        let (begun, read) = (Instant::now(), Arc::<OnceCell<_>>::default());
        recent.push(Recent { partitions: partitions.to_vec(), query: query.clone(), begun, read: read.clone() });
        (begun, read)
    }

    async fn fetch(&self, partitions: Vec<PartitionId>, query: LiveQuery) -> Arc<LiveRead> {
        let reads = partitions.into_iter().map(|partition| async {
            let slice = self.read_one(&partition, &query).await;
            (partition, slice)
        });
        Arc::new(join_all(reads).await)
    }

    async fn read_one(&self, partition: &PartitionId, query: &LiveQuery) -> Result<LiveSlice, Missing> {
        let failed = |detail| failed(partition, detail);
        let late = || no_answer(self.deadline);
        let wide = is_wide(&query.ads, query.range);
        if wide && self.hung().get(partition).is_some_and(|again| Instant::now() < *again) {
            return Err(failed(late()));
        }
        match tokio::time::timeout(self.deadline, self.store.read(partition, query)).await {
            Ok(Ok(Some(slice))) => Ok(slice),
            Ok(Ok(None)) => Err(Missing::NoGeneration),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => {
                // What is too much to read in time says nothing about a small question.
                if wide {
                    self.hung().insert(partition.clone(), Instant::now() + self.deadline);
                }
                Err(failed(late()))
            }
        }
    }

    fn hung(&self) -> MutexGuard<'_, HashMap<PartitionId, Instant>> {
        self.hung.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn failed(partition: &PartitionId, detail: String) -> Missing {
    metrics::counter!("twofold_serving_live_failures_total").increment(1);
    tracing::debug!("live counts of {partition} could not be read: {detail}");
    Missing::Unreachable(detail)
}

fn no_answer(within: Duration) -> String {
    format!("no answer within {within:?}")
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use clicks::id::{Region, TopicId};
    use clicks::live::{Flush, FlushOutcome, Loaded};
    use clicks::rules::RulesBook;
    use clicks::time::{Day, Timestamp};
    use platform::store::StoreError;

    use super::*;

    /// Partition 0 never answers, the others hold nothing.
    #[derive(Debug, Default)]
    struct Hanging {
        asked: AtomicUsize,
    }

    #[async_trait::async_trait]
    impl SpeedStore for Hanging {
        fn max_changes(&self) -> usize {
            1
        }
        async fn load(&self, _: &PartitionId, _: &RulesBook) -> Result<Option<Loaded>, StoreError> {
            unreachable!("a reader does not load")
        }
        async fn flush(&self, _: &PartitionId, _: &Flush) -> Result<FlushOutcome, StoreError> {
            unreachable!("a reader does not write")
        }
        async fn read(&self, partition: &PartitionId, _: &LiveQuery) -> Result<Option<LiveSlice>, StoreError> {
            if partition.number == 0 {
                self.asked.fetch_add(1, Ordering::Relaxed);
                std::future::pending::<()>().await;
            }
            Ok(None)
        }
        async fn check(&self) -> Result<(), StoreError> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn a_partition_that_hangs_holds_up_one_wide_question_and_not_all() {
        let (store, deadline) = (Arc::new(Hanging::default()), Duration::from_millis(200));
        let reader = LiveReader::new(store.clone(), Duration::ZERO, deadline, 0);
        let (region, topic) = (Region::parse("eu").unwrap(), TopicId::from_u128(1));
        let partitions = || (0..2).map(|number| PartitionId { region: region.clone(), topic, number }).collect();
        let range = Interval::new(Timestamp::EPOCH, Timestamp::EPOCH + Span::hours(3));
        let read = || reader.read(partitions(), LiveQuery { ads: Ads::All, range, late_from: Day::from_number(0) });
        for asked in [1, 1, 1] {
            let (read, _) = read().await;
            assert!(matches!(read[0].1, Err(Missing::Unreachable(_))));
            assert!(matches!(read[1].1, Err(Missing::NoGeneration)));
            assert_eq!(store.asked.load(Ordering::Relaxed), asked);
        }
        tokio::time::sleep(deadline).await;
        read().await;
        assert_eq!(store.asked.load(Ordering::Relaxed), 2);
        let narrow = Interval::new(Timestamp::EPOCH, Timestamp::EPOCH + Span::hours(1));
        reader.read(partitions(), LiveQuery { ads: Ads::All, range: narrow, late_from: Day::from_number(0) }).await;
        assert_eq!(store.asked.load(Ordering::Relaxed), 3);
    }
}
