//! S3, played by VersityGW: every bucket is a folder, every object a file in it. Path-style addressing, plain http.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::process::Process;
use super::tools::tool;
use super::{free_port, new_folder};

const START_MAX: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub struct S3 {
    port: u16,
    root: PathBuf,
    /// None after it was killed.
    process: Option<Process>,
}

impl S3 {
    pub async fn start() -> Result<Self> {
        let mut s3 = Self { port: free_port()?, root: new_folder("s3")?, process: None };
        s3.restart().await?;
        Ok(s3)
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn access_key(&self) -> &'static str {
        "twofold"
    }

    pub fn secret_key(&self) -> &'static str {
        "twofold-secret"
    }

    pub fn region(&self) -> &'static str {
        "us-east-1"
    }

    /// The folder that holds the buckets, for a test that looks at what is really stored or damages it.
    pub fn root(&self) -> PathBuf {
        self.root.clone()
    }

    /// Makes an empty bucket: the server takes every folder for one. Names have three letters or more.
    pub fn create_bucket(&self, name: &str) -> Result<()> {
        let folder = self.root.join(name);
        fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))
    }

    /// Ends the server as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        match self.process.take() {
            Some(mut process) => process.kill(),
            None => bail!("this S3 is down already"),
        }
    }

    /// Brings the server back on its old port with its old objects. One that runs is stopped first.
    pub async fn restart(&mut self) -> Result<()> {
        if let Some(mut process) = self.process.take() {
            process.terminate().await?;
        }
        let mut command = Command::new(tool("versitygw/versitygw")?);
        command.env("ROOT_ACCESS_KEY", self.access_key()).env("ROOT_SECRET_KEY", self.secret_key());
        // By default it ends the connection after every answer, as no S3 does.
        command.args(["--keep-alive", "--region", self.region(), "--port", &format!("127.0.0.1:{}", self.port)]);
        command.arg("posix").arg(&self.root);
        let mut process = Process::spawn("s3", command)?;
        process.wait_for_port(self.port, START_MAX).await?;
        self.process = Some(process);
        Ok(())
    }
}
