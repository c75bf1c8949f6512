//! What the ledger names, read back by whoever makes something of it: verified, and a row after the other.

use clicks::inputs::InputList;
use clicks::ledger::FileRef;
use platform::objects::Objects;

use crate::error::TableError;
use crate::publish::read_file;
use crate::table::decode_adjustments;
pub use crate::table::{AdjustmentRow, TableBatch, TableRow, TableRows, schema};

/// Opens a table of a grain, once its bytes are shown to be those that the ledger names.
///
/// # Errors
/// When it is missing, was changed, or cannot be read.
pub async fn table(objects: &Objects, file: &FileRef) -> Result<TableRows, TableError> {
    TableRows::read(&file.key, read_file(objects, file).await?)
}

/// The adjustments of a night, of all days.
///
/// # Errors
/// When the file is missing, was changed, or cannot be read.
pub async fn adjustments(objects: &Objects, file: &FileRef) -> Result<Vec<AdjustmentRow>, TableError> {
    decode_adjustments(&file.key, read_file(objects, file).await?)
}

/// The raw objects that an entry was counted from.
///
/// # Errors
/// When the list is missing, was changed, or cannot be read.
pub async fn inputs(objects: &Objects, file: &FileRef) -> Result<InputList, TableError> {
    InputList::decode(&read_file(objects, file).await?).map_err(|error| TableError::format(&file.key, error))
}
