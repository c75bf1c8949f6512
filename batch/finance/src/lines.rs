//! Lines of a statement, and the columns that every form of it has.

use clicks::books::PeriodState;
use clicks::id::{AdId, CampaignId, TenantId};
use clicks::time::{Interval, Timestamp};
use rust_decimal::Decimal;

use crate::money::{Counts, Money};
use crate::statement::By;

/// A period of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Period {
    pub interval: Interval,
    /// Of its days of UTC the one that will change most.
    pub state: PeriodState,
    /// Of its day, if it lies in one.
    pub revision: Option<u32>,
}

/// What is billed of one ad, campaign or tenant in one period, in one currency.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Line<'a> {
    pub ad: Option<&'a AdId>,
    /// What the ad is called on the last day of the period.
    pub name: Option<&'a str>,
    pub tenant: Option<&'a TenantId>,
    pub campaign: Option<&'a CampaignId>,
    pub counts: Counts,
    /// What each click costs, where it is the same for all of them.
    pub price: Option<Decimal>,
    /// `None`: the clicks have no price.
    pub money: Option<Money>,
}

/// A column of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Column {
    Start,
    End,
    Ad,
    Name,
    Tenant,
    Campaign,
    Clicks,
    Adjustment,
    Total,
    Price,
    Amount,
    Currency,
    State,
    Revision,
}

/// What stands in a cell.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Value<'a> {
    Text(&'a str),
    Time(Timestamp),
    Count(u64),
    Decimal(Decimal),
    Nothing,
}

impl Column {
    pub(crate) fn all(by: By) -> Vec<Column> {
        let who: &[Column] = match by {
            By::Ad => &[Column::Ad, Column::Name, Column::Tenant, Column::Campaign],
            By::Campaign => &[Column::Tenant, Column::Campaign],
            By::Tenant => &[Column::Tenant],
        };
        let counts =
            [Column::Clicks, Column::Adjustment, Column::Total, Column::Price, Column::Amount, Column::Currency];
        [&[Column::Start, Column::End], who, &counts, &[Column::State, Column::Revision]].concat()
    }

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Column::Start => "period_start",
            Column::End => "period_end",
            Column::Ad => "ad_id",
            Column::Name => "name",
            Column::Tenant => "tenant",
            Column::Campaign => "campaign",
            Column::Clicks => "clicks",
            Column::Adjustment => "adjustment",
            Column::Total => "total",
            Column::Price => "price",
            Column::Amount => "amount",
            Column::Currency => "currency",
            Column::State => "state",
            Column::Revision => "revision",
        }
    }

    pub(crate) fn of<'a>(self, period: &Period, line: &'a Line<'_>) -> Value<'a> {
        let text = |text: Option<&'a str>| text.map_or(Value::Nothing, Value::Text);
        let decimal = |number: Option<Decimal>| number.map_or(Value::Nothing, Value::Decimal);
        match self {
            Column::Start => Value::Time(period.interval.start),
            Column::End => Value::Time(period.interval.end),
            Column::Ad => text(line.ad.map(AdId::as_str)),
            Column::Name => text(line.name),
            Column::Tenant => text(line.tenant.map(TenantId::as_str)),
            Column::Campaign => text(line.campaign.map(CampaignId::as_str)),
            Column::Clicks => Value::Count(line.counts.clicks),
            Column::Adjustment => Value::Count(line.counts.adjustment),
            Column::Total => Value::Count(line.counts.total()),
            Column::Price => decimal(line.price),
            Column::Amount => decimal(line.money.as_ref().map(|money| money.amount)),
            Column::Currency => text(line.money.as_ref().map(|money| money.currency)),
            Column::State => Value::Text(period.state.name()),
            Column::Revision => period.revision.map_or(Value::Nothing, |number| Value::Count(number.into())),
        }
    }
}
