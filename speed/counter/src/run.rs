//! Start-up checks, then the workers of this process's partitions until the first of them fails.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use clicks::books::Books;
use platform::clock::Clock;
use platform::ledger::Ledger;
use platform::log::{Log, LogError, Topic};
use platform::store::{SpeedStore, StoreError};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::books::BooksCopy;
use crate::crew::{Crew, Share};
use crate::error::CounterError;
use crate::meter::{Meters, begin_at_zero, measure};
use crate::options::{Options, Partitions, Pauses, Retry};
use crate::topic::TopicGuard;

/// How long log and store may be away at the start. Later there is no limit.
const START_PATIENCE: Duration = Duration::from_secs(30);

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) options: Options,
    pub(crate) log: Arc<dyn Log>,
    pub(crate) store: Arc<dyn SpeedStore>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) books: BooksCopy,
    pub(crate) topic: TopicGuard,
}

/// Counts until `stop`; what was observed is stored before it returns.
///
/// The clock decides only how long closed minutes are kept and how old the copy of the ledger may become, never what is
/// counted. Dropping the future is a crash: it loses nothing.
///
/// # Errors
/// The first error that is not understood, after all workers have ended. The caller ends the process; starting again is
/// the recovery.
pub async fn run(
    options: Options,
    log: Arc<dyn Log>,
    store: Arc<dyn SpeedStore>,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> Result<(), CounterError> {
    begin_at_zero();
    let books = BooksCopy::read(ledger, clock.clone(), options.ledger_refresh).await?;
    let started = async {
        let topic = first_topic(log.as_ref(), options.store_retry).await?;
        let current = books.current().await;
        check_life(&current, &topic)?;
        check_store(store.as_ref(), options.store_retry).await?;
        Ok::<_, CounterError>(topic)
    };
    let topic = tokio::select! {
        biased;
        () = stop.cancelled() => return Ok(()),
        topic = started => topic?,
        // The clock may jump meanwhile, as at a machine's start, and make the copy too old to begin with.
        error = books.keep_fresh() => return Err(error),
    };
    let mut share = share(&options.partitions, log.as_ref(), &topic).await?;
    tracing::info!(topic = topic.name, id = %topic.id, partitions = ?options.partitions, "counting");

    let guard = TopicGuard::new(log.clone(), topic.clone(), options.flush_interval / 2, options.store_retry);
    let shared = Arc::new(Shared { options, log, store, clock, books, topic: guard });
    let meters = Arc::new(Meters::default());
    let mut crew = Crew::new(topic, shared.clone(), meters.clone(), stop);
    let outcome = tokio::select! {
        biased;
        outcome = crew.work(&mut share) => outcome,
        error = shared.topic.ask() => Err(error),
        error = shared.books.keep_fresh() => Err(error),
        never = measure(shared.log.as_ref(), shared.clock.as_ref(), &meters) => match never {},
    };
    // The others end as in a crash: that is the road that every restart takes.
    crew.abandon().await;
    share.leave().await;
    match &outcome {
        Ok(()) => tracing::info!("stopped; everything observed is stored"),
        Err(error) => tracing::error!(%error, "stopped counting"),
    }
    outcome
}

async fn share(partitions: &Partitions, log: &dyn Log, topic: &Topic) -> Result<Share, CounterError> {
    match partitions {
        Partitions::All => Ok(Share::Fixed((0..topic.partitions).collect())),
        Partitions::Fixed(list) => chosen(list, topic).map(Share::Fixed),
        Partitions::Group(name) => match log.join(name).await {
            Ok(membership) => Ok(Share::Group { name: name.clone(), membership }),
            Err(source) => Err(CounterError::Group { name: name.clone(), source }),
        },
    }
}

/// The life that the log is in must be the one that the ledger knows, or nobody would ever close its days.
fn check_life(books: &Books, topic: &Topic) -> Result<(), CounterError> {
    let life = books.current_life(&topic.region);
    if life.is_some_and(|life| topic.is(life)) {
        return Ok(());
    }
    let recorded = life.map_or_else(
        || "none there".to_owned(),
        |life| format!("{} with {} partitions", life.topic_id, life.partitions),
    );
    Err(CounterError::ForeignTopic {
        region: topic.region.clone(),
        name: topic.name.clone(),
        found: topic.id,
        partitions: topic.partitions,
        recorded,
    })
}

fn chosen(list: &[u32], topic: &Topic) -> Result<BTreeSet<u32>, CounterError> {
    if let Some(number) = list.iter().find(|number| **number >= topic.partitions) {
        return Err(CounterError::NoPartition {
            name: topic.name.clone(),
            number: *number,
            partitions: topic.partitions,
        });
    }
    // Naming one twice would set two workers against each other.
    let numbers: BTreeSet<u32> = list.iter().copied().collect();
    if numbers.is_empty() { Err(CounterError::NothingToCount) } else { Ok(numbers) }
}

async fn first_topic(log: &dyn Log, retry: Retry) -> Result<Topic, CounterError> {
    let (deadline, mut pauses) = (Instant::now() + START_PATIENCE, Pauses::new(retry));
    loop {
        match log.topic().await {
            Ok(topic) => return Ok(topic),
            Err(error @ LogError::Unavailable(_)) if Instant::now() < deadline => {
                tracing::warn!(%error, "waiting for the log");
                sleep(pauses.next()).await;
            }
            Err(error) => return Err(CounterError::Topic(error)),
        }
    }
}

async fn check_store(store: &dyn SpeedStore, retry: Retry) -> Result<(), CounterError> {
    let (deadline, mut pauses) = (Instant::now() + START_PATIENCE, Pauses::new(retry));
    loop {
        match store.check().await {
            Ok(()) => return Ok(()),
            Err(error @ StoreError::Unavailable(_)) if Instant::now() < deadline => {
                tracing::warn!(%error, "waiting for the speed store");
                sleep(pauses.next()).await;
            }
            Err(error) => return Err(CounterError::StoreCheck(error)),
        }
    }
}
