//! The one bound of what all partitions of an archiver hold together: records that are not stored yet, and encoded objects
//! that wait for a store that is away.
//!
//! Memory is reserved before records are fetched, and given back when they are stored. So the bound holds whatever comes;
//! only a single record that is larger than what was reserved for it goes beyond.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::Notify;

/// Clones are handles of the same memory.
#[derive(Debug, Clone)]
pub(crate) struct Memory(Arc<State>);

#[derive(Debug)]
struct State {
    bytes_max: u64,
    used: AtomicU64,
    freed: Notify,
}

/// Bytes that are held; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    memory: Memory,
    bytes: u64,
}

impl Memory {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Memory(Arc::new(State { bytes_max, used: AtomicU64::new(0), freed: Notify::new() }))
    }

    pub(crate) fn used(&self) -> u64 {
        self.0.used.load(Ordering::SeqCst)
    }

    pub(crate) fn has_room(&self, bytes: u64) -> bool {
        self.used().saturating_add(bytes) <= self.0.bytes_max
    }

    /// Waits until there is room for so many bytes.
    pub(crate) async fn reserve(&self, bytes: u64) -> Held {
        loop {
            let mut freed = std::pin::pin!(self.0.freed.notified());
            // Before looking: what is given back after the look, wakes it.
            freed.as_mut().enable();
            let room = |used: u64| used.checked_add(bytes).filter(|sum| *sum <= self.0.bytes_max);
            if self.0.used.fetch_update(Ordering::SeqCst, Ordering::SeqCst, room).is_ok() {
                return Held { memory: self.clone(), bytes };
            }
            freed.await;
        }
    }

    /// Holds nothing, and may grow.
    pub(crate) fn nothing(&self) -> Held {
        Held { memory: self.clone(), bytes: 0 }
    }
}

impl Held {
    /// It turned out to be so many.
    pub(crate) fn resize(&mut self, bytes: u64) {
        let before = std::mem::replace(&mut self.bytes, bytes);
        let used = &self.memory.0.used;
        if bytes >= before {
            used.fetch_add(bytes - before, Ordering::SeqCst);
        } else {
            used.fetch_sub(before - bytes, Ordering::SeqCst);
            self.memory.0.freed.notify_waiters();
        }
    }

    /// Takes over so many bytes of another one, at most what that holds.
    pub(crate) fn take_from(&mut self, other: &mut Held, bytes: u64) {
        let bytes = bytes.min(other.bytes);
        other.bytes -= bytes;
        self.bytes += bytes;
    }

    /// Leaves nothing here.
    pub(crate) fn take(&mut self) -> Held {
        Held { memory: self.memory.clone(), bytes: std::mem::take(&mut self.bytes) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use futures::poll;

    use super::*;

    #[tokio::test]
    async fn what_is_held_is_bounded_and_given_back() {
        let memory = Memory::new(100);
        let mut first = memory.reserve(60).await;
        assert!(memory.has_room(40) && !memory.has_room(41) && !memory.has_room(u64::MAX));
        let mut waiting = Box::pin(memory.reserve(50));
        assert!(poll!(&mut waiting).is_pending());
        first.resize(51);
        assert!(poll!(&mut waiting).is_pending());
        first.resize(50);
        let second = waiting.await;
        assert_eq!((memory.used(), second.bytes), (100, 50));
        let (mut rest, mut kept) = (first.take(), memory.nothing());
        assert_eq!(first.bytes, 0);
        kept.take_from(&mut rest, 20);
        kept.take_from(&mut rest, 1_000);
        assert_eq!((kept.bytes, rest.bytes, memory.used()), (50, 0, 100), "nothing is held twice");
        kept.resize(80);
        assert_eq!(memory.used(), 130, "what is larger than expected is counted");
        drop((first, rest, kept, second));
        assert_eq!(memory.used(), 0);
    }

    #[tokio::test]
    async fn one_that_gives_up_waiting_holds_nothing() {
        let memory = Memory::new(10);
        let held = memory.reserve(10).await;
        let mut waiting = Box::pin(memory.reserve(10));
        assert!(poll!(&mut waiting).is_pending());
        drop(waiting);
        drop(held);
        assert_eq!(memory.reserve(10).await.bytes, 10);
    }
}
