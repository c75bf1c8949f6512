//! The speed store on Redis, or Redis Cluster.
//!
//! A flush is one MULTI/EXEC under WATCH, on a cluster one script ([`FLUSH_SCRIPT`]); a read is one MULTI/EXEC of plain reads.
//! All touch the keys of one partition, which lie in one slot. What a read must name depends on the meta record, so it is planned by one look at that record
//! and holds when the record found *inside* the transaction asks for nothing more.

mod command;
mod compare;
mod dedicated;
mod error;
mod link;
mod read;
mod sweep;
mod texts;
mod watch;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use ::redis::{Cmd, FromRedisValue, RedisResult, Script, Value, cmd, from_redis_value};
use async_trait::async_trait;
use clicks::keyspace::{KeyspaceError, PREFIX};
use clicks::live::{Flush, FlushOutcome, Generation, Loaded};
use clicks::position::{Offset, PartitionId};
use clicks::rules::RulesBook;

use self::command::Command;
use self::compare::Stop;
use self::dedicated::Dedicated;
use self::error::{damage, store_error};
use self::link::Link;
use super::scope::Scope;
use super::step::{refused, validate};
use super::{CHANGES_MAX, Changes, LiveQuery, LiveSlice, Mark, Part, SpeedStore, StoreError, Whose};

pub use self::command::{FLUSH_SCRIPT, flush_arguments};

/// How to reach Redis.
#[derive(Clone)]
pub struct RedisOptions {
    /// `redis://[user@]host:port/[database]`; of a cluster one or several nodes, with commas between.
    pub url: String,
    /// Kept apart from the URL, so that it can come from a file. Never shown.
    pub password: Option<String>,
    /// The URL names nodes of a Redis Cluster.
    pub cluster: bool,
    pub connect_timeout: Duration,
    /// Longest wait for an answer. The client's own default of 500 ms is shorter than a fsync of a busy disk.
    pub response_timeout: Duration,
}

impl RedisOptions {
    pub fn new(url: impl Into<String>) -> Self {
        RedisOptions {
            url: url.into(),
            password: None,
            cluster: false,
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(5),
        }
    }
}

impl std::fmt::Debug for RedisOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Secrets are never shown.
        f.debug_struct("RedisOptions")
            .field("url", &shown(&self.url))
            .field("cluster", &self.cluster)
            .field("connect_timeout", &self.connect_timeout)
            .field("response_timeout", &self.response_timeout)
            .finish_non_exhaustive()
    }
}

/// URLs without what may be a secret in them: everything between the scheme and the last `@`.
fn shown(urls: &str) -> String {
    let one = |url: &str| match (url.find("://"), url.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}…{}", &url[..scheme + 3], &url[at..]),
        (_, Some(at)) => format!("…{}", &url[at..]),
        _ => url.to_owned(),
    };
    urls.split(',').map(one).collect::<Vec<_>>().join(",")
}

/// Live counts of all partitions on one Redis or Redis Cluster. The connection is shared by all tasks, but for flushes.
pub struct RedisStore {
    link: Link,
    /// `None` for a cluster.
    dedicated: Option<Dedicated>,
    script: Script,
    sweep_script: Script,
    shown: String,
}

impl std::fmt::Debug for RedisStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "RedisStore({})", self.shown)
    }
}

impl RedisStore {
    /// Connects at the first use and again after every failure, so a server that is away is an error of the operation.
    ///
    /// # Errors
    /// [`StoreError::Setting`] when the URL cannot be read.
    pub fn connect(options: &RedisOptions) -> Result<Self, StoreError> {
        let link = Link::new(options)?;
        let alone = link.alone().cloned();
        let dedicated = |client| Dedicated::new(client, options.connect_timeout, options.response_timeout);
        Ok(RedisStore {
            link,
            dedicated: alone.map(dedicated),
            script: Script::new(FLUSH_SCRIPT),
            sweep_script: Script::new(sweep::SCRIPT),
            shown: shown(&options.url),
        })
    }

    fn error(&self, what: &str, error: &::redis::RedisError) -> StoreError {
        store_error(&format!("{what} at {}", self.shown), error)
    }

    async fn carry_out(&self, partition: &PartitionId, flush: &Flush) -> Result<FlushOutcome, StoreError> {
        validate(partition, flush)?;
        let command = Command::new(partition, flush);
        let done = match &self.dedicated {
            Some(dedicated) => self.flush_watching(dedicated, partition, &command).await?,
            None => self.run_script(partition, flush.generation, command).await?,
        };
        let found = match done {
            Ok(()) => return Ok(FlushOutcome::Applied),
            Err(Stop::Refused(what)) => return Err(refused(partition, &what)),
            Err(Stop::Damaged(what)) => {
                return Err(content(partition, Some(flush.generation), KeyspaceError::ForeignKey(what)));
            }
            Err(Stop::Mismatch(found)) => found,
        };
        let found = match found {
            None => None,
            Some((generation, offset)) => match parse_found(&generation, offset.as_deref()) {
                Some(found) => Some(found),
                // Another generation is current, whose meta the flush does not name, or what is there is damaged.
                None => {
                    self.look(partition, Whose::Current).await?.map(|seen| (seen.generation, seen.meta.next_offset))
                }
            },
        };
        Ok(FlushOutcome::Mismatch { found })
    }

    /// A cluster's connection may be made anew, or lead to another node, between two round trips: there it is one script.
    async fn run_script(
        &self,
        partition: &PartitionId,
        generation: Generation,
        command: Command,
    ) -> Result<Result<(), Stop>, StoreError> {
        let (keys, arguments) = command.into_script();
        let mut call = self.script.prepare_invoke();
        keys.iter().for_each(|key| _ = call.key(key));
        arguments.iter().for_each(|argument| _ = call.arg(argument));
        let what = || format!("the flush of partition {partition}");
        let answer = call.invoke_async(&mut self.link.clone()).await;
        let answer: Vec<Value> = answer.map_err(|error| match damage(&error) {
            Some(source) => content(partition, Some(generation), source),
            None => self.error(&what(), &error),
        })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match &answer[..] {
            [Value::Int(1)] => Ok(Ok(())),
            [Value::Int(0), Value::BulkString(current), Value::BulkString(offset)] => {
                let offset = (!offset.is_empty()).then(|| text(offset));
                Ok(Err(Stop::Mismatch((!current.is_empty()).then(|| (text(current), offset)))))
            }
            other => Err(StoreError::Failed(format!("{} was answered by {other:?}", what()))),
        }
    }

    /// Of every node that holds counts, with the name of the node where there are several.
    async fn eviction_policies(&self) -> Result<Vec<(Option<String>, String)>, StoreError> {
        let mut config = cmd("CONFIG");
        config.arg("GET").arg("maxmemory-policy");
        // Managed servers forbid or rename CONFIG.
        let mut info = cmd("INFO");
        info.arg("memory");
        if let Ok(answers) = self.ask_masters::<HashMap<String, String>>(&config).await {
            let policy = |(node, mut settings): (_, HashMap<_, _>)| Some((node, settings.remove("maxmemory-policy")?));
            if let Some(policies) = answers.into_iter().map(policy).collect() {
                return Ok(policies);
            }
        }
        let answers = self.ask_masters::<String>(&info).await;
        let answers = answers.map_err(|error| self.error("asking for `maxmemory-policy`", &error))?;
        let policy = |(node, info): (_, String)| {
            let policy = info.lines().find_map(|line| line.trim().strip_prefix("maxmemory_policy:"))?;
            Some((node, policy.to_owned()))
        };
        answers.into_iter().map(policy).collect::<Option<_>>().ok_or_else(|| {
            StoreError::Failed(format!(
                "{} tells `maxmemory-policy` neither by CONFIG GET nor by INFO memory; allow the user one of the two",
                self.shown
            ))
        })
    }

    async fn ask_masters<T: FromRedisValue>(&self, command: &Cmd) -> RedisResult<Vec<(Option<String>, T)>> {
        let answers = self.link.ask_masters(command).await?.into_iter();
        answers.map(|(node, answer)| Ok((node, from_redis_value(answer.extract_error()?)?))).collect()
    }
}

/// Generation and next offset as they are stored.
fn parse_found(generation: &str, offset: Option<&str>) -> Option<(Generation, Offset)> {
    Some((Generation::parse(generation)?, Offset::new(offset?.parse().ok()?)))
}

fn content(partition: &PartitionId, generation: Option<Generation>, source: KeyspaceError) -> StoreError {
    StoreError::Content { partition: partition.clone(), generation, source: Box::new(source) }
}

#[async_trait]
impl SpeedStore for RedisStore {
    fn max_changes(&self) -> usize {
        CHANGES_MAX
    }

    async fn load(&self, partition: &PartitionId, rules: &RulesBook) -> Result<Option<Loaded>, StoreError> {
        let slice = self.select(partition, Whose::Current, |meta| Scope::to_load(meta, rules)).await?;
        Ok(slice.map(LiveSlice::into_loaded))
    }

    async fn flush(&self, partition: &PartitionId, flush: &Flush) -> Result<FlushOutcome, StoreError> {
        let began = Instant::now();
        let outcome = self.carry_out(partition, flush).await;
        let name = match &outcome {
            Ok(FlushOutcome::Applied) => "applied",
            Ok(FlushOutcome::Mismatch { .. }) => "mismatch",
            Err(_) => "unknown",
        };
        metrics::counter!("twofold_store_flushes_total", "outcome" => name).increment(1);
        metrics::histogram!("twofold_store_flush_seconds").record(began.elapsed().as_secs_f64());
        outcome
    }

    async fn read(&self, partition: &PartitionId, query: &LiveQuery) -> Result<Option<LiveSlice>, StoreError> {
        self.select(partition, Whose::Live, |meta| Scope::to_read(meta, query)).await
    }

    async fn read_part(&self, partition: &PartitionId, part: &Part) -> Result<Option<LiveSlice>, StoreError> {
        self.select(partition, Whose::Live, |meta| Scope::to_part(meta, part)).await
    }

    async fn read_changes(&self, partition: &PartitionId, since: Option<&Mark>) -> Result<Option<Changes>, StoreError> {
        self.changes(partition, since).await
    }

    async fn sweep(&self, partition: &PartitionId) -> Result<u64, StoreError> {
        self.sweep_retired(partition).await
    }

    async fn check(&self) -> Result<(), StoreError> {
        let answers = self.ask_masters::<Value>(&cmd("PING")).await;
        answers.map_err(|error| self.error("the connection", &error))?;
        let policies = self.eviction_policies().await?;
        if let Some((node, policy)) = policies.into_iter().find(|(_, policy)| policy != "noeviction") {
            return Err(StoreError::Setting {
                setting: "maxmemory-policy",
                found: node.map_or_else(|| policy.clone(), |node| format!("{policy} on {node}")),
                wanted: "noeviction",
                mend: "run `CONFIG SET maxmemory-policy noeviction` and write it to redis.conf; with any other policy \
                       Redis drops counts without an error when its memory is full",
            });
        }
        // A user who may not do all that a flush does is told now and not at the first one.
        let mut xadd = cmd("XADD");
        xadd.arg(format!("{PREFIX}:check")).arg("NOMKSTREAM").arg("*").arg("name").arg("value");
        let tried = self.ask_masters::<Value>(&xadd).await;
        tried.map_err(|error| self.error("XADD", &error))?;
        let loaded = self.script.load_async(&mut self.link.clone()).await;
        loaded.map_err(|error| self.error("loading the flush script", &error))?;
        if let Some(dedicated) = &self.dedicated {
            dedicated.try_out().await.map_err(|error| self.error("WATCH and MULTI", &error))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_never_shown() {
        for (url, want) in [
            ("redis://127.0.0.1:6379/", "redis://127.0.0.1:6379/"),
            ("redis://:hush@127.0.0.1:6379/", "redis://…@127.0.0.1:6379/"),
            ("redis://me:hu@sh@h:1/,redis://me:hush@i:1/", "redis://…@h:1/,redis://…@i:1/"),
            ("me:hush@h", "…@h"),
        ] {
            assert_eq!(shown(url), want);
            let mut options = RedisOptions::new(url);
            options.password = Some("hush".to_owned());
            assert!(!format!("{options:?}").contains("hush"), "{options:?}");
        }
    }

    #[test]
    fn urls_that_cannot_be_used_say_how_to_write_them() {
        for url in ["", "localhost:6379", "http://:hush@localhost/", "redis://:hush@h:port/", "redis://a/,redis://b/"] {
            let error = RedisStore::connect(&RedisOptions::new(url)).unwrap_err();
            assert!(matches!(error, StoreError::Setting { setting: "redis.url", .. }), "{url}: {error}");
            assert!(!error.to_string().contains("hush"), "{error}");
        }
        let tls = RedisStore::connect(&RedisOptions::new("rediss://h:1/")).unwrap_err();
        assert!(tls.to_string().contains("TLS"), "{tls}");
        let cluster = RedisOptions { cluster: true, ..RedisOptions::new("redis://a:1/,redis://b:1/") };
        assert_eq!(format!("{:?}", RedisStore::connect(&cluster).unwrap()), "RedisStore(redis://a:1/,redis://b:1/)");
    }
}
