//! What speaks against publishing a day, and may be overruled by a person who gives a reason.

use clicks::books::Books;
use clicks::ledger::{Acceptance, Check, Objection};
use clicks::time::Day;

use crate::Options;
use crate::archived::Archived;
use crate::night::Accept;

/// Days before it that a day's volume is held against, and how many there must be.
const WEEK: usize = 7;
const DAYS_MIN: usize = 3;
/// Below this many clicks a day chance alone makes large factors.
const USUAL_MIN: u64 = 1_000;

/// What is done with a day that has objections or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Decision {
    Publish,
    Accepted(Acceptance),
    Withhold(Vec<Objection>),
}

impl Decision {
    pub(crate) fn new(objections: Vec<Objection>, accept: Option<&Accept>) -> Self {
        match (objections.is_empty(), accept) {
            (true, _) => Decision::Publish,
            (false, None) => Decision::Withhold(objections),
            (false, Some(Accept { actor, reason })) => {
                Decision::Accepted(Acceptance { actor: actor.clone(), reason: reason.clone(), objections })
            }
        }
    }

    pub(crate) fn accepted(self) -> Option<Acceptance> {
        match self {
            Decision::Accepted(accepted) => Some(accepted),
            Decision::Publish | Decision::Withhold(_) => None,
        }
    }
}

/// All objections against `day`, which has `clicks`; `drift` is that of the live view.
pub(crate) fn objections(
    options: &Options,
    books: &Books,
    archived: &Archived,
    day: Day,
    clicks: u64,
    drift: Option<Objection>,
) -> Vec<Objection> {
    let losses = archived.losses(books, day).into_iter();
    let gaps = losses.map(|detail| Objection { check: Check::Gap, detail });
    gaps.chain(volume(books, day, clicks, options.volume_factor)).chain(drift).collect()
}

/// What the live view had against a day that was withheld: that stands until a person has looked at it, because what is
/// stored of the day changes with the nights.
pub(crate) fn drift_before(books: &Books, day: Day) -> Option<Objection> {
    let objections = &books.withheld().get(&day)?.objections;
    objections.iter().find(|objection| objection.check == Check::Drift).cloned()
}

/// Far more or fewer clicks than usual: the median of the week before.
fn volume(books: &Books, day: Day, clicks: u64, factor: u32) -> Option<Objection> {
    let before = books.days().rev().filter(|(other, _)| *other < day).take(WEEK);
    let mut week: Vec<u64> = before.map(|(_, book)| book.revision.totals.clicks).collect();
    week.sort_unstable();
    let usual = *week.get(week.len() / 2).filter(|_| week.len() >= DAYS_MIN)?;
    let factor = u64::from(factor);
    let odd = factor > 0 && usual >= USUAL_MIN && (clicks > usual * factor || clicks * factor < usual);
    odd.then(|| Objection {
        check: Check::Volume,
        detail: format!(
            "{day} has {clicks} clicks where {usual} are usual (the median of {} days before it), which differs by more \
             than a factor of {factor}",
            week.len()
        ),
    })
}
