//! The books as tables: the same numbers whoever is asked, by SQL on the command line, over PostgreSQL's protocol and as views of
//! DuckDB, and an answer or a reason to every question.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use clicks::time::Day;
use promises::binary::twofold;
use promises::services::{Process, Redis, duckdb, free_port, psql};
use rust_decimal::Decimal;
use serde_json::Value;

use crate::finance::Office;
use crate::nightly::first_day;

/// An office whose tables are served.
pub(crate) struct Bureau {
    pub(crate) office: Office,
    pub(crate) server: Process,
    http: u16,
    pub(crate) port: u16,
    _redis: Redis,
}

impl Bureau {
    /// `more`: settings of the section `[sql]`.
    pub(crate) async fn open(access: &str, more: &str) -> Self {
        Self::open_on(first_day(), access, more).await
    }

    async fn open_on(first: Day, access: &str, more: &str) -> Self {
        let office = Office::open_on(first).await;
        let (redis, http, port) = (Redis::start().await.unwrap(), free_port().unwrap(), free_port().unwrap());
        let settings = format!(
            "{}[redis]\nurl = \"{}\"\n[serving]\nlisten = \"127.0.0.1:{http}\"\nadmin = \"127.0.0.1:0\"\naccess = \"{access}\"\n[sql]\n{more}\n",
            std::fs::read_to_string(&office.settings).unwrap(),
            redis.url()
        );
        std::fs::write(&office.settings, settings).unwrap();
        let mut command = twofold();
        command.arg("--config").arg(&office.settings).args(["serve", "--pgwire", &format!("127.0.0.1:{port}")]);
        let mut server = Process::spawn("serve", command).unwrap();
        server.wait_for_port(port, Duration::from_secs(30)).await.unwrap();
        server.wait_for_port(http, Duration::from_secs(30)).await.unwrap();
        Bureau { office, server, http, port, _redis: redis }
    }

    pub(crate) async fn key(&self, arguments: &[&str]) -> String {
        let make = ["key", "create", "--name", "x", "--expires", "1h", "--actor", "ann"];
        self.office.done(&[&make[..], arguments].concat()).await.trim().to_owned()
    }

    pub(crate) async fn psql(&self, sql: &str) -> Result<Vec<String>, String> {
        let printed = psql(self.port, "ann", "", sql).await.map_err(|error| format!("{error:#}"))?;
        Ok(printed.lines().skip(1).map(str::to_owned).collect())
    }
}

/// Clicks of an ad in a period, by the instant at which it begins (milliseconds).
type Numbers = BTreeMap<(i64, String), i64>;

fn numbers(rows: Vec<Vec<String>>) -> Numbers {
    let rows = rows.into_iter().map(|row| ((row[0].parse().unwrap(), row[1].clone()), row[2].parse().unwrap()));
    rows.filter(|(_, clicks)| *clicks != 0).collect()
}

/// A day of adjustments is reopened and counted again; then every way to ask is asked the same, in each zone by each grain.
async fn ways_agree(bureau: &Bureau, first: Day, questions: &[(&str, &str)]) {
    let office = &bureau.office;
    let day = first.to_string();
    office.done(&["period", "reopen", "--date", &day, "--reason", "a partner was wrong", "--actor", "ann"]).await;
    office.done(&["batch", "run", "--date", &day]).await;
    let views = office.path("views.sql");
    std::fs::write(&views, office.done(&["sql", "--duckdb-views"]).await).unwrap();
    let views = std::fs::read_to_string(&views).unwrap();
    for (zone, grain) in questions {
        // Where clocks are behind UTC the last day ends in one that is open.
        let to = first.plus(if *zone == "America/New_York" { 5 } else { 6 });
        let exported = office.path("exported.csv");
        let period = format!("{day}..{to}");
        office.done(&["export", "--period", &period, "--tz", zone, "--grain", grain, "--output", &exported]).await;
        let sql = format!(
            "SELECT epoch_ms(period_start::TIMESTAMPTZ), ad_id, sum(total)::BIGINT FROM read_csv('{exported}', types = {{'period_start': 'VARCHAR'}}) \
             WHERE line = 'line' GROUP BY ALL"
        );
        let of_export = numbers(duckdb(&sql).await.unwrap());
        assert!(of_export.len() >= 50, "{zone} {grain}: {} lines", of_export.len());

        let local = format!("period_start AT TIME ZONE '{zone}'");
        let within = format!("{local} >= TIMESTAMP '{day}' AND {local} < TIMESTAMP '{to}'");
        let of_views = format!(
            "{views}\nSELECT epoch_ms((date_trunc('{grain}', {local})) AT TIME ZONE '{zone}'), ad_id, sum(total)::BIGINT \
             FROM clicks_minute WHERE {within} GROUP BY ALL"
        );
        assert_eq!(numbers(duckdb(&of_views).await.unwrap()), of_export, "DuckDB, {zone} {grain}");

        // The engine's times of a zone are instants, and so are the bounds.
        let question = format!(
            "SELECT CAST(to_unixtime(date_trunc('{grain}', {local})) AS BIGINT) * 1000 AS start, ad_id, sum(total) AS total \
             FROM clicks_minute WHERE {local} >= CAST('{day}' AS TIMESTAMP) AT TIME ZONE '{zone}' \
             AND {local} < CAST('{to}' AS TIMESTAMP) AT TIME ZONE '{zone}' GROUP BY 1, 2"
        );
        let csv = |text: &str| -> Vec<Vec<String>> {
            let mut reader = csv::Reader::from_reader(text.as_bytes());
            reader.records().map(|row| row.unwrap().iter().map(str::to_owned).collect()).collect()
        };
        let of_sql = office.done(&["sql", "--csv", &question]).await;
        assert_eq!(numbers(csv(&of_sql)), of_export, "sql, {zone} {grain}: {question}");
        let of_pgwire = psql(bureau.port, "ann", "", &question).await.unwrap();
        assert_eq!(numbers(csv(&of_pgwire)), of_export, "psql, {zone} {grain}");

        let mut of_api = Numbers::new();
        for ads in ["ad-0,ad-1,ad-2,ad-3,ad-4", "ad-5,ad-6,ad-7,ad-8,ad-9"] {
            let url = format!(
                "http://127.0.0.1:{}/v1/clicks?ad_id={ads}&group_by=ad&granularity={grain}&tz={zone}&from={day}&to={to}",
                bureau.http
            );
            let answer: Value = serde_json::from_str(&reqwest::get(url).await.unwrap().text().await.unwrap()).unwrap();
            for row in answer["data"].as_array().unwrap_or_else(|| panic!("{answer}")) {
                let start = clicks::time::Timestamp::parse_rfc3339(row["period_start"].as_str().unwrap()).unwrap();
                let ad = row["ad_id"].as_str().unwrap().to_owned();
                of_api.insert((start.as_millis(), ad), row["total"].as_i64().unwrap());
            }
        }
        of_api.retain(|_, clicks| *clicks != 0);
        assert_eq!(of_api, of_export, "API, {zone} {grain}");
    }
}

#[tokio::test]
async fn whoever_is_asked_the_numbers_are_the_same() {
    let bureau = Bureau::open("auto", "").await;
    let office = &bureau.office;
    let questions = [
        ("UTC", "day"),
        ("Europe/Berlin", "hour"),
        ("Asia/Kathmandu", "day"),
        ("Asia/Kathmandu", "hour"),
        ("America/New_York", "day"),
    ];
    ways_agree(&bureau, first_day(), &questions).await;
    // What is looked for by a column that no file holds.
    let adjusted = office.json(&["adjustments", "list", "--period", "2026-02-01..2026-03-07"]).await;
    let adjusted: u64 = adjusted.as_array().unwrap().iter().map(|row| row["clicks"].as_u64().unwrap()).sum();
    for table in ["clicks_minute", "clicks_hour", "clicks_day"] {
        let found = format!("SELECT sum(adjustment) FROM {table} WHERE adjustment > 0");
        assert_eq!(bureau.psql(&found).await.unwrap(), [adjusted.to_string()], "{table}");
        let all = format!(
            "SELECT sum(clicks), (SELECT sum(clicks) FROM {table} WHERE adjustment = 0) + (SELECT sum(clicks) FROM {table} WHERE adjustment <> 0) FROM {table}"
        );
        let row = bureau.psql(&all).await.unwrap().remove(0);
        let (all, parts) = row.split_once(',').unwrap();
        assert_eq!(all, parts, "{table}");
    }
    // A question within another one is the same question by the other protocol, too.
    let within = "SELECT a.ad_id, (SELECT sum(c.total) FROM clicks_day AS c WHERE c.ad_id = a.ad_id) AS billed FROM ads AS a \
                  WHERE a.valid_from = DATE '2026-03-01' ORDER BY 1";
    let of_sql = office.done(&["sql", "--csv", within]).await;
    let of_sql: Vec<&str> = of_sql.lines().skip(1).collect();
    assert!(of_sql.len() > 5 && of_sql.iter().all(|line| !line.ends_with(',')), "{of_sql:?}");
    assert_eq!(bureau.psql(within).await.unwrap(), of_sql);
    // What has changed since an earlier state, and the raw clicks of a number.
    let total = async |as_of: &str| {
        let sql = "SELECT sum(total) AS t FROM clicks_day WHERE day = DATE '2026-03-01'";
        office.json(&["sql", "--as-of", as_of, sql]).await["rows"][0]["t"].as_i64().unwrap()
    };
    let diff = office.json(&["diff", "--period", "2026-03-01", "--from", "2"]).await;
    let ads = diff["changes"].as_array().unwrap().iter().flat_map(|change| change["ads"].as_array().unwrap());
    let changed: i64 = ads.map(|ad| ad["change"].as_i64().unwrap()).sum();
    assert!(changed > 0);
    assert_eq!(total("2").await + changed, total("now").await);
    for ad in ["ad-1", "ad-9"] {
        let told = office.json(&["explain", "--ad", ad, "--period", "2026-03-01..2026-03-07"]).await;
        let sql = format!(
            "SELECT sum(total), (SELECT count(*) FROM raw_clicks WHERE ad_id = '{ad}' AND kind = 'click') FROM clicks_day WHERE ad_id = '{ad}' AND day >= DATE '2026-03-01'"
        );
        let row = bureau.psql(&sql).await.unwrap().remove(0);
        let (billed, raw) = row.split_once(',').unwrap();
        assert_eq!(told["published"]["total"].to_string(), billed, "{told}");
        // Those of the days before and behind are among the raw clicks, too.
        let all: u64 = told["clicks"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
        assert!(raw.parse::<u64>().unwrap() >= all, "{raw} {told}");
    }
    // An amount, exact, as the export has it.
    let amount = "SELECT sum(total * price) AS amount FROM clicks_day JOIN ads ON clicks_day.ad_id = ads.ad_id AND day >= valid_from \
                  AND (valid_to IS NULL OR day < valid_to) WHERE currency = 'EUR' AND day >= DATE '2026-03-01'";
    let of_sql: Decimal = bureau.psql(amount).await.unwrap()[0].parse().unwrap();
    let told = office
        .json(&[
            "export",
            "--period",
            "2026-03-01..2026-03-07",
            "--grain",
            "period",
            "--output",
            &office.path("amounts.csv"),
        ])
        .await;
    let euros = told["totals"].as_array().unwrap().iter().find(|total| total["currency"] == "EUR").unwrap();
    assert_eq!(euros["amount"].as_str().unwrap().parse::<Decimal>().unwrap().normalize(), of_sql.normalize(), "{told}");
}

/// The clocks of Europe go forward on the fourth day, which has 23 hours.
#[tokio::test]
async fn they_are_the_same_when_the_clocks_change() {
    let first: Day = "2026-03-26".parse().unwrap();
    let bureau = Bureau::open_on(first, "auto", "").await;
    let questions =
        [("Europe/Berlin", "day"), ("Europe/Berlin", "hour"), ("Asia/Kathmandu", "hour"), ("America/New_York", "day")];
    ways_agree(&bureau, first, &questions).await;
}

/// Every table, cell by cell, while a day is reopened and after it was counted again.
#[tokio::test]
async fn the_views_of_duckdb_are_the_same_tables() {
    let office = Office::open().await;
    let decide = async |verb: &str, day: &str| {
        office.done(&["period", verb, "--date", day, "--reason", "a partner asks", "--actor", "ann"]).await;
    };
    decide("hold", "2026-03-05").await;
    decide("reopen", "2026-03-01").await;
    let mut seen = BTreeSet::new();
    for state in ["reopened", "counted again"] {
        let views = office.done(&["sql", "--duckdb-views"]).await;
        for (table, columns) in [
            ("clicks_minute", "*"),
            ("clicks_hour", "*"),
            ("clicks_day", "*"),
            ("adjustments", "day, period_start, ad_id, class, clicks"),
            ("periods", "*"),
            ("quality", "*"),
            (
                "raw_clicks",
                "append_day, region, topic_id, partition, \"offset\", kind, event_time, append_time, received_time, broker_time, click_id, \
                 ad_id, user_id, user_agent, object",
            ),
            ("ads", "*"),
        ] {
            let mine = office.path(&format!("{table}.csv"));
            // Of one minute of an ad several nights may have found clicks: the view has them together.
            let question = match table {
                "adjustments" => {
                    "SELECT day, period_start, ad_id, class, sum(clicks) AS clicks FROM adjustments GROUP BY 1, 2, 3, 4"
                        .to_owned()
                }
                _ => format!("SELECT {columns} FROM {table}"),
            };
            std::fs::write(&mine, office.done(&["sql", "--csv", &question]).await).unwrap();
            // As text: whatever is read of the file is compared with what the view has for it.
            let sql = format!(
                "{views}\nCREATE TEMP TABLE theirs AS SELECT {columns} FROM {table};\n\
                 CREATE TEMP TABLE mine AS FROM theirs LIMIT 0;\n\
                 INSERT INTO mine FROM read_csv('{mine}', header = true, all_varchar = true, nullstr = '');\n\
                 SELECT (SELECT count(*) FROM mine), (SELECT count(*) FROM (FROM mine EXCEPT ALL FROM theirs)), \
                 (SELECT count(*) FROM (FROM theirs EXCEPT ALL FROM mine))"
            );
            let row = duckdb(&sql).await.unwrap_or_else(|error| panic!("{table}: {error:#}")).remove(0);
            assert_eq!(row[1..], ["0", "0"], "{table}, {state}: {row:?}");
            assert!(row[0] != "0", "{table} is empty");
        }
        let states = office.json(&["sql", "SELECT day, state, held FROM periods ORDER BY day"]).await;
        seen.extend(states["rows"].as_array().unwrap().iter().map(|row| row["state"].as_str().unwrap().to_owned()));
        assert!(states["rows"].as_array().unwrap().iter().any(|row| row["held"] == true), "{states}");
        if state == "reopened" {
            office.done(&["batch", "run", "--date", "2026-03-01"]).await;
        }
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), ["adjusted", "closed", "final", "reopened"]);
    // Records in are records accounted for, of every entry.
    let sql =
        "SELECT count(*) AS n FROM quality WHERE records <> counted + duplicates + rejected + control + other_days";
    assert_eq!(office.json(&["sql", sql]).await["rows"][0]["n"], 0);
}

#[tokio::test]
async fn a_question_is_answered_within_its_limits_or_refused_with_a_reason() {
    let office = Office::open().await;
    let heavy = "SELECT count(*) FROM clicks_minute a, clicks_minute b, clicks_minute c WHERE a.clicks + b.clicks + c.clicks > 100";
    for (arguments, code, part) in [
        (&["DROP TABLE clicks_day"][..], 2, "`DROP TABLE clicks_day` is refused: these tables are for reading"),
        (&["COPY clicks_day TO '/tmp/x.csv'"], 2, "is refused"),
        (&["SELECT 1; DROP TABLE ads"], 2, "there are 2 statements: give one at a time"),
        (&["SELEC 1"], 2, "this is no SQL that is understood here"),
        (&[" "], 2, "there is no statement: give one"),
        (&["SELECT * FROM clicks_dya"], 2, "there are clicks_minute, clicks_hour, clicks_day"),
        (&["SELECT clikcs FROM clicks_day"], 2, "Did you mean 'clicks_day.clicks'?"),
        (&["SELECT * FROM '/etc/passwd'"], 2, "not found"),
        (&["SELECT to_char(day, 'YYYY-MM') FROM clicks_day"], 2, "write %Y-%m-%d %H:%M:%S for"),
        (&["--max-rows", "10", "SELECT * FROM clicks_hour"], 1, "more than 10 rows"),
        (&["SELECT * FROM clicks_minute"], 1, "more than 1000 rows: ask for fewer, take --csv"),
        (&["--csv", "--max-rows", "5000", "SELECT * FROM clicks_minute"], 1, "what was written is not all"),
        (&["--timeout", "1s", heavy], 1, "the answer did not come within 1s"),
        (&["--as-of", "99", "SELECT 1"], 2, "has no entry 99"),
        (
            &["--json", "SELECT a.day, b.day FROM clicks_day a JOIN clicks_day b USING (ad_id)"],
            2,
            "two columns are called `day`",
        ),
        (&["--file", "/no/such.sql"], 1, "`/no/such.sql` cannot be read"),
    ] {
        let (found, stdout, stderr) = office.run(&[&["sql"], arguments].concat()).await;
        assert!(found == Some(code) && stderr.contains(part), "{arguments:?}: {found:?} {stderr}");
        assert!(stdout.is_empty() || arguments.contains(&"--csv"), "{arguments:?}: {stdout}");
    }
    // A sort of more than it may hold goes through temporary files, or says that it cannot.
    let settings = std::fs::read_to_string(&office.settings).unwrap();
    std::fs::write(&office.settings, settings.clone() + "[sql]\nmemory_bytes = 100000\n").unwrap();
    let (code, _, stderr) =
        office.run(&["sql", "SELECT count(*) FROM (SELECT DISTINCT period_start, ad_id FROM clicks_minute)"]).await;
    assert!(code == Some(1) && stderr.contains("takes more memory than it may"), "{code:?} {stderr}");
    std::fs::write(&office.settings, settings).unwrap();

    let text =
        office.done(&["sql", "SELECT day, sum(total) AS billed FROM clicks_day GROUP BY day ORDER BY day"]).await;
    assert!(text.lines().nth(1).is_some_and(|line| line.contains("| day") && line.contains("| billed |")), "{text}");
    let sql = office.path("question.sql");
    std::fs::write(&sql, "-- by state\nSELECT state, count(*) AS days FROM periods GROUP BY state ORDER BY state;\n")
        .unwrap();
    let told = office.json(&["sql", "--file", &sql]).await;
    assert_eq!(told["rows"][0], serde_json::json!({"state": "adjusted", "days": 2}), "{told}");
    assert!(office.done(&["sql", "--tables"]).await.lines().count() == 8);
    let (code, _, stderr) = office.run(&["sql", "--csv", "SELECT 1 AS one"]).await;
    assert!(code == Some(0) && stderr.contains("1 row; ledger position"), "{stderr}");
}
