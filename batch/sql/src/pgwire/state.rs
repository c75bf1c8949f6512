//! What the parts of one connection share: who has opened it, what it asks just now, and what of that is still open.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use datafusion::common::DFSchemaRef;
use datafusion_postgres::pgwire::api::ClientInfo;
use datafusion_postgres::pgwire::api::results::QueryResponse;
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use futures::StreamExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;

use super::Shared;
use super::door::{Guest, Shut};
use super::parse::Statements;
use crate::error::SqlError;
use crate::pump::{Bound, pump};
use crate::snapshot::Pin;
use crate::statement::Refused;

/// Rows that are handed on at a time.
const CHUNK: usize = 1024;
/// Most questions of one message.
const QUESTIONS_MAX: usize = 16;
/// Most cursors that a connection has open.
const CURSORS_MAX: usize = 16;
/// A connection on which nothing is asked for so long is closed.
const IDLE_MAX: Duration = Duration::from_secs(3600);
/// Under this name the library keeps what a client sets.
const STATEMENT_TIMEOUT: &str = "statement_timeout_ms";

pub(super) struct State {
    pub(super) shared: Arc<Shared>,
    pub(super) pin: Pin,
    pub(super) statements: Statements,
    /// Set when somebody was let in, and never before.
    guest: OnceLock<Guest>,
    asked: Mutex<Option<Asked>>,
    in_transaction: AtomicBool,
    /// The cursors that are open, by name.
    cursors: Mutex<HashMap<String, Cursor>>,
    /// Nothing is read from the client any more.
    pub(super) ended: CancellationToken,
    /// When it last asked.
    last: Mutex<Instant>,
}

/// What is asked just now, and the right to be computed: as long as the message is worked on, and as long as any answer is.
#[derive(Debug)]
struct Asked {
    bound: Bound,
    permit: Option<Arc<OwnedSemaphorePermit>>,
    /// Questions of the message so far.
    computed: usize,
}

/// What is known of an open cursor.
struct Cursor {
    columns: DFSchemaRef,
    /// It outlives its transaction.
    is_held: bool,
}

impl State {
    pub(super) fn new(shared: Arc<Shared>, pin: Pin) -> Self {
        State {
            shared,
            pin,
            statements: Statements::new(),
            guest: OnceLock::new(),
            asked: Mutex::default(),
            in_transaction: AtomicBool::new(false),
            cursors: Mutex::default(),
            ended: CancellationToken::new(),
            last: Mutex::new(Instant::now()),
        }
    }

    pub(super) fn let_in(&self, guest: Guest) {
        // Nobody is let in twice.
        let _ = self.guest.set(guest);
    }

    /// # Errors
    /// When nobody was let in: the library goes on reading from a client that it has turned away.
    pub(super) fn guest(&self) -> PgWireResult<&Guest> {
        self.guest.get().ok_or_else(|| fatal("28000", "nobody has been let in on this connection".to_owned()))
    }

    /// Why the connection should not stay; looked at from time to time.
    pub(super) async fn reason_to_end(&self) -> Option<String> {
        let idle = lock(&self.last).elapsed();
        let Some(guest) = self.guest.get() else { return Some("nobody was let in in time".to_owned()) };
        // An answer may take longer than its connection may be idle.
        let idle_max = IDLE_MAX + self.shared.limits.time;
        match self.shared.door.check(guest).await {
            Err(Shut::Refused(reason)) => Some(reason),
            _ if idle > idle_max => Some(format!("nothing was asked for {idle_max:?}")),
            Ok(()) | Err(Shut::Away(_)) => None,
        }
    }

    /// A message with questions begins.
    ///
    /// # Errors
    /// When the client's key is none any more.
    pub(super) async fn begin<C: ClientInfo>(&self, client: &C) -> PgWireResult<Bound> {
        let guest = self.guest()?;
        self.shared.door.check(guest).await.map_err(|shut| match shut {
            Shut::Refused(reason) => fatal("28000", reason),
            Shut::Away(reason) => error("58030", reason),
        })?;
        *lock(&self.last) = Instant::now();
        self.enter_transaction(client.transaction_status() != TransactionStatus::Idle);
        let limits = self.shared.limits;
        // A client may ask for less time, not for more.
        let wish = client.metadata().get(STATEMENT_TIMEOUT).and_then(|wish| wish.parse().ok());
        let time = wish.map_or(limits.time, |wish| limits.time.min(Duration::from_millis(wish)));
        let bound = Bound::new(time, limits.rows);
        *lock(&self.asked) = Some(Asked { bound: bound.clone(), permit: None, computed: 0 });
        Ok(bound)
    }

    /// Waits for the right to be computed, which all questions of a message share.
    ///
    /// # Errors
    /// When the time of the message is over first, or it holds too many of them.
    pub(super) async fn take_turn(&self) -> PgWireResult<()> {
        let deadline = match &mut *lock(&self.asked) {
            Some(asked) if asked.computed >= QUESTIONS_MAX => {
                return Err(error(
                    "54000",
                    format!("a message may hold {QUESTIONS_MAX} questions: send fewer at a time"),
                ));
            }
            Some(asked) => {
                asked.computed += 1;
                if asked.permit.is_some() {
                    return Ok(());
                }
                asked.bound.deadline
            }
            None => return Err(error("XX000", "there is nothing that is asked".to_owned())),
        };
        let permit = tokio::time::timeout_at(deadline, self.shared.questions.clone().acquire_owned()).await;
        let busy = || error("53300", "too many questions are computed already: ask again later".to_owned());
        let permit = permit.ok().and_then(Result::ok).ok_or_else(busy)?;
        metrics::counter!("twofold_sql_questions_total").increment(1);
        if let Some(asked) = &mut *lock(&self.asked) {
            asked.permit = Some(Arc::new(permit));
        }
        Ok(())
    }

    /// The message is answered, or is not: what is still computed keeps the right by itself.
    pub(super) fn give_turn_back(&self) {
        if let Some(asked) = &mut *lock(&self.asked) {
            asked.permit = None;
        }
    }

    /// An answer of the present question, within its limits; the right to be computed goes with it.
    pub(super) fn bounded(&self, mut answer: QueryResponse) -> PgWireResult<QueryResponse> {
        let asked = lock(&self.asked);
        let nothing = || error("XX000", "there is an answer without a question".to_owned());
        let asked = asked.as_ref().ok_or_else(nothing)?;
        let rows = std::mem::replace(&mut answer.data_rows, Box::pin(futures::stream::empty()));
        let chunks = rows.ready_chunks(CHUNK).map(|chunk| chunk.into_iter().collect::<PgWireResult<Vec<_>>>());
        let rows = pump(chunks.boxed(), Vec::len, asked.bound.clone(), asked.permit.clone()).flat_map(|chunk| {
            let (rows, error) = match chunk {
                Ok(rows) => (rows, None),
                Err(error) => (Vec::new(), Some(error)),
            };
            futures::stream::iter(rows.into_iter().map(Ok).chain(error.map(Err)))
        });
        answer.data_rows = Box::pin(rows);
        Ok(answer)
    }

    pub(super) fn cancel(&self) {
        if let Some(asked) = &*lock(&self.asked) {
            asked.bound.cancel.cancel();
        }
    }

    pub(super) fn in_transaction(&self) -> bool {
        self.in_transaction.load(Ordering::Relaxed)
    }

    pub(super) fn enter_transaction(&self, is_in: bool) {
        self.in_transaction.store(is_in, Ordering::Relaxed);
    }

    /// # Errors
    /// When there are too many already.
    pub(super) fn remember(&self, cursor: String, columns: DFSchemaRef, is_held: bool) -> PgWireResult<()> {
        let mut cursors = lock(&self.cursors);
        if cursors.len() >= CURSORS_MAX && !cursors.contains_key(&cursor) {
            return Err(error("54000", format!("{CURSORS_MAX} cursors are open on this connection: close one")));
        }
        cursors.insert(cursor, Cursor { columns, is_held });
        Ok(())
    }

    pub(super) fn columns_of(&self, cursor: &str) -> Option<DFSchemaRef> {
        lock(&self.cursors).get(cursor).map(|cursor| cursor.columns.clone())
    }

    pub(super) fn forget(&self, cursor: &str) {
        lock(&self.cursors).remove(cursor);
    }

    /// All of them, or those that end with their transaction. Returns their names.
    pub(super) fn forget_cursors(&self, held_too: bool) -> Vec<String> {
        lock(&self.cursors).extract_if(|_, cursor| held_too || !cursor.is_held).map(|(name, _)| name).collect()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What has to be done before there is an answer takes of its time.
pub(super) async fn within<T>(bound: &Bound, work: impl Future<Output = PgWireResult<T>>) -> PgWireResult<T> {
    tokio::select! {
        done = work => done,
        () = tokio::time::sleep_until(bound.deadline) => Err(SqlError::Time(bound.time).into()),
        () = bound.cancel.cancelled() => Err(SqlError::Cancelled.into()),
    }
}

pub(super) fn error(code: &str, message: String) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".to_owned(), code.to_owned(), message)))
}

/// The connection ends with it.
pub(super) fn fatal(code: &str, message: String) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("FATAL".to_owned(), code.to_owned(), message)))
}

impl From<SqlError> for PgWireError {
    fn from(sql: SqlError) -> Self {
        let code = match &sql {
            SqlError::Refused(Refused::Writes(_)) => "25006",
            SqlError::Refused(Refused::TooLong) => "54001",
            SqlError::Refused(Refused::Zone(_) | Refused::ArrayText(_)) => "22023",
            SqlError::Refused(Refused::Syntax(_) | Refused::Empty | Refused::Several(_)) => "42601",
            SqlError::Question(_) => "42000",
            SqlError::Time(_) | SqlError::Cancelled => "57014",
            SqlError::Rows(_) => "54000",
            SqlError::Memory(_) => "53200",
            SqlError::Broken => "XX000",
            SqlError::Ledger(_) | SqlError::Ads(_) | SqlError::Table(_) | SqlError::Foreign(_) | SqlError::Read(_) => {
                "58030"
            }
        };
        error(code, sql.to_string())
    }
}
