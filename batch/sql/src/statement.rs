//! Which statements are answered: those that only read.
//!
//! What is not known to read is refused, at every depth: a list of what is forbidden would be passed by `EXPLAIN ANALYZE COPY`,
//! by `WITH … AS (DELETE …)`, and by whatever the parser learns next. The plan is looked at once more by the engine's own
//! rules, see [`crate::session`].

use std::ops::ControlFlow;

use datafusion::error::DataFusionError;
use datafusion::sql::parser::{DFParserBuilder, Statement as Parsed};
use datafusion::sql::sqlparser::ast::{DataType, Expr, Query, SetExpr, Statement, Value, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;

use crate::size::{CHAIN_MAX, DEPTH_MAX, TEXT_MAX, check_statement, check_text};

/// Why a statement is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("this is no SQL that is understood here: {0}")]
    Syntax(String),
    #[error("there is no statement: give one, as `SELECT day, sum(total) FROM clicks_day GROUP BY day`")]
    Empty,
    #[error("there are {0} statements: give one at a time")]
    Several(usize),
    #[error("the question is too long or nested too deep: it may have {TEXT_MAX} bytes and {CHAIN_MAX} operators")]
    TooLong,
    /// The engine takes it for a list of this one text.
    #[error("the array {0} is one text here: write its elements, as in ARRAY['a', 'b']")]
    ArrayText(String),
    #[error(
        "times are instants of UTC here, whatever zone is set: for the days of a zone write date_trunc('day', period_start AT \
         TIME ZONE {0})"
    )]
    Zone(String),
    #[error(
        "`{0}` is refused: these tables are for reading, so only SELECT, VALUES, EXPLAIN, SHOW and DESCRIBE are answered"
    )]
    Writes(String),
}

/// The one statement of a text, if it only reads.
///
/// # Errors
/// See [`Refused`].
pub fn parse(sql: &str) -> Result<Parsed, Refused> {
    let syntax = |error: DataFusionError| match error.find_root() {
        DataFusionError::SQL(error, _) => Refused::Syntax(error.to_string()),
        error => Refused::Syntax(error.strip_backtrace()),
    };
    check_text(sql)?;
    let parser = DFParserBuilder::new(sql).with_dialect(&PostgreSqlDialect {}).with_recursion_limit(DEPTH_MAX).build();
    let mut statements = parser.and_then(|mut parser| parser.parse_statements()).map_err(syntax)?;
    let statement = statements.pop_front().ok_or(Refused::Empty)?;
    if !statements.is_empty() {
        return Err(Refused::Several(statements.len() + 1));
    }
    match reads_parsed(&statement) {
        true => check_parsed(&statement).map(|()| statement),
        false => Err(Refused::Writes(first_words(&statement.to_string()))),
    }
}

fn check_parsed(statement: &Parsed) -> Result<(), Refused> {
    match statement {
        Parsed::Statement(statement) => check_meaning(statement),
        Parsed::Explain(explain) => check_parsed(&explain.statement),
        Parsed::CreateExternalTable(_) | Parsed::CopyTo(_) | Parsed::Reset(_) => Ok(()),
    }
}

/// Refuses what the engine takes for something else than PostgreSQL, and what it could not carry.
///
/// # Errors
/// See [`Refused`].
pub fn check_meaning(statement: &Statement) -> Result<(), Refused> {
    struct Look;
    impl Visitor for Look {
        type Break = String;

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<String> {
            let array = match expr {
                Expr::Cast { expr, data_type: DataType::Array(_), .. } => Some(expr),
                Expr::AnyOp { right, .. } | Expr::AllOp { right, .. } => Some(right),
                _ => None,
            };
            match array.map(|array| &**array) {
                Some(Expr::Value(value)) if matches!(value.value, Value::SingleQuotedString(_)) => {
                    ControlFlow::Break(value.to_string())
                }
                _ => ControlFlow::Continue(()),
            }
        }
    }
    check_statement(statement)?;
    match statement.visit(&mut Look) {
        ControlFlow::Break(text) => Err(Refused::ArrayText(text)),
        ControlFlow::Continue(()) => Ok(()),
    }
}

fn reads_parsed(statement: &Parsed) -> bool {
    match statement {
        Parsed::Statement(statement) => reads(statement),
        Parsed::Explain(explain) => reads_parsed(&explain.statement),
        Parsed::CreateExternalTable(_) | Parsed::CopyTo(_) | Parsed::Reset(_) => false,
    }
}

/// Whether a statement only reads.
pub fn reads(statement: &Statement) -> bool {
    match statement {
        Statement::Query(query) => query_reads(query),
        Statement::Explain { statement, .. } => matches!(**statement, Statement::Query(_)) && reads(statement),
        Statement::ExplainTable { .. }
        | Statement::ShowTables { .. }
        | Statement::ShowColumns { .. }
        | Statement::ShowVariable { .. } => true,
        _ => false,
    }
}

/// Whether a query reads, and everything in it: what it is made of is looked at wherever it stands.
pub(crate) fn query_reads(query: &Query) -> bool {
    struct Look;
    impl Visitor for Look {
        type Break = ();

        fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
            match body_reads(&query.body) && query.locks.is_empty() {
                true => ControlFlow::Continue(()),
                false => ControlFlow::Break(()),
            }
        }

        /// A statement within a query changes something.
        fn pre_visit_statement(&mut self, _: &Statement) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    query.visit(&mut Look).is_continue()
}

fn body_reads(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(select) => select.into.is_none(),
        SetExpr::SetOperation { left, right, .. } => body_reads(left) && body_reads(right),
        // What it holds is visited by itself.
        SetExpr::Query(_) | SetExpr::Values(_) | SetExpr::Table(_) => true,
        SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_) => false,
    }
}

/// How a statement begins, for its owner to know it again.
pub(crate) fn first_words(sql: &str) -> String {
    const WORDS: usize = 4;
    let words: Vec<&str> = sql.split_whitespace().collect();
    let begin = words.iter().take(WORDS).copied().collect::<Vec<_>>().join(" ");
    if words.len() > WORDS { format!("{begin} …") } else { begin }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_answered() {
        for sql in [
            "SELECT 1",
            "select * from clicks_day;",
            "WITH a AS (SELECT 1 AS x), b AS (SELECT * FROM a) SELECT * FROM a JOIN b USING (x) ORDER BY x LIMIT 3",
            "SELECT 1 UNION ALL (SELECT 2 EXCEPT SELECT 3)",
            "VALUES (1), (2)",
            "SELECT (SELECT max(day) FROM clicks_day), ARRAY[1, 2] FROM periods WHERE EXISTS (SELECT 1)",
            "EXPLAIN SELECT 1",
            "EXPLAIN ANALYZE SELECT * FROM clicks_hour",
            "SHOW TABLES",
            "SHOW COLUMNS FROM clicks_day",
            "DESCRIBE clicks_day",
        ] {
            assert!(parse(sql).is_ok(), "{sql}: {:?}", parse(sql));
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for sql in [
            "COPY (SELECT 1) TO '/tmp/x.csv'",
            "COPY clicks_day TO 's3://elsewhere/x' STORED AS PARQUET",
            "COPY clicks_day FROM '/etc/passwd'",
            "EXPLAIN ANALYZE COPY (SELECT 1) TO '/tmp/x.csv'",
            "EXPLAIN COPY (SELECT 1) TO '/tmp/x.csv'",
            "EXPLAIN ANALYZE INSERT INTO clicks_day SELECT * FROM clicks_day",
            "DROP TABLE clicks_day",
            "DROP VIEW clicks_day",
            "INSERT INTO periods VALUES (1)",
            "UPDATE clicks_day SET clicks = 0",
            "DELETE FROM clicks_day",
            "TRUNCATE clicks_day",
            "MERGE INTO clicks_day USING periods ON true WHEN MATCHED THEN DELETE",
            "CREATE TABLE x AS SELECT 1",
            "CREATE VIEW x AS SELECT 1",
            "CREATE SCHEMA x",
            "CREATE DATABASE x",
            "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
            "CREATE UNBOUNDED EXTERNAL TABLE x STORED AS PARQUET LOCATION 's3://elsewhere/'",
            "CREATE FUNCTION f(int) RETURNS int RETURN $1",
            "DROP FUNCTION sum",
            "ALTER TABLE clicks_day ADD COLUMN x int",
            "SELECT 1 INTO x",
            "SELECT * INTO TEMP x FROM clicks_day",
            "SELECT * FROM (SELECT 1 AS a) AS t FOR UPDATE",
            "WITH gone AS (DELETE FROM clicks_day RETURNING *) SELECT * FROM gone",
            "WITH new AS (INSERT INTO clicks_day SELECT * FROM clicks_day RETURNING *) SELECT * FROM new",
            "SELECT * FROM (SELECT * FROM (WITH u AS (UPDATE clicks_day SET clicks = 1 RETURNING *) SELECT * FROM u) AS a) AS b",
            "SELECT (WITH gone AS (DELETE FROM clicks_day RETURNING *) SELECT count(*) FROM gone)",
            "SELECT 1 UNION SELECT 2 INTO x",
            "WITH x AS (SELECT 1) INSERT INTO clicks_day SELECT * FROM x",
            "WITH x AS (SELECT 1) UPDATE clicks_day SET clicks = 0",
            "PREPARE p AS COPY (SELECT 1) TO '/tmp/x'",
            "PREPARE p AS SELECT 1",
            "EXECUTE p",
            "SET datafusion.runtime.memory_limit = '100G'",
            "SET datafusion.catalog.information_schema = false",
            "RESET datafusion.runtime.memory_limit",
            "SET TIME ZONE 'UTC'",
            "BEGIN",
            "CALL something()",
            "DO $$ BEGIN END $$",
            "LISTEN x",
            "LOCK TABLE clicks_day",
            "VACUUM",
            "GRANT ALL ON clicks_day TO public",
            "ATTACH DATABASE 'x' AS y",
            "KILL 1",
            "LOAD DATA INPATH '/etc/passwd' INTO TABLE x",
            "UNLOAD ('SELECT 1') TO 's3://elsewhere/'",
        ] {
            let Err(refused) = parse(sql) else { panic!("{sql} is answered") };
            assert!(matches!(refused, Refused::Writes(_) | Refused::Syntax(_)), "{sql}: {refused}");
        }
    }

    #[test]
    fn one_statement_at_a_time() {
        assert_eq!(parse(""), Err(Refused::Empty));
        assert_eq!(parse(" ; ").unwrap_err(), Refused::Empty);
        assert_eq!(parse("SELECT 1; DROP TABLE clicks_day"), Err(Refused::Several(2)));
        let deep = format!("SELECT {}1{}", "(".repeat(5_000), ")".repeat(5_000));
        assert!(matches!(parse(&deep), Err(Refused::Syntax(_))));
        for sql in ["SELECT 'a' = ANY('{a,b}'::text[])", "SELECT CAST('{1}' AS INT[])", "SELECT 1 <> ALL('{1,2}')"] {
            assert!(matches!(parse(sql), Err(Refused::ArrayText(_))), "{sql}");
        }
        assert!(parse("SELECT 'a' = ANY(ARRAY['a', 'b']), 1 = ANY($1::INT[])").is_ok());
        assert_eq!(parse("DROP TABLE clicks_day"), Err(Refused::Writes("DROP TABLE clicks_day".to_owned())));
    }
}
