//! What every client of librdkafka shares: its log and errors reach ours, and it is taken down off the async threads.

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use super::super::LogError;

/// The callbacks of one client.
#[derive(Debug, Clone)]
pub(super) struct Client {
    role: &'static str,
    last_error: LastError,
}

impl Client {
    pub(super) fn new(role: &'static str, last_error: &LastError) -> Self {
        Client { role, last_error: last_error.clone() }
    }
}

impl ClientContext for Client {
    fn log(&self, level: RDKafkaLogLevel, facility: &str, message: &str) {
        let role = self.role;
        match level {
            RDKafkaLogLevel::Emerg | RDKafkaLogLevel::Alert | RDKafkaLogLevel::Critical | RDKafkaLogLevel::Error => {
                tracing::error!(target: "librdkafka", role, facility, "{message}");
            }
            RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", role, facility, "{message}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", role, facility, "{message}");
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", role, facility, "{message}"),
        }
    }

    /// Nearly always a connection that librdkafka mends by itself; what it does not mend fails a call, too.
    fn error(&self, error: KafkaError, reason: &str) {
        metrics::counter!("twofold_log_client_errors_total", "role" => self.role).increment(1);
        tracing::debug!(role = self.role, %error, "Kafka client: {reason}");
        // That all brokers are down says less than why each of them is.
        if error.rdkafka_error_code() != Some(RDKafkaErrorCode::AllBrokersDown) {
            self.last_error.set(reason.to_owned());
        }
    }
}

impl ConsumerContext for Client {}

/// Why calls time out: librdkafka reports refused passwords and lost connections apart from the call that waits.
#[derive(Debug, Clone, Default)]
pub(super) struct LastError(Arc<Mutex<Option<(Instant, String)>>>);

/// An older one explains nothing any more.
const RECENT: Duration = Duration::from_secs(60);

impl LastError {
    fn set(&self, reason: String) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), reason));
    }

    /// Adds the reason to an error that only says that time ran out.
    pub(super) fn add_to(&self, error: LogError) -> LogError {
        let reason = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        match (error, reason) {
            (LogError::Unavailable(what), Some((at, reason))) if at.elapsed() < RECENT => {
                LogError::Unavailable(format!("{what} (the client's last error was: {reason})"))
            }
            (error, _) => error,
        }
    }
}

/// A client that is dropped on a thread of its own, which nobody waits for: librdkafka's destructors join its threads,
/// which takes up to a second, and were seen to hang (rust-rdkafka #509, #611).
pub(super) struct OffThread<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> OffThread<T> {
    pub(super) fn new(client: T) -> Self {
        OffThread(Some(client))
    }
}

impl<T: Send + 'static> Deref for OffThread<T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

impl<T: Send + 'static> DerefMut for OffThread<T> {
    fn deref_mut(&mut self) -> &mut T {
        self.0.as_mut().expect("it is there until it is dropped")
    }
}

impl<T: Send + 'static> Drop for OffThread<T> {
    fn drop(&mut self) {
        if let Some(client) = self.0.take() {
            let dropping = std::thread::Builder::new().name("kafka-drop".to_owned()).spawn(move || drop(client));
            // No thread to be had: the closure, and the client with it, was dropped right here.
            drop(dropping);
        }
    }
}

impl<T: Send + 'static> fmt::Debug for OffThread<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::any::type_name::<T>())
    }
}
