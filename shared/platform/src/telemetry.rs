//! Logs on stderr, metrics for Prometheus, and the probes of an orchestrator: the same for every service.
//!
//! Metrics are recorded with the macros of the `metrics` crate, named `twofold_<service>_<what>_<unit or total>`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// Sends logs to stderr: `RUST_LOG` selects, `info` is the default. Calling it again changes nothing.
pub fn init_logs(default: &str) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let ansi = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(ansi);
    // A second subscriber is refused; the first one stays, which is what is wanted.
    let _ = logs.try_init();
}

/// Seconds; the bounds that a click's way through the system is measured with.
const SECONDS: [f64; 12] = [0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// The process-wide recorder, installed at the first call.
pub fn metrics() -> &'static PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(|| {
        let builder = PrometheusBuilder::new();
        let builder = builder
            .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
            .expect("the list of bounds is not empty");
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        // Observations pile up until they are drained, also where nobody ever asks for `/metrics`.
        let upkeep = handle.clone();
        let every = Duration::from_secs(5);
        std::thread::Builder::new()
            .name("metrics-upkeep".to_owned())
            .spawn(move || {
                loop {
                    std::thread::sleep(every);
                    upkeep.run_upkeep();
                }
            })
            .expect("a thread can be started");
        // Only another library could have installed one; then its recorder is used and ours renders nothing.
        let _ = metrics::set_global_recorder(recorder);
        handle
    })
}

/// All metrics as Prometheus reads them. A gauge that is not a number is one that nobody here knows any more, such as
/// the lag of a partition that another process counts now: it is left out, and so becomes stale there.
pub fn render() -> String {
    let text = metrics().render();
    let is_known = |line: &&str| line.starts_with('#') || !line.ends_with(" NaN");
    text.split_inclusive('\n').filter(|line| is_known(&line.trim_end_matches('\n'))).collect()
}

/// Whether a service takes work. Starts as not ready.
#[derive(Debug, Clone, Default)]
pub struct Readiness(Arc<AtomicBool>);

impl Readiness {
    pub fn set(&self, ready: bool) {
        self.0.store(ready, Ordering::Relaxed);
    }
    pub fn get(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// `/livez` (the process answers) and `/readyz` (it takes work).
pub fn probe_routes(ready: Readiness) -> Router {
    let readyz = move || async move {
        match ready.get() {
            true => (StatusCode::OK, "ready\n").into_response(),
            false => (StatusCode::SERVICE_UNAVAILABLE, "not ready\n").into_response(),
        }
    };
    Router::new().route("/livez", get(|| async { "alive\n" })).route("/readyz", get(readyz))
}

/// [`probe_routes`] and `/metrics`, which is nobody's business but the operators'.
pub fn admin_routes(ready: Readiness) -> Router {
    let metrics_text = || async { ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], render()) };
    probe_routes(ready).route("/metrics", get(metrics_text))
}

/// Serves [`admin_routes`] until `stop`.
///
/// # Errors
/// When the address cannot be bound.
pub async fn serve_admin(address: SocketAddr, ready: Readiness, stop: CancellationToken) -> std::io::Result<()> {
    let listener = tokio::net::TcpListener::bind(address).await?;
    axum::serve(listener, admin_routes(ready)).with_graceful_shutdown(stop.cancelled_owned()).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn recorded_metrics_are_rendered() {
        metrics();
        metrics::counter!("twofold_test_things_total", "kind" => "a").increment(2);
        metrics::gauge!("twofold_test_known", "kind" => "a").set(f64::INFINITY);
        metrics::gauge!("twofold_test_known", "kind" => "NaN").set(f64::NAN);
        let text = render();
        assert!(text.contains("twofold_test_things_total{kind=\"a\"} 2\n"), "{text}");
        assert!(text.contains("twofold_test_known{kind=\"a\"} ") && !text.contains("NaN"), "{text}");
    }
}
