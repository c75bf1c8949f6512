//! Redis Cluster: three masters, each with a replica.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use futures::future::try_join_all;

use super::free_port;
use super::redis::Redis;
use super::tools::run_to_end;

const MASTERS: usize = 3;
const NODES: usize = 2 * MASTERS;
const READY_MAX: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(50);
/// How long a node may be silent before the others vote about it.
const NODE_TIMEOUT: Duration = Duration::from_secs(2);

/// Nodes are named by their place in the list, which they keep whatever their role.
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Returns when every slot is served and every replica follows its master.
    pub async fn start() -> Result<Self> {
        let nodes = try_join_all((0..NODES).map(|_| async {
            let timeout = NODE_TIMEOUT.as_millis().to_string();
            // Of our own choice, as the usual one, 10,000 above, may belong to somebody's outgoing connection.
            let bus = free_port()?.to_string();
            let arguments = [
                ["--cluster-enabled", "yes"],
                ["--cluster-config-file", "nodes.conf"],
                ["--cluster-node-timeout", &timeout],
                ["--cluster-port", &bus],
                // The default waits 5 s for further replicas before the first one may copy.
                ["--repl-diskless-sync-delay", "0"],
            ];
            Redis::start_new(None, arguments.concat().into_iter().map(str::to_owned).collect()).await
        }))
        .await?;
        let mut command = std::process::Command::new("redis-cli");
        command.args(["--cluster", "create"]).args(nodes.iter().map(Redis::address));
        command.args(["--cluster-replicas", "1", "--cluster-yes"]);
        run_to_end("redis-cli --cluster create", command, "").await?;
        let cluster = Self { nodes };
        cluster.ready().await?;
        Ok(cluster)
    }

    /// All nodes.
    pub fn url(&self) -> String {
        self.nodes.iter().map(Redis::url).collect::<Vec<_>>().join(",")
    }

    pub fn node(&mut self, number: usize) -> &mut Redis {
        &mut self.nodes[number]
    }

    pub fn address(&self, number: usize) -> String {
        self.nodes[number].address()
    }

    pub async fn cli(&self, number: usize, arguments: &[&str]) -> Result<String> {
        self.nodes[number].cli(arguments).await
    }

    pub async fn slot_of(&self, key: &str) -> Result<u16> {
        let running = self.running().next().context("no node is up")?;
        Ok(self.cli(running, &["CLUSTER", "KEYSLOT", key]).await?.parse()?)
    }

    /// The node that serves a slot, as the nodes that are up agree.
    pub async fn master_of(&self, slot: u16) -> Result<usize> {
        let mut masters = Vec::new();
        for number in self.running() {
            let mine = self.cli(number, &["CLUSTER", "NODES"]).await?;
            let mine = mine.lines().find(|line| line.contains("myself")).context("no node is `myself`")?;
            if has_slot(mine, slot) {
                masters.push(number);
            }
        }
        match masters[..] {
            [master] => Ok(master),
            _ => bail!("slot {slot} is served by {masters:?}"),
        }
    }

    pub async fn masters(&self) -> Result<Vec<usize>> {
        let mut masters = Vec::new();
        for number in self.running() {
            if self.cli(number, &["ROLE"]).await?.starts_with("master") {
                masters.push(number);
            }
        }
        Ok(masters)
    }

    /// The replica that follows a master.
    pub async fn replica_of(&self, master: usize) -> Result<usize> {
        let id = self.id(master).await?;
        for number in self.running().filter(|number| *number != master) {
            let nodes = self.cli(number, &["CLUSTER", "NODES"]).await?;
            let mine = nodes.lines().find(|line| line.contains("myself")).context("no node is `myself`")?;
            if mine.contains("slave") && mine.contains(&id) {
                return Ok(number);
            }
        }
        bail!("no replica follows {}", self.address(master))
    }

    pub async fn id(&self, number: usize) -> Result<String> {
        self.cli(number, &["CLUSTER", "MYID"]).await
    }

    /// Waits until all nodes that are up see every slot served, and every replica among them follows its master.
    pub async fn ready(&self) -> Result<()> {
        let began = Instant::now();
        loop {
            match self.is_ready().await {
                Ok(true) => return Ok(()),
                last if began.elapsed() >= READY_MAX => bail!("not ready after {READY_MAX:?}: {last:?}"),
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    async fn is_ready(&self) -> Result<bool> {
        let mut masters = 0;
        for number in self.running() {
            let state = self.cli(number, &["CLUSTER", "INFO"]).await?;
            let replication = self.cli(number, &["INFO", "replication"]).await?;
            let is_master = replication.contains("role:master");
            masters += usize::from(is_master);
            if !state.contains("cluster_state:ok") || !(is_master || replication.contains("master_link_status:up")) {
                return Ok(false);
            }
        }
        Ok(masters == MASTERS)
    }

    fn running(&self) -> impl Iterator<Item = usize> {
        (0..NODES).filter(|number| self.nodes[*number].is_up())
    }
}

/// In a line of `CLUSTER NODES`, slots follow after eight fields: `5460`, `0-5460`, or in brackets what is on its way.
fn has_slot(line: &str, slot: u16) -> bool {
    let ranges = line.split(' ').skip(8).filter(|range| !range.starts_with('['));
    ranges.filter(|range| !range.is_empty()).any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| text.trim().parse::<u16>().ok();
        matches!((number(first), number(last)), (Some(first), Some(last)) if (first..=last).contains(&slot))
    })
}
