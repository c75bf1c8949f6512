//! What entries of the ledger were counted from.

use std::collections::{BTreeMap, HashMap};

use clicks::inputs::InputList;
use clicks::layout::{ForeignKey, RawKey};
use clicks::ledger::{Body, Entry};
use clicks::position::{Offset, PartitionId};
use clicks::tables::EntryNumber;
use platform::ledger::{Ledger, LedgerError};
use platform::objects::Objects;
use recompute::{TableError, published};

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum InputsError {
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    #[error(transparent)]
    Table(#[from] TableError),
    #[error(transparent)]
    Foreign(#[from] ForeignKey),
}

/// The raw objects that an entry was counted from.
///
/// # Errors
/// When there is no such entry, it has counted nothing, or its list cannot be read.
pub(crate) async fn inputs(ledger: &Ledger, objects: &Objects, number: EntryNumber) -> Result<InputList, InputsError> {
    let missing = || LedgerError::NoEntry { url: ledger.url().to_owned(), number, head: number };
    let bytes = ledger.entry_bytes(number).await?.ok_or_else(missing)?;
    let file = match Entry::decode(number, &bytes).map_err(LedgerError::from)?.body {
        Body::Night(night) => night.inputs,
        Body::Recount(recount) => recount.inputs,
        Body::Genesis(_) | Body::Topic(_) | Body::Epoch(_) | Body::Rules(_) | Body::Period(_) => {
            return Err(missing().into());
        }
    };
    Ok(published::inputs(objects, &file).await?)
}

/// Whether the archive was another one: an object of both lists has other bytes, or one lies among those of the earlier list
/// that it does not name.
pub(crate) fn is_replayed(before: &InputList, after: &InputList) -> Result<bool, ForeignKey> {
    let known: HashMap<&str, &str> = before.objects.iter().map(|object| (&*object.key, &*object.sha256)).collect();
    let mut read: BTreeMap<PartitionId, (Offset, Offset)> = BTreeMap::new();
    for object in &before.objects {
        let key: RawKey = object.key.parse()?;
        let range = read.entry(key.partition).or_insert((object.from, object.to));
        *range = (range.0.min(object.from), range.1.max(object.to));
    }
    for object in &after.objects {
        let is_other = match known.get(&*object.key) {
            Some(sha256) => *sha256 != object.sha256,
            None => {
                let key: RawKey = object.key.parse()?;
                read.get(&key.partition).is_some_and(|(from, to)| object.from < *to && object.to > *from)
            }
        };
        if is_other {
            return Ok(true);
        }
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use clicks::inputs::InputObject;

    use super::*;

    fn list(objects: &[(u64, u64, &str)]) -> InputList {
        let object = |(start, to, sha256): &(u64, u64, &str)| InputObject {
            key: format!(
                "raw/v1/region=eu/topic=00000000-0000-0000-0000-000000000001/part=0/day=2026-03-01/{start:020}.parquet"
            ),
            sha256: (*sha256).to_owned(),
            bytes: 1,
            from: Offset::new(*start),
            to: Offset::new(*to),
        };
        InputList {
            version: InputList::VERSION,
            night: "2026-03-01".parse().unwrap(),
            objects: objects.iter().map(object).collect(),
        }
    }

    #[test]
    fn an_archive_that_goes_on_is_the_same_one() {
        let before = list(&[(10, 20, "a"), (20, 25, "b")]);
        for (after, replayed) in [
            (vec![(10, 20, "a"), (20, 30, "b"), (30, 40, "c")], false),
            (vec![(0, 10, "z"), (10, 20, "a")], false),
            (vec![(10, 20, "x"), (20, 25, "b")], true),
            (vec![(10, 20, "a"), (15, 20, "n"), (20, 25, "b")], true),
        ] {
            assert_eq!(is_replayed(&before, &list(&after)).unwrap(), replayed, "{after:?}");
        }
    }
}
