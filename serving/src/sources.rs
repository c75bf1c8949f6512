//! Everything that an answer is made of, fetched at one position of the ledger.

use std::sync::Arc;

use clicks::books::{Books, DayBook};
use clicks::ledger::FileRef;
use clicks::time::{Day, Span, Timestamp};
use clicks::view::{Answer, Asked, Live, Merge, Question, QuestionError, Ranking, Standing};
use clicks::window::Grain;
use futures::StreamExt;
use futures::future::{join, try_join, try_join_all};
use platform::clock::Clock;
use platform::ledger::LedgerError;
use platform::store::{Ads, LiveQuery};

use crate::live::{LiveRead, LiveReader};
use crate::position::{Position, Positions};
use crate::table_cache::TableCache;
use crate::tables::{Table, TableError};

/// Days whose files are fetched at the same time.
const READS_MAX: usize = 16;

/// The ledger, the published tables and the live counts.
#[derive(Debug)]
pub(crate) struct Sources {
    pub positions: Positions,
    pub tables: TableCache,
    pub live: LiveReader,
    pub clock: Arc<dyn Clock>,
    pub lag_max: Span,
}

/// Why there is no answer at all.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AskError {
    #[error("there is nothing to answer from yet: {0}")]
    NotReady(String),
    #[error(transparent)]
    Question(#[from] QuestionError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

impl Sources {
    /// The answer by period, and the position that it was given at.
    pub(crate) async fn answer(&self, question: &Question) -> Result<(Position, Answer), AskError> {
        let (position, merge) = self.ask(question).await?;
        let mut answer = merge.answer();
        object(&mut answer.standing, &position);
        Ok((position, answer))
    }

    /// The answer by ad, the `limit` largest.
    pub(crate) async fn ranking(&self, question: &Question, limit: usize) -> Result<(Position, Ranking), AskError> {
        let (position, merge) = self.ask(question).await?;
        let mut ranking = merge.ranking(limit);
        object(&mut ranking.standing, &position);
        Ok((position, ranking))
    }

    /// Asks both layers. Where the live counts show that the position is an old one, the ledger is read again, once.
    async fn ask(&self, question: &Question) -> Result<(Position, Merge), AskError> {
        let now = self.clock.now();
        let position = self.positions.current().map_err(AskError::NotReady)?;
        let merge = self.ask_at(&position, question, now).await?;
        if !merge.reasons().iter().any(|reason| reason.may_be_an_old_position()) {
            return Ok((position, merge));
        }
        self.positions.catch_up().await?;
        let newer = self.positions.current().map_err(AskError::NotReady)?;
        if newer.books.head() == position.books.head() {
            return Ok((newer, merge));
        }
        let merge = self.ask_at(&newer, question, now).await?;
        Ok((newer, merge))
    }

    async fn ask_at(&self, position: &Position, question: &Question, now: Timestamp) -> Result<Merge, QuestionError> {
        let mut merge = Merge::new(&position.books, question.clone(), now, self.lag_max)?;
        let (days, live) = join(self.days(position, &merge, question.grain), self.live(&merge, &question.asked)).await;
        for (day, read) in days {
            match read {
                Ok((revision, adjustments)) => {
                    let revision = revision.iter().flat_map(|table| table.cells(&question.asked));
                    let adjustments = adjustments.iter().flat_map(|table| table.cells(&question.asked));
                    merge.give_day(day, revision, adjustments);
                }
                Err(error) => {
                    tracing::warn!("the published table of {day} cannot be used: {error}");
                    merge.miss_day(day, error.to_string());
                }
            }
        }
        for (partition, slice) in &*live {
            match slice {
                Ok(slice) => {
                    let live = Live { meta: &slice.meta, counts: &slice.counts, late: &slice.late };
                    merge.give_live(partition, live);
                }
                Err(missing) => merge.miss_live(partition, missing.clone()),
            }
        }
        Ok(merge)
    }

    async fn days(
        &self,
        position: &Position,
        merge: &Merge,
        grain: Grain,
    ) -> Vec<(Day, Result<DayTables, TableError>)> {
        let books = &position.books;
        let reads = merge.closed_days().map(|day| async move { (day, self.day(books, day, grain).await) });
        // Collected first: the iterator borrows the merge, and a stream of it would not be `Send`.
        futures::stream::iter(reads.collect::<Vec<_>>()).buffer_unordered(READS_MAX).collect().await
    }

    async fn day(&self, books: &Books, day: Day, grain: Grain) -> Result<DayTables, TableError> {
        let revision = async {
            match books.day(day) {
                Some(book) => self.tables.get(file_of(book, grain)).await.map(Some),
                None => Ok(None),
            }
        };
        let adjustments = books.adjustments(day).iter().map(|adjustment| self.tables.get(&adjustment.file));
        try_join(revision, try_join_all(adjustments)).await
    }

    async fn live(&self, merge: &Merge, asked: &Asked) -> Arc<LiveRead> {
        let partitions = merge.partitions().cloned().collect();
        let ads = match asked {
            Asked::Total | Asked::EachAd => Ads::All,
            Asked::Ads(ads) => Ads::Some(ads.clone()),
        };
        self.live.read(partitions, LiveQuery { ads, range: merge.range(), late_from: merge.late_from() }).await
    }
}

fn object(standing: &mut Standing, position: &Position) {
    if let Some(reason) = position.reason() {
        standing.object(reason);
    }
    for reason in &standing.reasons {
        metrics::counter!("twofold_serving_incomplete_total", "reason" => reason.code()).increment(1);
    }
}

/// A revision's table, and those that hold adjustments of the day. A day before the first one has no revision.
type DayTables = (Option<Arc<Table>>, Vec<Arc<Table>>);

fn file_of(book: &DayBook, grain: Grain) -> &FileRef {
    match grain {
        Grain::Minute => &book.revision.minute,
        Grain::Hour => &book.revision.hour,
        Grain::Day => &book.revision.day_file,
    }
}
