//! Where a partition goes on: at the end of its chain, once what is lost is recorded and every end of a gap is settled.

use std::sync::Arc;

use clicks::position::Offset;

use crate::archiver::{Begin, Shared};
use crate::chain::{Chain, GapCause, GapMark, Next, VERSION, next, read_chain_from, record};
use crate::codec;
use crate::cut::Cut;
use crate::error::ArchiveError;
use crate::patience::patiently;
use crate::upload::{Known, count, encode};

/// The offset at which partition `number` goes on, which is on the log; `None` when the archiver stops before it is known.
///
/// # Errors
/// When nothing is stored of a log that begins later, when the log ends before the chain, or the topic is another one.
pub(crate) async fn settle(
    shared: &Arc<Shared>,
    number: u32,
    known: &mut Known,
) -> Result<Option<Offset>, ArchiveError> {
    let (log, stop) = (&shared.log, &shared.stop);
    loop {
        let Some(bounds) = patiently("bounds", stop, || log.bounds(number)).await? else { return Ok(None) };
        match next(&known.chain, bounds) {
            Next::GoOn(at) => return Ok(Some(at)),
            Next::Bridge(at) => bridge(shared, &known.chain, at).await?,
            Next::Lost { from, to } => {
                // A re-created topic looks like lost records, so it is asked for after the bounds.
                let Some(topic) = patiently("topic", stop, || shared.ask_topic()).await? else { return Ok(None) };
                shared.check_topic(&topic)?;
                if !reread(shared, known).await? {
                    return Ok(None);
                }
                // Another archiver has gone on meanwhile.
                if next(&known.chain, bounds) != (Next::Lost { from, to }) {
                    continue;
                }
                lose(shared, &known.chain, from, to).await?;
            }
            Next::BeyondLog { stored, end } => {
                let topic = log.topic().await?;
                shared.check_topic(&topic)?;
                return Err(ArchiveError::BeyondLog { partition: known.chain.partition.clone(), stored, end });
            }
        }
        if !reread(shared, known).await? {
            return Ok(None);
        }
    }
}

/// Reads what was stored since; false when the archiver stops before.
async fn reread(shared: &Shared, known: &mut Known) -> Result<bool, ArchiveError> {
    let reading = || read_chain_from(&shared.objects, known.chain.clone());
    match patiently("chain", &shared.stop, reading).await? {
        Some(chain) => known.chain = chain,
        None => return Ok(false),
    }
    Ok(true)
}

/// Records a gap, create-only: of several archivers that find the records gone, one does.
async fn lose(shared: &Shared, chain: &Chain, from: Offset, to: Offset) -> Result<(), ArchiveError> {
    let partition = chain.partition.clone();
    let begun = chain.next_offset().is_none();
    if begun && shared.options.begin == Begin::AtZero {
        let store = shared.objects.url().to_owned();
        return Err(ArchiveError::EmptyChain { partition, store, first: to });
    }
    let mark = GapMark {
        version: VERSION,
        partition,
        from,
        to,
        cause: if begun { GapCause::Begin } else { GapCause::Retention },
        writer: shared.options.writer.clone(),
        noticed_at: shared.clock.now(),
        append_time_before: chain.coverage(),
    };
    let recorded = patiently("gap", &shared.stop, || record(&shared.objects, &mark)).await?;
    if recorded.as_ref() != Some(&mark) {
        return Ok(());
    }
    let (partition, records) = (&mark.partition, to.distance_from(from));
    if begun {
        tracing::warn!(%partition, %to, "the archive begins here, without the records before");
        return Ok(());
    }
    metrics::counter!("twofold_archive_gaps_total").increment(1);
    metrics::counter!("twofold_archive_lost_records_total").increment(records);
    tracing::error!(
        %partition, %from, %to, records,
        "records are lost: the log's retention removed them before they were stored. The gap is recorded and archiving \
         goes on behind it; the days that it touches wait for a decision. Find out why the archiver was behind"
    );
    Ok(())
}

/// The last object reaches over the end of a gap: what it holds from there on becomes an object of its own.
async fn bridge(shared: &Shared, chain: &Chain, at: Offset) -> Result<(), ArchiveError> {
    let Some(segment) = chain.segments.last() else { return Ok(()) };
    let name = segment.key.to_string();
    let getting = || shared.objects.get(&name);
    let Some(found) = patiently("get", &shared.stop, getting).await? else { return Ok(()) };
    let partition = chain.partition.clone();
    let wrong = |source| ArchiveError::Codec { partition: partition.clone(), source: Box::new(source) };
    let missing = || codec::CodecError::Damaged { key: name.clone(), reason: "it was listed and is gone".to_owned() };
    let object = found.ok_or_else(missing).map_err(wrong)?;
    let decoding = tokio::task::spawn_blocking(move || codec::decode(object));
    let mut records = decoding.await.map_err(|error| ArchiveError::Task(error.to_string()))?.map_err(wrong)?;
    records.retain(|(record, _)| record.offset >= at);
    let encoded = encode(shared, &partition, records).await?;
    let key = encoded.footer.key().to_string();
    let creating = || shared.objects.create(&key, encoded.bytes.clone());
    if let Some(platform::objects::Created::Ours) = patiently("put", &shared.stop, creating).await? {
        tracing::warn!(
            object = key,
            "an object reached over the end of a recorded gap; what it holds there is stored anew"
        );
        count(&encoded, Cut::Bridge);
    }
    Ok(())
}
