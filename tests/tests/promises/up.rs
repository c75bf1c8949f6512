//! `twofold up`: all services in one process against real Kafka, Redis and S3, and an orderly end at SIGTERM.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use promises::services::{Process, duckdb, free_port, new_folder, shared};
use rdkafka::admin::{AdminClient, AdminOptions, AlterConfig, ResourceSpecifier};
use rdkafka::config::ClientConfig;
use serde_json::Value;

use promises::binary::twofold;

const NAME: &str = "up-test";

#[tokio::test]
async fn a_click_is_seen_within_seconds_and_the_end_is_orderly() -> Result<()> {
    let services = shared().await?;
    services.s3.create_bucket(NAME)?;
    let (collect, serve) = (free_port()?, free_port()?);
    let config = new_folder(NAME)?.join("twofold.toml");
    std::fs::write(
        &config,
        format!(
            "[kafka]\nbrokers = \"{}\"\ntopic = \"{NAME}\"\npartitions = 2\nreplication_factor = 1\n\
             [redis]\nurl = \"{}\"\n\
             [storage]\nurl = \"s3://{NAME}/prefix\"\nendpoint = \"{}\"\nregion = \"{}\"\naccess_key = \"{}\"\n\
             [collector]\nlisten = \"127.0.0.1:{collect}\"\n[serving]\nadmin = \"127.0.0.1:0\"\nlisten = \"127.0.0.1:{serve}\"\n\
             [speed]\nadmin = \"127.0.0.1:{}\"\n[archive]\nadmin = \"127.0.0.1:{}\"\nheartbeat = \"1s\"\n",
            services.kafka.brokers(),
            services.redis.url(),
            services.s3.endpoint(),
            services.s3.region(),
            services.s3.access_key(),
            free_port()?,
            free_port()?,
        ),
    )?;
    let created = command(&config, services.s3.secret_key()).args(["topic", "create"]).output()?;
    ensure!(created.status.success(), "{}", String::from_utf8_lossy(&created.stderr));
    let mut up = command(&config, services.s3.secret_key());
    up.arg("up");
    let mut up = Process::spawn("up", up)?;
    up.wait_for_port(collect, Duration::from_secs(30)).await?;
    up.wait_for_port(serve, Duration::from_secs(30)).await?;

    let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build()?;
    // The smallest click: no id, which is issued; the time is the machine's.
    let now = machine_now();
    let click = format!(r#"{{"ad_id":"my-ad","user_id":"me","timestamp":"{now}"}}"#);
    let request = http.post(format!("http://127.0.0.1:{collect}/v1/clicks")).header("content-type", "application/json");
    let answer = request.body(click).send().await?;
    ensure!(answer.status() == 202, "{}", answer.text().await?);
    let acknowledged = Instant::now();
    loop {
        let text = http.get(format!("http://127.0.0.1:{serve}/v1/clicks?ad_id=my-ad")).send().await?.text().await?;
        let body: Value = serde_json::from_str(&text)?;
        let data = body["data"].as_array().context("`data` is missing")?;
        if data.iter().filter_map(|period| period["total"].as_u64()).sum::<u64>() == 1 {
            break;
        }
        if acknowledged.elapsed() > Duration::from_secs(20) {
            bail!("not seen after 20 s: {text}\n{}", up.log_tail());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let ended = up.terminate().await?;
    ensure!(ended.success(), "up ended with {ended}: {}", up.log_tail());
    // The archiver was given the time to store what it held: its next object was due a quarter of an hour later.
    let files = services.s3.root().join(NAME).join("prefix/raw/v1/**/*.parquet");
    let archived =
        duckdb(&format!("SELECT count(*) FILTER (kind = 0) FROM read_parquet('{}')", files.display())).await?;
    ensure!(archived == [["1"]], "{archived:?}");

    // On a topic on which an acknowledged click may be lost, no service starts.
    let admin: AdminClient<_> = ClientConfig::new().set("bootstrap.servers", services.kafka.brokers()).create()?;
    let compacted = AlterConfig::new(ResourceSpecifier::Topic(NAME)).set("cleanup.policy", "compact");
    for altered in admin.alter_configs([&compacted], &AdminOptions::new()).await? {
        altered.map_err(|(_, code)| anyhow!("{code}"))?;
    }
    for service in ["collect", "speed", "archive", "up"] {
        let refused = command(&config, services.s3.secret_key()).arg(service).output()?;
        let why = String::from_utf8_lossy(&refused.stderr);
        ensure!(refused.status.code() == Some(1) && why.contains("cleanup.policy"), "{service}: {why}");
    }
    Ok(())
}

/// The secret comes from the environment, as an operator would pass it.
fn command(config: &Path, secret: &str) -> Command {
    let mut command = twofold();
    command.env("TWOFOLD__STORAGE__SECRET_KEY", secret).arg("--config").arg(config);
    command
}

fn machine_now() -> String {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    clicks::time::Timestamp::from_millis(since.as_millis() as i64).to_rfc3339()
}
