//! XLSX: a sheet of lines, one of totals, and one that says what it is.

use std::cell::Cell;
use std::io::{Seek, Write};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::{env, fmt};

use clicks::zone::Zone;
use rust_decimal::Decimal;
use rust_decimal::prelude::ToPrimitive;
use rust_xlsxwriter::{DocProperties, ExcelDateTime, Format, Workbook, Worksheet, XlsxError};

use super::{ExportError, Form};
use crate::lines::{Column, Line, Period, Value};
use crate::statement::{By, Written};

/// Rows of a sheet, its head not included.
pub(crate) const LINES_MAX: u64 = 1_048_575;

/// A statement as XLSX. Ids and names are texts, whatever they look like: nothing in the file is a formula.
pub struct Xlsx {
    workbook: Workbook,
    columns: Vec<Column>,
    zone: Zone,
    rows: u64,
}

impl fmt::Debug for Xlsx {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Xlsx").field("columns", &self.columns).field("rows", &self.rows).finish_non_exhaustive()
    }
}

const LINES: &str = "Lines";
const TOTALS: &str = "Totals";
const ABOUT: &str = "About";

impl Xlsx {
    /// # Errors
    /// When there is no room for temporary files.
    pub fn new(zone: Zone, by: By) -> Result<Self, ExportError> {
        let (mut workbook, columns) = (workbook()?, Column::all(by));
        let sheet = workbook.add_worksheet_with_constant_memory()?.set_name(LINES)?;
        sheet.set_freeze_panes(1, 0)?;
        for (column, place) in columns.iter().zip(0..) {
            sheet.set_column_width(place, if matches!(column, Column::Start | Column::End) { 20.0 } else { 14.0 })?;
        }
        let names: Vec<&str> = columns.iter().map(|column| column.name()).collect();
        head(sheet, 0, &names)?;
        Ok(Xlsx { workbook, columns, zone, rows: 0 })
    }

    /// Writes the totals and what the statement is of, and the file. `about`: what it is of, and how that is said.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn end(
        mut self,
        written: &Written,
        about: &[(String, String)],
        to: impl Write + Seek + Send,
    ) -> Result<(), ExportError> {
        let sheet = self.workbook.add_worksheet().set_name(TOTALS)?;
        head(sheet, 0, &["currency", "clicks", "adjustment", "total", "amount", "amount_exact"])?;
        for ((currency, total), row) in written.totals.by_currency.iter().zip(1..) {
            sheet.write_string(row, 0, currency.unwrap_or("without a price"))?;
            for (count, place) in
                [total.counts.clicks, total.counts.adjustment, total.counts.total()].into_iter().zip(1..)
            {
                sheet.write_number(row, place, count as f64)?;
            }
            if currency.is_some() {
                sheet.write_number_with_format(row, 4, number(total.amount), &money())?;
                sheet.write_string(row, 5, total.amount.to_string())?;
            }
        }
        let sheet = self.workbook.add_worksheet().set_name(ABOUT)?;
        sheet.set_column_width(0, 24.0)?.set_column_width(1, 60.0)?;
        for ((name, value), row) in about.iter().zip(0..) {
            sheet.write_string(row, 0, name)?.write_string(row, 1, value)?;
        }
        save(&mut self.workbook, to)
    }
}

impl Form for Xlsx {
    fn lines(&mut self, period: &Period, lines: &[Line<'_>]) -> Result<(), ExportError> {
        if self.rows + lines.len() as u64 > LINES_MAX {
            return Err(ExportError::TooManyLines { max: LINES_MAX });
        }
        let (time, money) = (Format::new().set_num_format("yyyy-mm-dd hh:mm"), money());
        gathering(|| {
            let sheet = self.workbook.worksheet_from_name(LINES)?;
            for line in lines {
                self.rows += 1;
                for (column, place) in self.columns.iter().zip(0..) {
                    let row = self.rows as u32;
                    match column.of(period, line) {
                        Value::Text(text) => sheet.write_string(row, place, text)?,
                        Value::Time(at) => {
                            let local = ExcelDateTime::parse_from_str(&self.zone.rfc3339(at)[..19])?;
                            sheet.write_datetime_with_format(row, place, local, &time)?
                        }
                        Value::Count(count) => sheet.write_number(row, place, count as f64)?,
                        Value::Decimal(value) => sheet.write_number_with_format(row, place, number(value), &money)?,
                        Value::Nothing => continue,
                    };
                }
            }
            Ok(())
        })
    }
}

thread_local! {
    static IS_GATHERING: Cell<bool> = const { Cell::new(false) };
}
static HOOK: Once = Once::new();

/// Writes lines or what is made of them. The library gathers them in a temporary file, and where that cannot be written, as
/// when the disk is full, it panics: here that is an error as any other.
pub(crate) fn gathering(write: impl FnOnce() -> Result<(), ExportError>) -> Result<(), ExportError> {
    HOOK.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            if !IS_GATHERING.get() {
                before(info);
            }
        }));
    });
    IS_GATHERING.set(true);
    let written = panic::catch_unwind(AssertUnwindSafe(write));
    IS_GATHERING.set(false);
    written.unwrap_or_else(|payload| {
        let reason = payload.downcast_ref::<String>().map_or("its writer gave up", String::as_str).to_owned();
        Err(ExportError::Gathering { folder: env::temp_dir(), reason })
    })
}

/// No wall time is in it: the same sheets have the same bytes.
pub(crate) fn workbook() -> Result<Workbook, XlsxError> {
    let mut workbook = Workbook::new();
    workbook.set_properties(&DocProperties::new().set_creation_datetime(&ExcelDateTime::from_ymd(2000, 1, 1)?));
    Ok(workbook)
}

pub(crate) fn save(workbook: &mut Workbook, mut to: impl Write + Seek + Send) -> Result<(), ExportError> {
    gathering(|| Ok(workbook.save_to_writer(&mut to)?))?;
    // Dropped with bytes in it, a buffer would not say that they could not be written.
    Ok(to.flush()?)
}

pub(crate) fn head(sheet: &mut Worksheet, row: u32, names: &[&str]) -> Result<(), XlsxError> {
    let bold = Format::new().set_bold();
    let mut cells = names.iter().zip(0..);
    cells.try_for_each(|(name, place)| sheet.write_string_with_format(row, place, *name, &bold).map(drop))
}

fn money() -> Format {
    Format::new().set_num_format("#,##0.00####")
}

/// Excel has no other numbers.
pub(crate) fn number(value: Decimal) -> f64 {
    value.to_f64().unwrap_or(f64::NAN)
}
