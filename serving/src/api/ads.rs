//! `GET /v1/ads?from=&to=&limit=`: the ads with the most clicks.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::Uri;
use clicks::id::AdId;
use clicks::time::Interval;
use clicks::view::{Asked, Question, RankedAd};
use clicks::window::Grain;
use serde::Serialize;

use super::App;
use super::meta::Meta;
use crate::params::{Params, check_size};
use crate::problem::Problem;

const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 1_000;

#[derive(Debug, Serialize)]
pub(super) struct Body {
    meta: Meta,
    /// Ads with clicks in the range, those beyond the limit included.
    ads_count: usize,
    data: Vec<Row>,
}

/// At least so many, when the answer is not complete.
#[derive(Debug, Serialize)]
struct Row {
    ad_id: AdId,
    clicks: u64,
    adjustment: u64,
    total: u64,
    late_pending: Option<u64>,
}

pub(super) async fn get(State(app): State<Arc<App>>, uri: Uri) -> Result<Json<Body>, Problem> {
    let params = Params::read(&uri, &["from", "to", "limit"])?;
    let limit = params.count("limit", LIMIT_DEFAULT, LIMIT_MAX)?;
    let now = app.sources.clock.now();
    let range = params.range(Grain::Minute, 60, now)?;
    let grain = coarsest(range);
    check_size(range, grain, 1, now, app.options.rows_max)?;
    let (position, ranking) = app.sources.ranking(&Question { asked: Asked::EachAd, range, grain }, limit).await?;
    let data = ranking.ads.into_iter().map(row).collect();
    Ok(Json(Body { meta: Meta::new(&ranking.standing, &position, None), ads_count: ranking.ads_count, data }))
}

/// Coarser tables are smaller, and the sums are the same.
fn coarsest(range: Interval) -> Grain {
    let aligned =
        |grain: &Grain| grain.window(range.start).start == range.start && grain.window(range.end).start == range.end;
    [Grain::Day, Grain::Hour].into_iter().find(aligned).unwrap_or(Grain::Minute)
}

fn row(ad: RankedAd) -> Row {
    Row { ad_id: ad.ad, clicks: ad.clicks, adjustment: ad.adjustment, total: ad.total, late_pending: ad.late_pending }
}
