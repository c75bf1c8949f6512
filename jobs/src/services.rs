//! The long-running services: from settings to options, then run until a signal.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use anyhow::{Context, Result, anyhow, bail};
use clicks::time::Span;
use platform::ledger::LedgerError;
use platform::settings::Settings;
use platform::telemetry::{Readiness, serve_admin};
use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::connect;
use crate::exit::{self, Exit};
use crate::reach::StoredChains;
use crate::tables::Tables;

pub async fn collect(settings: &Settings) -> Result<Exit> {
    until_signal(|stop| collector(settings.clone(), stop)).await
}

pub async fn speed(settings: &Settings) -> Result<Exit> {
    until_signal(|stop| counter(settings.clone(), stop)).await
}

pub async fn archive(settings: &Settings) -> Result<Exit> {
    until_signal(|stop| archiver(settings.clone(), stop)).await
}

pub async fn serve(settings: &Settings, pgwire: Option<SocketAddr>) -> Result<Exit> {
    let Some(address) = pgwire else { return until_signal(|stop| server(settings.clone(), stop)).await };
    let tables = match Tables::bind(settings, address).await {
        Ok(tables) => tables,
        Err(message) => return exit::refuse(&message),
    };
    until_signal(|stop| {
        let mut services = Together::default();
        services.spawn("server", server(settings.clone(), stop.clone()));
        services.spawn("tables over PostgreSQL's protocol", tables.run(settings.clone(), stop.clone()));
        services.ended(stop)
    })
    .await
}

/// All services in one process; when one fails, all end.
pub async fn up(settings: &Settings) -> Result<Exit> {
    until_signal(|stop| {
        let mut services = Together::default();
        services.spawn("collector", collector(settings.clone(), stop.clone()));
        services.spawn("speed layer", counter(settings.clone(), stop.clone()));
        services.spawn("archiver", archiver(settings.clone(), stop.clone()));
        services.spawn("server", server(settings.clone(), stop.clone()));
        services.ended(stop)
    })
    .await
}

/// Services that end together.
#[derive(Default)]
struct Together {
    tasks: JoinSet<Result<()>>,
    names: HashMap<Id, &'static str>,
}

impl Together {
    fn spawn(&mut self, name: &'static str, service: impl Future<Output = Result<()>> + Send + 'static) {
        let id = self.tasks.spawn(service).id();
        self.names.insert(id, name);
    }

    /// Waits for all; the first that ends stops the others, and was wrong to end unless `stop` was asked for before.
    async fn ended(mut self, stop: CancellationToken) -> Result<()> {
        let mut outcome = Ok(());
        while let Some(ended) = self.tasks.join_next_with_id().await {
            let asked = stop.is_cancelled();
            stop.cancel();
            let (id, ended) = match ended {
                Ok((id, ended)) => (id, ended),
                Err(panic) => (panic.id(), Err(panic.into())),
            };
            let name = self.names.get(&id).copied().unwrap_or("a service");
            let ended = match ended {
                Ok(()) if !asked => Err(anyhow!("it ended although nobody stopped it")),
                ended => ended,
            };
            outcome = outcome.and(ended.with_context(|| name));
        }
        outcome
    }
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
    let books = match connect::ledger(&settings)?.read().await {
        Ok(books) => books,
        Err(error @ LedgerError::Missing(_)) => return Err(error.into()),
        Err(error) => return Err(error).context("reading the rules"),
    };
    let Some(life) = books.current_life(&settings.region) else {
        bail!("the ledger knows no topic of region `{}`; record it with `twofold topic create`", settings.region);
    };
    let options = collector::Options {
        listen: settings.collector.listen,
        rules: books.rules().clone(),
        life: Some(life.clone()),
        body_limit_bytes: settings.collector.body_limit_bytes,
        batch_max: settings.collector.batch_max,
        in_flight_max: settings.collector.in_flight_max,
        append_timeout: settings.collector.append_timeout.0,
        drain: settings.collector.drain.0,
        ..collector::Options::default()
    };
    let log = connect::fit_log(&settings).await?;
    let collector = collector::Collector::bind(options, log, connect::clock(&settings)).await?;
    info!(address = %collector.address(), "the collector takes clicks");
    collector.run(stop).await.context("the collector failed")
}

async fn counter(settings: Settings, stop: CancellationToken) -> Result<()> {
    let options = counter::Options {
        partitions: partitions(&settings)?,
        flush_interval: settings.speed.flush_interval.0,
        sightings_max: settings.speed.sightings_max,
        keep_closed: Span::millis(settings.speed.keep_closed.0.as_millis() as i64),
        scrub_interval: settings.speed.scrub_interval.0,
        ..counter::Options::default()
    };
    // What the settings alone can spoil comes first: a mistake is told before anything is waited for.
    let (store, ledger) = (connect::store(&settings)?, connect::ledger(&settings)?);
    let log = connect::fit_log(&settings).await?;
    let run = counter::run(options, log, store, ledger, connect::clock(&settings), stop.clone());
    with_admin(settings.speed.admin, stop, async { run.await.context("the speed layer failed") }).await
}

/// Those that the settings name, or a share of the group's.
fn partitions(settings: &Settings) -> Result<counter::Partitions> {
    match &settings.speed.partitions {
        Some(list) => Ok(counter::Partitions::Fixed(list.clone())),
        None if settings.speed.group.trim().is_empty() => {
            let empty =
                anyhow!("setting `speed.group` is empty; name a group, or the partitions in `speed.partitions`");
            Err(exit::Misconfigured::new(empty).into())
        }
        None => Ok(counter::Partitions::Group(settings.speed.group.clone())),
    }
}

async fn archiver(settings: Settings, stop: CancellationToken) -> Result<()> {
    let options = archive::Options {
        object_bytes_max: settings.archive.object_bytes_max as u64,
        object_age_max: Span::millis(settings.archive.object_age_max.0.as_millis() as i64),
        memory_bytes_max: settings.archive.memory_bytes_max as u64,
        end_after: Span::millis(settings.archive.end_after.0.as_millis() as i64),
        heartbeat_interval: Span::millis(settings.archive.heartbeat.0.as_millis() as i64),
        begin: if settings.archive.begin { archive::Begin::AtFirst } else { archive::Begin::AtZero },
        writer: process_name("archiver"),
        ..archive::Options::default()
    };
    let objects = connect::objects(&settings)?;
    let ledger = connect::ledger(&settings)?;
    let log = connect::fit_log(&settings).await?;
    let run = archive::run(options, log, objects, ledger, connect::clock(&settings), stop.clone());
    with_admin(settings.archive.admin, stop, async { run.await.context("the archiver failed") }).await
}

async fn server(settings: Settings, stop: CancellationToken) -> Result<()> {
    let platform::settings::Serving { listen, admin, cors_origins, access, requests_per_second } =
        settings.serving.clone();
    let options = serving::Options {
        listen,
        admin: Some(admin),
        cors_origins,
        access,
        requests_per_second,
        ..serving::Options::default()
    };
    let (objects, ledger) = (connect::objects(&settings)?, connect::ledger(&settings)?);
    let store = connect::store(&settings)?;
    let archive: Arc<dyn serving::Archive> = Arc::new(StoredChains::new(objects.clone()));
    let clock = connect::clock(&settings);
    let server = serving::Server::bind(options, objects, ledger, store, Some(archive), clock).await?;
    info!(address = %server.address(), "the page and the API are served");
    server.run(stop).await.context("the server failed")
}

/// Which process this is, among those of an installation: in footers, heartbeats and leases, for operators. In a container the
/// process number is always the same, and the host's name is the container's.
pub(crate) fn process_name(service: &str) -> String {
    let from_kernel = std::fs::read_to_string("/proc/sys/kernel/hostname").ok();
    let host = from_kernel.or_else(|| std::env::var("HOSTNAME").ok()).unwrap_or_default();
    let host = if host.trim().is_empty() { "host" } else { host.trim() };
    format!("{service}-{host}-{}", std::process::id())
}

/// Runs a service beside its admin port. When the service ends, so does the port; when the port fails, so does the
/// service, because nobody would see how it is.
async fn with_admin(
    address: SocketAddr,
    stop: CancellationToken,
    service: impl Future<Output = Result<()>>,
) -> Result<()> {
    let ready = Readiness::default();
    ready.set(true);
    let admin = serve_admin(address, ready, stop.child_token());
    let mut service = pin!(service);
    tokio::select! {
        ended = &mut service => ended,
        ended = admin => match ended {
            // It was told to stop and has nothing to finish; the service was told too, and still stores what it holds.
            Ok(()) => service.await,
            Err(error) => Err(error).with_context(|| format!("the admin address {address} cannot be used; set another one")),
        },
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn any_port() -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], 0))
    }

    /// The admin port has nothing to finish and ends at once; the service must not be dropped with it.
    #[tokio::test]
    async fn a_service_that_is_told_to_stop_gets_the_time_it_needs() {
        let (stop, mut stored) = (CancellationToken::new(), false);
        let service = async {
            stop.cancelled().await;
            tokio::time::sleep(Duration::from_millis(300)).await;
            stored = true;
            Ok(())
        };
        let stopping = async {
            tokio::time::sleep(Duration::from_millis(50)).await;
            stop.cancel();
        };
        let (ended, ()) = tokio::join!(with_admin(any_port(), stop.clone(), service), stopping);
        ended.unwrap();
        assert!(stored, "the service was dropped before it had stored anything");
    }

    #[tokio::test]
    async fn a_service_ends_with_its_own_error_and_with_that_of_its_admin_port() {
        let failing = async { Err(anyhow!("no log")) };
        let error = with_admin(any_port(), CancellationToken::new(), failing).await.unwrap_err();
        assert_eq!(error.to_string(), "no log");
        let taken = std::net::TcpListener::bind(any_port()).unwrap();
        let address = taken.local_addr().unwrap();
        let error = with_admin(address, CancellationToken::new(), std::future::pending()).await.unwrap_err();
        assert!(error.to_string().contains(&address.to_string()), "{error}");
    }

    async fn together(first: Result<()>, asked: bool) -> Result<()> {
        let stop = CancellationToken::new();
        if asked {
            stop.cancel();
        }
        let mut services = Together::default();
        let stopped = stop.clone();
        services.spawn("archiver", async move { first });
        services.spawn("server", async move {
            stopped.cancelled().await;
            Ok(())
        });
        services.ended(stop).await
    }

    /// A service that ends in good order without being told to leaves the others running for nothing.
    #[tokio::test]
    async fn a_service_that_ends_by_itself_is_a_failure_that_names_it() {
        let error = together(Ok(()), false).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "archiver: it ended although nobody stopped it");
        let error = together(Err(anyhow!("no log")), false).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "archiver: no log");
        together(Ok(()), true).await.unwrap();
    }

    #[test]
    fn partitions_come_from_the_list_or_else_from_the_group() {
        let of = |speed: &str| partitions(&Settings::from_toml(&format!("[speed]\n{speed}")).unwrap());
        let (group, list) = (counter::Partitions::Group, counter::Partitions::Fixed);
        assert_eq!(of("").unwrap(), group("twofold-speed".to_owned()));
        assert_eq!(of("group = \"mine\"").unwrap(), group("mine".to_owned()));
        assert_eq!(of("group = \"\"\npartitions = [2]").unwrap(), list(vec![2]));
        let empty = of("group = \" \"").unwrap_err();
        assert!(Exit::of_error(&empty) == Exit::Usage && empty.to_string().contains("speed.group"), "{empty}");
    }

    #[test]
    fn two_processes_have_two_names() {
        let name = process_name("archiver");
        assert!(name.ends_with(&format!("-{}", std::process::id())) && !name.contains(char::is_whitespace), "{name}");
    }
}
