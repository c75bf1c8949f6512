//! How far the archive reaches, for the status of the whole.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use clicks::position::{Offset, PartitionId};
use clicks::time::Timestamp;
use futures::{StreamExt, stream};

/// The archive, as far as this layer looks at it. Layers do not depend on each other, so whoever starts the server brings it.
#[async_trait]
pub trait Archive: Debug + Send + Sync {
    /// How far the stored chain of a partition reaches.
    ///
    /// # Errors
    /// Why that cannot be told, in words.
    async fn reach(&self, partition: &PartitionId) -> Result<Reach, String>;
}

/// How far a partition is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Reach {
    /// Every record before it is stored, or known to be missing.
    pub next_offset: Offset,
    /// Append time of the last record that is stored; `None` when none is.
    pub append_time: Option<Timestamp>,
}

/// What was found within this time is as good as found now: objects come every few minutes, and listings cost money.
const AGE_MAX: Duration = Duration::from_secs(15);
/// How long a question waits for what is being read. It shows what was known before otherwise.
const WAIT_MAX: Duration = Duration::from_secs(2);
/// Deadline of reading one partition. Its first listing holds the names of all of its objects.
const READ_MAX: Duration = Duration::from_secs(60);
/// Partitions that are read at the same time.
const READS_MAX: usize = 8;

/// What is known of each partition, read while somebody asks for it.
#[derive(Debug)]
pub(crate) struct Archived {
    archive: Option<Arc<dyn Archive>>,
    wait_max: Duration,
    known: Mutex<Known>,
    /// Held while the archive is read.
    reading: Arc<tokio::sync::Mutex<()>>,
}

#[derive(Debug, Default)]
struct Known {
    read_at: Option<Instant>,
    reaches: BTreeMap<PartitionId, Result<Reach, String>>,
}

impl Archived {
    pub(crate) fn new(archive: Option<Arc<dyn Archive>>) -> Self {
        Archived { archive, wait_max: WAIT_MAX, known: Mutex::default(), reading: Arc::default() }
    }

    /// How far these partitions reach, as far as it is known; `None` without an archive.
    pub(crate) async fn reaches(
        self: &Arc<Self>,
        partitions: Vec<PartitionId>,
    ) -> Option<BTreeMap<PartitionId, Result<Reach, String>>> {
        let archive = self.archive.clone()?;
        let is_old = self.known().read_at.is_none_or(|read_at| read_at.elapsed() > AGE_MAX);
        let is_new = partitions.iter().any(|partition| !self.known().reaches.contains_key(partition));
        if is_old && let Ok(reading) = self.reading.clone().try_lock_owned() {
            // Of its own: whoever asked may go away, and the next one finds what was read.
            let this = self.clone();
            tokio::spawn(async move {
                this.read(&*archive, partitions).await;
                drop(reading);
            });
        }
        // For what was never known, whether or not it comes in time.
        if is_new {
            _ = tokio::time::timeout(self.wait_max, self.reading.lock()).await;
        }
        Some(self.known().reaches.clone())
    }

    async fn read(&self, archive: &dyn Archive, partitions: Vec<PartitionId>) {
        let reads = partitions.into_iter().map(|partition| async move {
            let read = tokio::time::timeout(READ_MAX, archive.reach(&partition)).await;
            (partition, read.unwrap_or_else(|_| Err(format!("it could not be read within {READ_MAX:?}"))))
        });
        let mut reads = stream::iter(reads).buffer_unordered(READS_MAX);
        let mut asked = Vec::new();
        while let Some((partition, reach)) = reads.next().await {
            self.tell(&partition, &reach);
            asked.push(partition.clone());
            self.known().reaches.insert(partition, reach);
        }
        let mut known = self.known();
        known.reaches.retain(|partition, _| asked.contains(partition));
        known.read_at = Some(Instant::now());
    }

    /// Once per trouble, not once per reading.
    fn tell(&self, partition: &PartitionId, reach: &Result<Reach, String>) {
        let Err(trouble) = reach else { return };
        metrics::counter!("twofold_serving_archive_failures_total").increment(1);
        let is_known = self.known().reaches.get(partition).is_some_and(|before| before.as_ref().err() == Some(trouble));
        if !is_known {
            tracing::warn!("how far {partition} is archived cannot be told: {trouble}");
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use clicks::id::{Region, TopicId};
    use tokio::sync::Semaphore;

    use super::*;

    /// Answers when it is let.
    #[derive(Debug)]
    struct Slow {
        let_in: Semaphore,
        asked: AtomicU64,
    }

    #[async_trait]
    impl Archive for Slow {
        async fn reach(&self, partition: &PartitionId) -> Result<Reach, String> {
            self.asked.fetch_add(1, Ordering::Relaxed);
            self.let_in.acquire().await.unwrap().forget();
            let next_offset = Offset::new(u64::from(partition.number));
            if partition.number == 9 { Err("gone".to_owned()) } else { Ok(Reach { next_offset, append_time: None }) }
        }
    }

    #[tokio::test]
    async fn the_archive_is_read_in_the_background_and_not_more_often_than_is_needed() {
        let slow = Arc::new(Slow { let_in: Semaphore::new(0), asked: AtomicU64::new(0) });
        let archived = Archived::new(Some(slow.clone() as Arc<dyn Archive>));
        let archived = Arc::new(Archived { wait_max: Duration::from_millis(50), ..archived });
        let partition =
            |number| PartitionId { region: Region::parse("eu").unwrap(), topic: TopicId::from_u128(7), number };
        let both = || vec![partition(1), partition(9)];
        // It waits, and is answered without what is not known.
        assert_eq!(archived.reaches(both()).await.unwrap().len(), 0);
        assert_eq!(archived.reaches(both()).await.unwrap().len(), 0);
        assert_eq!(slow.asked.load(Ordering::Relaxed), 2, "one reading of both");
        slow.let_in.add_permits(2);
        let known = loop {
            let known = archived.reaches(both()).await.unwrap();
            if known.len() == 2 {
                break known;
            }
        };
        assert_eq!(known[&partition(1)].as_ref().unwrap().next_offset, Offset::new(1));
        assert_eq!(known[&partition(9)], Err("gone".to_owned()));
        assert_eq!(slow.asked.load(Ordering::Relaxed), 2, "it was read a moment ago");
        assert!(Arc::new(Archived::new(None)).reaches(both()).await.is_none());
    }
}
