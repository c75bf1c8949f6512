//! What the ledger says of earlier positions and of nights.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use clicks::ledger::DayTotals;
use platform::objects::Objects;
use serde_json::{Value, json};
use support::{Running, ask, filled, filled_over, get, json_of, numbers, texts};

#[tokio::test]
async fn what_was_published_at_a_position_stays_as_it_was() {
    let (system, running) = filled().await;
    // Ranges of whole days elsewhere are read by the day, cut at midnight UTC: of a year, too.
    let ranked = json_of(&running, "/v1/ads?from=2025-03-01&to=2026-03-05&tz=Asia/Kathmandu").await;
    assert_eq!(
        (texts(&ranked, "ad_id"), numbers(&ranked, "total")),
        (vec!["a", "b", "c"], vec![Some(159), Some(13), Some(6)])
    );
    // At position 3 two days were closed; the third night found two more clicks of the first.
    let path = |position: &str| format!("/v1/clicks?from=2026-03-01&to=2026-03-03&granularity=day&position={position}");
    let answer = ask(&running, &path("3"), &[]).await;
    assert_eq!(answer.headers()["cache-control"], "max-age=3600, immutable");
    let then: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap();
    assert_eq!(numbers(&then, "total"), [Some(107), Some(54)]);
    assert_eq!(numbers(&then, "late_pending"), [None, None]);
    let meta = &then["meta"];
    assert_eq!((&meta["complete"], &meta["pinned"], &meta["ledger_position"]), (&json!(true), &json!(true), &json!(3)));
    assert_eq!(meta["closed_through"], "2026-03-02");
    assert_eq!(numbers(&json_of(&running, &path("4")).await, "total"), [Some(109), Some(54)]);
    assert_eq!(
        numbers(&json_of(&running, "/v1/clicks?from=2026-03-01&to=2026-03-03&granularity=day").await, "total"),
        [Some(109), Some(54)]
    );
    let ads = json_of(&running, "/v1/ads?from=2026-03-01&to=2026-03-02&position=3").await;
    assert_eq!((texts(&ads, "ad_id"), numbers(&ads, "total")), (vec!["a", "b"], vec![Some(100), Some(7)]));
    // With the speed layer away it is as good as ever.
    system.store.go_away(true);
    assert_eq!(json_of(&running, &path("3")).await, then);
    for (position, part) in [
        ("2", "2026-03-02 was not closed yet at ledger position 2"),
        ("5", "no position 5 yet, its last one is 4"),
        ("18446744073709551615", "its last one is 4"),
        ("x", "`x` is no ledger position"),
        ("-1", "is no ledger position"),
        ("", "is no ledger position"),
    ] {
        let answer = get(running.address, &path(position)).await;
        assert_eq!((answer.status, &answer.json()["parameter"]), (400, &json!("position")), "{position}");
        assert!(answer.json()["detail"].as_str().unwrap().contains(part), "{}", answer.body);
    }
}

#[tokio::test]
async fn nights_tell_what_their_entries_and_reports_say() {
    let (system, running) = filled().await;
    let report = json!({ "runner": "batch-1", "began_at": 1_000, "ended_at": 3_500, "checks": [],
        "drift": { "compared": { "live": 5, "exact": 5, "live_late": null, "exact_late": 2 } } });
    system.objects.put(&clicks::tables::report_key(4), report.to_string().into()).await.unwrap();
    system.objects.put(&clicks::tables::report_key(3), "no report".into()).await.unwrap();
    let body = json_of(&running, "/v1/nights").await;
    assert_eq!(texts(&body, "night"), ["2026-03-03", "2026-03-02", "2026-03-01"]);
    assert_eq!(numbers(&body, "entry"), [Some(4), Some(3), Some(2)]);
    assert_eq!(body["meta"]["ledger_position"], 4);
    let rows = body["data"].as_array().unwrap();
    assert_eq!(
        (&rows[0]["seconds"], &rows[0]["runner"], &rows[0]["drift"]),
        (&json!(2.5), &json!("batch-1"), &json!("equal"))
    );
    assert_eq!(rows[0]["drift_detail"], "on time: live 5, exact 5");
    assert_eq!(rows[0]["days"], json!(["2026-03-03"]));
    // Reports are for people: one that is missing or broken leaves its fields unknown.
    for row in &rows[1..] {
        assert_eq!((&row["seconds"], &row["drift"], &row["state"]), (&Value::Null, &Value::Null, &json!("published")));
    }
    assert_eq!(json_of(&running, "/v1/nights?last=1").await["data"].as_array().unwrap().len(), 1);
    // The report of the last run may come after its entry was seen.
    system.close(&[], DayTotals::default(), &[], &[]).await;
    let fifth = async |running: &Running| {
        loop {
            let body = json_of(running, "/v1/nights?last=1").await;
            if body["data"][0]["entry"] == 5 {
                return body["data"][0]["runner"].clone();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    assert_eq!(fifth(&running).await, Value::Null);
    system.objects.put(&clicks::tables::report_key(5), report.to_string().into()).await.unwrap();
    assert_eq!(fifth(&running).await, "batch-1");
}

/// An entry that cannot be read is no contradiction: the storage is away, and may come back.
#[tokio::test]
async fn a_storage_that_is_away_is_said_to_be_away() {
    let folder = tempfile::tempdir().unwrap();
    let (_system, running) = filled_over(Objects::open_folder(folder.path().to_owned()).unwrap()).await;
    let entry = folder.path().join(clicks::ledger::entry_key(3));
    let bytes = std::fs::read(&entry).unwrap();
    std::fs::remove_file(&entry).unwrap();
    std::os::unix::fs::symlink(&entry, &entry).unwrap();
    let pinned = "/v1/clicks?from=2026-03-01&to=2026-03-03&granularity=day&position=3";
    for path in [pinned, "/v1/nights"] {
        let answer = get(running.address, path).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{path}: {}", answer.body);
        assert_eq!(answer.json()["type"], "urn:twofold:problem:storage", "{path}");
    }
    std::fs::remove_file(&entry).unwrap();
    std::fs::write(&entry, bytes).unwrap();
    assert_eq!(numbers(&json_of(&running, pinned).await, "total"), [Some(107), Some(54)]);
    assert_eq!(json_of(&running, "/v1/nights").await["data"].as_array().unwrap().len(), 3);
}
