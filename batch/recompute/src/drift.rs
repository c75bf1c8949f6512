//! Holding a day against what the live view has counted of it: two layers, two programs, one log.
//!
//! By its own rule the live view counts `clicks - late + far duplicates` on time, all of them appended before the night's
//! cut. Where it is known to have come as far and nothing stands against it, the two are equal to the click. Where it is
//! away, or says itself that something is missing, there is nothing to compare.

use std::time::Duration;

use clicks::books::Books;
use clicks::ledger::{Check, DayTotals, Objection};
use clicks::position::PartitionId;
use clicks::time::{Day, Interval, Span};
use clicks::view::{Answer, Asked, Merge, Missing, Question, Reason};
use clicks::window::{Grain, Hour};
use clicks::zone::Zone;
use platform::store::{Ads, LiveQuery, LiveSlice, SpeedStore};
use serde::Serialize;

use crate::Options;
use crate::plan::Plan;

/// A store that has not answered by then is away.
const DEADLINE: Duration = Duration::from_secs(30);

/// How a day compares with the live view of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// No speed store was given.
    NotCompared,
    /// The live view cannot tell, for this reason.
    Unknown(String),
    /// Clicks on time, and late ones where both can tell.
    Compared { live: u64, exact: u64, live_late: Option<u64>, exact_late: u64 },
}

/// What the live view has counted of a day, or of a part of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LiveClicks {
    on_time: u64,
    /// `None` is unknown.
    late: Option<u64>,
}

impl LiveClicks {
    /// Asks the store of the options, if there is one; or says why the live view cannot tell.
    pub(crate) async fn of(options: &Options, books: &Books, plan: &Plan, day: Day) -> Option<Result<Self, String>> {
        let store = options.live.as_deref()?;
        if plan.keys_move {
            let why =
                "clicks of one key lie in several partitions, and the live view looks for duplicates in each alone";
            return Some(Err(why.to_owned()));
        }
        Some(ask(store, books, day).await)
    }
}

impl Drift {
    pub(crate) fn new(live: Option<Result<LiveClicks, String>>, totals: &DayTotals) -> Self {
        match live {
            None => Drift::NotCompared,
            Some(Err(why)) => Drift::Unknown(why),
            Some(Ok(LiveClicks { on_time, late })) => {
                Drift::Compared { live: on_time, exact: totals.live(), live_late: late, exact_late: totals.live_late() }
            }
        }
    }

    /// Against publishing `day`.
    pub(crate) fn objection(&self, day: Day) -> Option<Objection> {
        let Drift::Compared { live, exact, live_late, exact_late } = self else { return None };
        (!self.is_equal()).then(|| Objection {
            check: Check::Drift,
            detail: format!(
                "the live view has {live} clicks of {day} on time and {} late ones, where by the same rule the archive holds \
                 {exact} and {exact_late}: one of the two layers has lost clicks or counted some twice",
                live_late.map_or("an unknown number of".to_owned(), |late| late.to_string())
            ),
        })
    }

    fn is_equal(&self) -> bool {
        match self {
            Drift::Compared { live, exact, live_late, exact_late } => {
                live == exact && live_late.is_none_or(|late| late == *exact_late)
            }
            Drift::NotCompared | Drift::Unknown(_) => false,
        }
    }

    /// Tells operators what could not be compared.
    pub(crate) fn tell(&self, day: Day) {
        let outcome = match self {
            Drift::NotCompared => return,
            Drift::Unknown(why) => {
                tracing::warn!(%day, "not compared with the live view: {why}");
                "unknown"
            }
            Drift::Compared { .. } if self.is_equal() => "equal",
            Drift::Compared { .. } => "different",
        };
        metrics::counter!("twofold_batch_drift_checks_total", "outcome" => outcome).increment(1);
    }
}

/// Hour by hour, because all ads' minutes of a day are many.
async fn ask(store: &dyn SpeedStore, books: &Books, day: Day) -> Result<LiveClicks, String> {
    // The night of a late click is that of its append time, which tells the day's own ones only while the lateness stays.
    let same = books.rules().on(day.previous()).lateness == books.rules().on(day).lateness;
    let mut sum = LiveClicks { on_time: 0, late: same.then_some(0) };
    for hour in Hour::touched_by(day.interval()) {
        let more = ask_hour(store, books, day, Grain::Hour.window(hour.start())).await?;
        sum.on_time += more.on_time;
        sum.late = sum.late.zip(more.late).map(|(sum, more)| sum + more);
    }
    Ok(sum)
}

/// What was appended of an hour before the cut of the day's night; or why that is not known.
async fn ask_hour(store: &dyn SpeedStore, books: &Books, day: Day, hour: Interval) -> Result<LiveClicks, String> {
    // As of the cut, without allowance: whoever has not come so far cannot be compared with.
    let cut = books.rules().cut_time(day);
    let question = Question { asked: Asked::Total, range: hour, grain: Grain::Hour, zone: Zone::UTC };
    let mut merge = Merge::new(books, question, cut, Span::ZERO).map_err(|error| error.to_string())?;
    let query = LiveQuery { ads: Ads::All, range: hour, late_from: merge.late_from() };
    for partition in merge.partitions().cloned().collect::<Vec<_>>() {
        match read(store, &partition, &query).await {
            Ok(Some(mut slice)) => {
                slice.late.retain(|(key, _)| key.night <= day);
                merge.give_live(&partition, slice.live());
            }
            Ok(None) => merge.miss_live(&partition, Missing::NoGeneration),
            // It would be waited for at every other partition and hour, too.
            Err(detail) => return Err(Reason::PartitionAway { partition, detail }.to_string()),
        }
    }
    let Answer { standing, series } = merge.answer();
    let period = series.first().and_then(|series| series.periods.first()).filter(|period| period.complete);
    match period.and_then(|period| Some(LiveClicks { on_time: period.clicks?, late: period.late_pending })) {
        Some(known) => Ok(known),
        None => Err(standing.reasons.first().map_or_else(|| "not all of it is there".to_owned(), Reason::to_string)),
    }
}

async fn read(store: &dyn SpeedStore, partition: &PartitionId, query: &LiveQuery) -> Result<Option<LiveSlice>, String> {
    match tokio::time::timeout(DEADLINE, store.read(partition, query)).await {
        Ok(read) => read.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {DEADLINE:?}")),
    }
}
