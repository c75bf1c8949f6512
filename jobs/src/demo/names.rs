//! Names for the ads of the demo, so that its page looks like one of yours would.

use std::sync::Arc;

use anyhow::{Context, Result};
use clicks::ads::{AdRow, AdsTable, Price, parse};
use clicks::id::{AdId, CampaignId, TenantId};
use clicks::time::Day;

/// Tenant and campaign, and what is advertised there.
const CAMPAIGNS: [(&str, &str, &str); 6] = [
    ("acme", "spring-shoes", "Spring shoes"),
    ("acme", "summer-sale", "Summer sale"),
    ("globex", "launch", "Launch of the year"),
    ("globex", "newsletter", "Newsletter"),
    ("initech", "hiring", "We are hiring"),
    ("initech", "webinar", "Webinar on Tuesday"),
];
const PLACES: [&str; 5] = ["banner", "sidebar", "video", "search", "footer"];

/// Of more ads the rest have no names, as ads do that nobody has loaded yet.
const NAMED_MAX: u32 = 180;

/// The table of the first ads that are simulated.
pub fn simulated(ads: u32, first_day: Day) -> Result<AdsTable> {
    let row = |n: u32| {
        let (tenant, campaign, product) = CAMPAIGNS[n as usize % CAMPAIGNS.len()];
        let place = PLACES[n as usize % PLACES.len()];
        anyhow::Ok(AdRow {
            ad: AdId::parse(&format!("ad-{n}"))?,
            tenant: TenantId::parse(tenant)?,
            campaign: CampaignId::parse(campaign)?,
            name: Arc::from(format!("{product}, {place} {}", 1 + n / 30)),
            price: Some(Price { amount: "0.25".parse()?, currency: "EUR".parse().map_err(anyhow::Error::msg)? }),
            valid_from: first_day,
        })
    };
    let rows: Vec<AdRow> = (1..=ads.min(NAMED_MAX)).map(row).collect::<Result<_>>()?;
    Ok(AdsTable::new(rows)?)
}

/// The table of a file.
pub fn read(file: &std::path::Path) -> Result<AdsTable> {
    let text = || format!("--ads-table {}", file.display());
    let bytes = std::fs::read(file).with_context(text)?;
    AdsTable::new(parse(&bytes).with_context(text)?).with_context(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_are_a_table_that_could_be_loaded() {
        for ads in [1, 7, 1_000_000] {
            let table = simulated(ads, Day::from_number(0)).unwrap();
            assert_eq!(table.ads_count() as u32, ads.min(NAMED_MAX));
            assert_eq!(parse(&clicks::ads::to_csv(table.rows())).unwrap(), table.rows());
        }
    }
}
