//! An installation under test: its own services and its own processes of the real binary, on one moved clock.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use clicks::id::Region;
use clicks::position::PartitionId;
use clicks::time::{Day, Timestamp};
use clicks::window::Minute;
use platform::log::{KafkaLog, KafkaOptions, Log};
use promises::services::{self, Kafka, Process, Redis, S3, free_port, new_folder};
use serde_json::Value;

use promises::binary::twofold;

/// One of the binary's long-running subcommands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Service {
    Collect,
    Speed,
    Archive,
    Serve,
}

impl Service {
    fn name(self) -> &'static str {
        match self {
            Service::Collect => "collect",
            Service::Speed => "speed",
            Service::Archive => "archive",
            Service::Serve => "serve",
        }
    }
}

/// How a command ended and what it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    #[allow(dead_code, reason = "shown when a test fails")]
    pub(crate) stderr: String,
}

pub(crate) struct Install {
    kafka: Kafka,
    redis: Redis,
    s3: S3,
    config: PathBuf,
    ports: BTreeMap<Service, u16>,
    processes: BTreeMap<Service, Process>,
    http: reqwest::Client,
    /// What the broker's clock is ahead of the machine's.
    ahead: Duration,
}

const BUCKET: &str = "twofold";

impl Install {
    pub(crate) async fn start(first_day: Day, partitions: u32) -> Result<Self> {
        let options = services::KafkaOptions { shifted_clock: true, ..services::KafkaOptions::default() };
        let (kafka, redis, s3) = tokio::try_join!(Kafka::start(options), Redis::start(), S3::start())?;
        s3.create_bucket(BUCKET)?;
        let mut ports = BTreeMap::new();
        for service in [Service::Collect, Service::Speed, Service::Archive, Service::Serve] {
            ports.insert(service, free_port()?);
        }
        let config = new_folder("install")?.join("twofold.toml");
        let text = format!(
            "region = \"eu\"\n\
             [kafka]\nbrokers = \"{}\"\npartitions = {partitions}\nreplication_factor = 1\n\
             [redis]\nurl = \"{}\"\n\
             [storage]\nurl = \"s3://{BUCKET}/main\"\nendpoint = \"{}\"\nregion = \"{}\"\naccess_key = \"{}\"\nsecret_key = \"{}\"\n\
             [collector]\nlisten = \"127.0.0.1:{}\"\nappend_timeout = \"20s\"\n\
             [speed]\nadmin = \"127.0.0.1:{}\"\n[archive]\nadmin = \"127.0.0.1:{}\"\n[serving]\nadmin = \"127.0.0.1:0\"\nlisten = \"127.0.0.1:{}\"\n\
             [batch]\nvolume_factor = 0\n\
             [clock]\noffset_file = \"{}\"\n",
            kafka.brokers(),
            redis.url(),
            s3.endpoint(),
            s3.region(),
            s3.access_key(),
            s3.secret_key(),
            ports[&Service::Collect],
            ports[&Service::Speed],
            ports[&Service::Archive],
            ports[&Service::Serve],
            kafka.clock_file().display(),
        );
        std::fs::write(&config, text)?;
        let http = reqwest::Client::builder().timeout(Duration::from_secs(60)).build()?;
        let install =
            Install { kafka, redis, s3, config, ports, processes: BTreeMap::new(), http, ahead: Duration::ZERO };
        let created = install.twofold(&["topic", "create", "--first-day", &first_day.to_string()]).await?;
        ensure!(created.code == 0, "topic create: {created:?}");
        Ok(install)
    }

    pub(crate) fn kafka_options(&self) -> KafkaOptions {
        let region = Region::parse("eu").expect("a valid region");
        KafkaOptions::new(&self.kafka.brokers(), "clicks", region)
    }

    /// Moves the broker's clock, and with it Twofold's, forward to `time`; a time that has passed changes nothing.
    pub(crate) async fn move_clock_to(&mut self, time: Timestamp) -> Result<()> {
        let real = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let target = Duration::from_millis(u64::try_from(time.as_millis())?);
        let by = target.saturating_sub(real + self.ahead);
        if by > Duration::ZERO {
            self.ahead = self.kafka.shift_clock(by).await?;
            // Every process reads the offset again within 20 ms.
            tokio::time::sleep(Duration::from_millis(45)).await;
        }
        Ok(())
    }

    pub(crate) async fn spawn(&mut self, service: Service) -> Result<()> {
        let port = self.ports[&service];
        let mut process = Process::spawn(service.name(), self.command(&[service.name()]))?;
        process.wait_for_port(port, Duration::from_secs(30)).await?;
        self.processes.insert(service, process);
        if service == Service::Collect {
            let url = format!("http://127.0.0.1:{port}/readyz");
            self.wait_until("the collector is ready", async || Ok(self.http.get(&url).send().await?.status() == 200))
                .await?;
        }
        Ok(())
    }

    pub(crate) fn kill(&mut self, service: Service) -> Result<()> {
        let mut process = self.processes.remove(&service).context("it runs")?;
        ensure!(process.exited()?.is_none(), "{} had ended by itself: {}", service.name(), process.log_tail());
        process.kill()
    }

    pub(crate) fn kill_redis(&mut self) -> Result<()> {
        self.redis.kill()
    }

    pub(crate) async fn restart_redis(&mut self) -> Result<()> {
        self.redis.restart().await
    }

    /// Runs a subcommand to its end.
    pub(crate) async fn twofold(&self, arguments: &[&str]) -> Result<Ended> {
        let mut command = tokio::process::Command::from(self.command(arguments));
        let output = tokio::time::timeout(Duration::from_secs(120), command.kill_on_drop(true).output()).await??;
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ok(Ended { code: output.status.code().unwrap_or(-1), stdout: text(output.stdout), stderr: text(output.stderr) })
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = twofold();
        command.arg("--config").arg(&self.config).args(arguments);
        command
    }

    /// Runs the night as a scheduler would: again while its input is incomplete. Gives what it says of it.
    pub(crate) async fn run_night(&self, night: Day, flags: &[&str]) -> Result<Value> {
        let (began, date) = (Instant::now(), night.to_string());
        let arguments = [&["batch", "run", "--json", "--date", &date], flags].concat();
        loop {
            let ended = self.twofold(&arguments).await?;
            match ended.code {
                0 => return Ok(serde_json::from_str::<Value>(&ended.stdout)?["nights"][0].take()),
                10 if began.elapsed() < Duration::from_secs(60) => tokio::time::sleep(Duration::from_millis(300)).await,
                _ => bail!("the night of {night}: {ended:?}"),
            }
        }
    }

    /// Posts NDJSON; gives the number of accepted lines. A client tries again while the answer is 503.
    pub(crate) async fn post(&self, lines: String, malformed: u64) -> Result<u64> {
        let url = format!("http://127.0.0.1:{}/v1/clicks", self.ports[&Service::Collect]);
        let request = self.http.post(&url).header("content-type", "application/x-ndjson").body(lines);
        let response = request.send().await?;
        let (status, text) = (response.status().as_u16(), response.text().await?);
        ensure!(status == 202 || status == 422, "the collector answered {status}: {text}");
        let body: Value = serde_json::from_str(&text)?;
        if status == 422 {
            return Ok(0);
        }
        ensure!(body["rejected"] == malformed, "{malformed} malformed lines: {}", body["rejected"]);
        body["accepted"].as_u64().context("`accepted` is missing")
    }

    /// Clicks per period of a day.
    pub(crate) async fn clicks(&self, ad: Option<&str>, day: Day, grain: &str) -> Result<BTreeMap<Minute, u64>> {
        let ad = ad.map(|ad| format!("&ad_id={ad}")).unwrap_or_default();
        let body = self.get(&format!("/v1/clicks?from={day}&to={}&granularity={grain}{ad}", day.next())).await?;
        ensure!(
            body["meta"]["complete"] == true || grain == "day" || body["data"][0]["source"] == "batch",
            "incomplete: {}",
            body["meta"]
        );
        let data = body["data"].as_array().context("`data` is missing")?;
        let mut clicks = BTreeMap::new();
        for period in data {
            let start = Timestamp::parse_rfc3339(period["period_start"].as_str().context("period_start")?)?;
            clicks
                .insert(Minute::of(start), period["total"].as_u64().with_context(|| format!("no total in {period}"))?);
        }
        Ok(clicks)
    }

    /// Where the page is.
    pub(crate) fn page(&self) -> String {
        format!("http://127.0.0.1:{}/", self.ports[&Service::Serve])
    }

    pub(crate) async fn source(&self, day: Day) -> Result<String> {
        self.day_field(day, "source").await
    }

    pub(crate) async fn day_state(&self, day: Day) -> Result<String> {
        self.day_field(day, "state").await
    }

    async fn day_field(&self, day: Day, field: &str) -> Result<String> {
        let body = self.get(&format!("/v1/clicks?from={day}&to={}&granularity=day", day.next())).await?;
        Ok(body["data"][0][field].as_str().with_context(|| format!("no {field} in {body}"))?.to_owned())
    }

    pub(crate) async fn status(&self) -> Result<Value> {
        self.get("/v1/status").await
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let url = format!("http://127.0.0.1:{}{path}", self.ports[&Service::Serve]);
        let response = self.http.get(&url).send().await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status.is_success(), "{url} answered {status}: {text}");
        Ok(serde_json::from_str(&text)?)
    }

    /// Sum of a counter over its labels.
    pub(crate) async fn collector_metric(&self, name: &str) -> Result<u64> {
        let url = format!("http://127.0.0.1:{}/metrics", self.ports[&Service::Collect]);
        let text = self.http.get(&url).send().await?.text().await?;
        let lines = text.lines().filter(|line| line.starts_with(name));
        Ok(lines.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>() as u64)
    }

    /// Waits until the live counts hold everything that is on the topic.
    pub(crate) async fn speed_caught_up(&self) -> Result<()> {
        let log = KafkaLog::connect(self.kafka_options()).await?;
        let topic = log.topic().await?;
        let mut ends = BTreeMap::new();
        for number in 0..topic.partitions {
            ends.insert(number, log.bounds(number).await?.end.value());
        }
        self.wait_until("the speed layer has caught up", async || {
            let status = self.status().await?;
            let partitions = status["partitions"].as_array().context("`partitions` is missing")?;
            let behind = partitions.iter().filter(|partition| {
                let name = partition["partition"].as_str().and_then(|name| name.parse::<PartitionId>().ok());
                let end = name.and_then(|name| ends.get(&name.number).copied()).unwrap_or(u64::MAX);
                partition["live"]["next_offset"].as_u64().unwrap_or(0) < end
            });
            Ok(partitions.len() == ends.len() && behind.count() == 0)
        })
        .await
    }

    pub(crate) async fn wait_until(&self, what: &str, condition: impl AsyncFn() -> Result<bool>) -> Result<()> {
        let began = Instant::now();
        while !condition().await.unwrap_or(false) {
            if began.elapsed() > Duration::from_secs(60) {
                let logs: String = self.processes.values().map(Process::log_tail).collect();
                bail!("60 s passed before {what}: {:?}\n{logs}", condition().await);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Path of an object, for a tool that reads files.
    pub(crate) fn table(&self, key: &str) -> String {
        self.s3.root().join(BUCKET).join("main").join(key).display().to_string()
    }

    /// Ends every process as an operator would; each must end by itself and well.
    pub(crate) async fn stop(mut self) -> Result<()> {
        for (service, process) in &mut self.processes {
            ensure!(process.exited()?.is_none(), "{} had ended by itself: {}", service.name(), process.log_tail());
        }
        for (service, mut process) in std::mem::take(&mut self.processes) {
            // Redis is away by now, so the speed layer may give up instead of storing its last counts.
            let ended = process.terminate().await?;
            ensure!(ended.success() || service == Service::Speed, "{} ended with {ended}", service.name());
        }
        Ok(())
    }
}
