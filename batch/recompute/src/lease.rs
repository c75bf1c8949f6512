//! The lease: a courtesy between runs of the batch, so that two do not compute the same night at the same time.
//!
//! ```text
//! leases/batch.json    {"version":1,"holder":"batch-node3-4711","since":…,"until":…}    times in milliseconds
//! ```
//!
//! It saves work and protects nothing: what makes a second run harmless is the create-only ledger entry. So a lease is
//! never waited for without an end, is taken over once its time is up, and where two runs both believe that they hold it,
//! one of them finds its entry taken. No step of publishing asks for it.

use std::sync::Arc;

use clicks::time::{Span, Timestamp};
use platform::clock::Clock;
use platform::objects::{Created, ObjectError, Objects};
use serde::{Deserialize, Serialize};

use crate::gc::Mode;

/// Key of the batch's lease.
pub const LEASE: &str = "leases/batch.json";
/// The longest lease that is believed. A holder whose clock is years ahead would block everybody otherwise.
pub const LEASE_MAX: Span = Span::hours(1);
const VERSION: u32 = 1;
/// Attempts to take a lease that others take and leave at the same time.
const ATTEMPTS_MAX: u32 = 3;

/// A lease as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    version: u32,
    pub holder: String,
    pub since: Timestamp,
    /// Exclusive, by the clock of its holder.
    pub until: Timestamp,
}

impl Held {
    fn is_live(&self, now: Timestamp) -> bool {
        self.until > now && self.until.since(now) <= LEASE_MAX
    }

    fn is_of(&self, other: &Held) -> bool {
        (&self.holder, self.since) == (&other.holder, other.since)
    }

    fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a lease is plain data, which always serialises")
    }
}

/// What asking for the lease came to.
#[derive(Debug)]
pub enum Acquired {
    Ours(Lease),
    /// Another run holds it.
    Theirs(Held),
}

/// A lease of this process, which is renewed until it is released. Dropped without a release, it runs out.
#[derive(Debug)]
pub struct Lease {
    objects: Objects,
    own: Held,
    keeper: tokio::task::JoinHandle<()>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.keeper.abort();
    }
}

/// Takes the lease for `length`, renewed by a task every third of it, or tells who holds it. `holder` is this process
/// among those of the installation.
///
/// # Errors
/// When the store fails. It is for the caller to go on without a lease then.
pub async fn acquire(
    objects: &Objects,
    clock: &Arc<dyn Clock>,
    holder: &str,
    length: Span,
) -> Result<Acquired, ObjectError> {
    let since = clock.now();
    let own = Held { version: VERSION, holder: holder.to_owned(), since, until: since + length };
    let mut rival = own.clone();
    for _ in 0..ATTEMPTS_MAX {
        match stored(objects).await? {
            Stored::Nothing => {
                if objects.create(LEASE, own.encode().into()).await? == Created::Ours {
                    return Ok(Acquired::Ours(Lease::keep(objects, clock, own, length)));
                }
            }
            Stored::Lease(found) if found.is_live(clock.now()) && !found.is_of(&own) => {
                return Ok(Acquired::Theirs(found));
            }
            // Left by a run that was killed, or no lease at all.
            Stored::Lease(_) | Stored::Unreadable => objects.put(LEASE, own.encode().into()).await?,
        }
        match stored(objects).await? {
            Stored::Lease(found) if found.is_of(&own) => {
                return Ok(Acquired::Ours(Lease::keep(objects, clock, own, length)));
            }
            Stored::Lease(found) => rival = found,
            Stored::Nothing | Stored::Unreadable => {}
        }
    }
    Ok(Acquired::Theirs(rival))
}

/// Lets others have the lease of `holder` at once: for a run that is stopped where it stands.
///
/// # Errors
/// When the store fails; the lease runs out then.
pub async fn give_back(objects: &Objects, holder: &str) -> Result<(), ObjectError> {
    match stored(objects).await? {
        Stored::Lease(found) if found.holder == holder => objects.delete(LEASE).await,
        _ => Ok(()),
    }
}

/// Deletes a lease that ran out before `before`. Tells whether there was one.
pub(crate) async fn forget(objects: &Objects, before: Timestamp, mode: Mode) -> Result<bool, ObjectError> {
    match stored(objects).await? {
        Stored::Lease(found) if found.until < before => {
            if mode == Mode::Delete {
                objects.delete(LEASE).await?;
            }
            Ok(true)
        }
        _ => Ok(false),
    }
}

enum Stored {
    Nothing,
    Lease(Held),
    /// Of a newer release, or damaged: nobody can wait for its end.
    Unreadable,
}

async fn stored(objects: &Objects) -> Result<Stored, ObjectError> {
    let Some(bytes) = objects.get(LEASE).await? else { return Ok(Stored::Nothing) };
    let held = serde_json::from_slice::<Held>(&bytes).ok().filter(|held| held.version == VERSION);
    Ok(held.map_or(Stored::Unreadable, Stored::Lease))
}

impl Lease {
    fn keep(objects: &Objects, clock: &Arc<dyn Clock>, own: Held, length: Span) -> Self {
        let keeper = tokio::spawn(renew(objects.clone(), clock.clone(), own.clone(), length));
        Lease { objects: objects.clone(), own, keeper }
    }

    /// Lets others have it at once. What was taken over meanwhile is left alone.
    ///
    /// # Errors
    /// When the store fails; the lease runs out then.
    pub async fn release(self) -> Result<(), ObjectError> {
        self.keeper.abort();
        match stored(&self.objects).await? {
            Stored::Lease(found) if found.is_of(&self.own) => self.objects.delete(LEASE).await,
            _ => Ok(()),
        }
    }
}

/// Ends when another run has taken the lease over, which may be right after this process slept: both go on, and the
/// ledger decides.
async fn renew(objects: Objects, clock: Arc<dyn Clock>, own: Held, length: Span) {
    loop {
        clock.sleep(Span::millis(length.as_millis() / 3)).await;
        let renewed = Held { until: clock.now() + length, ..own.clone() };
        let put = async {
            match stored(&objects).await? {
                Stored::Lease(found) if found.is_of(&own) => {
                    objects.put(LEASE, renewed.encode().into()).await.map(|()| true)
                }
                _ => Ok::<_, ObjectError>(false),
            }
        };
        match put.await {
            Ok(true) => {}
            Ok(false) => {
                tracing::warn!(lease = LEASE, "the lease is another run's now; going on, the ledger entry decides");
                return;
            }
            Err(error) => tracing::warn!(lease = LEASE, "the lease cannot be renewed, going on without it: {error}"),
        }
    }
}
