//! What the last night has read must still be there, and be the same.
//!
//! The chain proves that the archive has no hole, not that it still begins where it began: without this check a lost
//! object at the front would make duplicates look like first sightings.

use clicks::books::Books;
use clicks::layout::RawKey;
use clicks::ledger::{Body, Entry, entry_key};
use platform::ledger::LedgerError;
use platform::objects::Objects;

use crate::archived::Archived;
use crate::error::{BatchError, InputError, TableError};
use crate::input::InputList;
use crate::publish::read_file;

/// Holds the inputs of this night and the archive against the inputs of the last one.
pub(crate) async fn check_previous(
    objects: &Objects,
    books: &Books,
    archived: &Archived,
    list: &InputList,
) -> Result<(), BatchError> {
    let Some(previous) = read_previous(objects, books).await? else { return Ok(()) };
    let hashes: std::collections::HashMap<&str, &str> =
        previous.objects.iter().map(|object| (object.key.as_str(), object.sha256.as_str())).collect();
    for object in &list.objects {
        if hashes.get(object.key.as_str()).is_some_and(|before| *before != object.sha256) {
            return Err(InputError::damaged(&object.key, "the last night has read other bytes under this key").into());
        }
    }
    // A night never reads further back than the one before it, unless for a partition that is new.
    for object in &previous.objects {
        let Ok(key) = object.key.parse::<RawKey>() else { continue };
        let base = archived.chains.get(&key.partition).and_then(|chain| chain.base());
        if base.is_none_or(|base| base > key.start) {
            let held = base.map_or_else(|| "nothing".to_owned(), |base| format!("from {base} on"));
            let needed = format!("from {} on", key.start);
            return Err(InputError::Lost { partition: key.partition, held, needed }.into());
        }
    }
    Ok(())
}

async fn read_previous(objects: &Objects, books: &Books) -> Result<Option<InputList>, BatchError> {
    let Some(book) = books.last_night().and_then(|night| books.day(night)) else { return Ok(None) };
    let key = entry_key(book.entry);
    let bytes = objects.get(&key).await?.ok_or(TableError::Missing { key })?;
    let entry = Entry::decode(book.entry, &bytes).map_err(LedgerError::from)?;
    let Body::Night(night) = entry.body else { return Ok(None) };
    let bytes = read_file(objects, &night.inputs).await?;
    let list: InputList = serde_json::from_slice(&bytes).map_err(|e| TableError::format(&night.inputs.key, e))?;
    match list.version == InputList::VERSION {
        true => Ok(Some(list)),
        false => Err(TableError::format(&night.inputs.key, "its version is unknown; update the release").into()),
    }
}
