//! `twofold key`: who may ask the API, and about whose ads.

use anyhow::Result;
use clicks::time::{Span, Timestamp};
use platform::ads::Ads;
use platform::keys::{KeyError, KeyId, Keys, Listed, NewKey, Revocation, Scope};
use platform::settings::Settings;
use serde_json::json;

use crate::cli::{Actor, KeyCommand, Lifetime, NewKeyArgs};
use crate::connect;
use crate::exit::{Exit, print, refuse};

pub async fn run(settings: &Settings, command: KeyCommand, as_json: bool) -> Result<Exit> {
    let keys = Keys::new(connect::objects(settings)?);
    let now = connect::clock(settings).now();
    match command {
        KeyCommand::Create(args) => create(settings, &keys, args, now, as_json).await,
        KeyCommand::List => list(&keys, now, as_json).await,
        KeyCommand::Revoke { id, reason, actor } => revoke(&keys, id, reason, actor, now, as_json).await,
    }
}

async fn create(settings: &Settings, keys: &Keys, args: NewKeyArgs, now: Timestamp, as_json: bool) -> Result<Exit> {
    let NewKeyArgs { name, whose, scope, expires, actor } = args;
    let created_by = match actor.name() {
        Ok(actor) => actor,
        Err(question) => return refuse(question),
    };
    let mut scopes: Vec<Scope> = scope.into_iter().map(Scope::from).collect();
    scopes.sort_unstable();
    scopes.dedup();
    if let Some(tenant) = &whose.tenant {
        if let Some(scope) = scopes.iter().find(|scope| **scope != Scope::Read) {
            let name = scope.name();
            return refuse(&format!(
                "the scope `{name}` is about the installation as a whole: give --all-tenants, or only --scope read"
            ));
        }
        let ads = Ads::new(connect::objects(settings)?);
        let table = ads.read(ads.last(0).await?).await?;
        if !table.tenants().any(|known| known == tenant) {
            eprintln!(
                "twofold: the ads table has no tenant `{tenant}` yet: the key shows nothing until its ads are loaded"
            );
        }
    }
    let expires_at = match expires {
        Lifetime::Never => None,
        Lifetime::For(time) => Some(now + Span::millis(time.0.as_millis() as i64)),
    };
    let new = NewKey { name, tenant: whose.tenant, scopes, created_at: now, created_by, expires_at };
    let (key, secret) = keys.create(new).await?;
    match as_json {
        true => print(
            &json!({"id": key.id, "key": secret.reveal(), "tenant": key.tenant, "scopes": key.scopes,
            "expires_at": key.expires_at.map(Timestamp::to_rfc3339)})
            .to_string(),
        )?,
        false => {
            // The key alone is the result, so that it can be put into a file.
            print(secret.reveal())?;
            let until =
                key.expires_at.map_or("until it is revoked".to_owned(), |at| format!("until {}", at.to_rfc3339()));
            eprintln!(
                "twofold: this is shown once. It opens {until} for whoever sends it as `Authorization: Bearer <key>`; \
                 `twofold key revoke {} --reason …` ends it",
                key.id
            );
        }
    }
    Ok(Exit::Done)
}

async fn list(keys: &Keys, now: Timestamp, as_json: bool) -> Result<Exit> {
    let (listed, unreadable) = keys.list().await?;
    for error in &unreadable {
        eprintln!("twofold: {error}");
    }
    print(&match as_json {
        true => {
            let entry = |Listed { key, revoked }: &Listed| {
                json!({
                    "id": key.id, "name": key.name, "tenant": key.tenant, "scopes": key.scopes, "state": state(key.expires_at, revoked, now),
                    "created_at": key.created_at.to_rfc3339(), "created_by": key.created_by,
                    "expires_at": key.expires_at.map(Timestamp::to_rfc3339),
                    "revoked": revoked.as_ref().map(|r| json!({"at": r.at.to_rfc3339(), "by": r.by, "reason": r.reason})),
                })
            };
            serde_json::to_string(&listed.iter().map(entry).collect::<Vec<_>>())?
        }
        false if listed.is_empty() => "there are no keys; `twofold key create` makes one".to_owned(),
        false => listed.iter().map(|listed| line(listed, now)).collect::<Vec<_>>().join("\n"),
    })?;
    Ok(if unreadable.is_empty() { Exit::Done } else { Exit::Failure })
}

fn state(expires_at: Option<Timestamp>, revoked: &Option<Revocation>, now: Timestamp) -> &'static str {
    match (revoked, expires_at) {
        (Some(_), _) => "revoked",
        (None, Some(at)) if at <= now => "expired",
        (None, _) => "open",
    }
}

fn line(Listed { key, revoked }: &Listed, now: Timestamp) -> String {
    let whose = key.tenant.as_ref().map_or("all tenants".to_owned(), |tenant| format!("tenant {tenant}"));
    let scopes: Vec<&str> = key.scopes.iter().map(|scope| scope.name()).collect();
    let end = match (revoked, key.expires_at) {
        (Some(Revocation { at, by, reason }), _) => format!(" at {} by {by}: {reason}", at.to_rfc3339()),
        (None, Some(at)) => format!(", expires at {}", at.to_rfc3339()),
        (None, None) => String::new(),
    };
    let (id, name) = (&key.id, &key.name);
    let (by, at) = (&key.created_by, key.created_at.to_rfc3339());
    let state = state(key.expires_at, revoked, now);
    format!("{id}  {whose}, {}  {name}  made by {by} at {at}  {state}{end}", scopes.join(" and "))
}

async fn revoke(keys: &Keys, id: KeyId, reason: String, actor: Actor, now: Timestamp, as_json: bool) -> Result<Exit> {
    let by = match actor.name() {
        Ok(actor) => actor,
        Err(question) => return refuse(question),
    };
    let revoked = match keys.revoke(&id, Revocation { at: now, by, reason }).await {
        Ok(revoked) => revoked,
        Err(error @ KeyError::Missing(_)) => return refuse(&error.to_string()),
        Err(error) => return Err(error.into()),
    };
    let Revocation { at, by, reason } = revoked;
    print(&match as_json {
        true => json!({"id": id, "revoked": {"at": at.to_rfc3339(), "by": by, "reason": reason}}).to_string(),
        false => format!("key {id} is revoked, since {} by {by}: {reason}", at.to_rfc3339()),
    })?;
    Ok(Exit::Done)
}
