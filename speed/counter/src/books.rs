//! The process's copy of the books: rules and the closed set, refreshed for all workers by one task.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clicks::books::Books;
use clicks::time::{Span, Timestamp};
use metrics::{counter, gauge};
use platform::clock::Clock;
use platform::ledger::{Ledger, LedgerError};
use tokio::sync::Notify;
use tokio::time::timeout;

use crate::error::CounterError;

/// New rules take effect at least 24 hours after their entry was published. A copy that is younger than this knows every
/// rule that is in force, with an hour to spare for clocks that differ.
pub(crate) const AGE_MAX: Span = Span::hours(23);

/// The shared copy.
#[derive(Debug)]
pub(crate) struct BooksCopy {
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    refresh: Duration,
    copy: Mutex<Copied>,
    demand: Notify,
    /// Not a watch channel: that one wakes who waits in a random order, and a simulation could not be repeated.
    refreshed: Notify,
}

#[derive(Debug, Clone)]
struct Copied {
    books: Arc<Books>,
    /// When the ledger was asked for what follows the head.
    as_of: Timestamp,
}

impl BooksCopy {
    /// # Errors
    /// When the ledger is missing, unreachable or contradicts itself.
    pub(crate) async fn read(ledger: Ledger, clock: Arc<dyn Clock>, refresh: Duration) -> Result<Self, CounterError> {
        let as_of = clock.now();
        let books = ledger.read().await.map_err(CounterError::Ledger)?;
        let copy = Mutex::new(Copied { books: Arc::new(books), as_of });
        Ok(BooksCopy { ledger, clock, refresh, copy, demand: Notify::new(), refreshed: Notify::new() })
    }

    /// A copy that records may be judged by. Waits for a refresh where the copy is too old; if that fails the process
    /// ends, see [`BooksCopy::keep_fresh`].
    pub(crate) async fn current(&self) -> Arc<Books> {
        if let Some(books) = self.young() {
            return books;
        }
        loop {
            // Taken before looking: a refresh that comes after the look, wakes.
            let refreshed = self.refreshed.notified();
            if let Some(books) = self.young() {
                return books;
            }
            self.demand.notify_one();
            refreshed.await;
        }
    }

    fn copy(&self) -> MutexGuard<'_, Copied> {
        // Nothing that holds it can panic half-way.
        self.copy.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn young(&self) -> Option<Arc<Books>> {
        let copied = self.copy();
        (self.clock.now().since(copied.as_of) <= AGE_MAX).then(|| copied.books.clone())
    }

    /// Refreshes the copy for ever. An object store that is away is waited for until the copy is too old.
    ///
    /// # Errors
    /// Returns when the copy is too old and cannot be refreshed, or when the ledger contradicts itself.
    pub(crate) async fn keep_fresh(&self) -> CounterError {
        loop {
            // Passing without any demand is what the limit is for.
            let _ = timeout(self.refresh, self.demand.notified()).await;
            let before = self.copy().clone();
            let as_of = self.clock.now();
            let mut books = Books::clone(&before.books);
            match self.ledger.catch_up(&mut books).await {
                Ok(()) => {
                    let books = if books.head() == before.books.head() { before.books } else { published(books) };
                    *self.copy() = Copied { books, as_of };
                    self.refreshed.notify_waiters();
                }
                Err(source @ LedgerError::Object(_)) => {
                    let age = self.clock.now().since(before.as_of);
                    counter!("twofold_speed_ledger_failures_total").increment(1);
                    if age > AGE_MAX {
                        return CounterError::RulesStale { age, source: Box::new(source) };
                    }
                    tracing::warn!(%age, %source, "the ledger cannot be read; the copy of it is used, at most {AGE_MAX} long");
                }
                Err(source) => return CounterError::Ledger(source),
            }
            let age = self.clock.now().since(self.copy().as_of);
            gauge!("twofold_speed_ledger_age_seconds").set(age.as_millis() as f64 / 1_000.0);
        }
    }
}

fn published(books: Books) -> Arc<Books> {
    tracing::info!(head = books.head(), open = %books.next_night(), "the ledger has new entries");
    gauge!("twofold_speed_ledger_head").set(books.head() as f64);
    Arc::new(books)
}
