//! Everything that an answer is made of, fetched at one position of the ledger.

use std::sync::Arc;
use std::time::{Duration, Instant};

use clicks::books::Books;
use clicks::position::PartitionId;
use clicks::tables::EntryNumber;
use clicks::time::{Day, Span, Timestamp};
use clicks::view::{Answer, Asked, Merge, Question, QuestionError, Ranking, Reason, Standing};
use clicks::window::Grain;
use futures::future::{try_join, try_join_all};
use futures::{Stream, StreamExt, stream};
use platform::clock::Clock;
use platform::ledger::LedgerError;
use platform::store::{Ads, LiveQuery};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::live::{Kept, LiveReader, is_wide};
use crate::position::{Position, Positions};
use crate::room::{Room, Taken};
use crate::table_cache::TableCache;
use crate::tables::{Table, TableError};

/// Days whose files one question fetches at the same time, if there is room for them.
const READS_MAX: usize = 16;

/// Closed days whose hours or days may be added up from minutes in one answer: a quarter of a year.
const MINUTE_DAYS_MAX: usize = 92;

/// The ledger, the published tables and the live counts.
#[derive(Debug)]
pub(crate) struct Sources {
    pub positions: Positions,
    pub tables: Arc<TableCache>,
    pub live: LiveReader,
    pub clock: Arc<dyn Clock>,
    pub lag_max: Span,
    pub room: Room,
    pub turns: Turns,
}

/// What was answered, or is about to be.
#[derive(Debug)]
pub(crate) struct Answered<A> {
    pub position: Position,
    /// Every click that was stored before it is in the answer.
    pub read: Instant,
    pub answer: A,
}

/// Wide questions are answered a few at a time, because each holds all ads' live counts.
#[derive(Debug)]
pub(crate) struct Turns {
    free: Semaphore,
    wait_max: Duration,
}

/// Why there is no answer at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("there is nothing to answer from yet: {0}")]
    NotReady(String),
    #[error("others like it are being answered, and none was done within {0:?}")]
    Busy(Duration),
    #[error(
        "its days and hours are cut within an hour of UTC, so they are added up from minutes: of at most {MINUTE_DAYS_MAX} closed \
         days, and these are {days}"
    )]
    Minutes { days: usize },
    #[error("{day} was not closed yet at ledger position {position}")]
    NotPublished { day: Day, position: EntryNumber },
    #[error(transparent)]
    Question(#[from] QuestionError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Sources {
    /// The answer by period, at the last position or the one that is wanted. `against`: what else stands against it.
    pub(crate) async fn answer(
        &self,
        question: &Question,
        wanted: Option<EntryNumber>,
        against: Option<Reason>,
    ) -> Result<Answered<Answer>, AskError> {
        let (Answered { position, read, answer: merge }, _turn) = self.ask(question, wanted).await?;
        let mut answer = merge.answer();
        object(&mut answer.standing, against.into_iter().chain(position.reason()));
        Ok(Answered { position, read, answer })
    }

    /// The largest over the whole range, as `rank` says: [`Merge::ranking`] or [`Merge::ranking_of`].
    pub(crate) async fn ranking<K>(
        &self,
        question: &Question,
        wanted: Option<EntryNumber>,
        against: Option<Reason>,
        rank: impl FnOnce(Merge) -> Ranking<K>,
    ) -> Result<Answered<Ranking<K>>, AskError> {
        let (Answered { position, read, answer: merge }, _turn) = self.ask(question, wanted).await?;
        let mut ranking = rank(merge);
        object(&mut ranking.standing, against.into_iter().chain(position.reason()));
        Ok(Answered { position, read, answer: ranking })
    }

    /// Asks the batch alone for what was published at a position, or both layers for what is known now. The turn is held
    /// until the merge is let go.
    async fn ask(
        &self,
        question: &Question,
        wanted: Option<EntryNumber>,
    ) -> Result<(Answered<Merge>, Option<SemaphorePermit<'_>>), AskError> {
        let now = self.clock.now();
        let position = self.positions.current().map_err(AskError::NotReady)?;
        if let Some(wanted) = wanted {
            let position = self.positions.at(position, wanted).await?;
            // Of all ads the sums take much room, as ever; live counts take none.
            let turn = if matches!(question.asked, Asked::EachAd) { self.turns.take(question).await? } else { None };
            return Ok((self.published_at(position, question, now).await?, turn));
        }
        let turn = self.turns.take(question).await?;
        Ok((self.ask_now(position, question, now).await?, turn))
    }

    /// Asks both layers. Where the live counts show that the position is an old one, the ledger is read again, once.
    async fn ask_now(
        &self,
        position: Position,
        question: &Question,
        now: Timestamp,
    ) -> Result<Answered<Merge>, AskError> {
        let asked = self.ask_at(position, question, now).await?;
        if !asked.answer.reasons().iter().any(|reason| reason.may_be_an_old_position()) {
            return Ok(asked);
        }
        self.positions.catch_up().await?;
        let newer = self.positions.current().map_err(AskError::NotReady)?;
        if newer.books.head() == asked.position.books.head() {
            return Ok(Answered { position: newer, ..asked });
        }
        self.ask_at(newer, question, now).await
    }

    /// What is known now, of both layers.
    async fn ask_at(
        &self,
        position: Position,
        question: &Question,
        now: Timestamp,
    ) -> Result<Answered<Merge>, AskError> {
        let merge = Merge::new(&position.books, question.clone(), now, self.lag_max)?;
        self.fill(position, question, merge).await
    }

    /// The answer that was given at a position, of closed days only: nothing that has come since changes it.
    async fn published_at(
        &self,
        position: Position,
        question: &Question,
        now: Timestamp,
    ) -> Result<Answered<Merge>, AskError> {
        let merge = Merge::new(&position.books, question.clone(), now, self.lag_max)?;
        let of_position = |day| AskError::NotPublished { day, position: position.books.head() };
        let merge = merge.published().map_err(of_position)?;
        self.fill(position, question, merge).await
    }

    /// Hands over all that a merge asks for. Both layers are read at the same time, and what one has read is let go once the
    /// merge has taken it.
    async fn fill(
        &self,
        position: Position,
        question: &Question,
        mut merge: Merge,
    ) -> Result<Answered<Merge>, AskError> {
        let mut read = Instant::now();
        {
            let partitions: Vec<PartitionId> = merge.partitions().cloned().collect();
            let live = stream::once(async move { Fetched::Live(self.live.catch_up(partitions.iter()).await) });
            let days = self.days(&position, question, &merge)?;
            let mut fetched = std::pin::pin!(stream::select(live, days));
            while let Some(fetched) = fetched.next().await {
                match fetched {
                    Fetched::Live(kept) => read = self.give_live(&mut merge, &question.asked, &kept).await,
                    Fetched::Day(day, tables, _room) => give_day(&mut merge, day, tables, &question.asked),
                }
            }
        }
        Ok(Answered { position, read, answer: merge })
    }

    /// The tables of the closed days of a question, as they come.
    fn days<'a>(
        &'a self,
        position: &'a Position,
        question: &Question,
        merge: &Merge,
    ) -> Result<impl Stream<Item = Fetched<'a>> + use<'a>, AskError> {
        let days: Vec<(Day, Grain)> = merge.closed_days().map(|day| (day, merge.table_grain(day))).collect();
        let of_minutes = days.iter().filter(|(_, grain)| *grain == Grain::Minute && question.grain > Grain::Minute);
        let count = of_minutes.count();
        if count > MINUTE_DAYS_MAX {
            return Err(AskError::Minutes { days: count });
        }
        let days: Vec<_> = days.into_iter().map(|(day, grain)| self.day(&position.books, day, grain)).collect();
        Ok(stream::iter(days).buffer_unordered(READS_MAX))
    }

    async fn day<'a>(&'a self, books: &Books, day: Day, grain: Grain) -> Fetched<'a> {
        let revision = books.day(day).map(|book| book.revision.file(grain));
        let adjustments = books.adjustments(day).iter().map(|adjustment| &adjustment.file);
        // What is kept takes no more room, and does not wait behind files that come slowly.
        let kept = || {
            let revision = revision.map(|file| self.tables.kept(file).ok_or(())).transpose().ok()?;
            Some((revision, adjustments.clone().map(|file| self.tables.kept(file)).collect::<Option<_>>()?))
        };
        if let Some(kept) = kept() {
            return Fetched::Day(day, Ok(kept), None);
        }
        let room = self.room.take(revision.into_iter().chain(adjustments.clone())).await;
        let revision = async {
            match revision {
                Some(file) => self.tables.get(file).await.map(Some),
                None => Ok(None),
            }
        };
        let adjustments = try_join_all(adjustments.map(|file| self.tables.get(file)));
        Fetched::Day(day, try_join(revision, adjustments).await, Some(room))
    }

    /// Hands over what is kept in memory, and what has to be read. Tells when the oldest of it was read.
    async fn give_live(&self, merge: &mut Merge, asked: &Asked, kept: &[Arc<Kept>]) -> Instant {
        let (to_read, read) = LiveReader::give(kept, merge);
        if to_read.is_empty() {
            return read;
        }
        let query = LiveQuery { ads: ads_of(asked), range: merge.range(), late_from: merge.late_from() };
        let (slices, begun) = self.live.read(to_read, query).await;
        for (partition, slice) in slices.iter() {
            match slice {
                Ok(slice) => merge.give_live(partition, slice.live()),
                Err(missing) => merge.miss_live(partition, missing.clone()),
            }
        }
        read.min(begun)
    }
}

impl Turns {
    pub(crate) fn new(wide_max: usize, wait_max: Duration) -> Self {
        Turns { free: Semaphore::new(wide_max), wait_max }
    }

    /// Waits for a turn, if the question needs one.
    async fn take(&self, question: &Question) -> Result<Option<SemaphorePermit<'_>>, AskError> {
        if !is_wide(&ads_of(&question.asked), question.range) {
            return Ok(None);
        }
        let turn = tokio::time::timeout(self.wait_max, self.free.acquire()).await;
        let turn = turn.map_err(|_| AskError::Busy(self.wait_max))?;
        Ok(Some(turn.expect("nobody closes the semaphore")))
    }
}

fn ads_of(asked: &Asked) -> Ads {
    match asked {
        Asked::Total | Asked::EachAd => Ads::All,
        Asked::Ads(ads) | Asked::EachOf(ads) => Ads::Some(ads.clone()),
        Asked::Groups(groups) => groups.few().map_or(Ads::All, |ads| Ads::Some(ads.to_vec())),
    }
}

/// What one of the layers has answered.
enum Fetched<'a> {
    /// What is kept of the live counts, up to date.
    Live(Vec<Arc<Kept>>),
    /// The room that its tables take is held as long as they are; those that were kept before take none.
    Day(Day, Result<DayTables, TableError>, Option<Taken<'a>>),
}

fn give_day(merge: &mut Merge, day: Day, tables: Result<DayTables, TableError>, asked: &Asked) {
    match tables {
        Ok((revision, adjustments)) => {
            let revision = revision.iter().flat_map(|table| table.cells(asked));
            let adjustments = adjustments.iter().flat_map(|table| table.cells(asked));
            merge.give_day(day, revision, adjustments);
        }
        Err(error) => {
            tracing::warn!("the published table of {day} cannot be used: {error}");
            merge.miss_day(day, error.to_string());
        }
    }
}

fn object(standing: &mut Standing, against: impl Iterator<Item = Reason>) {
    against.for_each(|reason| standing.object(reason));
    for reason in &standing.reasons {
        metrics::counter!("twofold_serving_incomplete_total", "reason" => reason.code()).increment(1);
    }
}

/// A revision's table, and those that hold adjustments of the day. A day before the first one has no revision.
type DayTables = (Option<Arc<Table>>, Vec<Arc<Table>>);
