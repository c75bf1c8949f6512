//! The HTTP API, version 1. Only reads; every answer says in `meta` how far it can be trusted.

mod ads;
mod clicks;
mod days;
mod meta;
mod status;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderValue, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use platform::telemetry::{Readiness, admin_routes};

use crate::page;
use crate::problem::Problem;
use crate::server::Options;
use crate::sources::Sources;

/// What every handler sees.
#[derive(Debug)]
pub(crate) struct App {
    pub options: Options,
    pub sources: Sources,
    pub ready: Readiness,
}

/// Everything that the server answers.
pub(crate) fn router(app: Arc<App>) -> Router {
    let admin = admin_routes(app.ready.clone());
    Router::new()
        .route("/v1/clicks", get(clicks::get))
        .route("/v1/ads", get(ads::get))
        .route("/v1/days", get(days::get))
        .route("/v1/status", get(status::get))
        .with_state(app)
        .merge(page::routes())
        .merge(admin)
        .fallback(|uri: Uri| async move { Problem::not_found(uri.path()) })
        .method_not_allowed_fallback(|| async { Problem::method() })
        .layer(middleware::from_fn(observe))
}

/// Measures a request, and says what holds for every answer.
async fn observe(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    // The path of an unknown address is the client's choice and would be a label without bound.
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let mut response = next.run(request).await;
    let status = response.status().as_u16().to_string();
    metrics::counter!("twofold_serving_requests_total", "route" => route.clone(), "status" => status).increment(1);
    metrics::histogram!("twofold_serving_request_seconds", "route" => route).record(begun.elapsed().as_secs_f64());
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // Numbers move; what may be kept (the page's own files) says so itself.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response.into_response()
}
