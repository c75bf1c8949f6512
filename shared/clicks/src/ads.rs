//! The ads table: whose an ad is, what it is called, and what a click on it costs.
//!
//! It is loaded from a CSV file and stored as one, in numbered versions, and it is joined when numbers are read: clicks are
//! counted whether or not anybody knows the ad.
//!
//! ```text
//! ads/v1/00000000000000000003.json     version 3: who has loaded it, what it has changed, and which rows it holds
//! ads/v1/rows/5f1c….csv                its rows, named by their hash; never changed
//! ```
//!
//! An ad has one tenant and one campaign, in all of its rows: whoever may see it sees all of its past. Its name, price and
//! currency are those of a row from [`AdRow::valid_from`] on, until the next one.

mod file;
mod groups;
mod version;

pub use file::{COLUMNS, FileError, LineError, parse, to_csv};
pub use groups::{Group, GroupBy, Groups, Selection};
pub use version::{AdsVersion, Change, RowsRef, VERSIONS, VersionError, number_of, rows_key, version_key};

use std::collections::BTreeSet;
use std::sync::Arc;

use hashbrown::HashMap;
use iso_currency::Currency;
use rust_decimal::Decimal;

use crate::id::{AdId, CampaignId, TenantId};
use crate::time::Day;

/// What is known of one ad from a day on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdRow {
    pub ad: AdId,
    pub tenant: TenantId,
    pub campaign: CampaignId,
    /// For people: 1 to [`NAME_MAX`] characters.
    pub name: Arc<str>,
    /// `None`: clicks of this ad are not paid by the piece.
    pub price: Option<Price>,
    /// The first UTC day, of event time, that this holds for.
    pub valid_from: Day,
}

/// What a click costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Price {
    /// Not negative, at most six decimals.
    pub amount: Decimal,
    pub currency: Currency,
}

/// Most characters of an ad's name.
pub const NAME_MAX: usize = 200;

/// Most rows of a table.
pub const ROWS_MAX: usize = 1_000_000;

/// All ads of one version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AdsTable {
    /// By ad, then by day.
    rows: Vec<AdRow>,
    ads: HashMap<AdId, Ad, foldhash::fast::RandomState>,
    /// Sorted, so those of one tenant follow one another.
    campaigns: Vec<(TenantId, CampaignId)>,
    /// Those of each.
    ads_of_campaigns: Vec<Vec<AdId>>,
}

/// Where an ad's rows begin, and its campaign.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ad {
    first_row: u32,
    rows: u32,
    campaign: u32,
}

/// Rows that cannot stand in one table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TableError {
    #[error("ad `{ad}` has two rows that are valid from {day}: give one of them another day")]
    Twice { ad: AdId, day: Day },
    #[error(
        "ad `{ad}` belongs to `{}/{}` from {} and to `{}/{}` from {}: an ad has one tenant and one campaign; give all of its \
         rows in the file to move it, or use another ad id",
        first.tenant, first.campaign, first.valid_from, second.tenant, second.campaign, second.valid_from
    )]
    Moved { ad: AdId, first: Box<AdRow>, second: Box<AdRow> },
    #[error("there are more than {ROWS_MAX} rows: load fewer ads, or leave out rows that are not needed any more")]
    TooMany,
}

impl AdsTable {
    /// # Errors
    /// The first two rows that contradict each other, or too many of them.
    pub fn new(mut rows: Vec<AdRow>) -> Result<Self, TableError> {
        if rows.len() > ROWS_MAX {
            return Err(TableError::TooMany);
        }
        rows.sort_by(|a, b| (&a.ad, a.valid_from).cmp(&(&b.ad, b.valid_from)));
        for pair in rows.windows(2) {
            let [first, second] = pair else { continue };
            if first.ad != second.ad {
                continue;
            }
            if first.valid_from == second.valid_from {
                return Err(TableError::Twice { ad: first.ad.clone(), day: first.valid_from });
            }
            if (&first.tenant, &first.campaign) != (&second.tenant, &second.campaign) {
                let (ad, first, second) = (first.ad.clone(), Box::new(first.clone()), Box::new(second.clone()));
                return Err(TableError::Moved { ad, first, second });
            }
        }
        let mut campaigns: Vec<_> = rows.iter().map(|row| (row.tenant.clone(), row.campaign.clone())).collect();
        campaigns.sort_unstable();
        campaigns.dedup();
        let mut ads = HashMap::<_, Ad, foldhash::fast::RandomState>::default();
        let mut ads_of_campaigns = vec![Vec::new(); campaigns.len()];
        for (n, row) in (0..).zip(&rows) {
            if let Some(ad) = ads.get_mut(&row.ad) {
                ad.rows += 1;
                continue;
            }
            let of_row = (row.tenant.clone(), row.campaign.clone());
            let campaign = campaigns.binary_search(&of_row).expect("it is made of all rows") as u32;
            ads.insert(row.ad.clone(), Ad { first_row: n, rows: 1, campaign });
            ads_of_campaigns[campaign as usize].push(row.ad.clone());
        }
        Ok(AdsTable { rows, ads, campaigns, ads_of_campaigns })
    }

    pub fn rows(&self) -> &[AdRow] {
        &self.rows
    }

    pub fn ads_count(&self) -> usize {
        self.ads.len()
    }

    /// All campaigns, by tenant and name.
    pub fn campaigns(&self) -> &[(TenantId, CampaignId)] {
        &self.campaigns
    }

    /// The ads of each of [`AdsTable::campaigns`], by name.
    pub fn ads_of_campaigns(&self) -> &[Vec<AdId>] {
        &self.ads_of_campaigns
    }

    /// All tenants, by name.
    pub fn tenants(&self) -> impl Iterator<Item = &TenantId> {
        self.campaigns.chunk_by(|(a, _), (b, _)| a == b).map(|of_tenant| &of_tenant[0].0)
    }

    /// The number of an ad's campaign in [`AdsTable::campaigns`].
    pub fn campaign_of(&self, ad: &AdId) -> Option<usize> {
        self.ads.get(ad).map(|ad| ad.campaign as usize)
    }

    /// Whose an ad is.
    pub fn tenant_of(&self, ad: &AdId) -> Option<&TenantId> {
        self.campaign_of(ad).map(|campaign| &self.campaigns[campaign].0)
    }

    /// All that is known of an ad, the earliest first.
    pub fn rows_of(&self, ad: &AdId) -> &[AdRow] {
        let rows = self.ads.get(ad).map(|ad| ad.first_row as usize..(ad.first_row + ad.rows) as usize);
        rows.map_or(&[], |rows| &self.rows[rows])
    }

    /// The row of an ad that is valid on a day, or its first one before that.
    pub fn row_on(&self, ad: &AdId, day: Day) -> Option<&AdRow> {
        let rows = self.rows_of(ad);
        let since = rows.partition_point(|row| row.valid_from <= day);
        rows.get(since.saturating_sub(1))
    }

    /// What a click on an ad costs on a day; `None` before its first row, because nobody has said so.
    pub fn price_on(&self, ad: &AdId, day: Day) -> Option<Price> {
        self.row_on(ad, day).filter(|row| row.valid_from <= day)?.price
    }

    /// This table with the rows of a file: each adds to it, or takes the place of the one of its ad and day.
    ///
    /// # Errors
    /// When the rows contradict each other, or those that stay.
    pub fn with(&self, rows: Vec<AdRow>) -> Result<Self, TableError> {
        let given: BTreeSet<(&AdId, Day)> = rows.iter().map(|row| (&row.ad, row.valid_from)).collect();
        let stay = self.rows.iter().filter(|row| !given.contains(&(&row.ad, row.valid_from)));
        let mut all: Vec<AdRow> = stay.cloned().collect();
        all.extend(rows);
        AdsTable::new(all)
    }

    /// What has become of the rows of `before`.
    pub fn change_from(&self, before: &AdsTable) -> Change {
        let mut change = Change::default();
        for row in &self.rows {
            let old = before.rows_of(&row.ad);
            match old.binary_search_by_key(&row.valid_from, |old| old.valid_from) {
                Err(_) => change.added += 1,
                Ok(at) if old[at] == *row => change.same += 1,
                Ok(_) => change.changed += 1,
            }
        }
        change.removed = before.rows.len() as u64 - change.same - change.changed;
        let moved = |ad: &&AdId| self.tenant_of(ad).is_some_and(|tenant| before.tenant_of(ad) != Some(tenant));
        change.moved = before.ads.keys().filter(moved).cloned().collect();
        change.moved.sort_unstable();
        change.gone = before.ads.keys().filter(|ad| !self.ads.contains_key(*ad)).cloned().collect();
        change.gone.sort_unstable();
        change
    }
}

#[cfg(test)]
mod tests;
