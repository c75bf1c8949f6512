//! What is accepted: mappings, formats, issued ids, and the sums.

use super::*;

#[test]
fn both_formats_under_every_mapping_give_the_same_click() {
    let expected = Click {
        click_id: clicks::id::ClickId::parse(ID).unwrap(),
        ad_id: clicks::id::AdId::parse("7").unwrap(),
        user_id: clicks::id::UserId::parse("u-1").unwrap(),
        event_time: time("2026-03-01T12:00:00.5Z"),
    };
    let (id, at) = (ID, "2026-03-01T12:00:00.5Z");
    let full = "ad_id=campaign,user_id=person,click_id=uuid,timestamp=click time";
    let cases = [
        ("", format!("ad_id,user_id,click_id,timestamp\n7,u-1,{id},{at}\n")),
        ("", format!("\u{feff}timestamp;click_id;x;user_id;ad_id\r\n{at};{id};;u-1;7\r\n")),
        ("", format!("ad_id\tuser_id\tclick_id\ttimestamp\n7\tu-1\t{id}\t{at}")),
        ("", format!("\"ad_id\" , \"user_id\",click_id, timestamp\n 7 ,\"u-1\", {id} ,\"{at}\"")),
        (full, format!("click time,person,uuid,campaign\n{at},u-1,{id},7")),
        ("ad_id=user_id,user_id=ad_id", format!("ad_id,user_id,click_id,timestamp\nu-1,7,{id},{at}\n")),
        ("", format!("{{\"ad_id\":7,\"user_id\":\"u-1\",\"click_id\":\"{id}\",\"timestamp\":\"{at}\"}}")),
        (
            "",
            format!(
                "\u{feff} {{\"timestamp\":\"{at}\",\"x\":{{\"ad_id\":[1]}},\"user_id\":\"u\\u002d1\",\"ad\\u005fid\":\"7\",\"click_id\":\"{id}\"}} \r\n"
            ),
        ),
        (
            full,
            format!(
                "{{\"campaign\":\"7\",\"person\":\"u-1\",\"uuid\":\"{id}\",\"click time\":\"{at}\",\"ad_id\":null,\"ad_id\":{{}}}}"
            ),
        ),
    ];
    for (map, input) in cases {
        let run = run(&input, &mapped(map));
        let clicks: Vec<&Click> = run.clicks().iter().map(|click| &click.click).collect();
        assert_eq!(clicks, [&expected], "{map} {input}: {:?}", run.rejected);
        let summary = run.summary();
        assert_eq!((summary.issued_click_ids, summary.unknown_users), (0, 0));
    }
    // One column may serve twice, and another delimiter may be told.
    let twice =
        run(format!("a|timestamp\n7|{at}"), &InputOptions { delimiter: Some(b'|'), ..mapped("ad_id=a,user_id=a") });
    assert_eq!(twice.clicks()[0].click.user_id.as_str(), "7");
    let twice = run(format!("{{\"a\":7,\"timestamp\":\"{at}\"}}"), &mapped("ad_id=a,user_id=a"));
    assert_eq!(twice.clicks()[0].click.user_id.as_str(), "7");
}

#[test]
fn the_format_is_told_or_found_by_extension_or_by_the_first_byte() {
    let json = "\n\n {\"ad_id\":\"a\",\"timestamp\":\"2026-03-01T12:00:00Z\"}\n";
    let csv = "\n\nad_id,timestamp\na,2026-03-01T12:00:00Z\n";
    let named = |name: &str, format| InputOptions { format, ..InputOptions::new(InputFile::Path(name.into())) };
    for (name, format, input) in [
        ("x", None, json),
        ("x", None, csv),
        ("x.CSV", None, csv),
        ("x.tsv", None, csv),
        ("x.jsonl", None, json),
        ("x.csv", Some(Format::Ndjson), json),
        ("x.json", Some(Format::Csv), csv),
    ] {
        let summary = run(input, &named(name, format)).summary().clone();
        assert_eq!((summary.accepted, summary.blank), (1, 2), "{name} {format:?}");
    }
    let stdin = InputOptions::new(InputFile::parse("-"));
    assert_eq!(stdin.file, InputFile::Stdin);
    assert_eq!(run(json, &stdin).summary().accepted, 1);
    // The extension counts more than the first byte.
    let error = run(json, &named("x.csv", None)).error();
    assert!(error.starts_with("line 3 of x.csv is no CSV header: "), "{error}");
    assert!(error.ends_with("; it looks like NDJSON"), "{error}");
    assert_eq!(run(format!("{csv}{json}"), &named("x.ndjson", None)).codes().len(), 2);
}

#[test]
fn issued_ids_are_the_same_in_every_run_and_keep_identical_lines_apart() {
    let input = "ad_id,timestamp\na,2026-03-01T12:00:00Z\na,2026-03-01T12:00:00Z\n";
    let (first, second) = (run(input, &options()), run(input, &options()));
    assert_eq!(first.clicks(), second.clicks());
    let [one, other] = first.clicks() else { panic!("two clicks") };
    assert_ne!(one.click.click_id, other.click.click_id);
    assert_eq!((&one.click.ad_id, one.click.event_time), (&other.click.ad_id, other.click.event_time));
    let summary = first.summary();
    assert_eq!((summary.issued_click_ids, summary.unknown_users), (2, 2));
    assert_eq!(one.click.user_id.as_str(), "unknown");
    // An empty value is no value; one that is given stays.
    let input = format!("ad_id,timestamp,click_id,user_id\na,2026-03-01T12:00:00Z,,\na,2026-03-01T12:00:00Z,{ID},u\n");
    let mixed = run(input, &options());
    let summary = mixed.summary();
    assert_eq!((summary.issued_click_ids, summary.unknown_users, summary.accepted), (1, 1, 2));
    assert_eq!(mixed.clicks()[1].click.click_id.to_string(), ID);
}

#[test]
fn an_id_that_is_no_uuid_is_derived_from_its_text_alone() {
    let input = "ad_id,timestamp,click_id\na,2026-03-01T12:00:00Z,evt-1\na,2026-03-01T12:00:09Z,evt-1\na,2026-03-01T12:00:10Z,evt-2\n";
    let found = run(input, &options());
    let [one, again, other] = found.clicks() else { panic!("three clicks") };
    assert_eq!(one.click.click_id, again.click.click_id);
    assert_ne!(one.click.click_id, other.click.click_id);
    let summary = found.summary();
    assert_eq!((summary.derived_click_ids, summary.issued_click_ids), (3, 0));
}

#[test]
fn local_times_are_placed_folds_counted_and_skipped_times_rejected() {
    let input = "ad_id,timestamp\n\
        a,2026-10-25 02:30:00\n\
        a,2026-10-25 03:30:00\n\
        a,2026-10-25T02:30:00+01:00\n\
        a,2026-10-25 01:59:59.999\n";
    let berlin = InputOptions { tz: Some(chrono_tz::Europe::Berlin), ..options() };
    let folded = run(input, &berlin);
    let found: Vec<(u64, String)> = folded.clicks().iter().map(|c| (c.line, c.click.event_time.to_string())).collect();
    let expected = [
        (5, "2026-10-24T23:59:59.999Z"),
        (2, "2026-10-25T00:30:00.000Z"),
        (4, "2026-10-25T01:30:00.000Z"),
        (3, "2026-10-25T02:30:00.000Z"),
    ];
    assert_eq!(found, expected.map(|(line, text)| (line, text.to_owned())));
    assert_eq!(folded.summary().folded_times, 1);

    let skipped = run("ad_id,timestamp\na,2026-03-29 02:30:00\na,2026-03-29 03:00:00\n", &berlin);
    assert_eq!(skipped.codes(), [(2, "skipped_local_time")]);
    assert_eq!(
        skipped.rejected[0].reason,
        "`timestamp` `2026-03-29 02:30:00` does not exist in Europe/Berlin: the clocks go forward over it"
    );
    assert_eq!((skipped.rejected[0].excerpt.as_str(), skipped.summary().folded_times), ("a,2026-03-29 02:30:00", 0));

    // A line that is rejected for another reason is not counted as folded.
    let rejected = run(
        "ad_id,timestamp,arrived\na,2026-10-25 02:30:00,x\na,2026-10-25 04:30:00Z,2026-10-25 02:59:00\n",
        &InputOptions { arrival: Some("arrived".into()), ..berlin.clone() },
    );
    assert_eq!((rejected.codes(), rejected.summary().folded_times), (vec![(2, "bad_arrival")], 1));

    let kathmandu =
        InputOptions { tz: Some(chrono_tz::Asia::Kathmandu), time_format: Some("%d.%m.%Y %H:%M".into()), ..options() };
    let placed = run("ad_id,timestamp\na,01.03.2026 05:45\na,01.01.1986 00:05\n", &kathmandu);
    assert_eq!(placed.clicks()[0].click.event_time, time("2026-03-01T00:00:00Z"));
    assert_eq!(placed.codes(), [(3, "skipped_local_time")]);
}

#[test]
fn unix_times_are_read_from_numbers_and_texts() {
    let seconds = InputOptions { time_format: Some("unix".into()), ..options() };
    let input = "{\"ad_id\":\"a\",\"timestamp\":1772359200.5}\n{\"ad_id\":\"a\",\"timestamp\":\"1772359200\"}\n{\"ad_id\":\"a\",\"timestamp\":1772359200123}\n";
    let found = run(input, &seconds);
    let times: Vec<i64> = found.clicks().iter().map(|click| click.click.event_time.as_millis()).collect();
    assert_eq!((times, found.codes()), (vec![1_772_359_200_000, 1_772_359_200_500], vec![(3, "bad_timestamp")]));
    let millis = InputOptions { time_format: Some("unix_ms".into()), ..options() };
    assert_eq!(run("ad_id,timestamp\na,1772359200123", &millis).clicks()[0].arrival.as_millis(), 1_772_359_200_123);
    let wrong = InputOptions { time_format: Some("%H".into()), tz: Some(chrono_tz::UTC), ..options() };
    assert!(run("", &wrong).error().starts_with("time format `%H`"));
}

#[test]
fn the_sums_hold_and_progress_reaches_the_last_line() {
    let mut input = String::from("ad_id,timestamp,note\n");
    for number in 0..30_000u32 {
        input += match number % 10 {
            0 => "\n",
            1 => "a/b,2026-03-01T12:00:00Z,\n",
            2 => "a,2026-03-01T12:00:00Z,\"x\ny\"\n",
            3 => "a\n",
            _ => "a,2026-03-01T12:00:00Z,\n",
        };
    }
    let reached = std::cell::RefCell::new(Vec::new());
    let mut rejected = 0u64;
    let sorted =
        read_from(input.as_bytes(), &options(), &mut |_| rejected += 1, &|lines| reached.borrow_mut().push(lines))
            .unwrap();
    let summary = &sorted.summary;
    assert_eq!(summary.lines, 33_001);
    assert_eq!((summary.header, summary.blank, summary.continuation, summary.accepted), (1, 3_000, 3_000, 21_000));
    assert_eq!((summary.rejected(), rejected), (6_000, 6_000));
    assert_eq!(summary.rejected_by_code, [("bad_ad_id", 3_000), ("ragged", 3_000)].into());
    assert!(summary.balances());
    assert_eq!(
        (summary.first_event_time, summary.last_event_time),
        (Some(time("2026-03-01T12:00:00Z")), Some(time("2026-03-01T12:00:00Z")))
    );
    let reached = reached.into_inner();
    assert!(reached.is_sorted() && reached.len() >= 4 && reached.last() == Some(&33_001), "{reached:?}");

    let nothing = run("ad_id,timestamp\n", &options());
    assert_eq!(nothing.summary().arrivals(), None);
    assert_eq!((nothing.clicks().len(), nothing.summary().lines, nothing.summary().first_event_time), (0, 1, None));
}
