//! Programs that a test runs to the end: DuckDB, which reads our Parquet as a stranger would, and a browser.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::io::AsyncWriteExt;

use super::folder::repository;

const RUN_MAX: Duration = Duration::from_secs(120);
/// The whole way of a click takes minutes, and is watched from its beginning to its end.
const WATCH_MAX: Duration = Duration::from_secs(900);

/// Where `tests/setup` leaves what it installed for this source tree.
pub fn tools() -> PathBuf {
    repository().join("target/tools")
}

/// Runs SQL in DuckDB and returns the rows of its last statement, each value as DuckDB writes it, NULL as "NULL".
pub async fn duckdb(sql: &str) -> Result<Vec<Vec<String>>> {
    let mut command = Command::new(tool("python/bin/python")?);
    command.arg(repository().join("tests/services/query.py"));
    let printed = run_to_end("duckdb", command, sql).await.with_context(|| format!("run in DuckDB: {sql}"))?;
    let rows: Vec<Vec<Option<String>>> = serde_json::from_str(&printed).context("read the rows from DuckDB")?;
    let text = |value: Option<String>| value.unwrap_or_else(|| "NULL".to_owned());
    Ok(rows.into_iter().map(|row| row.into_iter().map(text).collect()).collect())
}

/// The lines of an export, read by pandas, openpyxl or DuckDB, whichever knows its form; see `tests/services/sheets.py`.
pub async fn sheet(path: &Path, zone: &str) -> Result<Vec<Vec<String>>> {
    let mut command = Command::new(tool("python/bin/python")?);
    command.arg(repository().join("tests/services/sheets.py")).arg(path).arg(zone);
    let printed = run_to_end("the reader of sheets", command, "").await?;
    serde_json::from_str(&printed).context("read the lines of a sheet")
}

/// What psql prints for a command: rows of CSV, or what its own commands show. `Err` has the server's message.
pub async fn psql(port: u16, user: &str, password: &str, command: &str) -> Result<String> {
    let mut psql = Command::new("psql");
    psql.args(["--no-psqlrc", "--csv", "--set", "ON_ERROR_STOP=1", "--host", "127.0.0.1", "--dbname", "twofold"]);
    psql.arg("--port").arg(port.to_string()).arg("--username").arg(user).env("PGPASSWORD", password);
    run_to_end("psql", psql, command).await
}

/// What notebooks see of a server of PostgreSQL's protocol; see `tests/services/postgres.py`.
pub async fn notebook(port: u16, password: &str) -> Result<Value> {
    let mut command = Command::new(tool("python/bin/python")?);
    command.arg(repository().join("tests/services/postgres.py")).arg(port.to_string()).arg(password);
    let printed = run_to_end("the notebook", command, "").await?;
    serde_json::from_str(&printed).context("read what the notebook saw")
}

/// Runs Python with the libraries of `tests/python/requirements.txt`.
pub async fn python(program: &str, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(tool("python/bin/python")?);
    command.arg("-").args(arguments);
    run_to_end("python", command, program).await
}

/// What BI tools see of it, by JDBC: a value per question; see `tests/services/jdbc/Ask.java`.
pub async fn jdbc(port: u16, password: &str) -> Result<BTreeMap<String, String>> {
    let folder = tool("jdbc")?;
    let mut command = Command::new("java");
    command.arg("-cp").arg(format!("{0}/*:{0}", folder.display())).arg("Ask");
    command.arg(format!("jdbc:postgresql://127.0.0.1:{port}/twofold")).arg(password);
    let printed = run_to_end("the BI tool", command, "").await?;
    let lines = printed.lines().filter_map(|line| line.split_once('\t'));
    Ok(lines.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}

/// Holds a Kubernetes manifest against the schemas of these versions, unknown fields refused, and gives it as JSON.
pub async fn manifest(text: &str, versions: &[&str]) -> Result<Value> {
    let mut command = Command::new(tool("python/bin/python")?);
    command.arg(repository().join("tests/services/manifest.py")).args(versions);
    let printed = run_to_end("the linter of manifests", command, text).await?;
    serde_json::from_str(&printed).context("read the manifest as JSON")
}

/// Runs `systemd-analyze`, which needs no running systemd for what tests ask it, and gives all that it printed.
pub async fn systemd_analyze(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("sh");
    command.args(["-c", "exec systemd-analyze \"$@\" 2>&1", "sh"]).args(arguments);
    run_to_end("systemd-analyze", command, "").await
}

/// Asks a server everything that the description of its API allows, and everything that it does not; the addresses that
/// match `exclude` are left out.
///
/// # Errors
/// When an answer is not as it is described, is a server's error, or comes too late. It tells how to ask again.
pub async fn check_api(description: &str, exclude: &str, seed: u64) -> Result<String> {
    let mut command = Command::new(tool("python/bin/schemathesis")?);
    // That a question is well-formed does not make it one that can be answered: a range may be empty.
    command.args(["run", description, "--exclude-path", exclude, "--exclude-checks", "positive_data_acceptance"]);
    command.args(["--max-examples", "60", "--request-timeout", "10", "--no-color", "--seed", &seed.to_string()]);
    // It keeps what it found in a folder of its own, here.
    command.current_dir(super::new_folder("api")?);
    run_to_end("schemathesis", command, "").await
}

/// How to look at a page.
#[derive(Clone, Copy, Debug)]
pub struct PageView<'a> {
    /// A selector of what must be visible before the page counts as shown.
    pub wait: Option<&'a str>,
    pub width: u32,
}

impl Default for PageView<'_> {
    fn default() -> Self {
        Self { wait: None, width: 1280 }
    }
}

/// What a person, and whoever opens the console, saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    pub title: String,
    pub text: String,
    /// Errors of the console, uncaught exceptions and failed requests.
    pub errors: Vec<String>,
}

/// Opens a page in the browser and saves a picture of all of it.
pub async fn open_page(url: &str, picture: &Path, view: PageView<'_>) -> Result<Page> {
    tool("browser/node_modules/playwright-core")?;
    tool("chromium")?;
    let mut command = Command::new("node");
    command.arg(repository().join("tests/browser/shot.mjs")).arg(url).arg(picture);
    command.args(["--width", &view.width.to_string()]);
    if let Some(selector) = view.wait {
        command.args(["--wait", selector]);
    }
    let printed = run_to_end("the browser", command, "").await?;
    let page: Value = serde_json::from_str(&printed).context("read what the browser saw")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let errors = page["errors"].as_array().context("the browser told nothing about errors")?;
    Ok(Page { title: text(&page["title"]), text: text(&page["text"]), errors: errors.iter().map(text).collect() })
}

/// Uses the page at `url` as people do; the pictures of all stages are left in `folder`.
///
/// # Errors
/// When anything is not as it must be.
pub async fn walk_page(url: &str, folder: &Path) -> Result<Value> {
    tool("browser/node_modules/axe-core")?;
    tool("chromium")?;
    let mut command = Command::new("node");
    command.arg(repository().join("tests/browser/walk.mjs")).arg(url).arg(folder);
    let printed = run_to_end("the walk through the page", command, "").await?;
    serde_json::from_str(&printed).context("read what was downloaded")
}

/// Opens the page at `url`, which wants a key, with one of the tenant acme and with one that sees all; the pictures of all
/// stages are left in `folder`.
///
/// # Errors
/// When anything is not as it must be.
pub async fn use_keys(url: &str, folder: &Path, key: &str, key_to_all: &str) -> Result<Value> {
    tool("browser/node_modules/axe-core")?;
    tool("chromium")?;
    let mut command = Command::new("node");
    command.arg(repository().join("tests/browser/keys.mjs")).arg(url).arg(folder).args([key, key_to_all]);
    let printed = run_to_end("the page with keys", command, "").await?;
    serde_json::from_str(&printed).context("read what was downloaded")
}

/// Looks at the page at `url` while the system lives on: its number grows, a day closes, the speed layer goes away and comes
/// back. What was seen has a picture in `folder` from then on: `grown`, `closed`, `away` and `back`, each `.png`.
///
/// # Errors
/// When anything is not as it must be, or one of these does not come.
pub async fn watch_page(url: &str, folder: &Path) -> Result<()> {
    tool("chromium")?;
    let mut command = Command::new("node");
    command.arg(repository().join("tests/browser/watch.mjs")).arg(url).arg(folder);
    run_within(WATCH_MAX, "the watch of the page", command, "").await.map(drop)
}

/// A file that `tests/setup` installs.
pub(super) fn tool(path: &str) -> Result<PathBuf> {
    let file = tools().join(path);
    if !file.exists() {
        bail!("{} is missing: run tests/run (or tests/setup first)", file.display());
    }
    Ok(file)
}

/// Runs a short-lived program and returns what it printed on standard output; its errors go into the error.
pub(super) async fn run_to_end(name: &str, command: Command, input: &str) -> Result<String> {
    run_within(RUN_MAX, name, command, input).await
}

async fn run_within(limit: Duration, name: &str, command: Command, input: &str) -> Result<String> {
    let mut command = tokio::process::Command::from(command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let run = async {
        let mut child = command.spawn().with_context(|| {
            let program = command.as_std().get_program().display().to_string();
            format!("start {program}: is it installed? run tests/run (or tests/setup first)")
        })?;
        let mut stdin = child.stdin.take().context("no standard input")?;
        // One that does not read all of its input tells by its exit status whether that was a mistake.
        _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = child.wait_with_output().await?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            bail!("{name} failed ({})\n{}{printed}", output.status, String::from_utf8_lossy(&output.stderr));
        }
        Ok(printed)
    };
    tokio::time::timeout(limit, run).await.with_context(|| format!("{name} still runs after {limit:?}"))?
}
