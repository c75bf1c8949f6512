//! The books as tables: the same numbers whoever is asked, by SQL on the command line and over PostgreSQL's protocol, and
//! nothing that a question could write, name or outgrow.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use clicks::ledger::sha256;
use clicks::time::Day;
use promises::binary::twofold;
use promises::services::{Process, Redis, duckdb, free_port, jdbc, new_folder, notebook, psql, python};
use rust_decimal::Decimal;
use serde_json::Value;

use crate::finance::Office;
use crate::nightly::first_day;

/// An office whose tables are served.
struct Bureau {
    office: Office,
    server: Process,
    http: u16,
    port: u16,
    _redis: Redis,
}

impl Bureau {
    /// `more`: settings of the section `[sql]`.
    async fn open(access: &str, more: &str) -> Self {
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

    async fn key(&self, arguments: &[&str]) -> String {
        let make = ["key", "create", "--name", "x", "--expires", "1h", "--actor", "ann"];
        self.office.done(&[&make[..], arguments].concat()).await.trim().to_owned()
    }

    async fn psql(&self, sql: &str) -> Result<Vec<String>, String> {
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

/// psql, notebooks (psycopg, asyncpg, SQLAlchemy, pandas) and a BI tool (JDBC) see the tables, and see them right.
#[tokio::test]
async fn clients_of_postgresql_read_the_tables() {
    let bureau = Bureau::open("keys", "").await;
    let key = bureau.key(&["--all-tenants", "--scope", "sql"]).await;
    let office = &bureau.office;
    let by_day =
        "SELECT day, sum(total) AS billed FROM clicks_day WHERE day >= DATE '2026-03-01' GROUP BY day ORDER BY day";
    let by_day = office.json(&["sql", by_day]).await;
    let by_day: Vec<Value> =
        by_day["rows"].as_array().unwrap().iter().map(|row| serde_json::json!([row["day"], row["billed"]])).collect();
    let count = async |sql: &str| office.json(&["sql", sql]).await["rows"][0]["n"].as_u64().unwrap();
    let hours = count("SELECT count(*) AS n FROM clicks_hour").await;
    let tables =
        ["adjustments", "ads", "clicks_day", "clicks_hour", "clicks_minute", "periods", "quality", "raw_clicks"];

    let told = notebook(bureau.port, &key).await.unwrap();
    for name in ["text", "binary", "asyncpg"] {
        assert_eq!(told[name], Value::from(by_day.clone()), "{name}: {told}");
    }
    let of_pandas: Vec<Value> =
        told["pandas"].as_array().unwrap().iter().filter(|row| row[0] != "2026-02-28").cloned().collect();
    assert!(by_day.iter().all(|row| of_pandas.contains(row)), "{told}");
    for name in ["cursor", "stream", "asyncpg cursor"] {
        assert_eq!(told[name], hours, "{name}: {told}");
    }
    assert_eq!(told["list"], 2, "{told}");
    assert_eq!(told["sqlalchemy"], serde_json::json!(tables), "{told}");
    let amount = "SELECT sum(total * price) AS n FROM clicks_day JOIN ads ON clicks_day.ad_id = ads.ad_id AND day >= valid_from \
                  AND (valid_to IS NULL OR day < valid_to) WHERE currency = 'EUR'";
    assert_eq!(told["amount"], office.json(&["sql", amount]).await["rows"][0]["n"]);

    let told = jdbc(bureau.port, &key).await.unwrap();
    let want = |name: &str, value: &str| assert_eq!(told[name], value, "{name}: {told:?}");
    let mut found: Vec<&str> = told["tables"].split(',').collect();
    found.sort_unstable();
    assert_eq!(found, tables);
    want(
        "columns",
        "day,period_start,period_end,ad_id,class,clicks,adjustment,total,duplicates,late,state,revision,rules_version",
    );
    assert!(told["types"].starts_with("date,timestamptz,timestamptz,text,text,int8,int8,int8"), "{told:?}");
    want("primary keys", "");
    want("indexes", "");
    want("by day", &by_day.iter().map(|row| row[1].to_string()).collect::<Vec<_>>().join(","));
    want("in parts", &hours.to_string());
    want("delete", "25006");

    // What psql and the tools on top of it ask the catalog.
    let ask = async |sql: &str| psql(bureau.port, "ann", &key, sql).await.unwrap();
    for (command, parts) in [
        ("\\d", &["public,clicks_day,view,", "public,ads,table,"][..]),
        ("\\dt", &["public,periods,table,"]),
        ("\\dv", &["public,raw_clicks,view,"]),
        (
            "\\d clicks_day",
            &["day,date,,not null,", "total,bigint,,not null,", "period_start,timestamp with time zone,,not null,"],
        ),
        ("\\l", &["twofold,"]),
        ("\\dn", &["public,"]),
        ("SELECT version()", &["PostgreSQL 16"]),
        ("SELECT current_database(), current_schema()", &["twofold,public"]),
        ("SHOW server_version", &["server_version"]),
        ("SHOW TIME ZONE", &["UTC"]),
        (
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public' ORDER BY table_name",
            &["adjustments\nads\nclicks_day\nclicks_hour\nclicks_minute\nperiods\nquality\nraw_clicks"],
        ),
        (
            "SELECT column_name, data_type FROM information_schema.columns WHERE table_name = 'periods' ORDER BY ordinal_position LIMIT 2",
            &["day,", "state,"],
        ),
        (
            "SELECT n.nspname, c.relname, c.relkind FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE n.nspname = 'public' AND c.relkind IN ('r', 'v') ORDER BY 2",
            &["public,ads,r", "public,clicks_day,v"],
        ),
        (
            "SELECT a.attname, t.typname FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_class c ON c.oid = a.attrelid \
             JOIN pg_catalog.pg_type t ON t.oid = a.atttypid WHERE c.relname = 'ads' AND a.attnum > 0 ORDER BY a.attnum",
            &["ad_id,", "price,numeric", "valid_from,date"],
        ),
        ("SELECT datname FROM pg_database", &["twofold"]),
    ] {
        let printed = ask(command).await;
        assert!(parts.iter().all(|part| printed.contains(part)), "{command}: {printed}");
    }
    // Ten thousand rows at a time, and never all of them.
    let printed = ask("\\set FETCH_COUNT 100\nSELECT ad_id FROM clicks_hour;").await;
    assert_eq!(printed.lines().count() as u64, hours + 1);
}

fn store_of(folder: &Path) -> BTreeMap<String, String> {
    let mut files = BTreeMap::new();
    let mut open = vec![folder.to_owned()];
    while let Some(next) = open.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => open.push(path),
                false => drop(files.insert(path.display().to_string(), sha256(&std::fs::read(&path).unwrap()))),
            }
        }
    }
    files
}

/// What the stock server lets through, and what a client could think of besides: refused, and every file is as it was.
#[tokio::test]
async fn whoever_tries_to_write_is_refused_and_no_file_has_changed() {
    let bureau = Bureau::open("auto", "").await;
    let before = store_of(&bureau.office.folder.join("store"));
    let target = bureau.office.path("stolen.csv");
    for attack in [
        "COPY (SELECT 1) TO 'TARGET'",
        "COPY clicks_day TO 'TARGET' STORED AS PARQUET",
        "COPY (SELECT 1) TO STDOUT",
        "COPY clicks_day FROM '/etc/passwd'",
        "EXPLAIN ANALYZE COPY (SELECT 1) TO 'TARGET'",
        "EXPLAIN COPY (SELECT 1) TO 'TARGET'",
        "EXPLAIN ANALYZE INSERT INTO clicks_day SELECT * FROM clicks_day",
        "PREPARE p AS COPY (SELECT 1) TO 'TARGET'",
        "DROP TABLE clicks_day",
        "DROP VIEW clicks_day",
        "DROP SCHEMA public CASCADE",
        "DELETE FROM ads",
        "UPDATE ads SET price = 0",
        "INSERT INTO ads SELECT * FROM ads",
        "TRUNCATE ads",
        "CREATE TABLE x AS SELECT 1",
        "CREATE VIEW clicks_day AS SELECT 1",
        "CREATE OR REPLACE VIEW clicks_day AS SELECT 1 AS total",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "CREATE FUNCTION f() RETURNS INT RETURN 1",
        "SELECT 1 INTO x",
        "WITH gone AS (DELETE FROM ads RETURNING *) SELECT * FROM gone",
        "DECLARE c CURSOR FOR WITH gone AS (DELETE FROM ads RETURNING *) SELECT * FROM gone",
        "SET datafusion.runtime.memory_limit = '100G'",
        "SET datafusion.execution.target_partitions = 1000",
        "SET datafusion.catalog.default_schema = 'x'",
        "RESET datafusion.runtime.memory_limit",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "SELECT * FROM '/etc/passwd'",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM read_parquet('/etc/passwd')",
        "SELECT pg_read_file('/etc/passwd')",
        "SELECT lo_import('/etc/passwd')",
        "SELECT repeat('x', 2000000000)",
        "CALL x()",
        "DO 'x'",
        "LOAD 'x'",
        "VACUUM",
    ] {
        let attack = attack.replace("TARGET", &target);
        let refused = bureau.psql(&attack).await.unwrap_err();
        assert!(refused.contains("ERROR:"), "{attack}: {refused}");
        // By the other protocol, too, and behind a harmless one.
        let refused = bureau.psql(&format!("SELECT 1; {attack}")).await.unwrap_err();
        assert!(refused.contains("ERROR:"), "{attack}: {refused}");
        let program = format!(
            "import psycopg\nwith psycopg.connect(host='127.0.0.1', port={}, user='x', dbname='twofold', autocommit=True) as c:\n    \
             try:\n        c.execute({attack:?}, prepare=True)\n        print('answered')\n    except psycopg.Error as e:\n        print('refused')",
            bureau.port
        );
        assert_eq!(python(&program, &[]).await.unwrap().trim(), "refused", "{attack}");
    }
    assert!(!Path::new(&target).exists());
    assert_eq!(store_of(&bureau.office.folder.join("store")), before);
    // And for nobody has anything changed.
    let rows = bureau.psql("SELECT count(*) FROM clicks_day").await.unwrap();
    let want = bureau.office.json(&["sql", "SELECT count(*) AS n FROM clicks_day"]).await;
    assert_eq!(rows, [want["rows"][0]["n"].to_string()]);
    // A zone is set for nothing: instead of other days than are meant there is a message.
    let zone = bureau.psql("SET TIME ZONE 'Asia/Kathmandu'").await.unwrap_err();
    assert!(zone.contains("write date_trunc('day', period_start AT TIME ZONE 'Asia/Kathmandu')"), "{zone}");
    // What would end the process, or make it hold what nobody needs.
    let harmful = format!(
        "import psycopg\nc = psycopg.connect(host='127.0.0.1', port={}, user='x', dbname='twofold', autocommit=True)\n\
         def refused(sql):\n    \
             try:\n        c.execute(sql)\n        return 'answered'\n    except psycopg.Error as e:\n        return e.sqlstate\n\
         print(refused('SELECT ' + '1 + ' * 200000 + '1'), refused('SELECT ' + '(' * 10000 + '1' + ')' * 10000))\n\
         c.execute('DECLARE x CURSOR FOR SELECT ad_id FROM clicks_hour')\n\
         print(refused('FETCH 100000000000 FROM x'), refused('SELECT range(0, 1000000000)'), refused('SELECT 1; SELECT 2'))\n\
         print([refused(f'DECLARE c{{n}} CURSOR FOR SELECT 1') for n in range(20)].count('54000'), refused('SHOW ;'))\n\
         print(c.execute('SELECT 1').fetchone()[0])\n",
        bureau.port
    );
    let printed = python(&harmful, &[]).await.unwrap();
    let lines: Vec<&str> = printed.lines().collect();
    assert_eq!(lines, ["54001 42601", "42000 42000 answered", "1 42000", "1"], "{printed}");
    // What one client sets is its own.
    bureau
        .psql("SET TimeZone = 'Asia/Kathmandu'; SET search_path TO x; SET statement_timeout = '1ms'; SELECT 1")
        .await
        .unwrap_err();
    assert_eq!(bureau.psql("SELECT 1").await.unwrap(), ["1"]);
}

#[tokio::test]
async fn only_a_key_for_sql_opens_the_tables_and_only_as_long_as_it_is_one() {
    let folder = new_folder("tls").unwrap();
    let file = |name: &str| folder.join(name).display().to_string();
    let made = std::process::Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost"])
        .args(["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", &file("key.pem"), "-out", &file("certificate.pem")])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let tls = format!("tls_certificate = \"{}\"\ntls_key = \"{}\"", file("certificate.pem"), file("key.pem"));
    let bureau = Bureau::open("keys", &tls).await;
    let key = bureau.key(&["--all-tenants", "--scope", "sql"]).await;
    let read = bureau.key(&["--all-tenants", "--scope", "read"]).await;
    let (code, _, stderr) = bureau
        .office
        .run(&[
            "key",
            "create",
            "--name",
            "x",
            "--expires",
            "1h",
            "--actor",
            "ann",
            "--tenant",
            "acme",
            "--scope",
            "sql",
        ])
        .await;
    assert!(code == Some(2) && stderr.contains("`sql` is about the installation as a whole"), "{stderr}");

    let connect = |password: &str, more: &str| {
        format!(
            "import psycopg\nc = psycopg.connect(host='127.0.0.1', port={}, user='x', dbname='twofold', password={password:?}{more})\n",
            bureau.port
        )
    };
    let try_it = async |password: &str, more: &str| {
        let program = format!(
            "import psycopg\ntry:\n    c = psycopg.connect(host='127.0.0.1', port={}, user='x', dbname='twofold', password={password:?}{more})\n    \
             print(c.execute('SELECT count(*) FROM periods').fetchone()[0], c.pgconn.ssl_in_use)\nexcept psycopg.Error as e:\n    print(e)",
            bureau.port
        );
        python(&program, &[]).await.unwrap().trim().to_owned()
    };
    let trusted = format!(", sslmode='verify-full', sslrootcert={:?}", file("certificate.pem"));
    assert_eq!(try_it(&key, &trusted).await, "6 True");
    // In plain text not even a key is asked for.
    let plain = try_it(&key, ", sslmode='disable'").await;
    assert!(plain.contains("this server speaks TLS only"), "{plain}");
    for (password, part) in [
        ("", "password"),
        ("guess", "the password is no key of this installation"),
        (&format!("{}0", &key[..key.len() - 1]).replace(&key, "tfk_x"), "the password is no key of this installation"),
        (&read, "is not for SQL"),
    ] {
        let refused = try_it(password, &trusted).await;
        assert!(refused.contains(part), "{password}: {refused}");
    }

    // Whoever is turned away and goes on all the same gets nothing: here, by the bytes of the protocol.
    let rude = format!(
        "import socket, ssl, struct\n\
         s = socket.create_connection(('127.0.0.1', {}))\n\
         s.sendall(struct.pack('!ii', 8, 80877103)); assert s.recv(1) == b'S'\n\
         t = ssl.create_default_context(cafile={:?}).wrap_socket(s, server_hostname='127.0.0.1')\n\
         def message(kind, body): return kind + struct.pack('!i', len(body) + 4) + body\n\
         t.sendall(message(b'', struct.pack('!i', 196608) + b'user\\0x\\0database\\0twofold\\0\\0'))\n\
         query = message(b'Q', b'SELECT 4711 AS secret\\0')\n\
         try: t.sendall(message(b'p', b'wrong\\0') + query + query + message(b'P', b'\\0SELECT 4711\\0\\0\\0') + message(b'S', b'') + message(b'P', b'\\0SELECT ' + b'1+' * 500000 + b'1\\0\\0\\0'))\n\
         except OSError: pass\n\
         t.settimeout(3); seen = b''\n\
         try:\n    \
             while True:\n        \
                 part = t.recv(65536)\n        \
                 if not part: break\n        \
                 seen += part\n\
         except (TimeoutError, OSError): pass\n\
         print(b'4711' in seen, b'28P01' in seen)",
        bureau.port,
        file("certificate.pem")
    );
    assert_eq!(python(&rude, &[]).await.unwrap().trim(), "False True");
    // And it is not held against those who may come in: the place is free again, whether or not the rude one hangs up.
    let crowd = format!(
        "import socket, struct, ssl, time\n\
         held = []\n\
         for _ in range(100):\n    \
             try:\n        \
                 s = socket.create_connection(('127.0.0.1', {}))\n        \
                 s.sendall(struct.pack('!ii', 8, 80877103)); s.recv(1)\n        \
                 t = ssl._create_unverified_context().wrap_socket(s)\n        \
                 t.sendall(struct.pack('!ii', 18, 196608) + b'user\\0x\\0\\0\\0')\n        \
                 t.sendall(b'p' + struct.pack('!i', 10) + b'wrong\\0'); held.append(t)\n    \
             except OSError: pass\n\
         time.sleep(1.5)\nprint(len(held) > 50)",
        bureau.port
    );
    assert_eq!(python(&crowd, &[]).await.unwrap().trim(), "True");
    assert_eq!(try_it(&key, &trusted).await, "6 True");

    // A key that is revoked ends what was opened with it.
    let id = key[4..].split('_').next().unwrap().to_owned();
    let program = format!(
        "{}import sys, time\nprint(c.execute('SELECT 1').fetchone()[0]); c.commit()\nopen({:?}, 'w').close()\nbegun = time.time()\n\
         try:\n    \
             while time.time() - begun < 60:\n        c.execute('SELECT 1'); c.commit(); time.sleep(0.2)\n    print('still open')\n\
         except psycopg.Error as e:\n    print(str(e).splitlines()[0])",
        connect(&key, &trusted),
        file("connected")
    );
    let revoke = async {
        let begun = Instant::now();
        while !folder.join("connected").exists() {
            assert!(begun.elapsed() < Duration::from_secs(30), "nobody has connected");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bureau.office.done(&["key", "revoke", &id, "--reason", "gone", "--actor", "ann"]).await;
    };
    let (printed, ()) = tokio::join!(python(&program, &[]), revoke);
    let printed = printed.unwrap();
    assert!(printed.starts_with("1\n") && printed.contains("the key was revoked at"), "{printed}");
    assert!(try_it(&key, &trusted).await.contains("the key was revoked at"));
    let log = bureau.server.log();
    assert!(!log.contains(&key) && !log.contains("tfk_"), "a key stands in the log");

    // Without TLS nothing but this machine is served.
    for (address, more, part) in [
        ("0.0.0.0:0", "", "without TLS what is asked"),
        ("127.0.0.1:0", "tls_key = \"x\"", "sql.tls_certificate and sql.tls_key go together"),
        (
            "127.0.0.1:0",
            "tls_certificate = \"/no/such.pem\"\ntls_key = \"/no/such.pem\"",
            "`/no/such.pem` cannot be used for TLS",
        ),
    ] {
        let settings = bureau.office.path("other.toml");
        std::fs::write(
            &settings,
            format!("[storage]\nurl = \"file://{}\"\n[sql]\n{more}\n", bureau.office.path("store")),
        )
        .unwrap();
        let output = twofold().args(["--config", &settings, "serve", "--pgwire", address]).output().unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && stderr.contains(part), "{address} {more}: {stderr}");
    }
}

/// One client cannot take the server from the others, and a transaction sees one state of the books.
#[tokio::test]
async fn questions_have_limits_and_transactions_see_one_state() {
    let bureau =
        Bureau::open("auto", "timeout = \"2s\"\nrows_max = 5000\nconnections_max = 3\nquestions_max = 1").await;
    let heavy = "SELECT count(*) FROM clicks_minute a, clicks_minute b, clicks_minute c WHERE a.clicks + b.clicks + c.clicks > 100";
    let late = bureau.psql(heavy).await.unwrap_err();
    assert!(late.contains("the answer did not come within 2s"), "{late}");
    let many = bureau.psql("SELECT * FROM clicks_minute").await.unwrap_err();
    assert!(many.contains("the answer has more than 5000 rows"), "{many}");
    let connect = format!(
        "import psycopg, threading, time\ndef connect(): return psycopg.connect(host='127.0.0.1', port={}, user='x', dbname='twofold', autocommit=True)\n",
        bureau.port
    );
    // A question that has failed leaves its place to the next one, whoever goes on being connected.
    let failed = format!(
        "{connect}c, d = connect(), connect()\n\
         for sql in ('SELECT clikcs FROM clicks_day', 'DECLARE c CURSOR FOR SELECT 1/0', 'SELECT 1/0'):\n    \
             try: c.execute(sql)\n    except psycopg.Error as e: pass\n    print(d.execute('SELECT 1').fetchone()[0])\n"
    );
    assert_eq!(python(&failed, &[]).await.unwrap().lines().collect::<Vec<_>>(), ["1", "1", "1"]);
    // Asked to stop, it stops.
    let cancel = format!(
        "{connect}c = connect()\nthreading.Timer(0.5, c.cancel).start()\nbegun = time.time()\n\
         try:\n    c.execute({heavy:?})\n    print('answered')\n\
         except psycopg.Error as e:\n    print(e.sqlstate, time.time() - begun < 1.9)\n\
         print(c.execute('SELECT 1').fetchone()[0])\n\
         c.execute(\"SET statement_timeout = '300ms'\")\nbegun = time.time()\n\
         try:\n    c.execute({heavy:?})\n    print('answered')\n\
         except psycopg.Error as e:\n    print(e.sqlstate, time.time() - begun < 1.9)\n"
    );
    assert_eq!(python(&cancel, &[]).await.unwrap().lines().collect::<Vec<_>>(), ["57014 True", "1", "57014 True"]);
    // A cursor that nobody fetches from holds the one place only until its time is over.
    let idle = format!(
        "{connect}c, d = connect(), connect()\nc.execute('BEGIN')\nc.execute('DECLARE x CURSOR FOR SELECT ad_id FROM clicks_hour')\n\
         print(len(c.execute('FETCH 3 FROM x').fetchall()))\n\
         try:\n    print(d.execute('SELECT 1').fetchone()[0])\nexcept psycopg.Error as e:\n    print(e.sqlstate)\n\
         time.sleep(2.5)\nprint(d.execute('SELECT 1').fetchone()[0])\n"
    );
    let printed = python(&idle, &[]).await.unwrap();
    let lines: Vec<&str> = printed.lines().collect();
    assert!(lines[0] == "3" && lines[2] == "1" && ["1", "53300"].contains(&lines[1]), "{printed}");
    // Many cursors of one connection, more rows than wait for a reader: all of them come.
    let many = format!(
        "{connect}c = connect()\nc.execute('BEGIN')\nc.execute('DECLARE a CURSOR FOR SELECT ad_id FROM clicks_minute LIMIT 4900')\n\
         rows = 0\nwhile True:\n    part = c.execute('FETCH 1000 FROM a').fetchall()\n    rows += len(part)\n    if not part: break\n\
         print(rows)\nc.execute('COMMIT')\nprint(c.execute('SELECT 1').fetchone()[0])\n"
    );
    assert_eq!(python(&many, &[]).await.unwrap().lines().collect::<Vec<_>>(), ["4900", "1"]);
    // No more clients than there is room for, and room again when they have gone.
    let full = format!(
        "{connect}some = [connect() for _ in range(3)]\n\
         try:\n    connect()\n    print('let in')\nexcept psycopg.Error:\n    print('turned away')\n\
         some.pop().close()\ntime.sleep(1)\nprint(connect().execute('SELECT 1').fetchone()[0])\n"
    );
    assert_eq!(python(&full, &[]).await.unwrap().lines().collect::<Vec<_>>(), ["turned away", "1"]);

    // A transaction sees the books as they were when it began.
    let (ready, decided) = (bureau.office.path("ready"), bureau.office.path("decided"));
    let snapshot = format!(
        "{connect}import os\nc = connect()\nheld = lambda: c.execute(\"SELECT held FROM periods WHERE day = '2026-03-05'\").fetchone()[0]\n\
         with c.transaction():\n    before = held()\n    open({ready:?}, 'w').close()\n    \
         while not os.path.exists({decided:?}): time.sleep(0.05)\n    time.sleep(1.5)\n    print(before, held())\nprint(held())\n"
    );
    let decide = async {
        let begun = Instant::now();
        while !Path::new(&ready).exists() {
            assert!(begun.elapsed() < Duration::from_secs(30), "no transaction has begun");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bureau
            .office
            .done(&["period", "hold", "--date", "2026-03-05", "--reason", "a partner asks", "--actor", "ann"])
            .await;
        std::fs::write(&decided, "").unwrap();
    };
    let (printed, ()) = tokio::join!(python(&snapshot, &[]), decide);
    assert_eq!(printed.unwrap().lines().collect::<Vec<_>>(), ["False False", "True"]);
}
