//! Where a test run keeps its files: one folder, given by `tests/run` or made for this process.
//!
//! ```text
//! pids/4711            "START OWNER": a process to be ended, see tests/services/stop
//! logs/815-3-kafka-1   what the third process of test process 815 printed
//! ports/10815          a port that is taken
//! 815-4-redis/         data
//! ```

use std::fs::{self, File};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Context, Result, anyhow, bail};
use rand::Rng;

/// Ports below those from which the kernel serves outgoing connections (32768 and up, usually): no passing connection of
/// anybody can take a port while its service is down between a kill and a restart.
const PORTS: std::ops::Range<u16> = 10_000..32_000;

const PORT_TRIES_MAX: u32 = 1_000;

/// The folder of this test run.
pub fn test_folder() -> Result<&'static Path> {
    Ok(&session()?.folder)
}

/// A new, empty folder for the data of one service or test.
pub fn new_folder(name: &str) -> Result<PathBuf> {
    let folder = test_folder()?.join(unique(name));
    fs::create_dir(&folder).with_context(|| format!("create {}", folder.display()))?;
    Ok(folder)
}

/// A port of 127.0.0.1 that nobody listens on and that no other call in this test run gets.
pub fn free_port() -> Result<u16> {
    let ports = test_folder()?.join("ports");
    for _ in 0..PORT_TRIES_MAX {
        let port = rand::rng().random_range(PORTS);
        let claim = ports.join(port.to_string());
        match File::create_new(&claim) {
            Ok(_) if TcpListener::bind(("127.0.0.1", port)).is_ok() => return Ok(port),
            Ok(_) => continue,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => continue,
            Err(error) => return Err(error).with_context(|| format!("create {}", claim.display())),
        }
    }
    bail!("no free port among {PORTS:?} in {PORT_TRIES_MAX} tries")
}

/// The file that is to take what a new process prints.
pub(super) fn new_log(name: &str) -> Result<PathBuf> {
    Ok(test_folder()?.join("logs").join(unique(name)))
}

/// The file that tells `tests/services/stop` about the process `id`.
pub(super) fn registration(id: u32) -> Result<PathBuf> {
    Ok(test_folder()?.join("pids").join(id.to_string()))
}

/// The root of the source tree, to which all our scripts are relative.
pub(super) fn repository() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn unique(name: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("{}-{}-{name}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

#[derive(Debug)]
struct Session {
    folder: PathBuf,
    /// Never written to. It is closed when this process ends, in whatever way, and that is what the watchdog waits for.
    _watchdog: ChildStdin,
}

fn session() -> Result<&'static Session> {
    static SESSION: OnceLock<Result<Session, String>> = OnceLock::new();
    SESSION
        .get_or_init(|| open_session().map_err(|error| format!("{error:#}")))
        .as_ref()
        .map_err(|error| anyhow!("{error}"))
}

fn open_session() -> Result<Session> {
    let (folder, after) = match std::env::var_os("TWOFOLD_TEST_DIR") {
        Some(given) => (PathBuf::from(given), "keep"),
        None => (tempfile::Builder::new().prefix("twofold-test.").tempdir()?.keep(), "remove"),
    };
    for part in ["pids", "logs", "ports"] {
        let part = folder.join(part);
        fs::create_dir_all(&part).with_context(|| format!("create {}", part.display()))?;
    }
    let script = repository().join("tests/services/watchdog");
    let mut watchdog = Command::new(&script)
        .arg(&folder)
        .arg(std::process::id().to_string())
        .arg(after)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // Out of reach of an interrupt that is meant for the tests.
        .process_group(0)
        .spawn()
        .with_context(|| format!("start {}", script.display()))?;
    let stdin = watchdog.stdin.take().context("the watchdog has no standard input")?;
    Ok(Session { folder, _watchdog: stdin })
}
