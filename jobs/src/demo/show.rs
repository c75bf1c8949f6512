//! What the user sees while the demo runs: results on stdout, progress on stderr, a bar on a terminal only.

use std::io::IsTerminal;
use std::time::Duration;

use clicks::time::{Day, Span, Timestamp};
use indicatif::{ProgressBar, ProgressStyle};

use super::proof::grouped;

/// See the module.
#[derive(Debug, Clone)]
pub struct Show {
    bar: Option<ProgressBar>,
}

impl Show {
    /// `length` in the unit that [`Show::progress`] counts.
    pub fn new(length: u64) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:40} {percent:>3}%  {msg}");
            let bar = ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Show { bar }
    }

    pub fn progress(&self, done: u64, now: Timestamp, clicks: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(done);
            bar.set_message(format!(
                "simulated {}  {} clicks",
                now.to_rfc3339().replace(":00.000Z", ""),
                grouped(clicks)
            ));
        }
    }

    pub fn day_closed(&self, day: Day, live: u64, exact: u64) {
        let (live, exact) = (grouped(live), grouped(exact));
        self.note(&format!("{day} closed by its night: provisional {live} -> batch {exact}"));
    }

    /// A line of progress.
    pub fn note(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| eprintln!("{text}")),
            None => eprintln!("{text}"),
        }
    }

    /// A line of the result.
    pub fn result(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| println!("{text}")),
            None => println!("{text}"),
        }
    }

    pub fn done(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// How many minutes lie between two times.
pub fn minutes_between(from: Timestamp, to: Timestamp) -> u64 {
    (to.since(from).as_millis().max(0) / Span::minutes(1).as_millis()) as u64
}
