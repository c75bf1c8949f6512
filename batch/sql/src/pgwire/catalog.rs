//! Questions of clients to the catalog that the engine cannot plan: put differently, or answered in their place, where the answer
//! here is short. No table has a key or an index; such questions are known by functions that nobody uses for anything else.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{
    Expr, FunctionArguments, Ident, Query, SelectItem, SetExpr, Statement, TableFactor, Value, Visit, VisitMut,
    Visitor, VisitorMut,
};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// By which JDBC's driver and SQLAlchemy take the columns of keys and indexes apart.
const OF_KEYS: [&str; 2] = ["_pg_expandarray", "generate_subscripts"];
/// By which JDBC's driver asks which types there are: it leaves out those of tables, which it looks up one by one.
const TYPES: &str = "WHERE n.nspname != 'pg_toast' AND (t.typrelid = 0 OR (SELECT c.relkind = 'c' FROM pg_catalog.pg_class c WHERE c.oid = t.typrelid))";
const TYPES_OF_NO_TABLE: &str = "WHERE n.nspname != 'pg_toast' AND t.typrelid = 0";
/// By which JDBC's driver asks how many columns a key may have.
const KEY_COLUMNS: &str = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'max_index_keys'";
const KEY_COLUMNS_MAX: &str = "SELECT '32' AS setting";

/// The same as the text says, as the engine can plan it.
pub(super) fn in_our_words(sql: &str) -> String {
    let words: Vec<&str> = sql.split_whitespace().collect();
    let one_line = words.join(" ");
    if one_line.contains(TYPES) { one_line.replace(TYPES, TYPES_OF_NO_TABLE) } else { sql.to_owned() }
}

/// The same as the statement says, as the engine can plan it.
pub(super) fn adapt(statement: &mut Statement) {
    let _ = statement.visit(&mut Adapt);
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
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match expr {
            // The engine knows no other escape character than its own.
            Expr::Like { pattern, escape_char, .. } | Expr::ILike { pattern, escape_char, .. } => {
                if let Some(Value::SingleQuotedString(escape)) = escape_char.take().map(|escape| escape.value) {
                    let replaced = format!("replace({pattern}, '{}', '\\')", escape.replace('\'', "''"));
                    if let Some(replaced) = parsed_expr(&replaced) {
                        **pattern = replaced;
                    }
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
            Expr::Subquery(query) => {
                if let SetExpr::Select(select) = &mut *query.body
                    && let [SelectItem::UnnamedExpr(one) | SelectItem::ExprWithAlias { expr: one, .. }] =
                        &mut *select.projection
                    && let Some(most) = parsed_expr(&format!("max({one})"))
                {
                    *one = most;
                }
            }
            expr if unknown_column(expr).is_some() => *expr = nothing(),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// A column that the library's catalog lacks: options and rights of tables, which have none here.
fn unknown_column(expr: &Expr) -> Option<&Ident> {
    let Expr::CompoundIdentifier(parts) = expr else { return None };
    parts.last().filter(|name| ["reloptions", "relacl"].contains(&name.value.as_str()))
}

fn nothing() -> Expr {
    Expr::Value(Value::Null.into())
}

fn parsed_expr(sql: &str) -> Option<Expr> {
    Parser::new(&PostgreSqlDialect {}).try_with_sql(sql).ok()?.parse_expr().ok()
}

/// What is answered in its place; `None`: the question itself.
pub(super) fn instead_of(statement: &Statement) -> Option<Statement> {
    if statement.to_string() == KEY_COLUMNS {
        return parsed(KEY_COLUMNS_MAX);
    }
    let Statement::Query(query) = statement else { return None };
    let SetExpr::Select(select) = &*query.body else { return None };
    if statement.visit(&mut Look).is_continue() {
        return None;
    }
    let columns: Option<Vec<String>> = select.projection.iter().map(column).collect();
    parsed(&format!("SELECT {} WHERE false", columns?.join(", ")))
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

/// Stops at one of the functions of [`OF_KEYS`], and at numbers of columns that are made for keys of other tables.
struct Look;

impl Visitor for Look {
    type Break = ();

    fn pre_visit_table_factor(&mut self, table: &TableFactor) -> ControlFlow<()> {
        match table {
            TableFactor::Table { name, args: Some(_), .. } if name.to_string() == "pg_catalog.generate_series" => {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
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

    fn instead(sql: &str) -> Option<String> {
        instead_of(&parsed(sql).unwrap()).map(|statement| statement.to_string())
    }

    #[test]
    fn there_are_no_keys() {
        let of_keys = "SELECT result.TABLE_CAT, result.KEY_SEQ AS seq FROM (SELECT (information_schema._pg_expandarray(i.indkey)).n AS KEY_SEQ \
                       FROM pg_catalog.pg_index i) result WHERE result.KEY_SEQ = 1 ORDER BY 1";
        let want = "SELECT CAST(NULL AS TEXT) AS TABLE_CAT, CAST(NULL AS TEXT) AS seq WHERE false";
        assert_eq!(instead(of_keys).as_deref(), Some(want));
        assert_eq!(instead(KEY_COLUMNS).as_deref(), Some(KEY_COLUMNS_MAX));
        for other in ["SELECT generate_series(1, 2)", "SELECT * FROM clicks_day", "SELECT '_pg_expandarray' FROM ads"] {
            assert_eq!(instead(other), None, "{other}");
        }
    }
}
