//! The second pass: what becomes of each click, bucket by bucket, and the owned ones in buckets by minutes.

use clicks::rules::Rules;
use clicks::time::Day;
use clicks::verdict::{Judgement, Verdict};
use clicks::window::Minute;
use datafusion::error::Result;
use datafusion::execution::TaskContext;

use super::buckets::Buckets;
use super::read::{Clicks, Others};
use super::sighting::{Outcome, Owner, Sighting, What};
use super::sightings::Sightings;
use super::work::{OfDay, Work};
use crate::rows::Names;

/// About so many outcomes are sorted at a time.
const OUTCOMES_PER_SLICE: u64 = 64 * 1024;
const SLICES_MAX: u64 = 1024;

/// What the clicks come to.
#[derive(Debug)]
pub(super) struct Outcomes {
    /// By minutes of the computed days, in their order; the last one holds the adjustments.
    pub(super) slices: Buckets<Outcome>,
    /// Names in their order; an outcome holds the place of its ad.
    pub(super) ads: Names,
    pub(super) others: Others,
}

/// Which minutes lie in which slice.
#[derive(Debug, Clone, Copy)]
struct Slices {
    first: i64,
    minutes: i64,
    count: i64,
}

impl Slices {
    fn new(work: &Work, rows: u64) -> Self {
        let days = &work.scope.days;
        let minutes = |day: Option<&Day>| day.map_or(0, |day| Minute::of(day.start()).number());
        let (first, last) = (minutes(days.first()), minutes(days.last()) + 24 * 60);
        let count = (rows / OUTCOMES_PER_SLICE).clamp(1, SLICES_MAX) as i64;
        Slices { first, minutes: last - first, count }
    }

    #[inline]
    fn of(self, minute: Minute) -> usize {
        ((minute.number() - self.first) * self.count / self.minutes) as usize
    }
}

pub(super) async fn judge(work: &Work, mut clicks: Clicks, context: &TaskContext) -> Result<Outcomes> {
    let slices = Slices::new(work, clicks.rows);
    let count = slices.count as usize + 1;
    let (ads, places) = clicks.ads.sorted();
    let mut outcomes =
        Outcomes { slices: Buckets::new("outcomes of clicks", count, context), ads, others: clicks.others };
    let mut judge = Judge {
        of_day: OfDay::new(&work.scope),
        batch: Sightings::default(),
        live: work.keys_move.then(Sightings::default),
        places,
        slices,
    };
    let mut bucket: Vec<Sighting> = Vec::new();
    for number in 0..clicks.buckets.count() {
        clicks.buckets.take(number, &mut bucket)?;
        judge.bucket(&mut bucket, &mut outcomes)?;
        tokio::task::yield_now().await;
    }
    Ok(outcomes)
}

struct Judge<'a> {
    of_day: OfDay<'a>,
    batch: Sightings,
    /// Where keys move: each partition's own live worker sees no other partition.
    live: Option<Sightings>,
    places: Vec<u32>,
    slices: Slices,
}

impl Judge<'_> {
    fn bucket(&mut self, clicks: &mut [Sighting], outcomes: &mut Outcomes) -> Result<()> {
        self.batch.clear_for(clicks.len());
        if let Some(live) = &mut self.live {
            live.clear_for(clicks.len());
            // They stand partition after partition; of one partition the order stays, so this is the log's order.
            clicks.sort_by_key(Sighting::order);
        }
        for number in 0..clicks.len() {
            let click = &clicks[number];
            let late = click.is_late();
            let sighted = self.batch.sight(clicks, number, click.hash(), Sighting::same_key);
            let sighted_live = match &mut self.live {
                None => sighted,
                Some(live) => {
                    let hash = click.hash() ^ click.rank().wrapping_mul(0x9e37_79b9_7f4a_7c15);
                    live.sight(clicks, number, hash, |a, b| a.same_key(b) && a.rank() == b.rank())
                }
            };
            let rules = self.of_day.at(click.minute().start()).rules;
            let verdicts = verdicts(rules, Judgement { sighted, late }, Judgement { sighted: sighted_live, late });
            let what = match verdicts {
                (Verdict::Duplicate, Verdict::Counted) => What::FarDuplicate,
                (Verdict::Duplicate, Verdict::Late) => What::LateDuplicate,
                (Verdict::Duplicate, _) => What::Duplicate,
                (_, Verdict::Late) => What::Late,
                _ => What::Counted,
            };
            let duplicate = matches!(what, What::Duplicate | What::FarDuplicate | What::LateDuplicate);
            let slice = match click.owner() {
                Owner::Day => self.slices.of(click.minute()),
                Owner::Adjustment if !duplicate => outcomes.slices.count() - 1,
                _ => {
                    outcomes.others.other_days += 1;
                    continue;
                }
            };
            outcomes.slices.push(slice, Outcome::new(click, self.places[click.ad() as usize], what))?;
        }
        Ok(())
    }
}

/// Of the batch and of the live layer.
#[inline]
fn verdicts(rules: &Rules, batch: Judgement, live: Judgement) -> (Verdict, Verdict) {
    (batch.within(rules.batch_horizon), live.within(rules.live_horizon))
}
