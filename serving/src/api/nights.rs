//! `GET /v1/nights?last=N`: the last nights of the batch, newest first.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use clicks::books::Books;
use clicks::time::Day;
use platform::ledger::LedgerError;
use serde::Serialize;
use utoipa::ToSchema;

use super::meta::Stamp;
use super::{App, openapi};
use crate::nights::NightEntry;
use crate::params::Params;
use crate::problem::Problem;
use crate::sources::AskError;

const LAST_DEFAULT: usize = 14;
const LAST_MAX: usize = 100;

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Nights)]
pub(super) struct Body {
    meta: Meta,
    data: Vec<Row>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NightsMeta)]
struct Meta {
    ledger_position: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Night)]
struct Row {
    #[schema(schema_with = openapi::day)]
    night: Day,
    /// The entry of the ledger that published it.
    entry: u64,
    /// `published`; `accepted`: by a person, over objections; `withheld`: its day is not published; `recounted`: it was
    /// withheld then, and is published by now.
    state: &'static str,
    #[schema(schema_with = openapi::time)]
    published_at: Stamp,
    /// How long the run took; from its report, like `drift` and `runner`: null when it left none.
    seconds: Option<f64>,
    rows: u64,
    counted: u64,
    duplicates: u64,
    rejected: u64,
    control: u64,
    /// Raw objects that were read.
    objects: u64,
    /// Days that have a new revision by it.
    #[schema(value_type = Vec<String>)]
    days: Vec<Day>,
    /// What spoke against publishing its day.
    objections: Vec<String>,
    /// `equal`, `different`, `unknown` or `not_compared`: what the live view has counted of the day, against what the batch has.
    drift: Option<&'static str>,
    drift_detail: Option<String>,
    runner: Option<String>,
    release: String,
}

/// The last nights of the batch, with what was read, what spoke against them and how they compare with the live view.
#[utoipa::path(
    get, operation_id = "getNights", path = "/v1/nights",
    params(("last" = Option<u32>, Query, minimum = 1, maximum = 100, description = "14 by default.", example = 14)),
    responses(
        (status = 200, description = "The newest first.", body = Body),
        openapi::Refused,
    )
)]
pub(super) async fn get(State(app): State<Arc<App>>, uri: Uri) -> Result<Json<Body>, Problem> {
    let params = Params::read(&uri, &["last"])?;
    let last = params.count("last", LAST_DEFAULT, LAST_MAX)?;
    let books = app.sources.positions.current().map_err(AskError::NotReady)?.books;
    let nights = app.nights.last(&books, last, app.sources.clock.now()).await.map_err(|error| match error {
        LedgerError::NoEntry { number, .. } => AskError::NotReady(format!("entry {number} of the ledger is not there")),
        error => AskError::Ledger(error),
    })?;
    let meta = Meta { ledger_position: books.head() };
    Ok(Json(Body { meta, data: nights.iter().map(|entry| row(&books, entry)).collect() }))
}

fn row(books: &Books, NightEntry { number, night, report }: &NightEntry) -> Row {
    let objections = night.withheld.iter().flat_map(|withheld| &withheld.objections);
    let objections = objections.chain(night.accepted.iter().flat_map(|accepted| &accepted.objections));
    let drift = report.as_ref().and_then(|report| report.drift.as_ref());
    Row {
        night: night.night,
        entry: *number,
        state: match (&night.withheld, &night.accepted) {
            (Some(_), _) if books.withheld().contains_key(&night.night) => "withheld",
            (Some(_), _) => "recounted",
            (None, Some(_)) => "accepted",
            (None, None) => "published",
        },
        published_at: Stamp::utc(night.published_at),
        seconds: report.as_ref().map(|report| report.ended_at.since(report.began_at).as_millis() as f64 / 1_000.0),
        rows: night.balance.rows,
        counted: night.balance.counted,
        duplicates: night.balance.duplicates,
        rejected: night.balance.rejected,
        control: night.balance.control,
        objects: night.inputs.rows,
        days: night.days.iter().map(|revision| revision.day).collect(),
        objections: objections.map(|objection| format!("{}: {}", objection.check.name(), objection.detail)).collect(),
        drift: drift.map(crate::nights::Drift::name),
        drift_detail: drift.and_then(crate::nights::Drift::detail),
        runner: report.as_ref().map(|report| report.runner.clone()),
        release: night.release.clone(),
    }
}
