//! Publishing one day by itself, at the cuts of the last night: a day that its night has withheld, or one that a person
//! has reopened.
//!
//! A reopened day's revision absorbs all its adjustments: at the same cuts it holds exactly the same clicks.

use clicks::books::{Books, PeriodState};
use clicks::ledger::{Acceptance, Balance, Body, ChangeReason, DayRevision, Night, Recount};
use clicks::tables::EntryNumber;
use clicks::time::Day;
use clicks::window::Grain;
use platform::clock::Clock;
use platform::ledger::{Ledger, Published};
use platform::objects::Objects;
use serde::Serialize;

use crate::Options;
use crate::archived::Archived;
use crate::change::changes;
use crate::current;
use crate::drift::Drift;
use crate::engine::Engine;
use crate::error::BatchError;
use crate::night::{Accept, NightOutcome, count_checked, record};
use crate::objections::{Decision, drift_before, objections};
use crate::plan::Plan;
use crate::publish::{Files, input_file, read_file};
use crate::report::Report;
use crate::rows::Rows;
use crate::stages::Stage;
use crate::table::{AdjustmentRow, ChangeRow, Sheet, decode, decode_adjustments};

/// What a recount has published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RecountReport {
    pub day: DayRevision,
    pub entry: EntryNumber,
    /// The night at whose cuts it was counted.
    pub night: Day,
    /// Nights whose adjustments are in the revision now.
    pub absorbs: Vec<Day>,
    pub accepted: Option<Acceptance>,
    pub balance: Balance,
    /// Raw objects that were read.
    pub objects: usize,
}

/// Counts `day`, which is withheld or reopened, and publishes it.
pub(crate) async fn run(
    options: &Options,
    objects: &Objects,
    ledger: &Ledger,
    clock: &dyn Clock,
    mut books: Books,
    day: Day,
    accept: Option<&Accept>,
) -> Result<NightOutcome, BatchError> {
    let began = clock.now();
    options.stages.of_night(day);
    options.stages.begin(Stage::Prove);
    let archived = Archived::read(objects, &books).await?;
    archived.check_held(&books)?;
    let body = compute(options, objects, &books, &archived, clock, day, accept).await?;
    let report = RecountReport {
        day: body.day.clone(),
        entry: books.head() + 1,
        night: body.night,
        absorbs: body.absorbs.clone(),
        accepted: body.accepted.clone(),
        balance: body.balance,
        objects: body.inputs.rows as usize,
    };
    let revision = body.day.revision;
    let paper = Report::draft(&books, &as_night(&books, body.clone()), &Drift::NotCompared, options, began);
    options.stages.begin(Stage::Publish);
    if ledger.publish(&mut books, Body::Recount(Box::new(body))).await? == Published::Lost {
        let books = ledger.read().await?;
        return match books.day(day).filter(|book| book.revision.revision >= revision) {
            Some(book) => Ok(NightOutcome::AlreadyPublished { night: day, entry: book.entry }),
            None => Err(BatchError::Lost { night: day, entry: books.head() }),
        };
    }
    tracing::info!(%day, entry = report.entry, revision, "recounted");
    options.stages.begin(Stage::Refresh);
    current::refresh(objects, ledger, &options.release).await?;
    paper.write(objects, options, clock.now()).await;
    Ok(NightOutcome::Recounted(Box::new(report)))
}

async fn compute(
    options: &Options,
    objects: &Objects,
    books: &Books,
    archived: &Archived,
    clock: &dyn Clock,
    day: Day,
    accept: Option<&Accept>,
) -> Result<Recount, BatchError> {
    let plan = Plan::of_day(books, archived, day);
    let engine = Engine::new(options, objects)?;
    let (counted, list) = count_checked(&engine, options, objects, books, archived, &plan).await?;
    let count = counted.days.get(&day).cloned().unwrap_or_default();
    let decision = match books.state(day) {
        PeriodState::Withheld => {
            let drift = drift_before(books, day);
            Decision::new(objections(options, books, archived, day, count.totals.clicks, drift), accept)
        }
        // Whoever has reopened it has given a reason; what was lost of it is said by its first revision already.
        _ => Decision::Publish,
    };
    if let Decision::Withhold(objections) = &decision {
        return Err(BatchError::withheld(day, objections));
    }
    let changed = changed(objects, books, day, &count.rows).await?;
    let revision = books.day(day).map_or(1, |book| book.revision.revision + 1);
    let sheet = Sheet { grain: Grain::Minute, revision, rules_version: plan.scope.rules.on(day).version };
    let mut files = Files::default();
    let entry = books.head() + 1;
    let added = files.add_day(entry, day, &count, sheet, changed, &options.release);
    added.map_err(|refused| refused.at(day))?;
    let inputs = input_file(entry, &list);
    files.files.push(inputs.clone());
    options.stages.begin(Stage::Write);
    for file in &files.files {
        file.write(objects).await?;
    }
    record(&counted);
    Ok(Recount {
        day: files.days.remove(0),
        night: plan.night,
        published_at: clock.now(),
        release: options.release.clone(),
        absorbs: books.adjustments(day).iter().map(|adjustment| adjustment.night).collect(),
        accepted: decision.accepted(),
        inputs: inputs.reference,
        balance: counted.balance,
    })
}

/// A recount as a night that has published nothing but its day, at the cuts of the last night.
pub(crate) fn as_night(before: &Books, recount: Recount) -> Night {
    Night {
        night: recount.night,
        published_at: recount.published_at,
        release: recount.release,
        cuts: before.through().clone(),
        days: vec![recount.day],
        withheld: None,
        accepted: recount.accepted,
        confirmed: Vec::new(),
        finals: Vec::new(),
        adjustments: None,
        inputs: recount.inputs,
        balance: recount.balance,
    }
}

/// What the revision changes against what was billed; `None` for a first one.
async fn changed(
    objects: &Objects,
    books: &Books,
    day: Day,
    after: &Rows,
) -> Result<Option<(ChangeReason, Vec<ChangeRow>)>, BatchError> {
    let Some(book) = books.day(day) else { return Ok(None) };
    let minute = &book.revision.minute;
    let before = decode(&minute.key, read_file(objects, minute).await?)?;
    let mut absorbed: Vec<AdjustmentRow> = Vec::new();
    for adjustment in &book.adjustments {
        let rows = decode_adjustments(&adjustment.file.key, read_file(objects, &adjustment.file).await?)?;
        absorbed.extend(rows.into_iter().filter(|row| row.period_start.day() == day));
    }
    Ok(Some((ChangeReason::Reopened, changes(&before, &absorbed, after))))
}
