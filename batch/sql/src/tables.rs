//! The tables: what they are called, what is in them, and how they are made.

mod counts;
mod files;
mod raw;
mod rows;

use std::sync::Arc;

use clicks::layout::{Kind, columns as raw_columns};
use clicks::tables::columns::{
    AD_ID, ADJUSTMENT, CLASS, CLICKS, DUPLICATES, LATE, PERIOD_END, PERIOD_START, REVISION, RULES_VERSION,
};
use clicks::window::Grain;
use datafusion::catalog::TableProvider;
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, when};
use datafusion::prelude::{SessionContext, col, ident, lit};

use crate::functions::uuid_text;
use crate::snapshot::Pin;
use counts::{Counts, DAY, STATE};
use raw::{APPEND_DAY, FROM, OBJECT, PARTITION, REGION, Raw, TO, TOPIC};

/// A table, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct About {
    pub name: &'static str,
    pub holds: &'static str,
}

/// All tables.
pub const TABLES: [About; 8] = [
    About {
        name: "clicks_minute",
        holds: "a row per ad and minute of closed days; total = clicks + adjustment is what is billed",
    },
    About { name: "clicks_hour", holds: "the same by hour of UTC" },
    About { name: "clicks_day", holds: "the same by day of UTC" },
    About {
        name: "adjustments",
        holds: "clicks that were found after their day was final, by ad and minute, with the night that found them",
    },
    About {
        name: "periods",
        holds: "a row per day that a night has come to: state, revision, totals, and what the live view counted",
    },
    About { name: "quality", holds: "a row per ledger entry that has counted: records read, and what became of them" },
    About {
        name: "raw_clicks",
        holds: "the records that were counted, duplicates, rejected and control records included, with offsets and objects",
    },
    About { name: "ads", holds: "whose an ad is, its name and price, from valid_from until before valid_to" },
];

/// The total of what is billed: the clicks of the revision and those that were found later.
const TOTAL: &str = "total";

/// Makes all tables known to a session.
pub(crate) fn register(session: &SessionContext, pin: &Pin) -> Result<(), DataFusionError> {
    let counts = |grain| clicks(Counts::new(grain, pin.clone()));
    let tables: [(&str, Arc<dyn TableProvider>); 8] = [
        ("clicks_minute", counts(Grain::Minute)?),
        ("clicks_hour", counts(Grain::Hour)?),
        ("clicks_day", counts(Grain::Day)?),
        ("adjustments", Arc::new(rows::adjustments(pin))),
        ("periods", Arc::new(rows::periods(pin))),
        ("quality", Arc::new(rows::quality(pin))),
        ("raw_clicks", raw_clicks(Raw::new(pin.clone()))?),
        ("ads", Arc::new(rows::ads(pin))),
    ];
    for (name, table) in tables {
        session.register_table(name, table)?;
    }
    Ok(())
}

fn clicks(counts: Counts) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    let total = (col(CLICKS) + col(ADJUSTMENT)).alias(TOTAL);
    let [day, start, end, ad, class, clicks, adjustment] =
        [DAY, PERIOD_START, PERIOD_END, AD_ID, CLASS, CLICKS, ADJUSTMENT].map(col);
    let [duplicates, late, state, revision, rules] = [DUPLICATES, LATE, STATE, REVISION, RULES_VERSION].map(col);
    let columns = [day, start, end, ad, class, clicks, adjustment, total, duplicates, late, state, revision, rules];
    let plan = LogicalPlanBuilder::scan("counts", provider_as_source(Arc::new(counts)), None)?.project(columns)?;
    Ok(Arc::new(ViewTable::new(plan.build()?, None)))
}

/// The records within what was counted, with words for codes.
fn raw_clicks(raw: Raw) -> Result<Arc<dyn TableProvider>, DataFusionError> {
    use raw_columns::{
        AD_ID, APPEND_TIME, BROKER_TIME, CLICK_ID, EVENT_TIME, KIND, OFFSET, RAW, RECEIVED_TIME, USER_AGENT, USER_ID,
    };
    let is = |kind: Kind| ident(KIND).eq(lit(kind as i8));
    let mut kinds = when(is(Kind::Click), lit(Kind::Click.name()));
    for kind in Kind::ALL.into_iter().skip(1) {
        kinds = kinds.when(is(kind), lit(kind.name()));
    }
    let columns: Vec<Expr> = vec![
        ident(APPEND_DAY),
        ident(REGION),
        ident(TOPIC),
        ident(PARTITION),
        ident(OFFSET),
        kinds.otherwise(lit("unknown"))?.alias(KIND),
        ident(EVENT_TIME),
        ident(APPEND_TIME),
        ident(RECEIVED_TIME),
        ident(BROKER_TIME),
        uuid_text().call(vec![ident(CLICK_ID)]).alias(CLICK_ID),
        ident(AD_ID),
        ident(USER_ID),
        ident(USER_AGENT),
        ident(RAW),
        ident(OBJECT),
    ];
    let counted = ident(OFFSET).gt_eq(ident(FROM)).and(ident(OFFSET).lt(ident(TO)));
    let plan = LogicalPlanBuilder::scan("records", provider_as_source(Arc::new(raw)), None)?;
    Ok(Arc::new(ViewTable::new(plan.filter(counted)?.project(columns)?.build()?, None)))
}
