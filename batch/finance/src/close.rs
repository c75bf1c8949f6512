//! The close of a period: how far each of its days is, and what still stands before it can be billed.

use std::fmt;

use clicks::books::{Books, PeriodState};
use clicks::ledger::Objection;
use clicks::tables::EntryNumber;
use clicks::time::{Day, Interval, Timestamp};
use serde::Serialize;

use crate::statement::{days_of, is_final};

/// The days of UTC that a period touches. It is final when all of them are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Close {
    pub days: Vec<DayClose>,
    pub is_final: bool,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DayClose {
    pub day: Day,
    pub state: PeriodState,
    pub revision: Option<u32>,
    /// The entry that has published the revision.
    pub entry: Option<EntryNumber>,
    /// Of the whole day of UTC; `None` while nothing is published of it.
    pub clicks: Option<u64>,
    pub adjustment: u64,
    /// What has to happen before the day is final.
    pub blocker: Option<Blocker>,
}

/// What stands before a day is final. Each says what mends it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Blocker {
    /// Its night has not been published.
    NotClosed { due: Timestamp },
    /// Its night has left it out.
    Withheld { day: Day, objections: String },
    /// Further nights check it again.
    Checked { final_with: Day, due: Timestamp },
    /// A person keeps it from becoming final.
    Held { day: Day },
    /// A person has permitted one more revision.
    Reopened { day: Day },
}

impl fmt::Display for Blocker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Blocker::NotClosed { due } => {
                write!(f, "not closed: its night is due at {due}, `twofold batch run --catch-up` publishes it")
            }
            Blocker::Withheld { day, objections } => {
                write!(
                    f,
                    "withheld, as {objections}: `twofold batch run --date {day} --accept REASON` publishes it all the same"
                )
            }
            Blocker::Checked { final_with, due } => {
                write!(f, "becomes final with the night of {final_with}, which is due at {due}")
            }
            Blocker::Held { day } => write!(f, "held: `twofold period approve --date {day}` makes it final"),
            Blocker::Reopened { day } => {
                write!(f, "reopened: `twofold batch run --date {day}` publishes its next revision")
            }
        }
    }
}

impl Close {
    pub fn of(books: &Books, range: Interval) -> Self {
        let days: Vec<DayClose> = days_of(range).map(|day| DayClose::of(books, day)).collect();
        let is_final = days.iter().all(|day| is_final(day.state));
        Close { days, is_final }
    }

    pub fn blocked(&self) -> usize {
        self.days.iter().filter(|day| day.blocker.is_some()).count()
    }
}

impl DayClose {
    fn of(books: &Books, day: Day) -> Self {
        let book = books.day(day);
        DayClose {
            day,
            state: books.state(day),
            revision: book.map(|book| book.revision.revision),
            entry: book.map(|book| book.entry),
            clicks: book.map(|book| book.revision.totals.clicks).or_else(|| (day < books.first_day()).then_some(0)),
            adjustment: books.adjustments(day).iter().map(|adjustment| adjustment.clicks).sum(),
            blocker: blocker(books, day),
        }
    }
}

fn blocker(books: &Books, day: Day) -> Option<Blocker> {
    match books.state(day) {
        PeriodState::Final | PeriodState::Adjusted => None,
        PeriodState::Live => Some(Blocker::NotClosed { due: books.rules().cut_time(day) }),
        PeriodState::Withheld => {
            let objections = books.withheld().get(&day).map(|withheld| Objection::list(&withheld.objections));
            Some(Blocker::Withheld { day, objections: objections.unwrap_or_default() })
        }
        PeriodState::Reopened => Some(Blocker::Reopened { day }),
        PeriodState::Closed if books.day(day).is_some_and(|book| book.is_held) => Some(Blocker::Held { day }),
        PeriodState::Closed => {
            let finality = i32::try_from(books.rules().on(day).finality_days).unwrap_or(i32::MAX);
            // A day that was withheld at first waits for the next night that checks it.
            let final_with = day.plus(finality).max(books.next_night());
            Some(Blocker::Checked { final_with, due: books.rules().cut_time(final_with) })
        }
    }
}
