//! What the speed layer stores of one partition: the shapes that cross the store port.
//!
//! All of it is written in one atomic step per flush, as absolute values, so that a flush may be repeated.

use crate::event::Class;
use crate::id::AdId;
use crate::position::Offset;
use crate::time::{Day, Interval, Timestamp};
use crate::window::{Hour, Minute};

/// One life of the stored counts of a partition: a fresh random id, so that a writer of an earlier life never matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(u128);

impl Generation {
    pub const fn from_u128(value: u128) -> Self {
        Generation(value)
    }
    pub const fn as_u128(self) -> u128 {
        self.0
    }
    /// 32 hexadecimal digits, in the one form in which they are written.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')))
            .then(|| u128::from_str_radix(text, 16).ok())
            .flatten()
            .map(Generation)
    }
}

impl std::fmt::Display for Generation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// A live count: clicks of one class on one ad in one minute.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CountKey {
    pub minute: Minute,
    pub class: Class,
    pub ad: AdId,
}

/// A late count: keyed also by the first night whose cut lies after the record, so that what a published revision
/// already holds can be told from what is pending.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LateKey {
    pub night: Day,
    pub count: CountKey,
}

/// Totals of a partition since `base_offset`, in double entry:
/// `seen = control + rejected + duplicate + late + counted`, and
/// `counted = sum of the stored windows + expired`, `late = sum of the stored late counts + late_expired`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Totals {
    pub seen: u64,
    pub control: u64,
    pub rejected: u64,
    pub duplicate: u64,
    pub late: u64,
    pub counted: u64,
    /// Counted clicks whose window is no longer stored, or never was because it lies before the base day.
    pub expired: u64,
    pub late_expired: u64,
}

impl Totals {
    /// The first of the two double-entry sums.
    pub const fn balance(&self) -> bool {
        self.seen == self.control + self.rejected + self.duplicate + self.late + self.counted
    }
}

/// Records that fell off the log before they were counted: `next_offset - base_offset = seen + lost.records`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lost {
    pub records: u64,
    /// All of them were appended in it, and others too if they were lost in several places.
    pub appended: Interval,
}

impl Lost {
    pub const NONE: Lost = Lost { records: 0, appended: NEVER };
}

const NEVER: Interval = Interval { start: Timestamp::MIN, end: Timestamp::MIN };

/// The smallest interval that holds both.
fn hull(one: Interval, other: Interval) -> Interval {
    match one.is_empty() {
        true => other,
        false => Interval::new(one.start.min(other.start), one.end.max(other.end)),
    }
}

/// Everything about a partition that is no count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meta {
    /// Everything before it is in the counts, nothing at or after it is.
    pub next_offset: Offset,
    /// Append time that has been reached; [`Timestamp::MIN`] before the first record.
    pub append_time: Timestamp,
    /// Of the record at `next_offset - 1`; empty before the first record, and where that one was lost.
    pub fingerprint: String,
    /// Where this generation began to count.
    pub base_offset: Offset,
    /// Minutes before this day are not stored.
    pub base_day: Day,
    /// Late counts of earlier nights are not stored.
    pub base_night: Day,
    pub totals: Totals,
    /// Sightings that dedup forgot for want of memory before their time.
    pub dedup_evicted: u64,
    /// Append times at which a duplicate may have been counted, because its first sighting was evicted, or had fallen off
    /// the log before dedup was rebuilt; empty: none.
    pub drift: Interval,
    pub lost: Lost,
    /// How often the store was found to have gone back, and the partition was counted anew, as far as anybody remembers:
    /// for operators alone.
    pub rollbacks: u64,
    pub rebuilds: u64,
    /// The generation is complete once `next_offset` has reached this; answers are incomplete until then.
    pub rebuilding_until: Offset,
}

impl Meta {
    pub fn new(base_offset: Offset, base_day: Day, base_night: Day, rebuilding_until: Offset) -> Self {
        Meta {
            next_offset: base_offset,
            append_time: Timestamp::MIN,
            fingerprint: String::new(),
            base_offset,
            base_day,
            base_night,
            totals: Totals::default(),
            dedup_evicted: 0,
            drift: NEVER,
            lost: Lost::NONE,
            rollbacks: 0,
            rebuilds: 0,
            rebuilding_until,
        }
    }

    /// Duplicates that were appended in `more` may have been counted.
    pub fn drifted(&mut self, more: Interval) {
        self.drift = hull(self.drift, more);
    }

    /// The records from the next offset up to `to` are gone; they were appended in `appended`.
    pub fn lose(&mut self, to: Offset, appended: Interval) {
        self.lost.records += to.distance_from(self.next_offset);
        self.lost.appended = hull(self.lost.appended, appended);
        self.next_offset = to;
        self.fingerprint.clear();
    }

    /// Double entry: the totals agree with each other, and with the position.
    pub fn is_balanced(&self) -> bool {
        let (totals, lost) = (&self.totals, self.lost.records);
        totals.balance()
            && self.base_offset <= self.next_offset
            && totals.seen.checked_add(lost) == Some(self.next_offset.distance_from(self.base_offset))
            && totals.expired <= totals.counted
            && totals.late_expired <= totals.late
    }

    pub fn is_rebuilding(&self) -> bool {
        self.next_offset < self.rebuilding_until
    }
}

/// Where a generation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// It is what readers see.
    Live,
    /// It is counted beside the live one, to take its place. Readers see the live one, and that it is in doubt.
    Beside,
}

/// What a writer believes to be current: the generation that is counted beside the live one, or else the live one. A flush
/// changes nothing unless it is so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// There is no generation.
    Nothing,
    At {
        generation: Generation,
        next_offset: Offset,
        /// Records that were lost up to there: who counted one of them may stand at the same offset.
        lost: u64,
    },
    /// This generation is current, and cannot be read as a whole: only another one may be written, whatever the meta record
    /// says or lacks. `None`: what names the current generation is no generation.
    Damaged { generation: Option<Generation> },
}

impl Expected {
    /// What is stored of a generation, with this meta record.
    pub fn at(generation: Generation, meta: &Meta) -> Self {
        Expected::At { generation, next_offset: meta.next_offset, lost: meta.lost.records }
    }

    /// Generation and next offset, where both are known.
    pub fn position(self) -> Option<(Generation, Offset)> {
        match self {
            Expected::At { generation, next_offset, .. } => Some((generation, next_offset)),
            Expected::Nothing | Expected::Damaged { .. } => None,
        }
    }
}

/// One atomic step: compare, validate, write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flush {
    pub expected: Expected,
    /// The generation that is written, and current afterwards.
    pub generation: Generation,
    /// Where it stands afterwards.
    pub stage: Stage,
    pub meta: Meta,
    /// Absolute values of every count that changed.
    pub counts: Vec<(CountKey, u64)>,
    pub late: Vec<(LateKey, u64)>,
    /// Hours and nights that are deleted; `meta` has moved their sums to the expired totals.
    pub drop_hours: Vec<Hour>,
    pub drop_nights: Vec<Day>,
}

/// What the store did with a flush.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FlushOutcome {
    Applied,
    /// Something else is stored than the writer expected; nothing was changed.
    Mismatch {
        found: Option<(Generation, Offset)>,
    },
}

/// One atomic read of a partition's current generation for its worker: the meta record and every count that may still
/// change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    pub generation: Generation,
    pub stage: Stage,
    pub meta: Meta,
    pub counts: Vec<(CountKey, u64)>,
    pub late: Vec<(LateKey, u64)>,
}
