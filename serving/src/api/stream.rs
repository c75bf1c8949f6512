//! `GET /v1/stream?ad_id=&tenant=&campaign=&group_by=&granularity=&tz=`: the last periods, as server-sent events.
//!
//! An event holds the periods that have changed since the one before it, with their numbers as they are now. Numbers are
//! absolute, so whoever misses events has missed nothing once the next one of the same period has come; the first event
//! holds all periods. A client that comes back with the id of the last event it has seen (`Last-Event-ID`, which browsers
//! send by themselves) is spared the first one if nothing has changed since.

use std::collections::HashSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Extension;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use clicks::ledger::sha256;
use clicks::time::Interval;
use clicks::window::Grain;
use clicks::zone::Zone;
use futures::future::select;
use futures::{StreamExt, stream};
use tokio::sync::OwnedSemaphorePermit;

use super::clicks::{Period, Row, ask, periods_default};
use super::meta::Meta;
use super::reply::Reply;
use super::{App, openapi};
use crate::gate::Caller;
use crate::params::Params;
use crate::problem::Problem;
use crate::subject::Subject;

/// An event comes at least so often, so that a client sees how fresh its numbers are.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// A stream ends after so long, and its client opens it again where it was: one that nobody reads must not stay for ever.
const LIFE_MAX: Duration = Duration::from_secs(15 * 60);
/// Series of one stream: each is asked for and compared twice a second.
const SERIES_MAX: usize = 10;

/// One client's stream.
struct Stream {
    app: Arc<App>,
    /// Asked again each time, so that a key which is revoked ends a stream, too.
    caller: Caller,
    subject: Subject,
    grain: Grain,
    zone: Zone,
    /// What the client knows, in the order of the answer.
    known: Vec<Row>,
    /// What was said of it; `None` after a problem.
    told: Option<Meta>,
    problem: Option<String>,
    /// The key has come to its end: this was told, and nothing follows.
    is_over: bool,
    told_at: Instant,
    /// An answer that was given already, when the stream was opened.
    next: Option<Reply<Row>>,
    _open: (OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

/// The last periods as they change: server-sent events `clicks`, each an answer with the periods that have changed.
#[utoipa::path(
    get, operation_id = "getStream", path = "/v1/stream",
    params(
        ("ad_id" = Option<Vec<openapi::AdId>>, Query, style = Form, explode = false,
            description = "At most 10 ad ids, separated by commas; all ads together without it.", example = json!(["ad-1"])),
        ("tenant" = Option<Vec<openapi::AdId>>, Query, style = Form, explode = false,
            description = "Only ads of these tenants of the ads table; not together with `ad_id`.", example = json!(["acme"])),
        ("campaign" = Option<Vec<openapi::AdId>>, Query, style = Form, explode = false,
            description = "Only ads of these campaigns of the ads table; not together with `ad_id`.", example = json!(["spring"])),
        ("group_by" = Option<openapi::GroupBy>, Query, description = "One series for each, of at most 10.", example = "campaign"),
        ("granularity" = Option<openapi::Granularity>, Query, description = "By default minute.", example = "minute"),
        ("tz" = Option<String>, Query, description = "IANA time zone of periods; UTC by default.", example = "Europe/Berlin"),
    ),
    responses(
        (status = 200, description = "Events, for a quarter of an hour; browsers then open it again by themselves.", body = String, content_type = "text/event-stream"),
        openapi::Refused,
    )
)]
pub(super) async fn get(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let params = Params::read(&uri, &[&Subject::PARAMETERS[..], &["granularity", "tz"]].concat())?;
    let grain = params.grain("granularity")?.unwrap_or(Grain::Minute);
    let (subject, zone) = (Subject::read(&params, app.options.ads_max.min(SERIES_MAX))?, params.zone()?);
    let streams_max = app.options.streams_max;
    let open = app.streams.clone().try_acquire_owned().map_err(|_| Problem::streams(streams_max))?;
    let own = app.gate.stream(&caller)?;
    let (known, told_at, told, problem, next) = (Vec::new(), Instant::now(), None, None, None);
    let mut stream = Stream {
        app,
        caller,
        subject,
        grain,
        zone,
        known,
        told,
        problem,
        is_over: false,
        told_at,
        next,
        _open: (open, own),
    };
    // Before the stream begins, because an answer that has begun cannot be refused any more.
    let first = stream.ask().await?;
    if headers.get("last-event-id").is_some_and(|id| id.as_bytes() == id_of(&first.data).as_bytes()) {
        stream.known = first.data.clone();
    }
    stream.next = Some(first);
    let stop = stream.app.stop.clone();
    let events = stream::unfold(stream, |mut stream| async {
        if stream.is_over {
            return None;
        }
        Some((stream.event().await, stream))
    });
    let end = select(Box::pin(stop.cancelled_owned()), Box::pin(tokio::time::sleep(LIFE_MAX)));
    let events = events.map(Ok::<_, Infallible>).take_until(end);
    Ok(Sse::new(events).keep_alive(KeepAlive::new()).into_response())
}

impl Stream {
    /// The last periods, up to and with the one that is running.
    async fn ask(&self) -> Result<Reply<Row>, Problem> {
        let end = self.zone.window(self.grain, self.app.sources.clock.now()).end;
        let start = self.zone.back(self.grain, end, periods_default(self.grain));
        let period = Period { range: Interval::new(start, end), grain: self.grain, zone: self.zone };
        self.app.gate.check(&self.caller)?;
        let series = self.subject.series(&self.caller, &self.app.catalog, SERIES_MAX)?;
        ask(&self.app, &self.caller, &series, period, None).await
    }

    /// Waits for something to tell.
    async fn event(&mut self) -> Event {
        loop {
            let reply = match self.next.take() {
                Some(reply) => Ok(reply),
                None => {
                    tokio::time::sleep(self.app.options.stream_refresh).await;
                    self.ask().await
                }
            };
            match reply {
                Ok(reply) => {
                    if let Some(event) = self.changed(reply) {
                        return event;
                    }
                }
                Err(problem) => {
                    let text = json(problem.fields());
                    self.is_over = problem.is_of_key();
                    if self.problem.as_ref() != Some(&text) || self.told_at.elapsed() >= SILENCE_MAX {
                        (self.told, self.problem, self.told_at) = (None, Some(text.clone()), Instant::now());
                        return Event::default().event("problem").data(text);
                    }
                }
            }
        }
    }

    /// What the client does not know yet; `None` when that is nothing worth an event.
    fn changed(&mut self, Reply { meta, count, data, compared, read }: Reply<Row>) -> Option<Event> {
        let stands = |meta: &Meta| (meta.complete, meta.reasons.clone(), meta.ledger_position);
        let same = self.known == data && self.told.as_ref().map(stands) == Some(stands(&meta));
        if same && self.told_at.elapsed() < SILENCE_MAX {
            return None;
        }
        let known: HashSet<&Row> = self.known.iter().collect();
        let changed = data.iter().filter(|row| !known.contains(row)).cloned().collect();
        let reply = Reply { meta, count, data: changed, compared, read };
        let event = Event::default().event("clicks").id(id_of(&data)).data(json(&reply));
        (self.known, self.told, self.problem, self.told_at) = (data, Some(reply.meta), None, Instant::now());
        Some(event)
    }
}

/// Names the numbers that a client knows once it has seen an event.
fn id_of(rows: &[Row]) -> String {
    sha256(json(&rows).as_bytes())[..16].to_owned()
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("an answer is valid JSON")
}
