//! Who is let in: by a key of the installation, as its password.

use std::sync::Arc;
use std::time::{Duration, Instant};

use platform::clock::Clock;
use platform::keys::{Key, KeyId, KeyRing, Keys, Refused, Scope};
use tokio::sync::Mutex;

/// Keys that were read so long ago are read again: one that is revoked opens nothing any more.
const FRESH: Duration = Duration::from_secs(10);
/// A key that is not known may have been made a moment ago, but is not looked for more often than this.
const LOOK_AGAIN: Duration = Duration::from_secs(1);
/// Deadline of one reading.
const READ_MAX: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Door {
    keys: Option<Keys>,
    clock: Arc<dyn Clock>,
    pub(super) has_tls: bool,
    ring: Mutex<(Option<Instant>, KeyRing)>,
}

/// Why nobody is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shut {
    /// For good; the message is for whoever asks.
    Refused(String),
    /// Keys cannot be read just now.
    Away(String),
}

/// Who was let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Guest {
    Anybody,
    Key(KeyId),
}

impl Door {
    pub(super) fn new(keys: Option<Keys>, clock: Arc<dyn Clock>, has_tls: bool) -> Self {
        Door { keys, clock, has_tls, ring: Mutex::default() }
    }

    pub(super) fn is_open(&self) -> bool {
        self.keys.is_none()
    }

    /// Who has this password.
    pub(super) async fn enter(&self, password: &str) -> Result<Guest, Shut> {
        let Some(keys) = &self.keys else { return Ok(Guest::Anybody) };
        let mut ring = self.ring.lock().await;
        self.read(keys, &mut ring, FRESH).await?;
        if ring.1.open(password, self.clock.now()) == Err(Refused::Unknown) {
            self.read(keys, &mut ring, LOOK_AGAIN).await?;
        }
        let key = ring.1.open(password, self.clock.now()).map_err(|refused| told(&refused))?;
        may(key)?;
        Ok(Guest::Key(key.id.clone()))
    }

    /// Whether whoever was let in may still be here.
    pub(super) async fn check(&self, guest: &Guest) -> Result<(), Shut> {
        let (Some(keys), Guest::Key(id)) = (&self.keys, guest) else { return Ok(()) };
        let mut ring = self.ring.lock().await;
        self.read(keys, &mut ring, FRESH).await?;
        may(ring.1.still_open(id, self.clock.now()).map_err(|refused| told(&refused))?)
    }

    async fn read(&self, keys: &Keys, ring: &mut (Option<Instant>, KeyRing), age: Duration) -> Result<(), Shut> {
        if ring.0.is_some_and(|at| at.elapsed() < age) {
            return Ok(());
        }
        let begun = Instant::now();
        // What cannot be read opens nothing.
        match tokio::time::timeout(READ_MAX, keys.read_on(&mut ring.1)).await {
            Ok(Ok(_)) => ring.0 = Some(begun),
            Ok(Err(error)) => {
                tracing::warn!("keys cannot be read: {error}");
                return Err(Shut::Away("keys cannot be read just now: ask again later".to_owned()));
            }
            Err(_) => return Err(Shut::Away("keys cannot be read in time just now: ask again later".to_owned())),
        }
        Ok(())
    }
}

fn may(key: &Key) -> Result<(), Shut> {
    match (key.scopes.contains(&Scope::Sql), &key.tenant) {
        (true, None) => Ok(()),
        _ => Err(Shut::Refused(format!(
            "the key {} is not for SQL, which sees all ads and raw clicks: `twofold key create --all-tenants --scope sql` makes one that is",
            key.id
        ))),
    }
}

/// Whoever holds a key may know what has become of it; of a secret that opens nothing, nothing is said.
fn told(refused: &Refused) -> Shut {
    Shut::Refused(match refused {
        Refused::NotAKey | Refused::Unknown => "the password is no key of this installation, tfk_…".to_owned(),
        Refused::Expired(at) => format!("the key has expired at {}", at.to_rfc3339()),
        Refused::Revoked(Some(at)) => format!("the key was revoked at {}", at.to_rfc3339()),
        Refused::Revoked(None) => "the key was revoked".to_owned(),
    })
}
