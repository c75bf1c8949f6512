//! How large a question may be. The parser nests chains of operators without counting them, and what is nested too deep ends the
//! process: so tokens are counted before anything is parsed, and relations and the nodes of a plan before they are walked.

use std::ops::ControlFlow;

use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::logical_expr::LogicalPlan;
use datafusion::sql::sqlparser::ast::{ObjectName, Statement, Visit, Visitor};
use datafusion::sql::sqlparser::dialect::PostgreSqlDialect;
use datafusion::sql::sqlparser::keywords::Keyword;
use datafusion::sql::sqlparser::tokenizer::{Token, Tokenizer};

use crate::statement::Refused;

/// Deepest nesting that the parser itself counts.
pub(crate) const DEPTH_MAX: usize = 64;
/// Longest question, in bytes.
pub(crate) const TEXT_MAX: usize = 1 << 20;
/// Most operators in one expression, those of the expressions around it included.
pub(crate) const CHAIN_MAX: usize = 1_000;
/// Most words before which the parser goes down without counting, in large steps.
const DESCENTS_MAX: usize = 8;
/// Most tables, subqueries and sets of a question.
const RELATIONS_MAX: usize = 500;
/// Most nodes of a plan, each as often as it is used.
const NODES_MAX: usize = 10_000;

/// Whether a text can be parsed, and what comes of it taken apart again, on the stack that there is.
///
/// # Errors
/// [`Refused::TooLong`], or [`Refused::Syntax`] for what is no text of SQL.
pub(crate) fn check_text(sql: &str) -> Result<(), Refused> {
    if sql.len() > TEXT_MAX {
        return Err(Refused::TooLong);
    }
    let tokens = Tokenizer::new(&PostgreSqlDialect {}, sql).tokenize();
    let tokens = tokens.map_err(|error| Refused::Syntax(error.to_string()))?;
    // Links of the expressions that are open, from the outermost one on; what stands between commas is an expression of its own.
    let mut open = vec![0];
    let (mut all, mut sets, mut descents) = (0, 0, 0);
    let mut tokens = tokens.iter().filter(|token| !matches!(token, Token::Whitespace(_))).peekable();
    while let Some(token) = tokens.next() {
        match kind(token) {
            // INTERVAL '1 day'
            Kind::Descends if matches!(tokens.peek(), Some(Token::SingleQuotedString(_))) => {}
            Kind::Flat => {}
            Kind::Opens => open.push(0),
            Kind::Closes => {
                all -= open.pop().unwrap_or(0);
                if open.is_empty() {
                    open.push(0);
                }
            }
            Kind::Separates => all -= open.last_mut().map_or(0, std::mem::take),
            Kind::Links => {
                all += 1;
                open.last_mut().into_iter().for_each(|links| *links += 1);
            }
            Kind::Sets => sets += 1,
            Kind::Descends => descents += 1,
        }
        if all + sets > CHAIN_MAX || descents > DESCENTS_MAX {
            return Err(Refused::TooLong);
        }
    }
    Ok(())
}

/// What a token does to the tree.
enum Kind {
    Flat,
    Opens,
    Closes,
    /// What follows is beside what came before.
    Separates,
    /// It may be one deeper.
    Links,
    /// The same, of queries.
    Sets,
    /// The parser goes down for it without counting.
    Descends,
}

fn kind(token: &Token) -> Kind {
    use Keyword::{
        AS, ASC, BY, DESC, DISTINCT, ELSE, EXCEPT, FALSE, FROM, GROUP, HAVING, INTERSECT, INTERVAL, JOIN, LIMIT, MINUS,
        NESTED, NULL, NoKeyword, ON, ORDER, SELECT, TABLE, THEN, TRUE, UNION, USING, VALUES, WHEN, WHERE, WITH,
    };
    match token {
        Token::LParen | Token::LBracket | Token::LBrace => Kind::Opens,
        Token::RParen | Token::RBracket | Token::RBrace => Kind::Closes,
        Token::Comma | Token::SemiColon => Kind::Separates,
        Token::Period
        | Token::Number(..)
        | Token::SingleQuotedString(_)
        | Token::EscapedStringLiteral(_)
        | Token::Placeholder(_) => Kind::Flat,
        Token::Word(word) => match word.keyword {
            NoKeyword | AS | ASC | BY | DESC | DISTINCT | FALSE | NULL | TRUE => Kind::Flat,
            SELECT | FROM | WHERE | GROUP | HAVING | ORDER | LIMIT | JOIN | ON | USING | WHEN | THEN | ELSE
            | VALUES | WITH => Kind::Separates,
            UNION | EXCEPT | INTERSECT | MINUS => Kind::Sets,
            INTERVAL | TABLE | NESTED => Kind::Descends,
            _ => Kind::Links,
        },
        _ => Kind::Links,
    }
}

/// # Errors
/// [`Refused::TooLong`] for more tables and subqueries than a plan may have.
pub(crate) fn check_statement(statement: &Statement) -> Result<(), Refused> {
    struct Count(usize);
    impl Visitor for Count {
        type Break = ();

        fn pre_visit_relation(&mut self, _: &ObjectName) -> ControlFlow<()> {
            self.0 += 1;
            if self.0 > RELATIONS_MAX { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        }
    }
    match statement.visit(&mut Count(0)).is_break() {
        true => Err(Refused::TooLong),
        false => Ok(()),
    }
}

/// # Errors
/// [`Refused::TooLong`] for a plan that takes too long to walk through: what is named once and used twice, time and again.
pub(crate) fn check_plan(plan: &LogicalPlan) -> Result<(), Refused> {
    let mut nodes = 0;
    let walked = plan.apply_with_subqueries(|_| {
        nodes += 1;
        Ok(if nodes > NODES_MAX { TreeNodeRecursion::Stop } else { TreeNodeRecursion::Continue })
    });
    match walked.is_err() || nodes > NODES_MAX {
        true => Err(Refused::TooLong),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::statement::parse;

    /// On the stack of a worker, which has less than that of the program.
    fn parsed_on_a_worker(sql: String) -> bool {
        // Whoever overflows it takes the test with it: this tells which one it was.
        eprintln!("parsing {}…", &sql[..sql.len().min(40)]);
        let worker = std::thread::Builder::new().stack_size(2 << 20);
        worker.spawn(move || parse(&sql).is_ok()).unwrap().join().unwrap()
    }

    #[test]
    fn chains_are_counted_where_they_are_nested() {
        for link in [
            "1 + ",
            "1 AND ",
            "'a' || ",
            "SELECT 1 UNION ALL ",
            "SELECT 1 MINUS ",
            "1::INT + ",
            "NOT ",
            "1 IN (1) AND ",
            "x ILIKE 'y' OR ",
            "x AT TIME ZONE 'UTC' = ",
            "INTERVAL ",
            "TABLE(a ",
        ] {
            let of = |count: usize| format!("SELECT {}1", link.repeat(count));
            assert_eq!(check_text(&of(20_000)), Err(Refused::TooLong), "{link}");
            assert_eq!(check_text(&of(5)), Ok(()), "{link}");
        }
        // Of postfix operators, too.
        for link in ["::int", " IN (1)", " NOTNULL", " AT TIME ZONE 'UTC'", "[1]", " IS NULL", " COLLATE c"] {
            let of = |count: usize| format!("SELECT x{}", link.repeat(count));
            assert_eq!(check_text(&of(20_000)).is_err(), link != "[1]", "{link}");
        }
    }

    #[test]
    fn the_longest_chain_that_is_let_through_is_parsed_and_dropped() {
        for (link, rest) in [("1 + ", "1"), ("1 = 1 OR ", "1 = 1"), ("'a' || ", "'a'"), ("- ", "1"), ("NOT ", "true")] {
            let most = CHAIN_MAX / link.matches(['+', '=', '-', 'O']).count().max(1);
            let sql = format!("SELECT {}{rest}", link.repeat(most - 1));
            assert_eq!(check_text(&sql), Ok(()), "{link}");
            // Whether or not its parser lets it through: it comes back.
            parsed_on_a_worker(sql);
        }
        for descent in ["INTERVAL ", "INTERVAL (", "1::TABLE(a "] {
            let sql = format!("SELECT {}'1'", descent.repeat(DESCENTS_MAX));
            assert_eq!(check_text(&sql), Ok(()), "{descent}");
            parsed_on_a_worker(sql);
        }
        assert!(parsed_on_a_worker(format!("SELECT 1 {}", "UNION ALL SELECT 1 ".repeat(CHAIN_MAX / 2 - 1))));
    }

    #[test]
    fn what_is_long_and_flat_is_let_through() {
        let list = (0..50_000).map(|n| format!("'ad-{n}'")).collect::<Vec<_>>().join(", ");
        let cases: String = (0..3_000).map(|n| format!("WHEN ad_id = 'ad-{n}' THEN {n} ")).collect();
        let ranges = vec!["day > DATE '2026-03-01' - INTERVAL '1 day'"; 300].join(", ");
        let casts = (0..3_000).map(|n| format!("({n}::int, '{n}'::text)")).collect::<Vec<_>>().join(", ");
        let columns = (0..900).map(|n| format!("t.\"c{n}\" AS \"name {n}\"")).collect::<Vec<_>>().join(", ");
        for sql in [
            format!("SELECT * FROM clicks_day WHERE ad_id IN ({list})"),
            format!("SELECT CASE {cases}ELSE 0 END FROM clicks_day"),
            format!("SELECT * FROM (VALUES {casts}) AS v(a, b)"),
            format!("SELECT {columns} FROM clicks_day AS t"),
            format!("SELECT {ranges} FROM clicks_day AS t"),
        ] {
            assert!(parsed_on_a_worker(sql.clone()), "{}", &sql[..60]);
        }
        assert_eq!(check_text(&format!("SELECT '{}'", "x".repeat(2 << 20))), Err(Refused::TooLong));
        let joined = (0..2_000).map(|n| format!("ads a{n}")).collect::<Vec<_>>().join(", ");
        assert_eq!(parse(&format!("SELECT 1 FROM {joined}")), Err(Refused::TooLong));
    }
}
