//! The count as plain SQL: what the rules say, spelled out, and nothing of [`crate::exact`] in it.
//!
//! It sorts all sightings by key and time, so it is many times slower and needs more memory. A test holds both equal.

use std::fmt::Write;
use std::sync::Arc;

use clicks::rules::Rules;
use clicks::time::Day;
use datafusion::error::DataFusionError;
use datafusion::physical_plan::ExecutionPlan;

use crate::engine::Engine;
use crate::exact::{Kind, Work};
use crate::scan::Scan;

/// The plan of the query, whose result has the schema of the exact count.
pub(crate) async fn plan(engine: &Engine, scan: &Scan, work: &Work) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    for (rank, table) in scan.tables()?.into_iter().enumerate() {
        engine.session().register_table(table_name(rank), Arc::new(table))?;
    }
    let planned = engine.session().sql(&query(work)).await?.create_physical_plan().await;
    for rank in 0..work.partitions.len() {
        engine.session().deregister_table(table_name(rank))?;
    }
    planned
}

fn table_name(rank: usize) -> String {
    format!("partition_{rank}")
}

fn query(work: &Work) -> String {
    let part = |rank: usize| {
        let (table, through) = (table_name(rank), work.through(rank));
        format!("SELECT *, {rank} AS rank, \"offset\" >= {through} AS is_new FROM {table}")
    };
    let log = (0..work.partitions.len()).map(part).collect::<Vec<_>>().join("\n  UNION ALL ");
    let of_rules = |value: fn(&Rules) -> i64| by_rules(work, value);
    let owner = owner(work);
    // A partition's own live worker sees no other partition; where keys stay in one that is the same.
    format!(
        "WITH log AS (
  {log}
), records AS (
  SELECT *, arrow_cast(append_time, 'Int64') AS appended, arrow_cast(event_time, 'Int64') AS happened,
    {day} AS day, {minute} AS minute
  FROM log
), judged AS (
  SELECT *,
    CASE kind WHEN 1 THEN NULL WHEN 2 THEN 'unreadable' WHEN 3 THEN 'no_value' ELSE
      CASE WHEN happened - appended > {ahead_max} THEN 'too_far_ahead' WHEN appended - happened > {age_max} THEN 'too_old' END
    END AS rejected,
    appended - happened > {lateness} AS late
  FROM records
), clicks AS (
  SELECT *,
    appended - lag(appended) OVER (PARTITION BY ad_id, click_id ORDER BY appended, rank, \"offset\") AS age,
    appended - lag(appended) OVER (PARTITION BY ad_id, click_id, rank ORDER BY appended, \"offset\") AS live_age
  FROM judged WHERE kind = 0 AND rejected IS NULL
), verdicts AS (
  SELECT *,
    coalesce(age < {batch_horizon}, false) AS duplicate,
    coalesce(live_age < {live_horizon}, false) AS live_duplicate,
    {owner} AS owner
  FROM clicks
), owned AS (
  SELECT *, CASE WHEN owner = 1 AND (duplicate OR NOT is_new) THEN {other_days} ELSE owner END AS result
  FROM verdicts
), results AS (
  SELECT result AS kind, minute, ad_id,
    count(*) FILTER (WHERE NOT duplicate) AS clicks,
    count(*) FILTER (WHERE NOT duplicate AND late AND NOT live_duplicate) AS late,
    count(*) FILTER (WHERE duplicate) AS duplicates,
    count(*) FILTER (WHERE duplicate AND NOT live_duplicate AND NOT late) AS far_duplicates,
    count(*) FILTER (WHERE duplicate AND NOT live_duplicate AND late) AS late_duplicates
  FROM owned WHERE result <> {other_days} GROUP BY 1, 2, 3
  UNION ALL SELECT {other_days}, 0, '', count(*), 0, 0, 0, 0 FROM owned WHERE result = {other_days}
  UNION ALL SELECT {control}, 0, '', count(*), 0, 0, 0, 0 FROM log WHERE kind = 1
  UNION ALL SELECT {rejected}, 0, rejected, count(*), 0, 0, 0, 0 FROM judged WHERE rejected IS NOT NULL GROUP BY rejected
  UNION ALL SELECT {read}, 0, '', count(*), 0, 0, 0, 0 FROM log
)
SELECT arrow_cast(kind, 'Int8') AS kind, minute, arrow_cast(ad_id, 'Dictionary(UInt32, Utf8)') AS ad_id,
  clicks, late, duplicates, far_duplicates, late_duplicates
FROM results ORDER BY kind, minute, ad_id",
        day = floored(24 * 60 * 60_000),
        minute = floored(60_000),
        ahead_max = of_rules(|rules| rules.ahead_max.as_millis()),
        age_max = of_rules(|rules| rules.age_max.as_millis()),
        lateness = of_rules(|rules| rules.lateness.as_millis()),
        batch_horizon = of_rules(|rules| rules.batch_horizon.as_millis()),
        live_horizon = of_rules(|rules| rules.live_horizon.as_millis()),
        other_days = Kind::OtherDays as i8,
        control = Kind::Control as i8,
        rejected = Kind::Rejected as i8,
        read = Kind::Read as i8,
    )
}

/// Number of the window of so many milliseconds that holds the event: floored, also before 1970.
fn floored(width: i64) -> String {
    let time = "arrow_cast(event_time, 'Int64')";
    format!("({time} - (({time} % {width}) + {width}) % {width}) / {width}")
}

/// A value of the rules of the event day, as an expression over `day`.
fn by_rules(work: &Work, value: impl Fn(&Rules) -> i64) -> String {
    let (first, later) = work.scope.rules.parts();
    let mut expression = String::from("CASE");
    for (from, rules) in later.iter().rev() {
        write!(expression, " WHEN day >= {} THEN {}", from.number(), value(rules)).expect("a String takes all text");
    }
    format!("{expression} WHEN true THEN {} END", value(first))
}

/// The owner of a new click, as an expression over `day`: the number of its [`Kind`].
fn owner(work: &Work) -> String {
    let list = |days: &mut dyn Iterator<Item = Day>| {
        let numbers: Vec<String> = days.map(|day| day.number().to_string()).collect();
        if numbers.is_empty() { "false".to_owned() } else { format!("day IN ({})", numbers.join(", ")) }
    };
    let (before, closed) = work.scope.is_final.parts();
    let computed = list(&mut work.scope.days.iter().copied());
    let closed = list(&mut closed.iter().copied());
    let before = before.map_or_else(|| "false".to_owned(), |first| format!("day < {}", first.number()));
    let (cell, adjustment, other) = (Kind::Cell as i8, Kind::Adjustment as i8, Kind::OtherDays as i8);
    format!("CASE WHEN {computed} THEN {cell} WHEN {before} OR {closed} THEN {adjustment} ELSE {other} END")
}
