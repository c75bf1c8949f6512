//! The HTTP API, version 1. Only reads; every answer says in `meta` how far it can be trusted.

mod access;
mod ads;
mod campaigns;
mod clicks;
mod days;
mod meta;
mod names;
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
use platform::keys::Scope;
use platform::telemetry::{Readiness, probe_routes};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::answers::{Answers, repeat};
use crate::catalog::Catalog;
use crate::gate::{Allowance, Gate};
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
    pub catalog: Catalog,
    pub gate: Gate,
    pub answers: Answers,
    pub ready: Readiness,
    /// One for each stream that may be open.
    pub streams: Arc<Semaphore>,
    /// The server stops: requests in flight are finished, and streams, which would never end, end.
    pub stop: CancellationToken,
}

/// Headers of our own that pages of other origins may read.
const EXPOSED: [&str; 9] = [
    "etag",
    "ratelimit",
    "ratelimit-policy",
    "twofold-time-zone",
    "twofold-as-of",
    "twofold-complete",
    "twofold-reasons",
    "twofold-ledger-position",
    "twofold-ads-version",
];

/// What a caller must be allowed to.
#[derive(Debug, Clone, Copy)]
enum Needs {
    /// Whoever is let in.
    Nothing,
    /// Numbers of the ads that it may see: the handler sees to that.
    Numbers,
    /// Numbers of all ads together.
    AllNumbers,
    /// How the installation is doing.
    Operation,
}

/// Everything that the server answers. Pages of the given origins may read it.
pub(crate) fn router(app: Arc<App>, origins: AllowOrigin) -> Router {
    let probes = probe_routes(app.ready.clone());
    let cors = CorsLayer::new()
        .allow_origin(origins)
        .allow_methods([Method::GET])
        .allow_headers([header::AUTHORIZATION, header::IF_NONE_MATCH, HeaderName::from_static("last-event-id")])
        .expose_headers(EXPOSED.map(HeaderName::from_static));
    // Every address of numbers stands below what it needs.
    let below = |needs: Needs, routes: Router<Arc<App>>| {
        let app = app.clone();
        routes.route_layer(middleware::from_fn(move |request, next| admit(app.clone(), needs, request, next)))
    };
    // Events are left as they are: they would wait until a block is full.
    let compression = || CompressionLayer::new().quality(CompressionLevel::Fastest);
    let repeated = |routes: Router<Arc<App>>| {
        routes.layer(compression()).layer(middleware::from_fn_with_state(app.clone(), repeat))
    };
    let answers = Router::new().route("/v1/clicks", get(clicks::get)).route("/v1/ads", get(ads::get));
    let numbers = repeated(answers)
        .route("/v1/stream", get(stream::get))
        .route("/v1/campaigns", get(campaigns::get))
        .route("/v1/names", get(names::get));
    let operation = Router::new().route("/v1/nights", get(nights::get)).route("/v1/status", get(status::get));
    below(Needs::Nothing, Router::new().route("/v1/access", get(access::get)))
        .merge(below(Needs::Numbers, numbers))
        .merge(below(Needs::AllNumbers, repeated(Router::new().route("/v1/days", get(days::get)))))
        .merge(below(Needs::Operation, operation))
        .route("/v1/openapi.json", get(openapi::get))
        .with_state(app)
        .merge(page::routes())
        .merge(probes)
        .fallback(|uri: Uri| async move { Problem::not_found(uri.path()) })
        .method_not_allowed_fallback(|| async { Problem::method() })
        .layer(cors)
        .layer(compression())
        .layer(middleware::from_fn(observe))
}

/// Lets in who may ask, and hands it on to the handler.
async fn admit(app: Arc<App>, needs: Needs, mut request: Request, next: Next) -> Response {
    let caller = match app.gate.caller(request.headers()).await {
        Ok(caller) => caller,
        Err(problem) => return problem.into_response(),
    };
    let is_anybody = caller.key.is_none();
    let allowance = match app.gate.take(&caller) {
        Ok(allowance) => allowance,
        Err(problem) => return problem.into_response(),
    };
    let allowed = match needs {
        Needs::Nothing => Ok(()),
        Needs::Numbers => caller.may(Scope::Read),
        Needs::AllNumbers => caller.may(Scope::Read).and_then(|()| caller.may_see_all()),
        Needs::Operation => caller.may(Scope::Operate).and_then(|()| caller.may_see_all()),
    };
    let mut response = match allowed {
        Ok(()) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    };
    let headers = response.headers_mut();
    // Another caller may get another answer.
    headers.append(header::VARY, HeaderValue::from_static("authorization"));
    if !is_anybody && let Some(control) = headers.get(header::CACHE_CONTROL).and_then(|value| value.to_str().ok()) {
        let private = HeaderValue::from_str(&format!("private, {control}"));
        headers.insert(header::CACHE_CONTROL, private.expect("it was one before"));
    }
    headers.extend(
        allowance.into_iter().flat_map(Allowance::headers).map(|(name, text)| (HeaderName::from_static(name), text)),
    );
    response
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
