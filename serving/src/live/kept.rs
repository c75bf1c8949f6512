//! One partition's live counts in memory, kept as they are stored.
//!
//! All late counts and the newest hours are read once, then hour by hour what is older, as far as memory allows, and from
//! then on what was written since. Everything that an answer takes from here was stored at one moment.

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use clicks::live::{Generation, Meta};
use clicks::position::PartitionId;
use clicks::time::{Day, Interval, Span, Timestamp};
use clicks::view::{Columns, Held, Merge, Missing};
use clicks::window::Hour;
use platform::store::{Changes, LiveSlice, Mark, Part, SpeedStore, StoreError};
use tokio::sync::Mutex;

/// Counts that are enough for one step back in time, and hours that are: an empty one costs a round trip.
const STEP_COUNTS: usize = 10_000;
const STEP_HOURS: usize = 12;

/// How long a partition that does not fit into its memory, or changes faster than it can be read, is read for each question.
const REST: Duration = Duration::from_secs(60);

/// How long one is read that cannot be held now.
const REST_SHORT: Duration = Duration::from_secs(1);

/// Deadline of the first reading, for which no question waits, but the background does.
const BEGIN_MAX: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(crate) struct Kept {
    partition: PartitionId,
    state: RwLock<State>,
    /// When it was last asked for. Apart, so that no question waits for another one to be answered.
    asked: std::sync::Mutex<Instant>,
    /// One reading at a time.
    reading: Mutex<()>,
}

#[derive(Debug)]
struct State {
    counts: Option<Counts>,
    /// Why the store did not tell what has changed.
    missing: Option<Missing>,
    /// When what is said here was read.
    read: Instant,
    /// The store is left alone until then.
    rests: Option<Instant>,
    /// Older hours are left alone until then.
    reaches_no_further: Option<Instant>,
}

#[derive(Debug)]
struct Counts {
    mark: Mark,
    meta: Meta,
    is_in_doubt: bool,
    columns: Columns,
    /// Windows that begin earlier are not held.
    from: Timestamp,
}

/// Hours that were read before those that are held, down to `from`.
struct Older {
    from: Timestamp,
    slices: Vec<LiveSlice>,
}

impl Kept {
    pub(super) fn new(partition: PartitionId) -> Self {
        let now = Instant::now();
        let state = State { counts: None, missing: None, read: now, rests: None, reaches_no_further: None };
        Kept { partition, state: RwLock::new(state), asked: now.into(), reading: Mutex::default() }
    }

    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// How long nobody has asked for it.
    pub(super) fn idle(&self) -> Duration {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    pub(super) fn partition(&self) -> &PartitionId {
        &self.partition
    }

    pub(super) fn bytes(&self) -> usize {
        self.state().counts.as_ref().map_or(0, |counts| counts.columns.bytes())
    }

    /// Gives a question what is held, or why that is not known, and tells when it was read. `None`: it is not held, or not
    /// from so early on.
    pub(super) fn give(&self, merge: &mut Merge) -> Option<Instant> {
        let state = self.state();
        let counts = state.counts.as_ref().filter(|counts| counts.reaches(merge.range().start))?;
        match &state.missing {
            Some(missing) => merge.miss_live(&self.partition, missing.clone()),
            None => {
                let Counts { meta, is_in_doubt, columns, .. } = counts;
                merge.give_held(&self.partition, Held { meta, is_in_doubt: *is_in_doubt, columns });
            }
        }
        Some(state.read)
    }

    /// Before a question: sees that what is held was read less than `refresh` ago.
    pub(super) async fn catch_up(&self, store: &dyn SpeedStore, refresh: Duration, deadline: Duration) {
        let asked = Instant::now();
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = asked;
        let is_due = |since: Instant| {
            let state = self.state();
            state.counts.is_some() && state.read < since && !is_before(state.rests)
        };
        if asked.checked_sub(refresh).is_none_or(is_due) {
            let _turn = self.reading.lock().await;
            // Whoever waited for it shares a reading that began meanwhile, however long it took.
            if is_due(asked) {
                self.within(deadline, self.take_in(store, None)).await;
            }
        }
    }

    /// In the background: the same, and begins to hold it, or where it is told to reaches further back.
    pub(super) async fn keep(&self, store: &dyn SpeedStore, bytes_max: usize, deadline: Duration, reaches_back: bool) {
        if is_before(self.state().rests) {
            return;
        }
        let _turn = self.reading.lock().await;
        if self.state().counts.is_none() {
            match tokio::time::timeout(BEGIN_MAX, self.begin(store)).await {
                Ok(Ok(())) => {}
                // Whoever asks is told by a reading of its own.
                Ok(Err(_)) => self.change().rests = Some(Instant::now() + deadline),
                Err(_) => self.change().rests = Some(Instant::now() + REST),
            }
        } else {
            let older = async { if reaches_back { self.older(store, bytes_max).await } else { Ok(None) } };
            let older = match tokio::time::timeout(deadline, older).await {
                Ok(Ok(older)) => older,
                // What follows says so.
                Ok(Err(_)) => None,
                // An hour is more than can be read in time.
                Err(_) => {
                    self.change().reaches_no_further = Some(Instant::now() + REST);
                    None
                }
            };
            self.within(deadline, self.take_in(store, older)).await;
        }
        self.shrink(bytes_max);
    }

    /// Notes what became of a reading.
    async fn within(&self, deadline: Duration, reading: impl Future<Output = Result<(), StoreError>>) {
        let begun = Instant::now();
        let done = tokio::time::timeout(deadline, reading).await;
        let mut state = self.change();
        state.read = begun;
        state.missing = match done {
            Ok(Ok(())) => return,
            // What is remembered of the changes cannot be used, or the meta record: it is held anew, or is said by a reading.
            Ok(Err(StoreError::Content { .. })) => {
                state.counts = None;
                return;
            }
            Ok(Err(error)) => Some(super::failed(&self.partition, error.to_string())),
            Err(_) => {
                state.rests = Some(Instant::now() + deadline);
                Some(super::failed(&self.partition, super::no_answer(deadline)))
            }
        };
    }

    /// Takes in what was written since it was read, after older hours if there are any.
    async fn take_in(&self, store: &dyn SpeedStore, older: Option<Older>) -> Result<(), StoreError> {
        let Some(mark) = self.state().counts.as_ref().map(|counts| counts.mark) else { return Ok(()) };
        let changes = store.read_changes(&self.partition, Some(&mark)).await?;
        let mut state = self.change();
        state.missing = None;
        let taken = match (changes, &mut state.counts) {
            (Some(changes), Some(counts)) => match older {
                Some(Older { from, slices }) if are_of(&slices, &changes) => {
                    counts.from = from;
                    slices.iter().for_each(|slice| counts.columns.write(&slice.counts, &slice.late));
                    counts.change(changes)
                }
                Some(_) => false,
                None => counts.change(changes),
            },
            _ => false,
        };
        if !taken {
            // It is held anew by the next round in the background. Until then questions read it.
            metrics::counter!("twofold_serving_live_forgotten_total").increment(1);
            state.counts = None;
        }
        Ok(())
    }

    async fn begin(&self, store: &dyn SpeedStore) -> Result<(), StoreError> {
        let Some(begun) = store.read_changes(&self.partition, None).await? else {
            // No generation is live, or its writer does not tell what it writes: a worker of an earlier release.
            self.change().rests = Some(Instant::now() + REST_SHORT);
            return Ok(());
        };
        let (mark, LiveSlice { generation, meta, is_in_doubt, .. }) = (begun.mark, begun.slice);
        // Before the first record nothing is stored, and there is no hour to begin with.
        let newest = if meta.append_time == Timestamp::MIN { meta.base_day.start() } else { meta.append_time };
        let from = Hour::of(newest).start().max(meta.base_day.start());
        let mut parts = vec![Part { windows: Interval::new(from, Timestamp::MAX), nights: NO_NIGHTS }];
        let nights = meta.base_night.until(newest.day().max(meta.base_night).next());
        parts.extend(nights.map(|night| Part { windows: NO_WINDOWS, nights: (night, night.next()) }));
        let mut slices = Vec::new();
        for part in parts {
            match store.read_part(&self.partition, &part).await? {
                Some(slice) if slice.generation == generation => slices.push(slice),
                _ => return Ok(()),
            }
        }
        let read = Instant::now();
        let Some(changes) = store.read_changes(&self.partition, Some(&mark)).await? else { return Ok(()) };
        let mut counts = Counts { mark, meta, is_in_doubt, columns: Columns::default(), from };
        if are_of(&slices, &changes) {
            slices.iter().for_each(|slice| counts.columns.write(&slice.counts, &slice.late));
            if counts.change(changes) {
                let mut state = self.change();
                (state.counts, state.missing, state.read) = (Some(counts), None, read);
            }
        }
        Ok(())
    }

    /// Reads hours before those that are held.
    async fn older(&self, store: &dyn SpeedStore, bytes_max: usize) -> Result<Option<Older>, StoreError> {
        let Some((generation, mut from, base)) = self.state().reach(bytes_max) else { return Ok(None) };
        let (mut slices, mut read) = (Vec::new(), 0);
        while from > base && slices.len() < STEP_HOURS && read < STEP_COUNTS {
            let windows = Interval::new(from - Span::hours(1), from);
            match store.read_part(&self.partition, &Part { windows, nights: NO_NIGHTS }).await? {
                Some(slice) if slice.generation == generation => {
                    read += slice.counts.len();
                    slices.push(slice);
                }
                _ => break,
            }
            from = windows.start;
        }
        Ok(Some(Older { from, slices }))
    }

    /// Lets the oldest hours go while there is no room for them.
    fn shrink(&self, bytes_max: usize) {
        let mut state = self.change();
        let state = &mut *state;
        let Some(counts) = &mut state.counts else { return };
        while counts.columns.bytes() > bytes_max {
            if counts.from > counts.meta.append_time {
                // Not even the running hour fits.
                (state.counts, state.rests) = (None, Some(Instant::now() + REST));
                return;
            }
            counts.from = counts.from + Span::hours(1);
            counts.columns.forget(counts.from, counts.meta.base_night);
            // It would have to go again.
            state.reaches_no_further = Some(Instant::now() + REST);
        }
    }
}

const NO_WINDOWS: Interval = Interval { start: Timestamp::EPOCH, end: Timestamp::EPOCH };
const NO_NIGHTS: (Day, Day) = (Day::from_number(0), Day::from_number(0));

/// Parts that were read one after the other, behind a mark, each as it was at one of the flushes since. What was written
/// since is then written over all of them in its order, so they come out at the same end. A part of a flush that the store
/// lost again would keep what was never stored.
fn are_of(slices: &[LiveSlice], changes: &Changes) -> bool {
    slices.iter().all(|slice| changes.reached.contains(&slice.reached()))
}

fn is_before(until: Option<Instant>) -> bool {
    until.is_some_and(|until| Instant::now() < until)
}

impl State {
    /// Where older hours end and begin that may be read, if there is room for them.
    fn reach(&self, bytes_max: usize) -> Option<(Generation, Timestamp, Timestamp)> {
        let counts = self.counts.as_ref().filter(|counts| counts.columns.bytes() < bytes_max / 4 * 3)?;
        let base = counts.meta.base_day.start();
        (counts.from > base && !is_before(self.reaches_no_further)).then_some((
            counts.mark.generation(),
            counts.from,
            base,
        ))
    }
}

impl Counts {
    /// Everything that is stored from this time on is held.
    fn reaches(&self, time: Timestamp) -> bool {
        self.from <= time.max(self.meta.base_day.start())
    }

    /// Takes in what was written since the mark. False: the store went back.
    fn change(&mut self, changes: Changes) -> bool {
        let LiveSlice { generation: _, meta, is_in_doubt, mut counts, late } = changes.slice;
        if meta.base_day < self.meta.base_day || meta.base_night < self.meta.base_night {
            return false;
        }
        // An hour that is held in part would pass for a whole one once those before it are read.
        counts.retain(|(key, _)| key.minute.start() >= self.from);
        self.columns.write(&counts, &late);
        if (meta.base_day, meta.base_night) != (self.meta.base_day, self.meta.base_night) {
            self.from = self.from.max(meta.base_day.start());
            self.columns.forget(self.from, meta.base_night);
        }
        (self.meta, self.is_in_doubt, self.mark) = (meta, is_in_doubt, changes.mark);
        true
    }
}
