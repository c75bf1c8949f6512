//! Apache Kafka in KRaft mode: one broker, or three for what only replicas show.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;

use super::process::Process;
use super::tools::{run_to_end, tool};
use super::{free_port, new_folder};

const PROPERTIES: &str = include_str!("../../services/kafka/server.properties");
/// Every cluster of the tests has the same id; none ever meets another.
const CLUSTER_ID: &str = "AAAAAAAAAAAAAAAAAAAAAQ";
/// A second on an idle machine, but three may start while everything else is being compiled.
const START_MAX: Duration = Duration::from_secs(90);
/// Brokers read the clock file every 20 ms.
const CLOCK_FOLLOWED: Duration = Duration::from_millis(60);

#[derive(Clone, Copy, Debug)]
pub struct KafkaOptions {
    /// 1 or 3.
    pub brokers: u32,
    /// Whether [`Kafka::shift_clock`] may be used.
    pub shifted_clock: bool,
}

impl Default for KafkaOptions {
    fn default() -> Self {
        Self { brokers: 1, shifted_clock: false }
    }
}

/// A running cluster. Its brokers are numbered from 1.
#[derive(Debug)]
pub struct Kafka {
    brokers: Vec<Broker>,
    options: KafkaOptions,
    clock_file: PathBuf,
    ahead: Mutex<Duration>,
}

#[derive(Debug)]
struct Broker {
    node: usize,
    port: u16,
    properties: PathBuf,
    data: PathBuf,
    clock_file: Option<PathBuf>,
    /// None after it was killed.
    process: Option<Process>,
}

impl Kafka {
    /// Returns when every broker serves clients.
    pub async fn start(options: KafkaOptions) -> Result<Self> {
        let replicas = match options.brokers {
            1 | 3 => options.brokers as usize,
            other => bail!("a Kafka of {other} brokers: one or three are provided for"),
        };
        let folder = new_folder("kafka")?;
        let clock_file = folder.join("clock");
        let ports = (0..replicas).map(|_| Ok((free_port()?, free_port()?))).collect::<Result<Vec<_>>>()?;
        let voters: Vec<_> =
            (1..).zip(&ports).map(|(node, (_, controller))| format!("{node}@127.0.0.1:{controller}")).collect();
        let mut brokers = Vec::new();
        for (node, (port, controller_port)) in (1..).zip(ports) {
            let data = folder.join(format!("data-{node}"));
            let values = [
                ("{node}", node.to_string()),
                ("{voters}", voters.join(",")),
                ("{port}", port.to_string()),
                ("{controller_port}", controller_port.to_string()),
                ("{data}", data.display().to_string()),
                ("{replicas}", replicas.to_string()),
                ("{in_sync}", replicas.min(2).to_string()),
            ];
            let filled = values.iter().fold(PROPERTIES.to_owned(), |text, (word, value)| text.replace(word, value));
            let properties = folder.join(format!("broker-{node}.properties"));
            fs::write(&properties, filled).with_context(|| format!("write {}", properties.display()))?;
            let clock_file = options.shifted_clock.then(|| clock_file.clone());
            brokers.push(Broker { node, port, properties, data, clock_file, process: None });
        }
        let mut kafka = Self { brokers, options, clock_file, ahead: Mutex::default() };
        try_join_all(kafka.brokers.iter().map(Broker::format)).await?;
        // None of three is up before it sees another, so all are started before any is waited for.
        try_join_all(kafka.brokers.iter_mut().map(Broker::start)).await?;
        Ok(kafka)
    }

    /// The bootstrap servers.
    pub fn brokers(&self) -> String {
        let addresses: Vec<_> = self.brokers.iter().map(|broker| format!("127.0.0.1:{}", broker.port)).collect();
        addresses.join(",")
    }

    /// Moves the clock of all brokers forward and returns how far it is ahead of the real time since the start.
    ///
    /// It cannot go back, and should move by less than the retention of the topics.
    pub async fn shift_clock(&self, by: Duration) -> Result<Duration> {
        if !self.options.shifted_clock {
            bail!("this Kafka keeps the real time; start one with `shifted_clock: true`");
        }
        let ahead = {
            let mut ahead = self.ahead.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            *ahead += by;
            // As a whole, by renaming: a half-written number would be a time of its own.
            let next = self.clock_file.with_extension("next");
            fs::write(&next, ahead.as_millis().to_string()).with_context(|| format!("write {}", next.display()))?;
            fs::rename(&next, &self.clock_file).with_context(|| format!("write {}", self.clock_file.display()))?;
            *ahead
        };
        tokio::time::sleep(CLOCK_FOLLOWED).await;
        Ok(ahead)
    }

    /// The file that the brokers' clocks follow: how many milliseconds they are ahead. Not there before the first shift.
    pub fn clock_file(&self) -> &Path {
        &self.clock_file
    }

    /// Where a broker keeps its data; while it is down a test may put an older copy there.
    pub fn data(&self, node: usize) -> Option<&Path> {
        self.brokers.iter().find(|broker| broker.node == node).map(|broker| broker.data.as_path())
    }

    /// Ends a broker as a crash would.
    pub fn kill(&mut self, node: usize) -> Result<()> {
        let broker = self.broker(node)?;
        match broker.process.take() {
            Some(mut process) => process.kill(),
            None => bail!("broker {node} is down already"),
        }
    }

    /// Brings a broker back, with its old port and data, and returns when it serves clients. One that runs is stopped first.
    pub async fn restart(&mut self, node: usize) -> Result<()> {
        let broker = self.broker(node)?;
        if let Some(mut process) = broker.process.take() {
            process.terminate().await?;
        }
        broker.start().await
    }

    /// Stops all brokers in good order. Dropping the cluster ends them without.
    pub async fn stop(mut self) -> Result<()> {
        let running = self.brokers.iter_mut().filter_map(|broker| broker.process.as_mut());
        try_join_all(running.map(Process::terminate)).await?;
        Ok(())
    }

    /// What a broker printed since it was last started.
    pub fn log(&self, node: usize) -> String {
        let process = self.brokers.iter().find(|broker| broker.node == node).and_then(|broker| broker.process.as_ref());
        process.map(Process::log).unwrap_or_default()
    }

    fn broker(&mut self, node: usize) -> Result<&mut Broker> {
        self.brokers.iter_mut().find(|broker| broker.node == node).with_context(|| format!("there is no broker {node}"))
    }
}

impl Drop for Kafka {
    fn drop(&mut self) {
        // The data is of no further use, and three that stop in good order one after the other wait for each other.
        for process in self.brokers.iter_mut().filter_map(|broker| broker.process.as_mut()) {
            if let Err(error) = process.kill() {
                eprintln!("{error:#}");
            }
        }
    }
}

impl Broker {
    async fn format(&self) -> Result<()> {
        let mut command = java()?;
        command.args(["kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c"]).arg(&self.properties);
        run_to_end("kafka.tools.StorageTool", command, "").await?;
        Ok(())
    }

    async fn start(&mut self) -> Result<()> {
        let mut command = java()?;
        command.arg("-Xmx256m");
        if let Some(clock_file) = &self.clock_file {
            command.arg(format!("-Dtwofold.clock={}", clock_file.display()));
        }
        command.arg("kafka.Kafka").arg(&self.properties);
        let process = self.process.insert(Process::spawn(&format!("kafka-{}", self.node), command)?);
        process.wait_for_log("Kafka Server started", START_MAX).await?;
        process.wait_for_port(self.port, START_MAX).await
    }
}

fn java() -> Result<Command> {
    let mut command = Command::new("java");
    command.arg(format!("@{}", tool("kafka/java.args")?.display()));
    Ok(command)
}
