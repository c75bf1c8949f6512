//! The whole way in one process, as a newcomer starts it: on the embedded ports, no service needed.

use std::process::Output;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use promises::services::{duckdb, new_folder};

use crate::binary::twofold;

async fn demo(arguments: &[&str]) -> Result<Output> {
    let free = ["demo", "--once", "--page", "127.0.0.1:0", "--collector", "127.0.0.1:0"];
    let mut command = tokio::process::Command::from(twofold());
    let output = command.args(free).args(arguments).kill_on_drop(true).output();
    Ok(tokio::time::timeout(Duration::from_secs(300), output).await??)
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The scenario of the real services: more than 300,000 clicks over five days with duplicates, stragglers and nonsense,
/// while processes are killed and the store forgets.
#[tokio::test]
async fn the_proof_holds_although_everything_is_killed() -> Result<()> {
    let output = demo(&["--chaos", "--days", "5", "--rate", "45", "--seed", "11"]).await?;
    let (text, progress) = (stdout(&output), String::from_utf8_lossy(&output.stderr).into_owned());
    ensure!(output.status.success(), "{text}\n{progress}");
    for happened in
        ["the store lost the last", "the speed layer was killed", "live counts were wiped", "reply of the store"]
    {
        ensure!(progress.contains(happened), "the fault `{happened}` did not happen: {progress}");
    }
    let days: Vec<&str> = text.lines().filter(|line| line.contains(" equal, 0 wrong")).collect();
    ensure!(days.len() == 5 && days[0].ends_with("final"), "five days are compared, the oldest is final: {text}");
    let clicks: u64 = text
        .lines()
        .find_map(|line| line.split_once(" clicks acknowledged").map(|(number, _)| number.replace(',', "")))
        .context("the number of clicks")?
        .parse()?;
    ensure!(clicks > 300_000, "{clicks} clicks");
    Ok(())
}

/// `--data` keeps the tables, and the query that the demo prints reads them.
#[tokio::test]
async fn the_printed_query_gives_the_same_numbers() -> Result<()> {
    let folder = new_folder("demo-data")?.join("out");
    let path = folder.to_string_lossy().into_owned();
    let output = demo(&["--days", "2", "--ads", "10", "--rate", "5", "--data", &path]).await?;
    let text = stdout(&output);
    ensure!(output.status.success(), "{text}");
    let query = text.lines().find_map(|line| line.trim().strip_prefix("duckdb -c \"")).context("the query")?;
    let rows = duckdb(query.trim_end_matches('"')).await?;
    for row in &rows {
        let line = text.lines().find(|line| line.starts_with(&row[0])).with_context(|| format!("{row:?} in {text}"))?;
        let exact = line.split_whitespace().nth(3).context("the exact number")?.replace(',', "");
        ensure!(exact == row[1], "{row:?} in the tables, {line} in the proof");
    }
    ensure!(rows.len() == 2, "{rows:?}");
    // A second run must not mix its numbers with these.
    let again = demo(&["--data", &path]).await?;
    let message = String::from_utf8_lossy(&again.stderr).into_owned();
    ensure!(!again.status.success() && message.contains("holds data already"), "{message}");
    Ok(())
}

/// The user's own clicks: mapped columns, a zone, errors in it, any order; then a gap.
#[tokio::test]
async fn a_file_of_the_users_own_is_counted_and_its_errors_are_named() -> Result<()> {
    let folder = new_folder("demo-input")?;
    let file = folder.join("clicks.csv");
    std::fs::write(
        &file,
        "click_time;campaign;visitor\n\
         2026-03-29 12:00:30;summer;v1\n\
         2026-03-29 11:59:59;summer;v2\n\
         2026-03-29 12:00:10;a/b;v3\n\
         yesterday;summer;v4\n\
         2026-03-29 02:30:00;summer;v5\n\
         2026-03-29 00:30:00;winter;v6\n",
    )?;
    let path = file.to_string_lossy().into_owned();
    let input = ["--input", &path, "--map", "ad_id=campaign,timestamp=click_time,user_id=visitor"];
    let time = ["--time-format", "%Y-%m-%d %H:%M:%S", "--tz", "Europe/Berlin"];
    let output = demo(&[&input[..], &time[..]].concat()).await?;
    let (text, reasons) = (stdout(&output), String::from_utf8_lossy(&output.stderr).into_owned());
    ensure!(output.status.success(), "{text}\n{reasons}");
    for rejected in ["line 4: ", "line 5: ", "line 6: "] {
        ensure!(reasons.contains(rejected), "{rejected} is not reported: {reasons}");
    }
    // 00:30 of the 29th in Berlin is the evening before in UTC.
    for (day, clicks) in [("2026-03-28", "1"), ("2026-03-29", "2")] {
        let line = text.lines().find(|line| line.starts_with(day)).with_context(|| format!("{day} in {text}"))?;
        ensure!(line.split_whitespace().nth(3) == Some(clicks), "{line}");
    }

    std::fs::write(&file, "ad_id,timestamp\na,2026-01-01T00:00:00Z\na,2026-02-02T00:00:00Z\n")?;
    let gap = demo(&["--input", &path]).await?;
    let message = String::from_utf8_lossy(&gap.stderr).into_owned();
    ensure!(!gap.status.success() && message.contains("--allow-gap") && message.contains('3'), "{message}");
    let allowed = demo(&["--input", &path, "--allow-gap"]).await?;
    ensure!(allowed.status.success(), "{}", stdout(&allowed));
    Ok(())
}
