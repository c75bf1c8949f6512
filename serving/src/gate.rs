//! Who asks: by a key of the installation, or, where that is allowed, without one.
//!
//! Keys are read anew every few seconds, so one that is revoked opens nothing within a minute. A store that is away does not
//! take the page with it, because live numbers need no store: keys that are known stay open, for [`STALE_MAX`] at the most.
//! Who has shown no key cannot make the store be read more than once a second, or hold up anybody who has one.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, header};
use clicks::id::TenantId;
use clicks::time::Timestamp;
use governor::clock::{Clock as _, DefaultClock};
use governor::middleware::StateInformationMiddleware;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use platform::clock::Clock;
use platform::keys::{Key, KeyError, KeyId, KeyRing, Keys, Refused, Scope};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::Problem;

/// How long keys stay as they were while the store cannot be read.
const STALE_MAX: Duration = Duration::from_secs(3600);
/// Deadline of one reading. The next one goes on where it came to.
const READ_MAX: Duration = Duration::from_secs(5);
/// A key that is not known is looked for at once, but not within this of the last reading, whatever is asked.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// How long whoever has such a key waits for a reading.
const LOOK_MAX: Duration = Duration::from_secs(2);
/// Of all streams a key may hold one in so many.
const STREAMS_SHARE: usize = 4;
/// What a key has not used for so long is not lost to it.
const BURST_SECONDS: u32 = 10;

type Limiter = RateLimiter<NotKeyed, InMemoryState, DefaultClock, StateInformationMiddleware>;

/// Keeps the keys, and opens to who has one.
#[derive(Debug)]
pub(crate) struct Gate {
    keys: Keys,
    clock: Arc<dyn Clock>,
    open_to: OpenTo,
    per_second: NonZeroU32,
    streams_max: usize,
    current: Mutex<Current>,
    /// When the last reading began and ended; held while one goes on.
    reading: tokio::sync::Mutex<Option<(Instant, Instant)>>,
    shares: Mutex<HashMap<KeyId, Share>>,
}

/// What one key may take of what all share.
#[derive(Debug, Clone)]
struct Share {
    requests: Arc<Limiter>,
    streams: Arc<Semaphore>,
}

#[derive(Debug)]
struct Current {
    ring: Arc<KeyRing>,
    read_at: Option<Instant>,
    trouble: Option<String>,
}

/// Who needs no key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpenTo {
    Everybody,
    /// Who asks an address that no other machine reaches, by a name of this machine, and not through a proxy.
    ThisMachine,
    Nobody,
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

/// How much of the installation a caller sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sees {
    All,
    /// One tenant's ads.
    Tenant,
}

impl Caller {
    pub(crate) fn sees(&self) -> Sees {
        if self.tenant().is_some() { Sees::Tenant } else { Sees::All }
    }

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
    pub(crate) fn new(
        keys: Keys,
        clock: Arc<dyn Clock>,
        open_to: OpenTo,
        per_second: NonZeroU32,
        streams_max: usize,
    ) -> Self {
        let current = Current { ring: Arc::default(), read_at: None, trouble: None };
        Gate {
            keys,
            clock,
            open_to,
            per_second,
            streams_max,
            current: Mutex::new(current),
            reading: tokio::sync::Mutex::new(None),
            shares: Mutex::default(),
        }
    }

    /// Who asks with these headers.
    ///
    /// # Errors
    /// 401 for a key that opens nothing, also where none is needed: its owner should hear of it. 503 when it cannot be told.
    pub(crate) async fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        if let Some(known) = self.known(headers)? {
            return Ok(known);
        }
        // Whether or not it comes in time: what is known by then counts.
        let _ = tokio::time::timeout(LOOK_MAX, self.catch_up(LOOK_AGAIN)).await;
        self.known(headers)?.ok_or_else(|| problem(Refused::Unknown))
    }

    /// Who asks with these headers, as far as keys are known; `None` for one that may have been made a moment ago.
    ///
    /// # Errors
    /// As [`Gate::caller`].
    pub(crate) fn known(&self, headers: &HeaderMap) -> Result<Option<Caller>, Problem> {
        let mut given = headers.get_all(header::AUTHORIZATION).iter();
        let Some(first) = given.next() else {
            return match self.open_to {
                OpenTo::Everybody => Ok(Some(Caller { key: None })),
                OpenTo::ThisMachine if is_from_here(headers) => Ok(Some(Caller { key: None })),
                OpenTo::ThisMachine => Err(Problem::no_key(
                    "without a key this server answers its own machine alone, and not through a proxy",
                )),
                OpenTo::Nobody => Err(Problem::no_key("this server answers to those who have a key")),
            };
        };
        // A proxy may have looked at the other one.
        if given.next().is_some() {
            return Err(Problem::no_key("there is more than one `Authorization`"));
        }
        let text =
            first.to_str().ok().and_then(bearer).ok_or_else(|| Problem::no_key("`Authorization` holds no key"))?;
        match self.ring()?.open(text, self.clock.now()) {
            Ok(key) => Ok(Some(Caller { key: Some(key.clone()) })),
            Err(Refused::Unknown) => Ok(None),
            Err(refused) => Err(problem(refused)),
        }
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
        match self.share(key).requests.check() {
            Ok(left) => {
                let left = left.remaining_burst_capacity();
                Ok(Some(Allowance { burst: burst.get(), left, per_second }))
            }
            Err(until) => Err(Problem::too_many(per_second.get(), until.wait_time_from(DefaultClock::default().now()))),
        }
    }

    /// A place for one more stream of a caller; one without a key has no limit of its own.
    ///
    /// # Errors
    /// When the key holds its share of all places.
    pub(crate) fn stream(&self, caller: &Caller) -> Result<Option<OwnedSemaphorePermit>, Problem> {
        let Some(key) = &caller.key else { return Ok(None) };
        self.share(key).streams.try_acquire_owned().map(Some).map_err(|_| Problem::streams(self.streams_share()))
    }

    fn share(&self, key: &Key) -> Share {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let quota = Quota::per_second(self.per_second).allow_burst(self.burst());
        let new = || Share {
            requests: Arc::new(RateLimiter::direct(quota).with_middleware()),
            streams: Arc::new(Semaphore::new(self.streams_share())),
        };
        shares.entry(key.id.clone()).or_insert_with(new).clone()
    }

    fn streams_share(&self) -> usize {
        self.streams_max.div_ceil(STREAMS_SHARE)
    }

    fn burst(&self) -> NonZeroU32 {
        self.per_second.saturating_mul(NonZeroU32::MIN.saturating_add(BURST_SECONDS - 1))
    }

    /// Reads the keys, unless a reading began after this was called or ended less than `age` ago.
    pub(crate) async fn catch_up(&self, age: Duration) {
        let asked = Instant::now();
        let mut last = self.reading.lock().await;
        if last.is_some_and(|(begun, ended)| begun > asked || ended.elapsed() < age) {
            return;
        }
        let begun = Instant::now();
        let mut ring = KeyRing::clone(&self.lock().ring);
        let read = tokio::time::timeout(READ_MAX, self.keys.read_on(&mut ring)).await;
        let read = read.map_err(|_| format!("not all of them came within {READ_MAX:?}"));
        *last = Some((begun, Instant::now()));
        // Whatever has come counts: the end of a key does not wait for the rest.
        self.lock().ring = Arc::new(ring);
        let trouble = match read.and_then(|read| read.map_err(|error: KeyError| error.to_string())) {
            Ok(unreadable) => {
                self.lock().read_at = Some(begun);
                let texts: Vec<String> = unreadable.iter().map(ToString::to_string).collect();
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
        match current.read_at {
            Some(read_at) if read_at.elapsed() < STALE_MAX => Ok(current.ring.clone()),
            // The reason is in the log: who asks has shown no key yet.
            _ => Err(Problem::no_keys()),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Allowance {
    /// Sets the headers `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers).
    pub(crate) fn tell(self, headers: &mut HeaderMap) {
        let Allowance { burst, left, per_second } = self;
        let full_in = (burst - left).div_ceil(per_second.get());
        let policy = format!("\"key\";q={burst};w={BURST_SECONDS}");
        let state = format!("\"key\";r={left};t={full_in}");
        for (name, text) in [("ratelimit-policy", policy), ("ratelimit", state)] {
            headers.insert(name, HeaderValue::from_str(&text).expect("numbers are plain ASCII"));
        }
    }
}

/// Whether a request to a loopback address comes from this machine itself. A proxy on it hands on those of others; and a page
/// of any site may point its own name at this address, to read with its visitor's browser what only they reach.
fn is_from_here(headers: &HeaderMap) -> bool {
    let is_handed_on = headers.contains_key(header::FORWARDED) || headers.contains_key("x-forwarded-for");
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let is_own = |host: Authority| {
        let name = host.host().trim_matches(['[', ']']);
        name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    !is_handed_on && host.and_then(|host| host.parse::<Authority>().ok()).is_some_and(is_own)
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
        Refused::Revoked(Some(at)) => Problem::no_key(&since("was revoked at", at)),
        Refused::Revoked(None) => Problem::no_key("the key was revoked"),
    }
}
