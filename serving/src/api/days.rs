//! `GET /v1/days?last=N&format=`: the days of UTC, newest first, with what both layers say of each.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use clicks::books::{Books, PeriodState};
use clicks::time::{Day, Interval};
use clicks::view::{Asked, PeriodAnswer, Question, Source};
use clicks::window::Grain;
use clicks::zone::Zone;
use serde::Serialize;
use utoipa::ToSchema;

use super::meta::Meta;
use super::reply::{self, Format, Reply, column, count_column};
use super::{App, openapi};
use crate::gate::Sees;
use crate::params::Params;
use crate::problem::Problem;
use crate::sources::Answered;
use crate::sources::AskError;

const LAST_DEFAULT: usize = 7;
const LAST_MAX: usize = 400;

/// One day. A number that is not known is null, never zero.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Day)]
pub(super) struct Row {
    #[schema(schema_with = openapi::day)]
    day: Day,
    clicks: Option<u64>,
    adjustment: Option<u64>,
    total: Option<u64>,
    late_pending: Option<u64>,
    #[schema(schema_with = openapi::source)]
    source: Source,
    #[schema(schema_with = openapi::state)]
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

impl reply::Row for Row {
    const NAME: &'static str = "days";

    fn columns() -> Vec<Field> {
        let mut columns = vec![column("day", DataType::Date32)];
        columns.extend(["clicks", "adjustment", "total", "late_pending"].map(count_column));
        columns.extend(["source", "state"].map(|name| column(name, DataType::Utf8)));
        columns.extend([column("revision", DataType::Int32), column("complete", DataType::Boolean)]);
        let closed = ["late", "duplicates", "far_duplicates", "last_live", "unexplained"];
        columns.extend(closed.map(count_column));
        columns
    }
}

/// The last days of UTC, with what both layers say of each.
#[utoipa::path(
    get, operation_id = "getDays", path = "/v1/days",
    params(
        ("last" = Option<u32>, Query, minimum = 1, maximum = 400, description = "7 by default.", example = 7),
        ("format" = Option<Format>, Query, description = "What `Accept` says without it.", example = "json"),
    ),
    responses(
        (status = 200, description = "The newest first.", content(
            (Reply<Row> = "application/json"),
            (String = "text/csv"),
            (Vec<u8> = "application/vnd.apache.arrow.stream"),
        )),
        (status = 304, description = "The answer is still the one of `If-None-Match`."),
        openapi::Refused,
    )
)]
pub(super) async fn get(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let params = Params::read(&uri, &["last", "format"])?;
    let format = Format::asked(&params, &headers)?;
    let last = params.count("last", LAST_DEFAULT, LAST_MAX)?;
    let today = app.sources.clock.now().day();
    let first = app.sources.positions.current().map_err(AskError::NotReady)?.books.first_day();
    // Earlier days are final and empty: there is nothing to tell of them. Today always has a row.
    let from = today.plus(1 - last as i32).max(first).min(today);
    let range = Interval::new(from.start(), today.end());
    let question = Question { asked: Asked::Total, range, grain: Grain::Day, zone: Zone::UTC };
    let Answered { position, read, answer } = app.sources.answer(&question, None, None).await?;
    let periods = answer.series.iter().flat_map(|series| series.periods.iter().rev());
    let data = periods.map(|period| row(&position.books, period)).collect();
    let meta = Meta::new(&answer.standing, &position, Some(Grain::Day), Zone::UTC, Sees::All);
    Ok(Reply { meta, count: None, data, compared: None, read }.written(format))
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
