//! `GET /v1/days?last=N`: the days, newest first, with what both layers say of each.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use clicks::books::{Books, PeriodState};
use clicks::time::{Day, Interval};
use clicks::view::{Asked, PeriodAnswer, Question, Source};
use clicks::window::Grain;
use serde::Serialize;

use super::App;
use super::meta::Meta;
use crate::params::Params;
use crate::problem::Problem;
use crate::sources::AskError;

const LAST_DEFAULT: usize = 7;
const LAST_MAX: usize = 400;

#[derive(Debug, Serialize)]
pub(super) struct Body {
    meta: Meta,
    data: Vec<Row>,
}

/// A number that is not known is null, never zero.
#[derive(Debug, Serialize)]
struct Row {
    day: Day,
    clicks: Option<u64>,
    adjustment: Option<u64>,
    total: Option<u64>,
    late_pending: Option<u64>,
    source: Source,
    state: PeriodState,
    revision: Option<u32>,
    complete: bool,
    /// The rest is of closed days only. Those of `clicks` that came late.
    late: Option<u64>,
    duplicates: Option<u64>,
    /// Duplicates that the live view counted, because they came after its horizon.
    far_duplicates: Option<u64>,
    /// What the live view counted, while it is still stored.
    last_live: Option<u64>,
    /// `last_live + late - far_duplicates - clicks`: zero, or the two layers disagree.
    unexplained: Option<i64>,
}

pub(super) async fn get(State(app): State<Arc<App>>, uri: Uri) -> Result<Json<Body>, Problem> {
    let params = Params::read(&uri, &["last"])?;
    let last = params.count("last", LAST_DEFAULT, LAST_MAX)?;
    let today = app.sources.clock.now().day();
    let first = app.sources.positions.current().map_err(AskError::NotReady)?.books.first_day();
    // Earlier days are final and empty: there is nothing to tell of them. Today always has a row.
    let from = today.plus(1 - last as i32).max(first).min(today);
    let range = Interval::new(from.start(), today.end());
    let question = Question { asked: Asked::Total, range, grain: Grain::Day };
    let (position, answer) = app.sources.answer(&question).await?;
    let periods = answer.series.iter().flat_map(|series| series.periods.iter().rev());
    let data = periods.map(|period| row(&position.books, period)).collect();
    Ok(Json(Body { meta: Meta::new(&answer.standing, &position, Some(Grain::Day)), data }))
}

fn row(books: &Books, period: &PeriodAnswer) -> Row {
    let day = period.start.day();
    let totals = books.day(day).map(|book| book.revision.totals);
    let unexplained = totals.zip(period.last_live).map(|(totals, live)| live as i64 - totals.live() as i64);
    Row {
        day,
        clicks: period.clicks,
        adjustment: period.adjustment,
        total: period.total,
        late_pending: period.late_pending,
        source: period.source,
        state: period.state,
        revision: period.revision,
        complete: period.complete,
        late: totals.map(|totals| totals.late),
        duplicates: totals.map(|totals| totals.duplicates),
        far_duplicates: totals.map(|totals| totals.far_duplicates),
        last_live: period.last_live,
        unexplained,
    }
}
