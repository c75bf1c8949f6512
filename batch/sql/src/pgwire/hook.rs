//! What is done with each statement before the library sees it: refused, read from the right snapshot, or left alone.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::{DFSchema, ParamValues};
use datafusion::logical_expr::{EmptyRelation, LogicalPlan};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{CloseCursor, Declare, DeclareType, FetchDirection, Statement};
use datafusion_postgres::QueryHook;
use datafusion_postgres::arrow_pg::datatypes::df::encode_dataframe;
use datafusion_postgres::hooks::HookClient;
use datafusion_postgres::pgwire::api::ClientInfo;
use datafusion_postgres::pgwire::api::portal::{Format, Portal};
use datafusion_postgres::pgwire::api::results::{QueryResponse, Response, Tag};
use datafusion_postgres::pgwire::api::stmt::StoredStatement;
use datafusion_postgres::pgwire::api::store::PortalStore;
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::types::format::FormatOptions;

use super::besides::{is_of_session, refusal};
use super::state::{State, error};
use crate::error::SqlError;
use crate::session::{check, plan};
use crate::statement::{Refused, reads};

/// The first of the hooks.
pub(super) struct ReadOnly(pub(super) Arc<State>);

impl ReadOnly {
    fn refuse(statement: &Statement) -> Option<PgWireError> {
        (!reads(statement) && !is_of_session(statement)).then(|| SqlError::from(refusal(statement)).into())
    }

    /// Before a statement is answered: what is computed waits for its turn, and is read from the newest state, or within a
    /// transaction from the one that was newest when it began.
    async fn admit(&self, statement: &Statement, client: &mut dyn HookClient) -> PgWireResult<()> {
        let begins = matches!(statement, Statement::StartTransaction { .. });
        let computes = computes(statement);
        if computes {
            self.0.take_turn().await?;
        }
        if !self.0.in_transaction() && (begins || computes) {
            self.0.pin.set(self.0.shared.latest.get().await?);
        }
        match statement {
            Statement::StartTransaction { .. } => self.0.enter_transaction(true),
            Statement::Commit { .. } | Statement::Rollback { savepoint: None, .. } => {
                self.0.enter_transaction(false);
                // As in PostgreSQL, they end with it, unless they are held.
                self.0.forget_cursors(false).iter().for_each(|name| client.portal_store().rm_portal(name));
            }
            Statement::Close { cursor: CloseCursor::Specific { name } } => self.0.forget(&name.value),
            Statement::Close { cursor: CloseCursor::All } => drop(self.0.forget_cursors(true)),
            Statement::Fetch { direction, .. } if count_of(direction) > FETCH_MAX => {
                return Err(SqlError::Question(format!("FETCH gives at most {FETCH_MAX} rows at a time")).into());
            }
            statement if goes_back(statement) && !self.0.in_transaction() => {
                return Err(error("25P01", "there is no transaction to go back in".to_owned()));
            }
            Statement::ShowVariable { variable } if variable.is_empty() => {
                return Err(SqlError::Question("SHOW takes the name of a setting".to_owned()).into());
            }
            _ => {}
        }
        Ok(())
    }

    /// What is done with a statement by either protocol; `None`: it is to be answered.
    async fn beforehand(
        &self,
        statement: &Statement,
        context: &SessionContext,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        if let Some(refused) = Self::refuse(statement) {
            return Some(Err(refused));
        }
        if let Err(error) = self.admit(statement, client).await {
            return Some(Err(error));
        }
        match statement {
            Statement::Declare { stmts } => Some(self.declare(stmts, context, client).await),
            statement => of_savepoint(statement).map(Ok),
        }
    }

    async fn plan(statement: Statement, context: &SessionContext) -> PgWireResult<LogicalPlan> {
        Ok(plan(context, Parsed::Statement(Box::new(statement))).await?)
    }

    async fn answer(
        plan: LogicalPlan,
        context: &SessionContext,
        client: &dyn HookClient,
    ) -> PgWireResult<QueryResponse> {
        let frame = context.execute_logical_plan(plan).await.map_err(SqlError::from)?;
        let options = Arc::new(FormatOptions::from_client_metadata(client.metadata()));
        encode_dataframe(frame, &Format::UnifiedText, Some(options)).await
    }

    /// Cursors as the library keeps them, within the limits of a question.
    async fn declare(
        &self,
        declared: &[Declare],
        context: &SessionContext,
        client: &dyn HookClient,
    ) -> PgWireResult<Response> {
        let [Declare { names, declare_type, for_query, hold, .. }] = declared else {
            return Err(SqlError::from(Refused::Several(declared.len())).into());
        };
        let (Some(name), Some(DeclareType::Cursor), Some(query)) = (names.first(), declare_type, for_query) else {
            let mend = "DECLARE takes a name and a query: DECLARE c CURSOR FOR SELECT …".to_owned();
            return Err(SqlError::Question(mend).into());
        };
        let statement = Statement::Query(query.clone());
        let plan = Self::plan(statement.clone(), context).await?;
        let response = self.0.bounded(Self::answer(plan.clone(), context, client).await?)?;
        self.0.remember(name.value.clone(), plan.schema().clone(), hold.unwrap_or(false))?;
        // With its plan: clients have the columns of a cursor described.
        let stored = (query.to_string(), Some((statement, plan)));
        let stored = StoredStatement::new(name.value.clone(), stored, vec![]);
        let portal = Portal::new_cursor(name.value.clone(), Arc::new(stored));
        portal.start(response).await;
        client.portal_store().put_portal(Arc::new(portal));
        Ok(Response::Execution(Tag::new("DECLARE CURSOR")))
    }
}

/// Most rows of one FETCH: the library makes room for all of them before it has any.
const FETCH_MAX: u64 = 1_000_000;

/// Whether a statement takes more than a moment.
fn computes(statement: &Statement) -> bool {
    match statement {
        Statement::ShowVariable { .. } => false,
        Statement::Declare { .. } => true,
        statement => reads(statement),
    }
}

/// How many rows are asked for by number.
fn count_of(direction: &FetchDirection) -> u64 {
    match direction {
        FetchDirection::Count { limit }
        | FetchDirection::Forward { limit: Some(limit) }
        | FetchDirection::Backward { limit: Some(limit) }
        | FetchDirection::Absolute { limit }
        | FetchDirection::Relative { limit } => limit.to_string().parse().unwrap_or(u64::MAX),
        _ => 0,
    }
}

/// Whether a statement leads out of a transaction that has failed, and on with it.
pub(super) fn goes_back(statement: &Statement) -> bool {
    matches!(statement, Statement::Rollback { savepoint: Some(_), .. })
}

/// Savepoints of a transaction that changes nothing: there is nothing to take back.
fn of_savepoint(statement: &Statement) -> Option<Response> {
    match statement {
        Statement::Savepoint { .. } => Some(Response::Execution(Tag::new("SAVEPOINT"))),
        Statement::ReleaseSavepoint { .. } => Some(Response::Execution(Tag::new("RELEASE"))),
        statement if goes_back(statement) => Some(Response::TransactionStart(Tag::new("ROLLBACK"))),
        _ => None,
    }
}

#[async_trait]
impl QueryHook for ReadOnly {
    async fn handle_simple_query(
        &self,
        statement: &Statement,
        context: &SessionContext,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        if let Some(response) = self.beforehand(statement, context, client).await {
            return Some(response);
        }
        match statement {
            // The library answers as PostgreSQL does.
            Statement::ShowVariable { .. } => None,
            statement if reads(statement) => Some(match Self::plan(statement.clone(), context).await {
                Ok(plan) => Self::answer(plan, context, client).await.map(Response::Query),
                Err(error) => Err(error),
            }),
            _ => None,
        }
    }

    async fn handle_extended_parse_query(
        &self,
        statement: &Statement,
        _: &SessionContext,
        _: &(dyn ClientInfo + Send + Sync),
    ) -> Option<PgWireResult<LogicalPlan>> {
        if let Some(refused) = Self::refuse(statement) {
            return Some(Err(refused));
        }
        let schema = match statement {
            // What comes out of a cursor has its columns, which the library does not know.
            Statement::Fetch { name, .. } => self.0.columns_of(&name.value)?,
            statement if of_savepoint(statement).is_some() => Arc::new(DFSchema::empty()),
            _ => return None,
        };
        Some(Ok(LogicalPlan::EmptyRelation(EmptyRelation { produce_one_row: false, schema })))
    }

    async fn handle_extended_query(
        &self,
        statement: &Statement,
        plan: &LogicalPlan,
        _: &ParamValues,
        context: &SessionContext,
        client: &mut dyn HookClient,
    ) -> Option<PgWireResult<Response>> {
        match self.beforehand(statement, context, client).await {
            None => check(plan).err().map(|error| Err(error.into())),
            response => response,
        }
    }
}
