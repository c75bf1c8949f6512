//! Appending the records of one request, and waiting no longer than the client should.
//!
//! The appends run in a task of their own: a client that goes away cancels nothing, and records that the log still holds
//! after the client was told 503 keep their room until the log lets go of them. So the bound on what waits is exact,
//! also while the log is away.

use std::sync::Arc;
use std::time::Instant;

use clicks::wire::VALUE_LENGTH_MAX;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use platform::log::{Appended, LogError, NewRecord, Target};
use tokio::sync::{OwnedSemaphorePermit, oneshot};

use crate::intake::Intake;
use crate::refusal::Refusal;
use crate::telemetry;

/// What is known about one record when the client is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    Acknowledged,
    Unknown,
    Refused(Refusal),
}

/// What a request holds while its records wait for the log.
#[derive(Debug)]
pub(crate) struct Room {
    records: OwnedSemaphorePermit,
    /// Held for its drop.
    _body: OwnedSemaphorePermit,
}

impl Room {
    pub(crate) fn new(records: OwnedSemaphorePermit, body: OwnedSemaphorePermit) -> Self {
        telemetry::in_flight_grew(records.num_permits());
        Room { records, _body: body }
    }

    fn release(&mut self, records: usize) {
        if self.records.split(records).is_some() {
            telemetry::in_flight_shrank(records);
        }
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        telemetry::in_flight_shrank(self.records.num_permits());
    }
}

/// Appends all records, and returns what became of each, in their order: when all is known, when the append timeout has
/// passed, or when the collector closes.
pub(crate) async fn append(intake: &Arc<Intake>, records: Vec<NewRecord>, room: Room) -> Vec<Outcome> {
    let count = records.len();
    let (reply, outcomes) = oneshot::channel();
    let work = append_and_reply(intake.clone(), records, room, reply);
    tokio::spawn(intake.ended.clone().run_until_cancelled_owned(work));
    // Without a reply the collector has ended under the request.
    outcomes.await.unwrap_or_else(|_| vec![Outcome::Unknown; count])
}

async fn append_and_reply(
    intake: Arc<Intake>,
    records: Vec<NewRecord>,
    mut room: Room,
    reply: oneshot::Sender<Vec<Outcome>>,
) {
    let began = Instant::now();
    let count = records.len();
    let log = &intake.log;
    let append = |(index, record)| async move { (index, log.append(Target::Key, record).await) };
    let mut pending: FuturesUnordered<_> = records.into_iter().enumerate().map(append).collect();
    let mut outcomes = vec![Outcome::Unknown; count];
    let mut away = None;
    let give_up = async {
        tokio::select! {
            () = intake.closing.cancelled() => {}
            () = tokio::time::sleep(intake.options.append_timeout) => {}
        }
    };
    tokio::pin!(give_up);
    loop {
        tokio::select! {
            biased;
            next = pending.next() => match next {
                Some((index, result)) => outcomes[index] = judge(&intake, result, &mut away),
                None => break,
            },
            () = &mut give_up => break,
        }
    }
    let acknowledged = outcomes.iter().filter(|outcome| **outcome == Outcome::Acknowledged).count();
    let unknown = outcomes.iter().filter(|outcome| **outcome == Outcome::Unknown).count();
    telemetry::appended(acknowledged, unknown, began.elapsed());
    if unknown > 0 {
        let reason = away.unwrap_or_else(|| format!("no acknowledgement within {:?}", began.elapsed()));
        // Every request of an outage would say the same.
        if intake.readiness.get() {
            tracing::warn!(clicks = count, unknown, "the log did not take every click of a request: {reason}");
        }
        intake.log_is_away();
    }
    room.release(count - pending.len());
    // The client may have gone away; its clicks are on the log all the same.
    let _ = reply.send(outcomes);
    while let Some((_, result)) = pending.next().await {
        match judge(&intake, result, &mut None) {
            Outcome::Acknowledged => telemetry::acknowledged_late(),
            // The client was told already that this one is unknown, and may send it again.
            Outcome::Unknown | Outcome::Refused(_) => {}
        }
        room.release(1);
    }
}

/// `away` takes the first reason for which the log did not take a record.
fn judge(intake: &Intake, result: Result<Appended, LogError>, away: &mut Option<String>) -> Outcome {
    match result {
        Ok(_) => Outcome::Acknowledged,
        Err(LogError::TooLarge(reason)) => {
            let detail = format!(
                "the log does not take a click of this size ({reason}); send less beside it. The collector's own limit is {VALUE_LENGTH_MAX} bytes"
            );
            let refusal = Refusal::whole(Refusal::TOO_LARGE, detail);
            telemetry::refused(&refusal);
            Outcome::Refused(refusal)
        }
        Err(error @ (LogError::Unavailable(_) | LogError::NoTopic(_))) => {
            away.get_or_insert_with(|| error.to_string());
            Outcome::Unknown
        }
        Err(error) => {
            away.get_or_insert_with(|| error.to_string());
            intake.fail(error);
            Outcome::Unknown
        }
    }
}
