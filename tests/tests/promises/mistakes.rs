//! What an operator gets wrong, and what the binary says to it: the thing, the reason and the mend; never a panic.

use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, ensure};
use promises::services::{Redis, Shared, free_port, new_folder, shared};

use promises::binary::twofold;
use rdkafka::admin::{AdminClient, AdminOptions, NewPartitions};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;

struct Ended {
    code: i32,
    text: String,
}

async fn run(config: &Path, arguments: &[&str]) -> Result<Ended> {
    let mut command = tokio::process::Command::from(twofold());
    let output = command.arg("--config").arg(config).args(arguments).kill_on_drop(true).output();
    let output = tokio::time::timeout(Duration::from_secs(60), output).await??;
    let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(!text.contains("panicked"), "{text}");
    Ok(Ended { code: output.status.code().unwrap_or(-1), text })
}

/// A working installation's settings, to be spoilt.
pub(crate) fn settings(services: &Shared, name: &str) -> Result<String> {
    services.s3.create_bucket(name)?;
    Ok(format!(
        "[kafka]\nbrokers = \"{}\"\ntopic = \"{name}\"\npartitions = 2\nreplication_factor = 1\n\
         [redis]\nurl = \"{}\"\n\
         [storage]\nurl = \"s3://{name}\"\nendpoint = \"{}\"\nregion = \"{}\"\naccess_key = \"{}\"\nsecret_key = \"{}\"\n\
         [collector]\nlisten = \"127.0.0.1:{}\"\n",
        services.kafka.brokers(),
        services.redis.url(),
        services.s3.endpoint(),
        services.s3.region(),
        services.s3.access_key(),
        services.s3.secret_key(),
        free_port()?,
    ))
}

#[tokio::test]
async fn each_mistake_is_named_with_its_mend() -> Result<()> {
    let services = shared().await?;
    let good = settings(services, "mistakes")?;
    let config = new_folder("mistakes")?.join("twofold.toml");
    std::fs::write(&config, &good)?;

    let missing = run(&config, &["check"]).await?;
    ensure!(missing.code == 1 && missing.text.contains("twofold topic create"), "no topic yet: {}", missing.text);
    let early = run(&config, &["batch", "run"]).await?;
    ensure!(early.code == 1 && early.text.contains("twofold topic create"), "no ledger yet: {}", early.text);
    let created = run(&config, &["topic", "create"]).await?;
    ensure!(created.code == 0, "{}", created.text);
    let again = run(&config, &["topic", "create"]).await?;
    ensure!(again.code == 0 && again.text.contains("already"), "{}", again.text);
    let fine = run(&config, &["check"]).await?;
    ensure!(fine.code == 0, "{}", fine.text);
    // The topic is empty: nothing covers any day, and nothing is published.
    let empty = run(&config, &["batch", "run", "--date", "2026-01-01"]).await?;
    ensure!(empty.code == 2 && empty.text.contains("2026-01-01"), "a day before the first: {}", empty.text);
    let status = run(&config, &["batch", "status"]).await?;
    ensure!(status.code == 0 && status.text.contains("nothing stored"), "{}", status.text);

    let redis = Redis::start_with_password("open sesame").await?;
    let locked =
        format!("redis://:wrong@{}", redis.url().rsplit('@').next().unwrap_or_default().trim_start_matches("redis://"));
    let spoilt = [
        ("unknown key", good.replace("brokers =", "broker ="), &["check"][..], 2, "`brokers`"),
        ("unknown table", format!("{good}[sped]\nadmin = \"x\"\n"), &["check"], 2, "`speed`"),
        ("bad duration", format!("{good}append_timeout = \"soon\"\n"), &["check"], 2, "collector.append_timeout"),
        ("no such bucket", good.replace("s3://mistakes", "s3://nowhere"), &["check"], 1, "nowhere"),
        ("bad storage url", good.replace("s3://mistakes", "ftp://x"), &["check"], 1, "s3://bucket/prefix"),
        ("owned property", format!("{good}[kafka.client]\nacks = \"1\"\n"), &["check"], 1, "acks"),
        ("wrong password", good.replace(&services.redis.url(), &locked), &["check"], 1, "password"),
        ("nobody at the address", good.replace(&services.kafka.brokers(), "127.0.0.1:9"), &["check"], 1, "127.0.0.1:9"),
    ];
    for (what, text, arguments, code, named) in spoilt {
        std::fs::write(&config, text)?;
        let ended = run(&config, arguments).await?;
        ensure!(ended.code == code && ended.text.contains(named), "{what}: exit {} {}", ended.code, ended.text);
        ensure!(
            !ended.text.contains("wrong@") && !ended.text.contains("sesame"),
            "{what} shows a secret: {}",
            ended.text
        );
    }
    let nowhere = run(Path::new("no/such/file.toml"), &["check"]).await?;
    ensure!(nowhere.code == 2 && nowhere.text.contains("no/such/file.toml"), "{}", nowhere.text);
    Ok(())
}

/// Somebody adds partitions by Kafka's own tools: the ledger takes note once it is told, and not twice.
#[tokio::test]
async fn a_topic_that_has_grown_is_recorded_as_such() -> Result<()> {
    let services = shared().await?;
    let settings = settings(services, "grown")?;
    let config = new_folder("grown")?.join("twofold.toml");
    std::fs::write(&config, &settings)?;
    let created = run(&config, &["topic", "create"]).await?;
    ensure!(created.code == 0 && created.text.contains("2 partitions"), "{}", created.text);
    let brokers = services.kafka.brokers();
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", brokers).create()?;
    for grown in admin.create_partitions(&[NewPartitions::new("grown", 5)], &AdminOptions::new()).await? {
        grown.map_err(|(topic, code)| anyhow::anyhow!("{topic}: {code}"))?;
    }
    let noticed = run(&config, &["check"]).await?;
    ensure!(noticed.code != 0 && noticed.text.contains("twofold topic create"), "{} {}", noticed.code, noticed.text);
    let asked = run(&config, &["topic", "create"]).await?;
    ensure!(asked.code != 0 && asked.text.contains("ask for 5 (`kafka.partitions`)"), "{}", asked.text);
    std::fs::write(&config, settings.replace("partitions = 2", "partitions = 5"))?;
    let recorded = run(&config, &["topic", "create"]).await?;
    ensure!(recorded.code == 0 && recorded.text.contains("it has grown from 2"), "{}", recorded.text);
    let again = run(&config, &["topic", "create"]).await?;
    ensure!(again.code == 0 && again.text.contains("already"), "{}", again.text);
    let fine = run(&config, &["check"]).await?;
    ensure!(fine.code == 0, "{}", fine.text);
    let status = run(&config, &["batch", "status"]).await?;
    ensure!(status.code == 0 && status.text.matches("nothing stored").count() >= 5, "{}", status.text);
    Ok(())
}

#[tokio::test]
async fn a_taken_port_gives_one_clear_line() -> Result<()> {
    let taken = TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    for (flag, free) in [("--page", "--collector"), ("--collector", "--page")] {
        let mut command = tokio::process::Command::from(twofold());
        command.args(["demo", "--once", flag, &address, free, "127.0.0.1:0"]);
        let output = tokio::time::timeout(Duration::from_secs(30), command.kill_on_drop(true).output()).await??;
        let text = String::from_utf8_lossy(&output.stderr);
        let lines = text.lines().count();
        ensure!(output.status.code() == Some(1) && text.contains(&address) && text.contains(flag), "{flag}: {text}");
        ensure!(lines == 1, "{lines} lines: {text}");
    }
    Ok(())
}

/// What a user of `demo` mistypes is refused before anything starts, once, with exit code 2.
#[tokio::test]
async fn mistakes_of_the_command_line_are_refused_before_anything_starts() -> Result<()> {
    let file = new_folder("mistakes-demo")?.join("clicks.csv");
    std::fs::write(&file, "ad_id,timestamp\na,2026-03-01T00:00:00Z\n")?;
    let path = file.to_string_lossy().into_owned();
    let cases: [(&[&str], &str); 7] = [
        (&["--input", &path, "--days", "4"], "cannot be used with"),
        (&["--input", &path, "--chaos"], "cannot be used with"),
        (&["--allow-gap"], "--input"),
        (&["--days", "-1"], "1..=365"),
        (&["--input", &path, "--tz", "Nowhere"], "Europe/Berlin"),
        (&["--input", &path, "--map", "ad_id=campaign"], "Leave the mapping of ad_id out"),
        (&["--input", "no/such.csv"], "no/such.csv: No such file"),
    ];
    for (arguments, named) in cases {
        let mut command = tokio::process::Command::from(twofold());
        command.args(["demo", "--once", "--page", "127.0.0.1:0", "--collector", "127.0.0.1:0"]).args(arguments);
        let output = tokio::time::timeout(Duration::from_secs(30), command.kill_on_drop(true).output()).await??;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.code() == Some(2) && text.contains(named), "{arguments:?}: {:?} {text}", output.status);
        ensure!(text.matches("No such file").count() <= 1, "said twice: {text}");
    }
    Ok(())
}

/// `twofold demo | head -1` and a full disk: an end, no panic.
#[tokio::test]
async fn a_result_that_nobody_takes_is_no_panic() -> Result<()> {
    for (script, message) in [("{} | head -1", false), ("{} > /dev/full", true)] {
        let demo = format!(
            "{} demo --once --days 1 --rate 1 --page 127.0.0.1:0 --collector 127.0.0.1:0",
            twofold().get_program().display()
        );
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", &script.replace("{}", &demo)]);
        let output = tokio::time::timeout(Duration::from_secs(120), command.kill_on_drop(true).output()).await??;
        let text = String::from_utf8_lossy(&output.stderr);
        ensure!(!text.contains("panicked") && text.contains("standard output") == message, "{script}: {text}");
    }
    Ok(())
}

/// A secret may consist of digits: it is no number, and is shown to nobody.
#[tokio::test]
async fn a_secret_of_digits_is_taken_as_it_is_and_never_shown() -> Result<()> {
    let folder = new_folder("mistakes-secret")?;
    let show = |key: &str, value: &str| {
        let mut command = twofold();
        command.current_dir(&folder).args(["config", "show"]).env(key, value).output()
    };
    let texts = |shown: std::process::Output| {
        let text = [shown.stdout, shown.stderr].concat();
        (shown.status.success(), String::from_utf8_lossy(&text).into_owned())
    };
    let (_, other) = texts(show("TWOFOLD__STORAGE__SECRET_KEY", "another secret")?);
    ensure!(!other.contains("another secret"), "{other}");
    for secret in ["0012345678", "1e3", "true"] {
        let shown = show("TWOFOLD__STORAGE__SECRET_KEY", secret)?;
        let (succeeded, text) = texts(shown);
        ensure!(succeeded && text.contains("secret_key") && text == other, "{secret}: {text}\nother: {other}");
    }
    let shown = show("TWOFOLD__STORAGE__ACCESS_KEY", "0012345678")?;
    let text = String::from_utf8_lossy(&shown.stdout);
    ensure!(shown.status.success() && text.contains("access_key = \"0012345678\""), "{text}");
    Ok(())
}
