//! Questions of clients to the catalog that the engine cannot plan, and whose answer here is short: no table has a key or an
//! index. They are known by functions that nobody uses for anything else.

use std::ops::ControlFlow;

use datafusion::sql::sqlparser::ast::{Expr, Ident, SelectItem, SetExpr, Statement, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::parser::Parser;

/// By which JDBC's driver and SQLAlchemy take the columns of keys and indexes apart.
const OF_KEYS: [&str; 2] = ["_pg_expandarray", "generate_subscripts"];
/// By which JDBC's driver asks how many columns a key may have.
const KEY_COLUMNS: &str = "SELECT setting FROM pg_catalog.pg_settings WHERE name = 'max_index_keys'";
const KEY_COLUMNS_MAX: &str = "SELECT '32' AS setting";

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

/// Stops at one of the functions of [`OF_KEYS`].
struct Look;

impl Visitor for Look {
    type Break = ();

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
