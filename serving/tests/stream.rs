//! The stream of live changes.
#![allow(clippy::unwrap_used)]

mod support;

use std::time::Duration;

use clicks::time::Span;
use reqwest::StatusCode;
use serde_json::{Value, json};
use serving::Options;
use support::{Running, ask, at, day, filled, listen, numbers, texts};

/// A stream that is read event by event.
struct Events {
    response: reqwest::Response,
    text: String,
}

impl Events {
    async fn open(running: &Running, path: &str, headers: &[(&'static str, &str)]) -> Self {
        let response = ask(running, path, headers).await;
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Events { response, text: String::new() }
    }

    /// The next event's name, id and data; `None` when the stream has ended.
    async fn next(&mut self) -> Option<(String, String, Value)> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field = |name: &str| {
                    let line = event.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                    line.map(|value| value.trim_start().to_owned())
                };
                let found = field("event").map(|name| (name, field("id").unwrap_or_default(), field("data").unwrap()));
                self.text = rest.to_owned();
                if let Some((name, id, data)) = found {
                    return Some((name, id, serde_json::from_str(&data).unwrap()));
                }
                continue;
            }
            let chunk = tokio::time::timeout(Duration::from_secs(20), self.response.chunk()).await.expect("it hangs");
            self.text += std::str::from_utf8(&chunk.unwrap()?).unwrap();
        }
    }
}

#[tokio::test]
async fn a_stream_tells_what_changes_and_nothing_twice() {
    let (mut system, _running) = filled().await;
    let live = day("2026-03-04");
    let options = Options {
        listen: listen(),
        live_refresh: Duration::from_millis(1),
        ledger_refresh: Duration::from_millis(20),
        stream_refresh: Duration::from_millis(10),
        streams_max: 2,
        ..Options::default()
    };
    let running = system.ready(options).await;
    let mut events = Events::open(&running, "/v1/stream?ad_id=a,b", &[]).await;
    let (name, id, first) = events.next().await.unwrap();
    assert_eq!((name.as_str(), first["data"].as_array().unwrap().len()), ("clicks", 120));
    // Two clicks more in the running minute, of one of the two ads.
    let reached = at(live, 12, 0) + Span::seconds(29);
    let counts = [(at(live, 11, 59), "b", 6), (at(live, 12, 0), "a", 3)];
    system.count(day("2026-03-03"), reached, &counts, &[]).await;
    let (_, next_id, change) = events.next().await.unwrap();
    assert_eq!((texts(&change, "ad_id"), numbers(&change, "total")), (vec!["a"], vec![Some(3)]));
    assert_eq!(texts(&change, "period_start"), ["2026-03-04T12:00:00.000Z"]);
    assert_ne!(id, next_id);
    // The store goes away: what is unknown is told at once, as null.
    system.store.go_away(true);
    let (_, _, away) = events.next().await.unwrap();
    assert_eq!(away["meta"]["reasons"][0]["code"], "speed_away");
    assert!(numbers(&away, "total").iter().all(Option::is_none) && numbers(&away, "total").len() == 120);
    system.store.go_away(false);
    let (_, back_id, back) = events.next().await.unwrap();
    assert_eq!((back["data"].as_array().unwrap().len(), &back_id), (120, &next_id));

    // Who comes back with what it knows is told nothing twice; who knows something older is told all.
    let mut again = Events::open(&running, "/v1/stream?ad_id=a,b", &[("last-event-id", &back_id)]).await;
    assert_eq!(again.next().await.unwrap().2["data"], json!([]));
    let refused = ask(&running, "/v1/stream", &[]).await;
    assert_eq!(
        (refused.status(), &refused.headers()["retry-after"]),
        (StatusCode::SERVICE_UNAVAILABLE, &"1".parse().unwrap())
    );
    drop(again);
    let mut older = loop {
        let answer = ask(&running, "/v1/stream?ad_id=a,b", &[("last-event-id", &id)]).await;
        if answer.status() == 200 {
            break Events { response: answer, text: String::new() };
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    assert_eq!(older.next().await.unwrap().2["data"].as_array().unwrap().len(), 120);

    // A new minute begins: it is a new period.
    system.clock.advance_to(at(live, 12, 1));
    let (_, _, minute) = events.next().await.unwrap();
    assert!(texts(&minute, "period_start").contains(&"2026-03-04T12:01:00.000Z"), "{minute}");

    // The server stops at once, and both streams end.
    let (task, begun) = (running.task, std::time::Instant::now());
    drop(running.stop);
    task.await.unwrap().unwrap();
    assert!(begun.elapsed() < Duration::from_secs(3), "it waited for its streams");
    while events.next().await.is_some() {}
    while older.next().await.is_some() {}
}

#[tokio::test]
async fn a_stream_that_cannot_begin_is_refused() {
    let (_system, running) = filled().await;
    for path in ["/v1/stream?granularity=week", "/v1/stream?tz=x", "/v1/stream?from=2026-03-01", "/v1/stream?ad_id="] {
        assert_eq!(ask(&running, path, &[]).await.status(), 400, "{path}");
    }
}
