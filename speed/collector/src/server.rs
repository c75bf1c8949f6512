//! The server: listen, serve connections, drain.
//!
//! ```text
//! stop ──► not ready, no new connection, idle ones closed
//!      ──► requests in progress go on                       for `drain` minus a little
//!      ──► those left answer with what they know (503)      for that little
//!      ──► connections that are still there are cut off, and counted
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use clicks::id::TopicId;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use platform::clock::Clock;
use platform::log::{Log, LogError};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::intake::{Intake, router};
use crate::options::{Options, OptionsError};
use crate::{health, telemetry};

/// A collector that is bound to its address, and serves from [`Collector::run`] on. Connections that come in between
/// wait.
#[derive(Debug)]
pub struct Collector {
    listener: TcpListener,
    address: SocketAddr,
    intake: Arc<Intake>,
}

/// What ends a collector.
#[derive(Debug, thiserror::Error)]
pub enum CollectorError {
    #[error(transparent)]
    Options(#[from] OptionsError),
    #[error("the collector cannot listen on {address}: {source}; {}", mend(source))]
    Bind { address: SocketAddr, source: io::Error },
    #[error("the collector takes no further connections: {0}; start it again")]
    Accept(io::Error),
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(
        "topic `{name}` is {found} with {partitions} partitions, but the ledger knows {recorded}: clicks that go there would be counted by nobody. Record a topic that was created again with `twofold topic create`; partitions that were added need a new topic"
    )]
    ForeignTopic { name: String, found: TopicId, partitions: u32, recorded: String },
}

fn mend(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::AddrInUse => "stop what listens there, or choose another port (`listen`)",
        io::ErrorKind::PermissionDenied => "choose a port above 1023 (`listen`), or grant the right to use this one",
        io::ErrorKind::AddrNotAvailable => "choose an address of this machine (`listen`)",
        _ => "choose another address (`listen`)",
    }
}

/// Binds and serves until `stop`.
///
/// # Errors
/// As [`Collector::bind`] and [`Collector::run`].
pub async fn serve(
    options: Options,
    log: Arc<dyn Log>,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> Result<(), CollectorError> {
    Collector::bind(options, log, clock).await?.run(stop).await
}

impl Collector {
    /// Takes the address.
    ///
    /// # Errors
    /// When the options do not fit each other, or the address cannot be listened on.
    pub async fn bind(options: Options, log: Arc<dyn Log>, clock: Arc<dyn Clock>) -> Result<Self, CollectorError> {
        let address = options.listen;
        let intake = Intake::new(options, log, clock)?;
        let failed = |source| CollectorError::Bind { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Collector { listener, address, intake })
    }

    /// Where it listens, the port that was found for port 0 included.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until `stop`, then drains. Every request that was begun is answered first.
    ///
    /// # Errors
    /// When the topic does not exist, the log fails in a way that is not understood, or connections cannot be accepted
    /// any more. What was begun is drained then, too.
    pub async fn run(self, stop: CancellationToken) -> Result<(), CollectorError> {
        let Collector { listener, address, intake } = self;
        // Also when this future is dropped nothing of it goes on.
        let _end = intake.ended.clone().drop_guard();
        let connections = GracefulShutdown::new();
        let slots = Arc::new(Semaphore::new(intake.options.connections_max));
        tracing::info!("taking clicks on http://{address}/v1/clicks");
        let outcome = tokio::select! {
            biased;
            () = stop.cancelled() => Ok(()),
            () = intake.failed() => Ok(()),
            asked = health::watch(&intake) => asked.map(|never| match never {}),
            error = accept(&listener, &intake, &connections, &slots) => Err(CollectorError::Accept(error)),
        };
        intake.readiness.set(false);
        drop(listener);
        drain(&intake, connections, &slots).await;
        outcome?;
        intake.take_failure().map_or(Ok(()), |error| Err(error.into()))
    }
}

/// Accepts connections until that fails for good.
async fn accept(
    listener: &TcpListener,
    intake: &Arc<Intake>,
    connections: &GracefulShutdown,
    slots: &Arc<Semaphore>,
) -> io::Error {
    let service = TowerToHyperService::new(router(intake.clone()));
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(intake.options.header_timeout).max_buf_size(BUFFER_MAX_BYTES);
    loop {
        let slot = slots.clone().acquire_owned().await;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) if is_of_one_connection(&error) => continue,
            Err(error) if is_want_of_files(&error) => {
                tracing::warn!("no further connection for now: {error}; raise the limit on open files");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
            Err(error) => return error,
        };
        if let Err(error) = no_delay(&stream) {
            tracing::debug!("a connection broke before its first request: {error}");
            continue;
        }
        let connection = connections.watch(http.serve_connection(TokioIo::new(stream), service.clone()));
        let ended = intake.ended.clone();
        tokio::spawn(async move {
            if let Some(Err(error)) = ended.run_until_cancelled(connection).await {
                tracing::debug!("a connection broke: {error}");
            }
            drop(slot);
        });
    }
}

/// Per connection, so heads of requests are shorter than this, and bodies come in parts of at most this.
const BUFFER_MAX_BYTES: usize = 64 << 10;
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Answers are small and written at once; waiting for more (Nagle) would stall clients by 40 ms.
fn no_delay(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)
}

/// The peer went away while it was waiting to be accepted.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted)
}

/// ENFILE and EMFILE, the same numbers on Linux, macOS and the BSDs: they pass when other connections end.
fn is_want_of_files(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(23 | 24))
}

async fn drain(intake: &Intake, connections: GracefulShutdown, slots: &Semaphore) {
    let drain = intake.options.drain;
    // What is left of the time is for writing the last answers.
    let reserve = (drain / 5).min(Duration::from_secs(1));
    let open = || intake.options.connections_max - slots.available_permits();
    tracing::info!(connections = open(), "stopping: requests that were begun are answered first");
    let drained = connections.shutdown();
    tokio::pin!(drained);
    if tokio::time::timeout(drain.saturating_sub(reserve), &mut drained).await.is_ok() {
        return;
    }
    intake.closing.cancel();
    if tokio::time::timeout(reserve, &mut drained).await.is_err() {
        telemetry::cut_off(open());
        tracing::warn!(connections = open(), "not ended within {drain:?} and cut off; raise `drain` if this repeats");
    }
}
