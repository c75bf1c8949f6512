//! Where every line ends: accepted and on its way into the order, or rejected, and counted either way.

use super::InputOptions;
use super::check::{Checker, Texts};
use super::error::InputError;
use super::gaps::Arrivals;
use super::report::{Reason, RejectedLine, Summary};
use super::sort::{Sorted, Sorter};

/// Lines between two reports of progress.
const PROGRESS_LINES: u64 = 8_192;

/// Takes what the readers of the two formats find.
pub(super) struct Sink<'a> {
    options: &'a InputOptions,
    checker: Checker<'a>,
    sorter: Sorter,
    arrivals: Arrivals,
    summary: Summary,
    rejected: &'a mut dyn FnMut(RejectedLine),
    progress: &'a dyn Fn(u64),
    next_progress: u64,
}

impl<'a> Sink<'a> {
    pub(super) fn new(
        options: &'a InputOptions,
        checker: Checker<'a>,
        rejected: &'a mut dyn FnMut(RejectedLine),
        progress: &'a dyn Fn(u64),
    ) -> Self {
        Sink {
            options,
            checker,
            sorter: Sorter::new(options.memory_limit, options.temp_folder.clone()),
            arrivals: Arrivals::default(),
            summary: Summary::default(),
            rejected,
            progress,
            next_progress: PROGRESS_LINES,
        }
    }

    pub(super) fn header(&mut self) {
        self.summary.header += 1;
    }

    pub(super) fn blank(&mut self, number: u64) {
        self.summary.blank += 1;
        self.report_progress(number);
    }

    /// Further lines of a record that is accounted at its first.
    pub(super) fn continuation(&mut self, lines: u64) {
        self.summary.continuation += lines;
    }

    pub(super) fn reject(&mut self, number: u64, line: &[u8], reason: Reason) {
        *self.summary.rejected_by_code.entry(reason.code).or_default() += 1;
        metrics::counter!("twofold_input_rejected_total", "code" => reason.code).increment(1);
        (self.rejected)(reason.of_line(number, line));
        self.report_progress(number);
    }

    /// A line that could be taken apart: it is a click, or rejected. `line` is the raw line, for the report.
    pub(super) fn take(&mut self, number: u64, line: &[u8], texts: &Texts<'_>) -> Result<(), InputError> {
        let checked = match self.checker.check(number, texts) {
            Ok(checked) => checked,
            Err(reason) => {
                self.reject(number, line, reason);
                return Ok(());
            }
        };
        let entry = checked.entry;
        self.sorter.push(entry)?;
        self.arrivals.add(entry.arrival, number);
        let summary = &mut self.summary;
        summary.accepted += 1;
        summary.issued_click_ids += u64::from(checked.is_issued);
        summary.derived_click_ids += u64::from(checked.is_derived);
        summary.unknown_users += u64::from(checked.is_unknown_user);
        summary.folded_times += u64::from(checked.is_folded);
        let time = entry.event_time;
        summary.first_event_time = Some(summary.first_event_time.map_or(time, |first| first.min(time)));
        summary.last_event_time = Some(summary.last_event_time.map_or(time, |last| last.max(time)));
        self.report_progress(number);
        Ok(())
    }

    fn report_progress(&mut self, number: u64) {
        if number >= self.next_progress {
            self.next_progress = number + PROGRESS_LINES;
            (self.progress)(number);
        }
    }

    /// Closes the account of `lines` lines and sorts.
    pub(super) fn finish(mut self, lines: u64) -> Result<Sorted, InputError> {
        (self.progress)(lines);
        self.summary.lines = lines;
        assert!(self.summary.balances(), "a line is not accounted for: {:?}", self.summary);
        metrics::counter!("twofold_input_accepted_total").increment(self.summary.accepted);
        (self.summary.first_arrival, self.summary.last_arrival) = self.arrivals.ends().unzip();
        let gaps = self.arrivals.gaps(self.options.max_gap);
        match gaps.first() {
            Some(gap) if !self.options.allow_gap => Err(InputError::Gap { gap: *gap, more: gaps.len() - 1 }),
            _ => {
                self.summary.gaps = gaps;
                self.sorter.finish(self.summary)
            }
        }
    }
}
