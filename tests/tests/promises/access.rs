//! Ads with names and keys, by the binary and on a real S3 server: what the commands say, what a key opens, and how soon
//! one that is revoked opens nothing any more.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use promises::binary::twofold;
use promises::services::{Process, duckdb, free_port, new_folder, shared};
use serde_json::Value;

use crate::mistakes::settings;

const NAME: &str = "access-test";
const COLUMNS: &str = "ad_id,tenant,campaign,name,price,currency,valid_from";

struct Ended {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

async fn run(config: &Path, arguments: &[&str]) -> Result<Ended> {
    let mut command = tokio::process::Command::from(twofold());
    command.arg("--config").arg(config).env("TWOFOLD_ACTOR", "ann").args(arguments).kill_on_drop(true);
    let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await??;
    let text = |bytes: Vec<u8>| String::from_utf8(bytes);
    Ok(Ended { code: output.status.code(), stdout: text(output.stdout)?, stderr: text(output.stderr)? })
}

/// It ends with this code, and says this.
async fn says(config: &Path, arguments: &[&str], code: i32, words: &str) -> Result<String> {
    let Ended { code: found, stdout, stderr } = run(config, arguments).await?;
    let told = format!("{stdout}{stderr}");
    ensure!(found == Some(code) && told.contains(words), "{arguments:?} ended with {found:?}: {told}");
    Ok(stdout)
}

fn file(folder: &Path, name: &str, lines: &[&str]) -> Result<PathBuf> {
    let path = folder.join(name);
    std::fs::write(&path, format!("{COLUMNS}\n{}\n", lines.join("\n")))?;
    Ok(path)
}

#[tokio::test]
async fn ads_are_loaded_and_keys_open_what_they_were_made_for() -> Result<()> {
    let services = shared().await?;
    let (folder, serve) = (new_folder(NAME)?, free_port()?);
    let config = folder.join("twofold.toml");
    let serving = format!("[serving]\nlisten = \"127.0.0.1:{serve}\"\nadmin = \"127.0.0.1:0\"\naccess = \"keys\"\n");
    std::fs::write(&config, settings(services, NAME)? + &serving)?;
    says(&config, &["topic", "create"], 0, "").await?;

    says(&config, &["ads", "show"], 0, "no ads were loaded yet; `twofold ads load FILE` does it").await?;
    let lines = [
        "ad-1,acme,spring,\"Red shoes, \"\"large\"\"\",0.25,EUR,2026-03-01",
        "ad-2,globex,spring,Rockets,,,2026-03-01",
    ];
    let good = file(&folder, "ads.csv", &lines)?;
    let good = good.to_str().context("a path of ours is text")?;
    let bad = file(&folder, "bad.csv", &[lines[0], "ad-3,acme,spring,Hats,\"0,25\",EUR,2026-03-01", "ad-4,acme"])?;
    let bad = bad.to_str().context("a path of ours is text")?;
    let told = "nothing was loaded.\nline 3: `price`: `0,25` is no amount such as 0.25, without a sign or a currency\nline 4: ";
    says(&config, &["ads", "load", bad], 2, told).await?;
    says(&config, &["ads", "load", "/no/such.csv"], 2, "/no/such.csv: nothing was loaded. No such file").await?;
    says(&config, &["ads", "load", good, "--dry-run"], 0, "would be version 1").await?;
    says(&config, &["ads", "load", good], 0, "version 1 of the ads table: 2 rows of 2 ads in 2 campaigns of 2 tenants")
        .await?;
    says(&config, &["ads", "load", good], 0, "nothing has changed: version 1 holds all of it already").await?;
    let shown = says(&config, &["ads", "show"], 0, "").await?;
    ensure!(shown == format!("{COLUMNS}\n{}\n", lines.join("\n")), "{shown}");
    // What is shown is read by a stranger, with the types that it has.
    let stored = folder.join("shown.csv");
    std::fs::write(&stored, &shown)?;
    let sql = format!("SELECT name, price + 1, valid_from + 1 FROM read_csv('{}') ORDER BY ad_id", stored.display());
    ensure!(duckdb(&sql).await?[0] == ["Red shoes, \"large\"", "1.25", "2026-03-02"], "{:?}", duckdb(&sql).await?);

    // Whoever takes over an ad sees all of its past.
    let moved = file(&folder, "moved.csv", &["ad-1,globex,spring,Red shoes,0.25,EUR,2026-03-01"])?;
    let moved = moved.to_str().context("a path of ours is text")?;
    says(&config, &["ads", "load", moved], 2, "It gives ad-1 to another tenant").await?;
    says(
        &config,
        &["ads", "load", moved, "--allow-moves"],
        0,
        "1 changed, 0 taken away, 1 as before, ad-1 to another tenant",
    )
    .await?;
    says(&config, &["ads", "load", good, "--replace", "--allow-moves"], 0, "version 3").await?;
    let history: Value = serde_json::from_str(&says(&config, &["ads", "history", "--json"], 0, "").await?)?;
    let history = history.as_array().context("history is a list")?;
    ensure!(history.len() == 3 && history.iter().all(|record| record["actor"] == "ann"), "{history:?}");
    ensure!(says(&config, &["ads", "show", "1"], 0, "").await? == shown, "an earlier version has changed");
    says(&config, &["ads", "show", "9"], 1, "has no version 9; its last one is 3").await?;

    // Two at once: each of the files is in the table, or its loader was told that it is not.
    let both = [("x", "ad-8,acme,spring,X,,,2026-03-01"), ("y", "ad-9,acme,spring,Y,,,2026-03-01")];
    let files = both.map(|(name, line)| file(&folder, name, &[line]));
    let [x, y] = files.map(|file| file.map(|path| path.display().to_string()));
    let (x, y) = (x?, y?);
    let (x_arguments, y_arguments) = (["ads", "load", &x], ["ads", "load", &y]);
    let (one, other) = tokio::try_join!(run(&config, &x_arguments), run(&config, &y_arguments))?;
    let shown = says(&config, &["ads", "show"], 0, "").await?;
    for (ended, ad) in [(one, "ad-8"), (other, "ad-9")] {
        let is_there = shown.contains(ad);
        ensure!(ended.code == Some(if is_there { 0 } else { 11 }), "{ad}: {:?} {}", ended.code, ended.stderr);
    }

    let make = ["key", "create", "--name", "dashboard of acme", "--tenant", "acme", "--expires", "30d"];
    let key = says(&config, &make, 0, "shown once").await?;
    let key = key.trim();
    ensure!(key.starts_with("tfk_") && key.len() == 81, "standard output is the key alone: {key}");
    says(&config, &["key", "create", "--name", "x", "--expires", "30d"], 2, "--all-tenants").await?;
    says(&config, &["key", "create", "--name", "x", "--tenant", "acme", "--expires", "soon"], 2, "soon").await?;
    let operate = ["key", "create", "--name", "x", "--tenant", "acme", "--scope", "operate", "--expires", "never"];
    says(&config, &operate, 2, "`operate` is about the installation as a whole").await?;
    let stranger = ["key", "create", "--name", "x", "--tenant", "nobody", "--expires", "1h"];
    says(&config, &stranger, 0, "the ads table has no tenant `nobody` yet").await?;

    let mut command = twofold();
    command.arg("--config").arg(&config).arg("serve");
    let mut server = Process::spawn("serve", command)?;
    server.wait_for_port(serve, Duration::from_secs(30)).await?;
    let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
    let ask = async |path: &str, key: Option<&str>| {
        let request = http.get(format!("http://127.0.0.1:{serve}{path}"));
        let answer = key
            .map_or(request.try_clone(), |key| Some(request.bearer_auth(key)))
            .context("it has no body")?
            .send()
            .await?;
        anyhow::Ok((answer.status().as_u16(), answer.text().await?))
    };
    let begun = Instant::now();
    let mut campaigns = ask("/v1/campaigns", Some(key)).await?;
    while !campaigns.1.contains("spring") {
        ensure!(
            begun.elapsed() < Duration::from_secs(30),
            "the ads are not seen: {campaigns:?}\n{}",
            server.log_tail()
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
        campaigns = ask("/v1/campaigns", Some(key)).await?;
    }
    ensure!(campaigns.0 == 200 && !campaigns.1.contains("globex"), "{campaigns:?}");
    ensure!(ask("/v1/clicks?ad_id=ad-1", Some(key)).await?.0 == 200);
    ensure!(ask("/v1/clicks?ad_id=ad-2", Some(key)).await?.0 == 404);
    ensure!(ask("/v1/clicks?ad_id=ad-1", None).await?.0 == 401);

    // Shown in the list by its id, never by its secret.
    let list = says(&config, &["key", "list"], 0, "dashboard of acme").await?;
    let (id, secret) = key[4..].split_once('_').context("a key has two parts")?;
    ensure!(list.contains(id) && !list.contains(secret), "{list}");
    says(&config, &["key", "revoke", id, "--reason", "the contract has ended"], 0, "is revoked").await?;
    let revoked = Instant::now();
    loop {
        let (status, body) = ask("/v1/clicks?ad_id=ad-1", Some(key)).await?;
        if status == 401 {
            ensure!(body.contains("was revoked at"), "{body}");
            break;
        }
        ensure!(revoked.elapsed() < Duration::from_secs(60), "it still opens after a minute");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    says(&config, &["key", "list"], 0, "by ann: the contract has ended").await?;
    says(&config, &["key", "revoke", "000000000000", "--reason", "x"], 2, "there is no key 000000000000").await?;
    ensure!(!server.log_tail().contains(secret), "a secret stands in the log");
    Ok(())
}
