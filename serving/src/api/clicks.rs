//! `GET /v1/clicks?ad_id=&from=&to=&granularity=`: clicks per period.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use clicks::books::PeriodState;
use clicks::id::AdId;
use clicks::time::Timestamp;
use clicks::view::{Answer, Asked, PeriodAnswer, Question, Source};
use clicks::window::Grain;
use serde::Serialize;

use super::App;
use super::meta::{Meta, rfc3339};
use crate::params::{Params, check_size};
use crate::problem::Problem;

#[derive(Debug, Serialize)]
pub(super) struct Body {
    meta: Meta,
    data: Vec<Row>,
}

/// A number that is not known is null, never zero.
#[derive(Debug, Serialize)]
struct Row {
    #[serde(serialize_with = "rfc3339")]
    period_start: Timestamp,
    #[serde(serialize_with = "rfc3339")]
    period_end: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    ad_id: Option<AdId>,
    clicks: Option<u64>,
    adjustment: Option<u64>,
    total: Option<u64>,
    late_pending: Option<u64>,
    source: Source,
    state: PeriodState,
    revision: Option<u32>,
    complete: bool,
}

pub(super) async fn get(State(app): State<Arc<App>>, uri: Uri) -> Result<Json<Body>, Problem> {
    let params = Params::read(&uri, &["ad_id", "from", "to", "granularity"])?;
    let grain = params.grain("granularity")?.unwrap_or(Grain::Minute);
    let ads = params.ads("ad_id", app.options.ads_max)?;
    let now = app.sources.clock.now();
    let range = params.range(grain, periods_default(grain), now)?;
    check_size(range, grain, ads.as_ref().map_or(1, Vec::len), now, app.options.rows_max)?;
    let asked = ads.map_or(Asked::Total, Asked::Ads);
    let (position, answer) = app.sources.answer(&Question { asked, range, grain }).await?;
    Ok(Json(Body { meta: Meta::new(&answer.standing, &position, Some(grain)), data: rows(answer) }))
}

/// The last hour, the last day, the last month.
fn periods_default(grain: Grain) -> i64 {
    match grain {
        Grain::Minute => 60,
        Grain::Hour => 24,
        Grain::Day => 30,
    }
}

fn rows(answer: Answer) -> Vec<Row> {
    let rows = answer.series.into_iter().flat_map(|series| {
        let ad = series.ad;
        series.periods.into_iter().map(move |period| row(ad.clone(), period))
    });
    rows.collect()
}

fn row(ad_id: Option<AdId>, period: PeriodAnswer) -> Row {
    Row {
        period_start: period.start,
        period_end: period.end,
        ad_id,
        clicks: period.clicks,
        adjustment: period.adjustment,
        total: period.total,
        late_pending: period.late_pending,
        source: period.source,
        state: period.state,
        revision: period.revision,
        complete: period.complete,
    }
}
