//! Questions of clients to the catalog that the engine cannot plan: put differently, or answered in their place, where the answer
//! here is short. No table has a key or an index; such questions are known by functions that nobody uses for anything else.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    BinaryOperator, Expr, FunctionArguments, Ident, ObjectName, Query, SelectItem, SetExpr, Statement, TableFactor,
    Value, Visit, VisitMut, Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// By which JDBC's driver and SQLAlchemy take the columns of keys and indexes apart.
const OF_KEYS: [&str; 2] = ["_pg_expandarray", "generate_subscripts"];
/// By which JDBC's driver asks how many columns a key may have.
const KEY_COLUMNS: &str = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'max_index_keys'";
const KEY_COLUMNS_MAX: &str = "SELECT '32' AS setting";

/// What is asked in its place: the same, as the engine can plan it.
pub(super) fn adapted(mut statement: Statement) -> Statement {
    if let Some(other) = instead_of(&statement) {
        return other;
    }
    let _ = VisitMut::visit(&mut statement, &mut Adapt);
    statement
}

struct Adapt;

impl VisitorMut for Adapt {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if let SetExpr::Select(select) = &mut *query.body {
            for item in &mut select.projection {
                if let SelectItem::UnnamedExpr(expr) = item
                    && let Some(alias) = unknown_column(expr).cloned()
                {
                    *item = SelectItem::ExprWithAlias { expr: nothing(), alias };
                }
                if let SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } = item
                    && matches!(expr, Expr::Case { .. })
                {
                    let _ = VisitMut::visit(expr, &mut WithoutSubqueries);
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            // The engine knows no other escape character than its own.
            Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. }
                if escape_char.as_ref().is_some_and(|escape| escape.to_string() == "'/'") =>
            {
                if let Some(replaced) = parsed_expr(&format!("replace({pattern}, '/', '\\')")) {
                    (**pattern, *escape_char) = (replaced, None);
                }
            }
            // Lists of rights and members, which nobody has here.
            Expr::Function(function)
                if function.name.to_string().eq_ignore_ascii_case("array")
                    && matches!(function.args, FunctionArguments::Subquery(_)) =>
            {
                *expr = nothing();
            }
            // It has one row at most, which the engine asks to be told.
            Expr::Subquery(query) if is_correlated(query) && query.limit_clause.is_none() => {
                if let SetExpr::Select(select) = &mut *query.body
                    && let [SelectItem::UnnamedExpr(one) | SelectItem::ExprWithAlias { expr: one, .. }] =
                        &mut *select.projection
                    && let Some(most) = parsed_expr(&format!("max({one})"))
                {
                    *one = most;
                }
            }
            // The catalog has names in it, and no numbers of functions.
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right }
                if is_input_function(left) && right.to_string().contains("array_in") =>
            {
                if let Some(name) = parsed_expr("'array_in'") {
                    **right = name;
                }
            }
            expr if unknown_column(expr).is_some() => *expr = nothing(),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// What one case of a column is looked up by, row by row: defaults, sequences and orders of columns, which none has here. The
/// parameters of the question stay, so that a client may give them.
struct WithoutSubqueries;

impl VisitorMut for WithoutSubqueries {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::Subquery(query) = expr
            && is_correlated(query)
            && let Some(nothing) = parsed_expr(&Parameters::nothing(&**query))
        {
            *expr = nothing;
        }
        ControlFlow::Continue(())
    }
}

/// A function of anything that is always NULL.
pub(super) const NOTHING: &str = "twofold_nothing";

/// Whether a subquery is of a row of the question around it: it names a table that is none of its own.
fn is_correlated(query: &Query) -> bool {
    #[derive(Default)]
    struct Tables {
        own: Vec<String>,
        named: Vec<String>,
    }
    impl Visitor for Tables {
        type Break = ();

        fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
            if let TableFactor::Table { name, alias, .. } = table {
                self.own.extend(name.0.last().map(ToString::to_string));
                self.own.extend(alias.as_ref().map(|alias| alias.name.to_string()));
            }
            ControlFlow::Continue(())
        }

        fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
            if let Expr::CompoundIdentifier(parts) = expr {
                self.named.extend(parts.iter().rev().nth(1).map(ToString::to_string));
            }
            ControlFlow::Continue(())
        }
    }
    let mut tables = Tables::default();
    let _ = Visit::visit(query, &mut tables);
    tables.named.iter().any(|name| !tables.own.contains(name))
}

/// The parameters of a question, with the types that it gives them.
#[derive(Default)]
struct Parameters {
    texts: Vec<String>,
    is_typed: bool,
}

impl Parameters {
    /// NULL, of which they are a part.
    fn nothing<T: Visit>(of: &T) -> String {
        let mut parameters = Parameters::default();
        let _ = Visit::visit(of, &mut parameters);
        format!("{NOTHING}({})", ["NULL".to_owned()].into_iter().chain(parameters.texts).collect::<Vec<_>>().join(", "))
    }
}

impl Visitor for Parameters {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Cast { expr: inner, .. } if is_parameter(inner) => {
                self.texts.push(expr.to_string());
                self.is_typed = true;
            }
            // That of the cast, which is known.
            expr if is_parameter(expr) && std::mem::take(&mut self.is_typed) => {}
            expr if is_parameter(expr) => self.texts.push(expr.to_string()),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

fn is_parameter(expr: &Expr) -> bool {
    matches!(expr, Expr::Value(value) if matches!(value.value, Value::Placeholder(_)))
}

/// What reads values of a type: by it JDBC's driver tells arrays from others.
fn is_input_function(expr: &Expr) -> bool {
    match expr {
        Expr::Identifier(name) => name.value == "typinput",
        Expr::CompoundIdentifier(parts) => parts.last().is_some_and(|name| name.value == "typinput"),
        _ => false,
    }
}

/// A column that the library's catalog lacks: options and rights of tables, which have none here.
fn unknown_column(expr: &Expr) -> Option<&Ident> {
    let Expr::CompoundIdentifier(parts) = expr else { return None };
    parts.last().filter(|name| ["reloptions", "relacl"].contains(&name.value.as_str()))
}

fn nothing() -> Expr {
    parsed_expr("CAST(NULL AS TEXT[])").unwrap_or(Expr::Value(Value::Null.into()))
}

fn parsed_expr(sql: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).ok()?.parse_expr().ok()
}

/// What is answered in its place; `None`: the question itself.
fn instead_of(statement: &Statement) -> Option<Statement> {
    if statement.to_string() == KEY_COLUMNS {
        return parsed(KEY_COLUMNS_MAX);
    }
    let Statement::Query(query) = statement else { return None };
    let SetExpr::Select(select) = &*query.body else { return None };
    if Visit::visit(statement, &mut Look::default()).is_continue() {
        return None;
    }
    let columns: Option<Vec<String>> = select.projection.iter().map(column).collect();
    let nothing = Parameters::nothing(statement);
    parsed(&format!("SELECT {} WHERE false AND {nothing} IS NOT NULL", columns?.join(", ")))
}

fn parsed(sql: &str) -> Option<Statement> {
    Parser::parse_sql(&PostgreSqlDialect {}, sql).ok()?.pop()
}

fn column(item: &SelectItem) -> Option<String> {
    let name = match item {
        SelectItem::ExprWithAlias { alias, .. } => alias.clone(),
        SelectItem::UnnamedExpr(Expr::Identifier(name)) => name.clone(),
        SelectItem::UnnamedExpr(Expr::CompoundIdentifier(names)) => names.last()?.clone(),
        SelectItem::UnnamedExpr(_) => Ident::with_quote('"', "?column?"),
        _ => return None,
    };
    Some(format!("CAST(NULL AS TEXT) AS {name}"))
}

/// Stops at one of the functions of [`OF_KEYS`], and at constraints whose columns are numbered.
#[derive(Default)]
struct Look {
    has_constraints: bool,
    has_numbers: bool,
}

impl Visitor for Look {
    type Break = ();

    fn pre_visit_relation(&mut self, relation: &ObjectName) -> ControlFlow<()> {
        let name = relation.0.last().map(ToString::to_string).unwrap_or_default();
        self.has_constraints |= name == "pg_constraint";
        self.has_numbers |= name == "generate_series";
        match self.has_constraints && self.has_numbers {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        let name = match expr {
            Expr::Function(function) => function.name.0.last().map(ToString::to_string),
            _ => None,
        };
        match name.is_some_and(|name| OF_KEYS.contains(&name.to_lowercase().as_str())) {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is looked up row by row, and every parameter is still there.
    #[test]
    fn what_the_engine_cannot_plan_is_put_differently() {
        for (sql, want) in [
            (
                "SELECT CASE WHEN a.x <> $1::VARCHAR THEN (SELECT f($2::VARCHAR, s.y) FROM s WHERE s.z = a.x AND s.y > $3) ELSE NULL END FROM a",
                "SELECT CASE WHEN a.x <> $1::VARCHAR THEN twofold_nothing(NULL, $2::VARCHAR, $3) ELSE NULL END FROM a",
            ),
            (
                "SELECT t.x FROM t WHERE t.y = 0 OR (SELECT c.k = 'c' FROM c WHERE c.o = t.y)",
                "SELECT t.x FROM t WHERE t.y = 0 OR (SELECT max(c.k = 'c') FROM c WHERE c.o = t.y)",
            ),
            (
                "SELECT x FROM n WHERE x NOT LIKE 'pg/_%' ESCAPE '/'",
                "SELECT x FROM n WHERE x NOT LIKE replace('pg/_%', '/', '\\')",
            ),
            ("SELECT ARRAY(SELECT m FROM r) AS roles FROM u", "SELECT CAST(NULL AS TEXT[]) AS roles FROM u"),
            ("SELECT c.reloptions, c.relname FROM c", "SELECT CAST(NULL AS TEXT[]) AS reloptions, c.relname FROM c"),
            ("SELECT t.typinput = 'array_in'::INT FROM t", "SELECT t.typinput = 'array_in' FROM t"),
            (
                "SELECT (SELECT count(*) FROM c), CASE WHEN a.x THEN (SELECT 5) END FROM a",
                "SELECT (SELECT count(*) FROM c), CASE WHEN a.x THEN (SELECT 5) END FROM a",
            ),
            ("SELECT x FROM n WHERE x LIKE 'a!%' ESCAPE '!'", "SELECT x FROM n WHERE x LIKE 'a!%' ESCAPE '!'"),
            ("SELECT count(*) FROM c WHERE x LIKE 'a%'", "SELECT count(*) FROM c WHERE x LIKE 'a%'"),
        ] {
            assert_eq!(adapted(parsed(sql).unwrap()).to_string(), want);
        }
    }

    fn instead(sql: &str) -> Option<String> {
        instead_of(&parsed(sql).unwrap()).map(|statement| statement.to_string())
    }

    #[test]
    fn there_are_no_keys() {
        let of_keys = "SELECT result.TABLE_CAT, result.KEY_SEQ AS seq FROM (SELECT (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ \
                       FROM pg_catalog.pg_index i) result WHERE result.KEY_SEQ = 1 ORDER BY 1";
        let want = "SELECT CAST(NULL AS TEXT) AS TABLE_CAT, CAST(NULL AS TEXT) AS seq WHERE false AND twofold_nothing(NULL) IS NOT NULL";
        assert_eq!(instead(of_keys).as_deref(), Some(want));
        assert_eq!(instead(KEY_COLUMNS).as_deref(), Some(KEY_COLUMNS_MAX));
        let foreign =
            "SELECT con.conname AS FK_NAME FROM pg_catalog.pg_constraint con, pg_catalog.generate_series(1, 32) pos(n)";
        assert_eq!(
            instead(foreign).as_deref(),
            Some("SELECT CAST(NULL AS TEXT) AS FK_NAME WHERE false AND twofold_nothing(NULL) IS NOT NULL")
        );
        for other in [
            "SELECT generate_series(1, 2)",
            "SELECT * FROM generate_series(1, 2)",
            "SELECT * FROM pg_constraint",
            "SELECT * FROM clicks_day",
            "SELECT '_pg_expandarray' FROM ads",
        ] {
            assert_eq!(instead(other), None, "{other}");
        }
    }
}
