//! How far an archiver has come, and asking it to store what it holds: for whoever drives it in lock step.

use std::collections::BTreeMap;
use std::sync::Arc;

use clicks::position::{Offset, PartitionId};
use clicks::time::Timestamp;
use tokio::sync::watch;

/// Observes and drives an archiver; clones are the same handle. It is given to [`crate::run`] in its options.
#[derive(Debug, Clone, Default)]
pub struct Handle(Arc<State>);

#[derive(Debug, Default)]
struct State {
    progress: watch::Sender<Progress>,
    /// How often [`Handle::cut_now`] was called.
    asked: watch::Sender<u64>,
}

/// How far an archiver has come.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    pub phase: Phase,
    /// Every partition that the archiver owns; complete once it runs.
    pub partitions: BTreeMap<PartitionId, PartitionProgress>,
}

/// What an archiver is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Phase {
    /// It has not found out yet where to go on.
    #[default]
    Starting,
    Running,
    Ended,
}

/// How far one partition has come. Only what is stored counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PartitionProgress {
    /// Every record before this offset is stored.
    pub next_offset: Offset,
    /// Append time of the last stored record; `None` when none is.
    pub coverage: Option<Timestamp>,
    /// The last call of [`Handle::cut_now`] that was answered.
    answered: u64,
}

/// The archiver ended before it came that far; its own result tells why.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the archiver has ended")]
pub struct Ended;

impl Handle {
    /// The progress now.
    pub fn progress(&self) -> Progress {
        self.0.progress.borrow().clone()
    }

    /// Every change of the progress.
    pub fn watch(&self) -> watch::Receiver<Progress> {
        self.0.progress.subscribe()
    }

    /// Waits until the coverage of every partition has reached `time`: every record appended before it is stored.
    pub async fn covered(&self, time: Timestamp) -> Result<(), Ended> {
        self.wait_for(|partition| partition.coverage.is_some_and(|coverage| coverage >= time)).await
    }

    /// Stores everything that is on the log now, and returns when it is stored.
    pub async fn cut_now(&self) -> Result<(), Ended> {
        let mut number = 0;
        self.0.asked.send_modify(|asked| {
            *asked += 1;
            number = *asked;
        });
        self.wait_for(|partition| partition.answered >= number).await
    }

    async fn wait_for(&self, reached: impl Fn(&PartitionProgress) -> bool) -> Result<(), Ended> {
        let mut changes = self.watch();
        let settled = |progress: &Progress| match progress.phase {
            Phase::Starting => false,
            Phase::Running => progress.partitions.values().all(&reached),
            Phase::Ended => true,
        };
        let progress = changes.wait_for(settled).await.map_err(|_| Ended)?;
        if progress.phase == Phase::Ended { Err(Ended) } else { Ok(()) }
    }

    /// Marks the start of a run, and its end when the guard is dropped.
    pub(crate) fn begin(&self) -> Run {
        self.0.progress.send_replace(Progress::default());
        Run(self.clone())
    }

    pub(crate) fn running(&self) {
        self.0.progress.send_modify(|progress| progress.phase = Phase::Running);
    }

    pub(crate) fn stored(&self, partition: &PartitionId, next_offset: Offset, coverage: Option<Timestamp>) {
        self.change(partition, |progress| (progress.next_offset, progress.coverage) = (next_offset, coverage));
    }

    pub(crate) fn next_offset(&self, partition: &PartitionId) -> Option<Offset> {
        self.0.progress.borrow().partitions.get(partition).map(|progress| progress.next_offset)
    }

    pub(crate) fn answer(&self, partition: &PartitionId, number: u64) {
        self.change(partition, |progress| progress.answered = number);
    }

    fn change(&self, partition: &PartitionId, change: impl FnOnce(&mut PartitionProgress)) {
        self.0.progress.send_modify(|progress| change(progress.partitions.entry(partition.clone()).or_default()));
    }

    /// Calls of [`Handle::cut_now`]; one from before this moment counts as new.
    pub(crate) fn asked(&self) -> watch::Receiver<u64> {
        let mut asked = self.0.asked.subscribe();
        if *asked.borrow() > 0 {
            asked.mark_changed();
        }
        asked
    }
}

/// A run of an archiver; dropping it marks the end.
#[derive(Debug)]
pub(crate) struct Run(Handle);

impl Drop for Run {
    fn drop(&mut self) {
        self.0.0.progress.send_modify(|progress| progress.phase = Phase::Ended);
    }
}
