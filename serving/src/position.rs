//! The position of the ledger that answers are given at.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clicks::books::Books;
use clicks::time::Timestamp;
use clicks::view::Reason;
use platform::clock::Clock;
use platform::ledger::{Ledger, LedgerError};

/// Deadline of one catching up. An object store that answers more slowly than this is as good as away.
const READ_MAX: Duration = Duration::from_secs(5);

/// The books at one position. A request takes one and keeps it.
#[derive(Debug, Clone)]
pub(crate) struct Position {
    pub books: Arc<Books>,
    /// When the ledger was last read to its head.
    pub read_at: Timestamp,
    /// Why it could not be read since.
    pub trouble: Option<String>,
}

impl Position {
    /// What stands against every answer at this position.
    pub(crate) fn reason(&self) -> Option<Reason> {
        let detail = self.trouble.clone()?;
        Some(Reason::LedgerStale { read_at: self.read_at, detail })
    }
}

/// The current position, caught up from time to time.
#[derive(Debug)]
pub(crate) struct Positions {
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    current: Mutex<Result<Position, String>>,
    /// Held while the ledger is read, so that requests that want a newer position share one reading.
    reading: tokio::sync::Mutex<()>,
}

impl Positions {
    pub(crate) fn new(ledger: Ledger, clock: Arc<dyn Clock>) -> Self {
        let current = Mutex::new(Err("the ledger has not been read yet".to_owned()));
        Positions { ledger, clock, current, reading: tokio::sync::Mutex::new(()) }
    }

    /// The last position; an error says why there is none yet.
    pub(crate) fn current(&self) -> Result<Position, String> {
        self.lock().clone()
    }

    /// Reads on from the current position. A ledger that is away keeps the position and flags it.
    ///
    /// # Errors
    /// An entry that cannot be read or that contradicts those before it: nothing may be answered on top of it.
    pub(crate) async fn catch_up(&self) -> Result<(), LedgerError> {
        let _reading = self.reading.lock().await;
        let before = self.current();
        let now = self.clock.now();
        let read = tokio::time::timeout(READ_MAX, self.read_on(before.as_ref().ok())).await;
        let trouble = match read {
            Ok(Ok(books)) => {
                *self.lock() = Ok(Position { books, read_at: now, trouble: None });
                return Ok(());
            }
            Ok(Err(fatal @ (LedgerError::Entry(_) | LedgerError::Books(_)))) => return Err(fatal),
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("no answer within {READ_MAX:?}"),
        };
        metrics::counter!("twofold_serving_ledger_failures_total").increment(1);
        if !matches!(&before, Ok(Position { trouble: Some(_), .. })) && before.as_ref().err() != Some(&trouble) {
            tracing::warn!("the ledger cannot be read, answers are given at the last position: {trouble}");
        }
        *self.lock() = match before {
            Ok(position) => Ok(Position { trouble: Some(trouble), ..position }),
            Err(_) => Err(trouble),
        };
        Ok(())
    }

    async fn read_on(&self, before: Option<&Position>) -> Result<Arc<Books>, LedgerError> {
        let Some(position) = before else { return self.ledger.read().await.map(Arc::new) };
        let mut books = Books::clone(&position.books);
        self.ledger.catch_up(&mut books).await?;
        Ok(if books.head() == position.books.head() { position.books.clone() } else { Arc::new(books) })
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Result<Position, String>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
