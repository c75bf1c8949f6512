//! One connection: its session, who has opened it, and the question that it asks just now.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::Duration;

use async_trait::async_trait;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::{DFSchemaRef, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{ColumnarValue, Volatility, create_udf};
use datafusion::prelude::SessionContext;
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_postgres::datafusion_pg_catalog::setup_pg_catalog;
use datafusion_postgres::hooks::cursor::CursorStatementHook;
use datafusion_postgres::hooks::set_show::SetShowHook;
use datafusion_postgres::hooks::transactions::TransactionStatementHook;
use datafusion_postgres::pgwire::api::auth::{
    DefaultServerParameterProvider, StartupHandler, finish_authentication, protocol_negotiation,
    save_startup_parameters_to_metadata,
};
use datafusion_postgres::pgwire::api::cancel::CancelHandler;
use datafusion_postgres::pgwire::api::portal::Portal;
use datafusion_postgres::pgwire::api::query::{ExtendedQueryHandler, SimpleQueryHandler};
use datafusion_postgres::pgwire::api::results::{QueryResponse, Response};
use datafusion_postgres::pgwire::api::store::PortalStore;
use datafusion_postgres::pgwire::api::{
    ClientInfo, ClientPortalStore, ErrorHandler, PgWireConnectionState, PgWireServerHandlers, PidSecretKeyGenerator,
};
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::cancel::CancelRequest;
use datafusion_postgres::pgwire::messages::startup::{Authentication, SecretKey};
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use datafusion_postgres::{DfSessionService, Parser, QueryHook};
use futures::{Sink, SinkExt, StreamExt};
use tokio::sync::OwnedSemaphorePermit;

use super::Shared;
use super::door::Guest;
use super::hook::ReadOnly;
use crate::error::SqlError;
use crate::pump::{Bound, pump};
use crate::session::CATALOG;
use crate::snapshot::Pin;
use crate::statement::Refused;

/// As clients read it: to them this is that release.
const VERSION: &str = "16.6";
/// Rows that are handed on at a time.
const CHUNK: usize = 1024;
/// Under this name the library keeps what a client sets.
const STATEMENT_TIMEOUT: &str = "statement_timeout_ms";

/// What the parts of a connection share.
pub(super) struct State {
    pub(super) shared: Arc<Shared>,
    pub(super) pin: Pin,
    /// Set when somebody was let in, and never before.
    guest: OnceLock<Guest>,
    asked: Mutex<Option<Asked>>,
    /// Columns of the cursors that were declared, by name.
    cursors: Mutex<HashMap<String, DFSchemaRef>>,
}

/// What is asked just now: how long it may take, and the right to be computed.
#[derive(Debug, Clone)]
struct Question {
    bound: Bound,
    permit: Arc<OwnedSemaphorePermit>,
}

/// The last question of a connection, which does not keep its permit: its answers do.
#[derive(Debug)]
struct Asked {
    bound: Bound,
    permit: Weak<OwnedSemaphorePermit>,
}

impl State {
    /// # Errors
    /// When nobody was let in: the library goes on reading from a client that it has turned away.
    pub(super) fn guest(&self) -> PgWireResult<&Guest> {
        self.guest.get().ok_or_else(|| fatal("28000", "nobody has been let in on this connection".to_owned()))
    }

    async fn begin<C: ClientInfo>(&self, client: &C) -> PgWireResult<Question> {
        let guest = self.guest()?;
        self.shared.door.check(guest).await.map_err(|reason| fatal("28000", reason))?;
        let limits = self.shared.limits;
        // A client may ask for less time, not for more.
        let wish =
            client.metadata().get(STATEMENT_TIMEOUT).and_then(|wish| wish.parse().ok()).map(Duration::from_millis);
        let bound = Bound::new(wish.map_or(limits.time, |wish| wish.min(limits.time)), limits.rows);
        let permit = self.shared.questions.clone().acquire_owned();
        let permit = tokio::time::timeout_at(bound.deadline, permit).await;
        let busy = || error("53300", "too many questions are computed already: ask again later".to_owned());
        let permit = Arc::new(permit.ok().and_then(Result::ok).ok_or_else(busy)?);
        metrics::counter!("twofold_sql_questions_total").increment(1);
        let question = Question { bound, permit };
        *self.lock() = Some(Asked { bound: question.bound.clone(), permit: Arc::downgrade(&question.permit) });
        Ok(question)
    }

    pub(super) fn remember(&self, cursor: String, columns: DFSchemaRef) {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner).insert(cursor, columns);
    }

    pub(super) fn columns_of(&self, cursor: &str) -> Option<DFSchemaRef> {
        self.cursors.lock().unwrap_or_else(PoisonError::into_inner).get(cursor).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Asked>> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn cancel(&self) {
        if let Some(asked) = &*self.lock() {
            asked.bound.cancel.cancel();
        }
    }

    /// An answer of the present question, within its limits.
    pub(super) fn bounded(&self, answer: QueryResponse) -> PgWireResult<QueryResponse> {
        let asked = self.lock();
        let question = asked
            .as_ref()
            .and_then(|asked| Some(Question { bound: asked.bound.clone(), permit: asked.permit.upgrade()? }));
        let question = question.ok_or_else(|| error("XX000", "there is an answer without a question".to_owned()))?;
        Ok(question.bounded(answer))
    }
}

impl Question {
    fn bounded(&self, mut answer: QueryResponse) -> QueryResponse {
        let rows = std::mem::replace(&mut answer.data_rows, Box::pin(futures::stream::empty()));
        let chunks = rows.ready_chunks(CHUNK).map(|chunk| chunk.into_iter().collect::<PgWireResult<Vec<_>>>());
        let chunks = pump(chunks.boxed(), Vec::len, self.bound.clone(), self.permit.clone());
        let rows = chunks.flat_map(|chunk| {
            let (rows, error) = match chunk {
                Ok(rows) => (rows, None),
                Err(error) => (Vec::new(), Some(error)),
            };
            futures::stream::iter(rows.into_iter().map(Ok).chain(error.map(Err)))
        });
        answer.data_rows = Box::pin(rows);
        answer
    }

    fn all_bounded(&self, response: Response) -> Response {
        match response {
            Response::Query(answer) => Response::Query(self.bounded(answer)),
            response => response,
        }
    }

    /// What has to be done before there is an answer takes of its time.
    async fn within<T>(&self, work: impl Future<Output = PgWireResult<T>>) -> PgWireResult<T> {
        tokio::select! {
            done = work => done,
            () = tokio::time::sleep_until(self.bound.deadline) => Err(SqlError::Time(self.bound.time).into()),
            () = self.bound.cancel.cancelled() => Err(PgWireError::QueryCanceled),
        }
    }
}

/// The library's service, each question within its limits.
pub(super) struct Service {
    state: Arc<State>,
    inner: DfSessionService,
}

#[async_trait]
impl SimpleQueryHandler for Service {
    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let question = self.state.begin(client).await?;
        let answers = question.within(SimpleQueryHandler::do_query(&self.inner, client, query)).await?;
        Ok(answers.into_iter().map(|answer| question.all_bounded(answer)).collect())
    }
}

#[async_trait]
impl ExtendedQueryHandler for Service {
    type Statement = <DfSessionService as ExtendedQueryHandler>::Statement;
    type QueryParser = Parser;

    fn query_parser(&self) -> Arc<Parser> {
        self.inner.query_parser()
    }

    async fn do_query<C>(
        &self,
        client: &mut C,
        portal: &Portal<Self::Statement>,
        max_rows: usize,
    ) -> PgWireResult<Response>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let question = self.state.begin(client).await?;
        let answer = question.within(ExtendedQueryHandler::do_query(&self.inner, client, portal, max_rows)).await?;
        Ok(question.all_bounded(answer))
    }
}

/// Lets clients in.
pub(super) struct Startup(Arc<State>);

impl Startup {
    async fn welcome<C>(&self, client: &mut C, guest: Guest) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let (process, secret) = self.0.shared.ids.generate(client);
        client.set_pid_and_secret_key(process, secret.clone());
        self.0.shared.cancels.insert(process, secret, &self.0);
        let mut told = DefaultServerParameterProvider::default();
        VERSION.clone_into(&mut told.server_version);
        told.is_superuser = false;
        told.default_transaction_read_only = true;
        let _ = self.0.guest.set(guest);
        finish_authentication(client, &told).await
    }
}

#[async_trait]
impl StartupHandler for Startup {
    async fn on_startup<C>(&self, client: &mut C, message: PgWireFrontendMessage) -> PgWireResult<()>
    where
        C: ClientInfo + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let door = &self.0.shared.door;
        match message {
            PgWireFrontendMessage::Startup(startup) => {
                protocol_negotiation(client, &startup).await?;
                save_startup_parameters_to_metadata(client, &startup);
                if door.has_tls && !client.is_secure() {
                    return Err(fatal(
                        "28000",
                        "this server speaks TLS only: connect with sslmode=require or verify-full".to_owned(),
                    ));
                }
                if door.is_open() {
                    return self.welcome(client, Guest::Anybody).await;
                }
                client.set_state(PgWireConnectionState::AuthenticationInProgress);
                client.send(PgWireBackendMessage::Authentication(Authentication::CleartextPassword)).await?;
                Ok(())
            }
            PgWireFrontendMessage::PasswordMessageFamily(password) => {
                match door.enter(&password.into_password()?.password).await {
                    Ok(guest) => self.welcome(client, guest).await,
                    Err(reason) => {
                        metrics::counter!("twofold_sql_logins_refused_total").increment(1);
                        Err(fatal("28P01", reason))
                    }
                }
            }
            _ => Err(fatal("08P01", "a client says first who it is".to_owned())),
        }
    }
}

/// By what another connection of the same client ends a question.
#[derive(Debug, Default)]
pub(super) struct Cancels(Mutex<HashMap<i32, (SecretKey, Weak<State>)>>);

impl Cancels {
    fn insert(&self, process: i32, secret: SecretKey, state: &Arc<State>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, (_, state)| state.strong_count() > 0);
        known.insert(process, (secret, Arc::downgrade(state)));
    }
}

#[async_trait]
impl CancelHandler for Cancels {
    async fn on_cancel_request(&self, request: CancelRequest) {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let state = known.get(&request.pid).filter(|(secret, _)| secret.eq_value(&request.secret_key));
        if let Some(state) = state.and_then(|(_, state)| state.upgrade()) {
            state.cancel();
        }
    }
}

/// Makes of every error what a person can use.
struct Errors;

impl ErrorHandler for Errors {
    fn on_error<C: ClientInfo>(&self, _: &C, error: &mut PgWireError) {
        if let PgWireError::ApiError(inner) = error
            && inner.is::<DataFusionError>()
        {
            let inner = std::mem::replace(inner, "".into());
            if let Ok(inner) = inner.downcast::<DataFusionError>() {
                *error = SqlError::from(*inner).into();
            }
        }
        tracing::debug!("a question over PostgreSQL's protocol has no answer: {error}");
    }
}

/// The parts of one connection.
pub(super) struct Connection {
    service: Arc<Service>,
    startup: Arc<Startup>,
    cancels: Arc<Cancels>,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>) -> Result<Self, SqlError> {
        let (cancels, pin) = (shared.cancels.clone(), Pin::default());
        let context = shared.engine.session(&pin)?.context;
        as_postgres(&context)?;
        let state =
            Arc::new(State { shared, pin, guest: OnceLock::new(), asked: Mutex::default(), cursors: Mutex::default() });
        let hooks: Vec<Arc<dyn QueryHook>> = vec![
            Arc::new(ReadOnly(state.clone())),
            Arc::new(CursorStatementHook),
            Arc::new(SetShowHook),
            Arc::new(TransactionStatementHook),
        ];
        let inner = DfSessionService::new_with_hooks(Arc::new(context), hooks);
        let service = Arc::new(Service { state: state.clone(), inner });
        let startup = Arc::new(Startup(state));
        Ok(Connection { service, startup, cancels })
    }
}

/// Tables and functions by which clients of PostgreSQL find out what there is.
fn as_postgres(context: &SessionContext) -> Result<(), SqlError> {
    setup_pg_catalog(context, CATALOG, EmptyContextProvider).map_err(|error| SqlError::from(*error))?;
    let constant = |name: &str, arguments: Vec<DataType>, value: ScalarValue| {
        let of = value.data_type();
        let give = move |_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(value.clone()));
        context.register_udf(create_udf(name, arguments, of, Volatility::Immutable, Arc::new(give)));
    };
    let version = format!("PostgreSQL {VERSION} (Twofold {})", env!("CARGO_PKG_VERSION"));
    constant("version", vec![], ScalarValue::Utf8(Some(version)));
    // What clients look up before they ask anything: there are no sequences here, no types of extensions, and all is seen.
    constant("pg_get_serial_sequence", vec![DataType::Utf8; 2], ScalarValue::Utf8(None));
    constant("to_regtype", vec![DataType::Utf8], ScalarValue::Int32(None));
    constant("pg_function_is_visible", vec![DataType::Int32], ScalarValue::Boolean(Some(true)));
    Ok(())
}

impl PgWireServerHandlers for Connection {
    fn simple_query_handler(&self) -> Arc<impl SimpleQueryHandler> {
        self.service.clone()
    }

    fn extended_query_handler(&self) -> Arc<impl ExtendedQueryHandler> {
        self.service.clone()
    }

    fn startup_handler(&self) -> Arc<impl StartupHandler> {
        self.startup.clone()
    }

    fn error_handler(&self) -> Arc<impl ErrorHandler> {
        Arc::new(Errors)
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        self.cancels.clone()
    }
}

fn error(code: &str, message: String) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".to_owned(), code.to_owned(), message)))
}

/// The connection ends with it.
fn fatal(code: &str, message: String) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("FATAL".to_owned(), code.to_owned(), message)))
}

impl From<SqlError> for PgWireError {
    fn from(sql: SqlError) -> Self {
        let code = match &sql {
            SqlError::Refused(Refused::Writes(_)) => "25006",
            SqlError::Refused(_) => "42601",
            SqlError::Question(_) => "42000",
            SqlError::Time(_) | SqlError::Cancelled => "57014",
            SqlError::Rows(_) => "54000",
            SqlError::Memory(_) => "53200",
            SqlError::Ledger(_) | SqlError::Ads(_) | SqlError::Table(_) | SqlError::Foreign(_) | SqlError::Read(_) => {
                "58030"
            }
        };
        error(code, sql.to_string())
    }
}
