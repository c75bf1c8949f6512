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
    planned: Mutex<Option<Planned>>,
    is_met: AtomicBool,
    /// Calls take no time.
    is_prompt: bool,
    has_crashed: AtomicBool,
    clock: Arc<SimulatedClock>,
    ahead: AtomicI64,
}

/// What happens at a call of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    Die,
    /// It stands still until it is continued.
    Pause,
    /// It learns nothing of what became of the call.
    NoReply,
}

#[derive(Debug, Clone, Copy)]
struct Planned {
    fault: Fault,
    /// Calls before that one.
    after: u8,
    /// The call is carried out, and then it happens; or before.
    is_applied: bool,
}

impl Control {
    pub(crate) fn new(number: usize, seed: u64, clock: Arc<SimulatedClock>, trace: Trace) -> Arc<Self> {
        Arc::new(Control {
            number,
            trace,
            random: Mutex::new(SmallRng::seed_from_u64(seed)),
            paused: AtomicBool::new(false),
            continued: Notify::new(),
            planned: Mutex::default(),
            is_met: AtomicBool::new(false),
            is_prompt: false,
            has_crashed: AtomicBool::new(false),
            clock,
            ahead: AtomicI64::new(0),
        })
    }

    pub(crate) fn prompt(clock: Arc<SimulatedClock>, trace: Trace) -> Arc<Self> {
        let control = Self::new(0, 0, clock, trace);
        Arc::new(Control { is_prompt: true, ..Arc::into_inner(control).expect("nobody else has it") })
    }

    pub(crate) fn is_prompt(&self) -> bool {
        self.is_prompt
    }

    pub(crate) fn pause(&self, paused: bool) {
        self.paused.store(paused, Ordering::Relaxed);
        if !paused {
            self.continued.notify_waiters();
        }
    }

    pub(crate) fn plan(&self, fault: Fault, after: u8, is_applied: bool) {
        *self.planned.lock().unwrap() = Some(Planned { fault, after, is_applied });
    }

    /// What was planned has happened.
    pub(crate) fn has_met_it(&self) -> bool {
        self.is_met.load(Ordering::Relaxed)
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
            _ if self.is_prompt => {}
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

    /// A call of the store begins; what happens at this one, and whether the call is carried out before it.
    pub(crate) fn next_call(&self) -> Option<(Fault, bool)> {
        let mut planned = self.planned.lock().unwrap();
        match &mut *planned {
            Some(Planned { after: 0, fault, is_applied }) => {
                let now = Some((*fault, *is_applied));
                *planned = None;
                self.is_met.store(true, Ordering::Relaxed);
                now
            }
            Some(later) => {
                later.after -= 1;
                None
            }
            None => None,
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
