//! `GET /v1/names?ad_id=`: what the ads table says of some ads.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::{Extension, Json};
use clicks::ads::AdRow;
use clicks::id::{AdId, CampaignId, TenantId};
use clicks::time::Day;
use serde::Serialize;
use utoipa::ToSchema;

use super::{App, openapi};
use crate::gate::Caller;
use crate::params::Params;
use crate::problem::Problem;

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Names {
    /// The version of the ads table; 0 while none was loaded.
    ads_version: u64,
    /// In the order in which they were asked for, without those that the table does not know.
    data: Vec<Name>,
}

/// What holds for an ad today.
#[derive(Debug, Serialize, ToSchema)]
struct Name {
    #[schema(value_type = String, example = "ad-1")]
    ad_id: AdId,
    #[schema(value_type = String, example = "Red shoes")]
    name: Arc<str>,
    #[schema(value_type = String, example = "acme")]
    tenant: TenantId,
    #[schema(value_type = String, example = "spring")]
    campaign: CampaignId,
    /// What a click costs, a decimal number; null where clicks are not paid by the piece.
    #[schema(example = "0.25")]
    price: Option<String>,
    #[schema(value_type = Option<String>, example = "EUR")]
    currency: Option<&'static str>,
    #[schema(schema_with = openapi::day)]
    valid_from: Day,
}

/// What ads are called, whose they are, and what a click on them costs.
#[utoipa::path(
    get, operation_id = "getNames", path = "/v1/names",
    params(("ad_id" = Vec<openapi::AdId>, Query, style = Form, explode = false,
        description = "Ad ids, several separated by commas.", example = json!(["ad-1"]))),
    responses((status = 200, description = "Those that are known.", body = Names), openapi::Refused)
)]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<Names>, Problem> {
    let params = Params::read(&uri, &["ad_id"])?;
    let missing = || Problem::parameter("ad_id", "it is missing", "name one ad or more, separated by commas");
    let ads = params.ads("ad_id", app.options.ads_max)?.ok_or_else(missing)?;
    let (version, today) = (app.catalog.current()?, app.sources.clock.now().day());
    let rows = ads.iter().filter_map(|ad| version.table.row_on(ad, today));
    // Another's ad looks as one that nobody knows.
    let seen = rows.filter(|row| caller.tenant().is_none_or(|own| *own == row.tenant));
    Ok(Json(Names { ads_version: version.number, data: seen.map(name).collect() }))
}

fn name(row: &AdRow) -> Name {
    let AdRow { ad, tenant, campaign, name, price, valid_from } = row.clone();
    let (amount, currency) = price.map(|price| (price.amount.to_string(), price.currency.code())).unzip();
    Name { ad_id: ad, name, tenant, campaign, price: amount, currency, valid_from }
}
