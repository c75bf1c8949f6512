//! A request's way: receive, cut into clicks, check each, append, answer.

use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, Method, Uri, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use bytes::Bytes;
use clicks::wire::{HEADER_RECEIVED, HEADER_USER_AGENT};
use platform::clock::Clock;
use platform::log::{Header, Log, LogError, NewRecord};
use platform::telemetry::{Readiness, admin_routes};
use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::answer::{Fate, Kind, Problem, answer};
use crate::append::{Outcome, Room, append};
use crate::body::{declares_lines, receive};
use crate::item::Item;
use crate::options::{Options, OptionsError};
use crate::split::{SplitError, split};
use crate::telemetry;

/// What all requests share.
#[derive(Debug)]
pub struct Intake {
    pub(crate) options: Options,
    pub(crate) log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    pub(crate) readiness: Readiness,
    /// Room for records that wait for the log.
    records: Arc<Semaphore>,
    /// Room for bytes of bodies.
    pub(crate) bodies: Arc<Semaphore>,
    /// Cancelled when whoever still waits must answer now with what it knows.
    pub(crate) closing: CancellationToken,
    /// Cancelled when the collector has ended, and with it everything that it started.
    pub(crate) ended: CancellationToken,
    pub(crate) doubt: Notify,
    failure: Mutex<Option<LogError>>,
    failed: Notify,
}

impl Intake {
    /// # Errors
    /// [`OptionsError`] when the limits do not fit each other.
    pub fn new(options: Options, log: Arc<dyn Log>, clock: Arc<dyn Clock>) -> Result<Arc<Self>, OptionsError> {
        options.check()?;
        telemetry::start();
        Ok(Arc::new(Intake {
            records: Arc::new(Semaphore::new(options.in_flight_max)),
            bodies: Arc::new(Semaphore::new(options.bodies_limit_bytes)),
            options,
            log,
            clock,
            readiness: Readiness::default(),
            closing: CancellationToken::new(),
            ended: CancellationToken::new(),
            doubt: Notify::new(),
            failure: Mutex::new(None),
            failed: Notify::new(),
        }))
    }

    /// An append was not acknowledged: no more work until the log was asked how it is.
    pub(crate) fn log_is_away(&self) {
        self.readiness.set(false);
        self.doubt.notify_one();
    }

    /// The log failed in a way that is not understood. The first such error ends the collector.
    pub(crate) fn fail(&self, error: LogError) {
        self.readiness.set(false);
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        self.failed.notify_one();
    }

    pub(crate) fn take_failure(&self) -> Option<LogError> {
        self.failure.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns once [`Intake::fail`] was called.
    pub(crate) async fn failed(&self) {
        self.failed.notified().await;
    }
}

/// Where clicks are posted.
const CLICKS: &str = "/v1/clicks";

/// All routes of the collector: clicks, probes, metrics. `/readyz` stays 503 until [`crate::Collector::run`] has
/// reached the log.
pub fn router(intake: Arc<Intake>) -> Router {
    let probes = admin_routes(intake.readiness.clone());
    let count = |response: Response| async {
        telemetry::answered(response.status().as_u16());
        response
    };
    Router::new()
        .route(CLICKS, post(post_clicks))
        .fallback(nothing_here)
        .with_state(intake)
        .layer(axum::middleware::map_response(count))
        .merge(probes)
        .method_not_allowed_fallback(other_method)
}

async fn nothing_here(uri: Uri) -> Problem {
    Problem::new(&Kind::NOT_FOUND, format!("`{}` is no path of the collector; clicks go to {CLICKS}", uri.path()))
}

async fn other_method(method: Method, uri: Uri) -> Problem {
    let detail = format!("`{}` does not take {method}; clicks are sent with POST to {CLICKS}", uri.path());
    telemetry::answered(Kind::METHOD_NOT_ALLOWED.status.as_u16());
    Problem::new(&Kind::METHOD_NOT_ALLOWED, detail)
}

async fn post_clicks(State(intake): State<Arc<Intake>>, request: Request) -> Response {
    take(&intake, request).await.unwrap_or_else(|problem| {
        if Kind::OF_BODIES.contains(problem.kind()) {
            telemetry::refused_body(problem.kind().code);
        }
        problem.into_response()
    })
}

async fn take(intake: &Arc<Intake>, request: Request) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    let received = receive(intake, &parts.headers, body).await?;
    let lines = declares_lines(&parts.headers)?;
    let (form, texts) = split(&received.bytes, lines, intake.options.batch_max)?;

    let now = intake.clock.now();
    let headers = record_headers(now.as_millis(), &parts.headers);
    let mut fates = Vec::with_capacity(texts.len());
    let mut records = Vec::with_capacity(texts.len());
    for text in texts {
        match Item::read(text, now, &intake.options.rules) {
            Ok(item) => {
                fates.push(Fate::Unknown(item.click.click_id));
                records.push(NewRecord {
                    key: Some(Bytes::copy_from_slice(item.click.ad_id.as_str().as_bytes())),
                    value: Some(item.value),
                    headers: headers.clone(),
                });
            }
            Err(refusal) => {
                telemetry::refused(&refusal);
                fates.push(Fate::Refused(refusal));
            }
        }
    }
    if !records.is_empty() {
        let Some(room) = room_for(intake, records.len()).await else {
            telemetry::not_admitted(records.len());
            return Err(Problem::not_admitted("too many clicks are waiting for the log", fates));
        };
        // The values are copies: the body itself is not needed while they wait, only its share of the room.
        drop(received.bytes);
        let outcomes = append(intake, records, Room::new(room, received.room)).await;
        settle(&mut fates, outcomes);
    }
    Ok(answer(form, fates))
}

/// Gives the clicks that were to be appended what became of their records, which are in the same order.
fn settle(fates: &mut [Fate], outcomes: Vec<Outcome>) {
    let mut outcomes = outcomes.into_iter();
    for fate in fates {
        let Fate::Unknown(click_id) = *fate else { continue };
        *fate = match outcomes.next() {
            Some(Outcome::Acknowledged) => Fate::Accepted(click_id),
            Some(Outcome::Refused(refusal)) => Fate::Refused(refusal),
            Some(Outcome::Unknown) | None => Fate::Unknown(click_id),
        };
    }
}

async fn room_for(intake: &Intake, records: usize) -> Option<tokio::sync::OwnedSemaphorePermit> {
    let records = u32::try_from(records).ok()?;
    let wait = Arc::clone(&intake.records).acquire_many_owned(records);
    tokio::select! {
        room = tokio::time::timeout(intake.options.admission_wait, wait) => room.ok()?.ok(),
        () = intake.closing.cancelled() => None,
    }
}

/// Longest user agent that is kept, in characters.
const USER_AGENT_LENGTH_MAX: usize = 512;

/// The headers of every record of a request. Nothing else of the request becomes a header, so that nobody outside can
/// write a control record.
fn record_headers(received_ms: i64, request: &HeaderMap) -> Vec<Header> {
    let received = Header { name: HEADER_RECEIVED.to_owned(), value: Some(received_ms.to_string().into()) };
    let agent = request.get(header::USER_AGENT).and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let agent = agent.map(|text| {
        let end = text.char_indices().nth(USER_AGENT_LENGTH_MAX).map_or(text.len(), |(end, _)| end);
        let value = Bytes::copy_from_slice(&text.as_bytes()[..end]);
        Header { name: HEADER_USER_AGENT.to_owned(), value: Some(value) }
    });
    std::iter::once(received).chain(agent).collect()
}

impl From<SplitError> for Problem {
    fn from(error: SplitError) -> Self {
        let kind = match error {
            SplitError::Empty => &Kind::EMPTY_BODY,
            SplitError::Malformed(_) => &Kind::MALFORMED_BODY,
            SplitError::TooMany(_) => &Kind::TOO_MANY_CLICKS,
        };
        Problem::new(kind, error.to_string())
    }
}
