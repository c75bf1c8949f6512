//! One batch of records becomes one object: who the topic is, encode, put, look for gaps.
//!
//! It runs beside the reading of further records, and only once at a time per partition (scenario 10).

use std::sync::Arc;

use clicks::position::{Offset, PartitionId};
use clicks::time::Timestamp;
use platform::log::LogRecord;
use platform::objects::Created;
use tokio::time::Instant;

use crate::archiver::Shared;
use crate::chain::{Chain, Marks, Segment, read_chain_from, read_marks};
use crate::codec::{self, Encoded};
use crate::confirmed::Fetched;
use crate::cut::Cut;
use crate::error::ArchiveError;
use crate::memory::Held;
use crate::patience::patiently;

/// The records of one object.
#[derive(Debug)]
pub(crate) struct Batch {
    pub records: Vec<(LogRecord, Timestamp)>,
    /// When they were fetched.
    pub fetched: Fetched,
    pub cut: Cut,
    pub held: Held,
}

/// What became of a batch.
#[derive(Debug)]
pub(crate) enum Uploaded {
    /// It is stored, and the chain goes on behind it.
    Stored(Box<Known>),
    /// The chain goes on elsewhere: nothing that follows the batch is of use.
    Moved(Box<Known>),
    /// The topic is not the one that is archived. What is known to be of it is stored; whether that is the whole batch.
    Refused { known: Box<Known>, is_whole: bool, reason: ArchiveError },
    /// The archiver stops and the store or the log is away; the next start reads the records again.
    GaveUp { records: u64 },
}

/// What an archiver knows of a chain: its end, and the marks that it has read.
#[derive(Debug, Clone)]
pub(crate) struct Known {
    pub chain: Chain,
    pub marks: Marks,
}

enum Put {
    Stored(Known),
    Moved(Known),
    GaveUp(u64),
}

/// Stores a batch as one object behind what is known.
pub(crate) async fn upload(shared: Arc<Shared>, known: Known, batch: Batch) -> Result<Uploaded, ArchiveError> {
    let Batch { mut records, fetched, cut, held } = batch;
    if let (Some((first, _)), Some(expected)) = (records.first(), known.chain.next_offset())
        && first.offset != expected
    {
        let (partition, found) = (known.chain.partition.clone(), first.offset);
        return Err(ArchiveError::NotContiguous { partition, expected, found });
    }
    // Between the last fetch and the put: had the topic been re-created before a record was fetched, its id is another
    // one by now, and nothing of the new life may enter the chain of the old (scenario 12).
    let refused = match patiently("topic", &shared.stop, || shared.ask_topic()).await {
        Ok(Some(topic)) => shared.check_topic(&topic).err(),
        Ok(None) => return Ok(Uploaded::GaveUp { records: records.len() as u64 }),
        Err(error) => Some(error.into()),
    };
    let Some(reason) = refused else {
        return Ok(match put(&shared, known, records, cut, held).await? {
            Put::Stored(known) => Uploaded::Stored(Box::new(known)),
            Put::Moved(known) => Uploaded::Moved(Box::new(known)),
            Put::GaveUp(records) => Uploaded::GaveUp { records },
        });
    };
    let (confirmed, all) = (fetched.confirmed(shared.questions.answered()), records.len());
    records.retain(|(record, _)| record.offset < confirmed);
    let is_whole = records.len() == all;
    if records.is_empty() {
        return Ok(Uploaded::Refused { known: Box::new(known), is_whole, reason });
    }
    Ok(match put(&shared, known, records, cut, held).await? {
        Put::Stored(known) => Uploaded::Refused { known: Box::new(known), is_whole, reason },
        Put::Moved(known) => Uploaded::Refused { known: Box::new(known), is_whole: false, reason },
        Put::GaveUp(records) => Uploaded::GaveUp { records },
    })
}

async fn put(
    shared: &Shared,
    known: Known,
    records: Vec<(LogRecord, Timestamp)>,
    cut: Cut,
    mut held: Held,
) -> Result<Put, ArchiveError> {
    let partition = known.chain.partition.clone();
    let encoded = encode(shared, &partition, records).await?;
    // The records are gone with the encoding; what waits for a store that is away is the object alone.
    held.resize(encoded.bytes.len() as u64);
    let (key, rows) = (encoded.footer.key(), encoded.footer.rows);
    let name = key.to_string();
    let begun = Instant::now();
    let creating = || shared.objects.create(&name, encoded.bytes.clone());
    match patiently("put", &shared.stop, creating).await? {
        None => Ok(Put::GaveUp(rows)),
        Some(Created::Ours) => {
            metrics::histogram!("twofold_archive_put_seconds").record(begun.elapsed().as_secs_f64());
            count(&encoded, cut);
            let bytes = encoded.bytes.len() as u64;
            stored(shared, known, Segment::new(key, bytes, encoded.footer)).await
        }
        Some(Created::Taken(_)) => {
            metrics::counter!("twofold_archive_taken_total").increment(1);
            tracing::warn!(object = name, "another archiver stored this object; going on behind it");
            behind(shared, known, partition, encoded.footer.start, rows).await
        }
    }
}

/// Encodes where it does not keep others waiting.
pub(crate) async fn encode(
    shared: &Shared,
    partition: &PartitionId,
    records: Vec<(LogRecord, Timestamp)>,
) -> Result<Encoded, ArchiveError> {
    let (of, writer) = (partition.clone(), shared.options.writer.clone());
    let encoding = tokio::task::spawn_blocking(move || codec::encode(&of, &writer, &records));
    let encoded = encoding.await.map_err(|error| ArchiveError::Task(error.to_string()))?;
    encoded.map_err(|error| ArchiveError::Codec { partition: partition.clone(), source: Box::new(error) })
}

/// Our object is there. It may be that a gap was recorded where it lies, by an archiver that did not see it; then only the
/// chain tells where to go on. See [`crate::chain`].
async fn stored(shared: &Shared, mut known: Known, segment: Segment) -> Result<Put, ArchiveError> {
    let (partition, stop) = (known.chain.partition.clone(), &shared.stop);
    let (start, end, rows) = (segment.footer.start, segment.footer.end, segment.footer.rows);
    let looking = || read_marks(&shared.objects, &partition, known.marks.clone());
    let Some(marks) = patiently("marks", stop, looking).await? else { return Ok(Put::GaveUp(rows)) };
    known.marks = marks;
    if known.marks.concern(start, end) {
        let key = segment.key;
        tracing::warn!(object = %key, "a gap was recorded where this object lies; the chain is read again");
        let reading = || read_chain_from(&shared.objects, known.chain.clone());
        let Some(chain) = patiently("chain", stop, reading).await? else { return Ok(Put::GaveUp(rows)) };
        // Not so when what follows it is recorded as lost: the others have gone on behind that.
        let is_last = chain.segments.last().is_some_and(|last| last.key == key) && chain.bridge().is_none();
        let is_last = is_last && chain.next_offset() == Some(end);
        known.chain = chain;
        return Ok(if is_last { Put::Stored(known) } else { Put::Moved(known) });
    }
    if known.chain.end.is_some() {
        metrics::counter!("twofold_archive_ends_overtaken_total").increment(1);
        tracing::error!(%partition, %start, "records came behind the recorded end of this topic life: it has not ended");
    }
    known.chain.push(segment)?;
    known.chain.keep_last(1);
    Ok(Put::Stored(known))
}

/// Reads the chain again from where it was known, and goes on at its end.
async fn behind(
    shared: &Shared,
    mut known: Known,
    partition: PartitionId,
    start: Offset,
    rows: u64,
) -> Result<Put, ArchiveError> {
    let reading = || read_chain_from(&shared.objects, known.chain.clone());
    let Some(chain) = patiently("chain", &shared.stop, reading).await? else { return Ok(Put::GaveUp(rows)) };
    let end = chain.next_offset().unwrap_or_default();
    if end <= start {
        return Err(ArchiveError::NoProgress { partition, start, end });
    }
    known.chain = chain;
    Ok(Put::Moved(known))
}

pub(crate) fn count(encoded: &Encoded, cut: Cut) {
    for (kind, records) in clicks::layout::Kind::ALL.into_iter().zip(encoded.kinds) {
        metrics::counter!("twofold_archive_records_total", "kind" => kind.name()).increment(records);
    }
    metrics::counter!("twofold_archive_objects_total", "cut" => cut.name()).increment(1);
    metrics::counter!("twofold_archive_bytes_total").increment(encoded.bytes.len() as u64);
}
