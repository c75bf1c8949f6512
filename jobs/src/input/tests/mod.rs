//! The reading side as a whole.

mod accounting;
mod mistakes;
mod order;

use super::*;

/// Everything that reading gives.
struct Run {
    result: Result<(Vec<InputClick>, Summary, usize), InputError>,
    rejected: Vec<RejectedLine>,
}

impl Run {
    fn clicks(&self) -> &[InputClick] {
        &self.result.as_ref().expect("the input is readable").0
    }

    fn summary(&self) -> &Summary {
        &self.result.as_ref().expect("the input is readable").1
    }

    fn error(&self) -> String {
        self.result.as_ref().expect_err("the input is not readable").to_string()
    }

    /// Number and code of every rejected line.
    fn codes(&self) -> Vec<(u64, &'static str)> {
        self.rejected.iter().map(|line| (line.number, line.code)).collect()
    }
}

fn options() -> InputOptions {
    InputOptions::new(InputFile::Path("clicks.txt".into()))
}

fn run(input: impl AsRef<[u8]>, options: &InputOptions) -> Run {
    let mut rejected = Vec::new();
    let result = read_from(input.as_ref(), options, &mut |line| rejected.push(line), &|_| {}).map(|sorted| {
        let (summary, runs) = (sorted.summary.clone(), sorted.runs());
        let clicks: Vec<InputClick> = sorted.map(|click| click.expect("the disk works")).collect();
        assert_eq!(clicks.len() as u64, summary.accepted);
        assert!(summary.balances(), "{summary:?}");
        (clicks, summary, runs)
    });
    if let Ok((_, summary, _)) = &result {
        assert_eq!(rejected.len() as u64, summary.rejected());
    }
    Run { result, rejected }
}

fn mapped(map: &str) -> InputOptions {
    InputOptions { map: map.parse().expect("a mapping"), ..options() }
}

fn time(text: &str) -> Timestamp {
    Timestamp::parse_rfc3339(text).expect("a timestamp")
}

const ID: &str = "0190f5c4-7c1e-7a40-8000-0242ac120002";
