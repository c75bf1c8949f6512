//! What an error of the client or the server means to us.

use ::redis::{ErrorKind, RedisError};
use clicks::keyspace::KeyspaceError;

use crate::store::StoreError;

/// `what` names the operation and the partition.
pub(super) fn store_error(what: &str, error: &RedisError) -> StoreError {
    let failed = match classify(error) {
        Meaning::Away(mend) => StoreError::Unavailable(format!("{what}: {error}{mend}")),
        Meaning::Denied => StoreError::Denied(format!("{what}: {error}")),
        Meaning::Refused => StoreError::Failed(format!(
            "{what} was refused and changed nothing: {}",
            error.detail().unwrap_or("no reason was given")
        )),
        Meaning::NotUnderstood => StoreError::Failed(format!("{what}: {error}")),
    };
    let kind = match failed {
        StoreError::Unavailable(_) => "unavailable",
        StoreError::Denied(_) => "denied",
        _ => "failed",
    };
    metrics::counter!("twofold_store_errors_total", "kind" => kind).increment(1);
    failed
}

#[derive(Debug, PartialEq, Eq)]
enum Meaning {
    /// Passes by itself, or once somebody has done what the text says.
    Away(&'static str),
    Denied,
    /// By our own script.
    Refused,
    NotUnderstood,
}

fn classify(error: &RedisError) -> Meaning {
    match error.kind() {
        ErrorKind::Io | ErrorKind::ClusterConnectionNotFound => return Meaning::Away(""),
        ErrorKind::AuthenticationFailed => return Meaning::Denied,
        _ => {}
    }
    let codes = codes(error);
    let meanings = codes.iter().map(|code| meaning(code));
    meanings.into_iter().find(|meaning| *meaning != Meaning::NotUnderstood).unwrap_or(Meaning::NotUnderstood)
}

fn meaning(code: &str) -> Meaning {
    match code {
        "NOAUTH" | "WRONGPASS" | "NOPERM" => Meaning::Denied,
        "OOM" => Meaning::Away("; raise `maxmemory` or free memory: nothing was written"),
        "MISCONF" => Meaning::Away("; Redis cannot write to its disk: free space on it or mend it"),
        "NOREPLICAS" => Meaning::Away("; fewer replicas are connected than `min-replicas-to-write` asks for"),
        "READONLY" => Meaning::Away("; `redis.url` must name the master, not a replica"),
        // The client follows a moved slot; where it gave up, the new owner was not there yet.
        "MOVED" | "ASK" => Meaning::Away(""),
        "LOADING" | "BUSY" | "UNBLOCKED" | "CLUSTERDOWN" | "MASTERDOWN" | "TRYAGAIN" => Meaning::Away(""),
        "TFREFUSED" | "TFDAMAGED" => Meaning::Refused,
        _ => Meaning::NotUnderstood,
    }
}

/// The codes of the error, or of those that made a transaction fail.
fn codes(error: &RedisError) -> Vec<String> {
    let of_server = error.clone().into_server_errors();
    let codes = of_server.iter().flat_map(|errors| errors.iter()).map(|(_, error)| error.code().to_owned());
    // EXEC itself may be refused, and then tells the reason after its own code.
    let of_exec = error.detail().and_then(|detail| detail.split_once("discarded because of: "));
    let reason = of_exec.and_then(|(_, reason)| reason.split(' ').next());
    codes.chain(reason.or(error.code()).map(str::to_owned)).collect()
}

/// What is wrong with a stored key, if that is what the error says.
pub(super) fn damage(error: &RedisError) -> Option<KeyspaceError> {
    let codes = codes(error);
    let is = |wanted: &str| codes.iter().any(|code| code == wanted);
    if is("TFDAMAGED") {
        return Some(KeyspaceError::ForeignKey(error.detail().unwrap_or("no reason was given").to_owned()));
    }
    let what = "one of its keys is of another type: another program writes into our key space";
    is("WRONGTYPE").then(|| KeyspaceError::ForeignKey(what.to_owned()))
}

pub(super) fn is_out_of_memory(error: &RedisError) -> bool {
    codes(error).iter().any(|code| code == "OOM")
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::redis::{Value, parse_redis_value};

    #[test]
    fn errors_say_what_is_wrong_and_what_to_do() {
        let cases = [
            ("-OOM command not allowed when used memory > 'maxmemory'.", "Unavailable", "raise `maxmemory`"),
            ("-MISCONF Errors writing to the AOF file: No space left on device", "Unavailable", "disk"),
            ("-READONLY You can't write against a read only replica.", "Unavailable", "master"),
            ("-LOADING Redis is loading the dataset in memory", "Unavailable", "loading"),
            ("-NOREPLICAS Not enough good replicas to write.", "Unavailable", "min-replicas-to-write"),
            ("-MOVED 15371 127.0.0.1:24798", "Unavailable", "15371"),
            ("-ASK 15371 127.0.0.1:24798", "Unavailable", "15371"),
            ("-NOAUTH Authentication required.", "Denied", "redis.url"),
            ("-NOPERM this user has no permissions to run the 'evalsha' command", "Denied", "evalsha"),
            (
                "-EXECABORT Transaction discarded because of: OOM command not allowed",
                "Unavailable",
                "raise `maxmemory`",
            ),
            ("-TFREFUSED argument 9 is no value for version", "Failed", "argument 9"),
            ("-ERR unknown command", "Failed", "unknown command"),
        ];
        for (reply, kind, text) in cases {
            let reply = parse_redis_value(format!("{reply}\r\n").as_bytes()).unwrap();
            let Value::ServerError(error) = reply else { panic!("{reply:?}") };
            let error = store_error("the flush of partition p", &error.into());
            assert!(format!("{error:?}").starts_with(kind), "{error:?}");
            assert!(error.to_string().contains(text) && error.to_string().contains("partition p"), "{error}");
        }
    }

    #[test]
    fn damage_is_told_from_refusals() {
        for (reply, damaged) in [
            ("-TFDAMAGED key k is a list: another program", Some("key k is a list")),
            ("-WRONGTYPE Operation against a key holding the wrong kind of value", Some("another type")),
            ("-TFREFUSED argument 9 is no value for version", None),
            ("-OOM command not allowed", None),
        ] {
            let Value::ServerError(error) = parse_redis_value(format!("{reply}\r\n").as_bytes()).unwrap() else {
                panic!("{reply}")
            };
            let found = damage(&error.into()).map(|damage| damage.to_string());
            assert_eq!(found.is_some(), damaged.is_some(), "{reply}");
            assert!(found.unwrap_or_default().contains(damaged.unwrap_or_default()), "{reply}");
        }
    }
}
