//! What a run tells others when it begins and when it has ended, however it ends. None of it changes the exit code.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use platform::settings::{Secret, Settings};

use super::ping::Pings;
use super::textfile::{self, LastRun};
use crate::cli::RunHow;
use crate::connect;
use crate::exit::Exit;

#[derive(Debug)]
pub(super) struct Ending {
    began: Instant,
    pings: Pings,
    metrics_file: Option<PathBuf>,
}

impl Ending {
    /// Tells that a run begins. A dry run is told to nobody.
    pub(super) async fn new(settings: &Settings, how: &RunHow) -> Result<Self> {
        let flag = how.ping_url.clone().map(Secret::new);
        let url = flag.as_ref().or(settings.batch.ping_url.as_ref()).filter(|_| !how.dry_run);
        let metrics_file = how.metrics_file.clone().or_else(|| settings.batch.metrics_file.clone());
        let metrics_file = metrics_file.filter(|_| !how.dry_run);
        if let Some(file) = metrics_file.as_ref().filter(|file| file.extension().is_none_or(|end| end != "prom")) {
            tracing::warn!(
                "node_exporter reads only files that end in `.prom`, the metrics file is {}",
                file.display()
            );
        }
        let ending = Ending { began: Instant::now(), pings: Pings::new(url)?, metrics_file };
        ending.pings.start().await;
        Ok(ending)
    }

    pub(super) async fn tell(&self, settings: &Settings, ended: &Result<Exit>) {
        let exit = ended.as_ref().map_or_else(Exit::of_error, |exit| *exit);
        if let Some(file) = &self.metrics_file {
            let run = LastRun {
                ended: connect::clock(settings).now(),
                exit,
                seconds: self.began.elapsed().as_secs_f64(),
                closed_until: closed_until(settings).await.ok(),
            };
            if let Err(error) = textfile::write(file, run) {
                tracing::warn!("{error:#}");
            }
        }
        self.pings.end(exit).await;
    }
}

async fn closed_until(settings: &Settings) -> Result<clicks::time::Timestamp> {
    Ok(connect::ledger(settings)?.read().await?.next_night().start())
}
