//! The whole of Twofold in one process, on the embedded ports: the same services, each with its own task.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use clicks::ads::AdsTable;
use clicks::control::{HEARTBEAT, Heartbeat};
use clicks::id::Region;
use clicks::ledger::{Body, Genesis};
use clicks::rules::{Rules, RulesBook};
use clicks::time::{Day, Span, Timestamp};
use clicks::wire::HEADER_CONTROL;
use collector::CollectorError;
use platform::ads::{Ads, Load};
use platform::clock::SimulatedClock;
use platform::ledger::Ledger;
use platform::log::{Header, Log, NewRecord, Target};
use platform::objects::Objects;
use platform::store::{LiveQuery, MemoryStore, SpeedStore};
use serving::ServingError;
use tokio::task::{AbortHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use super::replay::ReplayLog;
use crate::reach::StoredChains;

/// How often the server looks for new entries of the ledger: it is in memory or on the same disk, and a simulated day
/// takes less than a tenth of a second.
const LEDGER_REFRESH: Duration = Duration::from_millis(20);

/// How long the speed layer gathers: each day waits for its last flush, and one to memory costs little.
const FLUSH_INTERVAL: Duration = Duration::from_millis(10);

/// An hour of few clicks is one object a partition, not four: a simulated day of small objects would cost mostly these.
const OBJECT_AGE_MAX: Span = Span::hours(1);

/// Partitions of the demo's topic.
pub const PARTITIONS: u32 = 2;

/// How the embedded system is set up.
#[derive(Debug, Clone)]
pub struct Layout {
    pub start: Timestamp,
    pub first_day: Day,
    /// Names of the ads.
    pub ads: Option<AdsTable>,
    /// Archive and tables go here; memory otherwise.
    pub data: Option<PathBuf>,
    pub collector: SocketAddr,
    pub page: SocketAddr,
}

/// The running system. Dropping it stops nothing: call [`System::stop`].
#[derive(Debug)]
pub struct System {
    pub clock: Arc<SimulatedClock>,
    pub log: Arc<ReplayLog>,
    pub store: Arc<MemoryStore>,
    pub objects: Objects,
    pub ledger: Ledger,
    pub archive: archive::Handle,
    pub collector: SocketAddr,
    pub page: SocketAddr,
    rules: RulesBook,
    options: archive::Options,
    stop: CancellationToken,
    services: JoinSet<Result<()>>,
    speed: Option<AbortHandle>,
    archiver: Option<AbortHandle>,
}

impl System {
    pub async fn start(layout: Layout) -> Result<Self> {
        let clock = Arc::new(SimulatedClock::new(layout.start));
        let region = Region::parse("local").context("the demo's region")?;
        let log = Arc::new(ReplayLog::new(region, PARTITIONS, clock.clone()));
        let store = Arc::new(MemoryStore::new());
        let objects = match &layout.data {
            Some(folder) => open_empty(folder)?,
            None => Objects::memory(),
        };
        let ledger = Ledger::new(objects.clone());
        let rules = begin(&ledger, &*log, layout.first_day).await?;
        if let Some(table) = &layout.ads {
            let load = Load { actor: "demo".to_owned(), source: "demo".to_owned(), at: layout.start };
            Ads::new(objects.clone()).publish((0, &AdsTable::default()), table, load).await?;
        }

        let stop = CancellationToken::new();
        let mut services = JoinSet::new();
        let collector_options = collector::Options { listen: layout.collector, ..collector::Options::default() };
        let collector = collector::Collector::bind(collector_options, log.clone(), clock.clone()).await;
        let collector = collector.map_err(|error| match error {
            CollectorError::Bind { address, source } => taken(address, &source, "--collector"),
            other => other.into(),
        })?;
        // Whoever gives the page an address that others reach wants it to be seen by them.
        let access = if layout.page.ip().is_loopback() { serving::Access::Auto } else { serving::Access::Open };
        let serving_options = serving::Options {
            listen: layout.page,
            ledger_refresh: LEDGER_REFRESH,
            // The played clock passes a day in the time for which an answer would be good.
            live_refresh: Duration::ZERO,
            access,
            ..serving::Options::default()
        };
        let server = serving::Server::bind(
            serving_options,
            objects.clone(),
            ledger.clone(),
            store.clone(),
            Some(Arc::new(StoredChains::new(objects.clone()))),
            clock.clone(),
        );
        let server = server.await.map_err(|error| match error {
            ServingError::Taken { address, .. } => taken(address, &std::io::ErrorKind::AddrInUse.into(), "--page"),
            ServingError::Listen { address, source, .. } => taken(address, &source, "--page"),
            other => other.into(),
        })?;
        let (collector_address, page) = (collector.address(), server.address());
        let archive = archive::Handle::default();
        let archive_options =
            archive::Options { object_age_max: OBJECT_AGE_MAX, handle: archive.clone(), ..archive::Options::default() };

        services.spawn(named("collector", collector.run(stop.clone())));
        services.spawn(named("serving", server.run(stop.clone())));
        let mut system = System {
            clock,
            log,
            store,
            objects,
            ledger,
            archive,
            collector: collector_address,
            page,
            rules,
            options: archive_options,
            stop,
            services,
            speed: None,
            archiver: None,
        };
        system.start_speed().await;
        system.start_archiver().await;
        Ok(system)
    }

    /// Starts the speed layer; if it runs, it is killed first, in the middle of whatever it does.
    pub async fn start_speed(&mut self) {
        kill(&self.speed).await;
        let (log, store, ledger) = (self.log.clone(), self.store.clone(), self.ledger.clone());
        let options = counter::Options { flush_interval: FLUSH_INTERVAL, ..counter::Options::default() };
        let run = counter::run(options, log, store, ledger, self.clock.clone(), self.stop.clone());
        self.speed = Some(self.services.spawn(named("speed layer", run)));
    }

    /// Starts the archiver; if it runs, it is killed first, in the middle of whatever it does.
    pub async fn start_archiver(&mut self) {
        kill(&self.archiver).await;
        let (log, objects, ledger) = (self.log.clone(), self.objects.clone(), self.ledger.clone());
        let run = archive::run(self.options.clone(), log, objects, ledger, self.clock.clone(), self.stop.clone());
        self.archiver = Some(self.services.spawn(named("archiver", run)));
        // Until the new one has begun, its progress says that the old one has ended.
        let mut progress = self.archive.watch();
        let began = progress.wait_for(|progress| progress.phase != archive::Phase::Ended);
        // One that fails before it begins is seen by `watch`, with its reason.
        let _ = tokio::time::timeout(Duration::from_secs(5), began).await;
    }

    /// Runs `work` unless it is stopped; `None` then. Whatever the work waits for, a signal ends it.
    pub async fn watch_until<T>(
        &mut self,
        stop: &CancellationToken,
        work: impl Future<Output = Result<T>>,
    ) -> Result<Option<T>> {
        tokio::select! {
            done = self.watch(work) => done.map(Some),
            () = stop.cancelled() => Ok(None),
        }
    }

    /// Runs `work` unless a service fails first; a failed service ends the demo with its message.
    pub async fn watch<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                done = &mut work => return done,
                ended = self.services.join_next() => match ended {
                    // It was killed on purpose, and another one runs already.
                    Some(Err(killed)) if killed.is_cancelled() => {}
                    Some(Ok(Ok(()))) | None => bail!("a service ended although nobody stopped it"),
                    Some(Ok(Err(error))) => return Err(error),
                    Some(Err(panic)) => return Err(panic.into()),
                },
            }
        }
    }

    /// Stops every service and waits for it.
    pub async fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        while let Some(ended) = self.services.join_next().await {
            match ended {
                Err(killed) if killed.is_cancelled() => {}
                ended => ended??,
            }
        }
        Ok(())
    }

    pub fn handles(&self) -> Handles {
        Handles {
            log: self.log.clone(),
            store: self.store.clone(),
            clock: self.clock.clone(),
            objects: self.objects.clone(),
            ledger: self.ledger.clone(),
            archive: self.archive.clone(),
            rules: self.rules.clone(),
        }
    }
}

/// What a driver needs of the system, apart from the services' tasks.
#[derive(Debug, Clone)]
pub struct Handles {
    pub log: Arc<ReplayLog>,
    pub store: Arc<MemoryStore>,
    pub clock: Arc<SimulatedClock>,
    pub objects: Objects,
    pub ledger: Ledger,
    pub archive: archive::Handle,
    rules: RulesBook,
}

impl Handles {
    /// How far the speed layer has counted, and how far it has to.
    pub async fn uncounted(&self) -> Result<String> {
        let topic = self.log.topic().await?;
        let mut behind = Vec::new();
        for number in 0..topic.partitions {
            let end = self.log.bounds(number).await?.end;
            let slice = self.store.read(&topic.partition(number), &LiveQuery::of_meta()).await?;
            let next = slice.map(|slice| slice.meta.next_offset).unwrap_or_default();
            if next < end {
                behind.push(format!("partition {number} is counted up to offset {next} of {end}"));
            }
        }
        Ok(format!("the speed layer: {}", behind.join(", ")))
    }

    /// Waits until the speed layer has counted everything that is on the log.
    pub async fn counted(&self) -> Result<()> {
        let topic = self.log.topic().await?;
        for number in 0..topic.partitions {
            let end = self.log.bounds(number).await?.end;
            loop {
                let slice = self.store.read(&topic.partition(number), &LiveQuery::of_meta()).await?;
                if slice.is_some_and(|slice| slice.meta.next_offset >= end) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        Ok(())
    }

    /// Waits until the archive covers the night's cut in every partition. The clock stands at or after the cut.
    ///
    /// The archiver's own heartbeat may be due only seconds after the moment at which the clock stands still, so the
    /// proof that nothing more comes before the cut is written here, as a heartbeat like the archiver's.
    pub async fn covered(&self, night: Day) -> Result<()> {
        self.beat().await?;
        Ok(self.archive.covered(self.rules.cut_time(night)).await?)
    }

    /// Which partitions the archive does not cover up to the night's cut.
    pub async fn uncovered(&self, night: Day) -> Result<String> {
        let cut = self.rules.cut_time(night);
        let partitions = self.archive.progress().partitions;
        let lagging = partitions.iter().filter(|(_, progress)| progress.coverage.is_none_or(|time| time < cut));
        let lagging = lagging.map(|(partition, progress)| match progress.coverage {
            Some(time) => format!("partition {} is stored up to {time}", partition.number),
            None => format!("nothing of partition {} is stored", partition.number),
        });
        let lagging: Vec<String> = lagging.collect();
        Ok(format!("the archive, which must cover {cut}: {}", lagging.join(", ")))
    }

    /// Writes a heartbeat to every partition, at the time at which the clock stands.
    async fn beat(&self) -> Result<()> {
        let topic = self.log.topic().await?;
        let value = Heartbeat::new(topic.id, topic.partitions, "demo".to_owned()).encode();
        let header = Header { name: HEADER_CONTROL.to_owned(), value: Some(Bytes::from_static(HEARTBEAT.as_bytes())) };
        let record = NewRecord { key: None, value: Some(value.into()), headers: vec![header] };
        for number in 0..topic.partitions {
            self.log.append(Target::Partition(number), record.clone()).await?;
        }
        Ok(())
    }

    pub async fn publish(&self, night: Day) -> Result<recompute::NightOutcome> {
        // A file's days may be as unequal as they like: its clicks are all there are.
        let live = Some(self.store.clone() as Arc<dyn SpeedStore>);
        let options = recompute::Options { volume_factor: 0, live, ..recompute::Options::default() };
        let outcome = recompute::run_night(&options, &self.objects, &self.ledger, &*self.clock, Some(night)).await;
        outcome.with_context(|| format!("the night of {night}"))
    }
}

/// An address that cannot be listened on, with the flag that the user of the demo knows.
fn taken(address: SocketAddr, error: &std::io::Error, flag: &str) -> anyhow::Error {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            anyhow!(
                "{address} is taken by another process: choose another address with {flag} (port 0 takes a free one)"
            )
        }
        _ => anyhow!("cannot listen on {address}: {error}; choose another address with {flag}"),
    }
}

/// Aborts a service and waits until nothing of it runs any more.
async fn kill(service: &Option<AbortHandle>) {
    let Some(service) = service else { return };
    service.abort();
    while !service.is_finished() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn named<E>(name: &'static str, service: impl Future<Output = Result<(), E>>) -> Result<()>
where
    E: std::error::Error + std::marker::Send + Sync + 'static,
{
    service.await.with_context(|| format!("the {name} failed"))
}

/// A folder of an earlier demo would hold another topic's archive; its numbers would not be this run's.
pub fn check_empty(folder: &Path) -> Result<()> {
    let taken = folder.join("ledger").exists() || folder.join("raw").exists();
    if taken {
        bail!("{} holds data already; name another folder with --data, or remove it first", folder.display());
    }
    Ok(())
}

fn open_empty(folder: &Path) -> Result<Objects> {
    check_empty(folder)?;
    std::fs::create_dir_all(folder).with_context(|| format!("creating {}", folder.display()))?;
    let folder = folder.canonicalize().with_context(|| format!("opening {}", folder.display()))?;
    Ok(Objects::open_folder(folder)?)
}

/// Begins the ledger and records the topic, as `twofold topic create` does; gives the rules that hold.
async fn begin(ledger: &Ledger, log: &dyn Log, first_day: Day) -> Result<RulesBook> {
    let mut books = ledger.begin(Genesis { first_day, rules: Rules::default() }).await?;
    let topic = log.topic().await?;
    ledger.publish(&mut books, Body::Topic(topic.life())).await?;
    Ok(books.rules().clone())
}
