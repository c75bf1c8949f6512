//! The order, in memory and on disk, and the gaps in it.

use super::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

#[test]
fn clicks_come_by_arrival_then_line_whether_or_not_they_fit_in_memory() {
    let mut random = SmallRng::seed_from_u64(11);
    let mut input = String::from("ad_id,user_id,timestamp,arrived\n");
    let mut expected = Vec::new();
    for line in 2..20_002u64 {
        // Many equal arrivals, so that the line decides; names of every length.
        let event = 1_772_359_200_000 + random.random_range(0..3_000i64);
        let arrival = event + random.random_range(0..500);
        let ad = "x".repeat(random.random_range(1..=64));
        input += &format!("{ad},u{line},{event},{arrival}\n");
        expected.push((arrival, line, event, ad));
    }
    let arrivals = expected.iter().map(|(arrival, ..)| Timestamp::from_millis(*arrival));
    let ends = arrivals.clone().min().zip(arrivals.max());
    expected.sort_by_key(|(arrival, line, _, _)| (*arrival, *line));
    let base = InputOptions { time_format: Some("unix_ms".into()), arrival: Some("arrived".into()), ..options() };
    let mut first = None;
    for (limit, fits) in [(256 << 20, true), (1 << 20, false), (100_000, false)] {
        let found = run(&input, &InputOptions { memory_limit: limit, ..base.clone() });
        let (clicks, summary, runs) = found.result.as_ref().unwrap();
        assert_eq!(summary.arrivals(), ends);
        assert_eq!(*runs == 0, fits, "{limit}: {runs} runs");
        let keys: Vec<_> = clicks
            .iter()
            .map(|c| (c.arrival.as_millis(), c.line, c.click.event_time.as_millis(), c.click.ad_id.as_str().to_owned()))
            .collect();
        assert!(keys == expected, "{limit}");
        assert_eq!(first.get_or_insert_with(|| clicks.clone()), clicks);
    }
    // A limit of 0 puts every click into a run of its own.
    let short: String = input.lines().take(300).flat_map(|line| [line, "\n"]).collect();
    let one_each = run(&short, &InputOptions { memory_limit: 0, ..base.clone() });
    assert_eq!(one_each.result.as_ref().unwrap().2, 299);
    assert_eq!(one_each.clicks(), run(&short, &base).clicks());
}

#[test]
fn a_folder_that_cannot_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let gone = folder.path().join("gone");
    let options = InputOptions { memory_limit: 0, temp_folder: Some(gone.clone()), ..options() };
    let error = run("ad_id,timestamp\na,2026-03-01T12:00:00Z\nb,2026-03-01T12:00:00Z\n", &options).error();
    assert!(
        error.starts_with("sorting 0 bytes of clicks on disk in ") && error.contains(&gone.display().to_string()),
        "{error}"
    );
}

#[test]
fn a_gap_of_more_than_31_days_is_an_error_naming_both_lines() {
    let file =
        |times: &[&str]| times.iter().fold("ad_id,timestamp\n".to_owned(), |file, time| file + "a," + time + "\n");
    // Scenario 30: one line of year 9999.
    let wrong_year = file(&["2026-03-02T00:00:00Z", "9999-03-01T00:00:00Z", "2026-03-01T00:00:00Z"]);
    let found = run(&wrong_year, &options());
    assert_eq!(
        found.error(),
        "no click arrives for 2912077 days, between line 2 at 2026-03-02T00:00:00.000Z and line 3 at 9999-03-01T00:00:00.000Z; \
         at most 31d are allowed; mend the line that is wrong, or add `--allow-gap` if all that time really lies between them"
    );
    let InputError::Gap { gap, more: 0 } = found.result.unwrap_err() else { panic!("a gap") };
    assert_eq!((gap.line_before, gap.line_after, gap.after), (2, 3, time("9999-03-01T00:00:00Z")));

    // The same at the start, in the middle, and on disk.
    let start = file(&["2026-03-02T00:00:00Z", "1970-01-01T00:00:00Z"]);
    assert!(run(&start, &options()).error().contains("between line 3 at 1970-01-01T00:00:00.000Z and line 2 at"));
    let middle = file(&[
        "2026-06-02T00:00:00Z",
        "2026-03-01T00:00:00Z",
        "2026-06-01T00:00:00Z",
        "2026-03-02T00:00:00Z",
        "2026-12-01T00:00:00Z",
    ]);
    let error = run(&middle, &InputOptions { memory_limit: 0, ..options() }).error();
    assert!(
        error.contains("between line 5 at 2026-03-02T00:00:00.000Z and line 4 at 2026-06-01T00:00:00.000Z"),
        "{error}"
    );
    assert!(error.contains("(and there is one more such gap)"), "{error}");

    // Exactly 31 days are no gap, a millisecond more is one.
    for (last, is_gap) in [("2026-04-01T00:00:00Z", false), ("2026-04-01T00:00:00.001Z", true)] {
        assert_eq!(run(file(&["2026-03-01T00:00:00Z", last]), &options()).result.is_err(), is_gap, "{last}");
    }
    // Allowed, they are listed.
    let allowed = run(&wrong_year, &InputOptions { allow_gap: true, ..options() });
    assert_eq!(allowed.summary().gaps, [gap]);
    assert_eq!(allowed.clicks().iter().map(|click| click.line).collect::<Vec<_>>(), [4, 2, 3]);
    // A rejected line makes no gap, and it is arrivals that count.
    assert!(run(file(&["2026-03-01T00:00:00Z", "9999-99-99T00:00:00Z"]), &options()).result.is_ok());
    let arrived = InputOptions { arrival: Some("b".into()), ..options() };
    let input =
        "ad_id,timestamp,b\na,2020-01-01T00:00:00Z,2026-03-01T00:00:00Z\na,2026-03-01T00:00:00Z,2026-03-01T00:00:00Z\n";
    assert_eq!(run(input, &arrived).summary().accepted, 2);
}
