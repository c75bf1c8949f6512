//! The forms of an answer: time zones, CSV, Arrow, tags, compression, other origins, the description.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampMillisecondType};
use arrow::ipc::reader::StreamReader;
use clicks::ledger::DayTotals;
use clicks::time::Span;
use reqwest::StatusCode;
use serde_json::{Value, json};
use serving::{Options, ServingError};
use support::{Running, ask, at, day, filled, get, json_of, listen, numbers, texts};

async fn arrow_of(running: &Running, path: &str) -> RecordBatch {
    let answer = ask(running, path, &[("accept", "application/vnd.apache.arrow.stream")]).await;
    assert_eq!(answer.headers()["content-type"], "application/vnd.apache.arrow.stream");
    let bytes = answer.bytes().await.unwrap();
    let mut batches = StreamReader::try_new(std::io::Cursor::new(bytes), None).unwrap();
    let batch = batches.next().unwrap().unwrap();
    assert!(batches.next().is_none());
    batch
}

/// A day of New York lies in two days of UTC, the last one in a closed and a live one.
#[tokio::test]
async fn days_of_another_zone_are_composed_and_split_by_state() {
    let (_system, running) = filled().await;
    let body = json_of(&running, "/v1/clicks?from=2026-03-01&to=2026-03-05&granularity=day&tz=America/New_York").await;
    let starts =
        ["2026-03-01", "2026-03-02", "2026-03-03", "2026-03-04"].map(|day| format!("{day}T00:00:00.000-05:00"));
    assert_eq!(texts(&body, "period_start"), starts);
    // 5:00 to 5:00: the 20 of the second day at 0:00 belong to the first day there, and so on.
    assert_eq!(numbers(&body, "total"), [Some(129), Some(35), Some(5), Some(9)]);
    assert_eq!(texts(&body, "source"), ["batch", "batch", "mixed", "speed"]);
    assert_eq!(texts(&body, "state"), ["closed", "closed", "live", "live"]);
    assert_eq!(body["meta"]["time_zone"], "America/New_York");
    assert_eq!(body["meta"]["from"], "2026-03-01T00:00:00.000-05:00");
    assert_eq!(body["meta"]["as_of"], "2026-03-04T07:00:29.000-05:00");
    let segments = body["meta"]["segments"].as_array().unwrap();
    let split: Vec<_> = segments.iter().map(|s| (s["state"].as_str().unwrap(), s["total"].as_u64())).collect();
    assert_eq!(split, [("adjusted", Some(109)), ("closed", Some(55)), ("live", Some(14))]);
    // The same clicks in any zone and grain, as long as the range is the same.
    for (tz, grain) in [("America/New_York", "hour"), ("Asia/Kathmandu", "hour"), ("UTC", "minute"), ("UTC", "hour")] {
        let (from, to) = match tz {
            "Asia/Kathmandu" => ("2026-03-01T04:15:00Z", "2026-03-04T13:15:00Z"),
            _ => ("2026-03-01T05:00:00Z", "2026-03-04T13:00:00Z"),
        };
        let finer = json_of(&running, &format!("/v1/clicks?from={from}&to={to}&granularity={grain}&tz={tz}")).await;
        assert_eq!(numbers(&finer, "total").into_iter().flatten().sum::<u64>(), 178, "{tz} {grain}");
    }
    let ads = json_of(&running, "/v1/ads?from=2026-03-03&to=2026-03-04&tz=America/New_York").await;
    // Of `b` there are only late clicks, which no day holds yet.
    assert_eq!((texts(&ads, "ad_id"), numbers(&ads, "total")), (vec!["a", "b"], vec![Some(5), Some(0)]));
}

#[tokio::test]
async fn a_zone_that_cuts_hours_is_answered_from_minutes_and_not_for_years() {
    let (system, running) = filled().await;
    let path = "/v1/clicks?from=2026-03-01&to=2026-03-05&granularity=day&tz=Asia/Kathmandu";
    // It is 5:45 there when the second day begins, and 5:44 of the third one in its last minute.
    assert_eq!(numbers(&json_of(&running, path).await, "total"), [Some(109), Some(20), Some(35), Some(14)]);
    for n in 4..100 {
        system.clock.advance_to(at(day("2026-03-01").plus(n), 12, 0));
        system.close(&[], DayTotals::default(), &[], &[]).await;
    }
    let running = system.ready(Options { listen: listen(), ..Options::default() }).await;
    let long = |tz: &str| format!("/v1/clicks?from=2026-03-01&to=2026-06-05&granularity=day&tz={tz}");
    let refused = ask(&running, &long("Asia/Kathmandu"), &[]).await;
    assert_eq!(refused.status(), 400);
    let problem: Value = serde_json::from_slice(&refused.bytes().await.unwrap()).unwrap();
    assert_eq!(problem["parameter"], "tz");
    assert!(problem["detail"].as_str().unwrap().contains("92"), "{problem}");
    assert_eq!(numbers(&json_of(&running, &long("Europe/Berlin")).await, "total").len(), 96);
}

#[tokio::test]
async fn as_many_periods_from_another_time_on_are_answered_beside() {
    let (_system, running) = filled().await;
    for (path, compare, beside) in [
        (
            "/v1/clicks?from=2026-03-03&to=2026-03-05&granularity=day",
            "2026-03-01",
            "/v1/clicks?from=2026-03-01&to=2026-03-03&granularity=day",
        ),
        (
            "/v1/clicks?from=2026-03-04T01:00:00Z&to=2026-03-04T03:00:00Z&granularity=hour&ad_id=a,b",
            "2026-03-01T22:00:00Z",
            "/v1/clicks?from=2026-03-01T22:00:00Z&to=2026-03-02T00:00:00Z&granularity=hour&ad_id=a,b",
        ),
        // The clocks go forward on the 29th: the 23 hours of that day beside the first 23 of another one.
        (
            "/v1/clicks?from=2026-03-02&to=2026-03-03&granularity=hour&tz=Europe/Berlin",
            "2025-03-30",
            "/v1/clicks?from=2025-03-30&to=2025-03-31T01:00:00%2B02:00&granularity=hour&tz=Europe/Berlin",
        ),
    ] {
        let [alone, beside] = [path, beside].map(|path| json_of(&running, path));
        let (alone, beside) = (alone.await, beside.await);
        let mut both = json_of(&running, &format!("{path}&compare={compare}")).await;
        let compared = both.as_object_mut().unwrap().remove("compared").unwrap();
        assert_eq!(
            (&compared["data"], &compared["meta"]["from"]),
            (&beside["data"], &beside["meta"]["from"]),
            "{path}"
        );
        assert_eq!((&both["data"], &both["meta"]), (&alone["data"], &alone["meta"]));
        assert_eq!(alone.get("compared"), None);
    }
    for (query, parameter) in [
        ("from=2026-03-03&granularity=day&compare=2026-03-01T01:00:00Z", "compare"),
        ("from=2026-03-03&granularity=day&compare=1", "compare"),
        ("from=2026-03-03&granularity=day&compare=2026-03-01&format=csv", "compare"),
        ("from=2026-02-20&compare=2026-02-10", "from"),
    ] {
        let refused = ask(&running, &format!("/v1/clicks?{query}"), &[]).await;
        assert_eq!(refused.status(), 400, "{query}");
        let problem: Value = serde_json::from_slice(&refused.bytes().await.unwrap()).unwrap();
        assert_eq!(problem["parameter"], parameter, "{problem}");
    }
    // What is compared with a live period has no tag; what was published has.
    let tag = async |path: &str| ask(&running, path, &[]).await.headers().get("etag").cloned();
    assert!(tag("/v1/clicks?from=2026-03-02&to=2026-03-03&granularity=day&compare=2026-03-01").await.is_some());
    assert!(tag("/v1/clicks?from=2026-03-02&to=2026-03-03&granularity=day&compare=2026-03-04").await.is_none());
}

#[tokio::test]
async fn csv_and_arrow_hold_what_json_holds() {
    let (system, running) = filled().await;
    let paths = [
        "/v1/clicks?from=2026-02-28&to=2026-03-05&granularity=day",
        "/v1/clicks?from=2026-03-01&to=2026-03-05&granularity=hour&tz=Asia/Kathmandu&ad_id=a,b",
        "/v1/ads?from=2026-03-01&to=2026-03-05",
        "/v1/days",
        "/v1/ads?from=2026-03-04T02:00:00Z&to=2026-03-04T03:00:00Z",
    ];
    for away in [false, true] {
        system.store.go_away(away);
        tokio::time::sleep(Duration::from_millis(5)).await;
        for path in paths {
            let body = json_of(&running, path).await;
            let rows = body["data"].as_array().unwrap();
            let join = if path.contains('?') { '&' } else { '?' };
            let answer = ask(&running, &format!("{path}{join}format=csv"), &[]).await;
            assert_eq!(answer.headers()["content-type"], "text/csv; charset=utf-8");
            assert_eq!(answer.headers()["twofold-complete"], body["meta"]["complete"].to_string().as_str());
            assert_eq!(answer.headers()["twofold-ledger-position"], "4");
            let text = answer.text().await.unwrap();
            let mut csv = csv::Reader::from_reader(text.as_bytes());
            let names = csv.headers().unwrap().clone();
            let batch = arrow_of(&running, path).await;
            let columns: Vec<&str> = batch.schema_ref().fields().iter().map(|field| field.name().as_str()).collect();
            assert_eq!(names.iter().collect::<Vec<_>>(), columns);
            assert_eq!(batch.num_rows(), rows.len());
            let meta: Value = serde_json::from_str(&batch.schema_ref().metadata()["twofold.meta"]).unwrap();
            assert_eq!(meta["segments"], body["meta"]["segments"]);
            let records: Vec<csv::StringRecord> = csv.records().map(Result::unwrap).collect();
            assert_eq!(records.len(), rows.len(), "{path}");
            for (n, (row, record)) in rows.iter().zip(&records).enumerate() {
                assert_eq!(row.as_object().unwrap().len(), columns.len(), "every field is a column");
                for (name, cell) in names.iter().zip(record) {
                    let value = match &row[name] {
                        Value::Null => String::new(),
                        Value::String(text) => text.clone(),
                        other => other.to_string(),
                    };
                    assert_eq!(cell, value, "{path} {name}");
                    check_cell(&batch, name, n, &row[name]);
                }
            }
        }
    }
    let name =
        ask(&running, "/v1/clicks?from=2026-03-01&to=2026-03-02&granularity=day&format=csv&tz=Asia/Kathmandu", &[])
            .await;
    let name = name.headers()["content-disposition"].to_str().unwrap().to_owned();
    let file = "clicks_2026-03-01T000000+0545_2026-03-02T000000+0545_position-4.csv";
    assert_eq!(name, format!("attachment; filename=\"{file}\""));
}

fn check_cell(batch: &RecordBatch, name: &str, n: usize, value: &Value) {
    let column = batch.column_by_name(name).unwrap();
    assert_eq!(column.is_null(n), value.is_null(), "{name}");
    if let (Some(numbers), Some(value)) = (column.as_primitive_opt::<Int64Type>(), value.as_i64()) {
        assert_eq!(numbers.value(n), value, "{name}");
    }
    if let (Some(times), Some(text)) = (column.as_primitive_opt::<TimestampMillisecondType>(), value.as_str()) {
        let time = clicks::time::Timestamp::parse_rfc3339(text).unwrap();
        assert_eq!(times.value(n), time.as_millis(), "{name}");
    }
    if let (Some(texts), Some(text)) = (column.as_string_opt::<i32>(), value.as_str()) {
        assert_eq!(texts.value(n), text, "{name}");
    }
}

#[tokio::test]
async fn what_no_form_fits_is_refused() {
    let (_system, running) = filled().await;
    for (path, accept, status) in [
        ("/v1/clicks", "image/png", StatusCode::NOT_ACCEPTABLE),
        ("/v1/clicks?format=xml", "*/*", StatusCode::BAD_REQUEST),
        ("/v1/status?format=csv", "*/*", StatusCode::BAD_REQUEST),
    ] {
        let answer = ask(&running, path, &[("accept", accept)]).await;
        assert_eq!(answer.status(), status, "{path}");
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    for (tz, part) in [("Mars/Olympus", "no time zone"), ("europe/berln", "Europe/Berlin"), ("", "no time zone")] {
        let answer = get(running.address, &format!("/v1/clicks?tz={tz}")).await;
        assert_eq!((answer.status, &answer.json()["parameter"]), (400, &json!("tz")));
        assert!(answer.json()["detail"].as_str().unwrap().contains(part), "{}", answer.body);
    }
    let answer = get(running.address, "/v1/clicks?tz=Asia/Kathmandu&granularity=hour&from=2026-03-01T00:00:00Z").await;
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(answer.status == 400 && detail.contains("2026-03-01T06:00:00.000+05:45"), "{detail}");
}

#[tokio::test]
async fn a_settled_answer_has_a_tag_and_a_live_one_none() {
    let (mut system, running) = filled().await;
    let path = "/v1/clicks?from=2026-03-02&to=2026-03-04&granularity=day";
    let first = ask(&running, path, &[]).await;
    let tag = first.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(first.headers()["cache-control"], "no-cache");
    let again = ask(&running, path, &[("if-none-match", &tag)]).await;
    assert_eq!((again.status(), again.bytes().await.unwrap().len()), (StatusCode::NOT_MODIFIED, 0));
    let head = reqwest::Client::new().head(format!("http://{}{path}", running.address));
    let head = head.header("if-none-match", &tag).send().await.unwrap();
    assert_eq!((head.status(), head.headers()["etag"].to_str().unwrap()), (StatusCode::NOT_MODIFIED, &*tag));
    // Another form is another answer.
    let csv = ask(&running, path, &[("if-none-match", &tag), ("accept", "text/csv")]).await;
    assert_eq!(csv.status(), 200);
    assert!(csv.headers().get_all("vary").iter().any(|vary| vary.to_str().unwrap().contains("accept")));
    // A late click that the day does not hold yet: the number beside it is another one.
    let live = day("2026-03-04");
    let late = [(live, (at(day("2026-03-03"), 23, 0), "a", 10))];
    system.count(day("2026-03-03"), at(live, 12, 0) + Span::seconds(29), &[], &late).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(ask(&running, path, &[("if-none-match", &tag)]).await.status(), 200);
    for path in
        ["/v1/clicks", "/v1/days", "/v1/clicks?from=2026-03-03&granularity=day&tz=America/New_York&to=2026-03-04"]
    {
        let answer = ask(&running, path, &[]).await;
        assert!(!answer.headers().contains_key("etag"), "{path} moves with the next click");
        assert_eq!(answer.headers()["cache-control"], "no-cache");
    }
    system.store.go_away(true);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert!(!ask(&running, path, &[]).await.headers().contains_key("etag"), "late clicks are unknown");
}

#[tokio::test]
async fn answers_and_the_page_are_compressed_for_who_asks() {
    let (_system, running) = filled().await;
    for path in ["/v1/clicks", "/app.js"] {
        let plain = ask(&running, path, &[]).await;
        assert!(!plain.headers().contains_key("content-encoding"));
        let plain = plain.bytes().await.unwrap();
        let small = ask(&running, path, &[("accept-encoding", "zstd")]).await;
        assert_eq!(small.headers()["content-encoding"], "zstd");
        let small = small.bytes().await.unwrap();
        assert!(small.len() * 2 < plain.len(), "{path}: {} of {}", small.len(), plain.len());
        let unpacked = zstd::decode_all(&*small).unwrap();
        if path == "/app.js" {
            assert_eq!(unpacked, plain);
        } else {
            serde_json::from_slice::<Value>(&unpacked).unwrap();
        }
        assert_eq!(ask(&running, path, &[("accept-encoding", "gzip")]).await.headers()["content-encoding"], "gzip");
    }
}

#[tokio::test]
async fn other_origins_read_only_when_they_are_named() {
    let (system, running) = filled().await;
    let from = [("origin", "https://one.example")];
    let allowed = |answer: reqwest::Response| answer.headers().get("access-control-allow-origin").cloned();
    assert_eq!(allowed(ask(&running, "/v1/clicks", &from).await), None);
    let options = |origins: &[&str]| {
        let cors_origins = origins.iter().map(|origin| (*origin).to_owned()).collect();
        Options { listen: listen(), cors_origins, ..Options::default() }
    };
    let running = system.ready(options(&["https://one.example", "http://two.example:8080"])).await;
    assert_eq!(allowed(ask(&running, "/v1/clicks", &from).await).unwrap(), "https://one.example");
    assert_eq!(allowed(ask(&running, "/v1/clicks", &[("origin", "https://one.example.org")]).await), None);
    let running = system.ready(options(&["*"])).await;
    assert_eq!(allowed(ask(&running, "/v1/clicks", &from).await).unwrap(), "*");
    for wrong in ["one.example", "https://one.example/", "https://one.example/path", "", "https://"] {
        let refused = system.start(options(&[wrong])).await.unwrap_err();
        assert!(matches!(refused, ServingError::Origin(_)), "{wrong}: {refused}");
        assert!(refused.to_string().contains("serving.cors_origins"));
    }
}

/// Every address that the document names answers, and answers hold the fields that it requires.
#[tokio::test]
async fn the_description_fits_the_answers() {
    let (_system, running) = filled().await;
    let api = json_of(&running, "/v1/openapi.json").await;
    assert_eq!(api["openapi"], "3.1.0");
    let resolve = |schema: &Value| match schema["$ref"].as_str() {
        Some(name) => api.pointer(name.trim_start_matches('#')).unwrap_or_else(|| panic!("{name}")).clone(),
        None => schema.clone(),
    };
    let paths = api["paths"].as_object().unwrap();
    assert_eq!(paths.len(), 9);
    for (path, operations) in paths {
        let content = &operations["get"]["responses"]["200"]["content"];
        if path == "/v1/stream" {
            assert!(content["text/event-stream"].is_object());
            continue;
        }
        let asked = if path == "/v1/names" { "/v1/names?ad_id=a" } else { path };
        let body = json_of(&running, asked).await;
        let schema = resolve(&content["application/json"]["schema"]);
        check_fields(&resolve, &schema, &body, path);
    }
}

fn check_fields(resolve: &dyn Fn(&Value) -> Value, schema: &Value, found: &Value, path: &str) {
    let schema = resolve(schema);
    if let (Some(items), Some(rows)) = (schema.get("items"), found.as_array()) {
        rows.iter().for_each(|row| check_fields(resolve, items, row, path));
    }
    let (Some(properties), Some(fields)) = (schema["properties"].as_object(), found.as_object()) else { return };
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(fields.contains_key(required.as_str().unwrap()), "{path} has no {required}");
    }
    for (name, value) in fields {
        let property = properties.get(name).unwrap_or_else(|| panic!("{path}: `{name}` is not described"));
        check_fields(resolve, property, value, path);
    }
}

#[tokio::test]
async fn metrics_are_on_the_admin_port_and_a_taken_one_says_so() {
    let (system, _running) = filled().await;
    let taken = std::net::TcpListener::bind(listen()).unwrap();
    let admin = taken.local_addr().unwrap();
    let options = || Options { listen: listen(), admin: Some(admin), ..Options::default() };
    let refused = system.start(options()).await.unwrap_err().to_string();
    assert!(refused.contains(&admin.to_string()) && refused.contains("`serving.admin`"), "{refused}");
    drop(taken);
    let running = system.ready(options()).await;
    get(running.address, "/v1/status").await;
    let metrics = get(admin, "/metrics").await;
    assert!(metrics.status == 200 && metrics.body.contains("twofold_serving_requests_total"), "{}", metrics.body);
    assert_eq!((get(admin, "/readyz").await.status, get(admin, "/v1/clicks").await.status), (200, 404));
    assert_eq!(get(running.address, "/metrics").await.status, 404);
}

/// Whatever stands in a query, it is answered or refused with the parameter that is to blame, and quickly.
#[tokio::test]
async fn no_query_breaks_the_server() {
    use rand::rngs::SmallRng;
    use rand::seq::IndexedRandom;
    use rand::{Rng, SeedableRng};
    const NAMES: [&str; 13] = [
        "ad_id",
        "from",
        "to",
        "granularity",
        "tz",
        "position",
        "format",
        "limit",
        "last",
        "From",
        "",
        "%00",
        "ad_id[]",
    ];
    const VALUES: [&str; 41] = [
        "",
        "a",
        "a,b",
        ",",
        "a,,b",
        "%FF",
        "%00",
        "%E2%82%AC",
        "%2e%2e%2f",
        "{p}",
        "'%20OR%201=1",
        "2026-03-01",
        "2026-03-04",
        "2026-03-05",
        "2026-02-30",
        "0001-01-01",
        "9999-12-31",
        "%2B10000-01-01",
        "-0001-01-01",
        "2026-03-01T00:00:00Z",
        "2026-03-04T12:00:00Z",
        "2026-03-01T05:45:00%2B05:45",
        "2026-03-01T00:00:00",
        "1e9",
        "-1",
        "0",
        "1",
        "7",
        "1000",
        "99999999999999999999",
        "NaN",
        "minute",
        "hour",
        "day",
        "UTC",
        "Asia/Kathmandu",
        "America/St_Johns",
        "Etc/GMT+12",
        "csv",
        "arrow",
        "json",
    ];
    let (_system, running) = filled().await;
    let client = reqwest::Client::new();
    let seed = std::env::var("TWOFOLD_SEED").map_or(1, |seed| seed.parse().expect("TWOFOLD_SEED is a number"));
    let mut random = SmallRng::seed_from_u64(seed);
    let (mut answered, mut refused) = (0, 0);
    for _ in 0..3_000 {
        let path = ["/v1/clicks", "/v1/clicks", "/v1/ads", "/v1/days", "/v1/nights", "/v1/status"]
            .choose(&mut random)
            .unwrap();
        let pair = |random: &mut SmallRng| {
            let value: String = match random.random_range(0..20) {
                0 => (0..random.random_range(0..40)).map(|_| format!("%{:02X}", random.random::<u8>())).collect(),
                1 => "x".repeat(random.random_range(0..3_000)),
                _ => (*VALUES.choose(random).unwrap()).to_owned(),
            };
            format!("{}={value}", NAMES.choose(random).unwrap())
        };
        let query: Vec<String> = (0..random.random_range(0..5)).map(|_| pair(&mut random)).collect();
        let url = format!("http://{}{path}?{}", running.address, query.join("&"));
        let asked = tokio::time::timeout(Duration::from_secs(10), client.get(&url).send());
        let answer = asked.await.unwrap_or_else(|_| panic!("slow: {url}")).unwrap();
        let status = answer.status();
        let body = answer.bytes().await.unwrap();
        match status.as_u16() {
            200 => answered += 1,
            400 => {
                refused += 1;
                let problem: Value = serde_json::from_slice(&body).unwrap();
                let names_one = problem["parameter"].is_string() || problem["type"] == "urn:twofold:problem:query";
                assert!(names_one && !problem["mend"].as_str().unwrap().is_empty(), "{url}: {problem}");
            }
            other => panic!("seed {seed}: {other} for {url}: {}", String::from_utf8_lossy(&body)),
        }
    }
    assert!(answered > 100 && refused > 1_000, "{answered} answered, {refused} refused: too few to mean anything");
}
