//! `twofold diff`: what has changed between two states of the books.

use std::collections::BTreeMap;
use std::fmt::Write;

use anyhow::Result;
use finance::{AdChange, ChangeCause, ChangesError, DayChange, changes};
use platform::settings::Settings;
use serde_json::{Value, json};

use super::{Desk, csv_on_stdout, grouped, refused};
use crate::cli::DiffArgs;
use crate::exit::{Exit, OutputError, print};

/// Ads of one change that are shown; all of them are in CSV and JSON.
const SHOWN_MAX: usize = 20;

pub async fn run(settings: &Settings, args: DiffArgs, as_json: bool) -> Result<Exit> {
    match diff(settings, &args, as_json).await {
        Ok(exit) => Ok(exit),
        Err(error) => match error.downcast::<ChangesError>() {
            Ok(ChangesError::Ledger(error)) => refused(error.into(), None),
            Ok(ChangesError::Statement(error)) => refused(error.into(), None),
            Ok(ChangesError::Inputs(error)) => Err(error.into()),
            Ok(error @ ChangesError::Backwards { .. }) => crate::exit::refuse(&error.to_string()),
            Err(error) => refused(error, None),
        },
    }
}

async fn diff(settings: &Settings, args: &DiffArgs, as_json: bool) -> Result<Exit> {
    let desk = Desk::open(settings)?;
    let (from, to) = (desk.books(args.from).await?, desk.books(args.to).await?.head());
    let catalog = desk.catalog(args.priced, args.to).await?;
    let (range, first) = (args.of.period.interval(args.of.tz), from.head());
    let found = changes(&desk.ledger, &desk.objects, &catalog.table, range, from, to).await?;
    if args.csv {
        csv(&found).map_err(OutputError::new)?;
        return Ok(Exit::Done);
    }
    let zone = args.of.tz.name();
    print(&match as_json {
        true => json!({
            "period": args.of.period.to_string(),
            "time_zone": zone,
            "from": first,
            "to": to,
            "ads_version": catalog.version,
            "changes": found.iter().map(change_json).collect::<Vec<_>>(),
        })
        .to_string(),
        false => {
            let mut text = format!("{} in {zone}, from ledger position {first} to {to}: ", args.of.period);
            text += &sum(found.iter().flat_map(|change| &change.ads));
            found.iter().for_each(|change| describe(change, &mut text));
            text
        }
    })?;
    Ok(Exit::Done)
}

fn signed(number: i128) -> String {
    if number > 0 { format!("+{}", grouped(number)) } else { grouped(number) }
}

fn clicks(ad: &AdChange) -> i128 {
    i128::from(ad.after) - i128::from(ad.before)
}

fn money(ad: &AdChange) -> String {
    let amount = ad.amount_after - ad.amount_before;
    ad.currency.map(|currency| format!("  {currency} {amount:+}")).unwrap_or_default()
}

/// What some changes come to.
fn sum<'a>(ads: impl Iterator<Item = &'a AdChange>) -> String {
    let (mut all, mut amounts) = (0, BTreeMap::new());
    for ad in ads {
        all += clicks(ad);
        if let Some(currency) = ad.currency {
            *amounts.entry(currency).or_default() += ad.amount_after - ad.amount_before;
        }
    }
    let amounts: Vec<String> = amounts
        .into_iter()
        .filter(|(_, amount): &(_, rust_decimal::Decimal)| !amount.is_zero())
        .map(|(currency, amount)| format!(", {currency} {amount:+}"))
        .collect();
    format!("{} clicks{}", signed(all), amounts.concat())
}

fn describe(change: &DayChange, text: &mut String) {
    let DayChange { day, entry, at, cause, revision_before, revision_after, ads, .. } = change;
    let at = at.map(|at| format!(", published at {}", at.to_rfc3339())).unwrap_or_default();
    let revision = match (revision_before, revision_after) {
        (before, after) if before == after => String::new(),
        (Some(before), Some(after)) => format!(", revision {before} -> {after}"),
        (_, after) => after.map(|after| format!(", revision {after}")).unwrap_or_default(),
    };
    let _ = write!(
        text,
        "\n{day}  {}  {} of {} ads (entry {entry}{at}{revision})",
        cause.name(),
        sum(ads.iter()),
        ads.len()
    );
    // Where nothing was before, every ad is new.
    let of_interest = if *cause == ChangeCause::Closed { &[] } else { ads.as_slice() };
    let mut largest: Vec<&AdChange> = of_interest.iter().collect();
    largest.sort_by_key(|ad| (std::cmp::Reverse(clicks(ad).abs()), &ad.ad));
    for ad in largest.iter().take(SHOWN_MAX) {
        let (before, after) = (grouped(ad.before), grouped(ad.after));
        let _ = write!(text, "\n    {}  {before} -> {after}  {}{}", ad.ad, signed(clicks(ad)), money(ad));
    }
    if largest.len() > SHOWN_MAX {
        let _ = write!(text, "\n    and {} ads more: --csv and --json list all", largest.len() - SHOWN_MAX);
    }
}

fn change_json(change: &DayChange) -> Value {
    let ads: Vec<Value> = change
        .ads
        .iter()
        .map(|ad| {
            let amount = |amount: rust_decimal::Decimal| ad.currency.map(|_| amount.to_string());
            json!({
                "ad_id": ad.ad, "before": ad.before, "after": ad.after, "change": clicks(ad) as i64, "currency": ad.currency,
                "amount_before": amount(ad.amount_before), "amount_after": amount(ad.amount_after),
            })
        })
        .collect();
    json!({
        "day": change.day,
        "entry": change.entry,
        "published_at": change.at.map(|at| at.to_rfc3339()),
        "cause": change.cause,
        "revision_before": change.revision_before,
        "revision_after": change.revision_after,
        "ads": ads,
    })
}

/// A line per ad of each change.
fn csv(changes: &[DayChange]) -> std::io::Result<()> {
    let mut writer = csv_on_stdout();
    writer.write_record([
        "day",
        "cause",
        "entry",
        "published_at",
        "revision_before",
        "revision_after",
        "ad_id",
        "before",
        "after",
        "change",
        "currency",
        "amount_before",
        "amount_after",
        "amount_change",
    ])?;
    let text = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
    for change in changes {
        for ad in &change.ads {
            let amount = |amount: rust_decimal::Decimal| ad.currency.map(|_| amount.to_string()).unwrap_or_default();
            writer.write_record([
                change.day.to_string(),
                change.cause.name().to_owned(),
                change.entry.to_string(),
                change.at.map(|at| at.to_rfc3339()).unwrap_or_default(),
                text(change.revision_before),
                text(change.revision_after),
                ad.ad.to_string(),
                ad.before.to_string(),
                ad.after.to_string(),
                clicks(ad).to_string(),
                ad.currency.unwrap_or_default().to_owned(),
                amount(ad.amount_before),
                amount(ad.amount_after),
                amount(ad.amount_after - ad.amount_before),
            ])?;
        }
    }
    writer.flush()
}
