//! Bad lines by number and reason, and files that are refused as a whole.

use super::*;

#[test]
fn every_bad_json_line_is_reported_with_its_number_and_reason() {
    let deep = format!(
        r#"{{"ad_id":"a","user_id":"u","timestamp":"2026-03-01T12:00:00Z","x":{}1{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let open = format!(r#"{{"x":{}"#, "[".repeat(100_000));
    let long = format!(r#"{{"ad_id":"{}"}}"#, "x".repeat(LINE_BYTES_MAX));
    let tail = r#""user_id":"u","timestamp":"2026-03-01T12:00:00Z"}"#;
    let cases: Vec<(Vec<u8>, &str, &str)> = vec![
        (b"nonsense".into(), "not_json", "the line is no JSON object: expected ident at character 2"),
        (
            b"null".into(),
            "not_json",
            "the line is no JSON object: invalid type: null, expected one object `{…}` a line",
        ),
        (b"[1,2]".into(), "not_json", "the line is no JSON object: invalid type: sequence"),
        (b"{\"ad_id\":\"a\"".into(), "not_json", "the line is no JSON object: EOF while parsing an object"),
        (b"{} {}".into(), "not_json", "the line is no JSON object: trailing characters at character 4"),
        (open.into(), "not_json", "lists and objects are nested deeper than 128"),
        (deep.into(), "not_json", "lists and objects are nested deeper than 128"),
        (long.into(), "line_too_long", "the line is longer than 1048576 bytes"),
        (b"{\"ad_id\":\"\xff\"}".into(), "not_utf8", "the line is not UTF-8 (first bad byte is number 11)"),
        (br#"{"ad_id":"a","ad_id":"a"}"#.into(), "not_json", "the line is no JSON object: `ad_id` stands in it twice"),
        (
            format!(r#"{{"ad_id":["a"],{tail}"#).into(),
            "wrong_type",
            "`ad_id` is a list, where a text or a number is needed",
        ),
        (format!(r#"{{"ad_id":{{}},{tail}"#).into(), "wrong_type", "`ad_id` is an object"),
        (format!(r#"{{"ad_id":true,{tail}"#).into(), "wrong_type", "`ad_id` is true or false"),
        (format!(r#"{{"ad_id":"\ud800",{tail}"#).into(), "not_json", "the line is no JSON object: "),
        (
            format!(r#"{{"ad_id":"a/b",{tail}"#).into(),
            "bad_ad_id",
            "`ad_id` has the character '/'; only A-Z a-z 0-9 _ . - are allowed",
        ),
        (format!(r#"{{"ad_id":"a\u0000",{tail}"#).into(), "bad_ad_id", "`ad_id` has the character '\\0'"),
        (
            format!(r#"{{"ad_id":"{}",{tail}"#, "x".repeat(65)).into(),
            "bad_ad_id",
            "`ad_id` has 65 characters; at most 64 are allowed",
        ),
        (format!(r#"{{"ad_id":"",{tail}"#).into(), "missing_field", "`ad_id` is missing or empty"),
        (format!(r#"{{"ad_id":null,{tail}"#).into(), "missing_field", "`ad_id` is missing or empty"),
        (format!(r#"{{"ad_id":1e5+,{tail}"#).into(), "not_json", "the line is no JSON object"),
        (format!(r#"{{"ad_id":1e+5,{tail}"#).into(), "bad_ad_id", "`ad_id` has the character '+'"),
        (
            format!(r#"{{"ad_id":"Spring Sale 1",{tail}"#).into(),
            "bad_ad_id",
            "`ad_id` has the character ' '; only A-Z a-z 0-9 _ . - are allowed; write it as `Spring-Sale-1`",
        ),
        (
            br#"{"ad_id":"a","user_id":"u v","timestamp":"2026-03-01T12:00:00Z"}"#.into(),
            "bad_user_id",
            "`user_id` has the character ' '",
        ),
        (br#"{"ad_id":"a","user_id":"u"}"#.into(), "missing_field", "`timestamp` is missing or empty"),
        (
            br#"{"ad_id":"a","timestamp":"2026-03-01T12:00:00"}"#.into(),
            "bad_timestamp",
            "`timestamp` `2026-03-01T12:00:00` has no offset from UTC",
        ),
        (
            br#"{"ad_id":"a","timestamp":1772359200123}"#.into(),
            "bad_timestamp",
            "`timestamp` `1772359200123` is not an RFC 3339",
        ),
        (
            "{\"ad_id\":\"a\",\"timestamp\":\"\u{1b}[2J\"}".into(),
            "not_json",
            "the line is no JSON object: control character",
        ),
        (
            br#"{"ad_id":"a","timestamp":"\u001b[2J"}"#.into(),
            "bad_timestamp",
            "`timestamp` `\u{fffd}[2J` is not an RFC 3339",
        ),
    ];
    let good = format!(r#"{{"click_id":"{ID}","ad_id":"a","user_id":"u","timestamp":"2026-03-01T12:00:00Z"}}"#);
    let mut input = good.clone().into_bytes();
    for (line, _, _) in &cases {
        // A blank line in between, so that a number is never right by accident.
        input.extend(b"\n \t\r\n");
        input.extend(line);
    }
    input.extend(b"\n");
    input.extend(good.as_bytes());
    let run = run(input, &options());
    for (place, (rejected, (_, code, reason))) in run.rejected.iter().zip(&cases).enumerate() {
        assert_eq!((rejected.number, rejected.code), (3 + 2 * place as u64, *code), "{rejected:?}");
        assert!(rejected.reason.starts_with(reason), "{} is not {reason}", rejected.reason);
        assert!(rejected.excerpt.chars().count() <= 121 && !rejected.excerpt.contains(char::is_control));
    }
    assert_eq!(run.rejected.len(), cases.len());
    let summary = run.summary();
    assert_eq!((summary.accepted, summary.blank, summary.header), (2, cases.len() as u64, 0));
    assert_eq!(summary.rejected_by_code["bad_ad_id"], 5);
}

#[test]
fn every_bad_csv_record_is_reported_with_its_number_and_reason() {
    let good = "a,u,2026-03-01T12:00:00Z,";
    let cases: [(&[u8], &str, &str); 15] = [
        (b"a,u,2026-03-01T12:00:00Z", "ragged", "it has 3 fields where the header has 4"),
        (b"a,u,2026-03-01T12:00:00Z,,", "ragged", "it has 5 fields where the header has 4"),
        (b"a", "ragged", "it has 1 field where the header has 4"),
        (b"a\0,u,2026-03-01T12:00:00Z,", "bad_ad_id", "`ad_id` has the character '\\0'"),
        (b"a\xff,u,2026-03-01T12:00:00Z,", "not_utf8", "the line is not UTF-8 (first bad byte is number 2)"),
        (b"=1+1,u,2026-03-01T12:00:00Z,", "bad_ad_id", "`ad_id` has the character '='"),
        (b"\"a/b\",u,2026-03-01T12:00:00Z,", "bad_ad_id", "`ad_id` has the character '/'"),
        (b"\"a\"b,u,2026-03-01T12:00:00Z,", "bad_quote", "field 1 goes on behind its closing quote"),
        (
            b"a,\"u,2026-03-01T12:00:00Z,",
            "bad_quote",
            "a quote is opened and not closed on this line; together with the lines up to 45, field 2 goes on behind",
        ),
        (b",u,2026-03-01T12:00:00Z,", "missing_field", "`ad_id` is missing or empty"),
        (b",,,", "missing_field", "`ad_id` is missing or empty"),
        (b"a,u,,", "missing_field", "`timestamp` is missing or empty"),
        (b"a,u,yesterday,", "bad_timestamp", "`timestamp` `yesterday` is not an RFC 3339 timestamp"),
        (b"a,\xc3\xa9,2026-03-01T12:00:00Z,", "bad_user_id", "`user_id` has the character 'é'"),
        (b"{\"ad_id\":\"a\"}", "ragged", "it has 1 field where the header has 4"),
    ];
    let mut input = b"ad_id,user_id,timestamp,click_id\n".to_vec();
    for (line, _, _) in &cases {
        input.extend(good.as_bytes());
        input.extend(b"\r\n");
        input.extend(*line);
        input.extend(b"\r\n\r\n");
    }
    let run = run(input, &options());
    for (place, (rejected, (_, code, reason))) in run.rejected.iter().zip(&cases).enumerate() {
        assert_eq!((rejected.number, rejected.code), (3 + 3 * place as u64, *code), "{rejected:?}");
        assert!(rejected.reason.starts_with(reason), "{} is not {reason}", rejected.reason);
    }
    assert_eq!(run.rejected.len(), cases.len());
    let summary = run.summary();
    assert_eq!((summary.accepted, summary.blank, summary.header), (15, 15, 1));
}

#[test]
fn a_quote_left_open_costs_one_line_and_line_ends_inside_of_quotes_are_allowed() {
    let good = "a,2026-03-01T12:00:00Z,x";
    let input = [
        "ad_id,timestamp,\"a note",
        "over two lines\"",
        good,
        "a,2026-03-01T12:00:00Z,\"one",
        "",
        "two \"\"quoted\"\"",
        "three\"",
        good,
        "a,2026-03-01T12:00:00Z,\"never closed",
        good,
        "a,2026-03-01T12:00:00Z,\"fine\"",
        good,
        "b/c,2026-03-01T12:00:00Z,\"bad, and",
        "on two lines\"",
        good,
    ]
    .join("\n");
    let found = run(&input, &options());
    assert_eq!(found.codes(), [(9, "bad_quote"), (13, "bad_ad_id")]);
    let accepted: Vec<u64> = found.clicks().iter().map(|click| click.line).collect();
    assert_eq!(accepted, [3, 4, 8, 10, 11, 12, 15]);
    let summary = found.summary();
    assert_eq!((summary.lines, summary.header, summary.blank, summary.continuation), (15, 1, 0, 5));

    // The rest of the file is far larger than one record may be; all of it is read all the same.
    let mut input = "ad_id,timestamp,note\na,2026-03-01T12:00:00Z,\"open\n".to_owned();
    (0..30_000).for_each(|_| input += "a,2026-03-01T12:00:00Z,something of some length to fill the buffer\n");
    let found = run(&input, &options());
    assert_eq!((found.codes(), found.summary().accepted), (vec![(2, "bad_quote")], 30_000));
}

#[test]
fn columns_that_are_not_there_are_named_with_those_that_are() {
    let csv = "Campaign;click_time;uid\na;2026-03-01T12:00:00Z;u\n";
    let json = "{\"Campaign\":\"a\",\"click_time\":\"2026-03-01T12:00:00Z\",\"uid\":\"u\"}\n";
    let cases = [
        (
            mapped(""),
            "no column `ad_id` in line 1 of clicks.txt; it has ",
            "Map the right one of these: `--map ad_id=COLUMN`",
        ),
        (
            mapped("ad_id=campaign"),
            "no column `campaign` (ad_id) in line 1 of clicks.txt; it has `Campaign`, ",
            "`--map ad_id=Campaign`",
        ),
        (
            mapped("ad_id=Campaign,timestamp=clicktime"),
            "no column `clicktime` (timestamp) in line 1 of clicks.txt; it has `click_time`, ",
            "`--map timestamp=click_time`",
        ),
        (
            mapped("ad_id=Campaign,timestamp=click_time,user_id=user"),
            "no column `user` (user_id) in line 1 of clicks.txt; it has ",
            "`--map user_id=uid`",
        ),
        (
            mapped("ad_id=Campaign,timestamp=click_time,click_id=id"),
            "no column `id` (click_id) in line 1 of clicks.txt; it has ",
            "`--map click_id=uid`",
        ),
        (
            InputOptions { arrival: Some("click_tim".into()), ..mapped("ad_id=Campaign,timestamp=click_time") },
            "no column `click_tim` (arrival) in line 1 of clicks.txt; it has `click_time`, ",
            "`--arrival click_time`",
        ),
    ];
    for (options, start, end) in cases {
        for input in [csv, json] {
            let error = run(input, &options).error();
            assert!(error.starts_with(start), "{error}");
            assert!(error.contains(end), "{error}");
        }
    }
    // What nobody named need not be there.
    for input in [csv, json] {
        assert_eq!(run(input, &mapped("ad_id=Campaign,timestamp=click_time")).summary().unknown_users, 1);
    }
    let twice = run("ad_id,timestamp,ad_id\na,b,c", &options()).error();
    assert!(twice.starts_with("the header in line 1 of clicks.txt names `ad_id` twice"), "{twice}");
    let unused_twice = run("ad_id,timestamp,x,x\na,2026-03-01T12:00:00Z,,", &options());
    assert_eq!(unused_twice.summary().accepted, 1);
}

#[test]
fn a_wrong_mapping_of_json_is_found_before_the_whole_file_is_reported() {
    let input = "{\"ad\":\"a\",\"timestamp\":\"2026-03-01T12:00:00Z\"}\n".repeat(1_000_000 / 50);
    let found = run(input, &options());
    assert!(found.error().starts_with("no column `ad_id` in line 1"), "{}", found.error());
    assert!(found.rejected.len() < 1_000);
    // A field that may be missing may also come late.
    let late = "{\"ad_id\":\"a\",\"timestamp\":\"2026-03-01T12:00:00Z\"}\n".repeat(2_000)
        + &format!("{{\"ad_id\":\"a\",\"c\":\"{ID}\",\"timestamp\":\"2026-03-01T12:00:00Z\"}}\n");
    assert_eq!(run(late, &mapped("click_id=c")).summary().issued_click_ids, 2_000);
}

#[test]
fn files_that_are_no_clicks_are_refused_with_the_mend() {
    let cases: [(&[u8], &str); 9] = [
        (b"", "clicks.txt holds no line that is not blank"),
        (b"\n \r\n\t\n", "clicks.txt holds no line that is not blank"),
        (b"\xef\xbb\xbf", "clicks.txt holds no line that is not blank"),
        (
            b"\xff\xfea\0d\0",
            "clicks.txt is UTF-16, not text in UTF-8; convert it first: `iconv -f UTF-16 -t UTF-8 clicks.txt | twofold demo --input -`",
        ),
        (
            b"\x1f\x8b\x08\0",
            "clicks.txt is compressed with gzip, not text in UTF-8; convert it first: `gzip -dc clicks.txt | ",
        ),
        (b"PAR1\x15\x04", "clicks.txt is a Parquet file"),
        (
            b"\n[\n{}\n]",
            "clicks.txt is one JSON array; put each object on a line of its own: `jq -c '.[]' clicks.txt | ",
        ),
        (
            b"ad_id,\"timestamp\n",
            "line 1 of clicks.txt is no CSV header: a quote is opened and not closed on this line",
        ),
        (b"\nad_id,time\xff\n", "line 2 of clicks.txt is no CSV header: the line is not UTF-8"),
    ];
    for (input, expected) in cases {
        let error = run(input, &options()).error();
        assert!(error.starts_with(expected), "{error}");
    }
    for delimiter in [b'a', b'"', b'_', b' ', 0xe9, b'\n'] {
        let options = InputOptions { delimiter: Some(delimiter), format: Some(Format::Csv), ..options() };
        let error = run("ad_id", &options).error();
        assert!(error.contains("cannot be a delimiter"), "{error}");
    }
}

#[test]
fn files_that_cannot_be_opened_are_named() {
    let folder = tempfile::tempdir().unwrap();
    for path in [folder.path().join("absent.csv"), folder.path().to_owned()] {
        let options = InputOptions::new(InputFile::Path(path.clone()));
        let error = read(&options, &mut |_| {}, &|_| {}).unwrap_err().to_string();
        assert!(error.starts_with(&format!("cannot open {}: ", path.display())), "{error}");
    }
    let path = folder.path().join("clicks.csv");
    std::fs::write(&path, "ad_id,timestamp\na,2026-03-01T12:00:00Z\n").unwrap();
    let sorted = read(&InputOptions::new(InputFile::Path(path)), &mut |_| {}, &|_| {}).unwrap();
    assert_eq!(sorted.map(|click| click.unwrap().line).collect::<Vec<_>>(), [2]);
}

#[test]
fn no_input_panics() {
    use rand::rngs::SmallRng;
    use rand::seq::IndexedRandom;
    use rand::{Rng, SeedableRng};
    let mut random = SmallRng::seed_from_u64(5);
    let bytes = b"{}[]\"\\,;:\n\r\t .-0e\xff\xc3ad_id";
    let starts: [&[u8]; 3] =
        [b"", b"ad_id,timestamp,x\n", b"{\"ad_id\":\"a\",\"timestamp\":\"2026-03-01T12:00:00Z\"}\n"];
    for _ in 0..20_000 {
        let mut input = starts.choose(&mut random).unwrap().to_vec();
        input.extend((0..random.random_range(0..60)).map(|_| *bytes.choose(&mut random).unwrap()));
        // `run` checks that every line is accounted for.
        run(input, &options());
    }
}
