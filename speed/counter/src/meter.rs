//! What operators see: how far each partition is, and how far behind.
//!
//! Lag and freshness are measured by a task of their own, so that they grow while a worker is stuck.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
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

/// Counters and positions of one partition.
#[derive(Debug)]
pub(crate) struct Meter {
    pub(crate) number: u32,
    /// Of the last flush.
    next_offset: AtomicU64,
    append_time: AtomicI64,
    verdicts: Verdicts,
    watermark: Gauge,
    append: Gauge,
    sightings: Gauge,
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
    pub(crate) fn new(number: u32) -> Self {
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
            watermark: gauge!("twofold_speed_watermark_timestamp_seconds", "partition" => partition.clone()),
            append: gauge!("twofold_speed_append_timestamp_seconds", "partition" => partition.clone()),
            sightings: gauge!("twofold_speed_dedup_sightings", "partition" => partition.clone()),
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
        self.sightings.set(live.sightings() as f64);
        if live.meta().append_time > Timestamp::MIN {
            self.watermark.set(seconds(live.watermark()));
            self.append.set(seconds(live.meta().append_time));
        }
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
    ] {
        counter!(name).increment(0);
    }
}

/// Measures lag and freshness of all partitions for ever.
pub(crate) async fn measure(log: &dyn Log, clock: &dyn Clock, meters: &[Arc<Meter>]) -> std::convert::Infallible {
    loop {
        tokio::time::sleep(INTERVAL).await;
        for meter in meters {
            let append_time = Timestamp::from_millis(meter.append_time.load(Ordering::Relaxed));
            if append_time == Timestamp::MIN {
                continue;
            }
            let partition = meter.number.to_string();
            let age = clock.now().since(append_time).as_millis().max(0) as f64 / 1_000.0;
            gauge!("twofold_speed_freshness_seconds", "partition" => partition.clone()).set(age);
            // A log that does not answer shows in the workers' own counters.
            let Ok(bounds) = log.bounds(meter.number).await else { continue };
            let behind = bounds.end.value().saturating_sub(meter.next_offset.load(Ordering::Relaxed));
            gauge!("twofold_speed_lag_records", "partition" => partition.clone()).set(behind as f64);
            let lag = if behind == 0 { 0.0 } else { age };
            gauge!("twofold_speed_lag_seconds", "partition" => partition).set(lag);
        }
    }
}
