//! Deleting what is left of generations that were replaced.
//!
//! All keys of a generation can be named from three fields of its meta record, which goes last, so a sweep that was cut
//! short is begun again. Where those fields are lost the live generation's stand in for them, and a few days more.

use std::ops::RangeInclusive;

use ::redis::pipe;
use clicks::keyspace::PartitionKeys;
use clicks::live::{Generation, Meta};
use clicks::position::PartitionId;
use clicks::rules::AHEAD_LIMIT;
use clicks::time::{Day, Timestamp};
use clicks::window::Hour;

use super::RedisStore;
use super::error::damage;
use crate::store::scope::nights_end;
use crate::store::{StoreError, Whose};

/// Its head says what the keys and arguments are.
pub(super) const SCRIPT: &str = include_str!("sweep.lua");

/// Keys per step: the server answers nobody else meanwhile.
const KEYS_MAX: usize = 200;

/// Most hours and nights that a meta record is believed to span, five years; beyond it the record is damaged.
const SPAN_MAX_DAYS: i64 = 5 * 366;

/// Days before the live generation's base that a damaged one may have had: closed days are kept for a while.
const KEPT_DAYS: i32 = 7;

/// Base day, base night and append time, as far as they can be read.
type Fields = (Option<Day>, Option<Day>, Option<Timestamp>);

impl RedisStore {
    pub(super) async fn sweep_retired(&self, partition: &PartitionId) -> Result<u64, StoreError> {
        let keys = PartitionKeys::new(partition);
        let members = pipe().smembers(keys.retired()).query_async(&mut self.link.clone()).await;
        let (members,): (Vec<Vec<u8>>,) = match members {
            Ok(members) => members,
            // Another program's key: nothing of ours can be in it.
            Err(error) if damage(&error).is_some() => return Ok(0),
            Err(error) => return Err(self.sweep_error(partition, &error)),
        };
        let mut deleted = 0;
        for generation in members.iter().filter_map(|id| Generation::parse(std::str::from_utf8(id).ok()?)) {
            deleted += self.sweep_generation(partition, generation).await?;
        }
        Ok(deleted)
    }

    async fn sweep_generation(&self, partition: &PartitionId, generation: Generation) -> Result<u64, StoreError> {
        let keys = PartitionKeys::new(partition);
        let mut fields = self.fields(partition, generation).await?;
        if span(fields).is_none() {
            match self.look(partition, Whose::Live).await? {
                // One that is still rebuilt has not come as far as the one before it.
                Some(live) if !live.meta.is_rebuilding() => fields = stand_in(&live.meta),
                _ => return Ok(0),
            }
        }
        let Some((hours, nights)) = span(fields) else { return Ok(0) };
        let mut names: Vec<String> = hours.map(|hour| keys.hour(generation, Hour::from_number(hour))).collect();
        names.extend(nights.map(|night| keys.night(generation, night)));
        names.extend([keys.changes(generation), keys.meta(generation)]);
        let (mut deleted, steps) = (0, names.chunks(KEYS_MAX).len());
        for (number, few) in names.chunks(KEYS_MAX).enumerate() {
            let mut call = self.sweep_script.prepare_invoke();
            call.key(keys.live()).key(keys.building()).key(keys.retired());
            few.iter().for_each(|name| _ = call.key(name));
            call.arg(generation.to_string()).arg(u8::from(number + 1 == steps));
            let answer = call.invoke_async::<i64>(&mut self.link.clone()).await;
            match u64::try_from(answer.map_err(|error| self.sweep_error(partition, &error))?) {
                Ok(keys) => deleted += keys,
                Err(_) => break,
            }
        }
        Ok(deleted)
    }

    /// What the meta record of a generation still tells.
    async fn fields(&self, partition: &PartitionId, generation: Generation) -> Result<Fields, StoreError> {
        let key = PartitionKeys::new(partition).meta(generation);
        let mut pipeline = pipe();
        pipeline.cmd("HMGET").arg(key).arg(&["base_day", "base_night", "append_time"]);
        let answer = pipeline.query_async(&mut self.link.clone()).await;
        let (fields,): (Vec<Option<Vec<u8>>>,) = match answer {
            Ok(fields) => fields,
            Err(error) if damage(&error).is_some() => return Ok((None, None, None)),
            Err(error) => return Err(self.sweep_error(partition, &error)),
        };
        let text = |at: usize| fields.get(at)?.as_ref().and_then(|bytes| std::str::from_utf8(bytes).ok());
        let time = text(2).and_then(|text| text.parse().ok()).map(Timestamp::from_millis);
        Ok((text(0).and_then(|text| text.parse().ok()), text(1).and_then(|text| text.parse().ok()), time))
    }

    fn sweep_error(&self, partition: &PartitionId, error: &::redis::RedisError) -> StoreError {
        self.error(&format!("the sweep of partition {partition}"), error)
    }
}

/// Numbers of the hours, and the nights, that a generation may have keys of; `None` when that cannot be told.
fn span(fields: Fields) -> Option<(RangeInclusive<i64>, impl Iterator<Item = Day> + use<>)> {
    let (Some(base_day), Some(base_night), Some(append_time)) = fields else { return None };
    let first = Hour::of(base_day.start()).number();
    if append_time == Timestamp::MIN {
        return Some((first..=first, base_night.until(base_night)));
    }
    let last = Hour::of(append_time + AHEAD_LIMIT).number();
    let end = nights_end(append_time, base_night);
    let days = i64::from(end.number()) - i64::from(base_day.number().min(base_night.number()));
    (days <= SPAN_MAX_DAYS).then(|| (first..=last, base_night.until(end)))
}

/// For a generation that cannot tell, from the one that replaced it.
fn stand_in(live: &Meta) -> Fields {
    let reached = (live.append_time > Timestamp::MIN).then_some(live.append_time);
    (Some(live.base_day.plus(-KEPT_DAYS)), Some(live.base_night.plus(-KEPT_DAYS)), reached)
}

#[cfg(test)]
mod tests {
    use super::*;
    use clicks::position::Offset;

    #[test]
    fn every_key_that_a_generation_can_have_is_named() {
        let day = |text: &str| text.parse::<Day>().unwrap();
        let time = |text: &str| Timestamp::parse_rfc3339(text).unwrap();
        let fields = (Some(day("2026-03-09")), Some(day("2026-03-08")), Some(time("2026-03-10T12:07:30Z")));
        let (hours, nights) = span(fields).unwrap();
        let first = Hour::of(day("2026-03-09").start()).number();
        assert_eq!(hours, first..=first + 24 + 13, "up to an hour ahead");
        assert_eq!(nights.collect::<Vec<_>>(), [day("2026-03-08"), day("2026-03-09"), day("2026-03-10")]);
        assert!(span((None, fields.1, fields.2)).is_none() && span((fields.0, fields.1, None)).is_none());
        assert!(span((Some(day("0001-01-01")), fields.1, fields.2)).is_none(), "a record that cannot be true");
        assert_eq!(span((fields.0, fields.1, Some(Timestamp::MIN))).unwrap().1.count(), 0);
        let mut live = Meta::new(Offset::ZERO, day("2026-03-10"), day("2026-03-09"), Offset::ZERO);
        assert!(span(stand_in(&live)).is_none(), "it has not begun");
        live.append_time = time("2026-03-10T12:07:30Z");
        assert_eq!(span(stand_in(&live)).unwrap().0, first - 6 * 24..=first + 24 + 13);
    }
}
