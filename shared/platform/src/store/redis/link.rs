//! The connection to Redis or Redis Cluster: made at the first use, made anew after a failure.

use std::sync::Arc;
use std::time::Duration;

use ::redis::aio::{ConnectionLike, ConnectionManager, ConnectionManagerConfig};
use ::redis::cluster::ClusterClient;
use ::redis::cluster_async::ClusterConnection;
use ::redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use ::redis::io::tcp::TcpSettings;
use ::redis::{
    Client, Cmd, ConnectionInfo, ErrorKind, IntoConnectionInfo, Pipeline, RedisError, RedisFuture, RedisResult, Value,
};
use futures::FutureExt;
use tokio::sync::Mutex;

use super::RedisOptions;
use crate::store::StoreError;

/// Of Redis Cluster: the client follows moved slots by itself. A flush that was carried out twice is a mismatch with its
/// own position, so repeating is harmless.
const CLUSTER_RETRIES: u32 = 3;

/// A handle on the connection that all operations share: commands of many tasks are multiplexed on it. Cheap to clone.
///
/// The connection manager reconnects when a connection breaks, but it keeps the result of a failed attempt for the next
/// command: after an outage one more command would fail although the server is back, and a wrong password would be wrong
/// for ever. And it keeps a connection on which nobody answers any more (a host that lost its power) until the kernel gives
/// up, a quarter of an hour later. So a manager whose attempt failed, or whose answer did not come in time, is replaced
/// here, and a command that cannot have been sent is repeated once.
#[derive(Clone)]
pub(super) struct Link {
    target: Arc<Target>,
    slot: Arc<Mutex<Slot>>,
}

enum Target {
    Single { client: Client, connect_timeout: Duration, response_timeout: Duration },
    Cluster(ClusterClient),
}

#[derive(Default)]
struct Slot {
    /// Counts the connections, so that of many tasks that saw one fail only the first replaces it.
    number: u64,
    connection: Option<Connection>,
}

#[derive(Clone)]
enum Connection {
    Single(ConnectionManager),
    Cluster(ClusterConnection),
}

impl Link {
    /// Reads the options; nothing is connected yet.
    pub(super) fn new(options: &RedisOptions) -> Result<Self, StoreError> {
        let mut nodes = Vec::new();
        for url in options.url.split(',').map(str::trim) {
            nodes.push(connection_info(url, options.password.as_deref())?);
        }
        let target = if options.cluster {
            let first = nodes.first().map(|node| node.redis_settings().clone()).unwrap_or_default();
            let mut builder = ClusterClient::builder(nodes)
                .retries(CLUSTER_RETRIES)
                .tcp_settings(TcpSettings::default().set_nodelay(true))
                .connection_timeout(options.connect_timeout)
                .response_timeout(options.response_timeout);
            if let Some(username) = first.username() {
                builder = builder.username(username);
            }
            if let Some(password) = first.password() {
                builder = builder.password(password);
            }
            Target::Cluster(builder.build().map_err(|error| bad_url(&options.url, &error))?)
        } else {
            let [node] = <[ConnectionInfo; 1]>::try_from(nodes).map_err(|_| StoreError::Setting {
                setting: "redis.url",
                found: super::shown(&options.url),
                wanted: "one URL",
                mend: "several nodes are for Redis Cluster; set `redis.cluster = true` if it is one",
            })?;
            Target::Single {
                client: Client::open(node).map_err(|error| bad_url(&options.url, &error))?,
                connect_timeout: options.connect_timeout,
                response_timeout: options.response_timeout,
            }
        };
        Ok(Link { target: Arc::new(target), slot: Arc::default() })
    }

    /// The client of a server that is alone; `None` for a cluster.
    pub(super) fn alone(&self) -> Option<&Client> {
        match &*self.target {
            Target::Single { client, .. } => Some(client),
            Target::Cluster(_) => None,
        }
    }

    /// What every master of a cluster answers, with its address; a server that is alone has none.
    pub(super) async fn ask_masters(&self, command: &Cmd) -> RedisResult<Vec<(Option<String>, Value)>> {
        let (number, connection) = self.connection().await?;
        let Connection::Cluster(mut cluster) = connection else {
            return Ok(vec![(None, self.clone().req_packed_command(command).await?)]);
        };
        match cluster.route_command(command.clone(), all_masters()).await {
            Ok(Value::Map(answers)) => {
                Ok(answers.into_iter().map(|(node, answer)| (Some(name(&node)), answer)).collect())
            }
            Ok(_) => Err((ErrorKind::UnexpectedReturnType, "no answers by node").into()),
            Err(error) => {
                self.forget(number, &error).await;
                Err(error)
            }
        }
    }

    async fn connection(&self) -> RedisResult<(u64, Connection)> {
        let mut slot = self.slot.lock().await;
        if let Some(connection) = &slot.connection {
            return Ok((slot.number, connection.clone()));
        }
        let connection = self.target.connect().await?;
        slot.number += 1;
        slot.connection = Some(connection.clone());
        Ok((slot.number, connection))
    }

    /// Forgets a connection that failed in a way from which it would not recover. True when the command was certainly not
    /// sent, so that it may be given to another connection.
    async fn forget(&self, number: u64, error: &RedisError) -> bool {
        let refused = error.is_connection_refusal();
        if refused || error.is_timeout() || error.kind() == ErrorKind::AuthenticationFailed {
            let mut slot = self.slot.lock().await;
            if slot.number == number {
                slot.connection = None;
            }
        }
        refused
    }
}

impl Target {
    async fn connect(&self) -> RedisResult<Connection> {
        match self {
            Target::Single { client, connect_timeout, response_timeout } => {
                let config = ConnectionManagerConfig::new()
                    // Whoever waits is told at once and decides on its own when to try again.
                    .set_number_of_retries(0)
                    .set_connection_timeout(Some(*connect_timeout))
                    .set_response_timeout(Some(*response_timeout));
                ConnectionManager::new_lazy_with_config(client.clone(), config).map(Connection::Single)
            }
            Target::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
        }
    }
}

impl ConnectionLike for Link {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        async move {
            let (number, mut connection) = self.connection().await?;
            match connection.inner().req_packed_command(command).await {
                Err(error) if self.forget(number, &error).await => {
                    let (_, mut connection) = self.connection().await?;
                    connection.inner().req_packed_command(command).await
                }
                answer => answer,
            }
        }
        .boxed()
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        async move {
            let (number, mut connection) = self.connection().await?;
            match connection.inner().req_packed_commands(pipeline, offset, count).await {
                Err(error) if self.forget(number, &error).await => {
                    let (_, mut connection) = self.connection().await?;
                    connection.inner().req_packed_commands(pipeline, offset, count).await
                }
                answers => answers,
            }
        }
        .boxed()
    }

    fn get_db(&self) -> i64 {
        match &*self.target {
            Target::Single { client, .. } => client.get_connection_info().redis_settings().db(),
            Target::Cluster(_) => 0,
        }
    }
}

impl Connection {
    fn inner(&mut self) -> &mut (dyn ConnectionLike + Send) {
        match self {
            Connection::Single(connection) => connection,
            Connection::Cluster(connection) => connection,
        }
    }
}

/// Each answers for itself.
fn all_masters() -> RoutingInfo {
    RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None))
}

fn name(node: &Value) -> String {
    match node {
        Value::BulkString(address) => String::from_utf8_lossy(address).into_owned(),
        other => format!("{other:?}"),
    }
}

/// A URL and the password that is kept apart from it; that one wins.
fn connection_info(url: &str, password: Option<&str>) -> Result<ConnectionInfo, StoreError> {
    let info = url.into_connection_info().map_err(|error| bad_url(url, &error))?;
    let mut settings = info.redis_settings().clone();
    if let Some(password) = password {
        settings = settings.set_password(password);
    }
    Ok(info.set_tcp_settings(TcpSettings::default().set_nodelay(true)).set_redis_settings(settings))
}

fn bad_url(url: &str, error: &RedisError) -> StoreError {
    StoreError::Setting {
        setting: "redis.url",
        found: super::shown(url),
        wanted: "redis://host:port/",
        mend: match error.to_string().contains("tls") || url.starts_with("rediss:") {
            true => "this build has no TLS for Redis; end TLS in a proxy beside it",
            false => "write redis://[user@]host:port/[database] and give the password as `redis.password_file`",
        },
    }
}
