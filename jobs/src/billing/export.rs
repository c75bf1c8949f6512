//! `twofold export`: what is billed, as a file.

use std::io::{self, BufWriter, Write};

use anyhow::Result;
use clicks::books::Books;
use finance::{Csv, CsvFlavor, ExportError, Parquet, Scope, StatementError, Written, Xlsx, write};
use platform::settings::Settings;
use serde_json::{Value, json};

use super::file::Partial;
use super::{Catalog, Desk, amounts, grouped, refused};
use crate::cli::{ExportArgs, FormName, name_of};
use crate::exit::{Exit, OutputError, print, refuse};

pub async fn run(settings: &Settings, args: ExportArgs, as_json: bool) -> Result<Exit> {
    let format = match format_of(&args) {
        Ok(format) => format,
        Err(message) => return refuse(&message),
    };
    match export(settings, &args, format, as_json).await {
        Ok(exit) => Ok(exit),
        Err(error) => refused(error, Some("--final-only gives what is final already")),
    }
}

/// The form that is asked for, by name or by the ending of the file.
fn format_of(args: &ExportArgs) -> Result<FormName, String> {
    let ending =
        args.output.as_ref().and_then(|path| path.extension()).map(|ending| ending.to_string_lossy().to_lowercase());
    let format = match (args.format, ending.as_deref()) {
        (Some(format), _) => format,
        (None, None | Some("csv")) => FormName::Csv,
        (None, Some("xlsx")) => FormName::Xlsx,
        (None, Some("parquet")) => FormName::Parquet,
        (None, Some(other)) => {
            return Err(format!("`.{other}` says of no form that is written here: give --format csv, xlsx or parquet"));
        }
    };
    if args.output.is_none() && format != FormName::Csv {
        return Err(format!(
            "{} is not written to standard output: give --output FILE",
            name_of(format).to_uppercase()
        ));
    }
    if args.excel && format != FormName::Csv {
        return Err("--excel is about CSV: leave it out".to_owned());
    }
    Ok(format)
}

/// What a statement is of.
struct Subject<'a> {
    args: &'a ExportArgs,
    books: Books,
    catalog: Catalog,
    scope: Scope,
}

async fn export(settings: &Settings, args: &ExportArgs, format: FormName, as_json: bool) -> Result<Exit> {
    let desk = Desk::open(settings)?;
    let books = desk.books(args.known.as_of).await?;
    let catalog = desk.catalog(args.known.priced, args.known.as_of).await?;
    let (range, zone) = (args.of.period.interval(args.of.tz), args.of.tz);
    let scope = Scope { range, zone, step: args.grain.step(), by: args.by.by(), final_only: args.final_only };
    let subject = Subject { args, books, catalog, scope };
    let Some(path) = &args.output else {
        let (written, mut stdout) = subject.write_csv(&desk, BufWriter::new(io::stdout())).await.map_err(to_stdout)?;
        stdout.flush().map_err(OutputError::new)?;
        eprintln!("twofold: {}", subject.summary(&written));
        return Ok(subject.told(&written));
    };
    let partial = Partial::create(path)?;
    let file = partial.writer()?;
    let written = match format {
        FormName::Csv => {
            let (written, mut file) = subject.write_csv(&desk, file).await?;
            file.flush()?;
            written
        }
        FormName::Xlsx => {
            let mut xlsx = Xlsx::new(zone, scope.by)?;
            let written = subject.write(&desk, &mut xlsx).await?;
            xlsx.end(&written, &subject.about(&written), file)?;
            written
        }
        FormName::Parquet => {
            let mut parquet = Parquet::new(file, scope.by)?;
            let written = subject.write(&desk, &mut parquet).await?;
            parquet.end(&subject.about(&written))?.flush()?;
            written
        }
    };
    if written.state.is_none() {
        // A file without a line would look like a month without a click.
        return Ok(subject.told(&written));
    }
    let sha256 = partial.finish_with_hash()?;
    print(&match as_json {
        true => {
            let mut all = subject.json(&written);
            all["file"] = json!(path);
            all["sha256"] = json!(sha256);
            all.to_string()
        }
        false => format!("{}: {}", path.display(), subject.summary(&written)),
    })?;
    Ok(subject.told(&written))
}

fn to_stdout(error: StatementError) -> anyhow::Error {
    match error {
        StatementError::Form(ExportError::Io(error)) => OutputError::new(error).into(),
        error => error.into(),
    }
}

impl Subject<'_> {
    async fn write(&self, desk: &Desk, form: &mut dyn finance::Form) -> Result<Written, StatementError> {
        write(&desk.objects, &self.books, &self.catalog.table, &self.scope, form).await
    }

    async fn write_csv<W: Write>(&self, desk: &Desk, to: W) -> Result<(Written, W), StatementError> {
        let flavor = if self.args.excel { CsvFlavor::Excel } else { CsvFlavor::Plain };
        let mut csv = Csv::new(to, flavor, self.scope.zone, self.scope.by);
        let written = self.write(desk, &mut csv).await?;
        let to = csv.end(self.scope.range, &written)?;
        Ok((written, to))
    }

    /// In words, in one line.
    fn summary(&self, written: &Written) -> String {
        let totals = &written.totals;
        let (lines, all) = (grouped(totals.lines), grouped(totals.clicks() + totals.adjustment()));
        let adjusted = match totals.adjustment() {
            0 => String::new(),
            found => format!(" ({} and {} adjusted)", grouped(totals.clicks()), grouped(found)),
        };
        let amounts = amounts(totals);
        let amounts = if amounts.is_empty() { String::new() } else { format!(", {amounts}") };
        let state = written.state.map_or("none of it is final", |state| state.name());
        format!(
            "{} in {}, {lines} lines by {} and {}: {all} clicks{adjusted}{amounts}; {state}, ledger position {}, ads table version {}",
            self.args.of.period,
            self.scope.zone.name(),
            name_of(self.args.grain),
            name_of(self.args.by),
            self.books.head(),
            self.catalog.version
        )
    }

    /// What the file says of itself.
    fn about(&self, written: &Written) -> Vec<(String, String)> {
        let mut about = vec![
            ("period", self.args.of.period.to_string()),
            ("time_zone", self.scope.zone.name().to_owned()),
            ("from", self.scope.range.start.to_rfc3339()),
            ("to", self.scope.range.end.to_rfc3339()),
            ("grain", name_of(self.args.grain)),
            ("by", name_of(self.args.by)),
            ("state", written.state.map_or("none", |state| state.name()).to_owned()),
            ("final_only", self.scope.final_only.to_string()),
            ("left_out", written.left_out.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
            ("ledger_position", self.books.head().to_string()),
            ("ledger_sha256", self.books.head_hash().to_owned()),
            ("ads_version", self.catalog.version.to_string()),
            ("lines", written.totals.lines.to_string()),
            ("clicks", written.totals.clicks().to_string()),
            ("adjustment", written.totals.adjustment().to_string()),
            ("total", (written.totals.clicks() + written.totals.adjustment()).to_string()),
        ];
        about.push(("amounts", amounts(&written.totals)));
        about.push(("release", env!("CARGO_PKG_VERSION").to_owned()));
        about.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
    }

    fn json(&self, written: &Written) -> Value {
        let totals: Vec<Value> = written
            .totals
            .by_currency
            .iter()
            .map(|(currency, total)| {
                let counts = total.counts;
                let (clicks, adjustment, all) = (counts.clicks, counts.adjustment, counts.total());
                let amount = currency.map(|_| total.amount.to_string());
                json!({"currency": currency, "clicks": clicks, "adjustment": adjustment, "total": all, "amount": amount})
            })
            .collect();
        let days: Vec<Value> =
            written.left_out.iter().map(|open| json!({"day": open.day, "state": open.state})).collect();
        json!({
            "period": self.args.of.period.to_string(),
            "time_zone": self.scope.zone.name(),
            "from": self.scope.range.start.to_rfc3339(),
            "to": self.scope.range.end.to_rfc3339(),
            "grain": name_of(self.args.grain),
            "by": name_of(self.args.by),
            "state": written.state,
            "left_out": days,
            "ledger_position": self.books.head(),
            "ads_version": self.catalog.version,
            "lines": written.totals.lines,
            "totals": totals,
        })
    }

    /// Says what was left out, and how that ends.
    fn told(&self, written: &Written) -> Exit {
        if written.left_out.is_empty() {
            return Exit::Done;
        }
        let days: Vec<String> = written.left_out.iter().map(ToString::to_string).collect();
        eprintln!("twofold: left out with their periods, because they are not final: {}", days.join(", "));
        match written.state {
            Some(_) => Exit::Done,
            None => {
                eprintln!("twofold: no period of {} is final yet, so nothing was written", self.args.of.period);
                Exit::Incomplete
            }
        }
    }
}
