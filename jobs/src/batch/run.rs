//! Running nights as a scheduler asks for them: one or all that are due, with patience, under a lease.

use anyhow::{Result, anyhow};
use clicks::books::{Books, PeriodState};
use clicks::tables::EntryNumber;
use clicks::time::{Day, Span, Timestamp};
use platform::settings::Settings;
use recompute::{
    Accept, Acquired, BatchError, Held, Incomplete, Interrupted, LEASE_MAX, NightOutcome, NightReport, RecountReport,
    Request,
};

use super::progress::Progress;
use super::{Desk, show, span};
use crate::cli::RunHow;
use crate::exit::{self, Exit, Misconfigured};

/// How long after one look at the archive, or at a lease, the next one follows.
const POLL: Span = Span::seconds(30);
const LEASE_MIN: Span = Span::seconds(10);

/// What a scheduler asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Asked {
    /// The next night in order.
    Next,
    Night(Day),
    /// Every night that is due, at most `lookback` of them.
    AllDue {
        lookback: Option<u32>,
    },
}

/// What running came to.
#[derive(Debug)]
pub(super) struct Outcome {
    pub(super) asked: Asked,
    /// What was published, in order. It stays published whatever the end is.
    pub(super) nights: Vec<NightReport>,
    pub(super) end: End,
}

/// Why running ended.
#[derive(Debug)]
pub(super) enum End {
    Done,
    /// A day that was withheld or reopened is published by itself.
    Recounted(Box<RecountReport>),
    AlreadyPublished {
        night: Day,
        entry: EntryNumber,
    },
    NothingDue {
        next: Day,
        due: Timestamp,
        last_night: Option<Day>,
    },
    Waits(Incomplete),
    /// Another run computes.
    Held(Held),
    /// More nights are due than were allowed for.
    Behind {
        first: Day,
        last: Day,
        nights: u32,
        lookback: u32,
    },
    Failed(BatchError),
}

impl Outcome {
    /// Whoever asks for one night and gets none, neither now nor before, is told to come again. To whom asks for what is
    /// due, nothing due is all done.
    pub(super) fn exit(&self) -> Exit {
        let withheld = self.nights.iter().any(|night| !night.withheld.is_empty());
        match &self.end {
            End::Failed(error) => Exit::of_code(error.exit_code()),
            // Something is published, but not the day that was asked for: the worst that has happened.
            _ if withheld => Exit::Gate,
            End::NothingDue { last_night: None, .. } if self.asked == Asked::Next => Exit::Incomplete,
            End::Done | End::Recounted(_) | End::AlreadyPublished { .. } | End::NothingDue { .. } => Exit::Done,
            End::Waits(_) => Exit::Incomplete,
            End::Held(_) => Exit::Lost,
            End::Behind { .. } => Exit::Usage,
        }
    }
}

pub(super) async fn run(
    settings: &Settings,
    asked: Asked,
    accept: Option<Accept>,
    how: &RunHow,
    as_json: bool,
) -> Result<Exit> {
    let length = lease_length(settings)?;
    let desk = Desk { accept, ..Desk::open(settings)?.beside_live(settings)?.counting_by(how.engine) };
    let (desk, lease) = if how.dry_run { (desk.rehearsal(), None) } else { (desk, Some(length)) };
    let deadline = desk.clock.now() + how.wait.map_or(Span::ZERO, span);
    let progress = Progress::start(&desk.options.stages);
    let stop = exit::on_signal();
    let outcome = tokio::select! {
        outcome = close(&desk, asked, lease, deadline, &progress) => Some(outcome),
        () = stop.cancelled() => None,
    };
    progress.finish();
    let Some(outcome) = outcome else {
        if lease.is_some()
            && let Err(error) = recompute::give_back(&desk.objects, &desk.options.runner).await
        {
            tracing::warn!("the lease cannot be given back, it runs out by itself: {error}");
        }
        return Err(anyhow!("stopped by a signal; what is published stays, and running again goes on from there"));
    };
    show::show(&outcome, how, as_json)?;
    Ok(outcome.exit())
}

fn lease_length(settings: &Settings) -> Result<Span> {
    let length = span(settings.batch.lease);
    if length < LEASE_MIN || length > LEASE_MAX {
        let wrong = anyhow!("setting `batch.lease` is {length}; give a time between {LEASE_MIN} and {LEASE_MAX}");
        return Err(Misconfigured::new(wrong).into());
    }
    Ok(length)
}

/// Publishes what is asked for, and tries again until `deadline` as long as waiting can help. `lease` is its length.
pub(super) async fn close(
    desk: &Desk,
    asked: Asked,
    lease: Option<Span>,
    deadline: Timestamp,
    progress: &Progress,
) -> Outcome {
    let mut nights = Vec::new();
    loop {
        let end = under_lease(desk, asked, lease, &mut nights).await;
        let now = desk.clock.now();
        let again = match &end {
            End::Waits(_) | End::Held(_) | End::Failed(BatchError::Lost { .. }) => Some(now + POLL),
            // Whoever waits, waits for what becomes due meanwhile.
            End::NothingDue { due, .. } if *due <= deadline => Some(*due),
            _ => None,
        };
        let Some(again) = again.filter(|_| now < deadline) else { return Outcome { asked, nights, end } };
        progress.wait(&show::waits_for(&end), deadline);
        desk.clock.sleep_until(again.min(deadline)).await;
    }
}

/// One attempt. The lease is taken only where there is a night to compute: to tell that all is published nobody needs it.
async fn under_lease(desk: &Desk, asked: Asked, lease: Option<Span>, nights: &mut Vec<NightReport>) -> End {
    let books = match desk.ledger.read().await {
        Ok(books) => books,
        Err(error) => return End::Failed(error.into()),
    };
    if let Some(behind) = behind(&books, asked, desk.clock.now()) {
        return behind;
    }
    let lease = match lease.filter(|_| is_to_compute(&books, asked, desk.clock.now())) {
        None => None,
        Some(length) => match recompute::acquire(&desk.objects, &desk.clock, &desk.options.runner, length).await {
            Ok(Acquired::Ours(lease)) => Some(lease),
            Ok(Acquired::Theirs(held)) => return End::Held(held),
            Err(error) => {
                tracing::warn!("the lease cannot be taken, going on without it: {error}");
                None
            }
        },
    };
    let end = publish(desk, asked, nights).await;
    if let Some(lease) = lease
        && let Err(error) = lease.release().await
    {
        tracing::warn!("the lease cannot be given back, it runs out by itself: {error}");
    }
    end
}

fn is_to_compute(books: &Books, asked: Asked, now: Timestamp) -> bool {
    match asked {
        Asked::Night(day) => {
            let alone = matches!(books.state(day), PeriodState::Withheld | PeriodState::Reopened);
            day == books.next_night() || alone
        }
        Asked::Next | Asked::AllDue { .. } => books.rules().cut_time(books.next_night()) <= now,
    }
}

/// Nights that are due, when there are more than were allowed for. None is ever skipped, so none is published then.
fn behind(books: &Books, asked: Asked, now: Timestamp) -> Option<End> {
    let Asked::AllDue { lookback: Some(lookback) } = asked else { return None };
    let first = books.next_night();
    let mut last = now.day();
    while books.rules().cut_time(last) > now {
        last = last.previous();
    }
    let nights = u32::try_from(last.number() - first.number() + 1).unwrap_or(0);
    (nights > lookback).then_some(End::Behind { first, last, nights, lookback })
}

async fn publish(desk: &Desk, asked: Asked, nights: &mut Vec<NightReport>) -> End {
    let Desk { objects, ledger, clock, options, accept } = desk;
    let night = match asked {
        Asked::AllDue { .. } => return all_due(desk, nights).await,
        Asked::Next => None,
        Asked::Night(day) => Some(day),
    };
    let request = Request { night, accept: accept.clone() };
    match recompute::run_night(options, objects, ledger, &**clock, request).await {
        Ok(NightOutcome::Recounted(report)) => End::Recounted(report),
        Ok(NightOutcome::Published(report)) => {
            nights.push(*report);
            End::Done
        }
        Ok(NightOutcome::AlreadyPublished { night, entry }) => End::AlreadyPublished { night, entry },
        Ok(NightOutcome::NothingDue { next, due, last_night }) => End::NothingDue { next, due, last_night },
        Err(BatchError::Incomplete(incomplete)) => End::Waits(incomplete),
        Err(error) => End::Failed(error),
    }
}

async fn all_due(desk: &Desk, nights: &mut Vec<NightReport>) -> End {
    let Desk { objects, ledger, clock, options, accept: _ } = desk;
    match recompute::catch_up(options, objects, ledger, &**clock).await {
        Err(Interrupted { nights: before, error }) => {
            nights.extend(before);
            return End::Failed(error);
        }
        Ok(caught_up) => {
            nights.extend(caught_up.nights);
            if let Some(incomplete) = caught_up.waits {
                return End::Waits(incomplete);
            }
        }
    }
    match ledger.read().await {
        Ok(books) => {
            let (next, last_night) = (books.next_night(), books.last_night());
            End::NothingDue { next, due: books.rules().cut_time(next), last_night }
        }
        Err(error) => End::Failed(error.into()),
    }
}

#[cfg(test)]
mod tests;
