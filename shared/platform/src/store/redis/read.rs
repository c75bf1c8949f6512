//! Atomic reads of one partition.

use std::collections::HashMap;

use ::redis::{Cmd, FromRedisValue, Pipeline, RedisError, Value, from_redis_value, pipe};
use clicks::event::Class;
use clicks::keyspace::{
    CHANGES_END, KeyspaceError, PartitionKeys, hour_field, parse_change, parse_count, parse_hour_field,
    parse_late_field, parse_meta,
};
use clicks::live::{CountKey, Generation, LateKey, Meta};
use clicks::position::{Offset, PartitionId};
use clicks::time::Day;
use clicks::window::Hour;

use super::error::{damage, is_out_of_memory};
use super::{RedisStore, content};
use crate::store::scope::Scope;
use crate::store::{Changes, LiveSlice, Mark, Reached, StoreError, Whose, reached};

/// Tries of one read before it gives up: each fails only when an hour begins or a generation changes at that moment.
const ATTEMPTS_MAX: usize = 8;

/// Hours and nights of one read, more than two years: the server answers nobody else while it looks them up.
const HASHES_MAX: i64 = 20_000;

/// How one hour is read.
enum HourRead {
    All,
    /// Only these fields, because they are fewer than the hash has.
    Fields(Vec<CountKey>),
}

/// A generation as it was found.
pub(super) struct Seen {
    pub(super) generation: Generation,
    pub(super) meta: Meta,
}

impl RedisStore {
    /// The live or the current generation and its meta record.
    pub(super) async fn look(&self, partition: &PartitionId, whose: Whose) -> Result<Option<Seen>, StoreError> {
        let keys = PartitionKeys::new(partition);
        let mut pipeline = pipe();
        let mut seen = None;
        for _ in 0..ATTEMPTS_MAX {
            pipeline.get(keys.live()).get(keys.building());
            let mut answers = self.ask(partition, seen, &pipeline).await?.into_iter();
            let meta = seen.is_some().then(|| answers.next());
            let found = read_pointers(partition, whose, &mut answers)?;
            match (found, meta) {
                (None, _) => return Ok(None),
                // A generation never comes back, so it was there all the time, and what is missing in it is damage.
                (Some((generation, _)), Some(meta)) if seen == Some(generation) => {
                    let meta = read_meta(partition, generation, meta)?;
                    return Ok(Some(Seen { generation, meta }));
                }
                (Some((generation, _)), _) => {
                    seen = Some(generation);
                    pipeline = pipe();
                    pipeline.hgetall(keys.meta(generation));
                }
            }
        }
        Err(changes_too_fast(partition))
    }

    /// One atomic read of what `scope_of` the meta record says.
    pub(super) async fn select(
        &self,
        partition: &PartitionId,
        whose: Whose,
        scope_of: impl Fn(&Meta) -> Scope + Send + Sync,
    ) -> Result<Option<LiveSlice>, StoreError> {
        let mut seen = None;
        for _ in 0..ATTEMPTS_MAX {
            let Seen { generation, meta } = match seen.take() {
                Some(seen) => seen,
                None => match self.look(partition, whose).await? {
                    Some(seen) => seen,
                    None => return Ok(None),
                },
            };
            let plan = scope_of(&meta);
            let hours = self.plan_hours(partition, generation, &plan).await?;
            let questions = || questions(partition, generation, &hours, &plan);
            let Some(answers) = self.ask_of_one_moment(partition, generation, questions).await? else { continue };
            let mut answers = answers.into_iter();
            let is_in_doubt = match read_pointers(partition, whose, &mut answers)? {
                Some((found, is_in_doubt)) if found == generation => is_in_doubt,
                _ => continue,
            };
            let meta = read_meta(partition, generation, answers.next())?;
            let scope = scope_of(&meta);
            if !plan.covers(&scope) {
                metrics::counter!("twofold_store_reads_repeated_total").increment(1);
                seen = Some(Seen { generation, meta });
                continue;
            }
            let mut slice = LiveSlice { generation, meta, is_in_doubt, counts: Vec::new(), late: Vec::new() };
            for (hour, read) in hours {
                let answer = answers.next();
                slice.counts.extend(
                    read_hour(partition, generation, hour, read, answer)?.into_iter().filter(|(k, _)| scope.holds(k)),
                );
            }
            for night in plan.nights() {
                let late = read_night(partition, generation, night, answers.next())?;
                slice.late.extend(late.into_iter().filter(|(key, _)| scope.holds_late(key)));
            }
            return Ok(Some(slice));
        }
        Err(changes_too_fast(partition))
    }

    /// One atomic read of what was written since a mark.
    pub(super) async fn changes(
        &self,
        partition: &PartitionId,
        since: Option<&Mark>,
    ) -> Result<Option<Changes>, StoreError> {
        let keys = PartitionKeys::new(partition);
        let generation = match since {
            Some(mark) => mark.generation,
            None => match self.look(partition, Whose::Live).await? {
                Some(seen) => seen.generation,
                None => return Ok(None),
            },
        };
        let questions = || {
            let mut pipeline = head(&keys, generation);
            let changes = keys.changes(generation);
            match since {
                Some(Mark { id: (time, number), .. }) => {
                    pipeline.cmd("XRANGE").arg(changes).arg(format!("{time}-{number}")).arg("+")
                }
                None => pipeline.cmd("XREVRANGE").arg(changes).arg("+").arg("-").arg("COUNT").arg(1),
            };
            pipeline
        };
        let Some(answers) = self.ask_of_one_moment(partition, generation, questions).await? else { return Ok(None) };
        let mut answers = answers.into_iter();
        let is_in_doubt = match read_pointers(partition, Whose::Live, &mut answers)? {
            Some((found, is_in_doubt)) if found == generation => is_in_doubt,
            _ => return Ok(None),
        };
        let meta = read_meta(partition, generation, answers.next())?;
        let entries = read_entries(partition, answers.next())?;
        let ends = entries.iter().filter_map(|entry| Some((entry.id, entry.end()?))).collect::<Vec<_>>();
        let first = entries.first().map(|entry| entry.id);
        let (Some((id, last)), Some((_, begin))) = (ends.last().copied(), ends.first().copied()) else {
            return Ok(None);
        };
        // The stream goes on from the very flush that the mark is behind, and tells of all that the meta record knows of.
        let goes_on = since.is_none_or(|mark| first == Some(mark.id) && begin == mark.reached);
        if !goes_on || last != reached(&meta) || entries.last().map(|entry| entry.id) != Some(id) {
            return Ok(None);
        }
        let (mut counts, mut late) = (Vec::new(), Vec::new());
        for entry in entries.iter().filter(|entry| since.is_some() && entry.end().is_none()) {
            let parsed = parse_change(&entry.name, &entry.value, &mut counts, &mut late);
            parsed.map_err(|source| content(partition, Some(generation), source))?;
        }
        let slice = LiveSlice { generation, meta, is_in_doubt, counts, late };
        let reached = ends.into_iter().map(|(_, reached)| reached).collect();
        Ok(Some(Changes { slice, mark: Mark { generation, id, reached: last }, reached }))
    }

    /// Whole hashes, unless the query's ads have fewer fields than those hold: one ad of thousands is read by name.
    async fn plan_hours(
        &self,
        partition: &PartitionId,
        generation: Generation,
        plan: &Scope,
    ) -> Result<Vec<(Hour, HourRead)>, StoreError> {
        if plan.hashes() > HASHES_MAX {
            return Err(StoreError::Failed(format!(
                "a read of partition {partition} spans {} hours and nights; ask for at most {HASHES_MAX} at a time",
                plan.hashes()
            )));
        }
        let Some(ads) = plan.ads() else { return Ok(plan.hours().map(|hour| (hour, HourRead::All)).collect()) };
        let keys = PartitionKeys::new(partition);
        let mut pipeline = Pipeline::new();
        plan.hours().for_each(|hour| _ = pipeline.hlen(keys.hour(generation, hour)));
        let lengths = if plan.hours().next().is_some() {
            self.ask(partition, Some(generation), &pipeline).await?
        } else {
            Vec::new()
        };
        let mut hours = Vec::with_capacity(lengths.len());
        for (hour, length) in plan.hours().zip(lengths) {
            let length: usize = read(partition, Some(length))?;
            let minutes: Vec<_> = (0..60).map(|n| hour.minute(n)).filter(|minute| plan.holds_minute(*minute)).collect();
            // A range may end in the first minute of an hour before that begins; no field of it is asked for.
            if minutes.is_empty() || ads.is_empty() {
                continue;
            }
            let how = if minutes.len() * ads.len() * Class::ALL.len() >= length {
                HourRead::All
            } else {
                let of_ad = |ad| Class::ALL.into_iter().map(move |class| (ad, class));
                let fields = ads.iter().flat_map(of_ad).flat_map(|(ad, class)| {
                    minutes.iter().map(move |minute| CountKey { minute: *minute, class, ad: ad.clone() })
                });
                HourRead::Fields(fields.collect())
            };
            hours.push((hour, how));
        }
        Ok(hours)
    }

    /// `of` is the generation whose keys are asked for, if any are.
    async fn ask(
        &self,
        partition: &PartitionId,
        of: Option<Generation>,
        pipeline: &Pipeline,
    ) -> Result<Vec<Value>, StoreError> {
        let answers = pipeline.query_async(&mut self.link.clone()).await;
        answers.map_err(|error| self.read_error(partition, of, &error))
    }

    fn read_error(&self, partition: &PartitionId, of: Option<Generation>, error: &RedisError) -> StoreError {
        match (of, damage(error)) {
            (Some(generation), Some(source)) => content(partition, Some(generation), source),
            _ => self.error(&read_of(partition), error),
        }
    }

    /// The answers as of one moment; `None` when that did not succeed and is worth another try.
    async fn ask_of_one_moment(
        &self,
        partition: &PartitionId,
        generation: Generation,
        questions: impl Fn() -> Pipeline,
    ) -> Result<Option<Vec<Value>>, StoreError> {
        let answers = questions().atomic().query_async(&mut self.link.clone()).await;
        match answers {
            Ok(answers) => return Ok(Some(answers)),
            Err(error) if !is_out_of_memory(&error) => {
                return Err(self.read_error(partition, Some(generation), &error));
            }
            Err(_) => {}
        }
        // A server whose memory is full refuses MULTI, even around reads. It refuses flushes as well, so now nothing
        // changes: the same questions are asked plainly, and the first three again at the end.
        metrics::counter!("twofold_store_reads_without_transaction_total").increment(1);
        let (mut plain, again) = (questions(), questions());
        let again: Vec<Cmd> = again.cmd_iter().take(3).cloned().collect();
        again.into_iter().for_each(|command| _ = plain.add_command(command));
        let mut answers = self.ask(partition, Some(generation), &plain).await?;
        let last = answers.split_off(answers.len().saturating_sub(3));
        Ok(answers.starts_with(&last).then_some(answers))
    }
}

/// What each atomic read begins with: the live generation and the one beside it, and the meta record.
fn head(keys: &PartitionKeys, generation: Generation) -> Pipeline {
    let mut pipeline = pipe();
    pipeline.get(keys.live()).get(keys.building()).hgetall(keys.meta(generation));
    pipeline
}

/// That, and every hash of the plan.
fn questions(partition: &PartitionId, generation: Generation, hours: &[(Hour, HourRead)], plan: &Scope) -> Pipeline {
    let keys = PartitionKeys::new(partition);
    let mut pipeline = head(&keys, generation);
    for (hour, read) in hours {
        let key = keys.hour(generation, *hour);
        match read {
            HourRead::All => pipeline.hgetall(key),
            HourRead::Fields(fields) => {
                pipeline.cmd("HMGET").arg(key).arg(fields.iter().map(hour_field).collect::<Vec<_>>())
            }
        };
    }
    plan.nights().for_each(|night| _ = pipeline.hgetall(keys.night(generation, night)));
    pipeline
}

/// The live or the current generation, and whether one is counted beside the live one.
fn read_pointers(
    partition: &PartitionId,
    whose: Whose,
    answers: &mut impl Iterator<Item = Value>,
) -> Result<Option<(Generation, bool)>, StoreError> {
    let live = read::<Option<Vec<u8>>>(partition, answers.next())?;
    let building = read::<Option<Vec<u8>>>(partition, answers.next())?;
    let is_in_doubt = building.is_some();
    let (field, pointer) = match (whose, building) {
        (Whose::Current, Some(building)) => ("building", Some(building)),
        _ => ("live", live),
    };
    let Some(pointer) = pointer else { return Ok(None) };
    let text = String::from_utf8_lossy(&pointer);
    let wrong = || KeyspaceError::BadField { field, value: text.chars().take(64).collect(), wanted: "generation" };
    let generation = Generation::parse(&text).ok_or_else(|| content(partition, None, wrong()))?;
    Ok(Some((generation, is_in_doubt)))
}

fn read_meta(partition: &PartitionId, live: Generation, answer: Option<Value>) -> Result<Meta, StoreError> {
    let pairs: Vec<(Vec<u8>, Vec<u8>)> = read(partition, answer)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let fields: HashMap<String, String> = pairs.iter().map(|(name, value)| (text(name), text(value))).collect();
    parse_meta(|name| fields.get(name).map(String::as_str)).map_err(|source| content(partition, Some(live), source))
}

/// An entry of the stream of changes.
struct Entry {
    id: (u64, u64),
    name: String,
    value: String,
}

impl Entry {
    /// The position that is reached with it, if a flush ends here.
    fn end(&self) -> Option<Reached> {
        let (offset, lost) = self.value.split_once(':').filter(|_| self.name == CHANGES_END)?;
        Some((Offset::new(offset.parse().ok()?), lost.parse().ok()?))
    }
}

fn read_entries(partition: &PartitionId, answer: Option<Value>) -> Result<Vec<Entry>, StoreError> {
    type Fields = Vec<(Vec<u8>, Vec<u8>)>;
    let entries: Vec<(String, Fields)> = read(partition, answer)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let entry = |(id, fields): (String, Fields)| {
        let (time, number) = id.split_once('-')?;
        let (name, value) = fields.first()?;
        Some(Entry { id: (time.parse().ok()?, number.parse().ok()?), name: text(name), value: text(value) })
    };
    let wrong = || StoreError::Failed(format!("{}: the server gave an entry without an id", read_of(partition)));
    entries.into_iter().map(|found| entry(found).ok_or_else(wrong)).collect()
}

fn read_hour(
    partition: &PartitionId,
    live: Generation,
    hour: Hour,
    how: HourRead,
    answer: Option<Value>,
) -> Result<Vec<(CountKey, u64)>, StoreError> {
    match how {
        HourRead::All => read_hash(partition, live, answer, |field| parse_hour_field(hour, field)),
        HourRead::Fields(keys) => {
            let values: Vec<Option<Vec<u8>>> = read(partition, answer)?;
            let present = keys.into_iter().zip(values).filter_map(|(key, value)| value.map(|value| (key, value)));
            let wrong = |source| content(partition, Some(live), source);
            present.map(|(key, value)| Ok((key, read_count(&value).map_err(wrong)?))).collect()
        }
    }
}

fn read_night(
    partition: &PartitionId,
    live: Generation,
    night: Day,
    answer: Option<Value>,
) -> Result<Vec<(LateKey, u64)>, StoreError> {
    read_hash(partition, live, answer, |field| parse_late_field(night, field))
}

fn read_hash<K>(
    partition: &PartitionId,
    live: Generation,
    answer: Option<Value>,
    parse: impl Fn(&str) -> Result<K, KeyspaceError>,
) -> Result<Vec<(K, u64)>, StoreError> {
    let pairs: Vec<(Vec<u8>, Vec<u8>)> = read(partition, answer)?;
    let pair = |(field, value): (Vec<u8>, Vec<u8>)| Ok((parse(&String::from_utf8_lossy(&field))?, read_count(&value)?));
    pairs.into_iter().map(|found| pair(found).map_err(|source| content(partition, Some(live), source))).collect()
}

fn read_count(value: &[u8]) -> Result<u64, KeyspaceError> {
    parse_count(&String::from_utf8_lossy(value))
}

/// An answer as the type that the command is known to give.
fn read<T: FromRedisValue>(partition: &PartitionId, answer: Option<Value>) -> Result<T, StoreError> {
    let wrong = |what: String| StoreError::Failed(format!("{}: {what}", read_of(partition)));
    let answer = answer.ok_or_else(|| wrong("the server gave fewer answers than it was asked".to_owned()))?;
    from_redis_value(answer).map_err(|error| wrong(error.to_string()))
}

fn read_of(partition: &PartitionId) -> String {
    format!("a read of partition {partition}")
}

fn changes_too_fast(partition: &PartitionId) -> StoreError {
    StoreError::Unavailable(format!("partition {partition} changed during each of {ATTEMPTS_MAX} reads"))
}
