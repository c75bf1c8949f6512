//! What a question is about: all ads, some of them, or groups of them, as far as the caller may see them.

use std::collections::HashSet;

use clicks::ads::{Group, GroupBy, Groups, Selection};
use clicks::id::{AdId, CampaignId, TenantId};
use clicks::view::{Asked, Merge, Ranking, Reason};

use crate::catalog::{Catalog, Version};
use crate::gate::Caller;
use crate::params::Params;
use crate::problem::Problem;

/// The parameters that say what a question is about.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    ads: Option<Vec<AdId>>,
    selection: Selection,
    by: By,
}

/// What has one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// All that is asked for; of ads that are named, each.
    Default,
    Ad,
    Group(GroupBy),
}

/// A subject by one version of the table, where it needs one.
#[derive(Debug, Clone)]
pub(crate) struct Series {
    pub asked: Asked,
    /// What each series is of, in order.
    pub labels: Vec<Label>,
    /// The version of the ads table that says which ads these are, where they are not named.
    pub ads: Option<Version>,
}

/// A subject whose ads or groups are ranked.
#[derive(Debug)]
pub(crate) struct Ranks {
    groups: Groups,
    by: By,
    selects_all: bool,
    pub version: Version,
}

/// What a number is of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Label {
    Ad(AdId),
    Group(Group),
}

impl Subject {
    /// Names of the parameters.
    pub(crate) const PARAMETERS: [&str; 4] = ["ad_id", "tenant", "campaign", "group_by"];

    pub(crate) fn read(params: &Params, ads_max: usize) -> Result<Self, Problem> {
        let (ads, list) = (params.ads("ad_id", ads_max)?, "the ids that it has in the ads table, separated by commas");
        let selection = Selection {
            tenants: params.list("tenant", ads_max, list, TenantId::parse)?.unwrap_or_default(),
            campaigns: params.list("campaign", ads_max, list, CampaignId::parse)?.unwrap_or_default(),
        };
        let by = match params.one("group_by")? {
            None => By::Default,
            Some("ad") => By::Ad,
            Some("campaign") => By::Group(GroupBy::Campaign),
            Some("tenant") => By::Group(GroupBy::Tenant),
            Some(other) => return Err(Problem::unknown_word("group_by", other, "use ad, campaign or tenant")),
        };
        if ads.is_some() && (!selection.is_all() || matches!(by, By::Group(_))) {
            let reason = "it cannot be combined with `tenant`, `campaign` or a group: an ad has one of each already";
            return Err(Problem::parameter("ad_id", reason, "leave out the one or the other"));
        }
        Ok(Subject { ads, selection, by })
    }

    /// One series for all that is asked for, for each ad, or for each group.
    pub(crate) fn series(&self, caller: &Caller, catalog: &Catalog, series_max: usize) -> Result<Series, Problem> {
        let no_version = |asked, labels| Ok(Series { asked, labels, ads: None });
        if let Some(ads) = &self.ads {
            let labels = ads.iter().cloned().map(Label::Ad).collect();
            if caller.tenant().is_none() {
                return no_version(Asked::Ads(ads.clone()), labels);
            }
            let version = catalog.current()?;
            // Another's ad, and one that nobody has, look the same.
            if let Some(ad) = ads.iter().find(|ad| version.table.tenant_of(ad) != caller.tenant()) {
                return Err(Problem::unknown_name("ad_id", "ad", ad.as_str()));
            }
            return Ok(Series { asked: Asked::Ads(ads.clone()), labels, ads: Some(version) });
        }
        let by = match self.by {
            By::Default => GroupBy::All,
            By::Group(by) => by,
            By::Ad => {
                let mend = "name ads with `ad_id`, which then have a series each, or ask /v1/ads for those with the most clicks";
                return Err(Problem::parameter("group_by", "there may be any number of ads", mend));
            }
        };
        if by == GroupBy::All && self.selection.is_all() && caller.tenant().is_none() {
            return no_version(Asked::Total, vec![Label::Group(Group::All)]);
        }
        let (groups, version) = self.groups(caller, catalog, by)?;
        if groups.names().len() > series_max {
            let reason =
                format!("there are {} of them, and an answer has at most {series_max} series", groups.names().len());
            let mend = "name some with `campaign` or `tenant`, or ask /v1/ads for those with the most clicks";
            return Err(Problem::parameter("group_by", reason, mend));
        }
        let labels = groups.names().iter().map(|group| Label::Group(group.clone())).collect();
        Ok(Series { asked: Asked::Groups(groups), labels, ads: Some(version) })
    }

    /// The ads, or groups, that are ranked.
    pub(crate) fn ranks(&self, caller: &Caller, catalog: &Catalog) -> Result<Ranks, Problem> {
        let by = match self.by {
            By::Default | By::Ad => GroupBy::All,
            By::Group(by) => by,
        };
        // Names are only a help: without them the numbers are the same.
        let names_only = by == GroupBy::All && self.selection.is_all() && caller.tenant().is_none();
        let (groups, version) = match self.groups(caller, catalog, by) {
            Err(_) if names_only => {
                let none = Version::default();
                (Groups::new(none.table.clone(), &self.selection, by), none)
            }
            found => found?,
        };
        Ok(Ranks { groups, by: self.by, selects_all: names_only, version })
    }

    fn groups(&self, caller: &Caller, catalog: &Catalog, by: GroupBy) -> Result<(Groups, Version), Problem> {
        let version = catalog.current()?;
        let mut selection = self.selection.clone();
        if let Some(own) = caller.tenant() {
            if let Some(other) = selection.tenants.iter().find(|tenant| *tenant != own) {
                return Err(Problem::unknown_name("tenant", "tenant", other.as_str()));
            }
            selection.tenants = vec![own.clone()];
        }
        // A name that is misspelt would otherwise be answered with zeros.
        let known: HashSet<&TenantId> = version.table.tenants().collect();
        if let Some(tenant) = selection.tenants.iter().find(|tenant| !known.contains(tenant)) {
            return Err(Problem::unknown_name("tenant", "tenant", tenant.as_str()));
        }
        let seen = version.table.campaigns().iter();
        let seen = seen.filter(|(tenant, _)| selection.tenants.is_empty() || selection.tenants.contains(tenant));
        let seen: HashSet<&CampaignId> = seen.map(|(_, campaign)| campaign).collect();
        if let Some(campaign) = selection.campaigns.iter().find(|campaign| !seen.contains(campaign)) {
            return Err(Problem::unknown_name("campaign", "campaign", campaign.as_str()));
        }
        Ok((Groups::new(version.table.clone(), &selection, by), version))
    }
}

impl Ranks {
    /// Few ads are asked for by name: a tenant of ten does not pay for those of all others.
    pub(crate) fn asked(&self) -> Asked {
        self.groups.few().map_or(Asked::EachAd, |ads| Asked::EachOf(ads.to_vec()))
    }

    /// What stands against the ranking: where all ads are ranked the table only gives their names.
    pub(crate) fn reason(&self) -> Option<Reason> {
        if self.selects_all { None } else { self.version.reason() }
    }

    /// The largest of what is asked for.
    pub(crate) fn rank(&self, merge: Merge, limit: usize) -> Ranking<Label> {
        match self.by {
            By::Default | By::Ad if self.selects_all => merge.ranking(limit, |_| true).map(Label::Ad),
            By::Default | By::Ad => merge.ranking(limit, |ad| self.groups.of(ad).is_some()).map(Label::Ad),
            // Groups lie in the order of their names.
            By::Group(_) => {
                let ranking = merge.ranking_of(limit, &self.groups);
                ranking.map(|group| Label::Group(self.groups.names()[group].clone()))
            }
        }
    }
}

impl Label {
    pub(crate) fn ad(&self) -> Option<&AdId> {
        match self {
            Label::Ad(ad) => Some(ad),
            Label::Group(_) => None,
        }
    }

    /// Tenant and campaign of a group.
    pub(crate) fn home(&self) -> (Option<TenantId>, Option<CampaignId>) {
        match self {
            Label::Group(Group::Tenant(tenant)) => (Some(tenant.clone()), None),
            Label::Group(Group::Campaign(tenant, campaign)) => (Some(tenant.clone()), Some(campaign.clone())),
            Label::Ad(_) | Label::Group(Group::All | Group::Unknown) => (None, None),
        }
    }
}
