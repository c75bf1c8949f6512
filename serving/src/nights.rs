//! The last nights: what their ledger entries say, and the reports of their runs beside them.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use clicks::books::Books;
use clicks::ledger::{Body, Entry, Night};
use clicks::tables::{EntryNumber, report_key};
use clicks::time::Timestamp;
use futures::future::join_all;
use platform::ledger::{Ledger, LedgerError};
use platform::objects::Objects;
use serde::Deserialize;

/// Entries beside those of nights that are looked at, for each night that is asked for.
const ENTRIES_PER_NIGHT: u64 = 4;
/// Entries that are remembered: years of nights.
const KEPT_MAX: usize = 2_000;

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
}

impl Nights {
    pub(crate) fn new(ledger: Ledger, objects: Objects) -> Self {
        Nights { ledger, objects, kept: Mutex::default() }
    }

    /// The last nights up to this position, newest first. Where many other entries lie between them, fewer.
    pub(crate) async fn last(&self, books: &Books, count: usize) -> Result<Vec<Arc<NightEntry>>, LedgerError> {
        let head = books.head();
        let oldest = head.saturating_sub(ENTRIES_PER_NIGHT * count as u64);
        let mut found = Vec::new();
        let mut next = head;
        while next > oldest && found.len() < count {
            let some = (oldest.max(next.saturating_sub(count as u64)) + 1..=next).rev();
            next -= some.clone().count() as u64;
            for entry in join_all(some.map(|number| self.entry(number, head))).await {
                found.extend(entry?);
            }
        }
        found.truncate(count);
        Ok(found)
    }

    /// An entry; `None` when it is of something else than a night.
    async fn entry(&self, number: EntryNumber, head: EntryNumber) -> Result<Option<Arc<NightEntry>>, LedgerError> {
        if let Some(kept) = self.kept().get(&number) {
            return Ok(kept.clone());
        }
        let Some(bytes) = self.ledger.entry_bytes(number).await? else { return Ok(None) };
        let entry = match Entry::decode(number, &bytes)?.body {
            Body::Night(night) => {
                Some(Arc::new(NightEntry { number, night: *night, report: self.report(number).await }))
            }
            _ => None,
        };
        // The report is written after the entry: that of the last one may be about to come.
        if number < head || entry.as_ref().is_none_or(|entry| entry.report.is_some()) {
            let mut kept = self.kept();
            kept.insert(number, entry.clone());
            while kept.len() > KEPT_MAX {
                kept.pop_first();
            }
        }
        Ok(entry)
    }

    async fn report(&self, number: EntryNumber) -> Option<Report> {
        let bytes = match self.objects.get(&report_key(number)).await {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::warn!(number, "the report of an entry cannot be read: {error}");
                return None;
            }
        };
        let report = serde_json::from_slice(&bytes);
        report.inspect_err(|error| tracing::warn!(number, "the report of an entry is not understood: {error}")).ok()
    }

    fn kept(&self) -> std::sync::MutexGuard<'_, BTreeMap<EntryNumber, Option<Arc<NightEntry>>>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
