//! The view: one merged answer out of two layers.
//!
//! Each period has exactly one owner, decided by the books and by nothing else, so nothing is ever added across layers:
//!
//! | period lies in | owner | number |
//! |---|---|---|
//! | a day before the first day | nobody | zero, and final; once a night has found a click of it: batch, `adjustment` |
//! | a closed day | batch | `clicks` of the revision, `adjustment` of the nights since, `total` = both |
//! | a day that its night has withheld | batch | unknown, until it is published |
//! | a day that is not closed | speed | the sum over all partitions of every topic life |
//!
//! Days are closed as a whole, and periods of UTC lie within one. In another time zone an hour or a day can lie in two: it is
//! answered in **pieces**, cut at midnight UTC, so every piece has one owner, and its number is their sum. Such a period has
//! the state of the piece that is least settled, and its source is `mixed` when the pieces have different ones. Late clicks
//! that the owner does not hold yet stand beside the number as `late_pending`.
//!
//! *Live is not the same as incomplete.* A live period may still grow, by clicks that are on their way; its state says
//! so. It is **incomplete** when something is missing that should be there by now: a partition that did not answer, has
//! no generation, is being rebuilt, began to count later, has fallen behind, or may have counted duplicates. Its number
//! is then what the others hold, at least, and `None` when nobody holds anything. Behind is who has not counted
//! everything that may belong to it: on-time clicks of a period are appended until its end plus the allowed lateness, late
//! ones until they are too old, and only what has arrived within the lag that is allowed may still be on its way. What was never handed to the
//! [`Merge`] is missing too, so that a forgotten source cannot pass for an empty one. The same for the answer as a whole:
//! it is complete when no [`Reason`] stands against it.
//!
//! *An ended topic life* is not counted any more, so what is lost of its live counts stays lost. It is asked only as long as
//! one of its days is open: the first night whose cut its successor has records below shows that it was over by then, and
//! that the cut is its end. Until that night nobody knows whether its live counts go on to the end.
//!
//! Periods that begin after `now` are left out and [`Standing::clipped_at`] says so; the period that `now` lies in is
//! answered as far as it has come.

mod columns;
mod known;
mod merge;
mod owner;
mod partitions;
mod pieces;
mod ranking;
mod reason;
mod standing;
mod sums;

#[cfg(test)]
mod tests;

pub use columns::Columns;
pub use merge::{Cell, Held, Live, Merge};
pub use reason::{Missing, Reason};

use serde::Serialize;

use crate::ads::Groups;
use crate::books::PeriodState;
use crate::id::AdId;
use crate::time::{Day, Interval, Span, Timestamp};
use crate::window::Grain;
use crate::zone::Zone;

/// Which numbers are asked for.
#[derive(Debug, Clone)]
pub enum Asked {
    /// The sum of all ads.
    Total,
    /// These ads, one series each. An ad that nobody clicked has zeros.
    Ads(Vec<AdId>),
    /// The sum of each group of ads, one series each.
    Groups(Groups),
    /// Every ad that has clicks, summed over the whole range: see [`Merge::ranking`].
    EachAd,
    /// The same of these ads alone.
    EachOf(Vec<AdId>),
}

impl Asked {
    /// Each ad has one number, of the whole range.
    pub(crate) const fn is_ranked(&self) -> bool {
        matches!(self, Asked::EachAd | Asked::EachOf(_))
    }
}

/// A question: periods of `grain` in `range`, which begins and ends with a period, by the clocks of `zone`.
#[derive(Debug, Clone)]
pub struct Question {
    pub asked: Asked,
    pub range: Interval,
    pub grain: Grain,
    pub zone: Zone,
}

/// A question that has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum QuestionError {
    #[error("the range from {} to {} is empty", .0.start, .0.end)]
    Empty(Interval),
    #[error(
        "{} does not begin a {grain} in {zone}; the {grain} that holds it begins at {}",
        zone.rfc3339(*time), zone.rfc3339(zone.window(*grain, *time).start)
    )]
    NotAligned { time: Timestamp, grain: Grain, zone: Zone },
    #[error("the range begins at {start}, which is later than now, {now}")]
    Future { start: Timestamp, now: Timestamp },
}

/// The layer that owns a period.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    Batch,
    Speed,
    /// Before the first day: nothing was counted.
    None,
    /// Both layers, each for its part of a period that lies in two days of UTC.
    Mixed,
}

impl Source {
    pub const fn name(self) -> &'static str {
        match self {
            Source::Batch => "batch",
            Source::Speed => "speed",
            Source::None => "none",
            Source::Mixed => "mixed",
        }
    }
}

/// The answer for one period of one series. `None` is *unknown*, never zero. Of a period in pieces a number is known when
/// that of one piece is; it is then at least so many.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeriodAnswer {
    pub start: Timestamp,
    /// Exclusive.
    pub end: Timestamp,
    pub clicks: Option<u64>,
    /// Clicks that were found after the day had become final; they are billed too.
    pub adjustment: Option<u64>,
    /// `clicks + adjustment`.
    pub total: Option<u64>,
    /// Late clicks that `total` does not hold yet; the next night takes them in.
    pub late_pending: Option<u64>,
    /// Closed periods only: what the live view says of it, where all of that is still stored.
    pub last_live: Option<u64>,
    /// Closed periods only: those of `clicks` that came late, so that the live view did not show them.
    pub late: Option<u64>,
    pub source: Source,
    pub state: PeriodState,
    /// `None` also where two pieces have different ones.
    pub revision: Option<u32>,
    /// Everything that belongs into `total` by now is in it.
    pub complete: bool,
}

/// A maximal run of time with the same owner, state and revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    pub start: Timestamp,
    /// Exclusive.
    pub end: Timestamp,
    pub source: Source,
    pub state: PeriodState,
    pub revision: Option<u32>,
    /// The numbers of all series together, which splits an answer by state; `None` in a ranking.
    pub split: Option<Split>,
}

/// What several periods or pieces have together. Numbers are `None` when nobody knows any of them, and at least so many
/// when it is not complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Split {
    pub clicks: Option<u64>,
    pub adjustment: Option<u64>,
    pub total: Option<u64>,
    /// `None` when that of any is unknown.
    pub late_pending: Option<u64>,
    pub complete: bool,
}

/// How an answer as a whole is to be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// What is answered.
    pub range: Interval,
    /// Set when the question reached further into the future than this; nothing is said about what follows.
    pub clipped_at: Option<Timestamp>,
    /// Nothing is missing in any number of the answer: there is no reason against it.
    pub complete: bool,
    pub reasons: Vec<Reason>,
    /// Everything appended before it is in the answer. With live periods it is the least that a partition has reached,
    /// without them the cut of the last night; `None` when that is not known.
    pub as_of: Option<Timestamp>,
    /// Age of `as_of`; only with live periods.
    pub freshness: Option<Span>,
    /// The last closed day.
    pub closed_through: Option<Day>,
    pub segments: Vec<Segment>,
}

impl Standing {
    /// Something that the merge cannot know is missing, too.
    pub fn object(&mut self, reason: Reason) {
        self.reasons.push(reason);
        self.complete = false;
    }
}

/// Periods of one ad, of a group, or of all together. Groups come in their own order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Series {
    /// `None`: the sum of several ads.
    pub ad: Option<AdId>,
    /// In order, without a gap.
    pub periods: Vec<PeriodAnswer>,
}

/// The merged answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub standing: Standing,
    pub series: Vec<Series>,
}

/// Clicks over a whole range, of one ad or of all that are ranked as one. At least so many: the standing tells whether
/// something is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranked<K> {
    pub key: K,
    pub clicks: u64,
    pub adjustment: u64,
    pub total: u64,
    /// `None` is unknown.
    pub late_pending: Option<u64>,
}

/// By their total, the largest first, then by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ranking<K> {
    pub standing: Standing,
    pub ranked: Vec<Ranked<K>>,
    /// How many have clicks in the range, those beyond the limit included.
    pub count: usize,
}

impl<K> Ranking<K> {
    /// The same, each under another name.
    pub fn map<N>(self, name: impl Fn(K) -> N) -> Ranking<N> {
        let renamed = |Ranked { key, clicks, adjustment, total, late_pending }| {
            let key = name(key);
            Ranked { key, clicks, adjustment, total, late_pending }
        };
        let Ranking { standing, ranked, count } = self;
        Ranking { standing, ranked: ranked.into_iter().map(renamed).collect(), count }
    }
}
