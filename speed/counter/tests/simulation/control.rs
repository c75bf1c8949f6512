//! What the simulation does to one process: it lets its calls take time, stops it in the middle of one, or ends it there.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use clicks::time::{Span, Timestamp};
use platform::clock::{Clock, SimulatedClock};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use tokio::sync::Notify;

use crate::trace::Trace;

#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) number: usize,
    pub(crate) trace: Trace,
    random: Mutex<SmallRng>,
    paused: AtomicBool,
    continued: Notify,
    crash: Mutex<Option<Crash>>,
    has_crashed: AtomicBool,
    clock: Arc<SimulatedClock>,
    ahead: AtomicI64,
}

/// The process dies at a call of the store.
#[derive(Debug, Clone, Copy)]
struct Crash {
    /// Calls before that one.
    after: u8,
    is_applied: bool,
}

/// How a call of the store goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fork {
    Live,
    /// The process dies once the call was carried out.
    DieAfter,
}

impl Control {
    pub(crate) fn new(number: usize, seed: u64, clock: Arc<SimulatedClock>, trace: Trace) -> Arc<Self> {
        Arc::new(Control {
            number,
            trace,
            random: Mutex::new(SmallRng::seed_from_u64(seed)),
            paused: AtomicBool::new(false),
            continued: Notify::new(),
            crash: Mutex::default(),
            has_crashed: AtomicBool::new(false),
            clock,
            ahead: AtomicI64::new(0),
        })
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
        if !paused {
            self.continued.notify_waiters();
        }
    }

    pub(crate) fn crash_at(&self, after: u8, is_applied: bool) {
        *self.crash.lock().unwrap() = Some(Crash { after, is_applied });
    }

    pub(crate) fn has_crashed(&self) -> bool {
        self.has_crashed.load(Ordering::Relaxed)
    }

    pub(crate) fn set_clock(&self, ahead: Span) {
        self.ahead.store(ahead.as_millis(), Ordering::Relaxed);
    }

    pub(crate) fn draw(&self, below: u32) -> u32 {
        self.random.lock().unwrap().random_range(0..below)
    }

    /// The way to the server or back: it may take time, and ends only while the process runs.
    pub(crate) async fn way(&self) {
        match self.draw(16) {
            0 => tokio::time::sleep(Duration::from_millis(u64::from(1 + self.draw(3)))).await,
            1..5 => tokio::task::yield_now().await,
            _ => {}
        }
        self.running().await;
    }

    pub(crate) async fn running(&self) {
        while self.paused.load(Ordering::Relaxed) {
            self.continued.notified().await;
        }
    }

    /// A call of the store begins.
    pub(crate) async fn fork(&self) -> Fork {
        let crash = {
            let mut crash = self.crash.lock().unwrap();
            match &mut *crash {
                Some(Crash { after: 0, .. }) => crash.take(),
                Some(later) => {
                    later.after -= 1;
                    None
                }
                None => None,
            }
        };
        match crash {
            None => Fork::Live,
            Some(Crash { is_applied: true, .. }) => Fork::DieAfter,
            Some(_) => self.die().await,
        }
    }

    /// The process does nothing more; who supervises it will find it dead.
    pub(crate) async fn die<T>(&self) -> T {
        self.has_crashed.store(true, Ordering::Relaxed);
        std::future::pending().await
    }
}

/// The clock of the machine on which the process runs.
#[derive(Debug)]
pub(crate) struct LocalClock(pub(crate) Arc<Control>);

#[async_trait]
impl Clock for LocalClock {
    fn now(&self) -> Timestamp {
        self.0.clock.now() + Span::millis(self.0.ahead.load(Ordering::Relaxed))
    }

    async fn sleep_until(&self, time: Timestamp) {
        self.0.clock.sleep_until(time - Span::millis(self.0.ahead.load(Ordering::Relaxed))).await;
    }
}
