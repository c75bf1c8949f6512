//! What a further revision of a day changes, per ad: finance sees for every restated bill why it differs.

use std::collections::BTreeMap;
use std::sync::Arc;

use clicks::event::Class;

use crate::rows::Rows;
use crate::table::{AdjustmentRow, ChangeRow};

/// The ads whose clicks differ between what was billed (a revision and the adjustments that are absorbed) and what is
/// billed now, sorted.
pub(crate) fn changes(before: &Rows, absorbed: &[AdjustmentRow], after: &Rows) -> Vec<ChangeRow> {
    let mut ads: BTreeMap<Arc<str>, (u64, u64)> = BTreeMap::new();
    for (ad, clicks) in before.names().iter().zip(before.clicks_by_ad()) {
        ads.entry(ad.clone()).or_default().0 += clicks;
    }
    for row in absorbed {
        ads.entry(row.ad.clone()).or_default().0 += row.clicks;
    }
    for (ad, clicks) in after.names().iter().zip(after.clicks_by_ad()) {
        ads.entry(ad.clone()).or_default().1 += clicks;
    }
    let changed = ads.into_iter().filter(|(_, (before, after))| before != after);
    changed.map(|(ad, (before, after))| ChangeRow { ad, class: Class::Valid, before, after }).collect()
}

/// Clicks after minus clicks before.
pub(crate) fn difference(rows: &[ChangeRow]) -> i64 {
    rows.iter().map(|row| row.after as i64 - row.before as i64).sum()
}

#[cfg(test)]
mod tests {
    use clicks::time::{Day, Timestamp};

    use super::*;
    use crate::rows::rows;

    #[test]
    fn only_ads_that_differ_are_named_and_absorbed_adjustments_were_billed_before() {
        let row = |minute: i64, ad, clicks| (Timestamp::from_millis(minute * 60_000), ad, clicks, 0, 0);
        let adjustment = AdjustmentRow {
            period_start: Timestamp::EPOCH,
            ad: "b".into(),
            class: Class::Valid,
            clicks: 5,
            night: Day::from_number(9),
        };
        let before = rows(&[row(0, "a", 1), row(0, "b", 100), row(0, "c", 7), row(1, "a", 2)]);
        let after = rows(&[row(0, "a", 3), row(0, "b", 105), row(0, "c", 6), row(2, "d", 4)]);
        let found = changes(&before, &[adjustment], &after);
        let found: Vec<_> = found.iter().map(|row| (&*row.ad, row.before, row.after)).collect();
        assert_eq!(found, [("c", 7, 6), ("d", 0, 4)]);
        assert_eq!(difference(&changes(&before, &[], &after)), 8);
    }
}
