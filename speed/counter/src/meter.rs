//! What operators see: how far each partition is, and how far behind.
//!
//! Lag and freshness are measured by a task of their own, so that they grow while a worker is stuck. When a partition
//! goes to another process its gauges are set to NaN, which [`platform::telemetry::render`] leaves out: the last lag
//! that this process knew would be an alarm that never ends, and a zero would hide that nobody counts the partition.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clicks::counter::LiveCounter;
use clicks::live::Totals;
use clicks::time::Timestamp;
use clicks::wire::Rejection;
use metrics::{Counter, Gauge, counter, gauge};
use platform::clock::Clock;
use platform::log::Log;

use crate::doubt::Doubt;
use crate::resume::Reason;

/// Between two measurements.
const INTERVAL: Duration = Duration::from_secs(2);

/// The meters of all partitions that are counted now.
#[derive(Debug, Default)]
pub(crate) struct Meters(Mutex<BTreeMap<u32, Arc<Meter>>>);

impl Meters {
    /// The meter of a partition that begins to be counted.
    pub(crate) fn open(&self, number: u32) -> Arc<Meter> {
        let meter = Arc::new(Meter::new(number));
        self.lock().insert(number, meter.clone());
        meter
    }

    /// The partition is counted no longer: its gauges vanish.
    pub(crate) fn close(&self, number: u32) {
        if let Some(meter) = self.lock().remove(&number) {
            meter.close();
        }
    }

    pub(crate) fn close_all(&self) {
        for meter in std::mem::take(&mut *self.lock()).into_values() {
            meter.close();
        }
    }

    fn all(&self) -> Vec<Arc<Meter>> {
        self.lock().values().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u32, Arc<Meter>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counters and positions of one partition.
#[derive(Debug)]
pub(crate) struct Meter {
    number: u32,
    /// Of the last flush.
    next_offset: AtomicU64,
    append_time: AtomicI64,
    verdicts: Verdicts,
    /// `None` once the partition is another's, whatever still reports about it.
    gauges: Mutex<Option<Gauges>>,
}

/// Not a number as long as they are not known.
struct Gauges {
    watermark: Gauge,
    append: Gauge,
    sightings: Gauge,
    freshness: Gauge,
    lag_records: Gauge,
    lag_seconds: Gauge,
}

impl Gauges {
    fn of(partition: &str) -> Self {
        let gauges = Gauges {
            watermark: gauge!("twofold_speed_watermark_timestamp_seconds", "partition" => partition.to_owned()),
            append: gauge!("twofold_speed_append_timestamp_seconds", "partition" => partition.to_owned()),
            sightings: gauge!("twofold_speed_dedup_sightings", "partition" => partition.to_owned()),
            freshness: gauge!("twofold_speed_freshness_seconds", "partition" => partition.to_owned()),
            lag_records: gauge!("twofold_speed_lag_records", "partition" => partition.to_owned()),
            lag_seconds: gauge!("twofold_speed_lag_seconds", "partition" => partition.to_owned()),
        };
        gauges.forget();
        gauges
    }

    fn forget(&self) {
        let Gauges { watermark, append, sightings, freshness, lag_records, lag_seconds } = self;
        for gauge in [watermark, append, sightings, freshness, lag_records, lag_seconds] {
            gauge.set(f64::NAN);
        }
    }
}

impl std::fmt::Debug for Gauges {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Gauges")
    }
}

/// `twofold_speed_records_total` by verdict, created once.
struct Verdicts {
    control: Counter,
    rejected: Counter,
    duplicate: Counter,
    late: Counter,
    counted: Counter,
}

impl std::fmt::Debug for Verdicts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Verdicts")
    }
}

impl Meter {
    fn new(number: u32) -> Self {
        let partition = number.to_string();
        let records = |verdict: &'static str| counter!("twofold_speed_records_total", "partition" => partition.clone(), "verdict" => verdict);
        Meter {
            number,
            next_offset: AtomicU64::new(0),
            append_time: AtomicI64::new(i64::MIN),
            verdicts: Verdicts {
                control: records("control"),
                rejected: records("rejected"),
                duplicate: records("duplicate"),
                late: records("late"),
                counted: records("counted"),
            },
            gauges: Mutex::new(Some(Gauges::of(&partition))),
        }
    }

    fn show(&self, set: impl FnOnce(&Gauges)) {
        if let Some(gauges) = &*self.gauges.lock().unwrap_or_else(PoisonError::into_inner) {
            set(gauges);
        }
    }

    fn close(&self) {
        if let Some(gauges) = self.gauges.lock().unwrap_or_else(PoisonError::into_inner).take() {
            gauges.forget();
        }
    }

    /// What became of some records: the totals before and after them, and the codes of those that were rejected.
    pub(crate) fn judged(&self, before: &Totals, after: &Totals, rejected: &[&'static str]) {
        let Verdicts { control, rejected: all_rejected, duplicate, late, counted } = &self.verdicts;
        control.increment(after.control - before.control);
        all_rejected.increment(after.rejected - before.rejected);
        duplicate.increment(after.duplicate - before.duplicate);
        late.increment(after.late - before.late);
        counted.increment(after.counted - before.counted);
        for code in rejected {
            counter!("twofold_speed_rejected_total", "code" => *code).increment(1);
        }
    }

    /// Everything that the counter observed is stored.
    pub(crate) fn stored(&self, live: &LiveCounter) {
        self.next_offset.store(live.meta().next_offset.value(), Ordering::Relaxed);
        self.append_time.store(live.meta().append_time.as_millis(), Ordering::Relaxed);
        self.show(|gauges| {
            gauges.sightings.set(live.sightings() as f64);
            if live.meta().append_time > Timestamp::MIN {
                gauges.watermark.set(seconds(live.watermark()));
                gauges.append.set(seconds(live.meta().append_time));
            }
        });
    }
}

fn seconds(time: Timestamp) -> f64 {
    time.as_millis() as f64 / 1_000.0
}

/// Counters that show zero before anything happens.
pub(crate) fn begin_at_zero() {
    for doubt in Doubt::ALL {
        counter!("twofold_speed_reloads_total", "reason" => doubt.code()).increment(0);
    }
    for reason in [Reason::Damaged, Reason::Scrub] {
        counter!("twofold_speed_reloads_total", "reason" => reason.code()).increment(0);
        counter!("twofold_speed_generations_total", "reason" => reason.code()).increment(0);
    }
    for code in Rejection::CODES {
        counter!("twofold_speed_rejected_total", "code" => code).increment(0);
    }
    for name in [
        "twofold_speed_gaps_total",
        "twofold_speed_lost_records_total",
        "twofold_speed_short_logs_total",
        "twofold_speed_short_look_backs_total",
        "twofold_speed_dedup_evicted_total",
        "twofold_speed_fingerprints_gone_total",
        "twofold_speed_topic_unanswered_total",
        "twofold_speed_ledger_failures_total",
        "twofold_speed_expired_total",
        "twofold_speed_scrubs_total",
        "twofold_speed_scrubs_failed_total",
        "twofold_speed_swept_keys_total",
        "twofold_speed_rebalances_total",
    ] {
        counter!(name).increment(0);
    }
}

/// Measures lag and freshness of all partitions that are counted, for ever.
pub(crate) async fn measure(log: &dyn Log, clock: &dyn Clock, meters: &Meters) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(INTERVAL).await;
        for meter in meters.all() {
            let append_time = Timestamp::from_millis(meter.append_time.load(Ordering::Relaxed));
            if append_time == Timestamp::MIN {
                continue;
            }
            let age = clock.now().since(append_time).as_millis().max(0) as f64 / 1_000.0;
            meter.show(|gauges| gauges.freshness.set(age));
            // A log that does not answer shows in the workers' own counters.
            let Ok(bounds) = log.bounds(meter.number).await else { continue };
            let behind = bounds.end.value().saturating_sub(meter.next_offset.load(Ordering::Relaxed));
            meter.show(|gauges| {
                gauges.lag_records.set(behind as f64);
                gauges.lag_seconds.set(if behind == 0 { 0.0 } else { age });
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_that_is_anothers_has_no_gauges_here() {
        platform::telemetry::metrics();
        let shown = |partition: u32| {
            let label = format!("partition=\"{partition}\"");
            let text = platform::telemetry::render();
            text.lines().filter(|line| line.contains(&label) && !line.contains("records_total")).count()
        };
        let meters = Meters::default();
        let (meter, other) = (meters.open(1_001), meters.open(1_002));
        assert_eq!((shown(1_001), shown(1_002)), (0, 0), "nothing is known yet");
        let report = |meter: &Meter| {
            meter.show(|gauges| {
                gauges.lag_records.set(7.0);
                gauges.watermark.set(1.0);
            });
        };
        report(&meter);
        report(&other);
        assert_eq!((shown(1_001), shown(1_002)), (2, 2));
        meters.close(1_001);
        // A measurement that was under way.
        report(&meter);
        assert_eq!((shown(1_001), shown(1_002)), (0, 2));
        report(&meters.open(1_001));
        assert_eq!(shown(1_001), 2, "it came back");
        meters.close_all();
        assert_eq!((shown(1_001), shown(1_002)), (0, 0));
    }
}
