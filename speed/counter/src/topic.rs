//! Is it still the same topic? Asked of the broker between every read and the store of what was read.
//!
//! A topic that is deleted and created again under its name goes on at the old offset without any error, so a worker can
//! never tell by what it reads. What it read is of the right topic life if the topic still has its id at some moment *after*
//! the read, because an id never comes back. One answer serves all workers that finished reading before its question
//! began:
//!
//! ```text
//! worker 1   read ──┐ after = 7          flush (8 > 7)
//! worker 2      read ───┐ after = 7      flush
//! worker 3           read ────┐ after = 8                flush (9 > 8)
//! questions             └─ 8 ──────────▸ answered └─ 9 ──────▸ answered
//! ```
//!
//! A worker notes the number of the last question that *began* and waits until a later one is answered. There is one
//! question outstanding at most, and half a flush interval between two beginnings, so a process with any number of
//! partitions asks 80 times a second at most, at a flush interval of 25 ms; workers that are released together flush
//! together, so under load it is about 40. Without any demand it is asked once a second, to find a topic that is gone.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use metrics::counter;
use platform::log::{Log, LogError, Topic};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::error::CounterError;
use crate::options::{Pauses, Retry};

/// Longest time without a question.
const UNASKED_MAX: Duration = Duration::from_secs(1);

/// The one asker of a process.
#[derive(Debug)]
pub(crate) struct TopicGuard {
    log: Arc<dyn Log>,
    topic: Topic,
    pace: Duration,
    retry: Retry,
    /// Number of the last question that began.
    begun: AtomicU64,
    /// Number of the last question whose answer was: the same topic.
    confirmed: AtomicU64,
    /// Not a watch channel: that one wakes who waits in a random order, and a simulation could not be repeated.
    answered: Notify,
    demand: Notify,
}

impl TopicGuard {
    /// Guards `topic`, with at least `pace` between two questions, or a second if that is less.
    pub(crate) fn new(log: Arc<dyn Log>, topic: Topic, pace: Duration, retry: Retry) -> Self {
        TopicGuard {
            log,
            topic,
            pace: pace.min(UNASKED_MAX),
            retry,
            begun: AtomicU64::new(0),
            confirmed: AtomicU64::new(0),
            answered: Notify::new(),
            demand: Notify::new(),
        }
    }

    /// Returns once a question that began after this call was answered: the same topic. Never returns if it is another.
    pub(crate) async fn confirm(&self) {
        let after = self.begun.load(Ordering::SeqCst);
        self.demand.notify_one();
        loop {
            // Taken before looking: an answer that comes after the look, wakes.
            let answered = self.answered.notified();
            if self.confirmed.load(Ordering::SeqCst) > after {
                return;
            }
            answered.await;
        }
    }

    /// Asks for ever.
    ///
    /// # Errors
    /// Returns when it is another topic, or when the log fails in a way that is not understood.
    pub(crate) async fn ask(&self) -> CounterError {
        let mut pauses = Pauses::new(self.retry);
        loop {
            let begun = Instant::now();
            let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
            counter!("twofold_speed_topic_questions_total").increment(1);
            match self.log.topic().await {
                Ok(found) if found.id == self.topic.id && found.partitions == self.topic.partitions => {
                    self.confirmed.store(number, Ordering::SeqCst);
                    self.answered.notify_waiters();
                    pauses.reset();
                }
                Ok(found) => return self.another(found),
                Err(LogError::Unavailable(reason)) => {
                    let pause = pauses.next();
                    tracing::warn!(
                        topic = self.topic.name,
                        reason,
                        ?pause,
                        "the log does not name its topic; trying again"
                    );
                    counter!("twofold_speed_topic_unanswered_total").increment(1);
                    sleep(pause).await;
                    continue;
                }
                Err(source) => return CounterError::Topic(source),
            }
            sleep_until(begun + self.pace).await;
            // Passing without any demand is what the limit is for.
            let _ = timeout(UNASKED_MAX, self.demand.notified()).await;
        }
    }

    fn another(&self, found: Topic) -> CounterError {
        let before = &self.topic;
        if found.id != before.id {
            return CounterError::TopicRecreated { name: found.name, before: before.id, now: found.id };
        }
        CounterError::ForeignTopic {
            recorded: format!("{} with {} partitions", before.id, before.partitions),
            region: found.region,
            name: found.name,
            found: found.id,
            partitions: found.partitions,
        }
    }
}
