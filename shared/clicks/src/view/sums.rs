//! The numbers that a merge adds up.

use hashbrown::HashMap;

use super::Asked;
use crate::id::AdId;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Numbers {
    pub clicks: u64,
    pub adjustment: u64,
    pub late: u64,
    pub last_live: u64,
}

/// Numbers by series and period; of a ranking by ad alone.
#[derive(Debug)]
pub(super) struct Sums {
    pub names: Vec<Option<AdId>>,
    by_ad: HashMap<AdId, usize, foldhash::fast::RandomState>,
    /// Periods of each series.
    pub width: usize,
    pub numbers: Vec<Numbers>,
    /// Series come as ads come.
    pub open: bool,
}

impl Sums {
    pub fn new(asked: &Asked, periods: usize) -> Self {
        let (names, width) = match asked {
            Asked::Total => (vec![None], periods),
            Asked::Ads(ads) => (ads.iter().cloned().map(Some).collect(), periods),
            Asked::EachAd => (Vec::new(), 1),
        };
        let by_ad = names.iter().enumerate().filter_map(|(n, ad)| Some((ad.clone()?, n))).collect();
        let numbers = vec![Numbers::default(); names.len() * width];
        Sums { names, by_ad, width, numbers, open: *asked == Asked::EachAd }
    }

    /// Where a count of this ad and period belongs; `None` when the ad was not asked for.
    pub fn of(&mut self, ad: Option<&AdId>, slot: usize) -> Option<&mut Numbers> {
        if self.open {
            let ad = ad.expect("a ranking is given numbers by ad");
            let series = self.by_ad.get(ad).copied().unwrap_or_else(|| self.add(ad));
            return self.numbers.get_mut(series);
        }
        let series = match &self.names[..] {
            [None] => 0,
            _ => *self.by_ad.get(ad?)?,
        };
        self.numbers.get_mut(series * self.width + slot)
    }

    fn add(&mut self, ad: &AdId) -> usize {
        let series = self.names.len();
        self.names.push(Some(ad.clone()));
        self.by_ad.insert(ad.clone(), series);
        self.numbers.push(Numbers::default());
        series
    }
}
