//! Trying again what failed because something is away, for as long as it is away.

use std::fmt::Display;
use std::time::Duration;

use platform::log::LogError;
use platform::objects::ObjectError;
use tokio_util::sync::CancellationToken;

use crate::chain::{ChainError, MarkError};
use crate::footer::FooterError;

const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(10);
/// How long an attempt that is under way when the archiver is told to stop may still take. An orchestrator kills what
/// needs more than 30 s.
const GRACE: Duration = Duration::from_secs(20);

/// An error that may be no more after a while.
pub(crate) trait Transient: Display {
    fn is_transient(&self) -> bool;
}

impl Transient for LogError {
    fn is_transient(&self) -> bool {
        matches!(self, LogError::Unavailable(_))
    }
}

impl Transient for ObjectError {
    /// A store that is away cannot be told from one that refuses us: both go on failing, are counted and logged, and end
    /// when somebody mends it.
    fn is_transient(&self) -> bool {
        match self {
            ObjectError::Store { .. } | ObjectError::Io { .. } | ObjectError::Unknown { .. } => true,
            ObjectError::BadUrl { .. } | ObjectError::NotCreateOnly(_) => false,
        }
    }
}

impl Transient for ChainError {
    fn is_transient(&self) -> bool {
        match self {
            ChainError::Object(error) | ChainError::Footer(FooterError::Object(error)) => error.is_transient(),
            ChainError::Mark(error) => error.is_transient(),
            _ => false,
        }
    }
}

impl Transient for MarkError {
    fn is_transient(&self) -> bool {
        matches!(self, MarkError::Object(error) if error.is_transient())
    }
}

/// Repeats a call until it succeeds or fails for good; `None` when the archiver stops before. A call is tried at least
/// once, also while it stops. Each failure is logged and counted under the name of the operation.
pub(crate) async fn patiently<T, E: Transient, F: Future<Output = Result<T, E>>>(
    operation: &'static str,
    stop: &CancellationToken,
    call: impl Fn() -> F,
) -> Result<Option<T>, E> {
    let mut pause = PAUSE_MIN;
    loop {
        let attempt = tokio::select! {
            result = call() => result,
            () = async { stop.cancelled().await; tokio::time::sleep(GRACE).await } => return Ok(None),
        };
        match attempt {
            Ok(value) => return Ok(Some(value)),
            Err(error) if !error.is_transient() => return Err(error),
            Err(error) => {
                metrics::counter!("twofold_archive_retries_total", "operation" => operation).increment(1);
                tracing::warn!(operation, %error, pause_ms = pause.as_millis() as u64, "failed, is tried again");
            }
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(None),
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(PAUSE_MAX),
        }
    }
}
