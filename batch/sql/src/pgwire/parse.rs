//! From text to statements.
//!
//! The library rewrites what clients ask the catalog until the engine can plan it: subqueries in a list of columns become NULL
//! or one row of theirs. Of a question to our tables nothing may be rewritten that could change a number.

use std::fmt;
use std::ops::ControlFlow;
use std::sync::Arc;

use async_trait::async_trait;
use datafusion::prelude::SessionContext;
use datafusion::sql::parser::Statement as Parsed;
use datafusion::sql::sqlparser::ast::{ObjectName, Statement, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;
use datafusion_postgres::datafusion_pg_catalog::sql::rules::{
    CurrentUserVariableToSessionUserFunctionCall, SqlStatementRewriteRule, StripCollate,
};
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::api::results::FieldInfo;
use datafusion_postgres::pgwire::api::stmt::QueryParser;
use datafusion_postgres::pgwire::api::{ClientInfo, Type};
use datafusion_postgres::pgwire::error::PgWireResult;
use datafusion_postgres::{Parser as LibraryParser, QueryHook};

use super::catalog::adapted;
use super::state::State;
use crate::error::SqlError;
use crate::session::plan;
use crate::size::{DEPTH_MAX, check_statement, check_text};
use crate::statement::{Refused, check_meaning};
use crate::tables::TABLES;

/// Texts by which a question to the catalog is known.
const OF_CATALOG: [&str; 6] = ["pg_", "information_schema", "::reg", "regclass", "current_schema", "version("];

/// Makes statements of a text.
pub(super) struct Statements {
    of_catalog: PostgresCompatibilityParser,
    rules: [Box<dyn SqlStatementRewriteRule>; 2],
}

impl Statements {
    pub(super) fn new() -> Self {
        Statements {
            of_catalog: PostgresCompatibilityParser::new(),
            // What they put differently means the same.
            rules: [Box::new(CurrentUserVariableToSessionUserFunctionCall), Box::new(StripCollate)],
        }
    }

    /// # Errors
    /// When the text is none of SQL, or more than can be taken.
    pub(super) fn of(&self, sql: &str) -> Result<Vec<Statement>, SqlError> {
        check_text(sql)?;
        let parser = Parser::new(&PostgreSqlDialect {}).with_recursion_limit(DEPTH_MAX).try_with_sql(sql);
        let parsed = parser.and_then(|mut parser| parser.parse_statements());
        let ours = parsed.as_ref().is_ok_and(|statements| statements.iter().any(is_of_our_tables));
        let lower = sql.to_lowercase();
        if !ours && OF_CATALOG.iter().any(|part| lower.contains(part)) {
            let read = self.of_catalog.parse(sql).map_err(|error| Refused::Syntax(error.to_string()))?;
            // What the library alone can read may be of our tables all the same.
            if read.iter().any(is_of_our_tables)
                && let Err(error) = parsed
            {
                return Err(Refused::Syntax(error.to_string()).into());
            }
            let statements: Vec<Statement> = read.into_iter().map(adapted).collect();
            statements.iter().try_for_each(check_statement)?;
            return Ok(statements);
        }
        let statements = parsed.map_err(|error| Refused::Syntax(error.to_string()))?;
        statements.iter().try_for_each(check_meaning)?;
        Ok(statements
            .into_iter()
            .map(|statement| self.rules.iter().fold(statement, |s, rule| rule.rewrite(s)))
            .collect())
    }
}

fn is_of_our_tables(statement: &Statement) -> bool {
    struct Look;
    impl Visitor for Look {
        type Break = ();

        fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
            let name = relation.0.last().and_then(|part| part.as_ident()).map(|name| name.value.to_lowercase());
            match name.is_some_and(|name| TABLES.iter().any(|table| table.name == name)) {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        }
    }
    statement.visit(&mut Look).is_break()
}

/// The same for statements that are prepared.
pub(super) struct Prepare {
    pub(super) state: Arc<State>,
    pub(super) context: Arc<SessionContext>,
    pub(super) hooks: Vec<Arc<dyn QueryHook>>,
    /// Knows types and columns of a plan.
    pub(super) library: Arc<LibraryParser>,
}

#[async_trait]
impl QueryParser for Prepare {
    type Statement = <LibraryParser as QueryParser>::Statement;

    async fn parse_sql<C>(&self, client: &C, sql: &str, _: &[Option<Type>]) -> PgWireResult<Option<Self::Statement>>
    where
        C: ClientInfo + Unpin + Send + Sync,
    {
        // Before anything is done for whoever it is.
        self.state.guest()?;
        let mut statements = self.state.statements.of(sql)?;
        let Some(statement) = statements.pop() else { return Ok(None) };
        if !statements.is_empty() {
            return Err(SqlError::from(Refused::Several(statements.len() + 1)).into());
        }
        let text = statement.to_string();
        for hook in &self.hooks {
            if let Some(plan) = hook.handle_extended_parse_query(&statement, &self.context, client).await {
                return Ok(Some((text, Some((statement, plan?)))));
            }
        }
        let plan = plan(&self.context, Parsed::Statement(Box::new(statement.clone()))).await?;
        Ok(Some((text, Some((statement, plan)))))
    }

    fn get_parameter_types(&self, statement: &Self::Statement) -> PgWireResult<Vec<Type>> {
        self.library.get_parameter_types(statement)
    }

    fn get_result_schema(&self, statement: &Self::Statement, format: Option<&Format>) -> PgWireResult<Vec<FieldInfo>> {
        self.library.get_result_schema(statement, format)
    }
}

impl fmt::Debug for Statements {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Statements")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_of_our_tables_is_asked_as_it_is() {
        let statements = Statements::new();
        for sql in [
            "SELECT a.ad_id, (SELECT sum(c.total) FROM clicks_day AS c WHERE c.ad_id = a.ad_id) FROM ads AS a",
            "SELECT (SELECT sum(clicks_day.total) FROM clicks_day)",
            "SELECT (SELECT max(total) FROM clicks_day WHERE ad_id = $1), relname FROM pg_catalog.pg_class",
            "SELECT c.* FROM clicks_day AS c JOIN ads AS a ON c.ad_id = a.ad_id WHERE price > 1",
        ] {
            assert_eq!(statements.of(sql).unwrap()[0].to_string(), sql);
        }
        // The catalog is asked as the library can.
        let rewritten = statements.of("SELECT c.oid, (SELECT n.nspname FROM pg_namespace n) FROM pg_class c").unwrap();
        assert!(rewritten[0].to_string().contains("LIMIT 1"), "{}", rewritten[0]);
        assert_eq!(statements.of("SELECT 1; SELECT 2").unwrap().len(), 2);
        assert!(matches!(statements.of("SELEC 1"), Err(SqlError::Refused(Refused::Syntax(_)))));
        assert!(matches!(statements.of(&"1 + ".repeat(10_000)), Err(SqlError::Refused(Refused::TooLong))));
    }
}
