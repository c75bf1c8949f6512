//! The tables over PostgreSQL's protocol, for psql, notebooks and BI tools.
//!
//! ```text
//! connection -> door: TLS, key with the scope `sql`      (before anything else, and the key again at every statement)
//!   -> statement: only reads? -> snapshot: of this statement, or of its transaction
//!   -> plan: only reads? -> answer, within limits of time, rows and memory
//! ```
//!
//! Each connection has a session of its own: what one client sets, no other one sees. Nothing that a client can say writes,
//! names a file, or changes a limit.

mod besides;
mod catalog;
mod door;
mod hook;
mod latest;
mod parse;
mod service;
mod state;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use datafusion_postgres::pgwire::api::RandomPidSecretKeyGenerator;
use datafusion_postgres::pgwire::tokio::process_socket;
use platform::ads::Ads;
use platform::clock::Clock;
use platform::keys::Keys;
use platform::ledger::Ledger;
use platform::objects::Objects;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::error::SqlError;
use crate::session::{Engine, Limits};
use door::Door;
use latest::Latest;
use service::{Cancels, Connection};
use state::State;

/// Who is not let in by then is not waited for.
const LOGIN_MAX: Duration = Duration::from_secs(10);
/// How often it is looked whether a key is still one, and whether anything is asked.
const LOOK: Duration = Duration::from_secs(30);
/// How long a client that is turned away has to hear why.
const FAREWELL: Duration = Duration::from_millis(200);
/// After an accept that failed: mostly for want of file descriptors, which does not pass at once.
const PAUSE: Duration = Duration::from_millis(100);

/// Who is served, and how much of the machine all of them may take.
#[derive(Debug)]
pub struct Options {
    /// `None`: who reaches the address needs no key.
    pub keys: Option<Keys>,
    /// `None`: what is said can be read on the way. A client that does not ask for TLS is refused where there is some.
    pub tls: Option<Tls>,
    pub limits: Limits,
    pub connections_max: usize,
    /// Most questions that are computed at a time.
    pub questions_max: usize,
}

/// A certificate and its key, read and found to belong together.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

impl Tls {
    /// # Errors
    /// When a file cannot be read, holds none, or the two do not belong together.
    pub fn read(certificate: &Path, key: &Path) -> io::Result<Self> {
        let of = |path: &Path, error: &dyn std::fmt::Display| {
            io::Error::other(format!("`{}` cannot be used for TLS: {error}", path.display()))
        };
        let chain = CertificateDer::pem_file_iter(certificate).map_err(|error| of(certificate, &error))?;
        let chain = chain.collect::<Result<Vec<_>, _>>().map_err(|error| of(certificate, &error))?;
        let private = PrivateKeyDer::from_pem_file(key).map_err(|error| of(key, &error))?;
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .and_then(|config| config.with_no_client_auth().with_single_cert(chain, private));
        let mut config = config.map_err(|error| of(certificate, &error))?;
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Ok(Tls(TlsAcceptor::from(Arc::new(config))))
    }
}

/// What all connections share.
#[derive(Debug)]
pub(crate) struct Shared {
    engine: Engine,
    latest: Latest,
    door: Door,
    limits: Limits,
    questions: Arc<Semaphore>,
    cancels: Arc<Cancels>,
    ids: RandomPidSecretKeyGenerator,
}

/// Serves until it is stopped; connections that are open then are closed.
///
/// # Errors
/// When the engine cannot be started.
pub async fn serve(
    listener: TcpListener,
    options: Options,
    (objects, ledger): (Objects, Ledger),
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) -> Result<(), SqlError> {
    let Options { keys, tls, limits, connections_max, questions_max } = options;
    let shared = Arc::new(Shared {
        engine: Engine::new(&objects, limits)?,
        latest: Latest::new(Ads::new(objects.clone()), objects, ledger),
        door: Door::new(keys, clock, tls.is_some()),
        limits,
        questions: Arc::new(Semaphore::new(questions_max.max(1))),
        cancels: Arc::default(),
        ids: RandomPidSecretKeyGenerator::default(),
    });
    let places = Arc::new(Semaphore::new(connections_max));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            accepted = listener.accept() => accepted,
        };
        let (socket, from) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                warn!("a client of PostgreSQL's protocol was not let in: {error}");
                tokio::time::sleep(PAUSE).await;
                continue;
            }
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            metrics::counter!("twofold_sql_connections_refused_total").increment(1);
            warn!("a client of PostgreSQL's protocol, {from}, was turned away: {connections_max} are connected");
            continue;
        };
        let (shared, tls, stop) = (shared.clone(), tls.as_ref().map(|tls| tls.0.clone()), stop.clone());
        tokio::spawn(async move {
            let _place = place;
            let _counted = Counted::new();
            let connection = match Connection::new(shared) {
                Ok(connection) => Arc::new(connection),
                Err(error) => return warn!("a client of PostgreSQL's protocol, {from}, cannot be served: {error}"),
            };
            tokio::select! {
                () = stop.cancelled() => {}
                reason = over(&connection.state) => info!("the connection of {from} is closed: {reason}"),
                ended = process_socket(socket, tls, connection.clone()) => if let Err(error) = ended {
                    info!("the connection of {from} has ended: {error}");
                }
            }
        });
    }
}

/// Waits until a connection should not stay, and says why. The library reads on from clients that it has turned away.
async fn over(state: &State) -> String {
    let mut wait = LOGIN_MAX;
    loop {
        tokio::select! {
            () = state.ended.cancelled() => {
                // The last message is on its way.
                tokio::time::sleep(FAREWELL).await;
                return "it was told why".to_owned();
            }
            () = tokio::time::sleep(wait) => {}
        }
        if let Some(reason) = state.reason_to_end().await {
            return reason;
        }
        wait = LOOK;
    }
}

/// One of the connections that the gauge counts.
struct Counted;

impl Counted {
    fn new() -> Self {
        metrics::gauge!("twofold_sql_connections").increment(1);
        Counted
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        metrics::gauge!("twofold_sql_connections").decrement(1);
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}
