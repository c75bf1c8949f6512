//! The convenience copies in `tables/current`, which a plain glob may read: one file per grain and closed day.
//!
//! They are made from the ledger and are no authority. Their names are fixed, so a glob never sees a day twice. Each
//! copy carries in its footer what it was made from, so that any run sees which copies are stale:
//!
//! ```text
//! twofold.current = {"version":1,"entry":12,"revision":2,"nights":["2026-03-09"]}
//! ```
//!
//! Two runs may refresh at the same time, and one may have slept since it read the ledger (scenario 17). So the head is
//! read again after writing, and all is done again if it has moved: whoever writes last has seen the newest head, and
//! what a killed run leaves stale the next one repairs.

use std::collections::HashMap;

use clicks::books::Books;
use clicks::tables::{CURRENT, EntryNumber, current_key};
use clicks::time::Day;
use clicks::window::{Grain, Minute};
use futures::{StreamExt, TryStreamExt};
use parquet::file::metadata::{KeyValue, ParquetMetaDataReader};
use platform::ledger::Ledger;
use platform::objects::{ObjectError, Objects};
use serde::{Deserialize, Serialize};

use crate::error::BatchError;
use crate::publish::read_file;
use crate::rows::{Cell, Numbers, Rows, join};
use crate::table::{AdjustmentRow, Sheet, copy_unadjusted, decode, decode_adjustments, encode_current};

/// Key of the mark in the footer.
const META_CURRENT: &str = "twofold.current";
/// Footers that are read at the same time.
const READS_MAX: usize = 16;
/// Read from the end of a copy at first.
const TAIL_BYTES: u64 = 64 * 1024;

/// What a copy was made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    version: u32,
    /// Entry that published the revision; 0 for a day before the first one, which has none.
    entry: EntryNumber,
    revision: u32,
    /// Nights whose adjustments are in it.
    nights: Vec<Day>,
}

impl Mark {
    const VERSION: u32 = 1;

    fn of(books: &Books, day: Day) -> Self {
        let book = books.day(day);
        let nights = books.adjustments(day).iter().map(|adjustment| adjustment.night).collect();
        let (entry, revision) = book.map_or((0, 0), |book| (book.entry, book.revision.revision));
        Mark { version: Self::VERSION, entry, revision, nights }
    }
}

/// Makes every stale copy anew, until none is stale at the head of the ledger. Returns how many were written.
pub(crate) async fn refresh(objects: &Objects, ledger: &Ledger, release: &str) -> Result<u64, BatchError> {
    let mut written = 0;
    let mut books = ledger.read().await?;
    loop {
        let head = books.head();
        for (day, grain) in stale(objects, &books).await? {
            write(objects, &books, day, grain, release).await?;
            metrics::counter!("twofold_batch_current_refreshed_total").increment(1);
            written += 1;
        }
        ledger.catch_up(&mut books).await?;
        if books.head() == head {
            return Ok(written);
        }
    }
}

/// Copies that are missing, or were made from something else than the books name now.
async fn stale(objects: &Objects, books: &Books) -> Result<Vec<(Day, Grain)>, BatchError> {
    let listed = objects.list(CURRENT, None).await?;
    let sizes: HashMap<String, u64> = listed.into_iter().map(|object| (object.key, object.bytes)).collect();
    let days: Vec<Day> = books.early_days().chain(books.days().map(|(day, _)| day)).collect();
    let all = days.into_iter().flat_map(|day| Grain::ALL.map(|grain| (day, grain)));
    let checked = futures::stream::iter(all).map(|(day, grain)| {
        let key = current_key(grain, day);
        let (size, wanted) = (sizes.get(&key).copied(), Mark::of(books, day));
        async move {
            let found = match size {
                Some(size) => read_mark(objects, &key, size).await?,
                None => None,
            };
            Ok::<_, ObjectError>((found != Some(wanted)).then_some((day, grain)))
        }
    });
    let checked: Vec<_> = checked.buffered(READS_MAX).try_collect().await?;
    Ok(checked.into_iter().flatten().collect())
}

/// The mark of a copy; `None` when it has none that can be read, so that it is made anew.
async fn read_mark(objects: &Objects, key: &str, size: u64) -> Result<Option<Mark>, ObjectError> {
    const END: u64 = 8;
    if size < END {
        return Ok(None);
    }
    let mut from = size.saturating_sub(TAIL_BYTES);
    loop {
        let tail = objects.get_range(key, from..size).await?;
        let Some((footer, end)) = tail.split_last_chunk::<8>() else { return Ok(None) };
        let length = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
        if end[4..] != *b"PAR1" || length + END > size {
            return Ok(None);
        }
        match footer.len().checked_sub(length as usize) {
            Some(start) => return Ok(decode_mark(&footer[start..])),
            None => from = size - length - END,
        }
    }
}

fn decode_mark(metadata: &[u8]) -> Option<Mark> {
    let metadata = ParquetMetaDataReader::decode_metadata(metadata).ok()?;
    let pairs = metadata.file_metadata().key_value_metadata()?;
    let mark = pairs.iter().find(|pair| pair.key == META_CURRENT)?.value.as_deref()?;
    serde_json::from_str(mark).ok()
}

async fn write(objects: &Objects, books: &Books, day: Day, grain: Grain, release: &str) -> Result<(), BatchError> {
    let key = current_key(grain, day);
    let mark = serde_json::to_string(&Mark::of(books, day)).expect("a mark is plain data, which always serialises");
    let mark = KeyValue::new(META_CURRENT.to_owned(), mark);
    let mut rows = Rows::default();
    let mut sheet = Sheet { grain, revision: 0, rules_version: books.rules().on(day).version };
    if let Some(book) = books.day(day) {
        (sheet.revision, sheet.rules_version) = (book.revision.revision, book.revision.rules_version);
        let file = book.revision.file(grain);
        let table = read_file(objects, file).await?;
        if books.adjustments(day).is_empty() {
            objects.put(&key, copy_unadjusted(&file.key, &table, release, mark)?).await?;
            return Ok(());
        }
        rows = decode(&file.key, table)?;
    }
    let mut adjustments = Vec::new();
    for adjustment in books.adjustments(day) {
        let found = decode_adjustments(&adjustment.file.key, read_file(objects, &adjustment.file).await?)?;
        adjustments.extend(found.into_iter().filter(|row| row.period_start.day() == day));
    }
    let (rows, adjustments) = adjusted(rows, grain, &adjustments);
    objects.put(&key, encode_current(&rows, &adjustments, sheet, release, mark)?).await?;
    Ok(())
}

/// The rows and the adjusted clicks of each; an ad and period that was only adjusted gets a row without clicks.
fn adjusted(rows: Rows, grain: Grain, adjustments: &[AdjustmentRow]) -> (Rows, Vec<u64>) {
    let adjustments = AdjustmentRow::rows(adjustments).rolled_up(grain);
    let (mut numbers, mut cells, mut adjusted) = (Numbers::default(), Vec::new(), Vec::new());
    join(&rows, &adjustments, |period, ad, row, adjustment| {
        let start = Minute::of(period).number() as i32;
        cells.push(Cell { start, ad: numbers.of(ad), ..row.copied().unwrap_or_default() });
        adjusted.push(adjustment.map_or(0, |adjustment| adjustment.clicks));
    });
    (Rows::of(numbers, cells), adjusted)
}
