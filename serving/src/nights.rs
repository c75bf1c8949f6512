//! The last nights: what their ledger entries say, and the reports of their runs beside them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clicks::books::Books;
use clicks::ledger::{Body, Entry, Night};
use clicks::tables::{EntryNumber, report_key};
use clicks::time::{Span, Timestamp};
use futures::{StreamExt, TryStreamExt, stream};
use platform::ledger::{Ledger, LedgerError};
use platform::objects::Objects;
use serde::Deserialize;

use crate::position::slow;

/// Entries that are looked at for each night that is asked for, and at least.
const ENTRIES_PER_NIGHT: u64 = 4;
const ENTRIES_MIN: u64 = 64;
/// Entries that are fetched at the same time.
const READS_MAX: usize = 8;
/// Deadline of one question. What was read by then is remembered.
const READ_MAX: Duration = Duration::from_secs(5);
/// Entries that are remembered: years of nights.
const KEPT_MAX: usize = 2_000;
/// A report that is not there so long after its entry does not come any more.
const REPORT_WITHIN: Span = Span::hours(1);

/// An entry that published a night, and the report of its run where there is one.
#[derive(Debug)]
pub(crate) struct NightEntry {
    pub number: EntryNumber,
    pub night: Night,
    pub report: Option<Report>,
}

/// What is of interest here in the report of a run. It is for people, so one that cannot be read is as good as none.
#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Report {
    pub runner: String,
    pub began_at: Timestamp,
    pub ended_at: Timestamp,
    pub drift: Option<Drift>,
}

/// How the day of a night compares with the live view of it.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Drift {
    NotCompared,
    Unknown(String),
    Compared { live: u64, exact: u64, live_late: Option<u64>, exact_late: u64 },
}

impl Drift {
    /// In a word.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Drift::NotCompared => "not_compared",
            Drift::Unknown(_) => "unknown",
            Drift::Compared { live, exact, live_late, exact_late } => {
                let same = live == exact && live_late.is_none_or(|late| late == *exact_late);
                if same { "equal" } else { "different" }
            }
        }
    }

    /// In numbers, or why there are none.
    pub(crate) fn detail(&self) -> Option<String> {
        match self {
            Drift::NotCompared => None,
            Drift::Unknown(why) => Some(why.clone()),
            Drift::Compared { live, exact, live_late, exact_late } => {
                let late = live_late.map(|late| format!(", late: live {late}, exact {exact_late}")).unwrap_or_default();
                Some(format!("on time: live {live}, exact {exact}{late}"))
            }
        }
    }
}

/// Reads entries once: they never change.
#[derive(Debug)]
pub(crate) struct Nights {
    ledger: Ledger,
    objects: Objects,
    kept: Mutex<BTreeMap<EntryNumber, Option<Arc<NightEntry>>>>,
    /// Held while entries are read.
    reading: tokio::sync::Mutex<()>,
}

impl Nights {
    pub(crate) fn new(ledger: Ledger, objects: Objects) -> Self {
        Nights { ledger, objects, kept: Mutex::default(), reading: tokio::sync::Mutex::default() }
    }

    /// The last nights up to this position, newest first. Where very many other entries lie between them, fewer.
    ///
    /// # Errors
    /// When the store is away or slow, or lacks an entry.
    pub(crate) async fn last(
        &self,
        books: &Books,
        count: usize,
        now: Timestamp,
    ) -> Result<Vec<Arc<NightEntry>>, LedgerError> {
        // One reader at a time: the next one finds what the first has read.
        let read = async {
            let _reading = self.reading.lock().await;
            let last = books.last_night_entry().unwrap_or(0);
            let oldest = last.saturating_sub(ENTRIES_MIN.max(ENTRIES_PER_NIGHT * count as u64));
            let entries = (oldest + 1..=last).rev().map(|number| self.entry(number, now));
            let nights =
                stream::iter(entries).buffered(READS_MAX).try_filter_map(|entry| std::future::ready(Ok(entry)));
            nights.take(count).try_collect().await
        };
        tokio::time::timeout(READ_MAX, read).await.unwrap_or_else(|_| Err(slow(READ_MAX)))
    }

    /// An entry; `None` when it is of something else than a night.
    async fn entry(&self, number: EntryNumber, now: Timestamp) -> Result<Option<Arc<NightEntry>>, LedgerError> {
        if let Some(kept) = self.kept().get(&number) {
            return Ok(kept.clone());
        }
        let missing = || LedgerError::NoEntry { url: self.ledger.url().to_owned(), number, head: number };
        let bytes = self.ledger.entry_bytes(number).await?.ok_or_else(missing)?;
        let (entry, for_good) = match Entry::decode(number, &bytes)?.body {
            Body::Night(night) => {
                let (report, found) = self.report(number).await;
                let for_good = found || now.since(night.published_at) > REPORT_WITHIN;
                (Some(Arc::new(NightEntry { number, night: *night, report })), for_good)
            }
            _ => (None, true),
        };
        if for_good {
            let mut kept = self.kept();
            kept.insert(number, entry.clone());
            while kept.len() > KEPT_MAX {
                kept.pop_first();
            }
        }
        Ok(entry)
    }

    /// The report of an entry, and whether it has come: one that is written after its entry may still be about to.
    async fn report(&self, number: EntryNumber) -> (Option<Report>, bool) {
        let bytes = match self.objects.get(&report_key(number)).await {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return (None, false),
            Err(error) => {
                tracing::warn!(number, "the report of an entry cannot be read: {error}");
                return (None, false);
            }
        };
        let report = serde_json::from_slice(&bytes);
        (
            report
                .inspect_err(|error| tracing::warn!(number, "the report of an entry is not understood: {error}"))
                .ok(),
            true,
        )
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, BTreeMap<EntryNumber, Option<Arc<NightEntry>>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
