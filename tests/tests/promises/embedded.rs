//! The whole way in one process, as a newcomer starts it: on the embedded ports, no service needed.

use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use promises::services::{duckdb, new_folder};

use promises::binary::twofold;

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
    ensure!(text.contains(" 3 lines refused"), "the reader's refusals count: {text}");
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

/// More than 100,000 clicks, evenly over three days and in no order: the last of each day comes seconds before the day's
/// cut, so the clock stands still before the archiver's next heartbeat is due. It must not wait for that.
#[tokio::test]
async fn a_dense_file_does_not_wait_for_a_heartbeat_that_never_comes() -> Result<()> {
    let folder = new_folder("demo-dense")?;
    let file = folder.join("clicks.csv");
    let mut text = "ad_id,timestamp\n".to_owned();
    const LINES: u64 = 120_000;
    for number in 0..LINES {
        // A multiplier without a factor of LINES visits every line once, in an order that looks random.
        let second = (number * 77_777 % LINES) * 3 * 86_400 / LINES;
        let (day, second) = (second / 86_400 + 1, second % 86_400);
        let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
        text += &format!("ad-{},2026-03-0{day}T{hour:02}:{minute:02}:{second:02}Z\n", number % 200);
    }
    std::fs::write(&file, text)?;
    let output = demo(&["--input", &file.to_string_lossy()]).await?;
    let text = stdout(&output);
    ensure!(output.status.success() && text.contains("120,000 clicks acknowledged"), "{text}");
    let days = ["2026-03-01", "2026-03-02", "2026-03-03"];
    let closed =
        |day| text.lines().any(|line| line.starts_with(day) && line.split_whitespace().nth(3) == Some("40,000"));
    ensure!(days.into_iter().all(closed), "{text}");
    Ok(())
}

/// Whatever the demo waits for, a signal ends it.
#[tokio::test]
async fn a_signal_ends_the_demo_in_the_middle_of_its_days() -> Result<()> {
    let mut command = tokio::process::Command::from(twofold());
    command.args(["demo", "--days", "60", "--page", "127.0.0.1:0", "--collector", "127.0.0.1:0"]);
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true).spawn()?;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let id = child.id().context("it runs")?.to_string();
    ensure!(std::process::Command::new("kill").args(["-TERM", &id]).status()?.success(), "kill");
    let output = tokio::time::timeout(Duration::from_secs(30), child.wait_with_output()).await??;
    ensure!(output.status.code() == Some(1), "{:?} {}", output.status, String::from_utf8_lossy(&output.stderr));
    Ok(())
}

/// `--json` prints the proof, and nothing else, on stdout.
#[tokio::test]
async fn json_is_the_proof_alone() -> Result<()> {
    let output = demo(&["--days", "1", "--rate", "5", "--json"]).await?;
    let proof: serde_json::Value = serde_json::from_slice(&output.stdout).with_context(|| stdout(&output))?;
    ensure!(output.status.success() && proof["holds"] == true, "{proof}");
    ensure!(proof["days"][0]["unexplained"] == 0 && proof["accepted"].as_u64() > Some(5_000), "{proof}");
    Ok(())
}
