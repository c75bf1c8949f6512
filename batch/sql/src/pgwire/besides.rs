//! What a session of PostgreSQL's protocol may say besides questions.

use datafusion::sql::sqlparser::ast::{Expr, Set, Statement};

use crate::statement::{Refused, first_words, query_reads};

/// Whether a statement is about how the session's answers look, where its transactions begin, or its cursors.
pub(super) fn is_of_session(statement: &Statement) -> bool {
    match statement {
        Statement::StartTransaction { statements, .. } => statements.is_empty(),
        Statement::Commit { .. }
        | Statement::Rollback { .. }
        | Statement::Savepoint { .. }
        | Statement::ReleaseSavepoint { .. }
        | Statement::Close { .. }
        | Statement::Fetch { .. } => true,
        Statement::Declare { stmts } => {
            stmts.iter().all(|declared| declared.for_query.as_deref().is_some_and(query_reads))
        }
        Statement::Set(Set::SetTimeZone { value, .. }) => is_utc(value),
        Statement::Set(Set::SingleAssignment { variable, values, .. }) => {
            let name = variable.to_string().to_lowercase();
            let are_plain = values.iter().all(|value| matches!(value, Expr::Value(_) | Expr::Identifier(_)));
            are_plain && (SETTINGS.contains(&name.as_str()) || name == TIME_ZONE && values.iter().all(is_utc))
        }
        // Reading is all that is done, in whatever way.
        Statement::Set(Set::SetTransaction { .. }) => true,
        _ => false,
    }
}

/// Why a statement is refused that is none of [`crate::statement::reads`] and [`is_of_session`].
pub(super) fn refusal(statement: &Statement) -> Refused {
    let zone = match statement {
        Statement::Set(Set::SetTimeZone { value, .. }) => Some(value.to_string()),
        Statement::Set(Set::SingleAssignment { variable, values, .. })
            if variable.to_string().to_lowercase() == TIME_ZONE =>
        {
            values.first().map(ToString::to_string)
        }
        _ => None,
    };
    zone.map_or_else(|| Refused::Writes(first_words(&statement.to_string())), Refused::Zone)
}

const TIME_ZONE: &str = "timezone";

fn is_utc(zone: &Expr) -> bool {
    let zone = zone.to_string().to_lowercase();
    matches!(zone.trim_matches('\''), "utc" | "etc/utc" | "gmt" | "0" | "+00:00" | "local" | "default")
}

/// Settings of PostgreSQL that clients set without being asked. None of them is one of the engine's.
const SETTINGS: [&str; 14] = [
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "datestyle",
    "default_transaction_read_only",
    "extra_float_digits",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "lock_timeout",
    "row_security",
    "search_path",
    "standard_conforming_strings",
    "statement_timeout",
];
