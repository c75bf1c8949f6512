//! `GET /v1/ads?tenant=&campaign=&group_by=&from=&to=&tz=&limit=&position=&format=`: the ads with the most clicks, or the
//! campaigns or tenants.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field};
use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use clicks::ads::AdsTable;
use clicks::id::{AdId, CampaignId, TenantId};
use clicks::time::{Day, Interval};
use clicks::view::{Question, Ranked};
use clicks::window::Grain;
use clicks::zone::Zone;
use serde::Serialize;
use utoipa::ToSchema;

use super::meta::Meta;
use super::reply::{self, Format, Reply, column, count_column};
use super::{App, openapi};
use crate::gate::Caller;
use crate::params::{Params, check_size};
use crate::problem::Problem;
use crate::sources::Answered;
use crate::subject::{Label, Subject};

const LIMIT_DEFAULT: usize = 20;
const LIMIT_MAX: usize = 1_000;

/// One ad, campaign or tenant over the whole range. At least so many, when the answer is not complete. What the ads table
/// does not know is null.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Ranked)]
pub(super) struct Row {
    /// Null where campaigns or tenants are ranked.
    #[schema(value_type = Option<String>, example = "ad-1")]
    ad_id: Option<AdId>,
    /// What the ad is called today.
    #[schema(value_type = Option<String>, example = "Red shoes")]
    name: Option<Arc<str>>,
    #[schema(value_type = Option<String>, example = "acme")]
    tenant: Option<TenantId>,
    #[schema(value_type = Option<String>, example = "spring")]
    campaign: Option<CampaignId>,
    clicks: u64,
    adjustment: u64,
    total: u64,
    late_pending: Option<u64>,
    /// Nothing is missing in the whole answer; otherwise each has at least so many.
    complete: bool,
}

impl reply::Row for Row {
    const NAME: &'static str = "ads";

    fn columns() -> Vec<Field> {
        let mut columns = Vec::from(["ad_id", "name", "tenant", "campaign"].map(|name| column(name, DataType::Utf8)));
        columns.extend(["clicks", "adjustment", "total", "late_pending"].map(count_column));
        columns.push(column("complete", DataType::Boolean));
        columns
    }
}

/// The ads with the most clicks in a range, or the campaigns or tenants.
#[utoipa::path(
    get, operation_id = "getAds", path = "/v1/ads",
    params(
        ("tenant" = Option<Vec<openapi::AdId>>, Query, style = Form, explode = false,
            description = "Only ads of these tenants of the ads table.", example = json!(["acme"])),
        ("campaign" = Option<Vec<openapi::AdId>>, Query, style = Form, explode = false,
            description = "Only ads of these campaigns of the ads table.", example = json!(["spring"])),
        ("group_by" = Option<openapi::GroupBy>, Query, description = "What is ranked; ads without it.", example = "campaign"),
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
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let known = ["tenant", "campaign", "group_by", "from", "to", "tz", "limit", "position", "format"];
    let params = Params::read(&uri, &known)?;
    let format = Format::asked(&params, &headers)?;
    let limit = params.count("limit", LIMIT_DEFAULT, LIMIT_MAX)?;
    let now = app.sources.clock.now();
    let zone = params.zone()?;
    let range = params.range(Grain::Minute, zone, 60, now)?;
    // How far into the future the range may reach; a ranking has one number for all of it.
    let grain = coarsest(range, zone);
    check_size(range, Grain::Day, 1, now, app.options.rows_max)?;
    let ranks = Subject::read(&params, app.options.ads_max)?.ranks(&caller, &app.catalog)?;
    let question = Question { asked: ranks.asked(), range, grain, zone };
    let wanted = params.position()?;
    let asked = app.sources.ranking(&question, wanted, ranks.reason(), |merge| ranks.rank(merge, limit)).await?;
    let Answered { position, read, answer: ranking } = asked;
    let (complete, version) = (ranking.standing.complete, ranks.version);
    let data = ranking.ranked.into_iter().map(|ranked| row(ranked, &version.table, now.day(), complete)).collect();
    let meta = Meta::new(&ranking.standing, &position, None, zone, caller.sees()).pinned(wanted.is_some());
    let meta = meta.by_ads((version.number > 0).then_some(version.number));
    Ok(Reply { meta, count: Some(ranking.count), data, compared: None, read }.written(format))
}

fn coarsest(range: Interval, zone: Zone) -> Grain {
    let begins = |grain: Grain, time| zone.window(grain, time).start == time;
    let aligned = |grain: &Grain| begins(*grain, range.start) && begins(*grain, range.end);
    [Grain::Day, Grain::Hour].into_iter().find(aligned).unwrap_or(Grain::Minute)
}

fn row(ranked: Ranked<Label>, table: &AdsTable, today: Day, complete: bool) -> Row {
    let Ranked { key, clicks, adjustment, total, late_pending } = ranked;
    let ad_id = key.ad().cloned();
    let known = ad_id.as_ref().and_then(|ad| table.row_on(ad, today));
    let name = known.map(|row| row.name.clone());
    let (tenant, campaign) = match known {
        Some(row) => (Some(row.tenant.clone()), Some(row.campaign.clone())),
        None => key.home(),
    };
    Row { ad_id, name, tenant, campaign, clicks, adjustment, total, late_pending, complete }
}
