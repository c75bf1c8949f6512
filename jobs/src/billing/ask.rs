//! `twofold sql`: the books as tables.

use std::io::{self, BufWriter, IsTerminal, Read};
use std::sync::Arc;

use anyhow::{Context, Result};
use arrow::datatypes::SchemaRef;
use finance::PointInTime;
use futures::StreamExt;
use platform::settings::Settings;
use serde_json::json;
use sql::render::{self, Csv, Json, Rows};
use sql::{Answer, Archive, Engine, Limits, Pin, SqlError, TABLES};

use super::{Desk, folder, grouped, refused};
use crate::cli::SqlArgs;
use crate::exit::{Exit, OutputError, print, refuse};

/// Rows of a table on a terminal.
const TABLE_ROWS_MAX: u64 = 1_000;

pub async fn run(settings: &Settings, args: SqlArgs, as_json: bool) -> Result<Exit> {
    if args.tables {
        return list(as_json);
    }
    let asked = match args.duckdb_views {
        true => views(settings).await,
        false => ask(settings, &args, as_json).await,
    };
    match asked {
        Ok(exit) => Ok(exit),
        Err(error) => match error.downcast_ref::<SqlError>() {
            Some(question) if question.is_question() => refuse(&question.to_string()),
            _ => refused(error, None),
        },
    }
}

fn list(as_json: bool) -> Result<Exit> {
    let lines = TABLES.iter().map(|table| format!("{:<14} {}", table.name, table.holds));
    print(&match as_json {
        true => json!(TABLES.iter().map(|table| json!({"name": table.name, "holds": table.holds})).collect::<Vec<_>>())
            .to_string(),
        false => lines.collect::<Vec<_>>().join("\n"),
    })?;
    Ok(Exit::Done)
}

async fn views(settings: &Settings) -> Result<Exit> {
    let desk = Desk::open(settings)?;
    if desk.books(PointInTime::Now).await?.days().next().is_none() {
        eprintln!(
            "twofold: no day is closed yet, and views are over what is published: ask again after the first night"
        );
        return Ok(Exit::Incomplete);
    }
    let has_ads = platform::ads::Ads::new(desk.objects.clone()).last(0).await? > 0;
    print(sql::views(&folder(desk.ledger.url()), has_ads).trim_end())?;
    Ok(Exit::Done)
}

/// The text of the question, wherever it is.
fn question(args: &SqlArgs) -> Result<Option<String>> {
    if let Some(question) = &args.question {
        return Ok(Some(question.clone()));
    }
    let mut text = String::new();
    match &args.file {
        Some(path) if path.as_os_str() != "-" => {
            text = std::fs::read_to_string(path).with_context(|| format!("`{}` cannot be read", path.display()))?;
        }
        Some(_) => drop(io::stdin().read_to_string(&mut text)?),
        None if !io::stdin().is_terminal() => drop(io::stdin().read_to_string(&mut text)?),
        None => return Ok(None),
    }
    Ok(Some(text))
}

async fn ask(settings: &Settings, args: &SqlArgs, as_json: bool) -> Result<Exit> {
    let Some(question) = question(args)? else {
        return refuse(
            "there is no question: `twofold sql \"SELECT …\"`, or --file; --tables lists what can be asked for",
        );
    };
    let desk = Desk::open(settings)?;
    let books = desk.books(args.known.as_of).await?;
    let catalog = desk.catalog(args.known.priced, args.known.as_of).await?;
    let (position, version) = (books.head(), catalog.version);
    let archive = Archive::new(desk.objects.clone(), desk.ledger.clone());
    let pin = Pin::default();
    pin.set(Arc::new(archive.snapshot(Arc::new(books), version, Arc::new(catalog.table))));
    let is_table = !args.csv && !as_json;
    let limits = Limits {
        memory_bytes: settings.sql.memory_bytes,
        spill_bytes: settings.sql.spill_bytes,
        time: args.timeout.unwrap_or(settings.sql.timeout).0,
        rows: args.max_rows.or(is_table.then_some(TABLE_ROWS_MAX)),
    };
    let answer = Engine::new(&desk.objects, limits)?.session(&pin)?.ask(&question).await?;
    let stdout = || BufWriter::new(io::stdout());
    let rows = match (args.csv, as_json) {
        (true, _) => stream(answer, |schema| Csv::new(stdout(), schema)).await?,
        (_, true) => {
            let about = json!({"ledger_position": position, "ads_version": version});
            stream(answer, |schema| Json::new(stdout(), schema, &about)).await?
        }
        (false, false) => table(answer).await?,
    };
    if !as_json {
        let rows = if rows == 1 { "1 row".to_owned() } else { format!("{} rows", grouped(rows)) };
        eprintln!("twofold: {rows}; ledger position {position}, ads table version {version}");
    }
    Ok(Exit::Done)
}

/// As a whole or not at all: a table is laid out when all of it is there.
async fn table(mut answer: Answer) -> Result<u64> {
    let mut batches = Vec::new();
    while let Some(batch) = answer.batches.next().await {
        batches.push(batch.map_err(|error| match error {
            SqlError::Rows(most) => anyhow::anyhow!(
                "the answer has more than {most} rows: ask for fewer, take --csv, which writes them as they come, or give --max-rows"
            ),
            error => error.into(),
        })?);
    }
    print(&render::table(&answer.schema, &batches)?)?;
    Ok(batches.iter().map(|batch| batch.num_rows() as u64).sum())
}

/// As it comes.
async fn stream<R: Rows>(mut answer: Answer, begin: impl FnOnce(&SchemaRef) -> io::Result<R>) -> Result<u64> {
    // Before anything is written: a question that cannot be answered leaves nothing behind.
    let mut next = answer.batches.next().await.transpose()?;
    let mut writer = match begin(&answer.schema) {
        Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
            return Err(SqlError::Question(error.to_string()).into());
        }
        writer => writer.map_err(OutputError::new)?,
    };
    let mut rows = 0;
    while let Some(batch) = next {
        rows += batch.num_rows() as u64;
        writer.batch(&batch).map_err(OutputError::new)?;
        next = answer.batches.next().await.transpose().map_err(|error| Unfinished(rows, error))?;
    }
    writer.end().map_err(OutputError::new)?;
    Ok(rows)
}

/// Something was written, and it is not all: no question that was merely asked wrongly.
#[derive(Debug, thiserror::Error)]
#[error("what was written is not all, it ends after row {0}: {1}")]
struct Unfinished(u64, SqlError);
