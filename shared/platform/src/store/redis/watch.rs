//! A flush by WATCH and MULTI, of a server that is alone: it costs Redis less than half of the script, whose arguments Lua
//! copies one by one.
//!
//! ```text
//! 1  WATCH every key; GET live, building; HMGET of the metas; TYPE of every key     compare (compare.rs)
//! 2  MULTI; UNLINK, SADD, SET, HSET, …, XADD; EXEC                                  nil: 1 again
//! ```
//!
//! EXEC does nothing when a key has changed since step 1. A flush that must not be carried out ends with an EXEC of
//! nothing, which tells whether the answers of step 1 were of one moment. Where they tell of another writer that is all
//! the same: it would only be another one. A command that fails inside EXEC does not undo
//! the others, so the types of the keys are known before, and nothing else can fail.

use ::redis::{Pipeline, RedisResult, ToRedisArgs, Value, from_redis_value, pipe};
use clicks::keyspace::{CHANGES_END, PREFIX, change_name};
use clicks::live::Stage;
use clicks::position::PartitionId;

use super::RedisStore;
use super::command::{BUILDING, CHANGES, Command, EXPECTED_META, HEAD, LIVE, META, RETIRED};
use super::compare::{Found, META_FIELDS, POSITION_FIELDS, Stop, compare};
use super::dedicated::{Dedicated, Executed};
use super::error::damage;
use crate::store::{CHANGES_KEPT, StoreError, changes_kept};

/// Each fails only when somebody else writes the same keys at that moment.
const ATTEMPTS_MAX: usize = 8;

/// Fields and values of one HSET.
const CHUNK: usize = 2_000;

impl RedisStore {
    /// Carries it out, or says why not.
    pub(super) async fn flush_watching(
        &self,
        dedicated: &Dedicated,
        partition: &PartitionId,
        command: &Command,
    ) -> Result<Result<(), Stop>, StoreError> {
        let what = || format!("the flush of partition {partition}");
        let questions = questions(command);
        for _ in 0..ATTEMPTS_MAX {
            let asked = dedicated.watch(&questions).await;
            let (connection, answers) = asked.map_err(|error| self.error(&what(), &error))?;
            let found = Found::read(answers, command.keys.len()).map_err(|error| self.error(&what(), &error))?;
            let verdict = compare(command, &found);
            let (mut commands, remembered) = if verdict.is_ok() { commands(command, &found) } else { (pipe(), 0) };
            let executed = connection.execute(&mut commands).await;
            match executed.map_err(|error| self.error(&what(), &error))? {
                _ if matches!(verdict, Err(Stop::Mismatch(_))) => return Ok(verdict),
                Executed::All(mut answers) => {
                    // Nobody depends on what is remembered: a reader sees that it is not.
                    answers.truncate(answers.len() - remembered);
                    return match answers.iter().find(|answer| matches!(answer, Value::ServerError(_))) {
                        None => Ok(verdict),
                        Some(error) => Err(StoreError::Failed(format!("{} was cut short by {error:?}", what()))),
                    };
                }
                Executed::Nothing => metrics::counter!("twofold_store_flushes_repeated_total").increment(1),
            }
        }
        Err(StoreError::Unavailable(format!("{} met another writer in each of {ATTEMPTS_MAX} attempts", what())))
    }
}

impl Dedicated {
    /// The two round trips, about a key that nobody has: a user who may not make them is told by the check.
    pub(super) async fn try_out(&self) -> RedisResult<()> {
        let mut questions = pipe();
        questions.cmd("WATCH").arg(format!("{PREFIX}:check"));
        let (connection, answers) = self.watch(&questions).await?;
        answers.into_iter().try_for_each(|answer| answer.extract_error().map(drop))?;
        connection.execute(&mut pipe()).await.map(drop)
    }
}

fn questions(command: &Command) -> Pipeline {
    let keys = &command.keys;
    let mut pipeline = Pipeline::with_capacity(5 + keys.len());
    pipeline.cmd("WATCH").arg(keys).get(&keys[LIVE]).get(&keys[BUILDING]);
    pipeline.cmd("HMGET").arg(&keys[EXPECTED_META]).arg(&POSITION_FIELDS);
    pipeline.cmd("HMGET").arg(&keys[META]).arg(&META_FIELDS);
    keys.iter().for_each(|key| _ = pipeline.cmd("TYPE").arg(key));
    pipeline
}

impl Found {
    fn read(answers: Vec<Value>, keys: usize) -> RedisResult<Self> {
        let mut answers = answers.into_iter();
        let mut next = || match answers.next() {
            // The types say so as well.
            Some(Value::ServerError(error)) if damage(&error.clone().into()).is_some() => Ok(Value::Nil),
            Some(answer) => answer.extract_error(),
            None => Err((::redis::ErrorKind::UnexpectedReturnType, "fewer answers than questions").into()),
        };
        next()?;
        let [live, building] = [text(next()?), text(next()?)];
        let (expected_position, meta) = (texts(next()?), texts(next()?));
        let types = (0..keys).map(|_| Ok(from_redis_value(next()?)?)).collect::<RedisResult<_>>()?;
        Ok(Found { live, building, expected_position, meta, types })
    }
}

/// What is no text is nothing that we wrote, and equals nothing that we would.
fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => Some(String::from_utf8_lossy(&bytes).into_owned()),
        _ => None,
    }
}

fn texts<const N: usize>(value: Value) -> [Option<String>; N] {
    let mut texts = [const { None }; N];
    if let Value::Array(values) = value {
        texts.iter_mut().zip(values).for_each(|(field, value)| *field = text(value));
    }
    texts
}

/// And how many of the last ones may fail.
fn commands(command: &Command, found: &Found) -> (Pipeline, usize) {
    let keys = &command.keys;
    let mut pipeline = pipe();
    if !command.dropped().is_empty() {
        pipeline.cmd("UNLINK").arg(command.dropped());
    }
    found.replaced(command).into_iter().for_each(|old| _ = pipeline.sadd(&keys[RETIRED], old));
    match command.stage {
        Stage::Live => {
            pipeline.set(&keys[LIVE], &command.generation);
            if found.building.is_some() {
                pipeline.del(&keys[BUILDING]);
            }
        }
        Stage::Beside => _ = pipeline.set(&keys[BUILDING], &command.generation),
    }
    for (key, counts) in keys[HEAD..].iter().zip(&command.hashes) {
        counts.chunks(CHUNK).for_each(|few| hset(&mut pipeline, key, few));
    }
    hset(&mut pipeline, &keys[META], &command.meta);
    let before = pipeline.len();
    if !found.is_of_type(CHANGES, "stream") {
        pipeline.unlink(&keys[CHANGES]);
    }
    for (key, counts) in keys[HEAD..].iter().zip(&command.hashes) {
        xadd(&mut pipeline, &keys[CHANGES], changes_kept(counts.len() / 2), change_name(key), &counts.joined());
    }
    xadd(&mut pipeline, &keys[CHANGES], CHANGES_KEPT, CHANGES_END, &command.reached);
    let remembered = pipeline.len() - before;
    (pipeline, remembered)
}

fn xadd(pipeline: &mut Pipeline, key: &str, kept: usize, name: &str, value: &str) {
    pipeline.cmd("XADD").arg(key).arg("MAXLEN").arg(kept).arg("*").arg(name).arg(value);
}

fn hset(pipeline: &mut Pipeline, key: &str, fields: impl ToRedisArgs) {
    pipeline.cmd("HSET").arg(key).arg(fields);
}
