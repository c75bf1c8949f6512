//! The numbers that a merge adds up.

use std::ops::AddAssign;

use hashbrown::HashMap;

use super::Asked;
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
    /// Series come as ads come.
    open: bool,
}

/// Which series an ad's clicks belong to.
#[derive(Debug)]
enum Whose {
    /// There is one.
    All,
    Ads(HashMap<AdId, usize, foldhash::fast::RandomState>),
    Groups(Groups),
}

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
            Asked::EachAd => Whose::Ads(HashMap::default()),
        };
        let numbers = vec![Numbers::default(); names.len() * width];
        let (ranked, open) = (asked.is_ranked(), matches!(asked, Asked::EachAd));
        Sums { names, series, width, numbers, ranked, open }
    }

    /// Where a count of this ad and period belongs; `None` when the ad was not asked for.
    pub fn of(&mut self, ad: Option<&AdId>, slot: usize) -> Option<&mut Numbers> {
        let series = match &self.series {
            Whose::All => 0,
            Whose::Ads(by_ad) => match by_ad.get(ad?) {
                Some(series) => *series,
                None if self.open => self.add(ad?),
                None => return None,
            },
            Whose::Groups(groups) => groups.of(ad?)?,
        };
        let slot = if self.ranked { 0 } else { slot };
        self.numbers.get_mut(series * self.width + slot)
    }

    fn add(&mut self, ad: &AdId) -> usize {
        let series = self.names.len();
        self.names.push(Some(ad.clone()));
        if let Whose::Ads(by_ad) = &mut self.series {
            by_ad.insert(ad.clone(), series);
        }
        self.numbers.push(Numbers::default());
        series
    }
}
