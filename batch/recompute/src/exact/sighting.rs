//! A click as the second pass needs it, in 32 bytes; and what it comes to, in 8.
//!
//! ```text
//! Sighting  | key, 128 bits | append time, 44 | partition's rank, 20 | minute, 29 | ad, 32 | late, 1 | owner, 2 |
//! Outcome                                                            | minute, 29 | ad, 32 | what, 3            |
//! ```
//!
//! The third word of a sighting orders the clicks of several partitions as one log. Outcomes sort by minute, then ad.

use clicks::dedup::DedupKey;
use clicks::time::{Span, Timestamp};
use clicks::window::Minute;

use super::buckets::Item;

/// Minutes are counted from 510 years before the epoch, so that they are never negative.
const MINUTE_BIAS: i64 = 1 << 28;
const APPEND_BITS: u32 = 44;
const RANK_BITS: u32 = 20;
const MINUTE_BITS: u32 = 29;

/// Most partitions that are counted together.
pub(crate) const RANKS: usize = 1 << RANK_BITS;

/// Who owns a click if it is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    /// A day that is computed.
    Day = 0,
    /// A day that was final before, and the click is new.
    Adjustment = 1,
    AnotherNight = 2,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sighting(pub(crate) [u64; 4]);

impl Sighting {
    /// `None` when the append time lies before 1970 or after 2527, or the minute is as far away.
    #[inline]
    pub(crate) fn new(
        key: DedupKey,
        append_time: Timestamp,
        rank: usize,
        minute: Minute,
        ad: u32,
        late: bool,
        owner: Owner,
    ) -> Option<Self> {
        let key = key.as_u128();
        let append = u64::try_from(append_time.as_millis()).ok().filter(|millis| millis >> APPEND_BITS == 0)?;
        let minute = u64::try_from(minute.number() + MINUTE_BIAS).ok().filter(|minute| minute >> MINUTE_BITS == 0)?;
        let order = append << RANK_BITS | rank as u64;
        let rest = minute << 35 | u64::from(ad) << 3 | u64::from(late) << 2 | owner as u64;
        Some(Sighting([(key >> 64) as u64, key as u64, order, rest]))
    }

    /// Place in the log: append time, then partition.
    #[inline]
    pub(crate) fn order(&self) -> u64 {
        self.0[2]
    }

    #[inline]
    pub(crate) fn same_key(&self, other: &Sighting) -> bool {
        self.0[0] == other.0[0] && self.0[1] == other.0[1]
    }

    #[inline]
    pub(crate) fn rank(&self) -> u64 {
        self.0[2] & (RANKS as u64 - 1)
    }

    /// Bits of the key, other ones than those that chose its bucket.
    #[inline]
    pub(crate) fn hash(&self) -> u64 {
        self.0[1]
    }

    /// Append time since an earlier sighting.
    #[inline]
    pub(crate) fn since(&self, earlier: &Sighting) -> Span {
        Span::millis((self.0[2] >> RANK_BITS) as i64 - (earlier.0[2] >> RANK_BITS) as i64)
    }

    #[inline]
    pub(crate) fn minute(&self) -> Minute {
        Minute::from_number((self.0[3] >> 35) as i64 - MINUTE_BIAS)
    }

    #[inline]
    pub(crate) fn ad(&self) -> u32 {
        (self.0[3] >> 3) as u32
    }

    #[inline]
    pub(crate) fn is_late(&self) -> bool {
        self.0[3] & 4 != 0
    }

    #[inline]
    pub(crate) fn owner(&self) -> Owner {
        match self.0[3] & 3 {
            0 => Owner::Day,
            1 => Owner::Adjustment,
            _ => Owner::AnotherNight,
        }
    }
}

impl Item for Sighting {
    const BYTES: usize = 32;
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.0.iter().flat_map(|word| word.to_le_bytes()));
    }
    fn read(bytes: &[u8]) -> Self {
        Sighting([0, 8, 16, 24].map(|at| word(&bytes[at..])))
    }
}

impl Item for Outcome {
    const BYTES: usize = 8;
    fn write(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.0.to_le_bytes());
    }
    fn read(bytes: &[u8]) -> Self {
        Outcome(word(bytes))
    }
}

fn word(bytes: &[u8]) -> u64 {
    u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes are eight bytes"))
}

/// What an owned click comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    Counted = 0,
    /// Counted here, and late for the live view.
    Late = 1,
    /// A duplicate for both layers.
    Duplicate = 2,
    /// A duplicate here, counted by the live view.
    FarDuplicate = 3,
    /// A duplicate here, late for the live view.
    LateDuplicate = 4,
}

impl What {
    pub(crate) const KINDS: usize = 5;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Outcome(pub(crate) u64);

impl Outcome {
    /// `place` is that of the ad's name among all names.
    #[inline]
    pub(crate) fn new(sighting: &Sighting, place: u32, what: What) -> Self {
        Outcome(sighting.0[3] & !((1 << 35) - 1) | u64::from(place) << 3 | what as u64)
    }

    /// Minute and ad in one: the same for all clicks of one cell.
    #[inline]
    pub(crate) fn cell(self) -> u64 {
        self.0 >> 3
    }

    /// Place of the kind in an array of [`What::KINDS`].
    #[inline]
    pub(crate) fn what(self) -> usize {
        (self.0 & 7) as usize
    }

    pub(crate) fn minute_of(cell: u64) -> Minute {
        Minute::from_number((cell >> 32) as i64 - MINUTE_BIAS)
    }

    pub(crate) fn ad_of(cell: u64) -> u32 {
        cell as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_comes_out_as_it_went_in_at_the_bounds_too() {
        for (append, rank, minute, ad) in [
            (0, 0, -MINUTE_BIAS, 0),
            ((1 << 44) - 1, RANKS - 1, MINUTE_BIAS - 1, u32::MAX),
            (1_767_225_600_123, 7, -1, 9),
        ] {
            for (late, owner) in [(true, Owner::Day), (false, Owner::Adjustment), (true, Owner::AnotherNight)] {
                let at = Timestamp::from_millis(append);
                let key = DedupKey::from_u128(0x0123_4567_89ab_cdef_1122_3344_5566_7788);
                let minute = Minute::from_number(minute);
                let sighting = Sighting::new(key, at, rank, minute, ad, late, owner).unwrap();
                assert_eq!(sighting.rank(), rank as u64);
                assert_eq!((sighting.minute(), sighting.ad()), (minute, ad));
                assert_eq!((sighting.is_late(), sighting.owner()), (late, owner));
                let outcome = Outcome::new(&sighting, 5, What::LateDuplicate);
                assert_eq!((Outcome::minute_of(outcome.cell()), Outcome::ad_of(outcome.cell())), (minute, 5));
                assert_eq!(outcome.what(), What::LateDuplicate as usize);
                let first = Sighting::new(key, Timestamp::EPOCH, 3, minute, ad, late, owner).unwrap();
                assert_eq!(sighting.since(&first), Span::millis(append));
                assert!(sighting.same_key(&first));
            }
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let new = |append, minute| {
            let (at, minute) = (Timestamp::from_millis(append), Minute::from_number(minute));
            Sighting::new(DedupKey::from_u128(1), at, 0, minute, 0, false, Owner::Day)
        };
        assert!(new(0, 0).is_some());
        for (append, minute) in [(-1, 0), (1 << 44, 0), (0, MINUTE_BIAS), (0, -MINUTE_BIAS - 1)] {
            assert_eq!(new(append, minute), None);
        }
    }
}
