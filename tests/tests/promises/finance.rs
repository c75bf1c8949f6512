//! What the people who bill get: exports, corrections and the close of a month, by the binary alone, over nights with late
//! clicks, adjustments and a day that was reopened; read by DuckDB, pandas and openpyxl.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clicks::time::Day;
use platform::objects::Objects;
use promises::binary::twofold;
use promises::services::{duckdb, new_folder, sheet};
use rust_decimal::Decimal;
use serde_json::Value;

use crate::nightly::{ASTRAY, GHOST, GHOSTS, NIGHTS, archive, begin, day, first_day, generate, settle};

/// `ad-9` is not in the table, `ad-8` has no price, and others cost something else from a day on, in another currency.
const ADS: &str = "\
ad_id,tenant,campaign,name,price,currency,valid_from
ad-0,acme,spring,Red shoes,0.25,EUR,2026-03-01
ad-0,acme,spring,\"Red shoes, reduced\",0.2,EUR,2026-03-03
ad-1,acme,spring,\"Hats \"\"for\"\" all\",0.000001,EUR,2026-03-01
ad-2,acme,summer,Socks,3,EUR,2026-03-02
ad-3,globex,spring,Rockets,1000000,USD,2026-03-01
ad-4,globex,spring,Räder,0.5,USD,2026-03-01
ad-4,globex,spring,Räder,0.5,EUR,2026-03-04
ad-5,globex,summer,\"a;b,c\",0.1,EUR,2026-03-01
ad-6,initech,hiring,1e5,0.1,EUR,2026-03-01
ad-7,initech,hiring,007,0.1,EUR,2026-03-01
ad-8,initech,hiring,Free,,,2026-03-01
";

pub(crate) struct Office {
    pub(crate) folder: PathBuf,
    pub(crate) settings: PathBuf,
}

impl Office {
    /// Six nights are published, and the first day, which has adjustments, is counted again by a person's leave.
    pub(crate) async fn open() -> Self {
        Self::open_on(first_day()).await
    }

    /// The books begin on that day.
    pub(crate) async fn open_on(first_day: Day) -> Self {
        let folder = new_folder("finance").unwrap();
        let objects = Objects::open_folder(folder.join("store")).unwrap();
        begin(&objects, first_day).await;
        archive(&objects, first_day, &generate(first_day)).await;
        let office = Office { settings: settle(&folder, first_day), folder };
        std::fs::write(office.folder.join("ads.csv"), ADS).unwrap();
        office.done(&["ads", "load", &office.path("ads.csv"), "--actor", "ann"]).await;
        office.done(&["batch", "run", "--catch-up"]).await;
        office
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = tokio::process::Command::from(twofold());
        command.arg("--config").arg(&self.settings).args(arguments).kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(120), command.output()).await.unwrap().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (output.status.code(), text(output.stdout), text(output.stderr))
    }

    pub(crate) async fn done(&self, arguments: &[&str]) -> String {
        let (code, stdout, stderr) = self.run(arguments).await;
        assert_eq!(code, Some(0), "{arguments:?}: {stdout}{stderr}");
        stdout
    }

    pub(crate) async fn json(&self, arguments: &[&str]) -> Value {
        let stdout = self.done(&[arguments, &["--json"]].concat()).await;
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {stdout}"))
    }
}

/// What the published minutes say, by DuckDB: the table of the ads is joined by the day of the click.
fn minutes(office: &Office) -> String {
    format!(
        "WITH ads AS (FROM read_csv('{ads}', types = {{'price': 'DECIMAL(18, 6)', 'valid_from': 'DATE'}})), \
         minutes AS (SELECT *, CAST(period_start AS DATE) AS utc_day \
           FROM read_parquet('{store}/tables/current/minute/*/data.parquet')), \
         priced AS (SELECT m.*, a.tenant, a.campaign, a.price, a.currency \
           FROM minutes m ASOF LEFT JOIN ads a ON m.ad_id = a.ad_id AND m.utc_day >= a.valid_from) ",
        ads = office.path("ads.csv"),
        store = office.path("store"),
    )
}

#[tokio::test]
async fn an_export_is_what_the_published_minutes_say_in_every_zone_and_form() {
    let office = Office::open().await;
    let reason = ["--reason", "a partner was wrong", "--actor", "ann"];
    office.done(&[&["period", "reopen", "--date", "2026-03-01"][..], &reason].concat()).await;
    // While it is open, it serves what it had, and is not final.
    let (code, stdout, _) = office.run(&["period", "status", "--month", "2026-03-01"]).await;
    assert!(code == Some(10) && stdout.contains("reopened: `twofold batch run --date 2026-03-01`"), "{stdout}");
    exports_agree(&office, "2026-03-01..2026-03-07", "reopened").await;
    office.done(&["batch", "run", "--date", "2026-03-01"]).await;
    exports_agree(&office, "2026-03-01..2026-03-07", "closed").await;
    forms_agree(&office).await;
}

async fn exports_agree(office: &Office, period: &str, state: &str) {
    for (zone, grain, by) in [
        ("UTC", "day", "ad"),
        ("UTC", "minute", "tenant"),
        ("Europe/Berlin", "day", "campaign"),
        ("Asia/Kathmandu", "hour", "ad"),
        ("America/New_York", "period", "ad"),
        ("Asia/Kathmandu", "day", "tenant"),
    ] {
        // Zones ahead of UTC begin before the first day, which is empty; those behind it would end in a day that is open.
        let period = if zone == "America/New_York" { "2026-03-01..2026-03-06" } else { period };
        let output = office.path(&format!("{grain}-{by}.parquet"));
        let place = ["export", "--period", period, "--tz", zone, "--grain", grain, "--by", by, "--output", &output];
        let told = office.json(&place).await;
        assert_eq!(told["state"], state, "{told}");
        let (from, to) = period.split_once("..").unwrap();
        let local = format!("period_start AT TIME ZONE '{zone}'");
        let start = match grain {
            "period" => format!("TIMESTAMP '{from}'"),
            grain => format!("date_trunc('{grain}', {local})"),
        };
        let who = match by {
            "ad" => "ad_id, tenant, campaign",
            "campaign" => "tenant, campaign",
            _ => "tenant",
        };
        let want = format!(
            "SELECT {start} AS start, {who}, currency, CAST(sum(clicks) AS BIGINT) AS clicks, \
             CAST(sum(adjustment) AS BIGINT) AS adjustment, CAST(sum((clicks + adjustment) * price) AS DECIMAL(38, 6)) AS amount \
             FROM priced WHERE {local} >= '{from}' AND {local} < '{to}' GROUP BY ALL HAVING sum(clicks + adjustment) > 0"
        );
        // An ad has its tenant and campaign also before the first row of its price.
        let want = want.replace("FROM priced", "FROM priced_by");
        let named = "priced_by AS (SELECT p.* REPLACE (coalesce(p.tenant, f.tenant) AS tenant, \
                     coalesce(p.campaign, f.campaign) AS campaign) FROM priced p LEFT JOIN \
                     (SELECT ad_id, any_value(tenant) AS tenant, any_value(campaign) AS campaign FROM ads GROUP BY ad_id) f \
                     USING (ad_id))";
        let found = format!(
            "SELECT period_start AT TIME ZONE '{zone}' AS start, {who}, currency, clicks, adjustment, \
             CAST(amount AS DECIMAL(38, 6)) AS amount FROM '{output}'"
        );
        let sql = format!(
            "{}, {named} SELECT (SELECT count(*) FROM ({found})), (SELECT count(*) FROM (({want}) EXCEPT ({found}))), \
             (SELECT count(*) FROM (({found}) EXCEPT ({want}))), (SELECT sum(total) FROM '{output}')",
            minutes(office)
        );
        let row = duckdb(&sql).await.unwrap().remove(0);
        assert!(row[0].parse::<u32>().unwrap() > 0, "{row:?}");
        assert_eq!(row[1..3], ["0", "0"], "{zone} {grain} {by}: {sql}");
        assert_eq!(told["lines"].to_string(), row[0]);
        let totals: u64 = told["totals"].as_array().unwrap().iter().map(|total| total["total"].as_u64().unwrap()).sum();
        assert_eq!(totals.to_string(), row[3], "{told}");
    }
}

async fn forms_agree(office: &Office) {
    let period = ["export", "--period", "2026-03-01..2026-03-07", "--tz", "Asia/Kathmandu", "--grain", "hour"];
    let mut forms: BTreeMap<&str, Vec<Vec<String>>> = BTreeMap::new();
    let mut hashes = BTreeMap::new();
    for name in ["plain.csv", "excel.csv", "sheet.xlsx", "columns.parquet"] {
        let output = office.path(name);
        let excel: &[&str] = if name == "excel.csv" { &["--excel"] } else { &[] };
        let told = office.json(&[&period[..], &["--output", &output], excel].concat()).await;
        hashes.insert(name, told["sha256"].clone());
        let beside = std::fs::read_to_string(format!("{output}.sha256")).unwrap();
        assert_eq!(beside, format!("{}  {name}\n", told["sha256"].as_str().unwrap()));
        forms.insert(name, sheet(Path::new(&output), "Asia/Kathmandu").await.unwrap());
    }
    let plain = &forms["plain.csv"];
    assert!(plain.len() > 1_000 && plain.iter().any(|line| line[5] != "0"), "{} lines", plain.len());
    assert_eq!(plain, &forms["columns.parquet"]);
    assert_eq!(plain, &forms["sheet.xlsx"]);
    // What Excel would take for a number or a formula stays what it is.
    let harmless = |line: &Vec<String>| {
        let mut line = line.clone();
        if ["1e5", "007"].contains(&&*line[3]) {
            line[3].insert(0, '\'');
        }
        line
    };
    assert_eq!(plain.iter().map(harmless).collect::<Vec<_>>(), forms["excel.csv"]);
    for name in ["Räder", "Hats \"for\" all", "a;b,c", "Red shoes, reduced", "1e5", "007", ""] {
        assert!(plain.iter().any(|line| line[3] == name), "no line of `{name}`");
    }
    // RFC 4180 ends lines with CR and LF; the last lines sum up, by currency.
    let text = std::fs::read_to_string(office.path("plain.csv")).unwrap();
    assert!(text.lines().count() == text.matches("\r\n").count() && !text.starts_with('\u{feff}'));
    assert!(std::fs::read(office.path("excel.csv")).unwrap().starts_with("\u{feff}line,".as_bytes()));
    let sql = format!(
        "WITH lines AS (FROM read_csv('{}', types = {{'amount': 'DECIMAL(38, 6)'}})) \
         SELECT count(DISTINCT currency), bool_and(same) FROM (SELECT currency, \
         sum(total) FILTER (line = 'line') = sum(total) FILTER (line = 'total') AND \
         sum(amount) FILTER (line = 'line') IS NOT DISTINCT FROM sum(amount) FILTER (line = 'total') AS same \
         FROM lines GROUP BY currency)",
        office.path("plain.csv")
    );
    assert_eq!(duckdb(&sql).await.unwrap(), [["2", "true"]]);
    // The same again is the same, byte for byte, and so is what goes to standard output.
    for name in ["plain.csv", "sheet.xlsx", "columns.parquet"] {
        let again = office.json(&[&period[..], &["--output", &office.path(name)]].concat()).await;
        assert_eq!(again["sha256"], hashes[name], "{name}");
    }
    assert_eq!(office.done(&period).await, text);
}

/// As billed on a day, and what has changed since: both add up.
#[tokio::test]
async fn what_was_billed_then_and_what_has_changed_since_add_up() {
    let office = Office::open().await;
    let total = async |period: &str, as_of: &str| {
        let output = office.path("then.csv");
        let export = ["export", "--period", period, "--grain", "period", "--output", &output, "--as-of", as_of];
        let told = office.json(&export).await;
        let mut amounts = BTreeMap::new();
        let mut clicks = 0;
        for total in told["totals"].as_array().unwrap() {
            clicks += total["total"].as_i64().unwrap();
            if let Some(currency) = total["currency"].as_str() {
                amounts.insert(currency.to_owned(), total["amount"].as_str().unwrap().to_owned());
            }
        }
        (clicks, amounts, told["ledger_position"].as_i64().unwrap())
    };
    // Entry 0 begins the ledger, 1 records the topic, 2 is the first night; all nights are published on the seventh day.
    let (then, amounts_then, _) = total("2026-03-01", "2").await;
    let (now, amounts_now, head) = total("2026-03-01", "now").await;
    assert!(then < now && head == i64::from(NIGHTS) + 1, "{then} {now} {head}");
    assert_eq!(total("2026-03-01", "2026-03-07").await, (now, amounts_now.clone(), head));
    let (code, _, stderr) = office.run(&["export", "--period", "2026-03-01", "--as-of", "2026-03-06"]).await;
    assert!(code == Some(10) && stderr.contains("2026-03-01 (live)"), "{stderr}");
    let from = "2";
    let diff = office.json(&["diff", "--period", "2026-03-01", "--from", from]).await;
    let (mut sum, mut causes) = (0, BTreeMap::<String, i64>::new());
    for change in diff["changes"].as_array().unwrap() {
        let of = change["ads"].as_array().unwrap().iter().map(|ad| ad["change"].as_i64().unwrap()).sum::<i64>();
        *causes.entry(change["cause"].as_str().unwrap().to_owned()).or_default() += of;
        sum += of;
    }
    assert_eq!(then + sum, now, "{diff}");
    let of_euros = |field: &str| {
        let ads = diff["changes"].as_array().unwrap().iter().flat_map(|change| change["ads"].as_array().unwrap());
        let of =
            ads.filter(|ad| ad["currency"] == "EUR").map(|ad| ad[field].as_str().unwrap().parse::<Decimal>().unwrap());
        of.sum::<Decimal>()
    };
    let euros = |amounts: &BTreeMap<String, String>| amounts["EUR"].parse::<Decimal>().unwrap();
    assert_eq!(euros(&amounts_then) + of_euros("amount_after") - of_euros("amount_before"), euros(&amounts_now));
    assert!(causes["late_arrival"] > 0 && causes["adjustment"] > 0 && causes.len() == 2, "{causes:?}");
    // The corrections as lines, and as DuckDB adds them up.
    let csv = office.path("corrections.csv");
    std::fs::write(&csv, office.done(&["diff", "--period", "2026-03-01", "--from", from, "--csv"]).await).unwrap();
    let sql = format!("SELECT sum(change), sum(after - before) FROM read_csv('{csv}')");
    assert_eq!(duckdb(&sql).await.unwrap(), [[sum.to_string(), sum.to_string()]]);
    let adjusted = office.json(&["adjustments", "list", "--period", "2026-03-01"]).await;
    let adjusted: i64 = adjusted.as_array().unwrap().iter().map(|row| row["clicks"].as_i64().unwrap()).sum();
    assert_eq!(adjusted, causes["adjustment"]);
    let exported = office.done(&["adjustments", "export", "--period", "2026-03-01"]).await;
    std::fs::write(&csv, exported).unwrap();
    let sql = format!("SELECT sum(adjustment) FROM read_csv('{csv}')");
    assert_eq!(duckdb(&sql).await.unwrap(), [[adjusted.to_string()]]);
    // What was billed then has the prices of then.
    std::fs::write(office.path("ads.csv"), ADS.replace(",0.25,EUR", ",0.75,EUR")).unwrap();
    office.done(&["ads", "load", &office.path("ads.csv"), "--actor", "ann"]).await;
    assert_eq!(total("2026-03-01", "2").await.1, amounts_then);
    assert_ne!(total("2026-03-01", "now").await.1, amounts_now);
    let text = office.done(&["diff", "--period", "2026-03-01", "--from", "2"]).await;
    assert!(text.contains("late_arrival  +") && text.contains("(entry ") && text.contains(" -> "), "{text}");
}

/// Days that are open are not exported by mistake, and a month says what it waits for.
#[tokio::test]
async fn what_is_not_closed_is_not_exported() {
    let office = Office::open().await;
    let open: Day = day(NIGHTS).next();
    let output = office.path("march.csv");
    let (code, stdout, stderr) = office.run(&["export", "--period", "2026-03", "--output", &output]).await;
    assert!(code == Some(10) && stdout.is_empty() && stderr.contains(&format!("{open} (live)")), "{stdout}{stderr}");
    let (code, stdout, _) = office.run(&["export", "--period", "2026-03"]).await;
    assert_eq!(
        (code, stdout.as_str()),
        (Some(10), ""),
        "not even a head, which would look like a month without a click"
    );
    // A zone whose last day ends in a day of UTC that is open.
    let last = day(NIGHTS).to_string();
    let (code, _, stderr) = office.run(&["export", "--period", &last, "--tz", "America/New_York"]).await;
    assert!(code == Some(10) && stderr.contains(&format!("{open} (live)")), "{stderr}");
    let (code, _, stderr) = office.run(&["export", "--period", &last, "--final-only", "--output", &output]).await;
    assert!(code == Some(10) && stderr.contains("no period of 2026-03-06 is final yet"), "{stderr}");
    let left: Vec<_> = std::fs::read_dir(&office.folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("march")), "{left:?}");

    let told = office.json(&["export", "--period", "2026-03", "--final-only", "--output", &output]).await;
    assert_eq!(told["left_out"].as_array().unwrap().len(), 28, "{told}");
    // The file says it, too, and it is no line of it for whoever compares.
    let text = std::fs::read_to_string(&output).unwrap();
    let left: Vec<&str> = text.lines().filter(|line| line.starts_with("left_out,")).collect();
    assert_eq!(left.len(), 28, "{text}");
    assert_eq!(left[3], "left_out,2026-03-07T00:00:00.000Z,2026-03-08T00:00:00.000Z,,,,,,,,,,,live,,UTC");
    let compared = office.json(&["reconcile", "--file", &output, "--period", "2026-03-01..2026-03-04"]).await;
    assert_eq!(compared["buckets"].as_object().unwrap().keys().collect::<Vec<_>>(), ["matched"], "{compared}");
    // A pipe stays one.
    let (code, _, stderr) = office.run(&["export", "--period", "2026-03-01", "--output", "/dev/null"]).await;
    assert!(code == Some(1) && stderr.contains("/dev/null cannot be written"), "{stderr}");
    let (code, stdout, _) =
        office.run(&["period", "status", "--month", "2026-03", "--tz", "Europe/Berlin", "--json"]).await;
    let month: Value = serde_json::from_str(&stdout).unwrap();
    assert_eq!((code, &month["is_final"]), (Some(10), &Value::Bool(false)));
    // March of Berlin begins in the last hour of February of UTC.
    let days = month["days"].as_array().unwrap();
    assert_eq!((days.len(), &days[0]["day"], &days[0]["state"]), (32, &"2026-02-28".into(), &"adjusted".into()));
    let blockers = |kind: &str| days.iter().filter(|day| day["blocker"]["kind"] == kind).count();
    assert_eq!((blockers("not_closed"), blockers("checked")), (25, 3), "{month}");
    let (code, stdout, _) = office.run(&["period", "status", "--month", "2026-03-01..2026-03-04"]).await;
    assert!(code == Some(0) && stdout.contains("is final: all 3 days are"), "{stdout}");

    // What is asked for wrongly.
    for (arguments, code, part) in [
        (&["export", "--period", "2026-13"][..], 2, "is no period"),
        (&["export", "--period", "2026-03-01", "--as-of", "99"], 2, "has no entry 99"),
        (&["export", "--period", "2026-03-01", "--as-of", "soon"], 2, "is no state of the books"),
        (&["export", "--period", "2026-03-01", "--ads-version", "7"], 2, "has no version 7"),
        (&["export", "--period", "2026-03-01", "--format", "xlsx"], 2, "give --output FILE"),
        (&["export", "--period", "2026-03-01", "--output", "x.txt"], 2, "`.txt`"),
        (&["export", "--period", "2026-03-01", "--output", "x.xlsx", "--excel"], 2, "--excel"),
        (&["export", "--period", "2026-03-01", "--tz", "Berlin"], 2, "nearest: Europe/Berlin"),
        (&["diff", "--period", "2026-03-01", "--from", "4", "--to", "2"], 2, "the other way round"),
        (&["export", "--period", "2026-03-01", "--output", "/nowhere/x.csv"], 1, "/nowhere/x.csv cannot be written"),
    ] {
        let (found, _, stderr) = office.run(arguments).await;
        assert!(found == Some(code) && stderr.contains(part), "{arguments:?}: {found:?} {stderr}");
    }
}

/// A limit of the system stands for a disk without room.
#[tokio::test]
async fn a_full_disk_is_told_with_the_name_of_the_file_and_leaves_nothing() {
    let office = Office::open().await;
    let invoice = office.path("ours.csv");
    office.done(&["export", "--period", "2026-03-01..2026-03-06", "--output", &invoice]).await;
    let before = std::fs::read_dir(&office.folder).unwrap().count();
    let (export, reconcile) = (["export", "--grain", "minute"], ["reconcile", "--file", &invoice]);
    for (arguments, option, name) in [
        (export, "--output", "full.csv"),
        (export, "--output", "full.xlsx"),
        (export, "--output", "full.parquet"),
        (reconcile, "--report", "full.csv"),
        (reconcile, "--report", "full.xlsx"),
        (reconcile, "--report", "full.html"),
    ] {
        let path = office.path(name);
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\""]).arg(twofold().get_program());
        command.arg("--config").arg(&office.settings).args(arguments);
        command.args(["--period", "2026-03-01..2026-03-06", option, &path]).kill_on_drop(true);
        let output = tokio::time::timeout(Duration::from_secs(60), command.output()).await.unwrap().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        // A workbook is gathered in temporary files first.
        let named =
            if name.ends_with("xlsx") { "cannot be written as XLSX" } else { &format!("{path} cannot be written") };
        assert!(output.status.code() == Some(1) && stderr.contains("File too large"), "{arguments:?}: {stderr}");
        assert!(stderr.contains(named) && !stderr.contains("panicked"), "{arguments:?}: {stderr}");
        assert_eq!(std::fs::read_dir(&office.folder).unwrap().count(), before, "{arguments:?} left something");
    }
}

/// Our own export matches in every form; an invoice with mistakes in it is taken apart.
#[tokio::test]
async fn an_invoice_is_reconciled_line_by_line() {
    let office = Office::open().await;
    let period = ["--period", "2026-03-01..2026-03-06", "--tz", "Asia/Kathmandu"];
    for name in ["ours.csv", "ours.xlsx", "ours.parquet"] {
        office.done(&[&["export", "--output", &office.path(name)], &period[..]].concat()).await;
        for by in ["ad,day", "ad", "campaign,day", "advertiser", "day"] {
            let told =
                office.json(&[&["reconcile", "--file", &office.path(name), "--by", by], &period[..]].concat()).await;
            let buckets = told["buckets"].as_object().unwrap();
            // What belongs to nobody is on neither side's list of campaigns and advertisers; an export says so with empty cells.
            assert_eq!(buckets.keys().collect::<Vec<_>>(), ["matched"], "{name} by {by}: {told}");
        }
    }

    // A partner's file: another delimiter, other names, days as people write them, by the clocks of UTC.
    office.done(&["export", "--period", "2026-03-01..2026-03-04", "--output", &office.path("utc.csv")]).await;
    let sql = format!(
        "SELECT ad_id, strftime(CAST(period_start AS DATE), '%d.%m.%Y'), total FROM read_csv('{}') WHERE line = 'line' ORDER BY ALL",
        office.path("utc.csv")
    );
    let mut lines: Vec<String> = duckdb(&sql).await.unwrap().into_iter().map(|row| row.join(";")).collect();
    let repeated = lines[0].clone();
    lines.push(repeated.clone());
    lines.retain(|line| !line.contains("02.03.2026") && !line.starts_with("ad-3;"));
    lines.push("ad-77;01.03.2026;5".to_owned());
    let invoice = office.path("invoice.csv");
    std::fs::write(&invoice, format!("\u{feff}Creative;Date;Billed Clicks\r\n{}\r\n", lines.join("\r\n"))).unwrap();
    let compare = ["reconcile", "--file", &invoice, "--period", "2026-03-01..2026-03-04"];
    let (code, stdout, stderr) = office.run(&[&compare[..], &["--json"]].concat()).await;
    assert_eq!(code, Some(14), "{stdout}{stderr}");
    let told: Value = serde_json::from_str(&stdout).unwrap();
    let causes: BTreeMap<&str, u64> =
        told["causes"].as_object().unwrap().iter().map(|(cause, lines)| (&**cause, lines.as_u64().unwrap())).collect();
    let want = [("missing_day", 10), ("repeated_line", 1), ("unexplained", 2), ("unknown_name", 1)];
    assert_eq!(causes, BTreeMap::from(want), "{stdout}");
    assert_eq!(told["buckets"]["only_ours"]["at_stake"][1]["currency"], "USD", "{stdout}");
    let (_, text, _) = office.run(&compare).await;
    assert!(
        text.contains("a line is there again, word for word") && text.contains("the file has no line of that day"),
        "{text}"
    );

    // The reports: every line, for a spreadsheet and for a browser.
    for name in ["report.csv", "report.xlsx", "report.html"] {
        let (code, ..) = office.run(&[&compare[..], &["--report", &office.path(name)]].concat()).await;
        assert_eq!(code, Some(14));
    }
    let sql = format!(
        "SELECT count(*), count(*) FILTER (bucket = 'matched'), count(*) FILTER (cause = 'missing_day'), sum(difference) \
         FROM read_csv('{}')",
        office.path("report.csv")
    );
    let sums = |field: &str| {
        told["buckets"].as_object().unwrap().values().map(|bucket| bucket[field].as_i64().unwrap()).sum::<i64>()
    };
    let matched = told["buckets"]["matched"]["lines"].to_string();
    let difference = (sums("theirs") - sums("ours")).to_string();
    assert_eq!(duckdb(&sql).await.unwrap(), [[sums("lines").to_string(), matched, "10".to_owned(), difference]]);
    let page = std::fs::read_to_string(office.path("report.html")).unwrap();
    assert!(page.contains("<h1>14 breaks</h1>") && page.contains("repeated line"), "{page}");
    assert!(!page.contains("http") && !page.contains("<script"), "the page needs nothing else");

    std::fs::write(office.path("bad.csv"), "ad,day,klicks\na,2026-03-01,1\n").unwrap();
    std::fs::write(office.path("half.csv"), "ad,day,clicks\na,2026-03-01,1\nb,2026-03-01,0.5\n").unwrap();
    let (bad, half) = (office.path("bad.csv"), office.path("half.csv"));
    for (arguments, code, part) in [
        (&["--file", "/nowhere.csv", "--period", "2026-03-01"][..], 2, "/nowhere.csv cannot be read"),
        (&["--file", &bad, "--period", "2026-03-01"], 2, "`--map clicks=klicks`"),
        (&["--file", &half, "--period", "2026-03-01"], 2, "line 3, column `clicks`: `0.5` is no whole number"),
        (&["--file", &invoice, "--period", "2026-03-01", "--report", "x.pdf"], 2, "a report is CSV, XLSX or HTML"),
        (&["--file", &invoice, "--period", "2026-03-01", "--advertiser", "acne"], 2, "knows no advertiser `acne`"),
        (&["--file", &invoice, "--period", "2026-03"], 10, "2026-03-07 (live)"),
    ] {
        let (found, _, stderr) = office.run(&[&["reconcile"], arguments].concat()).await;
        assert!(found == Some(code) && stderr.contains(part), "{arguments:?}: {found:?} {stderr}");
    }
}

/// For many ads and hours of the nights: the raw clicks come to the billed number, DuckDB counts the same, and every row is there.
#[tokio::test]
async fn a_billed_number_is_explained_by_its_raw_clicks() {
    let office = Office::open().await;
    let mut sampled = 0;
    for (ad, period, zone) in [
        ("ad-1", "2026-03-01", "UTC"),
        ("ad-2", "2026-03-03", "Asia/Kathmandu"),
        ("ad-3", "2026-02-28", "UTC"),
        ("ad-4", "2026-03-06", "UTC"),
        ("ad-9", "2026-03-02..2026-03-05", "Europe/Berlin"),
        ("ad-5", "2026-03-01..2026-03-05", "UTC"),
    ] {
        let of = ["--ad", ad, "--period", period, "--tz", zone];
        let told = office.json(&[&["explain"], &of[..]].concat()).await;
        let fate = |name: &str| told["clicks"][name].as_u64().unwrap();
        let published = told["published"]["total"].as_u64().unwrap();
        for grain in ["minute", "hour", "day", "period"] {
            let told = office.json(&[&["explain", "--grain", grain], &of[..]].concat()).await;
            let periods = told["periods"].as_array().unwrap();
            assert_eq!(
                periods.iter().map(|period| period["billed"].as_u64().unwrap()).sum::<u64>(),
                published,
                "{told}"
            );
            assert!(grain != "period" || periods.len() == 1, "{told}");
        }
        for object in told["objects"].as_array().unwrap() {
            let [from, to, clicks] = ["from_offset", "to_offset", "clicks"].map(|name| object[name].as_u64().unwrap());
            assert!(clicks > 0 && to - from >= clicks, "{object}");
        }
        assert!(published > 0 && fate("billed") + fate("adjusted") == published, "{told}");
        assert_eq!(duckdb(told["duckdb"].as_str().unwrap()).await.unwrap(), [[published.to_string()]], "{told}");
        // Of two partitions one is read, unless the clicks are not where they belong.
        let [read, all] = ["objects_read", "objects_named"].map(|name| told[name].as_u64().unwrap());
        assert!(if ad == ASTRAY { read == all } else { read < all * 2 / 3 }, "{ad}: {read} of {all}");
        // Each raw click with what became of it; by hour they are what is published of each hour.
        let (rows, hours) = (office.path("rows.csv"), office.path("hours.csv"));
        std::fs::write(&rows, office.done(&[&["explain", "--clicks"], &of[..]].concat()).await).unwrap();
        let export = ["export", "--grain", "hour", "--period", period, "--tz", zone, "--output", &hours];
        office.done(&export).await;
        let sql = format!(
            "WITH mine AS (SELECT date_trunc('hour', event_time::TIMESTAMPTZ AT TIME ZONE '{zone}') AS hour, count(*) AS clicks \
               FROM read_csv('{rows}', types = {{'event_time': 'VARCHAR'}}) WHERE verdict IN ('billed', 'adjusted') GROUP BY ALL), \
             published AS (SELECT period_start::TIMESTAMPTZ AT TIME ZONE '{zone}' AS hour, total AS clicks \
               FROM read_csv('{hours}', types = {{'period_start': 'VARCHAR'}}) WHERE line = 'line' AND ad_id = '{ad}') \
             SELECT (SELECT count(*) FROM mine), (SELECT count(*) FROM (FROM mine EXCEPT FROM published)), \
               (SELECT count(*) FROM (FROM published EXCEPT FROM mine)), (SELECT count(*) FROM read_csv('{rows}'))"
        );
        let row = duckdb(&sql).await.unwrap().remove(0);
        sampled += row[0].parse::<u32>().unwrap();
        assert!(row[0] != "0" && row[1..3] == ["0", "0"], "{ad} {period} {zone}: {row:?}");
        let all: u64 = told["clicks"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
        assert_eq!(row[3], all.to_string());
    }
    assert!(sampled > 200, "{sampled} hours of ads");
    let told = office.json(&["explain", "--ad", "ad-1", "--period", "2026-03-01"]).await;
    let (duplicates, adjusted) =
        (told["clicks"]["duplicate"].as_u64().unwrap(), told["clicks"]["adjusted"].as_u64().unwrap());
    assert!(duplicates > 0 && adjusted > 0, "{told}");
    let text = office.done(&["explain", "--ad", "ad-1", "--period", "2026-03-01"]).await;
    assert!(text.contains("raw objects that hold some of it") && text.contains("duplicate"), "{text}");
    let (code, _, stderr) = office.run(&["explain", "--ad", "ad-1", "--period", "2026-03-07"]).await;
    assert!(code == Some(10) && stderr.contains("2026-03-07 (live)"), "{stderr}");
    // What is rejected changes no number, and is found wherever it lies.
    let ghost = office.json(&["explain", "--ad", GHOST, "--period", &day(NIGHTS).to_string()]).await;
    assert_eq!((&ghost["published"]["total"], &ghost["clicks"]["rejected"]), (&0.into(), &GHOSTS.into()), "{ghost}");
    let all = ["explain", "--ad", "ad-1", "--period", "2026-03-02"];
    let read = async |more: &[&str]| office.json(&[&all[..], more].concat()).await["objects_read"].as_u64().unwrap();
    assert_eq!(read(&["--all-partitions"]).await, read(&[]).await * 2);
    let nobody = office.json(&["explain", "--ad", "nobody", "--period", "2026-03-01"]).await;
    assert_eq!((&nobody["published"]["total"], &nobody["clicks"]["billed"]), (&0.into(), &0.into()));
}
