//! Amounts: exact, and each in its own currency.

use std::collections::BTreeMap;

use recompute::published::TableRow;
use rust_decimal::Decimal;

/// Clicks of one ad, or of several.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// What is billed, of revisions.
    pub clicks: u64,
    /// What was found later.
    pub adjustment: u64,
    /// What was dropped; nobody tells those of adjustments.
    pub duplicates: u64,
}

impl Counts {
    pub(crate) fn of(row: &TableRow<'_>) -> Self {
        Counts { clicks: row.clicks, adjustment: 0, duplicates: row.duplicates }
    }

    /// What is billed.
    pub const fn total(&self) -> u64 {
        self.clicks + self.adjustment
    }

    pub(crate) fn add(&mut self, other: Counts) {
        self.clicks += other.clicks;
        self.adjustment += other.adjustment;
        self.duplicates += other.duplicates;
    }
}

/// An amount of one currency.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Money {
    /// ISO 4217.
    pub currency: &'static str,
    pub amount: Decimal,
}

/// What a statement comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    pub lines: u64,
    /// By currency; without one, the clicks that have no price.
    pub by_currency: BTreeMap<Option<&'static str>, Total>,
}

/// What all lines of one currency come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Total {
    pub counts: Counts,
    pub amount: Decimal,
}

impl Totals {
    pub fn clicks(&self) -> u64 {
        self.by_currency.values().map(|total| total.counts.clicks).sum()
    }

    pub fn adjustment(&self) -> u64 {
        self.by_currency.values().map(|total| total.counts.adjustment).sum()
    }

    pub(crate) fn add(&mut self, counts: Counts, money: Option<&Money>) {
        self.lines += 1;
        let total = self.by_currency.entry(money.map(|money| money.currency)).or_default();
        total.counts.add(counts);
        total.amount += money.map(|money| money.amount).unwrap_or_default();
    }
}
