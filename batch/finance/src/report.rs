//! What a comparison comes to, and the report of it: as CSV, as XLSX, and as one page of HTML that needs nothing else.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{Seek, Write};

use rust_decimal::Decimal;
use rust_xlsxwriter::{Workbook, Worksheet, XlsxError};

use crate::export::xlsx::{self, LINES_MAX, number, save, workbook};
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
    pub fn add(&mut self, line: &Compared) {
        let sum = self.buckets.entry(line.bucket).or_default();
        sum.lines += 1;
        sum.ours += line.ours;
        sum.theirs += line.theirs;
        if let Some(stake) = &line.at_stake {
            *sum.at_stake.entry(stake.currency.clone()).or_default() += stake.amount;
        }
        if line.bucket.is_break() {
            *self.causes.entry(line.cause.as_ref().map(Cause::name)).or_default() += 1;
        }
    }

    pub fn lines(&self) -> u64 {
        self.buckets.values().map(|sum| sum.lines).sum()
    }

    /// How many lines somebody has to look at.
    pub fn breaks(&self) -> u64 {
        self.buckets.iter().filter(|(bucket, _)| bucket.is_break()).map(|(_, sum)| sum.lines).sum()
    }
}

/// Of all breaks those whose sides differ the most.
#[derive(Debug)]
pub struct Largest {
    max: usize,
    /// By difference and place, the largest and first one first.
    lines: BTreeMap<(Reverse<u64>, u64), Compared>,
    breaks: u64,
}

impl Largest {
    pub fn new(max: usize) -> Self {
        Largest { max, lines: BTreeMap::new(), breaks: 0 }
    }

    pub fn add(&mut self, line: &Compared) {
        if !line.bucket.is_break() {
            return;
        }
        let place = (Reverse(line.ours.abs_diff(line.theirs)), self.breaks);
        self.breaks += 1;
        if self.lines.len() == self.max {
            if self.lines.last_key_value().is_some_and(|(last, _)| *last < place) {
                return;
            }
            self.lines.pop_last();
        }
        self.lines.insert(place, line.clone());
    }

    pub fn lines(&self) -> impl Iterator<Item = &Compared> {
        self.lines.values()
    }

    /// How many more breaks there are.
    pub fn left_out(&self) -> u64 {
        self.breaks - self.lines.len() as u64
    }
}

/// What a report is written as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportForm {
    /// All lines, those that match too.
    Csv,
    /// A sheet of all lines, and one that says what was compared and what it comes to.
    Xlsx,
    /// What was compared, what it comes to and the largest breaks, as one page that needs nothing else.
    Html,
}

/// A report, which takes one line after the other.
pub struct Report<W: Write> {
    keys: Keys,
    lines: Lines<W>,
}

enum Lines<W: Write> {
    Csv(Box<::csv::Writer<W>>),
    Xlsx { workbook: Box<Workbook>, rows: u32, to: W },
    Html { largest: Largest, to: W },
}

impl<W: Write> fmt::Debug for Report<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report").field("keys", &self.keys).finish_non_exhaustive()
    }
}

/// Breaks that a page shows: a browser is no spreadsheet.
const HTML_LINES_MAX: usize = 5_000;
const SUMMARY: &str = "Summary";
const LINES: &str = "Lines";

impl<W: Write + Seek + Send> Report<W> {
    /// # Errors
    /// When it cannot be written.
    pub fn new(form: ReportForm, keys: Keys, to: W) -> Result<Self, ExportError> {
        let head = columns(keys);
        let lines = match form {
            ReportForm::Csv => {
                let mut writer = ::csv::WriterBuilder::new().terminator(::csv::Terminator::CRLF).from_writer(to);
                writer.write_record(head)?;
                Lines::Csv(Box::new(writer))
            }
            ReportForm::Xlsx => {
                let mut workbook = Box::new(workbook()?);
                workbook.add_worksheet().set_name(SUMMARY)?;
                let sheet = workbook.add_worksheet_with_constant_memory()?.set_name(LINES)?;
                xlsx::head(sheet.set_freeze_panes(1, 0)?, 0, &head)?;
                Lines::Xlsx { workbook, rows: 0, to }
            }
            ReportForm::Html => Lines::Html { largest: Largest::new(HTML_LINES_MAX), to },
        };
        Ok(Report { keys, lines })
    }

    /// # Errors
    /// When it cannot be written, or is more than a sheet holds.
    pub fn line(&mut self, line: &Compared) -> Result<(), ExportError> {
        match &mut self.lines {
            Lines::Csv(writer) => writer.write_record(cells(self.keys, line).iter().map(|cell| match cell {
                // A name of the file, which may be anybody's.
                Cell::Text(text) => harmless(text).into_owned(),
                cell => cell.to_string(),
            }))?,
            Lines::Xlsx { workbook, rows, .. } => {
                if u64::from(*rows) == LINES_MAX {
                    return Err(ExportError::ReportTooLong { max: LINES_MAX });
                }
                *rows += 1;
                xlsx::gathering(|| {
                    let sheet = workbook.worksheet_from_name(LINES)?;
                    for (cell, place) in cells(self.keys, line).iter().zip(0..) {
                        match cell {
                            Cell::Text(text) => sheet.write_string(*rows, place, text)?,
                            Cell::Number(value) => sheet.write_number(*rows, place, number(*value))?,
                            Cell::Nothing => continue,
                        };
                    }
                    Ok(())
                })?;
            }
            Lines::Html { largest, .. } => largest.add(line),
        }
        Ok(())
    }

    /// Writes what is left. `about`: what was compared, names and values, for people.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn end(self, about: &[(String, String)], summary: &Summary) -> Result<(), ExportError> {
        match self.lines {
            Lines::Csv(mut writer) => Ok(writer.flush()?),
            Lines::Xlsx { mut workbook, to, .. } => {
                write_summary(workbook.worksheet_from_name(SUMMARY)?, about, summary)?;
                save(&mut workbook, to)
            }
            Lines::Html { largest, mut to } => {
                write_html(&mut to, self.keys, about, summary, &largest)?;
                Ok(to.flush()?)
            }
        }
    }
}

fn columns(keys: Keys) -> Vec<&'static str> {
    let who = keys.who().map(crate::invoice::Field::name);
    let day = keys.by_day().then_some("day");
    let rest = ["ours", "theirs", "difference", "cause", "explanation", "line", "lines", "at_stake", "currency"];
    ["bucket"].into_iter().chain(who).chain(day).chain(rest).collect()
}

fn cells(keys: Keys, line: &Compared) -> Vec<Cell> {
    let text = |text: &str| Cell::Text(text.to_owned());
    let (who, day) = (keys.who().map(|_| text(&line.who)), line.day.map(|day| Cell::Text(day.to_string())));
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

fn write_summary(sheet: &mut Worksheet, about: &[(String, String)], summary: &Summary) -> Result<(), XlsxError> {
    sheet.set_column_width(0, 24.0)?.set_column_width(1, 40.0)?;
    let mut row = 0;
    for (name, value) in about {
        sheet.write_string(row, 0, name)?.write_string(row, 1, value)?;
        row += 1;
    }
    row += 1;
    xlsx::head(sheet, row, &["bucket", "lines", "ours", "theirs", "at stake"])?;
    for (bucket, sum) in &summary.buckets {
        row += 1;
        sheet.write_string(row, 0, bucket.name())?;
        for (number, place) in [sum.lines, sum.ours, sum.theirs].into_iter().zip(1..) {
            sheet.write_number(row, place, number as f64)?;
        }
        sheet.write_string(row, 4, stakes(sum))?;
    }
    Ok(())
}

fn write_html(
    to: &mut impl Write,
    keys: Keys,
    about: &[(String, String)],
    summary: &Summary,
    largest: &Largest,
) -> std::io::Result<()> {
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
    for (name, value) in about {
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
    write!(to, "</table>\n<h2>Breaks, the largest first</h2>\n<table>\n<tr>")?;
    for name in columns(keys) {
        write!(to, "<th scope=\"col\">{}</th>", name.replace('_', " "))?;
    }
    writeln!(to, "</tr>")?;
    for line in largest.lines() {
        write!(to, "<tr>")?;
        for cell in cells(keys, line) {
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
    if largest.left_out() > 0 {
        writeln!(to, "<p>And {} more: the report as CSV lists all.</p>", largest.left_out())?;
    }
    writeln!(to, "</body>\n</html>")?;
    Ok(())
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

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{Rng, SeedableRng};

    use super::*;

    #[test]
    fn the_largest_breaks_are_kept_in_their_order() {
        let mut random = SmallRng::seed_from_u64(3);
        for max in [1, 2, 7, 100] {
            let line = |n: u64, ours: u64, bucket| Compared {
                who: "a".into(),
                day: None,
                ours,
                theirs: 50,
                lines: Some((n, 1)),
                bucket,
                cause: None,
                at_stake: None,
            };
            let lines: Vec<Compared> =
                (0..60).map(|n| line(n, random.random_range(40..60), Bucket::ALL[random.random_range(0..5)])).collect();
            let mut largest = Largest::new(max);
            lines.iter().for_each(|line| largest.add(line));
            let mut want: Vec<&Compared> = lines.iter().filter(|line| line.bucket.is_break()).collect();
            want.sort_by_key(|line| Reverse(line.ours.abs_diff(line.theirs)));
            let left_out = want.len().saturating_sub(max);
            want.truncate(max);
            assert_eq!(largest.lines().collect::<Vec<_>>(), want);
            assert_eq!(largest.left_out(), left_out as u64);
        }
    }
}
