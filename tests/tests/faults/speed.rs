//! A process of `twofold speed`.

use std::time::{Duration, Instant};

use promises::services::Process;

use crate::place::PATIENCE;

pub(crate) struct Speed {
    pub(crate) process: Process,
    pub(crate) admin: u16,
}

impl Speed {
    /// Waits for something that needs this process to run.
    pub(crate) async fn until(&mut self, what: &str, condition: impl AsyncFn() -> bool) {
        let began = Instant::now();
        while !condition().await {
            let ended = self.process.exited().unwrap();
            assert!(ended.is_none(), "the speed layer ended before {what}: {}", self.process.log_tail());
            let patient = began.elapsed() < PATIENCE;
            assert!(patient, "{PATIENCE:?} passed before {what}: {}", self.process.log_tail());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sum of a metric over all its label sets that hold `labels`, which may be empty.
    pub(crate) async fn metric(&self, name: &str, labels: &str) -> f64 {
        let url = format!("http://127.0.0.1:{}/metrics", self.admin);
        let text = reqwest::get(url).await.unwrap().text().await.unwrap();
        let is_it = |line: &&str| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])) && line.contains(labels)
        };
        let values = text.lines().filter(is_it).map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap());
        values.sum()
    }

    /// Waits until a counter has grown beyond `before`.
    pub(crate) async fn until_more(&mut self, name: &str, labels: &str, before: f64) {
        let admin = self.admin;
        let what = format!("{name}{{{labels}}} is more than {before}");
        let began = Instant::now();
        while self.metric(name, labels).await <= before {
            assert!(self.process.exited().unwrap().is_none(), "ended before {what}: {}", self.process.log_tail());
            assert!(began.elapsed() < PATIENCE, "not in time: {what}, port {admin}: {}", self.process.log_tail());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends it as a crash would.
    pub(crate) fn kill(mut self) {
        assert!(self.process.exited().unwrap().is_none(), "it had ended by itself: {}", self.process.log_tail());
        self.process.kill().unwrap();
    }

    /// Ends it in good order.
    pub(crate) async fn stop(mut self) {
        assert!(self.process.exited().unwrap().is_none(), "it had ended by itself: {}", self.process.log_tail());
        let status = self.process.terminate().await.unwrap();
        assert!(status.success(), "{status}: {}", self.process.log_tail());
    }

    /// Waits until it ends by itself, as a failure, and returns what it printed.
    pub(crate) async fn failed(mut self) -> String {
        let status = self.process.wait(PATIENCE).await.unwrap();
        assert_eq!(status.code(), Some(1), "{}", self.process.log_tail());
        self.process.log()
    }

    /// Of memory that is resident, bytes.
    pub(crate) fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}
