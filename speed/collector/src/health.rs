//! Whether the log takes clicks: asked at the start and after an append that was not acknowledged, never per probe.

use std::convert::Infallible;
use std::time::Duration;

use platform::log::LogError;

use crate::intake::Intake;
use crate::server::CollectorError;

/// Between two questions while the log is away; also how long a failed append keeps the collector out of service.
const PAUSE: Duration = Duration::from_secs(1);

/// Keeps the readiness true to the log, for ever.
///
/// # Errors
/// When the topic is missing at the start, or the log fails in a way that is not understood.
pub(crate) async fn watch(intake: &Intake) -> Result<Infallible, CollectorError> {
    let mut reached = false;
    loop {
        match tokio::time::timeout(intake.options.append_timeout, intake.log.topic()).await {
            Ok(Ok(topic)) => {
                tracing::info!(topic = topic.name, id = %topic.id, partitions = topic.partitions, "the log is there");
                reached = true;
                intake.readiness.set(true);
                intake.doubt.notified().await;
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
