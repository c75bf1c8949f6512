//! Entering a partition: from what is stored, if it can be trusted.

use clicks::books::Books;
use clicks::bugs::{self, Bug};
use clicks::counter::{LiveCounter, Observed};
use clicks::live::{Expected, Loaded};
use clicks::position::Offset;
use clicks::rules::RulesBook;
use clicks::time::{Interval, Span, Timestamp};
use clicks::watermark::AppendTime;
use clicks::wire;
use metrics::counter;
use platform::log::{Bounds, LogError, Reader, Records};
use std::time::Duration;

use crate::begin::base_time;
use crate::doubt::Break;
use crate::error::CounterError;
use crate::scrub::sum;
use crate::worker::{Held, TOGETHER, Worker};

/// How long the log may hold back records that lie before its end.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// Why a new generation begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    NothingStored,
    /// The double-entry totals do not agree with themselves or with the position.
    Unbalanced,
    /// The record before the position is not the one that was counted.
    Fingerprint,
    /// The log ends before the position.
    BeyondEnd,
    /// What is stored cannot be read.
    Damaged,
    /// The stored counts are not the ones that were written.
    Scrub,
}

impl Reason {
    /// Label of `twofold_speed_generations_total`.
    pub(crate) const fn code(self) -> &'static str {
        match self {
            Reason::NothingStored => "nothing_stored",
            Reason::Unbalanced => "unbalanced",
            Reason::Fingerprint => "fingerprint",
            Reason::BeyondEnd => "beyond_end",
            Reason::Damaged => "damaged",
            Reason::Scrub => "scrub",
        }
    }
}

impl Worker {
    /// Loads what is stored and makes it whole again, or begins a new generation.
    pub(crate) async fn enter(&self, books: &Books) -> Result<Held, Break> {
        let loaded = self.shared.store.load(&self.partition, books.rules()).await;
        let Some(loaded) = loaded.map_err(|source| Break::store(&self.partition, source))? else {
            return self.begin(books, Expected::Nothing, Reason::NothingStored).await;
        };
        let replaces = Expected::at(loaded.generation, &loaded.meta);
        match self.resume(books.rules(), loaded).await? {
            Ok(held) => Ok(held),
            Err(reason) => self.begin(books, replaces, reason).await,
        }
    }

    async fn resume(&self, rules: &RulesBook, loaded: Loaded) -> Result<Result<Held, Reason>, Break> {
        let meta = &loaded.meta;
        if !meta.is_balanced() || exceeds(&loaded) {
            tracing::error!(partition = %self.partition, ?meta, "the stored totals contradict each other");
            return Ok(Err(Reason::Unbalanced));
        }
        let next = meta.next_offset;
        let bounds = self.bounds().await?;
        if next > bounds.end {
            tracing::error!(partition = %self.partition, position = %next, end = %bounds.end, "the log lost records that were counted");
            return Ok(Err(Reason::BeyondEnd));
        }
        if next < bounds.first && !bugs::is_on(Bug::JumpsOverGap) {
            let live = LiveCounter::resume(rules.clone(), loaded, self.shared.options.sightings_max);
            return self.resume_after_gap(rules, live, bounds).await.map(Ok);
        }
        let fingerprint = meta.fingerprint.clone();
        let mut live = LiveCounter::resume(rules.clone(), loaded, self.shared.options.sightings_max);
        let from = self.look_back_start(rules, &mut live).await?;
        let (reader, read) = self.look_back(&mut live, from).await?;
        match read.iter().next_back() {
            _ if fingerprint.is_empty() => {}
            Some(last) if !is_another(&last, &fingerprint) => {}
            Some(last) => {
                tracing::error!(partition = %self.partition, offset = %last.offset, "another record is there than was counted");
                return Ok(Err(Reason::Fingerprint));
            }
            None => {
                counter!("twofold_speed_fingerprints_gone_total").increment(1);
                tracing::warn!(partition = %self.partition, position = %next, "the last counted record fell off the log, so it was not compared");
            }
        }
        let (generation, append_time) = (live.generation(), live.meta().append_time);
        tracing::info!(partition = %self.partition, %generation, position = %next, look_back = %from, %append_time, "resumed");
        Ok(Ok(Held::new(live, reader)))
    }

    /// Retention overtook the position. What is stored stays true of the records that were counted; the gap is stored with
    /// the next flush, and shown in every answer that may lack one of the lost clicks.
    async fn resume_after_gap(&self, rules: &RulesBook, mut live: LiveCounter, bounds: Bounds) -> Result<Held, Break> {
        let meta = live.meta();
        let (from, to) = (meta.next_offset, bounds.first);
        let since = meta.append_time.max(base_time(rules, meta.base_day));
        let until = self.first_append_time(bounds).await?.max(since);
        live.lose(to, Interval::new(since, until + Span::millis(1)));
        let reader = self.open(to).await?;
        counter!("twofold_speed_gaps_total").increment(1);
        counter!("twofold_speed_lost_records_total").increment(to.distance_from(from));
        tracing::error!(partition = %self.partition, %from, %to, %since, %until, "records fell off the log before they were counted; going on behind them");
        Ok(Held::new(live, reader))
    }

    /// Where dedup must be read from, and at least the last counted record, for its fingerprint.
    async fn look_back_start(&self, rules: &RulesBook, live: &mut LiveCounter) -> Result<Offset, Break> {
        let next = live.meta().next_offset;
        let time = match live.meta().append_time {
            // Nothing was before the base when it began, and nothing was observed since.
            Timestamp::MIN => base_time(rules, live.meta().base_day) - rules.live_horizon_max(),
            _ => live.look_back_from(),
        };
        let found = self.offset_at(time).await?.unwrap_or(next);
        // The beginning is asked last: what falls off meanwhile makes the answer more careful, never less.
        let bounds = self.bounds().await?;
        if bounds.first > Offset::ZERO && found <= bounds.first {
            // Nothing proves that the look-back is whole: sightings may have fallen off the log.
            let from = live.meta().append_time.max(time);
            live.own_up(Interval::new(from, from + rules.live_horizon_max()));
            counter!("twofold_speed_short_look_backs_total").increment(1);
            tracing::warn!(partition = %self.partition, position = %next, first = %bounds.first, "the log no longer holds the whole look-back; retries may be counted twice until one live horizon later");
        }
        Ok(found.min(next.minus(1)).max(bounds.first).min(next))
    }

    /// Reads `[from, next offset)` into dedup without counting. The reader stands at the next offset afterwards; the last
    /// of the records is the one before it, if there was any.
    pub(crate) async fn look_back(
        &self,
        live: &mut LiveCounter,
        from: Offset,
    ) -> Result<(Box<dyn Reader>, Records), Break> {
        let end = live.meta().next_offset;
        let mut reader = self.open(from).await?;
        let (mut next, mut append, mut records) = (from, AppendTime::resume(Timestamp::MIN), Records::default());
        while next < end {
            let most = self.shared.options.poll_max.min(end.distance_from(next) as usize);
            reader.fill(&mut records, most, SILENCE_MAX).await.map_err(|e| Break::log(&self.partition, e))?;
            if records.is_empty() {
                let silent = LogError::Unavailable(format!("no record at {next}, which lies before its end"));
                return Err(Break::log(&self.partition, silent));
            }
            let mut rest = records.iter();
            while rest.len() > 0 {
                let few: Vec<_> = rest.by_ref().take(TOGETHER).collect();
                for record in &few {
                    if record.offset != next {
                        let source = clicks::counter::Gap { expected: next, found: record.offset };
                        return Err(Break::Failed(CounterError::Gap { partition: self.partition.clone(), source }));
                    }
                    next = record.offset.next();
                }
                live.remember(&few, &mut append);
            }
        }
        Ok((reader, records))
    }

    pub(crate) async fn bounds(&self) -> Result<Bounds, Break> {
        let bounds = self.shared.log.bounds(self.partition.number).await;
        bounds.map_err(|source| Break::log(&self.partition, source))
    }

    pub(crate) async fn offset_at(&self, time: Timestamp) -> Result<Option<Offset>, Break> {
        let found = self.shared.log.offset_at(self.partition.number, time).await;
        found.map_err(|source| Break::log(&self.partition, source))
    }

    pub(crate) async fn open(&self, from: Offset) -> Result<Box<dyn Reader>, Break> {
        let reader = self.shared.log.open(self.partition.number, from).await;
        reader.map_err(|source| Break::log(&self.partition, source))
    }
}

/// More is stored than was ever counted.
fn exceeds(loaded: &Loaded) -> bool {
    let totals = &loaded.meta.totals;
    sum(&loaded.counts) > totals.counted - totals.expired || sum(&loaded.late) > totals.late - totals.late_expired
}

/// It is not the record that was counted.
pub(crate) fn is_another(record: &Observed<'_>, fingerprint: &str) -> bool {
    let found = wire::fingerprint(record.key, record.value, record.broker_time);
    found != fingerprint && !bugs::is_on(Bug::NoFingerprint)
}
