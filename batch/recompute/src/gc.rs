//! What nobody will ever read again: files of runs that were killed or lost.
//!
//! Only files under the number of an entry that is published are looked at (scenario 27). Who publishes entry `n` wrote
//! its files under `tables/rev/n/` before; once `n` stands, it says for good which of them are published, and nobody else
//! will ever publish under that number. The folder of the next entry is never touched, however old its files are: a run
//! may find them with the right content at this moment and name them.

use std::collections::HashSet;

use clicks::tables::{EntryNumber, REV};
use clicks::time::{Span, Timestamp};
use platform::clock::Clock;
use platform::ledger::{Ledger, LedgerError};
use platform::objects::Objects;
use serde::Serialize;
use serde_json::Value;

use crate::error::{BatchError, TableError};
use crate::lease;

/// Whether files are deleted or only named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    Delete,
    Name,
}

/// What was found below `tables/rev/`. Sizes are bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Gc {
    /// The last entry that was read.
    pub head: EntryNumber,
    /// Deleted, or to be deleted, in the order of their keys.
    pub orphans: Vec<Orphan>,
    pub bytes: u64,
    /// Files that entries name.
    pub named: u64,
    /// Named by no entry, but younger than asked.
    pub young: u64,
    /// Under numbers that no entry has yet.
    pub unsettled: u64,
    /// Under no entry number: none of ours, left alone.
    pub foreign: Vec<String>,
    /// The lease of a run that ended long ago was deleted.
    pub lease: bool,
}

/// A file that no entry names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Orphan {
    pub key: String,
    pub bytes: u64,
    /// When it was written; milliseconds when serialised.
    pub written: Timestamp,
}

/// Deletes, or names, the files that no entry names and that were written longer than `older_than` ago.
///
/// # Errors
/// When ledger or store cannot be read, or an entry names a file that is not there: then nothing is deleted.
pub async fn gc(
    objects: &Objects,
    ledger: &Ledger,
    clock: &dyn Clock,
    older_than: Span,
    mode: Mode,
) -> Result<Gc, BatchError> {
    // The order matters: what is listed later than the head was read can only be more than what its entries name.
    let head = ledger.read().await?.head();
    let mut named = named_files(ledger, head).await?;
    let mut found = Gc { head, ..Gc::default() };
    let before = clock.now() - older_than;
    for (object, written) in objects.list_dated(REV, None).await? {
        match number_of(&object.key) {
            None => found.foreign.push(object.key),
            Some(number) if number > head => found.unsettled += 1,
            Some(_) if named.remove(&object.key) => found.named += 1,
            Some(_) if written >= before => found.young += 1,
            Some(_) => {
                found.bytes += object.bytes;
                found.orphans.push(Orphan { key: object.key, bytes: object.bytes, written });
            }
        }
    }
    // A listing that lacks what is published is not one to delete by.
    if let Some(key) = named.into_iter().min() {
        return Err(TableError::Missing { key }.into());
    }
    if mode == Mode::Delete {
        for orphan in &found.orphans {
            objects.delete(&orphan.key).await?;
            metrics::counter!("twofold_batch_orphans_deleted_total").increment(1);
        }
    }
    found.lease = lease::forget(objects, before, mode).await?;
    Ok(found)
}

/// Every file below `tables/rev/` that an entry up to `head` names: whatever the kind of the entry is, by its text. A
/// kind that this code does not look into can not lose its files.
async fn named_files(ledger: &Ledger, head: EntryNumber) -> Result<HashSet<String>, BatchError> {
    let mut named = HashSet::new();
    for number in 0..=head {
        let missing = || LedgerError::NoEntry { url: ledger.url().to_owned(), number, head: number.saturating_sub(1) };
        let bytes = ledger.entry_bytes(number).await?.ok_or_else(missing)?;
        let entry: Value = serde_json::from_slice(&bytes)
            .map_err(|source| LedgerError::from(clicks::ledger::EntryError::Malformed { number, source }))?;
        collect(&entry, &mut named);
    }
    Ok(named)
}

fn collect(value: &Value, named: &mut HashSet<String>) {
    match value {
        Value::String(text) if text.starts_with(REV) => {
            named.insert(text.clone());
        }
        Value::Array(values) => values.iter().for_each(|value| collect(value, named)),
        Value::Object(values) => values.values().for_each(|value| collect(value, named)),
        _ => {}
    }
}

/// The number of the folder that a file lies in.
fn number_of(key: &str) -> Option<EntryNumber> {
    let (folder, _) = key.strip_prefix(REV)?.split_once('/')?;
    (folder.len() == 20).then(|| folder.parse().ok()).flatten()
}
