//! `twofold adjustments`: clicks that were found after their day was final.

use std::collections::BTreeMap;

use anyhow::Result;
use clicks::id::AdId;
use clicks::time::{Day, Span};
use finance::adjustments_of;
use platform::settings::Settings;
use serde_json::{Value, json};

use super::{Desk, csv_on_stdout, grouped, refused};
use crate::cli::{AdjustmentsCommand, AdjustmentsOf};
use crate::exit::{Exit, OutputError, print};

pub async fn run(settings: &Settings, command: AdjustmentsCommand, as_json: bool) -> Result<Exit> {
    let done = match command {
        AdjustmentsCommand::List(of) => list(settings, &of, as_json).await,
        AdjustmentsCommand::Export(of) => export(settings, &of).await,
    };
    done.or_else(|error| refused(error, None))
}

/// What one night has found of one day.
#[derive(Default)]
struct Found<'a> {
    clicks: u64,
    ads: BTreeMap<&'a str, u64>,
}

/// By day of the clicks, and the night that has found them.
async fn list(settings: &Settings, of: &AdjustmentsOf, as_json: bool) -> Result<Exit> {
    let desk = Desk::open(settings)?;
    let books = desk.books(of.known.as_of).await?;
    let rows = adjustments_of(&desk.objects, &books, of.of.period.interval(of.of.tz)).await?;
    let mut sums: BTreeMap<(Day, Day), Found<'_>> = BTreeMap::new();
    for row in &rows {
        let found = sums.entry((row.period_start.day(), row.night)).or_default();
        found.clicks += row.clicks;
        *found.ads.entry(&row.ad).or_default() += row.clicks;
    }
    if as_json {
        let all: Vec<Value> = sums
            .iter()
            .map(|((day, night), Found { clicks, ads })| json!({"day": day, "night": night, "clicks": clicks, "ads": ads}))
            .collect();
        print(&Value::from(all).to_string())?;
        return Ok(Exit::Done);
    }
    let all: u64 = sums.values().map(|found| found.clicks).sum();
    let lines: Vec<String> = sums
        .iter()
        .map(|((day, night), Found { clicks, ads })| {
            format!("{day}  the night of {night} found {} clicks of {} ads", grouped(*clicks), ads.len())
        })
        .collect();
    let found = if all == 0 { "no adjustment".to_owned() } else { format!("{} adjusted clicks", grouped(all)) };
    let last = format!("{} in {}: {found} beside what was final", of.of.period, of.of.tz.name());
    print(&lines.into_iter().chain([last]).collect::<Vec<_>>().join("\n"))?;
    Ok(Exit::Done)
}

async fn export(settings: &Settings, of: &AdjustmentsOf) -> Result<Exit> {
    let desk = Desk::open(settings)?;
    let books = desk.books(of.known.as_of).await?;
    let catalog = desk.catalog(of.known.priced, of.known.as_of).await?;
    let rows = adjustments_of(&desk.objects, &books, of.of.period.interval(of.of.tz)).await?;
    let write = || -> std::io::Result<()> {
        let mut writer = csv_on_stdout();
        writer.write_record([
            "period_start",
            "period_end",
            "ad_id",
            "name",
            "tenant",
            "campaign",
            "adjustment",
            "price",
            "amount",
            "currency",
            "night",
            "time_zone",
        ])?;
        for row in &rows {
            let day = row.period_start.day();
            let ad = AdId::parse(&row.ad).map_err(std::io::Error::other)?;
            let known = catalog.table.row_on(&ad, day);
            let price = catalog.table.price_on(&ad, day);
            let zone = of.of.tz;
            writer.write_record([
                zone.rfc3339(row.period_start),
                zone.rfc3339(row.period_start + Span::minutes(1)),
                row.ad.to_string(),
                known.map(|row| row.name.to_string()).unwrap_or_default(),
                known.map(|row| row.tenant.to_string()).unwrap_or_default(),
                known.map(|row| row.campaign.to_string()).unwrap_or_default(),
                row.clicks.to_string(),
                price.map(|price| price.amount.to_string()).unwrap_or_default(),
                price
                    .map(|price| (price.amount * rust_decimal::Decimal::from(row.clicks)).to_string())
                    .unwrap_or_default(),
                price.map(|price| price.currency.code().to_owned()).unwrap_or_default(),
                row.night.to_string(),
                zone.name().to_owned(),
            ])?;
        }
        writer.flush()
    };
    write().map_err(OutputError::new)?;
    Ok(Exit::Done)
}
