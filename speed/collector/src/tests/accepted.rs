//! What is accepted, how it is answered, and what is then on the log.

use axum::body::Body;
use axum::http::Request;
use clicks::wire::decode;
use serde_json::json;

use super::support::*;

#[tokio::test]
async fn one_click_is_answered_with_its_id_once_it_is_on_the_log() {
    let log = TestLog::new(Mood::Well);
    let app = app(patient(), &log);
    let reply = post(&app, click(1)).await;
    assert_eq!((reply.status, reply.header("content-type")), (202, "application/json"));
    assert_eq!(reply.text, r#"{"click_id":"00000000-0000-0000-0000-000000000001"}"#);
    assert_eq!(log.values().await, [click(1)]);

    let reply = post(&app, ANONYMOUS).await;
    assert_eq!(reply.status, 202);
    let issued = reply.json()["click_id"].as_str().unwrap().to_owned();
    let records = log.records().await;
    let ids: Vec<_> = records.iter().map(|r| decode(r.value.as_deref()).unwrap().click_id.to_string()).collect();
    assert!(ids.contains(&issued), "{issued} is not among {ids:?}");
}

#[tokio::test]
async fn records_carry_key_time_and_agent_and_nothing_else_of_the_request() {
    let log = TestLog::new(Mood::Well);
    let app = app(patient(), &log);
    let agent = "é".repeat(600);
    let request = Request::post("/v1/clicks")
        .header("tf-control", "heartbeat")
        .header("tf-received", "1")
        .header("user-agent", agent.as_bytes())
        .body(Body::from(format!("[{}]", click(1))));
    assert_eq!(send(&app, request.unwrap()).await.status, 202);
    let records = log.records().await;
    let [record] = records.as_slice() else { panic!("{records:?}") };
    assert_eq!(record.key.as_deref(), Some(b"ad-1".as_slice()));
    assert!(!record.is_control());
    let headers: Vec<_> = record.headers.iter().map(|h| (h.name.as_str(), h.value.as_deref().unwrap())).collect();
    let kept = "é".repeat(512);
    assert_eq!(headers, [("tf-received", b"1772366400000".as_slice()), ("user-agent", kept.as_bytes())]);

    // An agent that is no UTF-8, or none, leaves no header.
    let request = Request::post("/v1/clicks").header("user-agent", b"\xff".as_slice()).body(Body::from(click(2)));
    assert_eq!(send(&app, request.unwrap()).await.status, 202);
    let records = log.records().await;
    let second = records.iter().find(|r| r.key.as_deref() == Some(b"ad-2")).unwrap();
    assert_eq!(second.headers.len(), 1);
}

#[tokio::test]
async fn arrays_and_lines_are_answered_item_by_item() {
    let log = TestLog::new(Mood::Well);
    let app = app(patient(), &log);
    let ids = ["00000000-0000-0000-0000-000000000001", "00000000-0000-0000-0000-000000000002"];
    let want = json!({"accepted": 2, "rejected": 0,
        "results": [{"index": 0, "click_id": ids[0]}, {"index": 1, "click_id": ids[1]}]});
    let reply = post(&app, format!("[{},\n {}]", click(1), click(2))).await;
    assert_eq!((reply.status, reply.json()), (202, want.clone()));

    for content_type in ["application/x-ndjson", "Application/JSON; charset=utf-8", "text/plain;charset=UTF-8", ""] {
        let body = format!("{}\n\n  \r\n{}\n", click(1), click(2));
        let request = Request::post("/v1/clicks").header("content-type", content_type).body(Body::from(body));
        let reply = send(&app, request.unwrap()).await;
        assert_eq!((reply.status, reply.json()), (202, want.clone()), "{content_type}");
    }
    let request = Request::post("/v1/clicks").body(Body::from(click(1)));
    assert_eq!(send(&app, request.unwrap()).await.status, 202, "no content type at all");
    // One line is a batch all the same where NDJSON is declared.
    let request = Request::post("/v1/clicks").header("content-type", "application/x-ndjson").body(Body::from(click(1)));
    assert_eq!(send(&app, request.unwrap()).await.json()["accepted"], 1);
}

#[tokio::test]
async fn bad_items_do_not_spoil_the_good_ones() {
    let log = TestLog::new(Mood::Well);
    let app = app(patient(), &log);
    let before = metric(r#"twofold_collector_rejected_total{code="bad_ad_id"}"#);
    let bad = click(2).replace("ad-2", "ad/2");
    let body = format!("{}\n{bad}\nnonsense\n{}\n", click(1), click(3));
    let request = Request::post("/v1/clicks").header("content-type", "application/x-ndjson").body(Body::from(body));
    let reply = send(&app, request.unwrap()).await;
    assert_eq!(reply.status, 202);
    let json = reply.json();
    assert_eq!((&json["accepted"], &json["rejected"]), (&json!(2), &json!(2)));
    assert_eq!(
        json["results"][1],
        json!({"index": 1, "error": {"code": "bad_ad_id", "field": "ad_id",
            "detail": "`ad_id` has the character '/'; only A-Z a-z 0-9 _ . - are allowed"}})
    );
    assert_eq!(json["results"][2]["error"]["code"], "not_json");
    assert_eq!(json["results"][3]["click_id"], "00000000-0000-0000-0000-000000000003");
    assert_eq!(log.values().await, [click(1), click(3)]);
    assert!(metric(r#"twofold_collector_rejected_total{code="bad_ad_id"}"#) >= before + 1.0);
}

#[tokio::test]
async fn a_retry_is_written_again_under_the_same_id() {
    // Recognising it is the counters' work; the collector keeps no state that could be wrong.
    let log = TestLog::new(Mood::Well);
    let app = app(patient(), &log);
    let first = post(&app, click(1)).await;
    let second = post(&app, click(1)).await;
    assert_eq!((second.status, &second.text), (202, &first.text));
    assert_eq!(log.values().await, [click(1), click(1)]);
}

#[tokio::test]
async fn a_full_batch_keeps_its_order_within_a_partition() {
    let log = TestLog::new(Mood::Well);
    let app = app(patient(), &log);
    let body: String = (0..1_000).map(|number| click(number) + "\n").collect();
    let request = Request::post("/v1/clicks").header("content-type", "application/x-ndjson").body(Body::from(body));
    let reply = send(&app, request.unwrap()).await;
    assert_eq!((reply.status, reply.json()["accepted"].as_u64()), (202, Some(1_000)));
    let records = log.records().await;
    assert_eq!(records.len(), 1_000);
    for pair in records.windows(2) {
        if pair[1].offset > pair[0].offset {
            let ids = pair.iter().map(|r| decode(r.value.as_deref()).unwrap().click_id).collect::<Vec<_>>();
            assert!(ids[0] < ids[1], "{ids:?}");
        }
    }
}

#[tokio::test]
async fn metrics_and_probes_are_served() {
    let log = TestLog::new(Mood::Well);
    let app = app(patient(), &log);
    assert_eq!(get(&app, "/livez").await.status, 200);
    assert_eq!(get(&app, "/readyz").await.status, 503, "nobody has asked the log yet");
    let text = get(&app, "/metrics").await.text;
    for series in [
        r#"twofold_collector_clicks_total{result="accepted"}"#,
        r#"twofold_collector_clicks_total{result="rejected"}"#,
        r#"twofold_collector_clicks_total{result="unavailable"}"#,
        r#"twofold_collector_rejected_total{code="too_old"}"#,
        r#"twofold_collector_rejected_total{code="duplicate_field"}"#,
        r#"twofold_collector_rejected_total{code="body_too_large"}"#,
        "twofold_collector_late_acknowledgements_total",
        "twofold_collector_in_flight_records",
    ] {
        assert!(text.contains(series), "{series} is not among\n{text}");
    }
    let before = metric(r#"twofold_collector_clicks_total{result="accepted"}"#);
    post(&app, click(1)).await;
    assert!(metric(r#"twofold_collector_clicks_total{result="accepted"}"#) >= before + 1.0);
    assert!(metric(r#"twofold_collector_requests_total{status="202"}"#) >= 1.0);
    assert!(metric("twofold_collector_append_seconds_count") >= 1.0);
}
