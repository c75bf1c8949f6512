//! The ends of topic lives that are over, as records of their chains: a night takes them for the cut of such a life.
//!
//! A life that has ended is one that another life follows in the ledger. There are two ways to know where it ends:
//!
//! * An archiver that was started for it stores what its log still holds, and ends it when nothing has come for long
//!   ([`end_drained`]).
//! * Its topic is gone from the log. The archiver of the life that follows ends it where its chain ends, once that has not
//!   grown for long ([`run`]).
//!
//! "For long" is no proof: a collector that nobody stopped may still append to the old topic, an archiver on its way may
//! still store. Should anything be stored behind a recorded end, it is the end no more, and another one is recorded later.

use std::collections::BTreeMap;
use std::sync::Arc;

use clicks::books::partitions_of;
use clicks::ledger::TopicLife;
use clicks::position::{Offset, PartitionId};

use crate::archiver::Shared;
use crate::chain::{Chain, ChainError, EndCause, EndMark, VERSION, read_chain_end, record};
use crate::error::ArchiveError;
use crate::patience::patiently;

/// Objects whose footers are read to find the end of a chain.
const END_SEGMENTS: usize = 4;

/// What is known of a partition that is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// Its chain ended here, without a record of it.
    Open(Offset),
    /// Its end is recorded. It is looked at once more, because another archiver may just have stored something.
    Ended(Offset),
    /// It still was the end later.
    Settled,
}

/// Ends the partitions of lives whose topics are gone, until all are ended or the archiver stops.
pub(crate) async fn run(shared: Arc<Shared>, lives: Vec<TopicLife>) -> Result<(), ArchiveError> {
    let mut seen: BTreeMap<PartitionId, Seen> = BTreeMap::new();
    loop {
        let mut waits = false;
        for life in &lives {
            waits |= look_at(&shared, life, &mut seen).await;
        }
        if !waits {
            // The tasks of an archiver end when it is told to stop.
            shared.stop.cancelled().await;
            return Ok(());
        }
        let again = shared.clock.now() + shared.options.end_after;
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => return Ok(()),
            () = shared.clock.sleep_until(again) => {}
        }
    }
}

/// Whether there is anything left to look at later.
async fn look_at(shared: &Shared, life: &TopicLife, seen: &mut BTreeMap<PartitionId, Seen>) -> bool {
    let settled = |seen: &BTreeMap<_, _>| partitions_of(life).all(|id| seen.get(&id) == Some(&Seen::Settled));
    if settled(seen) {
        return false;
    }
    match shared.log.find(&life.name).await {
        // It is there, and whoever archives it ends it.
        Ok(Some(id)) if id == life.topic_id => return true,
        Ok(_) => {}
        Err(error) => {
            tracing::warn!(topic = %life.topic_id, %error, "it is not known whether the topic of an ended life is gone");
            return true;
        }
    }
    for partition in partitions_of(life) {
        let before = seen.get(&partition).copied();
        if before == Some(Seen::Settled) {
            continue;
        }
        match end_gone(shared, &partition, before).await {
            Ok(now) => drop(seen.insert(partition, now)),
            Err(error) => {
                metrics::counter!("twofold_archive_retries_total", "operation" => "end").increment(1);
                tracing::warn!(%partition, %error, "the end of an ended life cannot be recorded yet");
            }
        }
    }
    !settled(seen)
}

async fn end_gone(shared: &Shared, partition: &PartitionId, before: Option<Seen>) -> Result<Seen, ChainError> {
    let chain = read_chain_end(&shared.objects, partition, END_SEGMENTS).await?;
    let end = chain.next_offset().unwrap_or_default();
    match (&chain.end, before) {
        (Some(_), Some(Seen::Ended(then))) if then == end => Ok(Seen::Settled),
        (Some(_), _) => Ok(Seen::Ended(end)),
        (None, Some(Seen::Open(then))) if then == end => {
            let mark = mark(shared, &chain, end, EndCause::TopicGone);
            record(&shared.objects, &mark).await?;
            told(&mark);
            Ok(Seen::Ended(end))
        }
        (None, _) => Ok(Seen::Open(end)),
    }
}

/// Ends a partition whose log is stored up to `end`, and gives its chain as it is then; `None` when the archiver stops.
pub(crate) async fn end_drained(shared: &Shared, chain: &Chain, end: Offset) -> Result<Option<EndMark>, ArchiveError> {
    let mark = mark(shared, chain, end, EndCause::Drained);
    let recorded = patiently("end", &shared.stop, || record(&shared.objects, &mark)).await?;
    if recorded.as_ref() == Some(&mark) {
        told(&mark);
    }
    Ok(recorded)
}

fn mark(shared: &Shared, chain: &Chain, end: Offset, cause: EndCause) -> EndMark {
    EndMark {
        version: VERSION,
        partition: chain.partition.clone(),
        end,
        cause,
        writer: shared.options.writer.clone(),
        noticed_at: shared.clock.now(),
        append_time_before: chain.coverage(),
    }
}

fn told(mark: &EndMark) {
    let (partition, end) = (&mark.partition, mark.end);
    let cause = match mark.cause {
        EndCause::Drained => "drained",
        EndCause::TopicGone => "topic_gone",
    };
    metrics::counter!("twofold_archive_ends_total", "cause" => cause).increment(1);
    tracing::warn!(%partition, %end, cause, "the end of this topic life is recorded");
}
