//! The loop of one partition: poll, observe, flush; and on any doubt drop everything and enter again.

use std::sync::Arc;
use std::time::Duration;

use clicks::books::Books;
use clicks::counter::{LiveCounter, Observed};
use clicks::live::{Expected, Flush, FlushOutcome, Stage};
use clicks::position::PartitionId;
use clicks::rules::RulesBook;
use metrics::{counter, histogram};
use platform::log::{Reader, Records};
use platform::store::{LiveQuery, LiveSlice, StoreError};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::doubt::{Break, Doubt, Unsound};
use crate::error::CounterError;
use crate::expiry::Expiry;
use crate::meter::Meter;
use crate::options::Pauses;
use crate::run::Shared;
use crate::scrub::{BETWEEN, Scrub};

/// Longest wait for records: closed days and the age of the ledger's copy are looked at as often.
const IDLE: Duration = Duration::from_secs(1);
/// Records that are handed to the counter in one list: 14 KB, which the allocator has at hand.
pub(crate) const TOGETHER: usize = 256;
/// How long a stopping worker tries to store what it observed. Giving up loses nothing: it is read again.
const STOP_PATIENCE: Duration = Duration::from_secs(5);

/// Counts one partition.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) partition: PartitionId,
    pub(crate) shared: Arc<Shared>,
    meter: Arc<Meter>,
    /// A child of the process's: the partition alone may go to another process.
    pub(crate) stop: CancellationToken,
}

/// How a worker takes its place.
#[derive(Debug, Clone, Copy, Default)]
enum Entry {
    #[default]
    Plain,
    AfterRollback,
    Cure(Unsound),
}

/// What a worker holds between two doubts.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) live: LiveCounter,
    /// Stands at the next offset.
    pub(crate) reader: Box<dyn Reader>,
    /// Rides on the next flush.
    pub(crate) expiry: Option<Expiry>,
    pub(crate) scrub: Scrub,
    /// When the first record that is not stored yet must be.
    due: Option<Instant>,
    was_rebuilding: bool,
    /// Evictions of dedup up to the last flush.
    evicted: u64,
}

impl Held {
    pub(crate) fn new(live: LiveCounter, reader: Box<dyn Reader>) -> Self {
        let was_rebuilding = live.meta().is_rebuilding();
        let evicted = live.meta().dedup_evicted;
        Held { live, reader, expiry: None, scrub: Scrub::due_now(), due: None, was_rebuilding, evicted }
    }
}

/// What is live, as a writer would expect it.
pub(crate) fn position_of(slice: Option<&LiveSlice>) -> Expected {
    slice.map_or(Expected::Nothing, |slice| Expected::at(slice.generation, &slice.meta))
}

impl Worker {
    pub(crate) fn new(partition: PartitionId, shared: Arc<Shared>, meter: Arc<Meter>, stop: CancellationToken) -> Self {
        Worker { partition, shared, meter, stop }
    }

    /// Counts until it is asked to stop.
    ///
    /// # Errors
    /// The first error that is not understood.
    pub(crate) async fn run(self) -> Result<(), CounterError> {
        let mut pauses = Pauses::new(self.shared.options.store_retry);
        let mut entry = Entry::Plain;
        loop {
            let end = self.count(&mut pauses, std::mem::take(&mut entry)).await;
            let pause = pauses.next();
            let reason = match end {
                Break::Stopped => return Ok(()),
                Break::Failed(error) => return Err(error),
                Break::Doubt(doubt, why) => {
                    tracing::warn!(partition = %self.partition, reason = doubt.code(), why, ?pause, "dropping what is held, entering again");
                    if doubt == Doubt::Rollback {
                        entry = Entry::AfterRollback;
                    }
                    doubt.code()
                }
                Break::Unsound(found, why) => {
                    tracing::error!(partition = %self.partition, reason = found.reason.code(), why, ?pause, "what is stored is not whole, counting it anew");
                    entry = Entry::Cure(found);
                    found.reason.code()
                }
            };
            counter!("twofold_speed_reloads_total", "reason" => reason).increment(1);
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return Ok(()),
                () = sleep(pause) => {}
            }
        }
    }

    /// Enters and counts until something ends it.
    async fn count(&self, pauses: &mut Pauses, entry: Entry) -> Break {
        match self.try_count(pauses, entry).await {
            Ok(never) => match never {},
            Err(end) => end,
        }
    }

    async fn try_count(&self, pauses: &mut Pauses, entry: Entry) -> Result<std::convert::Infallible, Break> {
        let mut rules: Option<RulesBook> = None;
        let mut held: Option<Held> = None;
        let mut records = Records::default();
        loop {
            // Asked after the poll and before judging: a copy that was young when the wait for records began may be too
            // old, or lack rules, by the time they come.
            let books = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(self.leave(held).await),
                books = self.shared.books.current() => books,
            };
            if rules.as_ref().is_some_and(|rules| rules != books.rules()) {
                // What is held was judged by rules that were in force; the new ones may need a longer memory.
                if let Some(held) = held.as_mut().filter(|held| held.live.has_news()) {
                    self.flush(held).await?;
                }
                return Err(Break::Doubt(Doubt::NewRules, format!("rules {}", books.rules().last().version)));
            }
            let Some(held) = &mut held else {
                rules = Some(books.rules().clone());
                held = Some(tokio::select! {
                    biased;
                    () = self.stop.cancelled() => return Err(Break::Stopped),
                    entered = self.take_place(&books, entry) => entered?,
                });
                continue;
            };
            self.judge(held, &records, pauses).await?;
            self.plan_expiry(held, &books).await?;
            self.scrub(held).await?;
            self.poll(held, &mut records).await?;
            if records.is_empty() {
                self.verify(held).await?;
            }
        }
    }

    /// Enters; a new generation is stored at once, so that readers see that it is being rebuilt.
    async fn take_place(&self, books: &Books, entry: Entry) -> Result<Held, Break> {
        let mut entered = match entry {
            Entry::Plain | Entry::AfterRollback => self.enter(books).await?,
            Entry::Cure(Unsound { generation, reason }) => {
                self.begin(books, Expected::Damaged { generation }, reason).await?
            }
        };
        if matches!(entry, Entry::AfterRollback) {
            entered.live.note_rollback();
        }
        if entered.live.has_news() {
            self.flush(&mut entered).await?;
        }
        self.meter.stored(&entered.live);
        Ok(entered)
    }

    /// Waits for records, but not longer than a flush may wait.
    async fn poll(&self, held: &mut Held, records: &mut Records) -> Result<(), Break> {
        let idle = if held.scrub.is_under_way() { BETWEEN } else { IDLE };
        let wait = held.due.map_or(idle, |due| due.saturating_duration_since(Instant::now()));
        let polled = tokio::select! {
            biased;
            // The caller sees the stop.
            () = self.stop.cancelled() => {
                records.clear();
                return Ok(());
            }
            polled = held.reader.fill(records, self.shared.options.poll_max, wait) => polled,
        };
        polled.map_err(|source| Break::log(&self.partition, source))
    }

    /// Without records there are no flushes, and nobody would notice that the store lost what it held.
    async fn verify(&self, held: &mut Held) -> Result<(), Break> {
        let expected = held.live.stored_at();
        // What readers see is not what is counted beside it, and what is beside is flushed all the time.
        if held.live.has_news() || held.live.stage() == Stage::Beside || self.stop.is_cancelled() {
            return Ok(());
        }
        match self.shared.store.read(&self.partition, &LiveQuery::of_meta()).await {
            Ok(slice) if position_of(slice.as_ref()) == expected => Ok(()),
            Ok(None) => Err(Break::Doubt(Doubt::Vanished, "no generation is live".to_owned())),
            Ok(slice) => Err(Break::mismatch(position_of(slice.as_ref()).position(), expected)),
            // Nothing is in doubt as long as nothing was to be stored.
            Err(StoreError::Unavailable(_)) => Ok(()),
            Err(source) => Err(Break::store(&self.partition, source)),
        }
    }

    /// Observes the records, and flushes as often as their number or the time asks for.
    async fn judge(&self, held: &mut Held, records: &Records, pauses: &mut Pauses) -> Result<(), Break> {
        let (mut records, mut few) = (records.iter(), Vec::with_capacity(TOGETHER));
        while records.len() > 0 {
            few.clear();
            few.extend(records.by_ref().take(TOGETHER));
            self.observe(held, &few, pauses).await?;
        }
        if held.due.is_some_and(|due| due <= Instant::now()) {
            self.flush(held).await?;
            pauses.reset();
        }
        Ok(())
    }

    /// Observes these records, and flushes as often as their number asks for.
    async fn observe(&self, held: &mut Held, records: &[Observed<'_>], pauses: &mut Pauses) -> Result<(), Break> {
        let changes_max = self.shared.store.max_changes();
        let mut rest = records;
        while !rest.is_empty() {
            held.due.get_or_insert_with(|| Instant::now() + self.shared.options.flush_interval);
            let before = held.live.meta().totals;
            let done = held.live.observe_all(rest, changes_max);
            let done =
                done.map_err(|source| Break::Failed(CounterError::Gap { partition: self.partition.clone(), source }))?;
            self.meter.judged(&before, &held.live.meta().totals, &done.rejected);
            rest = &rest[done.observed..];
            if held.live.changes() >= changes_max {
                self.flush(held).await?;
                pauses.reset();
            }
        }
        Ok(())
    }

    /// Stores everything observed in one atomic step, and waits until it is known to be stored.
    async fn flush(&self, held: &mut Held) -> Result<(), Break> {
        tokio::select! {
            biased;
            () = self.shared.topic.confirm() => {}
            () = self.out_of_patience() => return Err(Break::Stopped),
        }
        let step = match held.expiry.take() {
            Some(expiry) => expiry.ride(&mut held.live),
            None => held.live.flush(),
        };
        let begun = Instant::now();
        self.apply(&step).await?;
        histogram!("twofold_speed_flush_seconds").record(begun.elapsed());
        counter!("twofold_speed_flushes_total").increment(1);
        self.applied(held);
        Ok(())
    }

    async fn apply(&self, step: &Flush) -> Result<(), Break> {
        let own = Some((step.generation, step.meta.next_offset));
        let first = self.shared.store.flush(&self.partition, step).await;
        let (outcome, is_second) = match first {
            // The step may have happened or not. It is worth asking once more: a lost reply then costs a round trip
            // instead of a look-back.
            Err(StoreError::Unavailable(_)) => (self.shared.store.flush(&self.partition, step).await, true),
            first => (first, false),
        };
        match outcome.map_err(|source| Break::store(&self.partition, source))? {
            FlushOutcome::Applied => Ok(()),
            FlushOutcome::Mismatch { found } if is_second && found == own => Ok(()),
            FlushOutcome::Mismatch { found: None } => {
                Err(Break::Doubt(Doubt::Vanished, "no generation is live".to_owned()))
            }
            FlushOutcome::Mismatch { found } => Err(Break::mismatch(found, step.expected)),
        }
    }

    fn applied(&self, held: &mut Held) {
        let evicted = held.live.meta().dedup_evicted;
        counter!("twofold_speed_dedup_evicted_total").increment(evicted - held.evicted);
        held.evicted = evicted;
        held.live.stored();
        held.due = None;
        self.meter.stored(&held.live);
        if held.was_rebuilding && !held.live.meta().is_rebuilding() {
            held.was_rebuilding = false;
            held.scrub = Scrub::due_now();
            tracing::info!(partition = %self.partition, generation = %held.live.generation(), "rebuilt");
        }
    }

    /// Stores what was observed, if anything, before the worker ends.
    async fn leave(&self, held: Option<Held>) -> Break {
        let Some(mut held) = held.filter(|held| held.live.has_news()) else { return Break::Stopped };
        match self.flush(&mut held).await {
            Ok(()) => Break::Stopped,
            Err(Break::Doubt(doubt, why)) => {
                tracing::warn!(partition = %self.partition, reason = doubt.code(), why, "stopped without storing the last records; they are read again");
                Break::Stopped
            }
            Err(Break::Unsound(found, why)) => {
                tracing::error!(partition = %self.partition, reason = found.reason.code(), why, "stopped; what is stored is not whole, and is counted anew at the next start");
                Break::Stopped
            }
            Err(end) => end,
        }
    }

    async fn out_of_patience(&self) {
        self.stop.cancelled().await;
        sleep(STOP_PATIENCE).await;
    }
}
