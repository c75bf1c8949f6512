//! Every refusal: its status, its problem document, and that nothing of it is on the log.

use axum::body::Body;
use axum::http::Request;
use serde_json::json;

use super::support::*;
use crate::Options;

/// The click of [`click`] with something else in place of `part`.
fn with(part: &str, other: &str) -> Vec<u8> {
    let text = click(1);
    assert!(text.contains(part));
    text.replace(part, other).into_bytes()
}

/// Name, body; status, problem; code and field of the first error, if there is one.
type Case = (&'static str, Vec<u8>, u16, &'static str, &'static str, Option<&'static str>);

#[tokio::test]
async fn every_bad_click_is_refused_with_its_reason() {
    let log = TestLog::new(Mood::Well);
    let app = app(patient(), &log);
    let time = "2026-03-01T11:59:59.000Z";
    let open = r#"{"x":"#.to_owned() + &"[".repeat(100_000);
    let closed = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    let cases: Vec<Case> = vec![
        ("empty body", b"".to_vec(), 400, "empty_body", "", None),
        ("white space", b" \r\n\t".to_vec(), 400, "empty_body", "", None),
        ("empty array", b"[]".to_vec(), 400, "empty_body", "", None),
        ("no JSON", b"hello".to_vec(), 400, "malformed_body", "not_json", None),
        ("a number", b"7".to_vec(), 400, "malformed_body", "not_json", None),
        ("half an object", click(1)[..60].into(), 400, "malformed_body", "not_json", None),
        ("half an array", format!("[{}", click(1)).into(), 400, "malformed_body", "", None),
        ("trailing data", (click(1) + " x").into(), 400, "malformed_body", "not_json", None),
        ("100,000 brackets", "[".repeat(100_000).into(), 400, "malformed_body", "", None),
        ("100,000 brackets in a field", open.into(), 400, "malformed_body", "not_json", None),
        ("100,000 brackets, closed", closed.into(), 422, "no_click_accepted", "not_json", None),
        (
            "invalid UTF-8",
            with("ad-1", "ad-1").into_iter().chain(*b"\xff").collect(),
            400,
            "malformed_body",
            "not_utf8",
            None,
        ),
        ("invalid UTF-8 in an array", b"[\"\xff\"]".to_vec(), 400, "malformed_body", "", None),
        ("no field", b"{}".to_vec(), 422, "click_refused", "missing_field", Some("ad_id")),
        ("no user", with(r#","user_id":"u""#, ""), 422, "click_refused", "missing_field", Some("user_id")),
        (
            "no time",
            with(&format!(r#","timestamp":"{time}""#), ""),
            422,
            "click_refused",
            "missing_field",
            Some("timestamp"),
        ),
        ("a number for an ad", with(r#""ad-1""#, "7"), 422, "click_refused", "wrong_type", Some("ad_id")),
        ("an object for a user", with(r#""u""#, "{}"), 422, "click_refused", "wrong_type", Some("user_id")),
        (
            "two ads",
            with(r#""ad_id""#, r#""ad_id":"x","ad_id""#),
            422,
            "click_refused",
            "duplicate_field",
            Some("ad_id"),
        ),
        ("an ad with a slash", with("ad-1", "ad/1"), 422, "click_refused", "bad_ad_id", Some("ad_id")),
        ("an ad with a brace", with("ad-1", "{p3}"), 422, "click_refused", "bad_ad_id", Some("ad_id")),
        ("an ad of 65", with("ad-1", &"x".repeat(65)), 422, "click_refused", "bad_ad_id", Some("ad_id")),
        ("an empty user", with(r#""u""#, r#""""#), 422, "click_refused", "bad_user_id", Some("user_id")),
        ("a short id", with("00000000-", ""), 422, "click_refused", "bad_click_id", Some("click_id")),
        ("no offset", with(time, "2026-03-01T11:59:59"), 422, "click_refused", "bad_timestamp", Some("timestamp")),
        (
            "milliseconds",
            with(&format!("\"{time}\""), "1772366399000"),
            422,
            "click_refused",
            "wrong_type",
            Some("timestamp"),
        ),
        ("milliseconds as text", with(time, "1772366399000"), 422, "click_refused", "bad_timestamp", Some("timestamp")),
        ("5 min ahead", with(time, "2026-03-01T12:05:00Z"), 422, "click_refused", "too_far_ahead", Some("timestamp")),
        ("the year 9999", with(time, "9999-12-31T23:59:59Z"), 422, "click_refused", "too_far_ahead", Some("timestamp")),
        ("1970", with(time, "1970-01-01T00:00:00Z"), 422, "click_refused", "too_old", Some("timestamp")),
        ("36 days", with(time, "2026-01-24T12:00:00Z"), 422, "click_refused", "too_old", Some("timestamp")),
        (
            "17 KiB",
            with(r#""u""#, &format!(r#""u","x":"{}""#, "y".repeat(17 << 10))),
            413,
            "click_too_large",
            "too_large",
            None,
        ),
        (
            "nested 200 deep",
            with(r#""u""#, &format!(r#""u","x":{}{}"#, "[".repeat(200), "]".repeat(200))),
            422,
            "click_refused",
            "too_deep",
            None,
        ),
    ];
    for (name, body, status, problem, code, field) in cases {
        let reply = post(&app, body).await;
        assert_eq!((reply.status, reply.problem().as_str()), (status, problem), "{name}: {reply:?}");
        let json = reply.json();
        match code {
            "" => assert_eq!(json.get("errors"), None, "{name}"),
            _ => {
                let error = &json["errors"][0];
                assert_eq!((&error["index"], &error["code"]), (&json!(0), &json!(code)), "{name}");
                assert_eq!(error.get("field").and_then(|f| f.as_str()), field, "{name}");
                assert!(error["detail"].as_str().is_some_and(|detail| detail.len() > 10), "{name}");
                assert!(metric(&format!("twofold_collector_rejected_total{{code=\"{code}\"}}")) >= 1.0, "{name}");
            }
        }
    }
    assert_eq!(log.values().await, Vec::<String>::new());
}

#[tokio::test]
async fn problem_documents_are_pinned() {
    let log = TestLog::new(Mood::Well);
    let app = app(Options { batch_max: 2, body_limit_bytes: 1_000, ..patient() }, &log);
    let cases = [
        (
            click(1).replace("ad-1", "ad/1"),
            r#"{"type":"urn:twofold:problem:click_refused","title":"The click is refused","status":422,"detail":"`ad_id` has the character '/'; only A-Z a-z 0-9 _ . - are allowed","errors":[{"index":0,"code":"bad_ad_id","field":"ad_id","detail":"`ad_id` has the character '/'; only A-Z a-z 0-9 _ . - are allowed"}]}"#,
        ),
        (
            click(1).replace("11:59:59.000", "12:05:00"),
            r#"{"type":"urn:twofold:problem:click_refused","title":"The click is refused","status":422,"detail":"`timestamp` 2026-03-01T12:05:00.000Z is 5min ahead of the collector's clock (2026-03-01T12:00:00.000Z); at most 4min is taken","errors":[{"index":0,"code":"too_far_ahead","field":"timestamp","detail":"`timestamp` 2026-03-01T12:05:00.000Z is 5min ahead of the collector's clock (2026-03-01T12:00:00.000Z); at most 4min is taken"}]}"#,
        ),
        (
            "[{},7]".to_owned(),
            r#"{"type":"urn:twofold:problem:no_click_accepted","title":"Every click of the request is refused","status":422,"detail":"none of the 2 clicks was accepted; `errors` tells why for each","errors":[{"index":0,"code":"missing_field","field":"ad_id","detail":"`ad_id` is missing"},{"index":1,"code":"not_json","detail":"the value is not a JSON click: expected one JSON object `{…}`"}]}"#,
        ),
        (
            "[1,1,1]".to_owned(),
            r#"{"type":"urn:twofold:problem:too_many_clicks","title":"The body holds too many clicks","status":413,"detail":"the body holds more than 2 clicks; send it in parts"}"#,
        ),
        (
            "x".repeat(1_001),
            r#"{"type":"urn:twofold:problem:body_too_large","title":"The body is too large","status":413,"detail":"the body is longer than 1000 bytes; send the clicks in several requests"}"#,
        ),
        (
            String::new(),
            r#"{"type":"urn:twofold:problem:empty_body","title":"The body holds no click","status":400,"detail":"the body holds no click; send one JSON object, a JSON array of them, or one a line"}"#,
        ),
    ];
    for (body, golden) in cases {
        assert_eq!(post(&app, body).await.text, golden);
    }
}

#[tokio::test]
async fn bodies_beyond_the_limit_are_refused_whether_announced_or_not() {
    let log = TestLog::new(Mood::Well);
    let app = app(Options { body_limit_bytes: 1_000, ..patient() }, &log);
    let before = metric(r#"twofold_collector_rejected_total{code="body_too_large"}"#);
    let full = click(1) + &" ".repeat(1_000 - click(1).len());
    assert_eq!(post(&app, full.clone()).await.status, 202);
    assert_eq!(post(&app, full + " ").await.problem(), "body_too_large");
    let parts = futures::stream::iter((0..11).map(|_| Ok::<_, std::io::Error>(" ".repeat(100))));
    assert_eq!(post(&app, Body::from_stream(parts)).await.problem(), "body_too_large");
    let request = Request::post("/v1/clicks").header("content-length", "1001").body(Body::empty());
    assert_eq!(send(&app, request.unwrap()).await.problem(), "body_too_large");
    assert!(metric(r#"twofold_collector_rejected_total{code="body_too_large"}"#) >= before + 3.0);
}

#[tokio::test]
async fn other_types_paths_and_methods_are_refused() {
    let log = TestLog::new(Mood::Well);
    let app = app(patient(), &log);
    let cases = [
        ("POST", "/v1/clicks", ("content-type", "application/x-www-form-urlencoded"), 415, "unsupported_media_type"),
        ("POST", "/v1/clicks", ("content-type", "application/jsonx"), 415, "unsupported_media_type"),
        ("POST", "/v1/clicks", ("content-encoding", "gzip"), 415, "unsupported_media_type"),
        ("POST", "/", ("x", "y"), 404, "not_found"),
        ("POST", "/v1/clicks/", ("x", "y"), 404, "not_found"),
        ("GET", "/v1/clicks", ("x", "y"), 405, "method_not_allowed"),
        ("DELETE", "/v1/clicks", ("x", "y"), 405, "method_not_allowed"),
    ];
    for (method, path, (name, value), status, problem) in cases {
        let request = Request::builder().method(method).uri(path).header(name, value).body(Body::from(click(1)));
        let reply = send(&app, request.unwrap()).await;
        assert_eq!((reply.status, reply.problem().as_str()), (status, problem), "{method} {path} {value}");
        if status == 405 {
            assert_eq!(reply.header("allow"), "POST");
        }
        assert!(metric(&format!("twofold_collector_requests_total{{status=\"{status}\"}}")) >= 1.0);
    }
    assert!(log.values().await.is_empty());
}
