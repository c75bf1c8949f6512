//! Who asks: by a key of the installation, or, where that is allowed, without one.
//!
//! Keys are read anew every few seconds, so one that is revoked opens nothing within a minute. A store that is away does not
//! take the page with it, because live numbers need no store: keys that are known stay open, for [`STALE_MAX`] at the most.

use std::collections::HashMap;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::{HeaderMap, HeaderValue, header};
use clicks::id::TenantId;
use clicks::time::Timestamp;
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use platform::clock::Clock;
use platform::keys::{Key, KeyError, KeyId, KeyRing, Keys, Refused, Scope};

use crate::problem::Problem;

/// How long keys stay as they were while the store cannot be read.
const STALE_MAX: Duration = Duration::from_secs(3600);
/// Deadline of one reading.
const READ_MAX: Duration = Duration::from_secs(5);
/// A key that is not known is looked for at once, but no more often than this, whatever is asked.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// What a key has not used for so long is not lost to it.
const BURST_SECONDS: u32 = 10;

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// Keeps the keys, and opens to who has one.
#[derive(Debug)]
pub(crate) struct Gate {
    keys: Keys,
    clock: Arc<dyn Clock>,
    is_open: bool,
    per_second: NonZeroU32,
    current: Mutex<Current>,
    /// When the last reading began; held while one goes on.
    reading: tokio::sync::Mutex<Option<Instant>>,
    limiters: Mutex<HashMap<KeyId, Arc<Limiter>>>,
}

#[derive(Debug)]
struct Current {
    ring: Arc<KeyRing>,
    read_at: Option<Instant>,
    trouble: Option<String>,
}

/// Who asks, and what it may see.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    /// `None`: anybody, where no key is needed.
    pub key: Option<Key>,
}

/// What is left of a key's requests, for the client.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowance {
    burst: u32,
    left: u32,
    per_second: NonZeroU32,
}

impl Caller {
    /// Only this tenant's ads; `None`: all.
    pub(crate) fn tenant(&self) -> Option<&TenantId> {
        self.key.as_ref()?.tenant.as_ref()
    }

    /// # Errors
    /// When the key was not made for that.
    pub(crate) fn may(&self, scope: Scope) -> Result<(), Problem> {
        match &self.key {
            Some(key) if !key.scopes.contains(&scope) => {
                let reason = format!("the key {} does not have the scope `{}`", key.id, scope.name());
                Err(Problem::forbidden(
                    reason,
                    format!("ask for a key with it: `twofold key create --scope {}`", scope.name()),
                ))
            }
            _ => Ok(()),
        }
    }

    /// # Errors
    /// When only the ads of one tenant may be seen.
    pub(crate) fn may_see_all(&self) -> Result<(), Problem> {
        match self.tenant() {
            Some(tenant) => {
                let reason = format!("this is told of all ads together, and the key is for those of `{tenant}` alone");
                Err(Problem::forbidden(reason, "ask /v1/clicks, /v1/ads or /v1/stream".to_owned()))
            }
            None => Ok(()),
        }
    }
}

impl Gate {
    pub(crate) fn new(keys: Keys, clock: Arc<dyn Clock>, is_open: bool, per_second: NonZeroU32) -> Self {
        let current = Current { ring: Arc::default(), read_at: None, trouble: None };
        Gate {
            keys,
            clock,
            is_open,
            per_second,
            current: Mutex::new(current),
            reading: tokio::sync::Mutex::new(None),
            limiters: Mutex::default(),
        }
    }

    /// Who asks with these headers.
    ///
    /// # Errors
    /// 401 for a key that opens nothing, also where none is needed: its owner should hear of it. 503 when it cannot be told.
    pub(crate) async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        let Some(given) = headers.get(header::AUTHORIZATION) else {
            return match self.is_open {
                true => Ok(Caller { key: None }),
                false => Err(Problem::no_key("this server answers to those who have a key")),
            };
        };
        let text =
            given.to_str().ok().and_then(bearer).ok_or_else(|| Problem::no_key("`Authorization` holds no key"))?;
        let now = self.clock.now();
        let opened = self.ring()?.open(text, now).cloned();
        let opened = match opened {
            // It may have been made a moment ago.
            Err(Refused::Unknown) => {
                self.catch_up(LOOK_AGAIN).await;
                self.ring()?.open(text, now).cloned()
            }
            opened => opened,
        };
        opened.map(|key| Caller { key: Some(key) }).map_err(problem)
    }

    /// # Errors
    /// When the caller's key has come to its end since it was let in.
    pub(crate) fn check(&self, caller: &Caller) -> Result<(), Problem> {
        match &caller.key {
            Some(key) => self.ring()?.still_open(&key.id, self.clock.now()).map(drop).map_err(problem),
            None => Ok(()),
        }
    }

    /// Counts one request of a caller; one without a key is not limited, because it comes from this machine or was let in
    /// on purpose.
    ///
    /// # Errors
    /// 429 when there were too many.
    pub(crate) fn take(&self, caller: &Caller) -> Result<Option<Allowance>, Problem> {
        let Some(key) = &caller.key else { return Ok(None) };
        let (burst, per_second) = (self.burst(), self.per_second);
        let limiter = {
            let mut limiters = self.limiters.lock().unwrap_or_else(PoisonError::into_inner);
            let quota = Quota::per_second(per_second).allow_burst(burst);
            let new = || Arc::new(RateLimiter::direct(quota).with_middleware());
            limiters.entry(key.id.clone()).or_insert_with(new).clone()
        };
        match limiter.check() {
            Ok(left) => {
                let left = left.remaining_burst_capacity();
                Ok(Some(Allowance { burst: burst.get(), left, per_second }))
            }
            Err(until) => Err(Problem::too_many(per_second.get(), until.wait_time_from(DefaultClock::default().now()))),
        }
    }

    fn burst(&self) -> NonZeroU32 {
        self.per_second.saturating_mul(NonZeroU32::MIN.saturating_add(BURST_SECONDS - 1))
    }

    /// Reads the keys, unless a reading began less than `age` ago.
    pub(crate) async fn catch_up(&self, age: Duration) {
        let mut begun = self.reading.lock().await;
        if begun.is_some_and(|begun| begun.elapsed() < age) {
            return;
        }
        *begun = Some(Instant::now());
        let before = self.lock().ring.clone();
        let mut ring = KeyRing::clone(&before);
        let read = tokio::time::timeout(READ_MAX, self.keys.read_on(&mut ring)).await;
        let read = read.map_err(|_| format!("no answer within {READ_MAX:?}"));
        let trouble = match read.and_then(|read| read.map_err(|error: KeyError| error.to_string())) {
            Ok(unreadable) => {
                let texts: Vec<String> = unreadable.iter().map(ToString::to_string).collect();
                let mut current = self.lock();
                (current.ring, current.read_at) = (Arc::new(ring), Some(Instant::now()));
                (!texts.is_empty()).then(|| texts.join("; "))
            }
            Err(trouble) => Some(trouble),
        };
        if trouble.is_some() {
            metrics::counter!("twofold_serving_keys_failures_total").increment(1);
        }
        let mut current = self.lock();
        // Once per trouble, not once per reading.
        if let Some(trouble) = trouble.as_ref().filter(|_| current.trouble != trouble) {
            tracing::warn!("keys cannot be read, those that are known stay open: {trouble}");
        }
        current.trouble = trouble;
    }

    fn ring(&self) -> Result<Arc<KeyRing>, Problem> {
        let current = self.lock();
        let trouble = || current.trouble.clone().unwrap_or_else(|| "they have not been read yet".to_owned());
        match current.read_at {
            Some(read_at) if read_at.elapsed() < STALE_MAX => Ok(current.ring.clone()),
            _ => Err(Problem::no_keys(trouble())),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Allowance {
    /// As the headers `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers).
    pub(crate) fn headers(self) -> [(&'static str, HeaderValue); 2] {
        let Allowance { burst, left, per_second } = self;
        let full_in = (burst - left).div_ceil(per_second.get());
        let policy = format!("\"key\";q={burst};w={BURST_SECONDS}");
        let state = format!("\"key\";r={left};t={full_in}");
        [("ratelimit-policy", policy), ("ratelimit", state)]
            .map(|(name, text)| (name, HeaderValue::from_str(&text).expect("numbers are plain ASCII")))
    }
}

/// The key in `Bearer <key>`.
fn bearer(value: &str) -> Option<&str> {
    let (scheme, key) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Whoever holds a key may know what has become of it; of a secret that opens nothing, nothing is said.
fn problem(refused: Refused) -> Problem {
    let since = |what: &str, time: Timestamp| format!("the key {what} {}", time.to_rfc3339());
    match refused {
        Refused::NotAKey => Problem::no_key("what `Authorization` holds is not written like a key, tfk_…"),
        Refused::Unknown => Problem::no_key("the key is not known"),
        Refused::Expired(at) => Problem::no_key(&since("has expired at", at)),
        Refused::Revoked(at) => Problem::no_key(&since("was revoked at", at)),
    }
}
