//! The long-running services: from settings to options, then run until a signal.

use std::net::SocketAddr;

use anyhow::{Context, Result, bail};
use clicks::time::Span;
use platform::ledger::LedgerError;
use platform::settings::Settings;
use platform::telemetry::{Readiness, serve_admin};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::connect;
use crate::exit::{self, Exit};

pub async fn collect(settings: &Settings) -> Result<Exit> {
    until_signal(|stop| collector(settings.clone(), stop)).await
}

pub async fn speed(settings: &Settings) -> Result<Exit> {
    until_signal(|stop| counter(settings.clone(), stop)).await
}

pub async fn archive(settings: &Settings) -> Result<Exit> {
    until_signal(|stop| archiver(settings.clone(), stop)).await
}

pub async fn serve(settings: &Settings) -> Result<Exit> {
    until_signal(|stop| server(settings.clone(), stop)).await
}

/// All services in one process; when one fails, all end.
pub async fn up(settings: &Settings) -> Result<Exit> {
    until_signal(|stop| async move {
        let mut services = JoinSet::new();
        services.spawn(collector(settings.clone(), stop.clone()));
        services.spawn(counter(settings.clone(), stop.clone()));
        services.spawn(archiver(settings.clone(), stop.clone()));
        services.spawn(server(settings.clone(), stop.clone()));
        let mut outcome = Ok(());
        while let Some(ended) = services.join_next().await {
            stop.cancel();
            outcome = outcome.and(ended.context("a service panicked").flatten());
        }
        outcome
    })
    .await
}

async fn until_signal<F: Future<Output = Result<()>>>(service: impl FnOnce(CancellationToken) -> F) -> Result<Exit> {
    let stop = exit::on_signal();
    service(stop.clone()).await?;
    if !stop.is_cancelled() {
        bail!("the service ended although nobody stopped it");
    }
    info!("stopped");
    Ok(Exit::Done)
}

async fn collector(settings: Settings, stop: CancellationToken) -> Result<()> {
    let rules = match connect::ledger(&settings)?.read().await {
        Ok(books) => books.rules().clone(),
        Err(error @ LedgerError::Missing(_)) => return Err(error.into()),
        Err(error) => return Err(error).context("reading the rules"),
    };
    let options = collector::Options {
        listen: settings.collector.listen,
        rules,
        body_limit_bytes: settings.collector.body_limit_bytes,
        batch_max: settings.collector.batch_max,
        in_flight_max: settings.collector.in_flight_max,
        append_timeout: settings.collector.append_timeout.0,
        drain: settings.collector.drain.0,
        ..collector::Options::default()
    };
    let log = connect::log(&settings).await?;
    let collector = collector::Collector::bind(options, log, connect::clock(&settings)).await?;
    info!(address = %collector.address(), "the collector takes clicks");
    collector.run(stop).await.context("the collector failed")
}

async fn counter(settings: Settings, stop: CancellationToken) -> Result<()> {
    let options = counter::Options {
        flush_interval: settings.speed.flush_interval.0,
        sightings_max: settings.speed.sightings_max,
        keep_closed: Span::millis(settings.speed.keep_closed.0.as_millis() as i64),
        ..counter::Options::default()
    };
    let (log, store) = (connect::log(&settings).await?, connect::store(&settings)?);
    let ledger = connect::ledger(&settings)?;
    let run = counter::run(options, log, store, ledger, connect::clock(&settings), stop.clone());
    with_admin(settings.speed.admin, stop, async { run.await.context("the speed layer failed") }).await
}

async fn archiver(settings: Settings, stop: CancellationToken) -> Result<()> {
    let options = archive::Options {
        object_bytes_max: settings.archive.object_bytes_max as u64,
        object_age_max: Span::millis(settings.archive.object_age_max.0.as_millis() as i64),
        heartbeat_interval: Span::millis(settings.archive.heartbeat.0.as_millis() as i64),
        begin: if settings.archive.begin { archive::Begin::AtFirst } else { archive::Begin::AtZero },
        ..archive::Options::default()
    };
    let objects = connect::objects(&settings)?;
    let ledger = connect::ledger(&settings)?;
    let log = connect::log(&settings).await?;
    let run = archive::run(options, log, objects, ledger, connect::clock(&settings), stop.clone());
    with_admin(settings.archive.admin, stop, async { run.await.context("the archiver failed") }).await
}

async fn server(settings: Settings, stop: CancellationToken) -> Result<()> {
    let options = serving::Options { listen: settings.serving.listen, ..serving::Options::default() };
    let (objects, ledger) = (connect::objects(&settings)?, connect::ledger(&settings)?);
    let store = connect::store(&settings)?;
    let server = serving::Server::bind(options, objects, ledger, store, connect::clock(&settings)).await?;
    info!(address = %server.address(), "the page and the API are served");
    server.run(stop).await.context("the server failed")
}

/// Runs a service beside its admin port; whichever fails ends both.
async fn with_admin(
    address: SocketAddr,
    stop: CancellationToken,
    service: impl Future<Output = Result<()>>,
) -> Result<()> {
    let ready = Readiness::default();
    ready.set(true);
    let listener_stop = stop.child_token();
    let admin = serve_admin(address, ready, listener_stop.clone());
    tokio::select! {
        ended = service => ended,
        ended = admin => match ended {
            Ok(()) => { stop.cancelled().await; Ok(()) }
            Err(error) => Err(error).with_context(|| format!("the admin address {address} cannot be used; set another one")),
        },
    }
}
