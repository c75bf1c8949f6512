//! What every answer says about itself.

use clicks::books::PeriodState;
use clicks::time::{Day, Timestamp};
use clicks::view::{Reason, Segment, Source, Standing};
use clicks::window::Grain;
use serde::{Serialize, Serializer};

use crate::position::Position;

/// `2026-03-01T12:00:00.000Z`.
pub(super) fn rfc3339<S: Serializer>(time: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&time.to_rfc3339())
}

pub(super) fn rfc3339_or_null<S: Serializer>(time: &Option<Timestamp>, serializer: S) -> Result<S::Ok, S::Error> {
    time.map(Timestamp::to_rfc3339).serialize(serializer)
}

#[derive(Debug, Serialize)]
pub(super) struct Meta {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub granularity: Option<Grain>,
    /// The zone of every time and day in the answer.
    pub time_zone: &'static str,
    #[serde(serialize_with = "rfc3339")]
    pub from: Timestamp,
    /// Exclusive.
    #[serde(serialize_with = "rfc3339")]
    pub to: Timestamp,
    /// Set when the question reached into the future; `to` is this, then.
    #[serde(serialize_with = "rfc3339_or_null")]
    pub clipped_at: Option<Timestamp>,
    /// Everything that was appended to the log before it is in the answer.
    #[serde(serialize_with = "rfc3339_or_null")]
    pub as_of: Option<Timestamp>,
    pub freshness_ms: Option<i64>,
    pub complete: bool,
    pub reasons: Vec<ReasonText>,
    /// The last closed day.
    pub closed_through: Option<Day>,
    pub ledger_position: u64,
    pub segments: Vec<SegmentText>,
}

#[derive(Debug, Serialize)]
pub(super) struct ReasonText {
    pub code: &'static str,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub day: Option<Day>,
}

#[derive(Debug, Serialize)]
pub(super) struct SegmentText {
    #[serde(serialize_with = "rfc3339")]
    pub from: Timestamp,
    #[serde(serialize_with = "rfc3339")]
    pub to: Timestamp,
    pub source: Source,
    pub state: PeriodState,
    pub revision: Option<u32>,
}

impl Meta {
    pub(super) fn new(standing: &Standing, position: &Position, granularity: Option<Grain>) -> Self {
        Meta {
            granularity,
            time_zone: "UTC",
            from: standing.range.start,
            to: standing.range.end,
            clipped_at: standing.clipped_at,
            as_of: standing.as_of,
            freshness_ms: standing.freshness.map(|span| span.as_millis()),
            complete: standing.complete,
            reasons: standing.reasons.iter().map(ReasonText::from).collect(),
            closed_through: standing.closed_through,
            ledger_position: position.books.head(),
            segments: standing.segments.iter().map(SegmentText::from).collect(),
        }
    }
}

impl From<&Reason> for ReasonText {
    fn from(reason: &Reason) -> Self {
        ReasonText {
            code: reason.code(),
            message: reason.to_string(),
            partition: reason.partition().map(ToString::to_string),
            day: reason.day(),
        }
    }
}

impl From<&Segment> for SegmentText {
    fn from(segment: &Segment) -> Self {
        SegmentText {
            from: segment.start,
            to: segment.end,
            source: segment.source,
            state: segment.state,
            revision: segment.revision,
        }
    }
}
