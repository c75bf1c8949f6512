//! What a comparison comes to, and the report of it: as CSV, as XLSX, and as one page of HTML that needs nothing else.

use std::collections::BTreeMap;
use std::io::{Seek, Write};

use rust_decimal::Decimal;

use crate::export::xlsx::{LINES_MAX, head, number, save, workbook};
use crate::export::{ExportError, harmless};
use crate::reconcile::{Bucket, Cause, Compared, Keys};

/// What the lines of one bucket come to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BucketSum {
    pub lines: u64,
    pub ours: u64,
    pub theirs: u64,
    /// By currency; without one, by the prices of the file.
    pub at_stake: BTreeMap<Option<String>, Decimal>,
}

/// What a comparison comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Summary {
    pub buckets: BTreeMap<Bucket, BucketSum>,
    /// How many breaks each cause explains; `None`: nothing in the data does.
    pub causes: BTreeMap<Option<&'static str>, u64>,
}

impl Summary {
    pub fn of(compared: &[Compared]) -> Self {
        let mut summary = Summary::default();
        for line in compared {
            let sum = summary.buckets.entry(line.bucket).or_default();
            sum.lines += 1;
            sum.ours += line.ours;
            sum.theirs += line.theirs;
            if let Some(stake) = &line.at_stake {
                *sum.at_stake.entry(stake.currency.clone()).or_default() += stake.amount;
            }
            if line.bucket.is_break() {
                *summary.causes.entry(line.cause.as_ref().map(Cause::name)).or_default() += 1;
            }
        }
        summary
    }

    /// How many lines somebody has to look at.
    pub fn breaks(&self) -> u64 {
        self.buckets.iter().filter(|(bucket, _)| bucket.is_break()).map(|(_, sum)| sum.lines).sum()
    }
}

/// A report, whatever it is written as.
#[derive(Debug, Clone, Copy)]
pub struct Report<'a> {
    pub keys: Keys,
    pub compared: &'a [Compared],
    /// What was compared: names and values, for people.
    pub about: &'a [(String, String)],
}

/// Breaks that a page shows: a browser is no spreadsheet.
const HTML_LINES_MAX: usize = 5_000;

impl Report<'_> {
    fn head(&self) -> Vec<&'static str> {
        let who = self.keys.who().map(crate::invoice::Field::name);
        let day = self.keys.by_day().then_some("day");
        let rest = ["ours", "theirs", "difference", "cause", "explanation", "line", "lines", "at_stake", "currency"];
        ["bucket"].into_iter().chain(who).chain(day).chain(rest).collect()
    }

    fn cells(&self, line: &Compared) -> Vec<Cell> {
        let text = |text: &str| Cell::Text(text.to_owned());
        let (who, day) = (self.keys.who().map(|_| text(&line.who)), line.day.map(|day| Cell::Text(day.to_string())));
        let cause = line.cause.as_ref();
        let stake = line.at_stake.as_ref();
        let rest = [
            Cell::Number(line.ours.into()),
            Cell::Number(line.theirs.into()),
            Cell::Number(Decimal::from(line.theirs) - Decimal::from(line.ours)),
            text(cause.map_or("", Cause::name)),
            Cell::Text(cause.map(Cause::describe).unwrap_or_default()),
            line.lines.map_or(Cell::Nothing, |(first, _)| Cell::Number(first.into())),
            line.lines.map_or(Cell::Nothing, |(_, lines)| Cell::Number(lines.into())),
            stake.map_or(Cell::Nothing, |stake| Cell::Number(stake.amount)),
            text(stake.and_then(|stake| stake.currency.as_deref()).unwrap_or_default()),
        ];
        [text(line.bucket.name())].into_iter().chain(who).chain(day).chain(rest).collect()
    }

    /// All lines, those that match too.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_csv(&self, to: impl Write) -> Result<(), ExportError> {
        let mut writer = ::csv::WriterBuilder::new().terminator(::csv::Terminator::CRLF).from_writer(to);
        writer.write_record(self.head())?;
        for line in self.compared {
            let cells = self.cells(line);
            writer.write_record(cells.iter().map(|cell| match cell {
                // A name of the file, which may be anybody's.
                Cell::Text(text) => harmless(text).into_owned(),
                cell => cell.to_string(),
            }))?;
        }
        Ok(writer.flush()?)
    }

    /// A sheet of all lines, and one that says what was compared and what it comes to.
    ///
    /// # Errors
    /// When it cannot be written, or has more lines than a sheet.
    pub fn write_xlsx(&self, to: impl Write + Seek + Send) -> Result<(), ExportError> {
        if self.compared.len() as u64 > LINES_MAX {
            return Err(ExportError::TooManyLines { max: LINES_MAX });
        }
        let mut workbook = workbook()?;
        let sheet = workbook.add_worksheet().set_name("Summary")?;
        sheet.set_column_width(0, 24.0)?.set_column_width(1, 40.0)?;
        let mut row = 0;
        for (name, value) in self.about {
            sheet.write_string(row, 0, name)?.write_string(row, 1, value)?;
            row += 1;
        }
        row += 1;
        head(sheet, row, &["bucket", "lines", "ours", "theirs", "at stake"])?;
        for (bucket, sum) in &Summary::of(self.compared).buckets {
            row += 1;
            sheet.write_string(row, 0, bucket.name())?;
            for (number, place) in [sum.lines, sum.ours, sum.theirs].into_iter().zip(1..) {
                sheet.write_number(row, place, number as f64)?;
            }
            sheet.write_string(row, 4, stakes(sum))?;
        }
        let sheet = workbook.add_worksheet_with_constant_memory()?.set_name("Lines")?;
        sheet.set_freeze_panes(1, 0)?;
        head(sheet, 0, &self.head())?;
        for (line, row) in self.compared.iter().zip(1..) {
            for (cell, place) in self.cells(line).iter().zip(0..) {
                match cell {
                    Cell::Text(text) => sheet.write_string(row, place, text)?,
                    Cell::Number(value) => sheet.write_number(row, place, number(*value))?,
                    Cell::Nothing => continue,
                };
            }
        }
        save(&mut workbook, to)
    }

    /// One page: what was compared, what it comes to, and every break, the largest first.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write_html(&self, mut to: impl Write) -> Result<(), ExportError> {
        let summary = Summary::of(self.compared);
        let title = match summary.breaks() {
            0 => "Nothing differs".to_owned(),
            1 => "1 break".to_owned(),
            breaks => format!("{breaks} breaks"),
        };
        write!(to, "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")?;
        write!(
            to,
            "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{}</title>\n",
            escaped(&title)
        )?;
        write!(to, "<style>{STYLE}</style>\n</head>\n<body>\n<h1>{}</h1>\n<table class=\"about\">\n", escaped(&title))?;
        for (name, value) in self.about {
            writeln!(to, "<tr><th scope=\"row\">{}</th><td>{}</td></tr>", escaped(name), escaped(value))?;
        }
        write!(
            to,
            "</table>\n<h2>What it comes to</h2>\n<table>\n<tr><th scope=\"col\">bucket</th><th scope=\"col\">lines</th>"
        )?;
        writeln!(to, "<th scope=\"col\">ours</th><th scope=\"col\">theirs</th><th scope=\"col\">at stake</th></tr>")?;
        for (bucket, sum) in &summary.buckets {
            let BucketSum { lines, ours, theirs, .. } = sum;
            let (name, stakes) = (bucket.name().replace('_', " "), escaped(&stakes(sum)));
            write!(to, "<tr><th scope=\"row\">{name}</th><td class=\"n\">{lines}</td><td class=\"n\">{ours}</td>")?;
            writeln!(to, "<td class=\"n\">{theirs}</td><td>{stakes}</td></tr>")?;
        }
        write!(to, "</table>\n<h2>Causes</h2>\n<table>\n")?;
        for (cause, lines) in &summary.causes {
            let cause = cause.unwrap_or("nothing in the data explains it").replace('_', " ");
            writeln!(to, "<tr><th scope=\"row\">{cause}</th><td class=\"n\">{lines}</td></tr>")?;
        }
        let mut breaks: Vec<&Compared> = self.compared.iter().filter(|line| line.bucket.is_break()).collect();
        breaks.sort_by_key(|line| std::cmp::Reverse(line.ours.abs_diff(line.theirs)));
        write!(to, "</table>\n<h2>Breaks, the largest first</h2>\n<table>\n<tr>")?;
        for name in self.head() {
            write!(to, "<th scope=\"col\">{}</th>", name.replace('_', " "))?;
        }
        writeln!(to, "</tr>")?;
        for line in breaks.iter().take(HTML_LINES_MAX) {
            write!(to, "<tr>")?;
            for cell in self.cells(line) {
                let class = match &cell {
                    Cell::Number(_) => " class=\"n\"",
                    Cell::Text(text) if text.len() > 40 => " class=\"said\"",
                    Cell::Text(_) | Cell::Nothing => "",
                };
                write!(to, "<td{class}>{}</td>", escaped(&cell.to_string()))?;
            }
            writeln!(to, "</tr>")?;
        }
        writeln!(to, "</table>")?;
        if breaks.len() > HTML_LINES_MAX {
            writeln!(to, "<p>And {} more: the reports as CSV and XLSX list all.</p>", breaks.len() - HTML_LINES_MAX)?;
        }
        writeln!(to, "</body>\n</html>")?;
        Ok(to.flush()?)
    }
}

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;color:#1b1f24;\
background:#fff}table{border-collapse:collapse;margin:1rem 0}th,td{padding:.3rem .8rem;border-bottom:1px solid #d8dee4;\
text-align:left;vertical-align:top;white-space:nowrap}.said{white-space:normal;min-width:18rem}.n{text-align:right;font-variant-numeric:tabular-nums}.about th{font-weight:600;color:#57606a}\
@media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}th,td{border-color:#30363d}.about th{color:#9198a1}}";

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// `EUR 25.00, 3 by the prices of the file`.
pub fn stakes(sum: &BucketSum) -> String {
    let stake = |(currency, amount): (&Option<String>, &Decimal)| match currency {
        Some(currency) => format!("{currency} {amount}"),
        None => format!("{amount} by the prices of the file"),
    };
    sum.at_stake.iter().filter(|(_, amount)| !amount.is_zero()).map(stake).collect::<Vec<_>>().join(", ")
}

/// What stands in a cell.
enum Cell {
    Text(String),
    Number(Decimal),
    Nothing,
}

impl std::fmt::Display for Cell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Cell::Text(text) => f.write_str(text),
            Cell::Number(number) => write!(f, "{number}"),
            Cell::Nothing => Ok(()),
        }
    }
}
