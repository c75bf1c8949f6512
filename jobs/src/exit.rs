//! Exit codes and signals: the same for every subcommand.

use std::io::Write;
use std::process::ExitCode;

use tokio_util::sync::CancellationToken;

/// How a command ended; schedulers and scripts read the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, or already done.
    Done = 0,
    Failure = 1,
    /// Wrong usage or configuration.
    Usage = 2,
    /// Input incomplete: try again later.
    Incomplete = 10,
    /// Another run published, or holds the lease.
    Lost = 11,
    /// A quality gate failed; nothing was published, or a day was withheld.
    Gate = 12,
    /// The period is final: it needs an adjustment or a reopening.
    Final = 13,
    /// An audit, or a reconciliation, found differences.
    Breaks = 14,
}

impl Exit {
    /// The exit of a number; one that is none of ours is a failure.
    pub fn of_code(code: u8) -> Self {
        let all = [Exit::Done, Exit::Usage, Exit::Incomplete, Exit::Lost, Exit::Gate, Exit::Final, Exit::Breaks];
        all.into_iter().find(|exit| *exit as u8 == code).unwrap_or(Exit::Failure)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// Settings that can be read but not used: a bad URL, a file with a secret that is not there. It looks like the error
/// that it holds.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct Misconfigured(anyhow::Error);

impl Misconfigured {
    pub fn new(error: impl Into<anyhow::Error>) -> Self {
        Misconfigured(error.into())
    }
}

impl Exit {
    /// The exit of a command that ended with this error.
    pub fn of_error(error: &anyhow::Error) -> Self {
        match error.chain().any(|cause| cause.is::<Misconfigured>()) {
            true => Exit::Usage,
            false => Exit::Failure,
        }
    }
}

/// The result could not be written.
#[derive(Debug, thiserror::Error)]
#[error("the result cannot be written to standard output: {0}")]
pub struct OutputError(std::io::Error);

impl OutputError {
    pub fn new(error: std::io::Error) -> Self {
        OutputError(error)
    }

    /// The reader, such as `head`, has seen enough: no failure that needs a message.
    pub fn is_closed_pipe(&self) -> bool {
        let is_closed = |error: &std::io::Error| error.kind() == std::io::ErrorKind::BrokenPipe;
        // A writer of CSV wraps it.
        let wrapped = self.0.get_ref().and_then(|inner| inner.downcast_ref::<csv::Error>());
        let of_csv = matches!(wrapped.map(csv::Error::kind), Some(csv::ErrorKind::Io(error)) if is_closed(error));
        is_closed(&self.0) || of_csv
    }
}

/// Writes a line of the result. `println!` would panic when nobody reads it.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = std::io::stdout().lock();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).map_err(OutputError)?;
    Ok(())
}

/// What was asked for is not done: the message says why not, and what to ask for.
pub fn refuse(message: &str) -> anyhow::Result<Exit> {
    eprintln!("twofold: {message}");
    Ok(Exit::Usage)
}

/// An error with its causes, each said once: many messages hold that of their cause already.
pub fn message(error: &anyhow::Error) -> String {
    let mut text = String::new();
    for cause in error.chain().map(ToString::to_string) {
        if !text.contains(&cause) {
            text = if text.is_empty() { cause } else { format!("{text}: {cause}") };
        }
    }
    text
}

/// A token that SIGTERM or Ctrl-C cancels; a second signal ends the process at once.
pub fn on_signal() -> CancellationToken {
    let stop = CancellationToken::new();
    let cancel = stop.clone();
    tokio::spawn(async move {
        wait_for_signal().await;
        cancel.cancel();
        wait_for_signal().await;
        std::process::exit(130);
    });
    stop
}

async fn wait_for_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        // Without handlers the signals keep their default action, which ends the process.
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

#[cfg(test)]
mod tests {
    use anyhow::Context;

    use super::*;

    #[test]
    fn settings_that_cannot_be_used_exit_as_such_under_any_context() {
        let error = Misconfigured::new(anyhow::anyhow!("no such scheme").context("storage url"));
        let error = Err::<(), _>(error).context("the archiver failed").unwrap_err();
        assert_eq!(Exit::of_error(&error), Exit::Usage);
        assert_eq!(format!("{error:#}"), "the archiver failed: storage url: no such scheme");
        assert_eq!(Exit::of_error(&anyhow::anyhow!("Kafka is away")), Exit::Failure);
    }
}
