//! What the loop counted, of all tests of this process together.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

static COUNTERS: Mutex<Option<HashMap<String, Arc<AtomicU64>>>> = Mutex::new(None);

/// The sum of a counter, whatever its labels.
pub(crate) fn counted(name: &str) -> u64 {
    let counters = COUNTERS.lock().unwrap();
    counters.as_ref().and_then(|all| all.get(name)).map_or(0, |counter| counter.load(Ordering::Relaxed))
}

/// Counts from now on; it does no harm to say so twice.
pub(crate) fn begin() {
    let _ = metrics::set_global_recorder(Counters);
}

#[derive(Debug)]
struct Counters;

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let mut counters = COUNTERS.lock().unwrap();
        let counter = counters.get_or_insert_default().entry(key.name().to_owned()).or_default();
        Counter::from_arc(counter.clone())
    }
    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }
    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}
