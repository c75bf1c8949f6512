//! Somebody else's numbers: a table of any shape, with a column for whose clicks they are, one for how many, and one for the day.

mod columns;
mod csv;
mod parquet;
mod values;
mod xlsx;

use std::hash::BuildHasher;
use std::io::{Read, Seek};

use clicks::time::Day;
use clicks::zone::Zone;
use rust_decimal::Decimal;

use crate::reconcile::Keys;
use columns::Columns;
pub use columns::{Field, Mapping, MappingError};
use values::Given;

/// How an invoice is read.
#[derive(Debug, Clone)]
pub struct InvoiceOptions {
    /// Instants that are midnights of this zone stand for its days.
    pub zone: Zone,
    pub mapping: Mapping,
    /// What stands between thousands in numbers, if anything does.
    pub thousands: Option<char>,
}

/// One line of an invoice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InvoiceLine {
    /// In the file; the head is line 1.
    pub line: u64,
    /// Whose clicks: an ad, a campaign or an advertiser; empty where only days are compared.
    pub who: String,
    /// Of a campaign, where there is a column for it.
    pub tenant: Option<String>,
    pub day: Option<Day>,
    pub clicks: u64,
    /// What a click costs, and in which currency where the file says so.
    pub price: Option<(Decimal, Option<String>)>,
    /// Of the whole line, to tell whether it is there again.
    pub hash: u64,
}

/// Why an invoice cannot be read. Nothing of it is compared then.
#[derive(Debug, thiserror::Error)]
pub enum InvoiceError {
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
    #[error("it was changed while it was read: compare a copy that nobody writes to")]
    Changed,
    #[error("it is empty: its first line has to name the columns")]
    Empty,
    #[error("it is written in UTF-16: save it as CSV UTF-8")]
    Utf16,
    #[error("line {line}, byte {at} of it is no UTF-8: save the file as CSV UTF-8")]
    NotUtf8 { line: u64, at: usize },
    #[error(
        "no column tells the {field}: there are {present}. Name the one that does, as in `--map {field}={nearest}`"
    )]
    NoColumn { field: &'static str, present: String, nearest: String },
    #[error("the columns {columns} could all tell the {field}: say which one does, as in `--map {field}={first}`")]
    Ambiguous { field: &'static str, columns: String, first: String },
    #[error("the column `{0}` is there more than once: give one of them another name")]
    Repeated(String),
    #[error("line {line} has {found} fields, and the head has {head}: is a text with a delimiter in it not quoted?")]
    Ragged { line: u64, found: u64, head: u64 },
    #[error("line {line}, column `{column}`: `{value}` {reason}")]
    Value { line: u64, column: String, value: String, reason: String },
    #[error("a quote is opened on line {0} and never closed: everything behind it would be one text")]
    OpenQuote(u64),
    #[error("line {line} is longer than {max} MiB: is a quote in it not closed?")]
    LongLine { line: u64, max: usize },
    #[error("line {line} cannot be read: {reason}")]
    Line { line: u64, reason: String },
    #[error("it is no XLSX that can be read: {0}")]
    Xlsx(String),
    #[error("it is no Parquet that can be read: {0}")]
    Parquet(String),
}

/// The form of an invoice, by the ending of its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InvoiceForm {
    Csv,
    /// The first sheet that is not empty.
    Xlsx,
    Parquet,
}

/// An invoice, which can be read again and again.
#[derive(Debug)]
pub struct Invoice<'a, R> {
    from: R,
    form: InvoiceForm,
    options: &'a InvoiceOptions,
    hasher: foldhash::quality::RandomState,
    /// How many lines it has, and the sum of their hashes; `None` before it was read.
    known: Option<(u64, u64)>,
}

impl<'a, R: Read + Seek> Invoice<'a, R> {
    pub fn new(from: R, form: InvoiceForm, options: &'a InvoiceOptions) -> Self {
        Invoice { from, form, options, hasher: foldhash::quality::RandomState::default(), known: None }
    }

    /// Reads all lines, and hands each on. Tells which column holds what.
    ///
    /// # Errors
    /// The first thing that is wrong, with its line and column; or that it is another file than before.
    pub fn read(
        &mut self,
        keys: Keys,
        mut take: impl FnMut(InvoiceLine),
    ) -> Result<Vec<(Field, String)>, InvoiceError> {
        self.from.rewind()?;
        let (mut lines, mut hashes) = (0, 0_u64);
        let rules = Rules { options: self.options, keys, hasher: &self.hasher };
        let take = |line: InvoiceLine| {
            (lines, hashes) = (lines + 1, hashes.wrapping_add(line.hash));
            take(line);
        };
        let columns = match self.form {
            InvoiceForm::Csv => csv::read(&mut self.from, rules, take),
            InvoiceForm::Xlsx => xlsx::read(&mut self.from, rules, take),
            InvoiceForm::Parquet => {
                let mut bytes = Vec::new();
                self.from.read_to_end(&mut bytes)?;
                parquet::read(bytes.into(), rules, take)
            }
        }?;
        match self.known.replace((lines, hashes)) {
            Some(known) if known != (lines, hashes) => Err(InvoiceError::Changed),
            _ => Ok(columns),
        }
    }
}

/// How lines are read.
#[derive(Debug, Clone, Copy)]
struct Rules<'a> {
    options: &'a InvoiceOptions,
    keys: Keys,
    hasher: &'a foldhash::quality::RandomState,
}

/// Most clicks of a file: a price times so many fits into a decimal.
const CLICKS_MAX: u64 = 1_000_000_000_000_000;

/// Makes lines of rows, whatever they are read from.
struct Rows<'a, F> {
    head: Vec<String>,
    columns: Columns,
    rules: Rules<'a>,
    /// Clicks of all lines so far.
    clicks: u64,
    take: F,
}

impl<'a, F: FnMut(InvoiceLine)> Rows<'a, F> {
    fn new(head: Vec<String>, rules: Rules<'a>, take: F) -> Result<Self, InvoiceError> {
        let columns = Columns::find(&head, rules.options, rules.keys)?;
        Ok(Rows { head, columns, rules, clicks: 0, take })
    }

    /// `line`: its number in the file.
    fn row(&mut self, cells: &[Given<'_>], line: u64) -> Result<(), InvoiceError> {
        if cells.iter().all(|cell| cell.text().is_empty()) {
            return Ok(());
        }
        if self.columns.line.is_some_and(|place| matches!(cells[place].text(), "total" | "left_out")) {
            return Ok(());
        }
        let hash = self.rules.hasher.hash_one(cells.iter().map(|cell| cell.text()).collect::<Vec<_>>());
        let read = self.columns.line(&self.head, cells, line, self.rules.options, self.rules.keys)?;
        // Whatever is added up of them fits as well.
        self.clicks = self.clicks.checked_add(read.clicks).filter(|all| *all <= CLICKS_MAX).ok_or_else(|| {
            let column = self.head[self.columns.clicks].clone();
            let reason = format!("makes more than {CLICKS_MAX} clicks of all lines, which nobody clicks");
            InvoiceError::Value { line, column, value: read.clicks.to_string(), reason }
        })?;
        (self.take)(InvoiceLine { hash, ..read });
        Ok(())
    }

    /// Which column holds what.
    fn told(self) -> Vec<(Field, String)> {
        let Columns { who, tenant, day, clicks, price, currency, .. } = self.columns;
        let all = [
            (self.rules.keys.who().unwrap_or(Field::Ad), who),
            (Field::Tenant, tenant),
            (Field::Day, day),
            (Field::Clicks, Some(clicks)),
            (Field::Price, price),
            (Field::Currency, currency),
        ];
        all.into_iter().filter_map(|(field, place)| Some((field, self.head[place?].clone()))).collect()
    }

    /// Whether the column is one that is read.
    fn needs(&self, column: usize) -> bool {
        let Columns { who, tenant, day, clicks, price, currency, line, .. } = &self.columns;
        [*who, *tenant, *day, Some(*clicks), *price, *currency, *line].contains(&Some(column))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, options: &InvoiceOptions, keys: Keys) -> Result<Vec<InvoiceLine>, String> {
        let mut lines = Vec::new();
        Invoice::new(std::io::Cursor::new(text), InvoiceForm::Csv, options)
            .read(keys, |line| lines.push(InvoiceLine { hash: 0, ..line }))
            .map_err(|error| error.to_string())?;
        Ok(lines)
    }

    fn plain_options() -> InvoiceOptions {
        InvoiceOptions { zone: Zone::UTC, mapping: Mapping::default(), thousands: None }
    }

    fn plainly(text: &str) -> Result<Vec<InvoiceLine>, String> {
        read(text, &plain_options(), Keys::AD_DAY)
    }

    #[test]
    fn files_as_they_come() {
        let want = InvoiceLine {
            line: 2,
            who: "a".to_owned(),
            tenant: None,
            day: Some("2026-03-15".parse().unwrap()),
            clicks: 1_234,
            price: None,
            hash: 0,
        };
        for text in [
            "ad_id,day,clicks\na,2026-03-15,1234\n",
            "\u{feff}Ad ID;Date;Clicks\r\na;15.03.2026;1234\r\n",
            "CLICKS\tAD\tREPORT_DATE\n1234\ta\t20260315",
            "ad,day,clicks,note\na,2026/3/15,1234.00,\"x, y\"\n\n",
            "ad|day|clicks\n'a| 2026-03-15 00:00:00 | 1 234 \n",
            "ad,day,clicks,total\na,2026-03-15T00:00:00+01:00,1234,99.50\n",
            "ad,day,clicks\na,2026-03-14T23:00:00-01:00,1234\n",
            "ad,day,clicks,inches\na,2026-03-15,1234,12\" banner\n",
            "line,period_start,ad_id,clicks,adjustment,total\nline,2026-03-15T00:00:00.000+05:45,a,1000,234,1234\nleft_out,2026-03-16,,,,\ntotal,2026-03-01,,1000,234,1234\n",
        ] {
            assert_eq!(plainly(text), Ok(vec![want.clone()]), "{text}");
        }
        let options =
            InvoiceOptions { zone: Zone::UTC, mapping: "ad=Wer,clicks=Klicks".parse().unwrap(), thousands: Some('.') };
        let text = "Wer;day;Klicks;Price\na;2026-03-15;1.234;0,25 €\n";
        let priced = InvoiceLine { price: Some((Decimal::new(25, 2), Some("€".to_owned()))), ..want };
        assert_eq!(read(text, &options, Keys::AD_DAY), Ok(vec![priced]));
    }

    #[test]
    fn sums_have_a_bound_and_so_has_a_line() {
        let lines = "a,2026-03-15,1000000000000\n".repeat(1_001);
        let error = plainly(&format!("ad,day,clicks\n{lines}")).unwrap_err();
        assert!(error.contains("line 1002, column `clicks`") && error.contains("of all lines"), "{error}");
        let rest = "b,2026-03-15,2,x\n".repeat(1_000_000);
        for (head, line) in [("ad,day,clicks,note\na,2026-03-15,1,\"12 inch", 2), ("ad,day,clicks,\"note", 1)] {
            let error = plainly(&format!("{head}\n{rest}\"")).unwrap_err();
            assert!(error.contains(&format!("line {line} is longer than 16 MiB")), "{error}");
        }
    }

    /// Whoever is read from in parts has to stay the same.
    #[test]
    fn a_file_that_is_changed_meanwhile_is_none() {
        let options = plain_options();
        let mut invoice =
            Invoice::new(std::io::Cursor::new(b"ad,clicks\na,1\nb,2\n".to_vec()), InvoiceForm::Csv, &options);
        let keys = "ad".parse().unwrap();
        let read = |invoice: &mut Invoice<'_, std::io::Cursor<Vec<u8>>>| {
            let mut lines = Vec::new();
            invoice.read(keys, |line| lines.push((line.who, line.clicks))).map(|_| lines)
        };
        let want = [("a".to_owned(), 1), ("b".to_owned(), 2)];
        assert_eq!(read(&mut invoice).unwrap(), want);
        assert_eq!(read(&mut invoice).unwrap(), want);
        for other in ["ad,clicks\na,1\nb,3\n", "ad,clicks\na,1\n", "ad,clicks\na,1\nb,2\nb,2\n"] {
            assert!(read(&mut invoice).is_ok());
            *invoice.from.get_mut() = other.as_bytes().to_vec();
            assert!(matches!(read(&mut invoice), Err(InvoiceError::Changed)), "{other}");
            *invoice.from.get_mut() = b"ad,clicks\na,1\nb,2\n".to_vec();
            let _ = read(&mut invoice);
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_column() {
        for (text, part) in [
            ("", "it is empty"),
            (
                "ad,day\na,2026-03-15\n",
                "no column tells the clicks: there are `ad`, `day`. Name the one that does, as in `--map clicks=",
            ),
            ("ad,day,klicks\na,2026-03-15,1\n", "`--map clicks=klicks`"),
            ("ad,clicks\na,1\n", "no column tells the day"),
            ("ad,ad,day,clicks\na,a,2026-03-15,1\n", "the column `ad` is there more than once"),
            ("ad,day,clicks\na,2026-03-15\n", "line 2 has 2 fields, and the head has 3"),
            ("ad,day,clicks\na,2026-03-15,1\nb,2026-03-15,-2\n", "line 3, column `clicks`: `-2` is negative"),
            ("ad,day,clicks\na,2026-03-15,1.5\n", "line 2, column `clicks`: `1.5` is no whole number"),
            ("ad,day,clicks\na,2026-03-15,1.234\n", "can be read in two ways: say `--thousands .`"),
            ("ad;day;clicks\na;2026-03-15;1.234.567\n", "more than one separator"),
            ("ad,day,clicks\na,2026-03-15,many\n", "`many` is no number"),
            (
                "ad,day,clicks\na,03/04/2026,1\n",
                "line 2, column `day`: `03/04/2026` is no day that can be read in one way only",
            ),
            ("ad,day,clicks\na,2026-02-30,1\n", "`2026-02-30` is no day"),
            ("ad,day,clicks\n,2026-03-15,1\n", "line 2, column `ad`: `` names no ad: fill cells that were merged"),
            ("ad,day,clicks\na,2026-03-15T23:30:00-08:00,1\n", "is an instant and no midnight"),
            ("ad,day,clicks\na,2026-03-15,9223372036854775808\n", "which nobody clicks"),
            ("ad,day,clicks,cpc\na,2026-03-15,1,79228162514264337593543950335\n", "for a click"),
            (
                "ad,day,clicks,note\na,2026-03-15,1,\"12 inch\nb,2026-03-15,2,x\n",
                "a quote is opened on line 2 and never closed",
            ),
            ("ad,day,clicks\na,2026-03-15,1 2 3\n", "is not grouped by thousands"),
            ("ad,day,total\na,2026-03-15,19666\n", "no column tells the clicks"),
            ("ad,day,clicks,Clicks\na,2026-03-15,1,2\n", "the columns `clicks`, `Clicks` could all tell the clicks"),
        ] {
            let error = plainly(text).unwrap_err();
            assert!(error.contains(part), "{text:?}: {error}");
        }
        let error = |bytes: &[u8]| {
            let options = plain_options();
            let mut invoice = Invoice::new(std::io::Cursor::new(bytes), InvoiceForm::Csv, &options);
            invoice.read(Keys::AD_DAY, |_| {}).unwrap_err()
        };
        let not_utf8 = error(b"ad,day,clicks\nM\xfcller,2026-03-15,1\n");
        assert!(matches!(not_utf8, InvoiceError::NotUtf8 { line: 2, at: 1 }), "{not_utf8}");
        let error = error(b"\xff\xfea\0");
        assert!(matches!(error, InvoiceError::Utf16), "{error}");
        for text in ["ad", "ad=", "x=y", "ad=a,ad=b"] {
            assert!(text.parse::<Mapping>().is_err(), "{text}");
        }
    }
}
