//! Whether the log takes clicks, and whether somebody will read them: asked every second, and at once after an append
//! that was not acknowledged; never per probe.

use std::convert::Infallible;
use std::time::Duration;

use platform::log::{LogError, Topic};

use crate::intake::Intake;
use crate::server::CollectorError;

/// Between two questions; also how long a failed append keeps the collector out of service.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps the readiness true to the log, for ever.
///
/// # Errors
/// When the topic is missing at the start or is not the one that the ledger knows, or the log fails in a way that is not
/// understood.
pub(crate) async fn watch(intake: &Intake) -> Result<Infallible, CollectorError> {
    let mut reached = false;
    loop {
        match tokio::time::timeout(intake.options.append_timeout, intake.log.topic()).await {
            Ok(Ok(topic)) => {
                check_life(intake, &topic)?;
                if !intake.readiness.get() {
                    tracing::info!(topic = topic.name, id = %topic.id, partitions = topic.partitions, "the log is there");
                }
                reached = true;
                intake.readiness.set(true);
                if tokio::time::timeout(PAUSE, intake.doubt.notified()).await.is_err() {
                    continue;
                }
            }
            // A topic that was there may be hidden for a moment by a broker that restarts, or be created again.
            Ok(Err(error @ LogError::NoTopic(_))) if !reached => return Err(error.into()),
            Ok(Err(error @ (LogError::Unavailable(_) | LogError::NoTopic(_)))) => {
                tracing::warn!("not ready, the log is away: {error}");
            }
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => tracing::warn!("not ready, the log did not answer within {:?}", intake.options.append_timeout),
        }
        intake.readiness.set(false);
        tokio::time::sleep(PAUSE).await;
    }
}

/// A topic that was created again, or has got more partitions, takes clicks that neither layer reads.
fn check_life(intake: &Intake, topic: &Topic) -> Result<(), CollectorError> {
    match &intake.options.life {
        Some(life) if !topic.is(life) => Err(CollectorError::ForeignTopic {
            name: topic.name.clone(),
            found: topic.id,
            partitions: topic.partitions,
            recorded: format!("{} with {} partitions", life.topic_id, life.partitions),
        }),
        _ => Ok(()),
    }
}
