//! `GET /v1/campaigns`: what can be asked for by tenant and campaign.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::{Extension, Json};
use clicks::id::{AdId, CampaignId, TenantId};
use serde::Serialize;
use utoipa::ToSchema;

use super::{App, openapi};
use crate::gate::Caller;
use crate::params::Params;
use crate::problem::Problem;

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Campaigns {
    /// The version of the ads table; 0 while none was loaded.
    ads_version: u64,
    /// By tenant and name.
    data: Vec<Campaign>,
}

#[derive(Debug, Serialize, ToSchema)]
struct Campaign {
    #[schema(value_type = String, example = "acme")]
    tenant: TenantId,
    #[schema(value_type = String, example = "spring")]
    campaign: CampaignId,
    /// How many ads it has, clicked or not.
    ads: u64,
}

/// All campaigns of the ads table that the caller may see.
#[utoipa::path(
    get, operation_id = "getCampaigns", path = "/v1/campaigns",
    responses((status = 200, description = "All of them.", body = Campaigns), openapi::Refused)
)]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<Campaigns>, Problem> {
    Params::read(&uri, &[])?;
    let version = app.catalog.current()?;
    let all = version.table.campaigns().iter().zip(version.table.ads_of_campaigns());
    let seen = all.filter(|((tenant, _), _)| caller.tenant().is_none_or(|own| own == tenant));
    let row = |((tenant, campaign), ads): (&(TenantId, CampaignId), &Vec<AdId>)| Campaign {
        tenant: tenant.clone(),
        campaign: campaign.clone(),
        ads: ads.len() as u64,
    };
    Ok(Json(Campaigns { ads_version: version.number, data: seen.map(row).collect() }))
}
