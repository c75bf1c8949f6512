//! What a run is at, on a terminal alone.

use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clicks::time::{Day, Timestamp};
use indicatif::{ProgressBar, ProgressStyle};
use recompute::{Stage, Stages};
use tokio::task::JoinHandle;

const REDRAW: Duration = Duration::from_millis(200);

/// A line on stderr that says what is going on; nothing where stderr is no terminal.
#[derive(Debug)]
pub(super) struct Progress {
    line: Option<(ProgressBar, JoinHandle<()>)>,
    waits_for: Arc<Mutex<Option<String>>>,
}

impl Progress {
    pub(super) fn start(stages: &Stages) -> Self {
        let waits_for = Arc::new(Mutex::new(None));
        let line = std::io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner} {elapsed} {msg}");
            let bar = ProgressBar::new_spinner().with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
            let follower = tokio::spawn(follow(bar.clone(), stages.clone(), waits_for.clone()));
            (bar, follower)
        });
        Progress { line, waits_for }
    }

    /// Nothing is computed until others have done something. Told once to a log, and shown as long as it lasts.
    pub(super) fn wait(&self, what: &str, deadline: Timestamp) {
        let text = format!("waiting until {deadline} at the longest: {what}");
        let mut waits_for = self.waits_for.lock().unwrap_or_else(PoisonError::into_inner);
        if self.line.is_none() && waits_for.as_ref() != Some(&text) {
            tracing::info!("{text}");
        }
        *waits_for = Some(text);
    }

    pub(super) fn finish(self) {
        if let Some((bar, follower)) = self.line {
            follower.abort();
            bar.finish_and_clear();
        }
    }
}

async fn follow(bar: ProgressBar, stages: Stages, waits_for: Arc<Mutex<Option<String>>>) {
    loop {
        let waiting = waits_for.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let message = waiting.or_else(|| stages.current().map(|(night, stage)| working(night, stage)));
        bar.set_message(message.unwrap_or_default());
        bar.tick();
        tokio::time::sleep(REDRAW).await;
    }
}

fn working(night: Option<Day>, stage: Stage) -> String {
    let what = match stage {
        Stage::Repair => "looking for stale copies",
        Stage::Prove => "proving the archive",
        Stage::Count => "counting",
        Stage::Check => "rolling up and checking",
        Stage::Write => "writing the tables",
        Stage::Publish => "publishing",
        Stage::Refresh => "refreshing the copies in tables/current",
    };
    night.map_or_else(|| what.to_owned(), |night| format!("night {night}: {what}"))
}
