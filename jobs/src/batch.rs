//! `twofold batch` and `twofold audit`: what a scheduler starts, and what an auditor does. The exit code says what to do
//! next, standard output holds one line.

mod audit;
mod ending;
mod gc;
mod ping;
mod progress;
mod run;
mod show;
mod status;
mod textfile;

use std::sync::Arc;

use anyhow::Result;
use clicks::time::{Day, Span};
use platform::clock::Clock;
use platform::ledger::Ledger;
use platform::objects::Objects;
use platform::settings::{Settings, Time};

use crate::cli::{BatchCommand, Engine, RunHow};
use crate::connect;
use crate::exit::{Exit, refuse};
use crate::services::process_name;
use run::Asked;

pub use audit::run as audit;

pub async fn run(settings: &Settings, command: BatchCommand, as_json: bool) -> Result<Exit> {
    match command {
        BatchCommand::Run { date, catch_up, lookback, accept, actor, how } => {
            let asked = match (date, catch_up) {
                (Some(day), _) => Asked::Night(day),
                (None, true) => Asked::AllDue { lookback },
                (None, false) => Asked::Next,
            };
            let accept = match (accept, actor.name()) {
                (None, _) => None,
                (Some(reason), Ok(actor)) => Some(recompute::Accept { actor, reason }),
                (Some(_), Err(question)) => return refuse(question),
            };
            start(settings, asked, accept, &how, as_json).await
        }
        BatchCommand::CatchUp { lookback, how } => {
            start(settings, Asked::AllDue { lookback }, None, &how, as_json).await
        }
        BatchCommand::Status => status::run(&Desk::open(settings)?, as_json).await,
        BatchCommand::Gc { older_than, dry_run } => {
            gc::run(&Desk::open(settings)?, span(older_than), dry_run, as_json).await
        }
    }
}

/// What a command of the batch works with.
#[derive(Debug)]
struct Desk {
    objects: Objects,
    ledger: Ledger,
    clock: Arc<dyn Clock>,
    options: recompute::Options,
    /// Who publishes whatever checks say, and why.
    accept: Option<recompute::Accept>,
}

impl Desk {
    fn open(settings: &Settings) -> Result<Self> {
        let options = recompute::Options {
            memory_limit_bytes: settings.batch.memory_bytes,
            target_partitions: settings.batch.target_partitions,
            volume_factor: settings.batch.volume_factor,
            runner: process_name("batch"),
            ..recompute::Options::default()
        };
        let objects = connect::objects(settings)?;
        Ok(Desk {
            ledger: Ledger::new(objects.clone()),
            objects,
            clock: connect::clock(settings),
            options,
            accept: None,
        })
    }

    fn counting_by(mut self, engine: Engine) -> Self {
        self.options.count_by = engine.into();
        self
    }

    /// The same desk with what days are held against, if that is asked for.
    fn beside_live(mut self, settings: &Settings) -> Result<Self> {
        if settings.batch.compare_live {
            self.options.live = Some(connect::store(settings)?);
        }
        Ok(self)
    }

    /// The same desk, on which nothing that is written stays.
    fn rehearsal(self) -> Self {
        let objects = self.objects.rehearsal();
        Desk { ledger: Ledger::new(objects.clone()), objects, ..self }
    }
}

fn span(time: Time) -> Span {
    Span::millis(i64::try_from(time.0.as_millis()).unwrap_or(i64::MAX))
}

/// Runs nights with all that is told to others about it: pings, metrics, progress, one line.
async fn start(
    settings: &Settings,
    asked: Asked,
    accept: Option<recompute::Accept>,
    how: &RunHow,
    as_json: bool,
) -> Result<Exit> {
    let ending = ending::Ending::new(settings, how).await?;
    let ended = run::run(settings, asked, accept, how, as_json).await;
    ending.tell(settings, &ended).await;
    ended
}

/// A day, for texts that name one or a range.
fn range(first: Day, last: Day) -> String {
    if first == last { first.to_string() } else { format!("{first} to {last}") }
}
