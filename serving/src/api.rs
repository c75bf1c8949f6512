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
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use metrics::{Counter, Histogram};
use platform::keys::Scope;
use platform::telemetry::{Readiness, probe_routes};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::util::option_layer;
use tower_http::CompressionLevel;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{AllowOrigin, CorsLayer};

use crate::answers::Answers;
use crate::archived::Archived;
use crate::catalog::Catalog;
use crate::front::Front;
use crate::gate::{Caller, Gate};
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
    pub archived: Arc<Archived>,
    pub catalog: Catalog,
    pub gate: Gate,
    pub answers: Arc<Answers>,
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
pub(crate) enum Needs {
    /// Whoever is let in.
    Nothing,
    /// Numbers of the ads that it may see: the handler sees to that.
    Numbers,
    /// Numbers of all ads together.
    AllNumbers,
    /// How the installation is doing.
    Operation,
}

impl Needs {
    /// # Errors
    /// What the caller is not allowed to.
    pub(crate) fn allow(self, caller: &Caller) -> Result<(), Problem> {
        match self {
            Needs::Nothing => Ok(()),
            Needs::Numbers => caller.may(Scope::Read),
            Needs::AllNumbers => caller.may(Scope::Read).and_then(|()| caller.may_see_all()),
            Needs::Operation => caller.may(Scope::Operate).and_then(|()| caller.may_see_all()),
        }
    }
}

/// A caller who was let in, and whose request is counted and measured, before the router: an extension of the request.
#[derive(Debug, Clone)]
pub(crate) struct Admitted(pub Caller);

/// Addresses whose answers are given again, with what they need.
const REPEATED: [(&str, Needs); 3] =
    [("/v1/clicks", Needs::Numbers), ("/v1/ads", Needs::Numbers), ("/v1/days", Needs::AllNumbers)];

/// Everything that the server answers. Pages of the given origins may read it.
pub(crate) fn server(app: Arc<App>, origins: Option<AllowOrigin>) -> Front {
    Front::new(app.clone(), router(app, origins), &REPEATED)
}

fn router(app: Arc<App>, origins: Option<AllowOrigin>) -> Router {
    let probes = probe_routes(app.ready.clone());
    let asked_with = [header::AUTHORIZATION, header::IF_NONE_MATCH, HeaderName::from_static("last-event-id")];
    let cors = origins.map(|origins| {
        let cors = CorsLayer::new().allow_origin(origins).allow_methods([Method::GET]).allow_headers(asked_with);
        cors.expose_headers(EXPOSED.map(HeaderName::from_static))
    });
    // Every address of numbers stands below what it needs.
    let below = |needs: Needs, routes: Router<Arc<App>>| {
        let app = app.clone();
        routes.route_layer(middleware::from_fn(move |request, next| admit(app.clone(), needs, request, next)))
    };
    let numbers = Router::new()
        .route("/v1/clicks", get(clicks::get))
        .route("/v1/ads", get(ads::get))
        .route("/v1/stream", get(stream::get))
        .route("/v1/campaigns", get(campaigns::get))
        .route("/v1/names", get(names::get));
    let operation = Router::new().route("/v1/nights", get(nights::get)).route("/v1/status", get(status::get));
    below(Needs::Nothing, Router::new().route("/v1/access", get(access::get)))
        .merge(below(Needs::Numbers, numbers))
        .merge(below(Needs::AllNumbers, Router::new().route("/v1/days", get(days::get))))
        .merge(below(Needs::Operation, operation))
        .route("/v1/openapi.json", get(openapi::get))
        .with_state(app)
        .merge(page::routes())
        .merge(probes)
        .fallback(|uri: Uri| async move { Problem::not_found(uri.path()) })
        .method_not_allowed_fallback(|| async { Problem::method() })
        .layer(option_layer(cors))
        // Events are left as they are: they would wait until a block is full.
        .layer(CompressionLayer::new().quality(CompressionLevel::Fastest))
        .layer(middleware::from_fn(observe))
}

/// Lets in who may ask, and hands it on to the handler.
async fn admit(app: Arc<App>, needs: Needs, mut request: Request, next: Next) -> Response {
    let (caller, allowance) = match request.extensions_mut().remove() {
        Some(Admitted(caller)) => (caller, None),
        None => {
            let caller = match app.gate.caller(request.headers()).await {
                Ok(caller) => caller,
                Err(problem) => return problem.into_response(),
            };
            match app.gate.take(&caller) {
                Ok(allowance) => (caller, allowance),
                Err(problem) => return problem.into_response(),
            }
        }
    };
    let is_anybody = caller.key.is_none();
    let mut response = match needs.allow(&caller) {
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
    if let Some(allowance) = allowance {
        allowance.tell(headers);
    }
    response
}

/// Counts answers of one address and their times, without looking for the metrics each time.
#[derive(Debug)]
pub(crate) struct Measures {
    route: &'static str,
    ok: Counter,
    seconds: Histogram,
}

impl Measures {
    pub(crate) fn new(route: &'static str) -> Self {
        Measures { route, ok: requests(route, StatusCode::OK), seconds: seconds(route) }
    }

    pub(crate) fn record(&self, status: StatusCode, took: Duration) {
        if status == StatusCode::OK {
            self.ok.increment(1);
            self.seconds.record(took.as_secs_f64());
        } else {
            measure(self.route, status, took);
        }
    }
}

fn measure(route: &str, status: StatusCode, took: Duration) {
    requests(route, status).increment(1);
    seconds(route).record(took.as_secs_f64());
}

fn requests(route: &str, status: StatusCode) -> Counter {
    let (route, status) = (route.to_owned(), status.as_u16().to_string());
    metrics::counter!("twofold_serving_requests_total", "route" => route, "status" => status)
}

fn seconds(route: &str) -> Histogram {
    metrics::histogram!("twofold_serving_request_seconds", "route" => route.to_owned())
}

/// Measures a request, and says what holds for every answer.
async fn observe(request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let is_measured = request.extensions().get::<Admitted>().is_some();
    // The path of an unknown address is the client's choice and would be a label without bound.
    let route =
        request.extensions().get::<MatchedPath>().map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let mut response = next.run(request).await;
    if !is_measured {
        measure(&route, response.status(), begun.elapsed());
    }
    let headers = response.headers_mut();
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    // Numbers move; what may be kept (the page's own files) says so itself.
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    response
}
