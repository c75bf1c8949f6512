//! What every answer says about itself.

use std::fmt;

use clicks::books::PeriodState;
use clicks::time::{Day, Timestamp};
use clicks::view::{Reason, Segment, Source, Standing};
use clicks::window::Grain;
use clicks::zone::Zone;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::openapi;
use crate::gate::Sees;
use crate::position::Position;

/// A time as the clocks of the answer's zone show it: `2026-03-01T13:00:00.000+01:00`, or with `Z` in UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Stamp(pub Timestamp, pub Zone);

impl Stamp {
    pub(super) const fn utc(time: Timestamp) -> Self {
        Stamp(time, Zone::UTC)
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.1.rfc3339(self.0))
    }
}

impl Serialize for Stamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.1.rfc3339(self.0))
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub(super) struct Meta {
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = openapi::grain)]
    pub granularity: Option<Grain>,
    /// The zone of every time and day in the answer, by its name in the IANA list.
    pub time_zone: &'static str,
    #[schema(schema_with = openapi::time)]
    pub from: Stamp,
    /// Exclusive.
    #[schema(schema_with = openapi::time)]
    pub to: Stamp,
    /// Set when the question reached into the future; `to` is this, then.
    #[schema(schema_with = openapi::time_or_null)]
    pub clipped_at: Option<Stamp>,
    /// Everything that was appended to the log before it is in the answer.
    #[schema(schema_with = openapi::time_or_null)]
    pub as_of: Option<Stamp>,
    /// Age of `as_of`; only with live periods.
    pub freshness_ms: Option<i64>,
    /// Nothing is missing in any number of the answer; otherwise `reasons` tell what is.
    pub complete: bool,
    pub reasons: Vec<ReasonText>,
    /// The last closed day, of UTC.
    #[schema(schema_with = openapi::day_or_null)]
    pub closed_through: Option<Day>,
    pub ledger_position: u64,
    /// The answer is what was published at this position, and will never be another one.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub pinned: bool,
    /// The version of the ads table that says whose the ads are; absent where that does not matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ads_version: Option<u64>,
    pub segments: Vec<SegmentText>,
}

#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Reason)]
pub(super) struct ReasonText {
    pub code: &'static str,
    pub message: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partition: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(schema_with = openapi::day)]
    pub day: Option<Day>,
}

/// A run of time that one layer answers for, in one state, and what all series together have in it: the split by state.
/// Numbers that are not known are null, in a ranking all of them; those that are not complete are at least so many.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = Segment)]
pub(super) struct SegmentText {
    #[schema(schema_with = openapi::time)]
    pub from: Stamp,
    #[schema(schema_with = openapi::time)]
    pub to: Stamp,
    #[schema(schema_with = openapi::source)]
    pub source: Source,
    #[schema(schema_with = openapi::state)]
    pub state: PeriodState,
    pub revision: Option<u32>,
    pub clicks: Option<u64>,
    pub adjustment: Option<u64>,
    pub total: Option<u64>,
    pub late_pending: Option<u64>,
    pub complete: Option<bool>,
}

impl Meta {
    pub(super) fn new(
        standing: &Standing,
        position: &Position,
        granularity: Option<Grain>,
        zone: Zone,
        sees: Sees,
    ) -> Self {
        let stamp = |time: Timestamp| Stamp(time, zone);
        Meta {
            granularity,
            time_zone: zone.name(),
            from: stamp(standing.range.start),
            to: stamp(standing.range.end),
            clipped_at: standing.clipped_at.map(stamp),
            as_of: standing.as_of.map(stamp),
            freshness_ms: standing.freshness.map(|span| span.as_millis()),
            complete: standing.complete,
            reasons: standing.reasons.iter().map(|reason| ReasonText::new(reason, sees)).collect(),
            closed_through: standing.closed_through,
            ledger_position: position.books.head(),
            pinned: false,
            ads_version: None,
            segments: standing.segments.iter().map(|segment| SegmentText::new(segment, zone)).collect(),
        }
    }

    pub(super) fn pinned(self, pinned: bool) -> Self {
        Meta { pinned, ..self }
    }

    /// Whose the ads are may be changed, so an answer that depends on it is not pinned.
    pub(super) fn by_ads(self, ads_version: Option<u64>) -> Self {
        Meta { ads_version, pinned: self.pinned && ads_version.is_none(), ..self }
    }

    /// No number of the answer moves with the next click.
    pub(super) fn is_settled(&self) -> bool {
        self.complete && self.segments.iter().all(|segment| segment.source != Source::Speed)
    }

    /// What is said here and does not stand in the rows.
    pub(super) fn as_headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let reasons: Vec<&str> = self.reasons.iter().map(|reason| reason.code).collect();
        let texts = [
            ("twofold-time-zone", self.time_zone.to_owned()),
            ("twofold-as-of", self.as_of.map(|time| time.to_string()).unwrap_or_default()),
            ("twofold-complete", self.complete.to_string()),
            ("twofold-reasons", reasons.join(", ")),
            ("twofold-ledger-position", self.ledger_position.to_string()),
            ("twofold-ads-version", self.ads_version.map(|version| version.to_string()).unwrap_or_default()),
        ];
        texts.into_iter()
    }
}

impl ReasonText {
    fn new(reason: &Reason, sees: Sees) -> Self {
        ReasonText {
            code: reason.code(),
            message: match sees {
                Sees::All => reason.to_string(),
                Sees::Tenant => reason.in_short(),
            },
            partition: reason.partition().map(ToString::to_string),
            day: reason.day(),
        }
    }
}

impl SegmentText {
    fn new(segment: &Segment, zone: Zone) -> Self {
        SegmentText {
            from: Stamp(segment.start, zone),
            to: Stamp(segment.end, zone),
            source: segment.source,
            state: segment.state,
            revision: segment.revision,
            clicks: segment.split.and_then(|split| split.clicks),
            adjustment: segment.split.and_then(|split| split.adjustment),
            total: segment.split.and_then(|split| split.total),
            late_pending: segment.split.and_then(|split| split.late_pending),
            complete: segment.split.map(|split| split.complete),
        }
    }
}
