//! Where the batch stands, for people and for schedules.

use clicks::books::PeriodState;
use clicks::position::{Offset, PartitionId};
use clicks::tables::EntryNumber;
use clicks::time::{Day, Timestamp};
use platform::clock::Clock;
use platform::ledger::Ledger;
use platform::objects::Objects;
use serde::Serialize;

use crate::archived::Archived;
use crate::error::{BatchError, Incomplete};

/// The newest days that a status shows.
const DAYS_MAX: usize = 10;

/// Where the batch stands. Times are milliseconds when serialised.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Status {
    /// Last entry of the ledger.
    pub head: EntryNumber,
    pub first_day: Day,
    pub last_night: Option<Day>,
    pub next_night: Day,
    /// Append time that every partition must reach before the next night can run.
    pub needed: Timestamp,
    /// By the clock the next night's time has come.
    pub due: bool,
    pub partitions: Vec<PartitionStatus>,
    /// What the next night waits for; `None` when it can run now.
    pub waits: Option<Incomplete>,
    /// What else stands in its way: partitions that the ledger does not know, lost raw objects. For people.
    pub obstacle: Option<String>,
    /// Days that are closed but not final.
    pub open_days: Vec<Day>,
    /// The newest closed days, newest first.
    pub days: Vec<DayStatus>,
}

impl Status {
    /// The next night can run now.
    pub fn can_run(&self) -> bool {
        self.waits.is_none() && self.obstacle.is_none()
    }
}

/// One partition of the archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartitionStatus {
    pub partition: PartitionId,
    /// Its topic life is over: it is complete as it is.
    pub ended: bool,
    /// Append time of its last stored record.
    pub coverage: Option<Timestamp>,
    pub next_offset: Option<Offset>,
    /// Where the last night stopped.
    pub through: Option<Offset>,
}

/// One closed day.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DayStatus {
    pub day: Day,
    pub state: PeriodState,
    pub revision: u32,
    pub entry: EntryNumber,
    pub clicks: u64,
    /// Clicks that came after the day was final.
    pub adjustment: u64,
}

/// Reads where the batch stands. Changes nothing.
///
/// # Errors
/// When ledger or archive cannot be read.
pub async fn status(objects: &Objects, ledger: &Ledger, clock: &dyn Clock) -> Result<Status, BatchError> {
    let books = ledger.read().await?;
    let archived = Archived::read(objects, &books).await?;
    let next_night = books.next_night();
    let needed = books.rules().cut_time(next_night);
    let obstacle = match archived.check_held(&books) {
        Err(error) => Some(error.to_string()),
        Ok(()) => match archived.check_known(objects, &books, next_night).await {
            Ok(()) => None,
            Err(error @ (BatchError::MorePartitions { .. } | BatchError::UnknownPartition { .. })) => {
                Some(error.to_string())
            }
            Err(error) => return Err(error),
        },
    };
    let partitions = archived.chains.iter().map(|(partition, chain)| PartitionStatus {
        partition: partition.clone(),
        ended: archived.has_ended(partition),
        coverage: chain.coverage(),
        next_offset: chain.next_offset(),
        through: books.through().get(partition).copied(),
    });
    let days = books.days().rev().take(DAYS_MAX).map(|(day, book)| DayStatus {
        day,
        state: book.state(),
        revision: book.revision.revision,
        entry: book.entry,
        clicks: book.revision.totals.clicks,
        adjustment: book.adjustments.iter().map(|adjustment| adjustment.clicks).sum(),
    });
    Ok(Status {
        head: books.head(),
        first_day: books.first_day(),
        last_night: books.last_night(),
        next_night,
        needed,
        due: clock.now() >= needed,
        partitions: partitions.collect(),
        waits: archived.lagging(&books, next_night),
        obstacle,
        open_days: books.open_days(),
        days: days.collect(),
    })
}
