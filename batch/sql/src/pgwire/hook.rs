//! What is done with each statement before the library sees it: refused, read from the right snapshot, or left alone.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::common::{DFSchema, ParamValues};
use datafusion::logical_expr::{EmptyRelation, LogicalPlan};
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{Declare, DeclareType, Query, Statement};
use datafusion_postgres::QueryHook;
use datafusion_postgres::arrow_pg::datatypes::df::encode_dataframe;
use datafusion_postgres::hooks::HookClient;
use datafusion_postgres::pgwire::api::ClientInfo;
use datafusion_postgres::pgwire::api::portal::{Format, Portal};
use datafusion_postgres::pgwire::api::results::{QueryResponse, Response, Tag};
use datafusion_postgres::pgwire::api::stmt::StoredStatement;
use datafusion_postgres::pgwire::api::store::PortalStore;
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::response::TransactionStatus;
use datafusion_postgres::pgwire::types::format::FormatOptions;

use super::catalog::instead_of;
use super::service::State;
use crate::error::SqlError;
use crate::session::check;
use crate::statement::{Refused, first_words, is_of_session, reads};

/// The first of the hooks.
pub(super) struct ReadOnly(pub(super) Arc<State>);

impl ReadOnly {
    fn refuse(statement: &Statement) -> Option<PgWireError> {
        let refused = || SqlError::from(Refused::Writes(first_words(&statement.to_string())));
        (!reads(statement) && !is_of_session(statement)).then(|| refused().into())
    }

    /// A statement is read from the newest state, those of a transaction from the one that was newest when it began.
    async fn pin(&self, statement: &Statement, status: TransactionStatus) -> PgWireResult<()> {
        let begins = matches!(statement, Statement::StartTransaction { .. });
        let asks = reads(statement) || matches!(statement, Statement::Declare { .. });
        if status == TransactionStatus::Idle && (begins || asks) {
            self.0.pin.set(self.0.shared.latest.get().await?);
        }
        Ok(())
    }

    async fn plan(statement: Statement, context: &SessionContext) -> PgWireResult<LogicalPlan> {
        let statement = instead_of(&statement).unwrap_or(statement);
        let plan = context.state().statement_to_plan(Parsed::Statement(Box::new(statement))).await;
        let plan = plan.map_err(SqlError::from)?;
        check(&plan)?;
        Ok(plan)
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
        for Declare { names, declare_type, for_query, .. } in declared {
            let (Some(name), Some(DeclareType::Cursor), Some(query)) = (names.first(), declare_type, for_query) else {
                return Err(SqlError::Question(
                    "DECLARE takes a name and a query: DECLARE c CURSOR FOR SELECT …".to_owned(),
                )
                .into());
            };
            let query: &Query = query;
            let statement = Statement::Query(Box::new(query.clone()));
            let plan = Self::plan(statement.clone(), context).await?;
            let response = self.0.bounded(Self::answer(plan.clone(), context, client).await?)?;
            self.0.remember(name.value.clone(), plan.schema().clone());
            // With its plan: clients have the columns of a cursor described.
            let stored = (query.to_string(), Some((statement, plan)));
            let stored = StoredStatement::new(name.value.clone(), stored, vec![]);
            let portal = Portal::new_cursor(name.value.clone(), Arc::new(stored));
            portal.start(response).await;
            client.portal_store().put_portal(Arc::new(portal));
        }
        Ok(Response::Execution(Tag::new("DECLARE CURSOR")))
    }
}

/// Savepoints of a transaction that changes nothing: there is nothing to go back to.
fn of_savepoint(statement: &Statement) -> Option<Response> {
    match statement {
        Statement::Savepoint { .. } => Some(Response::Execution(Tag::new("SAVEPOINT"))),
        Statement::ReleaseSavepoint { .. } => Some(Response::Execution(Tag::new("RELEASE"))),
        // A transaction that has seen an error goes on.
        Statement::Rollback { savepoint: Some(_), .. } => Some(Response::TransactionStart(Tag::new("ROLLBACK"))),
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
        if let Some(refused) = Self::refuse(statement) {
            return Some(Err(refused));
        }
        if let Err(error) = self.pin(statement, client.transaction_status()).await {
            return Some(Err(error));
        }
        if let Some(response) = of_savepoint(statement) {
            return Some(Ok(response));
        }
        match statement {
            Statement::Declare { stmts } => Some(self.declare(stmts, context, client).await),
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
        context: &SessionContext,
        _: &(dyn ClientInfo + Send + Sync),
    ) -> Option<PgWireResult<LogicalPlan>> {
        if let Err(error) = self.0.guest() {
            return Some(Err(error));
        }
        if let Some(refused) = Self::refuse(statement) {
            return Some(Err(refused));
        }
        let schema = match statement {
            // What comes out of a cursor has its columns, which the library does not know.
            Statement::Fetch { name, .. } => self.0.columns_of(&name.value)?,
            statement if of_savepoint(statement).is_some() => Arc::new(DFSchema::empty()),
            statement => return Some(Self::plan(instead_of(statement)?, context).await),
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
        if let Some(refused) = Self::refuse(statement) {
            return Some(Err(refused));
        }
        if let Err(error) = self.pin(statement, client.transaction_status()).await {
            return Some(Err(error));
        }
        if let Some(response) = of_savepoint(statement) {
            return Some(Ok(response));
        }
        match statement {
            Statement::Declare { stmts } => Some(self.declare(stmts, context, client).await),
            _ => check(plan).err().map(|error| Err(error.into())),
        }
    }
}
