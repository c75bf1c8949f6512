//! The handlers of one connection, between the library's protocol and its service.

use std::collections::HashMap;
use std::fmt::Debug;
use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use datafusion::arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, ScalarFunctionImplementation, ScalarUDF, Signature, SimpleScalarUDF, Volatility, create_udf,
};
use datafusion::prelude::SessionContext;
use datafusion::sql::sqlparser::ast::Statement;
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
use datafusion_postgres::pgwire::api::portal::{Format, Portal, PortalExecutionState};
use datafusion_postgres::pgwire::api::query::{
    ExtendedQueryHandler, SimpleQueryHandler, send_execution_response, send_partial_query_response,
};
use datafusion_postgres::pgwire::api::results::Response;
use datafusion_postgres::pgwire::api::store::{Entry, PortalStore};
use datafusion_postgres::pgwire::api::{
    ClientInfo, ClientPortalStore, DEFAULT_NAME, ErrorHandler, PgWireConnectionState, PgWireServerHandlers,
    PidSecretKeyGenerator,
};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::cancel::CancelRequest;
use datafusion_postgres::pgwire::messages::extendedquery::Execute;
use datafusion_postgres::pgwire::messages::response::{EmptyQueryResponse, TransactionStatus};
use datafusion_postgres::pgwire::messages::simplequery::Query;
use datafusion_postgres::pgwire::messages::startup::{Authentication, SecretKey};
use datafusion_postgres::pgwire::messages::{PgWireBackendMessage, PgWireFrontendMessage};
use datafusion_postgres::{DfSessionService, QueryHook};
use futures::{Sink, SinkExt};

use super::Shared;
use super::besides::refusal;
use super::catalog::NOTHING;
use super::door::{Guest, Shut};
use super::hook::{ReadOnly, goes_back};
use super::parse::Prepare;
use super::state::{State, error, fatal, lock, within};
use crate::error::SqlError;
use crate::session::CATALOG;
use crate::snapshot::Pin;

/// As clients read it: to them this is that release.
const VERSION: &str = "16.6";
/// Settings that clients look up; others are NULL.
const SETTINGS: [(&str, &str); 6] = [
    ("default_table_access_method", "heap"),
    ("max_index_keys", "32"),
    ("search_path", "public"),
    ("server_version", VERSION),
    ("server_version_num", "160006"),
    ("timezone", "UTC"),
];
/// Most rows for which the library makes room before it has any.
const ROOM_MAX: usize = 1_000_000;

/// The library's service, each question within its limits.
pub(super) struct Service {
    state: Arc<State>,
    context: Arc<SessionContext>,
    hooks: Vec<Arc<dyn QueryHook>>,
    prepare: Arc<Prepare>,
    inner: DfSessionService,
}

impl Service {
    /// After an error. As in PostgreSQL, cursors end with their transaction; and one that is broken off while it is fetched from
    /// has lost what it had given already.
    fn close_cursors<C: ClientPortalStore>(&self, client: &C, while_fetching: bool)
    where
        C::PortalStore: PortalStore,
    {
        self.state.forget_cursors(while_fetching).iter().for_each(|name| client.portal_store().rm_portal(name));
    }
}

#[async_trait]
impl SimpleQueryHandler for Service {
    /// The library keeps a transaction that has failed so until its end; one that goes back to a savepoint goes on.
    async fn on_query<C>(&self, client: &mut C, query: Query) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let has_failed = client.transaction_status() == TransactionStatus::Error;
        if has_failed && self.state.statements.of(&query.query).is_ok_and(|all| all.first().is_some_and(goes_back)) {
            client.set_transaction_status(TransactionStatus::Transaction);
        }
        self._on_query(client, query).await
    }

    async fn do_query<C>(&self, client: &mut C, query: &str) -> PgWireResult<Vec<Response>>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        let bound = self.state.begin(client).await?;
        let statements = self.state.statements.of(query)?;
        if statements.is_empty() {
            return Ok(vec![Response::EmptyQuery]);
        }
        let mut answers = Vec::new();
        for statement in statements {
            let answer = within(&bound, async {
                for hook in &self.hooks {
                    if let Some(answer) = hook.handle_simple_query(&statement, &self.context, client).await {
                        return answer;
                    }
                }
                Err(SqlError::from(refusal(&statement)).into())
            });
            let answer = answer.await.and_then(|answer| match answer {
                Response::Query(answer) => Ok(Response::Query(self.state.bounded(answer)?)),
                answer => Ok(answer),
            });
            match answer {
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    self.state.give_turn_back();
                    self.close_cursors(client, matches!(statement, Statement::Fetch { .. }));
                    return Err(error);
                }
            }
        }
        self.state.give_turn_back();
        Ok(answers)
    }
}

#[async_trait]
impl ExtendedQueryHandler for Service {
    type Statement = <DfSessionService as ExtendedQueryHandler>::Statement;
    type QueryParser = Prepare;

    fn query_parser(&self) -> Arc<Prepare> {
        self.prepare.clone()
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
        let bound = self.state.begin(client).await?;
        let fetches = matches!(&portal.statement.statement.1, Some((Statement::Fetch { .. }, _)));
        if fetches && !is_text(&portal.result_column_format) {
            // The rows of a cursor are written when it is declared.
            return Err(error("0A000", "rows of a cursor come as text: do not ask for them in binary form".to_owned()));
        }
        let answer = within(&bound, ExtendedQueryHandler::do_query(&self.inner, client, portal, max_rows)).await;
        let answer = answer.and_then(|answer| match answer {
            Response::Query(answer) => Ok(Response::Query(self.state.bounded(answer)?)),
            answer => Ok(answer),
        });
        self.state.give_turn_back();
        if answer.is_err() {
            self.close_cursors(client, fetches);
        }
        answer
    }

    /// Rows go out as they come: the library would gather those that are asked for first.
    async fn on_execute<C>(&self, client: &mut C, mut message: Execute) -> PgWireResult<()>
    where
        C: ClientInfo + ClientPortalStore + Sink<PgWireBackendMessage> + Unpin + Send + Sync,
        C::PortalStore: PortalStore<Statement = Self::Statement>,
        C::Error: Debug,
        PgWireError: From<<C as Sink<PgWireBackendMessage>>::Error>,
    {
        self.state.guest()?;
        // 0: all of them.
        let asked = usize::try_from(message.max_rows).unwrap_or(0);
        // For so many the library makes room before it has any. Who asks for more gets a part, and asks again.
        message.max_rows = asked.min(ROOM_MAX) as i32;
        if !matches!(client.state(), PgWireConnectionState::ReadyForQuery) {
            return Err(PgWireError::NotReadyForQuery);
        }
        let name = message.name.as_deref().unwrap_or(DEFAULT_NAME).to_owned();
        let portal = match client.portal_store().get_portal(&name) {
            Some(Entry::Value(portal)) => portal,
            _ => return self._on_execute(client, message).await,
        };
        if !matches!(*portal.state().lock().await, PortalExecutionState::Initial) {
            return self._on_execute(client, message).await;
        }
        let mut status = client.transaction_status();
        client.set_state(PgWireConnectionState::QueryInProgress);
        match ExtendedQueryHandler::do_query(self, client, portal.as_ref(), 0).await? {
            Response::Query(mut answer) => {
                let sent = send_partial_query_response(client, &mut answer, asked).await;
                if sent.is_err() {
                    client.portal_store().rm_portal(&name);
                }
                sent?;
                // What is left of it, if anything is.
                portal.start(answer).await;
            }
            Response::Execution(tag) => send_execution_response(client, tag).await?,
            Response::TransactionStart(tag) => {
                send_execution_response(client, tag).await?;
                // Also of one that had failed, and goes back to a savepoint.
                status = TransactionStatus::Transaction;
            }
            Response::TransactionEnd(tag) => {
                send_execution_response(client, tag).await?;
                status = status.to_idle_state();
                client.portal_store().rm_portal(DEFAULT_NAME);
            }
            Response::EmptyQuery => {
                client.feed(PgWireBackendMessage::EmptyQueryResponse(EmptyQueryResponse::new())).await?;
            }
            Response::Error(error) => return Err(PgWireError::UserError(error)),
            Response::CopyIn(_) | Response::CopyOut(_) | Response::CopyBoth(_) => {
                return Err(error("0A000", "COPY is not spoken here".to_owned()));
            }
        }
        client.set_state(PgWireConnectionState::ReadyForQuery);
        client.set_transaction_status(status);
        Ok(())
    }
}

fn is_text(format: &Format) -> bool {
    match format {
        Format::UnifiedText => true,
        Format::UnifiedBinary => false,
        Format::Individual(codes) => codes.iter().all(|code| *code == 0),
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
        self.0.let_in(guest);
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
                    Err(Shut::Away(reason)) => Err(fatal("58030", reason)),
                    Err(Shut::Refused(reason)) => {
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
        let mut known = lock(&self.0);
        known.retain(|_, (_, state)| state.strong_count() > 0);
        known.insert(process, (secret, Arc::downgrade(state)));
    }
}

#[async_trait]
impl CancelHandler for Cancels {
    async fn on_cancel_request(&self, request: CancelRequest) {
        let known = lock(&self.0);
        let state = known.get(&request.pid).filter(|(secret, _)| secret.eq_value(&request.secret_key));
        if let Some(state) = state.and_then(|(_, state)| state.upgrade()) {
            state.cancel();
        }
    }
}

/// Makes of every error what a person can use, and ends connections that are over.
struct Errors(Arc<State>);

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
        let is_fatal = matches!(error, PgWireError::UserError(info) if info.is_fatal());
        if is_fatal || self.0.guest().is_err() {
            self.0.ended.cancel();
        }
        tracing::debug!("a question over PostgreSQL's protocol has no answer: {error}");
    }
}

/// The parts of one connection.
pub(super) struct Connection {
    pub(super) state: Arc<State>,
    service: Arc<Service>,
    startup: Arc<Startup>,
    cancels: Arc<Cancels>,
}

impl Connection {
    pub(super) fn new(shared: Arc<Shared>) -> Result<Self, SqlError> {
        let (cancels, pin) = (shared.cancels.clone(), Pin::default());
        let context = shared.engine.session(&pin)?.context;
        as_postgres(&context)?;
        let context = Arc::new(context);
        let state = Arc::new(State::new(shared, pin));
        let hooks: Vec<Arc<dyn QueryHook>> = vec![
            Arc::new(ReadOnly(state.clone())),
            Arc::new(CursorStatementHook),
            Arc::new(SetShowHook),
            Arc::new(TransactionStatementHook),
        ];
        let inner = DfSessionService::new_with_hooks(context.clone(), hooks.clone());
        let library = inner.query_parser();
        let prepare = Prepare { state: state.clone(), context: context.clone(), hooks: hooks.clone(), library };
        let service = Service { state: state.clone(), context, hooks, prepare: Arc::new(prepare), inner };
        Ok(Connection { service: Arc::new(service), startup: Arc::new(Startup(state.clone())), cancels, state })
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
    for name in ["pg_function_is_visible", "pg_type_is_visible", "pg_collation_is_visible"] {
        constant(name, vec![DataType::Int32], ScalarValue::Boolean(Some(true)));
    }
    let setting = |of: &[ColumnarValue]| {
        let name = match of.first() {
            Some(ColumnarValue::Scalar(ScalarValue::Utf8(Some(name)) | ScalarValue::Utf8View(Some(name)))) => name,
            _ => "",
        };
        let known = SETTINGS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        Ok(ColumnarValue::Scalar(ScalarValue::Utf8(known.map(|(_, value)| (*value).to_owned()))))
    };
    let function = |name: &str, run: ScalarFunctionImplementation| {
        let anything = Signature::variadic_any(Volatility::Immutable);
        let function = SimpleScalarUDF::new_with_signature(name, anything, DataType::Utf8, run);
        context.register_udf(ScalarUDF::from(function));
    };
    function("current_setting", Arc::new(setting));
    // Comments, definitions of views and functions, columns that number themselves: there are none.
    for name in [
        NOTHING,
        "col_description",
        "obj_description",
        "pg_get_function_arguments",
        "pg_get_function_result",
        "pg_get_viewdef",
    ] {
        function(name, Arc::new(|_| Ok(ColumnarValue::Scalar(ScalarValue::Utf8(None)))));
    }
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
        Arc::new(Errors(self.state.clone()))
    }

    fn cancel_handler(&self) -> Arc<impl CancelHandler> {
        self.cancels.clone()
    }
}
