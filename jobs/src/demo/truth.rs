//! The generator's truth: a naive, single-threaded count of what was sent, by the words of the rules.
//!
//! It shares no code with the layers whose numbers it judges.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use clicks::event::Click;
use clicks::id::{AdId, ClickId};
use clicks::time::{Day, Timestamp};
use clicks::window::Minute;

/// What is true of one ad in one minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cell {
    /// Billed: the first sighting of each click id, unless another lies within the 24 hours before.
    pub exact: u64,
    /// What the live view shows: not late, and not sighted within the 15 minutes before.
    pub live: u64,
    /// Those of `exact` that were late.
    pub late: u64,
    /// Those of `live` that `exact` leaves out.
    pub far_duplicates: u64,
}

const LATENESS_MS: i64 = 10 * 60_000;
const LIVE_HORIZON_MS: i64 = 15 * 60_000;
const BATCH_HORIZON_MS: i64 = 24 * 3_600_000;

/// Everything that was sent so far, judged.
#[derive(Debug, Clone, Default)]
pub struct Truth {
    last_sent: HashMap<(AdId, ClickId), i64>,
    /// Shared with the copies that were taken; a day is copied when it changes.
    days: BTreeMap<Day, Arc<Cells>>,
}

type Cells = BTreeMap<(AdId, Minute), Cell>;

impl Truth {
    /// A click was appended at `append_time`; calls come in the order of appending.
    pub fn sent(&mut self, click: &Click, append_time: Timestamp) {
        let now = append_time.as_millis();
        let before = self.last_sent.insert((click.ad_id.clone(), click.click_id), now);
        let seen_within = |horizon: i64| before.is_some_and(|then| now - then < horizon);
        let late = now - click.event_time.as_millis() > LATENESS_MS;
        let cells = Arc::make_mut(self.days.entry(click.event_time.day()).or_default());
        let cell = cells.entry((click.ad_id.clone(), Minute::of(click.event_time))).or_default();
        let exact = !seen_within(BATCH_HORIZON_MS);
        let live = !late && !seen_within(LIVE_HORIZON_MS);
        cell.exact += u64::from(exact);
        cell.live += u64::from(live);
        cell.late += u64::from(exact && late);
        cell.far_duplicates += u64::from(live && !exact);
    }

    /// A copy for comparing, which can take no more clicks: it remembers no click id.
    pub fn counts_only(&self) -> Truth {
        Truth { last_sent: HashMap::new(), days: self.days.clone() }
    }

    /// Sum over one day.
    pub fn day(&self, day: Day) -> Cell {
        self.cells_of(day).fold(Cell::default(), |sum, (_, _, cell)| Cell {
            exact: sum.exact + cell.exact,
            live: sum.live + cell.live,
            late: sum.late + cell.late,
            far_duplicates: sum.far_duplicates + cell.far_duplicates,
        })
    }

    /// Every ad and minute of one day that was clicked.
    pub fn cells_of(&self, day: Day) -> impl Iterator<Item = (&AdId, Minute, Cell)> {
        self.days.get(&day).into_iter().flat_map(|cells| cells.iter()).map(|((ad, minute), cell)| (ad, *minute, *cell))
    }

    /// The days that hold a click.
    pub fn days(&self) -> Vec<Day> {
        self.days.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clicks::id::UserId;
    use clicks::time::Span;

    #[test]
    fn the_difference_between_the_layers_is_explained_by_definition() {
        let at = |minutes| Timestamp::EPOCH + Span::days(20_000) + Span::minutes(minutes);
        let click = |id, event_time| Click {
            click_id: ClickId::from_u128(id),
            ad_id: AdId::parse("a").expect("valid"),
            user_id: UserId::parse("u").expect("valid"),
            event_time,
        };
        let mut truth = Truth::default();
        truth.sent(&click(1, at(600)), at(600));
        truth.sent(&click(1, at(600)), at(601));
        truth.sent(&click(2, at(600)), at(620));
        truth.sent(&click(1, at(700)), at(700));
        let day = truth.day(at(0).day());
        assert_eq!((day.exact, day.live, day.late, day.far_duplicates), (2, 2, 1, 1));
        assert_eq!(day.exact, day.live + day.late - day.far_duplicates);
    }
}
