//! `GET /v1/access`: who asks, and what it may see.

use std::sync::Arc;

use axum::extract::State;
use axum::http::Uri;
use axum::{Extension, Json};
use clicks::id::TenantId;
use platform::keys::{KeyId, Scope};
use serde::Serialize;
use utoipa::ToSchema;

use super::meta::Stamp;
use super::{App, openapi};
use crate::gate::Caller;
use crate::params::Params;
use crate::problem::Problem;

#[derive(Debug, Serialize, ToSchema)]
pub(super) struct Access {
    /// The server's time.
    #[schema(schema_with = openapi::time)]
    now: Stamp,
    /// Null for anybody, where no key is needed.
    key: Option<KeyText>,
    /// Only ads of this tenant are seen; null: all.
    #[schema(value_type = Option<String>, example = "acme")]
    tenant: Option<TenantId>,
    #[schema(value_type = Vec<String>, example = json!(["read"]))]
    scopes: Vec<Scope>,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Key)]
struct KeyText {
    #[schema(value_type = String, example = "4f0c2a91b7e3")]
    id: KeyId,
    name: String,
    /// Null: never.
    #[schema(schema_with = openapi::time_or_null)]
    expires_at: Option<Stamp>,
}

/// Who asks, and what it may see.
#[utoipa::path(
    get, operation_id = "getAccess", path = "/v1/access",
    responses((status = 200, description = "Whoever asks.", body = Access), openapi::Refused)
)]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
) -> Result<Json<Access>, Problem> {
    Params::read(&uri, &[])?;
    let tenant = caller.tenant().cloned();
    let scopes = caller.key.as_ref().map_or(Scope::ALL.to_vec(), |key| key.scopes.clone());
    let key = caller.key.map(|key| KeyText { id: key.id, name: key.name, expires_at: key.expires_at.map(Stamp::utc) });
    Ok(Json(Access { now: Stamp::utc(app.sources.clock.now()), key, tenant, scopes }))
}
