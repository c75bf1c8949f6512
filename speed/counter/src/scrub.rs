//! The scrub: is everything that was written still stored?
//!
//! A key that somebody deleted, or that was evicted, is no error of any read: its counts are missing, and the sum is too
//! small. The totals in the meta record tell, in double entry: `counted` is the sum of the stored windows and `expired`,
//! `late` the sum of the stored late counts and `late_expired`. Beside them, what is held in memory must be what is stored.
//!
//! It goes through a partition in short steps, each one atomic read while nothing waits to be stored, so neither the store
//! nor the count waits for long. Hours below the watermark and nights whose cut has passed do not change any more: they
//! are read one by one, whatever is stored in between. What may still change is read in one step at the end, together with
//! the totals that all of it must add up to.
//!
//! With each scrub the store's settings are checked as at the start, the last counted record is compared with the log's,
//! and what is left of replaced generations is swept.

use std::time::Duration;

use clicks::bugs::{self, Bug};
use clicks::counter::LiveCounter;
use clicks::live::Stage;
use clicks::time::{Day, Interval, Timestamp};
use clicks::window::Hour;
use metrics::counter;
use platform::store::{LiveSlice, Part, StoreError};
use tokio::time::Instant;

use crate::doubt::{Break, Doubt, Unsound};
use crate::error::CounterError;
use crate::resume::{Reason, is_another};
use crate::worker::{Held, Worker, position_of};

/// How long records wait for the steps of a scrub.
const STEPS: Duration = Duration::from_millis(20);
/// How long the steps of a scrub wait for records.
pub(crate) const BETWEEN: Duration = Duration::from_millis(1);
/// How long the last counted record is waited for.
const LAST_RECORD: Duration = Duration::from_secs(1);
/// A store that is away is no finding; when it is asked again.
const AWAY: Duration = Duration::from_secs(1);

/// The scrub that is due or under way.
#[derive(Debug)]
pub(crate) struct Scrub {
    due: Instant,
    walk: Option<Walk>,
}

impl Scrub {
    pub(crate) fn due_now() -> Self {
        Self::due_at(Instant::now())
    }

    fn due_at(due: Instant) -> Self {
        Scrub { due, walk: None }
    }

    pub(crate) fn is_under_way(&self) -> bool {
        self.walk.is_some()
    }
}

/// How far a scrub has come.
#[derive(Debug)]
struct Walk {
    /// It begins anew when an expiry moves the base.
    base: (Day, Day),
    /// Read up to here, exclusively.
    hour: Hour,
    night: Day,
    /// What lies before did not change any more when the walk began.
    open_hour: Hour,
    open_night: Day,
    counted: u64,
    late: u64,
}

impl Walk {
    fn begin(live: &LiveCounter) -> Self {
        let meta = live.meta();
        let (hour, night) = (Hour::of(meta.base_day.start()), meta.base_night);
        let (open_hour, open_night) = match meta.append_time {
            Timestamp::MIN => (hour, night),
            _ => (Hour::of(live.watermark()).max(hour), live.open_night().max(night)),
        };
        Walk { base: base(live), hour, night, open_hour, open_night, counted: 0, late: 0 }
    }

    fn is_at_end(&self) -> bool {
        self.hour >= self.open_hour && self.night >= self.open_night
    }

    /// What the next step reads.
    fn part(&self) -> Part {
        let nothing = Interval::new(Timestamp::EPOCH, Timestamp::EPOCH);
        if self.hour < self.open_hour {
            let next = Hour::from_number(self.hour.number() + 1);
            Part { windows: Interval::new(self.hour.start(), next.start()), nights: (self.night, self.night) }
        } else if self.night < self.open_night {
            Part { windows: nothing, nights: (self.night, self.night.next()) }
        } else {
            let windows = Interval::new(self.open_hour.start(), Timestamp::MAX);
            Part { windows, nights: (self.open_night, Day::from_number(i32::MAX)) }
        }
    }

    /// Takes in what was read, and goes on.
    fn step(&mut self, slice: &LiveSlice) {
        self.counted = self.counted.saturating_add(sum(&slice.counts));
        self.late = self.late.saturating_add(sum(&slice.late));
        if self.hour < self.open_hour {
            self.hour = Hour::from_number(self.hour.number() + 1);
        } else if self.night < self.open_night {
            self.night = self.night.next();
        }
    }

    /// What is wrong, once the last part was taken in.
    fn finding(&self, last: &LiveSlice, live: &LiveCounter) -> Option<String> {
        let (totals, held) = (&last.meta.totals, &live.meta().totals);
        if totals != held {
            return Some(format!("the stored totals are {totals:?}, {held:?} was written"));
        }
        if self.counted.checked_add(totals.expired) != Some(totals.counted) {
            let (stored, Walk { base, .. }) = (self.counted, self);
            return Some(format!("clicks of the stored windows since {}: {stored}, by {totals:?}", base.0));
        }
        if self.late.checked_add(totals.late_expired) != Some(totals.late) {
            let (stored, Walk { base, .. }) = (self.late, self);
            return Some(format!("late clicks stored of the nights since {}: {stored}, by {totals:?}", base.1));
        }
        live.difference(&last.counts, &last.late).map(|difference| difference.to_string())
    }
}

/// Minutes before this day and late counts of earlier nights are not stored.
fn base(live: &LiveCounter) -> (Day, Day) {
    (live.meta().base_day, live.meta().base_night)
}

/// The sum of some counts; damaged ones may be of any size.
pub(crate) fn sum<'a, K: 'a>(counts: impl IntoIterator<Item = &'a (K, u64)>) -> u64 {
    counts.into_iter().fold(0, |sum, (_, clicks)| sum.saturating_add(*clicks))
}

impl Worker {
    /// A few steps of the scrub, if one is due and everything observed is stored.
    pub(crate) async fn scrub(&self, held: &mut Held) -> Result<(), Break> {
        let began = Instant::now();
        let is_to_wait = held.live.has_news() || held.live.stage() == Stage::Beside || bugs::is_on(Bug::NoScrub);
        if began < held.scrub.due || is_to_wait || self.stop.is_cancelled() {
            return Ok(());
        }
        let mut walk = match held.scrub.walk.take() {
            Some(walk) if walk.base == base(&held.live) => walk,
            _ if self.tidy().await? => {
                self.compare_last_record(&held.live).await?;
                Walk::begin(&held.live)
            }
            _ => return self.scrub_later(held),
        };
        loop {
            let slice = match self.shared.store.read_part(&self.partition, &walk.part()).await {
                Err(StoreError::Unavailable(_)) => return self.scrub_later(held),
                slice => slice.map_err(|source| Break::store(&self.partition, source))?,
            };
            let Some(slice) = slice else {
                return Err(Break::Doubt(Doubt::Vanished, "no generation is live".to_owned()));
            };
            let (found, expected) = (position_of(Some(&slice)), held.live.stored_at());
            if found != expected {
                return Err(Break::mismatch(found.position(), expected));
            }
            let was_last = walk.is_at_end();
            walk.step(&slice);
            if was_last {
                if let Some(finding) = walk.finding(&slice, &held.live) {
                    return Err(self.unsound(held, finding));
                }
                counter!("twofold_speed_scrubs_total").increment(1);
                tracing::debug!(partition = %self.partition, ?walk, "scrubbed");
                held.scrub = Scrub::due_at(Instant::now() + self.shared.options.scrub_interval);
                return Ok(());
            }
            if began.elapsed() >= STEPS {
                held.scrub.walk = Some(walk);
                return Ok(());
            }
        }
    }

    /// A log that lost its end and grew again may go on at the position without any error. What cannot be read now is
    /// compared by the next scrub, or by whoever enters next.
    async fn compare_last_record(&self, live: &LiveCounter) -> Result<(), Break> {
        let meta = live.meta();
        if meta.fingerprint.is_empty() {
            return Ok(());
        }
        let last = meta.next_offset.minus(1);
        let Ok(mut reader) = self.shared.log.open(self.partition.number, last).await else { return Ok(()) };
        match reader.poll(1, LAST_RECORD).await.unwrap_or_default().first() {
            Some(record) if record.offset == last && is_another(&record.observed(), &meta.fingerprint) => {
                let generation = Some(live.generation());
                let why = format!("another record is at {last} than was counted");
                Err(Break::Unsound(Unsound { generation, reason: Reason::Fingerprint }, why))
            }
            _ => Ok(()),
        }
    }

    fn scrub_later(&self, held: &mut Held) -> Result<(), Break> {
        held.scrub = Scrub::due_at(Instant::now() + AWAY.min(self.shared.options.scrub_interval));
        Ok(())
    }

    /// The stored counts are not the ones that were written.
    pub(crate) fn unsound(&self, held: &Held, finding: String) -> Break {
        counter!("twofold_speed_scrubs_failed_total").increment(1);
        let generation = Some(held.live.generation());
        Break::Unsound(Unsound { generation, reason: Reason::Scrub }, finding)
    }

    /// Checks the store's settings and sweeps replaced generations. False when the store is away.
    async fn tidy(&self) -> Result<bool, Break> {
        match self.shared.store.check().await {
            Ok(()) => {}
            Err(StoreError::Unavailable(_)) => return Ok(false),
            Err(source) => return Err(Break::Failed(CounterError::StoreCheck(source))),
        }
        match self.shared.store.sweep(&self.partition).await {
            Ok(0) => {}
            Ok(keys) => {
                counter!("twofold_speed_swept_keys_total").increment(keys);
                tracing::info!(partition = %self.partition, keys, "deleted what was left of replaced generations");
            }
            // It costs memory and nothing else, and is tried again with the next scrub.
            Err(error) => tracing::warn!(partition = %self.partition, %error, "replaced generations are not swept"),
        }
        Ok(true)
    }
}
