//! What the collector counts. Everything that can be told apart by a label starts at zero, so that a first refusal is an
//! increase and not a new series.

use clicks::wire::Rejection;
use metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};

use crate::answer::Kind;
use crate::refusal::Refusal;

const CLICKS: &str = "twofold_collector_clicks_total";
const REJECTED: &str = "twofold_collector_rejected_total";
const REQUESTS: &str = "twofold_collector_requests_total";
const LATE_ACKNOWLEDGEMENTS: &str = "twofold_collector_late_acknowledgements_total";
const APPEND: &str = "twofold_collector_append_seconds";
const IN_FLIGHT: &str = "twofold_collector_in_flight_records";
const CUT_OFF: &str = "twofold_collector_cut_off_connections_total";

/// Installs the recorder of the process and makes every series known to it.
pub(crate) fn start() {
    platform::telemetry::metrics();
    describe_counter!(CLICKS, "Clicks of readable requests, by what became of them.");
    describe_counter!(REJECTED, "Clicks and whole bodies that were refused, by reason.");
    describe_counter!(REQUESTS, "Answered requests, probes apart, by HTTP status.");
    describe_counter!(LATE_ACKNOWLEDGEMENTS, "Clicks that the log acknowledged after the client had been told 503.");
    describe_histogram!(APPEND, "Time until the log acknowledged the last click of a request, or it was given up.");
    describe_gauge!(IN_FLIGHT, "Records that wait for the log.");
    describe_counter!(CUT_OFF, "Connections that a stop cut off because they did not end within the drain time.");
    for result in ["accepted", "rejected", "unavailable"] {
        clicks(result, 0);
    }
    for code in Rejection::CODES.into_iter().chain(Refusal::CODES).chain(Kind::OF_BODIES.map(|kind| kind.code)) {
        counter!(REJECTED, "code" => code).increment(0);
    }
    counter!(LATE_ACKNOWLEDGEMENTS).increment(0);
    counter!(CUT_OFF).increment(0);
    gauge!(IN_FLIGHT).set(0.0);
}

pub(crate) fn refused(refusal: &Refusal) {
    clicks("rejected", 1);
    counter!(REJECTED, "code" => refusal.code).increment(1);
}

/// A whole body in which clicks could not even be told apart.
pub(crate) fn refused_body(code: &'static str) {
    counter!(REJECTED, "code" => code).increment(1);
}

pub(crate) fn appended(acknowledged: usize, unknown: usize, took: std::time::Duration) {
    clicks("accepted", acknowledged);
    clicks("unavailable", unknown);
    metrics::histogram!(APPEND).record(took);
}

pub(crate) fn not_admitted(count: usize) {
    clicks("unavailable", count);
}

pub(crate) fn acknowledged_late() {
    counter!(LATE_ACKNOWLEDGEMENTS).increment(1);
}

pub(crate) fn in_flight_grew(by: usize) {
    gauge!(IN_FLIGHT).increment(by as f64);
}

pub(crate) fn in_flight_shrank(by: usize) {
    gauge!(IN_FLIGHT).decrement(by as f64);
}

pub(crate) fn cut_off(connections: usize) {
    counter!(CUT_OFF).increment(connections as u64);
}

pub(crate) fn answered(status: u16) {
    counter!(REQUESTS, "status" => status.to_string()).increment(1);
}

fn clicks(result: &'static str, count: usize) {
    counter!(CLICKS, "result" => result).increment(count as u64);
}
