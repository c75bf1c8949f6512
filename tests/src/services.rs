//! The real services that the tests run against: Kafka, Redis, S3, a second SQL engine and a browser.
//!
//! Each is a process of its own on a free port of the loopback, with its data and its log below one folder per test run.
//! `tests/setup` installs them, `tests/run` makes the folder and clears up after. A test that breaks a service starts its
//! own; all others take [`shared`], as a broker costs a second, and use topics, key prefixes and buckets of their own.
//!
//! - Nothing that a test started outlives it: [`Process`] ends what it holds when it is dropped; what is never dropped or
//!   belonged to a killed test is ended by a watchdog that sees the test process go, and at the latest by `tests/run`.
//! - Processes are ended by their id, and only while their start time shows that they are still the same.
//! - Nothing here is bound to one tokio runtime, so that what [`shared`] starts serves the runtimes of all tests.

mod cluster;
mod folder;
mod kafka;
mod process;
mod proxy;
mod redis;
mod s3;
mod tools;

use anyhow::Result;
use tokio::sync::OnceCell;

pub use cluster::RedisCluster;
pub use folder::{free_port, new_folder, test_folder};
pub use kafka::{Kafka, KafkaOptions};
pub use process::Process;
pub use proxy::{Network, Proxy};
pub use redis::Redis;
pub use s3::S3;
pub use tools::{
    Page, PageView, check_api, duckdb, jdbc, manifest, notebook, open_page, psql, python, sheet, systemd_analyze,
    tools, use_keys, walk_page, watch_page,
};

/// One of each, for all tests of a process that break none of them and leave Kafka's clock alone.
#[derive(Debug)]
pub struct Shared {
    pub kafka: Kafka,
    pub redis: Redis,
    pub s3: S3,
}

/// The services that the tests of this process share, started at the first call.
pub async fn shared() -> Result<&'static Shared> {
    static SHARED: OnceCell<Shared> = OnceCell::const_new();
    SHARED
        .get_or_try_init(|| async {
            let (kafka, redis, s3) =
                tokio::try_join!(Kafka::start(KafkaOptions::default()), Redis::start(), S3::start())?;
            Ok(Shared { kafka, redis, s3 })
        })
        .await
}

#[cfg(test)]
mod smoke;
