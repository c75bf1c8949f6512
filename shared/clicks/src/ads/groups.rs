//! Ads that are asked for together: all of a tenant or campaign, or one sum for each.

use std::sync::Arc;

use super::AdsTable;
use crate::id::{AdId, CampaignId, TenantId};

/// Which ads of the table are meant. An empty list is no restriction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Selection {
    pub tenants: Vec<TenantId>,
    pub campaigns: Vec<CampaignId>,
}

impl Selection {
    /// All ads, known or not.
    pub fn is_all(&self) -> bool {
        self.tenants.is_empty() && self.campaigns.is_empty()
    }

    fn holds(&self, (tenant, campaign): &(TenantId, CampaignId)) -> bool {
        (self.tenants.is_empty() || self.tenants.contains(tenant))
            && (self.campaigns.is_empty() || self.campaigns.contains(campaign))
    }
}

/// What ads have in common.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// All that were selected.
    All,
    Tenant(TenantId),
    Campaign(TenantId, CampaignId),
    /// Ads that the table does not know.
    Unknown,
}

/// By what ads are put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupBy {
    /// All that were selected are one.
    All,
    Tenant,
    Campaign,
}

/// The groups of a question, by one version of the table. Every ad is in one of them, or was not selected.
#[derive(Debug, Clone)]
pub struct Groups {
    table: Arc<AdsTable>,
    names: Vec<Group>,
    /// By the number of a campaign.
    of_campaign: Vec<Option<u32>>,
    of_unknown: Option<u32>,
    few: Option<Vec<AdId>>,
}

/// Most ads that are asked for by name, when they are asked for together: of more, all are read and the others left out.
const FEW_MAX: usize = 100;

impl Groups {
    /// Ads that the table does not know are a group of their own where all ads are selected, so that nothing is left out
    /// of the sum of all groups.
    pub fn new(table: Arc<AdsTable>, selection: &Selection, by: GroupBy) -> Self {
        let mut names: Vec<Group> = Vec::new();
        let mut of_campaign = Vec::with_capacity(table.campaigns().len());
        let mut few = (!selection.is_all()).then(Vec::new);
        for (campaign, ads) in table.campaigns().iter().zip(table.ads_of_campaigns()) {
            if !selection.holds(campaign) {
                of_campaign.push(None);
                continue;
            }
            few = few.filter(|few| few.len() + ads.len() <= FEW_MAX).map(|few| [&few[..], ads].concat());
            let (tenant, name) = campaign.clone();
            let group = match by {
                GroupBy::All => Group::All,
                GroupBy::Tenant => Group::Tenant(tenant),
                GroupBy::Campaign => Group::Campaign(tenant, name),
            };
            // Campaigns come by tenant.
            if names.last() != Some(&group) {
                names.push(group);
            }
            of_campaign.push(Some(names.len() as u32 - 1));
        }
        let of_unknown = selection.is_all().then(|| {
            if by != GroupBy::All || names.is_empty() {
                names.push(if by == GroupBy::All { Group::All } else { Group::Unknown });
            }
            names.len() as u32 - 1
        });
        Groups { table, names, of_campaign, of_unknown, few }
    }

    /// All ads of all groups, if they are few.
    pub fn few(&self) -> Option<&[AdId]> {
        self.few.as_deref()
    }

    /// All groups, in order.
    pub fn names(&self) -> &[Group] {
        &self.names
    }

    /// The number of the group that an ad is in; `None` when it was not selected.
    pub fn of(&self, ad: &AdId) -> Option<usize> {
        let group = match self.table.campaign_of(ad) {
            Some(campaign) => self.of_campaign[campaign],
            None => self.of_unknown,
        };
        group.map(|group| group as usize)
    }
}
