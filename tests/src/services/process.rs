//! A program that a test started, ended at the latest when the test drops it.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::folder;

const POLL: Duration = Duration::from_millis(10);
const TERMINATE_MAX: Duration = Duration::from_secs(15);
const DROP_MAX: Duration = Duration::from_secs(1);
const LOG_LINES_SHOWN: usize = 30;

/// A running program. It leads a process group of its own, and what it prints goes to a file.
///
/// A plain [`Child`] and polling, not tokio's: that one stops working when the runtime that started it ends, and shared
/// services outlive the runtime of the test that started them.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    registration: PathBuf,
}

impl Process {
    /// Starts `command` with no input and with its output going to a log named after `name`.
    pub fn spawn(name: &str, mut command: Command) -> Result<Self> {
        let log = folder::new_log(name)?;
        let output = File::create_new(&log).with_context(|| format!("create {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let child = command.spawn().with_context(|| {
            let program = command.get_program().display();
            format!("start {program}: is it installed? run tests/run (or tests/setup first)")
        })?;
        let registration = folder::registration(child.id())?;
        // From here on dropping it ends the child, should a step fail.
        let process = Self { name: name.to_owned(), child, log, registration };
        process.register()?;
        Ok(process)
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Everything printed so far, both streams in one.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    pub fn log_file(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    pub fn exited(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("look after {}", self.name))
    }

    /// Waits until it ends by itself.
    pub async fn wait(&mut self, timeout: Duration) -> Result<ExitStatus> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.exited()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                bail!("{} still runs after {timeout:?}\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until it has printed `text`; an error at once if it ends before.
    pub async fn wait_for_log(&mut self, text: &str, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        loop {
            // Looked at before the log is read: the text may be the last thing that it prints.
            let ended = self.exited()?;
            if self.log().contains(text) {
                return Ok(());
            }
            if let Some(status) = ended {
                bail!("{} ended ({status}) before it printed {text:?}\n{}", self.name, self.log_tail());
            }
            if Instant::now() >= deadline {
                bail!("{} did not print {text:?} in {timeout:?}\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(POLL).await;
        }
    }

    /// Waits until something accepts connections on a port of 127.0.0.1; an error at once if the process ends before.
    pub async fn wait_for_port(&mut self, port: u16, timeout: Duration) -> Result<()> {
        let deadline = Instant::now() + timeout;
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            if let Some(status) = self.exited()? {
                bail!("{} ended ({status}) before it listened on port {port}\n{}", self.name, self.log_tail());
            }
            if Instant::now() >= deadline {
                bail!("{} does not listen on port {port} after {timeout:?}\n{}", self.name, self.log_tail());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal("TERM")?;
        self.wait(TERMINATE_MAX).await
    }

    /// Ends it and its children without asking (SIGKILL), as a crash would.
    pub fn kill(&mut self) -> Result<()> {
        if self.exited()?.is_none() {
            send("KILL", &format!("-{}", self.id()))?;
            self.child.wait().with_context(|| format!("wait for {}", self.name))?;
        }
        Ok(())
    }

    /// Stops it in its tracks (SIGSTOP), as a long pause would, until [`Process::resume`].
    pub fn pause(&mut self) -> Result<()> {
        self.signal("STOP")
    }

    pub fn resume(&mut self) -> Result<()> {
        self.signal("CONT")
    }

    /// The last lines printed, for error messages.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
        format!("--- the end of {}:\n{}", self.log.display(), shown.join("\n"))
    }

    fn signal(&mut self, signal: &str) -> Result<()> {
        // Until we have waited for it nobody else can have its id.
        if self.exited()?.is_none() {
            send(signal, &self.id().to_string())?;
        }
        Ok(())
    }

    fn register(&self) -> Result<()> {
        let start = start_time(self.id()).with_context(|| format!("read the start time of {}", self.name))?;
        let mut file = File::create(&self.registration)?;
        writeln!(file, "{start} {}", std::process::id())?;
        Ok(())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A paused process takes SIGTERM only when it goes on.
        let asked = self.signal("TERM").and_then(|()| self.signal("CONT"));
        let deadline = Instant::now() + DROP_MAX;
        while asked.is_ok() && matches!(self.exited(), Ok(None)) && Instant::now() < deadline {
            std::thread::sleep(POLL);
        }
        match self.kill() {
            // Kept otherwise, for the watchdog to try again.
            Ok(()) => _ = fs::remove_file(&self.registration),
            Err(error) => eprintln!("{error:#}"),
        }
    }
}

/// `target` is a process id, or with a minus sign a process group. By way of the shell, whose `kill` needs neither
/// unsafe code nor another crate.
fn send(signal: &str, target: &str) -> Result<()> {
    let status = Command::new("sh").args(["-c", r#"kill -s "$0" -- "$1""#, signal, target]).status();
    match status.context("start sh")? {
        status if status.success() => Ok(()),
        status => bail!("send SIG{signal} to {target}: {status}"),
    }
}

/// In clock ticks since boot; with the id it names a process for good.
fn start_time(id: u32) -> Result<String> {
    let stat = fs::read_to_string(format!("/proc/{id}/stat"))?;
    // The name in parentheses may hold blanks and parentheses itself; what follows it begins with the third field.
    let (_, fields) = stat.rsplit_once(") ").context("no name in it")?;
    Ok(fields.split(' ').nth(19).context("too short")?.to_owned())
}
