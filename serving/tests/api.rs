//! The API over HTTP: golden answers, the boundaries of the merge, every source away, every bad question.
#![allow(clippy::unwrap_used)]

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clicks::ledger::DayTotals;
use clicks::live::Meta;
use clicks::position::{Offset, PartitionId};
use platform::objects::Objects;
use serde_json::{Value, json};
use serving::{Archive, Options, Reach, ServingError};
use support::{System, at, day, days, filled, filled_over, get, home, partition, request, until_ready};

async fn ok(address: SocketAddr, path: &str) -> Value {
    let answer = get(address, path).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    assert_eq!(answer.header("content-type"), Some("application/json"));
    answer.json()
}

fn totals(body: &Value) -> Vec<Option<u64>> {
    body["data"].as_array().unwrap().iter().map(|row| row["total"].as_u64()).collect()
}

fn codes(body: &Value) -> Vec<&str> {
    body["meta"]["reasons"].as_array().unwrap().iter().map(|reason| reason["code"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn an_answer_is_pinned() {
    let (_system, running) = filled().await;
    let path = "/v1/clicks?from=2026-03-03T23:59:00Z&to=2026-03-04T00:01:00Z&ad_id=a&granularity=minute";
    let golden = json!({
        "meta": {
            "granularity": "minute",
            "time_zone": "UTC",
            "from": "2026-03-03T23:59:00.000Z",
            "to": "2026-03-04T00:01:00.000Z",
            "clipped_at": null,
            "as_of": "2026-03-04T12:00:29.000Z",
            "freshness_ms": 1000,
            "complete": true,
            "reasons": [],
            "closed_through": "2026-03-03",
            "ledger_position": 4,
            "segments": [
                { "from": "2026-03-03T23:59:00.000Z", "to": "2026-03-04T00:00:00.000Z",
                  "source": "batch", "state": "closed", "revision": 1,
                  "clicks": 0, "adjustment": 0, "total": 0, "late_pending": 0, "complete": true },
                { "from": "2026-03-04T00:00:00.000Z", "to": "2026-03-04T00:01:00.000Z",
                  "source": "speed", "state": "live", "revision": null,
                  "clicks": 5, "adjustment": 0, "total": 5, "late_pending": 0, "complete": true },
            ],
        },
        "data": [
            { "period_start": "2026-03-03T23:59:00.000Z", "period_end": "2026-03-04T00:00:00.000Z", "ad_id": "a",
              "tenant": null, "campaign": null,
              "clicks": 0, "adjustment": 0, "total": 0, "late_pending": 0, "last_live": 0,
              "late": 0, "removed": 0,
              "source": "batch", "state": "closed", "revision": 1, "complete": true },
            { "period_start": "2026-03-04T00:00:00.000Z", "period_end": "2026-03-04T00:01:00.000Z", "ad_id": "a",
              "tenant": null, "campaign": null,
              "clicks": 5, "adjustment": 0, "total": 5, "late_pending": 0, "last_live": null,
              "late": null, "removed": null,
              "source": "speed", "state": "live", "revision": null, "complete": true },
        ],
    });
    assert_eq!(ok(running.address, path).await, golden);
}

#[tokio::test]
async fn days_hours_and_minutes_agree_across_the_boundary() {
    let (_system, running) = filled().await;
    let by_day = ok(running.address, "/v1/clicks?from=2026-02-28&to=2026-03-05&granularity=day").await;
    assert_eq!(totals(&by_day), [Some(0), Some(109), Some(54), Some(1), Some(14)]);
    let rows = by_day["data"].as_array().unwrap();
    let states: Vec<_> = rows.iter().map(|row| (row["source"].as_str(), row["state"].as_str())).collect();
    let want = [("none", "final"), ("batch", "adjusted"), ("batch", "closed"), ("batch", "closed"), ("speed", "live")];
    assert_eq!(states, want.map(|(source, state)| (Some(source), Some(state))));
    assert_eq!((rows[1]["clicks"].as_u64(), rows[1]["adjustment"].as_u64()), (Some(107), Some(2)));
    // Scenario 18: 50 late clicks of day three lie within its revision, 9 came after its cut.
    assert_eq!((rows[3]["late_pending"].as_u64(), rows[4]["late_pending"].as_u64()), (Some(9), Some(3)));
    for grain in ["hour", "minute"] {
        let finer = ok(running.address, &format!("/v1/clicks?from=2026-02-28&to=2026-03-05&granularity={grain}")).await;
        assert_eq!(totals(&finer).into_iter().flatten().sum::<u64>(), 178, "{grain}");
        assert_eq!(finer["meta"]["segments"].as_array().unwrap().len(), 4);
    }
    let by_ad =
        ok(running.address, "/v1/clicks?from=2026-03-01&to=2026-03-05&granularity=day&ad_id=a,b&ad_id=nobody").await;
    assert_eq!(totals(&by_ad)[..8], [Some(102), Some(50), Some(1), Some(6), Some(7), Some(0), Some(0), Some(6)]);
    assert_eq!(totals(&by_ad)[8..], [Some(0); 4]);
}

#[tokio::test]
async fn the_defaults_are_the_last_hour_by_minute_and_end_with_the_running_minute() {
    let (_system, running) = filled().await;
    let body = ok(running.address, "/v1/clicks").await;
    assert_eq!(body["data"].as_array().unwrap().len(), 60);
    assert_eq!(body["meta"]["to"], "2026-03-04T12:01:00.000Z");
    assert_eq!(totals(&body)[58..], [Some(6), Some(3)]);
    let clipped = ok(running.address, "/v1/clicks?from=2026-03-04&to=2026-04-01&granularity=hour").await;
    assert_eq!(clipped["meta"]["clipped_at"], "2026-03-04T13:00:00.000Z");
    assert_eq!(clipped["data"].as_array().unwrap().len(), 13);
}

#[tokio::test]
async fn ads_are_ranked_over_the_whole_range() {
    let (_system, running) = filled().await;
    let body = ok(running.address, "/v1/ads?from=2026-03-01&to=2026-03-05&limit=2").await;
    let rows: Vec<_> =
        body["data"].as_array().unwrap().iter().map(|r| (r["ad_id"].as_str().unwrap(), &r["total"])).collect();
    assert_eq!(rows, [("a", &json!(159)), ("b", &json!(13))]);
    assert_eq!(body["count"], 3);
    let hour = ok(running.address, "/v1/ads?from=2026-03-04T11:00:00Z&to=2026-03-04T12:00:00Z").await;
    assert_eq!(hour["data"].as_array().unwrap().len(), 1);
    let minute = ok(running.address, "/v1/ads?from=2026-03-04T12:00:00Z&to=2026-03-04T12:01:00Z").await;
    assert_eq!(minute["data"][0]["ad_id"], "c");
}

#[tokio::test]
async fn days_tell_what_both_layers_say() {
    let (_system, running) = filled().await;
    let body = ok(running.address, "/v1/days?last=400").await;
    let rows = body["data"].as_array().unwrap();
    let days: Vec<_> = rows.iter().map(|row| row["day"].as_str().unwrap()).collect();
    assert_eq!(days, ["2026-03-04", "2026-03-03", "2026-03-02", "2026-03-01"]);
    // Of day three the live counts are still there; earlier ones are unknown, not zero.
    assert_eq!((&rows[1]["last_live"], &rows[1]["unexplained"]), (&json!(1), &json!(-1)));
    assert_eq!((&rows[2]["last_live"], &rows[2]["unexplained"]), (&Value::Null, &Value::Null));
    assert_eq!(
        (&rows[2]["late"], &rows[2]["duplicates"], &rows[2]["far_duplicates"]),
        (&json!(3), &json!(5), &json!(1))
    );
    assert_eq!(
        (&rows[0]["late"], &rows[0]["revision"], &rows[0]["state"]),
        (&Value::Null, &Value::Null, &json!("live"))
    );
}

#[tokio::test]
async fn status_tells_where_every_partition_stands() {
    let (_system, running) = filled().await;
    let body = ok(running.address, "/v1/status").await;
    assert_eq!(body["ledger"]["position"], 4);
    assert_eq!(body["ledger"]["next_night"], "2026-03-04");
    assert_eq!(body["ledger"]["next_due"], "2026-03-05T00:10:00.000Z");
    assert_eq!(body["ledger"]["withheld"], json!([]));
    let partitions = body["partitions"].as_array().unwrap();
    assert_eq!(partitions.len(), 2);
    assert_eq!(partitions[1]["partition"], partition(1).to_string());
    assert_eq!(partitions[1]["live"]["lag_ms"], 1000);
    assert_eq!(partitions[1]["live"]["rebuilding"], false);
}

/// One partition is stored up to offset 7, of the other nothing can be told.
#[derive(Debug)]
struct HalfStored;

#[async_trait::async_trait]
impl Archive for HalfStored {
    async fn reach(&self, asked: &PartitionId) -> Result<Reach, String> {
        match *asked == partition(0) {
            true => Ok(Reach { next_offset: Offset::new(7), append_time: Some(at(days().2.next(), 11, 50)) }),
            false => Err("the store is away".to_owned()),
        }
    }
}

#[tokio::test]
async fn status_tells_how_far_every_partition_is_archived() {
    let (mut system, running) = filled().await;
    assert_eq!(
        ok(running.address, "/v1/status").await["partitions"][0]["archive"],
        Value::Null,
        "nobody reads it here"
    );
    system.archive = Some(Arc::new(HalfStored));
    let running = system.serve().await;
    let body = ok(running.address, "/v1/status").await;
    let stored = json!({
        "trouble": null, "next_offset": 7, "append_time": "2026-03-04T11:50:00.000Z", "lag_ms": 10 * 60_000 + 30_000
    });
    assert_eq!(body["partitions"][0]["archive"], stored);
    let unknown = json!({ "trouble": "the store is away", "next_offset": null, "append_time": null, "lag_ms": null });
    assert_eq!(body["partitions"][1]["archive"], unknown);
}

#[tokio::test]
async fn with_the_store_away_closed_days_are_answered_and_flagged() {
    let (system, running) = filled().await;
    system.store.go_away(true);
    let body = ok(running.address, "/v1/clicks?from=2026-03-03&to=2026-03-05&granularity=day").await;
    assert_eq!(totals(&body), [Some(1), None]);
    assert_eq!((&body["meta"]["complete"], codes(&body)), (&json!(false), vec!["speed_away"]));
    assert_eq!((&body["data"][0]["complete"], &body["data"][1]["complete"]), (&json!(true), &json!(false)));
    assert_eq!(body["data"][0]["late_pending"], Value::Null);
    assert_eq!(get(running.address, "/readyz").await.status, 200);
    let status = ok(running.address, "/v1/status").await;
    assert!(status["partitions"][0]["trouble"].is_string());
    system.store.go_away(false);
    tokio::time::sleep(Duration::from_millis(5)).await;
    let body = ok(running.address, "/v1/clicks?from=2026-03-03&to=2026-03-05&granularity=day").await;
    assert_eq!((&body["meta"]["complete"], totals(&body)), (&json!(true), vec![Some(1), Some(14)]));
}

/// The store answers, but nobody has counted for hours.
#[tokio::test]
async fn with_the_workers_dead_live_periods_and_late_clicks_are_flagged() {
    let (system, running) = filled().await;
    let live = day("2026-03-04");
    system.clock.advance_to(at(live, 15, 0));
    let path = "/v1/clicks?from=2026-03-04T11:49:00Z&to=2026-03-04T11:51:00Z";
    let body = ok(running.address, path).await;
    // On-time clicks of 11:49 came until 12:00, and the workers stopped at 12:00:29.
    assert_eq!((&body["data"][0]["complete"], &body["data"][1]["complete"]), (&json!(true), &json!(false)));
    let closed = ok(running.address, "/v1/clicks?from=2026-03-03&to=2026-03-04&granularity=day").await;
    assert_eq!((totals(&closed), &closed["data"][0]["complete"]), (vec![Some(1)], &json!(true)));
    assert_eq!((&closed["data"][0]["late_pending"], codes(&closed)), (&Value::Null, vec!["behind", "behind"]));
    let ads = ok(running.address, "/v1/ads?from=2026-03-03&to=2026-03-04").await;
    assert_eq!((&ads["meta"]["complete"], &ads["data"][0]["late_pending"]), (&json!(false), &Value::Null));
}

#[tokio::test]
async fn a_lost_partition_is_named_and_only_its_ads_suffer() {
    let (mut system, running) = filled().await;
    let (broken, whole) = (home("a"), 1 - home("a"));
    let live = day("2026-03-04");
    let meta = Meta { append_time: at(live, 12, 0), ..Meta::new(Offset::ZERO, live, live, Offset::new(1_000)) };
    system.flush(broken, meta, Vec::new(), Vec::new()).await;
    tokio::time::sleep(Duration::from_millis(5)).await;
    let body = ok(running.address, "/v1/clicks?from=2026-03-04&to=2026-03-05&granularity=day&ad_id=a").await;
    assert_eq!((&body["meta"]["complete"], codes(&body)), (&json!(false), vec!["rebuilding"]));
    assert_eq!(body["meta"]["reasons"][0]["partition"], partition(broken).to_string());
    let other = ["b", "c", "d", "e", "f", "g"].into_iter().find(|ad| home(ad) == whole).unwrap();
    let body =
        ok(running.address, &format!("/v1/clicks?from=2026-03-04&to=2026-03-05&granularity=day&ad_id={other}")).await;
    assert_eq!(body["meta"]["complete"], true);
}

/// Scenario 20: the server's books are older than what the speed layer has dropped; they are read again, at once.
#[tokio::test]
async fn a_newer_base_day_makes_the_server_read_the_ledger() {
    let (one, two, _) = days();
    let mut system = System::new(one, at(two, 1, 0)).await;
    let options = Options {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        ledger_refresh: Duration::from_secs(3_600),
        live_refresh: Duration::ZERO,
        ..Options::default()
    };
    system.count(one, at(two, 1, 0), &[(at(one, 1, 0), "a", 9)], &[]).await;
    let running = system.ready(options).await;
    let path = "/v1/clicks?from=2026-03-01&to=2026-03-03&granularity=day";
    assert_eq!(totals(&ok(running.address, path).await), [Some(9), Some(0)]);
    // The base day moves although nothing was published: then the day is unknown, not a small number.
    system.count(two, at(two, 1, 0), &[(at(two, 0, 30), "a", 4)], &[]).await;
    let body = ok(running.address, path).await;
    assert_eq!((totals(&body), codes(&body)), (vec![None, Some(4)], vec!["base_day", "base_day"]));
    system.close(&[(at(one, 1, 0), "a", 10)], DayTotals::default(), &[], &[]).await;
    let body = ok(running.address, path).await;
    assert_eq!((totals(&body), &body["meta"]["complete"]), (vec![Some(10), Some(4)], &json!(true)));
}

#[tokio::test]
async fn a_changed_or_missing_table_is_unknown_and_says_why() {
    let (system, running) = filled().await;
    let books = system.ledger.read().await.unwrap();
    let revision = |n: u32| books.day(day(&format!("2026-03-0{n}"))).unwrap().revision.clone();
    let mut bytes = system.objects.get(&revision(2).day_file.key).await.unwrap().unwrap().to_vec();
    bytes[40] ^= 1;
    system.objects.put(&revision(2).day_file.key, bytes.into()).await.unwrap();
    system.objects.delete(&revision(3).day_file.key).await.unwrap();
    let body = ok(running.address, "/v1/clicks?from=2026-03-01&to=2026-03-05&granularity=day").await;
    assert_eq!(totals(&body), [Some(109), None, None, Some(14)]);
    assert_eq!(codes(&body), ["table_away", "table_away"]);
    let message = body["meta"]["reasons"][0]["message"].as_str().unwrap();
    assert!(message.contains("2026-03-02") && message.contains("another hash"), "{message}");
    // The files of the other grains are as good as before.
    let hours = ok(running.address, "/v1/clicks?from=2026-03-02&to=2026-03-03&granularity=hour").await;
    assert_eq!(totals(&hours).into_iter().flatten().sum::<u64>(), 54);
}

/// The next entry cannot be read, so nobody knows whether there is one: answers go on at the last position and say so.
#[tokio::test]
async fn a_ledger_that_goes_away_is_flagged_and_comes_back() {
    let folder = tempfile::tempdir().unwrap();
    let (_system, running) = filled_over(Objects::open_folder(folder.path().to_owned()).unwrap()).await;
    let path = "/v1/clicks?from=2026-03-03&to=2026-03-05&granularity=day";
    let complete = ok(running.address, path).await;
    assert_eq!(complete["meta"]["complete"], true);
    let next = folder.path().join(clicks::ledger::entry_key(5));
    std::os::unix::fs::symlink(&next, &next).unwrap();
    let until = |complete| async move {
        loop {
            let body = ok(running.address, path).await;
            if body["meta"]["complete"] == complete {
                return body;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let flagged = tokio::time::timeout(Duration::from_secs(10), until(false)).await.unwrap();
    assert_eq!((totals(&flagged), codes(&flagged)), (totals(&complete), vec!["ledger_stale"]));
    assert_eq!(get(running.address, "/readyz").await.status, 200);
    std::fs::remove_file(&next).unwrap();
    tokio::time::timeout(Duration::from_secs(10), until(true)).await.unwrap();
}

#[tokio::test]
async fn without_a_ledger_there_is_no_answer_yet_and_with_a_broken_one_the_process_ends() {
    let (one, ..) = days();
    let system = System::new(one, at(one, 1, 0)).await;
    let genesis = clicks::ledger::entry_key(0);
    let bytes = system.objects.get(&genesis).await.unwrap().unwrap();
    system.objects.delete(&genesis).await.unwrap();
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = Options { listen, ledger_refresh: Duration::from_millis(10), ..Options::default() };
    let running = system.start(options).await.unwrap();
    let answer = get(running.address, "/v1/clicks").await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")));
    assert_eq!(answer.json()["type"], "urn:twofold:problem:not-ready");
    assert_eq!(get(running.address, "/livez").await.status, 200);
    assert_eq!(get(running.address, "/readyz").await.status, 503);
    system.objects.put(&genesis, bytes).await.unwrap();
    until_ready(running.address).await;
    system.objects.put(&clicks::ledger::entry_key(2), r#"{"version":1,"number":2}"#.into()).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), running.task).await.unwrap().unwrap();
    assert!(matches!(ended, Err(ServingError::Ledger(_))), "{ended:?}");
}

/// Room for one table at a time, and none is kept: a year is as good as a day, as long as each is let go once it is merged.
#[tokio::test]
async fn a_long_range_needs_no_more_memory_than_a_short_one() {
    let (one, ..) = days();
    let system = System::new(one, at(one, 0, 0)).await;
    for n in 0..40 {
        let day = one.plus(n);
        system.close(&[(at(day, 1, 0), "a", 2), (at(day, 2, 0), "b", 1)], DayTotals::default(), &[], &[]).await;
    }
    system.clock.advance_to(at(one.plus(40), 12, 0));
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let options = Options { listen, reads_bytes_max: 1, tables_bytes_max: 0, ..Options::default() };
    let running = system.ready(options).await;
    let path = "/v1/ads?from=2026-03-01&to=2026-04-10";
    let asked = futures::future::join_all((0..8).map(|_| ok(running.address, path)));
    let answers = tokio::time::timeout(Duration::from_secs(20), asked).await.expect("nobody waits for ever");
    for body in answers {
        let rows: Vec<_> = body["data"].as_array().unwrap().iter().map(|row| &row["total"]).collect();
        assert_eq!(rows, [&json!(80), &json!(40)]);
    }
}

/// Another question waits for a file that does not come: what is in memory is answered all the same.
#[tokio::test]
async fn kept_tables_do_not_wait_behind_files_that_come_slowly() {
    let folder = tempfile::tempdir().unwrap();
    let (one, two, _) = days();
    let system = System::over(Objects::open_folder(folder.path().to_owned()).unwrap(), one, at(two, 1, 0)).await;
    for _ in [one, two] {
        system.close(&[(at(one, 1, 0), "a", 2)], DayTotals::default(), &[], &[]).await;
    }
    system.clock.advance_to(at(two.next(), 1, 0));
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    let running = system.ready(Options { listen, reads_bytes_max: 1, ..Options::default() }).await;
    let path = "/v1/clicks?from=2026-03-01&to=2026-03-02&granularity=day";
    ok(running.address, path).await;
    // Opening a pipe that nobody writes to takes for ever.
    let books = system.ledger.read().await.unwrap();
    let file = folder.path().join(&books.day(two).unwrap().revision.day_file.key);
    std::fs::remove_file(&file).unwrap();
    assert!(std::process::Command::new("mkfifo").arg(&file).status().unwrap().success());
    let slow =
        tokio::spawn(
            async move { get(running.address, "/v1/clicks?from=2026-03-02&to=2026-03-03&granularity=day").await },
        );
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!slow.is_finished());
    let answered = tokio::time::timeout(Duration::from_secs(5), ok(running.address, path)).await;
    // Lets the reader go.
    drop(std::fs::OpenOptions::new().write(true).open(&file).unwrap());
    slow.await.unwrap();
    assert_eq!(totals(&answered.unwrap()), [Some(2)]);
}

#[tokio::test]
async fn wide_questions_wait_for_their_turn_and_narrow_ones_do_not() {
    let (system, _running) = filled().await;
    let listen = SocketAddr::from(([127, 0, 0, 1], 0));
    // Nobody's turn ever comes.
    let options = Options { listen, wide_max: 0, wide_wait: Duration::from_millis(20), ..Options::default() };
    let running = system.ready(options).await;
    for path in ["/v1/clicks?from=2026-03-03&to=2026-03-05&granularity=day", "/v1/ads?from=2026-03-03", "/v1/days"] {
        let answer = get(running.address, path).await;
        assert_eq!((answer.status, answer.header("retry-after")), (503, Some("1")), "{path}: {}", answer.body);
        assert_eq!(answer.json()["type"], "urn:twofold:problem:busy");
    }
    for path in ["/v1/clicks", "/v1/ads", "/v1/clicks?from=2026-03-01&granularity=day&ad_id=a", "/v1/status"] {
        ok(running.address, path).await;
    }
}

#[tokio::test]
async fn a_taken_port_says_so() {
    let (_system, running) = filled().await;
    let (system, _other) = filled().await;
    let refused = system.start(Options { listen: running.address, ..Options::default() }).await.unwrap_err();
    let text = refused.to_string();
    assert!(text.contains(&running.address.to_string()) && text.contains("choose another"), "{text}");
}

#[tokio::test]
async fn every_bad_question_is_refused_with_parameter_reason_and_mend() {
    let (_system, running) = filled().await;
    let cases = [
        ("/v1/clicks?from=2026-03-04&to=2026-03-03", "from", "later than"),
        ("/v1/clicks?from=2026-03-04&to=2026-03-04", "to", "exclusive"),
        ("/v1/clicks?from=2026-03-05T00:00:00Z", "from", "later than"),
        ("/v1/clicks?from=2026-03-05&to=2026-03-06", "from", "later than now"),
        ("/v1/clicks?granularity=week", "granularity", "minute, hour or day"),
        ("/v1/clicks?granularity=", "granularity", "minute, hour or day"),
        ("/v1/clicks?granularity=day&granularity=day", "granularity", "more than once"),
        ("/v1/clicks?from=2026-03-01T00:00:00", "from", "no offset"),
        ("/v1/clicks?from=1772323200000", "from", "neither a timestamp nor a day"),
        ("/v1/clicks?to=tomorrow", "to", "neither a timestamp nor a day"),
        ("/v1/clicks?from=2026-03-04T11:00:30Z", "from", "does not begin a minute"),
        ("/v1/clicks?from=2026-03-04T11:30:00Z&granularity=hour", "from", "2026-03-04T11:00:00.000Z"),
        ("/v1/clicks?from=2026-01-01&granularity=minute", "from", "20000"),
        ("/v1/clicks?from=1901-01-01&to=2026-03-04&granularity=day", "from", "20000"),
        ("/v1/clicks?from=0001-01-01&to=2026-03-04&granularity=day", "from", "1900 to 2999"),
        ("/v1/clicks?to=9999-12-31&from=2026-03-04&granularity=day", "to", "1900 to 2999"),
        ("/v1/clicks?to=0000-01-01&granularity=day&format=arrow", "from", "1900 to 2999"),
        ("/v1/clicks?to=-0001-01-02&granularity=day&tz=Asia/Kathmandu&format=arrow", "from", "1900 to 2999"),
        ("/v1/ads?from=-262143-01-02&to=%2B262142-12-31", "from", "1900 to 2999"),
        ("/v1/clicks?ad_id=", "ad_id", "empty"),
        ("/v1/clicks?ad_id=a%2Fb", "ad_id", "'/'"),
        ("/v1/clicks?ad_id=a,,b", "ad_id", "empty"),
        ("/v1/clicks?ad_id=%7Bp3%7D", "ad_id", "'{'"),
        ("/v1/clicks?ad=a", "ad", "`ad_id`"),
        ("/v1/clicks?granularty=hour", "granularty", "`granularity`"),
        ("/v1/ads?limit=0", "limit", "1 to 1000"),
        ("/v1/ads?limit=1001", "limit", "1 to 1000"),
        ("/v1/ads?limit=-1", "limit", "1 to 1000"),
        ("/v1/ads?granularity=day", "granularity", "unknown"),
        ("/v1/days?last=x", "last", "1 to 400"),
        ("/v1/days?last=1&last=2", "last", "more than once"),
        ("/v1/status?verbose=1", "verbose", "no parameters"),
    ];
    for (path, parameter, part) in cases {
        let answer = get(running.address, path).await;
        assert_eq!(answer.status, 400, "{path}: {}", answer.body);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
        let body = answer.json();
        assert_eq!(body["parameter"], parameter, "{path}: {body}");
        assert!(body["detail"].as_str().unwrap().contains(part), "{path}: {body}");
        assert!(!body["mend"].as_str().unwrap().is_empty());
    }
    let many: Vec<_> = (0..101).map(|n| format!("ad-{n}")).collect();
    let answer = get(running.address, &format!("/v1/clicks?ad_id={}", many.join(","))).await;
    assert_eq!((answer.status, &answer.json()["parameter"]), (400, &json!("ad_id")));
    assert_eq!(get(running.address, "/v1/clicks?ad_id=%FF").await.status, 400);
    let nowhere = get(running.address, "/v2/clicks").await;
    assert_eq!((nowhere.status, nowhere.header("content-type")), (404, Some("application/problem+json")));
    assert_eq!(request(running.address, "POST", "/v1/clicks", "").await.status, 405);
}

#[tokio::test]
async fn the_page_is_part_of_the_binary_and_is_cached_by_its_hash() {
    let (_system, running) = filled().await;
    let files = ["/", "/status", "/status.js", "/app.js", "/time.js", "/chart.js", "/style.css", "/icon.svg"];
    for path in files.into_iter().chain(["/shared.js", "/tables.js", "/uplot/uPlot.js", "/uplot/uPlot.css"]) {
        let first = get(running.address, path).await;
        assert_eq!(first.status, 200, "{path}");
        let policy = first.header("content-security-policy").unwrap();
        assert!(policy.contains("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
        let tag = first.header("etag").unwrap();
        let again = request(running.address, "GET", path, &format!("If-None-Match: {tag}\r\n")).await;
        assert_eq!((again.status, again.body.as_str()), (304, ""), "{path}");
    }
    // Metrics are on a port of their own.
    assert_eq!(get(running.address, "/metrics").await.status, 404);
    let metrics = platform::telemetry::render();
    assert!(metrics.contains("twofold_serving_requests_total"), "{metrics}");
}
