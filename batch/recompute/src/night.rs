//! Running a night: from the books at head to one ledger entry, or to a reason why not.

use std::collections::BTreeMap;

use clicks::books::{Books, PeriodState};
use clicks::inputs::InputList;
use clicks::ledger::{Acceptance, Balance, Body, DayRevision, Night, Objection, Withheld};
use clicks::tables::EntryNumber;
use clicks::time::{Day, Timestamp};
use futures::future::join;
use platform::clock::Clock;
use platform::ledger::{Ledger, Published};
use platform::objects::Objects;
use serde::Serialize;

use crate::Options;
use crate::archived::Archived;
use crate::count::count;
use crate::counted::Counted;
use crate::current;
use crate::drift::{Drift, LiveClicks};
use crate::engine::Engine;
use crate::error::BatchError;
use crate::gate::check_balance;
use crate::objections::{Decision, objections};
use crate::plan::Plan;
use crate::previous::check_previous;
use crate::publish::{input_file, input_list, make_files};
use crate::recount::{self, RecountReport};
use crate::report::Report;
use crate::scan::Hashes;
use crate::stages::Stage;

/// What is asked of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Request {
    /// The night to run; the next in order when absent. Of a day that was withheld or reopened, that day alone is counted.
    pub night: Option<Day>,
    /// Publish the day whatever objections there are.
    pub accept: Option<Accept>,
}

/// A person takes the responsibility for publishing a day over objections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accept {
    pub actor: String,
    pub reason: String,
}

impl From<Option<Day>> for Request {
    fn from(night: Option<Day>) -> Self {
        Request { night, accept: None }
    }
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NightOutcome {
    Published(Box<NightReport>),
    /// A day that was withheld or reopened is published by itself.
    Recounted(Box<RecountReport>),
    /// The night was published before, or by another run meanwhile, by entry `entry`. Nothing was changed, stale copies in
    /// `tables/current` apart.
    AlreadyPublished {
        night: Day,
        entry: EntryNumber,
    },
    /// No night was named, and by the clock the time of the next one has not come. Nothing was changed, as above.
    NothingDue {
        next: Day,
        /// When its time comes; milliseconds when serialised.
        due: Timestamp,
        last_night: Option<Day>,
    },
}

/// What a night has published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NightReport {
    pub night: Day,
    pub entry: EntryNumber,
    /// New revisions: the night's own day unless it is withheld, and each open day that changed.
    pub days: Vec<DayRevision>,
    /// Why the night's own day is withheld; empty when it is not.
    pub withheld: Vec<Objection>,
    pub accepted: Option<Acceptance>,
    pub confirmed: Vec<Day>,
    pub finals: Vec<Day>,
    /// Clicks per day that was final before.
    pub adjustments: BTreeMap<Day, u64>,
    /// How the night's own day compares with the live view of it.
    pub drift: Drift,
    pub balance: Balance,
    /// Raw objects that were read.
    pub objects: usize,
}

/// Runs one night: that of the request, or the next in order.
///
/// Without a night, a next night that the archive does not cover yet and whose time has not come by the clock either is
/// no error but [`NightOutcome::NothingDue`], so that running again changes nothing and says so.
///
/// # Errors
/// Every [`BatchError`]; before the ledger entry nothing is visible. After it only refreshing `tables/current` can fail,
/// which the next run repairs.
pub async fn run_night(
    options: &Options,
    objects: &Objects,
    ledger: &Ledger,
    clock: &dyn Clock,
    request: impl Into<Request>,
) -> Result<NightOutcome, BatchError> {
    let started = std::time::Instant::now();
    let outcome = run(options, objects, ledger, clock, &request.into()).await;
    let name = match &outcome {
        Ok(NightOutcome::Published(report)) if !report.withheld.is_empty() => "withheld",
        Ok(NightOutcome::Published(_)) => "published",
        Ok(NightOutcome::Recounted(_)) => "recounted",
        Ok(NightOutcome::AlreadyPublished { .. }) => "already_published",
        Ok(NightOutcome::NothingDue { .. }) => "nothing_due",
        Err(error) => error.code(),
    };
    metrics::counter!("twofold_batch_runs_total", "outcome" => name).increment(1);
    metrics::histogram!("twofold_batch_run_seconds").record(started.elapsed().as_secs_f64());
    outcome
}

async fn run(
    options: &Options,
    objects: &Objects,
    ledger: &Ledger,
    clock: &dyn Clock,
    request: &Request,
) -> Result<NightOutcome, BatchError> {
    let began = clock.now();
    options.stages.begin(Stage::Repair);
    // What a killed run left stale is repaired first, whatever becomes of this one.
    current::refresh(objects, ledger, &options.release).await?;
    let mut books = ledger.read().await?;
    let night = books.next_night();
    // Seconds since the epoch up to which days are closed: what an alarm compares with the time.
    metrics::gauge!("twofold_batch_closed_until_seconds").set(night.start().as_millis() as f64 / 1000.0);
    if let Some(asked) = request.night.filter(|asked| *asked != night) {
        return match books.state(asked) {
            PeriodState::Withheld | PeriodState::Reopened => {
                recount::run(options, objects, ledger, clock, books, asked, request.accept.as_ref()).await
            }
            _ => not_next(&books, asked),
        };
    }
    options.stages.of_night(night);
    options.stages.begin(Stage::Prove);
    let archived = Archived::read(objects, &books).await?;
    archived.check_held(&books)?;
    archived.check_known(objects, &books, night).await?;
    if let Some(incomplete) = archived.lagging(&books, night) {
        let due = books.rules().cut_time(night);
        return match request.night.is_some() || clock.now() >= due {
            true => Err(incomplete.into()),
            false => Ok(NightOutcome::NothingDue { next: night, due, last_night: books.last_night() }),
        };
    }
    let archived = archived.sealed(objects, &books, night, clock).await?;
    let (body, drift) = compute(options, objects, &books, &archived, clock, night, request.accept.as_ref()).await?;
    let paper = Report::draft(&books, &body, &drift, options, began);
    let report = report(&body, drift, books.head() + 1);
    options.stages.begin(Stage::Publish);
    match ledger.publish(&mut books, Body::Night(Box::new(body))).await? {
        Published::Ours => {}
        Published::Lost => return lost(ledger, night).await,
    }
    tracing::info!(%night, entry = report.entry, rows = report.balance.rows, "published");
    options.stages.begin(Stage::Refresh);
    current::refresh(objects, ledger, &options.release).await?;
    paper.write(objects, options, clock.now()).await;
    Ok(NightOutcome::Published(Box::new(report)))
}

fn not_next(books: &Books, asked: Day) -> Result<NightOutcome, BatchError> {
    match books.day(asked) {
        Some(book) => Ok(NightOutcome::AlreadyPublished { night: asked, entry: book.entry }),
        None if asked < books.first_day() => Err(BatchError::BeforeFirst { asked, first: books.first_day() }),
        None => Err(BatchError::NotNext { asked, next: books.next_night() }),
    }
}

/// Another process took our entry number. If it published this very night, all is done.
async fn lost(ledger: &Ledger, night: Day) -> Result<NightOutcome, BatchError> {
    let books = ledger.read().await?;
    match (books.day(night), books.withheld().get(&night)) {
        (Some(book), _) => Ok(NightOutcome::AlreadyPublished { night, entry: book.entry }),
        (None, Some(withheld)) => Err(BatchError::withheld(night, &withheld.objections)),
        (None, None) => Err(BatchError::Lost { night, entry: books.head() }),
    }
}

/// Counts the night, checks it and writes its data files. Nothing of it is visible before the entry.
async fn compute(
    options: &Options,
    objects: &Objects,
    books: &Books,
    archived: &Archived,
    clock: &dyn Clock,
    night: Day,
    accept: Option<&Accept>,
) -> Result<(Night, Drift), BatchError> {
    let cuts = archived.cuts(objects, books, night).await?;
    let plan = Plan::new(books, archived, night, cuts);
    let engine = Engine::new(options, objects)?;
    let counting = count_checked(&engine, options, objects, books, archived, &plan);
    let (counted, live) = join(counting, LiveClicks::of(options, books, &plan, night)).await;
    let (mut counted, list) = counted?;
    let totals = counted.days.get(&night).map(|day| day.totals).unwrap_or_default();
    let drift = Drift::new(live, &totals);
    drift.tell(night);
    let decision =
        Decision::new(objections(options, books, archived, night, totals.clicks, drift.objection(night)), accept);
    let mut withheld = None;
    if let Decision::Withhold(objections) = &decision {
        tracing::warn!(%night, "withheld: {}", Objection::list(objections));
        withheld = Some(Withheld { objections: objections.clone() });
        counted.leave_out(night);
    }
    let files = make_files(objects, books, &plan, &counted, &options.release).await;
    let mut files = files.map_err(|refused| refused.at(night))?;
    let inputs = input_file(books.head() + 1, &list);
    files.files.push(inputs.clone());
    options.stages.begin(Stage::Write);
    for file in &files.files {
        file.write(objects).await?;
    }
    record(&counted);
    let night = Night {
        night,
        published_at: clock.now(),
        release: options.release.clone(),
        cuts: plan.cuts,
        days: files.days,
        withheld,
        accepted: decision.accepted(),
        confirmed: files.confirmed,
        finals: plan.finals,
        adjustments: files.adjustments,
        inputs: inputs.reference,
        balance: counted.balance,
    };
    Ok((night, drift))
}

/// Counts a plan and holds it against itself and against what was read before; gives the list of what was read, too.
pub(crate) async fn count_checked(
    engine: &Engine,
    options: &Options,
    objects: &Objects,
    books: &Books,
    archived: &Archived,
    plan: &Plan,
) -> Result<(Counted, InputList), BatchError> {
    let hashes = Hashes::default();
    options.stages.begin(Stage::Count);
    let counted = count(engine, objects, plan, &hashes, options).await?;
    options.stages.begin(Stage::Check);
    check_balance(&counted, plan.rows()).map_err(|failure| BatchError::Gate { night: plan.night, failure })?;
    let list = input_list(plan, &hashes)?;
    check_previous(objects, books, archived, plan, &list).await?;
    Ok((counted, list))
}

pub(crate) fn record(counted: &Counted) {
    let Balance { rows: _, counted: clicks, duplicates, rejected: _, control, other_days } = counted.balance;
    for (what, count) in
        [("counted", clicks), ("duplicate", duplicates), ("control", control), ("other_days", other_days)]
    {
        metrics::counter!("twofold_batch_records_total", "verdict" => what).increment(count);
    }
    for (reason, count) in &counted.rejections {
        metrics::counter!("twofold_batch_rejected_total", "reason" => reason.clone()).increment(*count);
    }
}

fn report(body: &Night, drift: Drift, entry: EntryNumber) -> NightReport {
    NightReport {
        night: body.night,
        entry,
        days: body.days.clone(),
        withheld: body.withheld.as_ref().map(|withheld| withheld.objections.clone()).unwrap_or_default(),
        accepted: body.accepted.clone(),
        confirmed: body.confirmed.clone(),
        finals: body.finals.clone(),
        adjustments: body.adjustments.as_ref().map(|a| a.clicks.clone()).unwrap_or_default(),
        drift,
        balance: body.balance,
        objects: body.inputs.rows as usize,
    }
}
