//! Who may see what: ads with names, groups of them, keys, and two tenants over every address.
#![allow(clippy::unwrap_used)]

mod support;

use std::num::NonZeroU32;
use std::time::Duration;

use clicks::ads::{AdsTable, COLUMNS, parse, version_key};
use clicks::id::TenantId;
use clicks::ledger::DayTotals;
use clicks::time::{Span, Timestamp};
use platform::ads::{Ads, Load};
use platform::keys::{KeyId, Keys, NewKey, Revocation, Scope};
use platform::objects::Objects;
use serde_json::{Value, json};
use serving::{Access, Options};
use support::{Answer, Row, Running, System, at, days, filled, get, json_of, listen, numbers, request};

/// Two tenants have a campaign of the same name; nobody knows the ad `c`.
const TABLE: [&str; 3] = [
    "a,acme,spring,Red shoes,0.25,EUR,2026-03-01",
    "a,acme,spring,\"Red shoes, reduced\",0.20,EUR,2026-03-04",
    "b,globex,spring,Rockets,,,2026-03-01",
];

async fn load(objects: &Objects, lines: &[&str]) {
    let ads = Ads::new(objects.clone());
    let text = format!("{}\n{}\n", COLUMNS.join(","), lines.join("\n"));
    let table = AdsTable::new(parse(text.as_bytes()).unwrap()).unwrap();
    let number = ads.last(0).await.unwrap();
    let load = Load { actor: "ann".to_owned(), source: "ads.csv".to_owned(), at: Timestamp::EPOCH };
    ads.publish((number, &ads.read(number).await.unwrap()), &table, load).await.unwrap();
}

/// A key, as it is sent.
async fn key(
    objects: &Objects,
    tenant: Option<&str>,
    scopes: &[Scope],
    expires_at: Option<Timestamp>,
) -> (KeyId, String) {
    let new = NewKey {
        name: "a key".to_owned(),
        tenant: tenant.map(|name| TenantId::parse(name).unwrap()),
        scopes: scopes.to_vec(),
        created_at: Timestamp::EPOCH,
        created_by: "ann".to_owned(),
        expires_at,
    };
    let (key, secret) = Keys::new(objects.clone()).create(new).await.unwrap();
    (key.id, format!("Authorization: Bearer {}\r\n", secret.reveal()))
}

async fn revoke(objects: &Objects, id: &KeyId) {
    let revocation = Revocation { at: Timestamp::EPOCH, by: "bob".to_owned(), reason: "leaked".to_owned() };
    Keys::new(objects.clone()).revoke(id, revocation).await.unwrap();
}

fn options(access: Access) -> Options {
    Options {
        listen: listen(),
        access,
        ledger_refresh: Duration::from_millis(20),
        live_refresh: Duration::from_millis(1),
        keys_refresh: Duration::from_millis(20),
        ads_refresh: Duration::from_millis(20),
        stream_refresh: Duration::from_millis(10),
        requests_per_second: NonZeroU32::new(100_000).unwrap(),
        ..Options::default()
    }
}

/// A server that has read the ads table.
async fn serve(system: &System, access: Access) -> Running {
    let running = system.ready(options(access)).await;
    // It tells its version in an answer that depends on it, and without a key only that it wants one.
    while access != Access::Keys && json_of(&running, "/v1/campaigns").await["ads_version"] == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    running
}

async fn with(running: &Running, key: &str, path: &str) -> Answer {
    request(running.address, "GET", path, key).await
}

fn labels(body: &Value) -> Vec<(Option<&str>, Option<&str>, u64)> {
    let rows = body["data"].as_array().unwrap().iter();
    rows.map(|row| (row["tenant"].as_str(), row["campaign"].as_str(), row["total"].as_u64().unwrap())).collect()
}

const FOUR_DAYS: &str = "from=2026-03-01&to=2026-03-05";

#[tokio::test]
async fn groups_are_the_total_in_parts_and_filters_are_one_of_them() {
    let (system, _running) = filled().await;
    load(&system.objects, &TABLE).await;
    let running = serve(&system, Access::Auto).await;
    let clicks =
        async |query: &str| json_of(&running, &format!("/v1/clicks?{FOUR_DAYS}&granularity=day&{query}")).await;
    let total = numbers(&clicks("").await, "total");
    assert_eq!(total, [Some(109), Some(54), Some(1), Some(14)]);
    let by_campaign = clicks("group_by=campaign").await;
    let of = |n: usize| labels(&by_campaign)[4 * n];
    assert_eq!((of(0).0, of(0).1), (Some("acme"), Some("spring")));
    assert_eq!((of(1).0, of(1).1), (Some("globex"), Some("spring")));
    assert_eq!((of(2).0, of(2).1), (None, None), "what the table does not know is a group of its own");
    assert_eq!(by_campaign["meta"]["ads_version"], 1);
    let parts = numbers(&by_campaign, "total");
    for (n, total) in total.iter().enumerate() {
        assert_eq!(parts.iter().skip(n).step_by(4).copied().sum::<Option<u64>>(), *total);
    }
    for (query, want) in [
        ("tenant=acme", [102, 50, 1, 6]),
        ("campaign=spring", [109, 50, 1, 12]),
        ("campaign=spring&tenant=globex", [7, 0, 0, 6]),
        ("tenant=acme,globex", [109, 50, 1, 12]),
    ] {
        let found = clicks(query).await;
        assert_eq!(numbers(&found, "total"), want.map(Some), "{query}");
        assert_eq!(found["data"][0]["ad_id"], Value::Null);
        // The split by state is of what was asked for.
        let segments = found["meta"]["segments"].as_array().unwrap().iter();
        assert_eq!(segments.map(|segment| segment["total"].as_u64().unwrap()).sum::<u64>(), want.iter().sum::<u64>());
    }
    // Of another zone, from minutes.
    let kathmandu = clicks("tenant=acme&tz=Asia/Kathmandu").await;
    assert_eq!(numbers(&kathmandu, "total").into_iter().flatten().sum::<u64>(), 159);

    let ads = async |query: &str| json_of(&running, &format!("/v1/ads?{FOUR_DAYS}&{query}")).await;
    let ranked = ads("").await;
    let names: Vec<_> = ranked["data"].as_array().unwrap().iter().map(|row| row["name"].as_str()).collect();
    assert_eq!(names, [Some("Red shoes, reduced"), Some("Rockets"), None], "as they are called today");
    assert_eq!(labels(&ranked)[0], (Some("acme"), Some("spring"), 159));
    let tenants = ads("group_by=tenant").await;
    assert_eq!(labels(&tenants), [(Some("acme"), None, 159), (Some("globex"), None, 13), (None, None, 6)]);
    assert_eq!(labels(&ads("group_by=campaign&limit=1").await), [(Some("acme"), Some("spring"), 159)]);
    let of_one = ads("tenant=globex").await;
    assert_eq!((labels(&of_one), &of_one["count"]), (vec![(Some("globex"), Some("spring"), 13)], &json!(1)));

    let campaigns = json_of(&running, "/v1/campaigns").await;
    let row = |tenant: &str| json!({"tenant": tenant, "campaign": "spring", "ads": 1});
    assert_eq!(campaigns, json!({"ads_version": 1, "data": [row("acme"), row("globex")]}));
    let known = json_of(&running, "/v1/names?ad_id=b,nobody,a").await;
    let names = json!([
        {"ad_id": "b", "name": "Rockets", "tenant": "globex", "campaign": "spring", "price": null, "currency": null,
         "valid_from": "2026-03-01"},
        {"ad_id": "a", "name": "Red shoes, reduced", "tenant": "acme", "campaign": "spring", "price": "0.2",
         "currency": "EUR", "valid_from": "2026-03-04"},
    ]);
    assert_eq!(known, json!({"ads_version": 1, "data": names}));
    // Whose an ad is may change although what was published does not.
    let pinned =
        get(running.address, "/v1/clicks?from=2026-03-01&to=2026-03-02&granularity=day&tenant=acme&position=4").await;
    assert_eq!((pinned.status, pinned.header("cache-control")), (200, Some("no-cache")));

    // A new version is seen without a restart.
    load(&system.objects, &["c,acme,autumn,Hats,,,2026-03-01"]).await;
    while json_of(&running, "/v1/campaigns").await["ads_version"] != 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(numbers(&clicks("tenant=acme").await, "total"), [0, 4, 0, 2].map(Some));
}

#[tokio::test]
async fn a_name_that_is_not_there_is_an_error_and_no_zero() {
    let (system, _running) = filled().await;
    load(&system.objects, &TABLE).await;
    let running = serve(&system, Access::Auto).await;
    for (path, status, parameter) in [
        ("/v1/clicks?campaign=sprimg", 404, "campaign"),
        ("/v1/clicks?tenant=acme,nobody", 404, "tenant"),
        ("/v1/ads?tenant=nobody", 404, "tenant"),
        ("/v1/stream?campaign=nothing", 404, "campaign"),
        ("/v1/clicks?campaign=a/b", 400, "campaign"),
        ("/v1/clicks?tenant=", 400, "tenant"),
        ("/v1/clicks?group_by=user", 400, "group_by"),
        ("/v1/clicks?group_by=ad", 400, "group_by"),
        ("/v1/clicks?group_by=tenant&group_by=tenant", 400, "group_by"),
        ("/v1/clicks?ad_id=a&tenant=acme", 400, "ad_id"),
        ("/v1/clicks?ad_id=a&group_by=campaign", 400, "ad_id"),
        ("/v1/ads?ad_id=a", 400, "ad_id"),
        ("/v1/names", 400, "ad_id"),
        ("/v1/access?x=1", 400, "x"),
        ("/v1/campaigns?tenant=acme", 400, "tenant"),
    ] {
        let answer = get(running.address, path).await;
        assert_eq!(
            (answer.status, answer.json()["parameter"].as_str()),
            (status, Some(parameter)),
            "{path}: {}",
            answer.body
        );
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
    }
    let many: Vec<String> = (0..11).map(|n| format!("ad-{n},acme,campaign-{n},Ad,,,2026-03-01")).collect();
    load(&system.objects, &many.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let running = system.ready(Options { ads_max: 10, ..options(Access::Auto) }).await;
    while json_of(&running, "/v1/campaigns").await["ads_version"] != 2 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let too_many = get(running.address, "/v1/clicks?group_by=campaign").await;
    assert_eq!((too_many.status, too_many.json()["parameter"].as_str()), (400, Some("group_by")));
    assert!(too_many.body.contains("there are 12 of them"), "{}", too_many.body);
}

/// Three closed days and a live one. Without `globex`, its ads are neither clicked nor known.
async fn two_tenants(globex: bool) -> System {
    let (one, two, three) = days();
    let live = three.next();
    let only = |rows: &[Row]| rows.iter().copied().filter(|row| globex || row.1 != "b").collect::<Vec<Row>>();
    let mut system = System::new(one, at(live, 12, 0) + Span::seconds(30)).await;
    system
        .close(&only(&[(at(one, 10, 0), "a", 100), (at(one, 10, 0), "b", 777_001)]), DayTotals::default(), &[], &[])
        .await;
    system
        .close(&only(&[(at(two, 10, 0), "a", 20), (at(two, 11, 0), "b", 777_002)]), DayTotals::default(), &[one], &[])
        .await;
    let found = only(&[(at(one, 10, 0), "a", 2), (at(one, 10, 0), "b", 777_003)]);
    system.close(&only(&[(at(three, 0, 0), "b", 777_004)]), DayTotals::default(), &[], &found).await;
    let counts = only(&[(at(live, 11, 59), "a", 5), (at(live, 11, 58), "b", 777_005)]);
    let late = only(&[(at(three, 1, 0), "a", 9), (at(three, 1, 0), "b", 777_006)]).into_iter().map(|row| (live, row));
    system.count(three, at(live, 12, 0) + Span::seconds(29), &counts, &late.collect::<Vec<_>>()).await;
    load(&system.objects, if globex { &TABLE } else { &TABLE[..2] }).await;
    system
}

/// Copies the keys, so that both systems know the same.
async fn share_keys(from: &Objects, to: &Objects) {
    for object in from.list("keys/", None).await.unwrap() {
        to.create(&object.key, from.get(&object.key).await.unwrap().unwrap()).await.unwrap();
    }
}

/// What a stream begins with.
async fn first_event(running: &Running, key: &str, path: &str) -> String {
    let key = key.trim_end().trim_start_matches("Authorization: ");
    let mut stream = support::ask(running, path, &[("authorization", key)]).await;
    let mut text = String::new();
    while !text.contains("\n\n") {
        let chunk = tokio::time::timeout(Duration::from_secs(20), stream.chunk()).await.expect("it hangs").unwrap();
        text += std::str::from_utf8(&chunk.expect("it has not ended")).unwrap();
    }
    text.split_once("\n\n").map(|(event, _)| event.to_owned()).unwrap()
}

/// What cannot be read any more stays as it was, and every answer that depends on it says so.
#[tokio::test]
async fn an_ads_table_that_cannot_be_read_is_told_where_it_matters() {
    let (system, _running) = filled().await;
    load(&system.objects, &TABLE).await;
    let running = serve(&system, Access::Auto).await;
    let asked = async |path: &str| {
        let body = json_of(&running, &format!("{path}{FOUR_DAYS}")).await;
        let codes: Vec<Value> = body["meta"]["reasons"].as_array().unwrap().iter().map(|r| r["code"].clone()).collect();
        (body["meta"]["complete"] == true, codes)
    };
    let (by_campaign, well) = ("/v1/clicks?granularity=day&group_by=campaign&", (true, vec![]));
    assert_eq!(asked(by_campaign).await, well);
    system.objects.put(&version_key(2), "{".into()).await.unwrap();
    while asked(by_campaign).await == well {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stale = (false, vec![json!("ads_stale")]);
    for path in
        [by_campaign, "/v1/clicks?granularity=day&tenant=acme&", "/v1/ads?tenant=acme&", "/v1/ads?group_by=tenant&"]
    {
        assert_eq!(asked(path).await, stale, "{path}");
    }
    for path in ["/v1/clicks?granularity=day&", "/v1/clicks?granularity=day&ad_id=a&", "/v1/ads?"] {
        assert_eq!(asked(path).await, well, "{path}");
    }
    let told = json_of(&running, &format!("{by_campaign}{FOUR_DAYS}")).await["meta"]["reasons"][0]["message"].clone();
    assert!(told.as_str().unwrap().contains("its version 1 says"), "{told}");
    system.objects.delete(&version_key(2)).await.unwrap();
    while asked(by_campaign).await != well {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Whatever a tenant asks, it gets the same answer, byte for byte, as if the other one did not exist.
#[tokio::test]
async fn a_tenant_cannot_tell_whether_there_is_another() {
    let (both, alone) = (two_tenants(true).await, two_tenants(false).await);
    let (_, acme) = key(&both.objects, Some("acme"), &[Scope::Read], None).await;
    // A key that somebody has made by hand with more than `key create` allows.
    let (_, acme_operates) = key(&both.objects, Some("acme"), &[Scope::Read, Scope::Operate], None).await;
    let (_, all) = key(&both.objects, None, &[Scope::Read, Scope::Operate], None).await;
    share_keys(&both.objects, &alone.objects).await;
    let [with_other, without] = [serve(&both, Access::Keys).await, serve(&alone, Access::Keys).await];
    for running in [&with_other, &without] {
        while with(running, &acme, "/v1/campaigns").await.status != 200
            || !with(running, &acme, "/v1/campaigns").await.body.contains("spring")
        {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    let api = with(&with_other, &all, "/v1/openapi.json").await.json();
    let subjects = [
        "",
        "ad_id=a",
        "ad_id=b",
        "ad_id=a,b",
        "ad_id=nobody",
        "tenant=acme",
        "tenant=globex",
        "tenant=nobody",
        "campaign=spring",
        "campaign=nothing",
        "tenant=globex&campaign=spring",
        "group_by=tenant",
        "group_by=campaign",
        "group_by=ad",
        "group_by=x",
        "position=4",
        "position=4&tenant=globex",
        "position=99",
        "format=csv",
        "format=arrow",
        "format=csv&group_by=campaign",
        "format=xml",
        "last=400",
        "last=0",
    ];
    let ranges = [
        "",
        "from=2026-03-01&to=2026-03-04",
        "from=2026-03-01&to=2026-03-05&granularity=day",
        "from=2026-03-01&to=2026-03-05&granularity=hour&tz=Asia/Kathmandu",
        "from=2026-03-04T11:00:00Z&to=2026-03-04T12:01:00Z",
    ];
    let (mut asked, mut answered) = (0, 0);
    for path in api["paths"].as_object().unwrap().keys().filter(|path| *path != "/v1/stream") {
        for (subject, range) in subjects.iter().flat_map(|subject| ranges.iter().map(move |range| (subject, range))) {
            let path = format!("{path}?{subject}&{range}").replace("?&", "?").replace("&&", "&");
            let path = path.trim_end_matches(['&', '?']);
            for key in [&acme, &acme_operates] {
                let [seen, want] = [with(&with_other, key, path).await, with(&without, key, path).await];
                assert_eq!((seen.status, &seen.body), (want.status, &want.body), "{path}");
                let head = |answer: &Answer| {
                    let other = |line: &&str| !line.starts_with("date:") && !line.starts_with("ratelimit:");
                    answer.head.lines().filter(other).map(str::to_owned).collect::<Vec<_>>()
                };
                assert_eq!(head(&seen), head(&want), "{path}");
                assert!(!seen.body.contains("777"), "{path}: {}", seen.body);
                assert!(
                    seen.header("cache-control")
                        .is_none_or(|control| control == "no-store" || control.starts_with("private, "))
                );
                let varies = seen.head.lines().any(|line| line.starts_with("vary: ") && line.contains("authorization"));
                assert!(varies, "{path}: {}", seen.head);
                (asked, answered) = (asked + 1, answered + u32::from(seen.status == 200));
            }
        }
    }
    assert!(asked > 1_500 && answered > 150, "{answered} of {asked} questions were answered");
    for subject in ["", "?tenant=acme&granularity=day", "?group_by=campaign&granularity=hour", "?ad_id=a"] {
        let path = format!("/v1/stream{subject}");
        let [seen, want] = [first_event(&with_other, &acme, &path).await, first_event(&without, &acme, &path).await];
        assert!(seen == want && seen.contains("event: clicks") && !seen.contains("777"), "{path}: {seen}");
    }
    // Another's ad and one that nobody has differ in their name alone.
    for (path, foreign, missing) in [
        ("/v1/clicks?ad_id=", "b", "z"),
        ("/v1/stream?ad_id=", "b", "z"),
        ("/v1/ads?tenant=", "globex", "nobody"),
        ("/v1/clicks?tenant=", "globex", "nobody"),
    ] {
        let [foreign, missing] = [foreign, missing].map(|name| (format!("{path}{name}"), format!("`{name}`")));
        let [one, other] = [with(&with_other, &acme, &foreign.0).await, with(&with_other, &acme, &missing.0).await];
        assert_eq!(
            (one.status, one.body.replace(&foreign.1, "`?`")),
            (404, other.body.replace(&missing.1, "`?`")),
            "{path}"
        );
    }
    // The other way round: there is something to hide.
    assert!(
        with(&with_other, &all, "/v1/clicks?from=2026-03-01&to=2026-03-02&granularity=day")
            .await
            .body
            .contains("1554106")
    );
    for refused in ["/v1/days", "/v1/status", "/v1/nights"] {
        assert_eq!(with(&with_other, &acme_operates, refused).await.status, 403, "{refused}");
        assert_eq!(with(&with_other, &all, refused).await.status, 200, "{refused}");
    }
}

#[tokio::test]
async fn without_a_key_nothing_is_told_but_what_the_page_needs_to_ask_for_one() {
    let (system, _running) = filled().await;
    let running = serve(&system, Access::Keys).await;
    let api = get(running.address, "/v1/openapi.json").await;
    assert_eq!(api.status, 200);
    for path in api.json()["paths"].as_object().unwrap().keys() {
        let twice = "Authorization: Bearer x\r\nAuthorization: Bearer y\r\n";
        for wrong in ["", twice, "Authorization: Basic YTpi\r\n", "Authorization: Bearer x\r\n", "Authorization: \r\n"]
        {
            let answer = with(&running, wrong, path).await;
            assert_eq!(
                (answer.status, answer.header("www-authenticate")),
                (401, Some("Bearer realm=\"twofold\"")),
                "{path}"
            );
            assert_eq!(answer.json()["type"], "urn:twofold:problem:key");
        }
    }
    for open in ["/", "/status", "/app.js", "/livez", "/readyz"] {
        assert_eq!(get(running.address, open).await.status, 200, "{open}");
    }
    // This machine's own address is open to itself, and to nobody who comes by another name or through a proxy on it.
    let here = system.ready(options(Access::Auto)).await;
    for (headers, status) in [
        (&[][..], 200),
        (&[("host", "localhost:8081")][..], 200),
        (&[("host", "[::1]:8081")][..], 200),
        (&[("host", "evil.example")][..], 401),
        (&[("x-forwarded-for", "203.0.113.7")][..], 401),
        (&[("forwarded", "for=203.0.113.7")][..], 401),
    ] {
        assert_eq!(support::ask(&here, "/v1/status", headers).await.status(), status, "{headers:?}");
    }
    // On an address that other machines reach, a key is needed unless it is said otherwise.
    let everywhere = Options { listen: "0.0.0.0:0".parse().unwrap(), ..options(Access::Auto) };
    let running = system.ready(everywhere.clone()).await;
    let here = (std::net::Ipv4Addr::LOCALHOST, running.address.port()).into();
    assert_eq!(get(here, "/v1/clicks").await.status, 401);
    let running = system.ready(Options { access: Access::Open, ..everywhere }).await;
    let here = (std::net::Ipv4Addr::LOCALHOST, running.address.port()).into();
    assert_eq!(get(here, "/v1/clicks").await.status, 200);
    // Whoever sends a key that opens nothing hears of it also there.
    assert_eq!(request(here, "GET", "/v1/clicks", "Authorization: Bearer x\r\n").await.status, 401);
}

#[tokio::test]
async fn a_key_opens_at_once_and_until_it_expires_or_is_revoked() {
    let (system, _running) = filled().await;
    let options = Options { keys_refresh: Duration::from_secs(3600), ..options(Access::Keys) };
    let running = system.ready(options.clone()).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    // It was made after the keys were read.
    let soon = platform::clock::Clock::now(&*system.clock) + Span::minutes(5);
    let (_, expiring) = key(&system.objects, None, &[Scope::Read], Some(soon)).await;
    assert_eq!(with(&running, &expiring, "/v1/clicks").await.status, 200);
    let access = with(&running, &expiring, "/v1/access").await.json();
    assert_eq!(
        (&access["scopes"], &access["key"]["expires_at"]),
        (&json!(["read"]), &json!("2026-03-04T12:05:30.000Z"))
    );
    let refused = with(&running, &expiring, "/v1/status").await;
    assert!(refused.status == 403 && refused.body.contains("`operate`"), "{}", refused.body);
    system.clock.advance_to(soon);
    let expired = with(&running, &expiring, "/v1/clicks").await;
    assert!(
        expired.status == 401 && expired.body.contains("has expired at 2026-03-04T12:05:30.000Z"),
        "{}",
        expired.body
    );
    let (_, operates) = key(&system.objects, None, &[Scope::Operate], None).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for (path, status) in [("/v1/access", 200), ("/v1/status", 200), ("/v1/clicks", 403), ("/v1/days", 403)] {
        assert_eq!(with(&running, &operates, path).await.status, status, "{path}");
    }
    // A secret that was never given out asks for one reading a second, not for one each time.
    let unknown = format!("Authorization: Bearer tfk_{}_{}\r\n", "0".repeat(12), "0".repeat(64));
    for _ in 0..20 {
        let answer = with(&running, &unknown, "/v1/clicks").await;
        assert!(answer.status == 401 && answer.body.contains("the key is not known"), "{}", answer.body);
    }
    drop(running);

    let (id, revoked) = key(&system.objects, None, &[Scope::Read], None).await;
    let running = system.ready(Options { keys_refresh: Duration::from_millis(20), ..options }).await;
    let mut stream = support::ask(
        &running,
        "/v1/stream",
        &[("authorization", revoked.trim_end().trim_start_matches("Authorization: "))],
    )
    .await;
    assert!(stream.chunk().await.unwrap().is_some());
    assert_eq!(with(&running, &revoked, "/v1/clicks").await.status, 200);
    revoke(&system.objects, &id).await;
    let mut answer = with(&running, &revoked, "/v1/clicks").await;
    while answer.status == 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
        answer = with(&running, &revoked, "/v1/clicks").await;
    }
    assert!(answer.status == 401 && answer.body.contains("was revoked at"), "{}", answer.body);
    // A stream that was open tells it, and ends.
    let mut rest = String::new();
    while let Some(chunk) =
        tokio::time::timeout(Duration::from_secs(20), stream.chunk()).await.expect("it hangs").unwrap()
    {
        rest += std::str::from_utf8(&chunk).unwrap();
    }
    assert!(
        rest.contains("event: problem") && rest.trim_end().ends_with('}') && rest.contains("was revoked at"),
        "{rest}"
    );
}

#[tokio::test]
async fn a_key_that_asks_too_often_is_told_when_to_come_back_and_holds_up_no_other() {
    let (system, _running) = filled().await;
    let (_, busy) = key(&system.objects, None, &[Scope::Read], None).await;
    let (_, quiet) = key(&system.objects, None, &[Scope::Read], None).await;
    let running = system.ready(Options { requests_per_second: NonZeroU32::MIN, ..options(Access::Keys) }).await;
    let first = with(&running, &busy, "/v1/access").await;
    assert_eq!(first.header("ratelimit-policy"), Some("\"key\";q=10;w=10"));
    assert_eq!(first.header("ratelimit"), Some("\"key\";r=9;t=1"));
    let mut answers = Vec::new();
    for _ in 0..12 {
        answers.push(with(&running, &busy, "/v1/access").await);
    }
    let refused: Vec<_> = answers.iter().filter(|answer| answer.status == 429).collect();
    assert!((1..=3).contains(&refused.len()), "{}", refused.len());
    assert!(refused[0].header("retry-after").unwrap().parse::<u64>().unwrap() <= 2);
    assert_eq!(refused[0].json()["type"], "urn:twofold:problem:rate");
    assert_eq!(with(&running, &quiet, "/v1/access").await.status, 200);
}

#[tokio::test]
async fn a_key_holds_a_share_of_the_streams_and_no_more() {
    let (system, _running) = filled().await;
    let (_, one) = key(&system.objects, None, &[Scope::Read], None).await;
    let (_, other) = key(&system.objects, None, &[Scope::Read], None).await;
    let running = system.ready(Options { streams_max: 8, ..options(Access::Keys) }).await;
    let open = async |key: &str| {
        let key = key.trim_end().trim_start_matches("Authorization: ");
        support::ask(&running, "/v1/stream", &[("authorization", key)]).await
    };
    let held = [open(&one).await, open(&one).await];
    assert!(held.iter().all(|stream| stream.status() == 200));
    assert_eq!((open(&one).await.status().as_u16(), open(&other).await.status().as_u16()), (503, 200));
    drop(held);
    let mut again = open(&one).await;
    while again.status() != 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        again = open(&one).await;
    }
}

/// Why a day is withheld tells how many clicks there are of all.
#[tokio::test]
async fn a_tenant_hears_that_something_is_missing_and_not_how_much_of_others() {
    let system = two_tenants(true).await;
    system.clock.advance_to(at(days().2.plus(2), 12, 0));
    system.withhold("it has 777 clicks where 4 are usual").await;
    let (_, acme) = key(&system.objects, Some("acme"), &[Scope::Read], None).await;
    let (_, all) = key(&system.objects, None, &[Scope::Read], None).await;
    let running = serve(&system, Access::Keys).await;
    while with(&running, &acme, "/v1/names?ad_id=a").await.body.matches("acme").count() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    for path in [
        "/v1/clicks?ad_id=a&granularity=day&from=2026-03-01",
        "/v1/clicks?granularity=day&from=2026-03-01",
        "/v1/ads?from=2026-03-01",
    ] {
        let [told, hushed] = [with(&running, &all, path).await, with(&running, &acme, path).await];
        assert!(told.body.contains("it has 777 clicks where 4 are usual"), "{path}: {}", told.body);
        assert!(hushed.body.contains("\"withheld\"") && !hushed.body.contains("777"), "{path}: {}", hushed.body);
    }
}
