//! The workers of a process: one for each partition that it counts now.
//!
//! ```text
//! given a partition ── worker enters, resumes at what is stored
//! it goes to another ── worker stores what it observed and ends; the other one does not wait for it
//! ```
//!
//! Between the two nothing is agreed on. Where they overlap, the flush of one of them meets another position than it
//! expects, and that one reloads; a worker that was told to end just ends.

use std::collections::BTreeMap;
use std::sync::Arc;

use metrics::{counter, gauge};
use platform::log::{Assignment, Membership, Topic};
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::error::CounterError;
use crate::meter::Meters;
use crate::run::Shared;
use crate::worker::Worker;

/// Where a process learns which partitions are its own.
#[derive(Debug)]
pub(crate) enum Share {
    /// They are the same for ever.
    Fixed(Assignment),
    Group {
        name: String,
        membership: Box<dyn Membership>,
    },
}

impl Share {
    async fn next(&mut self) -> Result<Assignment, CounterError> {
        match self {
            Share::Fixed(_) => std::future::pending().await,
            Share::Group { name, membership } => match membership.next().await {
                Ok(owned) => Ok(owned),
                Err(source) => Err(CounterError::Group { name: name.clone(), source }),
            },
        }
    }

    pub(crate) async fn leave(self) {
        if let Share::Group { membership, .. } = self {
            membership.leave().await;
        }
    }
}

#[derive(Debug)]
pub(crate) struct Crew {
    topic: Topic,
    shared: Arc<Shared>,
    meters: Arc<Meters>,
    stop: CancellationToken,
    /// What this process is to count. A worker of any other partition is about to end.
    owned: Assignment,
    /// How each worker is told to end.
    at_work: BTreeMap<u32, CancellationToken>,
    tasks: JoinSet<(u32, Result<(), CounterError>)>,
}

impl Crew {
    pub(crate) fn new(topic: Topic, shared: Arc<Shared>, meters: Arc<Meters>, stop: CancellationToken) -> Self {
        let (owned, at_work, tasks) = (Assignment::new(), BTreeMap::new(), JoinSet::new());
        Crew { topic, shared, meters, stop, owned, at_work, tasks }
    }

    /// Counts this share until `stop`, then until every worker has ended.
    ///
    /// # Errors
    /// The first error of a worker or of the membership.
    pub(crate) async fn work(&mut self, share: &mut Share) -> Result<(), CounterError> {
        if let Share::Fixed(numbers) = share {
            self.assign(numbers.clone());
        }
        loop {
            tokio::select! {
                biased;
                Some(ended) = self.tasks.join_next() => self.ended(ended)?,
                () = self.stop.cancelled(), if self.tasks.is_empty() => return Ok(()),
                owned = share.next(), if !self.stop.is_cancelled() => {
                    let owned = owned?;
                    counter!("twofold_speed_rebalances_total").increment(1);
                    tracing::info!(partitions = ?owned, "the group shared the partitions anew");
                    self.assign(owned);
                }
            }
        }
    }

    /// Counts just these partitions from now on.
    fn assign(&mut self, owned: Assignment) {
        gauge!("twofold_speed_partitions_assigned").set(owned.len() as f64);
        for (number, stop) in &self.at_work {
            if !owned.contains(number) {
                stop.cancel();
            }
        }
        let new: Vec<u32> = owned.iter().copied().filter(|number| !self.at_work.contains_key(number)).collect();
        self.owned = owned;
        for number in new {
            self.begin(number);
        }
    }

    fn begin(&mut self, number: u32) {
        let (stop, meter) = (self.stop.child_token(), self.meters.open(number));
        self.at_work.insert(number, stop.clone());
        let worker = Worker::new(self.topic.partition(number), self.shared.clone(), meter, stop);
        self.tasks.spawn(async move { (number, worker.run().await) });
    }

    fn ended(&mut self, ended: Result<(u32, Result<(), CounterError>), JoinError>) -> Result<(), CounterError> {
        let (number, ended) = ended.map_err(panicked)?;
        self.at_work.remove(&number);
        self.meters.close(number);
        ended?;
        // It came back before its worker had ended.
        if self.owned.contains(&number) && !self.stop.is_cancelled() {
            self.begin(number);
        }
        Ok(())
    }

    /// Ends what is still at work as a crash would.
    pub(crate) async fn abandon(&mut self) {
        self.tasks.shutdown().await;
        self.meters.close_all();
        gauge!("twofold_speed_partitions_assigned").set(0.0);
    }
}

fn panicked(error: JoinError) -> CounterError {
    let reason = match error.try_into_panic() {
        Ok(panic) => match panic.downcast::<String>() {
            Ok(text) => *text,
            Err(panic) => panic.downcast_ref::<&str>().map_or("unknown", |text| *text).to_owned(),
        },
        Err(error) => error.to_string(),
    };
    CounterError::Panicked { reason }
}
