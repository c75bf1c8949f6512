//! Redis, persistent as in production: an append-only file, synced every second, and no eviction.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::process::Process;
use super::tools::run_to_end;
use super::{free_port, new_folder};

const START_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct Redis {
    port: u16,
    /// Further arguments, the same at every start.
    arguments: Vec<String>,
    password: Option<String>,
    folder: PathBuf,
    /// None after it was killed.
    process: Option<Process>,
    is_paused: bool,
}

impl Redis {
    pub async fn start() -> Result<Self> {
        Self::start_new(None, Vec::new()).await
    }

    pub async fn start_with_password(password: &str) -> Result<Self> {
        Self::start_new(Some(password.to_owned()), Vec::new()).await
    }

    pub(super) async fn start_new(password: Option<String>, arguments: Vec<String>) -> Result<Self> {
        let (port, folder) = (free_port()?, new_folder("redis")?);
        let mut redis = Self { port, arguments, password, folder, process: None, is_paused: false };
        redis.restart().await?;
        Ok(redis)
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    pub fn url(&self) -> String {
        match &self.password {
            Some(password) => format!("redis://:{password}@127.0.0.1:{}/", self.port),
            None => format!("redis://127.0.0.1:{}/", self.port),
        }
    }

    /// Where the append-only file lies; while the server is down a test may put an older copy there.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends it as a crash would. What it had written to the file stays there, synced or not, as the machine does not crash.
    pub fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill(),
            None => bail!("this Redis is down already"),
        }
    }

    /// Stops it in its tracks until [`Redis::resume`]: its connections stay, and nobody answers on them.
    pub fn pause(&mut self) -> Result<()> {
        self.is_paused = true;
        self.process.as_mut().context("this Redis is down")?.pause()
    }

    pub fn resume(&mut self) -> Result<()> {
        self.is_paused = false;
        self.process.as_mut().context("this Redis is down")?.resume()
    }

    pub fn process_id(&self) -> Result<u32> {
        Ok(self.process.as_ref().context("this Redis is down")?.id())
    }

    /// It runs, and is not paused.
    pub fn is_up(&self) -> bool {
        self.process.is_some() && !self.is_paused
    }

    /// Brings it back on its old port with its old data, and returns when these are loaded. One that runs is stopped first.
    pub async fn restart(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.terminate().await?;
        }
        let mut command = Command::new("redis-server");
        command.args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""]);
        command.args(["--appendonly", "yes", "--appendfsync", "everysec", "--maxmemory-policy", "noeviction"]);
        command.arg("--dir").arg(&self.folder);
        command.args(&self.arguments);
        if let Some(password) = &self.password {
            command.args(["--requirepass", password]);
        }
        self.is_paused = false;
        let mut process = Process::spawn("redis", command)?;
        process.wait_for_port(self.port, START_MAX).await?;
        self.process = Some(process);
        // It listens while it loads, but answers with an error.
        let deadline = Instant::now() + START_MAX;
        while let Err(error) = self.cli(&["PING"]).await {
            if Instant::now() >= deadline {
                return Err(error).context("Redis does not answer after its start");
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(())
    }

    /// What `redis-cli` prints for a command; an error if Redis answers with one.
    pub async fn cli(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("redis-cli");
        command.args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-e"]).args(arguments);
        if let Some(password) = &self.password {
            command.env("REDISCLI_AUTH", password);
        }
        let printed = run_to_end("redis-cli", command, "").await?;
        Ok(printed.trim_end_matches('\n').to_owned())
    }
}
