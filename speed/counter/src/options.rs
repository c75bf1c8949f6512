//! What tunes the process and never changes the meaning of a count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use clicks::live::Generation;
use clicks::time::Span;

/// How the streaming loop runs.
#[derive(Debug, Clone)]
pub struct Options {
    pub partitions: Partitions,
    /// A record is stored at most about this long after it was read, plus the round trips to broker and store.
    pub flush_interval: Duration,
    /// Most records that one poll takes, per partition.
    pub poll_max: usize,
    /// Most sightings that dedup remembers per partition, some 150 bytes each; what is forgotten beyond it is counted in
    /// the meta record and in `twofold_speed_dedup_evicted_total`.
    pub sightings_max: usize,
    /// Live minutes of a closed day stay until this long after the end of the day, so that the two layers can be
    /// compared.
    pub keep_closed: Span,
    /// How often new entries of the ledger are looked for.
    pub ledger_refresh: Duration,
    /// How long after one scrub the next one begins. Each begins with an entry, too.
    pub scrub_interval: Duration,
    /// Pauses before the store, or a log that did not answer, is tried again.
    pub store_retry: Retry,
    pub generations: Generations,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            partitions: Partitions::All,
            flush_interval: Duration::from_millis(25),
            poll_max: 1_000,
            sightings_max: 2_000_000,
            keep_closed: Span::hours(24),
            ledger_refresh: Duration::from_secs(10),
            scrub_interval: Duration::from_secs(300),
            store_retry: Retry { first: Duration::from_millis(50), max: Duration::from_secs(5) },
            generations: Generations::Random,
        }
    }
}

/// Which partitions this process counts. Any of them may be another's as well: flushes are compare-and-set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Partitions {
    All,
    Fixed(Vec<u32>),
    /// Its share in the group of this name, which changes as processes come and go.
    Group(String),
}

/// Where the ids of new generations come from.
#[derive(Debug, Clone)]
pub enum Generations {
    /// The only source for production: an id that no other process can have drawn.
    Random,
    /// The next number: a simulation is the same each time.
    Numbered(Arc<AtomicU64>),
}

impl Generations {
    pub(crate) fn next(&self) -> Generation {
        Generation::from_u128(match self {
            Generations::Random => uuid::Uuid::new_v4().as_u128(),
            Generations::Numbered(next) => next.fetch_add(1, Ordering::Relaxed).into(),
        })
    }
}

/// Pauses that double from the first to the longest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    pub first: Duration,
    pub max: Duration,
}

/// The pauses of one series of failures.
#[derive(Debug)]
pub(crate) struct Pauses {
    retry: Retry,
    next: Duration,
}

impl Pauses {
    pub(crate) fn new(retry: Retry) -> Self {
        Pauses { retry, next: retry.first }
    }

    pub(crate) fn next(&mut self) -> Duration {
        let pause = self.next.min(self.retry.max);
        self.next = pause.saturating_mul(2);
        pause
    }

    /// It works again.
    pub(crate) fn reset(&mut self) {
        self.next = self.retry.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_begin_anew() {
        let ms = Duration::from_millis;
        let mut pauses = Pauses::new(Retry { first: ms(50), max: ms(150) });
        assert_eq!([(); 4].map(|()| pauses.next()), [ms(50), ms(100), ms(150), ms(150)]);
        pauses.reset();
        assert_eq!(pauses.next(), ms(50));
    }
}
