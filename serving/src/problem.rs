//! Refusals, as `application/problem+json` (RFC 9457): what is wrong, with which parameter, and how to mend it.

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use clicks::view::QuestionError;
use platform::ledger::LedgerError;
use serde::Serialize;
use utoipa::ToSchema;

use crate::sources::AskError;

/// How it goes on where the storage does not answer.
const STORAGE: &str = "try again in a moment; if this goes on, see that the storage can be reached";

/// One refusal.
#[derive(Debug)]
pub(crate) struct Problem(Box<Fields>);

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Problem)]
pub(crate) struct Fields {
    /// Stable, for programs: `urn:twofold:problem:<code>`.
    #[serde(rename = "type")]
    kind: String,
    title: &'static str,
    status: u16,
    /// Parameter, reason and mend in one text.
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    parameter: Option<String>,
    reason: String,
    mend: String,
    #[serde(skip)]
    code: &'static str,
    /// Seconds.
    #[serde(skip)]
    retry_after: Option<u64>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, reason: String, mend: String) -> Self {
        let kind = format!("urn:twofold:problem:{code}");
        let detail = format!("{reason}; {mend}");
        let retry_after = (status == StatusCode::SERVICE_UNAVAILABLE).then_some(1);
        let status = status.as_u16();
        Problem(Box::new(Fields { kind, title, status, detail, parameter: None, reason, mend, code, retry_after }))
    }

    /// A query parameter that cannot be used.
    pub(crate) fn parameter(name: &str, reason: impl Into<String>, mend: impl Into<String>) -> Self {
        let (name, reason, mend): (String, String, String) = (shown(name), reason.into(), mend.into());
        let Problem(mut fields) =
            Self::new(StatusCode::BAD_REQUEST, "parameter", "a parameter cannot be used", reason, mend);
        fields.detail = format!("parameter `{name}`: {}", fields.detail);
        fields.parameter = Some(name);
        Problem(fields)
    }

    /// The query as a whole is no list of parameters.
    pub(crate) fn query(reason: String) -> Self {
        let mend = "write it as name=value&name=value, percent-encoded UTF-8".to_owned();
        Self::new(StatusCode::BAD_REQUEST, "query", "the query cannot be read", reason, mend)
    }

    pub(crate) fn not_found(path: &str) -> Self {
        let mend = "see / for the page and /v1/openapi.json for the numbers".to_owned();
        let reason = format!("there is nothing at `{}`", shown(path));
        Self::new(StatusCode::NOT_FOUND, "not-found", "nothing is there", reason, mend)
    }

    /// A word that is none of those that a parameter may have.
    pub(crate) fn unknown_word(name: &str, word: &str, mend: &str) -> Self {
        Self::parameter(name, format!("`{}` is unknown", shown(word)), mend)
    }

    /// There is nothing of this name that the caller may see.
    pub(crate) fn unknown_name(parameter: &str, what: &str, name: &str) -> Self {
        let mend = "see /v1/campaigns for what there is".to_owned();
        let reason = format!("the ads table has no {what} `{}`", shown(name));
        let Problem(mut fields) =
            Self::new(StatusCode::NOT_FOUND, "unknown-name", "there is none of this name", reason, mend);
        fields.detail = format!("parameter `{parameter}`: {}", fields.detail);
        fields.parameter = Some(parameter.to_owned());
        Problem(fields)
    }

    pub(crate) fn no_key(reason: &str) -> Self {
        let mend = "send `Authorization: Bearer <key>` with a key that `twofold key create` has made".to_owned();
        Self::new(StatusCode::UNAUTHORIZED, "key", "a key is needed", reason.to_owned(), mend)
    }

    pub(crate) fn forbidden(reason: String, mend: String) -> Self {
        Self::new(StatusCode::FORBIDDEN, "forbidden", "the key does not reach so far", reason, mend)
    }

    pub(crate) fn too_many(per_second: u32, wait: Duration) -> Self {
        let seconds = wait.as_secs() + 1;
        let reason = format!("the key has asked more than {per_second} times a second");
        let (code, title) = ("rate", "too many requests");
        let mend = format!("wait {seconds} s; the header `RateLimit` of each answer tells how many are left");
        let Problem(mut fields) = Self::new(StatusCode::TOO_MANY_REQUESTS, code, title, reason, mend);
        fields.retry_after = Some(seconds);
        Problem(fields)
    }

    /// Who asks cannot be told.
    pub(crate) fn no_keys() -> Self {
        let reason = "the keys cannot be read at the moment".to_owned();
        let mend = "try again in a moment; if this goes on, the server's log says why".to_owned();
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "keys", "keys cannot be checked", reason, mend)
    }

    /// Which ads are meant cannot be told.
    pub(crate) fn no_table(reason: String) -> Self {
        let mend = STORAGE.to_owned();
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ads", "the ads table cannot be read", reason, mend)
    }

    /// None of the forms that the client takes is one of ours.
    pub(crate) fn not_acceptable(accept: &str) -> Self {
        let reason = format!("`Accept: {}` names no form that there is", shown(accept));
        let mend = "accept application/json, text/csv or application/vnd.apache.arrow.stream, or say format=json, csv or arrow";
        Self::new(StatusCode::NOT_ACCEPTABLE, "not-acceptable", "the form is not known", reason, mend.to_owned())
    }

    pub(crate) fn streams(streams_max: usize) -> Self {
        let reason = format!("{streams_max} streams are open, which is the most");
        let mend = "try again later, or ask /v1/clicks from time to time".to_owned();
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "streams", "too many streams are open", reason, mend)
    }

    pub(crate) fn method() -> Self {
        let reason = "this service only reads".to_owned();
        Self::new(StatusCode::METHOD_NOT_ALLOWED, "method", "the method is not allowed", reason, "use GET".to_owned())
    }
}

/// What the client sent is shown back, but not without bound.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        match error {
            AskError::Question(QuestionError::Empty(range)) => Problem::parameter(
                "to",
                format!("the range from {} to {} is empty, because `to` is exclusive", range.start, range.end),
                "give a `to` that is later than `from`",
            ),
            AskError::Question(error @ QuestionError::NotAligned { time, grain, zone }) => {
                let window = zone.window(grain, time);
                let [before, after] = [window.start, window.end].map(|time| zone.rfc3339(time));
                let mend = format!("use {before} or {after}, or a finer granularity");
                Problem::parameter("from", error.to_string(), mend)
            }
            AskError::Question(error @ QuestionError::Future { .. }) => {
                Problem::parameter("from", error.to_string(), "ask again when that time has come")
            }
            AskError::NotPublished { day, .. } => {
                let mend = format!("ask for days before {day}, or leave it out for what is known now");
                Problem::parameter("position", error.to_string(), mend)
            }
            AskError::Ledger(LedgerError::NoEntry { number, head, .. }) => {
                let reason = format!("the ledger has no position {number} yet, its last one is {head}");
                Problem::parameter("position", reason, format!("use one from 0 to {head}"))
            }
            AskError::Minutes { .. } => Problem::parameter(
                "tz",
                error.to_string(),
                "ask for a shorter range, or in a zone whose days begin with an hour of UTC",
            ),
            AskError::NotReady(reason) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "not-ready",
                "there is no answer yet",
                reason,
                STORAGE.to_owned(),
            ),
            AskError::Busy(_) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "too many wide questions at a time",
                error.to_string(),
                "try again in a moment, or ask for a shorter range or for single ads".to_owned(),
            ),
            AskError::Ledger(error @ (LedgerError::Object(_) | LedgerError::Missing(_))) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "storage",
                "the storage is away",
                error.to_string(),
                STORAGE.to_owned(),
            ),
            AskError::Ledger(error) => Problem::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "ledger",
                "the ledger contradicts itself",
                error.to_string(),
                "nothing is answered on top of it: restore the ledger, or update the release".to_owned(),
            ),
        }
    }
}

impl Problem {
    /// The key opens nothing, or nothing any more.
    pub(crate) fn is_of_key(&self) -> bool {
        self.0.status == StatusCode::UNAUTHORIZED.as_u16()
    }

    /// The same as an event of a stream.
    pub(crate) fn fields(&self) -> &Fields {
        &self.0
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        metrics::counter!("twofold_serving_refused_total", "reason" => self.0.code).increment(1);
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(seconds) = self.0.retry_after {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"twofold\""));
        }
        response
    }
}
