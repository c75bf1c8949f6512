//! Data files of a night: rolled up, checked, and written under names that hold their content.

use std::collections::BTreeMap;

use bytes::Bytes;
use clicks::books::Books;
use clicks::inputs::{InputList, InputObject};
use clicks::ledger::{Adjustments, Change, ChangeReason, DayRevision, FileRef, sha256};
use clicks::tables::{EntryNumber, adjustments_key, change_key, inputs_key, rev_key};
use clicks::time::Day;
use clicks::window::Grain;
use platform::objects::{Created, Objects};

use crate::change::{changes, difference};
use crate::counted::{Counted, DayCount};
use crate::error::{BatchError, InputError, TableError};
use crate::gate::{GateFailure, check_grains, check_grown};
use crate::plan::Plan;
use crate::scan::Hashes;
use crate::table::{ChangeRow, Sheet, decode, encode, encode_adjustments, encode_changes};

/// A file that is not written yet.
#[derive(Debug, Clone)]
pub(crate) struct NewFile {
    pub(crate) reference: FileRef,
    bytes: Bytes,
}

impl NewFile {
    fn new(bytes: Bytes, rows: u64, key: impl FnOnce(&str) -> String) -> Self {
        let sha256 = sha256(&bytes);
        let reference = FileRef { key: key(&sha256), sha256, bytes: bytes.len() as u64, rows };
        NewFile { reference, bytes }
    }

    /// Writes the file, or finds it written by an earlier run of the same night.
    pub(crate) async fn write(&self, objects: &Objects) -> Result<(), TableError> {
        match objects.create(&self.reference.key, self.bytes.clone()).await? {
            Created::Ours => Ok(()),
            Created::Taken(_) => Err(TableError::Taken { key: self.reference.key.clone() }),
        }
    }
}

/// The files of a night and what the entry says of them.
#[derive(Debug, Default)]
pub(crate) struct Files {
    pub(crate) files: Vec<NewFile>,
    pub(crate) days: Vec<DayRevision>,
    pub(crate) confirmed: Vec<Day>,
    pub(crate) adjustments: Option<Adjustments>,
}

/// What went wrong before anything was written.
pub(crate) enum Refused {
    Gate(GateFailure),
    Error(BatchError),
}

impl Refused {
    /// As what has failed the run of a night.
    pub(crate) fn at(self, night: Day) -> BatchError {
        match self {
            Refused::Gate(failure) => BatchError::Gate { night, failure },
            Refused::Error(error) => error,
        }
    }
}

impl<E: Into<BatchError>> From<E> for Refused {
    fn from(error: E) -> Self {
        Refused::Error(error.into())
    }
}

/// Makes the files of every day that is new or has changed, and of the adjustments, and checks them.
pub(crate) async fn make_files(
    objects: &Objects,
    books: &Books,
    plan: &Plan,
    counted: &Counted,
    release: &str,
) -> Result<Files, Refused> {
    let entry = books.head() + 1;
    let mut made = Files::default();
    for (day, count) in &counted.days {
        let published = books.day(*day).map(|book| &book.revision);
        let mut changed = None;
        if let Some(published) = published {
            let before = decode(&published.minute.key, read_file(objects, &published.minute).await?)?;
            if before == count.rows {
                made.confirmed.push(*day);
                continue;
            }
            check_grown(*day, &before, &count.rows).map_err(Refused::Gate)?;
            changed = Some((ChangeReason::LateArrival, changes(&before, &[], &count.rows)));
        }
        let revision = published.map_or(1, |published| published.revision + 1);
        let rules_version = plan.scope.rules.on(*day).version;
        let sheet = Sheet { grain: Grain::Minute, revision, rules_version };
        made.add_day(entry, *day, count, sheet, changed, release)?;
    }
    if !counted.adjustments.is_empty() {
        let rows = &counted.adjustments;
        let bytes = encode_adjustments(rows, release)?;
        let file = NewFile::new(bytes, rows.len() as u64, |hash| adjustments_key(entry, hash));
        let mut clicks = BTreeMap::new();
        for row in rows {
            *clicks.entry(row.period_start.day()).or_default() += row.clicks;
        }
        made.adjustments = Some(Adjustments { file: file.reference.clone(), clicks });
        made.files.push(file);
    }
    Ok(made)
}

impl Files {
    /// Makes and checks the files of one revision; `changed` says what it changes and why, when it is not the first one.
    pub(crate) fn add_day(
        &mut self,
        entry: EntryNumber,
        day: Day,
        count: &DayCount,
        sheet: Sheet,
        changed: Option<(ChangeReason, Vec<ChangeRow>)>,
        release: &str,
    ) -> Result<(), Refused> {
        let hours = count.rows.rolled_up(Grain::Hour);
        let days = hours.rolled_up(Grain::Day);
        let mut files = Vec::new();
        for (grain, rows) in [(Grain::Minute, &count.rows), (Grain::Hour, &hours), (Grain::Day, &days)] {
            let bytes = encode(rows, Sheet { grain, ..sheet }, release)?;
            files.push(NewFile::new(bytes, rows.len() as u64, |hash| rev_key(entry, grain, day, hash)));
        }
        let bytes = |i: usize| files[i].bytes.clone();
        let checked = [(Grain::Minute, bytes(0)), (Grain::Hour, bytes(1)), (Grain::Day, bytes(2))];
        check_grains(day, &count.totals, &checked)?.map_err(Refused::Gate)?;
        let change = match changed {
            None => None,
            Some((reason, rows)) => {
                let bytes = encode_changes(&rows, reason, release)?;
                let file = NewFile::new(bytes, rows.len() as u64, |hash| change_key(entry, day, hash));
                self.files.push(file.clone());
                Some(Change { reason, file: file.reference, clicks: difference(&rows) })
            }
        };
        let reference = |i: usize| files[i].reference.clone();
        self.days.push(DayRevision {
            day,
            revision: sheet.revision,
            rules_version: sheet.rules_version,
            minute: reference(0),
            hour: reference(1),
            day_file: reference(2),
            totals: count.totals,
            change,
        });
        self.files.extend(files);
        Ok(())
    }
}

/// The list of inputs with the hashes of what was read.
pub(crate) fn input_list(plan: &Plan, hashes: &Hashes) -> Result<InputList, InputError> {
    let object = |input: &crate::input::Input| {
        let key = input.segment.key.to_string();
        let sha256 = hashes.get(&key).ok_or_else(|| InputError::damaged(&key, "it was not read"))?;
        let from = input.segment.footer.start;
        Ok(InputObject { key, sha256, bytes: input.segment.bytes, from, to: input.to })
    };
    let objects = plan.inputs.values().flatten().map(object).collect::<Result<_, InputError>>()?;
    Ok(InputList { version: InputList::VERSION, night: plan.night, objects })
}

pub(crate) fn input_file(entry: EntryNumber, list: &InputList) -> NewFile {
    NewFile::new(list.encode().into(), list.objects.len() as u64, |hash| inputs_key(entry, hash))
}

/// Reads a file that the ledger names and proves that it is what was published.
pub(crate) async fn read_file(objects: &Objects, file: &FileRef) -> Result<Bytes, TableError> {
    let bytes = objects.get(&file.key).await?.ok_or_else(|| TableError::Missing { key: file.key.clone() })?;
    match sha256(&bytes) == file.sha256 {
        true => Ok(bytes),
        false => Err(TableError::Changed { key: file.key.clone() }),
    }
}
