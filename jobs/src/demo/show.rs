//! What the user sees while the demo runs: results on stdout, progress on stderr, a bar on a terminal only.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use anyhow::Result;
use clicks::time::{Day, Span, Timestamp};
use indicatif::{ProgressBar, ProgressStyle};

use super::proof::grouped;
use crate::exit;

/// See the module.
#[derive(Debug, Clone)]
pub struct Show {
    bar: Option<ProgressBar>,
    format: Output,
}

/// How the result is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Output {
    /// As tables for people, on stdout.
    Text,
    /// As one JSON object on stdout; what is meant for people goes to stderr.
    Json,
}

impl Show {
    /// `length` in the unit that [`Show::progress`] counts.
    pub fn new(length: u64, format: Output) -> Self {
        let bar = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{bar:40} {percent:>3}%  {msg}");
            let bar = ProgressBar::new(length).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar.enable_steady_tick(Duration::from_millis(200));
            bar
        });
        Show { bar, format }
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

    /// A line of progress. Nobody may be listening any more.
    pub fn note(&self, text: &str) {
        self.beside_bar(|| {
            let _ = writeln!(std::io::stderr(), "{text}");
        });
    }

    /// A line of the result.
    pub fn result(&self, text: &str) -> Result<()> {
        match self.format {
            Output::Text => self.beside_bar(|| exit::print(text)),
            Output::Json => {
                self.note(text);
                Ok(())
            }
        }
    }

    /// The whole result, for programs; nothing unless JSON was asked for.
    pub fn json(&self, value: &serde_json::Value) -> Result<()> {
        match self.format {
            Output::Text => Ok(()),
            Output::Json => self.beside_bar(|| exit::print(&format!("{value:#}"))),
        }
    }

    fn beside_bar<T>(&self, write: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(write),
            None => write(),
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
