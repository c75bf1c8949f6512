//! Running a night: from the books at head to one ledger entry, or to a reason why not.

use std::collections::BTreeMap;

use clicks::books::Books;
use clicks::ledger::{Balance, Body, DayRevision, Night};
use clicks::tables::EntryNumber;
use clicks::time::{Day, Timestamp};
use platform::clock::Clock;
use platform::ledger::{Ledger, Published};
use platform::objects::Objects;
use serde::Serialize;

use crate::Options;
use crate::archived::Archived;
use crate::count::count;
use crate::current;
use crate::engine::Engine;
use crate::error::{BatchError, Incomplete};
use crate::gate::check_balance;
use crate::plan::Plan;
use crate::previous::check_previous;
use crate::publish::{Refused, input_file, input_list, make_files};
use crate::report::Report;
use crate::scan::Hashes;
use crate::stages::Stage;

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum NightOutcome {
    Published(Box<NightReport>),
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
    /// New revisions: the night's own day, and each open day that changed.
    pub days: Vec<DayRevision>,
    pub confirmed: Vec<Day>,
    pub finals: Vec<Day>,
    /// Clicks per day that was final before.
    pub adjustments: BTreeMap<Day, u64>,
    pub balance: Balance,
    /// Raw objects that were read.
    pub objects: usize,
}

/// Runs one night: `night`, or the next in order.
///
/// Without `night`, a next night that the archive does not cover yet and whose time has not come by the clock either is
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
    night: Option<Day>,
) -> Result<NightOutcome, BatchError> {
    let started = std::time::Instant::now();
    let outcome = run(options, objects, ledger, clock, night).await;
    let name = match &outcome {
        Ok(NightOutcome::Published(_)) => "published",
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
    asked: Option<Day>,
) -> Result<NightOutcome, BatchError> {
    let began = clock.now();
    options.stages.begin(Stage::Repair);
    // What a killed run left stale is repaired first, whatever becomes of this one.
    current::refresh(objects, ledger, &options.release).await?;
    let mut books = ledger.read().await?;
    let night = books.next_night();
    // Seconds since the epoch up to which days are closed: what an alarm compares with the time.
    metrics::gauge!("twofold_batch_closed_until_seconds").set(night.start().as_millis() as f64 / 1000.0);
    if let Some(asked) = asked.filter(|asked| *asked != night) {
        return not_next(&books, asked);
    }
    options.stages.of_night(night);
    options.stages.begin(Stage::Prove);
    let archived = Archived::read(objects, &books).await?;
    archived.check_held(&books)?;
    archived.check_known(objects, &books, night).await?;
    if let Some(incomplete) = archived.lagging(&books, night) {
        let due = books.rules().cut_time(night);
        return match asked.is_some() || clock.now() >= due {
            true => Err(incomplete.into()),
            false => Ok(NightOutcome::NothingDue { next: night, due, last_night: books.last_night() }),
        };
    }
    let body = compute(options, objects, &books, &archived, clock, night).await?;
    let report = report(&body, books.head() + 1);
    let paper = Report::draft(&books, &body, options, began);
    options.stages.begin(Stage::Publish);
    match ledger.publish(&mut books, Body::Night(Box::new(body))).await? {
        Published::Ours => {}
        Published::Lost => return lost(ledger, night).await,
    }
    tracing::info!(%night, entry = report.entry, rows = report.balance.rows, "published");
    options.stages.begin(Stage::Refresh);
    current::refresh(objects, ledger, &options.release).await?;
    if let Err(error) = paper.write(objects, options.stages.seconds(), clock.now()).await {
        tracing::warn!(%night, "the night is published, its report is not written: {error}");
    }
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
    match books.day(night) {
        Some(book) => Ok(NightOutcome::AlreadyPublished { night, entry: book.entry }),
        None => Err(BatchError::Lost { night, entry: books.head() }),
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
) -> Result<Night, BatchError> {
    let cuts = archived.cuts(objects, books, night).await?;
    let plan = Plan::new(books, archived, night, cuts);
    let engine = Engine::new(options, objects)?;
    let hashes = Hashes::default();
    options.stages.begin(Stage::Count);
    let counted = count(&engine, objects, &plan, &hashes, options.target_partitions).await?;
    options.stages.begin(Stage::Check);
    let gate = |failure| BatchError::Gate { night, failure };
    check_balance(&counted, plan.rows()).map_err(gate)?;
    let list = input_list(&plan, &hashes)?;
    check_previous(objects, books, archived, &list).await?;
    let files = make_files(&engine, objects, books, &plan, &counted, &options.release).await;
    let mut files = files.map_err(|refused| match refused {
        Refused::Gate(failure) => gate(failure),
        Refused::Error(error) => error,
    })?;
    let inputs = input_file(books.head() + 1, &list);
    files.files.push(inputs.clone());
    options.stages.begin(Stage::Write);
    for file in &files.files {
        file.write(objects).await?;
    }
    record(&counted);
    Ok(Night {
        night,
        published_at: clock.now(),
        release: options.release.clone(),
        cuts: plan.cuts,
        days: files.days,
        confirmed: files.confirmed,
        finals: plan.finals,
        adjustments: files.adjustments,
        inputs: inputs.reference,
        balance: counted.balance,
    })
}

fn record(counted: &crate::tally::Counted) {
    let Balance { rows: _, counted: clicks, duplicates, rejected: _, control, other_days } = counted.balance;
    for (what, count) in
        [("counted", clicks), ("duplicate", duplicates), ("control", control), ("other_days", other_days)]
    {
        metrics::counter!("twofold_batch_records_total", "verdict" => what).increment(count);
    }
    for (reason, count) in &counted.rejections {
        metrics::counter!("twofold_batch_rejected_total", "reason" => *reason).increment(*count);
    }
}

fn report(body: &Night, entry: EntryNumber) -> NightReport {
    NightReport {
        night: body.night,
        entry,
        days: body.days.clone(),
        confirmed: body.confirmed.clone(),
        finals: body.finals.clone(),
        adjustments: body.adjustments.as_ref().map(|a| a.clicks.clone()).unwrap_or_default(),
        balance: body.balance,
        objects: body.inputs.rows as usize,
    }
}

/// What running all nights that are due came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CatchUp {
    /// What was published, in order.
    pub nights: Vec<NightReport>,
    /// The night that is not covered yet although its time has come; `None` when all that is due is published.
    pub waits: Option<Incomplete>,
}

/// Why running all nights that are due ended early.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Interrupted {
    /// What was published before, in order. It stays published.
    pub nights: Vec<NightReport>,
    /// Never [`BatchError::Incomplete`].
    #[source]
    pub error: BatchError,
}

/// Runs nights in order until one is not due or not covered by the archive. Each publishes exactly what it would have
/// published in its own time, because cuts are a function of the log.
///
/// # Errors
/// The first night that fails, with the reports of those before it.
pub async fn catch_up(
    options: &Options,
    objects: &Objects,
    ledger: &Ledger,
    clock: &dyn Clock,
) -> Result<CatchUp, Interrupted> {
    let mut nights = Vec::new();
    loop {
        match run_night(options, objects, ledger, clock, None).await {
            Ok(NightOutcome::Published(report)) => nights.push(*report),
            // Another run was faster with this night; the next one may be due all the same. It comes to an end, because
            // the ledger has grown by a night.
            Ok(NightOutcome::AlreadyPublished { .. }) => {}
            Ok(NightOutcome::NothingDue { .. }) => return Ok(CatchUp { nights, waits: None }),
            Err(BatchError::Incomplete(waits)) => return Ok(CatchUp { nights, waits: Some(waits) }),
            Err(error) => return Err(Interrupted { nights, error }),
        }
    }
}
