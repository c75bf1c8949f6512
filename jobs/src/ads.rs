//! `twofold ads`: the table of whose ads are, what they are called and what a click costs.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::Result;
use clicks::ads::{AdsTable, AdsVersion, Change, parse, to_csv};
use clicks::id::AdId;
use platform::ads::{Ads, AdsError, Load};
use platform::settings::Settings;
use serde_json::json;

use crate::cli::{Actor, AdsCommand};
use crate::connect;
use crate::exit::{Exit, OutputError, print, refuse};

/// Largest file, bytes: a million rows of full length.
const FILE_MAX: u64 = 512 << 20;

/// Ads of a long list that are named.
const NAMED_MAX: usize = 5;

pub async fn run(settings: &Settings, command: AdsCommand, as_json: bool) -> Result<Exit> {
    let ads = Ads::new(connect::objects(settings)?);
    match command {
        AdsCommand::Load { file, replace, allow_moves, dry_run, actor } => {
            let how = How { replace, allow_moves, dry_run };
            load(settings, &ads, file, how, actor, as_json).await
        }
        AdsCommand::Show { number } => show(&ads, number).await,
        AdsCommand::History => history(&ads, as_json).await,
    }
}

#[derive(Debug, Clone, Copy)]
struct How {
    replace: bool,
    allow_moves: bool,
    dry_run: bool,
}

async fn load(settings: &Settings, ads: &Ads, file: PathBuf, how: How, actor: Actor, as_json: bool) -> Result<Exit> {
    let actor = match actor.name() {
        Ok(actor) => actor,
        Err(question) => return refuse(question),
    };
    let name = file.display().to_string();
    let bytes = match read(&file) {
        Ok(bytes) => bytes,
        Err(error) => return refuse(&format!("{name}: nothing was loaded. {error}")),
    };
    let rows = match parse(&bytes) {
        Ok(rows) => rows,
        Err(error) => return refuse(&format!("{name}: nothing was loaded.\n{error}")),
    };
    let number = ads.last(0).await?;
    let before = match ads.read(number).await {
        // All of it is loaded anew.
        Err(error @ AdsError::Rows { .. }) if how.replace && how.allow_moves => {
            eprintln!("twofold: {error}");
            AdsTable::default()
        }
        before => before?,
    };
    let table = if how.replace { AdsTable::new(rows) } else { before.with(rows) };
    let table = match table {
        Ok(table) => table,
        Err(error) => return refuse(&format!("{name}: nothing was loaded. {error}")),
    };
    let change = table.change_from(&before);
    if !change.moved.is_empty() && !how.allow_moves {
        let moved = named(&change.moved);
        return refuse(&format!(
            "{name}: nothing was loaded. It gives {moved} to another tenant, who would see all of their past; if that is meant, \
             repeat with --allow-moves"
        ));
    }
    if !change.gone.is_empty() && !how.allow_moves {
        let gone = named(&change.gone);
        return refuse(&format!(
            "{name}: nothing was loaded. It does not have {gone}, which anybody could take over then, with all of the past; if \
             that is meant, repeat with --allow-moves"
        ));
    }
    let said = |number: u64| {
        match as_json {
        true => json!({
            "version": number, "rows": table.rows().len(), "ads": table.ads_count(), "campaigns": table.campaigns().len(),
            "tenants": table.tenants().count(), "change": &change, "dry_run": how.dry_run,
        })
        .to_string(),
        false => describe(number, &table, &change),
    }
    };
    if change.is_nothing() {
        print(&match as_json {
            true => said(number),
            false => format!("nothing has changed: version {number} holds all of it already"),
        })?;
        return Ok(Exit::Done);
    }
    if how.dry_run {
        print(&match as_json {
            true => said(number + 1),
            false => format!("would be {}", said(number + 1)),
        })?;
        return Ok(Exit::Done);
    }
    let load = Load { actor, source: name, at: connect::clock(settings).now() };
    match ads.publish((number, &before), &table, load).await {
        Ok(record) => {
            print(&said(record.number))?;
            Ok(Exit::Done)
        }
        Err(error @ AdsError::Lost(_)) => {
            eprintln!("twofold: {error}");
            Ok(Exit::Lost)
        }
        Err(error) => Err(error.into()),
    }
}

fn read(file: &Path) -> std::io::Result<Vec<u8>> {
    let source: Box<dyn Read> = match file.as_os_str().as_encoded_bytes() {
        b"-" => Box::new(std::io::stdin()),
        _ => Box::new(std::fs::File::open(file)?),
    };
    let mut bytes = Vec::new();
    source.take(FILE_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > FILE_MAX {
        true => Err(std::io::Error::other(format!("It is larger than {FILE_MAX} bytes."))),
        false => Ok(bytes),
    }
}

fn describe(number: u64, table: &AdsTable, change: &Change) -> String {
    let (rows, ads, campaigns) = (table.rows().len(), table.ads_count(), table.campaigns().len());
    let tenants = table.tenants().count();
    format!(
        "version {number} of the ads table: {rows} rows of {ads} ads in {campaigns} campaigns of {tenants} tenants ({})",
        changed(change)
    )
}

fn changed(change: &Change) -> String {
    let Change { added, changed, removed, same, moved, gone: _ } = change;
    let moved = if moved.is_empty() { String::new() } else { format!(", {} to another tenant", named(moved)) };
    format!("{added} added, {changed} changed, {removed} taken away, {same} as before{moved}")
}

fn named(ads: &[AdId]) -> String {
    let names: Vec<&str> = ads.iter().take(NAMED_MAX).map(|ad| ad.as_str()).collect();
    match ads.len().checked_sub(NAMED_MAX) {
        Some(more @ 1..) => format!("{} and {more} more ads", names.join(", ")),
        _ => names.join(", "),
    }
}

async fn show(ads: &Ads, number: Option<u64>) -> Result<Exit> {
    let number = match number {
        Some(number) => number,
        None => ads.last(0).await?,
    };
    if number == 0 {
        eprintln!("twofold: no ads were loaded yet; `twofold ads load FILE` does it");
    }
    let csv = to_csv(ads.read(number).await?.rows());
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(&csv).and_then(|()| stdout.flush()).map_err(OutputError::new)?;
    Ok(Exit::Done)
}

async fn history(ads: &Ads, as_json: bool) -> Result<Exit> {
    let mut records = Vec::new();
    for number in 1..=ads.last(0).await? {
        records.push(ads.record(number).await?);
    }
    let line = |record: &AdsVersion| {
        let AdsVersion { number, loaded_at, actor, source, change, rows, .. } = record;
        format!("{number}  {}  {actor}  {source}: {} rows, {}", loaded_at.to_rfc3339(), rows.count, changed(change))
    };
    print(&match as_json {
        true => serde_json::to_string(&records)?,
        false if records.is_empty() => "no ads were loaded yet; `twofold ads load FILE` does it".to_owned(),
        false => records.iter().map(line).collect::<Vec<_>>().join("\n"),
    })?;
    Ok(Exit::Done)
}
