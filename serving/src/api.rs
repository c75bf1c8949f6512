//! The HTTP API, version 1. Only reads; every answer says in `meta` how far it can be trusted.

mod ads;
mod clicks;
mod days;
mod meta;
mod nights;
mod openapi;
mod reply;
mod status;
mod stream;

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use platform::telemetry::{Readiness, probe_routes};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::nights::Nights;
use crate::page;
use crate::problem::Problem;
use crate::server::Options;
use crate::sources::Sources;

/// What every handler sees.
#[derive(Debug)]
pub(crate) struct App {
    pub options: Options,
    pub sources: Sources,
    pub nights: Nights,
    pub ready: Readiness,
    /// One for each stream that may be open.
    pub streams: Arc<Semaphore>,
    /// The server stops: requests in flight are finished, and streams, which would never end, end.
    pub stop: CancellationToken,
}

/// Headers of our own that pages of other origins may read.
const EXPOSED: [&str; 6] =
    ["etag", "twofold-time-zone", "twofold-as-of", "twofold-complete", "twofold-reasons", "twofold-ledger-position"];

/// Everything that the server answers. Pages of the given origins may read it.
pub(crate) fn router(app: Arc<App>, origins: AllowOrigin) -> Router {
    let probes = probe_routes(app.ready.clone());
    let cors = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET])
        .allow_headers([header::IF_NONE_MATCH, HeaderName::from_static("last-event-id")])
        .expose_headers(EXPOSED.map(HeaderName::from_static));
    Router::new()
        .route("/v1/clicks", get(clicks::get))
        .route("/v1/ads", get(ads::get))
        .route("/v1/days", get(days::get))
        .route("/v1/nights", get(nights::get))
        .route("/v1/status", get(status::get))
        .route("/v1/stream", get(stream::get))
        .route("/v1/openapi.json", get(openapi::get))
        .with_state(app)
        .merge(page::routes())
        .merge(probes)
        .fallback(|uri: Uri| async move { Problem::not_found(uri.path()) })
        .method_not_allowed_fallback(|| async { Problem::method() })
        .layer(cors)
        // Events are left as they are: they would wait until a block is full.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
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
