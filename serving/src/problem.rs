//! Refusals, as `application/problem+json` (RFC 9457): what is wrong, with which parameter, and how to mend it.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use clicks::view::QuestionError;
use serde::Serialize;

use crate::sources::AskError;

/// One refusal.
#[derive(Debug)]
pub(crate) struct Problem(Box<Fields>);

#[derive(Debug, Serialize)]
struct Fields {
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
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, title: &'static str, reason: String, mend: String) -> Self {
        let kind = format!("urn:twofold:problem:{code}");
        let detail = format!("{reason}; {mend}");
        let status = status.as_u16();
        Problem(Box::new(Fields { kind, title, status, detail, parameter: None, reason, mend, code }))
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
        let mend = "see / for the page and /v1/clicks, /v1/ads, /v1/days, /v1/status for the numbers".to_owned();
        let reason = format!("there is nothing at `{}`", shown(path));
        Self::new(StatusCode::NOT_FOUND, "not-found", "nothing is there", reason, mend)
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
            AskError::Question(error @ QuestionError::NotAligned { time, grain }) => {
                let window = grain.window(time);
                let mend = format!("use {} or {}, or a finer granularity", window.start, window.end);
                Problem::parameter("from", error.to_string(), mend)
            }
            AskError::Question(error @ QuestionError::Future { .. }) => {
                Problem::parameter("from", error.to_string(), "ask again when that time has come")
            }
            AskError::NotReady(reason) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "not-ready",
                "there is no answer yet",
                reason,
                "try again in a moment; if this goes on, see that the storage can be reached".to_owned(),
            ),
            AskError::Busy(_) => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "busy",
                "too many wide questions at a time",
                error.to_string(),
                "try again in a moment, or ask for a shorter range or for single ads".to_owned(),
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

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        metrics::counter!("twofold_serving_refused_total", "reason" => self.0.code).increment(1);
        let status = StatusCode::from_u16(self.0.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(&self.0)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
