//! All nights that are due, in order.

use platform::clock::Clock;
use platform::ledger::Ledger;
use platform::objects::Objects;
use serde::Serialize;

use crate::Options;
use crate::error::{BatchError, Incomplete};
use crate::night::{NightOutcome, NightReport, Request, run_night};

/// What running all nights that are due came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CatchUp {
    /// What was published, in order.
    pub nights: Vec<NightReport>,
    /// The night that is not covered yet although its time has come; `None` when all that is due is published.
    pub waits: Option<Incomplete>,
}

/// Why running all nights that are due ended early.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Interrupted {
    /// What was published before, in order. It stays published.
    pub nights: Vec<NightReport>,
    /// Never [`BatchError::Incomplete`].
    #[source]
    pub error: BatchError,
}

/// Runs nights in order until one is not due or not covered by the archive. Each publishes exactly what it would have
/// published in its own time, because cuts are a function of the log.
///
/// # Errors
/// The first night that fails, with the reports of those before it.
pub async fn catch_up(
    options: &Options,
    objects: &Objects,
    ledger: &Ledger,
    clock: &dyn Clock,
) -> Result<CatchUp, Interrupted> {
    let mut nights = Vec::new();
    loop {
        match run_night(options, objects, ledger, clock, Request::default()).await {
            Ok(NightOutcome::Published(report)) => nights.push(*report),
            // Nobody has asked for one.
            Ok(NightOutcome::Recounted(_)) => {}
            // Another run was faster with this night; the next one may be due all the same. It comes to an end, because
            // the ledger has grown by a night.
            Ok(NightOutcome::AlreadyPublished { .. }) => {}
            Ok(NightOutcome::NothingDue { .. }) => return Ok(CatchUp { nights, waits: None }),
            // Another run has published it without its own day, and says so.
            Err(BatchError::Withheld { .. }) => {}
            Err(BatchError::Incomplete(waits)) => return Ok(CatchUp { nights, waits: Some(waits) }),
            Err(error) => return Err(Interrupted { nights, error }),
        }
    }
}
