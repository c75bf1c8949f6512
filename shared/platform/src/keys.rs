//! Keys of the API: who may ask, and about whose ads.
//!
//! ```text
//! keys/v1/4f0c2a91b7e3.json            what the key may do, and the hash of its secret; never changed
//! keys/v1/4f0c2a91b7e3.revoked.json    it may do nothing any more; who has said so and why
//! ```
//!
//! The key itself, `tfk_<id>_<64 hexadecimal digits>`, is shown once and stored nowhere. Its secret has 256 random bits, so a
//! plain hash keeps it safe: there is nothing to guess.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use clicks::hex;
use clicks::id::TenantId;
use clicks::ledger::sha256;
use clicks::time::Timestamp;
use futures::{FutureExt, StreamExt, stream};
use serde::{Deserialize, Serialize};

use crate::objects::{Created, ObjectError, Objects};
use crate::settings::Secret;

/// Prefix of all keys.
const KEYS: &str = "keys/v1/";
/// Major version of the records.
const FORMAT: u32 = 1;
/// What every key begins with, so that people and scanners know one when they see it.
const MARK: &str = "tfk_";
/// Digits of an id, and of a secret.
const ID_DIGITS: usize = 12;
const SECRET_DIGITS: usize = 64;
/// Objects that are read at a time.
const READS_MAX: usize = 32;

/// What a key may ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Numbers of the ads that it may see.
    Read,
    /// How the installation as a whole is doing.
    Operate,
    /// Every table by SQL, raw clicks with their users among them.
    Sql,
}

impl Scope {
    pub const ALL: [Scope; 3] = [Scope::Read, Scope::Operate, Scope::Sql];

    pub const fn name(self) -> &'static str {
        match self {
            Scope::Read => "read",
            Scope::Operate => "operate",
            Scope::Sql => "sql",
        }
    }
}

/// What is stored of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Key {
    format: u32,
    pub id: KeyId,
    /// For people.
    pub name: String,
    /// Of the whole key, hexadecimal.
    sha256: String,
    /// Only this tenant's ads; `None`: all ads.
    pub tenant: Option<TenantId>,
    pub scopes: Vec<Scope>,
    pub created_at: Timestamp,
    pub created_by: String,
    /// `None`: it does not expire.
    pub expires_at: Option<Timestamp>,
}

/// Names a key without giving it away.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(String);

/// The end of a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revocation {
    pub at: Timestamp,
    pub by: String,
    pub reason: String,
}

/// A key, and whether it was revoked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub key: Key,
    pub revoked: Option<Revocation>,
}

/// What a key is made of.
#[derive(Debug, Clone)]
pub struct NewKey {
    pub name: String,
    pub tenant: Option<TenantId>,
    pub scopes: Vec<Scope>,
    pub created_at: Timestamp,
    pub created_by: String,
    pub expires_at: Option<Timestamp>,
}

/// What can go wrong with keys.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    #[error(transparent)]
    Object(#[from] ObjectError),
    #[error("the machine gives no random numbers: {0}")]
    Random(getrandom::Error),
    #[error("`{0}` is no id of a key such as 4f0c2a91b7e3; `twofold key list` shows them")]
    NotAnId(String),
    #[error("there is no key {0}; `twofold key list` shows all")]
    Missing(KeyId),
    #[error("`{key}` cannot be read, so it opens nothing: {what}")]
    Content { key: String, what: String },
}

/// Why a secret opens nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// It is not written like a key.
    NotAKey,
    /// Nobody has made it, or it was made anew with another secret.
    Unknown,
    Expired(Timestamp),
    /// When, if that is known.
    Revoked(Option<Timestamp>),
}

/// All keys of an installation, as they were last read.
#[derive(Debug, Clone, Default)]
pub struct KeyRing {
    keys: BTreeMap<KeyId, Key>,
    /// `None`: what was said of it could not be read yet. That there is something to read ends the key.
    revoked: BTreeMap<KeyId, Option<Revocation>>,
}

/// The keys in an object store.
#[derive(Debug, Clone)]
pub struct Keys {
    objects: Objects,
}

impl Keys {
    pub fn new(objects: Objects) -> Self {
        Keys { objects }
    }

    /// Makes a key and returns it; it cannot be shown again.
    ///
    /// # Errors
    /// When it could not be stored. It opens nothing then.
    pub async fn create(&self, new: NewKey) -> Result<(Key, Secret), KeyError> {
        loop {
            let (id, secret) = (random::<{ ID_DIGITS / 2 }>()?, random::<{ SECRET_DIGITS / 2 }>()?);
            let text = format!("{MARK}{id}_{secret}");
            let NewKey { name, tenant, scopes, created_at, created_by, expires_at } = new.clone();
            let (format, id, sha256) = (FORMAT, KeyId(id), sha256(text.as_bytes()));
            let key = Key { format, id, name, sha256, tenant, scopes, created_at, created_by, expires_at };
            if let Created::Ours = self.objects.create(&key_of(&key.id), json(&key).into()).await? {
                return Ok((key, Secret::new(text)));
            }
        }
    }

    /// Ends a key. One that was revoked before stays as it is.
    ///
    /// # Errors
    /// [`KeyError::Missing`] when there is none.
    pub async fn revoke(&self, id: &KeyId, revocation: Revocation) -> Result<Revocation, KeyError> {
        if self.objects.get(&key_of(id)).await?.is_none() {
            return Err(KeyError::Missing(id.clone()));
        }
        let key = revocation_of(id);
        match self.objects.create(&key, json(&revocation).into()).await? {
            Created::Ours => Ok(revocation),
            Created::Taken(bytes) => read(&key, &bytes),
        }
    }

    /// All keys, also those that open nothing any more, and what cannot be read.
    ///
    /// # Errors
    /// When the store does not answer.
    pub async fn list(&self) -> Result<(Vec<Listed>, Vec<KeyError>), KeyError> {
        let mut ring = KeyRing::default();
        let unreadable = self.read_on(&mut ring).await?;
        let KeyRing { keys, mut revoked } = ring;
        let listed = keys.into_values().map(|key| Listed { revoked: revoked.remove(&key.id).flatten(), key });
        Ok((listed.collect(), unreadable))
    }

    /// Reads what has come since, and forgets what is gone. It may be broken off at any time: what has come is kept, and the
    /// ends of keys come first, with the listing. What cannot be read opens nothing and is returned; the others stay.
    ///
    /// # Errors
    /// When the store does not list its keys; the ring is as it was, then.
    pub async fn read_on(&self, ring: &mut KeyRing) -> Result<Vec<KeyError>, KeyError> {
        let objects = self.objects.list(KEYS, None).await?;
        let names = objects.iter().filter_map(|object| object.key.strip_prefix(KEYS)?.strip_suffix(".json"));
        // Whatever else lies there is no key.
        let (ended, keys): (Vec<&str>, Vec<&str>) = names.partition(|name| name.ends_with(".revoked"));
        let ids =
            |names: Vec<&str>| names.into_iter().filter_map(|name| name.parse::<KeyId>().ok()).collect::<BTreeSet<_>>();
        let keys = ids(keys);
        let ended = ids(ended.into_iter().filter_map(|name| name.strip_suffix(".revoked")).collect());
        ring.keys.retain(|id, _| keys.contains(id));
        // One that is not listed any more is no less revoked.
        ring.revoked.retain(|id, _| keys.contains(id));
        for id in ended.into_iter().filter(|id| keys.contains(id)) {
            ring.revoked.entry(id).or_insert(None);
        }
        let mut unreadable = Vec::new();
        let new = keys.into_iter().filter(|id| !ring.keys.contains_key(id)).collect::<Vec<_>>();
        let untold =
            ring.revoked.iter().filter(|(_, said)| said.is_none()).map(|(id, _)| id.clone()).collect::<Vec<_>>();
        let ends = untold.into_iter().map(|id| async { Found::End(self.fetch(&revocation_of(&id)).await, id) }.boxed());
        let keys = new.into_iter().map(|id| async { Found::Key(self.fetch(&key_of(&id)).await, id) }.boxed());
        let reads: Vec<_> = ends.chain(keys).collect();
        let mut found = stream::iter(reads).buffer_unordered(READS_MAX);
        while let Some(found) = found.next().await {
            match found {
                Found::End(Ok(said), id) => drop(ring.revoked.insert(id, said)),
                Found::Key(Ok(Some(key)), id) if key.format == FORMAT && key.id == id => {
                    drop(ring.keys.insert(id, key))
                }
                Found::Key(Ok(Some(key)), id) => {
                    let what = match key.id == id {
                        true => {
                            format!("it has format {}, this release reads {FORMAT}: update the release", key.format)
                        }
                        false => format!("it is that of key {}; delete it", key.id),
                    };
                    unreadable.push(KeyError::Content { key: key_of(&id), what });
                }
                // Whoever deletes one while they are listed wants it to be gone.
                Found::Key(Ok(None), _) => {}
                Found::Key(Err(error), _) | Found::End(Err(error), _) => unreadable.push(error),
            }
        }
        Ok(unreadable)
    }

    async fn fetch<T: for<'de> Deserialize<'de>>(&self, key: &str) -> Result<Option<T>, KeyError> {
        match self.objects.get(key).await? {
            Some(bytes) => read(key, &bytes).map(Some),
            None => Ok(None),
        }
    }
}

/// What was read of one key.
enum Found {
    Key(Result<Option<Key>, KeyError>, KeyId),
    End(Result<Option<Revocation>, KeyError>, KeyId),
}

impl KeyRing {
    /// The key that this text is.
    pub fn open(&self, text: &str, now: Timestamp) -> Result<&Key, Refused> {
        let digits = |text: &str, count| text.len() == count && text.bytes().all(|b| b.is_ascii_hexdigit());
        let parts = text.strip_prefix(MARK).and_then(|rest| rest.split_once('_'));
        let (id, _) = parts
            .filter(|(id, secret)| digits(id, ID_DIGITS) && digits(secret, SECRET_DIGITS))
            .ok_or(Refused::NotAKey)?;
        let key = self.keys.get(&KeyId(id.to_owned())).ok_or(Refused::Unknown)?;
        // Comparing hashes tells nothing about the secret, however long it takes.
        if key.sha256 != sha256(text.as_bytes()) {
            return Err(Refused::Unknown);
        }
        self.still_open(&key.id, now)
    }

    /// The key of an id that was opened before.
    pub fn still_open(&self, id: &KeyId, now: Timestamp) -> Result<&Key, Refused> {
        let key = self.keys.get(id).ok_or(Refused::Unknown)?;
        match (self.revoked.get(id), key.expires_at) {
            (Some(said), _) => Err(Refused::Revoked(said.as_ref().map(|said| said.at))),
            (None, Some(expires_at)) if expires_at <= now => Err(Refused::Expired(expires_at)),
            (None, _) => Ok(key),
        }
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for KeyId {
    type Err = KeyError;
    fn from_str(text: &str) -> Result<Self, KeyError> {
        let fits = text.len() == ID_DIGITS && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        fits.then(|| KeyId(text.to_owned())).ok_or_else(|| KeyError::NotAnId(text.chars().take(80).collect()))
    }
}

/// Random bytes in hexadecimal.
fn random<const BYTES: usize>() -> Result<String, KeyError> {
    let mut bytes = [0; BYTES];
    getrandom::fill(&mut bytes).map_err(KeyError::Random)?;
    Ok(hex(&bytes))
}

fn key_of(id: &KeyId) -> String {
    format!("{KEYS}{id}.json")
}

fn revocation_of(id: &KeyId) -> String {
    format!("{KEYS}{id}.revoked.json")
}

fn json(record: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec_pretty(record).expect("a record is valid JSON");
    bytes.push(b'\n');
    bytes
}

fn read<T: for<'de> Deserialize<'de>>(key: &str, bytes: &[u8]) -> Result<T, KeyError> {
    serde_json::from_slice(bytes).map_err(|error| KeyError::Content { key: key.to_owned(), what: error.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64) -> Timestamp {
        Timestamp::from_millis(millis)
    }

    fn new_key(expires_at: Option<Timestamp>) -> NewKey {
        NewKey {
            name: "acme's dashboard".to_owned(),
            tenant: Some(TenantId::parse("acme").unwrap()),
            scopes: vec![Scope::Read],
            created_at: at(1),
            created_by: "ann".to_owned(),
            expires_at,
        }
    }

    fn revocation(by: &str) -> Revocation {
        Revocation { at: at(5), by: by.to_owned(), reason: "leaked".to_owned() }
    }

    #[tokio::test]
    async fn a_key_opens_until_it_expires_or_is_revoked() {
        let objects = Objects::memory();
        let keys = Keys::new(objects.clone());
        let (stays, secret) = keys.create(new_key(None)).await.unwrap();
        let (ends, ending) = keys.create(new_key(Some(at(10)))).await.unwrap();
        let mut ring = KeyRing::default();
        assert_eq!(ring.open(secret.reveal(), at(2)), Err(Refused::Unknown), "it was not read yet");
        assert!(keys.read_on(&mut ring).await.unwrap().is_empty());
        assert_eq!(ring.open(secret.reveal(), at(2)), Ok(&stays));
        assert_eq!(ring.open(ending.reveal(), at(9)), Ok(&ends));
        assert_eq!(ring.open(ending.reveal(), at(10)), Err(Refused::Expired(at(10))));
        // Nothing but the whole key opens it, and only the hash is stored.
        let text = secret.reveal();
        let other = format!("{}{}", &text[..text.len() - 1], if text.ends_with('0') { "1" } else { "0" });
        for (text, refused) in [
            (other.as_str(), Refused::Unknown),
            (&text[..text.len() - 1], Refused::NotAKey),
            (&text[4..], Refused::NotAKey),
            ("", Refused::NotAKey),
            ("tfk_../../../../_0", Refused::NotAKey),
        ] {
            assert_eq!(ring.open(text, at(2)), Err(refused), "{text}");
        }
        for object in objects.list("", None).await.unwrap() {
            let stored = objects.get(&object.key).await.unwrap().unwrap();
            assert!(!String::from_utf8(stored.to_vec()).unwrap().contains(&text[17..]), "{}", object.key);
        }

        keys.revoke(&stays.id, revocation("bob")).await.unwrap();
        assert_eq!(keys.revoke(&stays.id, revocation("eve")).await.unwrap().by, "bob", "it stays as it is");
        keys.read_on(&mut ring).await.unwrap();
        assert_eq!(ring.open(secret.reveal(), at(6)), Err(Refused::Revoked(Some(at(5)))));
        assert_eq!(ring.still_open(&stays.id, at(6)), Err(Refused::Revoked(Some(at(5)))));
        assert!(ring.still_open(&ends.id, at(6)).is_ok());
        // A listing that lacks the end does not open it again.
        objects.delete(&revocation_of(&stays.id)).await.unwrap();
        keys.read_on(&mut ring).await.unwrap();
        assert_eq!(ring.open(secret.reveal(), at(6)), Err(Refused::Revoked(Some(at(5)))));
        keys.revoke(&stays.id, revocation("bob")).await.unwrap();
        let (listed, unreadable) = keys.list().await.unwrap();
        assert!(unreadable.is_empty());
        assert_eq!(listed.iter().filter(|listed| listed.revoked.is_some()).count(), 1);
        let missing = keys.revoke(&"0123456789ab".parse().unwrap(), revocation("bob")).await.unwrap_err();
        assert!(matches!(missing, KeyError::Missing(_)));
        assert!(matches!("../4f0c2a91b7".parse::<KeyId>(), Err(KeyError::NotAnId(_))));
    }

    #[tokio::test]
    async fn a_key_that_cannot_be_read_opens_nothing_and_hides_no_other() {
        let objects = Objects::memory();
        let keys = Keys::new(objects.clone());
        let (good, secret) = keys.create(new_key(None)).await.unwrap();
        let (gone, gone_secret) = keys.create(new_key(None)).await.unwrap();
        objects.put("keys/v1/000000000000.json", "{".into()).await.unwrap();
        objects.put("keys/v1/111111111111.json", json(&good).into()).await.unwrap();
        // An end that cannot be read is one.
        objects.put(&revocation_of(&gone.id), "{".into()).await.unwrap();
        let mut ring = KeyRing::default();
        assert_eq!(keys.read_on(&mut ring).await.unwrap().len(), 3);
        assert!(ring.open(secret.reveal(), at(2)).is_ok());
        assert_eq!(ring.open(gone_secret.reveal(), at(2)), Err(Refused::Revoked(None)));
        objects.put("keys/v1/README.json", "{".into()).await.unwrap();
        let (listed, unreadable) = keys.list().await.unwrap();
        assert_eq!((listed.len(), unreadable.len()), (2, 3), "what is no key is passed over");
        objects.delete(&key_of(&good.id)).await.unwrap();
        keys.read_on(&mut ring).await.unwrap();
        assert_eq!(ring.open(secret.reveal(), at(2)), Err(Refused::Unknown));
    }
}
