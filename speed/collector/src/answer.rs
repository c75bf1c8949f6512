//! What clients are told: results for what was taken, `application/problem+json` (RFC 9457) for what was not.
//!
//! ```text
//! 202 one click  {"click_id":"…"}
//! 202 several    {"accepted":1,"rejected":1,"results":[{"index":0,"click_id":"…"},
//!                 {"index":1,"error":{"code":"bad_ad_id","field":"ad_id","detail":"…"}}]}
//! 4xx            {"type":"urn:twofold:problem:click_refused","title":"…","status":422,"detail":"…",
//!                 "errors":[{"index":0,"code":"bad_ad_id","field":"ad_id","detail":"…"}]}
//! 503            … "results":[{"index":0,"click_id":"…","acknowledged":false}]
//! ```
//!
//! An index is the position among the request's clicks, from 0; blank lines of NDJSON do not count.

use axum::body::Body;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use clicks::id::ClickId;
use serde::{Serialize, Serializer};

use crate::refusal::Refusal;
use crate::split::Form;

/// What became of one click of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Fate {
    /// The log acknowledged it.
    Accepted(ClickId),
    /// It may be on the log, or not.
    Unknown(ClickId),
    /// It is not on the log, and will not be however often it is sent.
    Refused(Refusal),
}

/// A kind of problem: the code is its stable name, the last part of its `type`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) code: &'static str,
    pub(crate) status: StatusCode,
    title: &'static str,
}

impl Kind {
    const fn new(code: &'static str, status: StatusCode, title: &'static str) -> Self {
        Kind { code, status, title }
    }

    pub(crate) const EMPTY_BODY: Kind = Kind::new("empty_body", StatusCode::BAD_REQUEST, "The body holds no click");
    pub(crate) const MALFORMED_BODY: Kind =
        Kind::new("malformed_body", StatusCode::BAD_REQUEST, "The body is not JSON that could hold a click");
    pub(crate) const INCOMPLETE_BODY: Kind =
        Kind::new("incomplete_body", StatusCode::BAD_REQUEST, "The body ended before its end");
    pub(crate) const SLOW_BODY: Kind =
        Kind::new("slow_body", StatusCode::REQUEST_TIMEOUT, "The body did not arrive in time");
    pub(crate) const BODY_TOO_LARGE: Kind =
        Kind::new("body_too_large", StatusCode::PAYLOAD_TOO_LARGE, "The body is too large");
    pub(crate) const TOO_MANY_CLICKS: Kind =
        Kind::new("too_many_clicks", StatusCode::PAYLOAD_TOO_LARGE, "The body holds too many clicks");
    pub(crate) const UNSUPPORTED_MEDIA_TYPE: Kind = Kind::new(
        "unsupported_media_type",
        StatusCode::UNSUPPORTED_MEDIA_TYPE,
        "The body is of a type that is not read",
    );

    /// The kinds that refuse a whole body, in which clicks cannot even be told apart.
    pub(crate) const OF_BODIES: [Kind; 7] = [
        Kind::EMPTY_BODY,
        Kind::MALFORMED_BODY,
        Kind::INCOMPLETE_BODY,
        Kind::SLOW_BODY,
        Kind::BODY_TOO_LARGE,
        Kind::TOO_MANY_CLICKS,
        Kind::UNSUPPORTED_MEDIA_TYPE,
    ];

    const CLICK_TOO_LARGE: Kind = Kind::new("click_too_large", StatusCode::PAYLOAD_TOO_LARGE, "The click is too large");
    const CLICK_REFUSED: Kind = Kind::new("click_refused", StatusCode::UNPROCESSABLE_ENTITY, "The click is refused");
    const NO_CLICK_ACCEPTED: Kind =
        Kind::new("no_click_accepted", StatusCode::UNPROCESSABLE_ENTITY, "Every click of the request is refused");
    pub(crate) const NOT_ACKNOWLEDGED: Kind = Kind::new(
        "not_acknowledged",
        StatusCode::SERVICE_UNAVAILABLE,
        "The log did not acknowledge every click in time",
    );
    pub(crate) const OVERLOADED: Kind =
        Kind::new("overloaded", StatusCode::SERVICE_UNAVAILABLE, "Too much is waiting for the log");
    pub(crate) const STOPPING: Kind =
        Kind::new("stopping", StatusCode::SERVICE_UNAVAILABLE, "The collector is stopping");
    pub(crate) const NOT_FOUND: Kind = Kind::new("not_found", StatusCode::NOT_FOUND, "There is nothing here");
    pub(crate) const METHOD_NOT_ALLOWED: Kind =
        Kind::new("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED, "The method is not supported here");
}

/// Seconds after which a 503 asks the client to come again.
const RETRY_AFTER_SECONDS: HeaderValue = HeaderValue::from_static("2");

/// Said in every 503 that follows the reading of the clicks.
const SEND_AGAIN: &str = "send the clicks that are not acknowledged again, with the click ids of this answer: one that was \
                          written already is recognised and not counted twice";

/// A request, or some clicks of it, that did not go the good way.
#[derive(Debug)]
pub(crate) struct Problem {
    kind: &'static Kind,
    detail: String,
    fates: Vec<Fate>,
    close: bool,
}

impl Problem {
    pub(crate) fn new(kind: &'static Kind, detail: impl Into<String>) -> Self {
        Problem { kind, detail: detail.into(), fates: Vec::new(), close: false }
    }

    /// The connection is of no further use: what follows on it is the rest of a body that nobody reads.
    pub(crate) fn closing(self) -> Self {
        Problem { close: true, ..self }
    }

    pub(crate) fn kind(&self) -> &'static Kind {
        self.kind
    }

    /// The clicks were read, but there is no room for them.
    pub(crate) fn not_admitted(detail: &str, fates: Vec<Fate>) -> Self {
        Problem { fates, ..Problem::new(&Kind::OVERLOADED, format!("{detail}; {SEND_AGAIN}")) }
    }

    fn not_acknowledged(fates: Vec<Fate>) -> Self {
        let unknown = fates.iter().filter(|fate| matches!(fate, Fate::Unknown(_))).count();
        let detail = format!("{unknown} of {} clicks were not acknowledged; {SEND_AGAIN}", fates.len());
        Problem { fates, ..Problem::new(&Kind::NOT_ACKNOWLEDGED, detail) }
    }

    fn all_refused(form: Form, fates: Vec<Fate>) -> Self {
        let (kind, detail) = match (form, fates.first()) {
            (Form::Single, Some(Fate::Refused(refusal))) => {
                let kind = match refusal {
                    _ if refusal.is_malformed() => &Kind::MALFORMED_BODY,
                    _ if refusal.code == Refusal::TOO_LARGE => &Kind::CLICK_TOO_LARGE,
                    _ => &Kind::CLICK_REFUSED,
                };
                (kind, refusal.detail.clone())
            }
            _ => {
                let detail = format!("none of the {} clicks was accepted; `errors` tells why for each", fates.len());
                (&Kind::NO_CLICK_ACCEPTED, detail)
            }
        };
        Problem { fates, ..Problem::new(kind, detail) }
    }
}

/// Answers a request whose clicks were all looked at.
pub(crate) fn answer(form: Form, fates: Vec<Fate>) -> Response {
    if fates.iter().any(|fate| matches!(fate, Fate::Unknown(_))) {
        return Problem::not_acknowledged(fates).into_response();
    }
    match (form, fates.as_slice()) {
        (Form::Single, [Fate::Accepted(click_id)]) => json(StatusCode::ACCEPTED, &Single { click_id: Text(*click_id) }),
        (_, all) if !all.iter().any(|fate| matches!(fate, Fate::Accepted(_))) => {
            Problem::all_refused(form, fates).into_response()
        }
        (_, all) => {
            let accepted = all.iter().filter(|fate| matches!(fate, Fate::Accepted(_))).count();
            let results = entries(all, Acknowledgement::Implied);
            json(StatusCode::ACCEPTED, &Batch { accepted, rejected: all.len() - accepted, results })
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let unavailable = self.kind.status == StatusCode::SERVICE_UNAVAILABLE;
        let document = Document {
            r#type: format!("urn:twofold:problem:{}", self.kind.code),
            title: self.kind.title,
            status: self.kind.status.as_u16(),
            detail: &self.detail,
            errors: if unavailable { Vec::new() } else { errors(&self.fates) },
            results: if unavailable { entries(&self.fates, Acknowledgement::Shown) } else { Vec::new() },
        };
        let mut response = json(self.kind.status, &document);
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if unavailable {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER_SECONDS);
        }
        if self.close {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

fn json(status: StatusCode, document: &impl Serialize) -> Response {
    let text = serde_json::to_vec(document).expect("answers are plain data, which always serialises");
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

#[derive(Serialize)]
struct Single {
    click_id: Text,
}

#[derive(Serialize)]
struct Batch<'a> {
    accepted: usize,
    rejected: usize,
    results: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    errors: Vec<ErrorEntry<'a>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    results: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct ErrorEntry<'a> {
    index: usize,
    #[serde(flatten)]
    refusal: &'a Refusal,
}

#[derive(Serialize)]
struct Entry<'a> {
    index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    click_id: Option<Text>,
    #[serde(skip_serializing_if = "Option::is_none")]
    acknowledged: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Refusal>,
}

/// Whether a result says that the click was acknowledged: in a 202 every click that is named was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Acknowledgement {
    Implied,
    Shown,
}

fn entries(fates: &[Fate], acknowledgement: Acknowledgement) -> Vec<Entry<'_>> {
    let shown = |value: bool| (acknowledgement == Acknowledgement::Shown).then_some(value);
    let entry = |(index, fate)| match fate {
        &Fate::Accepted(id) => Entry { index, click_id: Some(Text(id)), acknowledged: shown(true), error: None },
        &Fate::Unknown(id) => Entry { index, click_id: Some(Text(id)), acknowledged: shown(false), error: None },
        Fate::Refused(refusal) => Entry { index, click_id: None, acknowledged: None, error: Some(refusal) },
    };
    fates.iter().enumerate().map(entry).collect()
}

fn errors(fates: &[Fate]) -> Vec<ErrorEntry<'_>> {
    let refused = fates.iter().enumerate().filter_map(|(index, fate)| match fate {
        Fate::Refused(refusal) => Some(ErrorEntry { index, refusal }),
        Fate::Accepted(_) | Fate::Unknown(_) => None,
    });
    refused.collect()
}

/// A click id in its one spelling.
struct Text(ClickId);

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}
