//! A click that is not taken: data with a code, a counter and a reason.

use clicks::wire::Rejection;
use serde::Serialize;

/// Why one click of a request is refused, as the answer shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Refusal {
    /// Stable name of the reason.
    pub(crate) code: &'static str,
    /// The field to mend, where the reason lies in one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) field: Option<&'static str>,
    pub(crate) detail: String,
}

impl Refusal {
    pub(crate) const WRONG_TYPE: &str = "wrong_type";
    pub(crate) const DUPLICATE_FIELD: &str = "duplicate_field";
    pub(crate) const TOO_DEEP: &str = "too_deep";
    pub(crate) const TOO_LARGE: &str = "too_large";

    /// Codes that only the collector gives, beside [`Rejection::CODES`].
    pub(crate) const CODES: [&str; 4] = [Self::WRONG_TYPE, Self::DUPLICATE_FIELD, Self::TOO_DEEP, Self::TOO_LARGE];

    pub(crate) fn in_field(code: &'static str, field: &'static str, detail: String) -> Self {
        Refusal { code, field: Some(field), detail }
    }

    pub(crate) fn whole(code: &'static str, detail: String) -> Self {
        Refusal { code, field: None, detail }
    }

    /// The text is not even a JSON object: there is no click whose fields could be mended.
    pub(crate) fn is_malformed(&self) -> bool {
        matches!(self.code, "not_json" | "not_utf8")
    }
}

impl From<Rejection> for Refusal {
    fn from(rejection: Rejection) -> Self {
        Refusal { code: rejection.code(), field: rejection.field(), detail: rejection.to_string() }
    }
}
