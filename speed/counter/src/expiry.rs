//! Closed days leave the live view some time after they are closed.
//!
//! A window is dropped only when the ledger has closed its day, the partition's own watermark has passed it, and it was
//! kept long enough for the two layers to be compared. Its clicks move to the totals' `expired`, so the double entry still
//! holds. The sums are read from the store, which is the only one that knows them: a worker forgets sealed windows.
//!
//! The step rides on the next flush that moves the position, see [`LiveCounter::expire`]; and one day at a time, so that
//! sums and step stay small however long nothing was expired.

use clicks::books::Books;
use clicks::bugs::{self, Bug};
use clicks::counter::LiveCounter;
use clicks::live::{Flush, Stage};
use clicks::time::{Day, Interval, Span};
use metrics::counter;
use platform::store::{Ads, LiveQuery, LiveSlice};

use crate::doubt::Break;
use crate::scrub::sum;
use crate::worker::{Held, Worker, position_of};

/// What the next flush expires: everything before the day and the night, and what that sums up to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Expiry {
    base_day: Day,
    base_night: Day,
    expired: u64,
    late_expired: u64,
}

impl Expiry {
    /// The next flush, with this on it.
    pub(crate) fn ride(self, live: &mut LiveCounter) -> Flush {
        match live.expire(self.base_day, self.base_night, self.expired, self.late_expired) {
            Some(step) => {
                counter!("twofold_speed_expired_total").increment(self.expired + self.late_expired);
                tracing::info!(generation = %live.generation(), ?self, "expiring closed windows");
                step
            }
            None => live.flush(),
        }
    }
}

impl Worker {
    /// Prepares the next expiry when everything observed is stored and a day is due.
    pub(crate) async fn plan_expiry(&self, held: &mut Held, books: &Books) -> Result<(), Break> {
        if held.expiry.is_some() || held.live.has_news() || held.live.stage() == Stage::Beside {
            return Ok(());
        }
        let Some((base_day, base_night)) = self.expirable(&held.live, books) else { return Ok(()) };
        let meta = held.live.meta();
        // A late click of a night lies before the night's cut and at most the maximum age behind it.
        let (first_night, last_night) = (meta.base_night.previous(), base_night.previous());
        let oldest = books.rules().cut_time(first_night) - books.rules().age_max() - Span::minutes(1);
        let newest = books.rules().cut_time(last_night);
        let query = LiveQuery {
            ads: Ads::All,
            range: Interval::new(oldest.min(meta.base_day.start()), newest.max(base_day.start())),
            late_from: meta.base_night,
        };
        let slice = self.shared.store.read(&self.partition, &query).await;
        let slice = slice.map_err(|source| Break::store(&self.partition, source))?;
        // The sums hold for one position only.
        let (found, expected) = (position_of(slice.as_ref()), held.live.stored_at());
        match slice {
            Some(slice) if found == expected => {
                let (expiry, totals) = (sums(&slice, base_day, base_night), held.live.meta().totals);
                if expiry.expired > totals.counted - totals.expired
                    || expiry.late_expired > totals.late - totals.late_expired
                {
                    return Err(self.unsound(held, format!("{expiry:?} is more than was counted: {totals:?}")));
                }
                held.expiry = Some(expiry);
            }
            _ => return Err(Break::mismatch(found, expected)),
        }
        Ok(())
    }

    /// The base day and night that may come next, if one of them moves.
    fn expirable(&self, live: &LiveCounter, books: &Books) -> Option<(Day, Day)> {
        let meta = live.meta();
        let kept_from = (self.shared.clock.now() - self.shared.options.keep_closed).day();
        let closed = if bugs::is_on(Bug::ExpiresOpenDays) { kept_from } else { books.next_night() };
        let limit = closed.min(kept_from);
        let next_day = if meta.base_day < limit { meta.base_day.next() } else { meta.base_day };
        let next_night = if meta.base_night < limit { meta.base_night.next() } else { meta.base_night };
        let candidates = [(next_day, next_night), (next_day, meta.base_night), (meta.base_day, next_night)];
        let moves = |(day, night): &(Day, Day)| *day > meta.base_day || *night > meta.base_night;
        candidates.into_iter().filter(moves).find(|(day, night)| live.has_passed(*day, *night))
    }
}

fn sums(slice: &LiveSlice, base_day: Day, base_night: Day) -> Expiry {
    let expired = slice.counts.iter().filter(|(key, _)| key.minute.start() < base_day.start());
    let late_expired = slice.late.iter().filter(|(key, _)| key.night < base_night);
    Expiry { base_day, base_night, expired: sum(expired), late_expired: sum(late_expired) }
}
