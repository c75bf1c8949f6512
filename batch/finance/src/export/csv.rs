//! CSV: RFC 4180, with a last line per currency that sums up.

use std::io::Write;

use clicks::time::Interval;
use clicks::zone::Zone;
use csv::{Terminator, Writer, WriterBuilder};

use super::{ExportError, Form};
use crate::lines::{Column, Line, Period, Value};
use crate::money::{Money, Total};
use crate::statement::{By, OpenDay, Written};

/// For whom the file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CsvFlavor {
    /// Programs: times are RFC 3339, texts are as they are.
    Plain,
    /// Excel: a byte order mark, times that it knows, and no text that it could take for a formula.
    Excel,
}

/// A statement as CSV. The first column tells lines from totals.
#[derive(Debug)]
pub struct Csv<W: Write> {
    writer: Writer<W>,
    flavor: CsvFlavor,
    zone: Zone,
    columns: Vec<Column>,
    is_begun: bool,
}

const LINE: &str = "line";
const TIME_ZONE: &str = "time_zone";

impl<W: Write> Csv<W> {
    /// Nothing is written before the first line.
    pub fn new(to: W, flavor: CsvFlavor, zone: Zone, by: By) -> Self {
        let writer = WriterBuilder::new().terminator(Terminator::CRLF).from_writer(to);
        Csv { writer, flavor, zone, columns: Column::all(by), is_begun: false }
    }

    fn begin(&mut self) -> Result<(), ExportError> {
        if std::mem::replace(&mut self.is_begun, true) {
            return Ok(());
        }
        let mark = if self.flavor == CsvFlavor::Excel { "\u{feff}" } else { "" };
        let names = self.columns.iter().map(|column| column.name());
        let first = format!("{mark}{LINE}");
        self.writer.write_record([&*first].into_iter().chain(names).chain([TIME_ZONE]))?;
        Ok(())
    }

    /// Writes which days were left out, and what all lines come to, by currency; gives back what was written to.
    ///
    /// # Errors
    /// When that cannot be written.
    pub fn end(mut self, range: Interval, written: &Written) -> Result<W, ExportError> {
        for open in &written.left_out {
            self.left_out(*open)?;
        }
        // Of nothing at all, not even of nought, there is no total.
        let state = written.state.map(|state| Period { interval: range, state, revision: None });
        let nought = [(None, Total::default())].into();
        let totals = if written.totals.by_currency.is_empty() { &nought } else { &written.totals.by_currency };
        for (period, (currency, total)) in
            state.iter().flat_map(|period| totals.iter().map(move |total| (period, total)))
        {
            let line = Line {
                counts: total.counts,
                money: currency.map(|currency| Money { currency, amount: total.amount }),
                ..Line::default()
            };
            self.record("total", period, &line, |_| true)?;
        }
        self.writer.into_inner().map_err(|error| ExportError::Io(error.into_error()))
    }

    /// A day that is not final, so that no file looks like a whole period and lacks one.
    fn left_out(&mut self, open: OpenDay) -> Result<(), ExportError> {
        let period = Period { interval: open.day.interval(), state: open.state, revision: None };
        let is_known = |column| matches!(column, Column::Start | Column::End | Column::State);
        self.record("left_out", &period, &Line::default(), is_known)
    }

    /// A line of the file; cells of columns that are not `shown` are empty.
    fn record(
        &mut self,
        kind: &str,
        period: &Period,
        line: &Line<'_>,
        shown: impl Fn(Column) -> bool,
    ) -> Result<(), ExportError> {
        self.begin()?;
        self.writer.write_field(kind)?;
        for place in 0..self.columns.len() {
            let column = self.columns[place];
            self.field(if shown(column) { column.of(period, line) } else { Value::Nothing })?;
        }
        self.writer.write_field(self.zone.name())?;
        self.writer.write_record(None::<&[u8]>)?;
        Ok(())
    }

    fn field(&mut self, value: Value<'_>) -> Result<(), ExportError> {
        let is_excel = self.flavor == CsvFlavor::Excel;
        match value {
            Value::Text(text) if is_excel => self.writer.write_field(harmless(text).as_ref())?,
            Value::Text(text) => self.writer.write_field(text)?,
            Value::Time(time) if is_excel => {
                self.writer.write_field(self.zone.rfc3339(time)[..19].replace('T', " "))?;
            }
            Value::Time(time) => self.writer.write_field(self.zone.rfc3339(time))?,
            Value::Count(count) => self.writer.write_field(count.to_string())?,
            Value::Decimal(number) => self.writer.write_field(number.to_string())?,
            Value::Nothing => self.writer.write_field("")?,
        }
        Ok(())
    }
}

impl<W: Write> Form for Csv<W> {
    fn lines(&mut self, period: &Period, lines: &[Line<'_>]) -> Result<(), ExportError> {
        lines.iter().try_for_each(|line| self.record("line", period, line, |_| true))
    }
}

/// The text with an apostrophe before it, where Excel would take it for a formula, or for a number and drop its digits.
pub(crate) fn harmless(text: &str) -> std::borrow::Cow<'_, str> {
    let is_formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let is_number =
        text.parse::<f64>().is_ok() && (text.len() > 15 || text.starts_with('0') || text.contains(['e', 'E', '.']));
    if is_formula || is_number { format!("'{text}").into() } else { text.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_that_excel_would_change_are_made_harmless() {
        for text in ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "0123", "12345678901234567", "1e5", "1.10"] {
            assert_eq!(harmless(text), format!("'{text}"));
        }
        for text in ["ad-7", "1234", "a=b", "", "E5", "1-2"] {
            assert_eq!(harmless(text), text);
        }
    }
}
