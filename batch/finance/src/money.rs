//! Amounts: exact, and each in its own currency.

use std::collections::BTreeMap;

use rust_decimal::Decimal;

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
    pub clicks: u64,
    pub adjustment: u64,
    pub amount: Decimal,
}

impl Totals {
    pub fn clicks(&self) -> u64 {
        self.by_currency.values().map(|total| total.clicks).sum()
    }

    pub fn adjustment(&self) -> u64 {
        self.by_currency.values().map(|total| total.adjustment).sum()
    }

    pub(crate) fn add(&mut self, clicks: u64, adjustment: u64, money: Option<&Money>) {
        self.lines += 1;
        let total = self.by_currency.entry(money.map(|money| money.currency)).or_default();
        total.clicks += clicks;
        total.adjustment += adjustment;
        total.amount += money.map(|money| money.amount).unwrap_or_default();
    }
}
