//! Heartbeats: a control record to every partition every few seconds, so that coverage and watermark move without
//! clicks. They are read back and stored like everything else, so they prove the whole way, not only the writing.

use std::sync::Arc;

use bytes::Bytes;
use clicks::control::{HEARTBEAT, Heartbeat};
use clicks::wire::HEADER_CONTROL;
use platform::log::{Header, LogError, NewRecord, Target, Topic};

use crate::archiver::Shared;
use crate::error::ArchiveError;

/// Writes heartbeats until the archiver stops.
///
/// A log that is away is counted and logged; the next beat tries again, and coverage stands still meanwhile, which is
/// the truth. Asking for the topic each time finds a re-created or grown topic also while no click comes, and confirms what
/// was fetched before (see [`crate::confirmed`]).
pub(crate) async fn run(shared: Arc<Shared>, partitions: Vec<u32>) -> Result<(), ArchiveError> {
    loop {
        let due = shared.clock.now() + shared.options.heartbeat_interval;
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => return Ok(()),
            done = async {
                beat(&shared, &partitions).await?;
                shared.clock.sleep_until(due).await;
                Ok::<_, ArchiveError>(())
            } => done?,
        }
    }
}

async fn beat(shared: &Shared, partitions: &[u32]) -> Result<(), ArchiveError> {
    metrics::gauge!("twofold_archive_memory_bytes").set(shared.memory.used() as f64);
    let topic = match shared.ask_topic().await {
        Ok(topic) => topic,
        Err(error) => return missed("topic", error),
    };
    shared.check_topic(&topic)?;
    let record = record(&topic, &shared.options.writer);
    let beats = partitions.iter().map(|number| async {
        match shared.log.append(Target::Partition(*number), record.clone()).await {
            Ok(appended) => {
                metrics::counter!("twofold_archive_heartbeats_total").increment(1);
                shared.report_lag(*number, appended.offset.next());
                Ok(())
            }
            Err(error) => missed("append", error),
        }
    });
    futures::future::try_join_all(beats).await?;
    Ok(())
}

fn missed(operation: &'static str, error: LogError) -> Result<(), ArchiveError> {
    let LogError::Unavailable(_) = error else { return Err(error.into()) };
    metrics::counter!("twofold_archive_heartbeats_missed_total", "operation" => operation).increment(1);
    tracing::warn!(operation, %error, "a heartbeat was missed");
    Ok(())
}

fn record(topic: &Topic, writer: &str) -> NewRecord {
    let beat = Heartbeat::new(topic.id, topic.partitions, writer.to_owned());
    let header = Header { name: HEADER_CONTROL.to_owned(), value: Some(Bytes::from_static(HEARTBEAT.as_bytes())) };
    NewRecord { key: None, value: Some(beat.encode().into()), headers: vec![header] }
}
