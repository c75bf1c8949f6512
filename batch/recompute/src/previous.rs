//! What an earlier entry has read must still be there, and be the same.
//!
//! The chain proves that the archive has no hole, not that it still begins where it began: without this check a lost
//! object at the front would make duplicates look like first sightings.

use std::collections::{BTreeSet, HashMap};

use clicks::books::Books;
use clicks::inputs::{InputList, InputObject};
use clicks::layout::RawKey;
use clicks::ledger::{Body, Entry, entry_key};
use clicks::tables::EntryNumber;
use clicks::time::{Day, Timestamp};
use platform::ledger::LedgerError;
use platform::objects::Objects;

use crate::archived::Archived;
use crate::error::{BatchError, InputError, TableError};
use crate::plan::Plan;
use crate::publish::read_file;

/// Holds what is to be read, and the archive, against what the last night and the last counts of these days have read.
pub(crate) async fn check_previous(
    objects: &Objects,
    books: &Books,
    archived: &Archived,
    plan: &Plan,
    list: &InputList,
) -> Result<(), BatchError> {
    let of_days = plan.scope.days.iter().filter_map(|day| entry_of(books, *day));
    let entries: BTreeSet<EntryNumber> = of_days.chain(books.last_night_entry()).collect();
    let hashes: HashMap<&str, &str> = list.objects.iter().map(|o| (o.key.as_str(), o.sha256.as_str())).collect();
    for entry in entries {
        for before in read_inputs(objects, entry).await?.objects {
            if hashes.get(before.key.as_str()).is_some_and(|now| *now != before.sha256) {
                return Err(
                    InputError::damaged(&before.key, "an earlier night has read other bytes under this key").into()
                );
            }
            check_there(archived, plan.from, &before)?;
        }
    }
    Ok(())
}

/// An object that was read before is still there, if it reaches into what is read now.
fn check_there(archived: &Archived, from: Timestamp, before: &InputObject) -> Result<(), InputError> {
    let Ok(key) = before.key.parse::<RawKey>() else { return Ok(()) };
    let base = archived.chains.get(&key.partition).and_then(|chain| chain.base());
    if key.day < from.day() || base.is_some_and(|base| base <= key.start) {
        return Ok(());
    }
    let held = base.map_or_else(|| "nothing".to_owned(), |base| format!("from {base} on"));
    let needed = format!("from {} on", key.start);
    Err(InputError::Lost { partition: key.partition, held, needed })
}

/// The entry that has computed a day last, also one that has left it out.
fn entry_of(books: &Books, day: Day) -> Option<EntryNumber> {
    let published = books.day(day).map(|book| book.entry);
    published.or_else(|| books.withheld().get(&day).map(|withheld| withheld.entry))
}

/// Whether a day could be counted again: everything that its last count has read for it is still there.
pub(crate) async fn check_still_there(
    objects: &Objects,
    books: &Books,
    archived: &Archived,
    day: Day,
) -> Result<(), BatchError> {
    let plan = Plan::of_day(books, archived, day);
    if let Some(entry) = entry_of(books, day) {
        for before in read_inputs(objects, entry).await?.objects {
            check_there(archived, plan.from, &before)?;
        }
    }
    Ok(())
}

/// The list of inputs of an entry that has computed something.
pub(crate) async fn read_inputs(objects: &Objects, number: EntryNumber) -> Result<InputList, BatchError> {
    let key = entry_key(number);
    let bytes = objects.get(&key).await?.ok_or_else(|| TableError::Missing { key: key.clone() })?;
    let entry = Entry::decode(number, &bytes).map_err(LedgerError::from)?;
    let file = match entry.body {
        Body::Night(night) => night.inputs,
        Body::Recount(recount) => recount.inputs,
        _ => return Err(TableError::format(key, "it has computed nothing, so it has no inputs").into()),
    };
    let bytes = read_file(objects, &file).await?;
    Ok(InputList::decode(&bytes).map_err(|e| TableError::format(&file.key, e))?)
}
