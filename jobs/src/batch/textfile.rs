//! Metrics of the last run for the textfile collector of node_exporter: a batch is gone before anybody could scrape it.
//!
//! The file is replaced as a whole, so a scrape sees the last run or the one before it. What a failed run does not know,
//! when the last success was and how far days are closed, is taken over from the file that it replaces.

use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, anyhow};
use clicks::time::Timestamp;

use crate::exit::Exit;

const LAST_SUCCESS: &str = "twofold_batch_last_success_timestamp_seconds";
const CLOSED_UNTIL: &str = "twofold_batch_closed_until_seconds";
const LAST_RUN: &str = "twofold_batch_last_run_timestamp_seconds";
const EXIT_CODE: &str = "twofold_batch_last_exit_code";
const DURATION: &str = "twofold_batch_last_duration_seconds";

/// What is told about a run.
#[derive(Debug, Clone, Copy)]
pub(super) struct LastRun {
    pub(super) ended: Timestamp,
    pub(super) exit: Exit,
    pub(super) seconds: f64,
    /// End of the last closed day; `None` when the ledger could not be read.
    pub(super) closed_until: Option<Timestamp>,
}

/// Replaces the file at `path`.
pub(super) fn write(path: &Path, run: LastRun) -> Result<()> {
    let before = fs::read_to_string(path).unwrap_or_default();
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let named = || format!("the metrics file {}", path.display());
    // A name that ends otherwise is not collected half-written, whatever the collector's pattern is.
    let mut staged =
        tempfile::Builder::new().prefix(".twofold-").suffix(".tmp").tempfile_in(folder).with_context(named)?;
    staged.write_all(render(&before, run).as_bytes()).with_context(named)?;
    // Its reader is another user.
    staged.as_file().set_permissions(Permissions::from_mode(0o644)).with_context(named)?;
    staged.persist(path).map_err(|error| anyhow!(error.error)).with_context(named)?;
    Ok(())
}

fn render(before: &str, run: LastRun) -> String {
    let seconds = |time: Timestamp| time.as_millis() as f64 / 1000.0;
    let success = if run.exit == Exit::Done { Some(seconds(run.ended)) } else { value(before, LAST_SUCCESS) };
    let closed = run.closed_until.map(seconds).or_else(|| value(before, CLOSED_UNTIL));
    let gauges = [
        (LAST_SUCCESS, "When a run of the batch last ended with exit code 0.", success),
        (CLOSED_UNTIL, "End of the last closed day: all before it is counted exactly.", closed),
        (LAST_RUN, "When the last run of the batch ended.", Some(seconds(run.ended))),
        (EXIT_CODE, "Exit code of the last run of the batch.", Some(f64::from(run.exit as u8))),
        (DURATION, "How long the last run of the batch took.", Some(run.seconds)),
    ];
    let known = gauges.iter().filter_map(|(name, help, value)| Some((name, help, (*value)?)));
    known.map(|(name, help, value)| format!("# HELP {name} {help}\n# TYPE {name} gauge\n{name} {value}\n")).collect()
}

fn value(text: &str, name: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(at: i64, exit: Exit, closed_until: Option<i64>) -> LastRun {
        let time = Timestamp::from_millis;
        LastRun { ended: time(at), exit, seconds: 1.5, closed_until: closed_until.map(time) }
    }

    #[test]
    fn a_failed_run_keeps_what_it_does_not_know() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("twofold.prom");
        write(&path, run(1_772_410_200_500, Exit::Failure, None)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert!(!text.contains(LAST_SUCCESS) && !text.contains(CLOSED_UNTIL), "nothing is known yet: {text}");
        write(&path, run(1_772_410_200_500, Exit::Done, Some(1_772_409_600_000))).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let expected = "# HELP twofold_batch_last_success_timestamp_seconds When a run of the batch last ended with exit \
                        code 0.\n# TYPE twofold_batch_last_success_timestamp_seconds gauge\n\
                        twofold_batch_last_success_timestamp_seconds 1772410200.5\n";
        assert!(text.starts_with(expected), "{text}");
        write(&path, run(1_772_500_000_000, Exit::Gate, None)).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        for line in [
            "twofold_batch_last_success_timestamp_seconds 1772410200.5",
            "twofold_batch_closed_until_seconds 1772409600",
            "twofold_batch_last_run_timestamp_seconds 1772500000",
            "twofold_batch_last_exit_code 12",
            "twofold_batch_last_duration_seconds 1.5",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in {text}");
        }
        let left: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["twofold.prom"], "no staged file is left");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o644, "the collector may read it");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = write(Path::new("/no/such/folder/twofold.prom"), run(0, Exit::Done, None)).unwrap_err();
        assert!(format!("{error:#}").contains("/no/such/folder/twofold.prom"), "{error:#}");
    }
}
