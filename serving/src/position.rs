//! The position of the ledger that answers are given at.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clicks::books::Books;
use clicks::ledger::LEDGER;
use clicks::tables::EntryNumber;
use clicks::time::Timestamp;
use clicks::view::Reason;
use clicks::window::Grain;
use platform::clock::Clock;
use platform::ledger::{Ledger, LedgerError};
use platform::objects::ObjectError;

use crate::table_cache::TableCache;

/// Deadline of one catching up. An object store that answers more slowly than this is as good as away.
const READ_MAX: Duration = Duration::from_secs(5);
/// Deadline of the first reading, which begins at entry 0.
const FIRST_READ_MAX: Duration = Duration::from_secs(60);

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

/// Earlier positions that are kept: one that is not is read from the one before it.
const EARLIER_MAX: usize = 8;
/// Deadline of reading one of them. Who asks again goes on where this came to.
const EARLIER_READ_MAX: Duration = Duration::from_secs(20);

/// Whether tables are read ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Warm {
    No,
    Yes,
}

/// Days before the next one whose tables are read as soon as they are published.
const WARM_DAYS: i32 = 7;

/// The current position, caught up from time to time.
#[derive(Debug)]
pub(crate) struct Positions {
    /// Earlier positions that were asked for, the last one last.
    earlier: Mutex<Vec<Position>>,
    /// Held while one of them is read.
    reading_earlier: tokio::sync::Mutex<()>,
    ledger: Ledger,
    tables: Arc<TableCache>,
    clock: Arc<dyn Clock>,
    current: Mutex<Result<Position, String>>,
    /// Held while the ledger is read.
    reading: tokio::sync::Mutex<()>,
    /// Number of the last reading that was begun, and of the last that was not broken off: requests that want a newer
    /// position share one.
    begun: AtomicU64,
    done: AtomicU64,
}

impl Positions {
    /// `tables`: which hold those of a new position before it is given.
    pub(crate) fn new(ledger: Ledger, tables: Arc<TableCache>, clock: Arc<dyn Clock>) -> Self {
        let current = Mutex::new(Err("the ledger has not been read yet".to_owned()));
        Positions {
            earlier: Mutex::default(),
            reading_earlier: tokio::sync::Mutex::default(),
            ledger,
            tables,
            clock,
            current,
            reading: tokio::sync::Mutex::default(),
            begun: AtomicU64::new(0),
            done: AtomicU64::new(0),
        }
    }

    /// The last position; an error says why there is none yet.
    pub(crate) fn current(&self) -> Result<Position, String> {
        self.lock().clone()
    }

    /// The number of the last entry; `None` while there is no position yet.
    pub(crate) fn head(&self) -> Option<EntryNumber> {
        self.lock().as_ref().ok().map(|position| position.books.head())
    }

    /// The position at which this entry was the last one.
    ///
    /// # Errors
    /// [`LedgerError::NoEntry`] when the ledger does not reach so far.
    pub(crate) async fn at(&self, current: Position, number: EntryNumber) -> Result<Position, LedgerError> {
        if current.books.head() == number {
            // What came since is of no matter, so neither is whether it can be read.
            return Ok(Position { trouble: None, ..current });
        }
        if current.books.head() < number {
            let (url, head) = (self.ledger.url().to_owned(), current.books.head());
            return Err(LedgerError::NoEntry { url, number, head });
        }
        if let Some(kept) = self.kept(|head| head == number) {
            return Ok(kept);
        }
        let waited = tokio::time::timeout(READ_MAX, self.reading_earlier.lock()).await;
        let _reading = waited.map_err(|_| slow(READ_MAX))?;
        // From the nearest one before it that is kept, which may be how far the last reader came.
        let mut books = match self.kept(|head| head <= number) {
            Some(kept) => Books::clone(&kept.books),
            None => self.ledger.read_at(0).await?,
        };
        let read = tokio::time::timeout(EARLIER_READ_MAX, self.ledger.read_on(&mut books, number)).await;
        let position = Position { books: Arc::new(books), read_at: self.clock.now(), trouble: None };
        self.keep(position.clone());
        read.unwrap_or_else(|_| Err(slow(EARLIER_READ_MAX)))?;
        Ok(position)
    }

    /// The latest of the earlier positions that are kept and wanted.
    fn kept(&self, is_wanted: impl Fn(EntryNumber) -> bool) -> Option<Position> {
        let earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        let wanted = earlier.iter().filter(|position| is_wanted(position.books.head()));
        wanted.max_by_key(|position| position.books.head()).cloned()
    }

    fn keep(&self, position: Position) {
        let mut earlier = self.earlier.lock().unwrap_or_else(PoisonError::into_inner);
        earlier.retain(|kept| kept.books.head() != position.books.head());
        if earlier.len() == EARLIER_MAX {
            earlier.remove(0);
        }
        earlier.push(position);
    }

    /// Reads on from the current position, or waits for a reading that begins after this was called: it finds all that this
    /// one would. A ledger that is away keeps the position and flags it.
    ///
    /// # Errors
    /// An entry that cannot be read or that contradicts those before it: nothing may be answered on top of it.
    pub(crate) async fn catch_up(&self) -> Result<(), LedgerError> {
        self.read_up(Warm::No).await
    }

    /// The same in the background, where nobody waits for it: the tables that the next questions need are read before the new
    /// position is given.
    pub(crate) async fn follow(&self) -> Result<(), LedgerError> {
        self.read_up(Warm::Yes).await
    }

    async fn read_up(&self, warm: Warm) -> Result<(), LedgerError> {
        let asked = self.begun.load(Ordering::Relaxed);
        let _reading = self.reading.lock().await;
        if self.done.load(Ordering::Relaxed) > asked {
            return Ok(());
        }
        let number = self.begun.fetch_add(1, Ordering::Relaxed) + 1;
        let before = self.current();
        let now = self.clock.now();
        let (books, read) = match &before {
            Ok(position) => self.read_on(&position.books).await,
            Err(_) => self.read_first().await,
        };
        let trouble = match read {
            Ok(()) => None,
            Err(fatal @ (LedgerError::Entry(_) | LedgerError::Books(_))) => return Err(fatal),
            Err(error) => Some(error.to_string()),
        };
        if let Some(books) = &books {
            // Seconds since the epoch up to which days are closed: what an alarm compares with the time.
            let closed_until = books.next_night().start().as_millis() as f64 / 1000.0;
            metrics::gauge!("twofold_serving_closed_until_seconds").set(closed_until);
        }
        if let (Warm::Yes, Ok(before), Some(books)) = (warm, &before, &books) {
            self.warm(&before.books, books).await;
        }
        *self.lock() = match (books, trouble.clone(), &before) {
            (Some(books), None, _) => Ok(Position { books, read_at: now, trouble: None }),
            // What was read before it went away counts; only the head is not known.
            (Some(books), trouble, Ok(position)) => Ok(Position { books, read_at: position.read_at, trouble }),
            (_, trouble, _) => Err(trouble.unwrap_or_default()),
        };
        self.done.store(number, Ordering::Relaxed);
        if let Some(trouble) = trouble {
            self.tell(&before, &trouble);
        }
        Ok(())
    }

    /// Has the tables read that the next questions need: those who ask would all wait for them, or behind them.
    async fn warm(&self, before: &Books, books: &Books) {
        let file = |books, day, grain| Books::day(books, day).map(|book| book.revision.file(grain));
        let recent = books.next_night().plus(-WARM_DAYS).until(books.next_night());
        // The newest day first, and of each the small tables: there may not be time for all.
        let tables = recent.rev().flat_map(|day| [Grain::Day, Grain::Hour, Grain::Minute].map(|grain| (day, grain)));
        let wanted = tables.filter_map(|(day, grain)| {
            let later = file(books, day, grain)?;
            // What nobody has asked for, of a day that was published before, is not needed now either.
            let is_wanted = match file(before, day, grain) {
                Some(earlier) => earlier.key != later.key && self.tables.kept(earlier).is_some(),
                None => true,
            };
            is_wanted.then_some(later)
        });
        self.tables.warm(wanted).await;
    }

    /// Once per trouble, not once per second.
    fn tell(&self, before: &Result<Position, String>, trouble: &str) {
        metrics::counter!("twofold_serving_ledger_failures_total").increment(1);
        let known = match before {
            Ok(position) => position.trouble.is_some(),
            Err(reason) => reason == trouble,
        };
        if !known {
            tracing::warn!("the ledger cannot be read, answers stay at the last position: {trouble}");
        }
    }

    async fn read_first(&self) -> (Option<Arc<Books>>, Result<(), LedgerError>) {
        match tokio::time::timeout(FIRST_READ_MAX, self.ledger.read()).await {
            Ok(Ok(books)) => (Some(Arc::new(books)), Ok(())),
            Ok(Err(error)) => (None, Err(error)),
            Err(_) => (None, Err(slow(FIRST_READ_MAX))),
        }
    }

    async fn read_on(&self, before: &Arc<Books>) -> (Option<Arc<Books>>, Result<(), LedgerError>) {
        let mut books = Books::clone(before);
        let read = tokio::time::timeout(READ_MAX, self.ledger.catch_up(&mut books)).await;
        let books = if books.head() == before.head() { before.clone() } else { Arc::new(books) };
        (Some(books), read.unwrap_or_else(|_| Err(slow(READ_MAX))))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Result<Position, String>> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The ledger did not answer in time: as good as away.
pub(crate) fn slow(deadline: Duration) -> LedgerError {
    let reason = format!("it did not answer within {deadline:?}");
    LedgerError::Object(ObjectError::Io { key: LEDGER.to_owned(), source: std::io::Error::other(reason) })
}

#[cfg(test)]
mod tests {
    use clicks::ledger::Genesis;
    use clicks::rules::Rules;
    use clicks::time::Day;
    use futures::future::{join, join_all};
    use platform::clock::SimulatedClock;
    use platform::objects::Objects;

    use super::*;

    #[tokio::test]
    async fn those_who_wait_for_a_reading_share_the_next_one() {
        platform::telemetry::metrics();
        let (ledger, tables) = (Ledger::new(Objects::memory()), Arc::new(TableCache::new(Objects::memory(), 0)));
        let genesis = Genesis { first_day: Day::from_number(0), rules: Rules::default() };
        ledger.begin(genesis).await.unwrap();
        let positions = Positions::new(ledger, tables, Arc::new(SimulatedClock::new(Timestamp::EPOCH)));
        let held = positions.reading.lock().await;
        let all = join_all((0..50).map(|_| positions.catch_up()));
        let (caught_up, ()) = join(all, async { drop(held) }).await;
        assert!(caught_up.into_iter().all(|caught_up| caught_up.is_ok()));
        assert_eq!(positions.begun.load(Ordering::Relaxed), 1);
        assert_eq!(positions.current().unwrap().books.head(), 0);
        let closed_until = "twofold_serving_closed_until_seconds 0\n";
        assert!(platform::telemetry::render().contains(closed_until), "the first day, of 1970, is not closed");
        // Who comes later reads again.
        positions.catch_up().await.unwrap();
        assert_eq!(positions.begun.load(Ordering::Relaxed), 2);
    }
}
