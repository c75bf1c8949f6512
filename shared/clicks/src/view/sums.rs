//! The numbers that a merge adds up.

use std::hash::BuildHasher;
use std::ops::AddAssign;
use std::sync::LazyLock;

use foldhash::fast::RandomState;
use hashbrown::{HashMap, HashTable};

use super::Asked;
use super::columns::{Column, Columns};
use crate::ads::Groups;
use crate::id::AdId;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Numbers {
    pub clicks: u64,
    pub adjustment: u64,
    /// Of `clicks`.
    pub late: u64,
    pub late_pending: u64,
    pub last_live: u64,
}

impl AddAssign for Numbers {
    fn add_assign(&mut self, more: Numbers) {
        self.clicks += more.clicks;
        self.adjustment += more.adjustment;
        self.late += more.late;
        self.late_pending += more.late_pending;
        self.last_live += more.last_live;
    }
}

/// Numbers by series and period; of a ranking by ad alone.
#[derive(Debug)]
pub(super) struct Sums {
    /// Of each series; `None` where it is the sum of several ads.
    pub names: Vec<Option<AdId>>,
    series: Whose,
    /// Periods of each series.
    pub width: usize,
    pub numbers: Vec<Numbers>,
    /// Each ad has one number, of the whole range.
    pub ranked: bool,
}

/// Which series an ad's clicks belong to.
#[derive(Debug)]
enum Whose {
    /// There is one.
    All,
    Ads(HashMap<AdId, usize, RandomState>),
    /// All ads that have clicks, numbered as they come. There may be very many, so neither their names nor their hashes are
    /// looked at twice.
    Each {
        series: HashTable<u32>,
        /// Of each series.
        hashes: Vec<u64>,
    },
    Groups(Groups),
}

/// The hash by which ads are found in a ranking of all of them. Who chooses ids does not know it.
pub(super) fn hash_of(ad: &AdId) -> u64 {
    static STATE: LazyLock<RandomState> = LazyLock::new(RandomState::default);
    STATE.hash_one(ad)
}

/// Which series the ads of some columns belong to.
#[derive(Debug)]
pub(super) enum Targets {
    /// There is one series.
    All,
    /// These ads, each with its series; the others were not asked for.
    Few(Vec<(u32, usize)>),
    /// By ad, as they come.
    Each(Vec<Target>),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    NotYetKnown,
    Series(usize),
    Nothing,
}

/// Ads that are looked up one by one in a column. Of more, the whole column is read.
const FEW_MAX: usize = 100;

impl Sums {
    pub fn new(asked: &Asked, periods: usize) -> Self {
        let (names, width) = match asked {
            Asked::Total => (vec![None], periods),
            Asked::Ads(ads) => (ads.iter().cloned().map(Some).collect(), periods),
            Asked::Groups(groups) => (vec![None; groups.names().len()], periods),
            Asked::EachAd => (Vec::new(), 1),
            Asked::EachOf(ads) => (ads.iter().cloned().map(Some).collect(), 1),
        };
        let series = match asked {
            Asked::Total => Whose::All,
            Asked::Groups(groups) => Whose::Groups(groups.clone()),
            Asked::Ads(ads) | Asked::EachOf(ads) => Whose::Ads(ads.iter().cloned().zip(0..).collect()),
            Asked::EachAd => Whose::Each { series: HashTable::new(), hashes: Vec::new() },
        };
        let numbers = vec![Numbers::default(); names.len() * width];
        Sums { names, series, width, numbers, ranked: asked.is_ranked() }
    }

    /// Where a count of this ad and period belongs; `None` when the ad was not asked for.
    pub fn of(&mut self, ad: Option<&AdId>, slot: usize) -> Option<&mut Numbers> {
        let series = match (&self.series, ad) {
            (Whose::All, _) => 0,
            (_, ad) => self.series_of(ad?, None)?,
        };
        let slot = if self.ranked { 0 } else { slot };
        self.numbers.get_mut(series * self.width + slot)
    }

    /// Which series the ads of the columns belong to, to be used for all of these columns.
    pub fn targets(&mut self, columns: &Columns) -> Targets {
        let few = |ads: &mut dyn Iterator<Item = (&AdId, usize)>| {
            Targets::Few(ads.filter_map(|(ad, series)| Some((columns.number_of(ad)?, series))).collect())
        };
        if let Whose::Each { series, hashes } = &mut self.series {
            let more = columns.ads().len();
            series.reserve(more, |n| hashes[*n as usize]);
            hashes.reserve(more);
            self.names.reserve(more);
            self.numbers.reserve(more);
        }
        match &mut self.series {
            Whose::All => Targets::All,
            Whose::Ads(by_ad) if by_ad.len() <= FEW_MAX => few(&mut by_ad.iter().map(|(ad, series)| (ad, *series))),
            Whose::Groups(groups) if let Some(ads) = groups.few() => {
                few(&mut ads.iter().filter_map(|ad| Some((ad, groups.of(ad)?))))
            }
            Whose::Ads(_) | Whose::Each { .. } | Whose::Groups(_) => {
                Targets::Each(vec![Target::NotYetKnown; columns.ads().len()])
            }
        }
    }

    /// Adds a column to a number of a period.
    pub fn add(
        &mut self,
        column: &Column,
        columns: &Columns,
        targets: &mut Targets,
        slot: usize,
        into: impl Fn(&mut Numbers) -> &mut u64,
    ) {
        let slot = if self.ranked { 0 } else { slot };
        let width = self.width;
        match targets {
            Targets::All => *into(&mut self.numbers[slot]) += column.total(),
            Targets::Few(ads) => {
                for (ad, series) in ads {
                    *into(&mut self.numbers[*series * width + slot]) += column.of(*ad);
                }
            }
            Targets::Each(targets) => {
                for (ad, clicks) in column.each() {
                    let target = &mut targets[ad as usize];
                    if *target == Target::NotYetKnown {
                        let (name, hash) = columns.ad(ad);
                        *target = self.series_of(name, Some(hash)).map_or(Target::Nothing, Target::Series);
                    }
                    if let Target::Series(series) = *target {
                        *into(&mut self.numbers[series * width + slot]) += clicks;
                    }
                }
            }
        }
    }

    /// The series of an ad, and its hash if that is known.
    fn series_of(&mut self, ad: &AdId, hash: Option<u64>) -> Option<usize> {
        match &mut self.series {
            Whose::All => Some(0),
            Whose::Ads(by_ad) => by_ad.get(ad).copied(),
            Whose::Groups(groups) => groups.of(ad),
            Whose::Each { series, hashes } => {
                let hash = hash.unwrap_or_else(|| hash_of(ad));
                let is_it = |n: &u32| hashes[*n as usize] == hash && self.names[*n as usize].as_ref() == Some(ad);
                if let Some(found) = series.find(hash, is_it) {
                    return Some(*found as usize);
                }
                let number = u32::try_from(hashes.len()).expect("four billion ads do not fit into memory");
                series.insert_unique(hash, number, |n| hashes[*n as usize]);
                hashes.push(hash);
                self.names.push(Some(ad.clone()));
                self.numbers.push(Numbers::default());
                Some(number as usize)
            }
        }
    }
}
