//! The largest over a whole range.

use super::merge::Merge;
use super::sums::Numbers;
use super::{Ranked, Ranking};
use crate::ads::Groups;
use crate::id::AdId;

impl Merge {
    /// The ads with the largest total over the whole range, of [`Asked::EachAd`] or [`Asked::EachOf`], as far as they are
    /// wanted.
    pub fn ranking(self, limit: usize, wanted: impl Fn(&AdId) -> bool) -> Ranking<AdId> {
        let name = |n: usize| self.sums.names[n].as_ref();
        let ranking = self.largest(limit, &self.sums.numbers, |n| name(n).is_some_and(&wanted), name);
        ranking.map(|ad| ad.expect("what has no name is not wanted").clone())
    }

    /// The same of groups of ads, by their numbers.
    pub fn ranking_of(self, limit: usize, groups: &Groups) -> Ranking<usize> {
        let mut sums = vec![Numbers::default(); groups.names().len()];
        for (ad, numbers) in self.sums.names.iter().zip(&self.sums.numbers) {
            if let Some(group) = ad.as_ref().and_then(|ad| groups.of(ad)) {
                sums[group] += *numbers;
            }
        }
        self.largest(limit, &sums, |_| true, |group| group)
    }

    /// The largest of those that are wanted, by name where they are the same.
    fn largest<K: Ord>(
        &self,
        limit: usize,
        numbers: &[Numbers],
        wanted: impl Fn(usize) -> bool,
        name: impl Fn(usize) -> K,
    ) -> Ranking<K> {
        let late_known = self.late_known(None, &self.slots);
        let total = |n: usize| numbers[n].clicks + numbers[n].adjustment;
        let has_clicks = |n: usize| total(n) > 0 || (late_known && numbers[n].late_pending > 0);
        let found = (0..numbers.len()).filter(|n| has_clicks(*n) && wanted(*n));
        let mut found: Vec<(u64, usize)> = found.map(|n| (total(n), n)).collect();
        let count = found.len();
        let order = |a: &(u64, usize), b: &(u64, usize)| b.0.cmp(&a.0).then_with(|| name(a.1).cmp(&name(b.1)));
        if 0 < limit && limit < count {
            // By the numbers alone first: many ads have few clicks, and their names need not be compared.
            let mut totals: Vec<u64> = found.iter().map(|(total, _)| *total).collect();
            let least = *totals.select_nth_unstable_by(limit - 1, |a, b| b.cmp(a)).1;
            found.retain(|(total, _)| *total >= least);
        }
        if limit < found.len() {
            found.select_nth_unstable_by(limit, order);
            found.truncate(limit);
        }
        found.sort_unstable_by(order);
        let ranked = found.into_iter().map(|(total, n)| Ranked {
            key: name(n),
            clicks: numbers[n].clicks,
            adjustment: numbers[n].adjustment,
            total,
            late_pending: late_known.then_some(numbers[n].late_pending),
        });
        Ranking { standing: self.standing(), ranked: ranked.collect(), count }
    }
}
