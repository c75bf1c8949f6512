//! The server: bind, then run until it is told to stop.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use axum::ServiceExt;
use axum::http::{HeaderValue, Uri};
use clicks::time::Span;
use platform::ads::Ads;
use platform::clock::Clock;
use platform::keys::Keys;
use platform::ledger::{Ledger, LedgerError};
use platform::objects::Objects;
use platform::settings::Access;
use platform::store::SpeedStore;
use platform::telemetry::{Readiness, admin_routes, metrics};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower_http::cors::AllowOrigin;

use crate::answers::Answers;
use crate::api::{App, server};
use crate::archived::{Archive, Archived};
use crate::catalog::Catalog;
use crate::gate::{Gate, OpenTo};
use crate::live::LiveReader;
use crate::nights::Nights;
use crate::position::Positions;
use crate::room::Room;
use crate::sources::{Sources, Turns};
use crate::table_cache::TableCache;

/// What tunes a server. None of it changes a number, only how soon it is seen and how much may be asked at once.
#[derive(Debug, Clone)]
pub struct Options {
    pub listen: SocketAddr,
    /// Where `/metrics` are, beside the probes; nowhere without it.
    pub admin: Option<SocketAddr>,
    /// How often the ledger is read on.
    pub ledger_refresh: Duration,
    /// What was read from the speed store within this time is as good as read now; and so is an answer that was made of it.
    pub live_refresh: Duration,
    /// Memory for live counts. Hours that do not fit are read for each question.
    pub live_bytes_max: usize,
    /// Deadline of reading one partition's live counts.
    pub live_timeout: Duration,
    /// How far a partition may be behind before live periods count as incomplete. Heartbeats move it every few seconds.
    pub lag_max: Span,
    /// Most rows (periods times ads) of one answer.
    pub rows_max: usize,
    /// Most ads that one question may name.
    pub ads_max: usize,
    /// Memory for answers that are given again to who asks the same within `live_refresh`.
    pub answers_bytes_max: usize,
    /// Memory for published tables that are kept.
    pub tables_bytes_max: usize,
    /// Memory for tables that are being read. One that is larger is read alone.
    pub reads_bytes_max: usize,
    /// Wide questions (all ads, over hours) that are answered at a time; the others wait.
    pub wide_max: usize,
    /// How long a wide question waits before it is sent away.
    pub wide_wait: Duration,
    /// Pages of these origins may read the answers, or of all when one is `*`. None may unless it is named.
    pub cors_origins: Vec<String>,
    /// Who may ask without a key.
    pub access: Access,
    /// Requests that each key may make in a second, on the average of ten.
    pub requests_per_second: NonZeroU32,
    /// How often keys are read: what is revoked opens nothing after this.
    pub keys_refresh: Duration,
    /// How often a new version of the ads table is looked for.
    pub ads_refresh: Duration,
    /// Streams of live changes that may be open.
    pub streams_max: usize,
    /// How often a stream looks for changes.
    pub stream_refresh: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            admin: None,
            ledger_refresh: Duration::from_secs(1),
            live_refresh: Duration::from_millis(100),
            live_bytes_max: 512 << 20,
            live_timeout: Duration::from_secs(2),
            lag_max: Span::seconds(30),
            rows_max: 20_000,
            ads_max: 100,
            answers_bytes_max: 32 << 20,
            tables_bytes_max: 256 << 20,
            reads_bytes_max: 256 << 20,
            wide_max: 8,
            wide_wait: Duration::from_secs(5),
            cors_origins: Vec::new(),
            access: Access::Auto,
            requests_per_second: const { NonZeroU32::new(50).expect("50 is not zero") },
            keys_refresh: Duration::from_secs(10),
            ads_refresh: Duration::from_secs(5),
            streams_max: 64,
            stream_refresh: Duration::from_millis(500),
        }
    }
}

/// Why a server does not start, or ends.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    #[error(
        "{address} is taken by another process: end that one, or choose another address for `{setting}` (port 0 takes a free one)"
    )]
    Taken { address: SocketAddr, setting: &'static str },
    #[error("cannot listen on {address}: {source}; choose another address for `{setting}`")]
    Listen { address: SocketAddr, setting: &'static str, source: std::io::Error },
    #[error(
        "`{0}` in `serving.cors_origins` is no origin: write it like https://dashboard.example.com, without a path, or `*` \
         for all"
    )]
    Origin(String),
    #[error("nothing is answered on top of this ledger: {0}")]
    Ledger(#[from] LedgerError),
    #[error("the HTTP server failed: {0}")]
    Http(std::io::Error),
}

/// A server that holds its port; it answers once it runs.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    admin: Option<TcpListener>,
    address: SocketAddr,
    app: Arc<App>,
    origins: Option<AllowOrigin>,
}

/// How long requests in flight may take after the signal to stop.
const DRAIN_MAX: Duration = Duration::from_secs(5);

impl Server {
    /// Takes the port. Neither the ledger nor the store need to be there yet: `/readyz` tells when the ledger is. Of the
    /// archive only its status is shown, if there is one.
    ///
    /// # Errors
    /// When the address cannot be listened on, or an origin is none.
    pub async fn bind(
        options: Options,
        objects: Objects,
        ledger: Ledger,
        store: Arc<dyn SpeedStore>,
        archive: Option<Arc<dyn Archive>>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, ServingError> {
        // Before the first counter is touched: what is recorded without a recorder is lost.
        metrics();
        let origins = origins(&options.cors_origins)?;
        let (listener, address) = listen(options.listen, "serving.listen").await?;
        let admin = match options.admin {
            Some(address) => Some(listen(address, "serving.admin").await?.0),
            None => None,
        };
        let nights = Nights::new(ledger.clone(), objects.clone());
        let catalog = Catalog::new(Ads::new(objects.clone()));
        let open_to = match options.access {
            Access::Auto if address.ip().is_loopback() => OpenTo::ThisMachine,
            Access::Auto | Access::Keys => OpenTo::Nobody,
            Access::Open => OpenTo::Everybody,
        };
        let keys = Keys::new(objects.clone());
        let gate = Gate::new(keys, clock.clone(), open_to, options.requests_per_second, options.streams_max);
        let tables = Arc::new(TableCache::new(objects, options.tables_bytes_max));
        let sources = Sources {
            positions: Positions::new(ledger, tables.clone(), clock.clone()),
            tables,
            live: LiveReader::new(store, options.live_refresh, options.live_timeout, options.live_bytes_max),
            clock,
            lag_max: options.lag_max,
            room: Room::new(options.reads_bytes_max),
            turns: Turns::new(options.wide_max, options.wide_wait),
        };
        let (streams, stop) = (Arc::new(Semaphore::new(options.streams_max)), CancellationToken::new());
        let answers = Arc::new(Answers::new(options.live_refresh, options.answers_bytes_max));
        let ready = Readiness::default();
        let app = App {
            options,
            sources,
            nights,
            archived: Arc::new(Archived::new(archive)),
            catalog,
            gate,
            answers,
            ready,
            streams,
            stop,
        };
        Ok(Server { listener, admin, address, app: Arc::new(app), origins })
    }

    /// Where it listens; with port 0 in the options, the port that was free.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop`, then finishes the requests in flight.
    ///
    /// # Errors
    /// [`ServingError::Ledger`] when the ledger contradicts itself or was written by a newer release: the process must
    /// end. A ledger or store that is only away is no error.
    pub async fn run(self, stop: CancellationToken) -> Result<(), ServingError> {
        tracing::info!("serving on http://{}", self.address);
        let draining = self.app.stop.clone();
        let serve = axum::serve(self.listener, server(self.app.clone(), self.origins).into_make_service())
            .with_graceful_shutdown(async move { draining.cancelled().await });
        let mut serve = tokio::spawn(async move { serve.await });
        let (admin, ready) = (self.admin, self.app.ready.clone());
        let admin = async {
            match admin {
                Some(listener) => axum::serve(listener, admin_routes(ready)).await,
                None => std::future::pending().await,
            }
        };
        let ended = tokio::select! {
            served = &mut serve => return flatten(served),
            followed = follow(&self.app) => followed,
            never = self.app.sources.live.keep() => match never {},
            never = follow_keys(&self.app) => match never {},
            never = follow_ads(&self.app) => match never {},
            failed = admin => failed.map_err(ServingError::Http),
            () = stop.cancelled() => Ok(()),
        };
        self.app.ready.set(false);
        self.app.stop.cancel();
        match tokio::time::timeout(DRAIN_MAX, &mut serve).await {
            Ok(served) => ended.and(flatten(served)),
            Err(_) => {
                serve.abort();
                ended
            }
        }
    }
}

/// Takes a port, and tells which.
async fn listen(address: SocketAddr, setting: &'static str) -> Result<(TcpListener, SocketAddr), ServingError> {
    let failed = |source: std::io::Error| match source.kind() {
        std::io::ErrorKind::AddrInUse => ServingError::Taken { address, setting },
        _ => ServingError::Listen { address, setting, source },
    };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// The origins whose pages may read the answers; `None` when there are none.
fn origins(named: &[String]) -> Result<Option<AllowOrigin>, ServingError> {
    if named.is_empty() {
        return Ok(None);
    }
    if named.iter().any(|origin| origin == "*") {
        return Ok(Some(AllowOrigin::any()));
    }
    let parse = |text: &String| {
        let uri = text.parse::<Uri>().ok().filter(|uri| uri.path_and_query().is_none_or(|path| path.as_str() == "/"));
        let whole = uri.is_some_and(|uri| uri.scheme().is_some() && uri.host().is_some()) && !text.ends_with('/');
        let origin = HeaderValue::from_str(text).ok().filter(|_| whole);
        origin.ok_or_else(|| ServingError::Origin(text.clone()))
    };
    Ok(Some(AllowOrigin::list(named.iter().map(parse).collect::<Result<Vec<_>, _>>()?)))
}

/// Keeps the books caught up. Real time, not the clock's: a simulated clock may stand still while entries come.
async fn follow(app: &App) -> Result<(), ServingError> {
    loop {
        app.sources.positions.follow().await?;
        app.ready.set(app.sources.positions.current().is_ok());
        tokio::time::sleep(app.options.ledger_refresh).await;
    }
}

// Neither keys nor the ads table are needed to be ready: who asks without a key, by ad, is answered.

async fn follow_keys(app: &App) -> Infallible {
    loop {
        app.gate.catch_up(Duration::ZERO).await;
        tokio::time::sleep(app.options.keys_refresh).await;
    }
}

async fn follow_ads(app: &App) -> Infallible {
    loop {
        app.catalog.catch_up().await;
        tokio::time::sleep(app.options.ads_refresh).await;
    }
}

fn flatten(served: Result<std::io::Result<()>, tokio::task::JoinError>) -> Result<(), ServingError> {
    served.map_err(std::io::Error::other).and_then(|served| served).map_err(ServingError::Http)
}
