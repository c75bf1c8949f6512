//! Settings: what tunes one process. What changes the meaning of a count is not here but in the ledger's rules.
//!
//! Precedence: flags > environment (`TWOFOLD__KAFKA__BROKERS`) > `twofold.toml` > defaults. Unknown keys are errors.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use clicks::id::Region;
use figment::Figment;
use figment::error::Kind;
use figment::providers::{Env, Format, Toml};
use serde::{Deserialize, Serialize};

/// Name of the file that is read when none is named.
pub const FILE: &str = "twofold.toml";
/// Prefix of environment variables; `__` separates the levels.
pub const ENV: &str = "TWOFOLD__";

/// All settings of an installation; each service reads its part.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The region of this Kafka, speed layer and archiver.
    pub region: Region,
    pub kafka: Kafka,
    pub redis: Redis,
    pub storage: Storage,
    pub collector: Collector,
    pub speed: Speed,
    pub archive: Archive,
    pub batch: Batch,
    pub serving: Serving,
    pub sql: Sql,
    pub clock: Clock,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Kafka {
    /// `host:port`, several separated by commas.
    pub brokers: String,
    pub topic: String,
    /// Of a topic that `topic create` makes.
    pub partitions: u32,
    pub replication_factor: u32,
    pub retention: Time,
    /// Any librdkafka property that Twofold does not own (TLS, SASL).
    pub client: BTreeMap<String, String>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Redis {
    /// `redis://host:port/db` or `rediss://…`; a password may stand here, better in `password_file`.
    pub url: Secret,
    pub password_file: Option<PathBuf>,
    pub cluster: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// `s3://bucket/prefix` or `file:///folder`.
    pub url: String,
    pub endpoint: Option<String>,
    pub region: Option<String>,
    pub access_key: Option<String>,
    pub secret_key: Option<Secret>,
    pub secret_key_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Collector {
    pub listen: SocketAddr,
    /// Longest request body, bytes.
    pub body_limit_bytes: usize,
    /// Most clicks in one request.
    pub batch_max: usize,
    /// Most clicks that wait for Kafka at once.
    pub in_flight_max: usize,
    /// How long a click may wait for Kafka before the client gets 503.
    pub append_timeout: Time,
    /// How long what was accepted may take to finish after SIGTERM.
    pub drain: Time,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Speed {
    /// Address of `/metrics`, `/livez`, `/readyz`.
    pub admin: SocketAddr,
    /// The processes that share the partitions of the topic; Kafka knows the group as `<group>.<topic>`.
    pub group: String,
    /// Numbers of the partitions that this process counts instead of a share of the group's; it takes no part in it then.
    pub partitions: Option<Vec<u32>>,
    pub flush_interval: Time,
    /// Sightings that dedup remembers per partition at the most.
    pub sightings_max: usize,
    /// Live minutes are kept this long after their day ended.
    pub keep_closed: Time,
    /// How long after one scrub of what is stored, and of the store's settings, the next one begins.
    pub scrub_interval: Time,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Archive {
    pub admin: SocketAddr,
    pub heartbeat: Time,
    pub object_bytes_max: usize,
    pub object_age_max: Time,
    /// What all partitions together may hold in memory, bytes: records that are not stored yet, also while the store is
    /// away, and objects on their way.
    pub memory_bytes_max: usize,
    /// A topic that another one follows is taken for over when nothing came for so long.
    pub end_after: Time,
    /// Begin an archive although the log has already lost its first records.
    pub begin: bool,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Batch {
    /// Memory of the count, bytes; beyond it clicks go to disk. Tables of the days that are counted come on top of it.
    pub memory_bytes: usize,
    pub target_partitions: usize,
    /// A day is withheld when its clicks differ from the median of the week before by more than this factor; 0 for never.
    pub volume_factor: u32,
    /// A day is withheld when the live view has counted it differently; where Redis is away that is only said.
    pub compare_live: bool,
    /// How long a run that was killed keeps others from beginning; a running one renews its lease.
    pub lease: Time,
    /// A dead-man service is told at the start and the end of each run.
    pub ping_url: Option<Secret>,
    /// Metrics of the last run, for the textfile collector of node_exporter.
    pub metrics_file: Option<PathBuf>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Serving {
    pub listen: SocketAddr,
    /// Address of `/metrics`, `/livez`, `/readyz`.
    pub admin: SocketAddr,
    /// Pages of these origins, such as https://dashboard.example.com, may read the answers; of all when one is `*`.
    pub cors_origins: Vec<String>,
    /// Who may ask without a key: `open` everybody, `keys` nobody, `auto` this machine if `listen` is a loopback address,
    /// under that address or `localhost` and not through a proxy.
    pub access: Access,
    /// Requests that each key may make in a second, on the average of ten.
    pub requests_per_second: NonZeroU32,
}

/// Who may ask the server without a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    #[default]
    Auto,
    Keys,
    Open,
}

/// Questions in SQL, of the command line and over PostgreSQL's protocol.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Sql {
    /// Memory of all questions of a process together, and their temporary files.
    pub memory_bytes: usize,
    pub spill_bytes: u64,
    /// How long one question may take.
    pub timeout: Time,
    /// Most rows of one answer over PostgreSQL's protocol.
    pub rows_max: u64,
    /// Most clients of that protocol at a time, and most of their questions that are computed at a time.
    pub connections_max: usize,
    pub questions_max: usize,
    /// A certificate and its key in PEM, for TLS. Without them only this machine is served.
    pub tls_certificate: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Clock {
    /// A file with milliseconds that are added to the machine's clock: for tests that cross midnights.
    pub offset_file: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            region: Region::parse("local").expect("`local` is a valid region"),
            kafka: Kafka::default(),
            redis: Redis::default(),
            storage: Storage::default(),
            collector: Collector::default(),
            speed: Speed::default(),
            archive: Archive::default(),
            batch: Batch::default(),
            serving: Serving::default(),
            sql: Sql::default(),
            clock: Clock::default(),
        }
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

impl Default for Kafka {
    fn default() -> Self {
        Kafka {
            brokers: "127.0.0.1:9092".to_owned(),
            topic: "clicks".to_owned(),
            partitions: 16,
            replication_factor: 3,
            retention: Time(Duration::from_secs(7 * 86_400)),
            client: BTreeMap::new(),
        }
    }
}

impl Default for Redis {
    fn default() -> Self {
        Redis { url: Secret("redis://127.0.0.1:6379".to_owned()), password_file: None, cluster: false }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Storage {
            url: "s3://twofold".to_owned(),
            endpoint: None,
            region: None,
            access_key: None,
            secret_key: None,
            secret_key_file: None,
        }
    }
}

impl Default for Collector {
    fn default() -> Self {
        Collector {
            listen: loopback(8080),
            body_limit_bytes: 1 << 20,
            batch_max: 1_000,
            in_flight_max: 20_000,
            append_timeout: Time(Duration::from_secs(5)),
            drain: Time(Duration::from_secs(10)),
        }
    }
}

impl Default for Speed {
    fn default() -> Self {
        Speed {
            admin: loopback(9101),
            group: "twofold-speed".to_owned(),
            partitions: None,
            flush_interval: Time(Duration::from_millis(25)),
            sightings_max: 5_000_000,
            keep_closed: Time(Duration::from_secs(24 * 3600)),
            scrub_interval: Time(Duration::from_secs(300)),
        }
    }
}

impl Default for Archive {
    fn default() -> Self {
        Archive {
            admin: loopback(9102),
            heartbeat: Time(Duration::from_secs(5)),
            object_bytes_max: 64 << 20,
            object_age_max: Time(Duration::from_secs(15 * 60)),
            memory_bytes_max: 1 << 30,
            end_after: Time(Duration::from_secs(15 * 60)),
            begin: false,
        }
    }
}

impl Default for Batch {
    fn default() -> Self {
        Batch {
            memory_bytes: 2 << 30,
            target_partitions: 2,
            volume_factor: 10,
            compare_live: true,
            lease: Time(Duration::from_secs(120)),
            ping_url: None,
            metrics_file: None,
        }
    }
}

impl Default for Serving {
    fn default() -> Self {
        Serving {
            listen: loopback(8081),
            admin: loopback(9103),
            cors_origins: Vec::new(),
            access: Access::Auto,
            requests_per_second: NonZeroU32::new(50).expect("50 is not zero"),
        }
    }
}

impl Default for Sql {
    fn default() -> Self {
        Sql {
            memory_bytes: 512 << 20,
            spill_bytes: 10 << 30,
            timeout: Time(Duration::from_secs(60)),
            rows_max: 1_000_000,
            connections_max: 64,
            questions_max: 4,
            tls_certificate: None,
            tls_key: None,
        }
    }
}

/// A length of time, written `50ms`, `5s`, `15min`, `7d`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Time(pub Duration);

impl Serialize for Time {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&humantime::format_duration(self.0))
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl FromStr for Time {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        humantime::parse_duration(text).map(Time).map_err(|e| format!("`{text}`: {e}; write 50ms, 5s, 15min, 7d"))
    }
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    pub fn new(text: String) -> Self {
        Secret(text)
    }
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"…\"")
    }
}

impl Serialize for Secret {
    /// The user info of a URL is hidden, the rest helps to find a mistake; anything else is hidden whole.
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match url::Url::parse(&self.0) {
            Ok(mut url) if url.has_host() => {
                if !url.username().is_empty() || url.password().is_some() {
                    // Both fail only for URLs without a host.
                    let _ = url.set_username("…");
                    let _ = url.set_password(None);
                }
                serializer.serialize_str(url.as_str())
            }
            _ => serializer.serialize_str("…"),
        }
    }
}

/// Settings that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("settings file {0} does not exist; leave the flag out to run on defaults and environment")]
    NoFile(PathBuf),
    #[error("setting `{key}` ({origin}) is unknown; {hint}")]
    Unknown { key: String, origin: String, hint: String },
    #[error("setting `{key}` ({origin}): {reason}")]
    Bad { key: String, origin: String, reason: String },
    #[error("setting `{key}`: the file {file} cannot be read: {source}")]
    SecretFile { key: &'static str, file: PathBuf, source: std::io::Error },
}

impl Settings {
    /// Reads `file` (or `twofold.toml` in the working directory, if it is there) and the environment.
    pub fn load(file: Option<&Path>) -> Result<Self, SettingsError> {
        if let Some(file) = file.filter(|file| !file.is_file()) {
            return Err(SettingsError::NoFile(file.to_owned()));
        }
        let toml = Toml::file(file.unwrap_or(Path::new(FILE)));
        let mut figment = Figment::new().merge(toml).merge(Env::prefixed(ENV).split("__"));
        // The environment's values are read as TOML, so a secret of digits would be a number, and be shown in the error.
        for key in ["redis.url", "storage.access_key", "storage.secret_key"] {
            if let Ok(text) = std::env::var(format!("{ENV}{}", key.replace('.', "__").to_uppercase())) {
                figment = figment.merge((key, text));
            }
        }
        Self::from(figment)
    }

    /// Reads settings from TOML text alone.
    pub fn from_toml(text: &str) -> Result<Self, SettingsError> {
        Self::from(Figment::new().merge(Toml::string(text)))
    }

    fn from(figment: Figment) -> Result<Self, SettingsError> {
        figment.extract::<Settings>().map_err(|errors| {
            // One clear error is more use than a list; the next run names the next one.
            let error = errors.into_iter().next().expect("a figment error holds at least one");
            let origin = error.metadata.as_ref().map_or("defaults".to_owned(), |m| match &m.source {
                Some(source) => source.to_string(),
                None => m.name.to_string(),
            });
            explain(error.path, origin, error.kind)
        })
    }

    /// The Redis password, if there is one in a file.
    pub fn redis_password(&self) -> Result<Option<Secret>, SettingsError> {
        self.redis.password_file.as_deref().map(|file| read_secret("redis.password_file", file)).transpose()
    }

    /// The secret key of the object store, from the settings or a file.
    pub fn storage_secret_key(&self) -> Result<Option<Secret>, SettingsError> {
        match (&self.storage.secret_key, &self.storage.secret_key_file) {
            (Some(secret), _) => Ok(Some(secret.clone())),
            (None, file) => file.as_deref().map(|file| read_secret("storage.secret_key_file", file)).transpose(),
        }
    }

    /// All effective settings as TOML, secrets hidden.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("settings are tables of plain values, which always serialise")
    }
}

fn read_secret(key: &'static str, file: &Path) -> Result<Secret, SettingsError> {
    match std::fs::read_to_string(file) {
        Ok(text) => Ok(Secret(text.trim_end().to_owned())),
        Err(source) => Err(SettingsError::SecretFile { key, file: file.to_owned(), source }),
    }
}

fn explain(path: Vec<String>, origin: String, kind: Kind) -> SettingsError {
    match kind {
        Kind::UnknownField(field, valid) => {
            let nearest =
                valid.iter().max_by(|a, b| strsim::jaro_winkler(&field, a).total_cmp(&strsim::jaro_winkler(&field, b)));
            let hint = match nearest {
                Some(nearest) => format!("did you mean `{nearest}`? Valid here: {}", valid.join(", ")),
                None => "nothing is valid here".to_owned(),
            };
            let table = path.iter().filter(|part| **part != field).map(|part| format!("{part}.")).collect::<String>();
            SettingsError::Unknown { key: format!("{table}{field}"), origin, hint }
        }
        kind => SettingsError::Bad { key: path.join("."), origin, reason: kind.to_string() },
    }
}

#[cfg(test)]
mod tests;
