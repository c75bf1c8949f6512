//! Takes part in a consumer group for the sake of its assignment alone.
//!
//! The group has a consumer of its own, apart from the readers. All partitions that it is given are paused at once, so it
//! fetches nothing; it commits nothing; it is only polled, by a thread of its own, because rebalances happen inside of
//! polls. What it owns is asked of librdkafka after each rebalance instead of being added up from the events: an
//! assignment can be lost while a rebalance is under way, and then no event says so (librdkafka #5604).
//!
//! A process that stands still must not keep its partitions. When all of it does, no heartbeats are sent. When only the
//! async threads do, the polling thread notices, because they do not answer it any more, and stops polling, so that the
//! consumer leaves the group after `max.poll.interval.ms` and takes part again with the next poll.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::base_consumer::BaseConsumer;
use rdkafka::consumer::{Consumer, ConsumerContext, RebalanceProtocol};
use rdkafka::error::{KafkaError, KafkaResult, RDKafkaErrorCode as Code};
use rdkafka::types::RDKafkaRespErr;
use rdkafka::{ClientContext, Offset, TopicPartitionList};
use tokio::runtime::Handle;
use tokio::sync::{oneshot, watch};

use super::super::{Assignment, LogError, Membership};
use super::client::{Client, LastError};
use super::errors::{Place, explain, passes};
use super::{KafkaOptions, blocking};

/// Longest wait of one poll, and so how late the thread sees that it is to leave.
const POLL: Duration = Duration::from_millis(100);
/// How long async threads may leave the polling thread without an answer.
const SILENCE_MAX: Duration = Duration::from_secs(10);
/// Records that the group's consumer read, which should be none.
const RECORDS: &str = "twofold_log_group_records_total";
/// How long leaving in good order is waited for.
const LEAVE_MAX: Duration = Duration::from_secs(3);

pub(super) struct KafkaMembership {
    group: String,
    owned: watch::Receiver<Option<Assignment>>,
    /// Why the thread ended by itself.
    failed: oneshot::Receiver<LogError>,
    stop: Arc<AtomicBool>,
    /// Resolves when the thread has left the group.
    left: oneshot::Receiver<()>,
}

impl KafkaMembership {
    pub(super) async fn join(options: &KafkaOptions, group: &str) -> Result<Self, LogError> {
        let (owned, receiver) = watch::channel(None);
        let (stop, place) = (Arc::new(AtomicBool::new(false)), Place::topic(&options.topic));
        let client = Client::new("group", &LastError::default());
        let member = Member { client, owned, broken: OnceLock::new(), stop: stop.clone() };
        let (options, name, about) = (options.clone(), group.to_owned(), place.clone());
        let consumer = blocking(move || {
            let consumer = options.group_consumer(&name, member)?;
            consumer.subscribe(&[&options.topic]).map_err(|error| explain(error, &about))?;
            Ok::<_, LogError>(consumer)
        })
        .await??;
        let (failure, failed) = oneshot::channel();
        let (leaving, left) = oneshot::channel();
        let (attendant, runtime) = (Attendant { consumer, place, stop: stop.clone() }, Handle::current());
        std::thread::Builder::new()
            .name("kafka-group".to_owned())
            .spawn(move || {
                if let Err(error) = attendant.attend(&runtime) {
                    // Nobody asks any more.
                    let _ = failure.send(error);
                }
                drop(attendant);
                let _ = leaving.send(());
            })
            .map_err(|error| LogError::Failed(format!("no thread for the group `{group}`: {error}")))?;
        Ok(KafkaMembership { group: group.to_owned(), owned: receiver, failed, stop, left })
    }
}

#[async_trait]
impl Membership for KafkaMembership {
    async fn next(&mut self) -> Result<Assignment, LogError> {
        loop {
            tokio::select! {
                biased;
                failed = &mut self.failed => {
                    return Err(failed.unwrap_or_else(|_| LogError::Failed("the membership ended".to_owned())));
                }
                changed = self.owned.changed() => {
                    let owned = self.owned.borrow_and_update().clone();
                    match (changed, owned) {
                        (Ok(()), Some(owned)) => return Ok(owned),
                        (Ok(()), None) => {}
                        // The sender goes with the thread, which says first why it ends.
                        (Err(_), _) => tokio::task::yield_now().await,
                    }
                }
            }
        }
    }

    async fn leave(mut self: Box<Self>) {
        self.stop.store(true, Ordering::Relaxed);
        if tokio::time::timeout(LEAVE_MAX, &mut self.left).await.is_err() {
            tracing::warn!(
                group = self.group,
                "left the group without its answer; it waits for the session to time out"
            );
        }
    }
}

impl Drop for KafkaMembership {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

impl fmt::Debug for KafkaMembership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KafkaMembership").field("group", &self.group).finish_non_exhaustive()
    }
}

/// The callbacks of the group's consumer; they run inside of its polls.
pub(super) struct Member {
    client: Client,
    owned: watch::Sender<Option<Assignment>>,
    /// Why a rebalance could not be followed.
    broken: OnceLock<KafkaError>,
    stop: Arc<AtomicBool>,
}

impl ClientContext for Member {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        self.client.log(level, facility, message);
    }

    fn error(&self, error: KafkaError, reason: &str) {
        self.client.error(error, reason);
    }
}

impl ConsumerContext for Member {
    fn rebalance(&self, consumer: &BaseConsumer<Self>, event: RDKafkaRespErr, moved: &mut TopicPartitionList) {
        let is_gain = event == RDKafkaRespErr::RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS;
        let was_lost = consumer.assignment_lost();
        let done = if is_gain { take(consumer, moved) } else { give_up(consumer, moved) };
        if self.stop.load(Ordering::Relaxed) {
            // Nobody asks any more, and questions to a client that is closing may never be answered (librdkafka #4041).
            return;
        }
        let owned = done.and_then(|()| consumer.assignment());
        match owned {
            Ok(owned) => {
                let owned: Assignment = owned.elements().iter().filter_map(|e| e.partition().try_into().ok()).collect();
                tracing::info!(is_gain, was_lost, moved = moved.count(), ?owned, "the group was rebalanced");
                self.owned.send_replace(Some(owned));
            }
            Err(error) => {
                tracing::warn!(is_gain, was_lost, %error, "a rebalance did not succeed");
                // If it is not the first one, that one is the reason.
                let _ = self.broken.set(error);
            }
        }
    }
}

/// Takes partitions and pauses them. They begin at the end, so that finding where to begin costs a question to the
/// broker, and the pause comes before its answer.
fn take(consumer: &BaseConsumer<Member>, partitions: &mut TopicPartitionList) -> KafkaResult<()> {
    partitions.set_all_offsets(Offset::End)?;
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_assign(partitions)?,
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.assign(partitions)?,
    }
    consumer.pause(partitions)
}

fn give_up(consumer: &BaseConsumer<Member>, partitions: &TopicPartitionList) -> KafkaResult<()> {
    match consumer.rebalance_protocol() {
        RebalanceProtocol::Cooperative => consumer.incremental_unassign(partitions),
        RebalanceProtocol::Eager | RebalanceProtocol::None => consumer.unassign(),
    }
}

/// The polling thread's part.
struct Attendant {
    consumer: BaseConsumer<Member>,
    place: Place,
    stop: Arc<AtomicBool>,
}

impl Attendant {
    /// Polls until it is told to leave. Dropping the consumer leaves the group.
    fn attend(&self, runtime: &Handle) -> Result<(), LogError> {
        metrics::counter!(RECORDS).increment(0);
        let mut pulse = Pulse::new(SILENCE_MAX);
        while !self.stop.load(Ordering::Relaxed) {
            if !pulse.is_felt(runtime) {
                std::thread::sleep(POLL);
                continue;
            }
            match self.consumer.poll(POLL) {
                None => {}
                // It came before the pause, and is of no use to anybody.
                Some(Ok(_)) => metrics::counter!(RECORDS).increment(1),
                Some(Err(error)) => self.judge(error)?,
            }
            if let Some(error) = self.consumer.context().broken.get() {
                return Err(explain(error.clone(), &self.place));
            }
        }
        Ok(())
    }

    fn judge(&self, error: KafkaError) -> Result<(), LogError> {
        let passing = match error.rdkafka_error_code() {
            // The consumer takes part again by itself.
            Some(Code::PollExceeded | Code::IllegalGeneration | Code::UnknownMemberId | Code::RebalanceInProgress) => {
                true
            }
            // Whoever stores what it reads asks for the topic itself.
            Some(Code::UnknownTopic | Code::UnknownPartition | Code::UnknownTopicOrPartition) => true,
            Some(code) => passes(code),
            None => false,
        };
        if passing {
            tracing::warn!(place = %self.place, "the group is disturbed: {error}; the client goes on");
            return Ok(());
        }
        let setting = |name: &str, reason: String| Err(LogError::Setting { name: name.to_owned(), reason });
        match error.rdkafka_error_code() {
            Some(Code::InvalidSessionTimeout) => {
                let limits = "the brokers' `group.min.session.timeout.ms` and `group.max.session.timeout.ms`";
                setting("session.timeout.ms", format!("{error}; choose one within {limits}"))
            }
            Some(Code::InconsistentGroupProtocol) => {
                setting("speed.group", format!("{error}: another program uses this group; choose another name"))
            }
            Some(Code::GroupAuthorizationFailed) => {
                Err(LogError::Failed(format!("{error}; grant the user READ on the group, or name `speed.partitions`")))
            }
            _ => Err(explain(error, &self.place)),
        }
    }
}

/// Whether the async threads are alive.
struct Pulse {
    answered: Arc<AtomicBool>,
    asked: Instant,
    silence_max: Duration,
}

impl Pulse {
    fn new(silence_max: Duration) -> Self {
        Pulse { answered: Arc::new(AtomicBool::new(true)), asked: Instant::now(), silence_max }
    }

    /// Asks again after each answer.
    fn is_felt(&mut self, runtime: &Handle) -> bool {
        if self.answered.swap(false, Ordering::Relaxed) {
            let answered = self.answered.clone();
            self.asked = Instant::now();
            runtime.spawn(async move { answered.store(true, Ordering::Relaxed) });
        }
        self.asked.elapsed() < self.silence_max
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn async_threads_that_stand_still_are_noticed_until_they_go_on() {
        // Nothing runs on it but while it is blocked on.
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut pulse = Pulse::new(Duration::from_millis(50));
        assert!(pulse.is_felt(runtime.handle()));
        std::thread::sleep(Duration::from_millis(60));
        assert!(!pulse.is_felt(runtime.handle()));
        runtime.block_on(tokio::task::yield_now());
        assert!(pulse.is_felt(runtime.handle()));
    }
}
