//! Reading the speed store: all partitions at once, each within a deadline, and no more often than the numbers change.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use clicks::position::PartitionId;
use clicks::view::Missing;
use futures::future::join_all;
use platform::store::{LiveQuery, LiveSlice, SpeedStore};
use tokio::sync::OnceCell;

/// What each partition answered.
pub(crate) type LiveRead = Vec<(PartitionId, Result<LiveSlice, Missing>)>;

/// Different questions that are remembered at a time.
const RECENT_MAX: usize = 64;

/// Readers that ask the same thing at the same time share one reading.
#[derive(Debug)]
pub(crate) struct LiveReader {
    store: Arc<dyn SpeedStore>,
    refresh: Duration,
    deadline: Duration,
    recent: Mutex<Vec<Recent>>,
}

#[derive(Debug)]
struct Recent {
    partitions: Vec<PartitionId>,
    query: LiveQuery,
    begun: Instant,
    read: Arc<OnceCell<Arc<LiveRead>>>,
}

impl LiveReader {
    pub(crate) fn new(store: Arc<dyn SpeedStore>, refresh: Duration, deadline: Duration) -> Self {
        LiveReader { store, refresh, deadline, recent: Mutex::default() }
    }

    /// Reads the partitions now, or shares a reading that began less than the refresh interval ago.
    pub(crate) async fn read(&self, partitions: Vec<PartitionId>, query: LiveQuery) -> Arc<LiveRead> {
        let read = self.recent(&partitions, &query);
        read.get_or_init(|| self.fetch(partitions, query)).await.clone()
    }

    fn recent(&self, partitions: &[PartitionId], query: &LiveQuery) -> Arc<OnceCell<Arc<LiveRead>>> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|entry| entry.begun.elapsed() < self.refresh);
        let same = |entry: &&Recent| entry.query == *query && entry.partitions == partitions;
        if let Some(entry) = recent.iter().find(same) {
            return entry.read.clone();
        }
        if recent.len() == RECENT_MAX {
            recent.remove(0);
        }
        let read = Arc::<OnceCell<_>>::default();
        recent.push(Recent {
            partitions: partitions.to_vec(),
            query: query.clone(),
            begun: Instant::now(),
            read: read.clone(),
        });
        read
    }

    async fn fetch(&self, partitions: Vec<PartitionId>, query: LiveQuery) -> Arc<LiveRead> {
        let reads = partitions.into_iter().map(|partition| async {
            let slice = self.read_one(&partition, &query).await;
            (partition, slice)
        });
        Arc::new(join_all(reads).await)
    }

    async fn read_one(&self, partition: &PartitionId, query: &LiveQuery) -> Result<LiveSlice, Missing> {
        let failed = |detail: String| {
            metrics::counter!("twofold_serving_live_failures_total").increment(1);
            tracing::debug!("live counts of {partition} could not be read: {detail}");
            Missing::Unreachable(detail)
        };
        match tokio::time::timeout(self.deadline, self.store.read(partition, query)).await {
            Ok(Ok(Some(slice))) => Ok(slice),
            Ok(Ok(None)) => Err(Missing::NoGeneration),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("no answer within {:?}", self.deadline))),
        }
    }
}
