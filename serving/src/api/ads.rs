//! `GET /v1/ads?from=&to=&tz=&limit=&position=&format=`: the ads with the most clicks.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use clicks::id::AdId;
use clicks::time::Interval;
use clicks::view::{Asked, Question, RankedAd};
use clicks::window::Grain;
use clicks::zone::Zone;
use serde::Serialize;
use utoipa::ToSchema;

use super::meta::Meta;
use super::reply::{self, Format, Reply, column, count_column};
use super::{App, openapi};
use crate::params::{Params, check_size};
use crate::problem::Problem;

const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 1_000;

/// One ad over the whole range. At least so many, when the answer is not complete.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = RankedAd)]
pub(super) struct Row {
    #[schema(value_type = String, example = "ad-1")]
    ad_id: AdId,
    clicks: u64,
    adjustment: u64,
    total: u64,
    late_pending: Option<u64>,
    /// Nothing is missing in the whole answer; otherwise each ad has at least so many.
    complete: bool,
}

impl reply::Row for Row {
    const NAME: &'static str = "ads";

    fn columns() -> Vec<Field> {
        let mut columns = vec![column("ad_id", DataType::Utf8)];
        columns.extend(["clicks", "adjustment", "total", "late_pending"].map(count_column));
        columns.push(column("complete", DataType::Boolean));
        columns
    }
}

/// The ads with the most clicks in a range.
#[utoipa::path(
    get, operation_id = "getAds", path = "/v1/ads",
    params(
        ("from" = Option<String>, Query, example = "2026-03-01",
            description = "RFC 3339 timestamp or day of the zone; by default an hour before `to`."),
        ("to" = Option<String>, Query, example = "2026-03-02", description = "Exclusive; by default the end of the running minute."),
        ("tz" = Option<String>, Query, description = "IANA time zone of days; UTC by default.", example = "Europe/Berlin"),
        ("limit" = Option<u32>, Query, minimum = 1, maximum = 1000, description = "20 by default.", example = 20),
        ("position" = Option<u64>, Query, description = "What was published at this ledger position, of closed days only."),
        ("format" = Option<Format>, Query, description = "What `Accept` says without it.", example = "json"),
    ),
    responses(
        (status = 200, description = "The largest first, then by name.", content(
            (Reply<Row> = "application/json"),
            (String = "text/csv"),
            (Vec<u8> = "application/vnd.apache.arrow.stream"),
        )),
        (status = 304, description = "The answer is still the one of `If-None-Match`."),
        openapi::Refused,
    )
)]
pub(super) async fn get(State(app): State<Arc<App>>, uri: Uri, headers: HeaderMap) -> Result<Response, Problem> {
    let params = Params::read(&uri, &["from", "to", "tz", "limit", "position", "format"])?;
    let format = Format::asked(&params, &headers)?;
    let limit = params.count("limit", LIMIT_DEFAULT, LIMIT_MAX)?;
    let now = app.sources.clock.now();
    let zone = params.zone()?;
    let range = params.range(Grain::Minute, zone, 60, now)?;
    // How far into the future the range may reach; a ranking has one number for all of it.
    let grain = coarsest(range, zone);
    check_size(range, Grain::Day, 1, now, app.options.rows_max)?;
    let question = Question { asked: Asked::EachAd, range, grain, zone };
    let wanted = params.position()?;
    let (position, ranking) = app.sources.ranking(&question, wanted, limit).await?;
    let complete = ranking.standing.complete;
    let data = ranking.ads.into_iter().map(|ad| row(ad, complete)).collect();
    let meta = Meta::new(&ranking.standing, &position, None, zone).pinned(wanted.is_some());
    Ok(Reply { meta, ads_count: Some(ranking.ads_count), data }.answer(format, &headers))
}

fn coarsest(range: Interval, zone: Zone) -> Grain {
    let begins = |grain: Grain, time| zone.window(grain, time).start == time;
    let aligned = |grain: &Grain| begins(*grain, range.start) && begins(*grain, range.end);
    [Grain::Day, Grain::Hour].into_iter().find(aligned).unwrap_or(Grain::Minute)
}

fn row(RankedAd { ad, clicks, adjustment, total, late_pending }: RankedAd, complete: bool) -> Row {
    Row { ad_id: ad, clicks, adjustment, total, late_pending, complete }
}
