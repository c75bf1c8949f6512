//! The clock port: what time is it, and waiting until a time.
//!
//! Nothing but the three implementations here reads the machine's clock. Deadlines of network calls are no matter of
//! this port: they stay on real time.

use std::fmt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use clicks::time::{Span, Timestamp};
use tokio::sync::watch;

/// Contract: `now` never moves back by more than the machine's clock does, and `sleep_until(t)` returns only when
/// `now() >= t`.
#[async_trait]
pub trait Clock: Send + Sync + fmt::Debug {
    fn now(&self) -> Timestamp;

    async fn sleep_until(&self, time: Timestamp);

    async fn sleep(&self, span: Span) {
        self.sleep_until(self.now() + span).await;
    }
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    fn now(&self) -> Timestamp {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap_or(i64::MAX))
    }

    async fn sleep_until(&self, time: Timestamp) {
        loop {
            let left = time.since(self.now()).as_millis();
            if left <= 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(left as u64)).await;
        }
    }
}

/// A clock that stands still until it is moved, and can be let go to run at real speed from then on.
#[derive(Debug)]
pub struct SimulatedClock {
    time: watch::Sender<Timestamp>,
    /// Set once the clock runs by itself: what is added to the machine's clock.
    running: Mutex<Option<Span>>,
}

impl SimulatedClock {
    pub fn new(start: Timestamp) -> Self {
        SimulatedClock { time: watch::Sender::new(start), running: Mutex::new(None) }
    }

    /// Moves the clock forward; an earlier time than now changes nothing.
    pub fn advance_to(&self, time: Timestamp) {
        self.time.send_if_modified(|now| {
            let later = time > *now;
            *now = (*now).max(time);
            later
        });
    }

    /// From now on the clock runs at real speed, starting at its own time.
    pub fn let_go(&self) {
        let offset = self.now().since(SystemClock.now());
        *self.lock() = Some(offset);
        // Whoever waits for a time must look again, for now time passes by itself.
        self.time.send_modify(|_| {});
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Span>> {
        self.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

#[async_trait]
impl Clock for SimulatedClock {
    fn now(&self) -> Timestamp {
        match *self.lock() {
            Some(offset) => SystemClock.now() + offset,
            None => *self.time.borrow(),
        }
    }

    async fn sleep_until(&self, time: Timestamp) {
        let mut changes = self.time.subscribe();
        loop {
            let running = *self.lock();
            match running {
                Some(offset) => return SystemClock.sleep_until(time - offset).await,
                None if self.now() >= time => return,
                None => {
                    if changes.changed().await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// The machine's clock plus an offset in milliseconds that is read from a file, so that tests move a whole system,
/// brokers included, over a midnight. A file that is missing or unreadable keeps the last offset.
#[derive(Debug)]
pub struct ShiftedClock {
    file: PathBuf,
    offset: Mutex<(SystemTime, Span)>,
}

/// How old the offset may be before the file is read again.
const REREAD: Duration = Duration::from_millis(20);

impl ShiftedClock {
    pub fn new(file: PathBuf) -> Self {
        ShiftedClock { file, offset: Mutex::new((UNIX_EPOCH, Span::ZERO)) }
    }

    fn offset(&self) -> Span {
        let mut last = self.offset.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let now = SystemTime::now();
        if now.duration_since(last.0).is_ok_and(|age| age >= REREAD) {
            let read = std::fs::read_to_string(&self.file).ok().and_then(|text| text.trim().parse().ok());
            *last = (now, read.map_or(last.1, Span::millis));
        }
        last.1
    }
}

#[async_trait]
impl Clock for ShiftedClock {
    fn now(&self) -> Timestamp {
        SystemClock.now() + self.offset()
    }

    async fn sleep_until(&self, time: Timestamp) {
        loop {
            let left = time.since(self.now()).as_millis();
            if left <= 0 {
                return;
            }
            // The file may move the clock at any moment.
            tokio::time::sleep(Duration::from_millis(left as u64).min(REREAD)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// The contract, against every implementation; `pass` lets that much time go by on the clock.
    async fn conformance(clock: Arc<dyn Clock>, pass: impl Fn(Span)) {
        let before = clock.now();
        // A time that has passed is not waited for.
        clock.sleep_until(before).await;
        clock.sleep_until(before - Span::hours(1)).await;
        let until = clock.now() + Span::millis(40);
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move {
                clock.sleep_until(until).await;
                clock.now()
            }
        });
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished(), "{clock:?} wakes before its time");
        pass(Span::millis(40));
        let woke = tokio::time::timeout(Duration::from_secs(5), sleeper).await.expect("it wakes").unwrap();
        assert!(woke >= until, "{clock:?} woke at {woke}, asked for {until}");
        let mut last = clock.now();
        for _ in 0..1_000 {
            let now = clock.now();
            assert!(now >= last, "{clock:?} went back from {last} to {now}");
            last = now;
        }
    }

    #[tokio::test]
    async fn every_clock_keeps_the_contract() {
        conformance(Arc::new(SystemClock), |_| {}).await;
        let simulated = Arc::new(SimulatedClock::new(Timestamp::from_millis(1_000_000)));
        conformance(simulated.clone(), |span| simulated.advance_to(simulated.now() + span)).await;
        simulated.let_go();
        conformance(simulated, |_| {}).await;
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("offset");
        conformance(Arc::new(ShiftedClock::new(file.clone())), |_| std::fs::write(&file, "3600000").unwrap()).await;
    }

    #[tokio::test]
    async fn a_simulated_clock_wakes_sleepers_only_when_it_gets_there() {
        let clock = Arc::new(SimulatedClock::new(Timestamp::from_millis(0)));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(Timestamp::from_millis(10)).await }
        });
        clock.advance_to(Timestamp::from_millis(9));
        tokio::task::yield_now().await;
        assert!(!sleeper.is_finished());
        clock.advance_to(Timestamp::from_millis(10));
        sleeper.await.unwrap();
        clock.advance_to(Timestamp::from_millis(5));
        assert_eq!(clock.now(), Timestamp::from_millis(10));
    }

    #[tokio::test]
    async fn a_simulated_clock_runs_on_once_let_go() {
        let clock = Arc::new(SimulatedClock::new(Timestamp::from_millis(1_000)));
        let sleeper = tokio::spawn({
            let clock = clock.clone();
            async move { clock.sleep_until(Timestamp::from_millis(1_020)).await }
        });
        tokio::task::yield_now().await;
        clock.let_go();
        sleeper.await.unwrap();
        assert!(clock.now() >= Timestamp::from_millis(1_020));
    }

    #[tokio::test]
    async fn a_shifted_clock_follows_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("offset");
        let clock = ShiftedClock::new(file.clone());
        let before = clock.now();
        std::fs::write(&file, "3600000").unwrap();
        tokio::time::sleep(REREAD * 2).await;
        assert!(clock.now().since(before) >= Span::hours(1));
    }
}
